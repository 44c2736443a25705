//! Promise: time is charged to the stage that took it, every message is counted once in each, and switched off nothing is
//! measured.

mod support {
    pub(crate) mod lines;
}

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use hypersockets::simulator::{Session, Venue};
use hypersockets::{
    Client, Compression, Delivery, Latency, LatencyReport, MessageHandler, MessageRouter, Result, RouteOptions,
    SocketOptions, Stages, WsMessage,
};
use support::lines::{Lines, PATIENCE, live_session};

const DELAY: Duration = Duration::from_millis(1);
const DELAY_NS: u64 = 1_000_000;
const MESSAGES: u64 = 50;

/// Takes its time with each message.
struct SlowParser(Duration);

impl MessageRouter for SlowParser {
    type Message = String;
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> Result<String> {
        std::thread::sleep(self.0);
        Lines.parse(message)
    }

    fn route_key(&self, _: &String) {}
}

/// Takes its time, then says that it is done.
struct SlowHandler(Duration, Sender<()>);

impl MessageHandler<String> for SlowHandler {
    fn handle(&mut self, _: String) -> Result<()> {
        std::thread::sleep(self.0);
        self.1.send(()).map_err(|_| "the test has ended".into())
    }
}

fn start(venue: &Venue, parse: Duration, handle: Duration, options: RouteOptions<String>) -> (Client, Receiver<()>) {
    let (done, handled) = crossbeam_channel::unbounded();
    let client = hypersockets::builder()
        .url(venue.url())
        .router(SlowParser(parse), |routing| routing.handler_with((), SlowHandler(handle, done), options))
        .socket(SocketOptions::new().kernel_timestamps())
        .measure_latency()
        .build()
        .expect("the venue accepts");
    (client, handled)
}

/// One message after the other: none waits for the one before.
fn one_by_one(session: &Session, handled: &Receiver<()>) {
    for n in 0..MESSAGES {
        session.send_text(format!("{n}"));
        handled.recv_timeout(PATIENCE).expect("it is handled");
    }
}

/// The report once the last message has been counted, which is after its handler returned.
fn report(client: &Client, count: u64) -> LatencyReport {
    client.shutdown().expect("a clean end");
    let report = client.latency();
    assert_eq!(report.stages.total.count(), count);
    report
}

/// Half of the messages took the delay in this stage, and far less in each other.
fn assert_only(stages: &Stages, slow: &str) {
    for (name, latency) in stages.named() {
        let is_slow = name == slow || name == "total";
        let p50 = latency.quantile_ns(0.5);
        assert_eq!(p50 >= DELAY_NS, is_slow, "{name}: p50 {p50} ns, and {slow} was slow");
    }
}

#[test]
fn a_slow_parser_shows_in_the_parser() {
    for options in [RouteOptions::new(), RouteOptions::new().inline()] {
        let venue = Venue::scripted().start().expect("a free port");
        let (client, handled) = start(&venue, DELAY, Duration::ZERO, options);
        one_by_one(&live_session(&client, &venue), &handled);
        assert_only(&report(&client, MESSAGES).stages, "parse");
    }
}

#[test]
fn a_slow_handler_shows_in_the_handler() {
    for options in [RouteOptions::new(), RouteOptions::new().inline()] {
        let venue = Venue::scripted().start().expect("a free port");
        let (client, handled) = start(&venue, Duration::ZERO, DELAY, options);
        one_by_one(&live_session(&client, &venue), &handled);
        assert_only(&report(&client, MESSAGES).stages, "handle");
    }
}

#[test]
fn a_busy_handler_moves_the_queue_time_of_the_messages_behind() {
    let venue = Venue::scripted().start().expect("a free port");
    let (client, handled) = start(&venue, Duration::ZERO, DELAY, RouteOptions::new());
    let session = live_session(&client, &venue);
    (0..MESSAGES).for_each(|n| session.send_text(format!("{n}")));
    (0..MESSAGES).for_each(|_| handled.recv_timeout(PATIENCE).expect("it is handled"));
    let stages = report(&client, MESSAGES).stages;
    // The half that came behind 25 others waited for 25 ms at least, less what the sending took.
    assert!(stages.queue.max_ns() > 10 * DELAY_NS, "{:?}", stages.queue);
    assert!(stages.parse.quantile_ns(0.5) < DELAY_NS, "{:?}", stages.parse);
}

