//! `ekiden env`: what the AWS tools need to speak to this host's Ekiden.

use std::fmt::Write;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

use crate::{
    endpoint::Endpoint,
    failure::Outcome,
    output::{OutputFormat, print_line},
};

/// The services that Ekiden's endpoint speaks for, as Terraform's `endpoints` block names them.
const TERRAFORM_ENDPOINTS: [&str; 4] = ["apprunner", "secretsmanager", "ssm", "sts"];

/// `ekiden env`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  eval \"$(sudo ekiden env)\"\n  aws apprunner list-services\n  \
    sudo ekiden env --format terraform > provider.tf"
)]
pub struct Env {
    /// For whom
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Write the key into the Terraform configuration, instead of variables that take it
    #[arg(long)]
    show_secret: bool,
}

/// For whom it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// `export` lines, for a shell to evaluate
    #[default]
    Shell,
    /// A provider block of HashiCorp's AWS provider
    Terraform,
    /// One JSON object
    Json,
    /// `NAME=value` lines, for a `.env` file
    Dotenv,
}

impl Env {
    /// Prints it. But for Terraform the secret is in it: that is its purpose.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn run(&self, endpoint: &Endpoint, format: OutputFormat) -> Outcome {
        let format = match (self.format, format) {
            (Format::Shell, OutputFormat::Json) => Format::Json,
            (format, _) => format,
        };
        Ok(print_line(&self.text(endpoint, format))?)
    }

    fn text(&self, endpoint: &Endpoint, format: Format) -> String {
        let variables = variables(endpoint);
        let lines = |line: &dyn Fn(&str, &str) -> String| -> String {
            variables.map(|(name, value)| line(name, value)).concat()
        };
        match format {
            Format::Shell => lines(&|name, value| format!("export {name}={}\n", quoted(value))),
            Format::Dotenv => lines(&|name, value| format!("{name}={}\n", quoted(value))),
            Format::Json => {
                let members = variables.map(|(name, value)| (name.to_owned(), value.into()));
                let object = Value::Object(Map::from_iter(members));
                format!("{object:#}")
            }
            Format::Terraform => terraform(endpoint, self.show_secret),
        }
    }
}

fn variables(endpoint: &Endpoint) -> [(&'static str, &str); 5] {
    [
        ("AWS_ACCESS_KEY_ID", &endpoint.access_key_id),
        ("AWS_DEFAULT_REGION", &endpoint.region),
        ("AWS_ENDPOINT_URL", &endpoint.url),
        ("AWS_REGION", &endpoint.region),
        ("AWS_SECRET_ACCESS_KEY", &endpoint.secret_access_key),
    ]
}

/// What it skips is what asks AWS: the metadata of an EC2 instance, and whether AWS has the region.
/// Credentials and account are asked for at our own STS.
fn terraform(endpoint: &Endpoint, show_secret: bool) -> String {
    let (mut text, access_key, secret_key) = match show_secret {
        true => (
            String::new(),
            hcl(&endpoint.access_key_id),
            hcl(&endpoint.secret_access_key),
        ),
        false => (
            "variable \"ekiden_access_key\" {\n  type = string\n}\n\n\
             variable \"ekiden_secret_key\" {\n  type      = string\n  sensitive = true\n}\n\n"
                .to_owned(),
            "var.ekiden_access_key".to_owned(),
            "var.ekiden_secret_key".to_owned(),
        ),
    };
    let region = hcl(&endpoint.region);
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "provider \"aws\" {{\n  region                  = {region}\n  access_key              = \
         {access_key}\n  secret_key              = {secret_key}\n  skip_metadata_api_check = true\n  \
         skip_region_validation  = true\n\n  endpoints {{\n"
    );
    for service in TERRAFORM_ENDPOINTS {
        let _ = writeln!(text, "    {service:<14} = {}", hcl(&endpoint.url));
    }
    text.push_str("  }\n}\n");
    text
}

/// As a string of Terraform's language, in which `${` and `%{` begin templates.
fn hcl(value: &str) -> String {
    let json = Value::from(value).to_string();
    json.replace("${", "$${").replace("%{", "%%{")
}

/// As one word of a POSIX shell.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    match !value.is_empty() && value.chars().all(plain) {
        true => value.to_owned(),
        false => format!("'{}'", value.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(format: Format, show_secret: bool) -> String {
        let endpoint = Endpoint {
            url: "http://127.0.0.1:8470".to_owned(),
            region: "us-east-1".to_owned(),
            access_key_id: "EKIAONE".to_owned(),
            secret_access_key: "s3cr3t".to_owned(),
            session_token: None,
            edge_port: None,
        };
        Env {
            format,
            show_secret,
        }
        .text(&endpoint, format)
    }

    #[test]
    fn values_are_one_word_each() {
        assert_eq!(quoted("http://127.0.0.1:8470"), "http://127.0.0.1:8470");
        assert_eq!(quoted("a+b/c="), "'a+b/c='");
        assert_eq!(quoted("a'b"), "'a'\\''b'");
        assert_eq!(quoted(""), "''");
        assert_eq!(hcl("a\"${b}"), r#""a\"$${b}""#);
    }

    #[test]
    fn shell_and_dotenv_have_every_variable() {
        let wanted = "AWS_ACCESS_KEY_ID=EKIAONE\nAWS_DEFAULT_REGION=us-east-1\n\
                      AWS_ENDPOINT_URL=http://127.0.0.1:8470\nAWS_REGION=us-east-1\n\
                      AWS_SECRET_ACCESS_KEY=s3cr3t\n";
        assert_eq!(text(Format::Dotenv, false), wanted);
        let exported: Vec<String> = wanted
            .lines()
            .map(|line| format!("export {line}"))
            .collect();
        assert_eq!(text(Format::Shell, false).trim_end(), exported.join("\n"));
        let json: Value = serde_json::from_str(&text(Format::Json, false)).unwrap();
        assert_eq!(json["AWS_SECRET_ACCESS_KEY"], "s3cr3t");
    }

    #[test]
    fn terraform_has_the_endpoints_and_the_secret_only_if_asked() {
        let careful = text(Format::Terraform, false);
        assert!(!careful.contains("s3cr3t") && !careful.contains("EKIAONE"));
        assert!(careful.starts_with("variable \"ekiden_access_key\""));
        assert_eq!(
            text(Format::Terraform, true),
            r#"provider "aws" {
  region                  = "us-east-1"
  access_key              = "EKIAONE"
  secret_key              = "s3cr3t"
  skip_metadata_api_check = true
  skip_region_validation  = true

  endpoints {
    apprunner      = "http://127.0.0.1:8470"
    secretsmanager = "http://127.0.0.1:8470"
    ssm            = "http://127.0.0.1:8470"
    sts            = "http://127.0.0.1:8470"
  }
}
"#
        );
    }
}
