//! The opening handshake (RFC 6455, section 4.1): our request, and the judgement of the venue's answer. Invariant: no
//! header's value, ours or theirs, meets an error or a log.

use std::fmt;
use std::time::Duration;

use super::deflate::{Agreed, Compression};
use super::receive_buffer::ReceiveBuffer;
use super::target::Target;
use super::websocket::{derive_accept_key, generate_key};
use crate::error::{DisconnectReason, HyperSocketError};

/// One opening handshake; made anew for each dial.
pub(crate) struct Upgrade {
    request: Vec<u8>,
    /// The only Sec-WebSocket-Accept that answers our key.
    accept: String,
    /// What we asked for, in order of preference.
    subprotocols: Vec<String>,
    /// What was offered, in order of preference.
    compression: Vec<Compression>,
    /// Bytes of the answer in which the end of its head does not begin.
    searched: usize,
}

/// What the venue agreed to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) subprotocol: Option<String>,
    pub(crate) compression: Option<Agreed>,
}

impl Upgrade {
    /// Writes the request, `headers` behind ours in their order, or says which of them cannot be sent.
    pub(crate) fn new(
        target: &Target,
        headers: &[(String, String)],
        subprotocols: &[String],
        compression: &[Compression],
    ) -> Result<Self, HyperSocketError> {
        let key = generate_key();
        let mut request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n",
            target.path_and_query, target.host_header
        );
        if !subprotocols.is_empty() {
            judge_subprotocols(subprotocols)?;
            request += &format!("Sec-WebSocket-Protocol: {}\r\n", subprotocols.join(", "));
        }
        if !compression.is_empty() {
            let offers: Vec<_> = compression.iter().map(Compression::offer).collect();
            request += &format!("Sec-WebSocket-Extensions: {}\r\n", offers.join(", "));
        }
        for (name, value) in headers {
            judge_header(name, value)?;
            for part in [name, ": ", value, "\r\n"] {
                request += part;
            }
        }
        request += "\r\n";
        Ok(Self {
            request: request.into_bytes(),
            accept: derive_accept_key(key.as_bytes()),
            subprotocols: subprotocols.to_vec(),
            compression: compression.to_vec(),
            searched: 0,
        })
    }

    pub(crate) fn request(&self) -> &[u8] {
        &self.request
    }

    /// Judges the answer once its head is complete, and consumes exactly that: what is left is the first frames.
    pub(crate) fn response(&mut self, input: &mut ReceiveBuffer) -> Result<Option<Accepted>, DisconnectReason> {
        let data = input.data();
        if !data.iter().zip(b"HTTP/1.").all(|(sent, due)| sent == due) {
            return invalid("it is no HTTP/1.1 response");
        }
        let searchable = &data[..data.len().min(MAX_HEAD_BYTES)];
        let unsearched = searchable.get(self.searched..).unwrap_or_default();
        let Some(found) = unsearched.windows(4).position(|window| window == b"\r\n\r\n") else {
            if data.len() >= MAX_HEAD_BYTES {
                return invalid("its head is longer than 16 KiB");
            }
            // The end may have begun in the last three bytes.
            self.searched = searchable.len().saturating_sub(3);
            return Ok(None);
        };
        let end = self.searched + found + 4;
        let accepted = self.judge(&data[..end])?;
        input.consume(end);
        Ok(Some(accepted))
    }

    fn judge(&self, head: &[u8]) -> Result<Accepted, DisconnectReason> {
        let mut room = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut room);
        let parsed = response.parse(head);
        let (Ok(httparse::Status::Complete(len)), Some(status), Some(version)) =
            (parsed, response.code, response.version)
        else {
            return invalid("its head cannot be parsed");
        };
        if len != head.len() {
            return invalid("its head has a line that does not end in CRLF");
        }
        let headers = response.headers;
        if status != 101 {
            let seconds = values(headers, "retry-after").find_map(|value| value.parse().ok());
            let retry_after = seconds.map(Duration::from_secs);
            return Err(DisconnectReason::UpgradeRejected { status, retry_after });
        }
        if version != 1 {
            return invalid("its version is not HTTP/1.1");
        }
        let mut upgrades = tokens(headers, "upgrade").peekable();
        if upgrades.peek().is_none() || !upgrades.all(|token| is(token, "websocket")) {
            return invalid("its Upgrade header is not \"websocket\"");
        }
        if !tokens(headers, "connection").any(|token| is(token, "upgrade")) {
            return invalid("its Connection header lacks \"upgrade\"");
        }
        if !values(headers, "sec-websocket-accept").eq([self.accept.as_str()]) {
            return invalid("it has not exactly one Sec-WebSocket-Accept that answers our key");
        }
        let compression = self.judge_extensions(headers)?;
        Ok(Accepted { subprotocol: self.judge_subprotocol(headers)?, compression })
    }

    fn judge_extensions(&self, headers: &[httparse::Header<'_>]) -> Result<Option<Agreed>, DisconnectReason> {
        let answers: Vec<_> = values(headers, "sec-websocket-extensions").collect();
        if answers.is_empty() {
            return Ok(None);
        }
        // It does not say which offer it accepts: the first that it keeps to.
        let answer = answers.join(",");
        let mut judged = self.compression.iter().map(|offered| offered.judge(&answer));
        let first = judged.next().unwrap_or(Err("it accepts an extension that was not asked for"));
        first.or_else(|broken| judged.find_map(Result::ok).ok_or(broken)).map(Some).or_else(invalid)
    }

    fn judge_subprotocol(&self, headers: &[httparse::Header<'_>]) -> Result<Option<String>, DisconnectReason> {
        let mut chosen = values(headers, "sec-websocket-protocol");
        let Some(first) = chosen.next() else {
            return Ok(None);
        };
        match self.subprotocols.iter().find(|asked| *asked == first) {
            Some(asked) if chosen.next().is_none() => Ok(Some(asked.clone())),
            _ => invalid("its subprotocol is not one of those that were asked for"),
        }
    }
}

/// The request and the key stay out: its headers carry credentials.
impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade").field("searched", &self.searched).finish_non_exhaustive()
    }
}

