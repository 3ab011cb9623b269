//! What a service's configuration says of a secret: where to find its value.
//!
//! Four forms (specification, section 13), all of which are kept and shown as they were written:
//!
//! ```text
//! arn:aws:secretsmanager:{region}:{account}:secret:{name}-{6 characters}
//! arn:aws:secretsmanager:{region}:{account}:secret:{name}-{6}:{json key}:{stage}:{version id}
//! arn:aws:ssm:{region}:{account}:parameter/{name}
//! {parameter name}
//! ```
//!
//! In the second, each of the three last parts may be empty and none may be missing. Whether there is
//! such a secret, and whether its account is ours, is for whoever looks it up.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest reference, in bytes: App Runner's own bound.
pub const SECRET_REFERENCE_BYTES_MAX: usize = 2048;

/// The longest name of a parameter, in bytes, as Parameter Store has it.
const PARAMETER_NAME_BYTES_MAX: usize = 2048;

/// The longest name of a secret with its suffix, in bytes, as Secrets Manager has it.
const SECRET_NAME_BYTES_MAX: usize = 512 + 7;

/// A parsed reference. Prints as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SecretReference {
    text: String,
    target: SecretTarget,
}

/// What a reference names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretTarget {
    /// A secret of Secrets Manager, or a part of it.
    Secret {
        /// Such as `us-east-1`.
        region: String,
        /// Twelve digits.
        account: String,
        /// The secret's name, with its suffix as a rule.
        name: String,
        /// The member of the JSON object that the secret is; the whole secret when absent.
        json_key: Option<String>,
        /// A stage of the secret, `AWSCURRENT` when neither stage nor version is given.
        stage: Option<String>,
        /// One version of it.
        version: Option<String>,
    },
    /// A parameter of Parameter Store.
    Parameter {
        /// Region and account, when it was named by its ARN; the service's own otherwise.
        place: Option<(String, String)>,
        /// Its name. Of an ARN: without the first slash, if the parameter's own name has one.
        name: String,
    },
}

/// Text that refers to no secret. Does not repeat it: people put secrets where references belong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a reference to a secret: {problem}")]
pub struct InvalidSecretReference {
    problem: &'static str,
}

impl SecretReference {
    /// What it names.
    pub fn target(&self) -> &SecretTarget {
        &self.target
    }
}

impl FromStr for SecretReference {
    type Err = InvalidSecretReference;

    fn from_str(text: &str) -> Result<Self, InvalidSecretReference> {
        match parse(text) {
            Ok(target) => Ok(Self {
                text: text.to_owned(),
                target,
            }),
            Err(problem) => Err(InvalidSecretReference { problem }),
        }
    }
}

fn parse(text: &str) -> Result<SecretTarget, &'static str> {
    if text.len() > SECRET_REFERENCE_BYTES_MAX {
        return Err("it is longer than 2048 bytes");
    }
    if !text.starts_with("arn:") {
        check_parameter_name(text)?;
        return Ok(SecretTarget::Parameter {
            place: None,
            name: text.to_owned(),
        });
    }
    let mut parts = text.splitn(6, ':').skip(1);
    let mut next = || parts.next().ok_or("the ARN is cut off");
    let (partition, service, region, account) = (next()?, next()?, next()?, next()?);
    let resource = next()?;
    let is_partition = partition == "aws"
        || partition
            .strip_prefix("aws-")
            .is_some_and(|rest| is_made_of(rest, |c| c.is_ascii_lowercase() || c == '-'));
    if !is_partition {
        return Err("the ARN does not begin with `arn:aws:`");
    }
    if !is_made_of(region, |c| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
    }) {
        return Err("the ARN's region is not one");
    }
    if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
        return Err("the ARN's account is not twelve digits");
    }
    match service {
        "secretsmanager" => parse_secret(region, account, resource),
        "ssm" => {
            let name = resource
                .strip_prefix("parameter/")
                .ok_or("an ARN of Systems Manager must name a `parameter/...`")?;
            check_parameter_name(name)?;
            Ok(SecretTarget::Parameter {
                place: Some((region.to_owned(), account.to_owned())),
                name: name.to_owned(),
            })
        }
        _ => Err("the ARN is neither of a secret of Secrets Manager nor of a parameter"),
    }
}

