//! What cannot be a target is refused, with a word on what would be right, and secrets are never shown.

#![allow(clippy::unwrap_used)]

use ekiden_export::{drain::Drain, limits::Limits, secrets::Secrets, target::Target};
use serde_json::{Value, json};

fn refusal(target: Value, secrets: Value) -> String {
    let target: Target = match serde_json::from_value(target) {
        Ok(target) => target,
        Err(error) => return error.to_string(),
    };
    let secrets: Secrets = serde_json::from_value(secrets).unwrap();
    match Drain::new(&target, &secrets) {
        Err(error) => error.to_string(),
        Ok(_) => "taken".to_owned(),
    }
}

#[track_caller]
fn check(target: Value, secrets: Value, says: &str) {
    let refusal = refusal(target, secrets);
    assert!(refusal.contains(says), "{refusal:?} has no {says:?}");
}

#[tokio::test]
async fn urls_that_lead_nowhere_are_refused() {
    for (url, says) in [
        ("", "`url`"),
        ("collector:4318", "must begin with `http://` or `https://`"),
        ("ftp://x/", "must begin with `http://` or `https://`"),
        ("http://", "`url`"),
        ("http:///path", "`url`"),
        ("http://x:0/", "port"),
        ("http://x:99999/", "`url`"),
        ("http://me:hidden@x/", "user or password"),
        ("http://x/#a", "fragment"),
        ("http://x/a b", "`url` is not a URL"),
        ("http://x/\n", "`url` is not a URL"),
    ] {
        for kind in ["http", "otlp"] {
            check(json!({"type": kind, "url": url}), json!({}), says);
        }
        assert!(!refusal(json!({"type": "http", "url": url}), json!({})).contains("hidden"));
    }
    let otlp = |url: &str| json!({"type": "otlp", "url": url});
    check(
        otlp("http://x/v1/logs"),
        json!({}),
        "must not have `/v1/logs` at its end",
    );
    check(otlp("http://x/?a"), json!({}), "query");
    check(otlp("http://[::1]:4318"), json!({}), "taken");
}

#[tokio::test]
async fn headers_that_would_break_requests_are_refused() {
    let with = |name: &str, value: &str| json!({"type": "http", "url": "http://x", "headers": {name: value}});
    check(
        with("x", "a\r\nb: c"),
        json!({}),
        "`headers.x` has a value with a line break",
    );
    check(with("x y", "a"), json!({}), "is not a name of a header");
    check(with("x\r\ny", "a"), json!({}), "is not a name of a header");
    check(with("Host", "a"), json!({}), "is set by Ekiden");
    check(with("Authorization", "a"), json!({}), "is a secret");
    check(
        with("x", "a"),
        json!({"headers": {"X": "b"}}),
        "is there twice",
    );
    check(
        with("x", "a"),
        json!({"headers": {"y": "hidden\n"}}),
        "`headers.y` has a value",
    );
    let many: serde_json::Map<_, _> = (0..33).map(|n| (format!("x{n}"), json!("a"))).collect();
    check(
        json!({"type": "http", "url": "http://x", "headers": many}),
        json!({}),
        "more than 32",
    );
}

#[tokio::test]
async fn files_of_authorities_must_have_some() {
    let directory = tempfile::tempdir().unwrap();
    let with = |path: &str| {
        let path = directory.path().join(path);
        json!({"type": "syslog", "host": "x", "port": 6514, "ca_file": path})
    };
    std::fs::write(directory.path().join("empty"), "").unwrap();
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(directory.path().join("broken"), broken).unwrap();
    check(with("missing"), json!({}), "cannot be read");
    check(with("empty"), json!({}), "has no certificate");
    check(with("broken"), json!({}), "cannot be used");
    let mut plain = with("broken");
    plain["transport"] = json!("tcp");
    check(plain, json!({}), "is for `tls` only");
}

