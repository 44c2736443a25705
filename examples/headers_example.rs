//! Headers for the upgrade request, made anew at every dial: a timestamp, or a signature over one, is never stale, also after a
//! reconnect. The provider may block (it runs beside the loop), and none of its values is ever logged.
//!
//! ```text
//! cargo run --release --example headers_example                  a simulated venue that shows what it was sent, and hangs up twice; 5 s
//! API_KEY=… cargo run --release --example headers_example -- URL any venue, until Ctrl-C
//! ```

mod support {
    pub(crate) mod demo;
    pub(crate) mod duration;
    pub(crate) mod lines;
    pub(crate) mod script;
}

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use hypersockets::{FixedDelay, HeaderProvider, Headers, Result};
use support::demo::{Run, run, summary};
use support::lines::Lines;
use support::script::Script;

/// An API key, and the time of this dial.
struct KeyAndTime {
    key: String,
}

impl HeaderProvider for KeyAndTime {
    fn get_headers(&self) -> Headers {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Headers::from([
            ("X-Api-Key".to_owned(), self.key.clone()),
            ("X-Timestamp".to_owned(), now.as_millis().to_string()),
        ])
    }
}

fn main() -> ExitCode {
    run("Headers for the upgrade request, made anew at every dial", example)
}

fn example(run: &Run) -> Result<()> {
    let (url, _venue) = run.url_or(venue, Script::url)?;
    let key = std::env::var("API_KEY").unwrap_or_else(|_| "demo-key".to_owned());

    let client = hypersockets::builder()
        .url(url)
        .router(Lines, |routing| {
            routing.handler((), |line: String| {
                println!("{line}");
                Ok(())
            })
        })
        .headers(KeyAndTime { key })
        .reconnect_strategy(FixedDelay::new(Duration::from_millis(100), None))
        .shutdown_flag(run.flag())
        .build()?;
    run.wait(&client);
    summary(&client.shutdown()?);
    Ok(())
}

/// A venue that says which headers of ours it was sent, and hangs up on the first two sessions.
fn venue() -> Result<Script> {
    let script = Script::start(Duration::from_millis(250), |session, beat| match beat {
        0 => {
            for (name, value) in session.headers().iter().filter(|(name, _)| name.to_lowercase().starts_with("x-")) {
                session.send_text(format!("session {}: {name}: {value}", session.number()));
            }
        }
        4 if session.number() < 3 => session.close(1012, "restarting"),
        _ => {}
    });
    Ok(script?)
}
