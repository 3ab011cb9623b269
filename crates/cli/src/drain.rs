//! `ekiden drain`: where lines of logs are sent.
//!
//! Secrets are read from a variable of the environment, a file or standard input: arguments are seen by every
//! user of the machine, and kept by shells.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use ekiden_aws::native::{
    DeleteDrainRequest, DeleteDrainResponse, Drain as Shown, ListDrainsRequest, ListDrainsResponse,
    PutDrainRequest, PutDrainResponse, TestDrainRequest, TestDrainResponse,
};
use serde_json::{Map, Value, json};

use crate::{
    api::Api,
    failure::{Failure, Outcome},
    output::{OutputFormat, age, print, print_line, table, unix_now},
};

/// The longest file of a target or a secret.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What to do with drains.
#[derive(Debug, Clone, Subcommand)]
pub enum Drain {
    /// Send lines of logs to another system from now on, or change how
    #[command(after_help = "Examples:\n  \
        ekiden drain add collector --to otlp+https://collector.example.com:4318 \
        --secret headers.authorization=env:TOKEN\n  \
        ekiden drain add siem --to syslog+tls://logs.example.com:6514 --service website\n  \
        ekiden drain add archive --to 's3://logs/ekiden?region=eu-central-1' \
        --secret access_key_id=env:KEY --secret secret_access_key=file:archive.key\n  \
        ekiden drain add fluent --to fluent://127.0.0.1:24224\n  \
        ekiden drain add mine --to https://example.com/logs --kind application --kind access")]
    Add(Box<Add>),
    /// List the drains and how it goes with them
    #[command(alias = "list")]
    Ls,
    /// Delete a drain; what it has not sent stays in the logs
    #[command(alias = "remove")]
    Rm {
        /// The drain
        name: String,
    },
    /// Send one line that says it is a test, and show what came of it
    Test {
        /// The drain
        name: String,
    },
}

/// A drain to be.
#[derive(Debug, Clone, Args)]
pub struct Add {
    /// What to call it; one of that name gets other settings
    name: String,
    /// Where to: otlp+https://, syslog+tls://, syslog+tcp://, fluent://, fluent+tls://, https://, http:// with
    /// a host, or s3://BUCKET/PREFIX; further settings as ?NAME=VALUE&...
    #[arg(long, value_name = "URL", required_unless_present = "target")]
    to: Option<String>,
    /// Where to, as a file of JSON with every setting; `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    target: Option<PathBuf>,
    /// The only service whose lines are sent [default: all services]
    #[arg(long)]
    service: Option<String>,
    /// What is sent; may be given several times [default: application and service]
    #[arg(long, value_parser = ["application", "service", "access"])]
    kind: Vec<String>,
    /// A secret: NAME=env:VARIABLE or NAME=file:PATH, such as headers.authorization=env:TOKEN; those of
    /// before stay when none is given
    #[arg(long, value_name = "NAME=FROM")]
    secret: Vec<String>,
    /// Begin with the oldest lines that are there rather than with those that come
    #[arg(long)]
    from_beginning: bool,
    /// Keep it, but do not send
    #[arg(long)]
    disabled: bool,
}

impl Drain {
    /// Does it.
    ///
    /// # Errors
    /// As [`Api::native`]; a file or a variable cannot be read; the receiver does not take a test.
    pub async fn run(self, api: &Api, format: OutputFormat) -> Outcome {
        match self {
            Self::Add(add) => add.run(api, format).await,
            Self::Ls => {
                let answer: ListDrainsResponse =
                    api.native("ListDrains", &ListDrainsRequest {}).await?;
                Ok(print(format, &answer.drains, |drains| {
                    list_text(drains, unix_now())
                })?)
            }
            Self::Rm { name } => {
                let request = DeleteDrainRequest { name };
                let _: DeleteDrainResponse = api.native("DeleteDrain", &request).await?;
                Ok(print_line(&format!("drain {} is deleted", request.name))?)
            }
            Self::Test { name } => {
                let request = TestDrainRequest { name };
                let answer: TestDrainResponse = api.native("TestDrain", &request).await?;
                if !answer.taken {
                    let why = answer
                        .message
                        .unwrap_or_else(|| "it did not say why".to_owned());
                    let what = format!("the receiver did not take the line: {why}");
                    return Err(Failure::new(what));
                }
                Ok(print(format, &answer, |answer| {
                    format!("the receiver took the line in {} ms", answer.milliseconds)
                })?)
            }
        }
    }
}

