//! Subscriptions as state: what a client wants ([`Desired`], shared by its handles and its loop), and how far one session has come
//! with that ([`SubscriptionProgress`], the loop's own). Pure: time is a parameter.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{HyperSocketError, Result};
use crate::message::WsMessage;
use crate::router::SubscriptionReply;

/// A subscription with a name, for [`Client::subscribe`](crate::Client::subscribe) or the builder's
/// [`subscription`](crate::ClientBuilder::subscription).
#[must_use = "a subscription counts only where it is given to a client"]
pub struct Subscription {
    /// Empty for one that was given without a name.
    pub(crate) name: String,
    pub(crate) source: SubscriptionSource,
    pub(crate) unsubscribe: Option<WsMessage<'static>>,
    pub(crate) unsubscribe_first: bool,
}

impl Subscription {
    pub(crate) fn named(name: String, source: SubscriptionSource) -> Self {
        Self { name, source, unsubscribe: None, unsubscribe_first: false }
    }

    /// What ends the subscription, for [`Client::unsubscribe`](crate::Client::unsubscribe). Without it nothing is sent then.
    pub fn unsubscribe(mut self, message: impl Into<WsMessage<'static>>) -> Self {
        self.unsubscribe = Some(message.into());
        self
    }

    /// Has [`Client::resubscribe`](crate::Client::resubscribe) unsubscribe first: some venues refuse a second subscription in place
    /// of sending a new snapshot (Lighter, error 30003).
    pub fn unsubscribe_first(mut self) -> Self {
        self.unsubscribe_first = true;
        self
    }
}

impl fmt::Debug for Subscription {
    /// Not its messages: they may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A subscription's message: a fixed one, or one made at each dial.
pub(crate) enum SubscriptionSource {
    Fixed(WsMessage<'static>),
    Fresh(Box<dyn Fn() -> Result<WsMessage<'static>> + Send + Sync>),
}

impl SubscriptionSource {
    pub(crate) fn make(&self) -> Result<WsMessage<'static>> {
        match self {
            Self::Fixed(message) => Ok(message.clone()),
            Self::Fresh(make) => make(),
        }
    }
}

impl fmt::Debug for SubscriptionSource {
    /// Not the message: it may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fixed(_) => "Fixed",
            Self::Fresh(_) => "Fresh",
        })
    }
}

/// How far a subscription has come in the current session.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscriptionState {
    /// Not sent yet: there is no session, or its turn has not come.
    Desired,
    /// Sent, and not answered; it stays so where the router knows no answers.
    Sent,
    /// The venue has accepted it.
    Acknowledged,
    /// The venue has refused it, in its own words. It is sent again in the next session.
    Failed(String),
}

/// How many subscriptions go out together, and how long their answers are awaited before the next go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batches {
    pub(crate) size: usize,
    pub(crate) ack_timeout: Duration,
}

/// Everything that a client wants to be subscribed to, in the order in which it was asked for.
#[derive(Debug, Default)]
pub(crate) struct Desired {
    entries: Vec<Entry>,
    last_id: u64,
    /// The most that the venue allows.
    pub(crate) limit: Option<usize>,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    name: String,
    source: Arc<SubscriptionSource>,
    unsubscribe: Option<WsMessage<'static>>,
    unsubscribe_first: bool,
    /// Made by whoever asked for it, where the source makes a message at each dial.
    made: Option<WsMessage<'static>>,
    /// Grows when it is to be sent anew in the same session.
    revision: u64,
    state: SubscriptionState,
}

impl Desired {
    /// Takes one in; `made` is its message for the session at hand.
    ///
    /// # Errors
    /// [`DuplicateSubscription`](HyperSocketError::DuplicateSubscription),
    /// [`TooManySubscriptions`](HyperSocketError::TooManySubscriptions).
    pub(crate) fn add(&mut self, subscription: Subscription, made: Option<WsMessage<'static>>) -> Result<()> {
        let Subscription { mut name, source, unsubscribe, unsubscribe_first } = subscription;
        let id = self.last_id + 1;
        if name.is_empty() {
            name = format!("subscription {id}");
        }
        if self.entries.iter().any(|known| known.name == name) {
            return Err(HyperSocketError::DuplicateSubscription(name));
        }
        if let Some(limit) = self.limit.filter(|limit| self.entries.len() >= *limit) {
            return Err(HyperSocketError::TooManySubscriptions { limit });
        }
        self.last_id = id;
        let (source, state) = (Arc::new(source), SubscriptionState::Desired);
        self.entries.push(Entry { id, name, source, unsubscribe, unsubscribe_first, made, revision: 0, state });
        Ok(())
    }

