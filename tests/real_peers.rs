//! Promise: it works with software that we have not written: nginx as a TLS proxy before a server on python's `websockets`, and
//! HAProxy before one on npm's `ws`. A new certificate, a reloaded proxy and a killed server cost a session each, and nothing else.
//!
//! Where one of them is not installed, its tests say SKIPPED and pass.

mod support {
    pub(crate) mod lines;
}

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use hypersockets::rustls::pki_types::{CertificateDer, ServerName};
use hypersockets::rustls::{ClientConfig, ClientConnection, RootCertStore, crypto};
use hypersockets::{
    Client, ClientBuilder, ConnectionEvent, DisconnectReason, FixedDelay, HasRouter, HasUrl, TlsOptions,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use socket2::{Domain, Socket, Type};
use support::lines::{Journal, Lines, PATIENCE, Recorder, Seen, recorder};

/// Feeds whoever subscribes until he is gone, echoes all else, and tells on its output what it sees.
const ON_WEBSOCKETS: &str = r#"
import itertools, sys, threading
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

run, port = sys.argv[1], int(sys.argv[2])
sessions, output = itertools.count(1), threading.Lock()

def say(line):
    with output:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

def feed(websocket, name):
    try:
        for number in itertools.count():
            websocket.send(f"BTC {name} {number}")
    except ConnectionClosed:
        pass

def session(websocket):
    name = f"{run}.{next(sessions)}"
    try:
        for text in websocket:
            say(f"{name} got {text}")
            if text == "subscribe BTC":
                threading.Thread(target=feed, args=(websocket, name), daemon=True).start()
            else:
                websocket.send(f"echo {text}")
    except ConnectionClosed:
        pass
    say(f"{name} closed {websocket.protocol.close_code}")

with serve(session, "127.0.0.1", port) as server:
    say("ready")
    server.serve_forever()
"#;

/// The same.
const ON_WS: &str = r#"
const { WebSocketServer } = require('ws');

const [run, port] = process.argv.slice(2);
const say = (line) => process.stdout.write(line + '\n');
let sessions = 0;

const server = new WebSocketServer({ host: '127.0.0.1', port: Number(port) }, () => say('ready'));
server.on('connection', (socket) => {
  const name = `${run}.${++sessions}`;
  const feed = (number) => {
    for (const end = number + 100; socket.readyState === 1 && number < end; number++) socket.send(`BTC ${name} ${number}`);
    if (socket.readyState === 1) setTimeout(feed, 1, number);
  };
  socket.on('message', (data) => {
    say(`${name} got ${data}`);
    if (`${data}` === 'subscribe BTC') feed(0);
    else socket.send(`echo ${data}`);
  });
  socket.on('close', (code) => say(`${name} closed ${code}`));
  socket.on('error', () => {});
});
"#;

/// Who stands before the venue.
#[derive(Clone, Copy)]
enum ProxyKind {
    Nginx,
    Haproxy,
}

/// What the venue is made with.
#[derive(Clone, Copy)]
enum ServerKind {
    /// Of python.
    Websockets,
    /// Of npm.
    Ws,
}

impl ProxyKind {
    /// Its program, where it can be run, by root or by anyone else.
    fn program(self) -> Option<&'static str> {
        let names = match self {
            Self::Nginx => ["nginx", "/usr/sbin/nginx"],
            Self::Haproxy => ["haproxy", "/usr/sbin/haproxy"],
        };
        names.into_iter().find(|name| succeeds(Command::new(name).arg("-v")))
    }
}

impl ServerKind {
    /// Runs this script.
    fn command(self, dir: &TempDir) -> Command {
        let (program, name, script) = match self {
            Self::Websockets => ("python3", "server.py", ON_WEBSOCKETS),
            Self::Ws => ("node", "server.js", ON_WS),
        };
        dir.write(name, script);
        let mut command = self.interpreter(program);
        command.arg(dir.0.join(name));
        command
    }

    fn interpreter(self, program: &str) -> Command {
        let mut command = Command::new(program);
        // Where `npm install --global` puts it, unless the environment says otherwise.
        if matches!(self, Self::Ws)
            && std::env::var_os("NODE_PATH").is_none()
            && let Ok(root) = Command::new("npm").args(["root", "--global"]).output()
        {
            command.env("NODE_PATH", String::from_utf8_lossy(&root.stdout).trim());
        }
        command
    }

    fn is_installed(self) -> bool {
        match self {
            Self::Websockets => succeeds(self.interpreter("python3").args(["-c", "import websockets.sync.server"])),
            Self::Ws => succeeds(self.interpreter("node").args(["-e", "require('ws')"])),
        }
    }
}

