//! What TLS 1.3 costs the client: the processor time of a message from a full socket to its inline handler, against rustls'
//! `read_tls` on the same feed with a parser written by hand. `cargo bench --bench tls` prints the ratios against their bars; without
//! `--bench`, as under `cargo test --benches`, it makes a short round to see that it still works.
//!
//! The thread that measures reads, and the venue's part is its own between the measurements: so nothing but the reading is on the
//! clock, and nobody is waited for. Messages of 150 B come in full records of 16 KiB, as from a venue in a flood, or each in a record
//! of its own, as from most venues at most times.

mod support {
    pub(crate) mod by_hand;
    pub(crate) mod figures;
    pub(crate) mod flood;
    pub(crate) mod hand;
    pub(crate) mod upgrade;
}

use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hypersockets::rustls::crypto::ring::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384};
use hypersockets::{Client, EventLoop, MessageRouter, Result, RouteOptions, TlsOptions, WsMessage};
use support::by_hand::{Feed, READ_BYTES, take_frames};
use support::figures::{self, median, median_ratio};
use support::flood::RawReader;
use support::hand::{End, Hand, PATIENCE, RECORD_BYTES};

struct Plan {
    rounds: usize,
    messages: usize,
}

const MEASURED: Plan = Plan { rounds: 31, messages: 40_000 };
const TRIED: Plan = Plan { rounds: 1, messages: 500 };

const TEXT_BYTES: usize = 150;

fn main() -> Result<()> {
    let plan = if figures::is_measured() { MEASURED } else { TRIED };
    println!("TLS 1.3, {TEXT_BYTES} B, ns a message, {} interleaved rounds, medians", plan.rounds);
    let frame = Feed::new(TEXT_BYTES, 0).read;
    let said = frame.repeat(plan.messages);
    for (cipher, suite) in [("AES-128-GCM", TLS13_AES_128_GCM_SHA256), ("AES-256-GCM", TLS13_AES_256_GCM_SHA384)] {
        for (shape, record_bytes, bar) in
            [("records of 16 KiB", RECORD_BYTES, 0.6), ("a record a message", frame.len(), 0.9)]
        {
            let hand = Hand::with_suite(suite)?;
            let (mut ours, mut theirs) = (Ours::dial(&hand)?, Theirs::dial(&hand)?);
            let [mut our_costs, mut their_costs] = [Vec::new(), Vec::new()];
            for _ in 0..plan.rounds {
                their_costs.push(timed(plan.messages, &said, record_bytes, &mut theirs)?);
                our_costs.push(timed(plan.messages, &said, record_bytes, &mut ours)?);
            }
            let ratio = median_ratio(&our_costs, &their_costs);
            println!(
                "{cipher}   {shape:<18}   read_tls {:>6.1}   hypersockets {:>6.1}   {ratio:.2}x   bar {bar}x: {}",
                median(their_costs),
                median(our_costs),
                figures::verdict(ratio <= bar)
            );
        }
    }
    Ok(())
}

/// Who reads, with the venue's end beside it.
trait Reader {
    fn end(&mut self) -> &mut End;

    /// Takes what the socket holds; how many messages there have been.
    fn drain(&mut self) -> Result<u64>;
}

/// Nanoseconds a message.
fn timed(messages: usize, said: &[u8], record_bytes: usize, reader: &mut impl Reader) -> Result<f64> {
    let target = reader.drain()? + messages as u64;
    let (mut busy, mut written, mut taken) = (Duration::ZERO, 0, 0);
    let patience = Instant::now();
    while taken < target {
        reader.end().pour(said, &mut written, record_bytes)?;
        let begin = Instant::now();
        taken = reader.drain()?;
        busy += begin.elapsed();
        if patience.elapsed() > PATIENCE {
            return Err(format!("{} of {messages} messages came", taken + messages as u64 - target).into());
        }
    }
    Ok(busy.as_nanos() as f64 / messages as f64)
}

/// A message is its length.
struct Length;

impl MessageRouter for Length {
    type Message = usize;
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> Result<usize> {
        Ok(message.as_text().ok_or("not a text")?.len())
    }

    fn route_key(&self, _: &usize) {}
}

struct Ours {
    event_loop: EventLoop,
    handled: Arc<AtomicU64>,
    end: End,
    _client: Client,
}

impl Ours {
    fn dial(hand: &Hand) -> Result<Self> {
        let handled = Arc::<AtomicU64>::default();
        let count = Arc::clone(&handled);
        let handler = move |bytes: usize| {
            if bytes != TEXT_BYTES {
                return Err("not what was sent".into());
            }
            count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            Ok(())
        };
        let root = hand.root().ok_or("a venue without TLS")?;
        let mut event_loop = EventLoop::new()?;
        let client = event_loop.add(
            hypersockets::builder()
                .url(hand.url())
                .router(Length, |routing| routing.handler_with((), handler, RouteOptions::new().inline()))
                .tls(TlsOptions::new().add_root_der(root).only_added_roots()),
        )?;
        let end = hand.meet(&mut event_loop, std::slice::from_ref(&client))?.pop().ok_or("nobody was met")?;
        Ok(Self { event_loop, handled, end, _client: client })
    }
}

impl Reader for Ours {
    fn end(&mut self) -> &mut End {
        &mut self.end
    }

    fn drain(&mut self) -> Result<u64> {
        while self.event_loop.turn() > 0 {}
        Ok(self.handled.load(Ordering::Relaxed))
    }
}

struct Theirs {
    reader: RawReader,
    buffer: Vec<u8>,
    filled: usize,
    taken: u64,
    end: End,
}

impl Theirs {
    fn dial(hand: &Hand) -> Result<Self> {
        let reader = RawReader::dial(hand.port(), hand.root())?;
        let end = hand.accepted()?;
        reader.set_nonblocking()?;
        Ok(Self { reader, buffer: vec![0; 2 * READ_BYTES], filled: 0, taken: 0, end })
    }
}

impl Reader for Theirs {
    fn end(&mut self) -> &mut End {
        &mut self.end
    }

    fn drain(&mut self) -> Result<u64> {
        loop {
            match self.reader.read(&mut self.buffer[self.filled..self.filled + READ_BYTES]) {
                Ok(0) => return Err("it ended early".into()),
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(self.taken),
                Err(error) => return Err(error.into()),
            }
            let taken = take_frames(&self.buffer[..self.filled], |text| {
                assert_eq!(text.len(), TEXT_BYTES, "not what was sent");
                self.taken += 1;
            });
            self.buffer.copy_within(taken..self.filled, 0);
            self.filled -= taken;
        }
    }
}
