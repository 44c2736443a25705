//! How long messages take, stage by stage: stamps, the histograms that they enter, and what may be read of those.

// | report              | everything at one moment                         |
// | stages              | one route's histograms and slowest messages      |
// | distribution, stamps| one histogram; when a message passed which point |

mod distribution;
mod report;
mod stages;
mod stamps;

pub(crate) use distribution::LatencyRecorder;
pub use distribution::{ClockOffset, Latency};
pub(crate) use report::BesideRoutes;
pub use report::{LatencyReport, RouteLatency};
pub(crate) use stages::StageRecorder;
pub use stages::{Stages, Trace};
pub use stamps::Stamps;
pub(crate) use stamps::{KernelStamp, Trail};
