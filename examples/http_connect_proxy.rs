//! A client behind an HTTP proxy: a dialer has the proxy connect, and TLS and the WebSocket upgrade go on through the tunnel,
//! so that the proxy sees ciphertext and the venue's name, and no more.
//!
//! `cargo run --release --example http_connect_proxy` runs a simulated venue and a proxy of its own on loopback, for five
//! seconds; `… --example http_connect_proxy 10.0.0.1:3128 wss://api.hyperliquid.xyz/ws` uses yours until Ctrl-C.

mod support {
    pub(crate) mod connect_proxy;
}

use std::net::SocketAddr;
use std::time::Duration;

use hypersockets::simulator::Venue;
use hypersockets::{CtrlC, DisconnectReason, HyperSocketError, MessageRouter, Result, TlsOptions, WsMessage};
use support::connect_proxy::{Answer, ConnectProxy, dial_through};

/// Takes every text message as it is: one route for all.
struct Lines;

impl MessageRouter for Lines {
    type Message = String;
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> Result<String> {
        Ok(message.as_text().ok_or("a binary message")?.to_owned())
    }

    fn route_key(&self, _line: &String) {}
}

/// Where the proxy and the venue are, and what of them is ours.
struct Route {
    proxy: SocketAddr,
    url: String,
    tls: TlsOptions,
    on_loopback: Option<(Venue, ConnectProxy)>,
}

fn main() -> Result<()> {
    let ctrl_c = CtrlC::install()?;
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let route = match arguments.as_slice() {
        [] => on_loopback()?,
        [proxy, url] => {
            let proxy = proxy.parse().map_err(|_| format!("{proxy:?} is no address with a port"))?;
            Route { proxy, url: url.clone(), tls: TlsOptions::new(), on_loopback: None }
        }
        _ => return Err("usage: http_connect_proxy [PROXY_ADDRESS:PORT URL]".into()),
    };

    let proxy = route.proxy;
    let client = hypersockets::builder()
        .url(route.url)
        .tls(route.tls)
        .dialer(move |request| dial_through(proxy, request))
        .router(Lines, |routing| {
            routing.handler((), |line: String| {
                println!("{}", line.chars().take(120).collect::<String>());
                Ok(())
            })
        })
        .subscription(r#"{"method":"subscribe","subscription":{"type":"l2Book","coin":"BTC"}}"#)
        .shutdown_flag(ctrl_c.flag())
        .build();
    let client = match client {
        // Ctrl-C before the venue had answered: nothing has come, so there is nothing to report.
        Err(HyperSocketError::Closed(DisconnectReason::Shutdown)) => return Ok(()),
        client => client?,
    };

    match &route.on_loopback {
        Some(_) => drop(ctrl_c.wait_timeout(Duration::from_secs(5))),
        None => ctrl_c.wait(),
    }
    let metrics = client.shutdown()?.metrics;
    println!("received {} messages, handled {}", metrics.messages_received, metrics.messages_handled);
    if let Some((_, proxy)) = &route.on_loopback {
        println!("the proxy was asked for {:?}", proxy.asked_for.try_iter().collect::<Vec<_>>());
    }
    Ok(())
}

/// A venue that speaks TLS, and a proxy before it.
fn on_loopback() -> Result<Route> {
    let venue = Venue::hyperliquid(["BTC"]).rate_per_sec(5.0).tls().start()?;
    let proxy = ConnectProxy::start(Answer::Tunnel)?;
    let root = venue.root_certificate_der().ok_or("the venue speaks TLS")?;
    Ok(Route {
        proxy: proxy.address,
        url: venue.url(),
        tls: TlsOptions::new().add_root_der(root).only_added_roots(),
        on_loopback: Some((venue, proxy)),
    })
}
