//! The content of large bodies: known to both sides without being sent, and unlike any other.

use sha2::{Digest, Sha256};

/// Bytes of a large body.
pub(crate) const LARGE_BYTES: usize = 1 << 20;

/// One large body and its hash.
pub(crate) struct Payload {
    /// [`LARGE_BYTES`] of `SHA-256("ekiden" + counter)`, the counter in 8 bytes, big-endian.
    pub(crate) bytes: Vec<u8>,
    /// SHA-256 of it, as hexadecimal digits.
    pub(crate) hash: String,
}

impl Payload {
    pub(crate) fn new() -> Self {
        let mut bytes = Vec::with_capacity(LARGE_BYTES);
        for counter in 0_u64.. {
            if bytes.len() >= LARGE_BYTES {
                break;
            }
            let block = Sha256::new()
                .chain_update(b"ekiden")
                .chain_update(counter.to_be_bytes())
                .finalize();
            bytes.extend_from_slice(&block);
        }
        let hash = hex(&Sha256::digest(&bytes));
        Self { bytes, hash }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
