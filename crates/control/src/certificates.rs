//! Certificates: which are wanted, where they come from, and that the edges present them.
//!
//! Everything about them is in the store: the certificates, their keys (sealed with the
//! installation's key), how the attempts to get others went, the order that is under way. The keeper
//! ([`Certificates::keep`]) compares what is wanted with what is there and takes the next steps; it
//! is woken when something changed and looks again by itself, and a control plane that was killed
//! anywhere goes on by looking. What to do is decided in `ekiden_model::certificate`.
//!
//! Wanted are
//!
//! - the wildcards of the services' own host names, one for each region, from the local authority
//!   ([`local`]), or by ACME if that is configured;
//! - one for the names of each custom domain, from an ACME authority ([`acme`]), or from the local
//!   one when none is configured;
//! - one for each name that a client asked for, that leads to a service, and that matches a pattern
//!   of `acme.on_demand`.
//!
//! A certificate that its owner imported takes the place of any of them.

mod acme;
mod dns;
mod keeper;
mod local;
mod parse;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ekiden_model::{
    certificate::{Authority, Certificate, Source, Wanted, covers},
    id::CertificateId,
    route::{CertificateGeneration, Challenge, PrivateKeyPem},
    time::Timestamp,
};
use ekiden_store::{
    Store, StoreError,
    certificates::{StoredAttempts, StoredCertificate},
};
use tokio::sync::Notify;
use zeroize::Zeroizing;

pub use self::dns::DnsUpdates;
use self::local::LocalAuthority;
pub(crate) use self::parse::Unfit;
use crate::{CertificatesConfig, clock, edges::Edges, keyring::Keyring};

/// How long somebody waits for the edges before they look again.
const EDGE_WAIT: Duration = Duration::from_secs(1);

/// Imported certificates; more are refused.
const IMPORTED_MAX: usize = 10_000;

/// Every certificate of the installation.
pub(crate) struct Certificates {
    store: Arc<Store>,
    keyring: Arc<Keyring>,
    edges: Arc<Edges>,
    config: CertificatesConfig,
    /// The suffix of services' own host names.
    domain: String,
    local: LocalAuthority,
    there: Mutex<Vec<Loaded>>,
    /// What proves names at the moment, by the key of what is wanted.
    challenges: Mutex<BTreeMap<String, Vec<Challenge>>>,
    /// The generation published last; held while one is.
    published: tokio::sync::Mutex<CertificateGeneration>,
    /// Names that clients asked for, and when.
    asked_for: Mutex<HashMap<String, Timestamp>>,
    /// Told when something changed.
    changed: Notify,
}

/// A certificate with its key.
#[derive(Debug, Clone)]
struct Loaded {
    certificate: Certificate,
    chain: String,
    key: PrivateKeyPem,
}

/// What is shown of a certificate.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) certificate: Certificate,
    /// The names it is presented for.
    pub(crate) presented: Vec<String>,
    /// Why the last attempt to renew it failed.
    pub(crate) failure: Option<String>,
    /// What people should know.
    pub(crate) warning: Option<String>,
}

/// What is wanted, not there, and why not.
#[derive(Debug)]
pub(crate) struct Missing {
    pub(crate) names: Vec<String>,
    pub(crate) failure: Option<String>,
    /// When it is tried again.
    pub(crate) next_at: Timestamp,
}