    /// # Errors
    /// [`UnknownSubscription`](HyperSocketError::UnknownSubscription).
    pub(crate) fn remove(&mut self, name: &str) -> Result<()> {
        let at = self.entries.iter().position(|known| known.name == name);
        let at = at.ok_or_else(|| HyperSocketError::UnknownSubscription(name.to_owned()))?;
        self.entries.remove(at);
        Ok(())
    }

    /// The source of one, for making its message outside of the lock.
    ///
    /// # Errors
    /// [`UnknownSubscription`](HyperSocketError::UnknownSubscription).
    pub(crate) fn source(&self, name: &str) -> Result<Arc<SubscriptionSource>> {
        let found = self.entries.iter().find(|known| known.name == name);
        found
            .map(|known| Arc::clone(&known.source))
            .ok_or_else(|| HyperSocketError::UnknownSubscription(name.to_owned()))
    }

    /// Has one sent anew in the session at hand.
    ///
    /// # Errors
    /// [`UnknownSubscription`](HyperSocketError::UnknownSubscription).
    pub(crate) fn renew(&mut self, name: &str, made: WsMessage<'static>) -> Result<()> {
        let found = self.entries.iter_mut().find(|known| known.name == name);
        let entry = found.ok_or_else(|| HyperSocketError::UnknownSubscription(name.to_owned()))?;
        (entry.made, entry.revision) = (Some(made), entry.revision + 1);
        Ok(())
    }

    pub(crate) fn states(&self) -> Vec<(String, SubscriptionState)> {
        self.entries.iter().map(|entry| (entry.name.clone(), entry.state.clone())).collect()
    }

    /// Those whose message is made at each dial.
    pub(crate) fn fresh(&self) -> Vec<(u64, Arc<SubscriptionSource>)> {
        let fresh = self.entries.iter().filter(|entry| matches!(*entry.source, SubscriptionSource::Fresh(_)));
        fresh.map(|entry| (entry.id, Arc::clone(&entry.source))).collect()
    }

    /// Where the one of this number stands: numbers only grow, and what goes leaves the others in order.
    fn position(&self, id: u64) -> Option<usize> {
        self.entries.binary_search_by_key(&id, |entry| entry.id).ok()
    }

    /// The session is over, or another one speaks for the client now: all that is known of it is `progress`.
    pub(crate) fn adopt(&mut self, progress: &SubscriptionProgress) {
        for entry in &mut self.entries {
            let known = progress.known.get(&entry.id);
            entry.state = known.map_or(SubscriptionState::Desired, |known| known.state.clone());
        }
    }
}

/// How far one session has come.
#[derive(Debug, Default)]
pub(crate) struct SubscriptionProgress {
    batches: Option<Batches>,
    known: BTreeMap<u64, Known>,
    /// Messages made at this session's dial.
    made: BTreeMap<u64, WsMessage<'static>>,
    steps: VecDeque<Step>,
    /// Sent and not answered, oldest first.
    awaiting: Vec<(u64, Kind)>,
    /// Sent of the batch at hand.
    in_batch: usize,
    /// When the batch at hand has waited long enough for its answers.
    batch_until: Option<Instant>,
    /// Those whose state has changed since it was published.
    changed: Vec<u64>,
}

#[derive(Debug)]
struct Known {
    name: String,
    revision: u64,
    state: SubscriptionState,
    unsubscribe: Option<WsMessage<'static>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Subscribe,
    Unsubscribe,
}

/// Something to be sent.
#[derive(Debug)]
struct Step {
    id: u64,
    kind: Kind,
    message: WsMessage<'static>,
}

/// What the venue's answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Accepted {
        name: String,
    },
    Rejected {
        name: String,
        why: String,
    },
    /// It ends a subscription, or answers nothing that is awaited.
    Nothing,
}

impl SubscriptionProgress {
    /// Of a session that is still to begin; `made` are the messages of its dial.
    pub(crate) fn new(batches: Option<Batches>, made: BTreeMap<u64, WsMessage<'static>>) -> Self {
        Self { batches, made, ..Self::default() }
    }

