//! A service's ingress rules: who and what is let in, and what is sent elsewhere.
//!
//! [`Rules`] are made once for each change of a route. Most services have none, and their requests
//! pay for one look at a flag. [`Rules::check`] is pure: whatever carried the request, it is told by
//! a [`RequestView`].
//!
//! The order is one that gives nothing away: addresses first, then the redirect to HTTPS, so that
//! no password is asked for in the clear, then the redirect to another host, paths, and the login.

use std::net::IpAddr;

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD};
use ekiden_model::{
    ingress::{AddressRange, Credential, Ingress, RedirectStatus},
    ingress_path::{PathPrefix, Reading},
    route::Route,
};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::{cause::Cause, client_address::Scheme};

/// Where ACME's HTTP-01 challenges are answered (RFC 8555, section 8.3): never redirected, because a
/// certificate may be what the redirect is waiting for.
const ACME_CHALLENGES: &str = "/.well-known/acme-challenge";

/// The longest `Authorization` that is looked at, in bytes: a user and a password, in base64.
const AUTHORIZATION_BYTES_MAX: usize = 1024;

/// The port of HTTPS, which a URL does not name.
const HTTPS_PORT: u16 = 443;

/// What the rules have to know of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestView<'r> {
    /// How the client reached the edge, or the trusted proxy before it.
    pub(crate) scheme: Scheme,
    /// The host name as it is compared: lower case, without port.
    pub(crate) host: &'r [u8],
    /// Path and query, as the client sent them.
    pub(crate) target: &'r [u8],
    /// The client's address, in its canonical form.
    pub(crate) client: IpAddr,
    /// The value of `Authorization`.
    pub(crate) authorization: Option<&'r [u8]>,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is let in.
    Pass,
    /// The edge answers with the cause.
    Refuse(Cause),
    /// The client is sent elsewhere.
    Redirect(Redirect),
}

/// Where a client is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Redirect {
    /// Why.
    pub(crate) cause: Cause,
    /// 308 or 301.
    pub(crate) status: u16,
    /// The whole URL.
    pub(crate) location: Vec<u8>,
}

/// A service's rules, ready to be checked.
#[derive(Debug)]
pub(crate) struct Rules {
    any: bool,
    allow: Vec<AddressRange>,
    deny: Vec<AddressRange>,
    https: Option<HttpsRule>,
    canonical_host: Option<Box<[u8]>>,
    allow_paths: Vec<PathPrefix>,
    deny_paths: Vec<PathPrefix>,
    users: Vec<Credential>,
    https_port: u16,
}

#[derive(Debug)]
struct HttpsRule {
    status: RedirectStatus,
    except: Vec<PathPrefix>,
}

impl Rules {
    /// The rules of a route. `https_port` is where clients reach HTTPS.
    pub(crate) fn of(route: &Route, https_port: u16) -> Self {
        let ingress: &Ingress = &route.ingress;
        let redirect = &ingress.https_redirect;
        let mut rules = Self {
            any: false,
            allow: ingress.allow.clone(),
            deny: ingress.deny.clone(),
            https: redirect.on.then(|| HttpsRule {
                status: redirect.status,
                except: redirect.except.clone(),
            }),
            canonical_host: canonical_host(route),
            allow_paths: ingress.allow_paths.clone(),
            deny_paths: ingress.deny_paths.clone(),
            users: ingress.basic_auth.clone(),
            https_port,
        };
        rules.any = !(rules.allow.is_empty()
            && rules.deny.is_empty()
            && rules.https.is_none()
            && rules.canonical_host.is_none()
            && rules.allow_paths.is_empty()
            && rules.deny_paths.is_empty()
            && rules.users.is_empty());
        rules
    }

