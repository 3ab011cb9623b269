//! `ekiden webhook`: pushes that deploy.

use clap::Subcommand;
use ekiden_aws::native::{
    CreateWebhookRequest, CreateWebhookResponse, DeleteWebhookRequest, DeleteWebhookResponse,
};
use serde::Serialize;

use crate::{
    api::Api,
    failure::Outcome,
    output::{OutputFormat, print, print_line},
};

/// What to do with webhooks.
#[derive(Debug, Clone, Subcommand)]
pub enum Webhook {
    /// Make a service's webhook, and print what the git host is to be given; the secret this once
    #[command(after_help = "Examples:\n  \
        ekiden webhook create website")]
    Create {
        /// The service
        name: String,
    },
    /// Delete a service's webhook; pushes deploy no more
    #[command(alias = "remove")]
    Rm {
        /// The service
        name: String,
    },
}

/// A new webhook. No `Debug`: the secret is in it.
#[derive(Serialize)]
struct Created {
    url: String,
    secret: String,
}

impl Webhook {
    /// Does it.
    ///
    /// # Errors
    /// As [`Api::native`], and there is no such service.
    pub async fn run(&self, api: &Api, format: OutputFormat) -> Outcome {
        match self {
            Self::Create { name } => {
                let request = CreateWebhookRequest {
                    service_arn: api.arn(name).await?,
                };
                let CreateWebhookResponse { path, secret } =
                    api.native("CreateWebhook", &request).await?;
                let url = api.url_of(&path);
                print(format, &Created { url, secret }, created_text)?;
                if format == OutputFormat::Text {
                    eprintln!(
                        "give both to the git host as a webhook for pushes, with JSON as its content; if it \
                         reaches this API under another address, with that. The secret is not shown again"
                    );
                }
                Ok(())
            }
            Self::Rm { name } => {
                let request = DeleteWebhookRequest {
                    service_arn: api.arn(name).await?,
                };
                let _: DeleteWebhookResponse = api.native("DeleteWebhook", &request).await?;
                Ok(print_line(&format!("pushes deploy {name} no more"))?)
            }
        }
    }
}

fn created_text(created: &Created) -> String {
    format!("url     {}\nsecret  {}", created.url, created.secret)
}
