//! Verifying: from what a request claims to who sent it.

use std::{fmt, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, header::HOST, request::Parts};
use subtle::ConstantTimeEq;

use super::{
    authorization::Authorization,
    canonical::{self, Scope},
    credentials::{SecretAccessKey, SigningKey},
    date_time,
};
use crate::{epoch_seconds::EpochSeconds, error::ApiError, protocol};

/// How far a client's clock may be from ours, either way.
pub const SKEW_MAX: Duration = Duration::from_secs(15 * 60);

pub(super) const DATE: HeaderName = HeaderName::from_static("x-amz-date");
pub(super) const SESSION_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const PAYLOAD_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// Headers that must be under the signature when they are there: they decide what is done, for
/// whom and when. (`host` must be there.)
const SIGNED_IF_PRESENT: [HeaderName; 4] = [DATE, SESSION_TOKEN, PAYLOAD_SHA256, protocol::TARGET];

/// Why a signature is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The request is not signed.
    #[error("Missing Authentication Token")]
    Missing,
    /// The request is signed in its address.
    #[error("presigned requests are not accepted: sign in the Authorization header")]
    Presigned,
    /// A part is missing or cannot be read.
    #[error("{0}")]
    Incomplete(String),
    /// The signature is for another day, region, service or algorithm version.
    #[error("{0}")]
    Scope(String),
    /// The client's clock is too far behind, or the request was kept too long.
    #[error("Signature expired: {0}")]
    Expired(String),
    /// The client's clock is too far ahead.
    #[error("Signature not yet current: {0}")]
    NotYetCurrent(String),
    /// A header that must be signed is not, or one that was signed is not there.
    #[error("{0}")]
    Headers(String),
    /// The body is not signed, or is not the one that was.
    #[error(
        "the x-amz-content-sha256 header is not the SHA-256 of the body: unsigned and streaming \
         bodies are not accepted"
    )]
    Payload,
    /// The secret makes another signature.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your \
         AWS Secret Access Key and signing method. Consult the service documentation for details."
    )]
    Mismatch,
}

impl From<SignatureError> for ApiError {
    fn from(error: SignatureError) -> Self {
        use SignatureError as E;
        let message = error.to_string();
        match error {
            E::Missing => Self::missing_authentication_token(message),
            E::Presigned | E::Incomplete(_) => Self::incomplete_signature(message),
            E::Scope(_)
            | E::Expired(_)
            | E::NotYetCurrent(_)
            | E::Headers(_)
            | E::Payload
            | E::Mismatch => Self::invalid_signature(message),
        }
    }
}

/// Who claims to ask: read, well formed, of this time and service, and not yet to be believed.
pub struct Claim {
    authorization: Authorization,
    date_time: String,
    session_token: Option<String>,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The access key that signed.
    pub access_key_id: String,
    /// The region that the signature is for.
    pub region: String,
}

impl Claim {
    /// Reads a request's signature, which must be for `service`.
    ///
    /// # Errors
    /// [`SignatureError`] for everything that is wrong without knowing the secret.
    pub fn read(parts: &Parts, service: &str, now: EpochSeconds) -> Result<Self, SignatureError> {
        let presigned = parts
            .uri
            .query()
            .unwrap_or_default()
            .contains("X-Amz-Algorithm=");
        let authorization = match Authorization::read(&parts.headers) {
            Err(SignatureError::Missing) if presigned => return Err(SignatureError::Presigned),
            read => read?,
        };
        let date_time = only_text(&parts.headers, &DATE)?.ok_or_else(|| {
            incomplete("Authorization header requires existence of a 'X-Amz-Date' header.")
        })?;
        let at = date_time::parse(date_time).ok_or_else(|| {
            incomplete("Date must be in ISO-8601 'basic format', such as '20150830T123600Z'.")
        })?;
        check_scope(&authorization, service, date_time)?;
        check_skew(date_time, at, now)?;
        check_signed_headers(&parts.headers, &authorization.signed_headers)?;
        let session_token = only_text(&parts.headers, &SESSION_TOKEN)?.map(str::to_owned);
        Ok(Self {
            date_time: date_time.to_owned(),
            authorization,
            session_token,
        })
    }

    /// The access key that is said to have signed: for looking up its secret, and nothing else. When
    /// nobody has it, the answer is [`ApiError::unrecognized_client`].
    pub fn access_key_id(&self) -> &str {
        &self.authorization.access_key_id
    }

