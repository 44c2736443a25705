//! What the builder takes for a URL or a subscription: a fixed one, or a closure that makes one anew at each dial.

use crate::engine::UrlSource;
use crate::error::Result;
use crate::message::WsMessage;
use crate::subscriptions::{Subscription, SubscriptionSource};

/// A URL: a text, or a closure that makes one at each dial, off the loop.
pub trait IntoUrl: sealed::IntoUrl {}

/// A subscription: a [`Subscription`] with a name, or without one a message, a text, or a closure that makes a message at each dial, off the loop.
pub trait IntoSubscription: sealed::IntoSubscription {}

/// Keeps the traits ours: what the engine makes of their values can change.
pub(crate) mod sealed {
    pub trait IntoUrl {
        fn into_source(self) -> super::Url;
    }

    pub trait IntoSubscription {
        fn into_subscription(self) -> super::Subscription;
    }
}

/// Hides the engine's type from the trait's signature.
#[doc(hidden)]
pub struct Url(pub(crate) UrlSource);

impl IntoUrl for &str {}
impl sealed::IntoUrl for &str {
    fn into_source(self) -> Url {
        Url(UrlSource::Fixed(self.to_owned()))
    }
}

impl IntoUrl for String {}
impl sealed::IntoUrl for String {
    fn into_source(self) -> Url {
        Url(UrlSource::Fixed(self))
    }
}

impl<F: Fn() -> Result<String> + Send + Sync + 'static> IntoUrl for F {}
impl<F: Fn() -> Result<String> + Send + Sync + 'static> sealed::IntoUrl for F {
    fn into_source(self) -> Url {
        Url(UrlSource::Fresh(Box::new(self)))
    }
}

impl IntoSubscription for &'static str {}
impl sealed::IntoSubscription for &'static str {
    fn into_subscription(self) -> Subscription {
        WsMessage::text(self).into_subscription()
    }
}

impl IntoSubscription for String {}
impl sealed::IntoSubscription for String {
    fn into_subscription(self) -> Subscription {
        WsMessage::text(self).into_subscription()
    }
}

impl IntoSubscription for WsMessage<'static> {}
impl sealed::IntoSubscription for WsMessage<'static> {
    fn into_subscription(self) -> Subscription {
        Subscription::named(String::new(), SubscriptionSource::Fixed(self))
    }
}

impl<F: Fn() -> Result<WsMessage<'static>> + Send + Sync + 'static> IntoSubscription for F {}
impl<F: Fn() -> Result<WsMessage<'static>> + Send + Sync + 'static> sealed::IntoSubscription for F {
    fn into_subscription(self) -> Subscription {
        Subscription::named(String::new(), SubscriptionSource::Fresh(Box::new(self)))
    }
}

impl IntoSubscription for Subscription {}
impl sealed::IntoSubscription for Subscription {
    fn into_subscription(self) -> Subscription {
        self
    }
}

impl Subscription {
    /// Under a name that no other of the client has: a message, a text, or a closure that makes a message at each dial.
    pub fn new(name: impl Into<String>, message: impl IntoSubscription) -> Self {
        Self { name: name.into(), ..message.into_subscription() }
    }
}
