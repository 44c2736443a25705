//! One byte stream over one socket, plain or TLS. Invariant: what was received is delivered before any end is
//! reported.

use std::io::{self, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::clock;
use crate::error::DisconnectReason;
use crate::metrics::KernelStamp;
#[cfg(target_os = "linux")]
use crate::transport::kernel_time::KernelTime;
use crate::transport::receive_buffer::ReceiveBuffer;
use crate::transport::records::RECORD_BYTES;
use crate::transport::socket_options::{Acks, SocketOptions};
use crate::transport::tls::{TlsSession, TlsState};
use crate::transport::write_buffer::WriteBuffer;

/// A connected socket, with its TLS session where there is one.
///
/// The socket is registered edge-triggered: after readiness, [`fill`](Self::fill) until `more` is false, and
/// [`flush`](Self::flush) after each fill, since reading can queue answers (handshake, alerts) that nothing else
/// sends.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: TcpStream,
    layer: Layer,
    arrivals: Arrivals,
    acks: Acks,
    /// Reads with the kernel's receive times, where they are wanted.
    #[cfg(target_os = "linux")]
    kernel_time: Option<KernelTime>,
    written: u64,
}

#[derive(Debug)]
enum Layer {
    Plain,
    Tls { session: Box<TlsSession>, close_notify: CloseNotify },
}

/// Whether our close_notify is due: it follows the last plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CloseNotify {
    No,
    Wanted,
    Queued,
}

/// What a short read tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrivals {
    /// The kernel has nothing more, and what comes raises a new edge.
    Open,
    /// The end is already behind the data and raises no edge of its own: read until it shows.
    Ended,
}

/// What one read brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fill {
    /// Bytes taken from the socket, ciphertext included.
    pub(crate) bytes: usize,
    /// Whether the socket may hold more; if not, the read that would say EAGAIN is saved.
    pub(crate) more: bool,
    /// The end of what can be read; everything before it has been delivered, by this fill at the latest.
    pub(crate) end: Option<DisconnectReason>,
    /// What the kernel said of the time of these bytes, where it was asked.
    pub(crate) kernel: Option<KernelStamp>,
}

impl Stream {
    /// A stream without TLS.
    pub(crate) fn plain(socket: TcpStream) -> Self {
        Self::new(socket, Layer::Plain)
    }

    /// A stream whose handshake is driven by [`fill`](Self::fill) and [`flush`](Self::flush); flush first.
    pub(crate) fn tls(socket: TcpStream, session: TlsSession) -> Self {
        Self::new(socket, Layer::Tls { session: Box::new(session), close_notify: CloseNotify::No })
    }

    fn new(socket: TcpStream, layer: Layer) -> Self {
        Self {
            socket,
            layer,
            arrivals: Arrivals::Open,
            acks: Acks::Delayed,
            #[cfg(target_os = "linux")]
            kernel_time: None,
            written: 0,
        }
    }

    /// Does with each read what the socket's options ask for.
    pub(crate) fn reading_by(mut self, options: &SocketOptions) -> Self {
        self.acks = options.acks();
        #[cfg(target_os = "linux")]
        if options.has_kernel_timestamps() {
            self.kernel_time = Some(KernelTime::new());
        }
        self
    }

    /// Says that a readiness event had `is_read_closed` or `is_error`: a short read is no sign of a drained socket
    /// then.
    pub(crate) fn note_read_closed(&mut self) {
        self.arrivals = Arrivals::Ended;
    }

    /// Whether the TLS handshake is still under way; never so for a plain stream.
    pub(crate) fn is_handshaking(&self) -> bool {
        match &self.layer {
            Layer::Plain => false,
            Layer::Tls { session, .. } => session.is_handshaking(),
        }
    }

