//! OKX's private feed: a login signed with HMAC-SHA256, then account, orders and positions. Source: the venue's own documentation
//! (okx.com, API v5, "WebSocket: Login" and "Private Channel").

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::Value;

use super::clock::Stamp;
use super::due::Due;
use super::frames::Opcode;
use super::outbox::Outbox;
use super::pace;
use super::tally::Counted;

/// Who has been silent for this long is cut off.
const IDLE: Duration = Duration::from_secs(30);
/// A login's timestamp may be this far from the venue's clock.
const TOLERANCE_SECS: u64 = 30;
/// The channels of the private feed that are imitated.
const CHANNELS: [&str; 3] = ["account", "orders", "positions"];

/// An account's key: what a login names, is signed with, and has to know.
#[derive(Clone)]
pub struct ApiKey {
    key: String,
    secret: String,
    passphrase: String,
}

impl ApiKey {
    /// A key by its public name, the secret that signs, and the passphrase.
    pub fn new(key: impl Into<String>, secret: impl Into<String>, passphrase: impl Into<String>) -> Self {
        ApiKey { key: key.into(), secret: secret.into(), passphrase: passphrase.into() }
    }
}

/// The secret and the passphrase are not shown.
impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("key", &self.key).finish_non_exhaustive()
    }
}

/// What the sessions of the venue have in common.
pub(super) struct Okx {
    key: ApiKey,
    /// From one message to the next.
    interval: Duration,
}

impl Okx {
    pub(super) fn new(key: ApiKey, rate_per_sec: f64) -> Self {
        Okx { key, interval: pace::time_of(1.0, rate_per_sec) }
    }

    /// The code and the words with which a login is refused.
    fn refuses(&self, login: &Value, now: Stamp) -> Option<(u32, &'static str)> {
        let field = |name: &str| login[name].as_str().unwrap_or_default();
        let timestamp = field("timestamp");
        let signed = format!("{timestamp}GET/users/self/verify");
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.key.secret.as_bytes());
        let is_signed = STANDARD
            .decode(field("sign"))
            .is_ok_and(|signature| hmac::verify(&key, signed.as_bytes(), &signature).is_ok());
        let off_by = timestamp.parse::<u64>().map(|at| at.abs_diff(now.unix_ns / 1_000_000_000));
        match off_by {
            Err(_) => Some((60004, "Invalid timestamp")),
            Ok(secs) if secs > TOLERANCE_SECS => Some((60006, "Timestamp request expired")),
            _ if field("apiKey") != self.key.key => Some((60005, "Invalid apiKey")),
            _ if field("passphrase") != self.key.passphrase => Some((60024, "Wrong passphrase")),
            _ if !is_signed => Some((60007, "Invalid sign")),
            _ => None,
        }
    }
}

/// One session: who it is, and what it subscribed to.
pub(super) struct OkxFeed {
    venue: Arc<Okx>,
    connection: String,
    is_logged_in: bool,
    /// As they were asked for.
    args: Vec<Value>,
    due: Option<Instant>,
    idle_at: Option<Instant>,
    sent: u64,
}

impl OkxFeed {
    pub(super) fn new(venue: Arc<Okx>, number: u64) -> Self {
        let connection = format!("{number:08x}");
        OkxFeed { venue, connection, is_logged_in: false, args: Vec::new(), due: None, idle_at: None, sent: 0 }
    }

    pub(super) fn upgraded(&mut self, now: Stamp) {
        self.idle_at = Some(now.at + IDLE);
    }

    pub(super) fn heard(&mut self, text: Option<&str>, now: Stamp, outbox: &mut Outbox) {
        self.idle_at = Some(now.at + IDLE);
        for reply in self.answers(text.unwrap_or_default(), now) {
            outbox.stage(Opcode::Text, reply.as_bytes(), Counted::Message);
        }
    }

