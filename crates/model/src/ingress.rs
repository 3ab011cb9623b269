//! A service's front door: who is let in, where clients are sent, and how its requests are carried.
//!
//! These settings belong to the service and not to a revision: they take effect as soon as the edge
//! has the route, without a deployment. Every one has a default, and with all of them the front
//! door is what App Runner's is. The types cannot hold what a single value must not be;
//! [`Ingress::check`] says the rest.

use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::ingress_path::PathPrefix;

/// Address ranges in one list.
pub const ADDRESSES_MAX: usize = 256;

/// Path prefixes in one list.
pub const PATHS_MAX: usize = 64;

/// Users that can log in.
pub const USERS_MAX: usize = 64;

/// The longest name of a user, in bytes.
pub const USER_BYTES_MAX: usize = 128;

/// The shortest password, in bytes. Its hash has to be cheap, because it is made for every request;
/// so the password has to bear a search.
pub const PASSWORD_BYTES_MIN: usize = 12;

/// The longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 256;

/// A service's own pages.
pub const PAGES_MAX: usize = 16;

/// The longest page, in bytes.
pub const PAGE_BYTES_MAX: usize = 16 * 1024;

/// All pages of a service together, in bytes.
pub const PAGES_BYTES_MAX: usize = 64 * 1024;

/// The longest time that can be set, in seconds: a day.
pub const SECONDS_MAX: u32 = 24 * 60 * 60;

/// The longest life of a sticky session, in seconds: 30 days.
pub const STICKY_SECONDS_MAX: u32 = 30 * 24 * 60 * 60;

/// The longest queue that can be set.
pub const QUEUE_REQUESTS_MAX: u32 = 100_000;

/// The longest time in a queue that can be set, in seconds.
pub const QUEUE_SECONDS_MAX: u32 = 60 * 60;

/// The settings of a service's front door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ingress {
    /// What the application speaks.
    pub app_protocol: AppProtocol,
    /// How long a request may take in all; no bound when absent.
    pub request_total_seconds: Option<u32>,
    /// How long nothing may move before a request is given up; the edge's own setting when absent.
    pub idle_seconds: Option<u32>,
    /// Whether plain HTTP is sent to HTTPS.
    pub https_redirect: HttpsRedirect,
    /// The host name that clients of the others are sent to, as long as it leads to the service.
    pub canonical_host: Option<HostName>,
    /// Whether the service is served under the name that it was given.
    pub default_host: bool,
    /// Whether only private listeners serve it.
    pub private: bool,
    /// The only clients that are let in; all when empty.
    pub allow: Vec<AddressRange>,
    /// Clients that are not let in, allowed or not.
    pub deny: Vec<AddressRange>,
    /// The only paths that are served; all when empty.
    pub allow_paths: Vec<PathPrefix>,
    /// Paths that are not served, allowed or not.
    pub deny_paths: Vec<PathPrefix>,
    /// Who can log in; nobody has to when empty.
    pub basic_auth: Vec<Credential>,
    /// Whether a client's requests go to the same instance.
    pub sticky: Option<Sticky>,
    /// Where `X-Request-Id` is from.
    pub request_id: RequestIdPolicy,
    /// Whether the application gets `Forwarded` (RFC 7239) beside the `X-Forwarded` fields.
    pub forwarded: bool,
    /// The codings that responses are compressed by, the favourite first; none when empty.
    pub compression: Vec<Coding>,
    /// What clients are shown in place of the edge's own answers.
    pub pages: BTreeMap<PageKey, Page>,
    /// Bounds of the service's queue.
    pub queue: QueueBounds,
}

/// What an application speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS, by prior knowledge: gRPC.
    H2c,
}

/// Sending plain HTTP to HTTPS.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpsRedirect {
    /// Whether it is done.
    pub on: bool,
    /// With which status.
    pub status: RedirectStatus,
    /// Paths that are served over plain HTTP all the same. ACME's always is.
    pub except: Vec<PathPrefix>,
}

/// The status of a redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub enum RedirectStatus {
    /// 308: the request is sent again as it was.
    #[default]
    Permanent,
    /// 301, for clients that do not know 308; a `POST` may become a `GET`.
    Moved,
}

