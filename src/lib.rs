//! A thread-per-core WebSocket client engine for trading systems, with no async runtime.
//!
//! One thread, pinned to one core if you like, runs a hand-written [mio](https://docs.rs/mio) event loop that drives many
//! connections. It answers the venue's pings, parses each message where it was received, and hands it to the handler of
//! its route: on a thread of the route's own, through a [crossbeam](https://docs.rs/crossbeam-channel) queue, or inline,
//! within the read that brought it. Messages of one route are handled one at a time, in order, each exactly once.
//!
//! # Quick start
//!
//! ```no_run
//! use hypersockets::{CtrlC, MessageRouter, Result, WsMessage};
//!
//! struct Lines;
//!
//! impl MessageRouter for Lines {
//!     type Message = String;
//!     type RouteKey = ();
//!
//!     fn parse(&self, message: WsMessage<'_>) -> Result<String> {
//!         Ok(message.as_text().ok_or("a binary message")?.to_owned())
//!     }
//!
//!     fn route_key(&self, _line: &String) {}
//! }
//!
//! fn main() -> Result<()> {
//!     let ctrl_c = CtrlC::install()?;
//!     let client = hypersockets::builder()
//!         .url("wss://api.hyperliquid.xyz/ws")
//!         .router(Lines, |routing| routing.handler((), |line: String| Ok(println!("{line}"))))
//!         .subscription(r#"{"method":"subscribe","subscription":{"type":"bbo","coin":"BTC"}}"#)
//!         .shutdown_flag(ctrl_c.flag())
//!         .build()?;
//!     ctrl_c.wait();
//!     println!("{:#?}", client.shutdown()?);
//!     Ok(())
//! }
//! ```
//!
//! # Map
//!
//! | you want to | look at |
//! | --- | --- |
//! | build a client | [`builder`], [`ClientBuilder`] |
//! | parse and route messages | [`MessageRouter`], [`Routing`], [`RouteOptions`] |
//! | handle them | [`MessageHandler`], [`Delivery`], [`ConnectionEvent`] |
//! | send | [`Client::send`], [`Sender`], [`Delivery::send`] |
//! | ask, and wait for the reply | [`Client::request`], [`ClientBuilder::reply_id`] |
//! | authenticate, set headers | [`AuthProvider`], [`HeaderProvider`] |
//! | choose roots, a client certificate, an interface | [`TlsOptions`], [`SocketOptions`] |
//! | dial through a proxy | [`ClientBuilder::dialer`] |
//! | subscribe, and know what is in force | [`Subscription`], [`Client::subscribe`], [`MessageRouter::subscription_reply`] |
//! | stay connected | [`ReconnectionStrategy`], [`PassivePingDetector`], [`ClientBuilder::heartbeat`] |
//! | see what happens | [`Client::metrics`], [`Client::events`], [`Client::latency`] |
//! | hold many clients | [`ClientManager`] |
//! | keep to the venue's limits | [`ConnectionLimit`], [`MessageLimit`], [`ClientBuilder::subscription_batches`] |
//! | move to a new connection without a hole | [`Client::rotate`], [`ClientBuilder::max_age`] |
//! | read one feed over several connections | [`FeedArbiter`] |
//! | stop without losing anything | [`Client::shutdown`], [`ShutdownReport`], [`CtrlC`] |
//! | decide what runs where | [`CorePlan`], [`Engine`], [`EngineGroup`], [`EngineBuilder::lanes`], [`HandlerThread`], [`ThreadOptions`], [`IdleStrategy`] |
//! | run the loop beside your own work | [`EventLoop`] |
//! | bound a queue, hear of staleness | [`RouteOptions`], [`Overflow`], [`Staleness`] |
//! | pull messages yourself | [`Routing::receiver`], [`RouteReceiver`] |
//! | read a page on any of this | [`guide`] |
//! | move over from an async client | [`guide::moving_over`] |
//! | find out what is wrong | [`guide::troubleshooting`] |
//! | test against a venue of your own | the `simulator` module (feature `simulator`) |
//!
//! # A message's way
//!
//! `EventLoop::turn` → a connection reads its socket → frames are sliced out of the receive buffer → the passive ping
//! detector looks → [`MessageRouter::parse_each`] → [`MessageRouter::route_key`] → the route's queue →
//! [`MessageHandler::handle_delivery`]. A text is lent to the router from the receive buffer: nothing is copied and nothing
//! allocated before your parser.
//!
//! # What is promised
//!
//! * What the kernel had received completely before a connection ended, or before a shutdown began, is handled exactly
//!   once, in order per route. What the venue sent while there was no connection is gone; handlers see
//!   [`ConnectionEvent::Lost`] and [`ConnectionEvent::Live`] in their own queue, exactly where the hole is.
//! * A handler or parser that errs or panics costs that one message; it is counted and reported. (With `panic = "abort"`
//!   nothing can be isolated.)
//! * Nothing that you send is ever sent again by itself.
//! * Certificates are verified and TLS is 1.2 or newer, unless a method with `dangerous` in its name says otherwise; `wss`
//!   never falls back to `ws`.
//!
//! # Features
//!
//! | feature | default | gives |
//! | --- | --- | --- |
//! | `ring` | yes | TLS cryptography by ring |
//! | `aws-lc-rs` | | TLS cryptography by aws-lc-rs; preferred where both are on |
//! | `webpki-roots` | yes | Mozilla's root certificates, compiled in |
//! | `native-roots` | | the host's root certificates |
//! | `platform-verifier` | | certificates judged by the platform |
//! | `tls-in-place` | | TLS 1.3 records decrypted where they lie: some 30 % less processor time for a record a message |
//! | `deflate` | | compressed messages (RFC 7692) where [`ClientBuilder`] offers them: its method `compression` |
//! | `serde_json` | yes | `?` on serde_json errors in routers and handlers, [`Scratch::typed`] |
//! | `toml` | | [`CorePlan`] from a TOML file, `VenueProfile`: what venues limit and want, as data |
//! | `report` | | latency as JSON, CSV, HdrHistogram logs, Prometheus text and HTML: the `report` module |
//! | `cli` | | the command `hypersockets` |
//! | `simulator` | | a scripted venue on loopback, for tests |
//!
//! # Logging
//!
//! Through the [`log`](https://docs.rs/log) crate, at connects and disconnects only; never a header value, a URL's path or
//! query, or an auth message. A venue's Close reason is logged as it came. tungstenite's own TRACE and DEBUG logs show control
//! frames and fragmented messages that were received.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod arbiter;
mod assemble;
mod auth;
mod bell;
mod builder;
mod client;
mod clock;
mod config;
mod core_plan;
mod cpu;
mod ctrl_c;
mod engine;
mod engine_group;
mod error;
mod event;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod guide;
#[cfg(feature = "deflate")]
mod gunzip;
mod halted;
mod handler;
mod headers;
mod idle;
mod ids;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod lifecycle;
mod limits;
mod mailbox;
mod manager;
mod message;
mod metrics;
mod own_thread;
mod passive_ping;
mod pipeline;
mod reconnect;
#[cfg(feature = "report")]
pub mod report;
mod requests;
mod router;
mod routing;
mod scratch;
mod sender;
#[cfg(feature = "simulator")]
pub mod simulator;
mod sources;
mod state;
mod subscriptions;
mod sync;
#[cfg(test)]
mod tests_random;
mod thread;
#[cfg(feature = "toml")]
mod toml_file;
mod transport;
#[cfg(feature = "toml")]
mod venue_profile;

