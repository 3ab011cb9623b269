//! Reading who claims to have signed a request, verifying it, and that what is signed verifies.

#![no_main]

use ekiden_aws::{
    epoch_seconds::EpochSeconds,
    sigv4::{
        claim::{Claim, claimed_service},
        credentials::{Credentials, SecretAccessKey},
        date_time, signer,
    },
};
use ekiden_fuzz::request;
use http::header::AUTHORIZATION;
use libfuzzer_sys::fuzz_target;

const KEY_ID: &str = "AKIAEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// The time that seeds were signed at.
const NOW: EpochSeconds = EpochSeconds(1_767_225_600);

fuzz_target!(|data: &[u8]| {
    let Some((mut parts, body)) = request(data) else {
        return;
    };
    let secret = SecretAccessKey::new(SECRET);
    let _ = claimed_service(&parts.headers);
    if let Some(date) = parts.headers.get("x-amz-date") {
        let parsed = date.to_str().ok().and_then(date_time::parse);
        if let Some(text) = parsed.and_then(date_time::format) {
            assert_eq!(Some(text.as_str()), date.to_str().ok());
        }
    }
    if let Ok(claim) = Claim::read(&parts, "apprunner", NOW) {
        let key = claim.access_key_id().to_owned();
        let signing_key = claim.signing_key(&secret);
        if let Ok(identity) = claim.verify(&signing_key, &parts, body) {
            assert_eq!(identity.access_key_id, key);
        }
    }
    // Whatever else is in a request: once it is signed, it verifies, unless it says of itself that
    // it cannot.
    for header in ["x-amz-date", "x-amz-security-token", "x-amz-content-sha256"] {
        parts.headers.remove(header);
    }
    parts.headers.remove(AUTHORIZATION);
    let credentials = Credentials {
        access_key_id: KEY_ID.to_owned(),
        secret_access_key: SecretAccessKey::new(SECRET),
        session_token: None,
    };
    if signer::sign(&mut parts, body, &credentials, "us-east-1", "apprunner", NOW).is_ok() {
        let identity = Claim::read(&parts, "apprunner", NOW)
            .and_then(|claim| {
                let signing_key = claim.signing_key(&secret);
                claim.verify(&signing_key, &parts, body)
            })
            .expect("what was signed verifies");
        assert_eq!(identity.access_key_id, KEY_ID);
    }
});
