//! A tiny HTTP server for a Prometheus on the same host. Invariant: it listens on loopback alone, and no client of it can
//! hold it up for longer than a second.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Serves what a function renders to every GET, on a thread of its own, until it is dropped.
///
/// ```no_run
/// use hypersockets::report::{Prometheus, PrometheusEndpoint};
/// # fn serve(client: std::sync::Arc<hypersockets::Client>) -> std::io::Result<()> {
/// let endpoint = PrometheusEndpoint::start(9_464, move || {
///     Prometheus::new().client("binance", &client.metrics(), Some(&client.latency())).render()
/// })?;
/// println!("http://{}/metrics", endpoint.address());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PrometheusEndpoint {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl PrometheusEndpoint {
    /// Listens on this port of 127.0.0.1; 0 is any free one.
    ///
    /// # Errors
    /// Where the port is taken, or no thread can be started.
    pub fn start(port: u16, render: impl Fn() -> String + Send + 'static) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let address = listener.local_addr()?;
        let stopped = Arc::<AtomicBool>::default();
        let seen = Arc::clone(&stopped);
        let serve = move || {
            for stream in listener.incoming() {
                if seen.load(Ordering::Acquire) {
                    return;
                }
                // A scraper that leaves early is its own affair.
                let _ = stream.and_then(|stream| answer(stream, &render));
            }
        };
        let thread = thread::Builder::new().name("hs-prometheus".to_owned()).spawn(serve)?;
        Ok(Self { address, stopped, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for PrometheusEndpoint {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        // Wakes it from waiting for the next scraper.
        if TcpStream::connect(self.address).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: TcpStream, render: &impl Fn() -> String) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // Whatever follows the first line changes nothing, but is read, for a reset would take the answer with it.
    let mut request = [0; 4096];
    let length = stream.read(&mut request)?;
    let (status, body) = match request[..length].starts_with(b"GET ") {
        true => ("200 OK", render()),
        false => ("405 Method Not Allowed", String::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

const PATIENCE: Duration = Duration::from_secs(1);
