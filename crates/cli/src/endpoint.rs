//! Where the API is, and who speaks to it.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use serde::Deserialize;

use crate::failure::Failure;

/// The region when nothing says otherwise.
pub const REGION: &str = "us-east-1";

/// The Ekiden of this host, as its configuration describes it.
#[derive(Debug, Clone)]
pub struct LocalServer {
    /// Where its API listens.
    pub api: SocketAddr,
    /// Where its first access key is, readable by root and control.
    pub key_file: PathBuf,
    /// The agent's socket, for root.
    pub agent_socket: PathBuf,
    /// The first port of its front door.
    pub edge_port: u16,
}

/// What a call needs besides its input. No `Debug`: it holds a secret.
#[derive(Clone)]
pub struct Endpoint {
    /// `http://host:port`.
    pub url: String,
    /// The name space of services.
    pub region: String,
    /// Who calls.
    pub access_key_id: String,
    /// How that is proven.
    pub secret_access_key: String,
    /// Of temporary credentials.
    pub session_token: Option<String>,
    /// The front door's port, if that is known.
    pub edge_port: Option<u16>,
}

/// What names an endpoint in an environment like the AWS tools' own.
#[derive(Debug, Clone, Copy)]
pub struct Variables<'a>(pub &'a BTreeMap<String, String>);

/// A key of the environment, or `admin-key.json`. No `Debug`: it holds a secret.
#[derive(Deserialize)]
struct OwnKey {
    access_key_id: String,
    secret_access_key: String,
    #[serde(skip)]
    session_token: Option<String>,
}

impl Endpoint {
    /// The endpoint that the flag, else the AWS variables, else this host's Ekiden means. A key of
    /// the environment goes with an endpoint of flag or environment; this host's own goes with its
    /// own key, and the environment's only if that cannot be read.
    ///
    /// # Errors
    /// There is no key.
    pub fn find(
        flag: Option<&str>,
        variables: Variables<'_>,
        local: &LocalServer,
    ) -> Result<Self, Failure> {
        let named =
            flag.or_else(|| variables.first(&["AWS_ENDPOINT_URL_APPRUNNER", "AWS_ENDPOINT_URL"]));
        let region = variables
            .first(&["AWS_REGION", "AWS_DEFAULT_REGION"])
            .unwrap_or(REGION);
        let (url, key) = match named {
            Some(url) => (url.to_owned(), variables.key().ok_or_else(|| no_key(url))?),
            None => (local.url(), local.key(variables)?),
        };
        let edge_port = (url == local.url()).then_some(local.edge_port);
        Ok(Self {
            url,
            region: region.to_owned(),
            access_key_id: key.access_key_id,
            secret_access_key: key.secret_access_key,
            session_token: key.session_token,
            edge_port,
        })
    }

    /// The endpoint of this host's Ekiden.
    ///
    /// # Errors
    /// Its key cannot be read.
    pub fn local(variables: Variables<'_>, local: &LocalServer) -> Result<Self, Failure> {
        let key = local.own_key().map_err(|error| local.explain(&error))?;
        let region = variables
            .first(&["AWS_REGION", "AWS_DEFAULT_REGION"])
            .unwrap_or(REGION);
        Ok(Self {
            url: local.url(),
            region: region.to_owned(),
            access_key_id: key.access_key_id,
            secret_access_key: key.secret_access_key,
            session_token: None,
            edge_port: Some(local.edge_port),
        })
    }
}

impl LocalServer {
    /// The endpoint as a client on this host reaches it.
    pub fn url(&self) -> String {
        let mut address = self.api;
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
                IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
            });
        }
        format!("http://{address}")
    }

    fn key(&self, variables: Variables<'_>) -> Result<OwnKey, Failure> {
        self.own_key()
            .or_else(|error| variables.key().ok_or_else(|| self.explain(&error)))
    }

    fn own_key(&self) -> io::Result<OwnKey> {
        Ok(serde_json::from_slice(&fs::read(&self.key_file)?)?)
    }

    fn explain(&self, error: &io::Error) -> Failure {
        let path = self.key_file.display();
        let failure = Failure::new(format!("cannot read the access key `{path}`: {error}"));
        match error.kind() {
            io::ErrorKind::PermissionDenied => failure.hint(
                "run it through sudo, or take over the key with `eval \"$(sudo ekiden env)\"`",
            ),
            _ => failure.hint("it is made when the server starts: `sudo ekiden server`"),
        }
    }
}

impl<'a> Variables<'a> {
    fn first(self, names: &[&str]) -> Option<&'a str> {
        names
            .iter()
            .find_map(|name| self.0.get(*name))
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    fn key(self) -> Option<OwnKey> {
        let text = |name| self.first(&[name]).map(str::to_owned);
        Some(OwnKey {
            access_key_id: text("AWS_ACCESS_KEY_ID")?,
            secret_access_key: text("AWS_SECRET_ACCESS_KEY")?,
            session_token: text("AWS_SESSION_TOKEN"),
        })
    }
}

fn no_key(url: &str) -> Failure {
    Failure::new(format!("there is no access key for {url}")).hint(
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; `ekiden env` on its host prints them",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(directory: &std::path::Path) -> LocalServer {
        let key_file = directory.join("admin-key.json");
        fs::write(
            &key_file,
            r#"{"access_key_id":"LOCAL","secret_access_key":"s"}"#,
        )
        .unwrap();
        LocalServer {
            api: SocketAddr::from(([0, 0, 0, 0], 8470)),
            key_file,
            agent_socket: directory.join("agent.sock"),
            edge_port: 8080,
        }
    }

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[track_caller]
    fn check(flag: Option<&str>, pairs: &[(&str, &str)], want: (&str, &str)) {
        let directory = tempfile::tempdir().unwrap();
        let variables = variables(pairs);
        let found = Endpoint::find(flag, Variables(&variables), &local(directory.path())).unwrap();
        assert_eq!((found.url.as_str(), found.access_key_id.as_str()), want);
    }

    #[test]
    fn the_nearest_endpoint_counts_and_its_key_goes_with_it() {
        let aws = [("AWS_ACCESS_KEY_ID", "ENV"), ("AWS_SECRET_ACCESS_KEY", "s")];
        check(None, &[], ("http://127.0.0.1:8470", "LOCAL"));
        check(None, &aws, ("http://127.0.0.1:8470", "LOCAL"));
        check(Some("http://there:1"), &aws, ("http://there:1", "ENV"));
        let mut with_url = aws.to_vec();
        with_url.push(("AWS_ENDPOINT_URL", "http://env:2"));
        check(None, &with_url, ("http://env:2", "ENV"));
        check(Some("http://there:1"), &with_url, ("http://there:1", "ENV"));
    }

    #[test]
    fn a_missing_key_is_explained() {
        let directory = tempfile::tempdir().unwrap();
        let mut local = local(directory.path());
        local.key_file = directory.path().join("none");
        let empty = BTreeMap::new();
        let failure = Endpoint::find(None, Variables(&empty), &local)
            .err()
            .unwrap();
        assert!(failure.hint.unwrap().contains("ekiden server"));
        assert!(Endpoint::find(Some("http://there:1"), Variables(&empty), &local).is_err());
    }
}
