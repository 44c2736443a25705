//! What the fuzz targets reach inside; built for them and for the tests alone.

/// The receive path against tungstenite alone, on a stream and cuts that a fuzzer makes.
///
/// # Panics
/// Where they differ.
pub fn receive(bytes: &[u8]) {
    crate::transport::compare_fuzzed(bytes);
}

/// The receive path with compression agreed, against a naive walk that puts each compressed message before tungstenite as the frame that
/// it would have been.
///
/// # Panics
/// Where they differ.
#[cfg(feature = "deflate")]
pub fn inflate(bytes: &[u8]) {
    crate::transport::compare_inflated_fuzzed(bytes);
}

/// The judgement of an answer to the upgrade, whole and cut.
///
/// # Panics
/// Where the cuts change it, or where it accepts what it must not.
pub fn upgrade(bytes: &[u8]) {
    crate::transport::judge_fuzzed(bytes);
}

#[cfg(test)]
#[path = "../tests/fuzz/bodies/corpus.rs"]
mod corpus;

#[cfg(test)]
mod tests {
    use super::corpus;

    #[test]
    fn the_corpus_of_the_receive_path() {
        corpus::run("receive", super::receive);
    }

    #[test]
    fn the_corpus_of_compressed_messages() {
        corpus::run("inflate", super::inflate);
    }

    #[test]
    fn the_corpus_of_the_upgrade() {
        corpus::run("upgrade", super::upgrade);
    }
}
