//! Publishes one route's messages to a Redis stream. Invariant: an entry is given up only when Redis has acknowledged it; each message
//! is one entry, in order, also when an acknowledgement got lost.
//!
//! While Redis is away the handler waits, and the messages pile up in the route's own queue: its bound is the bound of the memory. What
//! does not fit is dropped there, and the hole is written into the stream where it is.

use std::time::{Duration, Instant, SystemTime};

use hypersockets::{ConnectionEvent, DisconnectReason, MessageHandler, Result};
use redis::Connection;
use redis::streams::StreamRangeReply;

/// Entries that go to Redis in one round trip at most.
const BATCH: usize = 500;
/// What a stream keeps, about; consumers that are further behind have lost the rest.
const KEPT: usize = 1_000_000;
/// Between two attempts to reach Redis.
const PAUSE: Duration = Duration::from_millis(100);
/// How long Redis may take for a connection, and for a batch.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long it is tried at the end, where Redis is away; a shutdown that finds the sink waiting has its own deadline.
const GRACE: Duration = Duration::from_secs(2);

pub(crate) struct RedisSink {
    client: redis::Client,
    connection: Option<Connection>,
    stream: String,
    /// First part of the ids of this run: a later run has a greater one.
    run_ms: u64,
    /// Second part of the last id.
    number: u64,
    batch: Vec<Entry>,
    /// No message follows any more.
    is_ending: bool,
}

/// One entry: its id's second part, the name of its field, and what is in it.
struct Entry {
    number: u64,
    field: &'static str,
    value: String,
}

impl RedisSink {
    /// A sink into this stream.
    ///
    /// # Errors
    /// The URL, or a Redis that is not there: then better now than later.
    pub(crate) fn connect(url: &str, stream: impl Into<String>) -> Result<Self> {
        let client = redis::Client::open(url).map_err(|error| error.to_string())?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as u64;
        let stream = stream.into();
        let mut sink =
            Self { client, connection: None, stream, run_ms: now, number: 0, batch: Vec::new(), is_ending: false };
        let (last_ms, _) = sink.dial().map_err(|error| format!("no Redis at {url}: {error}"))?;
        // A clock that was put back must not make ids that Redis refuses.
        sink.run_ms = now.max(last_ms + 1);
        Ok(sink)
    }

    fn push(&mut self, field: &'static str, value: String) {
        self.number += 1;
        self.batch.push(Entry { number: self.number, field, value });
        if self.batch.len() >= BATCH {
            self.flush();
        }
    }

    /// Hands the batch over, however long that takes; but for the end, it does not give up.
    fn flush(&mut self) {
        let began = Instant::now();
        while !self.batch.is_empty() {
            match self.try_flush() {
                Ok(()) => self.batch.clear(),
                Err(error) => {
                    if self.connection.take().is_some() {
                        eprintln!("{}: Redis is away: {error}", self.stream);
                    }
                    if self.is_ending && began.elapsed() >= GRACE {
                        eprintln!("{}: {} messages were not published", self.stream, self.batch.len());
                        return self.batch.clear();
                    }
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    fn try_flush(&mut self) -> redis::RedisResult<()> {
        if self.connection.is_none() {
            let (last_ms, last_number) = self.dial()?;
            // The answer to the last batch may have been lost on its way: what is there is there.
            if last_ms == self.run_ms {
                self.batch.retain(|entry| entry.number > last_number);
            }
        }
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let mut pipeline = redis::pipe();
        for Entry { number, field, value } in &self.batch {
            let id = format!("{}-{number}", self.run_ms);
            pipeline
                .cmd("XADD")
                .arg(&self.stream)
                .arg("MAXLEN")
                .arg("~")
                .arg(KEPT)
                .arg(id)
                .arg(field)
                .arg(value)
                .ignore();
        }
        pipeline.query(connection)
    }

    /// Connects; the id of the stream's last entry, zeros where it has none.
    fn dial(&mut self) -> redis::RedisResult<(u64, u64)> {
        let mut connection = self.client.get_connection_with_timeout(TIMEOUT)?;
        connection.set_read_timeout(Some(TIMEOUT))?;
        connection.set_write_timeout(Some(TIMEOUT))?;
        let newest = redis::cmd("XREVRANGE").arg(&self.stream).arg("+").arg("-").arg("COUNT").arg(1).to_owned();
        let newest: StreamRangeReply = newest.query(&mut connection)?;
        let last = newest.ids.first().and_then(|entry| entry.id.split_once('-'));
        self.connection = Some(connection);
        Ok(last.map_or((0, 0), |(ms, number)| (ms.parse().unwrap_or(0), number.parse().unwrap_or(0))))
    }
}

impl<M: Into<String>> MessageHandler<M> for RedisSink {
    fn handle(&mut self, message: M) -> Result<()> {
        self.push("data", message.into());
        Ok(())
    }

    /// Holes are entries, too: a consumer sees them where they are.
    fn on_event(&mut self, event: &ConnectionEvent) {
        match event {
            ConnectionEvent::Live { epoch } => self.push("live", epoch.to_string()),
            ConnectionEvent::Lost { reason, .. } => {
                self.is_ending = *reason == DisconnectReason::Shutdown;
                self.push("lost", reason.to_string());
            }
            ConnectionEvent::Dropped { count } => self.push("dropped", count.to_string()),
            _ => {}
        }
    }

    /// A quiet feed waits for nobody, and a busy one shares its round trips.
    fn on_batch_end(&mut self) {
        self.flush();
    }

    fn on_stop(&mut self) {
        self.flush();
    }
}
