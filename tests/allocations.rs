//! Receiving allocates nothing: in the steady state a message is read, parsed and handled without a call to the allocator.
//! Counted on the loop's own thread, which is the test's; the venue has threads of its own.

use std::hint::black_box;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use allocation_counter::AllocationInfo;
use hypersockets::simulator::{Recording, Venue};
use hypersockets::{
    Client, ClientBuilder, Compression, EventLoop, HasRouter, HasUrl, MessageRouter, Result, RouteOptions, Scratch,
    TlsOptions, WsMessage,
};

#[test]
fn the_meter_counts_on_this_thread_and_no_other() {
    let counted = allocation_counter::measure(|| drop(black_box(Box::new(1))));
    assert_eq!((counted.count_total, counted.bytes_total), (1, 4));
    let (ask, asked) = mpsc::sync_channel(0);
    let (answer, answered) = mpsc::sync_channel(0);
    let other = thread::spawn(move || {
        asked.recv().expect("it is asked");
        drop(black_box(vec![0; KIB]));
        answer.send(()).expect("it is waited for");
    });
    let counted = allocation_counter::measure(|| {
        ask.send(()).expect("it listens");
        answered.recv().expect("it answers");
    });
    assert!(counted.bytes_total < KIB as u64, "{counted:?}");
    other.join().expect("it has answered");
}

#[test]
fn small_messages_are_received_without_an_allocation() {
    assert_none(&Feed::of(150, 100_000).inline().receive());
}

#[test]
fn messages_of_2_kib_are_received_without_an_allocation() {
    assert_none(&Feed::of(2 * KIB, 20_000).inline().receive());
}

#[test]
fn messages_of_16_kib_that_cross_reads_are_received_without_an_allocation() {
    assert_none(&Feed::of(16 * KIB, 4_000).inline().receive());
}

#[test]
fn measuring_latency_allocates_nothing_either() {
    assert_none(&Feed::of(150, 50_000).inline().measuring_latency().receive());
}

#[test]
fn compressed_messages_are_received_without_an_allocation() {
    for (message_bytes, messages) in [(150, 50_000), (2 * KIB, 20_000), (16 * KIB, 4_000)] {
        assert_none(&Feed::of(message_bytes, messages).compressed().inline().receive());
        assert_none(&Feed::of(message_bytes, messages).compressed().measuring_latency().inline().receive());
    }
}

#[test]
fn simd_json_in_scratch_memory_allocates_nothing() {
    #[derive(serde::Deserialize)]
    struct Book<'a> {
        coin: &'a str,
        time: u64,
    }

    let levels = r#"{"px":"95123.10","sz":"3.2","n":4},"#.repeat(40);
    let text = format!(r#"{{"coin":"BTC","levels":[{}],"time":1700000000000}}"#, levels.trim_end_matches(','));
    let mut scratch = Scratch::default();
    let mut read = || {
        let book: Book<'_> = scratch.typed(text.as_bytes()).expect("a book");
        assert_eq!((book.coin, book.time), ("BTC", 1_700_000_000_000));
        let levels = scratch.tape(text.as_bytes(), |value| {
            let levels = value.as_object().and_then(|book| book.get("levels")).and_then(|levels| levels.as_array());
            levels.map(|levels| levels.len()).ok_or_else(|| "no levels".into())
        });
        assert_eq!(levels.expect("a book"), 40);
    };
    read();
    let counted = allocation_counter::measure(|| (0..100).for_each(|_| read()));
    assert_eq!(counted.count_total, 0, "{counted:?}");
}

/// rustls hands out each record as a vector of its own, and lets it go once the next is there. Beside them there is the
/// record that a read has cut: beyond a page its memory is given back behind it, and it may have twice its length.
#[test]
fn tls_allocates_by_the_record_and_holds_a_few_at_most() {
    for (message_bytes, messages) in [(150, 50_000), (2 * KIB, 10_000), (16 * KIB, 2_000)] {
        let Receipt { counted, bytes } = Feed::of(message_bytes, messages).over_tls().inline().receive();
        println!("wss, {messages} messages of {message_bytes} bytes: {counted:?}");
        assert!(counted.count_max <= 4, "{counted:?}");
        assert!(counted.bytes_max <= 5 * RECORD_BYTES, "{counted:?}");
        assert!(counted.bytes_total <= 3 * bytes, "{counted:?} of {bytes} bytes received");
    }
}

/// The buffer of an unfinished message goes back to 64 KiB behind it, so that one snapshot does not hold memory for ever.
#[test]
fn a_message_of_a_megabyte_costs_the_doublings_of_its_buffer() {
    // Four doublings lead from 64 KiB to a megabyte, and the way back is one more; twice that, as reads cut as they like.
    let (messages, growth) = (200, 10);
    let Receipt { counted, .. } = Feed::of(1000 * KIB, messages).inline().after(10).receive();
    println!("ws, {messages} messages of a megabyte: {counted:?}");
    assert!(counted.count_total <= (messages + 1) * growth, "{counted:?}");
    assert!(counted.count_current <= 1, "{counted:?}");
}