    /// Reads once and appends what came, decrypted, to `plain`. `cipher` is scratch, empty before and after; with TLS
    /// it is what the one read goes into.
    ///
    /// With an end of [`Tls`](DisconnectReason::Tls), flush once more: the alert tells the peer why. Filling on after
    /// an end drops what comes, which is what lingering wants.
    pub(crate) fn fill(&mut self, plain: &mut ReceiveBuffer, cipher: &mut ReceiveBuffer) -> Fill {
        let into = match &self.layer {
            Layer::Plain => &mut *plain,
            Layer::Tls { session, .. } => {
                session.lend_tail(cipher);
                &mut *cipher
            }
        };
        let room = into.spare();
        let asked = room.len();
        #[cfg(target_os = "linux")]
        let read = read_once(&mut self.socket, self.kernel_time.as_mut(), room);
        #[cfg(not(target_os = "linux"))]
        let read = read_once(&mut self.socket, room);
        let (bytes, kernel_unix_ns) = match read {
            Ok((bytes, stamp)) if bytes > 0 => (bytes, stamp),
            nothing => {
                cipher.clear();
                return Fill { bytes: 0, more: false, end: end_of(nothing), kernel: None };
            }
        };
        let to_read_ns = kernel_unix_ns.map(|then| clock::unix_ns().saturating_sub(then));
        into.filled(bytes);
        self.acks.rearm(&self.socket);
        let end = match &mut self.layer {
            Layer::Plain => None,
            Layer::Tls { session, .. } => match session.decrypt(cipher, plain) {
                Ok(TlsState::Handshaking | TlsState::Traffic) => None,
                Ok(TlsState::PeerClosed) => Some(DisconnectReason::EndOfStream),
                Err(reason) => Some(reason),
            },
        };
        let is_of_last_byte = match &self.layer {
            Layer::Plain => true,
            Layer::Tls { session, .. } => !session.holds_part_of_record(),
        };
        let kernel = to_read_ns.map(|to_read_ns| KernelStamp { to_read_ns, is_of_last_byte });
        Fill { bytes, more: bytes == asked || self.arrivals == Arrivals::Ended, end, kernel }
    }

    /// Writes until all of `out` has reached the kernel (true) or the kernel takes no more (false: wait for
    /// writability).
    ///
    /// False also where plaintext has to wait for the handshake, or will never go since TLS failed. After an error
    /// reading goes on: data that the kernel already acknowledged may wait.
    pub(crate) fn flush(&mut self, out: &mut WriteBuffer) -> io::Result<bool> {
        match &mut self.layer {
            Layer::Plain => {
                while !out.is_empty() {
                    let Some(count) = write_once(&mut self.socket, out.pending())? else { return Ok(false) };
                    out.take(count);
                    self.written = out.position();
                }
                Ok(true)
            }
            Layer::Tls { session, close_notify } => loop {
                while !session.outgoing().is_empty() {
                    let Some(count) = write_once(&mut self.socket, session.outgoing())? else { return Ok(false) };
                    session.sent(count);
                }
                // Plaintext is encrypted only when no ciphertext is left: so at most a record of it waits twice, and
                // now everything that was taken from `out` has reached the kernel.
                self.written = out.position();
                let encryptable = !out.is_empty() && session.accepts_plaintext();
                match *close_notify {
                    CloseNotify::No | CloseNotify::Wanted if encryptable => {
                        let record = &out.pending()[..out.pending().len().min(RECORD_BYTES)];
                        let count = record.len();
                        session.encrypt(record).map_err(|reason| io::Error::other(reason.to_string()))?;
                        out.take(count);
                    }
                    CloseNotify::Wanted => {
                        session.close_notify();
                        *close_notify = CloseNotify::Queued;
                    }
                    CloseNotify::No | CloseNotify::Queued => return Ok(out.is_empty()),
                }
            },
        }
    }

    /// Position in the [`WriteBuffer`] up to which every byte was taken by the kernel; with TLS, as whole records.
    pub(crate) fn written_position(&self) -> u64 {
        self.written
    }

    /// Lets the next [`flush`](Self::flush) end with close_notify, behind all plaintext; nothing for a plain stream.
    ///
    /// Call it when the peer's words no longer count (both Close frames exchanged, or lingering): with TLS, what
    /// comes after our close_notify is dropped, and only FIN is still reported.
    pub(crate) fn start_close(&mut self) {
        if let Layer::Tls { close_notify: close_notify @ CloseNotify::No, .. } = &mut self.layer {
            *close_notify = CloseNotify::Wanted;
        }
    }

    /// Sends FIN behind what the kernel holds; reading goes on.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }

    /// Moves the registration to another token; readiness that is there already is reported anew.
    pub(crate) fn reregister(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.reregister(&mut self.socket, token, BOTH)
    }

    /// Ends the registration; call it before dropping.
    pub(crate) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        registry.deregister(&mut self.socket)
    }
}

