//! A WebSocket URL taken apart (RFC 6455, section 3). Invariant: what it holds can stand in a request line or a Host
//! header as it is, and neither it nor an error about it shows what may be a secret.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Where to dial, and what to ask for there.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) tls: bool,
    /// A name in lower case, or an address; IPv6 without its brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The host, IPv6 in brackets, with the port where it is not the scheme's own.
    pub(crate) host_header: String,
    /// Begins with a slash.
    pub(crate) path_and_query: String,
}

impl Target {
    /// Takes `url` apart, or says what is wrong with it without repeating it.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        if url.bytes().any(|byte| byte <= b' ' || byte == 0x7F) {
            return Err("it contains a space or control character".into());
        }
        let (scheme, rest) = url.split_once("://").ok_or("it must begin with ws:// or wss://")?;
        let tls = match scheme {
            _ if scheme.eq_ignore_ascii_case("wss") => true,
            _ if scheme.eq_ignore_ascii_case("ws") => false,
            _ => return Err("its scheme must be ws or wss".into()),
        };
        let rest = rest.split_once('#').map_or(rest, |(before_fragment, _)| before_fragment);
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("it contains user info (name:password@); use a header instead".into());
        }
        if !path.is_ascii() {
            return Err("its path or query is not ASCII; percent-encode it".into());
        }
        let (host, port) = split_port(authority)?;
        let bracketed = judge_host(host)?;
        let own_port = if tls { 443 } else { 80 };
        let port = match port {
            None | Some("") => own_port,
            Some(digits) => parse_port(digits)?,
        };
        Ok(Self {
            tls,
            port,
            host_header: if port == own_port { bracketed.clone() } else { format!("{bracketed}:{port}") },
            host: bracketed.trim_matches(['[', ']']).to_owned(),
            path_and_query: if path.starts_with('/') { path.into() } else { format!("/{path}") },
        })
    }
}

impl Target {
    /// Whether what is said there can be read on the way: no TLS, and another host than this one.
    pub(crate) fn is_exposed(&self) -> bool {
        let is_local = match self.host.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host == "localhost" || self.host.ends_with(".localhost"),
        };
        !self.tls && !is_local
    }
}

/// Scheme, host and port. Path and query stay out: venues put listen keys and tokens into both.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "wss" } else { "ws" };
        let hidden = if self.path_and_query == "/" { "" } else { "…" };
        write!(f, "{scheme}://{}/{hidden}", self.host_header)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

/// Splits the port off; the brackets stay at an IPv6 address.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), String> {
    if authority.starts_with('[') {
        let end = authority.find(']').ok_or("its IPv6 address lacks the closing bracket")?;
        let (host, rest) = authority.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err("something follows its IPv6 address that is no port".into()),
        };
    }
    match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => Err("its host contains colons; an IPv6 address needs brackets".into()),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

/// The host as a Host header wants it: IPv6 in brackets, names in lower case.
fn judge_host(host: &str) -> Result<String, String> {
    if host.is_empty() {
        return Err("its host is empty".into());
    }
    if !host.is_ascii() {
        return Err("its host is not ASCII; write it in punycode (xn--…)".into());
    }
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return match address.parse::<Ipv6Addr>() {
            Ok(address) => Ok(format!("[{address}]")),
            Err(_) => Err("what is in brackets is no IPv6 address".into()),
        };
    }
    let lawful = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if host.bytes().all(lawful) {
        Ok(host.to_ascii_lowercase())
    } else {
        Err("its host contains a character that no host name has".into())
    }
}

fn parse_port(digits: &str) -> Result<u16, String> {
    match digits.parse() {
        Ok(port) if port != 0 && !digits.starts_with('+') => Ok(port),
        _ => Err("its port is not a number from 1 to 65535".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> (bool, String, u16, String, String) {
        let target = Target::parse(url).unwrap();
        (target.tls, target.host, target.port, target.host_header, target.path_and_query)
    }

    #[test]
    fn lawful_urls_come_apart() {
        let rows = [
            ("ws://a.example", false, "a.example", 80, "a.example", "/"),
            ("wss://a.example", true, "a.example", 443, "a.example", "/"),
            ("WSS://A.Example/", true, "a.example", 443, "a.example", "/"),
            ("wss://a.example:443/p", true, "a.example", 443, "a.example", "/p"),
            ("wss://a.example:80/p", true, "a.example", 80, "a.example:80", "/p"),
            ("ws://a.example:/p", false, "a.example", 80, "a.example", "/p"),
            ("ws://127.0.0.1:9001/p?q=1", false, "127.0.0.1", 9001, "127.0.0.1:9001", "/p?q=1"),
            ("ws://a.example?q=/x:y@z", false, "a.example", 80, "a.example", "/?q=/x:y@z"),
            ("ws://a.example/ws/btc@trade", false, "a.example", 80, "a.example", "/ws/btc@trade"),
            ("ws://a.example/p#fragment", false, "a.example", 80, "a.example", "/p"),
            ("ws://a.example#/p?q", false, "a.example", 80, "a.example", "/"),
            ("ws://[::1]", false, "::1", 80, "[::1]", "/"),
            ("wss://[2001:DB8::1]:8443/p", true, "2001:db8::1", 8443, "[2001:db8::1]:8443", "/p"),
            ("wss://my_host-1.example./", true, "my_host-1.example.", 443, "my_host-1.example.", "/"),
        ];
        for (url, tls, host, port, host_header, path) in rows {
            let expected = (tls, host.into(), port, host_header.into(), path.into());
            assert_eq!(parsed(url), expected, "{url}");
        }
    }

    #[test]
    fn unlawful_urls_are_refused_with_the_reason() {
        let rows = [
            ("", "ws://"),
            ("a.example/p", "ws://"),
            ("http://a.example", "scheme"),
            ("wss+x://a.example", "scheme"),
            ("ws://", "empty"),
            ("ws:///p", "empty"),
            ("ws://:80", "empty"),
            ("ws://?q", "empty"),
            ("ws://a.example/\r\nX: y", "control"),
            ("ws://a.example/a b", "space"),
            ("ws://a.example/\0", "control"),
            ("ws://bücher.example", "punycode"),
            ("ws://a.example/ü", "percent-encode"),
            ("ws://a.example:0", "port"),
            ("ws://a.example:65536", "port"),
            ("ws://a.example:+80", "port"),
            ("ws://a.example:8x", "port"),
            ("ws://::1/", "brackets"),
            ("ws://[::1", "closing bracket"),
            ("ws://[::1]x", "no port"),
            ("ws://[fe80::1%eth0]/", "IPv6"),
            ("ws://[a.example]", "IPv6"),
            ("ws://a.example\\evil/", "character"),
            ("ws://a%2eexample/", "character"),
        ];
        for (url, part) in rows {
            let error = Target::parse(url).unwrap_err();
            assert!(error.contains(part), "{url:?}: {error}");
        }
    }

    #[test]
    fn nothing_that_may_be_secret_is_shown() {
        let error = Target::parse("wss://key:hunter2@a.example/").unwrap_err();
        assert!(error.contains("user info") && !error.contains("hunter2"), "{error}");
        let target = Target::parse("wss://a.example:8443/ws/hunter2?key=hunter3").unwrap();
        assert_eq!(target.to_string(), "wss://a.example:8443/…");
        assert_eq!(format!("{target:?}"), "Target(wss://a.example:8443/…)");
        assert_eq!(Target::parse("ws://a.example").unwrap().to_string(), "ws://a.example/");
    }
}