#[test]
fn the_queue_of_a_handler_thread_costs_one_allocation_in_31_messages() {
    let messages = 50_000;
    let Receipt { counted, .. } = Feed::of(150, messages).receive();
    assert!(counted.count_total <= messages / 31 + 1, "{counted:?}");
}

/// Messages of one size over one connection.
struct Feed {
    message_bytes: usize,
    /// Before the counting begins, so that every buffer has its size.
    warm_up: u64,
    /// Behind those.
    messages: u64,
    tls: bool,
    compressed: bool,
    options: RouteOptions<u64>,
    latency: bool,
}

impl Feed {
    fn of(message_bytes: usize, messages: u64) -> Self {
        let options = RouteOptions::new();
        Self { message_bytes, warm_up: 1_000, messages, tls: false, compressed: false, options, latency: false }
    }

    fn compressed(self) -> Self {
        Self { compressed: true, ..self }
    }

    fn over_tls(self) -> Self {
        Self { tls: true, ..self }
    }

    fn inline(self) -> Self {
        Self { options: RouteOptions::new().inline(), ..self }
    }

    fn measuring_latency(self) -> Self {
        Self { latency: true, ..self }
    }

    fn after(self, warm_up: u64) -> Self {
        Self { warm_up, ..self }
    }

    /// Receives all of it; what the loop allocated once it was warm.
    fn receive(self) -> Receipt {
        let total = self.warm_up + self.messages;
        let venue = self.venue(total);
        let parsed = Arc::new(AtomicU64::new(0));
        let mut event_loop = EventLoop::new().expect("the system has a poll descriptor left");
        let client = event_loop.add(self.builder(&venue, &parsed)).expect("a sound configuration");

        drive(&mut event_loop, &client, || parsed.load(Ordering::Relaxed) >= self.warm_up);
        let before = client.metrics();
        assert!(before.messages_parsed < total, "all was received at once, and nothing is left to count");
        let counted = allocation_counter::measure(|| {
            drive(&mut event_loop, &client, || parsed.load(Ordering::Relaxed) >= total);
        });
        let after = client.metrics();
        assert_eq!((after.messages_parsed, after.parse_errors, after.handler_errors), (total, 0, 0));
        Receipt { counted, bytes: after.bytes_received - before.bytes_received }
    }

    fn venue(&self, total: u64) -> Venue {
        let messages = (0..total).map(|number| tick(number, self.message_bytes)).collect();
        let builder = Venue::replay(Recording::from_messages(messages)).flat_out().replay_on_connect();
        let builder = if self.tls { builder.tls() } else { builder };
        let builder = if self.compressed { builder.deflate() } else { builder };
        builder.start().expect("a free port")
    }

    fn builder(&self, venue: &Venue, parsed: &Arc<AtomicU64>) -> ClientBuilder<HasUrl, HasRouter> {
        let ticks = Ticks { parsed: Arc::clone(parsed) };
        let mut awaited = 0;
        let handler = move |number: u64| {
            if number != awaited {
                return Err("out of order".into());
            }
            awaited += 1;
            Ok(())
        };
        let trust = venue.root_certificate_der().map(|root| TlsOptions::new().add_root_der(root).only_added_roots());
        let builder = hypersockets::builder()
            .url(venue.url())
            .router(ticks, |routing| routing.handler_with((), handler, self.options.clone()))
            .tls(trust.unwrap_or_default());
        let builder = if self.compressed { builder.compression(Compression::deflate()) } else { builder };
        if self.latency { builder.measure_latency() } else { builder }
    }
}

/// What one feed cost, once the loop was warm.
struct Receipt {
    counted: AllocationInfo,
    /// From the socket.
    bytes: u64,
}

/// Turns the loop until `done`.
fn drive(event_loop: &mut EventLoop, client: &Client, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        if event_loop.turn() == 0 {
            event_loop.wait(Duration::from_millis(100));
            assert!(Instant::now() < deadline, "never came: {:?}", client.metrics());
        }
    }
}

/// A trade as text, padded to so many bytes.
fn tick(number: u64, bytes: usize) -> String {
    let mut text = Vec::with_capacity(bytes);
    write!(text, r#"{{"seq":{number:09},"px":"64250.5","sz":"0.125","note":""#).expect("memory takes any text");
    text.resize(bytes - 2, b'.');
    text.extend_from_slice(br#""}"#);
    String::from_utf8(text).expect("all of it is ASCII")
}

/// Reads the number of a tick in place, and counts: on the loop's thread, so that the count is the loop's progress.
struct Ticks {
    parsed: Arc<AtomicU64>,
}

impl MessageRouter for Ticks {
    type Message = u64;
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> Result<u64> {
        self.parsed.fetch_add(1, Ordering::Relaxed);
        let digits = message.as_text().and_then(|text| text.get(7..16));
        digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| "not a tick".into())
    }

    fn route_key(&self, _number: &u64) {}
}

#[track_caller]
fn assert_none(receipt: &Receipt) {
    assert_eq!(receipt.counted.count_total, 0, "{:?}", receipt.counted);
}

const KIB: usize = 1024;
/// The most plaintext in one TLS record (RFC 8446, section 5.1).
const RECORD_BYTES: u64 = 16 * 1024;
/// Many times what the longest feed takes in a debug build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
