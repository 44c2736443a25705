//! The event loop: one thread's connections, driven turn by turn. Nothing in a turn blocks.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Waker};
use rustc_hash::FxBuildHasher;

use super::command::{Command, CommandReceiver, CommandSender, command_queue};
use super::connection::{Connection, HOT_BYTES};
use super::desk::Desk;
use super::linger::LingerList;
use super::offload::Offload;
use super::plan::NewConnection;
use super::ready::ReadyList;
use super::rotation::{Rotation, Step};
use super::session::Role;
use super::token::{self, Owner, WAKER};
use crate::clock;
use crate::error::{DisconnectReason, Result};
use crate::event::ClientEvent;
use crate::ids::ConnectionId;
use crate::own_thread;
use crate::transport::ReceiveBuffer;

/// Drives any number of connections on the thread that calls [`turn`](Self::turn).
///
/// An [`Engine`](crate::Engine) runs one on a thread of its own. To run one beside your own work, add clients to it and
/// call `turn` again and again; [`wait`](Self::wait) sleeps until there is something to do. Inline handlers run inside
/// `turn`. Dropping the loop ends its clients at once.
pub struct EventLoop {
    poll: Poll,
    events: Events,
    commands: CommandReceiver,
    desk: Desk,
    /// A connection keeps its slot, and so its token, for as long as its client lives.
    connections: Vec<Option<Connection>>,
    slots: HashMap<ConnectionId, usize, FxBuildHasher>,
    /// Connections with input to read: said by readiness, or left over by the read budget.
    ready: ReadyList,
    /// Connections with output to write.
    writable: ReadyList,
    /// The sockets that had input at the last poll, where they are few: while spinning they are read without asking first.
    hot_slots: Vec<usize>,
    turns_since_poll: u32,
    /// The last turn found nothing to do.
    idle: bool,
    /// When it began, where a client measures: the next one tells how long the loop was away.
    idle_since_ns: Option<u64>,
    deadlines: BinaryHeap<Reverse<(Instant, usize)>>,
    /// The earliest deadline in the heap of each slot, so that a deadline that moves away costs nothing.
    armed: Vec<Option<Instant>>,
    flags: Vec<WatchedFlag>,
    rotations: Vec<Rotation>,
    stopping: bool,
}

/// A shutdown flag of the user's, and whose it is.
struct WatchedFlag {
    flag: Arc<AtomicBool>,
    slots: Vec<usize>,
}

