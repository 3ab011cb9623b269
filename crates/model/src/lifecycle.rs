//! Lifecycle policies of repositories: which images are removed by themselves.
//!
//! The document is ECR's ("Lifecycle policy properties", ECR user guide). An image is expired by at most
//! one rule; one that a rule of higher priority selects is no other's.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::{image::Digest, time::Timestamp, wildcard::matches};

/// Rules of a policy: ECR's.
pub const RULES_MAX: usize = 50;

const DAY_MILLIS: u64 = 24 * 60 * 60 * 1000;

/// A policy that is well-formed: reading one that contradicts itself fails with a sentence that says where.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Document")]
pub struct Policy(Vec<Rule>);

/// An image as rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub digest: Digest,
    /// Its tags.
    pub tags: Vec<String>,
    /// When it was pushed.
    pub pushed_at: Timestamp,
    /// An index names it: it goes with that and not before.
    pub referenced: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    rule_priority: u32,
    #[serde(default)]
    #[allow(dead_code)] // its owner's remark
    description: Option<String>,
    selection: Selection,
    action: Action,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Selection {
    tag_status: TagStatus,
    #[serde(default)]
    tag_prefix_list: Vec<String>,
    #[serde(default)]
    tag_pattern_list: Vec<String>,
    count_type: CountType,
    #[serde(default)]
    count_unit: Option<CountUnit>,
    count_number: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TagStatus {
    Tagged,
    Untagged,
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum CountType {
    ImageCountMoreThan,
    SinceImagePushed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CountUnit {
    Days,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Action {
    r#type: ActionType,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ActionType {
    Expire,
}

impl TryFrom<Document> for Policy {
    type Error = String;

    fn try_from(document: Document) -> Result<Self, String> {
        let mut rules = document.rules;
        if !(1..=RULES_MAX).contains(&rules.len()) {
            return Err(format!(
                "it has {} rules: expected 1 to {RULES_MAX}",
                rules.len()
            ));
        }
        rules.sort_by_key(|rule| rule.rule_priority);
        for pair in rules.windows(2) {
            if pair[0].rule_priority == pair[1].rule_priority {
                return Err(format!(
                    "two rules have the priority {}",
                    pair[0].rule_priority
                ));
            }
            if pair[0].selection.tag_status == TagStatus::Any {
                return Err("a rule for `any` must have the last priority".to_owned());
            }
        }
        rules.iter().try_for_each(Rule::check)?;
        Ok(Self(rules))
    }
}

impl Policy {
    /// Which of a repository's images are to go.
    pub fn expired(&self, images: &[Candidate], now: Timestamp) -> Vec<Digest> {
        let mut newest_first: Vec<&Candidate> = images.iter().collect();
        newest_first.sort_by(|one, other| {
            (other.pushed_at, other.digest).cmp(&(one.pushed_at, one.digest))
        });
        let (mut taken, mut expired) = (BTreeSet::new(), Vec::new());
        for rule in &self.0 {
            let selected: Vec<_> = newest_first
                .iter()
                .filter(|image| !taken.contains(&image.digest) && rule.selects(image))
                .collect();
            for (place, image) in selected.iter().enumerate() {
                taken.insert(image.digest);
                if rule.is_over(place, image, now) && !image.referenced {
                    expired.push(image.digest);
                }
            }
        }
        expired
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        let Selection {
            tag_status,
            tag_prefix_list,
            tag_pattern_list,
            count_type,
            count_unit,
            count_number,
        } = &self.selection;
        let priority = self.rule_priority;
        let lists = tag_prefix_list.len() + tag_pattern_list.len();
        let problem = match (tag_status, count_type) {
            (TagStatus::Tagged, _) if lists == 0 => {
                "`tagged` needs a `tagPrefixList` or a `tagPatternList`"
            }
            (TagStatus::Tagged, _)
                if !tag_prefix_list.is_empty() && !tag_pattern_list.is_empty() =>
            {
                "`tagPrefixList` and `tagPatternList` exclude each other"
            }
            (TagStatus::Untagged | TagStatus::Any, _) if lists > 0 => {
                "only `tagged` has a `tagPrefixList` or a `tagPatternList`"
            }
            (_, CountType::SinceImagePushed) if count_unit.is_none() => {
                "`sinceImagePushed` needs the `countUnit` `days`"
            }
            (_, CountType::ImageCountMoreThan) if count_unit.is_some() => {
                "`imageCountMoreThan` has no `countUnit`"
            }
            _ if *count_number == 0 => "`countNumber` must be at least 1",
            _ => return Ok(()),
        };
        Err(format!("rule {priority}: {problem}"))
    }

    fn selects(&self, image: &Candidate) -> bool {
        let selection = &self.selection;
        // An image needs a tag for each of them, which may be the same.
        let prefixes = selection
            .tag_prefix_list
            .iter()
            .all(|prefix| image.tags.iter().any(|tag| tag.starts_with(prefix)));
        let patterns = selection
            .tag_pattern_list
            .iter()
            .all(|pattern| image.tags.iter().any(|tag| matches(pattern, tag)));
        match selection.tag_status {
            TagStatus::Any => true,
            TagStatus::Untagged => image.tags.is_empty(),
            TagStatus::Tagged => !image.tags.is_empty() && prefixes && patterns,
        }
    }

    fn is_over(&self, place: usize, image: &Candidate, now: Timestamp) -> bool {
        let count = self.selection.count_number;
        match self.selection.count_type {
            CountType::ImageCountMoreThan => place as u64 >= count,
            CountType::SinceImagePushed => {
                let age = now.since(image.pushed_at).as_millis();
                age >= u128::from(count) * u128::from(DAY_MILLIS)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Policy, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    fn image(byte: u8, tags: &[&str], day: u64) -> Candidate {
        Candidate {
            digest: Digest::from_sha256([byte; 32]),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            pushed_at: Timestamp::from_millis(day * DAY_MILLIS),
            referenced: false,
        }
    }

    fn rule(priority: u32, selection: &str) -> String {
        format!(
            r#"{{"rulePriority":{priority},"description":"d","selection":{{{selection}}},"action":{{"type":"expire"}}}}"#
        )
    }

    #[track_caller]
    fn check(rules: &[String], images: &[Candidate], want: &[u8]) {
        let policy = read(&format!(r#"{{"rules":[{}]}}"#, rules.join(","))).unwrap();
        let mut expired = policy.expired(images, Timestamp::from_millis(100 * DAY_MILLIS));
        expired.sort();
        let want: Vec<_> = want
            .iter()
            .map(|byte| Digest::from_sha256([*byte; 32]))
            .collect();
        assert_eq!(expired, want);
    }

    #[test]
    fn images_go_by_count_and_by_age() {
        let images = [
            image(1, &["v1"], 10),
            image(2, &["v2"], 90),
            image(3, &[], 95),
            image(4, &[], 99),
            image(5, &["dev"], 1),
        ];
        let old_untagged = r#""tagStatus":"untagged","countType":"sinceImagePushed","countUnit":"days","countNumber":3"#;
        let one_release = r#""tagStatus":"tagged","tagPrefixList":["v"],"countType":"imageCountMoreThan","countNumber":1"#;
        let any = r#""tagStatus":"any","countType":"imageCountMoreThan","countNumber":1"#;
        check(&[rule(1, old_untagged)], &images, &[3]);
        check(&[rule(1, one_release)], &images, &[1]);
        check(&[rule(1, any)], &images, &[1, 2, 3, 5]);
        // What a rule before selects is not the last one's: of those left the newest stays.
        check(&[rule(1, one_release), rule(2, any)], &images, &[1, 3, 5]);
        let mut kept = images.clone();
        kept[0].referenced = true;
        check(&[rule(1, one_release)], &kept, &[]);
    }

    #[test]
    fn what_contradicts_itself_is_refused_in_words() {
        let refused = |selection: &str| {
            read(&format!(r#"{{"rules":[{}]}}"#, rule(1, selection))).unwrap_err()
        };
        for (selection, want) in [
            (
                r#""tagStatus":"tagged","countType":"imageCountMoreThan","countNumber":1"#,
                "needs a `tagPrefixList`",
            ),
            (
                r#""tagStatus":"any","countType":"sinceImagePushed","countNumber":1"#,
                "`countUnit`",
            ),
            (
                r#""tagStatus":"any","countType":"imageCountMoreThan","countNumber":0"#,
                "at least 1",
            ),
            (r#""tagStatus":"some""#, "some"),
        ] {
            let why = refused(selection);
            assert!(why.contains(want), "{why}");
        }
        assert!(read("{}").unwrap_err().contains("rules"));
        let any = r#""tagStatus":"any","countType":"imageCountMoreThan","countNumber":1"#;
        let twice = format!(r#"{{"rules":[{},{}]}}"#, rule(1, any), rule(2, any));
        assert!(read(&twice).unwrap_err().contains("last priority"));
    }
}
