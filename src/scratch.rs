//! Memory that a parsing thread uses again for every message, and simd-json over it. Invariant: once it has grown to a feed's
//! size, nothing here allocates.

use std::fmt::{self, Debug};

use simd_json::{Buffers, INPUT_PADDING, Tape, tape};

use crate::error::{HyperSocketError, Result};
#[cfg(feature = "deflate")]
use crate::gunzip::Gunzip;

/// Memory that a parsing thread uses again for every message: simd-json reads a writable, padded copy of a text into its buffers.
///
/// [`typed`](Self::typed) fills a struct of yours, [`tape`](Self::tape) lets you pick fields; neither allocates for itself. What
/// they cost beside serde_json and sonic-rs, by the shape of the message, is in the README; short messages are serde_json's.
pub struct Scratch {
    bytes: Vec<u8>,
    buffers: Buffers,
    tape: Tape<'static>,
    #[cfg(feature = "deflate")]
    gunzip: Option<Box<Gunzip>>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            buffers: Buffers::default(),
            tape: Tape(Vec::new()),
            #[cfg(feature = "deflate")]
            gunzip: None,
        }
    }
}

impl Scratch {
    /// A writable copy of `raw`, for a parser that wants one, with simd-json's buffers.
    pub fn copy(&mut self, raw: &[u8]) -> (&mut [u8], &mut Buffers) {
        self.bytes.clear();
        self.bytes.extend_from_slice(raw);
        (&mut self.bytes, &mut self.buffers)
    }

    /// Inflates a gzip message, of at most `limit_bytes` then, and lends it to `read` with this memory, for parsing what was in it (RFC 1952;
    /// feature `deflate`).
    ///
    /// # Errors
    /// Those of [`Gunzip::inflate`], and whatever `read` errs with.
    #[cfg(feature = "deflate")]
    pub fn gunzip<T>(
        &mut self,
        gzip: &[u8],
        limit_bytes: usize,
        read: impl FnOnce(&mut Self, &[u8]) -> Result<T>,
    ) -> Result<T> {
        // Out of the way meanwhile: both are lent.
        let mut gunzip = self.gunzip.take().unwrap_or_default();
        let read = gunzip.inflate(gzip, limit_bytes).and_then(|inflated| read(self, inflated));
        self.gunzip = Some(gunzip);
        read
    }

    /// Parses JSON and lends its values to `read`, for whoever wants a few fields of many. The traits that read them are in
    /// [`simd_json::prelude`](crate::simd_json::prelude).
    ///
    /// ```
    /// use hypersockets::simd_json::prelude::*;
    ///
    /// let mut scratch = hypersockets::Scratch::default();
    /// let price = scratch.tape(br#"{"s":"BTC","p":"95123.10"}"#, |value| {
    ///     value.try_get("p").ok().flatten().and_then(|price| price.as_str()?.parse::<f64>().ok()).ok_or_else(|| "no price".into())
    /// })?;
    /// assert_eq!(price, 95_123.10);
    /// # Ok::<(), hypersockets::HyperSocketError>(())
    /// ```
    ///
    /// # Errors
    /// [`Parse`](HyperSocketError::Parse) where `raw` is not JSON, and whatever `read` errs with.
    pub fn tape<T>(&mut self, raw: &[u8], read: impl FnOnce(tape::Value<'_, '_>) -> Result<T>) -> Result<T> {
        let (tape, filled) = fill(&mut self.bytes, &mut self.buffers, &mut self.tape, raw);
        let read = filled.and_then(|()| read(tape.as_value()));
        self.tape = tape.reset();
        read
    }

