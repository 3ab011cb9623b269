//! TLS towards receivers.

use std::{path::Path, sync::Arc};

use hyper_rustls::ConfigBuilderExt;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::target::ConfigError;

/// Certificates that a file of authorities may have.
const AUTHORITIES_MAX: usize = 1000;

/// Trusts the authorities in `ca_file`, or else the host's.
pub(crate) fn config(ca_file: Option<&Path>) -> Result<ClientConfig, ConfigError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has cipher suites for TLS 1.2 and 1.3");
    let builder = match ca_file {
        Some(path) => builder.with_root_certificates(authorities(path)?),
        None => builder
            .with_native_roots()
            .map_err(|error| ConfigError::CaFile {
                path: "is not set".to_owned(),
                problem: format!(
                    "and the host has no certificate authorities ({error}); \
                     set it, or install the package `ca-certificates`"
                ),
            })?,
    };
    Ok(builder.with_no_client_auth())
}

fn authorities(path: &Path) -> Result<RootCertStore, ConfigError> {
    let problem = |problem: String| ConfigError::CaFile {
        path: format!("`{}`", path.display()),
        problem,
    };
    let certificates = CertificateDer::pem_file_iter(path)
        .map_err(|error| problem(format!("cannot be read: {error}")))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates.take(AUTHORITIES_MAX) {
        let certificate =
            certificate.map_err(|error| problem(format!("is not a PEM file: {error}")))?;
        roots
            .add(certificate)
            .map_err(|error| problem(format!("has a certificate that cannot be used: {error}")))?;
    }
    if roots.is_empty() {
        return Err(problem(
            "has no certificate; it must have at least one PEM block `CERTIFICATE`".to_owned(),
        ));
    }
    Ok(roots)
}
