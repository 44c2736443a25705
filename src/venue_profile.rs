//! What venues limit and want, as data: `venues.toml` beside this file, or the user's own.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use crate::error::{HyperSocketError, Result};
use crate::limits::{ConnectionLimit, MessageLimit};
use crate::toml_file::{self, Mistake, Section};

/// What a venue limits, how it wants to be pinged, and how long it keeps a connection: for
/// [`ClientBuilder::venue`](crate::ClientBuilder::venue). All clients with a profile, or a clone of it, share its limits.
///
/// ```
/// use hypersockets::VenueProfile;
///
/// let binance = VenueProfile::built_in("binance-spot")?;
/// let builder = hypersockets::builder().url("wss://stream.binance.com:9443/ws/btcusdt@trade").venue(&binance);
/// for (figure, source) in binance.sources() {
///     println!("{figure}: {source}");
/// }
/// # drop(builder);
/// # Ok::<(), hypersockets::HyperSocketError>(())
/// ```
#[derive(Debug, Clone)]
pub struct VenueProfile {
    name: String,
    sources: Vec<(&'static str, String)>,
    pub(crate) connections: Option<ConnectionLimit>,
    pub(crate) messages: Option<MessageLimit>,
    pub(crate) max_subscriptions: Option<usize>,
    pub(crate) max_age: Option<Duration>,
    /// So often, this text.
    pub(crate) heartbeat: Option<(Duration, String)>,
    /// So often a ping, and so long for its pong.
    pub(crate) ping: Option<(Duration, Duration)>,
}

impl VenueProfile {
    /// One of the profiles that come with the crate: `hyperliquid`, `lighter`, `binance-spot`, `binance-usdm`, `binance-coinm`,
    /// `bybit`, `okx-public`, `coinbase-advanced`, `kraken-v2`, `kraken-futures` and `deribit`. Each call gives the same, so that
    /// all clients of the process share its limits.
    ///
    /// # Errors
    /// [`InvalidConfig`](HyperSocketError::InvalidConfig) where there is none of this name, with those that there are.
    pub fn built_in(name: &str) -> Result<Self> {
        static PROFILES: OnceLock<Vec<VenueProfile>> = OnceLock::new();
        let profiles = match PROFILES.get() {
            Some(profiles) => profiles,
            None => {
                let read = Self::from_toml(BUILT_IN)?;
                PROFILES.get_or_init(|| read)
            }
        };
        profiles.iter().find(|profile| profile.name == name).cloned().ok_or_else(|| {
            let names: Vec<_> = profiles.iter().map(|profile| profile.name.as_str()).collect();
            HyperSocketError::InvalidConfig(format!("there is no venue {name:?}; there are: {}", names.join(", ")))
        })
    }

    /// Reads profiles from a TOML text; see `src/venues.toml` for all keys. A key that is not named there is refused.
    ///
    /// ```
    /// let profiles = hypersockets::VenueProfile::from_toml(
    ///     r#"
    ///     [[venue]]
    ///     name = "ours"
    ///     connections = { count = 10, per_s = 60, source = "the contract" }
    ///     messages = { count = 5, per_s = 1, control_frames = true, keep_for_pongs = 1, source = "the contract" }
    ///     subscriptions = { count = 100, source = "the contract" }
    ///     max_age = { seconds = 86_000, source = "observed" }
    ///     heartbeat = { every_s = 30, text = "ping", source = "the contract" }
    ///     "#,
    /// )?;
    /// assert_eq!(profiles[0].name(), "ours");
    /// # Ok::<(), hypersockets::HyperSocketError>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidConfig`](HyperSocketError::InvalidConfig) with line, column, and what is wrong there.
    pub fn from_toml(text: &str) -> Result<Vec<Self>> {
        toml_file::read(text, read)
    }

    /// Reads profiles from a TOML file, as [`from_toml`](Self::from_toml) does.
    ///
    /// # Errors
    /// [`InvalidConfig`](HyperSocketError::InvalidConfig) with file, line, column, and what is wrong there;
    /// [`Io`](HyperSocketError::Io) where the file cannot be read.
    pub fn load(path: impl AsRef<Path>) -> Result<Vec<Self>> {
        toml_file::load(path.as_ref(), read)
    }