    /// The session token that came with it. A key that was issued with one is only good with it,
    /// which is for whoever looks up the secret to check.
    pub fn session_token(&self) -> Option<&str> {
        self.session_token.as_deref()
    }

    /// The day (`YYYYMMDD`), region and service that the signature is said to be for: with the key's
    /// id, what a [`SigningKey`] may be kept by.
    pub fn scope(&self) -> [&str; 3] {
        let Authorization {
            date,
            region,
            service,
            ..
        } = &self.authorization;
        [date, region, service]
    }

    /// The key that the secret makes for the claim's scope.
    pub fn signing_key(&self, secret: &SecretAccessKey) -> SigningKey {
        let [date, region, service] = self.scope();
        secret.signing_key(&Scope {
            date,
            region,
            service,
        })
    }

    /// Checks the signature of the request that the claim was read from. Compares in constant time.
    ///
    /// # Errors
    /// [`SignatureError::Mismatch`], [`SignatureError::Payload`] or [`SignatureError::Headers`].
    pub fn verify(
        self,
        key: &SigningKey,
        parts: &Parts,
        body: &[u8],
    ) -> Result<Identity, SignatureError> {
        let payload_sha256 = canonical::sha256(body);
        let declared = only_text(&parts.headers, &PAYLOAD_SHA256)?;
        if declared.is_some_and(|declared| declared != payload_sha256) {
            return Err(SignatureError::Payload);
        }
        let signed = &self.authorization.signed_headers;
        let canonical = canonical::request(parts, signed, &payload_sha256).map_err(|absent| {
            SignatureError::Headers(format!(
                "the signed header '{absent}' is not in the request"
            ))
        })?;
        let scope = Scope {
            date: &self.authorization.date,
            region: &self.authorization.region,
            service: &self.authorization.service,
        };
        let string_to_sign = canonical::string_to_sign(&self.date_time, &scope, &canonical);
        let wanted = key.sign(&string_to_sign);
        match bool::from(
            wanted
                .as_bytes()
                .ct_eq(self.authorization.signature.as_bytes()),
        ) {
            true => Ok(Identity {
                access_key_id: self.authorization.access_key_id,
                region: self.authorization.region,
            }),
            false => Err(SignatureError::Mismatch),
        }
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the session token, which is a secret, nor the signature, which is one for a while.
        f.debug_struct("Claim")
            .field("access_key_id", &self.access_key_id())
            .finish_non_exhaustive()
    }
}

/// The service that a request's signature claims to be for; `None` when there is no signature that
/// can be read. For finding whom a request speaks to: [`Claim::read`] says what is wrong with it.
pub fn claimed_service(headers: &HeaderMap) -> Option<String> {
    Authorization::read(headers)
        .ok()
        .map(|authorization| authorization.service)
}

fn check_scope(
    authorization: &Authorization,
    service: &str,
    date_time: &str,
) -> Result<(), SignatureError> {
    // A time that was read has 8 digits for its day.
    let day = &date_time[..8];
    if authorization.date != day {
        return Err(SignatureError::Scope(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from \
             HTTP: '{}' != '{day}', from '{date_time}'.",
            authorization.date
        )));
    }
    match authorization.service == service {
        true => Ok(()),
        false => Err(SignatureError::Scope(format!(
            "Credential should be scoped to correct service: '{service}'."
        ))),
    }
}

fn check_skew(date_time: &str, at: EpochSeconds, now: EpochSeconds) -> Result<(), SignatureError> {
    let (skew, minutes) = (SKEW_MAX.as_secs(), SKEW_MAX.as_secs() / 60);
    let written = |at: u64| date_time::format(EpochSeconds(at)).unwrap_or_else(|| at.to_string());
    let (earliest, latest) = (now.0.saturating_sub(skew), now.0.saturating_add(skew));
    if at.0 < earliest {
        return Err(SignatureError::Expired(format!(
            "{date_time} is now earlier than {} ({} - {minutes} min.)",
            written(earliest),
            written(now.0)
        )));
    }
    if at.0 > latest {
        return Err(SignatureError::NotYetCurrent(format!(
            "{date_time} is still later than {} ({} + {minutes} min.)",
            written(latest),
            written(now.0)
        )));
    }
    Ok(())
}

