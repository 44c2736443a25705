//! Everything at once, on OKX's private feed: a login signed with HMAC-SHA256 at every dial, a header that asks for demo trading, a
//! heartbeat, a route for each channel, and two parser lanes between the socket and the handlers. Subscriptions leave when the venue has
//! accepted the login, in every session; a wrong key is told in the venue's own words, and is not tried again and again.
//!
//! ```text
//! cargo run --release --example advanced_example     the embedded simulator, which verifies the signature and hangs up twice; 5 s
//! OKX_KEY=… OKX_SECRET=… OKX_PASSPHRASE=… cargo run --release --example advanced_example -- wss://wspap.okx.com:8443/ws/v5/private
//! ```

mod support {
    pub(crate) mod demo;
    pub(crate) mod duration;
}

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use hypersockets::simulator::{ApiKey, Venue};
use hypersockets::{
    AuthProvider, ConnectionEvent, Engine, FixedDelay, HeaderProvider, Headers, MessageHandler, MessageRouter, Result,
    Subscription, SubscriptionReply, WsMessage,
};
use serde_json::{Value, json};
use sha2::Sha256;
use support::demo::{Run, run, summary};

/// The private channels, with a route each.
const CHANNELS: [&str; 3] = ["account", "orders", "positions"];

fn main() -> ExitCode {
    run("Everything at once: a signed login, headers, a heartbeat, routes and parser lanes", example)
}

fn example(run: &Run) -> Result<()> {
    let key = Key::from_environment();
    let (url, simulated) = run.url_or(|| Ok(Arc::new(venue(&key)?)), |venue| venue.url())?;
    if let Some(venue) = &simulated {
        let venue = Arc::clone(venue);
        std::thread::spawn(move || hang_up_twice(&venue));
    }

    // Two lanes, so that a long message of one channel is parsed beside those of the others.
    let engine = Engine::builder().name("hs-okx").lanes(["hs-lane-a", "hs-lane-b"].map(named)).start()?;
    let mut builder = hypersockets::builder();
    for channel in CHANNELS {
        builder = builder.subscription(subscription(channel));
    }
    let client = builder
        .url(url)
        .router(Router, |mut routing| {
            for (index, channel) in CHANNELS.into_iter().enumerate() {
                routing = routing.handler(Route::Channel(index), Channel { name: channel, messages: 0 });
            }
            routing.default_handler(|news: News| {
                println!("the venue says: {}", news.whole);
                Ok(())
            })
        })
        .auth(key)
        .headers(DemoTrading)
        // OKX cuts off whoever is silent for 30 s. Its `pong` is no JSON.
        .heartbeat(Duration::from_secs(if simulated.is_some() { 1 } else { 20 }), WsMessage::text("ping"))
        .reconnect_strategy(FixedDelay::new(Duration::from_millis(200), None))
        .engine(&engine)
        .shutdown_flag(run.flag())
        .build()?;
    run.wait(&client);
    summary(&client.shutdown()?);
    Ok(())
}

/// An API key. It has no `Debug`: what cannot be printed cannot be logged.
struct Key {
    key: String,
    secret: String,
    passphrase: String,
}

impl Key {
    fn from_environment() -> Self {
        let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| format!("demo-{name}"));
        Self { key: variable("OKX_KEY"), secret: variable("OKX_SECRET"), passphrase: variable("OKX_PASSPHRASE") }
    }

    /// Base64 of the HMAC-SHA256 of what OKX has clients sign.
    fn sign(&self, timestamp: &str) -> Result<String> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).map_err(|error| error.to_string())?;
        mac.update(format!("{timestamp}GET/users/self/verify").as_bytes());
        Ok(STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl AuthProvider for Key {
    /// Called at every dial, on a thread where it may block: the timestamp is never stale.
    fn get_auth_message(&self) -> Result<Option<WsMessage<'_>>> {
        let timestamp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs().to_string();
        let sign = self.sign(&timestamp)?;
        let login = json!({ "apiKey": self.key, "passphrase": self.passphrase, "timestamp": timestamp, "sign": sign });
        Ok(Some(WsMessage::text(json!({ "op": "login", "args": [login] }).to_string())))
    }

    fn validate_auth_response(&self, response: &WsMessage<'_>) -> Result<bool> {
        let Ok(reply) = serde_json::from_slice::<Value>(response.as_bytes()) else { return Ok(false) };
        match reply["event"].as_str() {
            Some("login") if reply["code"] == "0" => Ok(true),
            Some("login" | "error") => Err(format!("{} {}", reply["code"], reply["msg"]).into()),
            _ => Ok(false),
        }
    }
}

