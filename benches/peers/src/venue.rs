//! The sender: one raw socket in a process of its own, which writes frames that were encoded beforehand. The same for all
//! peers.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use hdrhistogram::Histogram;
use nix::sys::prctl;
use serde::{Deserialize, Serialize};
use tokio_tungstenite::tungstenite;

use crate::Result;
use crate::payload::{self, Frame, Parse, Shape};
use crate::stamp;
use crate::texts::TEXTS;

/// What to send.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Programme {
    #[arg(long)]
    pub(crate) shape: Shape,
    /// What is not parsed is sent without stamps, or stamping would be what is measured.
    #[arg(long)]
    pub(crate) parse: Option<Parse>,
    #[arg(long)]
    pub(crate) messages: u64,
    /// 0 is flat out.
    #[arg(long)]
    pub(crate) per_sec: u64,
}

/// What was sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sent {
    pub(crate) messages: u64,
    /// The sum of all messages' digests.
    pub(crate) digest: u64,
    /// The last message's.
    pub(crate) last_digest: u64,
    /// How far behind its schedule the venue was; a stamp is the time of sending, so this is in no latency.
    pub(crate) late_p50_us: f64,
    pub(crate) late_p99_us: f64,
}

/// Serves one client; tells its port first, and at the end what it has sent.
pub(crate) fn run(programme: Programme) -> Result<()> {
    if let Some(last) = core_affinity::get_core_ids().unwrap_or_default().last() {
        core_affinity::set_for_current(*last);
    }
    // Sleeps end when they should, not up to 50 µs later.
    prctl::set_timerslack(1)?;
    let frames = payload::frames(programme.shape)?;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    println!("{}", listener.local_addr()?.port());
    let (stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut stream = tungstenite::accept(stream).map_err(|error| format!("upgrade: {error}"))?.into_inner();
    std::thread::sleep(BEFORE_THE_FIRST);
    let sent = match programme.per_sec {
        0 if programme.parse.is_none() => flood(&mut stream, &frames, programme.messages)?,
        0 => burst(&mut stream, frames, programme.messages)?,
        per_sec => paced(&mut stream, frames, programme.messages, per_sec)?,
    };
    stream.write_all(&NORMAL_CLOSE)?;
    // The client answers with its Close; then it is the server that ends the connection first (RFC 6455, 7.1.1).
    let answered = stream.read(&mut [0; 64])?;
    stream.shutdown(Shutdown::Write)?;
    while answered > 0 && stream.read(&mut [0; 64])? > 0 {}
    println!("{}", serde_json::to_string(&sent)?);
    Ok(())
}

/// Keeps to a schedule that was fixed beforehand: a message that was held up delays none after it.
fn paced(stream: &mut TcpStream, mut frames: Vec<Frame>, messages: u64, per_sec: u64) -> Result<Sent> {
    let mut late_ns = Histogram::<u64>::new(3)?;
    let mut sum = Sum::default();
    let mut last = 0;
    let begin = stamp::now_ns();
    for turn in 0..messages {
        let due = begin + turn * 1_000_000_000 / per_sec;
        // Stamps rise strictly, so that one message is never taken for another.
        let stamp_ns = wait_until(due).max(last + 1);
        let frame = &mut frames[turn as usize % TEXTS];
        sum.add(frame.stamp(stamp_ns));
        stream.write_all(&frame.bytes)?;
        late_ns.record(stamp_ns - due)?;
        last = stamp_ns;
    }
    let late_us = |quantile| late_ns.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Sent { late_p50_us: late_us(0.5), late_p99_us: late_us(0.99), ..sum.sent() })
}

/// Sleeps while the time is far, then looks again and again; whoever else wants this core gets it.
fn wait_until(due_ns: u64) -> u64 {
    loop {
        let now = stamp::now_ns();
        match due_ns.saturating_sub(now) {
            0 => return now,
            left if left > SPIN_NS => std::thread::sleep(Duration::from_nanos(left - SPIN_NS)),
            _ => std::thread::yield_now(),
        }
    }
}

fn burst(stream: &mut TcpStream, mut frames: Vec<Frame>, messages: u64) -> Result<Sent> {
    let mut sum = Sum::default();
    let mut last = 0;
    let mut out = Vec::with_capacity(2 * BURST_WRITE_BYTES);
    for turn in 0..messages {
        let stamp_ns = stamp::now_ns().max(last + 1);
        let frame = &mut frames[turn as usize % TEXTS];
        sum.add(frame.stamp(stamp_ns));
        out.extend_from_slice(&frame.bytes);
        if out.len() >= BURST_WRITE_BYTES {
            stream.write_all(&out)?;
            out.clear();
        }
        last = stamp_ns;
    }
    stream.write_all(&out)?;
    Ok(sum.sent())
}

/// The same frames again and again, as fast as they are taken: nothing is done for a message but to send it.
fn flood(stream: &mut TcpStream, frames: &[Frame], messages: u64) -> Result<Sent> {
    let (mut block, mut ends) = (Vec::new(), Vec::new());
    while block.len() < BURST_WRITE_BYTES {
        for frame in frames {
            block.extend_from_slice(&frame.bytes);
            ends.push(block.len());
        }
    }
    let mut left = messages as usize;
    while left > 0 {
        let now = left.min(ends.len());
        stream.write_all(&block[..ends[now - 1]])?;
        left -= now;
    }
    let mut sum = Sum::default();
    let digests: Vec<_> = frames.iter().map(Frame::glance).collect();
    digests.iter().cycle().take(messages as usize).for_each(|&digest| sum.add(digest));
    Ok(sum.sent())
}

/// What was sent so far.
#[derive(Default)]
struct Sum {
    messages: u64,
    digest: u64,
    last_digest: u64,
}

impl Sum {
    fn add(&mut self, digest: u64) {
        self.messages += 1;
        self.digest = self.digest.wrapping_add(digest);
        self.last_digest = digest;
    }

    fn sent(&self) -> Sent {
        let &Self { messages, digest, last_digest } = self;
        Sent { messages, digest, last_digest, late_p50_us: 0.0, late_p99_us: 0.0 }
    }
}

/// A client that has just connected may still be starting its threads.
const BEFORE_THE_FIRST: Duration = Duration::from_millis(100);
/// Longer than an idle core takes to wake up, with room for a virtual machine.
const SPIN_NS: u64 = 100_000;
/// One write of a burst: large enough that the system call does not count.
const BURST_WRITE_BYTES: usize = 64 * 1024;
/// A Close frame, code 1000.
const NORMAL_CLOSE: [u8; 4] = [0x88, 2, 0x03, 0xe8];
