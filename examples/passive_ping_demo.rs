//! Pings that a venue sends as ordinary messages. A detector knows them, the loop answers at once, and neither the router nor a handler
//! ever sees one: `TextPassivePing` for an exact text, `JsonPassivePing` for a field of a JSON object.
//!
//! ```text
//! cargo run --release --example passive_ping_demo                two simulated venues, which drop who does not answer; 5 s
//! cargo run --release --example passive_ping_demo -- URL         a venue that sends {"type":"ping"}, such as Lighter, until Ctrl-C
//! ```

mod support {
    pub(crate) mod demo;
    pub(crate) mod duration;
    pub(crate) mod lines;
    pub(crate) mod script;
}

use std::process::ExitCode;
use std::time::Duration;

use hypersockets::{Client, JsonPassivePing, PassivePingDetector, Result, TextPassivePing, WsMessage};
use support::demo::{Run, run, summary};
use support::lines::Lines;
use support::script::Script;

const JSON_PING: &str = r#"{"type":"ping"}"#;
const JSON_PONG: &str = r#"{"type":"pong"}"#;

fn main() -> ExitCode {
    run("Pings that a venue sends as ordinary messages, answered before anybody sees them", example)
}

fn example(run: &Run) -> Result<()> {
    let text = TextPassivePing::new("ping", WsMessage::text("pong"));
    let json = JsonPassivePing::new("type", "ping", WsMessage::text(JSON_PONG));
    if let Some(url) = &run.demo.url {
        let client = client("venue", url.clone(), json, run)?;
        run.wait(&client);
        return finish("venue", &client);
    }
    let venues = [venue("ping", "pong")?, venue(JSON_PING, JSON_PONG)?];
    let texts = client("text", venues[0].url(), text, run)?;
    let jsons = client("json", venues[1].url(), json, run)?;
    run.wait_all(&[("text", &texts), ("json", &jsons)]);
    finish("text", &texts)?;
    finish("json", &jsons)
}

fn client(name: &'static str, url: String, detector: impl PassivePingDetector, run: &Run) -> Result<Client> {
    hypersockets::builder()
        .url(url)
        .router(Lines, |routing| {
            routing.handler((), move |line: String| {
                println!("{name}: {line}");
                Ok(())
            })
        })
        .passive_ping(detector)
        .shutdown_flag(run.flag())
        .build()
}

fn finish(name: &str, client: &Client) -> Result<()> {
    let report = client.shutdown()?;
    summary(&report);
    println!("{name}: {} pings answered, of which no handler heard", report.metrics.passive_pings_answered);
    Ok(())
}

/// A venue that pings every second, and drops who has not answered by the next one. What looks like a ping and is none goes to
/// the handler.
fn venue(ping: &'static str, pong: &'static str) -> Result<Script> {
    let script = Script::start(Duration::from_millis(250), move |session, beat| match beat % 4 {
        0 => {
            let answered = beat == 0 || session.await_text(Duration::from_millis(1)).is_ok_and(|text| text == pong);
            if answered { session.send_text(ping) } else { session.close(1008, "no pong") }
        }
        1 => session.send_text(r#"{"type":"trade","note":{"type":"ping"}}"#),
        _ => session.send_text(format!(r#"{{"type":"trade","id":{beat}}}"#)),
    });
    Ok(script?)
}