/// Asks for demo trading: no order of ours reaches the market.
struct DemoTrading;

impl HeaderProvider for DemoTrading {
    fn get_headers(&self) -> Headers {
        Headers::from([("x-simulated-trading".to_owned(), "1".to_owned())])
    }
}

/// One message: which channel it belongs to, and all of it.
#[derive(Debug)]
struct News {
    channel: Option<usize>,
    whole: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Route {
    /// By the place in [`CHANNELS`].
    Channel(usize),
    Other,
}

struct Router;

impl MessageRouter for Router {
    type Message = News;
    type RouteKey = Route;

    fn parse(&self, message: WsMessage<'_>) -> Result<News> {
        let whole = message.as_text().ok_or("a binary message")?.to_owned();
        if whole == "pong" {
            return Ok(News { channel: None, whole });
        }
        let parsed: Value = serde_json::from_str(&whole)?;
        // Acknowledgements name a channel too, and are no news of it.
        let channel = parsed["arg"]["channel"].as_str().filter(|_| parsed["data"].is_array());
        let channel = channel.and_then(|channel| CHANNELS.iter().position(|had| *had == channel));
        Ok(News { channel, whole })
    }

    fn route_key(&self, news: &News) -> Route {
        news.channel.map_or(Route::Other, Route::Channel)
    }

    /// The channel's name stands within the first bytes: `{"arg":{"channel":"orders",…`.
    fn shard_key(&self, raw: &WsMessage<'_>) -> u64 {
        let head = &raw.as_bytes()[..raw.as_bytes().len().min(64)];
        let is_named = |channel: &&str| head.windows(channel.len()).any(|part| part == channel.as_bytes());
        CHANNELS.iter().position(is_named).map_or(0, |index| index as u64)
    }

    fn subscription_reply(&self, raw: &WsMessage<'_>) -> Option<SubscriptionReply> {
        let reply: Value = serde_json::from_slice(raw.as_bytes()).ok()?;
        match reply["event"].as_str()? {
            "subscribe" => Some(SubscriptionReply::AcceptedNamed(reply["arg"]["channel"].as_str()?.to_owned())),
            "error" => Some(SubscriptionReply::Rejected(reply["msg"].as_str()?.to_owned())),
            _ => None,
        }
    }
}

/// Handles one channel, on a thread of its own.
struct Channel {
    name: &'static str,
    messages: u64,
}

impl MessageHandler<News> for Channel {
    fn handle(&mut self, news: News) -> Result<()> {
        if self.messages.is_multiple_of(10) {
            println!("{}: {}", self.name, news.whole);
        }
        self.messages += 1;
        Ok(())
    }

    fn on_event(&mut self, event: &ConnectionEvent) {
        match event {
            ConnectionEvent::Live { epoch } => println!("{}: live, epoch {epoch}", self.name),
            ConnectionEvent::Lost { reason, .. } => println!("{}: lost: {reason}", self.name),
            _ => {}
        }
    }

    fn on_stop(&mut self) {
        println!("{}: {} messages", self.name, self.messages);
    }
}

fn subscription(channel: &str) -> Subscription {
    let arg = if channel == "account" {
        json!({ "channel": channel })
    } else {
        json!({ "channel": channel, "instType": "ANY" })
    };
    let request = |op: &str| json!({ "op": op, "args": [arg] }).to_string();
    Subscription::new(channel, request("subscribe")).unsubscribe(request("unsubscribe"))
}

fn named(name: &str) -> hypersockets::ThreadOptions {
    hypersockets::ThreadOptions::new().name(name)
}

/// The simulated OKX, which knows the same key.
fn venue(key: &Key) -> Result<Venue> {
    Ok(Venue::okx(ApiKey::new(&key.key, &key.secret, &key.passphrase)).rate_per_sec(30.0).start()?)
}

/// Ends the first two sessions after a second each.
fn hang_up_twice(venue: &Venue) {
    for _ in 0..2 {
        let Ok(session) = venue.next_session(Duration::from_secs(5)) else { return };
        std::thread::sleep(Duration::from_secs(1));
        session.close(1012, "restarting");
    }
}
