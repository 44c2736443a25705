//! Recording files: damaged anywhere, one is read up to the damage; whole, it is read whole.

use hypersockets::simulator::Recording;

/// The first byte says whether the rest is a file as it is, or what to write one of and where to damage it.
pub(crate) fn run(bytes: &[u8]) {
    let [kind, rest @ ..] = bytes else { return };
    if kind % 2 == 0 {
        return read(rest);
    }
    let [damage, flip, rest @ ..] = rest else { return };
    let (file, payloads) = written(rest);
    let whole = Recording::from_bytes(&file).expect("it was written rightly");
    assert!(whole.cut().is_none() && whole.messages().eq(payloads.iter().map(Vec::as_slice)), "not what was written");

    let at = usize::from(*damage) * file.len() / 256;
    let mut damaged = file.clone();
    damaged[at] ^= *flip | 1;
    for damaged in [&damaged[..], &file[..at]] {
        // Within its first bytes, it is another format's.
        let Ok(recording) = Recording::from_bytes(damaged) else { continue };
        assert!(recording.len() <= payloads.len(), "more than was written");
        assert!(recording.messages().zip(&payloads).all(|(read, written)| read == written), "not what was written");
    }
}

fn read(file: &[u8]) {
    let Ok(recording) = Recording::from_bytes(file) else { return };
    assert_eq!(recording.received_ns().map(<[u64]>::len), Some(recording.len()));
    assert!(recording.gaps().iter().all(|gap| *gap <= recording.len()));
    if let Some(cut) = recording.cut() {
        assert_eq!(cut.at_byte + cut.bytes_behind, file.len() as u64);
    }
}

/// A file of binary messages, as the format says: magic; kind, time, length, payload, CRC-32, numbers in little endian.
fn written(bytes: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut file = b"HSREC\0\0\x01".to_vec();
    let mut payloads = Vec::new();
    for payload in bytes.chunks(1 + usize::from(bytes.first().copied().unwrap_or(0))) {
        let mut record = vec![2];
        record.extend_from_slice(&(payloads.len() as u64).to_le_bytes());
        record.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        record.extend_from_slice(payload);
        let crc = crc32(&record);
        file.extend_from_slice(&record);
        file.extend_from_slice(&crc.to_le_bytes());
        payloads.push(payload.to_vec());
    }
    (file, payloads)
}

/// IEEE 802.3, bit by bit: nothing of the code that is looked at.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}
