//! `ekiden ingress`: the front doors of services.

use std::{
    io::{IsTerminal, Read},
    path::PathBuf,
};

use clap::Subcommand;
use ekiden_aws::native::{
    DescribeIngressRequest, DescribeIngressResponse, DescribeTrafficRequest,
    DescribeTrafficResponse, Traffic, UpdateIngressRequest, UpdateIngressResponse,
};
use serde_json::{Map, Value};

use crate::{
    api::Api,
    failure::{Failure, Outcome},
    output::{OutputFormat, age, print, table, unix_now},
};

/// The longest file that is read, in bytes: the longest that the API takes.
const FILE_BYTES_MAX: u64 = 128 * 1024;

/// The longest password that is read, in bytes; the API says what it may be.
const PASSWORD_BYTES_MAX: u64 = 4096;

/// Settings that are lists, which can be given with commas.
const LISTS: [&str; 6] = [
    "allow",
    "deny",
    "allow_paths",
    "deny_paths",
    "compression",
    "https_redirect.except",
];

/// What to do with a front door.
#[derive(Debug, Clone, Subcommand)]
pub enum Ingress {
    /// Show how a service's front door is set
    Show {
        /// The service
        service: String,
    },
    /// Show what became of a service's requests: how many, by status and by cause
    Traffic {
        /// The service
        service: String,
    },
    /// Change how a service's front door is set; takes effect at once, without a deployment
    #[command(
        after_help = "KEY=VALUE is a setting and its value; `KEY=` is the default again. \
        Lists are separated by commas.\n\nExamples:\n  \
        ekiden ingress set website https_redirect.on=true canonical_host=www.example.com\n  \
        ekiden ingress set website allow=10.0.0.0/8,192.0.2.7 deny_paths=/admin\n  \
        ekiden ingress set website sticky.seconds=3600 idle_seconds=60\n  \
        ekiden ingress set website allow= sticky=\n  \
        ekiden ingress set website -f ingress.json"
    )]
    Set {
        /// The service
        service: String,
        /// Settings
        #[arg(value_name = "KEY=VALUE", required_unless_present = "file")]
        settings: Vec<String>,
        /// A JSON file of settings, as `show --output json` prints it; `-` is standard input
        #[arg(long, short)]
        file: Option<PathBuf>,
    },
    /// Let a user log in, with a password from standard input or typed at a prompt
    #[command(after_help = "Examples:\n  \
        ekiden ingress login website ann < password.txt\n  \
        ekiden ingress login website ann --remove")]
    Login {
        /// The service
        service: String,
        /// The user
        user: String,
        /// Let it log in no more; without users nobody is asked
        #[arg(long)]
        remove: bool,
    },
}

impl Ingress {
    /// Does it.
    ///
    /// # Errors
    /// The endpoint refuses or cannot be reached, there is no such service, or what is given cannot
    /// be read.
    pub async fn run(&self, api: &Api, format: OutputFormat) -> Outcome {
        match self {
            Self::Show { service } => {
                let document = describe(api, &api.arn(service).await?).await?;
                Ok(print(format, &document, text)?)
            }
            Self::Traffic { service } => {
                let request = DescribeTrafficRequest {
                    service_arn: api.arn(service).await?,
                };
                let response: DescribeTrafficResponse =
                    api.native("DescribeTraffic", &request).await?;
                Ok(print(format, &response.traffic, |traffic| {
                    traffic_text(traffic, unix_now())
                })?)
            }
            Self::Set {
                service,
                settings,
                file,
            } => {
                let mut change = match file {
                    Some(path) => read_file(path)?,
                    None => Map::new(),
                };
                for setting in settings {
                    add(&mut change, setting)?;
                }
                update(api, &api.arn(service).await?, change, format).await
            }
            Self::Login {
                service,
                user,
                remove,
            } => {
                let arn = api.arn(service).await?;
                let document = describe(api, &arn).await?;
                let password = match remove {
                    true => None,
                    false => Some(read_password(user)?),
                };
                let users = users(&document, user, password.as_deref())?;
                let change = Map::from_iter([("basic_auth".to_owned(), users)]);
                update(api, &arn, change, format).await
            }
        }
    }
}

async fn describe(api: &Api, arn: &str) -> Result<Map<String, Value>, Failure> {
    let request = DescribeIngressRequest {
        service_arn: arn.to_owned(),
    };
    let response: DescribeIngressResponse = api.native("DescribeIngress", &request).await?;
    Ok(serde_json::from_str(&response.ingress)?)
}

