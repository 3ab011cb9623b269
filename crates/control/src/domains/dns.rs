//! Looking for validation records in the DNS.
//!
//! A look asks the host's own name servers, as `/etc/resolv.conf` names them at that moment, or the
//! one server that is configured. Nothing is cached: a record is looked for because it may be new.

use std::{net::SocketAddr, time::Duration};

use ekiden_model::domain::ValidationRecord;
use hickory_resolver::{
    TokioResolver,
    config::{NameServerConfig, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{Name, RData, RecordType},
};

/// How long one look may take in all.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// How long one name server is waited for before it, or the next, is asked again.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(2);

/// How often a look is tried.
const ATTEMPTS: usize = 2;

/// Records of an answer that are looked at; a name has one CNAME (RFC 1034, section 3.6.2).
const ANSWERS_MAX: usize = 16;

/// Why a record was not found, as a sentence that goes on from the record's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotFound {
    /// There is no such record.
    #[error("has no CNAME record yet")]
    Absent,
    /// There is one with another value.
    #[error("is a CNAME for `{0}`")]
    Another(String),
    /// Nobody could be asked.
    #[error("could not be looked up: {0}")]
    Failed(String),
}

/// Whom to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameServers {
    /// Those of the host.
    Host,
    /// This one.
    One(SocketAddr),
}

impl NameServers {
    /// Looks for one record.
    ///
    /// # Errors
    /// [`NotFound`].
    pub(super) async fn look(self, record: &ValidationRecord) -> Result<(), NotFound> {
        match tokio::time::timeout(LOOK_LIMIT, self.ask(record)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(NotFound::Failed(format!(
                "no name server answered within {} s",
                LOOK_LIMIT.as_secs()
            ))),
        }
    }

    async fn ask(self, record: &ValidationRecord) -> Result<(), NotFound> {
        let mut name = Name::from_ascii(&record.name).map_err(failed)?;
        // Without it the host's search domains would be tried too.
        name.set_fqdn(true);
        let resolver = self.resolver().map_err(failed)?;
        let answer = match resolver.lookup(name.clone(), RecordType::CNAME).await {
            Ok(answer) => answer,
            Err(error) if error.is_nx_domain() || error.is_no_records_found() => {
                return Err(NotFound::Absent);
            }
            Err(error) => return Err(failed(error)),
        };
        let values = answer
            .answers()
            .iter()
            .take(ANSWERS_MAX)
            .filter(|found| found.name.eq_ignore_root_case(&name))
            .filter_map(|found| match &found.data {
                RData::CNAME(value) => Some(value.0.to_ascii()),
                _ => None, // the crate's enum, with every kind of record there is
            });
        let mut another = None;
        for value in values {
            if same_name(&value, &record.value) {
                return Ok(());
            }
            another = Some(value);
        }
        Err(another.map_or(NotFound::Absent, NotFound::Another))
    }

    fn resolver(self) -> Result<TokioResolver, NetError> {
        let mut builder = match self {
            Self::Host => TokioResolver::builder_tokio()?,
            Self::One(address) => {
                let mut server = NameServerConfig::udp_and_tcp(address.ip());
                for connection in &mut server.connections {
                    connection.port = address.port();
                }
                let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        let options = builder.options_mut();
        options.timeout = ATTEMPT_LIMIT;
        options.attempts = ATTEMPTS;
        options.cache_size = 0;
        builder.build()
    }
}

/// Names are compared without case, and may end in a dot.
fn same_name(one: &str, other: &str) -> bool {
    let bare = |name: &'_ str| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    bare(one) == bare(other)
}

fn failed(error: impl std::fmt::Display) -> NotFound {
    NotFound::Failed(error.to_string())
}
