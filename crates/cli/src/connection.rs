//! `ekiden connection`: connections to source code providers.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use ekiden_aws::{
    apprunner::shapes::{
        Connection as ShownConnection, ConnectionSummary, ListConnectionsRequest,
        ListConnectionsResponse,
    },
    native::{
        CompleteConnectionRequest, CompleteConnectionResponse, PutConnectionCredentialRequest,
        PutConnectionCredentialResponse,
    },
};

use crate::{
    api::Api,
    failure::{Failure, Outcome},
    output::{OutputFormat, age, print, table, unix_now},
};

/// Connections of one page: the most App Runner gives.
const PAGE_CONNECTIONS: i32 = 100;

/// Pages read at most: more than the quota of connections lets there be.
const PAGES_MAX: usize = 10_000;

/// The longest token, key or list of hosts, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// What to do with connections.
#[derive(Debug, Clone, Subcommand)]
pub enum Connection {
    /// List the connections
    #[command(alias = "list")]
    Ls,
    /// Complete a connection's handshake, so that services can use it
    Complete {
        /// Its name or its ARN
        #[arg(value_name = "NAME|ARN")]
        connection: String,
    },
    /// Give a connection what opens its repositories: a token by HTTPS, or a key by SSH. It is
    /// available then
    #[command(after_help = "Examples:\n  \
        ekiden connection credential github --username oauth2 --token-file token.txt\n  \
        ekiden connection credential forge --host git.example.com --ssh-key-file id_ed25519 --known-hosts-file known_hosts")]
    Credential(Credential),
}

/// What opens repositories. Secrets come from files, or from standard input as `-`: arguments are
/// seen by every user of the machine.
#[derive(Debug, Clone, Args)]
pub struct Credential {
    /// Its name or its ARN
    #[arg(value_name = "NAME|ARN")]
    connection: String,
    /// The host that it is for, with its port if that is not the usual one: it is sent nowhere else
    /// [default: that of a connection to GitHub or Bitbucket]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// The user of the token [default: git]
    #[arg(long, value_name = "USER", conflicts_with = "ssh_key_file")]
    username: Option<String>,
    /// A token or password, for repositories by HTTPS; `-` is standard input
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "ssh_key_file",
        conflicts_with = "ssh_key_file"
    )]
    token_file: Option<PathBuf>,
    /// A private key without a passphrase, for repositories by SSH; `-` is standard input
    #[arg(long, value_name = "FILE")]
    ssh_key_file: Option<PathBuf>,
    /// The keys of the hosts, as in `~/.ssh/known_hosts`; whoever answers first is believed without
    #[arg(long, value_name = "FILE", conflicts_with = "token_file")]
    known_hosts_file: Option<PathBuf>,
}

impl Connection {
    /// Does it, and says how it goes.
    ///
    /// # Errors
    /// What the endpoint answered, that it cannot be reached, and that there is no such connection.
    pub async fn run(self, api: &Api, format: OutputFormat) -> Outcome {
        match self {
            Self::Ls => {
                let connections = list(api, None).await?;
                Ok(print(format, &connections, |all| list_text(all))?)
            }
            Self::Complete { connection } => {
                let request = CompleteConnectionRequest {
                    connection_arn: arn(api, &connection).await?,
                };
                let answer: CompleteConnectionResponse =
                    api.native("CompleteConnection", &request).await?;
                Ok(print(format, &answer.connection, state_text)?)
            }
            Self::Credential(credential) => {
                let request = credential.request(arn(api, &credential.connection).await?)?;
                let answer: PutConnectionCredentialResponse =
                    api.native("PutConnectionCredential", &request).await?;
                Ok(print(format, &answer.connection, state_text)?)
            }
        }
    }
}

impl Credential {
    fn request(&self, connection_arn: String) -> Result<PutConnectionCredentialRequest, Failure> {
        let read = |file: &Option<PathBuf>| file.as_deref().map(read_secret).transpose();
        let token = read(&self.token_file)?;
        let token = token.map(|token| token.trim_end_matches(['\r', '\n']).to_owned());
        Ok(PutConnectionCredentialRequest {
            connection_arn,
            host: self.host.clone(),
            username: self.username.clone(),
            token,
            private_key: read(&self.ssh_key_file)?,
            known_hosts: read(&self.known_hosts_file)?,
        })
    }
}

