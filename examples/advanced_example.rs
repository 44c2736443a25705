//! Everything at once, on OKX's private feed: a login signed with HMAC-SHA256 at every dial, a header that asks for demo trading, a
//! heartbeat, a route for each channel, and two parser lanes between the socket and the handlers. Subscriptions leave when the venue has
//! accepted the login, in every session; a wrong key ends the client, with the venue's own words.
//!
//! ```text
//! cargo run --release --example advanced_example                    the embedded simulator, which verifies the signature and hangs up twice; 5 s
//! cargo run --release --example advanced_example -- --wrong-key     the same, and how it refuses a login
//! OKX_KEY=… OKX_SECRET=… OKX_PASSPHRASE=… cargo run --release --example advanced_example -- wss://wspap.okx.com:8443/ws/v5/private
//! ```

mod support {
    pub(crate) mod demo;
    pub(crate) mod duration;
}

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use hmac::{Hmac, KeyInit, Mac};
use hypersockets::simulator::{ApiKey, Venue};
use hypersockets::{
    AuthProvider, Engine, FixedDelay, HeaderProvider, Headers, MessageRouter, Result, Subscription, SubscriptionReply,
    ThreadOptions, WsMessage,
};
use serde_json::{Value, json};
use sha2::Sha256;
use support::demo::{Run, run, summary};

/// The private channels, with a route each.
const CHANNELS: [&str; 3] = ["account", "orders", "positions"];

// No doc comment: clap would take it for the description.
#[derive(Args)]
struct Login {
    /// Sign with a secret that the venue does not know, to see how it refuses
    #[arg(long)]
    wrong_key: bool,
}

fn main() -> ExitCode {
    run("OKX's private feed: a signed login, headers, a heartbeat, routes and parser lanes at once", example)
}

fn example(run: &Run<Login>) -> Result<()> {
    let mut key = Key::from_environment();
    let (url, simulated) = run.url_or(|| venue(&key), |venue| venue.url())?;
    if run.demo.more.wrong_key {
        key.secret = "not the one".to_owned();
    }
    // Two lanes, so that a long message of one channel is parsed beside those of the others.
    let engine = Engine::builder().name("hs-okx").lanes([ThreadOptions::new(), ThreadOptions::new()]).start()?;
    let client = CHANNELS
        .into_iter()
        .fold(hypersockets::builder(), |builder, channel| builder.subscription(subscription(channel)))
        .url(url)
        .router(Router, |routing| {
            let routing = CHANNELS.into_iter().fold(routing, |routing, channel| {
                let mut messages = 0_u64;
                routing.handler(Some(channel), move |news: News| {
                    if messages.is_multiple_of(10) {
                        println!("{channel}, message {messages}: {}", news.text);
                    }
                    messages += 1;
                    Ok(())
                })
            });
            routing.default_handler(|news: News| {
                println!("the venue says: {}", news.text);
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
        let word = |name: &str| reply[name].as_str().unwrap_or_default();
        match word("event") {
            "login" if word("code") == "0" => Ok(true),
            "login" | "error" => Err(format!("{} {}", word("code"), word("msg")).into()),
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

/// One message: its text, and the channel that it is news of.
#[derive(Debug)]
struct News {
    channel: Option<&'static str>,
    text: String,
}

struct Router;

impl MessageRouter for Router {
    type Message = News;
    type RouteKey = Option<&'static str>;

    fn parse(&self, message: WsMessage<'_>) -> Result<News> {
        let text = message.as_text().ok_or("a binary message")?.to_owned();
        if text == "pong" {
            return Ok(News { channel: None, text });
        }
        let parsed: Value = serde_json::from_str(&text)?;
        // Acknowledgements name a channel too, and are no news of it.
        let channel = parsed["arg"]["channel"].as_str().filter(|_| parsed["data"].is_array());
        let channel = CHANNELS.into_iter().find(|had| Some(*had) == channel);
        Ok(News { channel, text })
    }

    fn route_key(&self, news: &News) -> Option<&'static str> {
        news.channel
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

fn subscription(channel: &'static str) -> Subscription {
    let arg = match channel {
        "account" => json!({ "channel": channel }),
        _ => json!({ "channel": channel, "instType": "ANY" }),
    };
    Subscription::new(channel, json!({ "op": "subscribe", "args": [arg] }).to_string())
}

/// The simulated OKX, which knows the same key, and ends the first two sessions after a second each.
fn venue(key: &Key) -> Result<Arc<Venue>> {
    let venue = Arc::new(Venue::okx(ApiKey::new(&key.key, &key.secret, &key.passphrase)).rate_per_sec(30.0).start()?);
    let ending = Arc::clone(&venue);
    thread::spawn(move || {
        for _ in 0..2 {
            let Ok(session) = ending.next_session(Duration::from_secs(5)) else { return };
            thread::sleep(Duration::from_secs(1));
            session.close(1012, "restarting");
        }
    });
    Ok(venue)
}
