//! The client side of the Autobahn test suite, over the real engine: runs every case of a fuzzing server, echoing what comes,
//! and has it write its report.
//!
//! `cargo run --release --example autobahn_client -- ws://127.0.0.1:9001`, or `wss://…` and the PEM file of the root to trust.
//! `python3 tests/autobahn/run.py` starts a server and does it all.

use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs};

use hypersockets::{
    ClientEvent, Compression, Delivery, Engine, HyperSocketError, MessageHandler, MessageRouter, NeverReconnect,
    Result, RouteOptions, TlsOptions, WsMessage,
};

const AGENT: &str = "hypersockets";
/// The longest case echoes a thousand messages of 128 KiB.
const PATIENCE: Duration = Duration::from_secs(120);
/// Room for the echo of the largest messages while the server does not read.
const MAX_QUEUED_BYTES: usize = 64 << 20;

/// Takes every message as it is, text or binary: one route for all.
struct Whole;

impl MessageRouter for Whole {
    type Message = WsMessage<'static>;
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> Result<WsMessage<'static>> {
        Ok(message.into_owned())
    }

    fn route_key(&self, _: &WsMessage<'static>) {}
}

struct Echo;

impl MessageHandler<WsMessage<'static>> for Echo {
    fn handle(&mut self, _: WsMessage<'static>) -> Result<()> {
        unreachable!("messages come by handle_delivery")
    }

    fn handle_delivery(&mut self, message: WsMessage<'static>, delivery: &mut Delivery<'_>) -> Result<()> {
        delivery.send(message).map(drop)
    }
}

fn main() -> ExitCode {
    match run_all() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_all() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let server = arguments.next().unwrap_or_else(|| "ws://127.0.0.1:9001".to_owned());
    let tls = match arguments.next() {
        Some(root) => TlsOptions::new().add_root_pem(&fs::read(root)?),
        None => TlsOptions::new(),
    };
    let suite = Suite { server: server.trim_end_matches('/').to_owned(), tls, engine: Engine::builder().start()? };

    let (told, count) = crossbeam_channel::unbounded();
    suite.session("/getCaseCount", Told(told))?;
    let count = count.try_recv().map_err(|_| "the server told no number of cases")?;
    let count: usize = count.parse().map_err(|_| format!("the server told {count:?}, which is no number"))?;
    for case in 1..=count {
        suite.session(&format!("/runCase?case={case}&agent={AGENT}"), Echo)?;
    }
    suite.session(&format!("/updateReports?agent={AGENT}"), Echo)?;
    suite.engine.shutdown()?;
    println!("{count} cases run");
    Ok(())
}

struct Suite {
    server: String,
    tls: TlsOptions,
    engine: Engine,
}

impl Suite {
    /// One session, to its end; how the server brings that about is the case's own affair.
    fn session(&self, path: &str, handler: impl MessageHandler<WsMessage<'static>>) -> Result<()> {
        let client = hypersockets::builder()
            .url(format!("{}{path}", self.server))
            .router(Whole, |routing| routing.handler_with((), handler, RouteOptions::new().inline()))
            .tls(self.tls.clone())
            // Every message, so that the suite sees small ones compressed, too; and a second offer, since some cases want one that
            // promises to forget our window.
            .compression(Compression::deflate().threshold_bytes(1))
            .compression(Compression::deflate().threshold_bytes(1).client_no_context_takeover())
            .max_queued_bytes(MAX_QUEUED_BYTES)
            .reconnect_strategy(NeverReconnect)
            .engine(&self.engine)
            .start()?;
        let events = client.events();
        loop {
            match events.next_timeout(PATIENCE) {
                // There was no session: no server, or none that takes the upgrade.
                Some(ClientEvent::Closed { reason }) if client.epoch() == 0 => {
                    return Err(HyperSocketError::ConnectFailed(reason));
                }
                Some(ClientEvent::Closed { .. }) => break,
                Some(_) => {}
                None => return Err(format!("{path} did not end").into()),
            }
        }
        client.shutdown().map(drop)
    }
}

/// Gives a message away.
struct Told(crossbeam_channel::Sender<String>);

impl MessageHandler<WsMessage<'static>> for Told {
    fn handle(&mut self, message: WsMessage<'static>) -> Result<()> {
        self.0.send(message.as_text().unwrap_or_default().to_owned()).map_err(|_| "nobody asked")?;
        Ok(())
    }
}
