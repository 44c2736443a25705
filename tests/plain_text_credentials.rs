//! Promise: no credential goes over plain `ws` to another host, unless that was asked for by a name that says what it is.

mod support {
    pub(crate) mod lines;
}

use std::net::{Ipv4Addr, TcpStream};

use hypersockets::simulator::Venue;
use hypersockets::{
    AuthProvider, Client, ClientBuilder, DisconnectReason, HasRouter, HasUrl, HeaderProvider, Headers, Result,
    WsMessage,
};
use support::lines::{Lines, connect_failure, next_session, recorder};

/// A header, and an auth message.
struct Secret(&'static str);

impl HeaderProvider for Secret {
    fn get_headers(&self) -> Headers {
        Headers::from([(self.0.to_owned(), "secret".to_owned())])
    }
}

impl AuthProvider for Secret {
    fn get_auth_message(&self) -> Result<Option<WsMessage<'_>>> {
        Ok(Some(WsMessage::text(self.0)))
    }

    fn validate_auth_response(&self, _: &WsMessage<'_>) -> Result<bool> {
        Ok(true)
    }
}

/// A client of the venue, under another name.
fn client_of(host: &str, venue: &Venue) -> ClientBuilder<HasUrl, HasRouter> {
    let (recorder, _) = recorder();
    let port = venue.port();
    hypersockets::builder()
        .url(format!("ws://{host}:{port}/ws"))
        .dialer(move |_| Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port))?))
        .router(Lines, |routing| routing.default_handler(recorder))
}

#[track_caller]
fn assert_refused(built: Result<Client>, venue: &Venue) {
    let failure = connect_failure(built);
    let DisconnectReason::InvalidUrl(why) = &failure else { panic!("{failure:?}") };
    assert!(why.contains("wss://") && why.contains("dangerous_plain_text_credentials"), "{why}");
    assert_eq!(venue.sessions_accepted(), 0);
    venue.assert_protocol_kept();
}

#[test]
fn headers_and_auth_messages_stay_here_where_the_way_is_open_to_all() {
    let venue = Venue::scripted().start().expect("a free port");
    for host in ["venue.example", "192.0.2.1", "[2001:db8::1]", "localhost.example", "127.example"] {
        assert_refused(client_of(host, &venue).headers(Secret("Authorization")).build(), &venue);
        assert_refused(client_of(host, &venue).headers(Secret("X-Api-Key")).build(), &venue);
        assert_refused(client_of(host, &venue).auth(Secret("login")).build(), &venue);
    }
}

#[test]
fn what_tells_nothing_may_go_anywhere_and_anything_may_go_to_this_host() {
    let venue = Venue::scripted().start().expect("a free port");
    let accepted = |builder: ClientBuilder<HasUrl, HasRouter>| {
        let client = builder.build().expect("nothing is secret there");
        next_session(&venue);
        client.shutdown().expect("not a thread of the engine");
    };
    accepted(client_of("venue.example", &venue));
    accepted(client_of("venue.example", &venue).headers(Secret("User-Agent")));
    for host in ["127.0.0.1", "127.1.2.3", "[::1]", "localhost", "LOCALHOST"] {
        accepted(client_of(host, &venue).headers(Secret("Authorization")));
    }
}

#[test]
fn whoever_asks_for_it_by_its_name_gets_it() {
    let venue = Venue::scripted().start().expect("a free port");
    let builder = client_of("venue.example", &venue).headers(Secret("Authorization"));
    let _client = builder.dangerous_plain_text_credentials().build().expect("it was asked for");
    let headers = next_session(&venue).headers();
    assert!(headers.contains(&("Authorization".to_owned(), "secret".to_owned())), "{headers:?}");
}
