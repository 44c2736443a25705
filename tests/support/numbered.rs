//! A venue whose messages are numbered for all its sessions alike, as those of exchanges are: a pump sends each number to every
//! session that is open, and a handler notes what comes.
#![allow(dead_code)] // each test crate takes its own part of the support

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use hypersockets::simulator::{Session, Venue};
use hypersockets::{ConnectionEvent, Delivery, MessageHandler, MessageRouter, Result, Sequence, WsMessage};

use super::lines::PATIENCE;

/// Messages of the form `stream number`.
pub(crate) struct Numbered;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number {
    pub(crate) stream: u64,
    pub(crate) number: u64,
}

impl MessageRouter for Numbered {
    type Message = Number;
    type RouteKey = u64;

    fn parse(&self, message: WsMessage<'_>) -> Result<Number> {
        let text = message.as_text().ok_or("a binary message")?;
        let (stream, number) = text.split_once(' ').ok_or("no number")?;
        let parse = |text: &str| text.parse().map_err(|_| "not a number");
        Ok(Number { stream: parse(stream)?, number: parse(number)? })
    }

    fn route_key(&self, message: &Number) -> u64 {
        message.stream
    }

    fn shard_key(&self, raw: &WsMessage<'_>) -> u64 {
        raw.as_bytes().first().copied().unwrap_or_default().into()
    }

    fn sequence(&self, message: &Number) -> Option<Sequence> {
        Some(Sequence { stream: message.stream, first: message.number, last: message.number })
    }
}

/// Numbers that count what each connection was sent.
pub(crate) struct PerConnection;

impl MessageRouter for PerConnection {
    type Message = Number;
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> Result<Number> {
        Numbered.parse(message)
    }

    fn route_key(&self, _: &Number) {}

    fn sequence(&self, message: &Number) -> Option<Sequence> {
        Numbered.sequence(message)
    }

    fn is_numbered_per_connection(&self) -> bool {
        true
    }
}

/// What a [`Noter`] was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    Number { number: u64, epoch: u64 },
    Event(ConnectionEvent),
}

/// A handler that notes all it is told.
pub(crate) struct Noter(Sender<Note>);

pub(crate) fn noter() -> (Noter, Receiver<Note>) {
    let (sender, receiver) = unbounded();
    (Noter(sender), receiver)
}

impl MessageHandler<Number> for Noter {
    fn handle(&mut self, _: Number) -> Result<()> {
        unreachable!("messages come by handle_delivery")
    }

    fn handle_delivery(&mut self, message: Number, delivery: &mut Delivery<'_>) -> Result<()> {
        // A test that is over does not want to know.
        let _ = self.0.send(Note::Number { number: message.number, epoch: delivery.epoch() });
        Ok(())
    }

    fn on_event(&mut self, event: &ConnectionEvent) {
        let _ = self.0.send(Note::Event(event.clone()));
    }
}

/// Reads notes up to this number; all of them.
#[track_caller]
pub(crate) fn until_number(notes: &Receiver<Note>, wanted: u64) -> Vec<Note> {
    let mut read = Vec::new();
    loop {
        match notes.recv_timeout(PATIENCE) {
            Ok(note) => read.push(note),
            Err(error) => panic!("waited for {wanted}: {error}; the last was {:?}", read.last()),
        }
        if matches!(read.last(), Some(Note::Number { number, .. }) if *number >= wanted) {
            return read;
        }
    }
}

/// The numbers among the notes.
pub(crate) fn numbers(notes: &[Note]) -> Vec<u64> {
    let numbers = notes.iter().filter_map(|note| match note {
        Note::Number { number, .. } => Some(*number),
        Note::Event(_) => None,
    });
    numbers.collect()
}

/// Asserts that the numbers among the notes follow on each other, and nobody told of a loss or a gap; the first and the last.
#[track_caller]
pub(crate) fn assert_unbroken(notes: &[Note]) -> (u64, u64) {
    let mut last = None::<u64>;
    let mut first = None;
    let mut epochs = 0;
    for note in notes {
        match note {
            Note::Number { number, epoch } => {
                if let Some(last) = last {
                    assert_eq!(*number, last + 1, "a hole, a repeat or another order");
                }
                first.get_or_insert(*number);
                last = Some(*number);
                assert_eq!(*epoch, epochs, "number {number}");
            }
            Note::Event(ConnectionEvent::Live { epoch } | ConnectionEvent::Rotated { epoch }) => {
                assert_eq!(*epoch, epochs + 1);
                epochs = *epoch;
            }
            Note::Event(other) => panic!("{other:?}"),
        }
    }
    (first.expect("numbers"), last.expect("numbers"))
}

/// Sends numbers to all sessions of its venues.
pub(crate) struct Pump {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

/// Whether this session of this venue is to be spared this number.
pub(crate) type Spare = Box<dyn FnMut(usize, &Session, u64) -> bool + Send>;

impl Pump {
    /// So many numbers of each of the streams a second, as far as the machine can; each session begins where the pump is.
    pub(crate) fn start(venues: Vec<Arc<Venue>>, streams: u64, per_second: u64, mut spare: Spare) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopping, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            let mut sessions: Vec<(usize, Session)> = Vec::new();
            let mut next = Instant::now();
            let mut number = 0;
            while !stopping.load(Ordering::Acquire) {
                for (index, venue) in venues.iter().enumerate() {
                    while let Ok(session) = venue.next_session(Duration::ZERO) {
                        sessions.push((index, session));
                    }
                }
                for _ in 0..(per_second / BEATS_PER_SECOND).max(1) {
                    number += 1;
                    for stream in 1..=streams {
                        for (venue, session) in &sessions {
                            if !spare(*venue, session, number) {
                                session.send_text(format!("{stream} {number}"));
                            }
                        }
                    }
                }
                count.store(number, Ordering::Release);
                // Only the last few can still be open.
                let gone = sessions.len().saturating_sub(KEPT);
                sessions.drain(..gone);
                next += Duration::from_secs(1) / BEATS_PER_SECOND as u32;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
        Self { stop, sent, thread: Some(thread) }
    }

    /// The last number that was sent to all.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    /// Stops, and returns the last number.
    pub(crate) fn stop(mut self) -> u64 {
        self.end();
        self.sent()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the pump does not panic");
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.end();
    }
}

const BEATS_PER_SECOND: u64 = 500;
const KEPT: usize = 8;
