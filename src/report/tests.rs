//! What the formats say of measurements that are known.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

use super::*;
use crate::metrics::{Latency, LatencyRecorder, LatencyReport, RouteLatency, StageRecorder, Trail};

/// 1,000 messages of two routes: 1 … 1,000 µs in the queue, 2 µs in each other stage.
fn report() -> LatencyReport {
    let routes = ["BTC", "<ETH>,\"x\""].map(|route| {
        let recorder = StageRecorder::default();
        for n in 1..=500_u64 {
            let begin = 1_000_000_000 + n * 10_000_000;
            let mut trail = Trail::new(begin);
            trail.decoded(begin + 2_000);
            trail.parsed(begin + 3_000);
            trail.queued(begin + 4_000);
            let dequeued = begin + 4_000 + (2 * n - u64::from(route == "BTC")) * 1_000;
            recorder.record(1, &trail, dequeued, dequeued + 2_000);
        }
        (RouteLatency { route: route.to_owned(), stages: recorder.snapshot() }, recorder.slowest(route))
    });
    let [(first, slowest), (second, _)] = routes;
    LatencyReport {
        taken_unix_ns: 1_700_000_000_000_000_000,
        covers: Duration::from_secs(10),
        stages: crate::metrics::Stages::merged([&first.stages, &second.stages].into_iter()),
        routes: vec![first, second],
        tick_to_trade: LatencyRecorder::default().snapshot(),
        round_trips: LatencyRecorder::default().snapshot(),
        loop_gaps: LatencyRecorder::default().snapshot(),
        slowest,
    }
}

/// Within the 0.1 % that a histogram is exact to.
fn about(value: u64, expected: u64) -> bool {
    value.abs_diff(expected) * 1000 <= expected
}

#[test]
fn json_holds_every_stage_of_every_route() {
    let json = json(&report());
    let queue = &json["stages"]["queue"];
    assert_eq!((&queue["count"], &json["stages"]["kernel_to_read"]["count"]), (&1_000.into(), &0.into()));
    for (name, us) in [("p50", 500), ("p90", 900), ("p99", 990), ("p99.9", 999), ("max", 1_000)] {
        assert!(about(queue[name].as_u64().unwrap(), us * 1_000), "{name}: {queue}");
    }
    assert_eq!(json["routes"][1]["route"], "<ETH>,\"x\"");
    assert_eq!(json["routes"][1]["stages"]["parse"]["count"], 500);
    assert_eq!(json["slowest"].as_array().map(Vec::len), Some(16));
    assert_eq!(json["covers_ns"], 10_000_000_000_u64);
}

#[test]
fn csv_has_a_row_a_route_and_stage_and_quotes_what_it_must() {
    let text = csv(&report());
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 1 + 10 + 2 * 7);
    assert!(lines[5].starts_with(",queue,1000,500"), "{}", lines[5]);
    assert!(lines[18].starts_with("\"<ETH>,\"\"x\"\"\",kernel_to_read,0,"), "{}", lines[18]);
}

#[test]
fn percentile_text_ends_with_all_messages() {
    let text = hgrm(&report().stages.queue);
    let rows: Vec<Vec<f64>> = text
        .lines()
        .skip(2)
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_whitespace().map(|word| word.parse().unwrap()).collect())
        .collect();
    assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][2] <= pair[1][2]), "{text}");
    let last = rows.last().unwrap();
    assert_eq!((last.len(), last[1], last[2]), (3, 1.0, 1_000.0), "the last has no 1/(1-Percentile)");
    assert!((last[0] - 1_000.0).abs() < 1.0, "microseconds");
    assert!(text.contains("Total count    =         1000]"), "{text}");
    assert!(text.contains("SubBuckets     =         2048]"), "{text}");
}

#[test]
fn the_interval_log_is_read_back_with_the_same_percentiles() {
    let report = report();
    let mut bytes = Vec::new();
    let mut log = IntervalLog::new(&mut bytes);
    log.write(&report).unwrap();
    log.write(&report).unwrap();
    let mut read = 0;
    for entry in IntervalLogIterator::new(&bytes) {
        let LogEntry::Interval(interval) = entry.expect("a line of the format") else { continue };
        read += 1;
        let coded = base64_of(interval.encoded_histogram());
        let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut &coded[..]).unwrap();
        let tag = interval.tag().unwrap();
        let (_, latency) = report.stages.named().into_iter().find(|(name, _)| *name == tag.as_str()).unwrap();
        assert_eq!(histogram.len(), latency.count());
        for quantile in [0.5, 0.99, 1.0] {
            assert_eq!(histogram.value_at_quantile(quantile), latency.quantile_ns(quantile), "{}", tag.as_str());
        }
        assert_eq!(interval.duration(), Duration::from_secs(10));
        assert_eq!(interval.start_timestamp(), Duration::from_secs(1_700_000_000 - 10));
    }
    assert_eq!(read, 10, "five stages were measured, twice");
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(text.matches("#[StartTime").count(), 1, "one header: {text}");
}

fn base64_of(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

#[test]
fn html_stands_alone_and_escapes_names() {
    let report = report();
    let mut html = HtmlReport::new("a <b> & \"c\"").note("URL", "ws://x/?<script>");
    for _ in 0..1_500 {
        html.interval(&report);
    }
    let page = html.render(&report);
    assert_eq!(page.matches("<svg").count(), 3, "percentiles, timeline, slowest");
    assert!(!page.contains("<script") && !page.contains("<b>") && !page.contains("<ETH>"), "escaped");
    let links = page.matches("http").count();
    assert_eq!(links, page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count(), "nothing to fetch");
    assert!(!page.contains("NaN") && !page.contains("inf"), "every coordinate is a number");
}

#[test]
fn html_of_nothing_is_a_page_all_the_same() {
    let mut nothing = report();
    nothing.stages = StageRecorder::default().snapshot();
    nothing.routes.clear();
    nothing.slowest.clear();
    let page = HtmlReport::new("quiet").render(&nothing);
    assert!(page.contains("<td>") || page.contains("Messages handled"));
    assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
}

#[test]
fn prometheus_is_served_on_loopback_to_those_who_get() {
    let latency: Latency = report().stages.queue;
    let text = format!("x {}\n", latency.count());
    let served = text.clone();
    let endpoint = PrometheusEndpoint::start(0, move || served.clone()).unwrap();
    assert!(endpoint.address().ip().is_loopback());
    let ask = |request: &str| {
        let mut stream = TcpStream::connect(endpoint.address()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(&format!("\r\n\r\n{text}")), "{answer}");
    assert!(ask("POST / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    let address = endpoint.address();
    drop(endpoint);
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}
