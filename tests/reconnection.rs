//! Promise: a lost connection costs what was sent while it was down, and nothing else. Handlers see where the hole is,
//! subscriptions go out once a session, nothing is sent twice, and `Lost` says what had left.

mod support {
    pub(crate) mod lines;
}

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hypersockets::simulator::{Ending, Session, UpgradePlan, Venue};
use hypersockets::{
    Client, ClientEvent, ClientState, ConnectionEvent, Delivery, DisconnectReason, EventLoop, FixedDelay,
    HyperSocketError, MessageHandler, MessageRouter, NeverReconnect, Result, RouteOptions, SendId, SocketOptions,
    WsMessage,
};
use support::lines::{
    Journal, Lines, PATIENCE, Recorder, Seen, connect_failure, live_session, next_session, recorder, soon, texts_of,
    unacknowledged,
};

const COINS: [&str; 5] = ["BTC", "ETH", "SOL", "XRP", "DOGE"];
const SUBSCRIPTIONS: [&str; 3] = ["subscribe BTC", "subscribe ETH", "subscribe all"];
const LINES_A_SESSION: usize = 20_000;
const KILLS: u64 = 3;

/// Two coins with a thread each, one inline, the others on the default handler; the journals in that order.
fn client_of_five_coins(venue: &Venue) -> (Client, Vec<Journal>) {
    let (mut recorders, journals): (Vec<Recorder>, Vec<Journal>) = (0..4).map(|_| recorder()).unzip();
    let mut next = || recorders.remove(0);
    let client = hypersockets::builder()
        .url(venue.url())
        .router(Lines, |routing| {
            routing
                .handler("BTC".to_owned(), next())
                .handler("ETH".to_owned(), next())
                .handler_with("SOL".to_owned(), next(), RouteOptions::new().inline())
                .default_handler(next())
        })
        .subscriptions(SUBSCRIPTIONS.map(WsMessage::text).to_vec())
        .reconnect_strategy(soon())
        .build()
        .expect("the venue accepts");
    (client, journals)
}

/// `"BTC 3 17"`: line 17 of session 3.
fn line(session: u64, number: usize) -> String {
    format!("{} {session} {number}", COINS[number % COINS.len()])
}

fn number_of(text: &str) -> usize {
    text.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("the venue numbers its lines")
}

/// Kills every session in mid-stream, and checks what each handler saw. `kill` returns how many lines of the session must
/// have been handled, where that is known.
fn survives(kill: impl Fn(&Venue, &Session) -> Option<usize>, is_reason: impl Fn(&DisconnectReason) -> bool) {
    let venue = Venue::scripted().start().expect("a free port");
    let (client, mut journals) = client_of_five_coins(&venue);
    let mut owed = Vec::new();
    for number in 1..=KILLS {
        let session = next_session(&venue);
        assert_eq!(session.number(), number);
        // A venue that is killed before it has read them has not received them.
        SUBSCRIPTIONS.iter().for_each(|text| session.assert_received(text));
        (0..LINES_A_SESSION).for_each(|n| session.send_text(line(number, n)));
        journals[0].until_message(&line(number, 2_000));
        owed.push(kill(&venue, &session));
    }
    next_session(&venue);
    journals.iter_mut().for_each(|journal| journal.until_live(KILLS + 1));
    let report = client.shutdown().expect("not a thread of the engine");
    assert!(report.complete && report.unhandled == 0, "{report:?}");

    for session in 1..=KILLS + 1 {
        assert_eq!(texts_of(&venue, session), SUBSCRIPTIONS, "session {session}");
    }
    let mut handled = vec![Vec::new(); owed.len()];
    for journal in &mut journals {
        journal.assert_stopped_once();
        let mut entries = journal.all().iter();
        for epoch in 1..=KILLS {
            assert_eq!(entries.next(), Some(&Seen::Event(ConnectionEvent::Live { epoch })));
            let mut last = None;
            let lost = loop {
                match entries.next() {
                    Some(Seen::Message { epoch: stamped, text }) => {
                        assert_eq!(*stamped, epoch, "{text}");
                        let number = number_of(text);
                        assert_eq!(*text, line(epoch, number));
                        assert!(last < Some(number), "{text} after {last:?}");
                        last = Some(number);
                        handled[epoch as usize - 1].push(number);
                    }
                    Some(Seen::Event(event)) => break event,
                    other => panic!("epoch {epoch} ends with {other:?}"),
                }
            };
            match lost {
                ConnectionEvent::Lost { epoch: ended, reason, .. } if *ended == epoch && is_reason(reason) => {}
                other => panic!("epoch {epoch} ends with {other:?}"),
            }
        }
        assert_eq!(entries.next(), Some(&Seen::Event(ConnectionEvent::Live { epoch: KILLS + 1 })));
    }
    for (mut numbers, owed) in handled.into_iter().zip(owed) {
        numbers.sort_unstable();
        assert!(numbers.iter().copied().eq(0..numbers.len()), "a hole or a duplicate in the midst of a session");
        assert_eq!(numbers.len(), owed.unwrap_or(numbers.len()));
    }
    assert_eq!(report.metrics.reconnect_count, KILLS);
    venue.assert_protocol_kept();
}

