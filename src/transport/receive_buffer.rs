//! The bytes received and not yet consumed. Invariant: `start <= end <= bytes.len()`, all of `bytes` initialised.
//!
//! It grows by doubling with what came, never by what a frame header claims, so a length bomb costs nothing.

/// A contiguous, growable window of received bytes.
#[derive(Debug, Default)]
pub(crate) struct ReceiveBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl ReceiveBuffer {
    /// A buffer with room for `capacity` bytes; zero allocates nothing.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self { bytes: vec![0; capacity], start: 0, end: 0 }
    }

    /// The bytes that wait to be consumed.
    pub(crate) fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// The same, for decryption in place.
    pub(crate) fn data_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Room to read into, never empty: what waits moves to the front where that helps, and a buffer that is all but full doubles.
    pub(crate) fn spare(&mut self) -> &mut [u8] {
        // Moving pays only when little is left to move or little room is left behind it.
        if self.start > 0 && self.end > self.bytes.len() / 2 {
            self.compact();
        }
        if self.bytes.len() - self.end < LEAST_ROOM {
            self.bytes.resize((self.bytes.len() * 2).max(MIN_CAPACITY), 0);
        }
        &mut self.bytes[self.end..]
    }

    /// Says that the first `count` bytes of [`spare`](Self::spare) were filled.
    pub(crate) fn filled(&mut self, count: usize) {
        debug_assert!(self.end + count <= self.bytes.len(), "more filled than there was room for");
        self.end += count;
    }

    /// Copies `bytes` behind what waits.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        if self.bytes.len() - self.end < bytes.len() {
            self.compact();
            let needed = self.end + bytes.len();
            if needed > self.bytes.len() {
                self.bytes.resize(needed.next_power_of_two().max(MIN_CAPACITY), 0);
            }
        }
        self.bytes[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Drops the first `count` bytes.
    pub(crate) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.len(), "more consumed than waits");
        self.start += count;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Drops everything that waits; keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Gives the memory back where nothing waits and more than `keep` bytes are held.
    pub(crate) fn shrink_if_empty(&mut self, keep: usize) {
        if self.is_empty() && self.bytes.len() > keep {
            self.bytes = Vec::new();
        }
    }

    /// Empties the buffer and brings it back to `capacity`, if it has grown far beyond.
    pub(crate) fn reset(&mut self, capacity: usize) {
        self.clear();
        if self.bytes.len() > 4 * capacity {
            *self = Self::with_capacity(capacity);
        }
    }

    fn compact(&mut self) {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
    }
}

/// A read of less than this would cost more for the system call than for the bytes.
const LEAST_ROOM: usize = 1024;
/// One page: the smallest allocation worth making for a partial frame.
const MIN_CAPACITY: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_bytes_in_order_over_growth_and_consumption() {
        let mut buffer = ReceiveBuffer::default();
        let (mut written, mut read) = (0u32, 0u32);
        for step in 1..2_000usize {
            for _ in 0..step % 7 {
                buffer.append(&written.to_be_bytes());
                written += 1;
            }
            let room = buffer.spare();
            room[..4].copy_from_slice(&written.to_be_bytes());
            buffer.filled(4);
            written += 1;
            for _ in 0..(step % 5).min(buffer.len() / 4) {
                let next: [u8; 4] = buffer.data()[..4].try_into().expect("four bytes");
                assert_eq!(u32::from_be_bytes(next), read);
                buffer.consume(4);
                read += 1;
            }
        }
        assert_eq!(buffer.len() as u32 / 4, written - read);
    }

    #[test]
    fn memory_follows_what_came_and_is_given_back() {
        let mut buffer = ReceiveBuffer::default();
        buffer.append(&[7; 100_000]);
        assert!(buffer.capacity() <= 131_072);
        buffer.shrink_if_empty(0);
        assert_eq!(buffer.len(), 100_000, "waiting bytes are never dropped");
        buffer.consume(100_000);
        buffer.shrink_if_empty(8_192);
        assert_eq!(buffer.capacity(), 0);
    }
}
