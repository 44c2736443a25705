//! Promise: where descriptors, threads or memory run out, or a venue tries to use them up, that is an error or a bound, never a panic,
//! and the other connections feel nothing.
//!
//! What uses up a resource of the whole process runs in a process of its own: this test binary again, under the shell's `ulimit`.

mod support {
    pub(crate) mod lines;
}

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use hypersockets::simulator::Venue;
use hypersockets::{
    Client, ClientBuilder, ClientEvent, DisconnectReason, Engine, HasRouter, HasUrl, HyperSocketError, RouteOptions,
};
use support::lines::{Journal, Lines, PATIENCE, connect_failure, live_session, next_session, recorder, soon};

fn client_of(url: String, engine: &Engine) -> (ClientBuilder<HasUrl, HasRouter>, Journal) {
    let (recorder, journal) = recorder();
    let builder = hypersockets::builder()
        .url(url)
        .router(Lines, |routing| routing.default_handler_with(recorder, RouteOptions::new().inline()))
        .reconnect_strategy(soon())
        .engine(engine);
    (builder, journal)
}

fn engine() -> Engine {
    Engine::builder().start().expect("a thread")
}

/// Runs one test of this binary in a process that may have so many open files; false where the system does not allow them.
fn run_with_descriptors(limit: usize, test: &str) -> bool {
    let this = std::env::current_exe().expect("a test has a path");
    let script = format!("ulimit -n {limit} || exit 77; exec \"$0\" --exact {test} --ignored --nocapture");
    let output = Command::new("sh").arg("-c").arg(script).arg(this).output().expect("a shell");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if output.status.code() == Some(77) {
        println!("SKIPPED: this system allows no {limit} open files");
        return false;
    }
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    true
}

/// What this process has in memory, in bytes.
fn resident_bytes() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").expect("Linux tells");
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("it is the second number") * 4096
}

#[test]
fn emfile_at_connect_and_at_reconnect_costs_dials_and_nothing_else() {
    run_with_descriptors(128, "without_descriptors");
}