/// A session that stays with its instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sticky {
    /// The cookie's name.
    pub cookie: CookieName,
    /// How long the browser keeps it; until it is closed when 0.
    pub seconds: u32,
}

/// Where a request's id is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestIdPolicy {
    /// The edge makes one for every request.
    #[default]
    Make,
    /// The client's, if it sent one that can be one.
    Keep,
}

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Coding {
    /// Brotli (RFC 7932).
    Br,
    /// Zstandard (RFC 8878).
    Zstd,
    /// gzip (RFC 1952).
    Gzip,
}

/// An answer of the service's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Its media type.
    #[serde(default = "html")]
    pub content_type: String,
    /// Its text.
    pub body: String,
}

/// Bounds of a service's queue; the edge's own where absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueBounds {
    /// Requests that may wait.
    pub requests: Option<u32>,
    /// How long one may wait.
    pub seconds: Option<u32>,
}

/// A user and what its password is checked against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// Its name: printable, without `:`.
    pub user: String,
    /// What its password becomes with a salt.
    pub hash: PasswordHash,
}

/// SHA-256 over a salt and a password.
///
/// A hash that is slow on purpose would be worked out for every request, and whoever sends wrong
/// passwords could keep the edge busy with it. This one takes less than a microsecond; in return a
/// password has at least [`PASSWORD_BYTES_MIN`] bytes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PasswordHash {
    /// Drawn for this password.
    pub salt: [u8; 16],
    /// SHA-256 over the salt and then the password.
    pub digest: [u8; 32],
}

/// One address or a network: `192.0.2.1`, `10.0.0.0/8`, `2001:db8::/32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressRange(IpNet);

/// A host name as it is compared: lower case, without port and last dot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

/// The name of a cookie: a token of at most 64 bytes (RFC 6265, section 4.1.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CookieName(String);

/// What a page is for: a cause such as `queue_full`, a status such as `503`, or `4xx` and `5xx`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PageKey(String);

/// What the settings must not be, by the name of the setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {why}")]
pub struct InvalidIngress {
    /// Which setting.
    pub field: &'static str,
    /// What is wrong with it, and what would be right.
    pub why: String,
}

/// A text that is not what it should be. It says what would be right, and does not repeat what may
/// be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidText(String);

impl Default for Ingress {
    fn default() -> Self {
        Self {
            app_protocol: AppProtocol::default(),
            request_total_seconds: None,
            idle_seconds: None,
            https_redirect: HttpsRedirect::default(),
            canonical_host: None,
            default_host: true,
            private: false,
            allow: Vec::new(),
            deny: Vec::new(),
            allow_paths: Vec::new(),
            deny_paths: Vec::new(),
            basic_auth: Vec::new(),
            sticky: None,
            request_id: RequestIdPolicy::default(),
            forwarded: false,
            compression: Vec::new(),
            pages: BTreeMap::new(),
            queue: QueueBounds::default(),
        }
    }
}

impl Default for Sticky {
    fn default() -> Self {
        Self {
            cookie: CookieName("ekiden-instance".to_owned()),
            seconds: 0,
        }
    }
}

impl Ingress {
    /// Whether nothing is set.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the settings are within their bounds.
    ///
    /// # Errors
    /// [`InvalidIngress`], the first one that is not.
    pub fn check(&self) -> Result<(), InvalidIngress> {
        seconds(
            "request_total_seconds",
            self.request_total_seconds,
            SECONDS_MAX,
        )?;
        seconds("idle_seconds", self.idle_seconds, SECONDS_MAX)?;
        seconds("queue.seconds", self.queue.seconds, QUEUE_SECONDS_MAX)?;
        if self.queue.requests > Some(QUEUE_REQUESTS_MAX) {
            return invalid(
                "queue.requests",
                format!("must be from 0 to {QUEUE_REQUESTS_MAX}"),
            );
        }
        if let Some(sticky) = &self.sticky
            && sticky.seconds > STICKY_SECONDS_MAX
        {
            return invalid(
                "sticky.seconds",
                format!("must be from 0 to {STICKY_SECONDS_MAX}; 0 is until the browser closes"),
            );
        }
        for (field, count, max) in [
            ("allow", self.allow.len(), ADDRESSES_MAX),
            ("deny", self.deny.len(), ADDRESSES_MAX),
            ("allow_paths", self.allow_paths.len(), PATHS_MAX),
            ("deny_paths", self.deny_paths.len(), PATHS_MAX),
            (
                "https_redirect.except",
                self.https_redirect.except.len(),
                PATHS_MAX,
            ),
            ("basic_auth", self.basic_auth.len(), USERS_MAX),
            ("pages", self.pages.len(), PAGES_MAX),
        ] {
            if count > max {
                return invalid(
                    field,
                    format!("has {count} entries; at most {max} are possible"),
                );
            }
        }
        self.check_users()?;
        self.check_codings()?;
        self.check_pages()
    }

