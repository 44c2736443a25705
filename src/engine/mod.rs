//! Threads meet sockets: the event loop, and the thread that runs it.

mod command;
mod connection;
mod event_loop;
mod linger;
mod offload;
mod ready;
mod resolver;
mod runner;
mod session;
mod token;

pub(crate) use command::{Command, CommandSender};
pub(crate) use connection::NewConnection;
pub use event_loop::EventLoop;
pub(crate) use offload::{Providers, SubscriptionSource, UrlSource};
pub(crate) use resolver::Resolver;
pub use runner::{Engine, EngineBuilder};
pub(crate) use session::Plan;