#[test]
#[ignore = "uses up all descriptors: emfile_at_connect_and_at_reconnect_costs_dials_and_nothing_else runs it"]
fn without_descriptors() {
    let (venue, quiet_venue) = (Venue::scripted().start(), Venue::scripted().start());
    let (venue, quiet_venue) = (venue.expect("a free port"), quiet_venue.expect("a free port"));
    let engine = engine();
    let (builder, mut quiet_journal) = client_of(quiet_venue.url(), &engine);
    let quiet = builder.build().expect("the venue accepts");
    let quiet_session = next_session(&quiet_venue);
    let (builder, mut journal) = client_of(venue.url(), &engine);
    let client = builder.build().expect("the venue accepts");
    let session = next_session(&venue);

    let mut taken = Vec::new();
    let refused = loop {
        match File::open("/dev/null") {
            Ok(file) => taken.push(file),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.raw_os_error(), Some(24), "EMFILE");

    // Its own engine needs descriptors, the shared one a socket.
    let (recorder, _) = recorder();
    let alone =
        hypersockets::builder().url(venue.url()).router(Lines, |routing| routing.default_handler(recorder)).build();
    assert!(alone.is_err(), "{alone:?}");
    let failure = connect_failure(client_of(venue.url(), &engine).0.build());
    assert!(matches!(&failure, DisconnectReason::Connect(why) if why.contains("os error 24")), "{failure:?}");

    // The session's end gives one descriptor back, which is taken at once.
    let events = client.events();
    session.drop_fin();
    journal.until_lost();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    loop {
        match events.next_timeout(PATIENCE).expect("something happens") {
            ClientEvent::DialFailed { reason: DisconnectReason::Connect(why), .. } if why.contains("os error 24") => {
                break;
            }
            ClientEvent::Closed { reason } => panic!("it gave up: {reason}"),
            // A dial may still have had the one that was given back.
            _ => {
                while let Ok(file) = File::open("/dev/null") {
                    taken.push(file);
                }
            }
        }
    }
    quiet_session.send_text("BTC meanwhile");
    quiet_session.send_ping("?");
    quiet_journal.until_message("BTC meanwhile");
    assert_eq!(quiet_session.await_pong(PATIENCE).expect("a pong"), b"?");
    assert_eq!(quiet.epoch(), 1);

    drop(taken);
    journal.until_live(2);
}

#[test]
fn a_thread_that_cannot_start_is_an_error_of_build() {
    let venue = Venue::scripted().start().expect("a free port");
    let (recorder, _) = recorder();
    let built = hypersockets::builder()
        .url(venue.url())
        .router(Lines, |routing| {
            // More than an address space.
            routing.default_handler_with(recorder, RouteOptions::new().stack_bytes(1 << 48))
        })
        .build();
    assert!(matches!(built, Err(HyperSocketError::Io(_))), "{built:?}");
    assert_eq!(venue.connections_accepted(), 0);
}

#[test]
fn a_message_of_100_mb_arrives_whole_where_it_is_allowed_and_delays_nobody_for_long() {
    let (venue, quiet_venue) = (Venue::scripted().start(), Venue::scripted().start());
    let (venue, quiet_venue) = (venue.expect("a free port"), quiet_venue.expect("a free port"));
    let engine = engine();
    let (builder, mut journal) = client_of(venue.url(), &engine);
    let _client = builder.max_message_bytes(128 << 20).build().expect("the venue accepts");
    let (builder, mut quiet_journal) = client_of(quiet_venue.url(), &engine);
    let _quiet = builder.build().expect("the venue accepts");
    let (session, quiet_session) = (next_session(&venue), next_session(&quiet_venue));
    session.send_text(format!("BTC {}", "x".repeat(100_000_000)));
    session.send_text("BTC behind");
    // It is on its way: this one does not wait for its end.
    quiet_session.send_text("BTC meanwhile");
    quiet_journal.until_message("BTC meanwhile");
    journal.until_message("BTC behind");
    assert_eq!(journal.messages().iter().map(|text| text.len()).collect::<Vec<_>>(), [100_000_004, 10]);
}

#[test]
fn a_length_bomb_takes_no_memory_whatever_it_promises() {
    if !cfg!(target_os = "linux") {
        return println!("SKIPPED: the memory of a process is read from /proc");
    }
    run_with_descriptors(128, "one_length_bomb");
}

#[test]
#[ignore = "measures the process: a_length_bomb_takes_no_memory_whatever_it_promises runs it"]
fn one_length_bomb() {
    let venue = Venue::scripted().start().expect("a free port");
    let engine = engine();
    let (builder, mut journal) = client_of(venue.url(), &engine);
    let client = builder.max_message_bytes(u64::MAX).build().expect("the venue accepts");
    let session = next_session(&venue);
    let before = resident_bytes();
    // 2^61 bytes, of which one MiB comes.
    session.send_raw([&[0x82, 127][..], &(1_u64 << 61).to_be_bytes()].concat());
    session.send_raw(vec![b'x'; 1 << 20]);
    session.drop_fin();
    let (_, reason) = journal.until_lost();
    assert_eq!(reason, DisconnectReason::EndOfStream);
    assert!(resident_bytes() < before + (16 << 20), "{} bytes more", resident_bytes() - before);
    client.shutdown().expect("not a thread of the engine");
}

/// Accepts one client, and gives the bare socket of its session.
fn bare_session(listener: &TcpListener) -> TcpStream {
    let (socket, _) = listener.accept().expect("a client dials");
    tungstenite::accept(socket).expect("a right request").get_ref().try_clone().expect("a descriptor")
}

#[test]
fn a_ping_flood_while_our_writes_block_takes_no_memory_and_stops_no_reads() {
    if !cfg!(target_os = "linux") {
        return println!("SKIPPED: the memory of a process is read from /proc");
    }
    run_with_descriptors(128, "one_ping_flood");
}

#[test]
#[ignore = "measures the process: a_ping_flood_while_our_writes_block_takes_no_memory_and_stops_no_reads runs it"]
fn one_ping_flood() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let url = format!("ws://{}", listener.local_addr().expect("it is bound"));
    let engine = engine();
    let (builder, mut journal) = client_of(url, &engine);
    let client = builder.start().expect("nothing is wrong with it");
    let mut socket = bare_session(&listener);
    client.wait_live(PATIENCE).expect("the venue accepts");
    let before = resident_bytes();
    // Two million pings, whose pongs nobody reads: 250 MB both ways.
    let ping = [&[0x89, 123][..], &[b'p'; 123]].concat();
    let burst = ping.repeat(1_000);
    for _ in 0..2_000 {
        socket.write_all(&burst).expect("it reads on");
    }
    socket.write_all(b"\x81\x09BTC after").expect("it reads on");
    journal.until_message("BTC after");
    assert!(resident_bytes() < before + (32 << 20), "{} bytes more", resident_bytes() - before);
    assert_eq!(client.epoch(), 1);
}

