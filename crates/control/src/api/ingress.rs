//! The settings of a service's front door: one document, shown whole and changed by merging.

use std::{fmt::Write as _, time::Duration};

use aws_lc_rs::digest;
use ekiden_aws::{
    error::ApiError,
    native::{
        DescribeIngressRequest, DescribeIngressResponse, UpdateIngressRequest,
        UpdateIngressResponse,
    },
};
use ekiden_engine::Engine;
use ekiden_model::{
    id::ServiceId,
    ingress::{Credential, Ingress, PASSWORD_BYTES_MAX, PASSWORD_BYTES_MIN, PasswordHash},
};
use ekiden_store::StoredService;
use serde_json::{Map, Value};
use tracing::info;

use super::{
    Api, Caller,
    document::{change_error, parse, written},
};
use crate::clock;

/// The longest document, in bytes.
const DOCUMENT_BYTES_MAX: usize = 128 * 1024;

/// The documents of all services of a region, in bytes. An edge is told all of them in one message,
/// which has a bound too.
const DOCUMENTS_BYTES_MAX: usize = 16 << 20;

/// How long an answer waits for the edges to serve by what was set.
const SERVED_WAIT: Duration = Duration::from_secs(5);

impl<E: Engine> Api<E> {
    pub(super) async fn describe_ingress(
        &self,
        caller: &Caller,
        request: DescribeIngressRequest,
    ) -> Result<DescribeIngressResponse, ApiError> {
        let snapshot = self.find(caller, Some(&request.service_arn))?;
        Ok(DescribeIngressResponse {
            service_arn: request.service_arn,
            ingress: shown(&snapshot.stored.service.ingress),
        })
    }

    pub(super) async fn update_ingress(
        &self,
        caller: &Caller,
        request: UpdateIngressRequest,
    ) -> Result<UpdateIngressResponse, ApiError> {
        let snapshot = self.find(caller, Some(&request.service_arn))?;
        let change = parse(&request.ingress, DOCUMENT_BYTES_MAX).map_err(invalid)?;
        let id = snapshot.stored.service.id;
        let others = self.documents_bytes(caller, id);
        let now = clock::now();
        let set = move |stored: &mut StoredService| {
            let next = merged(&stored.service.ingress, change, rand::random)?;
            let bytes = others + document_bytes(&next);
            if bytes > DOCUMENTS_BYTES_MAX && !next.is_default() {
                return Err(format!(
                    "The settings of all front doors would have {bytes} bytes; at most \
                     {DOCUMENTS_BYTES_MAX} are possible. Make pages shorter."
                ));
            }
            if stored.service.ingress != next {
                stored.service.ingress = next;
                stored.service.updated_at = now;
            }
            Ok(())
        };
        let changed = self.services.change(id, set).await;
        let stored = changed.map_err(|error| change_error(error, invalid))?;
        let ingress = &stored.service.ingress;
        info!(service = %stored.service.name, "front door set");
        Ok(UpdateIngressResponse {
            service_arn: request.service_arn,
            ingress: shown(ingress),
            served: self.is_served(id, ingress).await,
        })
    }

    /// Waits a moment until the edges serve by the settings; answers whether they do. A service
    /// without a route is served by none of its settings, and has nothing to wait for.
    async fn is_served(&self, service: ServiceId, wanted: &Ingress) -> bool {
        let Some(mut snapshots) = self.services.watch(service) else {
            return false;
        };
        let all = async {
            let published = snapshots.wait_for(|snapshot| {
                let route = snapshot.published.as_ref();
                route.is_none_or(|route| *route.ingress == *wanted)
            });
            if published.await.is_err() {
                return false;
            }
            let (_, generation) = self.edges.published(service).await;
            let mut state = self.edges.state();
            let served = state.wait_for(|state| state.serving >= Some(generation));
            served.await.is_ok()
        };
        tokio::time::timeout(SERVED_WAIT, all)
            .await
            .unwrap_or(false)
    }

    fn documents_bytes(&self, caller: &Caller, but: ServiceId) -> usize {
        self.services
            .list(&caller.region, None, usize::MAX)
            .iter()
            .map(|snapshot| &snapshot.stored.service)
            .filter(|service| service.id != but)
            .map(|service| document_bytes(&service.ingress))
            .sum()
    }
}

fn document_bytes(ingress: &Ingress) -> usize {
    match ingress.is_default() {
        true => 0,
        false => serde_json::to_vec(ingress).map_or(0, |bytes| bytes.len()),
    }
}

fn invalid(why: String) -> ApiError {
    ApiError::invalid_request(format!("Ingress: {why}"))
}

