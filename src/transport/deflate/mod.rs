//! permessage-deflate (RFC 7692): what is offered, and whether the venue's answer keeps to it. Invariant: an answer that breaks a rule
//! ends the dial; nothing is guessed.

mod codec;

pub(crate) use codec::{Deflater, InflateFault, Inflater};

/// Compression of each message by permessage-deflate (RFC 7692), for [`ClientBuilder::compression`](crate::ClientBuilder::compression)
/// (feature `deflate`).
///
/// It is offered; the venue may decline, and then nothing is compressed. What it saves in bytes it costs in time: a co-located feed is better
/// off without.
///
/// ```no_run
/// # use hypersockets::{Compression, MessageRouter, Result, WsMessage};
/// # struct Lines;
/// # impl MessageRouter for Lines {
/// #     type Message = String;
/// #     type RouteKey = ();
/// #     fn parse(&self, message: WsMessage<'_>) -> Result<String> { Ok(message.as_text().ok_or("a binary message")?.to_owned()) }
/// #     fn route_key(&self, _line: &String) {}
/// # }
/// # fn main() -> Result<()> {
/// let client = hypersockets::builder()
///     .url("wss://ws-feed.exchange.coinbase.com")
///     .compression(Compression::deflate())
///     .router(Lines, |routing| routing.handler((), |line: String| Ok(println!("{line}"))))
///     .build()?;
/// # let _ = client;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compression {
    client_keeps_window: bool,
    server_keeps_window: bool,
    client_window_bits: u8,
    server_window_bits: u8,
    level: u32,
    threshold_bytes: usize,
}

impl Compression {
    /// With the largest windows, kept from message to message in both directions: the best compression, for some 50 KiB of memory in
    /// each connection for what comes, and some 380 KiB from the first message of ours on that is compressed.
    pub fn deflate() -> Self {
        Self {
            client_keeps_window: true,
            server_keeps_window: true,
            client_window_bits: MAX_BITS,
            server_window_bits: MAX_BITS,
            level: 1,
            threshold_bytes: 256,
        }
    }

    /// Asks the venue to compress each message for itself (`server_no_context_takeover`, RFC 7692, section 7.1.1.1).
    pub fn server_no_context_takeover(mut self) -> Self {
        self.server_keeps_window = false;
        self
    }

    /// Compresses each of our messages for itself (`client_no_context_takeover`, RFC 7692, section 7.1.1.2).
    pub fn client_no_context_takeover(mut self) -> Self {
        self.client_keeps_window = false;
        self
    }

    /// The largest window that the venue may use, as a power of two of bytes, 9 to 15; others are brought to the nearest of these
    /// (RFC 7692, section 7.1.2.1).
    pub fn server_max_window_bits(mut self, bits: u8) -> Self {
        self.server_window_bits = bits.clamp(LEAST_BITS, MAX_BITS);
        self
    }

    /// The largest window that we use, as a power of two of bytes, 9 to 15; others are brought to the nearest of these. The venue may ask
    /// for a smaller one (RFC 7692, section 7.1.2.2).
    pub fn client_max_window_bits(mut self, bits: u8) -> Self {
        self.client_window_bits = bits.clamp(LEAST_BITS, MAX_BITS);
        self
    }

    /// How hard to compress what goes, 1 (fast, the default) to 9.
    pub fn level(mut self, level: u32) -> Self {
        self.level = level.clamp(1, 9);
        self
    }

    /// Messages of fewer bytes go as they are; 256 by default.
    pub fn threshold_bytes(mut self, bytes: usize) -> Self {
        self.threshold_bytes = bytes;
        self
    }

    /// The value of our `Sec-WebSocket-Extensions`.
    pub(crate) fn offer(&self) -> String {
        let mut offer = EXTENSION.to_owned();
        if !self.server_keeps_window {
            offer += "; server_no_context_takeover";
        }
        if !self.client_keeps_window {
            offer += "; client_no_context_takeover";
        }
        if self.server_window_bits < MAX_BITS {
            offer += &format!("; server_max_window_bits={}", self.server_window_bits);
        }
        // Without a value it says that the venue may choose.
        offer += "; client_max_window_bits";
        if self.client_window_bits < MAX_BITS {
            offer += &format!("={}", self.client_window_bits);
        }
        offer
    }

    /// Judges the value of the venue's `Sec-WebSocket-Extensions`, all such headers joined by commas.
    ///
    /// # Errors
    /// Which rule it breaks.
    pub(crate) fn judge(&self, answer: &str) -> Result<Agreed, &'static str> {
        let mut parts = answer.split(';').map(str::trim);
        if !parts.next().is_some_and(|name| name.eq_ignore_ascii_case(EXTENSION)) || answer.contains(',') {
            return Err("it accepts an extension that was not asked for");
        }
        let mut said = Said::default();
        for part in parts {
            said.take(part)?;
        }
        if !self.server_keeps_window && said.server_no_context_takeover.is_none() {
            return Err("it does not accept server_no_context_takeover, and accepts the extension");
        }
        let server_bits = said.server_max_window_bits;
        if server_bits.unwrap_or(MAX_BITS) > self.server_window_bits {
            return Err("its server_max_window_bits is larger than what was asked for");
        }
        if said.client_max_window_bits.is_some_and(|bits| bits > self.client_window_bits) {
            return Err("its client_max_window_bits is larger than what was offered");
        }
        Ok(Agreed {
            client_keeps_window: self.client_keeps_window && said.client_no_context_takeover.is_none(),
            server_keeps_window: said.server_no_context_takeover.is_none(),
            client_window_bits: said.client_max_window_bits.unwrap_or(self.client_window_bits),
            level: self.level,
            threshold_bytes: self.threshold_bytes,
        })
    }
}