#[test]
fn a_venue_that_goes_with_a_fin_loses_us_no_message_that_it_sent() {
    let before = std::cell::Cell::new(0);
    survives(
        |venue, _| {
            venue.stop(Ending::Fin);
            let sent = venue.sent() as usize;
            venue.restart().expect("the port was kept");
            Some(sent - before.replace(sent))
        },
        |reason| *reason == DisconnectReason::EndOfStream,
    );
}

#[test]
fn a_venue_that_goes_with_an_rst_leaves_no_hole_before_it() {
    survives(
        |venue, _| {
            venue.stop(Ending::Rst);
            venue.restart().expect("the port was kept");
            None
        },
        |reason| matches!(reason, DisconnectReason::Broken(_)),
    );
}

#[test]
fn a_close_1012_comes_after_everything_that_was_sent_before_it() {
    survives(
        |_, session| {
            session.close(1012, "restart");
            Some(LINES_A_SESSION)
        },
        |reason| *reason == DisconnectReason::ClosedByPeer { code: Some(1012), reason: "restart".to_owned() },
    );
}

/// Answers each message at once, so that writes fail while there is more to read.
struct Answers(Arc<AtomicUsize>);

impl MessageHandler<String> for Answers {
    fn handle(&mut self, _: String) -> Result<()> {
        unreachable!("messages come by handle_delivery")
    }

    fn handle_delivery(&mut self, _: String, delivery: &mut Delivery<'_>) -> Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        delivery.send(WsMessage::text("got it")).map(drop)
    }
}

#[test]
fn a_write_that_fails_costs_no_message_that_our_kernel_has_acknowledged() {
    const MANY: usize = 75;
    if !cfg!(target_os = "linux") {
        return println!("SKIPPED: what is acknowledged is read from /proc");
    }
    let venue = Venue::scripted().start().expect("a free port");
    let handled = Arc::<AtomicUsize>::default();
    let answers = Answers(Arc::clone(&handled));
    let mut event_loop = EventLoop::new().expect("descriptors");
    let builder = hypersockets::builder()
        .url(venue.url())
        .router(Lines, |routing| routing.default_handler_with(answers, RouteOptions::new().inline()))
        .socket(SocketOptions::new().receive_buffer_bytes(1 << 20))
        .reconnect_strategy(FixedDelay::new(Duration::from_secs(3600), None));
    let client = event_loop.add(builder).expect("a valid configuration");
    while client.state() != ClientState::Live {
        event_loop.turn();
    }
    let session = next_session(&venue);
    // Some reads' worth, which nobody reads yet.
    (0..MANY).for_each(|_| session.send_text("x".repeat(2_000)));
    session.flush(PATIENCE).expect("the kernel takes it");
    while unacknowledged(venue.port()) > 0 {
        std::thread::yield_now();
    }
    session.drop_rst();
    session.await_end(PATIENCE).expect("it is gone");
    while client.state() == ClientState::Live {
        event_loop.turn();
    }
    assert_eq!(handled.load(Ordering::Relaxed), MANY);
}

#[test]
fn half_a_frame_before_the_end_is_nobodys_message() {
    let venue = Venue::scripted().start().expect("a free port");
    let (_client, mut journals) = client_of_five_coins(&venue);
    let session = next_session(&venue);
    session.send_text("BTC whole");
    session.send_raw([0x81, 8, b'B', b'T', b'C']);
    session.drop_fin();
    let next = next_session(&venue);
    next.send_text("BTC again");
    journals[0].until_message("BTC again");
    assert_eq!(journals[0].messages(), ["BTC whole", "BTC again"]);
}