/// The document as its owner sees it: without hashes.
fn shown(ingress: &Ingress) -> String {
    let Value::Object(mut document) = written(ingress) else {
        return String::new();
    };
    let users = ingress.basic_auth.iter();
    let users = users.map(|credential| serde_json::json!({ "user": credential.user }));
    document.insert("basic_auth".to_owned(), users.collect());
    Value::Object(document).to_string()
}

/// The settings after a change: what the change does not name stays, `null` is the default
/// (RFC 7396), and a user without a password keeps the one it has.
fn merged(
    current: &Ingress,
    change: Map<String, Value>,
    mut salt: impl FnMut() -> [u8; 16],
) -> Result<Ingress, String> {
    let mut next = current.clone();
    for (key, value) in change {
        let mut document = written(&next);
        let Some(place) = document.get_mut(&key) else {
            let known = written(&Ingress::default());
            let known = known.as_object().into_iter().flat_map(Map::keys);
            let known: Vec<_> = known.map(String::as_str).collect();
            let key: String = key.chars().take(60).collect();
            return Err(format!(
                "`{key}` is no setting; there are: {}.",
                known.join(", ")
            ));
        };
        if key == "basic_auth" {
            next.basic_auth = users(&next.basic_auth, value, &mut salt)?;
            continue;
        }
        if value.is_null() {
            *place = written(&Ingress::default())[&key].clone();
        } else {
            merge(place, value);
        }
        next = serde_json::from_value(document.clone())
            .map_err(|error| format!("`{key}`: {error}."))?;
        if let Some(unknown) = unknown_member(&document[&key], &written(&next)[&key]) {
            return Err(format!("`{key}.{unknown}` is no setting."));
        }
    }
    next.check().map_err(|error| format!("{error}."))?;
    Ok(next)
}