fn check_signed_headers(headers: &HeaderMap, signed: &[HeaderName]) -> Result<(), SignatureError> {
    if !signed.contains(&HOST) {
        return Err(SignatureError::Headers(
            "'Host' must be a 'SignedHeader' in the AWS Authorization.".to_owned(),
        ));
    }
    match SIGNED_IF_PRESENT
        .iter()
        .find(|name| headers.contains_key(*name) && !signed.contains(name))
    {
        None => Ok(()),
        Some(unsigned) => Err(SignatureError::Headers(format!(
            "'{unsigned}' must be a 'SignedHeader' in the AWS Authorization."
        ))),
    }
}

/// A header that may be there once, as text.
fn only_text<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a str>, SignatureError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(HeaderValue::to_str).transpose();
    match (first, values.next()) {
        (Ok(text), None) => Ok(text),
        _ => Err(incomplete(format!(
            "there must be one '{name}' header, of plain text"
        ))),
    }
}

fn incomplete(reason: impl Into<String>) -> SignatureError {
    SignatureError::Incomplete(reason.into())
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;
    use crate::sigv4::{credentials::Credentials, signer::sign};

    const NOW: EpochSeconds = EpochSeconds(1_440_938_160);
    const BODY: &[u8] = b"{\"MaxResults\":5}";

    fn secret() -> SecretAccessKey {
        SecretAccessKey::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    }

    fn signed(change: impl FnOnce(&mut Request<()>)) -> Parts {
        let mut request = Request::post("/")
            .header("host", "localhost:8080")
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", "AppRunner.ListServices")
            .body(())
            .unwrap();
        change(&mut request);
        let mut parts = request.into_parts().0;
        let credentials = Credentials {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: secret(),
            session_token: None,
        };
        sign(
            &mut parts,
            BODY,
            &credentials,
            "us-east-1",
            "apprunner",
            NOW,
        )
        .unwrap();
        parts
    }

    fn verify_at(parts: &Parts, body: &[u8], now: u64) -> Result<Identity, SignatureError> {
        let claim = Claim::read(parts, "apprunner", EpochSeconds(now))?;
        let key = claim.signing_key(&secret());
        claim.verify(&key, parts, body)
    }

    fn verify(parts: &Parts) -> Result<Identity, SignatureError> {
        verify_at(parts, BODY, NOW.0)
    }

    fn authorization(parts: &Parts) -> String {
        parts.headers["authorization"].to_str().unwrap().to_owned()
    }

    /// The request with its `Authorization` header changed.
    #[track_caller]
    fn reworded(from: &str, to: &str) -> Result<Identity, SignatureError> {
        let mut parts = signed(|_| {});
        let text = authorization(&parts);
        assert!(text.contains(from), "{text}");
        let text = text.replacen(from, to, 1);
        parts.headers.insert("authorization", text.parse().unwrap());
        verify(&parts)
    }

    #[track_caller]
    fn refused(result: Result<Identity, SignatureError>, code: &str, start: &str) {
        let error = ApiError::from(result.unwrap_err());
        assert_eq!(error.code(), code);
        assert!(error.message().starts_with(start), "{}", error.message());
    }

    #[test]
    fn what_was_signed_is_verified() {
        let identity = verify(&signed(|_| {})).unwrap();
        let want = Identity {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            region: "us-east-1".to_owned(),
        };
        assert_eq!(identity, want);
    }

    #[test]
    fn headers_that_were_not_signed_may_change() {
        let mut parts = signed(|_| {});
        parts.headers.insert("user-agent", "else".parse().unwrap());
        parts
            .headers
            .insert("amz-sdk-request", "attempt=2".parse().unwrap());
        assert!(verify(&parts).is_ok());
    }

    #[test]
    fn every_signed_part_of_a_request_counts() {
        const MISMATCH: &str = "The request signature we calculated does not match";
        let changes: [fn(&mut Parts); 6] = [
            |parts| parts.method = http::Method::PUT,
            |parts| parts.uri = "/x".parse().unwrap(),
            |parts| parts.uri = "/?a".parse().unwrap(),
            |parts| drop(parts.headers.insert("host", "localhost".parse().unwrap())),
            |parts| {
                drop(
                    parts
                        .headers
                        .insert("x-amz-target", "AppRunner.DeleteService".parse().unwrap()),
                )
            },
            |parts| {
                assert!(
                    parts
                        .headers
                        .append("content-type", "text/plain".parse().unwrap())
                )
            },
        ];
        for change in changes {
            let mut parts = signed(|_| {});
            change(&mut parts);
            refused(verify(&parts), "InvalidSignatureException", MISMATCH);
        }
        let parts = signed(|_| {});
        refused(
            verify_at(&parts, b"{}", NOW.0),
            "InvalidSignatureException",
            MISMATCH,
        );
        refused(
            verify_at(&parts, b"", NOW.0),
            "InvalidSignatureException",
            MISMATCH,
        );

        let mut parts = signed(|_| {});
        parts.headers.remove("content-type");
        let want = "the signed header 'content-type' is not in the request";
        refused(verify(&parts), "InvalidSignatureException", want);
    }

    #[test]
    fn signature_of_another_secret_is_refused() {
        let parts = signed(|_| {});
        let claim = Claim::read(&parts, "apprunner", NOW).unwrap();
        assert_eq!(claim.access_key_id(), "AKIDEXAMPLE");
        let key = claim.signing_key(&SecretAccessKey::new("other"));
        let result = claim.verify(&key, &parts, BODY);
        assert_eq!(result, Err(SignatureError::Mismatch));
    }

    #[test]
    fn every_part_of_the_authorization_counts() {
        const INVALID: &str = "InvalidSignatureException";
        const INCOMPLETE: &str = "IncompleteSignature";
        const MISMATCH: &str = "The request signature we calculated does not match";
        refused(reworded("us-east-1", "us-east-2"), INVALID, MISMATCH);
        refused(
            reworded("us-east-1", "us_east"),
            INVALID,
            "Credential should be scoped to a valid",
        );
        refused(
            reworded("/apprunner/", "/s3/"),
            INVALID,
            "Credential should be scoped to correct service: 'apprunner'.",
        );
        refused(
            reworded("aws4_request", "aws4"),
            INVALID,
            "Credential should be scoped with a valid terminator: 'aws4_request', not 'aws4'.",
        );
        refused(
            reworded("/20150830/", "/20150829/"),
            INVALID,
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from \
             HTTP: '20150829' != '20150830', from '20150830T123600Z'.",
        );
        refused(reworded("Signature=", "Signature=0"), INVALID, MISMATCH);
        refused(
            reworded("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
            INCOMPLETE,
            "Unsupported AWS",
        );
        refused(
            reworded("AWS4-HMAC-SHA256", "Basic"),
            INCOMPLETE,
            "Unsupported AWS",
        );
        refused(
            reworded("AKIDEXAMPLE/", ""),
            INCOMPLETE,
            "Credential must have exactly 5",
        );
        refused(reworded("AKIDEXAMPLE", ""), INCOMPLETE, "the access key id");
        refused(
            reworded("Signature=", "Signatur="),
            INCOMPLETE,
            "the Authorization header has a part",
        );
        refused(
            reworded(", Signature=", ", Signature=, Signature="),
            INCOMPLETE,
            "the Authorization header has 'Signature' twice",
        );
        refused(
            reworded(
                "SignedHeaders=content-type;host",
                "SignedHeaders=host;content-type",
            ),
            INCOMPLETE,
            "SignedHeaders must be",
        );
        refused(
            reworded("host;", "Host;"),
            INCOMPLETE,
            "SignedHeaders must be",
        );
        refused(
            reworded("host;", "host;host;"),
            INCOMPLETE,
            "SignedHeaders must be",
        );
        refused(
            reworded("host;", ""),
            INVALID,
            "'Host' must be a 'SignedHeader'",
        );
        refused(
            reworded("x-amz-date;", ""),
            INVALID,
            "'x-amz-date' must be a 'SignedHeader'",
        );
        refused(
            reworded(";x-amz-target", ""),
            INVALID,
            "'x-amz-target' must be a 'SignedHeader'",
        );
    }

    #[test]
    fn unsigned_doubled_and_presigned_requests_are_refused() {
        let mut parts = signed(|_| {});
        let text = authorization(&parts);
        parts.headers.remove("authorization");
        refused(
            verify(&parts),
            "MissingAuthenticationTokenException",
            "Missing",
        );
        parts.uri = "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0"
            .parse()
            .unwrap();
        refused(verify(&parts), "IncompleteSignature", "presigned requests");

        let mut parts = signed(|_| {});
        parts.headers.append("authorization", text.parse().unwrap());
        refused(
            verify(&parts),
            "IncompleteSignature",
            "there must be one Authorization",
        );
        let mut parts = signed(|_| {});
        parts
            .headers
            .append("x-amz-date", "20150830T123600Z".parse().unwrap());
        refused(
            verify(&parts),
            "IncompleteSignature",
            "there must be one 'x-amz-date'",
        );
        parts.headers.remove("x-amz-date");
        refused(
            verify(&parts),
            "IncompleteSignature",
            "Authorization header requires existence",
        );
    }

    #[test]
    fn session_token_is_handed_on_and_must_be_signed() {
        let mut parts = signed(|_| {});
        parts
            .headers
            .insert("x-amz-security-token", "token".parse().unwrap());
        let want = "'x-amz-security-token' must be a 'SignedHeader'";
        refused(verify(&parts), "InvalidSignatureException", want);

        let parts = signed(|request| {
            request
                .headers_mut()
                .insert("x-amz-security-token", "token".parse().unwrap());
        });
        let claim = Claim::read(&parts, "apprunner", NOW).unwrap();
        assert_eq!(claim.session_token(), Some("token"));
        assert!(!format!("{claim:?}").contains("token\""));
        let key = claim.signing_key(&secret());
        assert!(claim.verify(&key, &parts, BODY).is_ok());
    }

    #[test]
    fn declared_payload_hash_must_be_the_bodys() {
        let with = |hash: &str| {
            let hash: HeaderValue = hash.parse().unwrap();
            signed(|request| drop(request.headers_mut().insert("x-amz-content-sha256", hash)))
        };
        assert!(verify(&with(&canonical::sha256(BODY))).is_ok());
        for hash in [
            "UNSIGNED-PAYLOAD",
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            "",
            &"0".repeat(64),
        ] {
            refused(
                verify(&with(hash)),
                "InvalidSignatureException",
                "the x-amz-content-sha256",
            );
        }
    }

    #[test]
    fn clocks_may_differ_by_fifteen_minutes() {
        let parts = signed(|_| {});
        for now in [NOW.0 - 900, NOW.0 + 900] {
            assert!(verify_at(&parts, BODY, now).is_ok());
        }
        refused(
            verify_at(&parts, BODY, NOW.0 + 901),
            "InvalidSignatureException",
            "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z \
             (20150830T125101Z - 15 min.)",
        );
        refused(
            verify_at(&parts, BODY, NOW.0 - 901),
            "InvalidSignatureException",
            "Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z \
             (20150830T122059Z + 15 min.)",
        );
        assert!(verify_at(&parts, BODY, 0).is_err());
        assert!(verify_at(&parts, BODY, u64::MAX).is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_signed_is_verified_and_nothing_else(
            path in "(/[a-zA-Z0-9._~%:@!$&'()*+,;=-]{0,5}){1,5}",
            query in "[a-z0-9=&%+/?._~-]{0,24}",
            value in "[ \\t!-~]{0,24}",
            body in prop::collection::vec(any::<u8>(), 0..64),
            at in any::<prop::sample::Index>(),
        ) {
            let credentials = Credentials {
                access_key_id: "AKIDEXAMPLE".to_owned(),
                secret_access_key: secret(),
                session_token: None,
            };
            let mut parts = Request::post(format!("{path}?{query}"))
                .header("host", "localhost")
                .header("x-amz-meta", value)
                .body(())
                .unwrap()
                .into_parts()
                .0;
            sign(&mut parts, &body, &credentials, "eu-west-1", "apprunner", NOW).unwrap();
            prop_assert!(verify_at(&parts, &body, NOW.0).is_ok());
            if !body.is_empty() {
                let mut other = body.clone();
                let index = at.index(other.len());
                other[index] ^= 1;
                prop_assert_eq!(verify_at(&parts, &other, NOW.0), Err(SignatureError::Mismatch));
            }
        }

        #[test]
        fn reading_never_panics(authorization in "\\PC{0,64}|AWS4-HMAC-SHA256 [ -~]{0,96}", date in "[0-9TZ]{0,17}") {
            let mut request = Request::post("/").body(()).unwrap();
            if let Ok(value) = HeaderValue::from_bytes(authorization.as_bytes()) {
                request.headers_mut().insert("authorization", value);
            }
            request.headers_mut().insert("x-amz-date", date.parse().unwrap());
            let parts = request.into_parts().0;
            prop_assert!(Claim::read(&parts, "apprunner", NOW).is_err());
        }
    }
}