async fn update(api: &Api, arn: &str, change: Map<String, Value>, format: OutputFormat) -> Outcome {
    let request = UpdateIngressRequest {
        service_arn: arn.to_owned(),
        ingress: Value::Object(change).to_string(),
    };
    let response: UpdateIngressResponse = api.native("UpdateIngress", &request).await?;
    let document: Map<String, Value> = serde_json::from_str(&response.ingress)?;
    Ok(print(format, &document, |document| {
        let served = match response.served {
            true => "",
            false => "\nthe front door does not serve by it yet; it will as soon as it can",
        };
        format!("{}{served}", text(document))
    })?)
}

/// One line for each setting, with what is not the default marked by nothing more than its value.
fn text(document: &Map<String, Value>) -> String {
    let mut rows = Vec::new();
    for (key, value) in document {
        match value {
            Value::Object(members) if key != "pages" => rows.extend(
                members
                    .iter()
                    .map(|(member, value)| vec![format!("{key}.{member}"), shown(value)]),
            ),
            Value::Object(pages) => {
                let keys: Vec<_> = pages.keys().map(String::as_str).collect();
                rows.push(vec![key.clone(), dash(&keys.join(", "))]);
            }
            _ => rows.push(vec![key.clone(), shown(value)]),
        }
    }
    table(&["SETTING", "VALUE"], rows)
}

fn traffic_text(traffic: &Traffic, now: u64) -> String {
    let counts = [
        ("requests", traffic.requests),
        ("1xx", traffic.status_1xx),
        ("2xx", traffic.status_2xx),
        ("3xx", traffic.status_3xx),
        ("4xx", traffic.status_4xx),
        ("5xx", traffic.status_5xx),
        ("unanswered", traffic.unanswered),
    ];
    let causes = traffic
        .causes
        .iter()
        .map(|(name, count)| (name.as_str(), *count));
    let rows = counts.into_iter().chain(causes);
    let rows = rows.map(|(name, count)| vec![name.to_owned(), count.to_string()]);
    let time = format!("COUNT IN {}", age(now.saturating_sub(traffic.since)));
    table(&["WHAT", &time], rows)
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => dash(""),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let of = |entry: &Value| match entry.get("user") {
                Some(user) => shown(user),
                None => shown(entry),
            };
            dash(&list.iter().map(of).collect::<Vec<_>>().join(", "))
        }
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

fn dash(text: &str) -> String {
    match text {
        "" => "-".to_owned(),
        text => text.to_owned(),
    }
}

/// Takes `key=value` into the change.
fn add(change: &mut Map<String, Value>, setting: &str) -> Result<(), Failure> {
    let Some((key, value)) = setting.split_once('=').filter(|(key, _)| !key.is_empty()) else {
        return Err(Failure::new(format!(
            "`{setting}` is not a setting and its value: write KEY=VALUE"
        )));
    };
    if key == "basic_auth" || key.starts_with("basic_auth.") {
        return Err(Failure::new(
            "passwords are not taken as arguments, which every user of the machine can see: use \
             `ekiden ingress login SERVICE USER`"
                .to_owned(),
        ));
    }
    let value = match value {
        "" => Value::Null,
        _ if LISTS.contains(&key) => value
            .split(',')
            .map(|entry| Value::String(entry.trim().to_owned()))
            .collect(),
        _ => serde_json::from_str(value)
            .ok()
            .filter(|value: &Value| !value.is_string())
            .unwrap_or_else(|| Value::String(value.to_owned())),
    };
    match key.split_once('.') {
        None => drop(change.insert(key.to_owned(), value)),
        Some((key, member)) => {
            let into = change
                .entry(key.to_owned())
                .or_insert_with(|| Value::Object(Map::new()));
            if !into.is_object() {
                *into = Value::Object(Map::new());
            }
            if let Value::Object(into) = into {
                into.insert(member.to_owned(), value);
            }
        }
    }
    Ok(())
}

fn read_file(path: &std::path::Path) -> Result<Map<String, Value>, Failure> {
    let mut text = String::new();
    let named = path.display();
    let read = match path.as_os_str() == "-" {
        true => std::io::stdin()
            .lock()
            .take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text),
        false => std::fs::File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)),
    };
    read.map_err(|error| Failure::new(format!("`{named}` cannot be read: {error}")))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(Failure::new(format!(
            "`{named}` has more than {FILE_BYTES_MAX} bytes, which no settings have"
        )));
    }
    serde_json::from_str(&text)
        .map_err(|error| Failure::new(format!("`{named}` is not a JSON object: {error}")))
}

