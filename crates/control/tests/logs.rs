//! CloudWatch Logs' operations, and `GetLogs`, over the real API.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

use ekiden_aws::client::ClientError;
use ekiden_engine::Engine as _;
use ekiden_model::instance::InstanceState;
use serde_json::{Value, json};

use crate::support::{World, eventually};

async fn attempt(world: &World, operation: &str, input: Value) -> Result<Value, ClientError> {
    world
        .call(&format!("Logs_20140328.{operation}"), &input)
        .await
}

async fn ok(world: &World, operation: &str, input: Value) -> Value {
    attempt(world, operation, input)
        .await
        .unwrap_or_else(|error| panic!("{operation}: {error}"))
}

/// Expects a refusal with this code, whose message has this in it.
async fn refused(world: &World, operation: &str, input: Value, code: &str, message: &str) {
    let answer = attempt(world, operation, input.clone()).await;
    match answer.expect_err(&format!("{operation} {input} is refused")) {
        ClientError::Api {
            code: got,
            message: text,
            ..
        } => {
            assert_eq!(got, code, "{operation}: {text}");
            assert!(text.contains(message), "{operation}: {text}");
        }
        other => panic!("{operation}: {other}"),
    }
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_millis() as i64
}

fn arn(group: &str) -> String {
    format!("arn:aws:logs:us-east-1:100000000001:log-group:{group}")
}

async fn make(world: &World, group: &str, streams: &[&str]) {
    ok(world, "CreateLogGroup", json!({ "logGroupName": group })).await;
    for stream in streams {
        let input = json!({ "logGroupName": group, "logStreamName": stream });
        ok(world, "CreateLogStream", input).await;
    }
}

/// Puts lines with these times.
async fn put(world: &World, group: &str, stream: &str, lines: &[(i64, &str)]) -> Value {
    let event = |(time, text): &(i64, &str)| json!({ "timestamp": time, "message": text });
    let events: Vec<_> = lines.iter().map(event).collect();
    let input = json!({ "logGroupName": group, "logStreamName": stream, "logEvents": events });
    ok(world, "PutLogEvents", input).await
}

fn messages(answer: &Value) -> Vec<&str> {
    let events = answer["events"].as_array().unwrap();
    events
        .iter()
        .map(|event| event["message"].as_str().unwrap())
        .collect()
}

const NOT_FOUND: &str = "ResourceNotFoundException";
const INVALID: &str = "InvalidParameterException";
const NO_GROUP: &str = "The specified log group does not exist.";

