//! Who asks: access keys, sessions made from them, and whose signature a request bears.
//!
//! Verifying a signature needs the secret itself, so secrets are stored sealed with the
//! installation's key and kept opened in memory. A request is verified against a snapshot of all
//! keys and waits for nothing: what is stored is stored first and then replaces the snapshot whole.
//!
//! When a key was last used is noted in memory, and written down once a minute.

pub(crate) mod admin_key;
mod session;
mod signing_keys;

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use ekiden_aws::{
    epoch_seconds::EpochSeconds,
    error::ApiError,
    sigv4::{claim::Claim, credentials::SecretAccessKey},
};
use ekiden_model::{access::Role, time::Timestamp};
use ekiden_store::{
    Store, StoreError,
    access_keys::{AccessKey, AccessKeyFacts, LastUsed},
};
use http::request::Parts;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use zeroize::Zeroizing;

pub(crate) use self::session::{Issued, SessionName};
use self::{admin_key::AdminKey, signing_keys::SigningKeys};
use crate::{ControlError, clock, keyring::Keyring, worker::Chain};

/// How often it is written down when keys were last used.
const LAST_USED_INTERVAL: Duration = Duration::from_secs(60);

/// What AWS says of a key that nobody has, and of a session that is nobody's any more.
const UNKNOWN_KEY: &str = "The security token included in the request is invalid.";

/// The name that goes with passwords made for a while: ECR's.
pub(crate) const PASSWORD_USER: &str = "AWS";

/// Every access key, and who a request is from.
pub(crate) struct Identities {
    store: Arc<Store>,
    keyring: Arc<Keyring>,
    keys: RwLock<Arc<HashMap<String, Arc<Key>>>>,
    signing_keys: SigningKeys,
    /// Held while keys are changed, so that what a change depends on stays true until it is done.
    changing: tokio::sync::Mutex<()>,
}

/// An access key as it is used.
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) facts: AccessKeyFacts,
    /// Nothing when it was sealed with another installation's key: the key is good for nothing.
    secret: Option<SecretAccessKey>,
    sealed_secret: Vec<u8>,
    last_used: Mutex<Use>,
}

/// The last use of a key, and whether the store knows of it.
#[derive(Clone, Default)]
struct Use {
    last: Option<LastUsed>,
    stored: bool,
}

/// Whose signature a request bears.
#[derive(Clone)]
pub(crate) struct Identity {
    /// The key that signed, or the one whose session did. Its role counts in either case.
    pub(crate) key: Arc<Key>,
    /// The session that signed.
    pub(crate) session: Option<Session>,
    /// The region that the signature is for.
    pub(crate) region: String,
}

/// A session that signed a request.
#[derive(Clone)]
pub(crate) struct Session {
    /// Whom it calls itself.
    pub(crate) name: SessionName,
    /// When it is over.
    pub(crate) expires_at: Timestamp,
}

/// Why keys cannot be changed as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("there is no access key `{0}`")]
    Unknown(String),
    #[error("there may be {0} access keys, and as many there are")]
    TooMany(u64),
    #[error("it is the last admin's key that is active: nobody could undo this")]
    LastAdmin,
    #[error("the access keys cannot be stored")]
    Store(#[from] StoreError),
}

impl Identities {
    /// Takes over what is stored. A key whose secret does not open is of another installation and
    /// good for nothing; it stays listed, so that it can be deleted.
    pub(crate) async fn load(store: Arc<Store>, keyring: Arc<Keyring>) -> Result<Self, StoreError> {
        let stored = store.access_keys().await?;
        let keys = stored.into_iter().map(|key| {
            let key = Key::opened(key, &keyring);
            (key.id.clone(), Arc::new(key))
        });
        Ok(Self {
            keys: RwLock::new(Arc::new(keys.collect())),
            store,
            keyring,
            signing_keys: SigningKeys::default(),
            changing: tokio::sync::Mutex::default(),
        })
    }

