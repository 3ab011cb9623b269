//! A secret of Secrets Manager: its versions, and the stages that tell which is which.
//!
//! A stage is a label that at most one version has. `AWSCURRENT` is the version that is read when
//! nobody asks for another, and a secret with a value always has one; `AWSPREVIOUS` is the one that
//! was current before. A version without a stage is deprecated: it is kept while there is room.
//! Values are not here: whoever stores a secret stores them beside it, sealed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The stage of the version that is read when nobody asks for another.
pub const CURRENT: &str = "AWSCURRENT";

/// The stage of the version that was current before.
pub const PREVIOUS: &str = "AWSPREVIOUS";

/// Versions that one secret has at most; the oldest without a stage makes room.
pub const SECRET_VERSIONS_MAX: usize = 100;

/// Stages that one version has at most.
pub const STAGES_MAX: usize = 20;

/// The characters after a secret's name in its ARN.
pub const SUFFIX_LEN: usize = 6;

/// A secret without its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// 32 hexadecimal digits; where its values are kept. Another secret of the name has another.
    pub id: String,
    /// Its owner's, unique in its region.
    pub name: String,
    /// [`SUFFIX_LEN`] letters and digits, drawn when it was made.
    pub suffix: String,
    /// Its owner's words.
    pub description: Option<String>,
    /// The key its owner named; the installation's own is used all the same.
    pub kms_key: Option<String>,
    /// Its owner's labels, by key.
    pub tags: BTreeMap<String, String>,
    /// Oldest first.
    pub versions: Vec<SecretVersion>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed in any way.
    pub changed_at: Timestamp,
    /// When it was asked to be deleted, while it can be restored.
    pub deleted_at: Option<Timestamp>,
    /// When it will be gone, if it was asked to be deleted.
    pub purge_at: Option<Timestamp>,
}

/// One value that a secret has or had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretVersion {
    /// The client's token that made it.
    pub id: String,
    /// Which of the versions it is.
    pub stages: Vec<String>,
    /// Whether it is text or bytes.
    pub kind: ValueKind,
    /// What tells whether another value is the same; made with a key, so that it tells nothing else.
    pub fingerprint: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueKind {
    /// `SecretString`.
    Text,
    /// `SecretBinary`.
    Binary,
}

/// Why a secret does not do as asked, in Secrets Manager's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretRefusal {
    /// It is on its way to be deleted.
    #[error("You can't perform this operation on the secret because it was marked for deletion.")]
    Deleted,
    /// The token has made another value.
    #[error(
        "You can't use ClientRequestToken {token} because that value is already in use for a version of secret {name}."
    )]
    TokenTaken {
        /// The token.
        token: String,
        /// The secret's name.
        name: String,
    },
    /// There is no such version, or none with the stage.
    #[error("Secrets Manager can't find the specified secret value for {what}")]
    NoVersion {
        /// `VersionId: ...` or `staging label: ...`.
        what: String,
    },
    /// The version that was asked for has not the stage that was asked for.
    #[error("You provided a VersionStage that is not associated to the provided VersionId.")]
    StageOfAnother,
    /// The stage would be taken from a version that the request does not name.
    #[error(
        "The parameter RemoveFromVersionId can't be empty. Staging label {stage} is currently attached to version {version}, so you must explicitly reference that version in RemoveFromVersionId."
    )]
    StageElsewhere {
        /// The stage.
        stage: String,
        /// Who has it.
        version: String,
    },
    /// The version to take the stage from has it not.
    #[error("Staging label {stage} is not attached to version {version}.")]
    StageNotThere {
        /// The stage.
        stage: String,
        /// The version.
        version: String,
    },
    /// Without a current version a secret could not be read.
    #[error(
        "You can only move staging label AWSCURRENT to a different secret version. It can't be completely removed."
    )]
    CurrentStays,
    /// All versions have stages.
    #[error(
        "The secret has {SECRET_VERSIONS_MAX} versions with staging labels; remove some labels first."
    )]
    TooManyVersions,
    /// More stages than a version may have.
    #[error("A version can have at most {STAGES_MAX} staging labels.")]
    TooManyStages,
}

