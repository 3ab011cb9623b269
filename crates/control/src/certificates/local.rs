//! The installation's own authority: HTTPS without the internet, for whoever trusts it.
//!
//! A key on P-256 and a certificate of ten years, made once. The key is sealed in the store and
//! never leaves the control plane. It has no name constraints: it issues for custom domains too, whose names are
//! not known when it is made.

use std::time::Duration;

use ekiden_model::{route::PrivateKeyPem, time::Timestamp};
use ekiden_store::{Store, StoreError, certificates::StoredAuthority};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use x509_parser::time::ASN1Time;
use zeroize::Zeroizing;

use crate::{clock, keyring::Keyring};

/// Its name in the store, and where its key is sealed for.
const NAME: &str = "local";
const PLACE: &str = "certificate authority/local";

/// How long its own certificate lives.
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How long a certificate of it lives.
const LEAF_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

/// Lives begin so long ago, for clients whose clocks are slow.
const SKEW: Duration = Duration::from_secs(3600);

/// What to do when the authority's key is lost.
const KEY_LOST: &str = "the key of Ekiden's own authority does not open with this installation's \
    key, and no certificate can be issued: put the `installation.key` that belongs to the database \
    back into control's directory and restart, or import certificates of your own";

/// The local authority.
pub(super) struct LocalAuthority {
    chain: String,
    /// `None` if the one that is stored does not open.
    key: Option<PrivateKeyPem>,
}

/// Why it does not issue.
#[derive(Debug, thiserror::Error)]
pub(super) enum IssueError {
    #[error("{}", KEY_LOST)]
    KeyLost,
    #[error("the certificate cannot be made")]
    Make(#[from] rcgen::Error),
}

impl LocalAuthority {
    /// The one that is stored, or a new one if there is none. One whose key is lost is never
    /// replaced: clients trust it, and its key may come back.
    pub(super) async fn load_or_make(store: &Store, keyring: &Keyring) -> Result<Self, StoreError> {
        if let Some(stored) = store.certificate_authority(NAME).await? {
            let key = keyring.open(PLACE, &stored.sealed).ok();
            let key = key.and_then(|key| super::text(&key));
            if key.is_none() {
                tracing::error!("{KEY_LOST}");
            }
            let chain = stored.chain;
            return Ok(Self { chain, key });
        }
        let (chain, key) = make(clock::now()).map_err(corrupt)?;
        let stored = StoredAuthority {
            chain: chain.clone(),
            sealed: keyring.seal(PLACE, key.0.as_bytes()),
        };
        store.put_certificate_authority(NAME, &stored).await?;
        tracing::info!("made a local certificate authority; `ekiden ca` prints it");
        let key = Some(key);
        Ok(Self { chain, key })
    }

    /// A new one.
    #[cfg(test)]
    pub(super) fn made(now: Timestamp) -> Result<Self, rcgen::Error> {
        let (chain, key) = make(now)?;
        let key = Some(key);
        Ok(Self { chain, key })
    }

    /// What somebody should do about it, if it cannot issue.
    pub(super) fn warning(&self) -> Option<&'static str> {
        self.key.is_none().then_some(KEY_LOST)
    }

    /// Its certificate, in PEM.
    pub(super) fn chain(&self) -> &str {
        &self.chain
    }

    /// Issues a certificate; its chain leaves the authority itself out, which clients have.
    pub(super) fn issue(
        &self,
        names: &[String],
        now: Timestamp,
    ) -> Result<(String, PrivateKeyPem), IssueError> {
        let key = self.key.as_ref().ok_or(IssueError::KeyLost)?;
        let own = KeyPair::from_pem(&key.0)?;
        let issuer = Issuer::new(authority_params(&own), own);
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = DistinguishedName::new();
        // 64 characters is the most of a common name (RFC 5280, appendix A.1).
        if let Some(name) = names.first().filter(|name| name.len() <= 64) {
            params
                .distinguished_name
                .push(DnType::CommonName, name.as_str());
        }
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        set_life(&mut params, now, LEAF_LIFE);
        let chain = params.signed_by(&key, &issuer)?.pem();
        Ok((chain, PrivateKeyPem(Zeroizing::new(key.serialize_pem()))))
    }
}

fn make(now: Timestamp) -> Result<(String, PrivateKeyPem), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = authority_params(&key);
    set_life(&mut params, now, AUTHORITY_LIFE);
    let chain = params.self_signed(&key)?.pem();
    Ok((chain, PrivateKeyPem(Zeroizing::new(key.serialize_pem()))))
}

/// What its certificate says but its life; the name has a part of its key, so that two
/// installations' are told apart.
fn authority_params(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mark: String = params
        .key_identifier(key)
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Ekiden");
    name.push(DnType::CommonName, format!("Ekiden local authority {mark}"));
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn set_life(params: &mut CertificateParams, now: Timestamp, life: Duration) {
    let begin = (now.as_secs() as i64).saturating_sub(SKEW.as_secs() as i64);
    let end = now.plus(life).as_secs() as i64;
    if let (Ok(begin), Ok(end)) = (
        ASN1Time::from_timestamp(begin),
        ASN1Time::from_timestamp(end),
    ) {
        params.not_before = begin.to_datetime();
        params.not_after = end.to_datetime();
    }
}

fn corrupt(error: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt {
        table: "certificate_authorities",
        source: serde::de::Error::custom(error),
    }
}