#[tokio::test]
async fn groups_are_made_listed_and_deleted() {
    let world = World::new().await;
    for name in ["/a/one", "/a/two", "/b/three#.-_"] {
        make(&world, name, &[]).await;
    }
    let again = json!({ "logGroupName": "/a/one" });
    let exists = "The specified log group already exists";
    let code = "ResourceAlreadyExistsException";
    refused(&world, "CreateLogGroup", again, code, exists).await;
    for odd in ["", "a b", "é", "a:b", "*", &"x".repeat(513)] {
        let input = json!({ "logGroupName": odd });
        refused(&world, "CreateLogGroup", input, INVALID, "logGroupName").await;
    }
    let tagged = json!({ "logGroupName": "t", "kmsKeyId": "key", "logGroupClass": "INFREQUENT_ACCESS",
                         "tags": { "env": "test" } });
    ok(&world, "CreateLogGroup", tagged).await;

    let all = ok(
        &world,
        "DescribeLogGroups",
        json!({ "logGroupNamePrefix": "/a/" }),
    )
    .await;
    let first = &all["logGroups"][0];
    assert_eq!(first["logGroupName"], "/a/one");
    assert_eq!(first["arn"], format!("{}:*", arn("/a/one")));
    assert_eq!(first["logGroupArn"], arn("/a/one"));
    assert_eq!(first["metricFilterCount"], 0);
    assert_eq!(first["logGroupClass"], "STANDARD");
    assert!(first["storedBytes"].is_i64() && first["creationTime"].as_i64().unwrap() <= now());
    assert!(first.get("retentionInDays").is_none());
    assert_eq!(all["logGroups"].as_array().unwrap().len(), 2);
    assert!(all.get("nextToken").is_none());

    let names = |answer: &Value| {
        let groups = answer["logGroups"].as_array().unwrap();
        let names = groups
            .iter()
            .map(|group| group["logGroupName"].as_str().unwrap());
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    let find = async |input| names(&ok(&world, "DescribeLogGroups", input).await);
    assert_eq!(
        find(json!({ "logGroupNamePattern": "THREE" })).await,
        ["/b/three#.-_"]
    );
    assert_eq!(
        find(json!({ "logGroupClass": "INFREQUENT_ACCESS" })).await,
        ["t"]
    );
    assert_eq!(
        find(json!({ "logGroupIdentifiers": ["t", "nobody", arn("/a/two")] })).await,
        ["/a/two", "t"]
    );
    assert!(
        find(json!({ "accountIdentifiers": ["999999999999"] }))
            .await
            .is_empty()
    );
    let list = async |input| names(&ok(&world, "ListLogGroups", input).await);
    assert_eq!(
        list(json!({ "logGroupNamePattern": "^/b/|two" })).await,
        ["/a/two", "/b/three#.-_"]
    );
    assert_eq!(
        list(json!({ "logGroupTags": [{ "key": "env", "values": ["test"] }] })).await,
        ["t"]
    );

    // Page by page.
    let mut token = Value::Null;
    let mut found = Vec::new();
    loop {
        let input = json!({ "limit": 1, "nextToken": token });
        let page = ok(&world, "DescribeLogGroups", input).await;
        found.extend(names(&page));
        token = page["nextToken"].clone();
        if token.is_null() {
            break;
        }
    }
    assert_eq!(found, ["/a/one", "/a/two", "/b/three#.-_", "t"]);
    let both = json!({ "logGroupNamePrefix": "a", "logGroupNamePattern": "a" });
    refused(
        &world,
        "DescribeLogGroups",
        both,
        INVALID,
        "mutually exclusive",
    )
    .await;
    let made_up = json!({ "nextToken": "AAAA" });
    refused(&world, "DescribeLogGroups", made_up, INVALID, "nextToken").await;

    ok(&world, "DeleteLogGroup", json!({ "logGroupName": "t" })).await;
    refused(
        &world,
        "DeleteLogGroup",
        json!({ "logGroupName": "t" }),
        NOT_FOUND,
        NO_GROUP,
    )
    .await;
}

#[tokio::test]
async fn retention_keys_and_tags_are_kept() {
    let world = World::new().await;
    make(&world, "g", &[]).await;
    let describe = async || {
        let input = json!({ "logGroupNamePrefix": "g" });
        ok(&world, "DescribeLogGroups", input).await["logGroups"][0].take()
    };
    ok(
        &world,
        "PutRetentionPolicy",
        json!({ "logGroupName": "g", "retentionInDays": 14 }),
    )
    .await;
    assert_eq!(describe().await["retentionInDays"], 14);
    for days in [0, -1, 2, 15, i32::MAX] {
        let input = json!({ "logGroupName": "g", "retentionInDays": days });
        refused(&world, "PutRetentionPolicy", input, INVALID, "3653").await;
    }
    ok(
        &world,
        "DeleteRetentionPolicy",
        json!({ "logGroupName": "g" }),
    )
    .await;
    assert!(describe().await.get("retentionInDays").is_none());

    ok(
        &world,
        "AssociateKmsKey",
        json!({ "logGroupName": "g", "kmsKeyId": "arn:aws:kms:k" }),
    )
    .await;
    assert_eq!(describe().await["kmsKeyId"], "arn:aws:kms:k");
    ok(
        &world,
        "DisassociateKmsKey",
        json!({ "resourceIdentifier": arn("g") }),
    )
    .await;
    assert!(describe().await.get("kmsKeyId").is_none());
    refused(&world, "DisassociateKmsKey", json!({}), INVALID, "one of").await;

    ok(
        &world,
        "TagResource",
        json!({ "resourceArn": arn("g"), "tags": { "a": "1", "b": "" } }),
    )
    .await;
    ok(
        &world,
        "TagLogGroup",
        json!({ "logGroupName": "g", "tags": { "a": "2", "c": "3" } }),
    )
    .await;
    let tags = ok(
        &world,
        "ListTagsForResource",
        json!({ "resourceArn": arn("g") }),
    )
    .await;
    assert_eq!(tags["tags"], json!({ "a": "2", "b": "", "c": "3" }));
    ok(
        &world,
        "UntagResource",
        json!({ "resourceArn": arn("g"), "tagKeys": ["a", "none"] }),
    )
    .await;
    ok(
        &world,
        "UntagLogGroup",
        json!({ "logGroupName": "g", "tags": ["b"] }),
    )
    .await;
    let tags = ok(&world, "ListTagsLogGroup", json!({ "logGroupName": "g" })).await;
    assert_eq!(tags["tags"], json!({ "c": "3" }));
    let reserved = json!({ "resourceArn": arn("g"), "tags": { "AWS:x": "1" } });
    refused(&world, "TagResource", reserved, INVALID, "reserved").await;
    for batch in 0..2 {
        let tags: serde_json::Map<_, _> = (0..30)
            .map(|n| (format!("k{}", batch * 30 + n), json!("v")))
            .collect();
        let input = json!({ "resourceArn": arn("g"), "tags": tags });
        match batch {
            0 => drop(ok(&world, "TagResource", input).await),
            _ => refused(&world, "TagResource", input, "TooManyTagsException", "50").await,
        }
    }
    let elsewhere = "arn:aws:logs:us-east-1:999999999999:log-group:g";
    for bad in [
        elsewhere,
        &arn("nobody"),
        "arn:aws:logs:x",
        "arn:aws:ecr:us-east-1:100000000001:repository/g",
    ] {
        let code = attempt(&world, "ListTagsForResource", json!({ "resourceArn": bad })).await;
        assert_eq!(code.unwrap_err().code(), Some(NOT_FOUND), "{bad}");
    }
    refused(
        &world,
        "ListTagsForResource",
        json!({ "resourceArn": "g" }),
        INVALID,
        "ARN",
    )
    .await;

    let none = ok(
        &world,
        "DescribeSubscriptionFilters",
        json!({ "logGroupName": "g" }),
    )
    .await;
    assert_eq!(none["subscriptionFilters"], json!([]));
    refused(
        &world,
        "DescribeSubscriptionFilters",
        json!({ "logGroupName": "x" }),
        NOT_FOUND,
        NO_GROUP,
    )
    .await;
    let live = json!({ "logGroupIdentifiers": [arn("g")] });
    refused(
        &world,
        "StartLiveTail",
        live,
        "InvalidOperationException",
        "FilterLogEvents",
    )
    .await;
}

#[tokio::test]
async fn streams_are_made_listed_and_deleted() {
    let world = World::new().await;
    let odd = "instance/é [x] $LATEST \u{1f980}";
    make(&world, "g", &["b", "a", odd]).await;
    let t = now();
    put(&world, "g", "a", &[(t - 10, "old"), (t - 5, "newer")]).await;
    put(&world, "g", odd, &[(t, "newest")]).await;
    let names = |answer: &Value| {
        let streams = answer["logStreams"].as_array().unwrap();
        let names = streams
            .iter()
            .map(|stream| stream["logStreamName"].as_str().unwrap());
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    let describe = async |more: Value| {
        let mut input = json!({ "logGroupName": "g" });
        input
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        ok(&world, "DescribeLogStreams", input).await
    };
    let all = describe(json!({})).await;
    assert_eq!(names(&all), ["a", "b", odd]);
    let a = &all["logStreams"][0];
    assert_eq!(a["arn"], format!("{}:log-stream:a", arn("g")));
    assert_eq!(
        (&a["firstEventTimestamp"], &a["lastEventTimestamp"]),
        (&json!(t - 10), &json!(t - 5))
    );
    assert!(a["lastIngestionTime"].as_i64().unwrap() >= t && a["uploadSequenceToken"].is_string());
    assert!(all["logStreams"][1].get("lastEventTimestamp").is_none());
    let newest = json!({ "orderBy": "LastEventTime", "descending": true });
    assert_eq!(names(&describe(newest).await), [odd, "a", "b"]);
    assert_eq!(
        names(&describe(json!({ "logStreamNamePrefix": "instance/" })).await),
        [odd]
    );
    let page =
        describe(json!({ "orderBy": "LastEventTime", "descending": true, "limit": 1 })).await;
    assert_eq!(names(&page), [odd]);
    let next =
        json!({ "orderBy": "LastEventTime", "descending": true, "nextToken": page["nextToken"] });
    assert_eq!(names(&describe(next).await), ["a", "b"]);
    make(&world, "other", &[]).await;
    let foreign = json!({ "logGroupName": "other", "nextToken": page["nextToken"] });
    refused(&world, "DescribeLogStreams", foreign, INVALID, "nextToken").await;
    let both =
        json!({ "logGroupName": "g", "orderBy": "LastEventTime", "logStreamNamePrefix": "a" });
    refused(
        &world,
        "DescribeLogStreams",
        both,
        INVALID,
        "Cannot order by LastEventTime",
    )
    .await;
    refused(&world, "DescribeLogStreams", json!({}), INVALID, "Either").await;
    let by_arn = json!({ "logGroupIdentifier": arn("g") });
    assert_eq!(
        names(&ok(&world, "DescribeLogStreams", by_arn).await).len(),
        3
    );

    let again = json!({ "logGroupName": "g", "logStreamName": "a" });
    let code = "ResourceAlreadyExistsException";
    refused(
        &world,
        "CreateLogStream",
        again,
        code,
        "The specified log stream already exists",
    )
    .await;
    for bad in ["", "a:b", "a*", &"x".repeat(513)] {
        let input = json!({ "logGroupName": "g", "logStreamName": bad });
        refused(&world, "CreateLogStream", input, INVALID, "").await;
    }
    let missing = json!({ "logGroupName": "nobody", "logStreamName": "a" });
    refused(&world, "CreateLogStream", missing, NOT_FOUND, NO_GROUP).await;
    let gone = json!({ "logGroupName": "g", "logStreamName": "b" });
    ok(&world, "DeleteLogStream", gone.clone()).await;
    let text = "The specified log stream does not exist.";
    refused(&world, "DeleteLogStream", gone, NOT_FOUND, text).await;
}

#[tokio::test]
async fn what_is_put_is_read_exactly() {
    let world = World::new().await;
    make(&world, "g", &["s"]).await;
    let t = now();
    let texts = [
        "plain",
        " \tspaced \n",
        "\u{1b}[31mred\u{1b}[0m \0",
        "{\"a\": 1}",
        "é🦀\r\n\r\n",
    ];
    let lines: Vec<_> = texts.iter().map(|text| (t, *text)).collect();
    let answer = put(&world, "g", "s", &lines).await;
    assert!(answer["nextSequenceToken"].is_string());
    assert!(answer.get("rejectedLogEventsInfo").is_none());
    let got = json!({ "logGroupName": "g", "logStreamName": "s", "startFromHead": true });
    assert_eq!(messages(&ok(&world, "GetLogEvents", got).await), texts);

    let large = "x".repeat((1 << 20) - 26);
    put(&world, "g", "s", &[(t, &large)]).await;
    // Escaped in JSON it is larger than other operations' bodies may be.
    let escaped = "\u{1b}\"".repeat(1 << 18);
    put(&world, "g", "s", &[(t, &escaped)]).await;
    let newest = json!({ "logGroupName": "g", "logStreamName": "s", "limit": 1 });
    assert_eq!(
        messages(&ok(&world, "GetLogEvents", newest).await),
        [escaped]
    );
    let events =
        |events: Value| json!({ "logGroupName": "g", "logStreamName": "s", "logEvents": events });
    let event = |time: i64, text: &str| json!({ "timestamp": time, "message": text });
    let larger = format!("{large}x");
    for (input, want) in [
        (
            events(json!([event(t, &larger)])),
            "1048577 bytes exceeds limit of 1048576",
        ),
        (
            events(json!([event(t, "b"), event(t - 1, "a")])),
            "chronological order",
        ),
        (
            events(json!([event(t - 86_400_001, "a"), event(t, "b")])),
            "24 hours",
        ),
        (events(json!([])), "logEvents"),
        (events(json!([event(t, "")])), "message"),
        (events(json!([event(-1, "x")])), "timestamp"),
    ] {
        refused(&world, "PutLogEvents", input, INVALID, want).await;
    }
    for time in [0, i64::MAX] {
        let answer = put(&world, "g", "s", &[(time, "x")]).await;
        let want = match time {
            0 => json!({ "tooOldLogEventEndIndex": 1 }),
            _ => json!({ "tooNewLogEventStartIndex": 0 }),
        };
        assert_eq!(answer["rejectedLogEventsInfo"], want);
    }
    let none = json!({ "logGroupName": "g", "logStreamName": "x", "logEvents": [event(t, "x")] });
    refused(
        &world,
        "PutLogEvents",
        none,
        NOT_FOUND,
        "log stream does not exist",
    )
    .await;
    let none = json!({ "logGroupName": "x", "logStreamName": "x", "logEvents": [event(t, "x")] });
    refused(&world, "PutLogEvents", none, NOT_FOUND, NO_GROUP).await;
}

#[tokio::test]
async fn one_stream_is_read_in_both_directions() {
    let world = World::new().await;
    make(&world, "g", &["s", "other"]).await;
    let t = now() - 60_000;
    let texts: Vec<String> = (0..10).map(|n| format!("line {n}")).collect();
    let lines: Vec<_> = texts
        .iter()
        .zip(0..)
        .map(|(text, n)| (t + n, text.as_str()))
        .collect();
    put(&world, "g", "s", &lines).await;
    put(&world, "g", "other", &[(t, "not this")]).await;
    let get = async |more: Value| {
        let mut input = json!({ "logGroupName": "g", "logStreamName": "s" });
        input
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        ok(&world, "GetLogEvents", input).await
    };
    // Without a word, the newest page; and then back.
    let page = get(json!({ "limit": 4 })).await;
    assert_eq!(messages(&page), ["line 6", "line 7", "line 8", "line 9"]);
    let back = get(json!({ "limit": 4, "nextToken": page["nextBackwardToken"] })).await;
    assert_eq!(messages(&back), ["line 2", "line 3", "line 4", "line 5"]);
    let head = get(json!({ "limit": 4, "nextToken": back["nextBackwardToken"] })).await;
    assert_eq!(messages(&head), ["line 0", "line 1"]);
    let end = get(json!({ "nextToken": head["nextBackwardToken"] })).await;
    assert!(messages(&end).is_empty());
    assert_eq!(end["nextBackwardToken"], head["nextBackwardToken"]);
    // And forward again, until the token stays the same; then what comes.
    let again = get(json!({ "nextToken": end["nextForwardToken"] })).await;
    assert_eq!(messages(&again)[0], "line 1");
    let end = get(json!({ "nextToken": page["nextForwardToken"] })).await;
    assert!(messages(&end).is_empty());
    assert_eq!(end["nextForwardToken"], page["nextForwardToken"]);
    put(&world, "g", "s", &[(t + 100, "later")]).await;
    let later = get(json!({ "nextToken": end["nextForwardToken"] })).await;
    assert_eq!(messages(&later), ["later"]);
    let times = json!({ "startTime": t + 2, "endTime": t + 4, "startFromHead": true });
    assert_eq!(messages(&get(times).await), ["line 2", "line 3"]);
    for (start, end) in [(0, 0), (i64::MAX, i64::MAX), (t + 5, t)] {
        let none = get(json!({ "startTime": start, "endTime": end })).await;
        assert!(messages(&none).is_empty());
    }
    assert_eq!(
        messages(&get(json!({ "startTime": 0, "endTime": i64::MAX })).await).len(),
        11
    );
    // Empty streams have tokens too.
    let input = json!({ "logGroupName": "g", "logStreamName": "empty" });
    ok(&world, "CreateLogStream", input.clone()).await;
    let empty = ok(&world, "GetLogEvents", input).await;
    put(&world, "g", "empty", &[(t, "first")]).await;
    let input = json!({ "logGroupName": "g", "logStreamName": "empty", "nextToken": empty["nextForwardToken"] });
    assert_eq!(
        messages(&ok(&world, "GetLogEvents", input).await),
        ["first"]
    );

    let token = page["nextForwardToken"].as_str().unwrap();
    for bad in [
        "x",
        "f/",
        "b/AAAA",
        &format!("{token}x"),
        &token[2..],
        "f/é",
    ] {
        let input = json!({ "logGroupName": "g", "logStreamName": "s", "nextToken": bad });
        refused(&world, "GetLogEvents", input, INVALID, "nextToken").await;
    }
    let foreign = json!({ "logGroupName": "g", "logStreamName": "other", "nextToken": token });
    refused(&world, "GetLogEvents", foreign, INVALID, "nextToken").await;
    let none = json!({ "logGroupName": "g", "logStreamName": "nobody" });
    refused(
        &world,
        "GetLogEvents",
        none,
        NOT_FOUND,
        "The specified log stream does not exist.",
    )
    .await;
}

#[tokio::test]
async fn a_group_is_filtered_by_time_stream_and_pattern() {
    let world = World::new().await;
    make(&world, "g", &["web/1", "web/2", "job"]).await;
    let t = now() - 60_000;
    put(
        &world,
        "g",
        "web/1",
        &[(t, "GET / 200"), (t + 2, "GET /x 500 ERROR")],
    )
    .await;
    put(
        &world,
        "g",
        "web/2",
        &[
            (t + 1, "POST / 200"),
            (t + 3, r#"{"status": 503, "path": "/y"}"#),
        ],
    )
    .await;
    put(&world, "g", "job", &[(t + 2, "ERROR of a job")]).await;
    let filter = async |more: Value| {
        let mut input = json!({ "logGroupName": "g" });
        input
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        ok(&world, "FilterLogEvents", input).await
    };
    let all = filter(json!({ "interleaved": true, "unmask": true })).await;
    assert_eq!(
        messages(&all)[..3],
        ["GET / 200", "POST / 200", "GET /x 500 ERROR"]
    );
    assert!(all.get("nextToken").is_none() && all["searchedLogStreams"].is_array());
    let ids: BTreeSet<_> = all["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["eventId"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 5);
    assert!(ids.iter().all(|id| id.len() == 56));
    let one = filter(json!({ "filterPattern": "job" })).await;
    assert!(ids.contains(one["events"][0]["eventId"].as_str().unwrap()));
    assert_eq!(one["events"][0]["logStreamName"], "job");
    assert!(one["events"][0]["ingestionTime"].as_i64().unwrap() >= t);
    for (more, want) in [
        (json!({ "filterPattern": "ERROR" }), 2),
        (json!({ "filterPattern": "ERROR -job" }), 1),
        (json!({ "filterPattern": "{ $.status >= 500 }" }), 1),
        (json!({ "filterPattern": "%GET|POST%" }), 3),
        (json!({ "filterPattern": "" }), 5),
        (json!({ "logStreamNamePrefix": "web/" }), 4),
        (json!({ "logStreamNames": ["job", "nobody"] }), 1),
        (json!({ "startTime": t + 2 }), 3),
        // The end is included.
        (json!({ "startTime": t + 1, "endTime": t + 2 }), 3),
        (json!({ "startTime": 0, "endTime": 0 }), 0),
        (json!({ "startTime": 0, "endTime": i64::MAX }), 5),
        (json!({ "startTime": i64::MAX }), 0),
    ] {
        assert_eq!(messages(&filter(more.clone()).await).len(), want, "{more}");
    }
    let mut token = Value::Null;
    let mut found = Vec::new();
    for _ in 0..10 {
        let page = filter(json!({ "limit": 2, "nextToken": token })).await;
        found.extend(messages(&page).into_iter().map(str::to_owned));
        token = page["nextToken"].clone();
        if token.is_null() {
            break;
        }
    }
    assert_eq!(found, messages(&all));
    let first = filter(json!({ "limit": 1 })).await;
    make(&world, "other", &[]).await;
    let foreign = json!({ "logGroupName": "other", "nextToken": first["nextToken"] });
    refused(&world, "FilterLogEvents", foreign, INVALID, "nextToken").await;
    for bad in [
        "{ $.a = }",
        "[",
        "%(%",
        "{",
        "\"open",
        &"a ".repeat(400),
        &format!("{{ {} }}", "(".repeat(500)),
    ] {
        let input = json!({ "logGroupName": "g", "filterPattern": bad });
        refused(&world, "FilterLogEvents", input, INVALID, "filter pattern").await;
    }
    let both = json!({ "logGroupName": "g", "logStreamNames": ["a"], "logStreamNamePrefix": "a" });
    refused(&world, "FilterLogEvents", both, INVALID, "cannot both").await;
    let both = json!({ "logGroupName": "g", "logGroupIdentifier": "g" });
    refused(&world, "FilterLogEvents", both, INVALID, "cannot both").await;
    for name in ["g", &arn("g")] {
        let by = json!({ "logGroupIdentifier": name });
        assert_eq!(messages(&ok(&world, "FilterLogEvents", by).await).len(), 5);
    }
    refused(
        &world,
        "FilterLogEvents",
        json!({ "logGroupName": "no" }),
        NOT_FOUND,
        NO_GROUP,
    )
    .await;

    let input =
        json!({ "filterPattern": "{ $.a = 1 }", "logEventMessages": ["{\"a\": 2}", "{\"a\": 1}"] });
    let matched = ok(&world, "TestMetricFilter", input).await;
    assert_eq!(matched["matches"][0]["eventNumber"], 2);
    assert_eq!(matched["matches"].as_array().unwrap().len(), 1);
    let input = json!({ "filterPattern": "[", "logEventMessages": ["x"] });
    refused(&world, "TestMetricFilter", input, INVALID, "filter pattern").await;
}

#[tokio::test]
async fn queries_run_and_are_kept() {
    let world = World::new().await;
    make(&world, "a", &["s"]).await;
    make(&world, "b", &["s"]).await;
    let t = now();
    put(&world, "a", "s", &[(t - 2, "GET 200"), (t - 1, "GET 500")]).await;
    put(&world, "b", "s", &[(t, "POST 500")]).await;
    let seconds = t / 1000;
    let start = async |text: &str, more: Value| {
        let mut input =
            json!({ "startTime": seconds - 60, "endTime": seconds, "queryString": text });
        input
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        attempt(&world, "StartQuery", input).await
    };
    let results = async |id: &Value| {
        eventually(async || {
            let answer = ok(&world, "GetQueryResults", json!({ "queryId": id })).await;
            let over = !["Scheduled", "Running"].contains(&answer["status"].as_str().unwrap());
            over.then_some(answer)
        })
        .await
    };
    let both = json!({ "logGroupNames": ["a", "b"] });
    let query = "fields @message, @log | filter @message like /500/ | sort @timestamp desc";
    let id = start(query, both.clone()).await.unwrap()["queryId"].take();
    let found = results(&id).await;
    assert_eq!(found["status"], "Complete");
    assert_eq!(
        found["results"][0][0],
        json!({ "field": "@message", "value": "POST 500" })
    );
    assert_eq!(
        found["results"][0][1],
        json!({ "field": "@log", "value": "100000000001:b" })
    );
    assert_eq!(found["results"][0][2]["field"], "@ptr");
    assert_eq!(found["results"].as_array().unwrap().len(), 2);
    assert_eq!(found["statistics"]["recordsMatched"], 2.0);
    let page = ok(
        &world,
        "GetQueryResults",
        json!({ "queryId": id, "maxItems": 1 }),
    )
    .await;
    let rest = json!({ "queryId": id, "nextToken": page["nextToken"] });
    let rest = ok(&world, "GetQueryResults", rest).await;
    assert_eq!(rest["results"][0][0]["value"], "GET 500");
    assert!(rest.get("nextToken").is_none());

    let mut limited = both.clone();
    limited["limit"] = json!(1);
    let id = start("fields @message", limited).await.unwrap()["queryId"].take();
    assert_eq!(results(&id).await["results"].as_array().unwrap().len(), 1);
    let one = json!({ "logGroupIdentifiers": [arn("a")] });
    let id = start("stats count(*) as n by @logStream", one.clone())
        .await
        .unwrap()["queryId"]
        .take();
    let counted = results(&id).await;
    assert!(
        counted["results"][0]
            .as_array()
            .unwrap()
            .contains(&json!({ "field": "n", "value": "2" }))
    );

    let stop = json!({ "queryId": id });
    refused(
        &world,
        "StopQuery",
        stop,
        INVALID,
        "already ended with status: Complete",
    )
    .await;
    let nobody = json!({ "queryId": "00000000-0000-0000-0000-000000000000" });
    refused(
        &world,
        "StopQuery",
        nobody.clone(),
        NOT_FOUND,
        "does not exist",
    )
    .await;
    refused(
        &world,
        "GetQueryResults",
        nobody,
        NOT_FOUND,
        "does not exist",
    )
    .await;
    let described = ok(
        &world,
        "DescribeQueries",
        json!({ "logGroupName": "a", "maxResults": 2 }),
    )
    .await;
    assert_eq!(described["queries"][0]["status"], "Complete");
    assert_eq!(described["queries"][0]["queryId"], id);
    let next = json!({ "logGroupName": "a", "nextToken": described["nextToken"] });
    let next = ok(&world, "DescribeQueries", next).await;
    assert_eq!(next["queries"][0]["queryString"], query);
    let failed = ok(&world, "DescribeQueries", json!({ "status": "Failed" })).await;
    assert_eq!(failed["queries"], json!([]));

    for (text, more, code, want) in [
        (
            "fields @message | frob",
            both.clone(),
            "MalformedQueryException",
            "line 1, column 19",
        ),
        (
            "fields @message",
            json!({ "logGroupName": "no" }),
            NOT_FOUND,
            NO_GROUP,
        ),
        ("fields @message", json!({}), INVALID, "exactly one"),
        (
            "fields @message",
            json!({ "logGroupNames": [] }),
            INVALID,
            "1 to 50",
        ),
        (
            "fields @message",
            json!({ "logGroupName": "a", "queryLanguage": "SQL" }),
            INVALID,
            "CWLI",
        ),
        (
            "fields @message",
            json!({ "logGroupName": "a", "startTime": seconds + 1 }),
            INVALID,
            "endTime",
        ),
    ] {
        match start(text, more).await.unwrap_err() {
            ClientError::Api {
                code: got, message, ..
            } => {
                assert_eq!(got, code, "{message}");
                assert!(message.contains(want), "{message}");
            }
            other => panic!("{other}"),
        }
    }
    let extreme = json!({ "logGroupName": "a", "startTime": 0, "endTime": i64::MAX });
    let id = start("fields @message", extreme).await.unwrap()["queryId"].take();
    assert_eq!(results(&id).await["results"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_services_own_lines_are_told_and_followed() {
    let world = World::new().await;
    let created = world.create("shop", "ok", 8080).await;
    let arn = created.service.unwrap().service_arn.unwrap();
    assert_eq!(world.settled(&arn).await, "RUNNING");
    let get = async |more: Value| -> Result<Value, ClientError> {
        let mut input = json!({ "ServiceArn": arn, "Log": "service" });
        input
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        world.call("Ekiden.GetLogs", &input).await
    };
    let texts = |answer: &Value| {
        let lines = answer["Lines"].as_array().unwrap();
        lines
            .iter()
            .map(|line| line["Text"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let all = eventually(async || {
        let answer = get(json!({})).await.unwrap();
        let done = texts(&answer)
            .iter()
            .any(|text| text.contains("Service status is set to RUNNING."));
        done.then_some(answer)
    })
    .await;
    assert!(
        texts(&all)
            .iter()
            .all(|text| text.starts_with("[AppRunner] ")),
        "{all}"
    );
    assert!(
        all["Lines"]
            .as_array()
            .unwrap()
            .iter()
            .any(|line| line["Stream"] == "events")
    );
    let newest = get(json!({ "MaxLines": 1 })).await.unwrap();
    assert_eq!(texts(&newest), texts(&all)[texts(&all).len() - 1..]);
    let some = get(json!({ "FilterPattern": "RUNNING" })).await.unwrap();
    assert_eq!(texts(&some).len(), 1);
    let since = get(json!({ "Since": 0 })).await.unwrap();
    assert_eq!(texts(&since), texts(&all));
    assert_eq!(since["More"], false);
    assert!(texts(&get(json!({ "Since": u64::MAX })).await.unwrap()).is_empty());
    assert!(texts(&get(json!({ "Until": 0 })).await.unwrap()).is_empty());

    // Nothing but what comes.
    let still = get(json!({ "After": all["Next"] })).await.unwrap();
    assert!(texts(&still).is_empty());
    world.simple("PauseService", &arn).await.unwrap();
    assert_eq!(world.settled(&arn).await, "PAUSED");
    let later = eventually(async || {
        let answer = get(json!({ "After": still["Next"] })).await.unwrap();
        texts(&answer)
            .iter()
            .any(|text| text.contains("PAUSED"))
            .then_some(answer)
    })
    .await;
    assert!(!texts(&later).iter().any(|text| text.contains("creation")));

    for (more, want) in [
        (json!({ "After": "x" }), "After"),
        (json!({ "Log": "x" }), "application, service or access"),
        (json!({ "InstanceId": "abc" }), "application"),
        (
            json!({ "Log": "application", "InstanceId": "instance/*" }),
            "hexadecimal",
        ),
        (json!({ "FilterPattern": "{ $.a = }" }), "filter pattern"),
    ] {
        let error = get(more).await.unwrap_err();
        assert_eq!(error.code(), Some("InvalidRequestException"));
        assert!(error.to_string().contains(want), "{error}");
    }
    let none = get(json!({ "Log": "access" })).await.unwrap();
    assert_eq!((texts(&none).len(), &none["Next"]), (0, &json!("s0")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_ends_by_itself_is_told_of_once() {
    let mut world = World::new().await;
    let created = world.create("shop", "ok", 8080).await;
    let arn = created.service.unwrap().service_arn.unwrap();
    assert_eq!(world.settled(&arn).await, "RUNNING");
    let crash = |world: &World| {
        let seen = world.engine.observe().borrow().clone();
        let of = seen
            .instances
            .iter()
            .find(|one| matches!(one.state, InstanceState::Running { .. }));
        let id = of.unwrap().id;
        world.engine.crash(id, 3);
        format!(
            "[AppRunner] Instance {id} exited with code 3. See the application's last log lines."
        )
    };
    let told = async |world: &World| -> Vec<String> {
        let input = json!({ "ServiceArn": arn, "Log": "service", "FilterPattern": "Instance" });
        let answer: Value = world.call("Ekiden.GetLogs", &input).await.unwrap();
        let lines = answer["Lines"].as_array().unwrap();
        lines
            .iter()
            .map(|line| line["Text"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = crash(&world);
    eventually(async || told(&world).await.contains(&first).then_some(())).await;
    world.restart().await;
    world.until(|world| world.running() == 1).await;
    let second = crash(&world);
    eventually(async || told(&world).await.contains(&second).then_some(())).await;
    assert_eq!(told(&world).await, [first, second]);
}
