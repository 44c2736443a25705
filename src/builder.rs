//! The type-state builder: what is required is asked for by the types. The last place that names the router's type.

use std::fmt;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::auth::AuthProvider;
use crate::client::{Client, Handle, ShutdownProgress};
use crate::config::{Liveness, Settings};
use crate::cpu;
use crate::engine::{
    Command, CommandSender, Engine, EventLoop, NewConnection, Plan, Providers, Resolver, SubscriptionSource, UrlSource,
};
use crate::error::{DisconnectReason, HyperSocketError, Result};
use crate::halted::HaltedMember;
use crate::headers::HeaderProvider;
use crate::lifecycle::FirstDial;
use crate::message::WsMessage;
use crate::own_thread;
use crate::passive_ping::PassivePingDetector;
use crate::pipeline::{NewOutlet, RoutingPlan, Started};
use crate::reconnect::{ExponentialBackoff, ReconnectionStrategy};
use crate::router::MessageRouter;
use crate::routing::Routing;
use crate::sender::Sender;
use crate::sources::{IntoSubscription, IntoUrl};
use crate::state::{Shared, lock};
use crate::transport::{DialRequest, Dialer, SocketOptions, TlsOptions};

/// Begins a client.
pub fn builder() -> ClientBuilder<NoUrl, NoRouter> {
    ClientBuilder { url: NoUrl, routes: NoRouter, options: Options::new() }
}

/// A client to be. It can be built once it has a [`url`](Self::url) and a [`router`](Self::router):
///
/// ```
/// # use hypersockets::{MessageRouter, Result, WsMessage};
/// # struct Lines;
/// # impl MessageRouter for Lines {
/// #     type Message = String;
/// #     type RouteKey = ();
/// #     fn parse(&self, message: WsMessage<'_>) -> Result<String> { Ok(message.as_text().unwrap_or("").to_owned()) }
/// #     fn route_key(&self, _: &String) {}
/// # }
/// let builder = hypersockets::builder()
///     .url("ws://127.0.0.1:9/ws")
///     .router(Lines, |routing| routing.handler((), |line: String| Ok(println!("{line}"))));
/// // Nobody listens there, and `build` says so.
/// assert!(builder.build().is_err());
/// ```
///
/// Without a URL, or without a router, there is no `build`:
///
/// ```compile_fail,E0599
/// # use hypersockets::{MessageRouter, Result, WsMessage};
/// # struct Lines;
/// # impl MessageRouter for Lines {
/// #     type Message = String;
/// #     type RouteKey = ();
/// #     fn parse(&self, message: WsMessage<'_>) -> Result<String> { Ok(message.as_text().unwrap_or("").to_owned()) }
/// #     fn route_key(&self, _: &String) {}
/// # }
/// let client = hypersockets::builder()
///     .router(Lines, |routing| routing.handler((), |line: String| Ok(println!("{line}"))))
///     .build();
/// ```
///
/// ```compile_fail,E0599
/// let client = hypersockets::builder().url("wss://example.com/ws").build();
/// ```
///
/// ```compile_fail,E0599
/// let client = hypersockets::builder().start();
/// ```
///
/// Nor can either be given twice:
///
/// ```compile_fail,E0599
/// let builder = hypersockets::builder().url("wss://example.com/a").url("wss://example.com/b");
/// ```
///
/// And a handler must take what the router makes:
///
/// ```compile_fail
/// # use hypersockets::{MessageRouter, Result, WsMessage};
/// # struct Lines;
/// # impl MessageRouter for Lines {
/// #     type Message = String;
/// #     type RouteKey = ();
/// #     fn parse(&self, message: WsMessage<'_>) -> Result<String> { Ok(message.as_text().unwrap_or("").to_owned()) }
/// #     fn route_key(&self, _: &String) {}
/// # }
/// let builder = hypersockets::builder()
///     .router(Lines, |routing| routing.handler((), |number: u64| Ok(println!("{number}"))));
/// ```
#[must_use = "a client is only there once built or started"]
pub struct ClientBuilder<U, R> {
    url: U,
    routes: R,
    options: Options,
}

/// The builder has no URL yet.
#[derive(Debug)]
pub struct NoUrl;

/// The builder has a URL.
pub struct HasUrl(pub(crate) UrlSource);

/// The builder has no router yet.
#[derive(Debug)]
pub struct NoRouter;

/// The builder has a router and its routes.
pub struct HasRouter(Box<dyn StartRoutes>);