    /// Whether there is anything to check; if not, [`Rules::check`] need not be asked.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.any
    }

    /// What becomes of a request.
    pub(crate) fn check(&self, view: &RequestView<'_>) -> Verdict {
        let refused = match self {
            _ if !self.any => return Verdict::Pass,
            _ if !self.lets_in(view.client) => Cause::AddressDenied,
            _ => match self.redirect(view) {
                Some(redirect) => return Verdict::Redirect(redirect),
                None if !self.serves(view.target) => Cause::PathDenied,
                None if !self.knows(view.authorization) => Cause::LoginRequired,
                None => return Verdict::Pass,
            },
        };
        Verdict::Refuse(refused)
    }

    fn lets_in(&self, client: IpAddr) -> bool {
        let is_in = |ranges: &[AddressRange]| ranges.iter().any(|range| range.contains(client));
        !is_in(&self.deny) && (self.allow.is_empty() || is_in(&self.allow))
    }

    fn redirect(&self, view: &RequestView<'_>) -> Option<Redirect> {
        let to_https = match (&self.https, view.scheme) {
            (Some(rule), Scheme::Http) => Some(rule),
            (Some(_), Scheme::Https) | (None, _) => None,
        };
        let canonical = self.canonical_host.as_deref();
        let to_host = canonical.filter(|host| *host != view.host);
        if to_https.is_none() && to_host.is_none() || is_challenge(view.target) {
            return None;
        }
        let to_https = to_https.filter(|rule| !is_below_any(&rule.except, view.target));
        let (cause, status) = match (to_https, to_host) {
            (Some(rule), _) => (Cause::HttpsRequired, rule.status),
            (None, Some(_)) => (Cause::OtherHost, RedirectStatus::Permanent),
            (None, None) => return None,
        };
        // One step for both: a client that has to go elsewhere goes there once.
        let host = to_host.unwrap_or(view.host);
        let https = to_https.is_some() || view.scheme == Scheme::Https;
        let mut location = if https {
            b"https://".to_vec()
        } else {
            b"http://".to_vec()
        };
        location.extend_from_slice(host);
        if https && self.https_port != HTTPS_PORT {
            location.extend_from_slice(format!(":{}", self.https_port).as_bytes());
        }
        // `OPTIONS *` has no path to go to.
        match view.target.starts_with(b"/") {
            true => location.extend_from_slice(view.target),
            false => location.push(b'/'),
        }
        Some(Redirect {
            cause,
            status: status.into(),
            location,
        })
    }

    fn serves(&self, target: &[u8]) -> bool {
        if self.allow_paths.is_empty() && self.deny_paths.is_empty() {
            return true;
        }
        // What different applications read differently is not let in where paths matter.
        let Some(reading) = Reading::of(target) else {
            return false;
        };
        let denied = self
            .deny_paths
            .iter()
            .any(|path| reading.may_be_below(path));
        let allowed = self
            .allow_paths
            .iter()
            .any(|path| reading.is_surely_below(path));
        !denied && (self.allow_paths.is_empty() || allowed)
    }

    /// Whether the credentials are somebody's.
    ///
    /// The work is the same for every user and password of one length: each name is compared in
    /// constant time, one hash is made, and one digest compared.
    fn knows(&self, authorization: Option<&[u8]>) -> bool {
        if self.users.is_empty() {
            return true;
        }
        let Some((user, password)) = authorization.and_then(basic_credentials) else {
            return false;
        };
        let (mut salt, mut wanted) = ([0; 16], [0; 32]);
        let mut found = Choice::from(0);
        for credential in &self.users {
            let same = credential.user.as_bytes().ct_eq(&user);
            take_if(same, &mut salt, &credential.hash.salt);
            take_if(same, &mut wanted, &credential.hash.digest);
            found |= same;
        }
        let digest = salted(&salt, &password);
        bool::from(found & digest.as_ref().ct_eq(&wanted))
    }
}

/// The canonical host, while it leads to the service: a redirect to a name that does not would make
/// the service unreachable.
fn canonical_host(route: &Route) -> Option<Box<[u8]>> {
    let name = route.ingress.canonical_host.as_ref()?.as_str();
    let leads_here = |host: &String| match host.strip_prefix("*.") {
        Some(below) => name.split_once('.').is_some_and(|(_, rest)| rest == below),
        None => host == name,
    };
    let mut hosts = route.hosts.iter().chain(&route.private_hosts);
    hosts.any(leads_here).then(|| name.as_bytes().into())
}

fn is_challenge(target: &[u8]) -> bool {
    let prefix = ACME_CHALLENGES.as_bytes();
    target
        .strip_prefix(prefix)
        .is_some_and(|rest| rest.starts_with(b"/"))
        // Nothing that leads out of it again.
        && !target.windows(2).any(|two| two == b"..")
        && !target.contains(&b'%')
}

fn is_below_any(prefixes: &[PathPrefix], target: &[u8]) -> bool {
    !prefixes.is_empty()
        && Reading::of(target)
            .is_some_and(|reading| prefixes.iter().any(|path| reading.is_surely_below(path)))
}

/// User and password of `Basic <base64>` (RFC 7617).
fn basic_credentials(authorization: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    if authorization.len() > AUTHORIZATION_BYTES_MAX {
        return None;
    }
    let (scheme, rest) = authorization.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = STANDARD.decode(rest.trim_ascii()).ok()?;
    let colon = memchr::memchr(b':', &decoded)?;
    Some((decoded[..colon].to_vec(), decoded[colon + 1..].to_vec()))
}

