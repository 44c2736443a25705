//! The messages that are measured: any JSON, of which only the simulator's sending time is kept.

use hypersockets::{MessageRouter, Parsed, Result, WsMessage};
use simd_json::prelude::ValueAsScalar;

/// A message that was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tick {
    sent_unix_ns: Option<u64>,
}

/// Reads each message as JSON, whole; one that is none is taken all the same.
pub(crate) struct Ticks;

impl Ticks {
    fn read(bytes: &mut [u8], buffers: &mut simd_json::Buffers) -> Tick {
        let tape = simd_json::to_tape_with_buffers(bytes, buffers).ok();
        // `get` wants an object.
        let object = tape.as_ref().map(|tape| tape.as_value()).filter(|value| value.as_object().is_some());
        Tick { sent_unix_ns: object.and_then(|object| object.get("sent_unix_ns").and_then(|time| time.as_u64())) }
    }
}

impl MessageRouter for Ticks {
    type Message = Tick;
    type RouteKey = ();

    fn parse(&self, message: WsMessage<'_>) -> Result<Tick> {
        Ok(Self::read(&mut message.as_bytes().to_vec(), &mut simd_json::Buffers::default()))
    }

    fn parse_each(&self, raw: WsMessage<'_>, out: &mut Parsed<'_, Tick>) -> Result<()> {
        let (scratch, ticks) = out.split();
        let (bytes, buffers) = scratch.copy(raw.as_bytes());
        ticks.push(Self::read(bytes, buffers));
        Ok(())
    }

    fn route_key(&self, _: &Tick) {}

    fn event_time_ns(&self, tick: &Tick) -> Option<u64> {
        tick.sent_unix_ns
    }
}
