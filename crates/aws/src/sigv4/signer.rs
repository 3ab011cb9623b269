//! Signing: what a client does.

use http::{
    HeaderName, HeaderValue,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, InvalidHeaderValue,
        TRANSFER_ENCODING, USER_AGENT,
    },
    request::Parts,
};

use super::{
    ALGORITHM,
    canonical::{self, Scope},
    claim::{DATE, SESSION_TOKEN},
    credentials::Credentials,
    date_time,
};
use crate::epoch_seconds::EpochSeconds;

/// Headers that others may change on the way, and so are not signed.
const UNSIGNED: [HeaderName; 7] = [
    AUTHORIZATION,
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    TRANSFER_ENCODING,
    USER_AGENT,
    HeaderName::from_static("x-amzn-trace-id"),
];

/// Why a request cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// There is no `Host` header, nor a host in the address.
    #[error("the request names no host")]
    NoHost,
    /// The access key id or the session token has characters that a header cannot have.
    #[error("the credentials cannot be written in a header")]
    Credentials(#[source] InvalidHeaderValue),
    /// The clock is after the year 9999.
    #[error("the time cannot be written")]
    Time,
}

/// Signs a request: sets `host`, `x-amz-date`, `x-amz-security-token` and `authorization`.
///
/// # Errors
/// [`SignError`]; the request may then have some of the headers.
pub fn sign(
    parts: &mut Parts,
    body: &[u8],
    credentials: &Credentials,
    region: &str,
    service: &str,
    now: EpochSeconds,
) -> Result<(), SignError> {
    let date_time = date_time::format(now).ok_or(SignError::Time)?;
    let host = canonical::host(parts).ok_or(SignError::NoHost)?;
    let host = HeaderValue::from_bytes(host).map_err(|_| SignError::NoHost)?;
    parts.headers.insert(HOST, host);
    parts.headers.insert(
        DATE,
        HeaderValue::try_from(&date_time).map_err(|_| SignError::Time)?,
    );
    if let Some(token) = &credentials.session_token {
        let mut token = HeaderValue::try_from(token).map_err(SignError::Credentials)?;
        token.set_sensitive(true);
        parts.headers.insert(SESSION_TOKEN, token);
    }
    let scope = Scope {
        date: &date_time[..8],
        region,
        service,
    };
    let text = authorization(parts, body, credentials, &scope, &date_time)?;
    let value = HeaderValue::try_from(text).map_err(SignError::Credentials)?;
    parts.headers.insert(AUTHORIZATION, value);
    Ok(())
}

fn authorization(
    parts: &Parts,
    body: &[u8],
    credentials: &Credentials,
    scope: &Scope<'_>,
    date_time: &str,
) -> Result<String, SignError> {
    let mut signed: Vec<HeaderName> = parts
        .headers
        .keys()
        .filter(|name| !UNSIGNED.contains(name))
        .cloned()
        .collect();
    signed.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    // Every name was taken from the headers.
    let canonical = canonical::request(parts, &signed, &canonical::sha256(body))
        .map_err(|_| SignError::NoHost)?;
    let string_to_sign = canonical::string_to_sign(date_time, scope, &canonical);
    let signature = credentials
        .secret_access_key
        .signing_key(scope)
        .sign(&string_to_sign);
    let names: Vec<&str> = signed.iter().map(HeaderName::as_str).collect();
    Ok(format!(
        "{ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={signature}",
        credentials.access_key_id,
        names.join(";")
    ))
}
