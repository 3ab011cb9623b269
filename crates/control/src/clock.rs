//! The one place where the control plane reads the clock and draws random numbers.

use std::time::{SystemTime, UNIX_EPOCH};

use ekiden_model::time::Timestamp;

/// Now.
pub(crate) fn now() -> Timestamp {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(since_epoch.as_millis() as u64)
}

/// Sixteen bytes that nobody can guess: a new id.
pub(crate) fn random_id() -> [u8; 16] {
    rand::random()
}

/// The same as 32 hexadecimal digits.
pub(crate) fn random_hex() -> String {
    random_id()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
