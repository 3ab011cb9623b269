//! Certificates from authorities that speak ACME (RFC 8555).
//!
//! An order and the key of what is ordered are stored before anything follows from them, so that a
//! control plane that was killed goes on with the order it has, at whichever point it is, and does not
//! make another. An account is made once for each directory, and its key is sealed in the store.

use std::time::Duration;

use ekiden_model::{
    certificate::{Order as StoredOrder, Source, Wanted, renew_at, renew_within},
    route::{Challenge, PrivateKeyPem},
    time::Timestamp,
};
use ekiden_store::{
    StoreError,
    certificates::{StoredAttempts, StoredAuthority},
};
use instant_acme::{
    Account, AccountBuilder, AccountCredentials, AuthorizationStatus, CertificateIdentifier,
    ChallengeType, ExternalAccountKey, Identifier, NewAccount, NewOrder, Order, OrderStatus,
    RetryPolicy, RevocationRequest,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use zeroize::Zeroizing;

use super::{Certificates, Loaded, dns::DnsError, parse, text};
use crate::{AcmeConfig, ChallengeKind};

/// How long the edges may take to take in a challenge.
const CHALLENGE_WAIT: Duration = Duration::from_secs(30);

/// How an order's progress is asked for: ever more seldom, for so long.
const POLL: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(500))
    .backoff(1.5)
    .timeout(Duration::from_secs(90));

