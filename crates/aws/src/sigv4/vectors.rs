//! AWS's published test suite for Signature Version 4, as a table.
//!
//! The suite's key, date, region, service and host are the constants below; each case gives what it
//! adds. Cases whose requests cannot exist here are left out: header values folded over lines, and
//! addresses with raw spaces, which the HTTP layer refuses before anything is signed.

use http::Request;

use super::{
    claim::Claim,
    credentials::{Credentials, SecretAccessKey},
    signer::sign,
};
use crate::epoch_seconds::EpochSeconds;

const NOW: EpochSeconds = EpochSeconds(1_440_938_160); // 20150830T123600Z
const UNRESERVED: &str = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

fn secret() -> SecretAccessKey {
    SecretAccessKey::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
}

#[track_caller]
fn check(method: &str, uri: &str, headers: &[(&str, &str)], body: &str, want: &str) {
    let mut request = Request::builder()
        .method(method)
        .uri(uri)
        .header("host", "example.amazonaws.com");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut parts = request.body(()).unwrap().into_parts().0;
    let credentials = Credentials {
        access_key_id: "AKIDEXAMPLE".to_owned(),
        secret_access_key: secret(),
        session_token: None,
    };
    sign(
        &mut parts,
        body.as_bytes(),
        &credentials,
        "us-east-1",
        "service",
        NOW,
    )
    .unwrap();
    let text = parts.headers["authorization"].to_str().unwrap();
    assert_eq!(text.rsplit_once("Signature=").unwrap().1, want);
    let claim = Claim::read(&parts, "service", NOW).unwrap();
    let key = claim.signing_key(&secret());
    assert!(claim.verify(&key, &parts, body.as_bytes()).is_ok());
}

#[test]
fn requests_without_parameters() {
    const VANILLA: &str = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
    check("GET", "/", &[], "", VANILLA);
    check(
        "POST",
        "/",
        &[],
        "",
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
    );
    for path in ["//", "/./", "/example/..", "/example1/example2/../.."] {
        check("GET", path, &[], "", VANILLA);
    }
}

#[test]
fn paths() {
    for (path, want) in [
        (
            "//example//",
            "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
        ),
        (
            "/./example",
            "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5",
        ),
        (
            &format!("/{UNRESERVED}"),
            "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
        ),
    ] {
        check("GET", path, &[], "", want);
    }
}

#[test]
fn queries() {
    let unreserved = format!("/?{UNRESERVED}={UNRESERVED}");
    for (uri, want) in [
        (
            "/?Param1=value1",
            "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
        ),
        (
            "/?Param2=value2&Param1=value1",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "/?Param1=value2&Param1=Value1",
            "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1",
        ),
        (
            "/?Param1=value2&Param1=value1",
            "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694",
        ),
        (
            &unreserved,
            "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
        ),
        (
            "/?%E1%88%B4=bar",
            "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
        ),
    ] {
        check("GET", uri, &[], "", want);
    }
    check(
        "POST",
        "/?Param1=value1",
        &[],
        "",
        "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
    );
}

#[test]
fn headers() {
    check(
        "GET",
        "/",
        &[
            ("My-Header1", "value2"),
            ("My-Header1", "value2"),
            ("My-Header1", "value1"),
        ],
        "",
        "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
    );
    check(
        "GET",
        "/",
        &[
            ("My-Header1", "value4"),
            ("My-Header1", "value1"),
            ("My-Header1", "value3"),
            ("My-Header1", "value2"),
        ],
        "",
        "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
    );
    check(
        "GET",
        "/",
        &[("My-Header1", " value1"), ("My-Header2", " \"a   b   c\"")],
        "",
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    );
    check(
        "POST",
        "/",
        &[("My-Header1", "value1")],
        "",
        "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
    );
    check(
        "POST",
        "/",
        &[("My-Header1", "VALUE1")],
        "",
        "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
    );
}

#[test]
fn bodies() {
    const BODY: &str = "Param1=value1";
    check(
        "POST",
        "/",
        &[("Content-Type", "application/x-www-form-urlencoded")],
        BODY,
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    );
    check(
        "POST",
        "/",
        &[(
            "Content-Type",
            "application/x-www-form-urlencoded; charset=utf8",
        )],
        BODY,
        "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe",
    );
}