/// Routes books by their coin, everything else to the default handler; a message is the venue's time.
struct Books;

impl MessageRouter for Books {
    type Message = (String, u64);
    type RouteKey = String;

    fn parse(&self, message: WsMessage<'_>) -> Result<(String, u64)> {
        let value: serde_json::Value = serde_json::from_slice(message.as_bytes())?;
        let (coin, time) = (value["data"]["coin"].as_str(), value["data"]["time"].as_u64());
        match (value["channel"].as_str(), coin, time) {
            (Some("l2Book"), Some(coin), Some(time)) => Ok((coin.to_owned(), time)),
            _ => Ok((String::new(), 0)),
        }
    }

    fn route_key(&self, (coin, _): &(String, u64)) -> String {
        coin.clone()
    }
}

#[test]
fn a_market_flat_out_is_resubscribed_once_and_every_book_is_handled() {
    let coins = ["BTC", "ETH", "SOL"];
    let venue = Venue::hyperliquid(coins).flat_out().start().expect("a free port");
    let journals: Vec<_> = coins.iter().map(|_| crossbeam_channel::unbounded()).collect();
    let mut builder = hypersockets::builder()
        .url(venue.url())
        .router(Books, |mut routing| {
            for (coin, (journal, _)) in coins.iter().zip(&journals) {
                let journal = journal.clone();
                routing = routing.handler((*coin).to_owned(), move |(_, time): (String, u64)| {
                    journal.send(time).map_err(|_| "the test is over".into())
                });
            }
            routing.default_handler(|_| Ok(()))
        })
        .reconnect_strategy(soon());
    for coin in coins {
        let subscription = format!(r#"{{"method":"subscribe","subscription":{{"type":"l2Book","coin":"{coin}"}}}}"#);
        builder = builder.subscription(subscription);
    }
    let client = builder.build().expect("the venue accepts");
    let mut times = vec![Vec::new(); coins.len()];
    for number in 1..=3 {
        let session = next_session(&venue);
        assert_eq!(session.number(), number);
        coins.iter().for_each(|_| drop(session.await_text(PATIENCE).expect("a subscription")));
        times[0].extend(journals[0].1.try_iter());
        let wanted = times[0].len() + 1_000;
        while times[0].len() < wanted {
            times[0].push(journals[0].1.recv_timeout(PATIENCE).expect("books come"));
        }
        venue.stop(Ending::Fin);
        if number < 3 {
            venue.restart().expect("the port was kept");
        }
    }
    // A Close to a venue that is gone would be answered by an RST, behind which nothing comes.
    let is_over = |event| matches!(event, ClientEvent::Connection(ConnectionEvent::Lost { epoch: 3, .. }));
    while !is_over(next_event(&client)) {}
    let report = client.shutdown().expect("not a thread of the engine");
    assert!(report.complete, "{report:?}");
    for ((coin, (_, coming)), times) in coins.iter().zip(&journals).zip(&mut times) {
        times.extend(coming.try_iter());
        assert_eq!(times.len() as u64, venue.sent_on(coin), "{coin}");
        assert!(times.is_sorted_by(|earlier, later| earlier < later), "{coin}: out of order, or twice");
        (1..=3).for_each(|session| venue.assert_subscribed_once(session, "l2Book", coin));
    }
    assert_eq!(report.metrics.messages_received, venue.sent());
}

/// A venue of one connection that reads nothing until the test wants it to.
struct DeafVenue {
    listener: TcpListener,
}

impl DeafVenue {
    fn start() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        // A receive buffer of a size that does not grow, so that the client's kernel soon takes no more.
        socket.set_recv_buffer_size(64 * 1024).expect("a plain option");
        // On Linux this bounds the wait of accept, too.
        socket.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        socket.listen(8).expect("it is bound");
        Self { listener: socket.into() }
    }

    fn url(&self) -> String {
        format!("ws://{}/", self.listener.local_addr().expect("it is bound"))
    }

    fn accept(&self) -> tungstenite::WebSocket<TcpStream> {
        let (stream, _) = self.listener.accept().expect("the client dials");
        stream.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
        tungstenite::accept(stream).expect("the client upgrades")
    }
}

