//! From a raw message to a typed one and its route: the user's trait, and what it may use while parsing.

use std::fmt::Debug;
use std::hash::Hash;

use crate::error::Result;
use crate::message::WsMessage;
use crate::scratch::Scratch;

/// Parses raw messages and says which route each belongs to.
///
/// `shard_key` and `subscription_reply` run on the loop, which reads the socket. All others run on the loop, too, or on
/// the parser lanes of an engine that has some; there, several messages of different shard keys may be parsed at once. A
/// method that errs or panics costs that one message: it is counted, reported as an event, and the connection goes on.
pub trait MessageRouter: Send + Sync + 'static {
    /// What handlers get. Keep it small: it is moved through a queue.
    type Message: Send + Debug + 'static;
    /// What tells routes apart. It is compared and hashed for every message, so prefer a small `Copy` type to a `String`.
    type RouteKey: Clone + Eq + Hash + Send + Debug + 'static;

    /// Parses one message, lent from the receive buffer: no copy was made of it.
    ///
    /// # Errors
    /// [`Parse`](crate::HyperSocketError::Parse) or any other error where the message cannot be read, and
    /// [`Skip`](crate::HyperSocketError::Skip) where it is of no interest.
    fn parse(&self, message: WsMessage<'_>) -> Result<Self::Message>;

    /// The route of a parsed message.
    fn route_key(&self, message: &Self::Message) -> Self::RouteKey;

    /// Parses one raw message into any number of typed ones; by default into the one of [`parse`](Self::parse).
    ///
    /// # Errors
    /// As for [`parse`](Self::parse). What was pushed before the error is delivered.
    fn parse_each(&self, raw: WsMessage<'_>, out: &mut Parsed<'_, Self::Message>) -> Result<()> {
        out.push(self.parse(raw)?);
        Ok(())
    }

    /// Splits one connection over parser lanes: raw messages with the same key stay in order. All messages of one route
    /// must give the same key, or its order is lost (`lane_violations` in the metrics counts it). Called for each message, on
    /// the loop, so it should look at few bytes. By default there is one key for all.
    fn shard_key(&self, _raw: &WsMessage<'_>) -> u64 {
        0
    }

    /// The venue's own numbering of this message, where it has one: holes in it are told to handlers as
    /// [`Gap`](crate::ConnectionEvent::Gap), and rotation and arbitration go by it. The numbers of a stream must follow on each
    /// other without a hole (a venue that names the number of the message before gives `first` as that plus one); a
    /// timestamp, or a number that skips, is none.
    fn sequence(&self, _message: &Self::Message) -> Option<Sequence> {
        None
    }

    /// Whether [`sequence`](Self::sequence) counts what each connection was sent, so that the same message has another number on
    /// another connection (Coinbase's `sequence_num`). Such a feed can be neither rotated nor arbitrated.
    fn is_numbered_per_connection(&self) -> bool {
        false
    }

    /// The venue's own time of this message, in Unix nanoseconds, where it gives one.
    fn event_time_ns(&self, _message: &Self::Message) -> Option<u64> {
        None
    }

    /// Whether this raw message answers a subscription, and how. Asked on the loop while one is unanswered; the message goes on to
    /// [`parse`](Self::parse) all the same.
    fn subscription_reply(&self, _raw: &WsMessage<'_>) -> Option<SubscriptionReply> {
        None
    }
}

/// The venue's numbering of a message: it covers `first..=last` of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sequence {
    /// Which of the connection's numbered streams; messages of different streams are not compared.
    pub stream: u64,
    /// The first number that the message covers.
    pub first: u64,
    /// The last number that the message covers; equal to `first` for most venues.
    pub last: u64,
}

/// What a venue answered to a subscription. Without a name it answers the oldest that is unanswered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscriptionReply {
    /// The subscription is in force.
    Accepted,
    /// The venue refused it, in its own words.
    Rejected(String),
    /// The subscription of this name ([`Subscription`](crate::Subscription)) is in force.
    AcceptedNamed(String),
    /// The venue refused the subscription of this name.
    RejectedNamed {
        /// The name of the [`Subscription`](crate::Subscription).
        name: String,
        /// The venue's own words.
        why: String,
    },
}

/// Where [`MessageRouter::parse_each`] puts its messages, with scratch memory of the parsing thread.
#[derive(Debug)]
pub struct Parsed<'a, M> {
    messages: &'a mut Vec<M>,
    scratch: &'a mut Scratch,
}

impl<'a, M> Parsed<'a, M> {
    /// Collects into `messages`. For testing a router without an engine.
    pub fn new(messages: &'a mut Vec<M>, scratch: &'a mut Scratch) -> Self {
        Self { messages, scratch }
    }

    /// Hands on one message.
    pub fn push(&mut self, message: M) {
        self.messages.push(message);
    }

    /// The parsing thread's scratch memory.
    pub fn scratch(&mut self) -> &mut Scratch {
        self.scratch
    }

    /// Both at once, for messages that are pushed while the scratch memory is still borrowed.
    pub fn split(&mut self) -> (&mut Scratch, &mut Vec<M>) {
        (self.scratch, self.messages)
    }
}
