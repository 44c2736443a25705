//! The pure core, from bytes to handlers, under random schedules: the real lifecycle, upgrade, receive path and routing, with a
//! clock and a venue that a seed rolls, compressed or not. The bytes are cut anywhere, faults and user calls come at any time.
//!
//! Checked after each step: a deadline in every phase, and memory within bounds. After each session: every message that came
//! complete and before a fault was handled once, in order, in its epoch, and nothing else was. At the end: one stop.

mod venue;

use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::link::{NORMAL_CLOSURE, Open, Protocol};
use super::plan::{Plan, Providers, RotationPlan, UrlSource};
use super::resolver::Resolver;
use super::session::Session;
use crate::auth::{AuthProvider, AuthVerdict};
use crate::clock;
use crate::config::{Limits, Liveness, Settings};
use crate::error::{DisconnectReason, Result};
use crate::event::ConnectionEvent;
use crate::handler::{Delivery, MessageHandler};
use crate::lifecycle::{Action, FirstDial, Input, Lifecycle, Phase};
use crate::message::WsMessage;
use crate::metrics::{StaleLimits, Trail};
use crate::passive_ping::TextPassivePing;
use crate::pipeline::{Placement, PlannedEnd, QueuePolicy, RoutePlan, RoutingPlan, StartRoutes, Started, surroundings};
use crate::reconnect::{ExponentialBackoff, FixedDelay, NeverReconnect, ReconnectionStrategy};
use crate::router::MessageRouter;
use crate::subscriptions::{Subscription, SubscriptionSource};
use crate::sync::lock;
use crate::tests_random::Random;
use crate::transport::{Compression, ReceiveBuffer, Stream, Target, Upgrade, WebSocket, WriteBuffer};
use venue::Venue;

const ROUTES: usize = 3;
/// So small that messages beyond it are easily rolled.
const MAX_MESSAGE_BYTES: u64 = 1_000;
/// The most that a blocked socket makes us hold: control frames, and what the user is allowed to queue.
const MAX_UNSENT_BYTES: usize = 96 << 10;
const STEPS: u64 = 120;

/// A message is "route number".
struct Numbers;

impl MessageRouter for Numbers {
    type Message = (u64, u64);
    type RouteKey = u64;

    fn parse(&self, message: WsMessage<'_>) -> Result<(u64, u64)> {
        let text = message.as_text().ok_or("binary")?;
        let mut words = text.split(' ').map(str::parse);
        match (words.next(), words.next()) {
            (Some(Ok(route)), Some(Ok(number))) => Ok((route, number)),
            _ => Err("no numbers".into()),
        }
    }

    fn route_key(&self, message: &(u64, u64)) -> u64 {
        message.0
    }
}

/// What a route was told.
#[derive(Default)]
struct Seen {
    /// Epoch and number.
    messages: Vec<(u64, u64)>,
    live: Option<u64>,
    epochs: u64,
    stops: u64,
}

struct Recorder(Arc<Mutex<Seen>>);

impl MessageHandler<(u64, u64)> for Recorder {
    fn handle(&mut self, _: (u64, u64)) -> Result<()> {
        unreachable!("handle_delivery is called")
    }

    fn handle_delivery(&mut self, (_, number): (u64, u64), delivery: &mut Delivery<'_>) -> Result<()> {
        let mut seen = lock(&self.0);
        assert_eq!(seen.stops, 0, "a message behind the stop");
        seen.messages.push((delivery.epoch(), number));
        // Errors and panics cost nothing but themselves.
        if number % 64 == 63 { Err("on purpose".into()) } else { Ok(()) }
    }

    fn on_event(&mut self, event: &ConnectionEvent) {
        let mut seen = lock(&self.0);
        match event {
            ConnectionEvent::Live { epoch } => {
                assert_eq!((seen.live, *epoch), (None, seen.epochs + 1), "live twice, or an epoch was left out");
                (seen.live, seen.epochs) = (Some(*epoch), *epoch);
            }
            ConnectionEvent::Lost { epoch, .. } => assert_eq!(seen.live.take(), Some(*epoch), "lost what was not live"),
            other => panic!("nothing else can happen to an inline route: {other:?}"),
        }
    }

    fn on_stop(&mut self) {
        lock(&self.0).stops += 1;
    }
}

struct Login;

impl AuthProvider for Login {
    fn get_auth_message(&self) -> Result<Option<WsMessage<'_>>> {
        Ok(Some(WsMessage::text("login")))
    }

    fn judge_auth_response(&self, response: &WsMessage<'_>) -> AuthVerdict {
        match response.as_text() {
            Some("login ok") => AuthVerdict::Accepted,
            Some("login refused") => AuthVerdict::Rejected("refused".to_owned()),
            _ => AuthVerdict::Unrelated,
        }
    }

    fn validate_auth_response(&self, _: &WsMessage<'_>) -> Result<bool> {
        unreachable!("judge_auth_response is called")
    }
}

