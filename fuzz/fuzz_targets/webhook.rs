//! A webhook's delivery: without the secret nothing is believed; with it, any payload of any provider is read.

#![no_main]

use ekiden_fuzz::request;
use ekiden_source::webhook::{Delivery, touches, verify_and_parse};
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use sha2::Sha256;

const SECRET: &str = "secret";
const NOW: u64 = 1_800_000_000;

/// The headers of each provider, its signature last.
const PROVIDERS: &[&[(&str, &str)]] = &[
    &[
        ("x-github-event", "push"),
        ("x-hub-signature-256", "sha256="),
    ],
    &[("x-gitea-event", "push"), ("x-gitea-signature", "")],
    &[("x-event-key", "repo:push"), ("x-hub-signature", "sha256=")],
    &[
        ("x-event-key", "repo:refs_changed"),
        ("x-hub-signature", "sha256="),
    ],
    &[
        ("x-ekiden-timestamp", "1800000000"),
        ("x-ekiden-signature-256", "sha256="),
    ],
];

fuzz_target!(|data: &[u8]| {
    if let Some((head, body)) = request(data) {
        let delivery = verify_and_parse(&head.headers, body, b"a secret nobody finds", NOW);
        assert!(delivery.is_err());
    }
    for headers in PROVIDERS {
        let mut map = HeaderMap::new();
        for (name, value) in *headers {
            map.insert(*name, value.parse().expect("text"));
        }
        let time = map.get("x-ekiden-timestamp").map(|_| &b"1800000000."[..]);
        let (name, prefix) = headers.last().expect("a signature");
        let signature = format!(
            "{prefix}{}",
            hmac(&[time.unwrap_or_default(), data].concat())
        );
        map.insert(*name, signature.parse().expect("text"));
        check(&map, data);
    }
    let mut map = HeaderMap::new();
    map.insert("x-gitlab-token", SECRET.parse().expect("text"));
    map.insert("x-gitlab-event", "Push Hook".parse().expect("text"));
    check(&map, data);
});

fn check(headers: &HeaderMap, body: &[u8]) {
    let Ok(Delivery { pushes, .. }) = verify_and_parse(headers, body, SECRET.as_bytes(), NOW)
    else {
        // A good signature of a bad payload is no bad signature.
        let error = verify_and_parse(headers, body, SECRET.as_bytes(), NOW).expect_err("again");
        assert!(
            error
                .to_string()
                .starts_with("the payload is not understood")
        );
        return;
    };
    for push in &pushes {
        assert!(
            push.reference.starts_with("refs/heads/") || push.reference.starts_with("refs/tags/")
        );
        assert!(!push.deleted || push.commit.is_none());
        for path in push.changed_paths.iter().flatten() {
            assert!(touches(std::slice::from_ref(path), ""));
        }
    }
}

fn hmac(message: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key of any length");
    mac.update(message);
    let bytes = mac.finalize().into_bytes();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
