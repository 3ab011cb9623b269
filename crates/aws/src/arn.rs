//! ARNs of App Runner's resources (specification, section 1.2).
//!
//! `arn:aws:apprunner:{region}:{account}:{kind}/{name}/...`, where what follows the name is an id of
//! 32 lowercase hexadecimal digits, or for kinds that have revisions the revision's number and then
//! the id. Auto scaling and observability configurations may be named without id or revision; of a
//! name alone the newest revision is meant, which is for the resource's keeper to find.

use std::{fmt, str::FromStr};

/// The name of App Runner's built-in auto scaling configuration, revision 1.
pub const DEFAULT_CONFIGURATION_NAME: &str = "DefaultConfiguration";

/// The id of that revision.
pub const DEFAULT_CONFIGURATION_ID: &str = "00000000000000000000000000000001";

/// What an App Runner ARN names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Arn {
    /// Such as `us-east-1`.
    pub region: String,
    /// 12 digits.
    pub account: String,
    /// The resource in that account and region.
    pub resource: Resource,
}

/// A resource in an account and region.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Resource {
    /// A service.
    Service(Single),
    /// A connection to a source code provider.
    Connection(Single),
    /// A way into a private service.
    VpcIngressConnection(Single),
    /// A way out of services.
    VpcConnector(Revision),
    /// An auto scaling configuration, perhaps in part.
    AutoScalingConfiguration(Revised),
    /// An observability configuration, perhaps in part.
    ObservabilityConfiguration(Revised),
}

/// A resource without revisions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Single {
    /// The user's.
    pub name: String,
    /// 32 lowercase hexadecimal digits.
    pub id: String,
}

/// One revision of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Revision {
    /// The user's.
    pub name: String,
    /// From 1.
    pub revision: u32,
    /// 32 lowercase hexadecimal digits.
    pub id: String,
}

/// How precisely a revision is named.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Revised {
    /// `kind/name`: the newest active revision.
    Newest {
        /// The user's.
        name: String,
    },
    /// `kind/name/revision`.
    Numbered {
        /// The user's.
        name: String,
        /// From 1.
        revision: u32,
    },
    /// `kind/name/revision/id`.
    Whole(Revision),
}

/// Text that is not an ARN of App Runner's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not an App Runner ARN: expected `arn:aws:apprunner:<region>:<account>:<kind>/<name>/...`"
)]
pub struct InvalidArn {
    text: String,
}

impl Arn {
    /// The ARN of a service, as text: lists have many, and most are only written. `id` is 32
    /// lowercase hexadecimal digits.
    pub fn of_service(region: &str, account: &str, name: &str, id: &str) -> String {
        [
            "arn:aws:apprunner:",
            region,
            ":",
            account,
            ":service/",
            name,
            "/",
            id,
        ]
        .concat()
    }

    /// The id of the service that this names; `None` when it names something else.
    pub fn service_id(&self) -> Option<&str> {
        match &self.resource {
            Resource::Service(service) => Some(&service.id),
            _ => None,
        }
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "arn:aws:apprunner:{}:{}:{}",
            self.region, self.account, self.resource
        )
    }
}

impl FromStr for Arn {
    type Err = InvalidArn;

    fn from_str(text: &str) -> Result<Self, InvalidArn> {
        parse(text).ok_or_else(|| InvalidArn {
            text: text.chars().take(128).collect(),
        })
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(single) => write!(f, "service/{single}"),
            Self::Connection(single) => write!(f, "connection/{single}"),
            Self::VpcIngressConnection(single) => write!(f, "vpcingressconnection/{single}"),
            Self::VpcConnector(revision) => write!(f, "vpcconnector/{revision}"),
            Self::AutoScalingConfiguration(revised) => {
                write!(f, "autoscalingconfiguration/{revised}")
            }
            Self::ObservabilityConfiguration(revised) => {
                write!(f, "observabilityconfiguration/{revised}")
            }
        }
    }
}

impl fmt::Display for Single {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.id)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.name, self.revision, self.id)
    }
}

impl fmt::Display for Revised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest { name } => f.write_str(name),
            Self::Numbered { name, revision } => write!(f, "{name}/{revision}"),
            Self::Whole(revision) => revision.fmt(f),
        }
    }
}

fn parse(text: &str) -> Option<Arn> {
    let rest = text.strip_prefix("arn:aws:apprunner:")?;
    let mut fields = rest.splitn(3, ':');
    let region = fields.next().filter(|region| is_region(region))?;
    let account = fields.next().filter(|account| is_account(account))?;
    let resource = resource(fields.next()?)?;
    Some(Arn {
        region: region.to_owned(),
        account: account.to_owned(),
        resource,
    })
}

