//! What git hosts say of a push.
//!
//! Pure: headers, a body, a secret and the time go in; what was pushed comes out, or why it is not believed.
//! A body is parsed only after its signature was found good. Which provider it is, is known from the header
//! that carries the proof, and every proof needs the secret, so a sender gains nothing by choosing.
//!
//! | provider | proof | is it replayed? |
//! |---|---|---|
//! | GitHub | `X-Hub-Signature-256`, HMAC of the body | [`Delivery::id`] |
//! | Gitea, Forgejo | `X-Gitea-Signature`, HMAC of the body | [`Delivery::id`] |
//! | GitLab | `X-Gitlab-Token`, the secret itself | [`Delivery::id`] |
//! | Bitbucket Cloud, Data Center | `X-Hub-Signature`, HMAC of the body | [`Delivery::id`] |
//! | a hook of one's own | `X-Ekiden-Signature-256`, HMAC of time and body | time, then [`Delivery::id`] |
//!
//! An id is not under the signature (except our own), so forgetting ids is harmless only because what follows
//! from a push is harmless to repeat: the branch is looked up anew. How large a body may be is the caller's
//! matter; GitHub sends up to 25 MiB.

mod payload;

use ekiden_model::image::Digest;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// How far the time of a signed request of our own kind may be from ours, in seconds.
pub const CLOCK_SECONDS_MAX: u64 = 300;

/// Changed paths of one push; more are taken for "anything".
pub const CHANGED_PATHS_MAX: usize = 20_000;

/// Pushes of one delivery: Bitbucket tells of several branches at once.
pub const PUSHES_MAX: usize = 100;

/// Bytes of a delivery's id that are kept.
const ID_BYTES_MAX: usize = 200;

/// Who sent a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    /// github.com and GitHub Enterprise.
    GitHub,
    /// gitlab.com and self-managed.
    GitLab,
    /// Gitea, and Forgejo, which sends the same headers.
    Gitea,
    /// Bitbucket Cloud.
    BitbucketCloud,
    /// Bitbucket Data Center and Server.
    BitbucketServer,
    /// A hook of a bare repository, or anything else that can sign.
    Plain,
}

/// A delivery that is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Who sent it.
    pub provider: Provider,
    /// The same when it is delivered again.
    pub id: Option<String>,
    /// What was pushed; empty for every other event, such as the one that tries out the webhook.
    pub pushes: Vec<Push>,
}

/// One branch or tag that was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// Beginning with `refs/heads/` or `refs/tags/`.
    pub reference: String,
    /// Its new head, in hexadecimal digits; absent when it was deleted or the provider does not say.
    pub commit: Option<String>,
    /// Whether it is gone.
    pub deleted: bool,
    /// Every path that the push added, changed or removed; absent when the payload does not say all of them.
    pub changed_paths: Option<Vec<String>>,
    /// How the provider names the repository: addresses to clone and to look at.
    pub repository_urls: Vec<String>,
}

/// Why a delivery is not believed or not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// No header of a provider.
    #[error("no signature header of a known provider: set a secret where the webhook is made")]
    Unsigned,
    /// The proof is wrong.
    #[error("the signature is wrong: the secret here and at the provider differ")]
    Signature,
    /// A request of our own kind is too old, or its sender's clock is wrong.
    #[error("`X-Ekiden-Timestamp` is not within {CLOCK_SECONDS_MAX} seconds of the time here")]
    Clock,
    /// The provider was told to send a form.
    #[error("the body is a form: choose `application/json` as the webhook's content type")]
    Form,
    /// The body is signed and makes no sense.
    #[error("the payload is not understood: {0}")]
    Payload(String),
    /// Nobody can sign with it.
    #[error("the webhook has no secret")]
    NoSecret,
}