    fn check_users(&self) -> Result<(), InvalidIngress> {
        let mut seen = Vec::new();
        for Credential { user, .. } in &self.basic_auth {
            let printable = user
                .bytes()
                .all(|byte| matches!(byte, b' '..=b'~') && byte != b':');
            if !printable || !(1..=USER_BYTES_MAX).contains(&user.len()) {
                return invalid(
                    "basic_auth",
                    format!(
                        "has a user whose name is not 1 to {USER_BYTES_MAX} printable characters \
                         of ASCII without `:`"
                    ),
                );
            }
            if seen.contains(&user) {
                return invalid("basic_auth", format!("has the user `{user}` twice"));
            }
            seen.push(user);
        }
        Ok(())
    }

    fn check_codings(&self) -> Result<(), InvalidIngress> {
        let twice = |at: usize| self.compression[..at].contains(&self.compression[at]);
        match (0..self.compression.len()).find(|at| twice(*at)) {
            None => Ok(()),
            Some(_) => invalid("compression", "has a coding twice".to_owned()),
        }
    }

    fn check_pages(&self) -> Result<(), InvalidIngress> {
        let mut bytes = 0;
        for (PageKey(key), page) in &self.pages {
            bytes += page.body.len();
            if page.body.len() > PAGE_BYTES_MAX {
                let have = page.body.len();
                return invalid(
                    "pages",
                    format!("has {have} bytes for `{key}`; a page has at most {PAGE_BYTES_MAX}"),
                );
            }
            let visible = page
                .content_type
                .bytes()
                .all(|byte| matches!(byte, b' '..=b'~'));
            if !visible
                || !(3..=128).contains(&page.content_type.len())
                || !page.content_type.contains('/')
            {
                return invalid(
                    "pages",
                    format!(
                        "has a `content_type` for `{key}` that is not a media type such as \
                         `text/html; charset=utf-8`"
                    ),
                );
            }
        }
        match bytes > PAGES_BYTES_MAX {
            true => invalid(
                "pages",
                format!("have {bytes} bytes together; at most {PAGES_BYTES_MAX} are possible"),
            ),
            false => Ok(()),
        }
    }
}

fn seconds(field: &'static str, value: Option<u32>, max: u32) -> Result<(), InvalidIngress> {
    match value {
        Some(value) if !(1..=max).contains(&value) => {
            invalid(field, format!("must be from 1 to {max} seconds"))
        }
        Some(_) | None => Ok(()),
    }
}

fn invalid(field: &'static str, why: String) -> Result<(), InvalidIngress> {
    Err(InvalidIngress { field, why })
}

fn html() -> String {
    "text/html; charset=utf-8".to_owned()
}

impl AddressRange {
    /// Whether the address, in its canonical form, is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

impl FromStr for AddressRange {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let net = match text.parse::<IpAddr>() {
            Ok(address) => Some(IpNet::from(address.to_canonical())),
            Err(_) => text.parse::<IpNet>().ok().map(|net| net.trunc()),
        };
        // An IPv4 address inside IPv6 is compared as what it is, so that such a network would never
        // match.
        match net {
            Some(IpNet::V6(net)) if net.addr().to_ipv4_mapped().is_some() => {
                Err(InvalidText(format!(
                    "`{}` is an IPv4 network written as IPv6: write it as IPv4",
                    cut(text)
                )))
            }
            Some(net) => Ok(Self(net)),
            None => Err(InvalidText(format!(
                "`{}` is neither an address nor a network such as `10.0.0.0/8` or `2001:db8::/32`",
                cut(text)
            ))),
        }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.prefix_len() == self.0.max_prefix_len() {
            true => self.0.addr().fmt(f),
            false => self.0.fmt(f),
        }
    }
}