/// Everything that has a default.
struct Options {
    shared: Arc<Shared>,
    settings: Settings,
    strategy: Box<dyn ReconnectionStrategy>,
    auth: Option<Arc<dyn AuthProvider>>,
    headers: Option<Box<dyn HeaderProvider>>,
    heartbeat: Option<WsMessage<'static>>,
    passive_ping: Option<Box<dyn PassivePingDetector>>,
    subscriptions: Vec<SubscriptionSource>,
    subprotocols: Vec<String>,
    shutdown_flag: Option<Arc<AtomicBool>>,
    halted_flag: Option<Arc<AtomicBool>>,
    tls: TlsOptions,
    socket: SocketOptions,
    dialer: Option<Dialer>,
    engine: Option<Engine>,
    shutdown_timeout: Duration,
    measure_latency: bool,
    sender: Sender,
}

impl Options {
    fn new() -> Self {
        let shared = Shared::new();
        Self {
            sender: Sender::new(Arc::clone(&shared)),
            shared,
            settings: Settings::default(),
            strategy: Box::new(ExponentialBackoff::default()),
            auth: None,
            headers: None,
            heartbeat: None,
            passive_ping: None,
            subscriptions: Vec::new(),
            subprotocols: Vec::new(),
            shutdown_flag: None,
            halted_flag: None,
            tls: TlsOptions::new(),
            socket: SocketOptions::new(),
            dialer: None,
            engine: None,
            shutdown_timeout: SHUTDOWN_TIMEOUT,
            measure_latency: false,
        }
    }
}

impl<R> ClientBuilder<NoUrl, R> {
    /// Where to dial: `ws://` or `wss://`, with a text, or a closure that makes one at each dial (for tokens in the URL).
    /// User info in a URL is refused; the query may hold a secret and is never logged.
    pub fn url(self, url: impl IntoUrl) -> ClientBuilder<HasUrl, R> {
        ClientBuilder { url: HasUrl(url.into_source().0), routes: self.routes, options: self.options }
    }
}

impl<U> ClientBuilder<U, NoRouter> {
    /// Who parses the messages, and who handles them.
    pub fn router<T: MessageRouter>(
        self,
        router: T,
        configure: impl FnOnce(Routing<T>) -> Routing<T>,
    ) -> ClientBuilder<U, HasRouter> {
        let routing = configure(Routing::new(router, self.options.sender.clone()));
        let routes = HasRouter(Box::new(routing.into_plan()));
        ClientBuilder { url: self.url, routes, options: self.options }
    }
}

impl<U, R> ClientBuilder<U, R> {
    /// Authenticates each session before any subscription.
    pub fn auth(mut self, provider: impl AuthProvider) -> Self {
        self.options.auth = Some(Arc::new(provider));
        self
    }

    /// Makes headers for the upgrade request, anew at each dial.
    pub fn headers(mut self, provider: impl HeaderProvider) -> Self {
        self.options.headers = Some(Box::new(provider));
        self
    }

    /// Sends `payload` every `every` while live, starting anew at each session. Ticks that were missed are skipped.
    pub fn heartbeat(mut self, every: Duration, payload: WsMessage<'static>) -> Self {
        self.options.settings.heartbeat_every = Some(every);
        self.options.heartbeat = Some(payload);
        self
    }

    /// Sends a ping frame every `every`, and takes the connection for dead where its pong does not come within
    /// `pong_timeout`; [`Client::round_trips`] shows how long the pongs took. Without this call a ping goes out only after
    /// 30 s of silence, and any byte within the next 10 s proves life.
    pub fn ping(mut self, every: Duration, pong_timeout: Duration) -> Self {
        self.options.settings.liveness = Liveness::Always { every, timeout: pong_timeout };
        self
    }

    /// Takes the connection for dead where no data message comes for this long. Pings and pongs of any kind, the venue's
    /// data-message pings among them, are no data. Off by default: only you know how quiet your market may be.
    pub fn data_idle_timeout(mut self, timeout: Duration) -> Self {
        self.options.settings.data_idle_timeout = Some(timeout);
        self
    }

    /// Recognises and answers the venue's own pings before anything is parsed.
    pub fn passive_ping(mut self, detector: impl PassivePingDetector) -> Self {
        self.options.passive_ping = Some(Box::new(detector));
        self
    }

    /// How long to wait before each dial. By default 1 s, 2 s, 4 s … 60 s, spread by 10 %, for ever.
    pub fn reconnect_strategy(mut self, strategy: impl ReconnectionStrategy) -> Self {
        self.options.strategy = Box::new(strategy);
        self
    }

