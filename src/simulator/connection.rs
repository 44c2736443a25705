//! The thread of one connection. Invariants: only it touches the socket; our Close goes out alone, after everything
//! before it was taken by the kernel and counted, so that a client that reads to the Close has read what was counted.

use std::collections::VecDeque;
use std::io;
use std::iter::Cycle;
use std::slice;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use mio::{Events, Interest, Poll, Token};
use tungstenite::Message;

use super::clock::{self, Stamp};
use super::command::{Command, Commander, Ending};
use super::compression::{Agreed, Inflating};
use super::due::Due;
use super::frames::{FrameReader, Opcode, close_payload};
use super::link::{Arrival, Link};
use super::outbox::{Flushed, Outbox};
use super::program::Feed;
use super::report::{FENCE, Received, ReportReceivers, ReportSenders, reports};
use super::session::Session;
use super::shared::Shared;
use super::tally::Counted;
use super::upgrade::{self, Parsed, Request, UpgradePlan};
use super::upgrade_fault::{Then, UpgradeFault};

const SOCKET: Token = Token(0);
pub(super) const WAKER: Token = Token(1);

/// Reads per turn: a client that floods delays what we send by at most this many reads of 64 KiB.
const READS_PER_TURN: usize = 16;
/// How long we wait for the client's FIN after ours; closing earlier could turn our FIN into an RST.
const LINGER: Duration = Duration::from_secs(1);
/// Between two bytes of a drip.
const DRIP: Duration = Duration::from_millis(50);
/// The same when the venue stops, where a test waits for it.
const LINGER_AT_STOP: Duration = Duration::from_millis(100);

pub(super) struct Connection {
    shared: Arc<Shared>,
    poll: Poll,
    link: Link,
    readable: bool,
    writable: bool,
    phase: Phase,
    flow: Flow,
    /// The session's number, 0 before the upgrade.
    number: u64,
    commander: Commander,
    commands: Receiver<Command>,
    /// Commands taken and not executed yet.
    script: VecDeque<Command>,
    reports: ReportSenders,
    feed: Feed,
    inbound: Vec<u8>,
    frames: FrameReader,
    /// Where compression was agreed.
    inflating: Option<Inflating>,
    outbox: Outbox,
}