impl HostName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let name = text.to_ascii_lowercase();
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        match name.len() <= 253 && name.split('.').all(label) {
            true => Ok(Self(name)),
            false => Err(InvalidText(format!(
                "`{}` is not a host name: letters, digits, `-` and dots, without a port",
                cut(text)
            ))),
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl CookieName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CookieName {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        match (1..=64).contains(&text.len()) && text.bytes().all(token) {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidText(format!(
                "`{}` is not a cookie's name: 1 to 64 letters, digits, `-`, `_` or `.`",
                cut(text)
            ))),
        }
    }
}

impl fmt::Display for CookieName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PageKey {
    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PageKey {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let status = text
            .parse::<u16>()
            .is_ok_and(|status| (400..=599).contains(&status));
        match status || matches!(text, "4xx" | "5xx") || CAUSES.contains(&text) {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidText(format!(
                "`{}` is nothing that a page can be for: a cause such as `queue_full`, a status \
                 such as `503`, `4xx` or `5xx`",
                cut(text)
            ))),
        }
    }
}

impl fmt::Display for PageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PasswordHash {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let read = || {
            let (salt, digest) = text.strip_prefix("sha256$")?.split_once('$')?;
            Some(Self {
                salt: bytes_of(salt)?,
                digest: bytes_of(digest)?,
            })
        };
        read().ok_or_else(|| {
            InvalidText(
                "a password's hash is `sha256$`, 32 hexadecimal digits of salt, `$`, and the 64 of \
                 SHA-256 over salt and password"
                    .to_owned(),
            )
        })
    }
}

impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256$")?;
        self.salt
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("$")?;
        self.digest
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<hash>")
    }
}

fn bytes_of<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let mut bytes = [0; N];
    if hex.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn cut(text: &str) -> String {
    text.chars().take(60).collect()
}

impl TryFrom<u16> for RedirectStatus {
    type Error = InvalidText;

    fn try_from(status: u16) -> Result<Self, InvalidText> {
        match status {
            308 => Ok(Self::Permanent),
            301 => Ok(Self::Moved),
            _ => Err(InvalidText(
                "the status of a redirect is 308 or 301".to_owned(),
            )),
        }
    }
}

impl From<RedirectStatus> for u16 {
    fn from(status: RedirectStatus) -> Self {
        match status {
            RedirectStatus::Permanent => 308,
            RedirectStatus::Moved => 301,
        }
    }
}

macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = InvalidText;

            fn try_from(text: String) -> Result<Self, InvalidText> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    )*};
}

as_text!(AddressRange, HostName, CookieName, PageKey, PasswordHash);

