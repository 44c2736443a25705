//! What stands in for permessage-deflate where the feature `deflate` is off: types without a value, which the compiler sees through, so
//! that nothing else has to ask for the feature. See `deflate/mod.rs`.

/// There is none.
#[derive(Debug, Clone)]
pub(crate) enum Compression {}

/// There is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Agreed {}

/// There is none.
#[derive(Debug)]
pub(crate) enum Inflater {}

/// There is none.
#[derive(Debug)]
pub(crate) enum Deflater {}

/// There is none.
#[derive(Debug)]
pub(crate) enum InflateFault {
    #[allow(dead_code)] // nobody inflates
    Broken,
    #[allow(dead_code)] // nobody inflates
    TooLarge { inflated_bytes: u64 },
}

impl Compression {
    pub(crate) fn offer(&self) -> String {
        match *self {}
    }

    pub(crate) fn judge(&self, _answer: &str) -> Result<Agreed, &'static str> {
        match *self {}
    }
}

impl Inflater {
    pub(crate) fn new(agreed: &Agreed, _limit_bytes: u64) -> Self {
        match *agreed {}
    }

    pub(crate) fn measure(&mut self) {
        match *self {}
    }

    pub(crate) fn read_begins(&mut self) {
        match *self {}
    }

    pub(crate) fn begin(&mut self) {
        match *self {}
    }

    pub(crate) fn push(&mut self, _piece: &[u8], _is_last: bool) -> Result<(), InflateFault> {
        match *self {}
    }

    pub(crate) fn message(&self) -> &[u8] {
        match *self {}
    }

    pub(crate) fn took_ns(&self) -> Option<u64> {
        match *self {}
    }

    pub(crate) fn handed_on(&mut self) {
        match *self {}
    }
}

impl Deflater {
    pub(crate) fn new(agreed: &Agreed) -> Option<Self> {
        match *agreed {}
    }

    pub(crate) fn deflate(&mut self, _payload: &[u8]) -> Option<&[u8]> {
        match *self {}
    }
}
