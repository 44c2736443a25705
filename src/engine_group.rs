//! Several engines, one a core, that share clients out among them.

use std::fmt;
use std::sync::{Arc, Mutex, Weak};

use crate::engine::{Engine, EngineBuilder};
use crate::error::{HyperSocketError, Result};
use crate::ids::ConnectionId;
use crate::state::{ClientState, Shared};
use crate::sync::lock;

/// Engines that share clients out among them: each new client goes to the one with the fewest. Cheap to clone; all clones are one
/// group.
///
/// ```no_run
/// # use hypersockets::{Engine, EngineGroup, MessageRouter, Result, WsMessage};
/// # struct Lines;
/// # impl MessageRouter for Lines {
/// #     type Message = String;
/// #     type RouteKey = ();
/// #     fn parse(&self, message: WsMessage<'_>) -> Result<String> { Ok(message.as_text().unwrap_or("").to_owned()) }
/// #     fn route_key(&self, _: &String) {}
/// # }
/// # fn main() -> Result<()> {
/// let group = EngineGroup::start([2, 3].map(|core| Engine::builder().core(core)))?;
/// for market in ["BTC", "ETH", "SOL"] {
///     let client = hypersockets::builder()
///         .url(format!("wss://venue.example/ws/{market}"))
///         .router(Lines, |routing| routing.handler((), |line: String| Ok(println!("{line}"))))
///         .engine_group(&group)
///         .start()?;
///     println!("{market} is on engine {:?}", group.engine_of(client.connection()));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct EngineGroup {
    members: Arc<[Member]>,
    /// Held while a client is placed, so that two that come together do not both go to the one that was emptiest.
    placing: Arc<Mutex<()>>,
}

struct Member {
    engine: Engine,
    clients: Mutex<Vec<Weak<Shared>>>,
}

impl EngineGroup {
    /// Starts an engine for each description.
    ///
    /// # Errors
    /// [`InvalidConfig`](HyperSocketError::InvalidConfig) without any, and those of [`EngineBuilder::start`]; what was started ends.
    pub fn start(engines: impl IntoIterator<Item = EngineBuilder>) -> Result<Self> {
        let engines: Vec<_> = engines.into_iter().map(EngineBuilder::start).collect::<Result<_>>()?;
        Self::of(engines)
    }

    /// A group of engines that run already. Clients that they have had before count for nobody.
    ///
    /// # Errors
    /// [`InvalidConfig`](HyperSocketError::InvalidConfig) without any.
    pub fn of(engines: impl IntoIterator<Item = Engine>) -> Result<Self> {
        let members: Arc<[_]> =
            engines.into_iter().map(|engine| Member { engine, clients: Mutex::default() }).collect();
        if members.is_empty() {
            return Err(HyperSocketError::InvalidConfig("a group of no engines".to_owned()));
        }
        Ok(Self { members, placing: Arc::default() })
    }

    /// The engines, in the order in which they were given.
    pub fn engines(&self) -> impl Iterator<Item = &Engine> {
        self.members.iter().map(|member| &member.engine)
    }

    /// Which engine a client is on, counted from 0 in the order in which they were given; `None` where it is on none, or closed.
    pub fn engine_of(&self, client: ConnectionId) -> Option<usize> {
        self.placements().iter().position(|clients| clients.contains(&client))
    }

    /// The clients of each engine that are not closed, in the order in which the engines were given.
    pub fn placements(&self) -> Vec<Vec<ConnectionId>> {
        self.members.iter().map(Member::clients).collect()
    }

    /// Closes all clients of all engines and ends their threads; see [`Engine::shutdown`].
    ///
    /// # Errors
    /// Those of [`Engine::shutdown`], once all of them were told.
    pub fn shutdown(&self) -> Result<()> {
        let outcomes: Vec<_> = self.engines().map(Engine::shutdown).collect();
        outcomes.into_iter().collect()
    }

    /// The engine with the fewest clients, of which this is one now.
    pub(crate) fn place(&self, client: &Arc<Shared>) -> Engine {
        let _placing = lock(&self.placing);
        let emptiest = self.members.iter().min_by_key(|member| member.clients().len());
        let member = emptiest.expect("a group has an engine");
        lock(&member.clients).push(Arc::downgrade(client));
        member.engine.clone()
    }
}

impl Member {
    fn clients(&self) -> Vec<ConnectionId> {
        let mut clients = lock(&self.clients);
        let is_open = |shared: &Arc<Shared>| !matches!(shared.state().0, ClientState::Closed | ClientState::Failed);
        clients.retain(|client| client.upgrade().is_some_and(|shared| is_open(&shared)));
        clients.iter().filter_map(Weak::upgrade).map(|shared| shared.id).collect()
    }
}

impl fmt::Debug for EngineGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineGroup").field("placements", &self.placements()).finish_non_exhaustive()
    }
}
