use proptest::prelude::*;
use serde_json::json;

use super::*;

#[track_caller]
fn check(pattern: Value, event: Value, matches: bool) {
    let parsed = EventPattern::parse(&pattern.to_string()).unwrap();
    assert_eq!(parsed.matches(&event), matches, "{pattern} {event}");
}

fn why(pattern: &str) -> String {
    EventPattern::parse(pattern).unwrap_err().to_string()
}

fn event() -> Value {
    json!({
        "version": "0", "id": "6a7e8feb", "detail-type": "AppRunner Service Status Change",
        "source": "aws.apprunner", "account": "123456789012", "region": "eu-west-1",
        "time": "2026-01-02T03:04:05Z",
        "resources": ["arn:aws:apprunner:eu-west-1:123456789012:service/web/1", "other"],
        "detail": {
            "previousServiceStatus": "OPERATION_IN_PROGRESS", "currentServiceStatus": "RUNNING",
            "count": 5, "ratio": 0.5, "ready": true, "reason": null, "address": "10.0.0.7",
            "path": "dir/file.PNG", "instances": [{"id": "a", "code": 1}, {"id": "b", "code": 2}],
        }
    })
}

#[test]
fn every_way_to_compare_does() {
    for (name, matcher, matches) in [
        ("currentServiceStatus", json!("RUNNING"), true),
        ("currentServiceStatus", json!("PAUSED"), false),
        ("count", json!(5), true),
        ("count", json!(5.0), false),
        ("count", json!("5"), false),
        ("ready", json!(true), true),
        ("ready", json!(false), false),
        ("reason", json!(null), true),
        ("ready", json!(null), false),
        ("path", json!({"prefix": "dir/"}), true),
        ("path", json!({"prefix": "file"}), false),
        (
            "path",
            json!({"prefix": {"equals-ignore-case": "DIR"}}),
            true,
        ),
        ("path", json!({"suffix": ".PNG"}), true),
        ("path", json!({"suffix": ".png"}), false),
        (
            "path",
            json!({"suffix": {"equals-ignore-case": ".png"}}),
            true,
        ),
        ("path", json!({"equals-ignore-case": "DIR/FILE.png"}), true),
        ("path", json!({"equals-ignore-case": "DIR/FILE"}), false),
        ("path", json!({"wildcard": "dir/*.PNG"}), true),
        ("path", json!({"wildcard": "*i*e*"}), true),
        ("path", json!({"wildcard": "dir/*.JPG"}), false),
        ("path", json!({"wildcard": "dir/\\*.PNG"}), false),
        ("path", json!({"anything-but": "dir"}), true),
        (
            "path",
            json!({"anything-but": ["x", "dir/file.PNG"]}),
            false,
        ),
        ("path", json!({"anything-but": {"prefix": "dir"}}), false),
        (
            "path",
            json!({"anything-but": {"prefix": ["x", "y"]}}),
            true,
        ),
        ("path", json!({"anything-but": {"suffix": ".PNG"}}), false),
        (
            "path",
            json!({"anything-but": {"wildcard": "*.PNG"}}),
            false,
        ),
        (
            "path",
            json!({"anything-but": {"equals-ignore-case": ["DIR/file.png"]}}),
            false,
        ),
        ("count", json!({"anything-but": [4, 6]}), true),
        ("count", json!({"anything-but": [5]}), false),
        ("missing", json!({"anything-but": "x"}), false),
        ("count", json!({"numeric": ["=", 5]}), true),
        ("count", json!({"numeric": [">", 0, "<=", 5]}), true),
        ("count", json!({"numeric": [">", 5]}), false),
        ("count", json!({"numeric": ["<", 5]}), false),
        ("count", json!({"numeric": [">=", 5, "<", 6]}), true),
        ("ratio", json!({"numeric": ["=", 5e-1]}), true),
        ("path", json!({"numeric": ["=", 5]}), false),
        ("address", json!({"cidr": "10.0.0.0/24"}), true),
        ("address", json!({"cidr": "10.0.1.0/24"}), false),
        ("address", json!({"cidr": "2001:db8::/32"}), false),
        ("path", json!({"cidr": "0.0.0.0/0"}), false),
        ("reason", json!({"exists": true}), true),
        ("missing", json!({"exists": true}), false),
        ("missing", json!({"exists": false}), true),
        ("ready", json!({"exists": false}), false),
        // Only values exist: what holds others does not.
        ("instances", json!({"exists": true}), false),
    ] {
        check(json!({"detail": {name: [matcher]}}), event(), matches);
    }
}

