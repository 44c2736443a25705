//! The messages that are measured: any JSON, of which only the simulator's sending time is kept.

use hypersockets::simd_json::prelude::ValueAsScalar;
use hypersockets::{MessageRouter, Parsed, Result, Scratch, WsMessage};

/// A message that was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tick {
    sent_unix_ns: Option<u64>,
}

/// Reads each message as JSON, whole; one that is none is taken all the same.
pub(crate) struct Ticks;

impl Ticks {
    fn read(raw: &[u8], scratch: &mut Scratch) -> Tick {
        let time =
            scratch.tape(raw, |value| Ok(value.as_object().and_then(|object| object.get("sent_unix_ns")?.as_u64())));
        Tick { sent_unix_ns: time.ok().flatten() }
    }
}

impl MessageRouter for Ticks {
    type Message = Tick;
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> Result<Tick> {
        Ok(Self::read(message.as_bytes(), &mut Scratch::default()))
    }

    fn parse_each(&self, raw: WsMessage<'_>, out: &mut Parsed<'_, Tick>) -> Result<()> {
        let (scratch, ticks) = out.split();
        ticks.push(Self::read(raw.as_bytes(), scratch));
        Ok(())
    }

    fn route_key(&self, _: &Tick) {}

    fn event_time_ns(&self, tick: &Tick) -> Option<u64> {
        tick.sent_unix_ns
    }
}