fn resource(text: &str) -> Option<Resource> {
    let (kind, rest) = text.split_once('/')?;
    let parts: Vec<&str> = rest.split('/').collect();
    Some(match kind {
        "service" => Resource::Service(single(&parts)?),
        "connection" => Resource::Connection(single(&parts)?),
        "vpcingressconnection" => Resource::VpcIngressConnection(single(&parts)?),
        "vpcconnector" => Resource::VpcConnector(revision(&parts)?),
        "autoscalingconfiguration" => Resource::AutoScalingConfiguration(revised(&parts)?),
        "observabilityconfiguration" => Resource::ObservabilityConfiguration(revised(&parts)?),
        _ => return None,
    })
}

fn single(parts: &[&str]) -> Option<Single> {
    match parts {
        [name, id] => Some(Single {
            name: name_text(name)?,
            id: id_text(id)?,
        }),
        _ => None,
    }
}

fn revision(parts: &[&str]) -> Option<Revision> {
    match parts {
        [name, number, id] => Some(Revision {
            name: name_text(name)?,
            revision: revision_number(number)?,
            id: id_text(id)?,
        }),
        _ => None,
    }
}

fn revised(parts: &[&str]) -> Option<Revised> {
    Some(match parts {
        [name] => Revised::Newest {
            name: name_text(name)?,
        },
        [name, number] => Revised::Numbered {
            name: name_text(name)?,
            revision: revision_number(number)?,
        },
        parts => Revised::Whole(revision(parts)?),
    })
}

/// Whether text can be a region: 1 to 32 of `a-z 0-9 -`.
pub(crate) fn is_region(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn name_text(text: &str) -> Option<String> {
    let good = (1..=40).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    good.then(|| text.to_owned())
}

fn id_text(text: &str) -> Option<String> {
    let good = text.len() == 32
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    good.then(|| text.to_owned())
}

/// A revision's number in the one way it is written: no sign, no leading zero.
fn revision_number(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number > 0 && number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PREFIX: &str = "arn:aws:apprunner:us-east-1:123456789012:";
    const ID: &str = "8fe1e10304f84fd2b0df550fe98a71fa";

    #[test]
    fn arns_read_back_what_they_print() {
        for resource in [
            format!("service/python-app/{ID}"),
            format!("connection/my_connection/{ID}"),
            format!("vpcingressconnection/vic1/{ID}"),
            format!("vpcconnector/conn/1/{ID}"),
            "autoscalingconfiguration/high-availability".to_owned(),
            "autoscalingconfiguration/high-availability/3".to_owned(),
            format!(
                "autoscalingconfiguration/{DEFAULT_CONFIGURATION_NAME}/1/{DEFAULT_CONFIGURATION_ID}"
            ),
            "observabilityconfiguration/xray-tracing/3".to_owned(),
        ] {
            let text = format!("{PREFIX}{resource}");
            assert_eq!(text.parse::<Arn>().unwrap().to_string(), text);
        }
        let text = Arn::of_service("us-east-1", "123456789012", "python-app", ID);
        assert_eq!(text, format!("{PREFIX}service/python-app/{ID}"));
        let arn: Arn = text.parse().unwrap();
        assert_eq!(arn.service_id(), Some(ID));
        assert_eq!(arn.to_string().parse(), Ok(arn));
    }

    #[test]
    fn what_is_not_whole_or_not_ours_is_refused() {
        for text in [
            "".to_owned(),
            format!("service/python-app/{ID}"),
            format!("{PREFIX}service/python-app"),
            format!("{PREFIX}service/python-app/{ID}/1"),
            format!("{PREFIX}service/python-app/{}", ID.to_uppercase()),
            format!("{PREFIX}service//{ID}"),
            format!("{PREFIX}service/a b/{ID}"),
            format!("{PREFIX}vpcconnector/conn/1"),
            format!("{PREFIX}vpcconnector/conn/0/{ID}"),
            format!("{PREFIX}vpcconnector/conn/01/{ID}"),
            format!("{PREFIX}vpcconnector/conn/+1/{ID}"),
            format!("{PREFIX}autoscalingconfiguration/"),
            format!("{PREFIX}autoscalingconfiguration/name/"),
            format!("{PREFIX}autoscalingconfiguration/name/4294967296"),
            format!("arn:aws-cn:apprunner:us-east-1:123456789012:service/web-app/{ID}"),
            format!("arn:aws:s3:us-east-1:123456789012:service/web-app/{ID}"),
            format!("arn:aws:apprunner::123456789012:service/web-app/{ID}"),
            format!("arn:aws:apprunner:us-east-1:12345678901:service/web-app/{ID}"),
        ] {
            assert!(text.parse::<Arn>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_read_prints_the_same(text in "arn:aws:apprunner:[a-z0-9-]{0,3}:[0-9]{12}:[a-z]{6,9}[/0-9a-f]{1,40}") {
            if let Ok(arn) = text.parse::<Arn>() {
                prop_assert_eq!(arn.to_string(), text);
            }
        }
    }
}