#[test]
fn all_fields_must_match_and_of_an_array_one() {
    check(
        json!({"source": ["aws.apprunner"], "region": ["x", "eu-west-1"]}),
        event(),
        true,
    );
    check(
        json!({"source": ["aws.apprunner"], "region": ["x"]}),
        event(),
        false,
    );
    check(
        json!({"resources": [{"prefix": "arn:aws:apprunner:"}]}),
        event(),
        true,
    );
    check(json!({"resources": ["other"]}), event(), true);
    check(json!({"resources": ["neither"]}), event(), false);
    check(
        json!({"detail": {"missing": {"more": ["x"]}}}),
        event(),
        false,
    );
    check(
        json!({"detail": {"missing": {"more": [{"exists": false}]}}}),
        event(),
        true,
    );
    check(
        json!({"detail": {"missing": [{"exists": false}, "x"]}}),
        event(),
        true,
    );
}

#[test]
fn what_is_said_of_objects_in_an_array_is_true_of_one_of_them() {
    let of = |id: &str, code: u32| json!({"detail": {"instances": {"id": [id], "code": [code]}}});
    check(of("a", 1), event(), true);
    check(of("b", 2), event(), true);
    check(of("a", 2), event(), false);
    let absent = |name: &str| json!({"detail": {"instances": {name: [{"exists": false}]}}});
    check(absent("code"), event(), false);
    check(absent("name"), event(), true);
    let some = json!({"detail": {"instances": [{"name": "x"}, {"id": "b"}]}});
    check(absent("name"), some, false);
    check(absent("name"), json!({"detail": {"instances": []}}), true);
}

#[test]
fn one_branch_of_or_is_enough_beside_the_other_fields() {
    let pattern = json!({"source": ["aws.apprunner"], "detail": {"$or": [
        {"count": [{"numeric": [">", 100]}]},
        {"currentServiceStatus": ["RUNNING"], "ready": [true]},
    ]}});
    check(pattern.clone(), event(), true);
    let mut other = event();
    other["detail"]["ready"] = false.into();
    check(pattern.clone(), other.clone(), false);
    other["detail"]["count"] = 101.into();
    check(pattern.clone(), other.clone(), true);
    other["source"] = "mine".into();
    check(pattern, other, false);
    // A field of that name.
    check(json!({"$or": ["a"]}), json!({"$or": "a"}), true);
    check(
        json!({"$or": [{"prefix": "a"}, {"prefix": "b"}]}),
        json!({"$or": "bc"}),
        true,
    );
}

