//! What permessage-deflate costs and saves on a venue's messages: bytes on the wire, and the time of the receive path, from bytes in memory
//! to the message, without parsing. The last column is where the two meet: on a line slower than that the bytes that are saved are worth more
//! than the time they cost, on a faster one compression makes each message later. `cargo bench --bench deflate` prints it; without
//! `--bench`, as under `cargo test --benches`, it makes a short round to see that it still works.
//!
//! Recordings of real venues are taken from ../shared/data, where they are; a generated feed is measured everywhere.

mod support {
    pub(crate) mod figures;
}

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use flate2::{Compress, FlushCompress};
use hypersockets::Compression;
use hypersockets::internals::Receiver;
use support::figures::{self, median, median_ratio};

struct Plan {
    rounds: usize,
    messages: usize,
}

const MEASURED: Plan = Plan { rounds: 21, messages: 20_000 };
const TRIED: Plan = Plan { rounds: 1, messages: 200 };
/// What a read brings.
const READ_BYTES: usize = 64 * 1024;
/// What servers compress with, unless they are told otherwise.
const SERVERS_LEVEL: u32 = 6;
const KEPT: &str = "permessage-deflate";
const FORGOTTEN: &str = "permessage-deflate; server_no_context_takeover";
const RECORDINGS: [&str; 5] = [
    "binance-spot/btcusdt_20240808.jsonl",
    "bybit/v5_c2_20260809.jsonl",
    "coinbase/advanced_trade_20260809.jsonl",
    "hyperliquid/hip4_france_sweden_orderbook_live.jsonl",
    "kraken-v2/btcusd_depth25.jsonl",
];

fn main() {
    let plan = if figures::is_measured() { MEASURED } else { TRIED };
    println!("per message, {} interleaved rounds, medians", plan.rounds);
    measure("generated books", &generated(plan.messages), &plan);
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    for name in RECORDINGS {
        match fs::read_to_string(data.join(name)) {
            Ok(text) => measure(name, &text.lines().take(plan.messages).map(str::to_owned).collect::<Vec<_>>(), &plan),
            Err(_) => println!("{name}: not on this machine"),
        }
    }
}

/// Books of ten levels a side that change little from one to the next.
fn generated(count: usize) -> Vec<String> {
    let level = |price: usize, turn: usize| format!(r#"{{"px":"{price}.5","sz":"{}.25","n":{}}}"#, turn % 97, turn % 9);
    let side =
        |from: usize, turn: usize| (0..10).map(|at| level(from + at, turn + at * at)).collect::<Vec<_>>().join(",");
    let book = |turn: usize| {
        let (bids, asks) = (side(61_000 + turn % 13, turn / 3), side(61_020 + turn % 13, turn / 2));
        format!(
            r#"{{"channel":"l2Book","data":{{"coin":"BTC","time":{},"levels":[[{bids}],[{asks}]]}}}}"#,
            1_795_000_000 + turn
        )
    };
    (0..count).map(book).collect()
}

fn measure(name: &str, messages: &[String], plan: &Plan) {
    let streams = [frames(messages, None), frames(messages, Some(true)), frames(messages, Some(false))];
    let mut figures = [const { Vec::new() }; 3];
    for _ in 0..plan.rounds {
        for (way, figures) in figures.iter_mut().enumerate() {
            let offered = Compression::deflate();
            let mut receiver = match way {
                0 => Receiver::new(2 * READ_BYTES),
                1 => Receiver::inflating(2 * READ_BYTES, &offered, KEPT).expect("lawful"),
                _ => Receiver::inflating(2 * READ_BYTES, &offered, FORGOTTEN).expect("lawful"),
            };
            let begin = Instant::now();
            let taken = take(&mut receiver, &streams[way]);
            let took = begin.elapsed();
            assert_eq!(taken, messages.len(), "each message is taken once");
            figures.push(took.as_nanos() as f64 / messages.len() as f64);
        }
    }
    let bytes = streams.each_ref().map(|stream| stream.len() as f64 / messages.len() as f64);
    let [plain, kept, forgotten] = &figures;
    println!("{name}: {:.0} B and {:.0} ns as it is", bytes[0], median(plain.clone()));
    for (way, figures, bytes_now) in [("window kept", kept, bytes[1]), ("forgotten each time", forgotten, bytes[2])] {
        let saved_bits = 8.0 * (bytes[0] - bytes_now);
        let extra_ns = median(figures.clone()) - median(plain.clone());
        println!(
            "  {way:<20} {bytes_now:>8.0} B ({:.2}x)   {:>8.0} ns ({:.1}x)   pays below {:>6.2} Gbit/s",
            bytes_now / bytes[0],
            median(figures.clone()),
            median_ratio(figures, plain),
            saved_bits / extra_ns
        );
    }
}

fn take(receiver: &mut Receiver, stream: &[u8]) -> usize {
    let mut taken = 0;
    let mut rest = stream;
    while !rest.is_empty() {
        let room = receiver.room();
        let bytes = room.len().min(READ_BYTES).min(rest.len());
        room[..bytes].copy_from_slice(&rest[..bytes]);
        rest = &rest[bytes..];
        assert!(receiver.read(bytes, |message| {
            black_box(message.as_bytes());
            taken += 1;
        }));
    }
    taken
}

/// The messages as a server frames them: as they are, or compressed with its window kept or not.
fn frames(messages: &[String], keeps_window: Option<bool>) -> Vec<u8> {
    let mut stream = Compress::new(flate2::Compression::new(SERVERS_LEVEL), false);
    let mut out = Vec::new();
    for message in messages {
        let Some(keeps_window) = keeps_window else {
            frame(&mut out, 0x81, message.as_bytes());
            continue;
        };
        let mut deflated = Vec::with_capacity(message.len() + 1024);
        stream.compress_vec(message.as_bytes(), &mut deflated, FlushCompress::Sync).expect("there is room");
        if !keeps_window {
            stream.reset();
        }
        // RFC 7692, section 7.2.1.
        deflated.truncate(deflated.len() - 4);
        frame(&mut out, 0xC1, &deflated);
    }
    out
}

fn frame(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    out.push(first);
    match payload.len() {
        length @ 0..=125 => out.push(length as u8),
        length @ 126..=0xFFFF => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}
