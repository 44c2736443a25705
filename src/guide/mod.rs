//! How do I …? A page for each question, with every code block compiled as a test.
//!
//! | | |
//! | --- | --- |
//! | [`quick_start`] | a first client, in five minutes |
//! | [`routing`] | routes, and the order that they keep |
//! | [`threads`] | which thread runs where |
//! | [`how_many_threads`] | what 1, 10 or 100 of them cost |
//! | [`authentication`] | proving who you are, at every dial |
//! | [`headers`] | headers of the upgrade request |
//! | [`heartbeat`] | being heard, and finding out that a session is dead |
//! | [`passive_ping`] | pings that a venue sends as ordinary messages |
//! | [`reconnection`] | what happens when a connection ends |
//! | [`shutdown`] | stopping without losing anything |
//! | [`backpressure`] | when a handler is slower than the venue |
//! | [`compression`] | compressed feeds: what they cost, and when to refuse them |
//! | [`latency`] | where each microsecond goes, and how to read it |
//! | [`testing`] | testing against a venue of your own |
//! | [`many_clients`] | many connections, within the venues' limits |
//! | [`publishing`] | where one machine is not enough |
//! | [`moving_over`] | moving over from an async client |
//! | [`tuning`] | the host |
//! | [`troubleshooting`] | by symptom |
//! | [`roadmap`] | what is to come, and what is not |

#[doc = include_str!("authentication.md")]
pub mod authentication {}
#[doc = include_str!("backpressure.md")]
pub mod backpressure {}
#[doc = include_str!("compression.md")]
pub mod compression {}
#[doc = include_str!("headers.md")]
pub mod headers {}
#[doc = include_str!("heartbeat.md")]
pub mod heartbeat {}
#[doc = include_str!("how_many_threads.md")]
pub mod how_many_threads {}
/// Where each microsecond goes, and how to read it.
///
#[doc = include_str!("stages.svg")]
///
#[doc = include_str!("latency.md")]
pub mod latency {}
#[doc = include_str!("many_clients.md")]
pub mod many_clients {}
#[doc = include_str!("moving_over.md")]
pub mod moving_over {}
#[doc = include_str!("passive_ping.md")]
pub mod passive_ping {}
#[doc = include_str!("publishing.md")]
pub mod publishing {}
#[doc = include_str!("quick_start.md")]
pub mod quick_start {}
/// What happens when a connection ends.
///
#[doc = include_str!("life.svg")]
///
#[doc = include_str!("reconnection.md")]
pub mod reconnection {}
#[doc = include_str!("roadmap.md")]
pub mod roadmap {}
#[doc = include_str!("routing.md")]
pub mod routing {}
#[doc = include_str!("shutdown.md")]
pub mod shutdown {}
#[doc = include_str!("testing.md")]
pub mod testing {}
/// Which thread runs where.
///
#[doc = include_str!("threads.svg")]
///
#[doc = include_str!("threads.md")]
pub mod threads {}
#[doc = include_str!("troubleshooting.md")]
pub mod troubleshooting {}
#[doc = include_str!("tuning.md")]
pub mod tuning {}
