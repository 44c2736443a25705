//! How long a message takes from the venue's send to its handler, against raw reads of the same feed.
//! `cargo bench --bench latency` prints the figures against their bar; without `--bench`, as under `cargo test --benches`, it makes a
//! short round to see that it still works.
//!
//! The venue is a thread on the last core that sends 150 B on a schedule, each message with the time just before its `write`.
//! Whoever reads on one thread does so on the first core; engines with threads of their own are left to the scheduler, as by
//! default. Every handler parses the same 19 digits and takes the same look at the clock. All rows take turns, round after round.

mod support {
    pub(crate) mod by_hand;
    pub(crate) mod cores;
    pub(crate) mod figures;
    pub(crate) mod upgrade;
}

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use hdrhistogram::Histogram;
use hypersockets::{
    Client, ClientBuilder, Engine, EventLoop, HasRouter, HasUrl, IdleStrategy, MessageHandler, MessageRouter,
    NeverReconnect, Result, RouteOptions, ThreadOptions, WsMessage,
};
use support::by_hand::Intake;
use support::cores;
use support::figures::{self, median};
use support::upgrade;

struct Plan {
    rounds: usize,
    /// How long each row of a round is sent to.
    sending: Duration,
}

const MEASURED: Plan = Plan { rounds: 15, sending: Duration::from_millis(400) };
const TRIED: Plan = Plan { rounds: 1, sending: Duration::from_millis(40) };

const TEXT_BYTES: usize = 150;
/// Over a raw busy read.
const BAR_NS: f64 = 400.0;
const NO_NAGLE: bool = true;

/// Who reads.
struct Reader {
    name: &'static str,
    read: fn(SocketAddr, u64) -> Result<Histogram<u64>>,
}

const READERS: [Reader; 7] = [
    Reader { name: "raw, busy", read: |venue, messages| cores::on_first(move || raw(venue, messages, true)) },
    Reader { name: "raw, blocking", read: |venue, messages| cores::on_first(move || raw(venue, messages, false)) },
    Reader { name: "inline, busy", read: |venue, _| cores::on_first(move || turned(venue)) },
    Reader { name: "inline, adaptive", read: |venue, _| engine(venue, IdleStrategy::default(), false, &inline()) },
    Reader {
        name: "threads, adaptive",
        read: |venue, _| engine(venue, IdleStrategy::default(), false, &RouteOptions::new()),
    },
    Reader {
        name: "threads, spinning",
        read: |venue, _| {
            let spinning = RouteOptions::new().thread(ThreadOptions::new().idle(IdleStrategy::BusySpin));
            engine(venue, IdleStrategy::BusySpin, false, &spinning)
        },
    },
    Reader { name: "a lane, adaptive", read: |venue, _| engine(venue, IdleStrategy::default(), true, &inline()) },
];
const RAW_BUSY: usize = 0;
const INLINE_BUSY: usize = 2;

fn main() -> Result<()> {
    let plan = if figures::is_measured() { MEASURED } else { TRIED };
    let cores = thread::available_parallelism()?.get();
    println!("{TEXT_BYTES} B, {} interleaved rounds, medians of p50 and p90; {cores} cores", plan.rounds);
    if cores < 3 {
        println!("with fewer than three cores a spinning loop, a spinning handler and the venue share what there is");
    }
    for per_sec in [5_000, 50_000] {
        let messages = (plan.sending.as_secs_f64() * per_sec as f64) as u64;
        let mut rounds: [Vec<[f64; 2]>; READERS.len()] = Default::default();
        for _ in 0..plan.rounds {
            for (figures, reader) in rounds.iter_mut().zip(&READERS) {
                let venue = start_venue(messages, per_sec)?;
                let times = (reader.read)(venue, messages)?;
                if times.len() != messages {
                    return Err(format!("{}: {} of {messages} messages came", reader.name, times.len()).into());
                }
                figures.push([0.5, 0.9].map(|quantile| times.value_at_quantile(quantile) as f64));
            }
        }
        let p50s = |reader: usize| rounds[reader].iter().map(|round| round[0]);
        for (reader, figures) in READERS.iter().zip(&rounds) {
            let [p50, p90] = [0, 1].map(|column| median(figures.iter().map(|round| round[column]).collect()) / 1e3);
            let more = median(figures.iter().zip(p50s(RAW_BUSY)).map(|(round, raw)| round[0] - raw).collect()) / 1e3;
            println!(
                "{per_sec:>6}/s   {:<18} p50 {p50:>6.2} µs   p90 {p90:>6.2} µs   p50 {more:>+6.2} µs to raw, busy",
                reader.name
            );
        }
        let more = median(p50s(INLINE_BUSY).zip(p50s(RAW_BUSY)).map(|(inline, raw)| inline - raw).collect());
        println!(
            "{per_sec:>6}/s   inline, busy, over raw, busy: {more:+.0} ns   bar +{BAR_NS:.0} ns: {}",
            figures::verdict(more <= BAR_NS)
        );
    }
    Ok(())
}

