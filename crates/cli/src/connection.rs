//! `ekiden connection`: connections to source code providers.

use clap::Subcommand;
use ekiden_aws::{
    apprunner::shapes::{ConnectionSummary, ListConnectionsRequest, ListConnectionsResponse},
    native::{CompleteConnectionRequest, CompleteConnectionResponse},
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
                Ok(print(format, &answer.connection, |connection| {
                    format!(
                        "connection {} is {}",
                        connection.connection_name.as_deref().unwrap_or_default(),
                        connection.status.as_deref().unwrap_or_default()
                    )
                })?)
            }
        }
    }
}

/// The ARN of the connection of a name, or the ARN itself.
async fn arn(api: &Api, connection: &str) -> Result<String, Failure> {
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
}