impl EventLoop {
    /// A loop without connections.
    ///
    /// # Errors
    /// `Io` where the system gives no poll descriptor.
    pub fn new() -> Result<Self> {
        let poll = Poll::new()?;
        let (sender, commands) = command_queue(Waker::new(poll.registry(), WAKER)?);
        let desk = Desk {
            now: clock::now(),
            now_ns: 0,
            measures: false,
            registry: poll.registry().try_clone()?,
            hot: ReceiveBuffer::with_capacity(HOT_BYTES),
            cipher: ReceiveBuffer::with_capacity(HOT_BYTES),
            offload: Offload::default(),
            commands: sender,
            lingering: LingerList::default(),
        };
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_PER_POLL),
            commands,
            desk,
            connections: Vec::new(),
            slots: HashMap::default(),
            ready: ReadyList::default(),
            writable: ReadyList::default(),
            hot_slots: Vec::new(),
            turns_since_poll: 0,
            idle: false,
            idle_since_ns: None,
            deadlines: BinaryHeap::new(),
            armed: Vec::new(),
            flags: Vec::new(),
            rotations: Vec::new(),
            stopping: false,
        })
    }

    /// Does what there is to do now, and returns how much that was: 0 means that nothing happened. Never blocks.
    pub fn turn(&mut self) -> usize {
        let _own = own_thread::enter();
        self.desk.tick();
        if let Some(idle_ns) = self.idle_since_ns.take() {
            self.desk.commands.gaps().record_ns(self.desk.now_ns.saturating_sub(idle_ns));
        }
        let began_ns = self.desk.now_ns;
        let mut work = self.take_commands();
        // A deadline is only judged after a look: what came while the process was stopped must count as in time.
        let judging = self.next_deadline().is_some_and(|deadline| self.desk.now >= deadline);
        // Only an idle loop may skip the look: while it works, the others' turn comes first.
        let spinning = self.idle && !self.hot_slots.is_empty() && self.turns_since_poll < TURNS_PER_POLL;
        if judging || !spinning || !self.desk.lingering.is_empty() {
            self.look(Duration::ZERO);
        } else {
            self.turns_since_poll += 1;
            for &slot in &self.hot_slots {
                self.ready.push(slot);
            }
        }
        work += self.read_ready();
        work += self.write_ready();
        work += self.fire_deadlines();
        work += self.check_flags();
        self.idle = work == 0;
        self.idle_since_ns = (self.idle && self.desk.measures && began_ns > 0).then_some(began_ns);
        work
    }

    /// Sleeps until there is something to do for [`turn`](Self::turn), at most `longest`.
    pub fn wait(&mut self, longest: Duration) {
        if !self.ready.is_empty() || !self.writable.is_empty() {
            return;
        }
        let mut timeout = longest;
        if let Some(deadline) = self.next_deadline() {
            timeout = timeout.min(deadline.saturating_duration_since(clock::now()));
        }
        if !self.flags.is_empty() {
            timeout = timeout.min(FLAG_POLL);
        }
        if !self.commands.may_sleep() {
            return;
        }
        // A sleep is no gap.
        self.idle_since_ns = None;
        self.look(timeout);
        self.commands.woke();
    }

    /// Number of clients on this loop.
    pub fn len(&self) -> usize {
        let clients = self.connections.iter().flatten();
        clients.filter(|connection| connection.session().role == Role::Current).count()
    }

    /// Whether there is no client on this loop.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn sender(&self) -> &CommandSender {
        &self.desk.commands
    }

    /// Whether the loop was told to stop and has no more to do.
    pub(super) fn is_done(&self) -> bool {
        self.stopping && self.slots.is_empty() && self.desk.lingering.is_empty()
    }

    /// Asks the system what is ready, and notes it; `timeout` 0 returns at once.
    fn look(&mut self, timeout: Duration) {
        self.turns_since_poll = 0;
        if let Err(error) = self.poll.poll(&mut self.events, Some(timeout)) {
            if error.kind() != io::ErrorKind::Interrupted {
                log::error!("poll failed: {error}");
            }
            return;
        }
        self.desk.tick();
        let mut readable = 0;
        for event in self.events.iter() {
            let owner = token::owner(event.token());
            let (Owner::Connection(slot) | Owner::Dial(slot)) = owner else { continue };
            let Some(Some(connection)) = self.connections.get_mut(slot) else { continue };
            self.writable.push(slot);
            if owner == Owner::Dial(slot) {
                connection.on_dial_ready(&mut self.desk);
                continue;
            }
            if event.is_readable() || event.is_error() || event.is_read_closed() {
                if readable == 0 {
                    self.hot_slots.clear();
                }
                readable += 1;
                self.hot_slots.push(slot);
                self.ready.push(slot);
            }
            if event.is_read_closed() || event.is_error() {
                connection.on_read_closed();
            }
        }
        if self.hot_slots.len() > MAX_HOT {
            self.hot_slots.clear();
        }
        if !self.desk.lingering.is_empty() {
            self.desk.turn_lingering();
        }
    }

    fn take_commands(&mut self) -> usize {
        let mut work = 0;
        // A bound, so that senders in a storm cannot keep the loop from its sockets.
        while work < COMMANDS_PER_TURN
            && let Some(command) = self.commands.try_recv()
        {
            work += 1;
            match command {
                Command::Add(new) => self.add_connection(*new),
                Command::Send(send) => {
                    if let Some(&slot) = self.slots.get(&send.shared.id)
                        && let Some(connection) = &mut self.connections[slot]
                    {
                        connection.send(&send);
                        self.writable.push(slot);
                    } else {
                        send.shared.drop_send(send.message.as_bytes().len());
                        send.shared.requests.dropped(send.id);
                    }
                }
                Command::Sever { connection, epoch, route } => {
                    if let Some(&slot) = self.slots.get(&connection) {
                        self.end_rotation(slot);
                        self.with(slot, |connection, desk| connection.sever(desk, epoch, route));
                    }
                }
                Command::GiveUp(connection, reason) => {
                    if let Some(&slot) = self.slots.get(&connection) {
                        self.end_rotation(slot);
                        self.with(slot, |connection, desk| connection.give_up(desk, reason));
                    }
                }
                Command::Subscriptions(connection) => {
                    let Some(&slot) = self.slots.get(&connection) else { continue };
                    let moving = self.rotations.iter().find(|rotation| rotation.is_of(slot));
                    let both = moving.map_or([slot; 2], |rotation| [rotation.current, rotation.relief]);
                    for slot in both {
                        self.with(slot, Connection::follow_subscriptions);
                    }
                }
                Command::Rotate(connection) => {
                    if let Some(&slot) = self.slots.get(&connection) {
                        self.begin_rotation(slot);
                    }
                }
                Command::Shutdown(connection) => {
                    if let Some(&slot) = self.slots.get(&connection) {
                        self.shut_down(slot);
                    }
                }
                Command::Prepared { connection, attempt, outcome } => {
                    if let Some(&slot) = self.slots.get(&connection) {
                        self.with(slot, |connection, desk| connection.on_prepared(desk, attempt, outcome));
                    }
                }
                Command::Stop => self.stop(),
            }
        }
        work
    }

    pub(crate) fn add_connection(&mut self, new: NewConnection) {
        let slot = self.free_slot();
        self.slots.insert(new.shared.id, slot);
        self.desk.measures |= new.plan.measure_latency;
        let connection = Connection::new(new, token::of_connection(slot), &mut self.desk);
        if let Some(flag) = connection.shutdown_flag() {
            self.watch(&Arc::clone(flag), slot);
        }
        self.connections[slot] = Some(connection);
        if self.stopping {
            self.with(slot, Connection::shut_down);
        } else {
            self.settle(slot);
        }
    }

    fn free_slot(&mut self) -> usize {
        let slot = self.connections.iter().position(Option::is_none).unwrap_or(self.connections.len());
        if slot == self.connections.len() {
            self.connections.push(None);
            self.armed.push(None);
        }
        slot
    }

    fn shut_down(&mut self, slot: usize) {
        self.end_rotation(slot);
        self.with(slot, Connection::shut_down);
    }

    /// Lets the client move to a new connection, unless it is moving already.
    fn begin_rotation(&mut self, slot: usize) {
        if self.stopping || self.rotations.iter().any(|rotation| rotation.is_of(slot)) {
            return;
        }
        if self.connections.get(slot).and_then(Option::as_ref).is_some_and(Connection::is_in_feed) {
            self.with(slot, Connection::replace);
            return;
        }
        // A slot that is free now stays free while this connection makes another.
        let relief = self.free_slot();
        let Some(Some(connection)) = self.connections.get_mut(slot) else { return };
        if !connection.is_live() || connection.session().role != Role::Current {
            return;
        }
        if let Err(why) = connection.check_numbered() {
            let reason = DisconnectReason::NotSpliced(why);
            return connection.shared().report(|| ClientEvent::RotationFailed { reason });
        }
        let new = connection.relief(token::of_connection(relief), &mut self.desk);
        self.slots.insert(new.address(), relief);
        self.connections[relief] = Some(new);
        self.rotations.push(Rotation::new(slot, relief));
        self.settle(relief);
    }

    /// Gives up a rotation, where this slot is part of one.
    fn end_rotation(&mut self, slot: usize) {
        if let Some(at) = self.rotations.iter().position(|rotation| rotation.is_of(slot)) {
            self.conclude(at, None);
        }
    }

    /// One of the connections of a rotation has done something.
    fn look_at_rotation(&mut self, slot: usize) {
        let Some(at) = self.rotations.iter().position(|rotation| rotation.is_of(slot)) else { return };
        let rotation = &mut self.rotations[at];
        let Some((current, relief)) = pair(&mut self.connections, rotation.current, rotation.relief) else { return };
        match rotation.step(current, relief, self.desk.now) {
            Step::Wait => {}
            step => self.conclude(at, Some(step)),
        }
    }

    /// Ends a rotation, by itself where `step` is `None`.
    fn conclude(&mut self, at: usize, step: Option<Step>) {
        let Rotation { current: old, relief: new, .. } = self.rotations.swap_remove(at);
        let Some((current, relief)) = pair(&mut self.connections, old, new) else { return };
        if step == Some(Step::Move) {
            relief.take_over(current, &mut self.desk);
            self.slots.insert(relief.shared().id, new);
            for watched in &mut self.flags {
                watched.slots.iter_mut().filter(|slot| **slot == old).for_each(|slot| *slot = new);
            }
        } else {
            current.dismiss(relief, &mut self.desk);
            if let Some(Step::GiveUp(reason)) = step {
                current.shared().report(|| ClientEvent::RotationFailed { reason });
            }
        }
        self.settle(old);
        self.settle(new);
    }

    /// Lets a connection do something, then looks what has become of it.
    fn with<T>(&mut self, slot: usize, act: impl FnOnce(&mut Connection, &mut Desk) -> T) -> Option<T> {
        let connection = self.connections.get_mut(slot)?.as_mut()?;
        let result = act(connection, &mut self.desk);
        self.settle(slot);
        Some(result)
    }

    /// Forgets a connection that has closed; sees to the deadline of any other.
    fn settle(&mut self, slot: usize) {
        if !self.rotations.is_empty() {
            self.look_at_rotation(slot);
        }
        let Some(Some(connection)) = self.connections.get_mut(slot) else { return };
        connection.leave_if_idle(&mut self.desk);
        if connection.must_read() {
            self.ready.push(slot);
        }
        if connection.is_closed() {
            for address in [connection.shared().id, connection.address()] {
                if self.slots.get(&address) == Some(&slot) {
                    self.slots.remove(&address);
                }
            }
            self.hot_slots.retain(|&hot| hot != slot);
            for watched in &mut self.flags {
                watched.slots.retain(|&watching| watching != slot);
            }
            self.flags.retain(|watched| !watched.slots.is_empty());
            self.connections[slot] = None;
            return;
        }
        let wants_rotation = connection.take_rotation_wish();
        let deadline = connection.next_deadline();
        if let Some(deadline) = deadline
            && self.armed[slot].is_none_or(|armed| deadline < armed)
        {
            self.armed[slot] = Some(deadline);
            self.deadlines.push(Reverse((deadline, slot)));
        }
        if wants_rotation {
            self.begin_rotation(slot);
        }
    }

    fn read_ready(&mut self) -> usize {
        let mut work = 0;
        // Only those listed now: what the budget puts back waits for the next turn, behind everyone else.
        for _ in 0..self.ready.len() {
            let Some(slot) = self.ready.pop() else { break };
            if let Some(report) = self.with(slot, |connection, desk| connection.read(desk, READS_PER_TURN)) {
                work += usize::from(report.bytes > 0);
                if report.more {
                    self.ready.push(slot);
                }
            }
        }
        work
    }

    fn write_ready(&mut self) -> usize {
        let listed = self.writable.len();
        for _ in 0..listed {
            let Some(slot) = self.writable.pop() else { break };
            self.with(slot, |connection, _| connection.flush());
        }
        listed
    }

    fn fire_deadlines(&mut self) -> usize {
        let mut work = 0;
        while let Some(&Reverse((deadline, slot))) = self.deadlines.peek() {
            if self.desk.now < deadline {
                break;
            }
            self.deadlines.pop();
            // An entry that was overtaken by an earlier one, or whose connection is gone.
            if self.armed.get(slot).copied().flatten() != Some(deadline) {
                continue;
            }
            self.armed[slot] = None;
            work += 1;
            self.with(slot, |connection, desk| {
                if connection.next_deadline().is_some_and(|due| desk.now >= due) {
                    connection.on_deadline(desk);
                }
            });
        }
        work
    }

    fn next_deadline(&self) -> Option<Instant> {
        let armed = self.deadlines.peek().map(|&Reverse((deadline, _))| deadline);
        [armed, self.desk.lingering.next_deadline()].into_iter().flatten().min()
    }

    fn watch(&mut self, flag: &Arc<AtomicBool>, slot: usize) {
        match self.flags.iter_mut().find(|watched| Arc::ptr_eq(&watched.flag, flag)) {
            Some(watched) => watched.slots.push(slot),
            None => self.flags.push(WatchedFlag { flag: Arc::clone(flag), slots: vec![slot] }),
        }
    }

    /// Flags that somebody set to false: their clients shut down.
    fn check_flags(&mut self) -> usize {
        if self.flags.iter().all(|watched| watched.flag.load(Ordering::Acquire)) {
            return 0;
        }
        let mut slots = Vec::new();
        self.flags.retain_mut(|watched| {
            let running = watched.flag.load(Ordering::Acquire);
            if !running {
                slots.append(&mut watched.slots);
            }
            running
        });
        for &slot in &slots {
            self.shut_down(slot);
        }
        slots.len()
    }

    fn stop(&mut self) {
        self.stopping = true;
        self.desk.lingering.hurry(self.desk.now + LINGER_AT_STOP);
        for slot in 0..self.connections.len() {
            self.shut_down(slot);
        }
    }
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop").field("clients", &self.len()).finish_non_exhaustive()
    }
}

/// Two connections at once.
fn pair(
    connections: &mut [Option<Connection>],
    one: usize,
    other: usize,
) -> Option<(&mut Connection, &mut Connection)> {
    let [one, other] = connections.get_disjoint_mut([one, other]).ok()?;
    Some((one.as_mut()?, other.as_mut()?))
}

/// What does not fit is reported by the next poll.
const EVENTS_PER_POLL: usize = 256;
/// While hot sockets are read directly, every so many turns the system is asked about all others: some microseconds later
/// than at once, for half a microsecond less on each message of the hot ones.
const TURNS_PER_POLL: u32 = 8;
/// More hot sockets than this are asked about in one poll: that is cheaper than a read each.
const MAX_HOT: usize = 2;
/// Lets one busy connection delay the others by at most this many reads of the hot buffer in a turn.
const READS_PER_TURN: usize = 4;
/// Lets senders delay the sockets by at most this many commands in a turn.
const COMMANDS_PER_TURN: usize = 256;
/// A user's flag cannot wake us, so a parked loop looks at it this often.
const FLAG_POLL: Duration = Duration::from_millis(20);
/// A loop that stops gives lingering sockets no more than this.
const LINGER_AT_STOP: Duration = Duration::from_millis(100);
