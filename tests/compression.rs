//! Promise: with compression agreed, each message comes once and in order, and what we send arrives as it was, whoever wrote the
//! other end: python's `websockets` and npm's `ws`, in every way of keeping windows.
//!
//! Where one of them is not installed, its test says SKIPPED and passes.

mod support {
    pub(crate) mod lines;
}

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use hypersockets::simulator::{Recording, UpgradeFault, Venue};
use hypersockets::{
    Client, ClientState, Compression, DisconnectReason, EventLoop, HyperSocketError, NeverReconnect, RouteOptions,
};
use support::lines::{Lines, PATIENCE, next_session, soon, trusting};

/// Sends so many numbered messages to whoever asks, then echoes.
const ON_WEBSOCKETS: &str = r#"
import sys
from websockets.sync.server import serve

def session(websocket):
    count = int(websocket.recv())
    sys.stdout.write(f"{[type(e).__name__ for e in websocket.protocol.extensions]}\n")
    sys.stdout.flush()
    for number in range(count):
        websocket.send(f'{{"number":{number},"bid":"61000.{number % 7}","ask":"61001.{number % 11}","pad":"{"x" * (number % 50)}"}}')
    for text in websocket:
        websocket.send(text)

with serve(session, "127.0.0.1", 0) as server:
    sys.stdout.write(f"{server.socket.getsockname()[1]}\n")
    sys.stdout.flush()
    server.serve_forever()
"#;

/// The same.
const ON_WS: &str = r#"
const { WebSocketServer } = require('ws');
const options = { threshold: 0 };
const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: options }, () => {
  process.stdout.write(`${server.address().port}\n`);
});
server.on('connection', (socket) => {
  let asked = false;
  socket.on('message', async (data) => {
    if (asked) { socket.send(`${data}`); return; }
    asked = true;
    process.stdout.write(`${socket.extensions}\n`);
    const count = Number(`${data}`);
    for (let number = 0; number < count; number++) {
      const text = `{"number":${number},"bid":"61000.${number % 7}","ask":"61001.${number % 11}","pad":"${'x'.repeat(number % 50)}"}`;
      const sent = new Promise((resolve) => socket.send(text, resolve));
      if (number % 500 === 0) await sent;
    }
  });
});
"#;

/// The server's process, ended with the test.
struct Peer {
    child: Child,
    lines: mpsc::Receiver<String>,
    port: u16,
}

impl Peer {
    fn start(program: &str, name: &str, script: &str) -> Self {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compression");
        fs::create_dir_all(&place).expect("a place of our own");
        let file: PathBuf = place.join(name);
        fs::write(&file, script).expect("a place of our own");
        let mut command = interpreter(program);
        let mut child = command.arg(file).stdout(Stdio::piped()).spawn().expect("it is installed");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (told, lines) = mpsc::channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| told.send(line)));
        let port = lines.recv_timeout(PATIENCE).expect("it listens").parse().expect("a port");
        Self { child, lines, port }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It is ours, and may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn interpreter(program: &str) -> Command {
    let mut command = Command::new(program);
    if program == "node"
        && std::env::var_os("NODE_PATH").is_none()
        && let Ok(root) = Command::new("npm").args(["root", "--global"]).output()
    {
        command.env("NODE_PATH", String::from_utf8_lossy(&root.stdout).trim());
    }
    command
}

fn is_installed(program: &str, arguments: &[&str]) -> bool {
    let silent = &mut interpreter(program);
    silent.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    silent.status().is_ok_and(|status| status.success())
}