/// A message of nearly 64 KiB that begins with its number.
fn bulky(number: usize) -> String {
    format!("{number:<65535}")
}

fn number_of_bulky(message: &tungstenite::Message) -> usize {
    let text = message.to_text().expect("a text");
    text.trim_end().parse().expect("a number")
}

fn recording_client(url: &str, max_queued_bytes: usize) -> (Client, Journal) {
    let (recorder, journal) = recorder();
    let client = hypersockets::builder()
        .url(url)
        .router(Lines, |routing| routing.default_handler(recorder))
        .max_queued_bytes(max_queued_bytes)
        .reconnect_strategy(soon())
        .start()
        .expect("a valid configuration");
    (client, journal)
}

#[test]
fn lost_says_exactly_which_sends_reached_the_kernel() {
    const SENDS: usize = 512;
    let venue = DeafVenue::start();
    let (client, mut journal) = recording_client(&venue.url(), 64 << 20);
    let mut socket = venue.accept();
    journal.until_live(1);
    // Nearly 32 MiB: far more than both kernels hold.
    let ids: Vec<SendId> = (0..SENDS).map(|n| client.send(bulky(n)).expect("there is room")).collect();
    assert!(ids.is_sorted_by(|earlier, later| earlier < later));
    socket.get_ref().shutdown(Shutdown::Write).expect("the client is there");
    let lost = journal.until("Lost", |seen| matches!(seen, Seen::Event(ConnectionEvent::Lost { .. }))).clone();
    let Seen::Event(ConnectionEvent::Lost { written_through, .. }) = lost else { unreachable!("just matched") };
    let said = ids.iter().filter(|id| Some(**id) <= written_through).count();

    let mut arrived = 0;
    while let Ok(message) = socket.read() {
        assert_eq!(number_of_bulky(&message), arrived);
        arrived += 1;
    }
    assert_eq!(said, arrived);
    assert!((1..SENDS).contains(&said), "{said} of {SENDS}");

    let mut next = venue.accept();
    journal.until_live(2);
    client.send("fresh").expect("live again");
    assert_eq!(next.read().expect("a message").to_text().expect("a text"), "fresh", "nothing is replayed");
    let report = client.shutdown().expect("not a thread of the engine");
    assert_eq!(report.metrics.messages_sent as usize, said + 1);
    assert_eq!(report.metrics.sends_dropped as usize, SENDS - said);
}

