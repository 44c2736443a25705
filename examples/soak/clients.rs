//! The process of the clients: sixteen of them on two engines, each with routes of every placement.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hypersockets::{
    Client, Engine, ExponentialBackoff, HandlerThread, MessageRouter, Result, RouteOptions, ThreadOptions, WsMessage,
};

use crate::process::{CLEAN, Holdings, Memory};
use crate::{CLIENTS, ROUTES};

/// What the handler of one route saw of one session.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Handled {
    pub(crate) session: u64,
    pub(crate) count: u64,
    last: u64,
    pub(crate) holes: u64,
    pub(crate) doubled: u64,
    pub(crate) reordered: u64,
}

impl Handled {
    fn take(&mut self, number: u64) {
        match number {
            _ if number == self.last + 1 => {}
            _ if number == self.last => self.doubled += 1,
            _ if number < self.last => self.reordered += 1,
            _ => self.holes += 1,
        }
        self.last = self.last.max(number);
        self.count += 1;
    }
}

impl FromStr for Handled {
    type Err = ();

    /// As [`run`] prints it.
    fn from_str(line: &str) -> Result<Self, ()> {
        let numbers = line.strip_prefix("session ").ok_or(())?.split(' ').map(str::parse);
        let numbers: Vec<u64> = numbers.collect::<Result<_, _>>().map_err(drop)?;
        let [session, count, holes, doubled, reordered] = numbers[..] else { return Err(()) };
        Ok(Self { session, count, last: 0, holes, doubled, reordered })
    }
}

/// A message is "route session number".
struct Numbers;

#[derive(Debug)]
struct Numbered {
    route: usize,
    session: u64,
    number: u64,
}

impl MessageRouter for Numbers {
    type Message = Numbered;
    type RouteKey = usize;

    fn parse(&self, message: WsMessage<'_>) -> Result<Numbered> {
        let mut words = message.as_text().ok_or("a binary message")?.split(' ');
        let mut word = || words.next().and_then(|word| word.parse::<u64>().ok()).ok_or("no number");
        Ok(Numbered { route: usize::try_from(word()?).map_err(|_| "no route")?, session: word()?, number: word()? })
    }

    fn route_key(&self, message: &Numbered) -> usize {
        message.route
    }

    fn shard_key(&self, raw: &WsMessage<'_>) -> u64 {
        raw.as_bytes().first().copied().unwrap_or(0).into()
    }
}

/// By client, route and session; a session is of one client.
type Tally = Arc<Mutex<BTreeMap<(u64, usize), Handled>>>;

pub(crate) fn run(url: &str) -> Result<()> {
    let before = Holdings::now()?;
    let tally = Tally::default();
    let begin = Instant::now();
    let mut memory = Memory::default();
    {
        let engines = [
            Engine::builder().start()?,
            Engine::builder().lanes([ThreadOptions::new(), ThreadOptions::new()]).start()?,
        ];
        let shared = HandlerThread::start(ThreadOptions::new())?;
        let clients =
            (0..CLIENTS).map(|n| client(url, &engines[n % 2], &shared, &tally)).collect::<Result<Vec<Client>>>()?;
        let told_to_end = thread::spawn(|| io::stdin().read_to_end(&mut Vec::new()));
        while !told_to_end.is_finished() {
            thread::sleep(Duration::from_millis(500));
            memory.sample(begin.elapsed())?;
        }
        let _ = told_to_end.join();
        for client in &clients {
            client.wait_live(Duration::from_secs(30))?;
        }
        let reconnects: u64 = clients.iter().map(|client| client.metrics().reconnect_count).sum();
        for client in &clients {
            let report = client.shutdown()?;
            if !report.complete || report.unhandled > 0 {
                return Err(format!("a shutdown left work: {report:?}").into());
            }
        }
        drop(clients);
        shared.join()?;
        engines.iter().try_for_each(Engine::shutdown)?;
        println!("{reconnects} reconnects");
    }
    for ((session, _), handled) in tally.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let Handled { count, holes, doubled, reordered, .. } = handled;
        println!("session {session} {count} {holes} {doubled} {reordered}");
    }
    if let Some((slope, last)) = memory.slope() {
        println!("memory {:.1} MiB, {:+.2} MiB an hour over the second half", last / 1024.0, slope / 1024.0);
    }
    let after = Holdings::now()?;
    println!("{after}: {}", if after == before { CLEAN.to_owned() } else { format!("at the start {before}") });
    Ok(())
}

fn client(url: &str, engine: &Engine, shared: &HandlerThread, tally: &Tally) -> Result<Client> {
    hypersockets::builder()
        .url(url)
        .router(Numbers, |routing| {
            (0..ROUTES).fold(routing, |routing, route| {
                let tally = Arc::clone(tally);
                let handler = move |message: Numbered| {
                    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                    let handled = tally.entry((message.session, message.route)).or_default();
                    handled.session = message.session;
                    handled.take(message.number);
                    Ok(())
                };
                let options = match route {
                    0 => RouteOptions::new().inline(),
                    1 => RouteOptions::new().on(shared),
                    _ => RouteOptions::new(),
                };
                routing.handler_with(route, handler, options)
            })
        })
        .reconnect_strategy(
            ExponentialBackoff::new(Duration::from_millis(50), Duration::from_secs(2), None).jitter(0.1),
        )
        .engine(engine)
        .start()
}