impl Add {
    async fn run(self, api: &Api, format: OutputFormat) -> Outcome {
        let target = match (&self.to, &self.target) {
            (Some(url), _) => target_of(url)?.to_string(),
            (None, Some(file)) => read(file)?,
            (None, None) => return Err(Failure::new("there is no target")),
        };
        let service_arn = match &self.service {
            Some(name) => Some(api.arn(name).await?),
            None => None,
        };
        let request = PutDrainRequest {
            name: self.name,
            service_arn,
            kinds: (!self.kind.is_empty()).then_some(self.kind),
            target,
            secrets: match &self.secret[..] {
                [] => None,
                given => Some(secrets(given)?.to_string()),
            },
            enabled: Some(!self.disabled),
            from_beginning: Some(self.from_beginning),
        };
        let answer: PutDrainResponse = api.native("PutDrain", &request).await?;
        print(format, &answer.drain, |drain| {
            let what = if drain.enabled {
                "sends"
            } else {
                "is kept, and does not send"
            };
            format!("drain {} {what}", drain.name)
        })?;
        if format == OutputFormat::Text {
            eprintln!("`ekiden drain test {}` sends it a line", answer.drain.name);
        }
        Ok(())
    }
}

/// The target that a URL stands for.
fn target_of(url: &str) -> Result<Value, Failure> {
    let bad = |problem: &str| Failure::new(format!("`{}` {problem}", shown_url(url)));
    let (scheme, rest) = url.split_once("://").ok_or_else(|| {
        bad("is no URL").hint("such as `otlp+https://collector.example.com:4318`")
    })?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    if authority.contains('@') {
        return Err(bad("has a user or a password in it")
            .hint("`--secret headers.authorization=env:VARIABLE` reads one from the environment"));
    }
    if authority.is_empty() {
        return Err(bad("has no host"));
    }
    let host_of = |port: u16| host_and_port(authority, port).ok_or_else(|| bad("has no such port"));
    let mut target = Map::new();
    let mut set = |name: &str, value: Value| target.insert(name.to_owned(), value);
    match scheme {
        "http" | "https" => {
            set("type", json!("http"));
            // The query belongs to the URL here.
            set("url", json!(url));
            return Ok(Value::Object(target));
        }
        "otlp+http" | "otlp+https" => {
            let scheme = scheme.trim_start_matches("otlp+");
            let base = path.trim_end_matches('/').trim_end_matches("/v1/logs");
            set("type", json!("otlp"));
            set("url", json!(format!("{scheme}://{authority}{base}")));
        }
        "syslog+tls" | "syslog+tcp" => {
            let (transport, port) = match scheme {
                "syslog+tls" => ("tls", 6514),
                _ => ("tcp", 601),
            };
            let (host, port) = host_of(port)?;
            set("type", json!("syslog"));
            set("host", json!(host));
            set("port", json!(port));
            set("transport", json!(transport));
        }
        "fluent" | "fluent+tls" => {
            let transport = if scheme == "fluent" { "tcp" } else { "tls" };
            let (host, port) = host_of(24224)?;
            set("type", json!("fluent"));
            set("host", json!(host));
            set("port", json!(port));
            set("transport", json!(transport));
        }
        "s3" => {
            set("type", json!("s3"));
            set("bucket", json!(authority));
            set("prefix", json!(path.trim_matches('/')));
        }
        _ => {
            return Err(bad("has another scheme than a drain").hint(
                "otlp+https, otlp+http, syslog+tls, syslog+tcp, fluent, fluent+tls, https, http or s3",
            ));
        }
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| bad("has a setting without a value"))?;
        set(name, setting(name, value));
    }
    Ok(Value::Object(target))
}