enum Phase {
    /// The ClientHello is awaited, and will be answered with what is no handshake.
    Hello,
    /// The request head is being read; the plan says how it will be answered.
    Upgrading(UpgradePlan, ReportReceivers),
    /// The 101 is due at the instant.
    Delaying(Instant, Request, ReportReceivers),
    /// The request was read and is never answered.
    Mute,
    /// The answer goes on, a byte at each instant.
    Dripping(Instant, Cycle<slice::Iter<'static, u8>>),
    /// Frames go both ways.
    Live,
    /// The client's Close came: ours, with its code, goes out once all before it is in the kernel.
    Answering(Option<u16>),
    /// Our Close went first: the client's is awaited.
    Closing,
    /// Both Closes are done: TLS says goodbye, then comes the FIN.
    Parting,
    /// FIN once all before it is in the kernel.
    Finishing,
    /// Our FIN is out: reads until the client's comes, but no longer than to the instant.
    Lingering(Instant),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Running,
    Stalled,
}

/// What a turn leaves to do.
enum Next {
    /// Another turn, without waiting.
    Again,
    /// Nothing before a command, the socket, or the instant.
    Wait(Option<Instant>),
    /// The same, and not a millisecond behind the instant.
    WaitSharply(Instant),
    /// The connection is over.
    End,
}

/// The poll rounds up to milliseconds: how long it may sleep so as not to wake too late.
fn almost(left: Duration) -> Duration {
    let sleep = left.saturating_sub(Duration::from_millis(1));
    if sleep.is_zero() {
        thread::yield_now();
    }
    sleep
}

impl Connection {
    pub(super) fn new(
        shared: Arc<Shared>,
        mut link: Link,
        poll: Poll,
        plan: UpgradePlan,
        commander: Commander,
        commands: Receiver<Command>,
    ) -> io::Result<Self> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut link.stream, SOCKET, interest)?;
        let (reports, receivers) = reports();
        let phase = match shared.answer_to_hello {
            Some(_) => Phase::Hello,
            None => Phase::Upgrading(plan, receivers),
        };
        Ok(Connection {
            shared,
            poll,
            link,
            readable: true,
            writable: true,
            phase,
            flow: Flow::Running,
            number: 0,
            commander,
            commands,
            script: VecDeque::new(),
            reports,
            feed: Feed::Scripted,
            inbound: Vec::new(),
            frames: FrameReader::new(),
            inflating: None,
            outbox: Outbox::new(),
        })
    }

    /// Turns until the connection is over. An error of the socket, or of the client's TLS, is an end like any other.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(16);
        loop {
            let now = clock::read();
            let timeout = match self.turn(now) {
                Ok(Next::Again) => Some(Duration::ZERO),
                Ok(Next::Wait(None)) => None,
                Ok(Next::Wait(Some(until))) => Some(until.saturating_duration_since(now.at)),
                Ok(Next::WaitSharply(until)) => Some(almost(until.saturating_duration_since(now.at))),
                Ok(Next::End) => return,
                Err(_) => {
                    // Lets the client have the TLS alert that says why.
                    let _ = self.outbox.flush(&mut self.link, &self.shared.tally);
                    return;
                }
            };
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
            for event in events.iter().filter(|event| event.token() == SOCKET) {
                self.readable |= event.is_readable() || event.is_read_closed();
                self.writable |= event.is_writable() || event.is_error();
            }
        }
    }

    fn turn(&mut self, now: Stamp) -> io::Result<Next> {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Stop(ending) => return self.leave(ending, now),
                command => self.script.push_back(command),
            }
        }
        if let Next::End = self.obey(now)? {
            return Ok(Next::End);
        }
        if self.flow == Flow::Stalled {
            return Ok(Next::Wait(None));
        }
        if let Next::End = self.hear(now)? {
            return Ok(Next::End);
        }
        let due = self.speak(now);
        let mut drained = self.flush()? == Flushed::Drained;
        while drained && self.advance(now) {
            drained = self.flush()? == Flushed::Drained;
        }

        let until = match (&self.phase, &due) {
            (Phase::Lingering(until), _) if *until <= now.at => return Ok(Next::End),
            (Phase::Lingering(until) | Phase::Delaying(until, ..) | Phase::Dripping(until, _), _) => Some(*until),
            (_, Due::At(until) | Due::Sharp(until)) => Some(*until),
            (_, Due::WhenRoom) if drained => return Ok(Next::Again),
            _ => None,
        };
        let may_read = self.readable && !self.outbox.is_flooded();
        let may_obey = drained && !self.script.is_empty();
        if may_read || may_obey {
            return Ok(Next::Again);
        }
        if let (Due::Sharp(until), Phase::Live) = (&due, &self.phase) {
            return Ok(Next::WaitSharply(*until));
        }
        Ok(Next::Wait(until))
    }

    /// The venue stops: what the socket takes at once is still sent.
    fn leave(&mut self, ending: Ending, now: Stamp) -> io::Result<Next> {
        let was_stalled = self.flow == Flow::Stalled;
        self.flow = Flow::Running;
        self.script.clear();
        if ending == Ending::Rst {
            self.link.arm_rst();
            return Ok(Next::End);
        }
        if !was_stalled {
            self.flush()?;
        }
        self.link.shut();
        self.writable = false;
        let until = now.at + LINGER_AT_STOP;
        self.phase = Phase::Lingering(until);
        Ok(Next::Wait(Some(until)))
    }

    /// Executes commands up to the first that has to wait.
    fn obey(&mut self, now: Stamp) -> io::Result<Next> {
        loop {
            let next = match self.flow {
                Flow::Stalled => self.script.iter().position(Command::breaks_stall),
                Flow::Running => match self.script.front() {
                    Some(front) if front.awaits_drain() && !self.outbox.is_drained() => None,
                    Some(_) => Some(0),
                    None => None,
                },
            };
            let Some(command) = next.and_then(|index| self.script.remove(index)) else {
                return Ok(Next::Again);
            };
            let is_live = matches!(self.phase, Phase::Live);
            match command {
                Command::Data(opcode, payload) if is_live => {
                    self.outbox.stage(opcode, &payload, Counted::Message);
                }
                Command::Ping(payload) if is_live => {
                    self.outbox.stage_control(Opcode::Ping, &payload);
                }
                Command::Raw(bytes) if is_live => {
                    self.outbox.stage_raw(&bytes);
                    self.flush()?;
                }
                Command::Close(code, reason) if is_live => {
                    let payload = close_payload(Some(code), &reason);
                    self.outbox.stage_control(Opcode::Close, &payload);
                    self.phase = Phase::Closing;
                }
                // Behind a Close nothing more may be sent.
                Command::Data(..) | Command::Ping(_) | Command::Raw(_) | Command::Close(..) => {}
                Command::Flush(done) => drop(done.send(())),
                Command::DropFin => {
                    if self.flow == Flow::Stalled {
                        return self.leave(Ending::Fin, now);
                    }
                    self.phase = Phase::Finishing;
                }
                Command::DropRst => {
                    if self.flow == Flow::Running {
                        self.flush()?;
                    }
                    return self.leave(Ending::Rst, now);
                }
                Command::Stall => self.flow = Flow::Stalled,
                Command::Resume => self.flow = Flow::Running,
                Command::Stop(ending) => return self.leave(ending, now),
            }
        }
    }

    fn hear(&mut self, now: Stamp) -> io::Result<Next> {
        for _ in 0..READS_PER_TURN {
            if !self.readable || self.outbox.is_flooded() {
                break;
            }
            match self.link.read(&mut self.inbound)? {
                Arrival::Bytes => self.digest(now),
                Arrival::Dry => self.readable = false,
                Arrival::End => {
                    // Over TLS the last bytes may come in the read that brings the close_notify.
                    self.digest(now);
                    return Ok(Next::End);
                }
            }
        }
        Ok(Next::Again)
    }

    fn digest(&mut self, now: Stamp) {
        match &self.phase {
            Phase::Hello => self.answer_hello(),
            Phase::Upgrading(..) => self.read_request(now),
            // What a client sends before the 101 waits for it.
            Phase::Delaying(..) => {}
            Phase::Live | Phase::Closing => self.read_frames(now),
            Phase::Mute
            | Phase::Dripping(..)
            | Phase::Answering(_)
            | Phase::Parting
            | Phase::Finishing
            | Phase::Lingering(_) => {
                self.inbound.clear();
            }
        }
    }

    fn answer_hello(&mut self) {
        self.inbound.clear();
        let shared = Arc::clone(&self.shared);
        let answer = shared.answer_to_hello.as_deref().unwrap_or_default();
        self.outbox.stage_raw(answer);
        self.phase = if answer.is_empty() { Phase::Mute } else { Phase::Finishing };
    }

    fn read_request(&mut self, now: Stamp) {
        let request = match upgrade::parse(&self.inbound) {
            Parsed::Partial => return,
            Parsed::Bad(why) => return self.refuse(&why),
            Parsed::Whole(request, length) => {
                self.inbound.drain(..length);
                request
            }
        };
        let Phase::Upgrading(plan, receivers) = std::mem::replace(&mut self.phase, Phase::Finishing) else {
            unreachable!("a request is read only while upgrading");
        };
        self.answer(plan, request, receivers, now);
    }

    fn answer(&mut self, plan: UpgradePlan, request: Request, receivers: ReportReceivers, now: Stamp) {
        match plan {
            UpgradePlan::Accept => match request.accept_key() {
                Ok(key) => {
                    let offers = request.offers().filter(|_| self.shared.deflates);
                    let compression = offers.and_then(|offers| Agreed::of(&offers));
                    let extension = compression.as_ref().map(|agreed| agreed.answer.as_str());
                    self.outbox.stage_raw(&upgrade::acceptance(&key, extension));
                    if let Some(agreed) = compression {
                        self.outbox.deflate_with(agreed.deflating);
                        self.inflating = Some(agreed.inflating);
                    }
                    self.begin_session(request, receivers, now);
                }
                Err(lacks) => self.refuse(lacks),
            },
            UpgradePlan::Fault(fault) => match request.accept_key() {
                Ok(key) => self.commit(fault, &key, request, receivers, now),
                Err(lacks) => self.refuse(lacks),
            },
            UpgradePlan::Delay(delay) => {
                self.phase = Phase::Delaying(now.at + delay, request, receivers);
            }
            UpgradePlan::Reject { status, headers } => {
                self.outbox.stage_raw(&upgrade::rejection(status, &headers, ""));
            }
            UpgradePlan::Stall => self.phase = Phase::Mute,
            UpgradePlan::Raw(bytes) => self.outbox.stage_raw(&bytes),
        }
    }

    /// Answers in this way.
    fn commit(
        &mut self,
        fault: UpgradeFault,
        accept_key: &str,
        request: Request,
        receivers: ReportReceivers,
        now: Stamp,
    ) {
        let (writes, then) = fault.answer(accept_key);
        for bytes in writes {
            self.outbox.stage_raw(&bytes);
            // Whoever cannot be written to is gone, which the next read tells.
            let _ = self.flush();
        }
        match then {
            Then::Live => self.begin_session(request, receivers, now),
            Then::Fin => self.phase = Phase::Finishing,
            Then::Rst => {
                self.phase = Phase::Mute;
                self.script.push_back(Command::DropRst);
            }
            Then::Nothing => self.phase = Phase::Mute,
            Then::Drip(bytes) => self.phase = Phase::Dripping(now.at, bytes.iter().cycle()),
        }
    }

    /// The 101 is staged: frames from here on.
    fn begin_session(&mut self, request: Request, receivers: ReportReceivers, now: Stamp) {
        self.phase = Phase::Live;
        self.number = self.shared.tally.open_session();
        self.feed = self.shared.program.feed(self.number, &request.path);
        self.feed.upgraded(now, &mut self.outbox);
        let session = Session::new(self.number, request, self.commander.clone(), receivers);
        // Fails only when the venue is being dropped.
        let _ = self.shared.sessions.send(session);
        self.read_frames(now);
    }

    fn refuse(&mut self, why: &str) {
        self.shared.tally.blame(self.number, why.to_owned());
        self.outbox.stage_raw(&upgrade::rejection(400, &[], why));
        self.phase = Phase::Finishing;
    }

    fn read_frames(&mut self, now: Stamp) {
        match &mut self.inflating {
            Some(inflating) => {
                let mut plain = Vec::with_capacity(self.inbound.len());
                inflating.translate(&self.inbound, &mut plain);
                self.frames.push(&plain);
            }
            None => self.frames.push(&self.inbound),
        }
        self.inbound.clear();
        while let Some(message) = self.frames.next() {
            match message {
                Ok(message) => self.take(message, now),
                Err(fault) => {
                    self.shared.tally.blame(self.number, fault);
                    self.phase = match self.phase {
                        Phase::Live => Phase::Answering(Some(1002)),
                        _ => Phase::Finishing,
                    };
                }
            }
        }
    }

    /// A report that nobody can receive, because the test dropped its session, is dropped too.
    fn take(&mut self, message: Message, now: Stamp) {
        let is_live = matches!(self.phase, Phase::Live);
        match message {
            Message::Text(text) => {
                self.shared.tally.hear(self.number, text.as_str());
                if is_live {
                    self.feed.heard(Some(text.as_str()), now, &mut self.outbox);
                }
                let report = Received::Text(text.as_str().to_owned());
                let _ = self.reports.messages.send(report);
            }
            Message::Binary(payload) => {
                if is_live {
                    self.feed.heard(None, now, &mut self.outbox);
                }
                let report = Received::Binary(payload.to_vec());
                let _ = self.reports.messages.send(report);
            }
            Message::Ping(payload) => {
                if is_live {
                    self.outbox.stage_control(Opcode::Pong, &payload);
                }
                let _ = self.reports.pings.send(payload.to_vec());
            }
            Message::Pong(payload) => {
                let channel = if payload.starts_with(FENCE) { &self.reports.fences } else { &self.reports.pongs };
                let _ = channel.send(payload.to_vec());
            }
            Message::Close(frame) => {
                let code = frame.map(|frame| u16::from(frame.code));
                let _ = self.reports.closes.send(code);
                if !is_live {
                    self.phase = Phase::Parting;
                } else if !self.shared.ignores_close {
                    self.phase = Phase::Answering(code);
                }
            }
            Message::Frame(_) => unreachable!("tungstenite gives no bare frames when reading"),
        }
    }

    /// Lets the feed stage what is due, unless a command waits for the outbox to drain.
    fn speak(&mut self, now: Stamp) -> Due {
        let is_held = self.script.front().is_some_and(Command::awaits_drain);
        if is_held || !matches!(self.phase, Phase::Live) {
            return Due::Never;
        }
        let due = self.feed.emit(now, &mut self.outbox);
        if let Due::Over = due {
            self.script.push_back(Command::Close(1000, String::new()));
        }
        due
    }

    fn flush(&mut self) -> io::Result<Flushed> {
        if !self.writable {
            return Ok(Flushed::Blocked);
        }
        let flushed = self.outbox.flush(&mut self.link, &self.shared.tally)?;
        self.writable = flushed == Flushed::Drained;
        Ok(flushed)
    }

    /// Moves on, where the outbox being drained allows it; whether that staged anything.
    fn advance(&mut self, now: Stamp) -> bool {
        match std::mem::replace(&mut self.phase, Phase::Mute) {
            Phase::Delaying(until, request, receivers) if until <= now.at => {
                self.answer(UpgradePlan::Accept, request, receivers, now);
                true
            }
            Phase::Dripping(next, mut bytes) if next <= now.at => {
                self.outbox.stage_raw(&[*bytes.next().expect("they cycle")]);
                self.phase = Phase::Dripping(now.at + DRIP, bytes);
                true
            }
            Phase::Answering(code) => {
                let payload = close_payload(code, "");
                self.outbox.stage_control(Opcode::Close, &payload);
                self.phase = Phase::Parting;
                true
            }
            Phase::Parting => {
                self.link.close_notify();
                self.phase = Phase::Finishing;
                true
            }
            Phase::Finishing => {
                self.link.shut();
                self.phase = Phase::Lingering(now.at + LINGER);
                false
            }
            unmoved => {
                self.phase = unmoved;
                false
            }
        }
    }
}