/// One client, its venue and its clock.
struct World {
    random: Random,
    now: Instant,
    session: Session,
    open: Option<Open>,
    /// Between sessions; nothing is ever read from it or written to it.
    socket: Option<Stream>,
    buffer: ReceiveBuffer,
    out: WriteBuffer,
    venue: Option<Venue>,
    authenticates: bool,
    dialing: Option<u64>,
    seen: Vec<Arc<Mutex<Seen>>>,
    /// The last number of each route.
    next: Vec<u64>,
    /// What each route is to have seen; the epoch, where the session has one.
    expected: Vec<Vec<(u64, u64)>>,
    /// The epoch that the open session has or would have.
    epoch: u64,
}

impl World {
    fn new(seed: u64, socket: Stream) -> Self {
        let mut random = Random(seed);
        let now = Instant::now();
        let settings = Settings {
            heartbeat_every: random.one_in(2).then(|| Duration::from_secs(1 + random.below(20))),
            reconnection_delay_offset: Duration::from_secs(random.below(3)),
            data_idle_timeout: random.one_in(3).then(|| Duration::from_secs(1 + random.below(40))),
            liveness: if random.one_in(2) {
                Settings::default().liveness
            } else {
                let (every, timeout) =
                    (Duration::from_secs(1 + random.below(20)), Duration::from_secs(1 + random.below(20)));
                Liveness::Always { every, timeout }
            },
            limits: Limits { max_message_bytes: MAX_MESSAGE_BYTES, ..Limits::default() },
            ..Settings::default()
        };
        let strategy: Arc<dyn ReconnectionStrategy> = match random.below(8) {
            0 => Arc::new(NeverReconnect),
            1 => Arc::new(FixedDelay::new(Duration::from_millis(1), Some(3))),
            2..5 => Arc::new(FixedDelay::new(Duration::from_millis(100), None)),
            _ => Arc::new(ExponentialBackoff::default()),
        };
        let first_dial = if random.one_in(2) { FirstDial::Once } else { FirstDial::Retry };
        let authenticates = random.one_in(3);
        let seen: Vec<_> = (0..ROUTES).map(|_| Arc::<Mutex<Seen>>::default()).collect();
        let route = |seen: &Arc<Mutex<Seen>>| {
            let handler = Box::new(Recorder(Arc::clone(seen)));
            let end = PlannedEnd::Handler { handler, placement: Placement::Inline, policy: QueuePolicy::Unbounded };
            RoutePlan { end, limits: StaleLimits::default() }
        };
        let routes = (0..).zip(seen.iter().map(route)).collect();
        let surroundings = surroundings();
        let (shared, outlet) = (Arc::clone(&surroundings.shared), Arc::clone(&surroundings.outlet));
        let routing = RoutingPlan { router: Numbers, routes, default: None, factory: None };
        let Started { pipeline, .. } = Box::new(routing).start(surroundings, None).expect("inline routes start");
        let providers = Providers {
            url: UrlSource::Fixed(URL.to_owned()),
            shared: Arc::clone(&shared),
            headers: None,
            auth: authenticates.then(|| Arc::new(Login) as _),
            plain_text_credentials: false,
            dialer: None,
            resolver: Resolver::system(),
            socket: Arc::default(),
        };
        let plan = Plan {
            providers: Arc::new(providers),
            tls: None,
            subprotocols: Vec::new(),
            compression: Vec::new(),
            heartbeat: Some(WsMessage::text("heartbeat")),
            passive_ping: Some(Box::new(TextPassivePing::new("ping", WsMessage::text("pong")))),
            measure_round_trips: false,
            measure_latency: false,
            outlet,
            rotation: RotationPlan::default(),
            batches: None,
            connection_limit: None,
            reply_id: None,
        };
        let lifecycle = Lifecycle::start(now, settings, strategy, first_dial);
        let session = Session::new(shared, lifecycle, pipeline, Arc::new(plan), 0);
        let source = SubscriptionSource::Fixed(WsMessage::text("subscribe"));
        let subscription = Subscription::named(String::new(), source);
        lock(&session.shared.subscriptions).add(subscription, None).expect("the first");
        let routes = seen.len();
        let mut world = Self {
            random,
            now,
            session,
            open: None,
            socket: Some(socket),
            buffer: ReceiveBuffer::default(),
            out: WriteBuffer::default(),
            venue: None,
            authenticates,
            dialing: None,
            seen,
            next: vec![0; routes],
            expected: vec![Vec::new(); routes],
            epoch: 1,
        };
        world.perform();
        world
    }