/// The users with this one added, given another password, or taken away.
fn users(
    document: &Map<String, Value>,
    user: &str,
    password: Option<&str>,
) -> Result<Value, Failure> {
    let all = document.get("basic_auth").and_then(Value::as_array);
    let mut users: Vec<Value> = all.cloned().unwrap_or_default();
    let before = users.len();
    users.retain(|entry| entry["user"] != user);
    match password {
        Some(password) => users.push(serde_json::json!({ "user": user, "password": password })),
        None if users.len() == before => {
            return Err(Failure::new(format!("there is no user `{user}`")));
        }
        None => {}
    }
    Ok(Value::Array(users))
}

/// From a prompt on a terminal, else standard input without its last line break.
fn read_password(user: &str) -> Result<String, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        let terminal = console::Term::stderr();
        terminal.write_str(&format!("password of {user} (not shown): "))?;
        return Ok(terminal.read_secure_line()?);
    }
    let mut password = String::new();
    stdin
        .lock()
        .take(PASSWORD_BYTES_MAX)
        .read_to_string(&mut password)?;
    let end = password.trim_end_matches(['\r', '\n']).len();
    password.truncate(end);
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(settings: &[&str]) -> Value {
        let mut change = Map::new();
        for setting in settings {
            add(&mut change, setting).unwrap();
        }
        Value::Object(change)
    }

    #[test]
    fn settings_become_a_document() {
        let document = change(&[
            "private=true",
            "idle_seconds=60",
            "allow=10.0.0.0/8, 192.0.2.1",
            "https_redirect.on=true",
            "https_redirect.except=/health",
            "canonical_host=www.example.com",
            "sticky=",
            "queue.requests=",
        ]);
        let want = serde_json::json!({
            "private": true,
            "idle_seconds": 60,
            "allow": ["10.0.0.0/8", "192.0.2.1"],
            "https_redirect": { "on": true, "except": ["/health"] },
            "canonical_host": "www.example.com",
            "sticky": null,
            "queue": { "requests": null },
        });
        assert_eq!(document, want);
    }

    #[test]
    fn traffic_is_shown_by_status_and_cause() {
        let traffic = Traffic {
            since: 1000,
            requests: 3,
            status_2xx: 1,
            status_5xx: 2,
            causes: [("queue_full".to_owned(), 2)].into(),
            ..Traffic::default()
        };
        assert_eq!(
            traffic_text(&traffic, 1060),
            "WHAT        COUNT IN 60s\nrequests    3\n1xx         0\n2xx         1\n3xx         0\n\
             4xx         0\n5xx         2\nunanswered  0\nqueue_full  2"
        );
    }

    #[test]
    fn a_password_is_no_argument() {
        for setting in ["basic_auth=x", "basic_auth.ann=x", "private", "=x"] {
            assert!(add(&mut Map::new(), setting).is_err(), "{setting}");
        }
    }

    #[test]
    fn a_user_is_added_changed_and_taken_away() {
        let document = serde_json::json!({ "basic_auth": [{ "user": "ann" }, { "user": "bob" }] });
        let document = document.as_object().unwrap();
        let with = users(document, "ann", Some("correct horse")).unwrap();
        let want = serde_json::json!([
            { "user": "bob" },
            { "user": "ann", "password": "correct horse" }
        ]);
        assert_eq!(with, want);
        let without = users(document, "bob", None).unwrap();
        assert_eq!(without, serde_json::json!([{ "user": "ann" }]));
        assert!(users(document, "eve", None).is_err());
    }

    #[test]
    fn what_is_set_is_shown_by_the_names_that_set_it() {
        let document = serde_json::json!({
            "allow": ["10.0.0.0/8", "192.0.2.1"],
            "basic_auth": [{ "user": "ann" }],
            "canonical_host": null,
            "https_redirect": { "on": true },
            "pages": { "5xx": { "body": "sorry" } },
        });
        let text = text(document.as_object().unwrap());
        for line in ["10.0.0.0/8, 192.0.2.1", "ann", "https_redirect.on", "5xx"] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("sorry"), "{text}");
    }
}