/// Why a certificate could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum AcmeError {
    #[error("the authority at `{directory}` failed")]
    Authority {
        directory: String,
        #[source]
        source: instant_acme::Error,
    },
    #[error(
        "`{0}` is a wildcard, which needs `acme.challenge = \"dns-01\"` and a name server that takes updates"
    )]
    Wildcard(String),
    #[error("the authority offers no {kind} challenge for `{name}`")]
    NotOffered { kind: &'static str, name: String },
    #[error("the authority did not accept the proof: {0}")]
    Refused(String),
    #[error("no edge took in the challenge within {} s; is the front door up?", CHALLENGE_WAIT.as_secs())]
    NoEdge,
    #[error("the record of the challenge could not be published")]
    Dns(#[from] DnsError),
    #[error("it was not done within {0} s")]
    TooLong(u64),
    #[error("the certificate that came cannot be used: {0}")]
    Unfit(String),
    #[error("a key or request could not be made")]
    Key(#[from] rcgen::Error),
    #[error("the store failed")]
    Store(#[from] StoreError),
    #[error("ACME is not configured any more")]
    NotConfigured,
}

impl ChallengeKind {
    fn name(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Dns01 => "dns-01",
        }
    }

    fn on_the_wire(self) -> ChallengeType {
        match self {
            Self::Http01 => ChallengeType::Http01,
            Self::TlsAlpn01 => ChallengeType::TlsAlpn01,
            Self::Dns01 => ChallengeType::Dns01,
        }
    }
}

/// A TXT record that proves a name.
#[derive(Debug, Clone)]
struct Record {
    name: String,
    value: String,
}

impl Certificates {
    /// Gets a certificate, with the order that is under way if there is one.
    pub(super) async fn obtain(
        &self,
        wanted: &Wanted,
        mut stored: StoredAttempts,
    ) -> Result<Loaded, AcmeError> {
        let acme = self.config.acme.as_ref().ok_or(AcmeError::NotConfigured)?;
        let wildcard = wanted.names.iter().find(|name| name.starts_with("*."));
        if let Some(wildcard) = wildcard
            && acme.dns.is_none()
        {
            return Err(AcmeError::Wildcard(wildcard.clone()));
        }
        let index = stored.attempts.authority(acme.directories.len());
        let directory = acme
            .directories
            .get(index)
            .ok_or(AcmeError::NotConfigured)?;
        let mut account = self.account(acme, directory).await?;
        let failed = |source| AcmeError::Authority {
            directory: directory.clone(),
            source,
        };
        let place = format!("certificate order/{}", wanted.key());
        let (mut order, key) = match self.under_way(&account, directory, &stored, &place).await {
            Some(found) => found,
            None => {
                let key = KeyPair::generate()?;
                let order = match self.new_order(&account, directory, wanted).await {
                    Err(error) if is_forgotten(&error) => {
                        tracing::warn!(
                            directory,
                            "the authority does not know the account any more; making another"
                        );
                        account = self.new_account(acme, directory).await?;
                        self.new_order(&account, directory, wanted).await
                    }
                    order => order,
                }
                .map_err(failed)?;
                stored.attempts.order = Some(StoredOrder {
                    directory: directory.clone(),
                    url: order.url().to_owned(),
                });
                let pem = Zeroizing::new(key.serialize_pem());
                stored.sealed = Some(self.keyring.seal(&place, pem.as_bytes()));
                self.store
                    .put_certificate_attempts(&wanted.key(), Some(&stored))
                    .await?;
                (order, key)
            }
        };
        if order.state().status == OrderStatus::Pending {
            self.prove(acme, &mut order, wanted, directory).await?;
        }
        if order.state().status == OrderStatus::Ready {
            let mut params = CertificateParams::new(wanted.names.clone())?;
            params.distinguished_name = DistinguishedName::new();
            let request = params.serialize_request(&key)?;
            order.finalize_csr(request.der()).await.map_err(failed)?;
        }
        let chain = order.poll_certificate(&POLL).await.map_err(failed)?;
        let parsed = parse::read(&chain).map_err(|error| AcmeError::Unfit(error.to_string()))?;
        let source = Source::Acme {
            directory: directory.clone(),
        };
        let mut certificate = parsed.certificate(source, wanted.on_demand);
        // So that what replaces it is found by its names, in whatever order the authority put them.
        certificate.names.clone_from(&wanted.names);
        let key = PrivateKeyPem(Zeroizing::new(key.serialize_pem()));
        Ok(Loaded {
            certificate,
            chain,
            key,
        })
    }

    /// Takes the challenges of one that is over away from the edges and the DNS.
    pub(super) async fn end_challenges(&self, key: &str) {
        let gone = {
            let mut challenges = self
                .challenges
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            challenges.remove(key)
        };
        if gone.is_some()
            && let Err(error) = self.publish().await
        {
            tracing::warn!(%error, "a challenge that is over is presented on for a while");
        }
    }

    /// Revokes a certificate.
    pub(super) async fn revoke_at(&self, directory: &str, chain: &str) -> Result<(), AcmeError> {
        let acme = self.config.acme.as_ref().ok_or(AcmeError::NotConfigured)?;
        let der = first(chain)?;
        let account = self.account(acme, directory).await?;
        let request = RevocationRequest {
            certificate: &der,
            reason: None,
        };
        account
            .revoke(&request)
            .await
            .map_err(|source| AcmeError::Authority {
                directory: directory.to_owned(),
                source,
            })
    }

    /// Asks when the authority would renew a certificate (RFC 9773), and keeps that.
    pub(super) async fn suggested(
        &self,
        directory: &str,
        mut loaded: Loaded,
    ) -> Result<(), AcmeError> {
        let acme = self.config.acme.as_ref().ok_or(AcmeError::NotConfigured)?;
        if !acme.directories.iter().any(|one| one == directory) {
            return Ok(());
        }
        let der = first(&loaded.chain)?;
        let id = CertificateIdentifier::try_from(&der).map_err(AcmeError::Unfit)?;
        let account = self.account(acme, directory).await?;
        let asked = account.renewal_info(&id).await;
        let (info, _) = asked.map_err(|source| AcmeError::Authority {
            directory: directory.to_owned(),
            source,
        })?;
        let window = info.suggested_window;
        let moment = |seconds: i64| {
            Timestamp::from_millis(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000))
        };
        let (start, end) = (
            moment(window.start.unix_timestamp()),
            moment(window.end.unix_timestamp()),
        );
        let certificate = &mut loaded.certificate;
        if (start..=end).contains(&certificate.renew_at) {
            return Ok(());
        }
        let (begin, over) = (certificate.not_before, certificate.not_after);
        let by_life = renew_at(begin, over, rand::random());
        certificate.renew_at = renew_within(start, end, by_life, rand::random());
        let still = |one: &Loaded| one.certificate.id == loaded.certificate.id;
        if self.there().iter().any(still) {
            self.keep_one(loaded, &[], None).await?;
        }
        Ok(())
    }

    /// The order that is under way, and its key, if it can still lead to something.
    async fn under_way(
        &self,
        account: &Account,
        directory: &str,
        stored: &StoredAttempts,
        place: &str,
    ) -> Option<(Order, KeyPair)> {
        let known = stored.attempts.order.as_ref()?;
        let sealed = stored.sealed.as_ref()?;
        let opened = self.keyring.open(place, sealed).ok()?;
        let key = KeyPair::from_pem(&text(&opened)?.0).ok()?;
        if known.directory != directory {
            return None;
        }
        let mut order = account.order(known.url.clone()).await.ok()?;
        (order.state().status != OrderStatus::Invalid).then_some((order, key))
    }

    /// A new order; it says which certificate it replaces if the authority wants to know.
    async fn new_order(
        &self,
        account: &Account,
        directory: &str,
        wanted: &Wanted,
    ) -> Result<Order, instant_acme::Error> {
        let identifiers: Vec<_> = wanted.names.iter().cloned().map(Identifier::Dns).collect();
        let from_here = |loaded: &&Loaded| {
            let certificate = &loaded.certificate;
            certificate.names == wanted.names
                && matches!(&certificate.source, Source::Acme { directory: of } if of == directory)
        };
        let there = self.there();
        let der = there
            .iter()
            .find(from_here)
            .and_then(|one| first(&one.chain).ok());
        let replaces = der
            .as_ref()
            .and_then(|der| CertificateIdentifier::try_from(der).ok());
        if let Some(replaces) = replaces {
            let order = NewOrder::new(&identifiers).replaces(replaces);
            // It may not know of that, or know of another order that did.
            if let Ok(order) = account.new_order(&order).await {
                return Ok(order);
            }
        }
        account.new_order(&NewOrder::new(&identifiers)).await
    }

    /// Proves the names of an order.
    async fn prove(
        &self,
        acme: &AcmeConfig,
        order: &mut Order,
        wanted: &Wanted,
        directory: &str,
    ) -> Result<(), AcmeError> {
        let mut records = Vec::new();
        let proved = self
            .prove_with(acme, order, wanted, directory, &mut records)
            .await;
        if let Some(dns) = &acme.dns {
            for record in &records {
                if let Err(error) = dns.remove(&record.name, &record.value).await {
                    tracing::warn!(name = record.name, %error, "the record of a challenge could not be removed");
                }
            }
        }
        proved
    }

    async fn prove_with(
        &self,
        acme: &AcmeConfig,
        order: &mut Order,
        wanted: &Wanted,
        directory: &str,
        records: &mut Vec<Record>,
    ) -> Result<(), AcmeError> {
        let failed = |source| AcmeError::Authority {
            directory: directory.to_owned(),
            source,
        };
        let kind = acme.challenge;
        let mut challenges = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(failed)?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let name = match authorization.identifier().identifier {
                Identifier::Dns(name) => name.clone(),
                other => return Err(AcmeError::Refused(format!("{other:?} is no host name"))),
            };
            let not_offered = || AcmeError::NotOffered {
                kind: kind.name(),
                name: name.clone(),
            };
            let challenge = authorization
                .challenge(kind.on_the_wire())
                .ok_or_else(not_offered)?;
            let proof = challenge.key_authorization();
            match kind {
                ChallengeKind::Http01 => challenges.push(Challenge::Http01 {
                    host: name.clone(),
                    token: challenge.token.clone(),
                    authorization: proof.as_str().to_owned(),
                }),
                ChallengeKind::TlsAlpn01 => {
                    challenges.push(tls_alpn(&name, proof.digest().as_ref())?);
                }
                ChallengeKind::Dns01 => records.push(Record {
                    name: format!("_acme-challenge.{name}"),
                    value: proof.dns_value(),
                }),
            }
        }
        if let Some(dns) = &acme.dns {
            for record in records.iter() {
                dns.add(&record.name, &record.value).await?;
            }
        }
        if !challenges.is_empty() {
            self.challenge(wanted, challenges).await?;
        }
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(failed)?;
            if authorization.status == AuthorizationStatus::Pending
                && let Some(mut challenge) = authorization.challenge(kind.on_the_wire())
            {
                challenge.set_ready().await.map_err(failed)?;
            }
        }
        match order.poll_ready(&POLL).await.map_err(failed)? {
            OrderStatus::Invalid => Err(AcmeError::Refused(refusal(order).await)),
            OrderStatus::Pending
            | OrderStatus::Ready
            | OrderStatus::Processing
            | OrderStatus::Valid => Ok(()),
        }
    }

    /// Brings challenges to the edges; they answer them when this is over.
    async fn challenge(
        &self,
        wanted: &Wanted,
        challenges: Vec<Challenge>,
    ) -> Result<(), AcmeError> {
        {
            let mut all = self
                .challenges
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            all.insert(wanted.key(), challenges);
        }
        self.publish().await?;
        let generation = *self.published.lock().await;
        match self.presented(generation, CHALLENGE_WAIT).await {
            true => Ok(()),
            false => Err(AcmeError::NoEdge),
        }
    }

    /// The account with an authority; made when there is none.
    async fn account(&self, acme: &AcmeConfig, directory: &str) -> Result<Account, AcmeError> {
        let failed = |source| AcmeError::Authority {
            directory: directory.to_owned(),
            source,
        };
        let place = account_place(directory);
        if let Some(stored) = self.store.certificate_authority(directory).await?
            && let Ok(opened) = self.keyring.open(&place, &stored.sealed)
            && let Ok(credentials) = serde_json::from_slice::<AccountCredentials>(&opened)
        {
            let builder = account_builder(acme).map_err(failed)?;
            return builder.from_credentials(credentials).await.map_err(failed);
        }
        self.new_account(acme, directory).await
    }

    /// Makes an account, in place of the one there may be.
    async fn new_account(&self, acme: &AcmeConfig, directory: &str) -> Result<Account, AcmeError> {
        let failed = |source| AcmeError::Authority {
            directory: directory.to_owned(),
            source,
        };
        let builder = account_builder(acme).map_err(failed)?;
        let place = account_place(directory);
        let contact = acme.email.as_ref().map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let account = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let binding = acme
            .external_account
            .as_ref()
            .map(|(id, key)| ExternalAccountKey::new(id.clone(), key));
        let (account, credentials) = builder
            .create(&account, directory.to_owned(), binding.as_ref())
            .await
            .map_err(failed)?;
        let text = serde_json::to_vec(&credentials)
            .map(Zeroizing::new)
            .map_err(|error| AcmeError::Unfit(error.to_string()))?;
        let stored = StoredAuthority {
            chain: String::new(),
            sealed: self.keyring.seal(&place, &text),
        };
        self.store
            .put_certificate_authority(directory, &stored)
            .await?;
        Ok(account)
    }
}