/// What became of a value that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is a new version; its value is to be stored.
    New,
    /// The same request was carried out before.
    Again,
}

impl Secret {
    /// Whether it serves: it was not asked to be deleted.
    ///
    /// # Errors
    /// [`SecretRefusal::Deleted`].
    pub fn check_kept(&self) -> Result<(), SecretRefusal> {
        match self.deleted_at {
            None => Ok(()),
            Some(_) => Err(SecretRefusal::Deleted),
        }
    }

    /// The version of an id, of a stage, or of both; the current one when neither is given.
    ///
    /// # Errors
    /// [`SecretRefusal`].
    pub fn find(
        &self,
        id: Option<&str>,
        stage: Option<&str>,
    ) -> Result<&SecretVersion, SecretRefusal> {
        self.check_kept()?;
        let Some(id) = id else {
            let stage = stage.unwrap_or(CURRENT);
            return self
                .with_stage(stage)
                .ok_or_else(|| SecretRefusal::NoVersion {
                    what: format!("staging label: {stage}"),
                });
        };
        let version = self.version(id).ok_or_else(|| no_version(id))?;
        match stage {
            Some(stage) if !version.has(stage) => Err(SecretRefusal::StageOfAnother),
            Some(_) | None => Ok(version),
        }
    }

    /// Takes a value in. `stages` are what it is from now on; [`CURRENT`] when none are given, and
    /// for a secret's first value always.
    ///
    /// # Errors
    /// [`SecretRefusal`]; then nothing was changed.
    pub fn put(&mut self, version: SecretVersion, now: Timestamp) -> Result<Put, SecretRefusal> {
        self.check_kept()?;
        if let Some(same) = self.version(&version.id) {
            return match same.fingerprint == version.fingerprint && same.kind == version.kind {
                true => Ok(Put::Again),
                false => Err(SecretRefusal::TokenTaken {
                    token: version.id,
                    name: self.name.clone(),
                }),
            };
        }
        let mut stages = version.stages.clone();
        if stages.is_empty() || (self.with_stage(CURRENT).is_none() && !version.has(CURRENT)) {
            stages.push(CURRENT.to_owned());
        }
        stages.sort();
        stages.dedup();
        if stages.len() > STAGES_MAX {
            return Err(SecretRefusal::TooManyStages);
        }
        let mut next = self.clone();
        let id = version.id.clone();
        next.versions.push(SecretVersion {
            stages: Vec::new(),
            ..version
        });
        for stage in &stages {
            next.give(stage, &id);
        }
        next.make_room()?;
        next.changed_at = now;
        *self = next;
        Ok(Put::New)
    }

    /// Moves a stage from one version to another, gives it to one, or takes it away.
    ///
    /// # Errors
    /// [`SecretRefusal`]; then nothing was changed.
    pub fn move_stage(
        &mut self,
        stage: &str,
        from: Option<&str>,
        to: Option<&str>,
        now: Timestamp,
    ) -> Result<(), SecretRefusal> {
        self.check_kept()?;
        for id in [from, to].into_iter().flatten() {
            self.version(id).ok_or_else(|| no_version(id))?;
        }
        let holder = self.with_stage(stage).map(|version| version.id.clone());
        match (&holder, from) {
            (Some(holder), Some(from)) if holder == from => {}
            (Some(holder), _) if Some(holder.as_str()) == to => return Ok(()),
            (Some(holder), _) => {
                return Err(SecretRefusal::StageElsewhere {
                    stage: stage.to_owned(),
                    version: holder.clone(),
                });
            }
            (None, Some(from)) => {
                return Err(SecretRefusal::StageNotThere {
                    stage: stage.to_owned(),
                    version: from.to_owned(),
                });
            }
            (None, None) => {}
        }
        match to {
            Some(to) => {
                let version = self.version(to).ok_or_else(|| no_version(to))?;
                if version.stages.len() >= STAGES_MAX {
                    return Err(SecretRefusal::TooManyStages);
                }
                self.give(stage, to);
            }
            None if stage == CURRENT => return Err(SecretRefusal::CurrentStays),
            None => self.take(stage),
        }
        self.changed_at = now;
        Ok(())
    }

