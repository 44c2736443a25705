//! Reads with the kernel's own receive time (SO_TIMESTAMPING, software stamps; Linux). TCP gives one a read, that of its
//! last byte, on the wall clock.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd};

use mio::net::TcpStream;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, TimestampingFlag, recvmsg, setsockopt, sockopt};

/// Has the kernel stamp what comes from now on; the first stamps follow some milliseconds later.
pub(super) fn enable(socket: &impl AsFd) -> io::Result<()> {
    let software = TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE | TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE;
    Ok(setsockopt(socket, sockopt::Timestamping, &software)?)
}

/// The place for what the kernel says beside the data.
#[derive(Debug)]
pub(super) struct KernelTime {
    beside: Vec<u8>,
}

impl KernelTime {
    pub(super) fn new() -> Self {
        Self { beside: nix::cmsg_space!(nix::sys::socket::Timestamps) }
    }

    /// Reads once; the count, and when the kernel had received the last byte of it, in nanoseconds since 1970.
    pub(super) fn read(&mut self, socket: &TcpStream, room: &mut [u8]) -> io::Result<(usize, Option<u64>)> {
        let mut room = [IoSliceMut::new(room)];
        let read = recvmsg::<()>(socket.as_raw_fd(), &mut room, Some(&mut self.beside), MsgFlags::empty())?;
        let stamp = read.cmsgs().ok().and_then(|mut beside| {
            beside.find_map(|message| match message {
                ControlMessageOwned::ScmTimestampsns(stamps) => {
                    let (seconds, ns) = (stamps.system.tv_sec(), stamps.system.tv_nsec());
                    Some(u64::try_from(seconds).ok()? * 1_000_000_000 + u64::try_from(ns).ok()?)
                }
                _ => None,
            })
        });
        Ok((read.bytes, stamp.filter(|&unix_ns| unix_ns > 0)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream as VenueSocket};

    use super::*;
    use crate::clock;

    #[test]
    fn the_kernels_time_lies_between_the_sending_and_the_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = VenueSocket::connect(listener.local_addr().unwrap()).unwrap();
        let (mut venue, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = TcpStream::from_std(socket);
        enable(&socket).unwrap();
        let (mut time, mut room) = (KernelTime::new(), [0; 64]);
        let empty = time.read(&socket, &mut room).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        let give_up = clock::after(std::time::Duration::from_secs(20));
        loop {
            assert!(clock::now() < give_up, "the kernel never stamped a byte");
            let before = clock::unix_ns();
            venue.write_all(b"tick").unwrap();
            let Ok((count, stamp)) = time.read(&socket, &mut room) else { continue };
            assert_eq!(&room[..4.min(count)], b"tick");
            // Stamps begin some milliseconds after they were asked for.
            let Some(stamp) = stamp else { continue };
            assert!((before..=clock::unix_ns()).contains(&stamp), "{before} … {stamp}");
            return;
        }
    }
}
