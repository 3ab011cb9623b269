//! `ekiden secret`: what services are given without anybody seeing it.
//!
//! A value is read from standard input or typed at a prompt that does not show it: arguments are
//! seen by every user of the machine, and kept by shells.

use std::io::{IsTerminal, Read};

use clap::Subcommand;
use ekiden_aws::{
    client::ClientError,
    protocol::SECRETS_MANAGER,
    secretsmanager::shapes::{
        CreateSecretRequest, CreateSecretResponse, DeleteSecretRequest, DeleteSecretResponse,
        GetSecretValueRequest, GetSecretValueResponse, ListSecretsRequest, ListSecretsResponse,
        PutSecretValueRequest, PutSecretValueResponse, SecretListEntry,
    },
};
use serde::Serialize;

use crate::{
    api::Api,
    failure::{Failure, Outcome},
    output::{OutputFormat, age, print, print_line, table, unix_now},
};

/// The longest secret, in bytes: Secrets Manager's.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Pages looked at when secrets are listed: more than there may be.
const PAGES_MAX: usize = 10_000;

/// Work on secrets.
#[derive(Debug, Clone, Subcommand)]
pub enum Secret {
    /// Keep a value, from standard input or typed at a prompt; prints the secret's ARN
    #[command(after_help = "Examples:\n  \
        ekiden secret set db-password < password.txt\n  \
        ekiden deploy --image localhost/shop --secret DB_PASSWORD=$(ekiden secret set db-password)")]
    Set {
        /// The secret; made if there is none, else given another value
        name: String,
        /// Keep the line break at the end of what is read, which is dropped otherwise
        #[arg(long)]
        keep_newline: bool,
    },
    /// List the secrets, without their values
    #[command(alias = "list")]
    Ls,
    /// Delete a secret; what runs keeps the value it was started with
    Rm {
        /// The secret: its name or ARN
        name: String,
        /// Delete it for good; without, it can be restored for 30 days
        #[arg(long)]
        now: bool,
    },
    /// Show a secret, and its value only when told so
    Show {
        /// The secret: its name or ARN
        name: String,
        /// Print the value
        #[arg(long)]
        reveal: bool,
    },
}

