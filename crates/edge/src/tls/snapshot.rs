//! The certificates an edge has, and the immutable snapshot of them that handshakes look into.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use ekiden_model::{
    id::CertificateId,
    route::{CertificateGeneration, Challenge, EdgeCertificate, Removed},
};
use fnv::FnvHashMap;
use rustls::{crypto::CryptoProvider, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// What handshakes look into.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    by_name: FnvHashMap<Box<str>, Arc<CertifiedKey>>,
    /// By the name one label above the names it is for.
    wildcards: FnvHashMap<Box<str>, Arc<CertifiedKey>>,
    /// For clients that name no host.
    pub(super) default: Option<Arc<CertifiedKey>>,
    /// By token: the host and the answer.
    http01: FnvHashMap<Box<str>, (Box<str>, Arc<str>)>,
    alpn01: FnvHashMap<Box<str>, Arc<CertifiedKey>>,
    on_demand: Vec<Box<str>>,
}

/// Everything control has sent, as the control thread keeps it.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    pub(crate) generation: CertificateGeneration,
    known: BTreeMap<CertificateId, Known>,
    default: Option<CertificateId>,
    challenges: Vec<Challenge>,
    on_demand: Vec<String>,
}

/// One certificate, and what presents it.
#[derive(Debug)]
struct Known {
    sent: EdgeCertificate,
    /// `None` if it cannot be used.
    usable: Option<Arc<CertifiedKey>>,
}

/// What changed, as the message has it.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) generation: CertificateGeneration,
    pub(crate) set: Vec<EdgeCertificate>,
    pub(crate) remove: Removed,
    pub(crate) default: Option<CertificateId>,
    pub(crate) challenges: Vec<Challenge>,
    pub(crate) on_demand: Vec<String>,
}

/// Why a certificate cannot be presented.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("not PEM")]
    Pem(#[from] rustls_pki_types::pem::Error),
    #[error("no key pair for TLS")]
    Key(#[from] rustls::Error),
}

impl Snapshot {
    /// The certificate for a name: its own, or that of the wildcard one label above it.
    pub(super) fn find(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let lower = lower(name);
        let found = self
            .by_name
            .get(&*lower)
            .or_else(|| self.wildcards.get(above(&lower)?));
        found.cloned()
    }

    /// Whether a certificate may be asked for.
    pub(super) fn on_demand(&self, name: &str) -> bool {
        let lower = lower(name);
        self.on_demand
            .iter()
            .any(|pattern| match pattern.strip_prefix("*.") {
                Some(parent) => above(&lower) == Some(parent),
                None => **pattern == *lower,
            })
    }

    pub(super) fn alpn01(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.alpn01.get(&*lower(name)).cloned()
    }

    pub(super) fn http01(&self, host: &[u8], token: &str) -> Option<Arc<str>> {
        let (of, authorization) = self.http01.get(token)?;
        let name = match host.iter().rposition(|byte| *byte == b':') {
            Some(colon) => &host[..colon],
            None => host,
        };
        name.eq_ignore_ascii_case(of.as_bytes())
            .then(|| Arc::clone(authorization))
    }
}

impl Certificates {
    /// Takes in a change. What is not PEM, or no pair, is kept as unusable and said so.
    pub(crate) fn apply(&mut self, change: Change, provider: &CryptoProvider) {
        self.generation = change.generation;
        match change.remove {
            Removed::These(ids) => {
                for id in ids {
                    self.known.remove(&id);
                }
            }
            Removed::AllBut(ids) => {
                let keep: HashSet<_> = ids.into_iter().collect();
                self.known.retain(|id, _| keep.contains(id));
            }
        }
        for sent in change.set {
            let usable = match pair(&sent.chain, &sent.key.0, provider) {
                Ok(pair) => Some(Arc::new(pair)),
                Err(error) => {
                    tracing::error!(certificate = %sent.id, names = ?sent.names, %error,
                        "a certificate cannot be used");
                    None
                }
            };
            self.known.insert(sent.id, Known { sent, usable });
        }
        self.default = change.default;
        self.challenges = change.challenges;
        self.on_demand = change.on_demand;
    }

    /// For the workers.
    pub(crate) fn snapshot(&self, provider: &CryptoProvider) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for Known { sent, usable } in self.known.values() {
            let Some(usable) = usable else { continue };
            for name in &sent.names {
                match name.strip_prefix("*.") {
                    Some(above) => snapshot.wildcards.insert(above.into(), Arc::clone(usable)),
                    None => snapshot
                        .by_name
                        .insert(name.as_str().into(), Arc::clone(usable)),
                };
            }
        }
        snapshot.default = self
            .default
            .and_then(|id| self.known.get(&id)?.usable.clone());
        for challenge in &self.challenges {
            match challenge {
                Challenge::Http01 {
                    host,
                    token,
                    authorization,
                } => {
                    let answer = (host.as_str().into(), authorization.as_str().into());
                    snapshot.http01.insert(token.as_str().into(), answer);
                }
                Challenge::TlsAlpn01 { host, chain, key } => {
                    match unchecked(chain, &key.0, provider) {
                        Ok(pair) => {
                            snapshot.alpn01.insert(host.as_str().into(), Arc::new(pair));
                        }
                        Err(error) => {
                            tracing::error!(%host, %error, "a challenge's certificate cannot be used");
                        }
                    }
                }
            }
        }
        snapshot.on_demand = self
            .on_demand
            .iter()
            .map(|name| name.as_str().into())
            .collect();
        snapshot
    }

    /// Those that cannot be used.
    pub(crate) fn unusable(&self) -> Vec<CertificateId> {
        let unusable = |known: &&Known| known.usable.is_none();
        self.known
            .values()
            .filter(unusable)
            .map(|known| known.sent.id)
            .collect()
    }

    /// What must be there before control has spoken: everything but the challenges.
    pub(crate) fn lasting(&self) -> (Vec<&EdgeCertificate>, Option<CertificateId>, &[String]) {
        let sent = self.known.values().map(|known| &known.sent).collect();
        (sent, self.default, &self.on_demand)
    }
}

/// A certificate with its key, if they belong together.
fn pair(chain: &str, key: &str, provider: &CryptoProvider) -> Result<CertifiedKey, Unusable> {
    let pair = unchecked(chain, key, provider)?;
    pair.keys_match()?;
    Ok(pair)
}

/// As [`pair`], of a challenge: its critical extension (RFC 8737, section 3) is one that the check
/// does not know and so refuses.
fn unchecked(chain: &str, key: &str, provider: &CryptoProvider) -> Result<CertifiedKey, Unusable> {
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
    let key = provider.key_provider.load_private_key(key)?;
    Ok(CertifiedKey::new(chain, key))
}

fn lower(name: &str) -> std::borrow::Cow<'_, str> {
    match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => name.to_ascii_lowercase().into(),
        false => name.into(),
    }
}

/// `a.example.com` is covered by `*.example.com` (RFC 6125, section 6.4.3).
fn above(name: &str) -> Option<&str> {
    name.split_once('.').map(|(_, above)| above)
}
