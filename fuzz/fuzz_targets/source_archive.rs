//! An uploaded archive: whatever it is, it becomes a snapshot within the bounds, or nothing at all.

#![no_main]

use ekiden_source::{
    snapshot::{Kind, Limits, SnapshotFiles},
    upload::{Manifest, assemble},
};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits {
    bytes_max: 1 << 20,
    entries_max: 200,
    path_bytes_max: 256,
    file_bytes_max: 1 << 18,
};

fuzz_target!(|data: &[u8]| {
    let dir = tempfile::tempdir().expect("a directory");
    let into = dir.path().join("tar");
    // As it is; and as a tar file in a good frame, and as a manifest, which a fuzzer would hardly write.
    let framed = zstd::encode_all(data, 1).expect("memory");
    for archive in [data, &framed, &manifest_only(data)] {
        let Ok(snapshot) = assemble(archive, None, &into, LIMITS) else {
            assert!(!into.exists());
            continue;
        };
        assert!(snapshot.bytes <= LIMITS.bytes_max);
        assert!(snapshot.entries.len() < LIMITS.entries_max);
        let files = SnapshotFiles::open(snapshot.clone(), &into).expect("a snapshot");
        for entry in &snapshot.entries {
            assert!(
                !entry
                    .path
                    .split('/')
                    .any(|part| matches!(part, "" | "." | ".."))
            );
            if let Kind::File { bytes, .. } = entry.kind {
                let content = files.read(&entry.path, bytes).expect("good content");
                assert_eq!(content.expect("a file").len() as u64, bytes);
            }
        }
        let again = dir.path().join("again");
        let written = files.write(&again, LIMITS).expect("the same snapshot");
        assert_eq!(written, snapshot);
        std::fs::remove_file(&into).expect("a file");
    }
    if let Ok(manifest) = Manifest::read(data, &LIMITS) {
        assert_eq!(
            Manifest::read(&manifest.to_json(), &LIMITS).ok(),
            Some(manifest)
        );
    }
});

/// An archive whose manifest is the data, and which has no content.
fn manifest_only(data: &[u8]) -> Vec<u8> {
    let mut header = [0; 512];
    let mut put = |at: usize, field: &[u8]| header[at..at + field.len()].copy_from_slice(field);
    put(0, b"manifest.json");
    put(124, format!("{:011o}\0", data.len()).as_bytes());
    put(148, b"        ");
    put(156, b"0");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut tar = [&header, data].concat();
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    zstd::encode_all(&tar[..], 1).expect("memory")
}