    /// Gives the socket back.
    fn run(mut self) -> Stream {
        for _ in 0..STEPS {
            if self.is_closed() {
                break;
            }
            self.step();
            self.check();
        }
        self.shut_down();
        for _ in 0..100 {
            let Some(deadline) = self.session.lifecycle.poll_timeout() else { break };
            self.now = self.now.max(deadline);
            self.time_passes();
            self.check();
        }
        assert!(self.is_closed(), "it does not end: {:?}", self.session.lifecycle.phase());
        for seen in &self.seen {
            let seen = lock(seen);
            assert_eq!((seen.stops, seen.live), (1, None), "one stop, and no session left open");
        }
        self.socket.take().expect("no session is left")
    }

    fn is_closed(&self) -> bool {
        matches!(self.session.lifecycle.phase(), Phase::Closed)
    }

    fn step(&mut self) {
        let pace = [Duration::from_micros(50), Duration::from_millis(20), Duration::from_secs(4)];
        let pace = pace[self.random.index(100) / 49];
        self.now += pace * u32::try_from(self.random.below(4)).expect("it is small");
        self.time_passes();
        match self.random.below(40) {
            0 => self.shut_down(),
            // A late answer to an earlier dial.
            1 => self.input(Input::Connected { attempt: 0, tls: false }),
            2..5 => self.send(),
            5..9 => {
                let count = self.random.index(1 + self.out.pending().len());
                self.out.take(count);
            }
            9..12 if self.venue.is_some() => self.lose(),
            _ if self.dialing.is_some() => self.dialed(),
            _ => self.read(),
        }
    }

    /// As on the loop: deadlines that have come.
    fn time_passes(&mut self) {
        while self.session.lifecycle.poll_timeout().is_some_and(|deadline| deadline <= self.now) {
            self.session.lifecycle.handle_timeout(self.now);
            self.perform();
        }
    }

    fn input(&mut self, input: Input) {
        self.session.lifecycle.handle_input(self.now, input);
        self.perform();
    }

    fn shut_down(&mut self) {
        // Whoever no longer wants to log in does not care whether he may.
        if matches!(self.session.lifecycle.phase(), Phase::Authenticating { .. })
            && let Some(venue) = &mut self.venue
            && venue.fault_is_refusal
        {
            venue.fault_at = usize::MAX;
        }
        self.input(Input::Shutdown);
    }

    fn dialed(&mut self) {
        let Some(attempt) = self.dialing.take() else { return };
        if self.random.one_in(6) {
            return self.input(Input::DialFailed { attempt, reason: DisconnectReason::Connect("refused".to_owned()) });
        }
        let target = Target::parse(URL).expect("it is right");
        let compression = self.random.one_in(2);
        let offers = if compression { vec![Compression::deflate().threshold_bytes(1)] } else { Vec::new() };
        let upgrade = Upgrade::new(&target, &[], &[], &offers).expect("it is right");
        let (random, next) = (&mut self.random, &mut self.next);
        self.venue = Some(Venue::new(random, upgrade.acceptance(), compression, self.authenticates, next));
        self.epoch = self.session.lifecycle.epoch() + 1;
        self.session.auth_message = self.authenticates.then(|| WsMessage::text("login"));
        let stream = self.socket.take().expect("no other session is open");
        self.open = Some(Open { stream, protocol: Protocol::Upgrading(upgrade) });
        self.input(Input::Connected { attempt, tls: false });
    }

    /// The next piece of what the venue says, cut anywhere.
    fn read(&mut self) {
        let (Some(venue), Some(open)) = (&mut self.venue, &mut self.open) else { return };
        let left = venue.wire.len() - venue.given;
        if left == 0 {
            if venue.ends_by_fin {
                self.lose();
            }
            return;
        }
        let most = if self.random.one_in(3) { left } else { left.min(30) };
        let piece = 1 + self.random.index(most);
        self.buffer.append(&venue.wire[venue.given..venue.given + piece]);
        venue.given += piece;
        let trail = Trail::new(clock::stamp_of(self.now));
        let mut time = self.session.read_time(self.now, trail, None);
        let limits = Limits { max_message_bytes: MAX_MESSAGE_BYTES, ..Limits::default() };
        let ending = open.advance(&mut self.session, &mut self.out, &mut self.buffer, limits, &mut time).err();
        self.session.lifecycle.handle_input(self.now, Input::Received);
        self.session.pipeline.read_done();
        self.session.pipeline.drained();
        if let Some(ending) = ending {
            self.session.lifecycle.handle_input(self.now, Input::Disconnected(ending.reason));
        }
        self.perform();
    }

