//! The type-state builder: what is required is asked for by the types. The last place that names the router's type.

use std::fmt;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::auth::AuthProvider;
use crate::config::{Liveness, Settings};
use crate::engine::{Engine, ReplyId, RotationPlan, UrlSource};
use crate::engine_group::EngineGroup;
use crate::error::Result;
use crate::headers::HeaderProvider;
use crate::limits::{ConnectionLimit, MessageLimit};
use crate::message::WsMessage;
use crate::passive_ping::PassivePingDetector;
use crate::pipeline::StartRoutes;
use crate::reconnect::{ExponentialBackoff, ReconnectionStrategy};
use crate::requests::RequestId;
use crate::router::MessageRouter;
use crate::routing::Routing;
use crate::sender::Sender;
use crate::sources::sealed::IntoSubscription as _;
use crate::sources::{IntoSubscription, IntoUrl};
use crate::state::Shared;
use crate::subscriptions::{Batches, Subscription};
use crate::transport::{Compression, DialRequest, Dialer, SocketOptions, TlsOptions};
#[cfg(feature = "toml")]
use crate::venue_profile::VenueProfile;

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
    pub(crate) url: U,
    pub(crate) routes: R,
    pub(crate) options: Options,
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
pub struct HasRouter(pub(crate) Box<dyn StartRoutes>);

/// Everything that has a default.
pub(crate) struct Options {
    pub(crate) shared: Arc<Shared>,
    pub(crate) settings: Settings,
    pub(crate) strategy: Arc<dyn ReconnectionStrategy>,
    pub(crate) auth: Option<Arc<dyn AuthProvider>>,
    pub(crate) headers: Option<Box<dyn HeaderProvider>>,
    pub(crate) plain_text_credentials: bool,
    pub(crate) heartbeat: Option<WsMessage<'static>>,
    pub(crate) passive_ping: Option<Box<dyn PassivePingDetector>>,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) batches: Option<Batches>,
    pub(crate) connection_limit: Option<ConnectionLimit>,
    pub(crate) message_limit: Option<MessageLimit>,
    pub(crate) max_subscriptions: Option<usize>,
    pub(crate) reply_id: Option<ReplyId>,
    pub(crate) subprotocols: Vec<String>,
    pub(crate) compression: Vec<Compression>,
    pub(crate) shutdown_flag: Option<Arc<AtomicBool>>,
    pub(crate) halted_flag: Option<Arc<AtomicBool>>,
    pub(crate) tls: TlsOptions,
    pub(crate) socket: SocketOptions,
    pub(crate) dialer: Option<Dialer>,
    pub(crate) engine: Option<Engine>,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) measure_latency: bool,
    pub(crate) rotation: RotationPlan,
    pub(crate) sender: Sender,
}