fn judge_header(name: &str, value: &str) -> Result<(), HyperSocketError> {
    let fault = |what: String| Err(HyperSocketError::InvalidHeader(what));
    if !is_token(name) {
        return fault("a name is empty or has a character that no header name has".into());
    }
    let lower = name.to_ascii_lowercase();
    if lower == "sec-websocket-protocol" {
        return fault(format!("{name} is set by the client's subprotocol"));
    }
    if lower.starts_with("sec-websocket-") || OURS.contains(&lower.as_str()) {
        return fault(format!("{name} is set by the handshake itself"));
    }
    if FRAMING.contains(&lower.as_str()) {
        return fault(format!("{name} announces a body, which the upgrade request has not"));
    }
    if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return fault(format!("the value of {name} contains a control character"));
    }
    Ok(())
}

/// Whether these names can be offered: the builder asks early, and no request is made without it.
pub(crate) fn judge_subprotocols(subprotocols: &[String]) -> Result<(), HyperSocketError> {
    for (index, subprotocol) in subprotocols.iter().enumerate() {
        if !is_token(subprotocol) || subprotocols[..index].contains(subprotocol) {
            let what = "a subprotocol is no token, or is given twice (RFC 6455, section 4.1)";
            return Err(HyperSocketError::InvalidConfig(what.into()));
        }
    }
    Ok(())
}

/// A token of RFC 9110, section 5.6.2.
fn is_token(name: &str) -> bool {
    let lawful = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(lawful)
}

/// The values of every header `name`; one that is not ASCII can match nothing of ours, so it is shown as empty.
fn values<'a>(headers: &'a [httparse::Header<'a>], name: &'static str) -> impl Iterator<Item = &'a str> {
    headers
        .iter()
        .filter(move |header| is(header.name, name))
        .map(|header| std::str::from_utf8(header.value).unwrap_or_default().trim())
}

/// The elements of the comma-separated lists in every header `name`.
fn tokens<'a>(headers: &'a [httparse::Header<'a>], name: &'static str) -> impl Iterator<Item = &'a str> {
    values(headers, name).flat_map(|value| value.split(',')).map(str::trim)
}

fn is(token: &str, name: &str) -> bool {
    token.eq_ignore_ascii_case(name)
}

fn invalid<T>(what: &str) -> Result<T, DisconnectReason> {
    Err(DisconnectReason::UpgradeInvalid(what.to_owned()))
}

/// Set by the handshake, besides Sec-WebSocket-*.
const OURS: [&str; 3] = ["host", "upgrade", "connection"];
/// They would make the venue wait for a body, or read our first frames as one.
const FRAMING: [&str; 2] = ["content-length", "transfer-encoding"];
/// Venues behind large CDNs send 1 to 2 KiB; an endless head must end somewhere.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Large CDNs send about 30.
const MAX_HEADERS: usize = 128;

#[cfg(test)]
#[path = "tests_upgrade.rs"]
mod tests;
#[cfg(any(test, fuzzing))]
#[path = "tests_answers.rs"]
pub(super) mod tests_answers;