    /// Finds out what is to be sent, now that this is desired.
    pub(crate) fn follow(&mut self, desired: &Desired) {
        let gone: Vec<_> = self.known.keys().copied().filter(|id| desired.position(*id).is_none()).collect();
        for id in gone {
            let Some(known) = self.known.remove(&id) else { continue };
            self.steps.retain(|step| step.id != id);
            self.awaiting.retain(|(awaited, kind)| *awaited != id || *kind == Kind::Unsubscribe);
            if known.state != SubscriptionState::Desired {
                self.end(id, known.unsubscribe);
            }
        }
        for entry in &desired.entries {
            let before = self.known.get(&entry.id).map(|known| (known.revision, known.state.clone()));
            let is_new = before.is_none();
            match before {
                Some((revision, _)) if revision == entry.revision => continue,
                // It is still to be sent: once is enough.
                Some((_, SubscriptionState::Desired)) => self.steps.retain(|step| step.id != entry.id),
                Some(_) if entry.unsubscribe_first => self.end(entry.id, entry.unsubscribe.clone()),
                _ => {}
            }
            let message = match (&*entry.source, self.made.remove(&entry.id)) {
                (SubscriptionSource::Fixed(message), _) => Some(message.clone()),
                // Made at this session's dial, or for a renewal since.
                (SubscriptionSource::Fresh(_), made) if is_new => made.or_else(|| entry.made.clone()),
                (SubscriptionSource::Fresh(_), made) => entry.made.clone().or(made),
            };
            let (name, unsubscribe) = (entry.name.clone(), entry.unsubscribe.clone());
            let known = Known { name, revision: entry.revision, state: SubscriptionState::Desired, unsubscribe };
            self.known.insert(entry.id, known);
            self.changed.push(entry.id);
            if let Some(message) = message {
                self.steps.push_back(Step { id: entry.id, kind: Kind::Subscribe, message });
            }
        }
    }

    fn end(&mut self, id: u64, unsubscribe: Option<WsMessage<'static>>) {
        if let Some(message) = unsubscribe {
            self.steps.push_back(Step { id, kind: Kind::Unsubscribe, message });
        }
    }

