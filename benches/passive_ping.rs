//! What looking for a passive ping costs on a message that is none: a book of 2 KiB, as most messages are.
//!
//! `cargo bench --bench passive_ping`; without `--bench`, as under `cargo test --benches`, it makes a short round to see that it still
//! works. Interleaved rounds, medians; the last column is the share of a UTF-8 check of the same bytes, which every message pays anyway.

mod support {
    pub(crate) mod figures;
}

use std::hint::black_box;
use std::time::Instant;

use hypersockets::{JsonPassivePing, PassivePingDetector, TextPassivePing, WsMessage};
use support::figures::{self, median};

struct Plan {
    rounds: usize,
    calls: u32,
}

const MEASURED: Plan = Plan { rounds: 15, calls: 200_000 };
const TRIED: Plan = Plan { rounds: 1, calls: 100 };

/// Its name, the message, and what is done with it.
type Case<'a> = (&'a str, &'a str, &'a dyn Fn(&str) -> bool);

fn main() {
    let Plan { rounds, calls } = if figures::is_measured() { MEASURED } else { TRIED };
    let plain = book("coin", "BTC");
    // The venue uses the ping's field name in every message: the prefilter has to look for the value, too.
    let with_field = book("type", "l2Book");
    // The worst case: both words are there, so the message has to be parsed to be sure.
    let look_alike = plain.replacen("\"coin\":\"BTC\"", "\"note\":{\"type\":\"ping\"}", 1);
    let text = TextPassivePing::new("ping", WsMessage::text("pong"));
    let json = JsonPassivePing::new("type", "ping", WsMessage::text(r#"{"type":"pong"}"#));

    let utf8 = |message: &str| std::str::from_utf8(black_box(message.as_bytes())).is_ok();
    let cases: [Case<'_>; 5] = [
        ("UTF-8 check alone", &plain, &utf8),
        ("TextPassivePing", &plain, &|message| text.is_ping(&black_box(message).into())),
        ("JsonPassivePing, neither word", &plain, &|message| json.is_ping(&black_box(message).into())),
        ("JsonPassivePing, the field", &with_field, &|message| json.is_ping(&black_box(message).into())),
        ("JsonPassivePing, both words", &look_alike, &|message| json.is_ping(&black_box(message).into())),
    ];
    let mut ns: Vec<Vec<f64>> = vec![Vec::new(); cases.len()];
    for _ in 0..rounds {
        for ((_, message, check), ns) in cases.iter().zip(&mut ns) {
            let begin = Instant::now();
            for _ in 0..calls {
                black_box(check(message));
            }
            ns.push(begin.elapsed().as_secs_f64() * 1e9 / f64::from(calls));
        }
    }
    println!("{} bytes a message, median of {rounds} interleaved rounds", plain.len());
    let medians: Vec<f64> = ns.into_iter().map(median).collect();
    for ((name, _, _), median) in cases.iter().zip(&medians) {
        println!("{name:<32} {median:>8.1} ns  {:>5.2}x", median / medians[0]);
    }
}

/// A book message of some 2 KiB, with one field of the caller's in front.
fn book(field: &str, value: &str) -> String {
    let level = |i: usize| format!(r#"{{"px":"{}.5","sz":"1.{i:04}","n":{}}}"#, 60_000 + i, i % 9 + 1);
    let side = |from: usize| (from..from + 26).map(level).collect::<Vec<_>>().join(",");
    format!(r#"{{"{field}":"{value}","time":1700000000000,"levels":[[{}],[{}]]}}"#, side(0), side(100))
}