/// Every way of keeping windows, or of not.
fn ways() -> [(&'static str, Compression); 5] {
    let all = || Compression::deflate().threshold_bytes(32);
    [
        ("both windows kept", all()),
        ("the server forgets", all().server_no_context_takeover()),
        ("the client forgets", all().client_no_context_takeover()),
        ("both forget", all().server_no_context_takeover().client_no_context_takeover()),
        ("small windows", all().server_max_window_bits(9).client_max_window_bits(9)),
    ]
}

/// So many messages each way of keeping windows, and a tenth as many back and forth.
fn exchange(peer: &Peer, messages: usize) {
    for (way, compression) in ways() {
        let (told, heard) = mpsc::channel();
        let client = hypersockets::builder()
            .url(format!("ws://127.0.0.1:{}/", peer.port))
            .compression(compression)
            .router(Lines, |routing| {
                let handler = move |line: String| told.send(line).map_err(|_| "the test is over".into());
                routing.default_handler_with(handler, RouteOptions::new())
            })
            .reconnect_strategy(NeverReconnect)
            .build()
            .expect("the peer accepts");
        client.send(messages.to_string()).expect("it is live");
        let agreed = peer.lines.recv_timeout(PATIENCE).expect("it says what was agreed");
        assert!(agreed.to_lowercase().contains("deflate"), "{way}: {agreed}");
        for number in 0..messages {
            let text = heard.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{way}: message {number} did not come"));
            let pad = "x".repeat(number % 50);
            let (bid, ask) = (number % 7, number % 11);
            let due = format!(r#"{{"number":{number},"bid":"61000.{bid}","ask":"61001.{ask}","pad":"{pad}"}}"#);
            assert_eq!(text, due, "{way}");
        }
        let ours = |number: usize| format!("order {number} {}", "BTC-USDT 61000.1 buy ".repeat(number % 40));
        for number in 0..messages / 10 {
            client.send(ours(number)).expect("it is live");
            if number % 100 == 99 {
                for number in number - 99..=number {
                    assert_eq!(heard.recv_timeout(PATIENCE).as_ref(), Ok(&ours(number)), "{way}");
                }
            }
        }
        let report = client.shutdown().expect("not on the engine's thread");
        assert!(report.complete && report.metrics.parse_errors == 0, "{way}: {report:?}");
    }
}

#[test]
fn with_pythons_websockets() {
    if !is_installed("python3", &["-c", "import websockets.sync.server"]) {
        return println!("SKIPPED: no python3 with websockets on this machine");
    }
    exchange(&Peer::start("python3", "server.py", ON_WEBSOCKETS), 5_000);
}

#[test]
fn with_npms_ws() {
    if !is_installed("node", &["-e", "require('ws')"]) {
        return println!("SKIPPED: no node with ws on this machine");
    }
    exchange(&Peer::start("node", "server.js", ON_WS), 5_000);
}

/// A client of the venue, whose messages come out of the channel.
fn listening(venue: &Venue, compression: Compression) -> (Client, mpsc::Receiver<String>) {
    let (told, heard) = mpsc::channel();
    let client = hypersockets::builder()
        .url(venue.url())
        .tls(trusting(venue))
        .compression(compression)
        .router(Lines, |routing| {
            routing.default_handler(move |line: String| told.send(line).map_err(|_| "the test is over".into()))
        })
        .subscription("subscribe to everything that there is, compressed as it is longer than the threshold")
        .reconnect_strategy(soon())
        .build()
        .expect("the venue accepts");
    (client, heard)
}

#[test]
fn with_the_simulator_over_ws_and_wss_a_recording_comes_whole_and_again_in_each_session() {
    let messages: Vec<String> =
        (0..5_000).map(|n| format!(r#"{{"n":{n},"bid":"61000.{}","x":"{}"}}"#, n % 7, "é".repeat(n % 90))).collect();
    for tls in [false, true] {
        for (way, compression) in ways() {
            let venue = Venue::replay(Recording::from_messages(messages.clone())).flat_out().deflate();
            let venue = if tls { venue.tls() } else { venue };
            let venue = venue.start().expect("a free port");
            let (client, heard) = listening(&venue, compression);
            for epoch in 1..=2 {
                let session = next_session(&venue);
                let extensions = session.headers().into_iter().find(|(name, _)| name == "Sec-WebSocket-Extensions");
                assert!(extensions.is_some_and(|(_, offer)| offer.starts_with("permessage-deflate")), "{way}");
                session.assert_received(
                    "subscribe to everything that there is, compressed as it is longer than the threshold",
                );
                for message in &messages {
                    assert_eq!(heard.recv_timeout(PATIENCE).as_ref(), Ok(message), "{way}, epoch {epoch}");
                }
                let order = format!("order {epoch} {}", "buy 1 BTC at 61000.1; ".repeat(20));
                client.send(order.clone()).expect("it is live");
                session.assert_received(&order);
                venue.assert_protocol_kept();
                session.drop_rst();
            }
            client.shutdown().expect("not on the engine's thread");
        }
    }
}

#[test]
fn a_venue_that_declines_is_served_without() {
    let venue = Venue::scripted().start().expect("a free port");
    let (client, heard) = listening(&venue, Compression::deflate().threshold_bytes(1));
    let session = next_session(&venue);
    session.assert_received("subscribe to everything that there is, compressed as it is longer than the threshold");
    session.send_text("plain");
    assert_eq!(heard.recv_timeout(PATIENCE).as_deref(), Ok("plain"));
    client.shutdown().expect("not on the engine's thread");
    venue.assert_protocol_kept();
}

#[test]
fn an_answer_that_breaks_a_rule_ends_the_dial_by_the_rules_name() {
    let venue = Venue::scripted().deflate().start().expect("a free port");
    // It accepts the extension, and says nothing of what the offer insists on (RFC 7692, section 7.1.1.1).
    venue.plan_upgrade(UpgradeFault::UnaskedExtension);
    let refused = hypersockets::builder()
        .url(venue.url())
        .compression(Compression::deflate().server_no_context_takeover())
        .router(Lines, |routing| routing.default_handler(|_: String| Ok(())))
        .build();
    match refused {
        Err(HyperSocketError::ConnectFailed(DisconnectReason::UpgradeInvalid(rule))) => {
            assert!(rule.contains("server_no_context_takeover"), "{rule}");
        }
        other => panic!("{other:?}"),
    }
}

/// What the venue sends compressed, with its own stream.
struct Compressor(flate2::Compress);

impl Compressor {
    fn new() -> Self {
        Self(flate2::Compress::new(flate2::Compression::best(), false))
    }

    /// A piece of a message, with the end that is cut off the last one (RFC 7692, section 7.2.1).
    fn piece(&mut self, message: &[u8]) -> Vec<u8> {
        let mut deflated = Vec::with_capacity(message.len() / 100 + 1024);
        self.0.compress_vec(message, &mut deflated, flate2::FlushCompress::Sync).expect("there is room");
        deflated
    }

    fn deflated(&mut self, message: &[u8]) -> Vec<u8> {
        let mut deflated = self.piece(message);
        deflated.truncate(deflated.len() - 4);
        deflated
    }
}

/// One frame of a server's, with all the length that it may have.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let header = match payload.len() {
        length @ 0..=125 => vec![first, length as u8],
        length @ 126..=0xFFFF => [&[first, 126][..], &(length as u16).to_be_bytes()].concat(),
        length => [&[first, 127][..], &(length as u64).to_be_bytes()].concat(),
    };
    [header, payload.to_vec()].concat()
}

/// What may be wrong behind the bit that says that a message is compressed, and the Close that tells it.
#[test]
fn what_is_wrong_with_a_compressed_message_is_told_by_its_close_code_and_nothing_behind_it_is_handled() {
    let not_utf_8 = frame(0xC1, &Compressor::new().deflated(b"\xC3\x28"));
    // The second of two equal messages refers to the first, which the client has not seen.
    let mut compressor = Compressor::new();
    let [_, refers] = [(); 2].map(|()| compressor.deflated(b"each word of this is known from before"));
    let unknown_window = frame(0xC1, &refers);
    let half = Compressor::new().deflated(b"half a message");
    for (wrong, code) in [
        (frame(0xC1, &[0xFF; 20]), 1002),
        (unknown_window, 1002),
        (frame(0xC9, b"a ping"), 1002),
        ([frame(0x41, &half[..5]), frame(0xC0, &half[5..])].concat(), 1002),
        (not_utf_8, 1007),
    ] {
        let venue = Venue::scripted().deflate().start().expect("a free port");
        let (client, heard) = listening(&venue, Compression::deflate());
        let session = next_session(&venue);
        session.send_text("before");
        session.send_raw([wrong, frame(0x81, b"behind")].concat());
        assert_eq!(session.await_close(PATIENCE).expect("a Close"), Some(code));
        let again = next_session(&venue);
        again.send_text("again");
        assert_eq!(heard.recv_timeout(PATIENCE).as_deref(), Ok("before"));
        assert_eq!(heard.recv_timeout(PATIENCE).as_deref(), Ok("again"));
        client.shutdown().expect("not on the engine's thread");
    }
}

/// A megabyte that would be a gigabyte: it ends at the limit, with the memory of the limit.
#[test]
fn a_bomb_ends_at_the_limit_by_1009_and_with_bounded_memory() {
    const LIMIT: u64 = 16 << 20;
    let mut compressor = Compressor::new();
    let [first, same] = [(); 2].map(|()| compressor.piece(&vec![b'0'; 4 << 20]));
    // With a window full of zeros each further piece is the same.
    let gigabyte = [first, same.repeat(255)].concat();
    assert!(((1 << 19)..(2 << 20)).contains(&gigabyte.len()), "{}", gigabyte.len());
    let venue = Venue::scripted().deflate().start().expect("a free port");
    let mut event_loop = EventLoop::new().expect("a descriptor is left");
    let builder = hypersockets::builder()
        .url(venue.url())
        .compression(Compression::deflate())
        .router(Lines, |routing| {
            routing.default_handler_with(|_: String| Err("nobody is to see it".into()), RouteOptions::new().inline())
        })
        .max_message_bytes(LIMIT)
        .reconnect_strategy(NeverReconnect);
    let client = event_loop.add(builder).expect("a sound configuration");
    let mut turn_until = |is_done: &dyn Fn() -> bool| {
        while !is_done() {
            if event_loop.turn() == 0 {
                event_loop.wait(PATIENCE);
            }
        }
    };
    turn_until(&|| client.state() == ClientState::Live);
    let session = next_session(&venue);
    session.send_raw(frame(0xC1, &gigabyte));
    let counted = allocation_counter::measure(|| turn_until(&|| client.state() == ClientState::Failed));
    assert_eq!(session.await_close(PATIENCE).expect("a Close"), Some(1009));
    // The frame itself in its doublings, what was inflated up to the limit, and what is copied as that grows.
    assert!(counted.bytes_max < 2 * LIMIT + (8 << 20), "{counted:?}");
    let metrics = client.metrics();
    assert_eq!((metrics.messages_received, metrics.messages_handled), (0, 0));
}

#[test]
#[ignore = "a hundred thousand messages each way: for release builds"]
fn a_hundred_thousand_messages_each_way() {
    if is_installed("python3", &["-c", "import websockets.sync.server"]) {
        exchange(&Peer::start("python3", "server-100000.py", ON_WEBSOCKETS), 100_000);
    }
    if is_installed("node", &["-e", "require('ws')"]) {
        exchange(&Peer::start("node", "server-100000.js", ON_WS), 100_000);
    }
}