fn parse_secret(region: &str, account: &str, resource: &str) -> Result<SecretTarget, &'static str> {
    let rest = resource
        .strip_prefix("secret:")
        .ok_or("an ARN of Secrets Manager must name a `secret:...`")?;
    let parts: Vec<&str> = rest.split(':').collect();
    let (name, json_key, stage, version) = match parts[..] {
        [name] => (name, "", "", ""),
        [name, json_key, stage, version] => (name, json_key, stage, version),
        _ => {
            return Err(
                "after the secret's name come nothing, or `:json-key:version-stage:version-id` with \
                 both colons, where each part may be empty",
            );
        }
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || "/_+=.@!-".contains(c);
    if name.len() > SECRET_NAME_BYTES_MAX || !is_made_of(name, is_name) {
        return Err("the secret's name must be 1 to 512 letters, digits and `/_+=.@-`");
    }
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Ok(SecretTarget::Secret {
        region: region.to_owned(),
        account: account.to_owned(),
        name: name.to_owned(),
        json_key: given(json_key),
        stage: given(stage),
        version: given(version),
    })
}

/// A parameter's name, with a version or a label after a colon if so wanted.
fn check_parameter_name(text: &str) -> Result<(), &'static str> {
    let (name, selector) = match text.split_once(':') {
        Some((name, selector)) => (name, Some(selector)),
        None => (text, None),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
    if name.len() > PARAMETER_NAME_BYTES_MAX || !is_made_of(name, is_name) {
        return Err("a parameter's name must be 1 to 2048 letters, digits and `_.-/`");
    }
    if name.ends_with('/') || name.contains("//") {
        return Err("a parameter's name has no empty part");
    }
    let is_label = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    match selector.is_none_or(|selector| is_made_of(selector, is_label)) {
        true => Ok(()),
        false => Err("after a parameter's name comes a version's number or a label"),
    }
}

fn is_made_of(text: &str, allowed: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(allowed)
}

impl fmt::Display for SecretReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for SecretReference {
    type Error = InvalidSecretReference;

    fn try_from(text: String) -> Result<Self, InvalidSecretReference> {
        text.parse()
    }
}

