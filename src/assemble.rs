//! From a finished builder to a running client: checks what was asked for, starts the threads, and hands the client to a loop.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::builder::{ClientBuilder, HasRouter, HasUrl, NoRouter, Options};
use crate::client::{Client, Handle, ShutdownProgress};
use crate::clock;
use crate::config::Liveness;
use crate::engine::{Command, CommandSender, Engine, EventLoop, NewConnection, Plan, Providers, Resolver, UrlSource};
use crate::error::{DisconnectReason, HyperSocketError, Result};
use crate::lifecycle::FirstDial;
use crate::own_thread;
use crate::pipeline::{OutletMaker, StartRoutes, Started, Surroundings};
use crate::state::ClientState;
use crate::sync::lock;
use crate::transport::{Target, judge_subprotocols};

impl ClientBuilder<HasUrl, HasRouter> {
    /// Connects and returns once the client is, or has been, live. One attempt is made, over all addresses of the host;
    /// after that, lost connections are dialed again by the strategy.
    ///
    /// # Errors
    /// [`ConnectFailed`](HyperSocketError::ConnectFailed) with the reason; [`Closed`](HyperSocketError::Closed) with
    /// [`Shutdown`](DisconnectReason::Shutdown) where the shutdown flag turned false meanwhile; and all of
    /// [`start`](Self::start); [`WouldDeadlock`](HyperSocketError::WouldDeadlock) on a thread of the engine. Nothing is left
    /// running.
    pub fn build(self) -> Result<Client> {
        own_thread::refuse("ClientBuilder::build")?;
        let settings = &self.options.settings;
        // A dial may have to wait for its turn as long as it may then take.
        let dial = settings.connect_timeout.saturating_mul(2);
        let longest = dial.saturating_add(settings.auth_timeout).saturating_add(BUILD_SLACK);
        let client = self.start_on_engine(FirstDial::Once)?;
        let Err(error) = client.wait_first_live(longest) else { return Ok(client) };
        // Handlers have had nothing to do yet, so this is quick.
        client.shutdown()?;
        Err(match error {
            HyperSocketError::Closed(reason) if reason != DisconnectReason::Shutdown => {
                HyperSocketError::ConnectFailed(reason)
            }
            other => other,
        })
    }

    /// Starts the client and returns at once; the first dial, too, is tried again by the strategy.
    /// [`Client::wait_live`] waits for the first session.
    ///
    /// # Errors
    /// [`InvalidConfig`](HyperSocketError::InvalidConfig), [`InvalidUrl`](HyperSocketError::InvalidUrl),
    /// [`CoreUnavailable`](HyperSocketError::CoreUnavailable); [`Io`](HyperSocketError::Io) where a thread cannot start;
    /// [`Closed`](HyperSocketError::Closed) with [`Shutdown`](DisconnectReason::Shutdown) where the shutdown flag is false
    /// already (true means running).
    pub fn start(self) -> Result<Client> {
        self.start_on_engine(FirstDial::Retry)
    }

    fn start_on_engine(mut self, first_dial: FirstDial) -> Result<Client> {
        let given = self.options.engine.take();
        let private_engine = given.is_none();
        let engine = match given {
            Some(engine) => engine,
            None => Engine::builder().start()?,
        };
        let commands = engine.sender().clone();
        let (new, client) = self.assemble(first_dial, &commands, Some(engine), private_engine)?;
        commands.send(Command::Add(Box::new(new)))?;
        Ok(client)
    }

    fn assemble(
        self,
        first_dial: FirstDial,
        commands: &CommandSender,
        engine: Option<Engine>,
        private_engine: bool,
    ) -> Result<(NewConnection, Client)> {
        let Self { url, routes: HasRouter(routes), options } = self;
        // Before any thread is started.
        validate(&url.0, &options)?;
        let (answering, severing, connection) = (options.sender.clone(), options.sender.clone(), options.shared.id);
        let surroundings = Surroundings {
            shared: Arc::clone(&options.shared),
            measure_latency: options.measure_latency,
            outlet: Arc::new(move || Box::new(answering.clone())),
            sever: Box::new(move |epoch, route| {
                let (epoch, route) = (Some(epoch), route.to_owned());
                // A loop that is gone has no session to end.
                let _ = severing.command(Command::Sever { connection, epoch, route });
            }),
            unnumbered: None,
            hold: HOLD,
        };
        let started = start_routes(routes, surroundings, engine.as_ref())?;
        let line = ClientBuilder { url, routes: NoRouter, options };
        line.connect(Berth { started, line: 0, in_feed: false, first_dial }, commands, engine, private_engine)
    }
}

/// Starts the handlers and the parse sites of a client, or of a feed.
pub(crate) fn start_routes(
    routes: Box<dyn StartRoutes>,
    surroundings: Surroundings,
    engine: Option<&Engine>,
) -> Result<Started> {
    if surroundings.measure_latency {
        clock::calibrate_stamps();
    }
    routes.start(surroundings, engine.and_then(Engine::lanes))
}

