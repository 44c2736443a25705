//! The HTTP upgrade, and the ways to get it wrong. Invariant: a plan is used up by one connection, whether or not the
//! client gets as far as asking.

use std::time::Duration;

use tungstenite::handshake::derive_accept_key;

use super::upgrade_fault::UpgradeFault;

/// A request head beyond this is refused; ten times what a client with cookies and tokens sends.
const HEAD_LIMIT_BYTES: usize = 64 * 1024;
/// More headers than this are refused.
const HEADER_LIMIT: usize = 128;

/// How the venue answers the upgrade request of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpgradePlan {
    /// Answers as it should.
    Accept,
    /// Answers as it should, so long after the request.
    Delay(Duration),
    /// Answers with another status than 101, and a FIN.
    Reject {
        /// The HTTP status.
        status: u16,
        /// Further headers, such as `Retry-After`.
        headers: Vec<(String, String)>,
    },
    /// Reads the request and never answers.
    Stall,
    /// Answers with these bytes, and a FIN.
    Raw(Vec<u8>),
    /// Goes wrong in this way.
    Fault(UpgradeFault),
}

impl From<UpgradeFault> for UpgradePlan {
    fn from(fault: UpgradeFault) -> Self {
        Self::Fault(fault)
    }
}

/// What a client asked for.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
}

/// What the bytes of a request head amount to so far.
pub(super) enum Parsed {
    /// More bytes are needed.
    Partial,
    /// A whole head, of so many bytes.
    Whole(Request, usize),
    /// No HTTP, or too much of it.
    Bad(String),
}

pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; HEADER_LIMIT];
    let mut head = httparse::Request::new(&mut headers);
    match head.parse(bytes) {
        Ok(httparse::Status::Partial) if bytes.len() > HEAD_LIMIT_BYTES => {
            Parsed::Bad(format!("a request head above {HEAD_LIMIT_BYTES} bytes"))
        }
        Ok(httparse::Status::Partial) => Parsed::Partial,
        Ok(httparse::Status::Complete(_)) if head.method != Some("GET") => {
            Parsed::Bad(format!("the method {:?}", head.method))
        }
        Ok(httparse::Status::Complete(length)) => {
            let headers = head.headers.iter().map(|header| {
                let value = String::from_utf8_lossy(header.value).into_owned();
                (header.name.to_owned(), value)
            });
            let request = Request { headers: headers.collect(), path: head.path.unwrap_or_default().to_owned() };
            Parsed::Whole(request, length)
        }
        Err(e) => Parsed::Bad(format!("a malformed request: {e}")),
    }
}

impl Request {
    /// The right `Sec-WebSocket-Accept`, or what the request lacks for one.
    pub(super) fn accept_key(&self) -> Result<String, &'static str> {
        if !self.lists("upgrade", "websocket") {
            return Err("no `Upgrade: websocket`");
        }
        if !self.lists("connection", "upgrade") {
            return Err("no `Connection: Upgrade`");
        }
        if !self.lists("sec-websocket-version", "13") {
            return Err("no `Sec-WebSocket-Version: 13`");
        }
        let Some(key) = self.header("sec-websocket-key") else {
            return Err("no `Sec-WebSocket-Key`");
        };
        Ok(derive_accept_key(key.as_bytes()))
    }

    /// The extensions that it offers, in order of preference.
    pub(super) fn offers(&self) -> Option<String> {
        let named = self.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-extensions"));
        let offers: Vec<_> = named.map(|(_, value)| value.as_str()).collect();
        (!offers.is_empty()).then(|| offers.join(", "))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(had, _)| had.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn lists(&self, name: &str, token: &str) -> bool {
        self.header(name).is_some_and(|value| value.split(',').any(|listed| listed.trim().eq_ignore_ascii_case(token)))
    }
}

/// The 101 response with this `Sec-WebSocket-Accept`, and `Sec-WebSocket-Extensions` if any.
pub(super) fn acceptance(accept_key: &str, extension: Option<&str>) -> Vec<u8> {
    let extension = extension.map_or(String::new(), |value| format!("Sec-WebSocket-Extensions: {value}\r\n"));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept_key}\r\n{extension}\r\n"
    )
    .into_bytes()
}

/// A response that ends the connection.
pub(super) fn rejection(status: u16, headers: &[(String, String)], body: &str) -> Vec<u8> {
    let reason = match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Rejected",
    };
    let mut response = format!("HTTP/1.1 {status} {reason}\r\nConnection: close\r\n");
    for (name, value) in headers {
        response.push_str(&format!("{name}: {value}\r\n"));
    }
    response.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    response.into_bytes()
}