fn take_if<const N: usize>(condition: Choice, into: &mut [u8; N], from: &[u8; N]) {
    for (into, from) in into.iter_mut().zip(from) {
        into.conditional_assign(from, condition);
    }
}

/// SHA-256 over the salt and the password.
fn salted(salt: &[u8; 16], password: &[u8]) -> digest::Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(salt);
    context.update(password);
    context.finish()
}

#[cfg(test)]
mod tests {
    use ekiden_model::{
        id::ServiceId,
        ingress::PasswordHash,
        route::{Route, RouteState},
    };

    use super::*;

    fn route(ingress: &str) -> Route {
        let ingress: Ingress = serde_json::from_str(ingress).unwrap();
        ingress.check().unwrap();
        Route {
            service: ServiceId::from_bytes([1; 16]),
            service_name: "web1".parse().unwrap(),
            hosts: vec!["app.test".to_owned(), "*.apps.test".to_owned()],
            private_hosts: Vec::new(),
            state: RouteState::Serving,
            concurrency_per_instance: 1,
            upstreams: Vec::new(),
            ingress: Box::new(ingress),
        }
    }

    fn rules(ingress: &str) -> Rules {
        Rules::of(&route(ingress), HTTPS_PORT)
    }

    fn view(target: &str) -> RequestView<'_> {
        RequestView {
            scheme: Scheme::Http,
            host: b"app.test",
            target: target.as_bytes(),
            client: [192, 0, 2, 1].into(),
            authorization: None,
        }
    }

    fn from(client: &str) -> RequestView<'static> {
        RequestView {
            client: client.parse().unwrap(),
            ..view("/")
        }
    }

    #[track_caller]
    fn redirected(verdict: Verdict, status: u16, cause: Cause, location: &str) {
        let want = Redirect {
            cause,
            status,
            location: location.as_bytes().to_vec(),
        };
        assert_eq!(verdict, Verdict::Redirect(want));
    }

    #[test]
    fn without_rules_everything_passes() {
        let rules = rules(r#"{"forwarded":true,"sticky":{},"compression":["br"]}"#);
        assert!(!rules.any());
        assert_eq!(rules.check(&view("/%00")), Verdict::Pass);
    }

    #[test]
    fn addresses_are_let_in_when_allowed_and_not_denied() {
        let rules = rules(r#"{"allow":["10.0.0.0/8","2001:db8::/32"],"deny":["10.0.0.1"]}"#);
        for (client, verdict) in [
            ("10.0.0.2", Verdict::Pass),
            ("2001:db8::1", Verdict::Pass),
            ("10.0.0.1", Verdict::Refuse(Cause::AddressDenied)),
            ("192.0.2.1", Verdict::Refuse(Cause::AddressDenied)),
            ("2001:db9::1", Verdict::Refuse(Cause::AddressDenied)),
        ] {
            assert_eq!(rules.check(&from(client)), verdict, "{client}");
        }
        let denied_only = super::tests::rules(r#"{"deny":["192.0.2.0/24"]}"#);
        assert_eq!(denied_only.check(&from("198.51.100.1")), Verdict::Pass);
    }

    #[test]
    fn plain_http_is_sent_to_https() {
        let rules = rules(r#"{"https_redirect":{"on":true,"except":["/health"]}}"#);
        let location = "https://app.test/a?b=%2f";
        redirected(
            rules.check(&view("/a?b=%2f")),
            308,
            Cause::HttpsRequired,
            location,
        );
        for target in ["/health", "/health/x", "/.well-known/acme-challenge/token"] {
            assert_eq!(rules.check(&view(target)), Verdict::Pass, "{target}");
        }
        for target in [
            "/health/../a",
            "/.well-known/acme-challenge/../../a",
            "/.well-known/acme-challenge",
        ] {
            assert_ne!(rules.check(&view(target)), Verdict::Pass, "{target}");
        }
        redirected(
            rules.check(&view("*")),
            308,
            Cause::HttpsRequired,
            "https://app.test/",
        );
        let secure = RequestView {
            scheme: Scheme::Https,
            ..view("/a")
        };
        assert_eq!(rules.check(&secure), Verdict::Pass);
        let moved = route(r#"{"https_redirect":{"on":true,"status":301}}"#);
        let moved = Rules::of(&moved, 8443).check(&view("/a"));
        redirected(moved, 301, Cause::HttpsRequired, "https://app.test:8443/a");
    }

    #[test]
    fn other_hosts_are_sent_to_the_canonical_one_while_it_leads_here() {
        let canonical = rules(r#"{"canonical_host":"app.test"}"#);
        assert_eq!(canonical.check(&view("/")), Verdict::Pass);
        let other = RequestView {
            host: b"x.apps.test",
            ..view("/a?b")
        };
        redirected(
            canonical.check(&other),
            308,
            Cause::OtherHost,
            "http://app.test/a?b",
        );
        let secure = RequestView {
            scheme: Scheme::Https,
            ..other
        };
        redirected(
            canonical.check(&secure),
            308,
            Cause::OtherHost,
            "https://app.test/a?b",
        );
        let wildcard = rules(r#"{"canonical_host":"www.apps.test"}"#);
        redirected(
            wildcard.check(&view("/")),
            308,
            Cause::OtherHost,
            "http://www.apps.test/",
        );
        for gone in ["gone.test", "a.b.apps.test", "apps.test"] {
            let rules = rules(&format!(r#"{{"canonical_host":"{gone}"}}"#));
            assert_eq!(rules.check(&view("/")), Verdict::Pass, "{gone}");
        }
        let both = rules(r#"{"canonical_host":"app.test","https_redirect":{"on":true}}"#);
        redirected(
            both.check(&other),
            308,
            Cause::HttpsRequired,
            "https://app.test/a?b",
        );
    }

    #[test]
    fn paths_are_served_when_surely_allowed_and_not_possibly_denied() {
        let rules = rules(r#"{"allow_paths":["/api"],"deny_paths":["/api/admin"]}"#);
        for (target, passes) in [
            ("/api", true),
            ("/api/users?x=/api/admin", true),
            ("/", false),
            ("/api/Admin", false),
            ("/api/%61dmin/x", false),
            ("/api/x/..%2fadmin", false),
            ("/api/../users", false),
            ("/api/%c0%ae", false),
            ("*", false),
        ] {
            let verdict = match passes {
                true => Verdict::Pass,
                false => Verdict::Refuse(Cause::PathDenied),
            };
            assert_eq!(rules.check(&view(target)), verdict, "{target}");
        }
    }

    fn credential(user: &str, password: &str, salt: u8) -> String {
        let salt = [salt; 16];
        let digest = salted(&salt, password.as_bytes());
        let hash = PasswordHash {
            salt,
            digest: digest.as_ref().try_into().unwrap(),
        };
        format!(r#"{{"user":"{user}","hash":"{hash}"}}"#)
    }

    #[test]
    fn a_login_is_a_user_with_its_own_password() {
        let ann = credential("ann", "correct horse battery", 1);
        let bob = credential("bob", "pass:word:staple", 2);
        let rules = rules(&format!(r#"{{"basic_auth":[{ann},{bob}]}}"#));
        let with = |text: &str| {
            let value = format!("Basic {}", STANDARD.encode(text));
            let view = RequestView {
                authorization: Some(value.as_bytes()),
                ..view("/")
            };
            rules.check(&view) == Verdict::Pass
        };
        assert!(with("ann:correct horse battery"));
        assert!(with("bob:pass:word:staple"));
        for wrong in [
            "ann:pass:word:staple",
            "bob:correct horse battery",
            "ann:",
            "ann",
            ":",
            "",
            "eve:correct horse battery",
            "ANN:correct horse battery",
            "ann:correct horse batterx",
        ] {
            assert!(!with(wrong), "{wrong}");
        }
        for value in [
            "",
            "Basic",
            "Basic ",
            "Basic !!!",
            "Bearer YW5uOmE=",
            &"x".repeat(2000),
        ] {
            let view = RequestView {
                authorization: Some(value.as_bytes()),
                ..view("/")
            };
            assert_eq!(
                rules.check(&view),
                Verdict::Refuse(Cause::LoginRequired),
                "{value}"
            );
        }
        assert_eq!(
            rules.check(&view("/")),
            Verdict::Refuse(Cause::LoginRequired)
        );
    }

    #[test]
    fn no_password_is_asked_for_in_the_clear_or_of_a_stranger() {
        let ann = credential("ann", "correct horse battery", 1);
        let rules = rules(&format!(
            r#"{{"basic_auth":[{ann}],"https_redirect":{{"on":true}},"deny":["192.0.2.9"]}}"#
        ));
        assert!(matches!(rules.check(&view("/")), Verdict::Redirect(_)));
        assert_eq!(
            rules.check(&from("192.0.2.9")),
            Verdict::Refuse(Cause::AddressDenied)
        );
    }
}
