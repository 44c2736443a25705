//! Promise: many clients go by name, one flag says truly whether any of them is down, and one call ends them all.

mod support {
    pub(crate) mod lines;
}

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hypersockets::simulator::{Ending, Venue};
use hypersockets::{
    Client, ClientEvent, ClientManager, ClientState, ConnectionEvent, HyperSocketError, NeverReconnect, WsMessage,
};
use support::lines::{Lines, PATIENCE, next_session, recorder, soon};

fn scripted() -> Venue {
    Venue::scripted().start().expect("a free port")
}

fn flag() -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(true))
}

fn client_of(venue: &Venue, manager: &ClientManager) -> Client {
    hypersockets::builder()
        .url(venue.url())
        .router(Lines, |routing| routing.default_handler(recorder().0))
        .reconnect_strategy(soon())
        .halted_flag(manager.halted_flag())
        .build()
        .expect("the venue accepts")
}

/// Reads events until one of client `id` `is_wanted`.
#[track_caller]
fn await_event(manager: &ClientManager, id: &str, is_wanted: impl Fn(&ConnectionEvent) -> bool) {
    let events = manager.events();
    loop {
        let (from, event) = events.next_timeout(PATIENCE).expect("an event");
        if from == id && matches!(&event, ClientEvent::Connection(event) if is_wanted(event)) {
            return;
        }
    }
}

#[test]
fn the_halted_flag_is_true_while_any_client_is_down_and_names_it() {
    let (steady, shaky) = (scripted(), scripted());
    let manager = ClientManager::new(flag());
    manager.add_client("steady", client_of(&steady, &manager)).expect("a new name");
    manager.add_client("shaky", client_of(&shaky, &manager)).expect("a new name");
    assert!(!manager.is_halted() && manager.get_disconnected_clients().is_empty());

    shaky.stop(Ending::Rst);
    await_event(&manager, "shaky", |event| matches!(event, ConnectionEvent::Lost { .. }));
    assert!(manager.is_halted() && manager.halted_flag().load(Ordering::Acquire));
    assert_eq!((manager.get_disconnected_clients(), manager.disconnected_count()), (vec!["shaky".to_owned()], 1));

    shaky.restart().expect("the same port");
    await_event(&manager, "shaky", |event| matches!(event, ConnectionEvent::Live { epoch: 2 }));
    assert!(!manager.is_halted());
    assert!(manager.states().iter().all(|(_, state)| *state == ClientState::Live));
}

#[test]
fn a_client_counts_from_its_adding_to_its_removal_with_or_without_the_flag() {
    let venue = scripted();
    let manager = ClientManager::new(flag());
    let client = hypersockets::builder()
        .url(venue.url())
        .router(Lines, |routing| routing.default_handler(recorder().0))
        .reconnect_strategy(NeverReconnect)
        .build()
        .expect("the venue accepts");
    manager.add_client("one", client.clone()).expect("a new name");
    assert!(!manager.is_halted());
    next_session(&venue).drop_rst();
    await_event(&manager, "one", |event| matches!(event, ConnectionEvent::Lost { .. }));
    while !matches!(manager.events().next_timeout(PATIENCE), Some((_, ClientEvent::Closed { .. })) | None) {}
    assert!(manager.is_halted(), "one that failed for good should be live, too");
    let removed = manager.remove_client("one").expect("it is there");
    assert_eq!(removed.state(), ClientState::Failed);
    assert!(!manager.is_halted(), "it is the manager's no longer");
}

#[test]
fn names_are_taken_once_and_unknown_ones_are_errors() {
    let venue = scripted();
    let manager = ClientManager::new(flag());
    manager.add_client("one", client_of(&venue, &manager)).expect("a new name");
    let again = manager.add_client("one", client_of(&venue, &manager));
    assert!(matches!(again, Err(HyperSocketError::DuplicateClient(id)) if id == "one"));
    assert!(matches!(manager.send_to("two", "x"), Err(HyperSocketError::UnknownClient(id)) if id == "two"));
    assert!(matches!(manager.remove_client("two"), Err(HyperSocketError::UnknownClient(_))));
}

#[test]
fn messages_go_to_one_or_to_all_and_each_is_answered_for() {
    let (up, down) = (scripted(), scripted());
    let manager = ClientManager::new(flag());
    manager.add_client("up", client_of(&up, &manager)).expect("a new name");
    manager.add_client("down", client_of(&down, &manager)).expect("a new name");
    let (session, _) = (next_session(&up), next_session(&down));
    manager.send_to("up", WsMessage::text("to one")).expect("live");
    session.assert_received("to one");

    down.stop(Ending::Fin);
    await_event(&manager, "down", |event| matches!(event, ConnectionEvent::Lost { .. }));
    let sent = manager.broadcast("to all").expect("one of them is live");
    session.assert_received("to all");
    assert!(matches!(&sent[..], [(_, Err(HyperSocketError::NotConnected)), (id, Ok(_))] if id == "up"), "{sent:?}");
    manager.remove_client("up").expect("it is there");
    assert!(matches!(manager.broadcast("to nobody"), Err(HyperSocketError::NotConnected)));
}

#[test]
fn one_shutdown_ends_them_all_and_sets_the_flag() {
    let venue = scripted();
    let running = flag();
    let manager = ClientManager::new(Arc::clone(&running));
    for name in ["a", "b", "c"] {
        manager.add_client(name, client_of(&venue, &manager)).expect("a new name");
    }
    let reports = manager.shutdown().expect("not on a thread of an engine");
    assert_eq!(reports.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(reports.iter().all(|(_, report)| report.complete));
    assert!(!running.load(Ordering::Acquire) && !manager.is_halted());
    assert!(manager.states().iter().all(|(_, state)| *state == ClientState::Closed));
}

#[test]
fn clients_come_and_go_while_somebody_waits_for_the_events_of_all() {
    let venue = scripted();
    let manager = ClientManager::new(flag());
    let events = manager.events();
    let waiting = std::thread::spawn(move || events.next_timeout(PATIENCE));
    let client = client_of(&venue, &manager);
    manager.add_client("late", client.clone()).expect("a new name");
    let (from, event) = waiting.join().expect("it only waits").expect("an event from before the client was added");
    assert_eq!((from.as_str(), event), ("late", ClientEvent::Connection(ConnectionEvent::Live { epoch: 1 })));

    manager.remove_client("late").expect("it is there");
    next_session(&venue).drop_rst();
    assert!(matches!(client.events().next_timeout(PATIENCE), Some(ClientEvent::Connection(_))), "its own again");
    assert!(manager.events().try_next().is_none());
}
