//! Promise: a dial ends by its deadline, in a connected socket that is set as told or in a reason that says what to mend,
//! whether we dial or the caller's own dialer does.

#[path = "../examples/support/connect_proxy.rs"]
mod connect_proxy;

mod support {
    pub(crate) mod lines;
}

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use connect_proxy::{Answer, ConnectProxy, dial_through};
use hypersockets::simulator::Venue;
use hypersockets::{
    Client, ClientBuilder, DialRequest, DisconnectReason, HasRouter, HasUrl, HyperSocketError, NeverReconnect, Result,
    SocketOptions, TlsOptions,
};
use support::lines::{Journal, Lines, PATIENCE, connect_failure, gate, live_session, next_session, recorder, soon};

type Builder = ClientBuilder<HasUrl, HasRouter>;

fn client_of(url: String) -> (Builder, Journal) {
    let (recorder, journal) = recorder();
    let builder = hypersockets::builder().url(url).router(Lines, |routing| routing.default_handler(recorder));
    (builder.reconnect_strategy(soon()), journal)
}

/// A venue that was never started: nobody must get so far as to notice.
fn client_of_nobody() -> Builder {
    client_of("ws://venue.invalid:80/".to_owned()).0
}

/// Why the dialer's dial failed.
#[track_caller]
fn connect_words(built: Result<Client>) -> String {
    match connect_failure(built) {
        DisconnectReason::Connect(words) => words,
        other => panic!("awaited a failed connect, came {other:?}"),
    }
}

/// A socket on which the test is its own venue.
fn raw_venue() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    // On Linux this bounds the wait of accept, too.
    socket2::SockRef::from(&listener).set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

fn accepted(venue: &TcpListener) -> (TcpStream, SocketAddr) {
    let (stream, peer) = venue.accept().expect("the client dials");
    stream.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
    (stream, peer)
}

#[test]
fn a_venue_behind_a_connect_proxy_is_reached_through_tls_and_again_after_a_loss() {
    let venue = Venue::scripted().tls().start().expect("a free port");
    let proxy = ConnectProxy::start(Answer::Tunnel).expect("a free port");
    let (builder, mut journal) = client_of(venue.url());
    let root = venue.root_certificate_der().expect("it speaks TLS");
    let address = proxy.address;
    let client = builder
        .tls(TlsOptions::new().add_root_der(root).only_added_roots())
        .dialer(move |request| dial_through(address, request))
        .build()
        .expect("the proxy tunnels");
    let session = next_session(&venue);
    session.send_text("BTC 1");
    journal.until_message("BTC 1");
    session.drop_fin();
    journal.until_lost();
    next_session(&venue).send_text("BTC 2");
    journal.until_message("BTC 2");
    assert!(client.shutdown().expect("not a thread of the engine").complete);
    let asked_for: Vec<_> = proxy.asked_for.try_iter().collect();
    assert_eq!(asked_for, [format!("localhost:{}", venue.port()), format!("localhost:{}", venue.port())]);
    venue.assert_protocol_kept();
}

#[test]
fn a_proxy_that_answers_407_is_the_reason_in_its_own_words() {
    let proxy = ConnectProxy::start(Answer::Refuse("HTTP/1.1 407 Proxy Authentication Required")).expect("a free port");
    let address = proxy.address;
    let words = connect_words(client_of_nobody().dialer(move |request| dial_through(address, request)).build());
    assert!(words.contains("407 Proxy Authentication Required"), "{words}");
    assert_eq!(proxy.asked_for.recv_timeout(PATIENCE).as_deref(), Ok("venue.invalid:80"), "and nobody resolved it");
}

#[test]
fn what_a_proxy_sends_behind_its_answer_is_left_for_the_client() {
    let (proxy, address) = raw_venue();
    let (heard, hears) = crossbeam_channel::bounded(1);
    let dialer = move |request: &DialRequest| {
        let mut socket = dial_through(address, request)?;
        let mut first = [0; 9];
        socket.read_exact(&mut first)?;
        heard.send(first).map_err(|_| "nobody listens")?;
        Err("seen enough".into())
    };
    let client = client_of_nobody().dialer(dialer).reconnect_strategy(NeverReconnect).start().expect("valid");
    let (mut stream, _) = accepted(&proxy);
    stream.write_all(b"HTTP/1.1 200 OK\r\nVia: us\r\n\r\ntunnelled").expect("the dialer reads");
    assert_eq!(hears.recv_timeout(PATIENCE).as_ref(), Ok(b"tunnelled"));
    client.shutdown().expect("not a thread of the engine");
}

#[test]
fn a_proxy_that_never_answers_is_given_up_at_the_deadline() {
    let (_proxy, address) = raw_venue();
    let built = client_of_nobody()
        .connect_timeout(Duration::from_millis(50))
        .dialer(move |request| dial_through(address, request))
        .build();
    // Our deadline, or the read timeout that ends with it: whichever the machine sees first.
    let reason = connect_failure(built);
    assert!(matches!(reason, DisconnectReason::Deadline("dialing") | DisconnectReason::Connect(_)), "{reason:?}");
}