impl From<SecretReference> for String {
    fn from(reference: SecretReference) -> String {
        reference.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "arn:aws:secretsmanager:us-east-1:123456789012:secret:";

    #[track_caller]
    fn check(text: &str, want: &str) {
        let got = match text.parse::<SecretReference>() {
            Ok(reference) => {
                assert_eq!(reference.to_string(), text);
                let dash = |part: Option<String>| part.unwrap_or_else(|| "-".into());
                match reference.target {
                    SecretTarget::Secret {
                        region,
                        account,
                        name,
                        json_key,
                        stage,
                        version,
                    } => format!(
                        "secret {region} {account} {name} {} {} {}",
                        dash(json_key),
                        dash(stage),
                        dash(version)
                    ),
                    SecretTarget::Parameter { place, name } => match place {
                        Some((region, account)) => format!("parameter {region} {account} {name}"),
                        None => format!("parameter {name}"),
                    },
                }
            }
            Err(error) => format!("error: {}", error.problem),
        };
        assert_eq!(got, want, "{text}");
    }

    #[test]
    fn secrets_are_whole_or_a_part_with_its_colons() {
        let of = |rest: &str| format!("{SECRET}{rest}");
        let want = |rest: &str| format!("secret us-east-1 123456789012 {rest}");
        check(&of("db-AbCdEf"), &want("db-AbCdEf - - -"));
        check(
            &of("team/db-AbCdEf:user::"),
            &want("team/db-AbCdEf user - -"),
        );
        check(
            &of("db-AbCdEf::AWSPREVIOUS:"),
            &want("db-AbCdEf - AWSPREVIOUS -"),
        );
        check(&of("db-AbCdEf:::v1"), &want("db-AbCdEf - - v1"));
        check(
            &of("db-AbCdEf:a key:AWSCURRENT:v1"),
            &want("db-AbCdEf a key AWSCURRENT v1"),
        );
        check(&of("db-AbCdEf:::"), &want("db-AbCdEf - - -"));
        let parts = "error: after the secret's name come nothing, or \
                     `:json-key:version-stage:version-id` with both colons, where each part may be \
                     empty";
        for rest in ["db-AbCdEf:user", "db-AbCdEf:user:", "db:a:b:c:d"] {
            check(&of(rest), parts);
        }
        let name = "error: the secret's name must be 1 to 512 letters, digits and `/_+=.@-`";
        check(&of(""), name);
        check(&of("a b-AbCdEf"), name);
        check(&of(&"x".repeat(520)), name);
    }

    #[test]
    fn parameters_are_named_or_given_by_arn() {
        let arn = "arn:aws:ssm:eu-west-1:123456789012:parameter";
        check("db-password", "parameter db-password");
        check("/web/prod/key", "parameter /web/prod/key");
        check("/web/key:3", "parameter /web/key:3");
        check(
            &format!("{arn}/web/key"),
            "parameter eu-west-1 123456789012 web/key",
        );
        check(
            "arn:aws-us-gov:ssm:us-gov-west-1:123456789012:parameter/k",
            "parameter us-gov-west-1 123456789012 k",
        );
        let name = "error: a parameter's name must be 1 to 2048 letters, digits and `_.-/`";
        for text in ["", "a b", "päss", "a\0", "a=b", &format!("{arn}/")] {
            check(text, name);
        }
        for text in ["/", "a//b", "/a/", &format!("{arn}//a//b")] {
            check(text, "error: a parameter's name has no empty part");
        }
        for text in ["a:", "a:b:c", "a:b c"] {
            check(
                text,
                "error: after a parameter's name comes a version's number or a label",
            );
        }
        check(
            arn,
            "error: an ARN of Systems Manager must name a `parameter/...`",
        );
    }

    #[test]
    fn other_arns_say_what_is_wrong() {
        for (text, want) in [
            ("arn:", "the ARN is cut off"),
            (
                "arn:aws:secretsmanager:us-east-1:123456789012",
                "the ARN is cut off",
            ),
            (
                "arn:aws:s3:us-east-1:123456789012:secret:a",
                "the ARN is neither of a secret of Secrets Manager nor of a parameter",
            ),
            (
                "arn:aws:secretsmanager:us-east-1:123456789012:policy:a",
                "an ARN of Secrets Manager must name a `secret:...`",
            ),
            (
                "arn:aws:secretsmanager:us-east-1:12345:secret:a",
                "the ARN's account is not twelve digits",
            ),
            (
                "arn:aws:secretsmanager::123456789012:secret:a",
                "the ARN's region is not one",
            ),
            (
                "arn:azure:secretsmanager:us-east-1:123456789012:secret:a",
                "the ARN does not begin with `arn:aws:`",
            ),
        ] {
            check(text, &format!("error: {want}"));
        }
        check(&"a".repeat(2049), "error: it is longer than 2048 bytes");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_prints_as_written(
            text in "(arn:aws(-cn)?:)?(secretsmanager|ssm)?:?[a-z0-9-]{0,9}:?[0-9]{0,12}:?\\PC{0,40}"
        ) {
            if let Ok(reference) = text.parse::<SecretReference>() {
                prop_assert_eq!(reference.to_string(), text);
            }
        }

        #[test]
        fn the_parts_of_a_secret_are_found_again(
            name in "[a-zA-Z0-9/_+=.@-]{1,40}",
            json_key in "[^:\\x00]{0,20}",
            stage in "[A-Z]{0,10}",
            version in "[a-f0-9-]{0,36}",
        ) {
            let text = format!("{SECRET}{name}:{json_key}:{stage}:{version}");
            let reference: SecretReference = text.parse().unwrap();
            let given = |part: String| (!part.is_empty()).then_some(part);
            prop_assert_eq!(reference.target(), &SecretTarget::Secret {
                region: "us-east-1".into(),
                account: "123456789012".into(),
                name,
                json_key: given(json_key),
                stage: given(stage),
                version: given(version),
            });
        }
    }
}