    /// Sees to it that there is an admin's key and that the file at `path` has it. A file that is
    /// gone is made anew with a new key, which is how a lost installation is recovered; one that is
    /// there is only believed while no key is stored, so that a key that was deleted or disabled
    /// stays so.
    pub(crate) async fn install(&self, path: &Path) -> Result<(), ControlError> {
        let Some(admin) = AdminKey::load(path)? else {
            let admin = AdminKey::draw();
            // In this order: a file is never there without its key.
            self.put_admin(&admin, None).await?;
            return admin.write(path);
        };
        let keys = self.snapshot();
        match keys.get(&admin.access_key_id) {
            Some(known) if known.secret.is_some() => {}
            // Sealed with another installation's key, which is gone; the file has the secret.
            Some(known) => self.put_admin(&admin, Some(known.facts.clone())).await?,
            None if keys.is_empty() => self.put_admin(&admin, None).await?,
            None => warn!(
                key = %admin.access_key_id,
                path = %path.display(),
                "the access key in the file was deleted; remove the file and start again for a new one"
            ),
        }
        Ok(())
    }

    async fn put_admin(
        &self,
        admin: &AdminKey,
        facts: Option<AccessKeyFacts>,
    ) -> Result<(), StoreError> {
        let facts = facts.unwrap_or_else(|| AccessKeyFacts {
            role: Role::Admin,
            enabled: true,
            description: "made by this host".to_owned(),
            created_at: clock::now(),
        });
        self.put(&admin.access_key_id, &admin.secret_access_key, facts)
            .await?;
        Ok(())
    }

    /// Makes a key; answers it with its secret.
    pub(crate) async fn create(
        &self,
        role: Role,
        description: String,
        keys_max: u64,
    ) -> Result<(Arc<Key>, Zeroizing<String>), KeyError> {
        let _changing = self.changing.lock().await;
        if self.snapshot().len() as u64 >= keys_max {
            return Err(KeyError::TooMany(keys_max));
        }
        let drawn = AdminKey::draw();
        let secret = Zeroizing::new(drawn.secret_access_key.clone());
        let facts = AccessKeyFacts {
            role,
            enabled: true,
            description,
            created_at: clock::now(),
        };
        let key = self.put(&drawn.access_key_id, &secret, facts).await?;
        Ok((key, secret))
    }

    /// Every key, oldest first.
    pub(crate) fn list(&self) -> Vec<Arc<Key>> {
        let mut keys: Vec<_> = self.snapshot().values().cloned().collect();
        keys.sort_by(|one, other| {
            (one.facts.created_at, &one.id).cmp(&(other.facts.created_at, &other.id))
        });
        keys
    }

    /// Changes what is known of a key.
    pub(crate) async fn update(
        &self,
        id: &str,
        change: impl FnOnce(&mut AccessKeyFacts),
    ) -> Result<Arc<Key>, KeyError> {
        let _changing = self.changing.lock().await;
        let key = self.known(id)?;
        let mut facts = key.facts.clone();
        change(&mut facts);
        if !(facts.enabled && facts.role == Role::Admin) {
            self.check_not_last_admin(&key)?;
        }
        let stored = AccessKey {
            id: key.id.clone(),
            sealed_secret: key.sealed_secret.clone(),
            facts,
            last_used: None,
        };
        self.store.put_access_key(&stored).await?;
        let changed = Arc::new(Key {
            id: stored.id,
            facts: stored.facts,
            secret: key.secret.clone(),
            sealed_secret: stored.sealed_secret,
            last_used: Mutex::new(key.last_use()),
        });
        self.replace(|keys| drop(keys.insert(changed.id.clone(), Arc::clone(&changed))));
        Ok(changed)
    }

    /// Deletes a key, and with it all its sessions.
    pub(crate) async fn delete(&self, id: &str) -> Result<(), KeyError> {
        let _changing = self.changing.lock().await;
        let key = self.known(id)?;
        self.check_not_last_admin(&key)?;
        self.forget(id).await?;
        Ok(())
    }