fn succeeds(command: &mut Command) -> bool {
    let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    silent.status().is_ok_and(|status| status.success())
}

/// A port of this machine that nobody else is given, for as long as this lives; one process may listen on it meanwhile.
struct Reserved {
    _socket: Socket,
    port: u16,
}

impl Reserved {
    fn any() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("a plain option");
        // HAProxy listens anew at each reload, beside itself.
        socket.set_reuse_port(true).expect("a plain option");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
        let address = socket.local_addr().expect("it is bound").as_socket().expect("an IPv4 address");
        Self { _socket: socket, port: address.port() }
    }
}

/// A directory that is gone when the test is.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("hypersockets-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a new directory");
        Self(path)
    }

    /// Writes a file, whole or not at all.
    fn write(&self, name: &str, text: &str) {
        let (path, fresh) = (self.0.join(name), self.0.join(format!("{name}.new")));
        fs::write(&fresh, text).expect("the directory is ours");
        fs::rename(fresh, path).expect("the directory is ours");
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.0.join("error.log")).unwrap_or_default();
            println!("the proxy's log:\n{log}");
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A root of its own, and the leaves that it signs for localhost.
struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Test root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("random numbers");
        let certificate = params.self_signed(&key).expect("sound parameters");
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Self { pem, der, issuer: Issuer::new(params, key) }
    }

    /// Puts a new leaf where the proxy looks for it, and returns it.
    fn issue(&self, dir: &TempDir) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().expect("random numbers");
        let leaf = params.signed_by(&key, &self.issuer).expect("sound parameters");
        dir.write("leaf.key", &key.serialize_pem());
        // HAProxy wants both in one file, nginx is content with that.
        dir.write("leaf.pem", &(leaf.pem() + &key.serialize_pem()));
        leaf.der().clone()
    }
}

/// A proxy, with its master's process as our child.
struct Proxy {
    master: Child,
}

