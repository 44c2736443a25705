//! One TCP connection, with or without TLS on it. Invariant: it buffers nothing to be written beyond what rustls owes
//! (handshake records, alerts), which `pump` hands over.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use rustls::{ServerConfig, ServerConnection};
use socket2::SockRef;

/// Read per call; four reads fill the largest socket buffer Linux grows by default about halfway.
const READ_BYTES: usize = 64 * 1024;

pub(super) struct Link {
    pub(super) stream: TcpStream,
    tls: Option<Box<ServerConnection>>,
    buffer: Vec<u8>,
}

/// What a read brought.
pub(super) enum Arrival {
    /// Some bytes, or TLS records that carried none.
    Bytes,
    /// Nothing more until the socket is readable again.
    Dry,
    /// The client's FIN.
    End,
}

impl Link {
    pub(super) fn new(stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let tls = match tls {
            Some(config) => {
                let mut session = ServerConnection::new(config).map_err(io::Error::other)?;
                session.set_buffer_limit(None);
                Some(Box::new(session))
            }
            None => None,
        };
        Ok(Link { stream, tls, buffer: vec![0; READ_BYTES] })
    }

    pub(super) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Appends what the client sent, deciphered.
    pub(super) fn read(&mut self, into: &mut Vec<u8>) -> io::Result<Arrival> {
        let outcome = match &mut self.tls {
            None => self.stream.read(&mut self.buffer),
            Some(tls) => tls.read_tls(&mut self.stream),
        };
        let count = match outcome {
            Ok(0) => return Ok(Arrival::End),
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Arrival::Dry),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(Arrival::Bytes),
            Err(e) => return Err(e),
        };
        let Some(tls) = &mut self.tls else {
            into.extend_from_slice(&self.buffer[..count]);
            return Ok(Arrival::Bytes);
        };
        tls.process_new_packets().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        loop {
            match tls.reader().read(&mut self.buffer) {
                Ok(0) => return Ok(Arrival::End),
                Ok(count) => into.extend_from_slice(&self.buffer[..count]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Arrival::Bytes),
                Err(e) => return Err(e),
            }
        }
    }

    /// Appends the wire form of `chunk`: itself, or one TLS record if it is no longer than 16 KiB.
    pub(super) fn seal(&mut self, chunk: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
        match &mut self.tls {
            None => wire.extend_from_slice(chunk),
            Some(tls) => {
                tls.writer().write_all(chunk)?;
                self.pump(wire)?;
            }
        }
        Ok(())
    }

    /// Appends the records that TLS itself wants to send.
    pub(super) fn pump(&mut self, wire: &mut Vec<u8>) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(wire)?;
            }
        }
        Ok(())
    }

    pub(super) fn write(&mut self, wire: &[u8]) -> io::Result<usize> {
        self.stream.write(wire)
    }

    /// The TLS farewell of an orderly end; nothing without TLS.
    pub(super) fn close_notify(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
    }

    /// Sends our FIN.
    pub(super) fn shut(&self) {
        // Fails only if the client is gone, which the next read tells.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Makes the close of this socket an RST.
    pub(super) fn arm_rst(&self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}