    /// Who sent a request.
    pub(crate) fn identify(
        &self,
        claim: Claim,
        parts: &Parts,
        body: &[u8],
    ) -> Result<Identity, ApiError> {
        let now = clock::now();
        let unknown = || ApiError::unrecognized_client(UNKNOWN_KEY);
        let opened = claim
            .session_token()
            .map(|token| session::open(&self.keyring, claim.access_key_id(), token))
            .transpose()
            .map_err(|_| unknown())?;
        let key_id = opened
            .as_ref()
            .map_or(claim.access_key_id(), |session| &session.parent);
        let key = self.snapshot().get(key_id).cloned().ok_or_else(unknown)?;
        if !key.is_active() {
            return Err(unknown());
        }
        let secret = match &opened {
            Some(session) => Some(session.secret()),
            None => key.secret.clone(),
        };
        let secret = secret.ok_or_else(unknown)?;
        let entry = signing_keys::Entry::of(&claim);
        let signing_key = self
            .signing_keys
            .get(&entry)
            .unwrap_or_else(|| claim.signing_key(&secret));
        let identity = claim.verify(&signing_key, parts, body)?;
        // Only what was verified is kept: nobody else can push it out.
        self.signing_keys.keep(entry, signing_key);
        if opened
            .as_ref()
            .is_some_and(|session| session.expires_at <= now)
        {
            return Err(ApiError::expired_token(
                "The security token included in the request is expired",
            ));
        }
        Ok(Identity {
            key,
            session: opened.map(|session| Session {
                expires_at: session.expires_at,
                name: session.name,
            }),
            region: identity.region,
        })
    }

    /// Who logs in with a name and a password, as to a registry: the id and the secret of an access key,
    /// or `AWS` and what [`Self::password`] made.
    pub(crate) fn log_in(&self, name: &str, password: &str) -> Option<Identity> {
        let (key_id, session) = match name {
            PASSWORD_USER => {
                let (id, rest) = password.split_once('.')?;
                let (secret, token) = rest.split_once('.')?;
                let session = session::open(&self.keyring, id, token).ok()?;
                // Id and token travel with every signed request; the secret never does.
                if !session.secret().is(secret) || session.expires_at <= clock::now() {
                    return None;
                }
                (session.parent.clone(), Some(session))
            }
            id => (id.to_owned(), None),
        };
        let key = self.snapshot().get(&key_id).cloned()?;
        let opens = match (&session, &key.secret) {
            (Some(_), Some(_)) => true,
            (None, Some(secret)) => secret.is(password),
            (_, None) => false,
        };
        (key.is_active() && opens).then(|| Identity {
            key,
            session: session.map(|session| Session {
                expires_at: session.expires_at,
                name: session.name,
            }),
            region: String::new(),
        })
    }

    /// A password of [`PASSWORD_USER`] with an identity's own rights, and until when it is one.
    pub(crate) fn password(
        &self,
        of: &Identity,
        lasting: Duration,
    ) -> (Zeroizing<String>, Timestamp) {
        let name = match &of.session {
            Some(session) => session.name.clone(),
            None => SessionName::Own,
        };
        let issued = self.issue(of, name, lasting);
        let password = format!(
            "{}.{}.{}",
            issued.access_key_id, issued.secret_access_key, issued.session_token
        );
        (Zeroizing::new(password), issued.expires_at)
    }

    /// Notes that a key was used.
    pub(crate) fn note_use(key: &Key, source: &str) {
        let mut last_use = key.last_used.lock().unwrap_or_else(PoisonError::into_inner);
        let at = clock::now();
        match &mut last_use.last {
            Some(last) if last.source == source => last.at = at,
            last => {
                *last = Some(LastUsed {
                    at,
                    source: source.to_owned(),
                });
            }
        }
        last_use.stored = false;
    }

    /// Makes temporary credentials of an identity, with its own rights.
    pub(crate) fn issue(&self, of: &Identity, name: SessionName, lasting: Duration) -> Issued {
        let mut expires_at = clock::now().plus(lasting);
        if let Some(session) = &of.session {
            // Or a session could live for ever by making the next one.
            expires_at = expires_at.min(session.expires_at);
        }
        session::issue(&self.keyring, &of.key.id, name, expires_at)
    }