/// Checks the proof of a delivery and reads it. `now` is in seconds since the Unix epoch.
pub fn verify_and_parse(
    headers: &HeaderMap,
    body: &[u8],
    secret: &[u8],
    now: u64,
) -> Result<Delivery, WebhookError> {
    if secret.is_empty() {
        return Err(WebhookError::NoSecret);
    }
    let headers = Headers(headers);
    // Gitea sends the headers of GitHub along with its own, so it comes first.
    if let Some(event) = headers.any(&["x-gitea-event", "x-forgejo-event"]) {
        let given = headers.any(&["x-gitea-signature", "x-forgejo-signature"]);
        check_signature(given, &[body], secret)?;
        let id = headers.any(&["x-gitea-delivery", "x-forgejo-delivery"]);
        let pushes = match event {
            "push" => payload::gitea(headers.json(body)?)?,
            _ => Vec::new(),
        };
        return Ok(delivery(Provider::Gitea, id, pushes));
    }
    if let Some(event) = headers.one("x-github-event") {
        let given = headers.one("x-hub-signature-256");
        check_signature(prefixed(given), &[body], secret)?;
        let pushes = match event {
            "push" => payload::github(headers.json(body)?)?,
            _ => Vec::new(),
        };
        let id = headers.one("x-github-delivery");
        return Ok(delivery(Provider::GitHub, id, pushes));
    }
    if let Some(event) = headers.one("x-gitlab-event") {
        let given = headers
            .one("x-gitlab-token")
            .ok_or(WebhookError::Unsigned)?;
        if !bool::from(given.as_bytes().ct_eq(secret)) {
            return Err(WebhookError::Signature);
        }
        let pushes = match event {
            "Push Hook" | "Tag Push Hook" | "System Hook" => payload::gitlab(headers.json(body)?)?,
            _ => Vec::new(),
        };
        // The webhook's UUID would be the same for all of its deliveries.
        let id = headers.any(&["idempotency-key", "x-gitlab-event-uuid"]);
        return Ok(delivery(Provider::GitLab, id, pushes));
    }
    if let Some(event) = headers.one("x-event-key") {
        let given = headers.one("x-hub-signature");
        check_signature(prefixed(given), &[body], secret)?;
        let id = headers.any(&["x-request-uuid", "x-request-id"]);
        let cloud = event.starts_with("repo:") && headers.one("x-request-uuid").is_some();
        return Ok(match event {
            "repo:push" => {
                let pushes = payload::bitbucket_cloud(headers.json(body)?)?;
                delivery(Provider::BitbucketCloud, id, pushes)
            }
            "repo:refs_changed" => {
                let pushes = payload::bitbucket_server(headers.json(body)?)?;
                delivery(Provider::BitbucketServer, id, pushes)
            }
            _ if cloud => delivery(Provider::BitbucketCloud, id, Vec::new()),
            _ => delivery(Provider::BitbucketServer, id, Vec::new()),
        });
    }
    let given = headers.one("x-ekiden-signature-256");
    let given = prefixed(Some(given.ok_or(WebhookError::Unsigned)?));
    let time = headers.one("x-ekiden-timestamp").unwrap_or_default();
    check_signature(given, &[time.as_bytes(), b".", body], secret)?;
    let seconds = time.parse::<u64>().map_err(|_| WebhookError::Clock)?;
    if seconds.abs_diff(now) > CLOCK_SECONDS_MAX {
        return Err(WebhookError::Clock);
    }
    let pushes = payload::plain(headers.json(body)?)?;
    Ok(delivery(Provider::Plain, given, pushes))
}

/// Whether a change concerns a directory of a repository; an empty one, `.` or `/` is all of it.
pub fn touches(changed: &[String], directory: &str) -> bool {
    let parts = directory
        .split('/')
        .filter(|part| !matches!(*part, "" | "."));
    let directory = parts.collect::<Vec<_>>().join("/");
    changed.iter().any(|path| {
        directory.is_empty()
            || path
                .strip_prefix(&directory)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

fn delivery(provider: Provider, id: Option<&str>, mut pushes: Vec<Push>) -> Delivery {
    pushes.truncate(PUSHES_MAX);
    let id = id.filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX);
    Delivery {
        provider,
        id: id.map(str::to_owned),
        pushes,
    }
}

/// What follows `sha256=`.
fn prefixed(given: Option<&str>) -> Option<&str> {
    given?.strip_prefix("sha256=")
}

fn check_signature(
    given: Option<&str>,
    message: &[&[u8]],
    secret: &[u8],
) -> Result<(), WebhookError> {
    let given = given.ok_or(WebhookError::Unsigned)?;
    let given: Digest = format!("sha256:{given}")
        .parse()
        .map_err(|_| WebhookError::Signature)?;
    // HMAC takes keys of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).map_err(|_| WebhookError::NoSecret)?;
    for part in message {
        mac.update(part);
    }
    let own = Digest::from_sha256(mac.finalize().into_bytes().into()).hex();
    match own.as_bytes().ct_eq(given.hex().as_bytes()).into() {
        true => Ok(()),
        false => Err(WebhookError::Signature),
    }
}

/// Headers that are text.
struct Headers<'a>(&'a HeaderMap);

impl<'a> Headers<'a> {
    fn one(&self, name: &str) -> Option<&'a str> {
        self.0.get(name)?.to_str().ok()
    }

    fn any(&self, names: &[&str]) -> Option<&'a str> {
        names.iter().find_map(|name| self.one(name))
    }

    /// The body, unless it says that it is something else than JSON.
    fn json<'b>(&self, body: &'b [u8]) -> Result<&'b [u8], WebhookError> {
        let kind = self.one("content-type").unwrap_or_default();
        match kind.starts_with("application/x-www-form-urlencoded") && body.first() != Some(&b'{') {
            true => Err(WebhookError::Form),
            false => Ok(body),
        }
    }
}

#[cfg(test)]
mod tests;