/// Nanoseconds since this process began to measure.
fn now_ns() -> u64 {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    BEGIN.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// How long ago a message was sent.
fn age_ns(text: &str) -> Result<u64> {
    let sent_ns: u64 = text[STAMP_AT..STAMP_AT + STAMP_DIGITS].parse().map_err(|_| "not of this venue")?;
    Ok(now_ns().saturating_sub(sent_ns))
}

/// Of `{"sent_ns":0000000000000000000,"pad":"…"}`.
const STAMP_AT: usize = 11;
const STAMP_DIGITS: usize = 19;

/// Serves one client, and closes the session behind the last message.
fn start_venue(messages: u64, per_sec: u64) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        cores::stay_on_last();
        // A reader that fails says so itself.
        let _ = listener.accept().and_then(|(socket, _)| send(socket, messages, per_sec));
    });
    Ok(address)
}

fn send(mut socket: TcpStream, messages: u64, per_sec: u64) -> io::Result<()> {
    socket.set_nodelay(NO_NAGLE)?;
    upgrade::accept(&mut socket)?;
    let mut frame = vec![0x81, 126];
    frame.extend_from_slice(&(TEXT_BYTES as u16).to_be_bytes());
    let begin = frame.len();
    frame.extend_from_slice(format!(r#"{{"sent_ns":{:019},"pad":""#, 0).as_bytes());
    frame.resize(begin + TEXT_BYTES - 2, b'x');
    frame.extend_from_slice(b"\"}");
    // A client that has just connected may still be starting its threads.
    thread::sleep(Duration::from_millis(50));
    let first = now_ns();
    for number in 0..messages {
        let due = first + number * 1_000_000_000 / per_sec;
        while now_ns() < due {
            // Whoever else wants this core gets it.
            thread::yield_now();
        }
        let stamp = format!("{:019}", now_ns());
        frame[begin + STAMP_AT..begin + STAMP_AT + STAMP_DIGITS].copy_from_slice(stamp.as_bytes());
        socket.write_all(&frame)?;
    }
    socket.write_all(&[0x88, 2, 0x03, 0xe8])?;
    io::copy(&mut socket, &mut io::sink()).map(drop)
}

fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).map_err(|error| error.to_string().into())
}

/// Longer counts as this.
const LONGEST_NS: u64 = 60_000_000_000;

fn raw(venue: SocketAddr, messages: u64, busy: bool) -> Result<Histogram<u64>> {
    let mut socket = TcpStream::connect(venue)?;
    socket.set_nodelay(NO_NAGLE)?;
    upgrade::ask(&mut socket)?;
    socket.set_nonblocking(busy)?;
    let mut times = histogram()?;
    let mut intake = Intake::new();
    while times.len() < messages {
        let mut outcome = Ok(());
        intake.read(&mut socket, |text| match age_ns(text) {
            Ok(age) => times.saturating_record(age),
            Err(error) => outcome = Err(error),
        })?;
        outcome?;
    }
    Ok(times)
}

/// A message is its text's stamp, and read by the handler, so that the hop between them counts.
struct SentAt;

impl MessageRouter for SentAt {
    type Message = [u8; STAMP_AT + STAMP_DIGITS];
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> Result<Self::Message> {
        message.as_bytes().first_chunk().copied().ok_or_else(|| "not of this venue".into())
    }

    fn route_key(&self, _: &Self::Message) {}
}

/// Hands its times over at the end.
struct Clock {
    times: Histogram<u64>,
    done: Sender<Histogram<u64>>,
}

impl MessageHandler<[u8; STAMP_AT + STAMP_DIGITS]> for Clock {
    fn handle(&mut self, head: [u8; STAMP_AT + STAMP_DIGITS]) -> Result<()> {
        let text = std::str::from_utf8(&head).map_err(|_| "not of this venue")?;
        self.times.saturating_record(age_ns(text)?);
        Ok(())
    }

    fn on_stop(&mut self) {
        // There is room for the one that is sent, and someone waits for it.
        let _ = self.done.send(self.times.clone());
    }
}

fn inline() -> RouteOptions<[u8; STAMP_AT + STAMP_DIGITS]> {
    RouteOptions::new().inline()
}

fn prepare(
    venue: SocketAddr,
    options: RouteOptions<[u8; STAMP_AT + STAMP_DIGITS]>,
    done: Sender<Histogram<u64>>,
) -> Result<ClientBuilder<HasUrl, HasRouter>> {
    let clock = Clock { times: histogram()?, done };
    Ok(hypersockets::builder()
        .url(format!("ws://{venue}/"))
        .router(SentAt, |routing| routing.handler_with((), clock, options))
        .reconnect_strategy(NeverReconnect))
}

fn turned(venue: SocketAddr) -> Result<Histogram<u64>> {
    let (done, times) = bounded(1);
    let mut event_loop = EventLoop::new()?;
    let _client: Client = event_loop.add(prepare(venue, inline(), done)?)?;
    while !event_loop.is_empty() {
        event_loop.turn();
    }
    times.recv().map_err(|_| "the handler was not stopped".into())
}

fn engine(
    venue: SocketAddr,
    idle: IdleStrategy,
    lane: bool,
    options: &RouteOptions<[u8; STAMP_AT + STAMP_DIGITS]>,
) -> Result<Histogram<u64>> {
    let (done, times) = bounded(1);
    let lanes = lane.then(|| ThreadOptions::new().idle(idle));
    let engine = Engine::builder().idle(idle).lanes(lanes).start()?;
    let client = prepare(venue, options.clone(), done)?.engine(&engine).build()?;
    let times = times.recv_timeout(PATIENCE).map_err(|_| "the messages did not come")?;
    client.shutdown()?;
    engine.shutdown()?;
    Ok(times)
}

/// For what must come; a bench that hangs should say so.
const PATIENCE: Duration = Duration::from_secs(60);
