//! What a client must make of a fault.

/// How a client that keeps RFC 6455 takes a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// There is no session: the client says why, hands on nothing, and dials again or gives up.
    Refused,
    /// The client sends a Close with this code, hands on nothing that came behind the fault, and dials again.
    Violation(u16),
    /// The session is over: what came before is handed on, then the client dials again.
    Lost,
    /// Unusual and lawful: the session goes on, and everything in it is handed on.
    Survived,
}
