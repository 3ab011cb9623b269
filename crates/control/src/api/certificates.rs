//! Ekiden's own operations about certificates.

use ekiden_aws::{
    error::ApiError,
    native::{
        Certificate as WireCertificate, CertificateRequest, CertificateResponse,
        DescribeCertificateAuthorityRequest, DescribeCertificateAuthorityResponse,
        ImportCertificateRequest, ListCertificatesRequest, ListCertificatesResponse,
        MissingCertificate,
    },
};
use ekiden_engine::Engine;
use ekiden_model::certificate::{Certificate, Source};

use super::{Api, store_error};
use crate::{
    certificates::{CertificateError, Missing, Shown},
    clock,
};

impl<E: Engine> Api<E> {
    pub(super) async fn describe_certificate_authority(
        &self,
        _request: DescribeCertificateAuthorityRequest,
    ) -> Result<DescribeCertificateAuthorityResponse, ApiError> {
        Ok(DescribeCertificateAuthorityResponse {
            certificate: self.certificates.authority().to_owned(),
        })
    }

    pub(super) async fn list_certificates(
        &self,
        _request: ListCertificatesRequest,
    ) -> Result<ListCertificatesResponse, ApiError> {
        let listed = self.certificates.list().await;
        let (mut shown, missing) = listed.map_err(|error| store_error(&error))?;
        shown.sort_by_key(|shown| (shown.certificate.not_after, shown.certificate.id));
        Ok(ListCertificatesResponse {
            certificates: shown.into_iter().map(wire_shown).collect(),
            missing: missing.into_iter().map(wire_missing).collect(),
            authority_warning: self.certificates.authority_warning().map(str::to_owned),
        })
    }

    pub(super) async fn import_certificate(
        &self,
        request: ImportCertificateRequest,
    ) -> Result<CertificateResponse, ApiError> {
        let key = zeroize::Zeroizing::new(request.private_key);
        let imported = self.certificates.import(&request.certificate_chain, &key);
        answer(imported.await)
    }

    pub(super) async fn remove_certificate(
        &self,
        request: CertificateRequest,
    ) -> Result<CertificateResponse, ApiError> {
        answer(self.certificates.remove(&request.certificate).await)
    }

    pub(super) async fn renew_certificate(
        &self,
        request: CertificateRequest,
    ) -> Result<CertificateResponse, ApiError> {
        answer(self.certificates.renew(&request.certificate).await)
    }

    pub(super) async fn revoke_certificate(
        &self,
        request: CertificateRequest,
    ) -> Result<CertificateResponse, ApiError> {
        answer(self.certificates.revoke(&request.certificate).await)
    }

    /// How many certificates somebody should look at, Ekiden's own authority included.
    pub(super) async fn certificate_warnings(&self) -> Result<u32, ApiError> {
        let listed = self.certificates.list().await;
        let (shown, missing) = listed.map_err(|error| store_error(&error))?;
        let told = shown.iter().filter(|shown| shown.warning.is_some()).count();
        let failed = missing.iter().filter(|one| one.failure.is_some()).count();
        let authority = usize::from(self.certificates.authority_warning().is_some());
        Ok((told + failed + authority) as u32)
    }
}

fn answer(done: Result<Certificate, CertificateError>) -> Result<CertificateResponse, ApiError> {
    match done {
        Ok(certificate) => Ok(CertificateResponse {
            certificate: wire(&certificate),
        }),
        Err(CertificateError::Store(error)) => Err(store_error(&error)),
        Err(error @ CertificateError::Unknown(_)) => {
            Err(ApiError::resource_not_found(sentence(&error)))
        }
        Err(error) => Err(ApiError::invalid_request(sentence(&error))),
    }
}

fn sentence(error: &CertificateError) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    format!("{}{}.", first.unwrap_or_default(), letters.as_str())
}

fn wire(certificate: &Certificate) -> WireCertificate {
    let (source, directory) = match &certificate.source {
        Source::Local => ("LOCAL", None),
        Source::Acme { directory } => ("ACME", Some(directory.clone())),
        Source::Imported => ("IMPORTED", None),
    };
    let renewed = certificate.source != Source::Imported;
    WireCertificate {
        certificate_id: certificate.id.to_string(),
        names: certificate.names.clone(),
        presented_for: Vec::new(),
        source: source.to_owned(),
        directory,
        serial: certificate.serial.clone(),
        not_before: certificate.not_before.as_secs(),
        not_after: certificate.not_after.as_secs(),
        renew_at: renewed.then(|| certificate.renew_at.as_secs()),
        revoked_at: certificate.revoked_at.map(|at| at.as_secs()),
        warning: certificate.warning(clock::now()),
        failure: None,
    }
}

fn wire_shown(shown: Shown) -> WireCertificate {
    WireCertificate {
        presented_for: shown.presented,
        warning: shown.warning,
        failure: shown.failure,
        ..wire(&shown.certificate)
    }
}

fn wire_missing(missing: Missing) -> MissingCertificate {
    MissingCertificate {
        names: missing.names,
        failure: missing.failure,
        next_attempt_at: missing.next_at.as_secs(),
    }
}