pub use arbiter::{FeedArbiter, FeedArbiterBuilder, LineReport};
pub use auth::{AuthProvider, AuthVerdict};
pub use builder::{ClientBuilder, HasRouter, HasUrl, NoRouter, NoUrl, builder};
pub use client::{Client, Events, ShutdownReport};
pub use core_plan::{CorePlan, PlanWarning};
pub use ctrl_c::CtrlC;
pub use engine::{Engine, EngineBuilder, EventLoop};
pub use engine_group::EngineGroup;
pub use error::{DisconnectReason, HyperSocketError, Result};
pub use event::{ClientEvent, ConnectionEvent, Staleness};
#[cfg(feature = "deflate")]
pub use gunzip::Gunzip;
pub use handler::{Arrival, Delivery, MessageHandler};
pub use headers::{HeaderProvider, Headers};
pub use idle::IdleStrategy;
pub use ids::{ConnectionId, SendId};
pub use limits::{ConnectionLimit, MessageLimit};
pub use manager::{ClientManager, ManagerEvents};
pub use message::WsMessage;
pub use metrics::{ClockOffset, Latency, LatencyReport, Metrics, RouteLatency, RouteMetrics, Stages, Stamps, Trace};
pub use passive_ping::{JsonPassivePing, PassivePingDetector, TextPassivePing};
pub use pipeline::{HandlerThread, Overflow, Pulled, RouteReceiver};
pub use reconnect::{ExponentialBackoff, FixedDelay, NeverReconnect, ReconnectionStrategy};
pub use requests::{PendingReply, RequestId};
pub use router::{MessageRouter, Parsed, Sequence, SubscriptionReply};
pub use routing::{NewRoute, RouteOptions, Routing};
pub use rustls;
pub use scratch::Scratch;
pub use sender::Sender;
pub use simd_json;
pub use sources::{IntoSubscription, IntoUrl};
pub use state::ClientState;
pub use subscriptions::{Subscription, SubscriptionState};
pub use thread::ThreadOptions;
#[cfg(feature = "deflate")]
pub use transport::Compression;
pub use transport::{DialRequest, SocketOptions, TlsOptions};
#[cfg(feature = "toml")]
pub use venue_profile::VenueProfile;

/// The README's program compiles as printed.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
