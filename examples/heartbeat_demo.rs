//! Keeping a connection up. Three things do three jobs: a heartbeat is the message that the venue wants to hear now and then; a ping with
//! a pong deadline finds out that the venue is gone; a data-idle deadline finds out that it has nothing to say any more.
//!
//! ```text
//! cargo run --release --example heartbeat_demo                   a simulated venue that drops the silent, and falls silent itself; 5 s
//! cargo run --release --example heartbeat_demo -- URL            a venue that wants {"method":"ping"} (Hyperliquid), until Ctrl-C
//! ```

mod support {
    pub(crate) mod demo;
    pub(crate) mod duration;
    pub(crate) mod lines;
    pub(crate) mod script;
}

use std::process::ExitCode;
use std::time::Duration;

use hypersockets::{FixedDelay, Result, WsMessage};
use support::demo::{Run, run, summary};
use support::lines::Lines;
use support::script::Script;

fn main() -> ExitCode {
    run("Keeping a connection up: a heartbeat, a pong deadline and a data-idle deadline", example)
}

fn example(run: &Run) -> Result<()> {
    let (url, simulated) = run.url_or(venue, Script::url)?;
    // A real venue is asked more rarely.
    let every = if simulated.is_some() { Duration::from_millis(500) } else { Duration::from_secs(30) };

    let client = hypersockets::builder()
        .url(url)
        .router(Lines, |routing| {
            routing.handler((), |line: String| {
                println!("{line}");
                Ok(())
            })
        })
        // Missed ticks are skipped, not sent in a burst; each session starts anew.
        .heartbeat(every, WsMessage::text(r#"{"method":"ping"}"#))
        // A ping frame each time, whose pong must come: `client.latency().round_trips` says how long they take.
        .ping(every, every * 4)
        // Pings and pongs of any kind are no data.
        .data_idle_timeout(every * 2)
        .reconnect_strategy(FixedDelay::new(Duration::from_millis(200), None))
        .shutdown_flag(run.flag())
        .build()?;

    run.wait(&client);
    let round_trips = client.latency().round_trips;
    let report = client.shutdown()?;
    summary(&report);
    println!("{} pongs, p50 {:?}", round_trips.count(), Duration::from_nanos(round_trips.quantile_ns(0.5)));
    Ok(())
}

/// A venue that wants to hear something in each second, and after ten of its own messages falls silent: for the idle deadline to find.
fn venue() -> Result<Script> {
    let script = Script::start(Duration::from_millis(100), |session, beat| {
        if beat % 10 == 9 && session.await_text(Duration::from_millis(1)).is_err() {
            session.close(1008, "silent");
        } else if beat < 10 {
            session.send_text(format!(r#"{{"tick":{beat}}}"#));
        }
    });
    Ok(script?)
}
