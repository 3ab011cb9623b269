//! The access key that an installation is born with, in a file that this host's root can read.
//!
//! The file is how the first client gets in, and how a lost installation is recovered: when it is
//! gone at a start, a new key is made.

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
    /// Reads the key at `path`, if there is one.
    pub(crate) fn load(path: &Path) -> Result<Option<Self>, ControlError> {
        let read = match fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(Into::into),
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(other) => Err(other),
        };
        read.map_err(|source| error(path, source))
    }

    /// Writes the key to `path`, readable by its owner only.
    pub(crate) fn write(&self, path: &Path) -> Result<(), ControlError> {
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::from);
        text.and_then(|text| keyring::write_private(path, &text))
            .map_err(|source| error(path, source))
    }

    /// A new key.
    pub(crate) fn draw() -> Self {
        Self {
            access_key_id: format!("{ID_PREFIX}{}", draw_id()),
            secret_access_key: draw(SECRET_ALPHABET, SECRET_LEN),
        }
    }
}

fn error(path: &Path, source: io::Error) -> ControlError {
    ControlError::AdminKey {
        path: path.display().to_string(),
        source,
    }
}

/// What follows the prefix of a key's id.
pub(super) fn draw_id() -> String {
    draw(ID_ALPHABET, ID_RANDOM_LEN)
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
    fn a_key_is_read_as_it_was_written_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control/admin-key.json");
        assert!(AdminKey::load(&path).unwrap().is_none());
        let made = AdminKey::draw();
        made.write(&path).unwrap();
        let read = AdminKey::load(&path).unwrap().unwrap();
        assert!(made.access_key_id == read.access_key_id);
        assert!(made.secret_access_key == read.secret_access_key);
        assert_eq!(
            (made.access_key_id.len(), made.secret_access_key.len()),
            (20, 40)
        );
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&path, "{").unwrap();
        assert!(AdminKey::load(&path).is_err());
    }
}
