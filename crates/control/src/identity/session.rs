//! Temporary credentials that nobody has to keep: all that is known of a session is in its token,
//! sealed with the installation's key for the session's own access key id.
//!
//! A token is therefore good with one access key id only, cannot be changed, and is worthless to
//! another installation. What may change about a session is looked up in its parent: a key that is
//! disabled or deleted takes its sessions along, and its role of today is theirs.

use base64::{Engine, engine::general_purpose::STANDARD};
use ekiden_aws::sigv4::credentials::SecretAccessKey;
use ekiden_model::time::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::admin_key;
use crate::keyring::Keyring;

/// Begins the id of temporary credentials.
const ID_PREFIX: &str = "ESIA";

/// Characters a token may have: the names in it are bounded, so no real one has more.
const TOKEN_LEN_MAX: usize = 1024;

/// Whom a session calls itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SessionName {
    /// As its parent: `GetSessionToken`.
    Own,
    /// As a session of a role: `AssumeRole`.
    Role { role: String, session: String },
}

/// New temporary credentials.
pub(crate) struct Issued {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) session_token: String,
    pub(crate) expires_at: Timestamp,
}

/// What a token holds.
#[derive(Serialize, Deserialize)]
pub(super) struct Opened {
    pub(super) parent: String,
    secret: String,
    pub(super) expires_at: Timestamp,
    pub(super) name: SessionName,
}

impl Opened {
    pub(super) fn secret(&self) -> SecretAccessKey {
        SecretAccessKey::new(self.secret.clone())
    }
}

/// A token is not one of ours, or not of this access key id.
#[derive(Debug)]
pub(super) struct NotOurs;

pub(super) fn issue(
    keyring: &Keyring,
    parent: &str,
    name: SessionName,
    expires_at: Timestamp,
) -> Issued {
    let drawn = admin_key::AdminKey::draw();
    let access_key_id = format!("{ID_PREFIX}{}", admin_key::draw_id());
    let opened = Opened {
        parent: parent.to_owned(),
        secret: drawn.secret_access_key,
        expires_at,
        name,
    };
    let text = Zeroizing::new(serde_json::to_vec(&opened).expect("text and numbers are JSON"));
    Issued {
        session_token: STANDARD.encode(keyring.seal(&place(&access_key_id), &text)),
        access_key_id,
        secret_access_key: opened.secret,
        expires_at,
    }
}

pub(super) fn open(keyring: &Keyring, access_key_id: &str, token: &str) -> Result<Opened, NotOurs> {
    if token.len() > TOKEN_LEN_MAX {
        return Err(NotOurs);
    }
    let sealed = STANDARD.decode(token).map_err(|_| NotOurs)?;
    let text = keyring
        .open(&place(access_key_id), &sealed)
        .map_err(|_| NotOurs)?;
    serde_json::from_slice(&text).map_err(|_| NotOurs)
}

fn place(access_key_id: &str) -> String {
    format!("session/{access_key_id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_opens_for_its_own_key_id_only_and_is_never_longer_than_may_be() {
        let dir = tempfile::tempdir().unwrap();
        let keyring = Keyring::load_or_make(&dir.path().join("key")).unwrap();
        let name = SessionName::Role {
            role: "r".repeat(64),
            session: "s".repeat(64),
        };
        let at = Timestamp::from_millis(u64::MAX);
        let issued = issue(&keyring, &"A".repeat(20), name.clone(), at);
        assert!(issued.session_token.len() <= TOKEN_LEN_MAX);
        let opened = open(&keyring, &issued.access_key_id, &issued.session_token).unwrap();
        assert_eq!((opened.name, opened.expires_at), (name, at));
        assert!(opened.secret == issued.secret_access_key);
        assert!(open(&keyring, "ESIAOTHER", &issued.session_token).is_err());
        for wrong in ["", "token", &issued.session_token[4..], &"A".repeat(2000)] {
            assert!(open(&keyring, &issued.access_key_id, wrong).is_err());
        }
    }
}