    /// Parses JSON into `T`, whose strings may borrow from the copy that is kept here.
    ///
    /// ```
    /// #[derive(serde::Deserialize)]
    /// struct Trade<'a> {
    ///     #[serde(rename = "s")]
    ///     symbol: &'a str,
    ///     #[serde(rename = "p")]
    ///     price: &'a str,
    /// }
    ///
    /// let mut scratch = hypersockets::Scratch::default();
    /// let trade: Trade<'_> = scratch.typed(br#"{"s":"BTC","p":"95123.10"}"#)?;
    /// assert_eq!((trade.symbol, trade.price), ("BTC", "95123.10"));
    /// # Ok::<(), hypersockets::HyperSocketError>(())
    /// ```
    ///
    /// # Errors
    /// [`Parse`](HyperSocketError::Parse) where `raw` is not JSON, or not a `T`.
    #[cfg(feature = "serde_json")]
    pub fn typed<'a, T: serde::Deserialize<'a>>(&'a mut self, raw: &[u8]) -> Result<T> {
        let (tape, filled) = fill(&mut self.bytes, &mut self.buffers, &mut self.tape, raw);
        let mut deserializer = simd_json::Deserializer::from_tape(tape);
        let read = filled.and_then(|()| T::deserialize(&mut deserializer).map_err(unreadable));
        self.tape = deserializer.into_tape().reset();
        read
    }
}

/// Copies `raw`, and takes the tape out to fill it; after an error it holds something, but nothing that means anything.
fn fill<'a>(
    bytes: &'a mut Vec<u8>,
    buffers: &mut Buffers,
    tape: &mut Tape<'static>,
    raw: &[u8],
) -> (Tape<'a>, Result<()>) {
    bytes.clear();
    bytes.extend_from_slice(raw);
    bytes.resize(raw.len() + INPUT_PADDING, 0);
    let mut tape = std::mem::replace(tape, Tape(Vec::new())).reset();
    let filled = simd_json::fill_tape_padded(bytes, raw.len(), buffers, &mut tape);
    (tape, filled.map_err(unreadable))
}

#[expect(clippy::needless_pass_by_value, reason = "so that map_err takes it as it is")]
fn unreadable(error: simd_json::Error) -> HyperSocketError {
    HyperSocketError::Parse(error.to_string())
}

impl Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").field("bytes", &self.bytes.capacity()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use simd_json::prelude::*;

    use super::*;

    const BOOK: &[u8] = br#"{"coin":"B\u0054C","levels":[[{"px":"1.5","n":2}],[]],"time":1700000000000}"#;

    fn coin_and_time(value: tape::Value<'_, '_>) -> Result<(String, u64)> {
        let object = value.as_object().ok_or("not an object")?;
        let coin = object.get("coin").and_then(|coin| coin.into_string()).ok_or("no coin")?;
        Ok((coin.to_owned(), object.get("time").and_then(|time| time.as_u64()).ok_or("no time")?))
    }

    #[test]
    fn what_came_before_leaves_no_trace() {
        let mut scratch = Scratch::default();
        for raw in [&b""[..], b"{", br#"{"coin":"x","#, b"[1,2", b"\xff", br#"{"coin":"#] {
            let error = scratch.tape(raw, coin_and_time).expect_err("not JSON");
            assert!(matches!(error, HyperSocketError::Parse(_)), "{error:?}");
            assert_eq!(scratch.tape(BOOK, coin_and_time).expect("a book"), ("BTC".to_owned(), 1_700_000_000_000));
        }
        assert!(scratch.tape(b"[]", coin_and_time).is_err(), "the reader's own error comes through");
        assert!(scratch.tape(b"[]", |value| Ok(value.as_array().is_some())).expect("an array"));
    }

    #[test]
    #[cfg(feature = "serde_json")]
    fn a_type_reads_the_same_as_with_serde_json() {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        struct Book {
            coin: String,
            levels: [Vec<Level>; 2],
            time: u64,
        }
        #[derive(Debug, PartialEq, serde::Deserialize)]
        struct Level {
            px: String,
            n: u32,
        }

        let mut scratch = Scratch::default();
        let reference: Book = serde_json::from_slice(BOOK).expect("a book");
        for _ in 0..3 {
            assert_eq!(scratch.typed::<Book>(BOOK).expect("a book"), reference);
            assert!(scratch.typed::<Book>(b"[1]").is_err());
            assert!(scratch.typed::<Book>(&BOOK[..BOOK.len() - 1]).is_err());
        }
    }
}
