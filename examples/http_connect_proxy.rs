//! A client behind an HTTP proxy: a dialer has the proxy connect, and TLS and the WebSocket upgrade go on through the tunnel, so that the
//! proxy sees ciphertext and the venue's name, and no more.
//!
//! ```text
//! cargo run --release --example http_connect_proxy      a simulated venue and a proxy of its own on loopback, for 5 s
//! cargo run --release --example http_connect_proxy -- --proxy 10.0.0.1:3128 wss://api.hyperliquid.xyz/ws      yours, until Ctrl-C
//! ```

mod support {
    pub(crate) mod connect_proxy;
    pub(crate) mod demo;
    pub(crate) mod duration;
    pub(crate) mod lines;
}

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;
use hypersockets::simulator::Venue;
use hypersockets::{Result, TlsOptions};
use support::connect_proxy::{Answer, ConnectProxy, dial_through};
use support::demo::{Run, run, summary};
use support::lines::Lines;

// No doc comment: clap would take it for the description.
#[derive(Args)]
struct Behind {
    /// The proxy; one of its own on loopback unless given
    #[arg(long, value_name = "ADDRESS:PORT")]
    proxy: Option<SocketAddr>,
}

fn main() -> ExitCode {
    run("A client behind an HTTP proxy, which sees ciphertext and the venue's name, and no more", example)
}

fn example(run: &Run<Behind>) -> Result<()> {
    let own = ConnectProxy::start(Answer::Tunnel)?;
    let proxy = run.demo.more.proxy.unwrap_or(own.address);
    let (url, venue) = run.url_or(|| Ok(Venue::hyperliquid(["BTC"]).rate_per_sec(5.0).tls().start()?), Venue::url)?;
    let tls = match venue.as_ref().and_then(Venue::root_certificate_der) {
        Some(root) => TlsOptions::new().add_root_der(root).only_added_roots(),
        None => TlsOptions::new(),
    };
    let client = hypersockets::builder()
        .url(url)
        .tls(tls)
        .dialer(move |request| dial_through(proxy, request))
        .router(Lines, |routing| {
            routing.handler((), |line: String| {
                println!("{}", line.chars().take(120).collect::<String>());
                Ok(())
            })
        })
        .subscription(r#"{"method":"subscribe","subscription":{"type":"l2Book","coin":"BTC"}}"#)
        .shutdown_flag(run.flag())
        .build()?;

    run.wait(&client);
    summary(&client.shutdown()?);
    if proxy == own.address {
        println!("the proxy was asked for {:?}", own.asked_for.try_iter().collect::<Vec<_>>());
    }
    Ok(())
}