    fn lose(&mut self) {
        let reason = if self.random.one_in(2) {
            DisconnectReason::EndOfStream
        } else {
            DisconnectReason::Broken("reset".to_owned())
        };
        self.input(Input::Disconnected(reason));
    }

    fn send(&mut self) {
        if !matches!(self.session.lifecycle.phase(), Phase::Live(_)) || self.out.pending().len() > MAX_UNSENT_BYTES / 2
        {
            return;
        }
        let Some(Open { protocol: Protocol::WebSocket(websocket), .. }) = &mut self.open else { return };
        let _ = websocket.writer(&mut self.out).send(&WsMessage::text("order"));
    }

    /// As the connection does, without a socket.
    fn perform(&mut self) {
        while let Some(action) = self.session.lifecycle.poll_action() {
            match action {
                Action::Dial { attempt, .. } => self.dialing = Some(attempt),
                Action::SendUpgrade => {
                    if let Some(open) = &mut self.open {
                        open.send_upgrade(&mut self.out);
                    }
                }
                Action::SendClose => {
                    if let Some((websocket, out)) = self.websocket() {
                        websocket.close(NORMAL_CLOSURE, "", out);
                    }
                }
                Action::DropLink => self.drop_link(),
                Action::ReportLost { epoch, reason } => {
                    self.session.tell(ConnectionEvent::Lost { epoch, reason, written_through: None });
                }
                Action::ReportRetry { .. } => {}
                Action::Finish { reason } => {
                    self.session.pipeline.stop();
                    self.session.shared.close(&reason, self.session.lifecycle.epoch());
                }
                writing => {
                    let now = self.now;
                    if let Some(Open { protocol: Protocol::WebSocket(websocket), .. }) = &mut self.open {
                        self.session.write_action(now, &writing, &mut websocket.writer(&mut self.out));
                    }
                }
            }
        }
    }

    fn websocket(&mut self) -> Option<(&mut WebSocket, &mut WriteBuffer)> {
        match &mut self.open {
            Some(Open { protocol: Protocol::WebSocket(websocket), .. }) => Some((websocket, &mut self.out)),
            _ => None,
        }
    }

    fn drop_link(&mut self) {
        self.dialing = None;
        if let Some(open) = self.open.take() {
            self.socket = Some(open.stream);
        }
        self.session.auth_message = None;
        self.session.ping = None;
        self.session.verdict = None;
        self.out.clear().for_each(drop);
        self.buffer.clear();
        if let Some(venue) = self.venue.take() {
            for (end, route, number) in venue.lawful {
                if end <= venue.given && end <= venue.fault_at {
                    self.expected[route].push((self.epoch, number));
                }
            }
        }
        for (route, (seen, expected)) in self.seen.iter().zip(&self.expected).enumerate() {
            let seen = lock(seen);
            let numbers = |messages: &[(u64, u64)]| messages.iter().map(|(_, number)| *number).collect::<Vec<_>>();
            assert_eq!(numbers(&seen.messages), numbers(expected), "route {route}");
            assert!(seen.messages.iter().zip(expected).all(|(seen, expected)| seen.0 == expected.0), "a wrong epoch");
        }
    }

    fn check(&self) {
        let phase = self.session.lifecycle.phase();
        let waits_for = self.session.lifecycle.poll_timeout();
        assert_eq!(waits_for.is_none(), self.is_closed(), "a phase without a deadline: {phase:?}");
        assert!(self.buffer.len() as u64 <= MAX_MESSAGE_BYTES + 14, "{} bytes wait to be read", self.buffer.len());
        let unsent = self.out.pending().len();
        assert!(unsent <= MAX_UNSENT_BYTES, "{unsent} bytes wait to be written");
    }
}

const URL: &str = "ws://127.0.0.1:9/ws";

fn simulate(seeds: impl Iterator<Item = u64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let socket = std::net::TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
    let mut socket = Some(Stream::plain(mio::net::TcpStream::from_std(socket)));
    for seed in seeds {
        let current = Announce(seed);
        socket = Some(World::new(seed, socket.take().expect("it was given back")).run());
        drop(current);
    }
}

/// Says which seed it was, if its schedule panics.
struct Announce(u64);

impl Drop for Announce {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to see it alone: SIMULATION_SEED={} cargo test --lib simulation", self.0);
        }
    }
}

#[test]
fn a_simulation_of_the_core_keeps_every_promise() {
    let one = std::env::var("SIMULATION_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    match one {
        Some(seed) => simulate(std::iter::once(seed)),
        None => simulate(0..2_000),
    }
}

/// Run in release: `cargo test --release --lib -- --ignored million_simulations`, some minutes.
#[test]
#[ignore = "minutes; run it in release"]
fn a_million_simulations_of_the_core_keep_every_promise() {
    simulate(10_000..1_010_000);
}
