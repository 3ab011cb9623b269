//! The payloads of pushes, as far as they are looked at.
//!
//! Sources: GitHub, "Webhook events and payloads"; GitLab, "Webhook events"; Gitea, `modules/structs/hook.go`;
//! Bitbucket Cloud, "Event payloads"; Bitbucket Data Center, "Event payload". Fields may be absent or null in
//! all of them, so everything is optional here.

use std::collections::BTreeSet;

use serde::{Deserialize, de::DeserializeOwned};

use super::{CHANGED_PATHS_MAX, Push, WebhookError};

/// Commits that GitHub lists at most ("Webhook events and payloads", push).
const GITHUB_COMMITS_MAX: usize = 2048;

/// Bytes of a reference, and of an address of a repository.
const TEXT_BYTES_MAX: usize = 1024;

/// Pushes to GitHub.
pub(super) fn github(body: &[u8]) -> Result<Vec<Push>, WebhookError> {
    #[derive(Deserialize)]
    struct Body {
        r#ref: Option<String>,
        before: Option<String>,
        after: Option<String>,
        #[serde(default)]
        created: bool,
        #[serde(default)]
        forced: bool,
        #[serde(default)]
        deleted: bool,
        commits: Option<Vec<Commit>>,
        repository: Option<Urls>,
    }
    let body: Body = parse(body)?;
    let commits = body.commits.unwrap_or_default();
    // What a new or rewritten branch has left behind is in no commit of the list.
    let whole = !body.created && !body.forced && commits.len() < GITHUB_COMMITS_MAX;
    let changed = changed_paths(&commits, whole && follows(body.before.as_deref()));
    Ok(push(
        body.r#ref,
        body.after,
        body.deleted,
        changed,
        body.repository.map(Urls::all).unwrap_or_default(),
    ))
}

/// Pushes to Gitea and Forgejo.
pub(super) fn gitea(body: &[u8]) -> Result<Vec<Push>, WebhookError> {
    #[derive(Deserialize)]
    struct Body {
        r#ref: Option<String>,
        before: Option<String>,
        after: Option<String>,
        total_commits: Option<usize>,
        commits: Option<Vec<Commit>>,
        repository: Option<Urls>,
    }
    let body: Body = parse(body)?;
    let commits = body.commits.unwrap_or_default();
    let whole = body.total_commits == Some(commits.len());
    let changed = changed_paths(&commits, whole && follows(body.before.as_deref()));
    Ok(push(
        body.r#ref,
        body.after,
        false,
        changed,
        body.repository.map(Urls::all).unwrap_or_default(),
    ))
}

/// Pushes to GitLab, which lists 20 commits at most.
pub(super) fn gitlab(body: &[u8]) -> Result<Vec<Push>, WebhookError> {
    #[derive(Deserialize)]
    struct Body {
        object_kind: Option<String>,
        event_name: Option<String>,
        r#ref: Option<String>,
        before: Option<String>,
        after: Option<String>,
        checkout_sha: Option<String>,
        total_commits_count: Option<usize>,
        commits: Option<Vec<Commit>>,
        project: Option<Urls>,
    }
    let body: Body = parse(body)?;
    let kind = body.object_kind.or(body.event_name).unwrap_or_default();
    if !matches!(kind.as_str(), "push" | "tag_push") {
        return Ok(Vec::new());
    }
    let commits = body.commits.unwrap_or_default();
    let whole = body.total_commits_count == Some(commits.len());
    let changed = changed_paths(&commits, whole && follows(body.before.as_deref()));
    // Of an annotated tag, `after` is the tag itself.
    let deleted = body.after.as_deref().is_some_and(is_zero);
    Ok(push(
        body.r#ref,
        body.checkout_sha.or(body.after),
        deleted,
        changed,
        body.project.map(Urls::all).unwrap_or_default(),
    ))
}

/// Pushes to Bitbucket Cloud, which lists no paths.
pub(super) fn bitbucket_cloud(body: &[u8]) -> Result<Vec<Push>, WebhookError> {
    #[derive(Deserialize)]
    struct Body {
        push: Option<Changes>,
        repository: Option<Repository>,
    }
    #[derive(Deserialize)]
    struct Changes {
        changes: Option<Vec<Change>>,
    }
    #[derive(Deserialize)]
    struct Change {
        new: Option<Reference>,
        old: Option<Reference>,
    }
    #[derive(Deserialize)]
    struct Reference {
        r#type: String,
        name: String,
        target: Option<Target>,
    }
    #[derive(Deserialize)]
    struct Target {
        hash: Option<String>,
    }
    #[derive(Deserialize)]
    struct Repository {
        links: Option<CloudLinks>,
    }
    #[derive(Deserialize)]
    struct CloudLinks {
        html: Option<Link>,
    }
    let body: Body = parse(body)?;
    let html = body
        .repository
        .and_then(|repository| repository.links?.html);
    let urls: Vec<String> = html.into_iter().filter_map(Link::url).collect();
    let changes = body.push.and_then(|push| push.changes).unwrap_or_default();
    let pushes = changes.into_iter().flat_map(|change| {
        let deleted = change.new.is_none();
        let Some(reference) = change.new.or(change.old) else {
            return Vec::new();
        };
        let name = match reference.r#type.as_str() {
            "branch" | "named_branch" => format!("refs/heads/{}", reference.name),
            "tag" | "annotated_tag" => format!("refs/tags/{}", reference.name),
            _ => return Vec::new(),
        };
        let commit = reference.target.and_then(|target| target.hash);
        push(Some(name), commit, deleted, None, urls.clone())
    });
    Ok(pushes.collect())
}

