//! Reading certificates, and the checks of those that people bring.

use ekiden_model::{
    certificate::{Certificate, Source, renew_at},
    id::CertificateId,
    time::Timestamp,
};
use rustls::{crypto::aws_lc_rs, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::{extensions::GeneralName, prelude::*};

use crate::clock;

/// The longest chain of certificates, in bytes of PEM.
const CHAIN_BYTES_MAX: usize = 64 * 1024;

/// Names in one certificate.
const NAMES_MAX: usize = 100;

/// Why a certificate cannot be used, as a sentence that says what would be right.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Unfit {
    #[error("it is longer than {CHAIN_BYTES_MAX} bytes; give its own chain only")]
    TooLong,
    #[error("the certificate is not PEM: expected one `BEGIN CERTIFICATE` block or more")]
    NotPem,
    #[error("certificate {0} of the chain cannot be read")]
    Unreadable(usize),
    #[error("the key is not an unencrypted private key in PEM (PKCS #8, SEC 1 or PKCS #1)")]
    BadKey,
    #[error(
        "the key does not belong to the first certificate of the chain; the site's own has to come first"
    )]
    OtherKey,
    #[error("the chain is out of order: certificate {0} was not issued by the one after it")]
    Order(usize),
    #[error(
        "the certificate names no host: it needs DNS names in `subjectAltName`, 1 to {NAMES_MAX}"
    )]
    NoNames,
    #[error("the certificate has expired")]
    Expired,
    #[error("the certificate is not valid yet; is this host's clock right?")]
    NotYet,
}

/// What is read of a certificate.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) names: Vec<String>,
    pub(super) serial: String,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

impl Parsed {
    /// As it is recorded, under a new id.
    pub(super) fn certificate(self, source: Source, on_demand: bool) -> Certificate {
        Certificate {
            id: CertificateId::from_bytes(clock::random_id()),
            names: self.names,
            source,
            serial: self.serial,
            not_before: self.not_before,
            not_after: self.not_after,
            renew_at: renew_at(self.not_before, self.not_after, rand::random()),
            revoked_at: None,
            on_demand,
        }
    }
}

/// Reads the first certificate of a chain.
pub(super) fn read(chain: &str) -> Result<Parsed, Unfit> {
    if chain.len() > CHAIN_BYTES_MAX {
        return Err(Unfit::TooLong);
    }
    let first = CertificateDer::from_pem_slice(chain.as_bytes()).map_err(|_| Unfit::NotPem)?;
    let (_, certificate) = parse_x509_certificate(&first).map_err(|_| Unfit::Unreadable(1))?;
    let mut names: Vec<String> = certificate
        .subject_alternative_name()
        .ok()
        .flatten()
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None, // the crate's enum, with every kind of name there is
        })
        .collect();
    names.dedup();
    if names.is_empty() || names.len() > NAMES_MAX {
        return Err(Unfit::NoNames);
    }
    let validity = certificate.validity();
    let moment = |time: &ASN1Time| {
        Timestamp::from_millis(
            u64::try_from(time.timestamp())
                .unwrap_or(0)
                .saturating_mul(1000),
        )
    };
    Ok(Parsed {
        names,
        serial: certificate.raw_serial_as_string().replace(':', ""),
        not_before: moment(&validity.not_before),
        not_after: moment(&validity.not_after),
    })
}

/// Reads and checks what somebody brought.
pub(super) fn imported(chain: &str, key: &str, now: Timestamp) -> Result<Parsed, Unfit> {
    let parsed = read(chain)?;
    let certificates = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| Unfit::NotPem)?;
    let mut issuer_before: Option<Vec<u8>> = None;
    for (index, der) in certificates.iter().enumerate() {
        let (_, one) = parse_x509_certificate(der).map_err(|_| Unfit::Unreadable(index + 1))?;
        if issuer_before.is_some_and(|issuer| issuer != one.subject().as_raw()) {
            return Err(Unfit::Order(index));
        }
        issuer_before = Some(one.issuer().as_raw().to_vec());
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| Unfit::BadKey)?;
    let signing = aws_lc_rs::sign::any_supported_type(&key).map_err(|_| Unfit::BadKey)?;
    CertifiedKey::new(certificates, signing)
        .keys_match()
        .map_err(|_| Unfit::OtherKey)?;
    if parsed.not_after <= now {
        return Err(Unfit::Expired);
    }
    if parsed.not_before > now {
        return Err(Unfit::NotYet);
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::super::local::LocalAuthority;
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_people_bring_is_checked() {
        let now = clock::now();
        let authority = LocalAuthority::made(now).unwrap();
        let (chain, key) = authority
            .issue(&names(&["a.test", "*.b.test"]), now)
            .unwrap();
        let (other, other_key) = authority.issue(&names(&["a.test"]), now).unwrap();
        let ca = authority.chain();
        let good = imported(&chain, &key.0, now).unwrap();
        assert_eq!(good.names, ["a.test", "*.b.test"]);
        let check = |chain: &str, key: &str, at: Timestamp, want: Unfit| {
            assert_eq!(imported(chain, key, at).unwrap_err(), want);
        };
        let later = now.plus(std::time::Duration::from_secs(91 * 24 * 3600));
        check("", &key.0, now, Unfit::NotPem);
        check(&chain, "", now, Unfit::BadKey);
        check(&chain, &other_key.0, now, Unfit::OtherKey);
        check(&format!("{ca}{chain}"), &key.0, now, Unfit::NoNames);
        check(&format!("{chain}{other}"), &key.0, now, Unfit::Order(1));
        check(&chain, &key.0, later, Unfit::Expired);
        check(&chain, &key.0, Timestamp::from_millis(0), Unfit::NotYet);
        check(
            &"x".repeat(CHAIN_BYTES_MAX + 1),
            &key.0,
            now,
            Unfit::TooLong,
        );
        assert!(imported(&format!("{chain}{ca}"), &key.0, now).is_ok());
    }
}
