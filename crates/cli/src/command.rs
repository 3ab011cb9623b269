//! The commands that ask a server something, and where each leads.

use std::{collections::BTreeMap, io};

use clap::Subcommand;

use crate::{
    alerts,
    api::Api,
    audit::Audit,
    certificate::{self, Certificate},
    connection::Connection,
    deploy::Deploy,
    domain::Domain,
    drain::Drain,
    endpoint::{Endpoint, LocalServer, Variables},
    environment::Env,
    failure::{Failure, Outcome},
    image::Image,
    ingress::Ingress,
    key::Key,
    logs::Logs,
    notify::Notify,
    operations::{self, Operations},
    output::OutputFormat,
    revisions::{self, Rollback},
    scale::Scale,
    secrets::Secret,
    services,
    top::Top,
    webhook::Webhook,
};

/// What a server can be asked.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Print what lets the AWS tools speak to this host's Ekiden, with the key of this host
    Env(Env),
    /// Build and run the source of a folder or git remote, or an image, as a service or as what the
    /// service of that name runs from now on
    #[command(after_help = "Examples:\n  \
        ekiden deploy\n  \
        ekiden deploy web --name website --port 3000 --health-path /health\n  \
        ekiden deploy --build-with dockerfile --target final --build-arg VERSION=2\n  \
        ekiden deploy --git https://git.example/team/shop.git --branch main --auto-deploy\n  \
        ekiden deploy --image docker.io/library/nginx --name website --port 80\n  \
        ekiden deploy --image localhost/hello:2 --env GREETING=hi --health-path /health")]
    Deploy(Box<Deploy>),
    /// List the services
    #[command(alias = "ls")]
    Ps,
    /// Watch what is asked of services, how fast they answer and what their instances use
    Top(Top),
    /// Show a service, its instances and its newest operation with its steps
    Describe {
        /// The service
        name: String,
    },
    /// List what was asked of a service, newest first
    Operations(Operations),
    /// Show an operation: its steps, what it waits for, why it failed
    #[command(after_help = "Examples:\n  \
        ekiden operation website\n  \
        ekiden operation website 1f0c5a0d8f5a4d6f8f1d2c3b4a596877")]
    Operation {
        /// The service
        name: String,
        /// The operation [default: the newest]
        id: Option<String>,
    },
    /// Cancel the deployment that is on its way; what served before goes on serving
    Cancel {
        /// The service
        name: String,
    },
    /// List what a service was: its revisions, newest first
    Revisions {
        /// The service
        name: String,
    },
    /// Return to an earlier revision: the same image, the same configuration
    #[command(after_help = "Examples:\n  \
        ekiden rollback website\n  \
        ekiden rollback website 3")]
    Rollback(Rollback),
    /// Print what a service's instances wrote, or the log of a build
    #[command(after_help = "Examples:\n  \
        ekiden logs website -f\n  \
        ekiden logs website --build")]
    Logs(Logs),
    /// Stop a service's instances; nothing else of it is lost
    Pause {
        /// The service
        name: String,
    },
    /// Start a paused service
    Resume {
        /// The service
        name: String,
    },
    /// Delete a service
    Delete {
        /// The service
        name: String,
        /// Wait until it is gone
        #[arg(long)]
        wait: bool,
    },
    /// Look at and change the custom domains of services
    #[command(subcommand)]
    Domain(Domain),
    /// Print the certificate of this Ekiden's own authority, for clients to trust
    #[command(after_help = "Examples:\n  \
        ekiden ca > ekiden-ca.pem\n  \
        curl --cacert ekiden-ca.pem https://psbqam834h.us-east-1.ekiden.localhost:8443/")]
    Ca,
    /// Look at and change certificates
    #[command(subcommand)]
    Certificate(Certificate),
    /// Look at and change the front doors of services: who is let in, redirects, sessions, pages
    #[command(subcommand)]
    Ingress(Ingress),
    /// Show how a service scales and why, and change it; takes effect at once
    Scale(Box<Scale>),
    /// List connections to source code providers, complete their handshakes, and give them credentials
    #[command(subcommand)]
    Connection(Connection),
    /// Make and delete webhooks: by them a push deploys
    #[command(subcommand)]
    Webhook(Webhook),
    /// Send lines of logs to other systems: OpenTelemetry, syslog, Fluentd, HTTP, object storage; admins only
    #[command(subcommand)]
    Drain(Drain),
    /// Post what happens to where it is to be known
    #[command(subcommand)]
    Notify(Notify),
    /// List what is wrong now
    Alerts,
    /// Make, list, disable and delete access keys; admins only
    #[command(subcommand)]
    Key(Key),
    /// Read the audit log, newest first; admins only
    Audit(Audit),
    /// Keep what services are given without anybody seeing it
    #[command(subcommand)]
    Secret(Secret),
    /// Look at and change this host's images; needs root
    #[command(subcommand)]
    Image(Image),
}

/// What commands know of the world.
#[derive(Debug)]
pub struct Context {
    /// This host's Ekiden.
    pub local: LocalServer,
    /// `--endpoint-url`.
    pub endpoint_url: Option<String>,
    /// The environment.
    pub variables: BTreeMap<String, String>,
    /// `--output`.
    pub format: OutputFormat,
}