impl Proxy {
    fn start(kind: ProxyKind, program: &str, dir: &TempDir, port: u16, server_port: u16) -> Self {
        let (prefix, mut command) = (&dir.0, Command::new(program));
        match kind {
            ProxyKind::Nginx => {
                dir.write("nginx.conf", &nginx_configuration(prefix, port, server_port));
                command.arg("-p").arg(prefix).arg("-e").arg(prefix.join("error.log")).args(["-c", "nginx.conf"]);
            }
            ProxyKind::Haproxy => {
                dir.write("haproxy.cfg", &haproxy_configuration(prefix, port, server_port));
                command.arg("-W").arg("-f").arg(prefix.join("haproxy.cfg"));
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { master: command.spawn().expect("it could be run before") }
    }

    /// Has the master, and nobody else, read the certificate again.
    fn reload(&self, kind: ProxyKind) {
        let signal = match kind {
            ProxyKind::Nginx => "-HUP",
            ProxyKind::Haproxy => "-USR2",
        };
        assert!(succeeds(Command::new("kill").arg(signal).arg(self.master.id().to_string())), "it is there");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // So that the master ends its workers, too.
        if !succeeds(Command::new("kill").arg("-TERM").arg(self.master.id().to_string())) {
            let _ = self.master.kill();
        }
        let _ = self.master.wait();
    }
}

fn haproxy_configuration(prefix: &Path, port: u16, server_port: u16) -> String {
    let prefix = prefix.display();
    format!(
        "global
            maxconn 64
            # A worker of before a reload leaves its sessions at once.
            hard-stop-after 100ms
        defaults
            mode http
            timeout connect 5s
            timeout client 60s
            timeout server 60s
            timeout tunnel 600s
        frontend tls
            bind 127.0.0.1:{port} ssl crt {prefix}/leaf.pem
            default_backend venue
        backend venue
            server one 127.0.0.1:{server_port}
"
    )
}

/// Everything that nginx writes is in `prefix`, and its worker is who we are.
fn nginx_configuration(prefix: &Path, port: u16, server_port: u16) -> String {
    let id = |what| {
        let output = Command::new("id").arg(what).output().expect("every system has it");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    // Said by anyone but root, this is only worth a warning.
    let user = if id("-u") == "0" { format!("user {} {};", id("-un"), id("-gn")) } else { String::new() };
    let prefix = prefix.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path {prefix}/{what};\n"))
        .concat();
    format!(
        "{user}
        daemon off;
        worker_processes 1;
        # A worker of before a reload leaves its sessions at once.
        worker_shutdown_timeout 100ms;
        pid {prefix}/nginx.pid;
        error_log {prefix}/error.log;
        events {{ worker_connections 64; }}
        http {{
            access_log off;
            {temporary}
            server {{
                listen 127.0.0.1:{port} ssl;
                ssl_certificate {prefix}/leaf.pem;
                ssl_certificate_key {prefix}/leaf.key;
                location / {{
                    proxy_pass http://127.0.0.1:{server_port};
                    proxy_http_version 1.1;
                    proxy_set_header Upgrade $http_upgrade;
                    proxy_set_header Connection upgrade;
                    proxy_set_header Host $host;
                }}
            }}
        }}"
    )
}

/// The venue's process, and what it tells.
struct Server {
    process: Child,
    told: Receiver<String>,
}

impl Server {
    /// Returns once it listens.
    fn start(kind: ServerKind, dir: &TempDir, run: u32, port: u16) -> Self {
        let mut process = kind
            .command(dir)
            .args([run.to_string(), port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it could be run before");
        let (telling, told) = crossbeam_channel::unbounded();
        let output = BufReader::new(process.stdout.take().expect("it is piped"));
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| telling.send(line)));
        let mut server = Self { process, told };
        server.assert_tells("ready");
        server
    }

    #[track_caller]
    fn assert_tells(&mut self, line: &str) {
        match self.told.recv_timeout(PATIENCE) {
            Ok(told) => assert_eq!(told, line),
            Err(error) => panic!("waited for {line:?} of the server: {error}"),
        }
    }

    /// Ends it without a goodbye.
    fn kill(&mut self) {
        self.process.kill().expect("it is our child");
        self.process.wait().expect("it is our child");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Both peers, and what they need; ended in this order.
struct Peers {
    kinds: (ProxyKind, ServerKind),
    proxy: Proxy,
    server: Server,
    authority: Authority,
    dir: TempDir,
    port: Reserved,
    server_port: Reserved,
}

impl Peers {
    /// None, and a word about it, where they are not installed.
    fn start(proxy_kind: ProxyKind, server_kind: ServerKind) -> Option<Self> {
        let Some(program) = proxy_kind.program() else {
            println!("SKIPPED: nginx, or HAProxy, is not installed");
            return None;
        };
        if !server_kind.is_installed() {
            println!("SKIPPED: python3 with websockets, or node with ws, is not installed");
            return None;
        }
        let (dir, authority, port, server_port) = (TempDir::new(), Authority::new(), Reserved::any(), Reserved::any());
        authority.issue(&dir);
        let server = Server::start(server_kind, &dir, 1, server_port.port);
        let proxy = Proxy::start(proxy_kind, program, &dir, port.port, server_port.port);
        Some(Self { kinds: (proxy_kind, server_kind), proxy, server, authority, dir, port, server_port })
    }

    fn builder(&self, recorder: Recorder) -> ClientBuilder<HasUrl, HasRouter> {
        hypersockets::builder()
            .url(format!("wss://localhost:{}/feed", self.port.port))
            .router(Lines, |routing| routing.default_handler(recorder))
            .subscription("subscribe BTC")
            .tls(TlsOptions::new().add_root_pem(self.authority.pem.as_bytes()).only_added_roots())
            .reconnect_strategy(FixedDelay::new(Duration::from_millis(20), None))
            // Until its Close is answered, or for so long that the test notices.
            .close_timeout(PATIENCE)
    }

    /// The certificate that the proxy shows to whom it has not seen before.
    fn shown_certificate(&self) -> CertificateDer<'static> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der.clone()).expect("a sound root");
        let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring speaks them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let mut tls = ClientConnection::new(Arc::new(config), name).expect("a sound configuration");
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port.port)).expect("the proxy listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).expect("the handshake succeeds");
        }
        tls.peer_certificates().and_then(|chain| chain.first()).expect("a leaf").clone().into_owned()
    }
}

/// Shuts down by both Closes: the client's own deadline for the venue's is far.
#[track_caller]
fn say_goodbye(client: &Client) {
    let report = client.shutdown_within(PATIENCE / 2).expect("not a thread of the engine");
    assert!(report.complete && report.unhandled == 0, "{report:?}");
    assert_eq!(report.reason, DisconnectReason::Shutdown);
}

/// Reads on until the epoch's feed has brought this line.
#[track_caller]
fn until_line(journal: &mut Journal, wanted: u64, number: usize) {
    let end = format!(" {number}");
    let is_wanted = |seen: &Seen| matches!(seen, Seen::Message { epoch, text } if *epoch == wanted && text.starts_with("BTC ") && text.ends_with(&end));
    journal.until(&format!("line {number} of epoch {wanted}"), is_wanted);
}

/// Asserts that the feed came in these sessions of the server, one an epoch, each from its first line on without a hole,
/// between its `Live` and its `Lost`; returns all else that came.
#[track_caller]
fn assert_fed(journal: &mut Journal, sessions: &[&str]) -> Vec<String> {
    journal.assert_stopped_once();
    let (mut others, mut current, mut fed) = (Vec::new(), None, BTreeMap::<u64, usize>::new());
    for seen in journal.all() {
        match seen {
            Seen::Event(ConnectionEvent::Live { epoch }) => {
                assert_eq!((current, *epoch), (None, fed.len() as u64 + 1));
                current = Some(*epoch);
                fed.insert(*epoch, 0);
            }
            Seen::Event(ConnectionEvent::Lost { epoch, .. }) => assert_eq!(current.take(), Some(*epoch)),
            Seen::Message { epoch, text } => {
                assert_eq!(current, Some(*epoch), "{text}");
                let next = fed.get_mut(epoch).expect("it is live");
                if text.starts_with("BTC ") {
                    assert_eq!(*text, format!("BTC {} {next}", sessions[*epoch as usize - 1]));
                    *next += 1;
                } else {
                    others.push(text.clone());
                }
            }
            _ => {}
        }
    }
    assert_eq!((current, fed.len()), (None, sessions.len()));
    others
}

#[test]
fn nginx_and_websockets_messages_arrive_once_and_in_order_and_both_sides_say_goodbye() {
    Peers::start(ProxyKind::Nginx, ServerKind::Websockets).into_iter().for_each(exchange);
}

#[test]
fn haproxy_and_ws_messages_arrive_once_and_in_order_and_both_sides_say_goodbye() {
    Peers::start(ProxyKind::Haproxy, ServerKind::Ws).into_iter().for_each(exchange);
}

#[test]
fn nginx_and_websockets_a_new_certificate_and_a_killed_server_cost_a_session_each() {
    Peers::start(ProxyKind::Nginx, ServerKind::Websockets).into_iter().for_each(renew);
}

#[test]
fn haproxy_and_ws_a_new_certificate_and_a_killed_server_cost_a_session_each() {
    Peers::start(ProxyKind::Haproxy, ServerKind::Ws).into_iter().for_each(renew);
}

fn exchange(mut peers: Peers) {
    const ORDERS: usize = 100;
    let (recorder, mut journal) = recorder();
    let client = peers.builder(recorder).start().expect("a valid configuration");
    client.wait_live(PATIENCE).expect("the peers are up");
    peers.server.assert_tells("1.1 got subscribe BTC");
    for number in 0..ORDERS {
        client.send(format!("order {number}")).expect("live");
    }
    journal.until_message(&format!("echo order {}", ORDERS - 1));
    until_line(&mut journal, 1, 5_000);
    say_goodbye(&client);
    (0..ORDERS).for_each(|number| peers.server.assert_tells(&format!("1.1 got order {number}")));
    peers.server.assert_tells("1.1 closed 1000");
    let echoes = assert_fed(&mut journal, &["1.1"]);
    assert!(echoes.into_iter().eq((0..ORDERS).map(|number| format!("echo order {number}"))));
}

fn renew(mut peers: Peers) {
    let (recorder, mut journal) = recorder();
    let client = peers.builder(recorder).start().expect("a valid configuration");
    until_line(&mut journal, 1, 1_000);
    peers.server.assert_tells("1.1 got subscribe BTC");
    let first = peers.shown_certificate();

    let second = peers.authority.issue(&peers.dir);
    assert_ne!(first, second);
    peers.proxy.reload(peers.kinds.0);
    assert_eq!(journal.until_lost().0, 1);
    until_line(&mut journal, 2, 1_000);
    assert_eq!(peers.shown_certificate(), second);
    // The end of a session and the beginning of the next are told by two threads.
    let mut told = [(); 2].map(|()| peers.server.told.recv_timeout(PATIENCE).expect("the server sees both"));
    told.sort_unstable();
    assert_eq!(told, ["1.1 closed 1006", "1.2 got subscribe BTC"]);

    peers.server.kill();
    assert_eq!(journal.until_lost().0, 2);
    let rest = peers.server.told.recv_timeout(PATIENCE);
    assert_eq!(rest, Err(RecvTimeoutError::Disconnected), "nothing was sent twice");
    peers.server = Server::start(peers.kinds.1, &peers.dir, 2, peers.server_port.port);
    until_line(&mut journal, 3, 1_000);
    peers.server.assert_tells("2.1 got subscribe BTC");
    say_goodbye(&client);
    peers.server.assert_tells("2.1 closed 1000");
    assert!(assert_fed(&mut journal, &["1.1", "1.2", "2.1"]).is_empty());
    assert_eq!(client.metrics().reconnect_count, 2);
}
