//! From the wish for a connection to a socket: its turn, its providers, the addresses, TCP.

use std::sync::Arc;
use std::time::Instant;

use mio::net::TcpStream;

use super::connection::Connection;
use super::desk::Desk;
use super::link::{Dialing, Link, Open, Protocol};
use super::offload::Job;
use super::plan::{Prepared, UrlSource, Way};
use super::resolver::Source;
use super::session::Role;
use crate::error::{DisconnectReason, HyperSocketError};
use crate::event::ClientEvent;
use crate::lifecycle::{Input, LONGEST_RETRY_AFTER};
use crate::limits::{hold_host, host_held_until};
use crate::subscriptions::SubscriptionProgress;
use crate::transport::{BOTH, Dial, Progress, Stream, Target, TlsSession, Upgrade};

impl Connection {
    /// A connect may have ended.
    pub(super) fn on_dial_ready(&mut self, desk: &mut Desk) {
        if let Link::Dialing(dialing) = &mut self.link {
            let progress = dialing.dial.on_ready(&desk.registry, desk.now);
            self.on_dial(progress, desk.now);
            self.perform(desk);
        }
    }

    /// The offload thread's answer.
    pub(super) fn on_prepared(&mut self, desk: &mut Desk, attempt: u64, outcome: Result<Prepared, DisconnectReason>) {
        self.asking = false;
        match self.session.lifecycle.dialing() {
            Some(current) if current == attempt => self.connect(desk, attempt, outcome),
            // The late answer to an earlier dial is not used, but now this one can ask.
            Some(current) => {
                let deadline = self.session.lifecycle.poll_timeout().unwrap_or(desk.now);
                self.ask(desk, current, deadline);
            }
            None => {}
        }
        self.perform(desk);
        self.flush();
    }

    pub(super) fn dial(&mut self, desk: &mut Desk, attempt: u64, deadline: Instant) {
        // Before anybody is asked for what may be stale by the time of its turn.
        if let UrlSource::Fixed(url) = &self.session.plan.providers.url
            && let Ok(target) = Target::parse(url)
            && self.is_held_back(desk, attempt, &target)
        {
            return;
        }
        if let Some(outcome) = self.session.plan.providers.prepare_at_once() {
            return self.connect(desk, attempt, outcome);
        }
        self.link = Link::Preparing;
        self.ask(desk, attempt, deadline);
    }

    /// Has the offload threads prepare this dial. Where a call of an earlier dial still hangs, it is not made again beside
    /// it: those threads are few, and other clients need them, too.
    fn ask(&mut self, desk: &mut Desk, attempt: u64, deadline: Instant) {
        if self.asking {
            return;
        }
        let (providers, reply) = (Arc::clone(&self.session.plan.providers), desk.commands.clone());
        let connection = self.address;
        match desk.offload.submit(Job { providers, connection, attempt, deadline, reply }) {
            Ok(()) => self.asking = true,
            Err(reason) => self.session.lifecycle.handle_input(desk.now, Input::DialFailed { attempt, reason }),
        }
    }

    /// Whether this dial is to wait for its turn, under the venue's limit or after its `Retry-After`: then it is put off.
    fn is_held_back(&mut self, desk: &Desk, attempt: u64, target: &Target) -> bool {
        let plan = Arc::clone(&self.session.plan);
        let (now, host) = (desk.now, format!("{}:{}", target.host, target.port));
        let held_until = host_held_until(&host, now).or_else(|| {
            let turn = self.turn.or_else(|| {
                let limit = plan.connection_limit.as_ref()?;
                Some(limit.reserve(&target.host, plan.providers.socket.source(), now))
            });
            self.turn = turn.filter(|turn| *turn > now);
            self.turn
        });
        self.host = Some(host);
        let Some(until) = held_until else { return false };
        self.link = Link::Down;
        self.session.lifecycle.handle_input(now, Input::HeldBack { attempt, until });
        // Whoever hears of it finds the state that it tells of.
        self.session.publish_state();
        if self.session.speaks() {
            let retry_in = until - now;
            self.session.shared.report(|| ClientEvent::HeldBack { retry_in });
        }
        true
    }

