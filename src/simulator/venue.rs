//! The test's handle on a venue. Invariant: when [`Venue::stop`] returns, every thread of the venue has ended.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::acceptor::Acceptor;
use super::certificate::Certificate;
use super::command::Ending;
use super::listening::Reserved;
use super::session::Session;
use super::shared::Shared;
use super::tally::lock;
use super::upgrade::UpgradePlan;

/// A venue on loopback. Dropping it stops it, with a FIN to each session.
pub struct Venue {
    shared: Arc<Shared>,
    state: Mutex<State>,
    port: u16,
    certificate: Option<Certificate>,
    coins: Vec<String>,
    upgraded: Receiver<Session>,
    replays: Receiver<()>,
}

enum State {
    /// Clients may dial.
    Running(Acceptor),
    /// The port refuses connections.
    Stopped(Reserved),
    /// The port could not be kept when the venue stopped.
    Lost,
}

impl fmt::Debug for Venue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Venue")
            .field("url", &self.url())
            .field("sent", &self.sent())
            .field("sessions", &self.sessions_accepted())
            .finish_non_exhaustive()
    }
}

impl Venue {
    pub(super) fn start(
        shared: Arc<Shared>,
        reserved: Reserved,
        certificate: Option<Certificate>,
        coins: Vec<String>,
        upgraded: Receiver<Session>,
        replays: Receiver<()>,
    ) -> io::Result<Venue> {
        let port = reserved.port;
        let acceptor = Acceptor::start(Arc::clone(&shared), reserved)?;
        Ok(Venue { shared, state: Mutex::new(State::Running(acceptor)), port, certificate, coins, upgraded, replays })
    }

    /// Where to dial: `ws://127.0.0.1:PORT/ws`, or with TLS `wss://localhost:PORT/ws`.
    pub fn url(&self) -> String {
        match self.certificate {
            Some(_) => format!("wss://localhost:{}/ws", self.port),
            None => format!("ws://127.0.0.1:{}/ws", self.port),
        }
    }

    /// The same, with another path and query, such as `/stream?streams=btcusdt@trade`.
    pub fn url_at(&self, path: &str) -> String {
        let url = self.url();
        format!("{}{path}", url.strip_suffix("/ws").unwrap_or(&url))
    }

    /// The port, the same over restarts. It listens on `127.0.0.1`, and on `::1` where there is one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate to trust, as DER, if the venue speaks TLS; the same over restarts.
    pub fn root_certificate_der(&self) -> Option<Vec<u8>> {
        self.certificate.as_ref().map(|c| c.root_der.clone())
    }

    /// The certificate to trust, as PEM, if the venue speaks TLS; the same over restarts.
    pub fn root_certificate_pem(&self) -> Option<String> {
        self.certificate.as_ref().map(|c| c.root_pem.clone())
    }

    /// Data messages (text or binary, acknowledgements and pong messages included) of which the kernel has taken every
    /// byte, over all sessions. A message is counted before anything behind it is offered, hence before our Close: a
    /// client that has read to the Close has received exactly what is counted for its session.
    /// Before the Close the count may trail what a quick client has read by the last write.
    pub fn sent(&self) -> u64 {
        self.shared.tally.sent()
    }

    /// The same, of the `l2Book` messages of one coin.
    ///
    /// # Panics
    ///
    /// If the venue does not have the coin.
    #[track_caller]
    pub fn sent_on(&self, coin: &str) -> u64 {
        match self.coins.iter().position(|had| had == coin) {
            Some(index) => self.shared.tally.sent_on(index),
            None => panic!("the venue has the coins {:?}, not {coin:?}", self.coins),
        }
    }

    /// Connections accepted so far, upgraded or not.
    pub fn connections_accepted(&self) -> u64 {
        self.shared.tally.connections()
    }

    /// Sessions upgraded so far.
    pub fn sessions_accepted(&self) -> u64 {
        self.shared.tally.sessions()
    }

    /// Every text message that clients have sent, with the number of its session.
    pub fn received(&self) -> Vec<(u64, String)> {
        self.shared.tally.heard()
    }

    /// Every breach of HTTP or of the WebSocket protocol by a client, with the number of its session, or 0 before the
    /// upgrade.
    pub fn protocol_errors(&self) -> Vec<(u64, String)> {
        self.shared.tally.blamed()
    }

    /// Asserts that the session subscribed to this channel of this coin exactly once, going by all it has sent.
    ///
    /// # Panics
    ///
    /// If it did not, with what the session sent.
    #[track_caller]
    pub fn assert_subscribed_once(&self, session_number: u64, channel: &str, coin: &str) {
        let mut texts = self.received();
        texts.retain(|(session, _)| *session == session_number);
        let count = texts
            .iter()
            .filter_map(|(_, text)| serde_json::from_str::<serde_json::Value>(text).ok())
            .filter(|request| {
                let subscription = &request["subscription"];
                request["method"] == "subscribe" && subscription["type"] == channel && subscription["coin"] == coin
            })
            .count();
        assert_eq!(
            count, 1,
            "session {session_number}: awaited one subscription to {channel} of {coin}, came {texts:?}"
        );
    }

    /// Asserts that no client broke the protocol.
    ///
    /// # Panics
    ///
    /// If one did, with all that was wrong.
    #[track_caller]
    pub fn assert_protocol_kept(&self) {
        let errors = self.protocol_errors();
        assert!(errors.is_empty(), "clients broke the protocol: {errors:?}");
    }

    /// The next session, in the order in which they were upgraded.
    pub fn next_session(&self, timeout: Duration) -> io::Result<Session> {
        self.upgraded.recv_timeout(timeout).map_err(|_| {
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "waited {timeout:?} for a session; {} connections and {} sessions so far",
                    self.connections_accepted(),
                    self.sessions_accepted()
                ),
            )
        })
    }

    /// Waits until the kernel has taken the whole recording for one session more; each call consumes one.
    pub fn await_replayed(&self, timeout: Duration) -> io::Result<()> {
        self.replays.recv_timeout(timeout).map_err(|_| {
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!("waited {timeout:?} for the end of a replay; {} messages sent so far", self.sent()),
            )
        })
    }

    /// Queues a plan: the next connection without one gets it. Connections for which none is queued are accepted.
    pub fn plan_upgrade(&self, plan: impl Into<UpgradePlan>) {
        lock(&self.shared.plans).push_back(plan.into());
    }

    /// Closes the listener and drops all sessions. The port stays bound, and refuses connections, until
    /// [`Venue::restart`] or the end of the venue. On a stopped venue it does nothing.
    pub fn stop(&self, ending: Ending) {
        let mut state = lock(&self.state);
        *state = match std::mem::replace(&mut *state, State::Lost) {
            State::Running(acceptor) => acceptor.stop(ending).map_or(State::Lost, State::Stopped),
            stopped => stopped,
        };
    }

    /// Listens again on the same port, after [`Venue::stop`]. A running venue is an error.
    pub fn restart(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        let reserved = match std::mem::replace(&mut *state, State::Lost) {
            State::Stopped(reserved) => reserved,
            State::Lost => Reserved::bind(self.port)?,
            running => {
                *state = running;
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "the venue is running; stop it before restarting it",
                ));
            }
        };
        *state = State::Running(Acceptor::start(Arc::clone(&self.shared), reserved)?);
        Ok(())
    }
}

impl Drop for Venue {
    fn drop(&mut self) {
        self.stop(Ending::Fin);
    }
}
