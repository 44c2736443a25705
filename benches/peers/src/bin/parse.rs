//! What it costs to read a message: simd-json through this library's `Scratch`, serde_json, and sonic-rs, from the texts of the
//! peers' feed to the same numbers. One thread, in memory, in interleaved rounds; every way must come to the same sum.

#[path = "../texts.rs"]
mod texts;

use std::hint::black_box;
use std::time::Instant;

use hypersockets::simd_json::prelude::*;
use hypersockets::simd_json::tape;
use hypersockets::{HyperSocketError, Scratch};
use serde::{Deserialize, Deserializer};
use sonic_rs::{JsonContainerTrait as _, JsonValueTrait as _};

use texts::{Dice, TEXTS, book, ticker, trade};

type Result<T, E = HyperSocketError> = std::result::Result<T, E>;

fn main() -> Result<()> {
    println!("ns a message, {ROUNDS} interleaved rounds, medians; the ratio is to serde_json, typed");
    type Text = fn(usize, &mut Dice) -> String;
    for (shape, text, ways) in [
        ("bookTicker", ticker as Text, ticker_ways()),
        ("trade", trade, trade_ways()),
        ("l2Book", book, book_ways()),
        ("l2Book, its time alone", book, time_ways()),
    ] {
        let mut dice = Dice(1);
        let texts: Vec<_> = (0..TEXTS).map(|turn| text(turn, &mut dice)).collect();
        let bytes = texts.iter().map(String::len).sum::<usize>() / texts.len();
        println!("\n{shape}, {bytes} B");
        let mut scratch = Scratch::default();
        let mut costs = vec![Vec::new(); ways.len()];
        let sums = ways.iter().map(|way| pass(way, &texts, &mut scratch)).collect::<Result<Vec<_>>>()?;
        if sums.iter().any(|sum| sum.to_bits() != sums[0].to_bits()) {
            return Err(format!("{shape}: the sums differ: {sums:?}").into());
        }
        for _ in 0..ROUNDS {
            for (way, costs) in ways.iter().zip(&mut costs) {
                let begin = Instant::now();
                for _ in 0..PASSES {
                    black_box(pass(way, &texts, &mut scratch)?);
                }
                costs.push(begin.elapsed().as_nanos() as f64 / (PASSES * TEXTS) as f64);
            }
        }
        for (way, cost) in ways.iter().zip(&costs) {
            let ratio = median(cost.iter().zip(&costs[0]).map(|(cost, first)| cost / first).collect());
            println!("{:<28} {:>8.0}   {ratio:.2}x", way.name, median(cost.clone()));
        }
    }
    Ok(())
}

/// One way to the sum of a text's numbers.
struct Way {
    name: &'static str,
    read: fn(&str, &mut Scratch) -> Result<f64>,
}