/// A client both reads and writes for all of its life; edges make the standing interest in writing free.
pub(crate) const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// The count, and the kernel's receive time of the last byte where that was asked for.
fn read_once(
    socket: &mut TcpStream,
    #[cfg(target_os = "linux")] mut kernel_time: Option<&mut KernelTime>,
    room: &mut [u8],
) -> io::Result<(usize, Option<u64>)> {
    loop {
        #[cfg(target_os = "linux")]
        let outcome = match &mut kernel_time {
            Some(kernel_time) => kernel_time.read(socket, room),
            None => socket.read(room).map(|count| (count, None)),
        };
        #[cfg(not(target_os = "linux"))]
        let outcome = socket.read(room).map(|count| (count, None));
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// The count that the kernel took, or None where it takes nothing now.
fn write_once(socket: &mut TcpStream, bytes: &[u8]) -> io::Result<Option<usize>> {
    loop {
        match socket.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => return Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What a read without bytes means.
fn end_of(nothing: io::Result<(usize, Option<u64>)>) -> Option<DisconnectReason> {
    match nothing {
        Ok(_) => Some(DisconnectReason::EndOfStream),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => Some(DisconnectReason::Broken(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream as VenueSocket};
    use std::time::{Duration, Instant};

    use mio::{Events, Poll};

    use super::*;

    const TOKEN: Token = Token(3);

    fn connected() -> (TcpStream, VenueSocket) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = VenueSocket::connect(listener.local_addr().unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let (venue, _) = listener.accept().unwrap();
        (TcpStream::from_std(socket), venue)
    }

    /// Closes with RST: what the other side has not read is still its own.
    fn reset(venue: VenueSocket) {
        socket2::SockRef::from(&venue).set_linger(Some(Duration::ZERO)).unwrap();
        drop(venue);
    }

    /// Waits for the readiness that tells of the end, and passes it on as the loop does.
    fn await_end(stream: &mut Stream) {
        let mut poll = Poll::new().unwrap();
        poll.registry().register(&mut stream.socket, TOKEN, BOTH).unwrap();
        let give_up = Instant::now() + Duration::from_secs(10);
        let mut events = Events::with_capacity(8);
        while stream.arrivals == Arrivals::Open {
            let left = give_up.checked_duration_since(Instant::now()).expect("the end never came");
            poll.poll(&mut events, Some(left)).unwrap();
            if events.iter().any(|event| event.is_read_closed() || event.is_error()) {
                stream.note_read_closed();
            }
        }
        stream.deregister(poll.registry()).unwrap();
    }

    /// Calls `turn` until it says true.
    fn until(what: &str, mut turn: impl FnMut() -> bool) {
        let give_up = Instant::now() + Duration::from_secs(20);
        while !turn() {
            assert!(Instant::now() < give_up, "never came: {what}");
            std::thread::yield_now();
        }
    }

    /// Fills for as long as there is more, as the loop does.
    fn drain(stream: &mut Stream, plain: &mut ReceiveBuffer) -> Option<DisconnectReason> {
        let mut cipher = ReceiveBuffer::with_capacity(64 * 1024);
        loop {
            let fill = stream.fill(plain, &mut cipher);
            assert!(cipher.is_empty());
            if fill.end.is_some() || !fill.more {
                return fill.end;
            }
        }
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i % 251) as u8).collect()
    }

    #[test]
    fn all_data_before_a_reset_is_delivered_first() {
        let (socket, mut venue) = connected();
        let mut stream = Stream::plain(socket);
        venue.write_all(&pattern(50_000)).unwrap();
        reset(venue);
        await_end(&mut stream);
        let mut plain = ReceiveBuffer::default();
        let end = drain(&mut stream, &mut plain);
        assert_eq!(plain.data(), pattern(50_000));
        assert!(matches!(end, Some(DisconnectReason::Broken(_))), "{end:?}");
    }

    #[test]
    fn a_failed_write_takes_nothing_from_what_can_be_read() {
        let (socket, mut venue) = connected();
        let mut stream = Stream::plain(socket);
        venue.write_all(&pattern(50_000)).unwrap();
        reset(venue);
        await_end(&mut stream);
        let mut out = WriteBuffer::default();
        out.tail().extend_from_slice(b"pong");
        stream.flush(&mut out).unwrap_err();
        assert_eq!(stream.written_position(), 0);
        let mut plain = ReceiveBuffer::default();
        let end = drain(&mut stream, &mut plain);
        assert_eq!(plain.data(), pattern(50_000));
        assert!(end.is_some());
    }

    #[test]
    fn a_short_read_is_drained_unless_the_end_was_announced() {
        let (socket, mut venue) = connected();
        let mut stream = Stream::plain(socket);
        let (mut plain, mut cipher) = (ReceiveBuffer::default(), ReceiveBuffer::default());
        assert_eq!(stream.fill(&mut plain, &mut cipher), Fill { bytes: 0, more: false, end: None, kernel: None });
        venue.write_all(b"tick").unwrap();
        until("the tick", || {
            stream.fill(&mut plain, &mut cipher) == Fill { bytes: 4, more: false, end: None, kernel: None }
        });
        venue.write_all(b"last").unwrap();
        drop(venue);
        await_end(&mut stream);
        assert_eq!(stream.fill(&mut plain, &mut cipher), Fill { bytes: 4, more: true, end: None, kernel: None });
        let end = Fill { bytes: 0, more: false, end: Some(DisconnectReason::EndOfStream), kernel: None };
        assert_eq!(stream.fill(&mut plain, &mut cipher), end);
        assert_eq!(plain.data(), b"ticklast");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn quick_acks_are_asked_for_again_after_each_read() {
        let (socket, mut venue) = connected();
        let mut stream = Stream::plain(socket).reading_by(&SocketOptions::new().quick_ack());
        let (mut plain, mut cipher) = (ReceiveBuffer::default(), ReceiveBuffer::default());
        for _ in 0..3 {
            venue.write_all(b"tick").unwrap();
            until("the tick", || matches!(stream.socket.peek(&mut [0; 4]), Ok(4)));
            // As the kernel does by itself when we answer what came.
            socket2::SockRef::from(&stream.socket).set_tcp_quickack(false).unwrap();
            assert_eq!(stream.fill(&mut plain, &mut cipher).bytes, 4);
            assert!(socket2::SockRef::from(&stream.socket).tcp_quickack().unwrap());
        }
    }

    #[test]
    fn partial_writes_are_counted_to_the_byte() {
        let (socket, mut venue) = connected();
        venue.set_nonblocking(true).unwrap();
        let mut stream = Stream::plain(socket);
        let sent = pattern(16 << 20);
        let mut out = WriteBuffer::default();
        out.tail().extend_from_slice(&sent);
        assert!(!stream.flush(&mut out).unwrap(), "a peer that does not read");
        assert!(stream.written_position() > 0 && stream.written_position() < sent.len() as u64);

        let (mut received, mut room) = (Vec::new(), vec![0; 1 << 20]);
        until("every byte", || {
            while let Ok(count @ 1..) = venue.read(&mut room) {
                received.extend_from_slice(&room[..count]);
            }
            assert!(received.len() as u64 <= stream.written_position());
            let done = stream.flush(&mut out).unwrap();
            assert_eq!(stream.written_position() + out.pending().len() as u64, sent.len() as u64);
            done && received.len() == sent.len()
        });
        assert!(received == sent);
        stream.shutdown_write().unwrap();
        until("the FIN", || matches!(venue.read(&mut room), Ok(0)));
    }

    #[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
    mod over_tls {
        use rustls::ServerConnection;

        use super::*;
        use crate::transport::tls::fixture::Authority;

        /// A TLS venue on a real socket that never blocks.
        struct Venue {
            socket: VenueSocket,
            tls: ServerConnection,
            received: Vec<u8>,
            fault: Option<rustls::Error>,
        }

        impl Venue {
            fn turn(&mut self) {
                while let Ok(1..) = self.tls.read_tls(&mut self.socket) {
                    if let Err(error) = self.tls.process_new_packets() {
                        self.fault = Some(error);
                        return;
                    }
                    let _ = self.tls.reader().read_to_end(&mut self.received);
                }
                while self.tls.wants_write() && self.tls.write_tls(&mut self.socket).is_ok() {}
            }

            fn says(&mut self, what: &[u8]) {
                self.tls.writer().write_all(what).unwrap();
                self.turn();
                assert!(!self.tls.wants_write(), "more than the socket holds");
            }
        }

        fn unshaken(authority: &Authority, venue_name: &str) -> (Stream, Venue) {
            let (socket, venue) = connected();
            venue.set_nonblocking(true).unwrap();
            let session = TlsSession::new(&authority.connector(), "venue.example").unwrap();
            let tls = authority.server(venue_name);
            (Stream::tls(socket, session), Venue { socket: venue, tls, received: Vec::new(), fault: None })
        }

        fn live() -> (Stream, Venue) {
            let (mut stream, mut venue) = unshaken(&Authority::new(), "venue.example");
            let mut out = WriteBuffer::default();
            let mut plain = ReceiveBuffer::default();
            until("the handshake", || {
                stream.flush(&mut out).unwrap();
                venue.turn();
                assert_eq!(drain(&mut stream, &mut plain), None);
                !stream.is_handshaking() && !venue.tls.is_handshaking()
            });
            assert!(plain.is_empty());
            (stream, venue)
        }

        #[test]
        fn sends_wait_for_the_handshake_and_count_once_their_records_are_written() {
            let (mut stream, mut venue) = unshaken(&Authority::new(), "venue.example");
            let sent = pattern(16 << 20);
            let mut out = WriteBuffer::default();
            out.tail().extend_from_slice(&sent);
            assert!(!stream.flush(&mut out).unwrap());
            assert_eq!((stream.written_position(), out.pending().len()), (0, sent.len()));

            let mut plain = ReceiveBuffer::default();
            until("the handshake", || {
                stream.flush(&mut out).unwrap();
                venue.turn();
                assert_eq!(drain(&mut stream, &mut plain), None);
                !stream.is_handshaking()
            });
            assert!(!stream.flush(&mut out).unwrap(), "a venue that does not read");
            let Layer::Tls { session, .. } = &stream.layer else { panic!("not TLS") };
            assert!(session.outgoing().len() <= RECORD_BYTES + 64, "memory is bounded");
            assert!(out.position() - stream.written_position() <= RECORD_BYTES as u64);

            stream.start_close();
            until("every byte", || {
                venue.turn();
                assert!(venue.received.len() as u64 <= stream.written_position() + RECORD_BYTES as u64);
                let done = stream.flush(&mut out).unwrap();
                done && venue.received.len() == sent.len()
            });
            assert!(venue.received == sent);
            assert_eq!(stream.written_position(), sent.len() as u64);
            until("close_notify", || {
                venue.turn();
                venue.tls.process_new_packets().unwrap().peer_has_closed()
            });
        }

        #[test]
        fn data_before_close_notify_and_before_a_bare_fin_is_delivered() {
            for polite in [true, false] {
                let (mut stream, mut venue) = live();
                venue.says(&pattern(40_000));
                if polite {
                    venue.tls.send_close_notify();
                    venue.turn();
                }
                drop(venue);
                await_end(&mut stream);
                let mut plain = ReceiveBuffer::default();
                assert_eq!(drain(&mut stream, &mut plain), Some(DisconnectReason::EndOfStream));
                assert_eq!(plain.data(), pattern(40_000));
            }
        }

        #[test]
        fn all_data_before_a_reset_is_delivered_first() {
            let (mut stream, mut venue) = live();
            venue.says(&pattern(40_000));
            reset(venue.socket);
            await_end(&mut stream);
            let mut plain = ReceiveBuffer::default();
            let end = drain(&mut stream, &mut plain);
            assert_eq!(plain.data(), pattern(40_000));
            assert!(matches!(end, Some(DisconnectReason::Broken(_))), "{end:?}");
        }

        #[test]
        fn a_bad_record_ends_the_stream_behind_the_good_ones_and_the_alert_leaves() {
            let (mut stream, mut venue) = live();
            venue.says(b"good");
            venue
                .socket
                .write_all(&[23, 3, 3, 0, 20, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9])
                .unwrap();
            let mut plain = ReceiveBuffer::default();
            let mut end = None;
            until("the bad record", || {
                end = drain(&mut stream, &mut plain);
                end.is_some()
            });
            assert!(matches!(end, Some(DisconnectReason::Tls(_))), "{end:?}");
            assert_eq!(plain.data(), b"good");
            let mut out = WriteBuffer::default();
            out.tail().extend_from_slice(b"never sent");
            assert!(!stream.flush(&mut out).unwrap());
            assert_eq!(stream.written_position(), 0);
            until("the alert", || {
                venue.turn();
                venue.fault.is_some()
            });
            assert!(venue.received.is_empty());
        }

        #[test]
        fn a_venue_of_another_name_gets_an_alert_and_no_request() {
            let (mut stream, mut venue) = unshaken(&Authority::new(), "elsewhere.example");
            let mut out = WriteBuffer::default();
            out.tail().extend_from_slice(b"GET / HTTP/1.1");
            let mut plain = ReceiveBuffer::default();
            let mut end = None;
            until("the refusal", || {
                assert!(!stream.flush(&mut out).unwrap());
                venue.turn();
                end = end.take().or_else(|| drain(&mut stream, &mut plain));
                venue.fault.is_some()
            });
            assert!(matches!(end, Some(DisconnectReason::Tls(_))), "{end:?}");
            assert!(venue.received.is_empty() && plain.is_empty());
            assert_eq!(stream.written_position(), 0);
        }
    }
}