/// The names of the causes for which the edge answers by itself, so that a page can be for one. The
/// edge has their meanings, and a test that the two are the same.
pub const CAUSES: &[&str] = &[
    "bad_request",
    "bad_body",
    "head_too_large",
    "target_too_long",
    "head_too_slow",
    "body_too_slow",
    "too_many_connections",
    "version_not_supported",
    "method_not_supported",
    "transfer_coding_not_supported",
    "upgrade_not_supported",
    "expectation_failed",
    "no_such_host",
    "no_routes",
    "paused",
    "not_deployed",
    "address_denied",
    "path_denied",
    "login_required",
    "not_public",
    "https_required",
    "other_host",
    "queue_full",
    "no_capacity_in_time",
    "app_unreachable",
    "app_closed_early",
    "app_bad_response",
    "app_timed_out",
    "request_timed_out",
    "client_left",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Ingress, String> {
        let ingress: Ingress = serde_json::from_str(json).map_err(|error| error.to_string())?;
        ingress.check().map_err(|error| error.to_string())?;
        Ok(ingress)
    }

    #[track_caller]
    fn refused(json: &str, want: &str) {
        let why = read(json).expect_err(json);
        assert!(why.contains(want), "{why}");
    }

    #[test]
    fn nothing_set_is_the_default_and_stays_it() {
        let ingress = read("{}").unwrap();
        assert!(ingress.is_default() && ingress.default_host);
        let again = serde_json::to_string(&ingress).unwrap();
        assert_eq!(read(&again).unwrap(), ingress);
    }

    #[test]
    fn everything_set_comes_back() {
        let hash = format!("sha256${}${}", "0f".repeat(16), "a0".repeat(32));
        let json = format!(
            r#"{{"app_protocol":"h2c","request_total_seconds":5,"idle_seconds":7,
            "https_redirect":{{"on":true,"status":301,"except":["/health"]}},
            "canonical_host":"WWW.example.com","default_host":false,"private":true,
            "allow":["10.1.2.3/8","2001:db8::1"],"deny":["192.0.2.1"],
            "allow_paths":["/api/"],"deny_paths":["/api/admin"],
            "basic_auth":[{{"user":"ann","hash":"{hash}"}}],
            "sticky":{{"cookie":"s","seconds":60}},"request_id":"keep","forwarded":true,
            "compression":["br","gzip"],"pages":{{"5xx":{{"body":"sorry"}}}},
            "queue":{{"requests":0,"seconds":1}}}}"#
        );
        let ingress = read(&json).unwrap();
        assert_eq!(
            ingress.canonical_host.as_ref().unwrap().as_str(),
            "www.example.com"
        );
        assert_eq!(ingress.allow[0].to_string(), "10.0.0.0/8");
        assert_eq!(ingress.allow_paths[0].to_string(), "/api");
        let again = serde_json::to_string(&ingress).unwrap();
        assert_eq!(read(&again).unwrap(), ingress);
        assert!(!format!("{ingress:?}").contains("0f0f"));
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_by_its_name() {
        refused(
            r#"{"idle_seconds":0}"#,
            "`idle_seconds` must be from 1 to 86400",
        );
        refused(r#"{"queue":{"seconds":0}}"#, "`queue.seconds`");
        refused(r#"{"sticky":{"seconds":99999999}}"#, "`sticky.seconds`");
        refused(
            r#"{"compression":["br","br"]}"#,
            "`compression` has a coding twice",
        );
        refused(r#"{"pages":{"teapot":{"body":""}}}"#, "a cause such as");
        refused(r#"{"pages":{"200":{"body":""}}}"#, "a cause such as");
        let long = format!(
            r#"{{"pages":{{"503":{{"body":"{}"}}}}}}"#,
            "x".repeat(PAGE_BYTES_MAX + 1)
        );
        refused(&long, "a page has at most");
        let many = vec![r#""192.0.2.1""#; ADDRESSES_MAX + 1].join(",");
        refused(
            &format!(r#"{{"allow":[{many}]}}"#),
            "`allow` has 257 entries",
        );
        refused(
            r#"{"allow":["10.0.0.0/33"]}"#,
            "neither an address nor a network",
        );
        refused(r#"{"allow":["::ffff:10.0.0.0/104"]}"#, "write it as IPv4");
        refused(r#"{"canonical_host":"a.test:80"}"#, "without a port");
        refused(r#"{"https_redirect":{"status":302}}"#, "308 or 301");
        refused(
            r#"{"basic_auth":[{"user":"a","hash":"secret words"}]}"#,
            "sha256$",
        );
        let hash = format!("sha256${}${}", "00".repeat(16), "00".repeat(32));
        let user = |name: &str| format!(r#"{{"user":"{name}","hash":"{hash}"}}"#);
        refused(
            &format!(r#"{{"basic_auth":[{}]}}"#, user("a:b")),
            "without `:`",
        );
        let twice = [user("a"), user("a")].join(",");
        refused(
            &format!(r#"{{"basic_auth":[{twice}]}}"#),
            "has the user `a` twice",
        );
    }

    #[test]
    fn a_refused_hash_is_not_repeated() {
        let why = "my password"
            .parse::<PasswordHash>()
            .unwrap_err()
            .to_string();
        assert!(!why.contains("my password"));
    }

    #[test]
    fn an_address_in_ipv6_dress_is_what_it_is() {
        let range: AddressRange = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(range.to_string(), "192.0.2.1");
        assert!(range.contains("192.0.2.1".parse().unwrap()));
        let network: AddressRange = "2001:db8::/32".parse().unwrap();
        assert!(network.contains("2001:db8:1::1".parse().unwrap()));
        assert!(!network.contains("192.0.2.1".parse().unwrap()));
    }
}