/// Where the messages of a connection go, and how it begins.
pub(crate) struct Berth {
    pub(crate) started: Started,
    /// Which line of its feed it is.
    pub(crate) line: u8,
    /// Other clients are lines of the same feed.
    pub(crate) in_feed: bool,
    pub(crate) first_dial: FirstDial,
}

impl ClientBuilder<HasUrl, NoRouter> {
    /// Errs where the line cannot be what it is asked to be.
    pub(crate) fn check(&self) -> Result<()> {
        validate(&self.url.0, &self.options)
    }

    /// Fits out a connection that was checked, and is to be given to the loop of `commands`.
    ///
    /// # Errors
    /// As for [`ClientBuilder::start`].
    pub(crate) fn connect(
        self,
        berth: Berth,
        commands: &CommandSender,
        engine: Option<Engine>,
        private_engine: bool,
    ) -> Result<(NewConnection, Client)> {
        let Self { url: HasUrl(url), options, .. } = self;
        let tls = match &url {
            UrlSource::Fixed(url) if url.starts_with("ws:") => None,
            _ => Some(options.tls.connector()?),
        };
        let Options { shared, settings, sender, .. } = options;
        let measure_round_trips = matches!(settings.liveness, Liveness::Always { .. });
        shared.max_queued_bytes.store(settings.limits.max_queued_bytes, Ordering::Relaxed);
        let answering = sender.clone();
        let outlet: OutletMaker = Arc::new(move || Box::new(answering.clone()));
        if let Some(flag) = &options.halted_flag {
            shared.join_halted_flag(flag);
        }
        sender.connect(commands.clone());
        // On its way to the loop it is on its way to the venue.
        shared.transition(ClientState::Connecting, 0);
        let Options { headers, auth, plain_text_credentials, subscriptions, dialer, .. } = options;
        if let Some(limit) = &options.message_limit {
            let host = match &url {
                UrlSource::Fixed(url) => Target::parse(url).map_or_else(|_| String::new(), |target| target.host),
                UrlSource::Fresh(_) => String::new(),
            };
            // A builder makes one client, so there is no gauge yet.
            let _ = shared.gauge.set(limit.gauge(&host, options.socket.source()));
        }
        shared.knows_replies.store(options.reply_id.is_some(), Ordering::Release);
        lock(&shared.subscriptions).limit = options.max_subscriptions;
        for subscription in subscriptions {
            lock(&shared.subscriptions).add(subscription, None)?;
        }
        let (resolver, socket) = (Resolver::system(), Arc::new(options.socket));
        let desiring = Arc::clone(&shared);
        let providers =
            Providers { url, shared: desiring, headers, auth, plain_text_credentials, dialer, resolver, socket };
        let providers = Arc::new(providers);
        let Started { pipeline, threads, stats, sites } = berth.started;
        let new = NewConnection {
            shared,
            settings,
            strategy: options.strategy,
            first_dial: berth.first_dial,
            pipeline,
            stats: Arc::clone(&stats),
            sites,
            line: berth.line,
            in_feed: berth.in_feed,
            plan: Plan {
                providers,
                tls,
                subprotocols: options.subprotocols,
                compression: options.compression,
                heartbeat: options.heartbeat,
                passive_ping: options.passive_ping,
                measure_round_trips,
                measure_latency: options.measure_latency,
                outlet,
                rotation: options.rotation,
                batches: options.batches,
                connection_limit: options.connection_limit,
                reply_id: options.reply_id,
            },
            shutdown_flag: options.shutdown_flag,
        };
        let client = Client::new(Handle {
            sender,
            stats,
            threads,
            engine,
            private_engine,
            built_ns: clock::stamp_ns(),
            shutdown_timeout: options.shutdown_timeout,
            ending: ShutdownProgress::default(),
        });
        Ok((new, client))
    }
}

impl EventLoop {
    /// Adds a client to this loop and returns at once, without any socket call but a `connect` that does not wait; the
    /// next turns do the rest, and failed dials are tried again by the strategy.
    ///
    /// # Errors
    /// As for [`ClientBuilder::start`]; [`InvalidConfig`](HyperSocketError::InvalidConfig) where the builder names an
    /// engine.
    pub fn add(&mut self, builder: ClientBuilder<HasUrl, HasRouter>) -> Result<Client> {
        if builder.options.engine.is_some() {
            let what = "a client cannot be on an event loop and on an engine".to_owned();
            return Err(HyperSocketError::InvalidConfig(what));
        }
        let commands = self.sender().clone();
        let (new, client) = builder.assemble(FirstDial::Retry, &commands, None, false)?;
        self.add_connection(new);
        Ok(client)
    }
}

