//! Queries of the documentation, hostile ones, and what is said about those that are none.

use proptest::prelude::*;

use super::*;

const START_MS: i64 = 1_795_832_791_000; // 2026-11-28 02:26:31

/// Runs a query over messages that are a minute apart, the first one first.
fn run(query: &str, messages: &[&str]) -> Results {
    let query = Query::parse(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    let mut evaluator = query.evaluator();
    for (index, message) in messages.iter().enumerate() {
        let timestamp_ms = START_MS + index as i64 * 60_000;
        evaluator.take(&EventView {
            timestamp_ms,
            ingestion_ms: timestamp_ms + 7,
            log_group: "000000000000:/aws/apprunner/web/1/application",
            stream: if index % 2 == 0 {
                "instance/a"
            } else {
                "instance/b"
            },
            message: message.as_bytes(),
            ptr: &index.to_string(),
        });
    }
    evaluator.finish()
}

/// Rows without `@ptr`, as `a=1 b=2`.
fn rows(results: &Results) -> Vec<String> {
    let shown = |row: &Vec<(String, String)>| {
        let fields = row.iter().filter(|(name, _)| name != "@ptr");
        fields
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    results.rows.iter().map(shown).collect()
}

#[track_caller]
fn check(query: &str, messages: &[&str], want: &[&str]) {
    assert_eq!(rows(&run(query, messages)), want, "{query}");
}

#[track_caller]
fn refused(query: &str, line: usize, column: usize, what: &str) {
    let error = Query::parse(query).expect_err(query);
    assert_eq!(
        (error.line, error.column, error.what.as_str()),
        (line, column, what),
        "{query}"
    );
    assert!(!error.hint.is_empty());
}

#[track_caller]
fn literal(query: &str, want: Option<&str>) {
    let query = Query::parse(query).unwrap();
    assert_eq!(
        query
            .required_literal()
            .map(String::from_utf8_lossy)
            .as_deref(),
        want
    );
}

const JSON: [&str; 4] = [
    r#"{"level":"INFO","range":2500,"accountId":"123456789012","user":{"name":"ann"},"ok":true}"#,
    r#"{"level":"ERROR","range":3500,"accountId":123456789012,"user":{"name":"bob"},"tags":["x","y"],"ok":false}"#,
    r#"{"level":"ERROR","range":9000.5,"a.b":{"c":"dotted"},"@version":"1","foo-bar":2}"#,
    "plain text ERROR",
];

#[test]
fn events_are_shown_as_cloudwatch_shows_them() {
    let results = run(
        "fields @timestamp, @message, @logStream, @log, @ingestionTime | limit 1",
        &["old", "new"],
    );
    let row: Vec<_> = results.rows[0]
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        row,
        [
            ("@timestamp", "2026-11-28 02:27:31.000"),
            ("@message", "new"),
            ("@logStream", "instance/b"),
            ("@log", "000000000000:/aws/apprunner/web/1/application"),
            ("@ingestionTime", "2026-11-28 02:27:31.007"),
            ("@ptr", "1"),
        ]
    );
    assert_eq!(
        (
            results.records_matched,
            results.records_scanned,
            results.bytes_scanned
        ),
        (2, 2, 6)
    );
    check(
        "filter @message like \"x\"",
        &["ax"],
        &["@timestamp=2026-11-28 02:26:31.000 @message=ax"],
    );
    check(
        "fields @message | display @logStream",
        &["ax"],
        &["@logStream=instance/a"],
    );
    check(
        "fields @message\n# a comment | with # signs\n| limit 1 # the end",
        &["a"],
        &["@message=a"],
    );
}

#[test]
fn fields_of_json_are_discovered() {
    check(
        "fields level, user.name as name, tags.0, tags.1, range, ok, user, `foo-bar`, a.b.c, @@version | sort @timestamp",
        &JSON,
        &[
            "level=INFO name=ann range=2500 ok=1",
            "level=ERROR name=bob tags.0=x tags.1=y range=3500 ok=0",
            "level=ERROR range=9000.5 foo-bar=2 a.b.c=dotted @@version=1",
            "",
        ],
    );
}

#[test]
fn filters_are_those_of_the_documentation() {
    let show = "fields range | sort @timestamp asc | filter ";
    for (filter, want) in [
        ("(range>3000)", &["range=3500", "range=9000.5"][..]),
        ("(range>3000 and accountId=123456789012)", &["range=3500"]),
        ("accountId=123456789012", &["range=2500", "range=3500"]),
        ("accountId='123456789012'", &["range=2500", "range=3500"]),
        ("range = 2500.0 or range <= 2500", &["range=2500"]),
        ("range >= 3500 and not range < 9000", &["range=9000.5"]),
        ("level = \"ERROR\" and range != 3500", &["range=9000.5"]),
        ("level != \"ERROR\"", &["range=2500", ""]),
        ("level in [\"INFO\", \"WARN\"]", &["range=2500"]),
        ("range in [2500, 9000.5]", &["range=2500", "range=9000.5"]),
        ("level not in ['ERROR']", &["range=2500", ""]),
        (
            "@message like \"ERROR\" and ispresent(range)",
            &["range=3500", "range=9000.5"],
        ),
        ("@message like /(?i)error$/", &[""]),
        ("@message =~ /plain/", &[""]),
        ("@message not like /ERR.R/", &["range=2500"]),
        ("not ispresent(level)", &[""]),
        ("not (ispresent(level) or range = 1)", &[""]),
        ("ok = true", &["range=2500"]),
        ("ok = 1", &["range=2500"]),
        ("ok = 'false'", &["range=3500"]),
        ("user.name > 'anz'", &["range=3500"]),
        (
            "level = level",
            &["range=2500", "range=3500", "range=9000.5"],
        ),
        (
            "@timestamp > 1795832850999",
            &["range=3500", "range=9000.5", ""],
        ),
        ("@timestamp >= '2026-11-28 02:29'", &[""]),
        ("@logStream = \"instance/b\"", &["range=3500", ""]),
    ] {
        check(&format!("{show}{filter}"), &JSON, want);
    }
}

#[test]
fn parse_takes_fields_out_of_texts() {
    let line = "25 May 2019 10:24:39,474 [ERROR] {foo=2, bar=another value}";
    let made = "loggingTime=25 May 2019 10:24:39,474 loggingType=ERROR loggingMessage={foo=2, bar=another value}";
    check(
        "fields @message | parse @message \"* [*] *\" as loggingTime, loggingType, loggingMessage \
         | filter loggingType = \"ERROR\" | display loggingTime, loggingType, loggingMessage",
        &[line, "none"],
        &[made],
    );
    let lines = [
        "user=ann, method:get, latency := 10",
        "user=bob, method:get, latency := 30",
    ];
    check(
        "parse @message \"user=*, method:*, latency := *\" as @user, @method, @latency \
         | stats avg(@latency) by @method",
        &lines,
        &["@method=get avg(@latency)=20"],
    );
    check(
        r"parse @message /user=(?<user2>.*?), method:(?<method2>\w+)/ | fields user2 | sort user2 desc",
        &lines,
        &["user2=bob method2=get", "user2=ann method2=get"],
    );
    check(
        "fields a.b as x | parse x '<*>' as y | display y",
        &[r#"{"a":{"b":"1<é>2"}}"#],
        &["y=é"],
    );
    check(
        "parse '*:' as k | display k",
        &["a:b", "none"],
        &["", "k=a"],
    );
}

#[test]
fn stats_count_by_fields_and_time() {
    check("stats count(*)", &JSON, &["count(*)=4"]);
    check(
        "stats count(*) as n, count(range), sum(range), avg(range), min(range), max(range) by level | sort n desc, level",
        &JSON,
        &[
            "level=ERROR n=2 count(range)=2 sum(range)=12500.5 avg(range)=6250.25 min(range)=3500 max(range)=9000.5",
            "level=INFO n=1 count(range)=1 sum(range)=2500 avg(range)=2500 min(range)=2500 max(range)=2500",
            "n=1 count(range)=0",
        ],
    );
    check(
        "stats count(*) by bin(5m)",
        &["a"; 6],
        &[
            "bin(5m)=2026-11-28 02:30:00.000 count(*)=2",
            "bin(5m)=2026-11-28 02:25:00.000 count(*)=4",
        ],
    );
    check(
        "stats count(*) by bin(5m) | sort bin(5m) | filter `count(*)` > 2",
        &["a"; 6],
        &["bin(5m)=2026-11-28 02:25:00.000 count(*)=4"],
    );
    check(
        "stats count_distinct(@logStream) as streams, pct(range, 50) | display streams, `pct(range,50)` as p",
        &JSON,
        &["streams=2 p=3500"],
    );
    check(
        "stats count() as n by @logStream as s | sort n, s desc | limit 1",
        &JSON,
        &["s=instance/b n=2"],
    );
    check(
        "filter level = 'none' | stats count(*) by level",
        &JSON,
        &[],
    );
    let numbers: Vec<String> = (1..=100).map(|n| format!("{{\"n\":{n}}}")).collect();
    let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
    check(
        "stats pct(n, 95) as p, pct(n, 0) as least, pct(n, 100) as most",
        &numbers,
        &["p=95 least=1 most=100"],
    );
}

#[test]
fn rows_are_sorted_made_distinct_and_limited_in_this_order() {
    let texts = [
        r#"{"a":"x10","b":1}"#,
        r#"{"a":"x9","b":2}"#,
        r#"{"a":7,"b":3}"#,
        r#"{"b":4}"#,
        r#"{"a":"x9","b":5}"#,
    ];
    check(
        "fields b | sort a",
        &texts,
        &["b=5", "b=2", "b=1", "b=3", "b=4"],
    );
    check(
        "fields b | sort a desc, b",
        &texts,
        &["b=3", "b=1", "b=2", "b=5", "b=4"],
    );
    check("fields b | dedup a", &texts, &["b=5", "b=4", "b=3", "b=1"]);
    check(
        "fields b | sort b | dedup a | limit 3",
        &texts,
        &["b=1", "b=2", "b=3"],
    );
    check(
        "fields b | limit 3 | sort b",
        &texts,
        &["b=3", "b=4", "b=5"],
    );
    check(
        "fields b | sort b | sort a | limit 2",
        &texts,
        &["b=2", "b=5"],
    );
    check("fields b | limit 4 | limit 1", &texts, &["b=5"]);
}

#[test]
fn a_search_from_the_newest_may_end_when_nothing_older_counts() {
    let query = Query::parse("filter @message like 'x' | limit 2").unwrap();
    let mut evaluator = query.evaluator();
    for (timestamp_ms, wants) in [(30, None), (20, Some(20)), (25, Some(25)), (10, Some(25))] {
        let (log_group, stream, ptr) = ("g", "s", "p");
        evaluator.take(&EventView {
            timestamp_ms,
            ingestion_ms: 0,
            log_group,
            stream,
            message: b"x",
            ptr,
        });
        assert_eq!(evaluator.wants_from_ms(), wants);
    }
    for query in ["sort @timestamp | limit 1", "stats count(*)"] {
        let mut evaluator = Query::parse(query).unwrap().evaluator();
        let (timestamp_ms, log_group, stream, ptr) = (1, "g", "s", "p");
        evaluator.take(&EventView {
            timestamp_ms,
            ingestion_ms: 0,
            log_group,
            stream,
            message: b"x",
            ptr,
        });
        assert_eq!(evaluator.wants_from_ms(), None);
    }
}

#[test]
fn what_is_kept_is_bounded() {
    let query = Query::parse("fields @message").unwrap();
    let mut evaluator = query.evaluator();
    let message = vec![b'x'; 1 << 20];
    fn event(timestamp_ms: i64, message: &[u8]) -> EventView<'_> {
        let (log_group, stream, ptr) = ("g", "s", "p");
        EventView {
            timestamp_ms,
            ingestion_ms: 0,
            log_group,
            stream,
            message,
            ptr,
        }
    }
    (0..200).for_each(|at| evaluator.take(&event(at, &message)));
    let results = evaluator.finish();
    assert!(
        results.truncated && (60..=64).contains(&results.rows.len()),
        "{}",
        results.rows.len()
    );
    assert_eq!(results.records_matched, 200);

    let query =
        Query::parse("stats count(*) as n, count_distinct(@message) by @message | sort n").unwrap();
    let mut evaluator = query.evaluator();
    for at in 0..GROUPS_MAX + 10 {
        let message = at.to_string();
        evaluator.take(&EventView {
            message: message.as_bytes(),
            ..event(at as i64, b"")
        });
    }
    let results = evaluator.finish();
    assert!(results.truncated);
    assert_eq!(results.rows.len(), GROUPS_MAX);
}

#[test]
fn refusals_name_the_command_or_function_and_its_place() {
    refused("", 1, 1, "there is no command");
    refused("fields @message |", 1, 18, "there is no command");
    refused(
        "fields @message\n| pattern @message",
        2,
        3,
        "`pattern` is no command that is supported",
    );
    refused(
        "SOURCE logGroups()",
        1,
        1,
        "`SOURCE` is no command that is supported",
    );
    refused(
        "fields strlen(@message)",
        1,
        8,
        "`strlen` is no function that is supported here",
    );
    refused("fields a / 1000", 1, 10, "`fields` does not end here");
    refused("fields @duration", 1, 8, "there is no field `@duration`");
    refused("fields a,", 1, 10, "there is no field");
    refused("fields `a", 1, 8, "a backtick is not closed");
    refused("filter a", 1, 9, "there is no operator after a field");
    refused("filter a == 1", 1, 11, "`==` is no operator");
    refused("filter a = 5x", 1, 12, "`5x` is no number");
    refused("filter a = \"x", 1, 12, "a quote is not closed");
    refused(
        "filter isIpInSubnet(a, \"x\")",
        1,
        8,
        "`isIpInSubnet` is no function that is supported here",
    );
    refused("filter (a = 1", 1, 14, "a parenthesis is not closed");
    refused("filter a in []", 1, 14, "there is no value in a list");
    refused(
        "filter a like b",
        1,
        15,
        "`like` is followed by nothing to look for",
    );
    refused(
        "filter a like /x",
        1,
        15,
        "a regular expression is not closed",
    );
    refused(
        "parse @message \"* *\" as a",
        1,
        16,
        "there are 2 `*` and 1 names",
    );
    refused(
        "parse @message /(.*)/",
        1,
        16,
        "a regular expression of `parse` names no group",
    );
    refused("parse @message", 1, 15, "`parse` has no pattern");
    refused(
        "stats stddev(a)",
        1,
        7,
        "`stddev` is no function of `stats` that is supported",
    );
    refused(
        "stats count(*) by bin(5 parsecs)",
        1,
        23,
        "the span of `bin` cannot be read",
    );
    refused(
        "stats count(*) by bin(0s)",
        1,
        23,
        "the span of `bin` cannot be read",
    );
    refused("stats pct(a, 101)", 1, 14, "a percentage is none");
    refused("stats sum(a + b)", 1, 13, "`sum` does not end here");
    refused(
        "stats count(*), count(*)",
        1,
        17,
        "`stats` has two columns `count(*)`",
    );
    refused(
        "stats count(*) | stats count(*)",
        1,
        18,
        "`stats` after `stats` is not supported",
    );
    refused(
        "stats count(*) | sort @timestamp",
        1,
        23,
        "there is no `@timestamp` after `stats`",
    );
    refused(
        "stats count(*) | sort sum(a)",
        1,
        23,
        "there is no `sum(a)` after `stats`",
    );
    refused(
        "limit 5 | stats count(*)",
        1,
        11,
        "`stats` after `limit` is not supported",
    );
    refused(
        "dedup a | sort a",
        1,
        11,
        "`sort` after `dedup` is not supported",
    );
    refused(
        "limit 5 | filter a = 1",
        1,
        11,
        "`filter` after `limit` is not supported",
    );
    refused("limit 0", 1, 7, "`limit` has no number of rows");
    refused("limit 10001", 1, 7, "`limit` has no number of rows");
    assert_eq!(
        Query::parse("limit x").unwrap_err().to_string(),
        "`limit` has no number of rows at line 1, column 7 of the query: write one from 1 to 10000"
    );
}

#[test]
fn hostile_queries_are_refused_or_harmless() {
    refused(
        &format!("filter {}", "(".repeat(5000)),
        1,
        40,
        "there are too many parentheses",
    );
    refused(
        &format!("filter {}", "not ".repeat(2000)),
        1,
        136,
        "there are too many parentheses",
    );
    refused(&"x".repeat(10_001), 1, 1, "the query is too long");
    refused(
        &"limit 1|".repeat(65),
        1,
        513,
        "there are too many commands",
    );
    let big = Query::parse("filter @message like /(a{1000}){1000}/").unwrap_err();
    assert!(big.what.contains("too large"), "{big}");
    assert!(Query::parse("filter @message like /(?=a)/").is_err());
    let many = format!("filter a in [{}1]", "1,".repeat(2000));
    assert_eq!(
        Query::parse(&many).unwrap_err().what,
        "there are too many conditions"
    );
    let slow = run(
        "filter @message like /(a*)*(a*)*b$/",
        &["a".repeat(50_000).as_str()],
    );
    assert_eq!(slow.records_matched, 0);
    let deep = "{\"a\":".repeat(100_000);
    assert_eq!(
        run("filter ispresent(a.a) or a = 1", &[&deep, "[[["]).records_matched,
        0
    );
    let mut evaluator = Query::parse("fields @message | filter @message like 'caf'")
        .unwrap()
        .evaluator();
    let (log_group, stream, ptr) = ("g", "s", "p");
    let message = b"\xff caf\xe9";
    evaluator.take(&EventView {
        timestamp_ms: i64::MIN,
        ingestion_ms: i64::MAX,
        log_group,
        stream,
        message,
        ptr,
    });
    assert_eq!(evaluator.finish().rows[0][0].1, "\u{fffd} caf\u{fffd}");
}

#[test]
fn what_must_be_in_a_message_is_known() {
    literal("fields @message", None);
    literal("filter @message like 'ERROR'", Some("ERROR"));
    literal("filter @message like /timed out/", Some("timed out"));
    literal("filter @message like /time.out/", None);
    literal("filter @message like '\u{fffd}'", None);
    literal("filter @message not like 'ERROR'", None);
    literal("filter level = 'ERROR' and status > 400", Some("ERROR"));
    literal("filter status = 404", Some("status"));
    literal("filter status = '404'", Some("status"));
    literal("filter tags.0 = 'x'", Some("x"));
    literal("filter a = 'x' or b = 'y'", None);
    literal("filter level in ['a', 'b']", Some("level"));
    literal("filter level != 'a'", None);
    literal("filter @logStream = 'a'", None);
    literal(
        "filter ispresent(user.name) | filter level = 'ERR' | stats count(*) as n | filter n > 1",
        Some("ERR"),
    );
}

proptest! {
    #[test]
    fn any_text_is_a_query_or_is_refused(text in "\\PC{0,60}") {
        let _ = Query::parse(&text);
    }

    #[test]
    fn what_looks_like_a_query_is_one_or_is_refused(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "fields", "filter", "parse", "stats", "sort", "limit", "display", "dedup", "|", "@message",
                "@timestamp", "a", "a.b", "1", "'x'", "'* *'", "/(?<n>x)/", "as", "by", "bin(5m)", "count(*)",
                "pct(a, 9)", "and", "or", "not", "like", "in", "[1]", "(", ")", "=", "!=", "<", ",", "desc", "#", "\n",
            ]),
            0..20,
        ),
        message in "[\\[{]?([ab\":{},\\[\\]1 x]){0,30}",
    ) {
        if let Ok(query) = Query::parse(&words.join(" ")) {
            let mut evaluator = query.evaluator();
            let (log_group, stream, ptr) = ("g", "s", "p");
            for timestamp_ms in 0..3 {
                evaluator.take(&EventView {
                    timestamp_ms, ingestion_ms: 0, log_group, stream, message: message.as_bytes(), ptr,
                });
            }
            let results = evaluator.finish();
            prop_assert!(results.rows.len() as u64 <= results.records_matched);
        }
    }
}