/// Those that are not texts are known by their names.
fn setting(name: &str, value: &str) -> Value {
    match name {
        "facility" | "message_bytes_max" => value
            .parse::<u64>()
            .map_or_else(|_| json!(value), |number| json!(number)),
        "path_style" => value
            .parse::<bool>()
            .map_or_else(|_| json!(value), |flag| json!(flag)),
        _ => json!(value),
    }
}

fn host_and_port(authority: &str, default: u16) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port > 0)?,
        None => default,
    };
    (!host.is_empty()).then_some((host, port))
}

/// Without what may be a password.
fn shown_url(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => {
            format!("{}...{}", &url[..scheme + 3], &url[at..])
        }
        _ => url.to_owned(),
    }
}

/// The document of secrets: `headers.x` is the header `x`.
fn secrets(given: &[String]) -> Result<Value, Failure> {
    let mut document = Map::new();
    for one in given {
        let (name, from) = one.split_once('=').ok_or_else(|| {
            // Not what it is: it may be the secret.
            Failure::new("a secret has no name or no source")
                .hint("`--secret NAME=env:VARIABLE` or `--secret NAME=file:PATH`")
        })?;
        let value = match from.split_once(':') {
            Some(("env", variable)) => std::env::var(variable).map_err(|_| {
                let what = format!("there is no variable {variable} in the environment");
                Failure::new(what).hint(format!("it is to have the secret {name}"))
            })?,
            Some(("file", path)) => {
                let text = read(Path::new(path))?;
                text.strip_suffix('\n').unwrap_or(&text).to_owned()
            }
            _ => {
                let what = format!("the secret {name} is to come from a variable or a file");
                return Err(Failure::new(what).hint(format!(
                    "`--secret {name}=env:VARIABLE` or `--secret {name}=file:PATH`"
                )));
            }
        };
        match name.split_once('.') {
            Some((outer, inner)) => {
                let parts = document.entry(outer).or_insert_with(|| json!({}));
                if let Value::Object(parts) = parts {
                    parts.insert(inner.to_owned(), json!(value));
                }
            }
            None => {
                document.insert(name.to_owned(), json!(value));
            }
        }
    }
    Ok(Value::Object(document))
}

fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = match path == Path::new("-") {
        true => io::stdin().take(FILE_BYTES_MAX).read_to_string(&mut text),
        false => {
            File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
        }
    };
    match read {
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::new(format!(
            "cannot read `{}`: {error}",
            path.display()
        ))),
    }
}

fn list_text(drains: &[Shown], now: u64) -> String {
    let row = |drain: &Shown| {
        let status = &drain.status;
        let behind = match status.behind_lines {
            0 => String::new(),
            lines => format!("{lines} lines, {}", age(status.behind_seconds)),
        };
        let lost = [
            (status.lines_rejected, "rejected"),
            (status.lines_lost, "lost"),
        ];
        let lost = lost.iter().filter(|(lines, _)| *lines > 0);
        let error = status.last_error.as_deref().map(|error| {
            let ago = age(now.saturating_sub(status.last_error_at.unwrap_or(now)));
            format!("{error} ({ago} ago)")
        });
        vec![
            drain.name.clone(),
            place(&drain.target),
            service_name(drain.service_arn.as_deref()),
            drain.kinds.join(" "),
            status.state.to_lowercase(),
            status.lines_sent.to_string(),
            behind,
            lost.map(|(lines, what)| format!("{lines} {what}"))
                .collect::<Vec<_>>()
                .join(", "),
            error.unwrap_or_default(),
        ]
    };
    let header = [
        "NAME",
        "TO",
        "SERVICE",
        "KINDS",
        "STATE",
        "SENT",
        "BEHIND",
        "NOT SENT",
        "LAST ERROR",
    ];
    table(&header, drains.iter().map(row))
}

/// The name in a service's ARN.
fn service_name(arn: Option<&str>) -> String {
    match arn {
        Some(arn) => arn.split('/').nth(1).unwrap_or(arn).to_owned(),
        None => "all".to_owned(),
    }
}