    fn connect(&mut self, desk: &mut Desk, attempt: u64, outcome: Result<Prepared, DisconnectReason>) {
        if let Ok(prepared) = &outcome
            && matches!(self.session.plan.providers.url, UrlSource::Fresh(_))
            && self.is_held_back(desk, attempt, &prepared.target)
        {
            return;
        }
        self.session.shared.counters.dials.add(1);
        // The request is made before a byte leaves, so that a header that would break it breaks the dial instead.
        let ready = outcome.and_then(|prepared| {
            Upgrade::new(
                &prepared.target,
                &prepared.headers,
                &self.session.plan.subprotocols,
                &self.session.plan.compression,
            )
            .map(|upgrade| (prepared, upgrade))
            .map_err(|error| match error {
                HyperSocketError::InvalidHeader(what) => DisconnectReason::InvalidHeader(what),
                other => DisconnectReason::Provider(other.to_string()),
            })
        });
        let (Prepared { target, way, auth, subscriptions, .. }, upgrade) = match ready {
            Ok(ready) => ready,
            Err(reason) => {
                return self.session.lifecycle.handle_input(desk.now, Input::DialFailed { attempt, reason });
            }
        };
        self.session.auth_message = auth;
        self.session.progress = SubscriptionProgress::new(self.session.plan.batches, subscriptions);
        let resolved = match way {
            Way::Addresses(resolved) => resolved,
            Way::Connected(socket) => {
                let mut socket = TcpStream::from_std(socket);
                let registered = desk.registry.register(&mut socket, self.tokens.connected, BOTH);
                let connected = registered.map(|()| socket);
                let connected =
                    connected.map_err(|error| DisconnectReason::Connect(format!("the dialer's socket: {error}")));
                return self.on_socket(connected, attempt, &target, upgrade, desk.now);
            }
        };
        if resolved.source == Source::Memory {
            self.session.shared.counters.resolve_fallbacks.add(1);
        }
        let (addresses, options) = (resolved.addresses, Arc::clone(&self.session.plan.providers.socket));
        let deadline = self.session.lifecycle.poll_timeout().unwrap_or(desk.now);
        let mut dial = Dial::new(&addresses, deadline, options, self.tokens);
        let progress = dial.start(&desk.registry, desk.now);
        self.link = Link::Dialing(Box::new(Dialing { dial, addresses, attempt, target, upgrade }));
        self.on_dial(progress, desk.now);
    }

    pub(super) fn on_dial(&mut self, progress: Progress, now: Instant) {
        let socket = match progress {
            Progress::Pending => return,
            Progress::Connected(socket) => Ok(socket),
            Progress::Failed(reason) => Err(reason),
        };
        let Link::Dialing(dialing) = std::mem::replace(&mut self.link, Link::Down) else {
            debug_assert!(false, "progress of a dial that is not under way");
            return;
        };
        let Dialing { addresses, attempt, target, upgrade, .. } = *dialing;
        if socket.is_ok() {
            self.session.plan.providers.resolver.remember(&target.host, target.port, addresses);
        }
        self.on_socket(socket, attempt, &target, upgrade, now);
    }

    /// The dial has come to a socket, registered under the connection's token, or to nothing.
    fn on_socket(
        &mut self,
        socket: Result<TcpStream, DisconnectReason>,
        attempt: u64,
        target: &Target,
        upgrade: Upgrade,
        now: Instant,
    ) {
        let input = match socket.and_then(|socket| self.open(socket, target, upgrade)) {
            Ok(open) => {
                if let (Role::Current, Some(gauge)) = (self.session.role, self.session.shared.gauge.get()) {
                    gauge.begin();
                }
                self.link = Link::Open(Box::new(open));
                Input::Connected { attempt, tls: target.tls }
            }
            Err(reason) => Input::DialFailed { attempt, reason },
        };
        self.session.lifecycle.handle_input(now, input);
    }

    fn open(&self, socket: TcpStream, target: &Target, upgrade: Upgrade) -> Result<Open, DisconnectReason> {
        let (protocol, options) = (Protocol::Upgrading(upgrade), &self.session.plan.providers.socket);
        if !target.tls {
            return Ok(Open { stream: Stream::plain(socket).reading_by(options), protocol });
        }
        let Some(connector) = &self.session.plan.tls else {
            return Err(DisconnectReason::Tls("no TLS was configured for this client".to_owned()));
        };
        let tls = TlsSession::new(connector, &target.host)?;
        Ok(Open { stream: Stream::tls(socket, tls).reading_by(options), protocol })
    }

    /// What the venue has told us holds for all clients of its host.
    pub(super) fn note_retry_after(&self, reason: &DisconnectReason, now: Instant) {
        if let DisconnectReason::UpgradeRejected { retry_after: Some(wait), .. } = reason
            && let (Some(host), Some(until)) = (&self.host, now.checked_add((*wait).min(LONGEST_RETRY_AFTER)))
        {
            hold_host(host, until);
        }
    }
}