#[test]
fn a_dialer_that_hangs_is_left_behind_counted_and_its_late_socket_closed() {
    let (venue, address) = raw_venue();
    let (keeper, gate) = gate();
    let client = client_of_nobody()
        .connect_timeout(Duration::from_millis(20))
        .reconnect_strategy(NeverReconnect)
        .dialer(move |_| {
            gate.pass();
            Ok(TcpStream::connect(address)?)
        })
        .start()
        .expect("valid");
    match client.wait_live(PATIENCE) {
        Err(HyperSocketError::Closed(reason)) => assert_eq!(reason, DisconnectReason::Deadline("dialing")),
        other => panic!("{other:?}"),
    }
    assert_eq!(client.metrics().providers_abandoned, 1);
    keeper.open();
    let (mut late, _) = accepted(&venue);
    assert!(matches!(late.read(&mut [0; 64]), Ok(0)), "no request, only the end");
}

#[test]
fn a_dialer_that_panics_costs_one_dial() {
    let venue = Venue::scripted().start().expect("a free port");
    let (builder, _journal) = client_of(venue.url());
    let calls = Arc::new(AtomicUsize::new(0));
    let (counting, port) = (Arc::clone(&calls), venue.port());
    let client = builder
        .dialer(move |_| {
            assert!(counting.fetch_add(1, Ordering::AcqRel) > 0, "on purpose, and printed");
            Ok(TcpStream::connect(("127.0.0.1", port))?)
        })
        .start()
        .expect("valid");
    live_session(&client, &venue);
    assert_eq!(calls.load(Ordering::Acquire), 2);
    assert_eq!(client.metrics().providers_abandoned, 0);
}

#[test]
fn socket_options_are_set_on_the_dialers_socket_too() {
    let venue = Venue::scripted().start().expect("a free port");
    let (builder, _journal) = client_of(venue.url());
    let (lend, lent) = crossbeam_channel::bounded(1);
    let port = venue.port();
    let client = builder
        .socket(SocketOptions::new().keepalive(Duration::from_secs(9), Duration::from_secs(2), 3).tos(0x10))
        .dialer(move |_| {
            let socket = TcpStream::connect(("127.0.0.1", port))?;
            lend.send(socket.try_clone()?).map_err(|_| "nobody listens")?;
            Ok(socket)
        })
        .build()
        .expect("the venue accepts");
    let twin = lent.recv_timeout(PATIENCE).expect("the dialer was asked");
    let twin = socket2::SockRef::from(&twin);
    assert_eq!(twin.tcp_keepalive_time().expect("a plain option"), Duration::from_secs(9));
    assert_eq!(twin.tos_v4().expect("a plain option"), 0x10);
    assert!(twin.tcp_nodelay().expect("a plain option"));
    client.shutdown().expect("not a thread of the engine");
}

#[test]
fn a_dialer_and_a_source_address_contradict_each_other() {
    let options = [("source_address", SocketOptions::new().source_address([127, 0, 0, 1].into()))];
    let linux = cfg!(target_os = "linux").then(|| ("interface", SocketOptions::new().interface("lo")));
    for (method, options) in options.into_iter().chain(linux) {
        let built = client_of_nobody().socket(options).dialer(|_| Err("never asked".into())).start();
        let Err(HyperSocketError::InvalidConfig(words)) = built else { panic!("{built:?}") };
        assert!(words.contains(method) && words.contains("dialer"), "{words}");
    }
}

#[test]
fn a_name_without_a_living_address_fails_with_each_of_them() {
    // Bound and never listened on, so that nobody else gets the port.
    let reserved = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    reserved.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    let port = reserved.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound").port();
    let words = connect_words(client_of(format!("ws://localhost:{port}/")).0.build());
    for address in ("localhost", port).to_socket_addrs().expect("every machine has it") {
        assert!(words.contains(&format!("{address}: ")), "{words}");
    }
}

#[cfg(target_os = "linux")] // where all of 127.0.0.0/8 is ours
#[test]
fn the_venue_sees_the_source_address_that_was_asked_for() {
    let (venue, address) = raw_venue();
    let (builder, _journal) = client_of(format!("ws://{address}/"));
    let options = SocketOptions::new().source_address([127, 0, 0, 2].into()).quick_ack().interface("lo");
    let client = builder.socket(options).start().expect("valid");
    let (stream, peer) = accepted(&venue);
    assert_eq!(peer.ip().to_string(), "127.0.0.2");
    let mut socket = tungstenite::accept(stream).expect("the client upgrades");
    client.wait_live(PATIENCE).expect("it was upgraded");
    socket.send("BTC 1".into()).expect("the client reads");
    client.shutdown().expect("not a thread of the engine");
}

#[test]
fn an_option_that_the_system_refuses_is_named() {
    // TEST-NET-1, which no host has.
    let options = SocketOptions::new().source_address([192, 0, 2, 1].into());
    let reason = connect_failure(client_of("ws://127.0.0.1:9/".to_owned()).0.socket(options).build());
    let DisconnectReason::SocketOption { option, error } = &reason else { panic!("{reason:?}") };
    assert_eq!(option, "source_address(192.0.2.1)");
    assert!(!error.is_empty() && reason.to_string().contains(option), "{reason}");
}