#[test]
fn a_venue_that_does_not_read_fills_the_buffer_and_nothing_else() {
    let venue = DeafVenue::start();
    let limit = 1 << 20;
    let (client, mut journal) = recording_client(&venue.url(), limit);
    let mut socket = venue.accept();
    journal.until_live(1);
    let mut accepted = 0;
    let full = loop {
        match client.send(bulky(accepted)) {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
        assert!(accepted < 4_096, "256 MiB fit no socket buffer");
    };
    let HyperSocketError::WriteBufferFull { queued_bytes, limit_bytes } = full else { panic!("{full}") };
    assert!(limit_bytes == limit && queued_bytes <= limit && queued_bytes + 65_535 > limit, "{full}");

    // The feed goes on meanwhile.
    socket.send("BTC 1".into()).expect("the client reads");
    journal.until_message("BTC 1");
    for number in 0..accepted {
        assert_eq!(number_of_bulky(&socket.read().expect("a message")), number);
    }
    // Sent after the last byte was read, so handled after the loop has seen that byte go.
    socket.send("BTC 2".into()).expect("the client reads");
    journal.until_message("BTC 2");
    client.send("room again").expect("everything has left");
    assert_eq!(socket.read().expect("a message").to_text().expect("a text"), "room again");
}

#[test]
fn nothing_is_sent_while_down_and_nothing_is_sent_later() {
    let venue = Venue::scripted().start().expect("a free port");
    let (client, mut journal) = recording_client(&venue.url(), 1 << 20);
    let session = live_session(&client, &venue);
    let epoch = client.epoch();
    client.send_in_epoch(epoch, "first").expect("live");
    session.assert_received("first");
    session.stall();
    client.send("swallowed by a venue that does not read").expect("live");
    venue.stop(Ending::Rst);
    assert_eq!(journal.until_lost().0, epoch);

    for _ in 0..3 {
        let error = client.send("an order").expect_err("the venue is down");
        assert!(matches!(error, HyperSocketError::NotConnected), "{error}");
        let error = client.send_in_epoch(epoch, "an order").expect_err("the venue is down");
        assert!(matches!(error, HyperSocketError::NotConnected), "{error}");
    }
    venue.restart().expect("the port was kept");
    journal.until_live(epoch + 1);
    let session = next_session(&venue);
    let error = client.send_in_epoch(epoch, "an order").expect_err("the session changed");
    assert!(matches!(error, HyperSocketError::EpochChanged { current } if current == epoch + 1), "{error}");
    session.assert_silent();
    client.send("fresh").expect("live again");
    session.assert_received("fresh");
}

#[track_caller]
fn next_event(client: &Client) -> ClientEvent {
    client.events().next_timeout(PATIENCE).expect("an event")
}

#[test]
fn a_first_dial_that_fails_is_an_error_of_build_and_a_retry_of_start() {
    let venue = Venue::scripted().start().expect("a free port");
    venue.stop(Ending::Fin);
    let builder = || {
        hypersockets::builder()
            .url(venue.url())
            .router(Lines, |routing| routing.default_handler(recorder().0))
            .reconnect_strategy(soon())
    };
    let reason = connect_failure(builder().build());
    assert!(matches!(reason, DisconnectReason::Connect(_)), "{reason}");

    let client = builder().start().expect("a valid configuration");
    for expected in 1..=3 {
        match next_event(&client) {
            ClientEvent::DialFailed { attempt, reason: DisconnectReason::Connect(_), .. } => {
                assert_eq!(attempt, expected);
            }
            other => panic!("awaited a failed dial, came {other:?}"),
        }
    }
    assert_ne!(client.state(), ClientState::Live);
    venue.restart().expect("the port was kept");
    client.wait_live(PATIENCE).expect("the venue is back");
    assert_eq!(client.epoch(), 1);
}

fn planned(plan: UpgradePlan) -> Venue {
    let venue = Venue::scripted().start().expect("a free port");
    venue.plan_upgrade(plan);
    venue
}

fn rejection(status: u16, retry_after: Option<&str>) -> UpgradePlan {
    let headers = retry_after.map(|after| ("Retry-After".to_owned(), after.to_owned())).into_iter().collect();
    UpgradePlan::Reject { status, headers }
}

#[test]
fn retry_after_is_honoured() {
    let venue = planned(rejection(503, Some("7")));
    let (client, _journal) = recording_client(&venue.url(), 1 << 20);
    let seven = Duration::from_secs(7);
    let reason = DisconnectReason::UpgradeRejected { status: 503, retry_after: Some(seven) };
    assert_eq!(next_event(&client), ClientEvent::DialFailed { attempt: 1, reason, retry_in: seven });
    assert_eq!(client.state(), ClientState::BackingOff);
    assert!(client.shutdown().expect("not a thread of the engine").complete);
    assert_eq!(venue.connections_accepted(), 1);
}

#[test]
fn a_503_without_a_wish_is_dialed_again_by_the_strategy() {
    let venue = planned(rejection(503, None));
    let reason = DisconnectReason::UpgradeRejected { status: 503, retry_after: None };
    let (client, _journal) = recording_client(&venue.url(), 1 << 20);
    let retry_in = Duration::from_millis(2);
    assert_eq!(next_event(&client), ClientEvent::DialFailed { attempt: 1, reason, retry_in });
    client.wait_live(PATIENCE).expect("accepted at the second dial");
    assert_eq!(client.metrics().dials, 2);
}

#[test]
fn a_401_at_the_first_dial_is_fatal_and_later_a_long_wait() {
    let reason = DisconnectReason::UpgradeRejected { status: 401, retry_after: None };
    let venue = planned(rejection(401, None));
    let (client, mut journal) = recording_client(&venue.url(), 1 << 20);
    assert_eq!(next_event(&client), ClientEvent::Closed { reason: reason.clone() });
    let error = client.wait_live(PATIENCE).expect_err("it gave up");
    assert!(matches!(&error, HyperSocketError::Closed(why) if *why == reason), "{error}");
    assert_eq!(client.state(), ClientState::Failed);
    journal.until_stop();
    assert_eq!(venue.connections_accepted(), 1);

    let (client, mut journal) = recording_client(&venue.url(), 1 << 20);
    let session = live_session(&client, &venue);
    venue.plan_upgrade(rejection(401, None));
    session.drop_fin();
    journal.until_lost();
    let retried = loop {
        match next_event(&client) {
            ClientEvent::DialFailed { reason: why, retry_in, .. } if why == reason => break retry_in,
            ClientEvent::Closed { .. } => panic!("a trading client must not give up on that"),
            _ => {}
        }
    };
    assert_eq!(retried, Duration::from_secs(60));
}

#[test]
fn a_venue_that_threw_us_out_is_not_dialed_in_a_hot_loop() {
    for code in [1008, 4001] {
        let venue = Venue::scripted().start().expect("a free port");
        let (client, mut journal) = recording_client(&venue.url(), 1 << 20);
        live_session(&client, &venue).close(code, "policy");
        journal.until_lost();
        let retried = loop {
            if let ClientEvent::DialFailed { retry_in, .. } = next_event(&client) {
                break retry_in;
            }
        };
        assert_eq!(retried, Duration::from_secs(60), "code {code}");
    }
}

#[test]
fn an_upgrade_may_take_its_time_but_not_for_ever() {
    let venue = planned(UpgradePlan::Delay(Duration::from_millis(50)));
    let builder = || {
        let builder = hypersockets::builder().url(venue.url());
        builder.router(Lines, |routing| routing.default_handler(recorder().0)).reconnect_strategy(soon())
    };
    let client = builder().build().expect("late, but in time");
    client.shutdown().expect("not a thread of the engine");

    venue.plan_upgrade(UpgradePlan::Stall);
    let reason = connect_failure(builder().connect_timeout(Duration::from_millis(50)).build());
    assert_eq!(reason, DisconnectReason::Deadline("upgrading"));

    venue.plan_upgrade(UpgradePlan::Stall);
    let client = builder().connect_timeout(Duration::from_millis(500)).start().expect("a valid configuration");
    client.wait_live(PATIENCE).expect("accepted at the second dial");
    assert!(client.metrics().dials >= 2 && client.epoch() == 1, "{:?}", client.metrics());
}

#[test]
fn the_offset_is_waited_once_a_disconnect_before_the_strategys_delay() {
    let venue = Venue::scripted().start().expect("a free port");
    let (recorder, mut journal) = recorder();
    let offset = Duration::from_millis(7);
    let client = hypersockets::builder()
        .url(venue.url())
        .router(Lines, |routing| routing.default_handler(recorder))
        .reconnect_strategy(FixedDelay::new(Duration::from_millis(2), Some(3)))
        .reconnection_delay_offset(offset)
        .build()
        .expect("the venue accepts");
    venue.stop(Ending::Fin);
    journal.until_lost();
    let mut waits = Vec::new();
    let reason = loop {
        match next_event(&client) {
            ClientEvent::DialFailed { retry_in, .. } => waits.push(retry_in.as_millis()),
            ClientEvent::Closed { reason } => break reason,
            _ => {}
        }
    };
    assert_eq!(waits, [9, 2, 2], "and then the strategy gives up");
    assert!(matches!(reason, DisconnectReason::Connect(_)), "{reason}");
    assert_eq!(client.state(), ClientState::Failed);
    journal.until_stop();
    journal.assert_stopped_once();
}

#[test]
fn a_client_that_must_not_reconnect_stops_its_handlers_at_the_loss() {
    let venue = Venue::scripted().start().expect("a free port");
    let (recorder, mut journal) = recorder();
    let client = hypersockets::builder()
        .url(venue.url())
        .router(Lines, |routing| routing.default_handler(recorder))
        .reconnect_strategy(NeverReconnect)
        .build()
        .expect("the venue accepts");
    let session = next_session(&venue);
    session.send_text("BTC last");
    session.drop_fin();
    journal.until_stop();
    assert_eq!(journal.messages(), ["BTC last"]);
    journal.assert_stopped_once();
    let report = client.shutdown().expect("not a thread of the engine");
    assert_eq!(report.reason, DisconnectReason::EndOfStream);
    assert!(report.complete);
    assert_eq!(venue.sessions_accepted(), 1);
}
