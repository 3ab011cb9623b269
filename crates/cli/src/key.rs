//! `ekiden key`: who may speak to the API.

use clap::{Subcommand, ValueEnum};
use ekiden_aws::native::{
    AccessKey, CreateAccessKeyRequest, CreateAccessKeyResponse, DeleteAccessKeyRequest,
    DeleteAccessKeyResponse, ListAccessKeysRequest, ListAccessKeysResponse, UpdateAccessKeyRequest,
    UpdateAccessKeyResponse,
};

use crate::{
    api::Api,
    failure::Outcome,
    output::{OutputFormat, age, print, print_line, table, unix_now},
};

/// What can be done about access keys. Admins only.
#[derive(Debug, Clone, Subcommand)]
pub enum Key {
    /// Make an access key; its secret is printed this once
    #[command(after_help = "Examples:\n  \
        ekiden key create --role deployer --service 'web-*' --description 'CI of the web team'\n  \
        ekiden key create --role viewer --output json")]
    Create {
        /// What it may do
        #[arg(long)]
        role: Role,
        /// A deployer's: pattern of names of services it may change, `*` for anything; may be given
        /// several times
        #[arg(
            long = "service",
            value_name = "PATTERN",
            required_if_eq("role", "deployer")
        )]
        services: Vec<String>,
        /// What it is for
        #[arg(long, value_name = "TEXT", default_value = "")]
        description: String,
    },
    /// List the access keys, and when each was last used
    Ls,
    /// Make an access key good for nothing, and every session made with it
    Disable {
        /// The key's id
        id: String,
    },
    /// Make a disabled access key good again
    Enable {
        /// The key's id
        id: String,
    },
    /// Delete an access key, and with it every session made with it
    Rm {
        /// The key's id
        id: String,
    },
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Everything
    Admin,
    /// Look at everything but secrets; change the services whose names match `--service`
    Deployer,
    /// Look at everything but secrets
    Viewer,
}

impl Key {
    /// Does what was asked.
    ///
    /// # Errors
    /// What the endpoint answered, or that it cannot be reached.
    pub async fn run(self, api: &Api, format: OutputFormat) -> Outcome {
        match self {
            Self::Create {
                role,
                services,
                description,
            } => {
                let request = CreateAccessKeyRequest {
                    role: role.name().to_owned(),
                    services,
                    description,
                };
                let created: CreateAccessKeyResponse =
                    api.native("CreateAccessKey", &request).await?;
                Ok(print(format, &created, created_text)?)
            }
            Self::Ls => {
                let request = ListAccessKeysRequest {};
                let listed: ListAccessKeysResponse = api.native("ListAccessKeys", &request).await?;
                let now = unix_now();
                Ok(print(format, &listed, |listed| {
                    listed_text(&listed.access_keys, now)
                })?)
            }
            Self::Disable { id } => set_status(api, format, id, "Inactive").await,
            Self::Enable { id } => set_status(api, format, id, "Active").await,
            Self::Rm { id } => {
                let request = DeleteAccessKeyRequest {
                    access_key_id: id.clone(),
                };
                let _: DeleteAccessKeyResponse = api.native("DeleteAccessKey", &request).await?;
                match format {
                    OutputFormat::Text => print_line(&format!("deleted {id}"))?,
                    OutputFormat::Json => print_line("{}")?,
                }
                Ok(())
            }
        }
    }
}

impl Role {
    /// As the API has it.
    fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Deployer => "deployer",
            Self::Viewer => "viewer",
        }
    }
}

async fn set_status(api: &Api, format: OutputFormat, id: String, status: &str) -> Outcome {
    let request = UpdateAccessKeyRequest {
        access_key_id: id,
        status: Some(status.to_owned()),
        ..Default::default()
    };
    let updated: UpdateAccessKeyResponse = api.native("UpdateAccessKey", &request).await?;
    Ok(print(format, &updated.access_key, |key| {
        format!("{} is {}", key.access_key_id, key.status.to_lowercase())
    })?)
}

fn created_text(created: &CreateAccessKeyResponse) -> String {
    format!(
        "AWS_ACCESS_KEY_ID={}\nAWS_SECRET_ACCESS_KEY={}\n\nIt is a key of the role {}. The secret is \
         not shown again.",
        created.access_key.access_key_id,
        created.secret_access_key,
        role_text(&created.access_key)
    )
}

fn listed_text(keys: &[AccessKey], now: u64) -> String {
    let ago = |at: u64| age(now.saturating_sub(at));
    let rows = keys.iter().map(|key| {
        vec![
            key.access_key_id.clone(),
            role_text(key),
            key.status.clone(),
            ago(key.created_at),
            key.last_used_at.map_or("never".to_owned(), ago),
            key.last_used_from.clone().unwrap_or_default(),
            key.description.clone(),
        ]
    });
    table(
        &[
            "KEY",
            "ROLE",
            "STATUS",
            "AGE",
            "LAST USED",
            "FROM",
            "DESCRIPTION",
        ],
        rows,
    )
}

fn role_text(key: &AccessKey) -> String {
    match key.services.is_empty() {
        true => key.role.clone(),
        false => format!("{} of {}", key.role, key.services.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_listed_with_role_and_last_use() {
        let keys = [
            AccessKey {
                access_key_id: "EKIAONE".to_owned(),
                role: "deployer".to_owned(),
                services: vec!["web-*".to_owned(), "api".to_owned()],
                status: "Active".to_owned(),
                created_at: 0,
                last_used_at: Some(7200),
                last_used_from: Some("10.0.0.1".to_owned()),
                description: "CI".to_owned(),
            },
            AccessKey {
                access_key_id: "EKIATWO".to_owned(),
                role: "viewer".to_owned(),
                status: "Inactive".to_owned(),
                ..Default::default()
            },
        ];
        assert_eq!(
            listed_text(&keys, 7260),
            "KEY      ROLE                    STATUS    AGE  LAST USED  FROM      DESCRIPTION\n\
             EKIAONE  deployer of web-*, api  Active    2h   60s        10.0.0.1  CI\n\
             EKIATWO  viewer                  Inactive  2h   never"
        );
    }
}
