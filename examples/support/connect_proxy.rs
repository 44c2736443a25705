//! Both ends of an HTTP CONNECT tunnel (RFC 9110, section 9.3.6): the dialer of a client behind a proxy, and a proxy on
//! loopback to try it with. Invariant: neither takes a byte of what is tunnelled.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use hypersockets::{DialRequest, Result};

/// Has the proxy connect to the venue, and returns the socket from which then only the venue is heard.
pub(crate) fn dial_through(proxy: SocketAddr, request: &DialRequest) -> Result<TcpStream> {
    let mut socket = TcpStream::connect_timeout(&proxy, request.timeout())?;
    let venue = match request.host() {
        address if address.contains(':') => format!("[{address}]:{}", request.port()),
        name => format!("{name}:{}", request.port()),
    };
    socket.set_write_timeout(Some(request.timeout()))?;
    socket.write_all(format!("CONNECT {venue} HTTP/1.1\r\nHost: {venue}\r\n\r\n").as_bytes())?;
    let head = read_head(&mut socket, |socket| socket.set_read_timeout(Some(request.timeout())))?;
    let status_line = head.lines().next().unwrap_or_default();
    match status_line.split(' ').nth(1) {
        Some("200") if status_line.starts_with("HTTP/1.") => Ok(socket),
        _ => Err(format!("the proxy at {proxy} answered {status_line:?}").into()),
    }
}

/// Reads up to the empty line and not a byte further: what follows is for somebody else. So byte by byte; heads are short.
fn read_head(socket: &mut TcpStream, before_each: impl Fn(&TcpStream) -> io::Result<()>) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == MAX_HEAD_BYTES {
            return Err(io::Error::other(format!("more than {MAX_HEAD_BYTES} bytes and no end of the HTTP head")));
        }
        // The time shrinks, so a proxy that trickles cannot hold us beyond it.
        before_each(socket)?;
        socket.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    String::from_utf8(head).map_err(io::Error::other)
}

/// What a proxy does with all who come.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    Tunnel,
    /// This status line, and the end.
    #[allow(dead_code)] // nobody but the tests wants that
    Refuse(&'static str),
}

/// A proxy on loopback. Its threads end with their connections, and the listening one with the process.
pub(crate) struct ConnectProxy {
    pub(crate) address: SocketAddr,
    /// The venue of each CONNECT, as the client named it.
    pub(crate) asked_for: Receiver<String>,
}

impl ConnectProxy {
    pub(crate) fn start(answer: Answer) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let (asking, asked_for) = channel();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let asking = asking.clone();
                thread::spawn(move || {
                    if let Err(error) = serve(client, answer, &asking) {
                        eprintln!("proxy: {error}");
                    }
                });
            }
        });
        Ok(Self { address, asked_for })
    }
}

fn serve(mut client: TcpStream, answer: Answer, asking: &Sender<String>) -> io::Result<()> {
    let head = read_head(&mut client, |_| Ok(()))?;
    let Some(venue) = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()) else {
        return client.write_all(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n");
    };
    // Whoever started the proxy may not want to know.
    let _ = asking.send(venue.to_owned());
    if let Answer::Refuse(status_line) = answer {
        return client.write_all(format!("{status_line}\r\nContent-Length: 0\r\n\r\n").as_bytes());
    }
    let venue = TcpStream::connect(venue)?;
    for socket in [&client, &venue] {
        socket.set_nodelay(true)?;
    }
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let (to_client, to_venue) = (client.try_clone()?, venue.try_clone()?);
    let upward = thread::spawn(move || pass_on(client, to_venue));
    pass_on(venue, to_client);
    // It prints its own panic.
    let _ = upward.join();
    Ok(())
}

/// Copies to the end, then says that it was the end; either side's reset is the other's end, too.
fn pass_on(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// No proxy says more; some show a page with an error, which is behind the head.
const MAX_HEAD_BYTES: usize = 8 * 1024;
