//! Access keys, and the keys derived from them.

use base64::{Engine, prelude::BASE64_STANDARD as STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::{TERMINATOR, canonical::Scope};

/// The secret half of an access key. Has no `Debug`, so that it cannot be logged.
#[derive(Clone)]
pub struct SecretAccessKey(String);

impl SecretAccessKey {
    /// Takes the secret as text.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// Whether somebody knows it: compared in the same time whatever is wrong.
    pub fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }

    /// The key that signs for a scope.
    pub(super) fn signing_key(&self, scope: &Scope<'_>) -> SigningKey {
        let first = format!("AWS4{}", self.0);
        let key = [scope.date, scope.region, scope.service, TERMINATOR]
            .iter()
            .fold(first.into_bytes(), |key, part| hmac(&key, part.as_bytes()));
        SigningKey(keyed(&key))
    }
}

/// A key that was derived from a secret for one day, region and service: worth keeping for a while.
/// Has no `Debug`, so that it cannot be logged.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

impl SigningKey {
    /// The signature in hexadecimal digits.
    pub(super) fn sign(&self, string_to_sign: &str) -> String {
        let mut mac = self.0.clone();
        mac.update(string_to_sign.as_bytes());
        super::canonical::hex(&mac.finalize().into_bytes())
    }
}

/// An access key as a client has it. Has no `Debug`, so that it cannot be logged.
#[derive(Clone)]
pub struct Credentials {
    /// The public half.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: SecretAccessKey,
    /// Of temporary credentials.
    pub session_token: Option<String>,
}

impl Credentials {
    /// The value of `Authorization` where a name and a password are asked for instead of a signature,
    /// as a registry does. Of a session they are `AWS` and all three parts, as in ECR's tokens.
    pub(crate) fn login(&self) -> String {
        let (id, secret) = (&self.access_key_id, &self.secret_access_key.0);
        let login = match &self.session_token {
            Some(token) => format!("AWS:{id}.{secret}.{token}"),
            None => format!("{id}:{secret}"),
        };
        format!("Basic {}", STANDARD.encode(login))
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = keyed(key);
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}
