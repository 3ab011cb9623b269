//! The `Authorization` header in its parts.

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};

use super::{ALGORITHM, TERMINATOR, claim::SignatureError};
use crate::arn::is_region;

/// Characters an access key's id may have.
const ACCESS_KEY_ID_LEN_MAX: usize = 128;

/// Characters of a header that an error repeats.
const SHOWN_MAX: usize = 128;

/// `AWS4-HMAC-SHA256 Credential=.../date/region/service/aws4_request, SignedHeaders=..., Signature=...`
pub(super) struct Authorization {
    pub(super) access_key_id: String,
    /// `YYYYMMDD`, unless the client made something up.
    pub(super) date: String,
    pub(super) region: String,
    pub(super) service: String,
    /// Sorted, without duplicates.
    pub(super) signed_headers: Vec<HeaderName>,
    /// As given; 64 hexadecimal digits if it is one.
    pub(super) signature: String,
}

impl Authorization {
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, SignatureError> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().ok_or(SignatureError::Missing)?;
        if values.next().is_some() {
            return Err(incomplete("there must be one Authorization header"));
        }
        let text = HeaderValue::to_str(value)
            .map_err(|_| incomplete("the Authorization header is not plain text"))?;
        let (algorithm, parameters) = text.split_once(' ').unwrap_or((text, ""));
        if algorithm != ALGORITHM {
            let algorithm = shown(algorithm);
            return Err(incomplete(format!(
                "Unsupported AWS 'algorithm': '{algorithm}'."
            )));
        }
        Self::of_parameters(parameters)
    }

    fn of_parameters(parameters: &str) -> Result<Self, SignatureError> {
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for parameter in parameters.split(',') {
            let (name, value) = parameter.trim().split_once('=').unwrap_or_default();
            let place = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => {
                    return Err(incomplete(
                        "the Authorization header has a part that is none of Credential, SignedHeaders and Signature",
                    ));
                }
            };
            if place.replace(value).is_some() {
                return Err(incomplete(format!(
                    "the Authorization header has '{name}' twice"
                )));
            }
        }
        let needed = |value: Option<&str>, name: &str| {
            let text = format!("Authorization header requires '{name}' parameter.");
            value
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
                .ok_or(incomplete(text))
        };
        let credential = needed(credential, "Credential")?;
        let signed_headers = needed(signed_headers, "SignedHeaders")?;
        let signature = needed(signature, "Signature")?;
        let (access_key_id, [date, region, service]) = read_credential(&credential)?;
        Ok(Self {
            access_key_id,
            date,
            region,
            service,
            signed_headers: read_signed_headers(&signed_headers)?,
            signature,
        })
    }
}

fn read_credential(credential: &str) -> Result<(String, [String; 3]), SignatureError> {
    let parts: Vec<&str> = credential.split('/').collect();
    let &[id, date, region, service, terminator] = parts.as_slice() else {
        return Err(incomplete(format!(
            "Credential must have exactly 5 slash-delimited elements, e.g. \
             keyid/date/region/service/term, got '{}'.",
            shown(credential)
        )));
    };
    let is_id = (1..=ACCESS_KEY_ID_LEN_MAX).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_id {
        return Err(incomplete("the access key id in Credential is not one"));
    }
    if terminator != TERMINATOR {
        return Err(SignatureError::Scope(format!(
            "Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{}'.",
            shown(terminator)
        )));
    }
    if !is_region(region) {
        return Err(SignatureError::Scope(format!(
            "Credential should be scoped to a valid region, not '{}'.",
            shown(region)
        )));
    }
    Ok((id.to_owned(), [date, region, service].map(str::to_owned)))
}

fn read_signed_headers(text: &str) -> Result<Vec<HeaderName>, SignatureError> {
    let names: Vec<&str> = text.split(';').collect();
    // Sorted without duplicates is the only list a client can have signed.
    let sorted = names.windows(2).all(|pair| pair[0] < pair[1]);
    let lower_case = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    let parsed: Result<Vec<HeaderName>, _> = names
        .iter()
        .map(|name| HeaderName::from_bytes(name.as_bytes()))
        .collect();
    match parsed {
        Ok(parsed) if sorted && lower_case => Ok(parsed),
        _ => Err(incomplete(
            "SignedHeaders must be header names in lower case, sorted, joined by ';'",
        )),
    }
}

fn incomplete(reason: impl Into<String>) -> SignatureError {
    SignatureError::Incomplete(reason.into())
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_MAX).collect()
}