    /// The next message, where one may go now; it counts as sent.
    pub(crate) fn next(&mut self, now: Instant) -> Option<WsMessage<'static>> {
        if self.steps.is_empty() {
            return None;
        }
        if let Some(Batches { size, ack_timeout }) = self.batches {
            if self.in_batch >= size {
                let answered = self.awaiting.is_empty();
                if !answered && self.batch_until.is_some_and(|until| now < until) {
                    return None;
                }
                self.in_batch = 0;
                // Those that were waited for in vain are not waited for again.
                self.awaiting.clear();
            }
            self.in_batch += 1;
            self.batch_until = now.checked_add(ack_timeout);
        }
        let Step { id, kind, message } = self.steps.pop_front()?;
        self.awaiting.push((id, kind));
        if kind == Kind::Subscribe
            && let Some(known) = self.known.get_mut(&id)
        {
            known.state = SubscriptionState::Sent;
            self.changed.push(id);
        }
        Some(message)
    }

    /// Whether something is still to be sent.
    pub(crate) fn has_more(&self) -> bool {
        !self.steps.is_empty()
    }

    /// When [`next`](Self::next) is to be asked even if no answer comes.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.batch_until.filter(|_| self.has_more())
    }

    /// Whether an answer may come.
    pub(crate) fn awaits_reply(&self) -> bool {
        !self.awaiting.is_empty()
    }

    /// The venue has answered.
    pub(crate) fn reply(&mut self, reply: SubscriptionReply) -> Answer {
        let (name, why) = match reply {
            SubscriptionReply::Accepted => (None, None),
            SubscriptionReply::Rejected(why) => (None, Some(why)),
            SubscriptionReply::AcceptedNamed(name) => (Some(name), None),
            SubscriptionReply::RejectedNamed { name, why } => (Some(name), Some(why)),
        };
        let of_name =
            |id: u64| name.as_ref().is_none_or(|name| self.known.get(&id).is_some_and(|known| known.name == *name));
        let subscribes = |(id, kind): &(u64, Kind)| *kind == Kind::Subscribe && of_name(*id);
        let at = self.awaiting.iter().position(subscribes);
        // An answer without a name that fits no subscription may be that to the end of one.
        let at = at.or_else(|| self.awaiting.iter().position(|_| name.is_none()));
        let Some(at) = at else { return Answer::Nothing };
        let (id, kind) = self.awaiting.remove(at);
        let Some(known) = self.known.get_mut(&id).filter(|_| kind == Kind::Subscribe) else { return Answer::Nothing };
        let name = known.name.clone();
        self.changed.push(id);
        match why {
            None => {
                known.state = SubscriptionState::Acknowledged;
                Answer::Accepted { name }
            }
            Some(why) => {
                known.state = SubscriptionState::Failed(why.clone());
                Answer::Rejected { name, why }
            }
        }
    }

    /// Lets the client's handles see what has changed since they were shown last.
    pub(crate) fn publish(&mut self, desired: &mut Desired) {
        for id in self.changed.drain(..) {
            if let (Some(at), Some(known)) = (desired.position(id), self.known.get(&id)) {
                desired.entries[at].state = known.state.clone();
            }
        }
    }

    /// Whether all that `other` has had acknowledged was answered here, too.
    pub(crate) fn has_caught_up_with(&self, other: &Self) -> bool {
        other.known.iter().filter(|(_, known)| known.state == SubscriptionState::Acknowledged).all(|(id, _)| {
            let own = self.known.get(id).map(|known| &known.state);
            matches!(own, None | Some(SubscriptionState::Acknowledged | SubscriptionState::Failed(_)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(5);

    fn fixed(name: &str) -> Subscription {
        let source = SubscriptionSource::Fixed(WsMessage::text(format!("+{name}")));
        Subscription::named(name.to_owned(), source).unsubscribe(WsMessage::text(format!("-{name}")))
    }

    fn desired(names: &[&str]) -> Desired {
        let mut desired = Desired::default();
        for name in names {
            desired.add(fixed(name), None).unwrap();
        }
        desired
    }

    fn sent(progress: &mut SubscriptionProgress, now: Instant) -> Vec<String> {
        let messages = std::iter::from_fn(|| progress.next(now));
        messages.map(|message| message.as_text().unwrap_or_default().to_owned()).collect()
    }

    fn states(progress: &mut SubscriptionProgress, desired: &mut Desired) -> Vec<SubscriptionState> {
        progress.publish(desired);
        desired.states().into_iter().map(|(_, state)| state).collect()
    }

    fn accepted(name: &str) -> Answer {
        Answer::Accepted { name: name.to_owned() }
    }

    #[test]
    fn each_goes_out_once_and_answers_come_in_the_order_of_sending_unless_they_name_one() {
        use SubscriptionState::{Acknowledged, Failed, Sent};
        let now = Instant::now();
        let mut desired = desired(&["a", "b", "c"]);
        let mut progress = SubscriptionProgress::default();
        progress.follow(&desired);
        progress.follow(&desired);
        assert_eq!(sent(&mut progress, now), ["+a", "+b", "+c"]);
        assert_eq!(progress.reply(SubscriptionReply::Accepted), accepted("a"));
        assert_eq!(progress.reply(SubscriptionReply::AcceptedNamed("c".into())), accepted("c"));
        assert_eq!(states(&mut progress, &mut desired), [Acknowledged, Sent, Acknowledged]);
        let refused = progress.reply(SubscriptionReply::Rejected("no such market".into()));
        assert_eq!(refused, Answer::Rejected { name: "b".into(), why: "no such market".into() });
        assert_eq!(states(&mut progress, &mut desired)[1], Failed("no such market".into()));
        assert_eq!(progress.reply(SubscriptionReply::Accepted), Answer::Nothing);
        assert!(!progress.awaits_reply());
    }

    #[test]
    fn what_comes_and_goes_while_live_is_sent_and_what_never_left_is_not_taken_back() {
        let now = Instant::now();
        let mut desired = desired(&["a", "b"]);
        let mut progress = SubscriptionProgress::default();
        progress.follow(&desired);
        assert_eq!(sent(&mut progress, now), ["+a", "+b"]);
        desired.add(fixed("c"), None).unwrap();
        desired.remove("a").unwrap();
        progress.follow(&desired);
        desired.remove("c").unwrap();
        progress.follow(&desired);
        assert_eq!(sent(&mut progress, now), ["-a"]);
        assert!(matches!(desired.remove("a"), Err(HyperSocketError::UnknownSubscription(_))));
        assert!(matches!(desired.add(fixed("b"), None), Err(HyperSocketError::DuplicateSubscription(_))));
    }

    #[test]
    fn one_that_is_renewed_is_sent_again_behind_its_end_where_the_venue_wants_that() {
        let now = Instant::now();
        for (first, expected) in [(false, vec!["+a"]), (true, vec!["-a", "+a"])] {
            let mut desired = Desired::default();
            let subscription = if first { fixed("a").unsubscribe_first() } else { fixed("a") };
            desired.add(subscription, None).unwrap();
            let mut progress = SubscriptionProgress::default();
            progress.follow(&desired);
            sent(&mut progress, now);
            desired.renew("a", WsMessage::text("+a")).unwrap();
            progress.follow(&desired);
            assert_eq!(sent(&mut progress, now), expected);
        }
    }

    #[test]
    fn batches_wait_for_their_answers_but_not_for_ever() {
        let now = Instant::now();
        let desired = desired(&["a", "b", "c", "d", "e"]);
        let mut progress = SubscriptionProgress::new(Some(Batches { size: 2, ack_timeout: LONG }), BTreeMap::new());
        progress.follow(&desired);
        assert_eq!(sent(&mut progress, now), ["+a", "+b"]);
        progress.reply(SubscriptionReply::Accepted);
        assert_eq!(sent(&mut progress, now), Vec::<String>::new());
        progress.reply(SubscriptionReply::Rejected("no".into()));
        assert_eq!(sent(&mut progress, now), ["+c", "+d"]);
        assert_eq!(progress.next_due(), Some(now + LONG));
        assert_eq!(sent(&mut progress, now + LONG), ["+e"]);
        assert_eq!(progress.next_due(), None);
    }
}