    fn answers(&mut self, text: &str, now: Stamp) -> Vec<String> {
        if text == "ping" {
            return vec!["pong".to_owned()];
        }
        let request = serde_json::from_str::<Value>(text).unwrap_or_default();
        let args: Vec<_> = request["args"].as_array().into_iter().flatten().cloned().collect();
        match request["op"].as_str() {
            Some("login") => vec![self.login(args.first().unwrap_or(&Value::Null), now)],
            Some(_) if !self.is_logged_in => vec![self.error(60011, "Please log in")],
            Some(op @ ("subscribe" | "unsubscribe")) => {
                args.into_iter().map(|arg| self.change(op == "subscribe", arg, now)).collect()
            }
            _ => vec![self.error(60012, &format!("Invalid request: {text}"))],
        }
    }

    fn login(&mut self, login: &Value, now: Stamp) -> String {
        match self.venue.refuses(login, now) {
            Some((code, words)) => self.error(code, words),
            None => {
                self.is_logged_in = true;
                format!(r#"{{"event":"login","code":"0","msg":"","connId":"{}"}}"#, self.connection)
            }
        }
    }

    fn change(&mut self, subscribe: bool, arg: Value, now: Stamp) -> String {
        let event = if subscribe { "subscribe" } else { "unsubscribe" };
        if !CHANNELS.iter().any(|channel| arg["channel"] == *channel) {
            return self.error(60018, &format!("Wrong URL or {arg} doesn't exist."));
        }
        let answer = format!(r#"{{"event":"{event}","arg":{arg},"connId":"{}"}}"#, self.connection);
        self.args.retain(|had| *had != arg);
        if subscribe {
            self.args.push(arg);
            self.due.get_or_insert(now.at);
        }
        answer
    }

    fn error(&self, code: u32, words: &str) -> String {
        let words = Value::from(words);
        format!(r#"{{"event":"error","code":"{code}","msg":{words},"connId":"{}"}}"#, self.connection)
    }

    /// Stages what is due, as far as there is room: the channels in turn.
    pub(super) fn emit(&mut self, now: Stamp, outbox: &mut Outbox) -> Due {
        let Some(idle_at) = self.idle_at else { return Due::Never };
        if idle_at <= now.at {
            return Due::Over;
        }
        let Some(mut due) = self.due.filter(|_| !self.args.is_empty()) else { return Due::At(idle_at) };
        due = due.max(pace::oldest_due(now.at));
        while due <= now.at {
            if !outbox.has_room() {
                self.due = Some(due);
                return Due::WhenRoom;
            }
            outbox.stage(Opcode::Text, self.news(now).as_bytes(), Counted::Message);
            due += self.venue.interval;
        }
        self.due = Some(due);
        Due::At(due.min(idle_at))
    }

    fn news(&mut self, now: Stamp) -> String {
        let arg = &self.args[self.sent as usize % self.args.len()];
        self.sent += 1;
        let (count, time) = (self.sent, now.unix_ms());
        let data = match arg["channel"].as_str() {
            Some("account") => format!(
                r#"{{"uTime":"{time}","totalEq":"{}.50","details":[{{"ccy":"USDT","eq":"{}.50","availBal":"1000.00"}}]}}"#,
                10_000 + count % 100,
                10_000 + count % 100
            ),
            Some("positions") => format!(
                r#"{{"instId":"BTC-USDT-SWAP","instType":"SWAP","posSide":"net","pos":"{}","avgPx":"61000.1","upl":"0.5","uTime":"{time}"}}"#,
                count % 7
            ),
            _ => format!(
                r#"{{"instId":"BTC-USDT-SWAP","instType":"SWAP","ordId":"{}","side":"buy","px":"61000.1","sz":"1","accFillSz":"{}","state":"{}","uTime":"{time}"}}"#,
                700_000 + count / 6,
                count / 3 % 2,
                if count / 3 % 2 == 0 { "live" } else { "filled" }
            ),
        };
        format!(r#"{{"arg":{arg},"data":[{data}]}}"#)
    }
}
