//! `ekiden ca` and `ekiden certificate`: who vouches for this installation, and with what.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use clap::Subcommand;
use ekiden_aws::native::{
    Certificate as Shown, CertificateRequest, CertificateResponse,
    DescribeCertificateAuthorityRequest, DescribeCertificateAuthorityResponse,
    ImportCertificateRequest, ListCertificatesRequest, ListCertificatesResponse,
};

use crate::{
    api::Api,
    failure::{Failure, Outcome},
    output::{OutputFormat, age, print, print_line, table, unix_now},
};

/// The longest file of a certificate or a key.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What to do with certificates.
#[derive(Debug, Clone, Subcommand)]
pub enum Certificate {
    /// List the certificates, those that are missing, and what needs attention
    #[command(alias = "list")]
    Ls,
    /// Bring a certificate of your own; it goes before any other for its names
    #[command(after_help = "Examples:\n  \
        ekiden certificate import --cert fullchain.pem --key key.pem\n  \
        decrypt key.pem.gpg | ekiden certificate import --cert fullchain.pem --key -")]
    Import {
        /// A file with the certificate and those that vouch for it, in PEM, its own first
        #[arg(long, value_name = "FILE")]
        cert: PathBuf,
        /// A file with its key, in PEM and not encrypted; `-` for standard input
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Forget a certificate; one that is still wanted is got anew
    #[command(alias = "remove")]
    Rm {
        /// Its id or the beginning of it, or a name that only it has
        certificate: String,
    },
    /// Get a new certificate now, before its time
    Renew {
        /// Its id or the beginning of it, or a name that only it has
        certificate: String,
    },
    /// Have a certificate revoked by its authority, and get another
    Revoke {
        /// Its id or the beginning of it, or a name that only it has
        certificate: String,
    },
}

impl Certificate {
    /// Does it.
    ///
    /// # Errors
    /// The endpoint refuses or cannot be reached, or a file cannot be read.
    pub async fn run(self, api: &Api, format: OutputFormat) -> Outcome {
        let (operation, certificate, verb) = match self {
            Self::Ls => return list(api, format).await,
            Self::Import { cert, key } => {
                let request = ImportCertificateRequest {
                    certificate_chain: read(&cert)?,
                    private_key: read(&key)?,
                };
                let answer: CertificateResponse = api.native("ImportCertificate", &request).await?;
                return Ok(print(format, &answer.certificate, |one| {
                    said(one, "is presented")
                })?);
            }
            Self::Rm { certificate } => ("RemoveCertificate", certificate, "is forgotten"),
            Self::Renew { certificate } => {
                ("RenewCertificate", certificate, "is going to be renewed")
            }
            Self::Revoke { certificate } => ("RevokeCertificate", certificate, "is revoked"),
        };
        let request = CertificateRequest { certificate };
        let answer: CertificateResponse = api.native(operation, &request).await?;
        Ok(print(format, &answer.certificate, |one| said(one, verb))?)
    }
}

/// Prints the local authority's certificate.
///
/// # Errors
/// The endpoint refuses or cannot be reached.
pub async fn authority(api: &Api) -> Outcome {
    let request = DescribeCertificateAuthorityRequest {};
    let answer: DescribeCertificateAuthorityResponse =
        api.native("DescribeCertificateAuthority", &request).await?;
    Ok(print_line(answer.certificate.trim_end())?)
}

fn said(certificate: &Shown, what: &str) -> String {
    let names = certificate.names.join(", ");
    let id: String = certificate.certificate_id.chars().take(8).collect();
    format!("certificate {id} for {names} {what}")
}

fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = match path == Path::new("-") {
        true => io::stdin().take(FILE_BYTES_MAX).read_to_string(&mut text),
        false => File::open(path).and_then(|file| {
            let mut file = file.take(FILE_BYTES_MAX);
            file.read_to_string(&mut text)
        }),
    };
    match read {
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::new(format!(
            "cannot read `{}`: {error}",
            path.display()
        ))),
    }
}

async fn list(api: &Api, format: OutputFormat) -> Outcome {
    let request = ListCertificatesRequest {};
    let response: ListCertificatesResponse = api.native("ListCertificates", &request).await?;
    Ok(print(format, &response, |response| {
        list_text(response, unix_now())
    })?)
}

fn list_text(response: &ListCertificatesResponse, now: u64) -> String {
    let in_future = |at: u64| match at.checked_sub(now) {
        Some(left) => format!("in {}", age(left)),
        None => format!("{} ago", age(now - at)),
    };
    let there = response.certificates.iter().map(|one| {
        let revoked = one.revoked_at.map(|_| "it is revoked".to_owned());
        let failure = one.failure.as_ref();
        let failed = failure.map(|why| format!("renewal failed: {why}"));
        let told = [revoked, one.warning.clone(), failed];
        vec![
            one.certificate_id.chars().take(8).collect(),
            one.names.join(" "),
            one.source.to_lowercase(),
            if one.presented_for.is_empty() {
                "no"
            } else {
                "yes"
            }
            .to_owned(),
            in_future(one.not_after),
            one.renew_at.map(in_future).unwrap_or_default(),
            told.into_iter().flatten().collect::<Vec<_>>().join("; "),
        ]
    });
    let missing = response.missing.iter().map(|one| {
        let failure = one.failure.as_ref();
        vec![
            "missing".to_owned(),
            one.names.join(" "),
            String::new(),
            String::new(),
            String::new(),
            in_future(one.next_attempt_at),
            failure
                .map(|why| format!("failed: {why}"))
                .unwrap_or_default(),
        ]
    });
    let header = [
        "ID",
        "NAMES",
        "SOURCE",
        "PRESENTED",
        "ENDS",
        "NEXT",
        "ATTENTION",
    ];
    let text = table(&header, there.chain(missing));
    match &response.authority_warning {
        Some(warning) => format!("{text}\n{warning}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use ekiden_aws::native::MissingCertificate;

    use super::*;

    #[test]
    fn the_list_says_what_needs_attention() {
        let response = ListCertificatesResponse {
            certificates: vec![Shown {
                certificate_id: "0123456789abcdef0123456789abcdef".to_owned(),
                names: vec!["example.com".to_owned(), "www.example.com".to_owned()],
                presented_for: vec!["example.com".to_owned()],
                source: "ACME".to_owned(),
                not_after: 1000 + 86_400 * 5,
                renew_at: Some(900),
                warning: Some("it expires in 5 days".to_owned()),
                failure: Some("no answer".to_owned()),
                ..Shown::default()
            }],
            missing: vec![MissingCertificate {
                names: vec!["*.example.org".to_owned()],
                failure: Some("needs dns-01".to_owned()),
                next_attempt_at: 1060,
            }],
            authority_warning: Some("the key is lost".to_owned()),
        };
        let text = list_text(&response, 1000);
        assert!(text.ends_with("\nthe key is lost"), "{text}");
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| {
                line.split("  ")
                    .map(str::trim)
                    .filter(|cell| !cell.is_empty())
                    .collect()
            })
            .collect();
        assert_eq!(
            lines[1],
            [
                "01234567",
                "example.com www.example.com",
                "acme",
                "yes",
                "in 5d",
                "100s ago",
                "it expires in 5 days; renewal failed: no answer"
            ]
        );
        assert_eq!(
            lines[2],
            ["missing", "*.example.org", "in 60s", "failed: needs dns-01"]
        );
    }
}
