//! What the fuzz targets reach inside; built for them and for the tests alone.

/// The receive path against tungstenite alone, on a stream and cuts that a fuzzer makes.
///
/// # Panics
/// Where they differ.
pub fn receive(bytes: &[u8]) {
    crate::transport::compare_fuzzed(bytes);
}

/// The judgement of an answer to the upgrade, whole and cut.
///
/// # Panics
/// Where the cuts change it, or where it accepts what it must not.
pub fn upgrade(bytes: &[u8]) {
    crate::transport::judge_fuzzed(bytes);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// What fuzzing has found worth keeping, and the seeds that it began with.
    fn corpus(target: &str, run: fn(&[u8])) {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let files: Vec<_> = fs::read_dir(&directory).expect("it lies beside the sources").collect();
        assert!(files.len() > 3, "{} is empty", directory.display());
        for file in files {
            run(&fs::read(file.expect("it can be read").path()).expect("it can be read"));
        }
    }

    #[test]
    fn the_corpus_of_the_receive_path() {
        corpus("receive", super::receive);
    }

    #[test]
    fn the_corpus_of_the_upgrade() {
        corpus("upgrade", super::upgrade);
    }
}
