//! What decoding a message costs in memory, against a parser written by hand and against tungstenite alone. `cargo bench --bench
//! decode` prints the ratios against their bars; without `--bench`, as under `cargo test --benches`, it makes a short round to see
//! that it still works.

mod support {
    pub(crate) mod by_hand;
    pub(crate) mod decoders;
    pub(crate) mod figures;
}

use std::hint::black_box;
use std::time::Instant;

use support::by_hand::{Feed, READ_BYTES};
use support::decoders::{ByHand, Decoder, Ours, Tungstenite};
use support::figures::{self, median, median_ratio};

struct Plan {
    rounds: usize,
    bytes: usize,
}

const MEASURED: Plan = Plan { rounds: 101, bytes: 16 << 20 };
const TRIED: Plan = Plan { rounds: 1, bytes: 1 << 20 };
const BAR: f64 = 1.3;

fn main() {
    let plan = if figures::is_measured() { MEASURED } else { TRIED };
    println!("ns a message, {} interleaved rounds, medians; the ratio is to the parser written by hand", plan.rounds);
    for text_bytes in [150, 2048] {
        for (name, read_bytes) in [("in a batch", READ_BYTES), ("one per read", 0)] {
            compare(&format!("{text_bytes:>4} B {name}"), &plan, &Feed::new(text_bytes, read_bytes));
        }
    }
}

fn compare(name: &str, plan: &Plan, feed: &Feed) {
    let mut decoders: [Box<dyn Decoder>; 3] =
        [Box::new(ByHand::new()), Box::new(Ours::new()), Box::new(Tungstenite::new())];
    let reads = plan.bytes.div_ceil(feed.read.len());
    let mut figures = [const { Vec::new() }; 3];
    for _ in 0..plan.rounds {
        for (decoder, figures) in decoders.iter_mut().zip(&mut figures) {
            let begin = Instant::now();
            let messages: usize = (0..reads).map(|_| decoder.take(black_box(&feed.read)).0).sum();
            let took = begin.elapsed();
            assert_eq!(messages, reads * feed.frames, "each message is decoded once");
            figures.push(took.as_nanos() as f64 / messages as f64);
        }
    }
    let [by_hand, ours, tungstenite] = &figures;
    let (ours_ratio, tungstenite_ratio) = (median_ratio(ours, by_hand), median_ratio(tungstenite, by_hand));
    let verdict = figures::verdict(ours_ratio <= BAR);
    println!(
        "{name:<20} by hand {:>6.1}   hypersockets {:>6.1} {ours_ratio:.2}x   tungstenite {:>7.1} {tungstenite_ratio:.2}x   bar {BAR}x: {verdict}",
        median(by_hand.clone()),
        median(ours.clone()),
        median(tungstenite.clone()),
    );
}