fn validate(url: &UrlSource, options: &Options) -> Result<()> {
    let invalid = |what: &str| Err(HyperSocketError::InvalidConfig(what.to_owned()));
    if let UrlSource::Fixed(url) = url {
        Target::parse(url).map_err(HyperSocketError::InvalidUrl)?;
    }
    if options.shutdown_flag.as_ref().is_some_and(|flag| !flag.load(Ordering::Acquire)) {
        return Err(HyperSocketError::Closed(DisconnectReason::Shutdown));
    }
    if options.settings.heartbeat_every.is_some_and(|every| every.is_zero()) {
        return invalid("a heartbeat every 0 s");
    }
    if options.settings.liveness.interval().is_zero() {
        return invalid("a ping every 0 s");
    }
    if options.settings.data_idle_timeout.is_some_and(|timeout| timeout.is_zero()) {
        return invalid("a data-idle timeout of 0 s");
    }
    if options.batches.is_some_and(|batches| batches.size == 0) {
        return invalid("subscriptions in batches of 0");
    }
    judge_subprotocols(&options.subprotocols)?;
    options.socket.check()?;
    if options.dialer.is_some()
        && let Some(option) = options.socket.needs_own_socket()
    {
        return invalid(&format!("SocketOptions::{option} with a dialer, who makes the socket: do it there"));
    }
    Ok(())
}

/// A line that is so much later than another one has lost more than a segment or two: nobody waits for it any longer.
pub(crate) const HOLD: Duration = Duration::from_secs(1);
/// `build` waits for a verdict of the lifecycle, whose own deadlines come first; this covers a machine under load.
pub(crate) const BUILD_SLACK: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::Instant;

    use socket2::{Domain, SockRef, Socket, Type};

    use super::*;
    use crate::builder::builder;
    use crate::message::WsMessage;
    use crate::reconnect::FixedDelay;
    use crate::router::MessageRouter;

    const LONG: Duration = Duration::from_secs(30);

    struct Nothing;

    impl MessageRouter for Nothing {
        type Message = ();
        type RouteKey = ();

        fn parse(&self, _: WsMessage<'_>) -> Result<()> {
            Ok(())
        }

        fn route_key(&self, _: &()) {}
    }

    /// A loop with one client, whose name resolution is the test's.
    fn loop_with(
        lookup: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> (EventLoop, Client) {
        let mut event_loop = EventLoop::new().unwrap();
        let builder = builder()
            .url("ws://venue.example/")
            .router(Nothing, |routing| routing.default_handler(|()| Ok(())))
            .reconnect_strategy(FixedDelay::new(Duration::from_millis(2), None));
        let commands = event_loop.sender().clone();
        let (mut new, client) = builder.assemble(FirstDial::Retry, &commands, None, false).unwrap();
        Arc::get_mut(&mut new.plan.providers).expect("nobody dials yet").resolver = Resolver::asking(lookup);
        event_loop.add_connection(new);
        (event_loop, client)
    }

    /// Turns the loop until the venue has been dialed.
    fn await_dial(event_loop: &mut EventLoop, venue: &TcpListener) -> TcpStream {
        let give_up = Instant::now() + LONG;
        loop {
            assert!(Instant::now() < give_up, "nobody dials");
            event_loop.wait(Duration::from_millis(10));
            event_loop.turn();
            match venue.accept() {
                Ok((stream, _)) => return stream,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
    }

    fn venue() -> (TcpListener, SocketAddr) {
        let venue = TcpListener::bind("127.0.0.1:0").unwrap();
        venue.set_nonblocking(true).unwrap();
        let address = venue.local_addr().unwrap();
        (venue, address)
    }

    #[test]
    fn a_client_dials_its_last_good_addresses_while_the_resolver_is_down_and_counts_it() {
        let (venue, address) = venue();
        let asked = std::sync::atomic::AtomicUsize::new(0);
        let (mut event_loop, client) = loop_with(move |host, port| {
            assert_eq!((host, port), ("venue.example", 80));
            match asked.fetch_add(1, Ordering::AcqRel) {
                0 => Ok(vec![address]),
                _ => Err(io::Error::other("no server could be reached")),
            }
        });
        for fallbacks in 0..3 {
            let stream = await_dial(&mut event_loop, &venue);
            assert_eq!(client.metrics().resolve_fallbacks, fallbacks);
            // Ends the dial before its upgrade: connected it was all the same.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }

    #[test]
    fn a_silent_first_address_does_not_keep_a_client_from_the_second() {
        let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        silent.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        silent.listen(0).unwrap();
        let silent_address = silent.local_addr().unwrap();
        // Its queue is full now, so that it answers no SYN.
        let fillers = [(); 8].map(|()| {
            let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            filler.set_nonblocking(true).unwrap();
            let _ = filler.connect(&silent_address);
            filler
        });
        let (venue, address) = venue();
        let addresses = vec![silent_address.as_socket().unwrap(), address];
        let (mut event_loop, client) = loop_with(move |_, _| Ok(addresses.clone()));
        let begun = Instant::now();
        await_dial(&mut event_loop, &venue);
        assert!(begun.elapsed() < LONG / 10, "it must not wait for the first to time out");
        assert_eq!(client.metrics().dials, 1);
        drop(fillers);
    }
}