/// Where a target is, in a few words.
fn place(target: &str) -> String {
    let Ok(target) = serde_json::from_str::<Value>(target) else {
        return String::new();
    };
    let text = |name: &str| target[name].as_str().unwrap_or_default();
    match text("type") {
        "s3" => format!("s3 {}/{}", text("bucket"), text("prefix")),
        kind @ ("syslog" | "fluent") => format!("{kind} {}:{}", text("host"), target["port"]),
        kind => format!("{kind} {}", text("url")),
    }
}

#[cfg(test)]
mod tests {
    use ekiden_aws::native::DrainStatus;

    use super::*;

    #[test]
    fn urls_stand_for_targets() {
        for (url, target) in [
            (
                "otlp+https://c.example.com:4318",
                json!({ "type": "otlp", "url": "https://c.example.com:4318" }),
            ),
            (
                "otlp+http://c/base/v1/logs?compression=none",
                json!({ "type": "otlp", "url": "http://c/base", "compression": "none" }),
            ),
            (
                "syslog+tls://logs.example.com?ca_file=/etc/ca.pem&facility=17",
                json!({
                    "type": "syslog", "host": "logs.example.com", "port": 6514,
                    "transport": "tls", "ca_file": "/etc/ca.pem", "facility": 17,
                }),
            ),
            (
                "syslog+tcp://[::1]:5140",
                json!({ "type": "syslog", "host": "::1", "port": 5140, "transport": "tcp" }),
            ),
            (
                "fluent://h",
                json!({ "type": "fluent", "host": "h", "port": 24224, "transport": "tcp" }),
            ),
            (
                "https://h/logs?key=1",
                json!({ "type": "http", "url": "https://h/logs?key=1" }),
            ),
            (
                "s3://bucket/a/b/?region=eu-west-1&endpoint=http://127.0.0.1:5000&path_style=true",
                json!({
                    "type": "s3", "bucket": "bucket", "prefix": "a/b", "region": "eu-west-1",
                    "endpoint": "http://127.0.0.1:5000", "path_style": true,
                }),
            ),
        ] {
            assert_eq!(target_of(url).unwrap(), target, "{url}");
        }
    }

    #[test]
    fn urls_that_are_none_are_refused_without_their_passwords() {
        for url in [
            "collector",
            "udp://h",
            "fluent://",
            "syslog+tls://h:0",
            "syslog+tls://h:x",
            "https://me:mouse@h/",
            "s3://b?region",
        ] {
            let refused = target_of(url).unwrap_err().sentence();
            assert!(!refused.contains("mouse"), "{refused}");
        }
    }

    #[test]
    fn secrets_come_from_files_and_variables_and_not_from_arguments() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "cheese\n").unwrap();
        let given = [
            format!("headers.authorization=file:{}", file.display()),
            "headers.path=env:PATH".to_owned(),
        ];
        let document = secrets(&given).unwrap();
        assert_eq!(document["headers"]["authorization"], "cheese");
        assert_eq!(document["headers"]["path"], std::env::var("PATH").unwrap());
        for bad in [
            "mouse",
            "shared_key=mouse",
            "shared_key=value:mouse",
            "a=env:EKIDEN_NO_SUCH",
        ] {
            let refused = secrets(&[bad.to_owned()]).unwrap_err().sentence();
            assert!(!refused.contains("mouse"), "{refused}");
        }
    }

    #[test]
    fn the_list_says_how_it_goes() {
        let drain = Shown {
            name: "siem".to_owned(),
            service_arn: Some("arn:aws:apprunner:us-east-1:1:service/web/0a".to_owned()),
            kinds: vec!["application".to_owned(), "access".to_owned()],
            target: json!({ "type": "syslog", "host": "h", "port": 6514 }).to_string(),
            enabled: true,
            status: DrainStatus {
                state: "RETRYING".to_owned(),
                lines_sent: 7,
                lines_lost: 2,
                behind_lines: 12,
                behind_seconds: 60,
                last_error: Some("refused".to_owned()),
                last_error_at: Some(990),
                ..DrainStatus::default()
            },
            ..Shown::default()
        };
        let text = list_text(&[drain], 1000);
        for part in [
            "siem",
            "syslog h:6514",
            "web",
            "application access",
            "retrying",
            "12 lines, 60s",
            "2 lost",
            "refused (10s ago)",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