    /// Writes down when keys were last used, until told to stop, and then once more.
    pub(crate) async fn write_down_uses(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break, // cancel-safe: nothing is in flight here
                () = tokio::time::sleep(LAST_USED_INTERVAL) => {} // a timer
            }
            self.write_down().await;
        }
        self.write_down().await;
    }

    async fn write_down(&self) {
        let keys = self.snapshot();
        let unwritten = |key: &Arc<Key>| {
            let mut last_use = key.last_used.lock().unwrap_or_else(PoisonError::into_inner);
            let last = last_use.last.clone().filter(|_| !last_use.stored)?;
            last_use.stored = true;
            Some((key.id.clone(), last))
        };
        let uses: Vec<(String, LastUsed)> = keys.values().filter_map(unwritten).collect();
        if uses.is_empty() {
            return;
        }
        if let Err(error) = self.store.note_last_used(&uses).await {
            warn!(error = %Chain(&error), "it could not be stored when access keys were last used");
            for (id, _) in uses {
                if let Some(key) = keys.get(&id) {
                    let mut last_use = key.last_used.lock().unwrap_or_else(PoisonError::into_inner);
                    last_use.stored = false;
                }
            }
        }
    }

    async fn put(
        &self,
        id: &str,
        secret: &str,
        facts: AccessKeyFacts,
    ) -> Result<Arc<Key>, StoreError> {
        let stored = AccessKey {
            id: id.to_owned(),
            sealed_secret: self.keyring.seal(&place(id), secret.as_bytes()),
            facts,
            last_used: None,
        };
        self.store.put_access_key(&stored).await?;
        let key = Arc::new(Key::opened(stored, &self.keyring));
        self.replace(|keys| drop(keys.insert(key.id.clone(), Arc::clone(&key))));
        Ok(key)
    }

    async fn forget(&self, id: &str) -> Result<(), StoreError> {
        self.store.delete_access_key(id).await?;
        self.replace(|keys| drop(keys.remove(id)));
        Ok(())
    }

    fn known(&self, id: &str) -> Result<Arc<Key>, KeyError> {
        let known = self.snapshot().get(id).cloned();
        known.ok_or_else(|| KeyError::Unknown(id.chars().take(128).collect()))
    }

    fn check_not_last_admin(&self, key: &Key) -> Result<(), KeyError> {
        let is_active_admin = |key: &Key| key.is_active() && key.facts.role == Role::Admin;
        let another = self
            .snapshot()
            .values()
            .any(|other| other.id != key.id && is_active_admin(other));
        match is_active_admin(key) && !another {
            true => Err(KeyError::LastAdmin),
            false => Ok(()),
        }
    }

    fn snapshot(&self) -> Arc<HashMap<String, Arc<Key>>> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, change: impl FnOnce(&mut HashMap<String, Arc<Key>>)) {
        let mut keys = HashMap::clone(&self.snapshot());
        change(&mut keys);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        // A secret that was replaced, or is gone, must sign nothing any more.
        self.signing_keys.clear();
    }
}

impl Key {
    fn opened(stored: AccessKey, keyring: &Keyring) -> Self {
        let secret = open_secret(&stored, keyring);
        if secret.is_none() {
            warn!(key = %stored.id, "the secret of an access key does not open: it is inactive");
        }
        Self {
            id: stored.id,
            facts: stored.facts,
            secret,
            sealed_secret: stored.sealed_secret,
            last_used: Mutex::new(Use {
                last: stored.last_used,
                stored: true,
            }),
        }
    }

    /// Whether it may sign.
    pub(crate) fn is_active(&self) -> bool {
        self.facts.enabled && self.secret.is_some()
    }

    /// When it was last used, and where from.
    pub(crate) fn last_used(&self) -> Option<LastUsed> {
        self.last_use().last
    }

