//! The access key that an installation is born with.
//!
//! SigV4 needs the secret itself to verify a signature, so it is kept readable for the control
//! plane's own user and for root, and for nobody else.

use std::{fs, io, path::Path};

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::{ControlError, keyring};

/// An access key's id is 20 characters, as AWS's are: a prefix that tells what it is, and 16 of
/// base 32.
const ID_PREFIX: &str = "EKIA";
const ID_ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const ID_RANDOM_LEN: usize = 16;

/// A secret is 40 characters of base 62, as AWS's are nearly: 238 bits, and nothing in it that a
/// shell or a URL would change.
const SECRET_ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const SECRET_LEN: usize = 40;

/// An access key with its secret. Has no `Debug`, so that it cannot be logged.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct AdminKey {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
}

impl AdminKey {
    /// Reads the key at `path`, or makes one there, readable by its owner only.
    pub(crate) fn load_or_make(path: &Path) -> Result<Self, ControlError> {
        let error = |source| ControlError::AdminKey {
            path: path.display().to_string(),
            source,
        };
        match fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|e| error(e.into())),
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => Self::make(path).map_err(error),
            Err(other) => Err(error(other)),
        }
    }

    fn make(path: &Path) -> io::Result<Self> {
        let key = Self {
            access_key_id: format!("{ID_PREFIX}{}", draw(ID_ALPHABET, ID_RANDOM_LEN)),
            secret_access_key: draw(SECRET_ALPHABET, SECRET_LEN),
        };
        keyring::write_private(path, &serde_json::to_vec_pretty(&key)?)?;
        Ok(key)
    }
}

fn draw(alphabet: &[u8], len: usize) -> String {
    let mut rng = rand::rng();
    (0..len)
        .map(|_| char::from(alphabet[rng.random_range(0..alphabet.len())]))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("control/admin-key.json");
        let made = AdminKey::load_or_make(&path).expect("a key is made");
        let read = AdminKey::load_or_make(&path).expect("the key is read");
        assert!(made.access_key_id == read.access_key_id);
        assert!(made.secret_access_key == read.secret_access_key);
        assert_eq!(
            (made.access_key_id.len(), made.secret_access_key.len()),
            (20, 40)
        );
        let mode = fs::metadata(&path)
            .expect("the file is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