/// All of a file, or of standard input.
fn read_secret(path: &Path) -> Result<String, Failure> {
    let shown = match path.to_str() {
        Some("-") => "standard input".to_owned(),
        _ => format!("`{}`", path.display()),
    };
    let mut text = String::new();
    let read = match path.to_str() {
        Some("-") => io::stdin()
            .lock()
            .take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text),
        _ => File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)),
    };
    read.map_err(|error| Failure::new(format!("cannot read {shown}: {error}")))?;
    match text.len() as u64 {
        _ if text.trim().is_empty() => Err(Failure::new(format!("{shown} is empty"))),
        0..=FILE_BYTES_MAX => Ok(text),
        _ => Err(Failure::new(format!("{shown} is longer than 64 KiB"))),
    }
}

fn state_text(connection: &ShownConnection) -> String {
    format!(
        "connection {} is {}",
        connection.connection_name.as_deref().unwrap_or_default(),
        connection.status.as_deref().unwrap_or_default()
    )
}

/// The ARN of the connection of a name, or the ARN itself.
pub(crate) async fn arn(api: &Api, connection: &str) -> Result<String, Failure> {
    if connection.starts_with("arn:") {
        return Ok(connection.to_owned());
    }
    let found = list(api, Some(connection)).await?;
    let arn = found.into_iter().find_map(|found| found.connection_arn);
    arn.ok_or_else(|| {
        Failure::new(format!("there is no connection \"{connection}\""))
            .hint("`ekiden connection ls` lists the connections")
    })
}

async fn list(api: &Api, name: Option<&str>) -> Result<Vec<ConnectionSummary>, Failure> {
    let mut connections = Vec::new();
    let mut request = ListConnectionsRequest {
        connection_name: name.map(str::to_owned),
        max_results: Some(PAGE_CONNECTIONS),
        ..Default::default()
    };
    for _ in 0..PAGES_MAX {
        let page: ListConnectionsResponse = api.call("ListConnections", &request).await?;
        connections.extend(page.connection_summary_list.unwrap_or_default());
        request.next_token = page.next_token;
        if request.next_token.is_none() {
            break;
        }
    }
    Ok(connections)
}

fn list_text(connections: &[ConnectionSummary]) -> String {
    if connections.is_empty() {
        return "no connections".to_owned();
    }
    let now = unix_now();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let rows = connections.iter().map(|connection| {
        let created_at = connection.created_at.map_or(now, |at| at.0);
        vec![
            text(&connection.connection_name),
            text(&connection.provider_type),
            text(&connection.status),
            age(now.saturating_sub(created_at)),
            text(&connection.connection_arn),
        ]
    });
    table(&["NAME", "PROVIDER", "STATUS", "AGE", "ARN"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_says_which_handshakes_are_open() {
        let connection = ConnectionSummary {
            connection_name: Some("main".into()),
            provider_type: Some("GITHUB".into()),
            status: Some("PENDING_HANDSHAKE".into()),
            connection_arn: Some("arn".into()),
            created_at: None,
        };
        assert_eq!(
            list_text(&[connection]),
            "NAME  PROVIDER  STATUS             AGE  ARN\n\
             main  GITHUB    PENDING_HANDSHAKE  0s   arn"
        );
        assert_eq!(list_text(&[]), "no connections");
    }

    #[test]
    fn secrets_are_read_from_files() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        let mut credential = Credential {
            host: None,
            connection: "main".into(),
            username: Some("me".into()),
            token_file: file("token", "secret\r\n"),
            ssh_key_file: None,
            known_hosts_file: None,
        };
        let request = credential.request("arn".into()).unwrap();
        assert_eq!(request.token.as_deref(), Some("secret"));
        assert!(request.private_key.is_none() && request.known_hosts.is_none());
        credential.token_file = file("empty", "\n");
        let failure = credential.request("arn".into()).err().unwrap();
        assert!(failure.sentence().ends_with("empty` is empty"));
        credential.token_file = file("long", &"x".repeat(70_000));
        assert!(credential.request("arn".into()).is_err());
    }
}