/// A secret as the command line shows it.
#[derive(Serialize)]
struct Shown {
    name: String,
    arn: String,
    version: String,
    stages: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

impl Secret {
    /// Does what was asked.
    ///
    /// # Errors
    /// As [`Api::call`], and when no value can be read.
    pub async fn run(&self, api: &Api, format: OutputFormat) -> Outcome {
        match self {
            Self::Set { name, keep_newline } => {
                let value = read_value(name, *keep_newline)?;
                let arn = set(api, name, value).await?;
                Ok(print(format, &serde_json::json!({ "arn": arn }), |_| {
                    arn.clone()
                })?)
            }
            Self::Ls => list(api, format).await,
            Self::Rm { name, now } => {
                let request = DeleteSecretRequest {
                    secret_id: Some(name.clone()),
                    force_delete_without_recovery: now.then_some(true),
                    ..DeleteSecretRequest::default()
                };
                let _: DeleteSecretResponse =
                    api.of(&SECRETS_MANAGER, "DeleteSecret", &request).await?;
                Ok(print_line(&match now {
                    true => format!("deleted {name} for good"),
                    false => format!("deleted {name}; it can be restored for 30 days"),
                })?)
            }
            Self::Show { name, reveal } => show(api, name, *reveal, format).await,
        }
    }
}

async fn set(api: &Api, name: &str, value: String) -> Result<String, Failure> {
    let put = PutSecretValueRequest {
        secret_id: Some(name.to_owned()),
        secret_string: Some(value.clone()),
        ..PutSecretValueRequest::default()
    };
    let answered: Result<PutSecretValueResponse, Failure> =
        api.of(&SECRETS_MANAGER, "PutSecretValue", &put).await;
    let arn = match answered {
        Ok(put) => put.arn,
        Err(failure) if is_unknown(&failure) => {
            let create = CreateSecretRequest {
                name: Some(name.to_owned()),
                secret_string: Some(value),
                ..CreateSecretRequest::default()
            };
            let created: CreateSecretResponse =
                api.of(&SECRETS_MANAGER, "CreateSecret", &create).await?;
            created.arn
        }
        Err(failure) => return Err(failure),
    };
    arn.ok_or_else(|| Failure::new("the endpoint answered without an ARN"))
}

fn is_unknown(failure: &Failure) -> bool {
    let error = failure.error.downcast_ref::<ClientError>();
    error.and_then(ClientError::code) == Some("ResourceNotFoundException")
}

async fn list(api: &Api, format: OutputFormat) -> Outcome {
    let mut secrets: Vec<SecretListEntry> = Vec::new();
    let mut request = ListSecretsRequest {
        sort_by: Some("name".to_owned()),
        sort_order: Some("asc".to_owned()),
        ..ListSecretsRequest::default()
    };
    for _ in 0..PAGES_MAX {
        let page: ListSecretsResponse = api.of(&SECRETS_MANAGER, "ListSecrets", &request).await?;
        secrets.extend(page.secret_list.unwrap_or_default());
        request.next_token = page.next_token;
        if request.next_token.is_none() {
            break;
        }
    }
    let now = unix_now();
    let row = |secret: &SecretListEntry| {
        let changed = secret.last_changed_date.map_or(0, |at| at.0);
        vec![
            secret.name.clone().unwrap_or_default(),
            age(now.saturating_sub(changed)),
            secret.arn.clone().unwrap_or_default(),
        ]
    };
    Ok(print(format, &secrets, |secrets| {
        table(&["NAME", "CHANGED", "ARN"], secrets.iter().map(row))
    })?)
}

async fn show(api: &Api, name: &str, reveal: bool, format: OutputFormat) -> Outcome {
    let request = GetSecretValueRequest {
        secret_id: Some(name.to_owned()),
        ..GetSecretValueRequest::default()
    };
    let secret: GetSecretValueResponse =
        api.of(&SECRETS_MANAGER, "GetSecretValue", &request).await?;
    let value = match (reveal, secret.secret_string, secret.secret_binary) {
        (false, ..) | (true, None, None) => None,
        (true, Some(text), _) => Some(text),
        (true, None, Some(_)) => {
            return Err(
                Failure::new(format!("the secret \"{name}\" is bytes, not text"))
                    .hint("`aws secretsmanager get-secret-value` gives them in base64"),
            );
        }
    };
    let shown = Shown {
        name: secret.name.unwrap_or_default(),
        arn: secret.arn.unwrap_or_default(),
        version: secret.version_id.unwrap_or_default(),
        stages: secret.version_stages.unwrap_or_default(),
        value,
    };
    Ok(print(format, &shown, |shown| match &shown.value {
        // Alone, so that it can be taken by another program.
        Some(value) => value.clone(),
        None => format!(
            "name     {}\narn      {}\nversion  {} ({})\nvalue    hidden; `--reveal` prints it",
            shown.name,
            shown.arn,
            shown.version,
            shown.stages.join(", ")
        ),
    })?)
}

/// From a prompt on a terminal, else all of standard input.
fn read_value(name: &str, keep_newline: bool) -> Result<String, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        let terminal = console::Term::stderr();
        terminal.write_str(&format!("value of {name} (not shown): "))?;
        return checked(terminal.read_secure_line()?, true);
    }
    let mut value = String::new();
    let mut bounded = stdin.lock().take(SECRET_BYTES_MAX + 2);
    let read = bounded.read_to_string(&mut value);
    read.map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => Failure::new("the value is not text (UTF-8)"),
        _ => error.into(),
    })?;
    checked(value, keep_newline)
}

fn checked(mut value: String, keep_newline: bool) -> Result<String, Failure> {
    if !keep_newline && value.ends_with('\n') {
        value.pop();
    }
    match value.len() as u64 {
        0 => Err(Failure::new("there is no value")
            .hint("give one on standard input: `ekiden secret set NAME < FILE`")),
        1..=SECRET_BYTES_MAX => Ok(value),
        _ => Err(Failure::new("the value is longer than 64 KiB")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_loses_one_line_break_at_most() {
        let check = |text: &str, keep| checked(text.to_owned(), keep).ok();
        assert_eq!(check("a\n", false).as_deref(), Some("a"));
        assert_eq!(check("a\n\n", false).as_deref(), Some("a\n"));
        assert_eq!(check("a\n", true).as_deref(), Some("a\n"));
        assert_eq!(check("\n", false), None);
        assert_eq!(check("", true), None);
        assert_eq!(check(&"x".repeat(65_537), false), None);
        assert!(check(&"x".repeat(65_536), false).is_some());
    }
}