#[test]
fn a_wrong_pattern_is_told_what_is_wrong_where() {
    for (pattern, reason) in [
        ("", "not JSON"),
        ("{\"a\"", "not JSON"),
        ("[]", "must be a JSON object"),
        ("{}", "empty objects"),
        (r#"{"a": {}}"#, "at `a`: empty objects"),
        (r#"{"a": {"b": []}}"#, "at `a.b`: empty arrays"),
        (r#"{"a": "b"}"#, "at `a`: it must be an object, or an array"),
        (r#"{"a": 5}"#, "an array of what the value may be"),
        (r#"{"a": [["b"]]}"#, "cannot hold arrays"),
        (r#"{"a": [{}]}"#, "must have one member"),
        (
            r#"{"a": [{"prefix": "a", "suffix": "b"}]}"#,
            "must have one member",
        ),
        (
            r#"{"a": [{"regex": "a"}]}"#,
            "`regex` is not a way to compare",
        ),
        (r#"{"a": [{"prefix": 5}]}"#, "`prefix` must be a string"),
        (
            r#"{"a": [{"prefix": {"suffix": "a"}}]}"#,
            "takes a string or `equals-ignore-case`",
        ),
        (r#"{"a": [{"exists": "yes"}]}"#, "`true` or `false`"),
        (
            r#"{"a": [{"cidr": "10.0.0.0"}]}"#,
            "an address and a length",
        ),
        (
            r#"{"a": [{"cidr": "10.0.0.0/33"}]}"#,
            "an address and a length",
        ),
        (r#"{"a": [{"wildcard": "a**b"}]}"#, "side by side"),
        (r#"{"a": [{"wildcard": "a\\b"}]}"#, "stands before"),
        (r#"{"a": [{"anything-but": []}]}"#, "at least one value"),
        (
            r#"{"a": [{"anything-but": {"prefix": []}}]}"#,
            "at least one value",
        ),
        (
            r#"{"a": [{"anything-but": [null]}]}"#,
            "strings and numbers",
        ),
        (
            r#"{"a": [{"anything-but": {"numeric": ["=", 5]}}]}"#,
            "`numeric` cannot stand here",
        ),
        (
            r#"{"a": [{"anything-but": {"exists": "x"}}]}"#,
            "cannot stand here",
        ),
        (
            r#"{"a": [{"numeric": 5}]}"#,
            "must be an array of a comparison",
        ),
        (
            r#"{"a": [{"numeric": []}]}"#,
            "must be an array of a comparison",
        ),
        (
            r#"{"a": [{"numeric": ["="]}]}"#,
            "must be an array of a comparison",
        ),
        (
            r#"{"a": [{"numeric": ["!=", 5]}]}"#,
            "must be an array of a comparison",
        ),
        (
            r#"{"a": [{"numeric": ["<", 5, ">", 0]}]}"#,
            "a lower and an upper bound",
        ),
        (r#"{"a": [{"numeric": [">", 5, "<", 5]}]}"#, "must be below"),
        (
            r#"{"a": [{"numeric": ["=", 5000000001]}]}"#,
            "must be within",
        ),
        (r#"{"$or": [{"a": ["b"]}]}"#, "two objects or more"),
        (
            r#"{"a": {"$or": [{"b": ["c"]}, {}]}}"#,
            "at `a`: empty objects",
        ),
    ] {
        let why = why(pattern);
        assert!(why.contains(reason), "{pattern}: {why}");
    }
}

#[test]
fn patterns_have_bounds() {
    assert!(why(&format!("{{\"a\": [\"{}\"]}}", "b".repeat(4096))).contains("more than 4096"));
    let deep = format!("{}[1]{}", "{\"a\":".repeat(60), "}".repeat(60));
    assert!(why(&deep).contains("deeper than 50"));
    let deeper = format!("{}[1]{}", "{\"a\":".repeat(500), "}".repeat(500));
    assert!(why(&deeper).contains("not JSON: recursion"));
    let wildcard = format!("{{\"a\": [{{\"wildcard\": \"{}\"}}]}}", "b".repeat(513));
    assert!(why(&wildcard).contains("more than 512 bytes"));
}

#[test]
fn a_hopeless_wildcard_is_given_up_soon() {
    let pattern = json!({"a": [{"wildcard": format!("{}b", "*a".repeat(250))}]});
    check(pattern, json!({"a": "a".repeat(100_000)}), false);
    let pattern = json!({"a": [{"wildcard": format!("*{}b", "a".repeat(500))}]});
    check(pattern, json!({"a": "a".repeat(100_000)}), false);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-c*\\\\]{0,4}".prop_map(Value::from),
        prop::sample::select(vec!["=", "<", ">=", "10.0.0.0/8", "10.1.2.3"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 4, |inner| {
        let mut names = vec!["a", "b", "$or"];
        names.extend(OPERATORS);
        let name = prop::sample::select(names).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(pattern in any_json(), event in any_json()) {
        if let Ok(pattern) = EventPattern::parse(&pattern.to_string()) {
            let _ = pattern.matches(&event);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}") {
        let _ = EventPattern::parse(&text);
    }

    #[test]
    fn a_pattern_made_of_an_event_matches_it(value in "[a-z]{0,8}", number in any::<i32>()) {
        let pattern = json!({"a": [value], "b": {"c": [number]}});
        let event = json!({"a": [value, "x"], "b": [{"c": number}, 5], "d": 1});
        check(pattern, event, true);
    }
}