#[tokio::test]
async fn settings_and_secrets_of_others_are_refused() {
    check(
        json!({"type": "kafka"}),
        json!({}),
        "unknown variant `kafka`",
    );
    check(
        json!({"type": "http", "url": "http://x", "tag": "a"}),
        json!({}),
        "unknown field `tag`",
    );
    check(json!({"type": "http"}), json!({}), "missing field `url`");
    let syslog = json!({"type": "syslog", "host": "x", "port": 1, "transport": "tcp"});
    check(
        syslog.clone(),
        json!({"shared_key": "a"}),
        "`shared_key` is no secret of `syslog`, which has none",
    );
    check(syslog, json!({}), "taken");
    check(
        json!({"type": "syslog", "host": "", "port": 1}),
        json!({}),
        "`host`",
    );
    check(
        json!({"type": "syslog", "host": "a b", "port": 1}),
        json!({}),
        "neither a host name nor an address",
    );
    check(
        json!({"type": "syslog", "host": "x", "port": 0}),
        json!({}),
        "`port` is 0",
    );
    let fluent = |tag: &str| json!({"type": "fluent", "host": "x", "tag": tag});
    check(fluent(""), json!({}), "`tag`");
    check(fluent("a"), json!({"username": "a"}), "go together");
    check(
        fluent("a"),
        json!({"username": "a", "password": "b"}),
        "`shared_key` is missing",
    );
    check(
        fluent("a"),
        json!({"shared_key": ""}),
        "`shared_key` is empty",
    );
    let keys = json!({"access_key_id": "a", "secret_access_key": "b"});
    let s3 = |field: &str, value: &str| {
        let mut target = json!({"type": "s3", "bucket": "logs"});
        target[field] = json!(value);
        target
    };
    check(s3("prefix", ""), json!({}), "`access_key_id` is missing");
    check(s3("prefix", "a"), keys.clone(), "taken");
    check(s3("bucket", "a/b"), keys.clone(), "`bucket`");
    check(s3("region", ""), keys.clone(), "`region`");
    check(s3("prefix", "a/../b"), keys.clone(), "`prefix`");
    check(s3("endpoint", "http://x/path"), keys.clone(), "has a path");
    check(s3("endpoint", "x"), keys, "`endpoint`");
}

#[tokio::test]
async fn secrets_are_never_shown() {
    let secrets: Secrets = serde_json::from_value(json!({
        "headers": {"authorization": "hidden"}, "shared_key": "hidden", "username": "hidden",
        "password": "hidden", "access_key_id": "hidden", "secret_access_key": "hidden",
        "session_token": "hidden"}))
    .unwrap();
    let shown = format!("{secrets:?} {secrets:#?}");
    assert!(
        shown.contains("shared_key") && !shown.contains("hidden"),
        "{shown}"
    );
    let target: Target =
        serde_json::from_value(json!({"type": "otlp", "url": "http://x"})).unwrap();
    let secrets: Secrets = serde_json::from_value(json!({"headers": {"x-key": "hidden"}})).unwrap();
    let drain = Drain::with_limits(&target, &secrets, Limits::default()).unwrap();
    let Target::Otlp(otlp) = &target else {
        unreachable!("it is OTLP")
    };
    let client = ekiden_export::otlp::OtlpClient::new(otlp, &secrets, Limits::default()).unwrap();
    let shown = format!("{drain:?} {target:?} {client:?}");
    assert!(!shown.contains("hidden"), "{shown}");
}

#[tokio::test]
async fn host_without_an_address_is_said_to_have_none() {
    let target = json!({"type": "http", "url": "http://no-such-host.invalid/"});
    let target: Target = serde_json::from_value(target).unwrap();
    let drain = Drain::new(&target, &Secrets::default()).unwrap();
    let refusal = drain.resolve().await.unwrap_err().to_string();
    assert!(
        refusal.contains("no address is known for `no-such-host.invalid`"),
        "{refusal}"
    );
}

#[test]
fn settings_have_the_defaults_that_are_documented() {
    let target: Target =
        serde_json::from_value(json!({"type": "syslog", "host": "x", "port": 1})).unwrap();
    let whole = json!({"type": "syslog", "host": "x", "port": 1, "transport": "tls",
        "hostname": null, "facility": 16, "structured_data_id": "ekiden@32473",
        "message_bytes_max": 8192, "ca_file": null});
    assert_eq!(serde_json::to_value(&target).unwrap(), whole);
    assert_eq!(serde_json::from_value::<Target>(whole).unwrap(), target);
}