    fn last_use(&self) -> Use {
        self.last_used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Identity {
    /// Who that is, for policies and people.
    pub(crate) fn arn(&self, account: &str) -> String {
        match &self.session {
            Some(Session {
                name: SessionName::Role { role, session },
                ..
            }) => format!("arn:aws:sts::{account}:assumed-role/{role}/{session}"),
            Some(Session {
                name: SessionName::Own,
                ..
            })
            | None => format!("arn:aws:iam::{account}:user/ekiden/{}", self.key.id),
        }
    }

    /// The id that is never given to another.
    pub(crate) fn user_id(&self) -> String {
        match &self.session {
            Some(Session {
                name: SessionName::Role { session, .. },
                ..
            }) => format!("{}:{session}", self.key.id),
            Some(Session {
                name: SessionName::Own,
                ..
            })
            | None => self.key.id.clone(),
        }
    }
}

/// Where a key's secret belongs: it opens for no other key.
fn place(id: &str) -> String {
    format!("access-key/{id}")
}

fn open_secret(stored: &AccessKey, keyring: &Keyring) -> Option<SecretAccessKey> {
    let opened = keyring
        .open(&place(&stored.id), &stored.sealed_secret)
        .ok()?;
    let text = std::str::from_utf8(&opened).ok()?;
    Some(SecretAccessKey::new(text))
}

/// Now, as signatures have it.
pub(crate) fn now() -> EpochSeconds {
    EpochSeconds(clock::now().as_secs())
}

#[cfg(test)]
mod tests {
    use ekiden_aws::sigv4::{credentials::Credentials, signer::sign};
    use http::Request;

    use super::*;

    struct World {
        dir: tempfile::TempDir,
        identities: Identities,
    }

    impl World {
        async fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let identities = load(dir.path(), "key").await;
            Self { dir, identities }
        }

        fn identify(&self, credentials: &Credentials) -> Result<Identity, ApiError> {
            let mut parts = Request::post("/")
                .header("host", "localhost")
                .body(())
                .unwrap()
                .into_parts()
                .0;
            sign(
                &mut parts,
                b"",
                credentials,
                "us-east-1",
                "apprunner",
                now(),
            )
            .unwrap();
            let claim = Claim::read(&parts, "apprunner", now()).unwrap();
            self.identities.identify(claim, &parts, b"")
        }

        async fn key(&self) -> Credentials {
            let (key, secret) = self
                .identities
                .create(Role::Viewer, String::new(), 10)
                .await
                .unwrap();
            Credentials {
                access_key_id: key.id.clone(),
                secret_access_key: SecretAccessKey::new(secret.as_str()),
                session_token: None,
            }
        }

        fn session(&self, of: &Credentials, lasting: Duration) -> Credentials {
            let identity = self.identify(of).unwrap();
            let issued = self.identities.issue(&identity, SessionName::Own, lasting);
            Credentials {
                access_key_id: issued.access_key_id,
                secret_access_key: SecretAccessKey::new(issued.secret_access_key),
                session_token: Some(issued.session_token),
            }
        }
    }

    async fn load(dir: &Path, keyring: &str) -> Identities {
        let store = Arc::new(Store::open(&dir.join("ekiden.db")).await.unwrap());
        let keyring = Arc::new(Keyring::load_or_make(&dir.join(keyring)).unwrap());
        Identities::load(store, keyring).await.unwrap()
    }

    #[tokio::test]
    async fn session_that_is_over_says_so_to_its_owner_only() {
        let world = World::new().await;
        let key = world.key().await;
        let lasting = world.session(&key, Duration::from_secs(900));
        assert!(world.identify(&lasting).unwrap().session.is_some());
        let over = world.session(&key, Duration::ZERO);
        let refusal = world.identify(&over).err().unwrap();
        assert_eq!(refusal.code(), "ExpiredTokenException");
        let forged = Credentials {
            secret_access_key: SecretAccessKey::new("other"),
            ..over
        };
        let refusal = world.identify(&forged).err().unwrap();
        assert_eq!(refusal.code(), "InvalidSignatureException");
    }

    #[tokio::test]
    async fn key_of_another_installation_is_good_for_nothing_until_its_file_is_there() {
        let mut world = World::new().await;
        let path = world.dir.path().join("admin-key.json");
        world.identities.install(&path).await.unwrap();
        let admin = AdminKey::load(&path).unwrap().unwrap();
        let admin = Credentials {
            access_key_id: admin.access_key_id,
            secret_access_key: SecretAccessKey::new(admin.secret_access_key),
            session_token: None,
        };
        let other = world.key().await;
        assert!(world.identify(&admin).is_ok() && world.identify(&other).is_ok());

        world.identities = load(world.dir.path(), "another").await;
        let empty = Credentials {
            secret_access_key: SecretAccessKey::new(""),
            ..admin.clone()
        };
        for key in [&admin, &other, &empty] {
            let refusal = world.identify(key).err().unwrap();
            assert_eq!(refusal.code(), "UnrecognizedClientException");
        }
        world.identities.install(&path).await.unwrap();
        assert!(world.identify(&admin).is_ok());
        assert!(world.identify(&other).is_err());
    }

    #[tokio::test]
    async fn uses_are_written_down() {
        let world = World::new().await;
        let key = world.key().await;
        let identity = world.identify(&key).unwrap();
        Identities::note_use(&identity.key, "10.0.0.1");
        world.identities.write_down().await;
        let stored = world.identities.store.access_keys().await.unwrap();
        let last = stored[0].last_used.as_ref().unwrap();
        assert_eq!(last.source, "10.0.0.1");
    }
}