/// Under which name an account's key is sealed.
fn account_place(directory: &str) -> String {
    format!("acme account/{directory}")
}

fn account_builder(acme: &AcmeConfig) -> Result<AccountBuilder, instant_acme::Error> {
    match &acme.root {
        Some(root) => Account::builder_with_root(root),
        None => Account::builder(),
    }
}

/// Whether the authority has no such account (RFC 8555, section 6.7).
fn is_forgotten(error: &instant_acme::Error) -> bool {
    matches!(error, instant_acme::Error::Api(problem)
        if problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:accountDoesNotExist"))
}

/// The certificate that answers a TLS-ALPN challenge (RFC 8737, section 3).
fn tls_alpn(name: &str, digest: &[u8]) -> Result<Challenge, AcmeError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let chain = params.self_signed(&key)?.pem();
    Ok(Challenge::TlsAlpn01 {
        host: name.to_owned(),
        chain,
        key: PrivateKeyPem(Zeroizing::new(key.serialize_pem())),
    })
}

/// Why an order was refused, in the authority's words.
async fn refusal(order: &mut Order) -> String {
    let mut said = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(mut authorization) = authorization else {
            continue;
        };
        let Ok(state) = authorization.refresh().await else {
            continue;
        };
        let problems = state.challenges.iter().filter_map(|one| one.error.as_ref());
        said.extend(problems.map(ToString::to_string));
    }
    match said.is_empty() {
        true => "it did not say why".to_owned(),
        false => said.join("; "),
    }
}

fn first(chain: &str) -> Result<CertificateDer<'static>, AcmeError> {
    CertificateDer::from_pem_slice(chain.as_bytes())
        .map_err(|error| AcmeError::Unfit(error.to_string()))
}
