//! Threads meet sockets: the event loop, and the thread that runs it.

mod command;
mod connection;
mod desk;
mod dialing;
mod event_loop;
mod linger;
mod link;
mod offload;
mod outlet;
mod plan;
mod ready;
mod resolver;
mod rotation;
mod runner;
mod session;
mod settled;
mod stale;
#[cfg(test)]
mod tests_simulation;
mod token;

pub(crate) use command::{Command, CommandSender, Send};
pub use event_loop::EventLoop;
pub(crate) use plan::{NewConnection, Plan, Providers, ReplyId, RotationPlan, UrlSource};
pub(crate) use resolver::Resolver;
pub use runner::{Engine, EngineBuilder};
