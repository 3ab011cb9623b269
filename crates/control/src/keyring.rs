//! The installation's own key: what must not be readable in a stolen database is sealed with it.
//!
//! The key is 32 random bytes in a file of its own beside the database, readable by the control
//! plane's user and by root and nobody else; a database that was copied without it tells no secret.
//! Two keys are derived from it (HKDF-SHA256, RFC 5869), one to seal values and one to sign what is
//! handed to clients and must come back unchanged, so that neither use can be turned into the other.
//!
//! A sealed value is an envelope: a data key drawn for this value alone, wrapped by the derived key,
//! and the value under the data key; both with AES-256-GCM and the same additional data, which names
//! the place the value belongs to. A sealed value that was moved to another place does not open.

use std::{
    fmt, fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf, hmac,
};
use zeroize::Zeroizing;

/// Bytes of every key here.
const KEY_LEN: usize = 32;

/// Bytes that AES-GCM adds to what it seals.
const TAG_LEN: usize = 16;

/// The first byte of a sealed value: how it was sealed.
const VERSION: u8 = 1;

/// Bytes that a value grows by when it is sealed: version, wrapped data key, and the value's own.
const OVERHEAD: usize = 1 + NONCE_LEN + KEY_LEN + TAG_LEN + NONCE_LEN + TAG_LEN;

/// A sealed value does not open: it was sealed with another key or for another place, or damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sealed value does not open with this installation's key")]
pub(crate) struct DoesNotOpen;

/// Seals and signs with the installation's key.
pub(crate) struct Keyring {
    sealing: LessSafeKey,
    signing: hmac::Key,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring")
    }
}

impl Keyring {
    /// Reads the key at `path`, or makes one there, readable by its owner only.
    ///
    /// # Errors
    /// The file cannot be read or made, or does not hold a key. A key that is there but damaged is
    /// never replaced: what it sealed would be lost.
    pub(crate) fn load_or_make(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(bytes) => {
                let key: Zeroizing<Vec<u8>> = Zeroizing::new(bytes);
                <&[u8; KEY_LEN]>::try_from(key.as_slice())
                    .map(Self::new)
                    .map_err(|_| {
                        io::Error::new(
                            io::ErrorKind::InvalidData,
                            format!("it must be {KEY_LEN} bytes, and has {}", key.len()),
                        )
                    })
            }
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => {
                let key: Zeroizing<[u8; KEY_LEN]> = Zeroizing::new(rand::random());
                write_private(path, key.as_slice())?;
                Ok(Self::new(&key))
            }
            Err(other) => Err(other),
        }
    }

    fn new(key: &[u8; KEY_LEN]) -> Self {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"ekiden").extract(key);
        Self {
            sealing: aead_key(&derived(&root, b"seal")),
            signing: hmac::Key::new(hmac::HMAC_SHA256, derived(&root, b"sign").as_slice()),
        }
    }

    /// Seals `value` for `place`, a name that says where it is kept, such as `secret/<id>/<version>`.
    pub(crate) fn seal(&self, place: &str, value: &[u8]) -> Vec<u8> {
        let data_key: Zeroizing<[u8; KEY_LEN]> = Zeroizing::new(rand::random());
        let mut sealed = Vec::with_capacity(value.len() + OVERHEAD);
        sealed.push(VERSION);
        append_sealed(&self.sealing, place, data_key.as_slice(), &mut sealed);
        append_sealed(&aead_key(&data_key), place, value, &mut sealed);
        sealed
    }

    /// Opens what [`Keyring::seal`] sealed for the same place.
    ///
    /// # Errors
    /// [`DoesNotOpen`].
    pub(crate) fn open(
        &self,
        place: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, DoesNotOpen> {
        let rest = sealed
            .split_first()
            .filter(|(version, _)| **version == VERSION)
            .map(|(_, rest)| rest)
            .ok_or(DoesNotOpen)?;
        let (wrapped, rest) = rest
            .split_at_checked(NONCE_LEN + KEY_LEN + TAG_LEN)
            .ok_or(DoesNotOpen)?;
        let data_key = opened(&self.sealing, place, wrapped)?;
        let data_key: &[u8; KEY_LEN] = data_key.as_slice().try_into().map_err(|_| DoesNotOpen)?;
        opened(&aead_key(data_key), place, rest)
    }

    /// Signs `data` for one purpose; 32 bytes.
    pub(crate) fn sign(&self, purpose: &str, data: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.signing);
        // The length keeps a purpose and its data from being read as another purpose's.
        context.update(&(purpose.len() as u64).to_be_bytes());
        context.update(purpose.as_bytes());
        context.update(data);
        let mut signature = [0; 32];
        signature.copy_from_slice(context.sign().as_ref());
        signature
    }
}

