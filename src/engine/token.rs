//! Which token of the loop's poll means whom. Invariant: the ranges are far apart, and no client, dial or goodbye ever has the
//! waker's.

use mio::Token;

use crate::transport::DialTokens;

/// Whom a readiness is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// The socket of the connection in this slot.
    Connection(usize),
    /// A socket of the dial of the connection in this slot.
    Dial(usize),
    /// One of the lingering sockets, which are all looked at together, or the waker.
    Other,
}

pub(super) const WAKER: Token = Token(usize::MAX);

pub(super) fn owner(token: Token) -> Owner {
    match token.0 {
        slot if slot < FIRST_DIAL => Owner::Connection(slot),
        dial if dial < FIRST_LINGERING => Owner::Dial(dial - FIRST_DIAL),
        _ => Owner::Other,
    }
}

/// The tokens of the connection in this slot: one for its dials, one for its socket.
pub(super) fn of_connection(slot: usize) -> DialTokens {
    debug_assert!(slot < FIRST_DIAL, "a token of somebody else");
    DialTokens { attempts: Token(FIRST_DIAL + slot), connected: Token(slot) }
}

pub(super) fn of_lingering(place: usize) -> Token {
    Token(FIRST_LINGERING + place)
}

const FIRST_DIAL: usize = usize::MAX / 4;
const FIRST_LINGERING: usize = usize::MAX / 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_leads_back_to_its_owner() {
        for slot in [0, 1, 70_000] {
            let tokens = of_connection(slot);
            assert_eq!(owner(tokens.connected), Owner::Connection(slot));
            assert_eq!(owner(tokens.attempts), Owner::Dial(slot));
            assert_eq!(owner(of_lingering(slot)), Owner::Other);
        }
        assert_eq!(owner(WAKER), Owner::Other);
    }
}
