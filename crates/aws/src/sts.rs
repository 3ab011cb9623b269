//! AWS Security Token Service, API version 2011-06-15: what tools ask at their start, and temporary
//! credentials.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    constraint::{Integers, Pattern, Texts, Validate, Violations},
    epoch_seconds::EpochSeconds,
    operations::operations,
};

operations! {
    /// What STS can be asked to do.
    pub enum Operation {
        /// [`GetCallerIdentityRequest`] in, [`GetCallerIdentityResponse`] out.
        GetCallerIdentity,
        /// [`AssumeRoleRequest`] in, [`AssumeRoleResponse`] out.
        AssumeRole,
        /// [`GetSessionTokenRequest`] in, [`GetSessionTokenResponse`] out.
        GetSessionToken,
    }
}

/// Input of `GetCallerIdentity`: nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GetCallerIdentityRequest {}

/// Output of `GetCallerIdentity`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GetCallerIdentityResponse {
    /// The key's id, with the session's name after a colon if it is one.
    pub user_id: String,
    /// 12 digits.
    pub account: String,
    /// Who calls.
    pub arn: String,
}

/// Input of `AssumeRole`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AssumeRoleRequest {
    /// Required. Any role's: roles are not kept here, and give no rights.
    pub role_arn: Option<String>,
    /// Required. Stands in the session's ARN.
    pub role_session_name: Option<String>,
    /// 900 to 43,200; 3,600 when absent.
    pub duration_seconds: Option<i32>,
}

/// Output of `AssumeRole`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AssumeRoleResponse {
    /// The session's.
    pub credentials: Credentials,
    /// Who it is.
    pub assumed_role_user: AssumedRoleUser,
}

/// Input of `GetSessionToken`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GetSessionTokenRequest {
    /// 900 to 129,600; 43,200 when absent.
    pub duration_seconds: Option<i32>,
}

/// Output of `GetSessionToken`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GetSessionTokenResponse {
    /// The session's.
    pub credentials: Credentials,
}

/// Temporary credentials.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Credentials {
    /// The public half.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: String,
    /// To be sent along.
    pub session_token: String,
    /// When they are over.
    pub expiration: EpochSeconds,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

/// Who a session is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AssumedRoleUser {
    /// The key's id and the session's name.
    pub assumed_role_id: String,
    /// `arn:aws:sts::<account>:assumed-role/<role>/<session>`.
    pub arn: String,
}

static ROLE_ARN: Texts = Texts {
    min: Some(20),
    max: Some(2048),
    pattern: Some(Pattern::new(
        r"arn:aws[a-z-]*:iam::\d{12}:role/([\w+=,.@-]+/)*[\w+=,.@-]{1,64}",
        None,
        r"arn:aws[a-z-]*:iam::[0-9]{12}:role/([A-Za-z0-9_+=,.@-]+/)*[A-Za-z0-9_+=,.@-]{1,64}",
    )),
    values: &[],
    sensitive: false,
};

static ROLE_SESSION_NAME: Texts = Texts {
    min: Some(2),
    max: Some(64),
    pattern: Some(Pattern::new(r"[\w+=,.@-]*", None, "[A-Za-z0-9_+=,.@-]*")),
    values: &[],
    sensitive: false,
};

static ROLE_SECONDS: Integers = Integers {
    min: Some(900),
    max: Some(43_200),
};

static SESSION_SECONDS: Integers = Integers {
    min: Some(900),
    max: Some(129_600),
};

impl Validate for GetCallerIdentityRequest {
    fn validate(&self, _violations: &mut Violations) {}
}

impl Validate for AssumeRoleRequest {
    fn validate(&self, violations: &mut Violations) {
        let (arn, name) = (self.role_arn.as_deref(), self.role_session_name.as_deref());
        violations.required("roleArn", arn.is_some());
        violations.text("roleArn", arn, &ROLE_ARN);
        violations.required("roleSessionName", name.is_some());
        violations.text("roleSessionName", name, &ROLE_SESSION_NAME);
        violations.integer("durationSeconds", self.duration_seconds, &ROLE_SECONDS);
    }
}

impl Validate for GetSessionTokenRequest {
    fn validate(&self, violations: &mut Violations) {
        violations.integer("durationSeconds", self.duration_seconds, &SESSION_SECONDS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::constraint::{Reported, check};

    #[test]
    fn role_name_and_duration_are_checked() {
        let request = |arn: &str, name: &str, seconds| AssumeRoleRequest {
            role_arn: Some(arn.to_owned()),
            role_session_name: Some(name.to_owned()),
            duration_seconds: Some(seconds),
        };
        let check = |request| check(&request, Reported::Validation);
        let role = "arn:aws:iam::123456789012:role/path/ci";
        assert!(check(request(role, "a@b", 900)).is_ok());
        for wrong in [
            request("arn:aws:iam::123456789012:user/ci", "ab", 900),
            request("arn:aws:iam::123456789012:role/ci/", "ab", 900),
            request(&format!("{role}{}", "i".repeat(64)), "ab", 900),
            request(role, "a b", 900),
            request(role, "a", 900),
            request(role, "ab", 899),
            request(role, "ab", 43_201),
            AssumeRoleRequest::default(),
        ] {
            assert_eq!(check(wrong).unwrap_err().code(), "ValidationException");
        }
    }
}