    /// Every stage there is, by version; versions without one are left out.
    pub fn stages(&self) -> BTreeMap<String, Vec<String>> {
        self.versions
            .iter()
            .filter(|version| !version.stages.is_empty())
            .map(|version| (version.id.clone(), version.stages.clone()))
            .collect()
    }

    /// A version by its id.
    pub fn version(&self, id: &str) -> Option<&SecretVersion> {
        self.versions.iter().find(|version| version.id == id)
    }

    fn with_stage(&self, stage: &str) -> Option<&SecretVersion> {
        self.versions.iter().find(|version| version.has(stage))
    }

    /// Gives a version a stage that no other has then. What was current becomes the previous one.
    fn give(&mut self, stage: &str, to: &str) {
        let before = self.with_stage(stage).map(|version| version.id.clone());
        if before.as_deref() == Some(to) {
            return;
        }
        self.take(stage);
        if let Some(version) = self.versions.iter_mut().find(|version| version.id == to) {
            version.stages.push(stage.to_owned());
            version.stages.sort();
        }
        if let Some(before) = before.filter(|_| stage == CURRENT) {
            self.give(PREVIOUS, &before);
        }
    }

    fn take(&mut self, stage: &str) {
        for version in &mut self.versions {
            version.stages.retain(|other| other != stage);
        }
    }

    fn make_room(&mut self) -> Result<(), SecretRefusal> {
        while self.versions.len() > SECRET_VERSIONS_MAX {
            let oldest = self
                .versions
                .iter()
                .position(|version| version.stages.is_empty())
                .ok_or(SecretRefusal::TooManyVersions)?;
            self.versions.remove(oldest);
        }
        Ok(())
    }
}

impl SecretVersion {
    fn has(&self, stage: &str) -> bool {
        self.stages.iter().any(|other| other == stage)
    }
}