/// Writes a file that only its owner can read, whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    let temporary = path.with_extension("tmp");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    fs::File::open(dir)?.sync_all()
}

/// The length of a derived key, as HKDF wants to be told it.
struct KeyLen;

impl hkdf::KeyType for KeyLen {
    fn len(&self) -> usize {
        KEY_LEN
    }
}

fn derived(root: &hkdf::Prk, use_of_it: &[u8]) -> Zeroizing<[u8; KEY_LEN]> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    root.expand(&[use_of_it], KeyLen)
        .and_then(|material| material.fill(key.as_mut_slice()))
        .expect("32 bytes are within what HKDF-SHA256 can make");
    key
}

fn aead_key(key: &[u8; KEY_LEN]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes 32 bytes"))
}

/// Appends a fresh nonce, the sealed bytes and their tag. A nonce is random: each derived key seals
/// data keys only, far fewer than the 2^32 that random nonces allow (NIST SP 800-38D, 8.3).
fn append_sealed(key: &LessSafeKey, place: &str, bytes: &[u8], to: &mut Vec<u8>) {
    let nonce: [u8; NONCE_LEN] = rand::random();
    to.extend_from_slice(&nonce);
    let from = to.len();
    to.extend_from_slice(bytes);
    let tag = key
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(place.as_bytes()),
            &mut to[from..],
        )
        .expect("values are far below AES-GCM's bound of 64 GiB");
    to.extend_from_slice(tag.as_ref());
}

fn opened(
    key: &LessSafeKey,
    place: &str,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, DoesNotOpen> {
    let (nonce, rest) = sealed.split_at_checked(NONCE_LEN).ok_or(DoesNotOpen)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| DoesNotOpen)?;
    let mut bytes = Zeroizing::new(rest.to_vec());
    let len = key
        .open_in_place(nonce, Aad::from(place.as_bytes()), &mut bytes)
        .map_err(|_| DoesNotOpen)?
        .len();
    bytes.truncate(len);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn keyring(byte: u8) -> Keyring {
        Keyring::new(&[byte; KEY_LEN])
    }

    #[test]
    fn what_was_sealed_opens_in_its_place_only() {
        let keys = keyring(1);
        for value in [&b""[..], b"a secret", &[7; 70_000]] {
            let sealed = keys.seal("here", value);
            assert_eq!(sealed.len(), value.len() + OVERHEAD);
            assert_eq!(keys.open("here", &sealed).unwrap().as_slice(), value);
            assert_eq!(keys.open("there", &sealed), Err(DoesNotOpen));
            assert_eq!(keyring(2).open("here", &sealed), Err(DoesNotOpen));
        }
        assert_ne!(keys.seal("here", b"x"), keys.seal("here", b"x"));
    }

    #[test]
    fn a_sealed_value_that_was_changed_or_cut_does_not_open() {
        let keys = keyring(1);
        let sealed = keys.seal("here", b"value");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(keys.open("here", &changed), Err(DoesNotOpen), "{at}");
            assert_eq!(keys.open("here", &sealed[..at]), Err(DoesNotOpen), "{at}");
        }
    }

    #[test]
    fn a_signature_is_for_its_purpose_and_key() {
        let keys = keyring(1);
        let signature = keys.sign("page", b"data");
        assert_eq!(signature, keys.sign("page", b"data"));
        assert_ne!(signature, keys.sign("pag", b"edata"));
        assert_ne!(signature, keyring(2).sign("page", b"data"));
    }

    #[test]
    fn the_key_is_made_once_is_private_and_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control/installation.key");
        let made = Keyring::load_or_make(&path).unwrap();
        let read = Keyring::load_or_make(&path).unwrap();
        let sealed = made.seal("here", b"value");
        assert_eq!(read.open("here", &sealed).unwrap().as_slice(), b"value");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&path, b"short").unwrap();
        assert!(Keyring::load_or_make(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"short");
    }
}
