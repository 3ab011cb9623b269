//! STS: who one is, and temporary credentials with one's own rights.

use std::time::Duration;

use ekiden_aws::{
    epoch_seconds::EpochSeconds,
    error::ApiError,
    sts::{
        AssumeRoleRequest, AssumeRoleResponse, AssumedRoleUser, Credentials,
        GetCallerIdentityRequest, GetCallerIdentityResponse, GetSessionTokenRequest,
        GetSessionTokenResponse,
    },
};
use ekiden_engine::Engine;

use super::{Api, Caller};
use crate::identity::{Identity, Issued, Session, SessionName};

/// How long a session of a role lasts when the request does not say: AWS's default.
const ROLE_SECONDS_DEFAULT: i32 = 3600;

/// How long any other session lasts when the request does not say: AWS's default.
const SESSION_SECONDS_DEFAULT: i32 = 43_200;

impl<E: Engine> Api<E> {
    pub(super) async fn get_caller_identity(
        &self,
        caller: &Caller,
        _request: GetCallerIdentityRequest,
    ) -> Result<GetCallerIdentityResponse, ApiError> {
        Ok(GetCallerIdentityResponse {
            user_id: caller.identity.user_id(),
            account: self.config.account_id.clone(),
            arn: caller.identity.arn(&self.config.account_id),
        })
    }

    /// Roles are not kept here: any that is well formed can be assumed, and gives a name and
    /// nothing else.
    pub(super) async fn assume_role(
        &self,
        caller: &Caller,
        request: AssumeRoleRequest,
    ) -> Result<AssumeRoleResponse, ApiError> {
        // The model's constraints have seen both.
        let arn = request.role_arn.unwrap_or_default();
        let name = SessionName::Role {
            role: arn.rsplit('/').next().unwrap_or_default().to_owned(),
            session: request.role_session_name.unwrap_or_default(),
        };
        let seconds = request.duration_seconds.unwrap_or(ROLE_SECONDS_DEFAULT);
        let issued = self
            .identities
            .issue(&caller.identity, name.clone(), lasting(seconds));
        let assumed = Identity {
            session: Some(Session {
                name,
                expires_at: issued.expires_at,
            }),
            ..caller.identity.clone()
        };
        Ok(AssumeRoleResponse {
            assumed_role_user: AssumedRoleUser {
                assumed_role_id: assumed.user_id(),
                arn: assumed.arn(&self.config.account_id),
            },
            credentials: credentials(issued),
        })
    }

    pub(super) async fn get_session_token(
        &self,
        caller: &Caller,
        request: GetSessionTokenRequest,
    ) -> Result<GetSessionTokenResponse, ApiError> {
        let seconds = request.duration_seconds.unwrap_or(SESSION_SECONDS_DEFAULT);
        // A session of a role goes on being one.
        let name = match &caller.identity.session {
            Some(session) => session.name.clone(),
            None => SessionName::Own,
        };
        let issued = self
            .identities
            .issue(&caller.identity, name, lasting(seconds));
        Ok(GetSessionTokenResponse {
            credentials: credentials(issued),
        })
    }
}

fn lasting(seconds: i32) -> Duration {
    Duration::from_secs(u64::from(seconds.unsigned_abs()))
}

fn credentials(issued: Issued) -> Credentials {
    Credentials {
        access_key_id: issued.access_key_id,
        secret_access_key: issued.secret_access_key,
        session_token: issued.session_token,
        expiration: EpochSeconds(issued.expires_at.as_secs()),
    }
}
