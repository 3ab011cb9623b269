//! JSON, OTLP and object storage, against receivers that are well, slow, down or out of their minds.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "each test program uses a part")]
mod receivers;

use std::{io::Read, sync::atomic::Ordering, time::Duration};

use receivers::{Http, answer, drain, lines, nobody, none, permanent, retry};
use serde_json::{Value, json};

fn gunzip(body: &[u8]) -> Vec<u8> {
    let mut raw = Vec::new();
    flate2::read::GzDecoder::new(body)
        .read_to_end(&mut raw)
        .unwrap();
    raw
}

fn http(url: String) -> Value {
    json!({"type": "http", "url": url})
}

#[tokio::test]
async fn lines_arrive_as_an_array_on_one_connection_with_headers() {
    let receiver = Http::new(&[&answer("202 Accepted", "", b"")]).await;
    let target = json!({"type": "http", "url": format!("{}/in?a=b", receiver.url()),
        "headers": {"x-team": "shop"}});
    let mut drain = drain(
        target,
        json!({"headers": {"Authorization": "Bearer hidden"}}),
    );
    drain.resolve().await.unwrap();
    drain.send(&[]).await.unwrap();
    drain.send(&lines(1..3)).await.unwrap();
    let sent = drain.send(&lines(3..4)).await.unwrap();
    let (head, body) = receiver.request(0);
    assert!(head.starts_with("post /in?a=b http/1.1\r\n"), "{head}");
    for header in [
        "content-type: application/json\r\n",
        "x-team: shop\r\n",
        "authorization: bearer hidden\r\n",
    ] {
        assert!(head.contains(header), "{head}");
    }
    let got: Value = serde_json::from_slice(&body).unwrap();
    let want = json!({"timestamp": "2026-11-28T02:37:49.007Z",
        "observed_timestamp": "2026-11-28T02:37:49.008Z", "sequence": 1,
        "group": "/aws/apprunner/shop/1/application", "stream": "instance/i-1",
        "kind": "application", "service": "shop", "service_id": "1",
        "service_arn": "arn:aws:apprunner:us-east-1:0:service/shop/1", "instance": "i-1",
        "output": "stdout", "message": "line 1 \"é\"\n\u{1b}"});
    assert_eq!(got[0], want);
    assert_eq!(got.as_array().unwrap().len(), 2);
    assert_eq!(sent.bytes, receiver.request(1).1.len() as u64);
    assert_eq!(receiver.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn lines_arrive_one_by_one_and_compressed() {
    let receiver = Http::new(&[&answer("200 OK", "", b"")]).await;
    let target = json!({"type": "http", "url": receiver.url(), "format": "ndjson",
        "compression": "gzip"});
    drain(target, none()).send(&lines(1..4)).await.unwrap();
    let (head, body) = receiver.request(0);
    assert!(head.contains("content-encoding: gzip\r\n"));
    assert!(head.contains("content-type: application/x-ndjson\r\n"));
    let text = String::from_utf8(gunzip(&body)).unwrap();
    let sequences: Vec<u64> = (text.lines())
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["sequence"]
                .as_u64()
                .unwrap()
        })
        .collect();
    assert_eq!(sequences, [1, 2, 3]);
}

#[tokio::test]
async fn receiver_that_is_busy_says_for_how_long() {
    let receiver = Http::new(&[
        &answer(
            "429 Too Many Requests",
            "retry-after: 7\r\n",
            b"slow\r\n\x1b[1mdown",
        ),
        &answer(
            "503 Service Unavailable",
            "retry-after: Wed, 01 Jan 2020 00:00:00 GMT\r\n",
            b"",
        ),
        &answer("500 Internal Server Error", "retry-after: soon\r\n", b""),
        &answer("408 Request Timeout", "", b""),
        &answer("200 OK", "", b""),
    ])
    .await;
    let mut drain = drain(http(receiver.url()), none());
    let after = retry(
        drain.send(&lines(1..2)).await,
        "429 Too Many Requests: slow   [1mdown",
    );
    assert_eq!(after, Some(Duration::from_secs(7)));
    assert_eq!(
        retry(drain.send(&lines(1..2)).await, "503"),
        Some(Duration::ZERO)
    );
    assert_eq!(retry(drain.send(&lines(1..2)).await, "500"), None);
    assert_eq!(retry(drain.send(&lines(1..2)).await, "408"), None);
    drain.send(&lines(1..2)).await.unwrap();
}

