//! The test's end of one client connection. Invariant: its methods only send commands and receive reports; the socket
//! belongs to the connection's thread.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};

use super::command::{Command, Commander};
use super::frames::Opcode;
use super::report::{FENCE, Received, ReportReceivers};
use super::session_fault::{Finish, SessionFault};
use super::upgrade::Request;

/// How long an assertion waits: long enough for a busy machine, short enough for a failing test.
const ASSERTION_TIMEOUT: Duration = Duration::from_secs(5);

/// One upgraded connection of a client, from [`super::Venue::next_session`].
///
/// What is sent, dropped and stalled here is executed by the connection's thread in the order of the calls. To a
/// session that has ended, nothing happens: [`Session::flush`] and the `await_` methods tell. Dropping a `Session`
/// leaves the connection as it is.
pub struct Session {
    number: u64,
    request: Request,
    commander: Commander,
    reports: ReportReceivers,
    fences: AtomicU64,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("number", &self.number)
            .field("path", &self.request.path)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(number: u64, request: Request, commander: Commander, reports: ReportReceivers) -> Self {
        Session { number, request, commander, reports, fences: AtomicU64::new(0) }
    }

    /// 1 for the first session of the venue, and so on, over restarts. Connections that were not upgraded have none.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The path and query of the upgrade request.
    pub fn path(&self) -> &str {
        &self.request.path
    }

    /// The headers of the upgrade request, in the order in which they came.
    pub fn headers(&self) -> Vec<(String, String)> {
        self.request.headers.clone()
    }

    /// Sends a text message.
    pub fn send_text(&self, text: impl Into<String>) {
        let payload = text.into().into_bytes();
        self.commander.send(Command::Data(Opcode::Text, payload));
    }

    /// Sends a binary message.
    pub fn send_binary(&self, payload: impl Into<Vec<u8>>) {
        self.commander.send(Command::Data(Opcode::Binary, payload.into()));
    }

    /// Sends a ping; a payload above 125 bytes makes it an illegal one.
    pub fn send_ping(&self, payload: impl Into<Vec<u8>>) {
        self.commander.send(Command::Ping(payload.into()));
    }

    /// Sends these bytes as they are, in a write of their own, hence cut wherever the caller cuts. Over TLS they are
    /// enciphered like everything else. They are not counted by [`super::Venue::sent`].
    pub fn send_raw(&self, bytes: impl Into<Vec<u8>>) {
        self.commander.send(Command::Raw(bytes.into()));
    }

    /// Goes wrong in this way, behind what was sent before.
    pub fn commit(&self, fault: SessionFault) {
        let (acts, finish) = fault.acts();
        for bytes in acts {
            self.commander.send(Command::Raw(bytes));
        }
        match finish {
            Finish::Stays => {}
            Finish::Fin => self.drop_fin(),
            Finish::Rst => self.drop_rst(),
            Finish::Stall => self.stall(),
        }
    }

    /// Waits until everything before this call is in the kernel. A stalled session only gets there when resumed.
    pub fn flush(&self, timeout: Duration) -> io::Result<()> {
        let (done, flushed) = crossbeam_channel::bounded(1);
        self.commander.send(Command::Flush(done));
        self.receive(&flushed, timeout, "its writes to reach the kernel")
    }

    /// The client's next data message.
    pub fn await_message(&self, timeout: Duration) -> io::Result<Received> {
        self.receive(&self.reports.messages, timeout, "a message")
    }

    /// The client's next data message, which must be text.
    pub fn await_text(&self, timeout: Duration) -> io::Result<String> {
        match self.receive(&self.reports.messages, timeout, "a text message")? {
            Received::Text(text) => Ok(text),
            Received::Binary(payload) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("session {}: awaited a text message, came {} binary bytes", self.number, payload.len()),
            )),
        }
    }

    /// The payload of the client's next ping. It was answered with a pong already.
    pub fn await_ping(&self, timeout: Duration) -> io::Result<Vec<u8>> {
        self.receive(&self.reports.pings, timeout, "a ping")
    }

    /// The payload of the client's next pong.
    pub fn await_pong(&self, timeout: Duration) -> io::Result<Vec<u8>> {
        self.receive(&self.reports.pongs, timeout, "a pong")
    }

    /// The code of the client's Close frame, `None` if it carries none. An end of the connection without a Close is an
    /// error.
    pub fn await_close(&self, timeout: Duration) -> io::Result<Option<u16>> {
        self.receive(&self.reports.closes, timeout, "a Close frame")
    }

    /// Waits until the connection is gone, whoever ended it.
    pub fn await_end(&self, timeout: Duration) -> io::Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.reports.closes.recv_deadline(deadline) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(self.timed_out(timeout, "the connection's end"));
                }
            }
        }
    }

    /// Asserts that the client's next data message, awaited for up to 5 s, is this text.
    #[track_caller]
    pub fn assert_received(&self, text: &str) {
        match self.await_message(ASSERTION_TIMEOUT) {
            Ok(Received::Text(came)) if came == text => {}
            Ok(came) => panic!("session {}: awaited {text:?}, came {came:?}", self.number),
            Err(e) => panic!("session {}: awaited {text:?}: {e}", self.number),
        }
    }

    /// Asserts that the client has sent no data message that was not awaited yet. A ping is the fence: what the client
    /// sent before its pong would have come before it. The client must be reading, and must answer within 5 s.
    #[track_caller]
    pub fn assert_silent(&self) {
        let fence = self.fences.fetch_add(1, Ordering::Relaxed);
        let payload = [FENCE, fence.to_string().as_bytes()].concat();
        self.commander.send(Command::Ping(payload.clone()));
        loop {
            match self.receive(&self.reports.fences, ASSERTION_TIMEOUT, "the pong of a fence") {
                Ok(came) if came == payload => break,
                Ok(_) => {}
                Err(e) => panic!("session {}: awaited silence: {e}", self.number),
            }
        }
        match self.reports.messages.try_recv() {
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
            Ok(came) => panic!("session {}: awaited silence, came {came:?}", self.number),
        }
    }

    /// Sends a Close frame behind everything before it, and a FIN once the client has answered.
    pub fn close(&self, code: u16, reason: &str) {
        self.commander.send(Command::Close(code, reason.to_owned()));
    }

    /// Sends a FIN behind everything before it, without a Close frame, and over TLS without a `close_notify`.
    pub fn drop_fin(&self) {
        self.commander.send(Command::DropFin);
    }

    /// Resets the connection. What was sent before and is still on its way is lost.
    pub fn drop_rst(&self) {
        self.commander.send(Command::DropRst);
    }

    /// Stops all reading and writing: the client's bytes pile up in the kernel, and its pings stay unanswered. Later
    /// commands wait for [`Session::resume`], except [`Session::drop_fin`] and [`Session::drop_rst`], which act at once.
    pub fn stall(&self) {
        self.commander.send(Command::Stall);
    }

    /// Ends a stall.
    pub fn resume(&self) {
        self.commander.send(Command::Resume);
    }

    fn receive<T>(&self, from: &Receiver<T>, timeout: Duration, what: &str) -> io::Result<T> {
        from.recv_timeout(timeout).map_err(|e| match e {
            RecvTimeoutError::Timeout => self.timed_out(timeout, what),
            RecvTimeoutError::Disconnected => io::Error::new(
                io::ErrorKind::ConnectionAborted,
                format!("session {} ended; it was to bring {what}", self.number),
            ),
        })
    }

    fn timed_out(&self, timeout: Duration, what: &str) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, format!("session {}: waited {timeout:?} for {what}", self.number))
    }
}