impl Command {
    /// Does what was asked.
    ///
    /// # Errors
    /// Each with what failed, why, and what to do.
    pub fn run(self, context: &Context) -> Outcome {
        runtime()?.block_on(self.dispatch(context))
    }

    async fn dispatch(self, context: &Context) -> Outcome {
        let format = context.format;
        match self {
            Self::Env(env) => env.run(&context.local_endpoint()?, format),
            Self::Deploy(deploy) => deploy.run(&context.api()?, format).await,
            Self::Ps => services::list(&context.api()?, format).await,
            Self::Top(top) => top.run(&context.api()?, format).await,
            Self::Describe { name } => services::describe(&context.api()?, &name, format).await,
            Self::Operations(operations) => operations.run(&context.api()?, format).await,
            Self::Operation { name, id } => {
                operations::show(&context.api()?, &name, id, format).await
            }
            Self::Cancel { name } => operations::cancel(&context.api()?, &name, format).await,
            Self::Revisions { name } => revisions::list(&context.api()?, &name, format).await,
            Self::Rollback(rollback) => rollback.run(&context.api()?, format).await,
            Self::Logs(logs) => logs.run(&context.api()?, format).await,
            Self::Pause { name } => services::pause(&context.api()?, &name).await,
            Self::Resume { name } => services::resume(&context.api()?, &name).await,
            Self::Delete { name, wait } => services::delete(&context.api()?, &name, wait).await,
            Self::Domain(domain) => domain.run(&context.api()?, format).await,
            Self::Ca => certificate::authority(&context.api()?).await,
            Self::Certificate(certificate) => certificate.run(&context.api()?, format).await,
            Self::Ingress(ingress) => ingress.run(&context.api()?, format).await,
            Self::Scale(scale) => scale.run(&context.api()?, format).await,
            Self::Connection(connection) => connection.run(&context.api()?, format).await,
            Self::Webhook(webhook) => webhook.run(&context.api()?, format).await,
            Self::Drain(drain) => drain.run(&context.api()?, format).await,
            Self::Notify(notify) => notify.run(&context.api()?, format).await,
            Self::Alerts => alerts::list(&context.api()?, format).await,
            Self::Key(key) => key.run(&context.api()?, format).await,
            Self::Audit(audit) => audit.run(&context.api()?, format).await,
            Self::Secret(secret) => secret.run(&context.api()?, format).await,
            Self::Image(image) => image.run(&context.local.agent_socket, format).await,
        }
    }
}

impl Context {
    /// The API that the flags, the environment or this host means.
    ///
    /// # Errors
    /// There is no key for it.
    pub fn api(&self) -> Result<Api, Failure> {
        let variables = Variables(&self.variables);
        Api::new(Endpoint::find(
            self.endpoint_url.as_deref(),
            variables,
            &self.local,
        )?)
    }

    /// The API of this host's Ekiden.
    ///
    /// # Errors
    /// Its key cannot be read.
    pub fn local_api(&self) -> Result<Api, Failure> {
        Api::new(self.local_endpoint()?)
    }

    fn local_endpoint(&self) -> Result<Endpoint, Failure> {
        Endpoint::local(Variables(&self.variables), &self.local)
    }
}

/// One thread is plenty for a command.
///
/// # Errors
/// The kernel gives no event queue.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        let grammar = Command::augment_subcommands(clap::Command::new("ekiden"));
        grammar.clone().debug_assert();
        let words = ["ekiden"].into_iter().chain(line.split(' '));
        Command::from_arg_matches(&grammar.try_get_matches_from(words)?)
    }

    #[test]
    fn flags_that_belong_together_do() {
        for line in [
            "deploy",
            "deploy web --build-with apprunner.yaml",
            "deploy --target final --build-arg A=1 --build-arg B=2",
            "deploy --image nginx --access-role arn",
            "deploy --git https://git.example/a.git --branch main --connection c --auto-deploy",
            "deploy web --git https://git.example/a.git --branch main --source-directory web",
            "logs web --build",
            "logs web --build 1f0c -f",
            "logs web -n 5 --instance 1f",
            "connection credential c --token-file - --username me",
            "connection credential c --ssh-key-file key --known-hosts-file hosts",
            "webhook create web",
            "drain add a --to fluent://h --kind access --kind service --secret shared_key=env:K",
            "drain add a --target - --service web --from-beginning",
            "notify add ops --url http://a --service web --only failures",
            "alerts",
            "top",
            "top web --every 1 --sort latency --once",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
        }
        for line in [
            "deploy web --image nginx",
            "deploy --image nginx --git u --branch main",
            "deploy --image nginx --dockerfile Dockerfile",
            "deploy --git https://git.example/a.git",
            "deploy --branch main",
            "deploy --image nginx --branch main",
            "deploy --build-with nix",
            "deploy web --access-role arn",
            "deploy --port 0",
            "logs web --build -n 5",
            "connection credential c",
            "connection credential c --token-file a --ssh-key-file b",
            "connection credential c --ssh-key-file b --username me",
            "connection credential c --token-file a --known-hosts-file b",
            "drain add a",
            "drain add a --to fluent://h --target b",
            "drain add a --to fluent://h --kind build",
            "top --every 0",
            "top --every 61",
            "top --sort size",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