#[tokio::test]
async fn answers_about_the_batch_are_final_and_redirects_are_not_followed() {
    let elsewhere = Http::new(&[&answer("200 OK", "", b"")]).await;
    let location = format!("location: {}\r\n", elsewhere.url());
    let receiver = Http::new(&[
        &answer("400 Bad Request", "", b"no such field"),
        &answer("307 Temporary Redirect", &location, b""),
    ])
    .await;
    let mut drain = drain(http(receiver.url()), none());
    permanent(
        drain.send(&lines(1..2)).await,
        "400 Bad Request: no such field",
    );
    permanent(drain.send(&lines(1..2)).await, "307");
    assert!(elsewhere.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn receiver_that_is_down_silent_or_mad_is_tried_again() {
    let mut to_nobody = drain(http(format!("http://{}", nobody().await)), none());
    retry(to_nobody.send(&lines(1..2)).await, "cannot reach");
    let receiver = Http::new(&[
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        &answer("200 OK", "", b"ok"),
    ])
    .await;
    let mut drain = drain(http(receiver.url()), none());
    retry(drain.send(&lines(1..2)).await, "no answer within 0.7 s");
    retry(drain.send(&lines(1..2)).await, "broke");
    retry(drain.send(&lines(1..2)).await, "broke");
    drain.send(&lines(1..2)).await.unwrap();
}

#[tokio::test]
async fn endless_answer_is_not_read_to_its_end() {
    let mut endless = b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec();
    endless.resize(4 * 1024 * 1024, b'x');
    let receiver = Http::new(&[&endless]).await;
    let mut drain = drain(http(receiver.url()), none());
    permanent(drain.send(&lines(1..2)).await, "400 Bad Request: xxxx");
}

#[tokio::test]
async fn partial_success_of_otlp_is_told() {
    // ExportLogsServiceResponse { partial_success { rejected_log_records: 2, error_message: "old" } }
    let partial = b"\x0a\x07\x08\x02\x12\x03old";
    let protobuf = "content-type: application/x-protobuf\r\n";
    let receiver = Http::new(&[
        &answer("200 OK", protobuf, partial),
        &answer("200 OK", protobuf, b"\xff\xff\xff"),
        // google.rpc.Status { code: 3, message: "bad field" }
        &answer("400 Bad Request", protobuf, b"\x08\x03\x12\x09bad field"),
        &answer("429 Too Many Requests", "retry-after: 3\r\n", b""),
        &answer("503 Service Unavailable", "", b""),
        &answer("500 Internal Server Error", "", b"bug"),
    ])
    .await;
    let target = json!({"type": "otlp", "url": format!("{}/base/", receiver.url())});
    let mut drain = drain(target, none());
    let sent = drain.send(&lines(1..4)).await.unwrap();
    assert_eq!((sent.rejected, sent.message.as_deref()), (2, Some("old")));
    assert_eq!(drain.send(&lines(1..4)).await.unwrap().rejected, 0);
    permanent(drain.send(&lines(1..4)).await, "400 Bad Request: bad field");
    let after = retry(drain.send(&lines(1..4)).await, "429");
    assert_eq!(after, Some(Duration::from_secs(3)));
    retry(drain.send(&lines(1..4)).await, "503");
    permanent(
        drain.send(&lines(1..4)).await,
        "500 Internal Server Error: bug",
    );
    let (head, body) = receiver.request(0);
    assert!(
        head.starts_with("post /base/v1/logs http/1.1\r\n"),
        "{head}"
    );
    assert!(head.contains(protobuf));
    let raw = gunzip(&body);
    let has = |text: &str| {
        raw.windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    assert!(has("line 3 \"é\"\n\u{1b}") && has("service.instance.id"));
}

#[tokio::test]
async fn same_batch_is_the_same_object() {
    let ok = answer("200 OK", "etag: \"1\"\r\n", b"");
    let slow = answer(
        "503 Slow Down",
        "retry-after: 4\r\n",
        b"<Error>SlowDown</Error>",
    );
    let receiver = Http::new(&[&ok, &ok, &slow, &answer("403 Forbidden", "", b"who?")]).await;
    let target = json!({"type": "s3", "bucket": "logs", "endpoint": receiver.url(),
        "prefix": "a/b/"});
    let secrets = json!({"access_key_id": "AKID", "secret_access_key": "hidden"});
    let mut drain = drain(target, secrets);
    drain.send(&lines(5..8)).await.unwrap();
    drain.send(&lines(5..8)).await.unwrap();
    let (first, second) = (receiver.request(0), receiver.request(1));
    assert_eq!(first.1, second.1);
    let name = "put /logs/a/b/2026/11/28/02/aws_apprunner_shop_1_application-00000000000000000005\
                -00000000000000000007.json.gz http/1.1\r\n";
    assert!(
        first.0.starts_with(name) && second.0.starts_with(name),
        "{}",
        first.0
    );
    assert!(first.0.contains("aws4-hmac-sha256") && !first.0.contains("hidden"));
    assert_eq!(
        gunzip(&first.1)
            .iter()
            .filter(|byte| **byte == b'\n')
            .count(),
        3
    );
    let after = retry(
        drain.send(&lines(5..8)).await,
        "503 Service Unavailable: <Error>SlowDown",
    );
    assert_eq!(after, Some(Duration::from_secs(4)));
    retry(drain.send(&lines(5..8)).await, "403 Forbidden: who?");
}

#[tokio::test]
async fn lines_of_several_groups_and_hours_are_several_objects() {
    let receiver = Http::new(&[&answer("200 OK", "etag: \"1\"\r\n", b"")]).await;
    let target = json!({"type": "s3", "bucket": "logs", "endpoint": receiver.url(),
        "format": "zst"});
    let secrets = json!({"access_key_id": "AKID", "secret_access_key": "hidden"});
    let mut batch = lines(1..4);
    batch[1].observed_ms += 3_600_000;
    let mut source = (*batch[2].source).clone();
    source.group = "../../other group".to_owned();
    batch[2].source = source.into();
    drain(target, secrets).send(&batch).await.unwrap();
    let mut names: Vec<String> = (receiver.requests.lock().unwrap().iter())
        .map(|(head, _)| head.split(' ').nth(1).unwrap().to_owned())
        .collect();
    names.sort();
    let number = |sequence: u64| format!("{sequence:020}-{sequence:020}.json.zst");
    let group = "aws_apprunner_shop_1_application";
    let want = [
        format!("/logs/2026/11/28/02/.._.._other_group-{}", number(3)),
        format!("/logs/2026/11/28/02/{group}-{}", number(1)),
        format!("/logs/2026/11/28/03/{group}-{}", number(2)),
    ];
    assert_eq!(names, want);
}