#[test]
fn a_thousand_connections_live_on_one_loop_thread_and_every_ping_is_answered() {
    run_with_descriptors(4096, "one_thousand_connections");
}

#[test]
#[ignore = "needs 2,000 descriptors: a_thousand_connections_live_on_one_loop_thread_and_every_ping_is_answered runs it"]
fn one_thousand_connections() {
    const MANY: usize = 1_000;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let url = format!("ws://{}", listener.local_addr().expect("it is bound"));
    let venue = thread::spawn(move || {
        let accepted = (0..MANY).map(|_| tungstenite::accept(listener.accept().expect("it dials").0).expect("it asks"));
        let mut sessions: Vec<_> = accepted.collect();
        for round in 0..3 {
            for (n, session) in sessions.iter_mut().enumerate() {
                session.send(tungstenite::Message::Ping(format!("{round}.{n}").into())).expect("it is there");
                session.send(format!("BTC {round}").into()).expect("it is there");
            }
            for (n, session) in sessions.iter_mut().enumerate() {
                let answer = session.read().expect("it answers");
                assert_eq!(answer, tungstenite::Message::Pong(format!("{round}.{n}").into()));
            }
        }
        sessions
    });
    let engine = Engine::builder().name("hs-thousand").start().expect("a thread");
    let (clients, mut journals): (Vec<Client>, Vec<Journal>) = (0..MANY)
        .map(|_| {
            let (builder, journal) = client_of(url.clone(), &engine);
            (builder.start().expect("nothing is wrong with it"), journal)
        })
        .unzip();
    journals.iter_mut().for_each(|journal| journal.until_message("BTC 2"));
    let sessions = venue.join().expect("every ping was answered");
    assert!(clients.iter().all(|client| client.epoch() == 1));
    assert!(journals.iter_mut().all(|journal| journal.messages() == ["BTC 0", "BTC 1", "BTC 2"]));
    let names = fs::read_dir("/proc/self/task").expect("Linux tells").flatten();
    let names = names.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    let engines: Vec<_> = names.filter(|name| name.starts_with("hs")).collect();
    assert_eq!(engines, ["hs-thousand\n"]);
    drop(sessions);
}

#[test]
fn a_dial_that_finds_no_venue_leaves_the_others_alone() {
    let venue = Venue::scripted().start().expect("a free port");
    let engine = engine();
    let (builder, mut journal) = client_of(venue.url(), &engine);
    let client = builder.build().expect("the venue accepts");
    let session = live_session(&client, &venue);
    let nobody = client_of("ws://127.0.0.1:9/".to_owned(), &engine).0.start().expect("it dials on");
    for n in 0..100 {
        session.send_text(format!("BTC {n}"));
        journal.until_message(&format!("BTC {n}"));
    }
    assert_eq!(client.epoch(), 1);
    drop(nobody);
}