impl Options {
    fn new() -> Self {
        let shared = Shared::new();
        Self {
            sender: Sender::new(Arc::clone(&shared)),
            shared,
            settings: Settings::default(),
            strategy: Arc::new(ExponentialBackoff::default()),
            auth: None,
            headers: None,
            plain_text_credentials: false,
            heartbeat: None,
            passive_ping: None,
            subscriptions: Vec::new(),
            batches: None,
            connection_limit: None,
            message_limit: None,
            max_subscriptions: None,
            reply_id: None,
            subprotocols: Vec::new(),
            compression: Vec::new(),
            shutdown_flag: None,
            halted_flag: None,
            tls: TlsOptions::new(),
            socket: SocketOptions::new(),
            dialer: None,
            engine: None,
            shutdown_timeout: SHUTDOWN_TIMEOUT,
            measure_latency: false,
            rotation: RotationPlan::default(),
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

    /// Lets an auth message and headers go over plain `ws://` to other hosts than this one, where everyone on the way can read
    /// and change them. Without it such a dial fails with [`InvalidUrl`](crate::DisconnectReason::InvalidUrl), before a byte
    /// leaves; only headers that tell nothing (`User-Agent`, `Origin`, `Accept…`) may.
    pub fn dangerous_plain_text_credentials(mut self) -> Self {
        self.options.plain_text_credentials = true;
        self
    }

    /// Sends `payload` every `every` while live, starting anew at each session. Ticks that were missed are skipped.
    pub fn heartbeat(mut self, every: Duration, payload: WsMessage<'static>) -> Self {
        self.options.settings.heartbeat_every = Some(every);
        self.options.heartbeat = Some(payload);
        self
    }

    /// Sends a ping frame every `every`, and takes the connection for dead where its pong does not come within
    /// `pong_timeout`; [`Client::latency`](crate::Client::latency) shows how long the pongs took. Without this call a ping goes out only after
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

    /// Moves to a new connection when a session is this old, without a hole: shortly before the venue would end it (24 h at
    /// Binance). See [`Client::rotate`](crate::Client::rotate). Where that fails, it is tried again every minute.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.options.rotation.max_age = Some(age);
        self
    }

    /// Moves to a new connection when a message comes for which `is_notice` says true: the venue announces that it will end this
    /// one (Binance's `serverShutdown`). See [`Client::rotate`](crate::Client::rotate). It is asked about each message, on the
    /// loop, so it should look at few bytes; the message goes on to the router all the same.
    pub fn rotate_on_notice(mut self, is_notice: impl Fn(&WsMessage<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.options.rotation.notice = Some(Box::new(is_notice));
        self
    }

    /// Tells replies to requests from all other messages, and which request each answers: the id in it, or `None`. Replies go to
    /// whoever made the [request](crate::Client::request), and to no route. It is asked about each message, on the loop, so it should
    /// look at few bytes.
    pub fn reply_id(mut self, find: impl Fn(&WsMessage<'_>) -> Option<RequestId> + Send + Sync + 'static) -> Self {
        self.options.reply_id = Some(Box::new(find));
        self
    }

    /// Lets dials wait for their turn under this limit, which all clients share that were given it, or a clone.
    pub fn connection_limit(mut self, limit: &ConnectionLimit) -> Self {
        self.options.connection_limit = Some(limit.clone());
        self
    }

    /// Keeps to what a venue limits and wants: its limits, its heartbeat or ping, and its greatest age, as far as the profile has
    /// them. What is set after this on the builder stands in its place.
    #[cfg(feature = "toml")]
    pub fn venue(mut self, profile: &VenueProfile) -> Self {
        let options = &mut self.options;
        options.connection_limit.clone_from(&profile.connections);
        options.message_limit.clone_from(&profile.messages);
        options.max_subscriptions = profile.max_subscriptions;
        options.rotation.max_age = profile.max_age;
        if let Some((every, text)) = &profile.heartbeat {
            self = self.heartbeat(*every, WsMessage::text(text.clone()));
        }
        match profile.ping {
            Some((every, pong_timeout)) => self.ping(every, pong_timeout),
            None => self,
        }
    }

    /// Lets no more messages through than this.
    pub fn message_limit(mut self, limit: &MessageLimit) -> Self {
        self.options.message_limit = Some(limit.clone());
        self
    }

    /// The most subscriptions that the venue allows on one connection: one more is an error, before the venue says so.
    pub fn max_subscriptions(mut self, count: usize) -> Self {
        self.options.max_subscriptions = Some(count);
        self
    }

    /// Recognises and answers the venue's own pings before anything is parsed.
    pub fn passive_ping(mut self, detector: impl PassivePingDetector) -> Self {
        self.options.passive_ping = Some(Box::new(detector));
        self
    }

    /// How long to wait before each dial. By default 1 s, 2 s, 4 s … 60 s, spread by 10 %, for ever.
    pub fn reconnect_strategy(mut self, strategy: impl ReconnectionStrategy) -> Self {
        self.options.strategy = Arc::new(strategy);
        self
    }

    /// Waited once per disconnect, before the strategy's delay.
    pub fn reconnection_delay_offset(mut self, offset: Duration) -> Self {
        self.options.settings.reconnection_delay_offset = offset;
        self
    }

    /// A message to send at the start of every session, once, after authentication: a message, a text, a closure that
    /// makes one at each dial, off the loop (for tokens that expire), or a [`Subscription`](crate::Subscription) with a name.
    pub fn subscription(mut self, message: impl IntoSubscription) -> Self {
        self.options.subscriptions.push(message.into_subscription());
        self
    }

    /// Messages to send at the start of every session, each once, in this order, after authentication.
    pub fn subscriptions(mut self, messages: Vec<WsMessage<'static>>) -> Self {
        self.options.subscriptions.extend(messages.into_iter().map(WsMessage::into_subscription));
        self
    }

    /// Sends subscriptions in batches of `size`: the next goes when all of the one before were answered
    /// ([`MessageRouter::subscription_reply`](crate::MessageRouter::subscription_reply)), or after `ack_timeout`. By default all go
    /// at once.
    pub fn subscription_batches(mut self, size: usize, ack_timeout: Duration) -> Self {
        self.options.batches = Some(Batches { size, ack_timeout });
        self
    }

    /// A flag of the caller's: true = running. When it turns false, the client shuts down: within a turn of a spinning
    /// loop, within 20 ms of a sleeping one. The client itself never writes it. Building with a flag that is false errs.
    pub fn shutdown_flag(mut self, flag: Arc<AtomicBool>) -> Self {
        self.options.shutdown_flag = Some(flag);
        self
    }

    /// A flag that is true while any client that holds it should be live and is not, or has a stale route. A client that failed for good counts
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

    /// Offers to compress messages (permessage-deflate, RFC 7692). The venue may decline; an answer that breaks a rule ends
    /// the dial. May be called several times, the preferred offer first.
    #[cfg(feature = "deflate")]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.options.compression.push(compression);
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
    /// [`Connect`](crate::DisconnectReason::Connect). Whatever it reads from the socket is lost to us: a proxy's answer must be read
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

    /// Runs the client on that engine of the group which has the fewest.
    pub fn engine_group(mut self, group: &EngineGroup) -> Self {
        self.options.engine = Some(group.place(&self.options.shared));
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

    /// The time that [`Client::shutdown`](crate::Client::shutdown) gives the handlers for what is queued. By default 30 s.
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

    /// Stamps each message at every stage of its way, from the read to its handler's return, and records the stages in a
    /// histogram each, for [`Client::latency`](crate::Client::latency): some 0.1 µs a message (`cargo bench --bench stamps`).
    /// Off by default, and then it costs nothing. The first such client of a process calibrates the processor's counter,
    /// which takes up to 0.2 s.
    pub fn measure_latency(mut self) -> Self {
        self.options.measure_latency = true;
        self
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