    /// Waited once per disconnect, before the strategy's delay.
    pub fn reconnection_delay_offset(mut self, offset: Duration) -> Self {
        self.options.settings.reconnection_delay_offset = offset;
        self
    }

    /// A message to send at the start of every session, once, after authentication: a message, a text, or a closure that
    /// makes one at each dial, off the loop (for tokens that expire).
    pub fn subscription(mut self, message: impl IntoSubscription) -> Self {
        self.options.subscriptions.push(message.into_source().0);
        self
    }

    /// Messages to send at the start of every session, each once, in this order, after authentication.
    pub fn subscriptions(mut self, messages: Vec<WsMessage<'static>>) -> Self {
        self.options.subscriptions.extend(messages.into_iter().map(SubscriptionSource::Fixed));
        self
    }

    /// A flag of the caller's: true = running. When it turns false, the client shuts down: within a turn of a spinning
    /// loop, within 20 ms of a sleeping one. The client itself never writes it. Building with a flag that is false errs.
    pub fn shutdown_flag(mut self, flag: Arc<AtomicBool>) -> Self {
        self.options.shutdown_flag = Some(flag);
        self
    }

    /// A flag that is true while any client that holds it should be live and is not. A client that failed for good counts
    /// until its last handle is dropped; one that shuts down does not.
    pub fn halted_flag(mut self, flag: Arc<AtomicBool>) -> Self {
        self.options.halted_flag = Some(flag);
        self
    }

    /// Offers a subprotocol (RFC 6455, section 1.9); may be called several times, the preferred one first.
    pub fn subprotocol(mut self, name: impl Into<String>) -> Self {
        self.options.subprotocols.push(name.into());
        self
    }

    /// Whom to trust on `wss://`, and as whom to come.
    pub fn tls(mut self, options: TlsOptions) -> Self {
        self.options.tls = options;
        self
    }

    /// How the sockets are set: source address, interface, buffers, keepalive and more.
    pub fn socket(mut self, options: SocketOptions) -> Self {
        self.options.socket = options;
        self
    }

    /// Makes the connected TCP socket of each dial, in place of our own resolving and connecting: through a proxy, from
    /// another network namespace, to pinned addresses. TLS and the upgrade go on over it as usual. See
    /// `examples/http_connect_proxy.rs`.
    ///
    /// The closure runs beside the loop and may block; it shares its few threads with the other providers of the engine, so
    /// give its reads a timeout ([`DialRequest::timeout`]). One that is not back at the dial's deadline is left behind
    /// (`providers_abandoned` in the metrics), and its socket closed when it comes. An error or a panic fails the dial with
    /// [`Connect`](DisconnectReason::Connect). Whatever it reads from the socket is lost to us: a proxy's answer must be read
    /// to its last byte and not beyond. [`socket`](Self::socket) options apply to what it returns, but a source address or
    /// an interface is its own affair: with one of those set, building errs.
    pub fn dialer(mut self, dial: impl Fn(&DialRequest) -> Result<TcpStream> + Send + Sync + 'static) -> Self {
        self.options.dialer = Some(Dialer::new(dial));
        self
    }

    /// Runs the client on this engine; without one it gets an engine of its own, unpinned and adaptive.
    pub fn engine(mut self, engine: &Engine) -> Self {
        self.options.engine = Some(engine.clone());
        self
    }

    /// The time that one dial may take: resolving, TCP, TLS and the upgrade together. By default 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.settings.connect_timeout = timeout;
        self
    }

    /// The time that the venue has to accept our authentication. By default 10 s.
    pub fn auth_timeout(mut self, timeout: Duration) -> Self {
        self.options.settings.auth_timeout = timeout;
        self
    }

    /// The time that the venue has to answer our Close at a shutdown. By default 100 ms.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.options.settings.close_timeout = timeout;
        self
    }

    /// The time that [`Client::shutdown`] gives the handlers for what is queued. By default 30 s.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.options.shutdown_timeout = timeout;
        self
    }

    /// The largest message to accept, in bytes, fragments summed; a larger one ends the session with Close 1009. By default
    /// 16 MiB.
    pub fn max_message_bytes(mut self, bytes: u64) -> Self {
        self.options.settings.limits.max_message_bytes = bytes;
        self
    }

    /// The most that may wait for a peer that does not read, in payload bytes; beyond it `send` errs. By default 4 MiB.
    pub fn max_queued_bytes(mut self, bytes: usize) -> Self {
        self.options.settings.limits.max_queued_bytes = bytes;
        self
    }

    /// Records the time from socket to handler of each message, for [`Client::latency`]: a clock read a message. Off by
    /// default.
    pub fn measure_latency(mut self) -> Self {
        self.options.measure_latency = true;
        self
    }
}