/// What both sides will keep to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agreed {
    client_keeps_window: bool,
    server_keeps_window: bool,
    client_window_bits: u8,
    level: u32,
    threshold_bytes: usize,
}

/// The parameters of an answer, each at most once.
#[derive(Default)]
struct Said {
    server_no_context_takeover: Option<()>,
    client_no_context_takeover: Option<()>,
    server_max_window_bits: Option<u8>,
    client_max_window_bits: Option<u8>,
}

impl Said {
    fn take(&mut self, part: &str) -> Result<(), &'static str> {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(value.trim_start())),
            None => (part, None),
        };
        let is_new = match name {
            "server_no_context_takeover" if value.is_none() => self.server_no_context_takeover.replace(()).is_none(),
            "client_no_context_takeover" if value.is_none() => self.client_no_context_takeover.replace(()).is_none(),
            "server_max_window_bits" => self.server_max_window_bits.replace(bits(value)?).is_none(),
            "client_max_window_bits" => self.client_max_window_bits.replace(bits(value)?).is_none(),
            "server_no_context_takeover" | "client_no_context_takeover" => {
                return Err("a parameter of its permessage-deflate has a value, and must have none");
            }
            _ => return Err("its permessage-deflate has a parameter that there is not"),
        };
        if is_new { Ok(()) } else { Err("its permessage-deflate has a parameter twice") }
    }
}

/// 8 to 15 without a leading zero, perhaps between quotes (RFC 7692, section 7.1.2; RFC 6455, section 9.1).
fn bits(value: Option<&str>) -> Result<u8, &'static str> {
    let value = value.unwrap_or_default();
    let bare = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    match bare {
        "8" => Ok(8),
        "9" => Ok(9),
        "10" => Ok(10),
        "11" => Ok(11),
        "12" => Ok(12),
        "13" => Ok(13),
        "14" => Ok(14),
        "15" => Ok(15),
        _ => Err("a window of its permessage-deflate is not of 8 to 15 bits"),
    }
}

const EXTENSION: &str = "permessage-deflate";
/// zlib cannot compress with 8.
const LEAST_BITS: u8 = 9;
const MAX_BITS: u8 = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offer_says_what_was_asked_for_and_that_our_window_may_be_chosen() {
        assert_eq!(Compression::deflate().offer(), "permessage-deflate; client_max_window_bits");
        let narrow = Compression::deflate()
            .server_no_context_takeover()
            .client_no_context_takeover()
            .server_max_window_bits(10)
            .client_max_window_bits(3);
        let offer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10; \
                     client_max_window_bits=9";
        assert_eq!(narrow.offer(), offer);
    }

    #[test]
    fn an_answer_within_the_offer_is_kept_to() {
        let judge = |answer| Compression::deflate().judge(answer).expect("within the offer");
        let plain = judge("permessage-deflate");
        assert!(plain.client_keeps_window && plain.server_keeps_window && plain.client_window_bits == 15);
        let narrow = judge(
            "Permessage-Deflate ; server_no_context_takeover;client_no_context_takeover; client_max_window_bits = \"8\"; \
             server_max_window_bits=15",
        );
        assert!(!narrow.client_keeps_window && !narrow.server_keeps_window && narrow.client_window_bits == 8);
        let asked = Compression::deflate().server_max_window_bits(12).client_max_window_bits(11);
        let agreed = asked.judge("permessage-deflate; server_max_window_bits=9").expect("within the offer");
        assert_eq!(agreed.client_window_bits, 11);
    }

    #[test]
    fn an_answer_that_breaks_a_rule_is_refused() {
        let narrow =
            Compression::deflate().server_no_context_takeover().server_max_window_bits(10).client_max_window_bits(10);
        for (offer, answer) in [
            (Compression::deflate(), "x-webkit-deflate-frame"),
            (Compression::deflate(), "permessage-deflate, permessage-deflate"),
            (Compression::deflate(), "permessage-deflate, other"),
            (Compression::deflate(), "permessage-deflate; unknown"),
            (Compression::deflate(), "permessage-deflate; "),
            (Compression::deflate(), "permessage-deflate; server_no_context_takeover=1"),
            (Compression::deflate(), "permessage-deflate; server_no_context_takeover; server_no_context_takeover"),
            (Compression::deflate(), "permessage-deflate; server_max_window_bits"),
            (Compression::deflate(), "permessage-deflate; server_max_window_bits=7"),
            (Compression::deflate(), "permessage-deflate; server_max_window_bits=16"),
            (Compression::deflate(), "permessage-deflate; server_max_window_bits=09"),
            (Compression::deflate(), "permessage-deflate; client_max_window_bits"),
            (narrow.clone(), "permessage-deflate; server_max_window_bits=10"),
            (narrow.clone(), "permessage-deflate; server_no_context_takeover"),
            (narrow.clone(), "permessage-deflate; server_no_context_takeover; server_max_window_bits=11"),
            (
                narrow,
                "permessage-deflate; server_no_context_takeover; server_max_window_bits=10; client_max_window_bits=11",
            ),
        ] {
            assert!(offer.judge(answer).is_err(), "{answer}");
        }
    }
}