    /// The venue's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where each figure is from.
    pub fn sources(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.sources.iter().map(|(figure, source)| (*figure, source.as_str()))
    }
}

fn read(text: &str) -> Result<Vec<VenueProfile>, Mistake> {
    let document = toml_file::parse(text)?;
    let file = Section::new("a file of venues", 0, document.get_ref(), &["venue"])?;
    let mut profiles = Vec::<VenueProfile>::new();
    for venue in file.sections("venue", "a venue", VENUE_KEYS)? {
        let profile = profile(&venue)?;
        if profiles.iter().any(|known| known.name == profile.name) {
            return Err(Mistake { at: venue.at, what: format!("there are two venues {:?}", profile.name) });
        }
        profiles.push(profile);
    }
    Ok(profiles)
}

fn profile(venue: &Section<'_>) -> Result<VenueProfile, Mistake> {
    let mut sources = Vec::new();
    let mut figure = |key: &'static str, what: &'static str, keys: &[&str]| {
        let section = venue.section(key, what, keys)?;
        if let Some(section) = &section {
            sources.push((key, section.text("source")?.to_owned()));
        }
        Ok(section)
    };
    let seconds =
        |section: &Section<'_>, key| section.needed_number(key, SECONDS).map(|s| Duration::from_secs(s.into()));
    let connections = figure("connections", "a limit of connections", &["count", "per_s", "source"])?;
    let connections = connections.map(|limit| {
        Ok(ConnectionLimit::new(limit.needed_number("count", COUNT)? as usize, seconds(&limit, "per_s")?))
    });
    let messages = figure("messages", "a limit of messages", MESSAGE_KEYS)?;
    let messages = messages.map(|limit| {
        let count = limit.needed_number("count", COUNT)?;
        let mut messages = MessageLimit::new(count as usize, seconds(&limit, "per_s")?);
        if limit.flag("control_frames")? {
            messages = messages.counts_control_frames();
        }
        if let Some(kept) = limit.number("keep_for_pongs", 0..=count - 1)? {
            messages = messages.keep_for_pongs(kept as usize);
        }
        Ok(if limit.flag("per_address")? { messages.per_address() } else { messages })
    });
    let subscriptions = figure("subscriptions", "a limit of subscriptions", &["count", "source"])?;
    let subscriptions = subscriptions.map(|limit| Ok(limit.needed_number("count", COUNT)? as usize));
    let max_age = figure("max_age", "a greatest age", &["seconds", "source"])?.map(|age| seconds(&age, "seconds"));
    let heartbeat = figure("heartbeat", "a heartbeat", &["every_s", "text", "source"])?;
    let heartbeat = heartbeat.map(|beat| Ok((seconds(&beat, "every_s")?, beat.text("text")?.to_owned())));
    let ping = figure("ping", "a ping", &["every_s", "timeout_s", "source"])?;
    let ping = ping.map(|ping| Ok((seconds(&ping, "every_s")?, seconds(&ping, "timeout_s")?)));
    Ok(VenueProfile {
        name: venue.name()?.to_owned(),
        connections: connections.transpose()?,
        messages: messages.transpose()?,
        max_subscriptions: subscriptions.transpose()?,
        max_age: max_age.transpose()?,
        heartbeat: heartbeat.transpose()?,
        ping: ping.transpose()?,
        sources,
    })
}

const BUILT_IN: &str = include_str!("venues.toml");
const VENUE_KEYS: &[&str] = &["name", "connections", "messages", "subscriptions", "max_age", "heartbeat", "ping"];
const MESSAGE_KEYS: &[&str] = &["count", "per_s", "control_frames", "keep_for_pongs", "per_address", "source"];
/// More than any venue allows, so that a slip of the pen is found out.
const COUNT: RangeInclusive<u32> = 1..=100_000;
/// A week at most.
const SECONDS: RangeInclusive<u32> = 1..=604_800;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_profiles_can_be_read_and_each_figure_has_its_source() {
        let profiles = VenueProfile::from_toml(BUILT_IN).unwrap();
        assert_eq!(profiles.len(), 11);
        for profile in &profiles {
            assert!(profile.sources().next().is_some(), "{}", profile.name());
            assert!(profile.sources().all(|(_, source)| source.len() > 20));
            assert_eq!(VenueProfile::built_in(profile.name()).unwrap().name(), profile.name());
        }
        let unknown = VenueProfile::built_in("mtgox").unwrap_err().to_string();
        assert!(unknown.contains("mtgox") && unknown.contains("binance-spot"), "{unknown}");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let mistake = |text: &str| VenueProfile::from_toml(text).unwrap_err().to_string();
        let told = mistake("[[venue]]\nname = \"a\"\nmessages = { count = 5, per_s = 1 }");
        assert!(told.contains("line 3") && told.contains("source"), "{told}");
        let told = mistake("[[venue]]\nname = \"a\"\nconnections = { count = 0, per_s = 1, source = \"x\" }");
        assert!(told.contains("count must be 1 to"), "{told}");
        assert!(mistake("[[venue]]\nname = \"a\"\n[[venue]]\nname = \"a\"").contains("two venues"));
        assert!(mistake("[[venue]]\nname = \"a\"\nlimits = 3").contains("no key \"limits\""));
        assert!(mistake("[[venue]]\nname = \"a\"\nmax_age = 3").contains("must be a table"));
        let kept = "[[venue]]\nname = \"a\"\nmessages = { count = 5, per_s = 1, keep_for_pongs = 5, source = \"x\" }";
        assert!(mistake(kept).contains("keep_for_pongs must be 0 to 4"));
    }
}