/// Pushes to Bitbucket Data Center, which lists no paths.
pub(super) fn bitbucket_server(body: &[u8]) -> Result<Vec<Push>, WebhookError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        changes: Option<Vec<Change>>,
        repository: Option<Repository>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Change {
        ref_id: Option<String>,
        to_hash: Option<String>,
        r#type: Option<String>,
    }
    #[derive(Deserialize)]
    struct Repository {
        links: Option<ServerLinks>,
    }
    #[derive(Deserialize)]
    struct ServerLinks {
        clone: Option<Vec<Link>>,
    }
    let body: Body = parse(body)?;
    let links = body
        .repository
        .and_then(|repository| repository.links?.clone);
    let urls: Vec<String> = links.into_iter().flatten().filter_map(Link::url).collect();
    let changes = body.changes.unwrap_or_default().into_iter();
    let pushes = changes.flat_map(|change| {
        let deleted = change.r#type.as_deref() == Some("DELETE");
        push(change.ref_id, change.to_hash, deleted, None, urls.clone())
    });
    Ok(pushes.collect())
}

/// What a hook of one's own sends: `{"ref": "refs/heads/main", "after": "<commit>"}`, and what it likes to add.
pub(super) fn plain(body: &[u8]) -> Result<Vec<Push>, WebhookError> {
    #[derive(Deserialize)]
    struct Body {
        r#ref: Option<String>,
        after: Option<String>,
        changed_paths: Option<Vec<String>>,
        #[serde(default)]
        repository_urls: Vec<String>,
    }
    let body: Body = parse(body)?;
    let changed = body
        .changed_paths
        .filter(|paths| paths.len() <= CHANGED_PATHS_MAX);
    Ok(push(
        body.r#ref,
        body.after,
        false,
        changed,
        body.repository_urls,
    ))
}

/// The paths of a commit; all providers that list any list them so.
#[derive(Deserialize)]
struct Commit {
    added: Option<Vec<String>>,
    removed: Option<Vec<String>>,
    modified: Option<Vec<String>>,
}

/// How providers name a repository.
#[derive(Deserialize)]
struct Urls {
    clone_url: Option<String>,
    ssh_url: Option<String>,
    html_url: Option<String>,
    git_http_url: Option<String>,
    git_ssh_url: Option<String>,
    web_url: Option<String>,
}

impl Urls {
    fn all(self) -> Vec<String> {
        let all = [
            self.clone_url,
            self.ssh_url,
            self.html_url,
            self.git_http_url,
            self.git_ssh_url,
            self.web_url,
        ];
        all.into_iter().flatten().collect()
    }
}

#[derive(Deserialize)]
struct Link {
    href: Option<String>,
}

impl Link {
    fn url(self) -> Option<String> {
        self.href
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, WebhookError> {
    serde_json::from_slice(body)
        .map_err(|error| WebhookError::Payload(crate::snapshot::shown(&error.to_string())))
}

/// A push, if it is one of a branch or a tag.
fn push(
    reference: Option<String>,
    commit: Option<String>,
    deleted: bool,
    changed_paths: Option<Vec<String>>,
    mut repository_urls: Vec<String>,
) -> Vec<Push> {
    let is_ours = |name: &String| {
        let short = name
            .strip_prefix("refs/heads/")
            .or_else(|| name.strip_prefix("refs/tags/"));
        short.is_some_and(|short| !short.is_empty()) && name.len() <= TEXT_BYTES_MAX
    };
    let Some(reference) = reference.filter(is_ours) else {
        return Vec::new();
    };
    repository_urls.retain(|url| url.len() <= TEXT_BYTES_MAX);
    let deleted = deleted || commit.as_deref().is_some_and(is_zero);
    vec![Push {
        reference,
        commit: commit.filter(|id| !deleted && is_id(id)),
        deleted,
        changed_paths: changed_paths.filter(|_| !deleted),
        repository_urls,
    }]
}

/// Every path of the commits, if that is all that was pushed.
fn changed_paths(commits: &[Commit], whole: bool) -> Option<Vec<String>> {
    if !whole || commits.is_empty() {
        return None;
    }
    let mut paths = BTreeSet::new();
    for commit in commits {
        // All three absent: the provider lists no paths.
        let lists = [&commit.added, &commit.modified, &commit.removed];
        if lists.iter().all(|list| list.is_none()) {
            return None;
        }
        paths.extend(lists.into_iter().flatten().flatten());
        if paths.len() > CHANGED_PATHS_MAX {
            return None;
        }
    }
    Some(paths.into_iter().cloned().collect())
}

/// Whether there was something before, so that commits tell the difference to it.
fn follows(before: Option<&str>) -> bool {
    before.is_some_and(|before| is_id(before) && !is_zero(before))
}

fn is_id(text: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    matches!(text.len(), 40 | 64) && text.bytes().all(hex)
}

fn is_zero(text: &str) -> bool {
    is_id(text) && text.bytes().all(|byte| byte == b'0')
}