fn no_version(id: &str) -> SecretRefusal {
    SecretRefusal::NoVersion {
        what: format!("VersionId: {id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(7);

    fn secret() -> Secret {
        Secret {
            id: "0".repeat(32),
            name: "db".into(),
            suffix: "AbCdEf".into(),
            description: None,
            kms_key: None,
            tags: BTreeMap::new(),
            versions: Vec::new(),
            created_at: Timestamp::from_millis(1),
            changed_at: Timestamp::from_millis(1),
            deleted_at: None,
            purge_at: None,
        }
    }

    fn put(secret: &mut Secret, id: &str, stages: &[&str]) -> Result<Put, SecretRefusal> {
        let version = SecretVersion {
            id: id.into(),
            stages: stages.iter().map(ToString::to_string).collect(),
            kind: ValueKind::Text,
            fingerprint: format!("of {id}"),
            created_at: NOW,
        };
        secret.put(version, NOW)
    }

    #[track_caller]
    fn check(secret: &Secret, want: &str) {
        let of = |version: &SecretVersion| match version.stages.is_empty() {
            true => version.id.clone(),
            false => format!("{}={}", version.id, version.stages.join("+")),
        };
        let versions: Vec<String> = secret.versions.iter().map(of).collect();
        assert_eq!(versions.join(" "), want);
    }

    #[test]
    fn the_newest_value_is_current_and_the_one_before_previous() {
        let mut secret = secret();
        assert_eq!(put(&mut secret, "a", &[]), Ok(Put::New));
        check(&secret, "a=AWSCURRENT");
        put(&mut secret, "b", &[]).unwrap();
        check(&secret, "a=AWSPREVIOUS b=AWSCURRENT");
        put(&mut secret, "c", &[]).unwrap();
        check(&secret, "a b=AWSPREVIOUS c=AWSCURRENT");
        put(&mut secret, "d", &["AWSPENDING"]).unwrap();
        check(&secret, "a b=AWSPREVIOUS c=AWSCURRENT d=AWSPENDING");
        assert_eq!(secret.changed_at, NOW);
    }

    #[test]
    fn the_first_value_is_current_whatever_its_stages() {
        let mut secret = secret();
        put(&mut secret, "a", &["blue"]).unwrap();
        check(&secret, "a=AWSCURRENT+blue");
    }

    #[test]
    fn a_token_makes_one_version() {
        let mut secret = secret();
        put(&mut secret, "a", &[]).unwrap();
        put(&mut secret, "b", &[]).unwrap();
        assert_eq!(put(&mut secret, "a", &[]), Ok(Put::Again));
        check(&secret, "a=AWSPREVIOUS b=AWSCURRENT");
        let other = SecretVersion {
            fingerprint: "other".into(),
            ..secret.versions[0].clone()
        };
        assert!(matches!(
            secret.put(other, NOW),
            Err(SecretRefusal::TokenTaken { .. })
        ));
    }

    #[test]
    fn stages_move_as_asked_and_current_never_goes() {
        let mut secret = secret();
        put(&mut secret, "a", &[]).unwrap();
        put(&mut secret, "b", &["AWSPENDING"]).unwrap();
        let elsewhere = secret.move_stage(CURRENT, None, Some("b"), NOW);
        assert!(matches!(
            elsewhere,
            Err(SecretRefusal::StageElsewhere { .. })
        ));
        secret
            .move_stage(CURRENT, Some("a"), Some("b"), NOW)
            .unwrap();
        check(&secret, "a=AWSPREVIOUS b=AWSCURRENT+AWSPENDING");
        secret.move_stage(CURRENT, None, Some("b"), NOW).unwrap();
        secret
            .move_stage("AWSPENDING", Some("b"), None, NOW)
            .unwrap();
        secret.move_stage("green", None, Some("a"), NOW).unwrap();
        check(&secret, "a=AWSPREVIOUS+green b=AWSCURRENT");
        assert_eq!(
            secret.move_stage(CURRENT, Some("b"), None, NOW),
            Err(SecretRefusal::CurrentStays)
        );
        assert!(matches!(
            secret.move_stage("red", Some("a"), None, NOW),
            Err(SecretRefusal::StageNotThere { .. })
        ));
        assert!(matches!(
            secret.move_stage("red", None, Some("z"), NOW),
            Err(SecretRefusal::NoVersion { .. })
        ));
    }

    #[test]
    fn values_are_found_by_stage_and_id() {
        let mut secret = secret();
        let nothing = secret.find(None, None).unwrap_err();
        assert_eq!(
            nothing.to_string(),
            "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT"
        );
        put(&mut secret, "a", &[]).unwrap();
        put(&mut secret, "b", &[]).unwrap();
        for (id, stage, want) in [
            (None, None, "b"),
            (None, Some(PREVIOUS), "a"),
            (Some("a"), None, "a"),
            (Some("b"), Some(CURRENT), "b"),
        ] {
            assert_eq!(secret.find(id, stage).unwrap().id, want);
        }
        assert_eq!(
            secret.find(Some("a"), Some(CURRENT)),
            Err(SecretRefusal::StageOfAnother)
        );
        secret.deleted_at = Some(NOW);
        assert_eq!(secret.find(None, None), Err(SecretRefusal::Deleted));
    }

    #[test]
    fn versions_are_bounded_and_those_with_stages_stay() {
        let mut secret = secret();
        put(&mut secret, "kept", &["kept"]).unwrap();
        for number in 0..3 * SECRET_VERSIONS_MAX {
            put(&mut secret, &number.to_string(), &[]).unwrap();
        }
        assert_eq!(secret.versions.len(), SECRET_VERSIONS_MAX);
        assert!(secret.version("kept").is_some());
        assert_eq!(secret.find(None, None).unwrap().id, "299");
        for number in 0..SECRET_VERSIONS_MAX {
            let _ = put(&mut secret, &format!("s{number}"), &[&format!("s{number}")]);
        }
        let refused = put(&mut secret, "one more", &["one more"]);
        assert_eq!(refused, Err(SecretRefusal::TooManyVersions));
        assert_eq!(secret.versions.len(), SECRET_VERSIONS_MAX);
    }
}
