//! A venue on loopback, for tests and benches: a WebSocket server that a script, a recording or an imitation of
//! Hyperliquid drives. Invariant: nothing in here uses the engine it tests, so that no bug can hide by being on both
//! sides of the wire.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use hypersockets::simulator::Venue;
//! # fn main() -> std::io::Result<()> {
//! let venue = Venue::hyperliquid(["BTC", "ETH"]).tls().rate_per_sec(50.0).start()?;
//! // ... a client dials venue.url(), trusting venue.root_certificate_der() ...
//! let session = venue.next_session(Duration::from_secs(5))?;
//! session.assert_received(r#"{"method":"subscribe","subscription":{"type":"l2Book","coin":"BTC"}}"#);
//! session.drop_rst();
//! # Ok(())
//! # }
//! ```
//!
//! A venue also has bad days, for testing your own strategy against them: a connection can be answered with an
//! [`UpgradeFault`], a session can commit a [`SessionFault`], and a whole venue can speak TLS with a [`TlsFault`]. Each has an
//! `ALL`; the first two say by their [`Verdict`] what a right client makes of it, the last is always refused.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use hypersockets::simulator::{SessionFault, UpgradeFault, Venue};
//! # fn main() -> std::io::Result<()> {
//! let venue = Venue::hyperliquid(["BTC"]).start()?;
//! let session = venue.next_session(Duration::from_secs(5))?;
//! venue.plan_upgrade(UpgradeFault::TooManyRequests); // for whoever dials next
//! session.commit(SessionFault::CutPayload);
//! // ... does the strategy stop quoting until its books are live again?
//! # Ok(())
//! # }
//! ```
//!
//! Threads: one accepts (`venue-accept`), and each connection has its own (`venue-1`, `venue-2`, ...). A [`Session`] or
//! a [`Venue`] never touches a socket: it sends a command to the thread that owns it. All threads are joined by
//! [`Venue::stop`] and by dropping the [`Venue`].

// Imports point only downward; no file names another of its own row.
//
// | builder                                                                | a venue, from what was asked for      |
// | venue                                                                  | the test's handle on all of it        |
// | acceptor                                                               | the thread that accepts               |
// | connection                                                             | the thread of each connection         |
// | shared                                                                 | what the venue lends to those threads |
// | program                                                                | chooses among the feeds               |
// | exchange, hyperliquid, okx, replay, session, ticks                     | the feeds; the test's end             |
// | binance, kraken, lighter                                               | how exchanges say things              |
// | dialect                                                                | what those have in common             |
// | walk                                                                   | a book that changes at random         |
// | command, outbox, recording                                             | orders; bytes on their way; messages  |
// | compression                                                            | what messages are on a compressed way |
// | recording_file                                                         | the format of a recorded session      |
// | certificate, upgrade                                                   | who it says it is; how it is asked    |
// | session_fault, tls_fault, upgrade_fault                                | the ways to go wrong                  |
// | book, clock, due, frames, ladder, link, listening, pace, report,       |
// | tally, verdict                                                         | words, sockets and numbers            |

mod acceptor;
mod binance;
mod book;
mod builder;
mod certificate;
mod clock;
mod command;
mod compression;
mod connection;
mod dialect;
mod due;
mod exchange;
mod frames;
mod hyperliquid;
mod kraken;
mod ladder;
mod lighter;
mod link;
mod listening;
mod okx;
mod outbox;
mod pace;
mod program;
mod recording;
mod recording_file;
mod replay;
mod report;
mod session;
mod session_fault;
mod shared;
mod tally;
mod ticks;
mod tls_fault;
mod upgrade;
mod upgrade_fault;
mod venue;
mod verdict;
mod walk;

#[cfg(test)]
mod tests;

pub use builder::VenueBuilder;
pub use command::Ending;
pub use okx::ApiKey;
pub use recording::Recording;
pub use recording_file::{Cut, RecordingWriter};
pub use replay::Pace;
pub use report::Received;
pub use session::Session;
pub use session_fault::SessionFault;
pub use tls_fault::TlsFault;
pub use upgrade::UpgradePlan;
pub use upgrade_fault::UpgradeFault;
pub use venue::Venue;
pub use verdict::Verdict;