/// RFC 7396, section 2.
fn merge(into: &mut Value, change: Value) {
    let Value::Object(change) = change else {
        *into = change;
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    if let Value::Object(into) = into {
        for (key, value) in change {
            match value.is_null() {
                true => drop(into.remove(&key)),
                false => merge(into.entry(key).or_insert(Value::Null), value),
            }
        }
    }
}

/// A member that was given and that nothing came of.
fn unknown_member(given: &Value, taken: &Value) -> Option<String> {
    let (Value::Object(given), Value::Object(taken)) = (given, taken) else {
        return None;
    };
    given.iter().find_map(|(key, value)| match taken.get(key) {
        None => Some(key.chars().take(60).collect()),
        Some(taken) => unknown_member(value, taken).map(|below| format!("{key}.{below}")),
    })
}

/// Who can log in. What is wrong is said without what was given.
fn users(
    current: &[Credential],
    given: Value,
    salt: &mut impl FnMut() -> [u8; 16],
) -> Result<Vec<Credential>, String> {
    let wrong = || {
        "`basic_auth` must be a list of objects with `user` and, unless the user is there already, \
         `password` or `hash`."
            .to_owned()
    };
    let given = match given {
        Value::Null => Vec::new(),
        Value::Array(given) => given,
        _ => return Err(wrong()),
    };
    let mut users = Vec::with_capacity(given.len());
    for entry in given {
        let entry = entry.as_object().ok_or_else(wrong)?;
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        let user = text("user").ok_or_else(wrong)?;
        let known = ["user", "password", "hash"];
        if entry.keys().any(|key| !known.contains(&key.as_str())) {
            return Err(wrong());
        }
        let hash = match (entry.contains_key("password"), entry.contains_key("hash")) {
            (true, false) => hashed(text("password").ok_or_else(wrong)?, salt())?,
            (false, true) => {
                let hash = text("hash").ok_or_else(wrong)?;
                hash.parse()
                    .map_err(|error| format!("`basic_auth`: {error}."))?
            }
            (true, true) => return Err(wrong()),
            (false, false) => {
                let known = current.iter().find(|known| known.user == user);
                let known = known.map(|known| known.hash.clone());
                known.ok_or_else(|| {
                    let mut name = String::new();
                    // Writing to a text cannot fail.
                    let _ = write!(name, "{}", user.escape_debug());
                    name.truncate(60);
                    format!("`basic_auth`: the user `{name}` is new and needs a `password`.")
                })?
            }
        };
        users.push(Credential {
            user: user.to_owned(),
            hash,
        });
    }
    Ok(users)
}

fn hashed(password: &str, salt: [u8; 16]) -> Result<PasswordHash, String> {
    if !(PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&password.len()) {
        return Err(format!(
            "`basic_auth`: a password must have {PASSWORD_BYTES_MIN} to {PASSWORD_BYTES_MAX} bytes: \
             it is checked for every request, so that its hash is a fast one."
        ));
    }
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&salt);
    context.update(password.as_bytes());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    Ok(PasswordHash {
        salt,
        digest: bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(current: &Ingress, change: &str) -> Result<Ingress, String> {
        merged(current, parse(change, DOCUMENT_BYTES_MAX)?, || [7; 16])
    }

    #[track_caller]
    fn refused(change: &str, want: &str) {
        let why = changed(&Ingress::default(), change).expect_err(change);
        assert!(why.contains(want), "{why}");
    }

    #[test]
    fn what_is_not_named_stays_and_null_is_the_default() {
        let first = changed(
            &Ingress::default(),
            r#"{"forwarded":true,"https_redirect":{"on":true},"sticky":{},
            "pages":{"503":{"body":"a"},"5xx":{"body":"b"}}}"#,
        )
        .unwrap();
        let second = changed(
            &first,
            r#"{"https_redirect":{"except":["/health"]},"sticky":{"seconds":60},"pages":{"503":null}}"#,
        )
        .unwrap();
        assert!(second.forwarded && second.https_redirect.on);
        assert_eq!(second.https_redirect.except.len(), 1);
        assert_eq!(second.sticky.as_ref().unwrap().seconds, 60);
        assert_eq!(second.pages.len(), 1);
        let all = r#"{"forwarded":null,"https_redirect":null,"sticky":null,"pages":null}"#;
        assert!(changed(&second, all).unwrap().is_default());
    }

    #[test]
    fn what_is_shown_can_be_given_back() {
        let set = r#"{"basic_auth":[{"user":"ann","password":"correct horse"}],"idle_seconds":9}"#;
        let ingress = changed(&Ingress::default(), set).unwrap();
        let shown = shown(&ingress);
        assert!(
            !shown.contains("hash") && !shown.contains("correct"),
            "{shown}"
        );
        assert_eq!(changed(&ingress, &shown).unwrap(), ingress);
        let more = r#"{"basic_auth":[{"user":"ann"},{"user":"bob","password":"battery staple"}]}"#;
        let more = changed(&ingress, more).unwrap();
        assert_eq!(more.basic_auth[0], ingress.basic_auth[0]);
        assert_eq!(more.basic_auth.len(), 2);
        assert!(
            changed(&more, r#"{"basic_auth":null}"#)
                .unwrap()
                .basic_auth
                .is_empty()
        );
    }

    #[test]
    fn a_hash_is_sha256_over_salt_and_password() {
        // printf '%016d%s' 0 'correct horse' | tr 0 '\0' is the same text for sha256sum.
        let hash = hashed("correct horse", [b'0'; 16]).unwrap();
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"0000000000000000correct horse");
        assert_eq!(hash.digest, context.finish().as_ref());
    }

    #[test]
    fn what_is_refused_is_named() {
        refused("[]", "must be a JSON object");
        refused("{", "is not JSON: line 1");
        refused(r#"{"tls":1}"#, "`tls` is no setting; there are: ");
        refused(r#"{"sticky":{"name":"a"}}"#, "`sticky.name` is no setting");
        refused(
            r#"{"pages":{"503":{"body":"","x":1}}}"#,
            "`pages.503.x` is no setting",
        );
        refused(r#"{"idle_seconds":"9"}"#, "`idle_seconds`: ");
        refused(r#"{"idle_seconds":0}"#, "`idle_seconds` must be");
        refused(r#"{"allow":"10.0.0.0/8"}"#, "`allow`: ");
        refused(
            r#"{"basic_auth":[{"user":"a"}]}"#,
            "is new and needs a `password`",
        );
        refused(
            r#"{"basic_auth":[{"user":"a","password":"hunter2"}]}"#,
            "12 to 256 bytes",
        );
        refused(r#"{"basic_auth":{"user":"a"}}"#, "must be a list");
    }

    #[test]
    fn no_refusal_repeats_a_password() {
        for change in [
            r#"{"basic_auth":[{"user":"a","password":"hunter2"}]}"#,
            r#"{"basic_auth":[{"user":"a","password":"hunter2","hash":"x"}]}"#,
            r#"{"basic_auth":[{"user":"a","hash":"hunter2"}]}"#,
            r#"{"basic_auth":[{"user":"a","pass":"hunter2"}]}"#,
            r#"{"basic_auth":["hunter2"]}"#,
            r#"{"basic_auth":"hunter2"}"#,
            r#"{"basic_auth":[{"user":"a","password":"hunter2}"#,
        ] {
            let why = changed(&Ingress::default(), change).expect_err(change);
            assert!(!why.contains("hunter2"), "{why}");
        }
    }
}