impl ClientBuilder<HasUrl, HasRouter> {
    /// Connects and returns once the client is, or has been, live. One attempt is made, over all addresses of the host; after that, lost
    /// connections are dialed again by the strategy.
    ///
    /// # Errors
    /// [`ConnectFailed`](HyperSocketError::ConnectFailed) with the reason; [`Closed`](HyperSocketError::Closed) with
    /// [`Shutdown`](DisconnectReason::Shutdown) where the shutdown flag turned false meanwhile; and all of
    /// [`start`](Self::start); [`WouldDeadlock`](HyperSocketError::WouldDeadlock) on a thread of the engine. Nothing is left
    /// running.
    pub fn build(self) -> Result<Client> {
        own_thread::refuse("ClientBuilder::build")?;
        let settings = &self.options.settings;
        let longest = settings.connect_timeout.saturating_add(settings.auth_timeout).saturating_add(BUILD_SLACK);
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
        let Self { url: HasUrl(url), routes: HasRouter(routes), options } = self;
        validate(&url, &options)?;
        let tls = match &url {
            UrlSource::Fixed(url) if url.starts_with("ws:") => None,
            _ => Some(options.tls.connector()?),
        };
        let Options { shared, settings, sender, .. } = options;
        let measure_round_trips = matches!(settings.liveness, Liveness::Always { .. });
        shared.max_queued_bytes.store(settings.limits.max_queued_bytes, Ordering::Relaxed);
        let outlet = || Box::new(sender.clone()) as Box<_>;
        let Started { pipeline, threads, stats } = routes.start(&shared, options.measure_latency, &outlet)?;
        if let Some(flag) = &options.halted_flag {
            *lock(&shared.halted) = Some(HaltedMember::join(flag));
        }
        sender.connect(commands.clone());
        let Options { headers, auth, subscriptions, dialer, .. } = options;
        let (resolver, socket) = (Resolver::system(), Arc::new(options.socket));
        let providers = Arc::new(Providers { url, subscriptions, headers, auth, dialer, resolver, socket });
        let new = NewConnection {
            shared,
            settings,
            strategy: options.strategy,
            first_dial,
            pipeline,
            plan: Plan {
                providers,
                tls,
                subprotocols: options.subprotocols,
                heartbeat: options.heartbeat,
                passive_ping: options.passive_ping,
                measure_round_trips,
            },
            shutdown_flag: options.shutdown_flag,
        };
        let client = Client::new(Handle {
            sender,
            routes: stats,
            threads: Mutex::new(threads),
            engine,
            private_engine,
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
        crate::transport::Target::parse(url).map_err(HyperSocketError::InvalidUrl)?;
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
    options.socket.check()?;
    if options.dialer.is_some()
        && let Some(option) = options.socket.needs_own_socket()
    {
        return invalid(&format!("SocketOptions::{option} with a dialer, who makes the socket: do it there"));
    }
    Ok(())
}

/// A [`RoutingPlan`] whose router's type has been forgotten. `Send`, so that a builder may be built on another thread.
trait StartRoutes: Send {
    fn start(self: Box<Self>, shared: &Arc<Shared>, measure_latency: bool, outlet: NewOutlet<'_>) -> Result<Started>;
}

impl<T: MessageRouter> StartRoutes for RoutingPlan<T> {
    fn start(self: Box<Self>, shared: &Arc<Shared>, measure_latency: bool, outlet: NewOutlet<'_>) -> Result<Started> {
        for core in self.cores() {
            cpu::check(core)?;
        }
        (*self).start(shared, measure_latency, outlet)
    }
}

impl<U, R> fmt::Debug for ClientBuilder<U, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No URL, header or auth provider: they may hold secrets.
        f.debug_struct("ClientBuilder").field("settings", &self.options.settings).finish_non_exhaustive()
    }
}

/// What `Client::shutdown` waits for handlers that are busy.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
/// `build` waits for a verdict of the lifecycle, whose own deadlines come first; this covers a machine under load.
const BUILD_SLACK: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{SocketAddr, TcpListener};
    use std::time::Instant;

    use socket2::{Domain, SockRef, Socket, Type};

    use super::*;
    use crate::reconnect::FixedDelay;

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