#[test]
fn the_stages_sum_to_the_total_and_every_message_is_in_each() {
    for compressed in [false, true] {
        let venue = Venue::ticks(150).flat_out();
        let venue = if compressed { venue.deflate() } else { venue };
        let venue = venue.start().expect("a free port");
        let (done, handled) = crossbeam_channel::unbounded();
        let builder = hypersockets::builder().url(venue.url());
        let builder = if compressed { builder.compression(Compression::deflate()) } else { builder };
        let client = builder
            .router(SlowParser(Duration::ZERO), |routing| routing.handler((), SlowHandler(Duration::ZERO, done)))
            .socket(SocketOptions::new().kernel_timestamps())
            .measure_latency()
            .build()
            .expect("the venue accepts");
        (0..5_000).for_each(|_| handled.recv_timeout(PATIENCE).expect("it is handled"));
        let report = client.shutdown().expect("a clean end");
        let (stages, count) = (client.latency().stages, report.metrics.messages_handled);
        assert_eq!(stages.kernel_to_read.count() + stages.kernel_upper_bounds, count);
        let Stages { read_to_parse, inflate, parse, queue, handle, total, .. } = stages;
        assert!([&read_to_parse, &parse, &queue, &handle, &total].iter().all(|part| part.count() == count));
        assert_eq!(inflate.count(), if compressed { count } else { 0 });
        let sum: f64 = [read_to_parse, inflate, parse, queue, handle].iter().map(|part| part.mean_ns()).sum();
        assert!((sum / total.mean_ns() - 1.0).abs() < 0.02, "{sum} of {}", total.mean_ns());
    }
}

/// A message that inflates to a thousand times its length: far longer than parsing it, and than what came before it.
#[test]
fn inflating_shows_in_its_own_stage() {
    let venue = Venue::scripted().deflate().start().expect("a free port");
    let (done, handled) = crossbeam_channel::unbounded();
    let client = hypersockets::builder()
        .url(venue.url())
        .compression(Compression::deflate())
        .router(Lengths, |routing| routing.handler((), move |_: usize| done.send(()).map_err(|_| "the end".into())))
        .measure_latency()
        .build()
        .expect("the venue accepts");
    let session = live_session(&client, &venue);
    for _ in 0..5 {
        session.send_text("0".repeat(4 << 20));
        handled.recv_timeout(PATIENCE).expect("it is handled");
    }
    let report = report(&client, 5);
    let mean = |part: &Latency| part.mean_ns();
    let Stages { inflate, parse, handle, .. } = &report.stages;
    assert!(inflate.count() == 5 && mean(inflate) > 5.0 * (mean(parse) + mean(handle)), "{:?}", report.stages);
    assert!(report.slowest.iter().all(|trace| trace.inflate_ns.is_some()), "{:?}", report.slowest);
}

/// Looks at nothing but the length.
struct Lengths;

impl MessageRouter for Lengths {
    type Message = usize;
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> Result<usize> {
        Ok(message.as_bytes().len())
    }

    fn route_key(&self, _: &usize) {}
}

/// Reads its own message's stamps, and answers it.
struct Trader(Sender<[Duration; 4]>);

impl MessageHandler<String> for Trader {
    fn handle(&mut self, _: String) -> Result<()> {
        Err("handle_delivery takes all".into())
    }

    fn handle_delivery(&mut self, _: String, delivery: &mut Delivery<'_>) -> Result<()> {
        let stamps = delivery.stamps();
        let received = stamps.received();
        let points = [stamps.decoded(), stamps.parsed(), stamps.queued(), stamps.dequeued()];
        let after = points.map(|point| point.map_or(Duration::MAX, |point| point - received));
        delivery.send(WsMessage::text("order"))?;
        self.0.send(after).map_err(|_| "the test has ended".into())
    }
}

#[test]
fn a_handler_reads_its_messages_stamps_and_its_order_closes_tick_to_trade() {
    for options in [RouteOptions::new(), RouteOptions::new().inline()] {
        let venue = Venue::scripted().start().expect("a free port");
        let (seen, stamps) = crossbeam_channel::unbounded();
        let client = hypersockets::builder()
            .url(venue.url())
            .router(SlowParser(Duration::ZERO), |routing| routing.handler_with((), Trader(seen), options))
            .measure_latency()
            .build()
            .expect("the venue accepts");
        let session = live_session(&client, &venue);
        session.send_text("tick");
        let after = stamps.recv_timeout(PATIENCE).expect("it is handled");
        assert!(after.is_sorted() && after[3] < PATIENCE, "{after:?}");
        session.assert_received("order");
        client.shutdown().expect("a clean end");
        let report = client.latency();
        assert_eq!(report.tick_to_trade.count(), 1);
        assert!(report.tick_to_trade.max_ns() > 0);
        assert_eq!(report.slowest.len(), 1);
    }
}

#[test]
fn without_measuring_nothing_is_measured() {
    let venue = Venue::scripted().start().expect("a free port");
    let (done, handled) = crossbeam_channel::unbounded();
    let client = hypersockets::builder()
        .url(venue.url())
        .router(SlowParser(Duration::ZERO), |routing| routing.handler((), SlowHandler(Duration::ZERO, done)))
        .build()
        .expect("the venue accepts");
    live_session(&client, &venue).send_text("tick");
    handled.recv_timeout(PATIENCE).expect("it is handled");
    client.shutdown().expect("a clean end");
    let report = client.latency();
    assert_eq!((report.stages.total.count(), report.routes.len(), report.slowest.len()), (0, 0, 0));
}