/// Why something could not be done with a certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("there is no certificate {0}; `ekiden certificate ls` lists them")]
    Unknown(String),
    #[error("the certificate cannot be used: {0}")]
    Unfit(#[from] Unfit),
    #[error("there are {IMPORTED_MAX} imported certificates already")]
    Full,
    #[error("an imported certificate is renewed by importing another")]
    NotOurs,
    #[error("its authority does not revoke it: {0}")]
    Refused(String),
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl Certificates {
    /// Reads what there is; makes the local authority if there is none.
    pub(crate) async fn load(
        store: Arc<Store>,
        keyring: Arc<Keyring>,
        edges: Arc<Edges>,
        config: CertificatesConfig,
        domain: String,
    ) -> Result<Self, StoreError> {
        let local = LocalAuthority::load_or_make(&store, &keyring).await?;
        let mut there = Vec::new();
        for stored in store.certificates().await? {
            let id = stored.certificate.id;
            match keyring.open(&place(id), &stored.sealed) {
                Ok(key) => there.extend(text(&key).map(|key| Loaded {
                    certificate: stored.certificate,
                    chain: stored.chain,
                    key,
                })),
                Err(error) => {
                    tracing::error!(certificate = %id, %error, "a certificate's key is lost");
                }
            }
        }
        Ok(Self {
            store,
            keyring,
            edges,
            config,
            domain,
            local,
            there: Mutex::new(there),
            challenges: Mutex::default(),
            published: tokio::sync::Mutex::default(),
            asked_for: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// The local authority's certificate, in PEM.
    pub(crate) fn authority(&self) -> &str {
        self.local.chain()
    }

    /// What somebody should do about the local authority, if it cannot issue.
    pub(crate) fn authority_warning(&self) -> Option<&'static str> {
        self.local.warning()
    }

    /// Says that what is wanted may have changed.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Waits a moment until the edges present a certificate for every name, if one is wanted.
    ///
    /// # Errors
    /// What is waited for, as a sentence.
    pub(crate) async fn with_edges(&self, names: &[String]) -> Result<(), String> {
        let Some(wanted) = self.wanted_for(names.to_vec()) else {
            return Ok(());
        };
        let lives = |loaded: &Loaded| {
            clock::now() < loaded.certificate.not_after && wanted.met_by(&loaded.certificate)
        };
        if !self.there().iter().any(lives) {
            self.wake();
            let attempts = self
                .attempts(&wanted)
                .await
                .map_err(|error| error.to_string())?;
            return Err(match attempts.attempts.reason {
                Some(reason) => format!("its certificate; the last attempt failed: {reason}"),
                None => "its certificate".to_owned(),
            });
        }
        let generation = *self.published.lock().await;
        match self.presented(generation, EDGE_WAIT).await {
            true => Ok(()),
            false => Err("the edges to present its certificate".to_owned()),
        }
    }

    /// When the certificates end, by their names with commas; of several with the same names, the one that lasts longest.
    pub(crate) fn ends(&self) -> BTreeMap<String, Timestamp> {
        let mut ends = BTreeMap::<String, Timestamp>::new();
        let there = self.there.lock().unwrap_or_else(PoisonError::into_inner);
        for loaded in there.iter() {
            let end = ends.entry(loaded.certificate.names.join(",")).or_default();
            *end = loaded.certificate.not_after.max(*end);
        }
        ends
    }

    /// Every certificate, and every wanted one that is not there.
    pub(crate) async fn list(&self) -> Result<(Vec<Shown>, Vec<Missing>), StoreError> {
        let now = clock::now();
        let wanted = self.wanted().await?;
        let there = self.there();
        let attempts = self.store.certificate_attempts().await?;
        let failure = |key: &String| {
            attempts
                .get(key)
                .and_then(|one| one.attempts.reason.clone())
        };
        let mut presented = presented(&there, &wanted, now);
        let mut missing = Vec::new();
        let mut failures: HashMap<CertificateId, String> = HashMap::new();
        for one in wanted {
            let meets = |loaded: &&Loaded| one.met_by(&loaded.certificate);
            let newest = there
                .iter()
                .filter(meets)
                .max_by_key(|loaded| loaded.certificate.not_after);
            match newest {
                Some(newest) => {
                    failures.extend(failure(&one.key()).map(|why| (newest.certificate.id, why)));
                }
                None => {
                    let key = one.key();
                    missing.push(Missing {
                        names: one.names,
                        failure: failure(&key),
                        next_at: attempts
                            .get(&key)
                            .map(|one| one.attempts.next_at)
                            .unwrap_or(now),
                    });
                }
            }
        }
        let shown = there.into_iter().map(|loaded| Shown {
            presented: presented.remove(&loaded.certificate.id).unwrap_or_default(),
            failure: failures.remove(&loaded.certificate.id),
            warning: loaded.certificate.warning(now),
            certificate: loaded.certificate,
        });
        Ok((shown.collect(), missing))
    }

    /// Takes in a certificate that its owner brought.
    pub(crate) async fn import(
        &self,
        chain: &str,
        key: &str,
    ) -> Result<Certificate, CertificateError> {
        let now = clock::now();
        let parsed = parse::imported(chain, key, now)?;
        let there = self.there();
        let imported = |loaded: &&Loaded| loaded.certificate.source == Source::Imported;
        let same = |loaded: &&Loaded| loaded.certificate.names == parsed.names;
        let replaces: Vec<_> = there
            .iter()
            .filter(imported)
            .filter(same)
            .map(|loaded| loaded.certificate.id)
            .collect();
        if replaces.is_empty() && there.iter().filter(imported).count() >= IMPORTED_MAX {
            return Err(CertificateError::Full);
        }
        let certificate = parsed.certificate(Source::Imported, false);
        let loaded = Loaded {
            certificate: certificate.clone(),
            chain: chain.to_owned(),
            key: PrivateKeyPem(Zeroizing::new(key.to_owned())),
        };
        self.keep_one(loaded, &replaces, None).await?;
        // So that whoever is answered finds it presented; an edge that is away gets it later.
        let generation = *self.published.lock().await;
        self.presented(generation, EDGE_WAIT).await;
        Ok(certificate)
    }

    /// Forgets a certificate.
    pub(crate) async fn remove(&self, id: &str) -> Result<Certificate, CertificateError> {
        let loaded = self.find(id)?;
        self.store.remove_certificate(loaded.certificate.id).await?;
        self.change(|there| there.retain(|one| one.certificate.id != loaded.certificate.id));
        self.publish().await?;
        self.wake();
        Ok(loaded.certificate)
    }

    /// Has a certificate renewed now.
    pub(crate) async fn renew(&self, id: &str) -> Result<Certificate, CertificateError> {
        let mut loaded = self.find(id)?;
        if loaded.certificate.source == Source::Imported {
            return Err(CertificateError::NotOurs);
        }
        loaded.certificate.renew_at = clock::now();
        for wanted in self.wanted().await? {
            if wanted.met_by(&loaded.certificate) {
                let mut stored = self.attempts(&wanted).await?;
                stored.attempts.next_at = Timestamp::default();
                self.store
                    .put_certificate_attempts(&wanted.key(), Some(&stored))
                    .await?;
            }
        }
        let certificate = loaded.certificate.clone();
        self.keep_one(loaded, &[], None).await?;
        Ok(certificate)
    }

    /// Revokes a certificate; another is got in its place, and it is presented until that is there.
    pub(crate) async fn revoke(&self, id: &str) -> Result<Certificate, CertificateError> {
        let mut loaded = self.find(id)?;
        if let Source::Acme { directory } = &loaded.certificate.source {
            self.revoke_at(directory, &loaded.chain)
                .await
                .map_err(|error| CertificateError::Refused(error.to_string()))?;
        }
        loaded.certificate.revoked_at = Some(clock::now());
        let certificate = loaded.certificate.clone();
        self.keep_one(loaded, &[], None).await?;
        Ok(certificate)
    }

    /// What is wanted for names that lead to a service.
    fn wanted_for(&self, names: Vec<String>) -> Option<Wanted> {
        let authority = match (&self.config.acme, self.config.local_domains) {
            (_, _) if !self.config.listening => return None,
            (Some(_), _) => Authority::Acme,
            (None, true) => Authority::Local,
            (None, false) => return None,
        };
        if authority == Authority::Acme && names.iter().all(|name| self.only_on_demand(name)) {
            return None;
        }
        Some(Wanted {
            names,
            authority,
            on_demand: false,
        })
    }

    /// Whether a name is a wildcard that is served by certificates for single names.
    fn only_on_demand(&self, name: &str) -> bool {
        let acme = self.config.acme.as_ref();
        name.starts_with("*.")
            && acme.is_some_and(|acme| {
                acme.dns.is_none() && acme.on_demand.iter().any(|pattern| pattern == name)
            })
    }

    fn there(&self) -> Vec<Loaded> {
        let there = self.there.lock().unwrap_or_else(PoisonError::into_inner);
        there.clone()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Loaded>)) {
        change(&mut self.there.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// By its id, the beginning of its id if that is one's only, or a name in it.
    fn find(&self, text: &str) -> Result<Loaded, CertificateError> {
        let there = self.there();
        let mut found = there.iter().filter(|loaded| {
            let Certificate { id, names, .. } = &loaded.certificate;
            (text.len() >= 8 && id.to_string().starts_with(text)) || names.iter().any(|n| n == text)
        });
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one.clone()),
            _ => Err(CertificateError::Unknown(text.chars().take(300).collect())),
        }
    }

    /// Stores a certificate instead of others, and presents it.
    async fn keep_one(
        &self,
        loaded: Loaded,
        replaces: &[CertificateId],
        attempts: Option<&str>,
    ) -> Result<(), StoreError> {
        let id = loaded.certificate.id;
        let stored = StoredCertificate {
            certificate: loaded.certificate.clone(),
            chain: loaded.chain.clone(),
            sealed: self.keyring.seal(&place(id), loaded.key.0.as_bytes()),
        };
        self.store
            .put_certificate(&stored, replaces, attempts)
            .await?;
        self.change(|there| {
            there.retain(|one| one.certificate.id != id && !replaces.contains(&one.certificate.id));
            there.push(loaded);
        });
        self.publish().await?;
        self.wake();
        Ok(())
    }

    async fn attempts(&self, wanted: &Wanted) -> Result<StoredAttempts, StoreError> {
        let mut all = self.store.certificate_attempts().await?;
        Ok(all.remove(&wanted.key()).unwrap_or_default())
    }

    /// Waits until every edge presents a generation; answers whether that was in time.
    async fn presented(&self, generation: CertificateGeneration, limit: Duration) -> bool {
        let mut state = self.edges.state();
        let presents = state.wait_for(|state| state.presenting >= Some(generation));
        tokio::time::timeout(limit, presents).await.is_ok()
    }
}

/// The names each certificate is presented for.
fn presented(
    there: &[Loaded],
    wanted: &[Wanted],
    now: Timestamp,
) -> BTreeMap<CertificateId, Vec<String>> {
    let names = wanted
        .iter()
        .flat_map(|one| one.names.iter().cloned())
        .collect();
    let certificates = there.iter().map(|loaded| &loaded.certificate);
    ekiden_model::certificate::presented(certificates, &names, now)
}

/// Where a certificate's key is sealed for.
fn place(id: CertificateId) -> String {
    format!("certificate/{id}")
}

fn text(bytes: &[u8]) -> Option<PrivateKeyPem> {
    let text = std::str::from_utf8(bytes).ok()?;
    Some(PrivateKeyPem(Zeroizing::new(text.to_owned())))
}

/// Whether a name is one of the patterns, or one label below one.
fn matches(patterns: &[String], name: &str) -> bool {
    covers(patterns, name)
}
