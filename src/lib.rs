#![doc = "placeholder"]
#![forbid(unsafe_code)]

mod auth;
mod builder;
mod client;
mod clock;
mod config;
mod cpu;
mod ctrl_c;
mod engine;
mod error;
mod event;
mod halted;
mod handler;
mod headers;
mod idle;
mod lifecycle;
mod message;
mod metrics;
mod own_thread;
mod passive_ping;
mod pipeline;
mod reconnect;
mod router;
mod routing;
mod sender;
#[cfg(feature = "simulator")]
pub mod simulator;
mod state;
mod transport;

pub use auth::{AuthProvider, AuthVerdict};
pub use builder::{ClientBuilder, HasRouter, HasUrl, IntoUrl, NoRouter, NoUrl, builder};
pub use client::{Client, Events, ShutdownReport};
pub use ctrl_c::CtrlC;
pub use engine::{Engine, EngineBuilder, EventLoop};
pub use error::{DisconnectReason, HyperSocketError, Result};
pub use event::{ClientEvent, ConnectionEvent};
pub use handler::{ConnectionId, Delivery, MessageHandler, Stamps};
pub use headers::{HeaderProvider, Headers};
pub use idle::IdleStrategy;
pub use message::WsMessage;
pub use metrics::{Latency, Metrics, RouteMetrics};
pub use passive_ping::{JsonPassivePing, PassivePingDetector, TextPassivePing};
pub use reconnect::{ExponentialBackoff, FixedDelay, NeverReconnect, ReconnectionStrategy};
pub use router::{MessageRouter, Parsed, Scratch, Sequence, SubscriptionReply};
pub use routing::{RouteOptions, Routing};
pub use rustls;
pub use sender::Sender;
pub use state::{ClientState, SendId};
pub use transport::TlsOptions;
