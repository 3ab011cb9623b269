//! What a service was, and how it becomes that again: `revisions`, `rollback`.

use clap::Args;
use ekiden_aws::native::{
    ListRevisionsRequest, ListRevisionsResponse, Revision, RollbackServiceRequest,
    RollbackServiceResponse,
};

use crate::{
    api::Api,
    failure::Outcome,
    logs::printable,
    operation,
    output::{OutputFormat, age, print, print_line, table, unix_now},
    progress::Progress,
};

/// Digits of a digest that a table shows: enough to tell a few images apart.
const DIGEST_SHOWN: usize = 12;

/// Characters of a commit's message that a table shows.
const SUMMARY_SHOWN: usize = 50;

/// What to return to.
#[derive(Debug, Clone, Args)]
pub struct Rollback {
    /// The service
    pub name: String,

    /// The revision [default: the one that served before the active one]
    pub revision: Option<u32>,

    /// Do not wait until it serves
    #[arg(long)]
    pub no_wait: bool,
}

/// Lists a service's revisions, newest first.
///
/// # Errors
/// The endpoint refuses or cannot be reached, or there is no such service.
pub async fn list(api: &Api, name: &str, format: OutputFormat) -> Outcome {
    let request = ListRevisionsRequest {
        service_arn: api.arn(name).await?,
        ..ListRevisionsRequest::default()
    };
    let response: ListRevisionsResponse = api.native("ListRevisions", &request).await?;
    Ok(print(format, &response.revisions, |revisions| {
        list_text(revisions)
    })?)
}

fn list_text(revisions: &[Revision]) -> String {
    if revisions.is_empty() {
        return "no revisions: no deployment has come so far".to_owned();
    }
    let now = unix_now();
    let is_code = revisions
        .iter()
        .any(|revision| revision.source_version.is_some());
    let rows = revisions.iter().map(|revision| {
        let state = match (revision.active, revision.served) {
            (true, _) => "active",
            (false, true) => "served",
            (false, false) => "never served",
        };
        let digest = revision.image_digest.trim_start_matches("sha256:");
        vec![
            revision.revision.to_string(),
            state.to_owned(),
            age(now.saturating_sub(revision.created_at)),
            match is_code {
                true => source(revision),
                false => revision.image.clone(),
            },
            digest.chars().take(DIGEST_SHOWN).collect(),
            revision
                .copy_of
                .map_or_else(String::new, |number| format!("return to {number}")),
        ]
    });
    let origin = if is_code { "SOURCE" } else { "IMAGE" };
    table(
        &["REVISION", "STATE", "AGE", origin, "DIGEST", "REMARK"],
        rows,
    )
}

/// The commit or the version of an upload, and what was said of it.
fn source(revision: &Revision) -> String {
    let Some(version) = &revision.source_version else {
        return revision.image.clone();
    };
    let version = version.trim_start_matches("sha256:");
    let version: String = version.chars().take(DIGEST_SHOWN).collect();
    let summary = printable(revision.source_summary.as_deref().unwrap_or_default());
    let summary: String = summary.chars().take(SUMMARY_SHOWN).collect();
    format!("{version} {summary}").trim_end().to_owned()
}

impl Rollback {
    /// Deploys a revision once more, exactly as it was, and waits until it serves.
    ///
    /// # Errors
    /// As [`list`], and there is nothing to return to, or the deployment failed.
    pub async fn run(&self, api: &Api, format: OutputFormat) -> Outcome {
        let arn = api.arn(&self.name).await?;
        let request = RollbackServiceRequest {
            service_arn: arn.clone(),
            revision: self.revision,
        };
        let response: RollbackServiceResponse = api.native("RollbackService", &request).await?;
        let mut progress = Progress::new();
        let (name, number) = (&self.name, response.revision);
        progress.done(&format!("returning {name} to revision {number}"));
        if !self.no_wait {
            operation::wait(api, &arn, &response.operation_id, &mut progress).await?;
        }
        drop(progress);
        let service = api.service(&arn).await?;
        match (format, self.no_wait, &service.service_url) {
            (OutputFormat::Json, _, _) => Ok(print(format, &service, |_| String::new())?),
            (OutputFormat::Text, true, _) => Ok(print_line(&response.operation_id)?),
            (OutputFormat::Text, false, Some(host)) => Ok(print_line(&api.service_url(host))?),
            (OutputFormat::Text, false, None) => Ok(print_line(&format!("{name} serves"))?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_tells_what_serves_what_served_and_what_never_did() {
        let revision = |revision, active, served, copy_of| Revision {
            revision,
            active,
            served,
            copy_of,
            image: "localhost/app:1".into(),
            image_digest: format!("sha256:{}", "ab".repeat(32)),
            created_at: unix_now(),
            ..Revision::default()
        };
        let text = list_text(&[
            revision(3, true, true, Some(1)),
            revision(2, false, false, None),
            revision(1, false, true, None),
        ]);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].starts_with("3         active        0s"), "{text}");
        assert!(
            lines[1].ends_with("localhost/app:1  abababababab  return to 1"),
            "{text}"
        );
        assert!(lines[2].contains("never served"), "{text}");
        assert!(lines[3].contains(" served"), "{text}");
    }

    #[test]
    fn the_list_of_code_tells_commits() {
        let revision = Revision {
            revision: 2,
            source_version: Some("0123456789abcdef0123456789abcdef01234567".into()),
            source_summary: Some("Sell \u{1b}more".into()),
            image_digest: format!("sha256:{}", "ab".repeat(32)),
            created_at: unix_now(),
            ..Revision::default()
        };
        let text = list_text(&[revision]);
        assert!(text.lines().next().unwrap().contains("SOURCE"), "{text}");
        assert!(
            text.contains("0123456789ab Sell \u{fffd}more  abababababab"),
            "{text}"
        );
    }
}