fn pass(way: &Way, texts: &[String], scratch: &mut Scratch) -> Result<f64> {
    texts.iter().try_fold(0.0, |sum, text| Ok(sum + (way.read)(black_box(text), scratch)?))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

const ROUNDS: usize = 31;
const PASSES: usize = 20;

const SERDE_JSON: &str = "serde_json, typed";
const SERDE_JSON_VALUE: &str = "serde_json, Value";
const SIMD_JSON: &str = "Scratch::typed (simd-json)";
const SIMD_JSON_TAPE: &str = "Scratch::tape (simd-json)";
const SONIC: &str = "sonic-rs, typed";
const SONIC_VALUE: &str = "sonic-rs, Value";
const SONIC_GET: &str = "sonic-rs, get";

#[expect(clippy::needless_pass_by_value, reason = "so that map_err takes it as it is")]
fn of_sonic(error: sonic_rs::Error) -> HyperSocketError {
    HyperSocketError::Parse(error.to_string())
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    <&str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

fn parsed(text: Option<&str>) -> Result<f64> {
    text.and_then(|text| text.parse().ok()).ok_or_else(|| "no number".into())
}

#[derive(Deserialize)]
struct Ticker {
    #[serde(rename = "b", deserialize_with = "number")]
    bid: f64,
    #[serde(rename = "B", deserialize_with = "number")]
    bid_size: f64,
    #[serde(rename = "a", deserialize_with = "number")]
    ask: f64,
    #[serde(rename = "A", deserialize_with = "number")]
    ask_size: f64,
}

impl Ticker {
    fn sum(&self) -> f64 {
        self.bid + self.bid_size + self.ask + self.ask_size
    }
}

const TICKER_FIELDS: [&str; 4] = ["b", "B", "a", "A"];

fn ticker_ways() -> Vec<Way> {
    vec![
        Way { name: SERDE_JSON, read: |text, _| Ok(serde_json::from_str::<Ticker>(text)?.sum()) },
        Way {
            name: SERDE_JSON_VALUE,
            read: |text, _| {
                let value: serde_json::Value = serde_json::from_str(text)?;
                TICKER_FIELDS.iter().try_fold(0.0, |sum, field| Ok(sum + parsed(value[field].as_str())?))
            },
        },
        Way { name: SIMD_JSON, read: |text, scratch| Ok(scratch.typed::<Ticker>(text.as_bytes())?.sum()) },
        Way {
            name: SIMD_JSON_TAPE,
            read: |text, scratch| {
                scratch.tape(text.as_bytes(), |value| {
                    let object = value.as_object().ok_or("not an object")?;
                    TICKER_FIELDS.iter().try_fold(0.0, |sum, field| {
                        Ok(sum + parsed(object.get(*field).and_then(|it| it.into_string()))?)
                    })
                })
            },
        },
        Way { name: SONIC, read: |text, _| Ok(sonic_rs::from_str::<Ticker>(text).map_err(of_sonic)?.sum()) },
        Way {
            name: SONIC_VALUE,
            read: |text, _| {
                let value: sonic_rs::Value = sonic_rs::from_str(text).map_err(of_sonic)?;
                TICKER_FIELDS.iter().try_fold(0.0, |sum, field| Ok(sum + parsed(value[*field].as_str())?))
            },
        },
    ]
}

#[derive(Deserialize)]
struct Trades {
    data: [Trade; 1],
}

#[derive(Deserialize)]
struct Trade {
    #[serde(deserialize_with = "number")]
    px: f64,
    #[serde(deserialize_with = "number")]
    sz: f64,
}

impl Trades {
    fn sum(&self) -> f64 {
        let [trade] = &self.data;
        trade.px + trade.sz
    }
}

fn trade_ways() -> Vec<Way> {
    vec![
        Way { name: SERDE_JSON, read: |text, _| Ok(serde_json::from_str::<Trades>(text)?.sum()) },
        Way {
            name: SERDE_JSON_VALUE,
            read: |text, _| {
                let value: serde_json::Value = serde_json::from_str(text)?;
                let trade = &value["data"][0];
                Ok(parsed(trade["px"].as_str())? + parsed(trade["sz"].as_str())?)
            },
        },
        Way { name: SIMD_JSON, read: |text, scratch| Ok(scratch.typed::<Trades>(text.as_bytes())?.sum()) },
        Way {
            name: SIMD_JSON_TAPE,
            read: |text, scratch| {
                scratch.tape(text.as_bytes(), |value| {
                    let data = value.as_object().and_then(|object| object.get("data")).ok_or("no data")?;
                    let trade = data.as_array().and_then(|trades| trades.get(0)).and_then(|trade| trade.as_object());
                    let trade = trade.ok_or("no trade")?;
                    let px = trade.get("px").and_then(|it| it.into_string());
                    let sz = trade.get("sz").and_then(|it| it.into_string());
                    Ok(parsed(px)? + parsed(sz)?)
                })
            },
        },
        Way { name: SONIC, read: |text, _| Ok(sonic_rs::from_str::<Trades>(text).map_err(of_sonic)?.sum()) },
        Way {
            name: SONIC_VALUE,
            read: |text, _| {
                let value: sonic_rs::Value = sonic_rs::from_str(text).map_err(of_sonic)?;
                let trade = &value["data"][0];
                Ok(parsed(trade["px"].as_str())? + parsed(trade["sz"].as_str())?)
            },
        },
    ]
}

#[derive(Deserialize)]
struct BookMessage {
    data: Book,
}

#[derive(Deserialize)]
struct Book {
    levels: [Vec<Level>; 2],
}

#[derive(Deserialize)]
struct Level {
    #[serde(deserialize_with = "number")]
    px: f64,
    #[serde(deserialize_with = "number")]
    sz: f64,
}

impl BookMessage {
    fn sum(&self) -> f64 {
        self.data.levels.iter().flatten().fold(0.0, |sum, level| sum + level.px + level.sz)
    }
}

fn tape_levels<'tape, 'input>(value: tape::Value<'tape, 'input>) -> Result<tape::Array<'tape, 'input>> {
    let data = value.as_object().and_then(|object| object.get("data")).and_then(|data| data.as_object());
    let levels = data.and_then(|data| data.get("levels")).and_then(|levels| levels.as_array());
    levels.ok_or_else(|| "no levels".into())
}

fn book_ways() -> Vec<Way> {
    vec![
        Way { name: SERDE_JSON, read: |text, _| Ok(serde_json::from_str::<BookMessage>(text)?.sum()) },
        Way {
            name: SERDE_JSON_VALUE,
            read: |text, _| {
                let value: serde_json::Value = serde_json::from_str(text)?;
                let sides = value["data"]["levels"].as_array().ok_or("no levels")?;
                let mut sum = 0.0;
                for level in sides.iter().filter_map(serde_json::Value::as_array).flatten() {
                    sum = sum + parsed(level["px"].as_str())? + parsed(level["sz"].as_str())?;
                }
                Ok(sum)
            },
        },
        Way { name: SIMD_JSON, read: |text, scratch| Ok(scratch.typed::<BookMessage>(text.as_bytes())?.sum()) },
        Way {
            name: SIMD_JSON_TAPE,
            read: |text, scratch| {
                scratch.tape(text.as_bytes(), |value| {
                    let mut sum = 0.0;
                    for side in tape_levels(value)?.iter() {
                        for level in side.as_array().ok_or("no side")?.iter() {
                            let level = level.as_object().ok_or("no level")?;
                            let px = level.get("px").and_then(|it| it.into_string());
                            let sz = level.get("sz").and_then(|it| it.into_string());
                            sum = sum + parsed(px)? + parsed(sz)?;
                        }
                    }
                    Ok(sum)
                })
            },
        },
        Way { name: SONIC, read: |text, _| Ok(sonic_rs::from_str::<BookMessage>(text).map_err(of_sonic)?.sum()) },
        Way {
            name: SONIC_VALUE,
            read: |text, _| {
                let value: sonic_rs::Value = sonic_rs::from_str(text).map_err(of_sonic)?;
                let sides = value["data"]["levels"].as_array().ok_or("no levels")?;
                let mut sum = 0.0;
                for level in sides.iter().filter_map(|side| side.as_array()).flatten() {
                    sum = sum + parsed(level["px"].as_str())? + parsed(level["sz"].as_str())?;
                }
                Ok(sum)
            },
        },
    ]
}

#[derive(Deserialize)]
struct TimeMessage {
    data: Time,
}

#[derive(Deserialize)]
struct Time {
    time: u64,
}

fn time_ways() -> Vec<Way> {
    vec![
        Way { name: SERDE_JSON, read: |text, _| Ok(serde_json::from_str::<TimeMessage>(text)?.data.time as f64) },
        Way {
            name: SIMD_JSON,
            read: |text, scratch| Ok(scratch.typed::<TimeMessage>(text.as_bytes())?.data.time as f64),
        },
        Way {
            name: SIMD_JSON_TAPE,
            read: |text, scratch| {
                scratch.tape(text.as_bytes(), |value| {
                    let data =
                        value.as_object().and_then(|object| object.get("data")).and_then(|data| data.as_object());
                    let time = data.and_then(|data| data.get("time")).and_then(|time| time.as_u64());
                    Ok(time.ok_or("no time")? as f64)
                })
            },
        },
        Way {
            name: SONIC,
            read: |text, _| Ok(sonic_rs::from_str::<TimeMessage>(text).map_err(of_sonic)?.data.time as f64),
        },
        Way {
            name: SONIC_GET,
            read: |text, _| {
                let time = sonic_rs::get(text, ["data", "time"]).map_err(of_sonic)?;
                Ok(time.as_u64().ok_or("no time")? as f64)
            },
        },
    ]
}
