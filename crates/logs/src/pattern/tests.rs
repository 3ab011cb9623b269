//! Patterns of the documentation, hostile ones, and what is said about those that are none.

use proptest::prelude::*;

use super::*;

#[track_caller]
fn check(pattern: &str, yes: &[&str], no: &[&str]) {
    let parsed = Pattern::parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    for message in yes {
        assert!(parsed.matches(message), "{pattern} should match {message}");
    }
    for message in no {
        assert!(
            !parsed.matches(message),
            "{pattern} should not match {message}"
        );
    }
}

#[track_caller]
fn refused(pattern: &str, column: usize, what: &str) {
    let error = Pattern::parse(pattern).expect_err(pattern);
    assert_eq!(
        (error.column, error.what.as_str()),
        (column, what),
        "{pattern}"
    );
    assert!(!error.hint.is_empty());
}

#[track_caller]
fn literal(pattern: &str, want: Option<&str>) {
    let parsed = Pattern::parse(pattern).unwrap();
    let got = parsed.required_literal().map(String::from_utf8_lossy);
    assert_eq!(got.as_deref(), want, "{pattern}");
}

const E400: &str = "[ERROR 400] BAD REQUEST";
const E401: &str = "[ERROR 401] UNAUTHORIZED REQUEST";
const E419: &str = "[ERROR 419] MISSING ARGUMENTS";
const E420: &str = "[ERROR 420] INVALID ARGUMENTS";

#[test]
fn terms_are_parts_of_a_message_in_the_same_case() {
    check("", &["", "x"], &[]);
    check("  ", &["", "x"], &[]);
    check("\" \"", &["", "x"], &[]);
    check("ERROR", &[E400, E401, E419, E420], &["error", ""]);
    check("ERROR ARGUMENTS", &[E419, E420], &[E400, E401]);
    check("?ERROR ?ARGUMENTS", &[E400, E420, "ARGUMENTS"], &["INFO"]);
    check(
        "\"INTERNAL SERVER ERROR\"",
        &["[ERROR 500] INTERNAL SERVER ERROR"],
        &["INTERNAL ERROR"],
    );
    check("ERROR -ARGUMENTS", &[E400, E401], &[E419, E420, "INFO"]);
    check("-ERROR", &["INFO", ""], &[E400]);
    check("-\"BAD REQUEST\" ERROR", &[E401], &[E400]);
    check(r#""say \"hi\"""#, &[r#"I say "hi""#], &["say hi"]);
    check("100%", &["at 100% now"], &["100"]);
}

#[test]
fn optional_terms_beside_others_are_ignored() {
    check(
        "?ERROR ?ARGUMENTS REQUEST",
        &[
            "[INFO] REQUEST FAILED",
            "[WARN] UNAUTHORIZED REQUEST",
            "[ERROR] 400 BAD REQUEST",
        ],
        &["ERROR ARGUMENTS"],
    );
    check("?ERROR -REQUEST", &["INFO"], &["ERROR REQUEST"]);
}

#[test]
fn regular_expressions_are_those_of_the_documentation() {
    check(
        "%AUTHORIZED%",
        &[
            "[ERROR 401] UNAUTHORIZED REQUEST",
            "[SUCCESS 200] AUTHORIZED REQUEST",
        ],
        &["x"],
    );
    check("%^[hc]at%", &["hat", "cat"], &["a hat", "bat"]);
    check("%[hc]at$%", &["a hat"], &["hats"]);
    check("%colou?r%", &["color", "colour"], &["colouur"]);
    check("%[abcx-z]%", &["x", "y", "a"], &["w", "-"]);
    check("%^a{3,5}$%", &["aaa", "aaaaa"], &["aa", "aaaaaa"]);
    check("%^a{3, 5}$%", &["aaa"], &["aa"]);
    check("%^a{,2}$%", &["", "aa"], &["aaa"]);
    check("%^a{2,}$%", &["aa", "aaaa"], &["a"]);
    check("%gra|ey%", &["gray", "grey"], &["gr"]);
    check(
        "%^starting|^initializing|^shutting down%",
        &["starting ...", "initializing ...", "shutting down"],
        &["skipping initializing ..."],
    );
    check("%abcc|ab[^c]%", &["abcc", "aba"], &["aac"]);
    check(
        r"%\[.\]%",
        &["[a]", "[@]", "[]]", "[ ]", "[é]"],
        &["[]", "a"],
    );
    check(r"%10\.10\.0\.1%", &["10.10.0.1"], &["10010,051"]);
    check("%10.10.0.1%", &["10010,051"], &[]);
    check("%ab*c%", &["ac", "abc", "abbbc"], &["ab"]);
    check("%^ab[0-9]*$%", &["ab", "ab0", "ab129"], &["abc"]);
    check("%ab+c%", &["abc", "abbbc"], &["ac"]);
    check("%.at%", &[" at", "4at", "#at"], &["at"]);
    check(
        r"%^\d\D\s\S\w\W$%",
        &["1a b_-", "1a\tba "],
        &["aa b_-", "11 b_-"],
    );
    check(r"%\x3A\x28%", &["a:(b"], &["a:b"]);
    check(r"%^[\d\-x]+$%", &["1-x"], &["y"]);
    check(r"%^[]a[]+$%", &["]a["], &["b"]);
    check(r"%^[+--]+$%", &["+,-"], &["."]);
    check(r"%^[^\s\d]+$%", &["ab"], &["a b", "a1"]);
    check(r"%100\%%", &["100%"], &["100"]);
}

const EVENT: &str = r#"{ "eventType": "UpdateTrail", "sourceIPAddress": "111.111.111.111",
    "arrayKey": ["value", "another value"],
    "objectList": [{"name": "a", "id": 1}, {"name": "b", "id": 2}],
    "SomeObject": null, "cluster.name": "c", "yes": true, "no": false,
    "bandwidth": 76, "small": 1e-3, "big": 1000, "text": "404", "huge": 9007199254740993,
    "path": "/a/b", "negative": -2.5, "obj": {}, "":"empty" }"#;
const USERS: &str = r#"{ "user": {"id": 1, "email": "John.Stiles@example.com"},
    "users": [{"id": 2, "email": "John.Doe@example.com"}, {"id": 3, "email": "Jane.Doe@example.com"}],
    "actions": ["GET", "PUT", "DELETE"], "coordinates": [[0, 1, 2], [4, 5, 6], [7, 8, 9]] }"#;

#[test]
fn json_patterns_are_those_of_the_documentation() {
    for pattern in [
        r#"{ $.eventType = "UpdateTrail" }"#,
        "{$.eventType=UpdateTrail}",
        "{ $.sourceIPAddress != 123.123.* }",
        r#"{ $.arrayKey[0] = "value" }"#,
        "{ $.objectList[1].id = 2 }",
        "{ $.eventType = %Trail% }",
        "{ $.arrayKey[*] = %val.{2}% }",
        r"{ $.* = %111\.111\.111\.1[0-9]{1,2}% }",
        "{ $.['cluster.name'] = \"c\" }",
        "{ $.[\"cluster.name\"] = c }",
        "{ $.[\"\"] = empty }",
        "{ $.SomeObject IS NULL }",
        "{ $.SomeOtherObject NOT EXISTS }",
        "{ $.yes IS TRUE && $.no IS FALSE }",
        "{ $.yes is true }",
        "{ $.bandwidth > 75 && $.bandwidth >= 76 && $.bandwidth < 76.5 && $.bandwidth <= 76 }",
        "{ $.bandwidth = 76.0 }",
        "{ $.bandwidth = 7* }",
        "{ $.small = 1e-3 && $.big = 1e+3 && $.big = 1e3 && $.big != 1e-3 }",
        "{ $.negative = -2.5 && $.negative < 0 }",
        "{ $.text = 404 && $.text = \"404\" && $.text > 400 }",
        "{ $.huge = 9007199254740993 && $.huge != 9007199254740992 }",
        r#"{ $.eventType = "*" && $.sourceIPAddress != 123.123.* }"#,
        r#"{ $.eventType = "*Trail" && $.eventType = "Up*" && $.eventType != "up*" }"#,
        r#"{ $.path = "/a/b" }"#,
    ] {
        check(
            pattern,
            &[EVENT],
            &["no JSON", "{}x", "", "null", "[", "17"],
        );
    }
    for pattern in [
        r#"{ $.eventType = "updateTrail" }"#,
        "{ $.arrayKey = 1 }",
        "{ $.arrayKey != 1 }",
        "{ $.obj != 1 }",
        "{ $.absent != 1 }",
        "{ $.SomeObject != 1 }",
        "{ $.absent IS NULL }",
        "{ $.SomeObject NOT EXISTS }",
        "{ $.yes IS FALSE }",
        "{ $.eventType > 1 }",
        "{ $.arrayKey[2] = * }",
        "{ $.eventType.x = * }",
        "{ $.objectList[*].id = 3 }",
    ] {
        check(pattern, &[], &[EVENT]);
    }
}

#[test]
fn and_binds_closer_than_or() {
    for (pattern, want) in [
        (
            r#"{ ($.user.id = 1) && ($.users[0].email = "John.Doe@example.com") }"#,
            true,
        ),
        (
            r#"{ $.user.email = "John.Stiles@example.com" || $.coordinates[0][1] = "nonmatch" && $.actions[2] = "nonmatch" }"#,
            true,
        ),
        (
            r#"{ ($.user.email = "John.Stiles@example.com" || $.coordinates[0][1] = "nonmatch") && $.actions[2] = "nonmatch" }"#,
            false,
        ),
        (
            r#"{ ($.user.id = 2 && $.users[0].email = "nonmatch") || $.actions[2] = "GET" }"#,
            false,
        ),
        (
            "{ $.coordinates[0][1] = 1 && ($.coordinates[2][0] = 8 || $.coordinates[2][0] = 7) }",
            true,
        ),
    ] {
        let (yes, no): (&[&str], &[&str]) = if want {
            (&[USERS], &[])
        } else {
            (&[], &[USERS])
        };
        check(pattern, yes, no);
    }
}

const APACHE: &str =
    r#"127.0.0.1 Prod frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534"#;
const LINES: [&str; 4] = [
    "INFO 09/25/2014 12:00:00 GET /service/resource/67 1200",
    "INFO 09/25/2014 12:00:01 POST /service/resource/67/part/111 1310",
    "WARNING 09/25/2014 12:00:02 Invalid user request",
    "ERROR 09/25/2014 12:00:02 Failed to process request",
];

#[test]
fn space_delimited_patterns_are_those_of_the_documentation() {
    for pattern in [
        r"[ip=%127\.0\.0\.[1-9]%, user, username, timestamp, request =*.html*, status_code = 4*, bytes]",
        "[ip, user, username, timestamp, request =*.html*, status_code = 4*, bytes]",
        "[..., request =*.html*, status_code = 4*, bytes]",
        "[ip, user, username, timestamp, request =*.html*, status_code = 404 || status_code = 410, bytes]",
        "[ip, server, username, timestamp, request, status_code, bytes > 1000]",
        "[ip, ..., bytes = 1534]",
        "[...]",
        "[ip, ...]",
        r#"[..., request = "GET /index.html HTTP/1.0", s, b]"#,
        r#"[ip, user, name, t = "10/Oct/2000:13:25:15 -0700", ...]"#,
        "[ip, user, name, ..., (s = 404 || s = 410) && s != 410, b]",
        "[ip, rest = *1534]",
        "[a, b, c, d, e, f, g, ...]",
    ] {
        check(pattern, &[APACHE], &[]);
    }
    for pattern in [
        "[..., status_code = 5*, bytes]",
        "[a, b, c, d, e, f, g, h]",
        "[a, b, c, d, ..., e, f, g, h]",
        "[..., bytes > 1534]",
        "[..., status < 404, bytes]",
        "[..., request > 1, s, b]",
    ] {
        check(pattern, &[], &[APACHE]);
    }
    let [get, post, warning, error] = LINES;
    check("[w1=ERROR, w2]", &[error], &[get, post, warning, "ERROR"]);
    check(
        "[w1=ERROR || w1=WARNING, w2]",
        &[error, warning],
        &[get, post],
    );
    check(
        "[w1=ERROR || W1=WARNING, w2]",
        &[error, warning],
        &[get, post],
    );
    check(
        "[w1!=ERROR && w1!=WARNING, w2]",
        &[get, post],
        &[error, warning],
    );
    check(
        "[logLevel, date, time, method, url=%/service/resource/[0-9]+$%, response_time]",
        &[get],
        &[post],
    );
    check(
        "[logLevel, date, time, method, url=%/service/resource/[0-9]+/part/[0-9]+$%, response_time]",
        &[post],
        &[get],
    );
    check("[a, b=x, ...]", &["1 x"], &["\"1 x\"", "[1 x]"]);
    check("[a, b]", &["\"not closed", "[not closed"], &["\"closed\""]);
}

#[test]
fn refusals_say_what_is_wrong_and_where() {
    refused("\"open", 1, "a quote is not closed");
    refused("a \"b\"c", 6, "a phrase does not end with its quote");
    refused("a || b", 3, "`||` is no operator between terms");
    refused("a - b", 4, "`?` and `-` stand before no term");
    refused("a %b%", 3, "a regular expression stands beside terms");
    refused("%a% b", 5, "there is something after the pattern");
    refused("%a", 1, "a regular expression is not closed");
    refused("%%", 1, "a regular expression is empty");
    refused(
        "%something!%",
        11,
        "`!` is not supported in a regular expression",
    );
    refused("%(a)%", 2, "`(` is not supported in a regular expression");
    refused("%é%", 2, "`é` is not supported in a regular expression");
    refused(
        r"%(?=a)%",
        2,
        "`(` is not supported in a regular expression",
    );
    refused(
        r"%a\1%",
        3,
        "`\\1` is not supported in a regular expression",
    );
    refused("%[a%", 2, "`[` is not closed");
    refused("%a{%", 3, "`{` begins no count of repetitions");
    refused("%a+*%", 4, "a repetition is repeated");
    refused("{}", 2, "there is no selector");
    refused("{ $.a = 1", 10, "a condition does not end here");
    refused("{ $ = 1 }", 3, "`$` selects the whole document");
    refused("{ $.a == 1 }", 7, "`==` is no operator");
    refused("{ $.a EXISTS }", 7, "`EXISTS` is not supported");
    refused(
        "{ $.a IS NOT NULL }",
        10,
        "`IS` compares with something else",
    );
    refused("{ $.a > x }", 9, "`<` and `>` compare with no number");
    refused("{ $.a = }", 9, "there is no value");
    refused(
        "{ $.*.a[*] = 1 }",
        8,
        "there are too many wildcards in selectors",
    );
    refused(
        "{ $.* = 1 || $.* = 2 || $.* = 3 || $.* = 4 }",
        37,
        "there are too many wildcards in selectors",
    );
    refused(
        "{ $.a = %a% || $.b = %b% || $.c = %c% }",
        35,
        "there are too many regular expressions",
    );
    refused("{ ($.a = 1 }", 12, "a parenthesis is not closed");
    refused("{ $.a[-1] = 1 }", 7, "there is no element in the brackets");
    refused("[]", 2, "a field has no name");
    refused("[a, ..., b, ...]", 13, "there are two ellipses");
    refused(
        "[a = 1 || b = 2]",
        11,
        "conditions of one field have different names",
    );
    refused("[a b]", 4, "there is no operator");
    refused(&"é".repeat(1025), 1025, "the pattern is too long");
    assert_eq!(
        Pattern::parse("{ $.a == 1 }").unwrap_err().to_string(),
        "`==` is no operator at character 7 of the filter pattern: write `=`"
    );
}

#[test]
fn hostile_patterns_are_refused_or_harmless() {
    refused(
        &format!("{{{}", "(".repeat(1023)),
        34,
        "there are too many parentheses",
    );
    check("((((", &["((((("], &["((("]);
    let big = Pattern::parse("%[a-z]{1000}{1000}%").unwrap_err();
    assert_eq!(big.what, "a repetition is repeated");
    let big = Pattern::parse("%a{100000}%").unwrap_err();
    assert!(big.what.starts_with("a regular expression"), "{big}");
    let slow = Pattern::parse("%a*a*a*a*a*a*a*a*a*a*b$%").unwrap();
    assert!(!slow.matches("a".repeat(100_000)));
    let stars = Pattern::parse(&format!("[a = {}b]", "a*".repeat(400))).unwrap();
    assert!(!stars.matches("a".repeat(100_000)));
    let many = Pattern::parse("a ".repeat(129).trim()).unwrap_err();
    assert_eq!(many.what, "there are too many terms");
}

#[test]
fn hostile_messages_do_not_match_and_do_no_harm() {
    let json = Pattern::parse("{ $.a = 1 || $.b NOT EXISTS }").unwrap();
    for message in [
        "[".repeat(100_000),
        "{\"a\":".repeat(100_000),
        format!("[{}]", "1,".repeat(600_000)),
    ] {
        assert!(!json.matches(&message));
    }
    assert!(!json.matches(b"{\"a\": 1, \"c\": \"\xff\"}"));
    assert!(!Pattern::parse("{ $.a = * }").unwrap().matches(b"\xff\xfe"));
    assert!(Pattern::parse("caf").unwrap().matches(b"\xff caf\xe9"));
    assert!(Pattern::parse("%caf%").unwrap().matches(b"\xff caf\xe9"));
    assert!(
        Pattern::parse("[a, b = caf*]")
            .unwrap()
            .matches(b"\xff caf\xe9")
    );
    let words = Pattern::parse("[..., b = x]").unwrap();
    assert!(words.matches("a ".repeat(100_000) + "x"));
}

#[test]
fn what_must_be_in_a_message_is_known() {
    literal("", None);
    literal("a bcd ef", Some("bcd"));
    literal("?abc ?bcd", None);
    literal("?abc", Some("abc"));
    literal("-abc", None);
    literal("-abc d", Some("d"));
    literal("?abcdef d", Some("d"));
    literal("%AUTHORIZED%", Some("AUTHORIZED"));
    literal("%abc|d%", None);
    literal("%abcd?e%", Some("abc"));
    literal("%ab+cdef{0}%", Some("cde"));
    literal(r"%10\.0\.\d%", Some("10.0."));
    literal("{ $.eventType = \"UpdateTrail\" }", Some("UpdateTrail"));
    literal("{ $.a = \"/api/users/1\" }", Some("users"));
    literal("{ $.a = \"12345\" }", Some("a"));
    literal("{ $.status = 404 }", Some("status"));
    literal("{ $.status = 404 || $.status = 410 }", Some("status"));
    literal("{ $.a = x || $.b = y }", None);
    literal("{ $.a NOT EXISTS }", None);
    literal("{ $.a = error && $.b NOT EXISTS }", Some("error"));
    literal("{ $.* = %Trail% }", Some("Trail"));
    literal("{ $.a != \"x\" }", Some("a"));
    literal("[w1=ERROR, w2]", Some("ERROR"));
    literal("[w1!=ERROR, w2]", None);
    literal("[w1=ERROR || w1=WARNING, w2]", None);
    literal("[..., request = *.html*, status = 404, b]", Some(".html"));
}

proptest! {
    #[test]
    fn any_text_is_a_pattern_or_is_refused(text in "\\PC{0,60}", message in "\\PC{0,60}") {
        if let Ok(pattern) = Pattern::parse(&text) {
            let _ = pattern.matches(&message);
        }
    }

    #[test]
    fn what_looks_like_a_pattern_is_one_or_is_refused(
        text in "[\\[{%]?([$.a=!<>&|(){}\\[\\]%\"*,?1e \\\\-]|IS|NULL|NOT|EXISTS|\\$\\.a|\\.\\.\\.){0,30}[\\]}%]?",
        message in "[\\[{]?([ab\":{},\\[\\]1 ]){0,30}",
    ) {
        if let Ok(pattern) = Pattern::parse(&text) {
            let is_match = pattern.matches(&message);
            prop_assert!(!pattern.matches_everything() || is_match);
            if let Some(literal) = pattern.required_literal() {
                prop_assert!(!literal.is_empty());
            }
        }
    }

    #[test]
    fn literals_are_in_whatever_matches(
        text in "%([ab]|a\\+|b\\?|\\[ab\\]|c\\{0,1\\}|\\.|\\|){1,8}%",
        message in "[abc]{0,12}",
    ) {
        if let Ok(pattern) = Pattern::parse(&text) {
            let Kind::Regexp(regexp) = &pattern.kind else { unreachable!() };
            prop_assert_eq!(pattern.matches(&message), regexp.matches(message.as_bytes()));
        }
    }
}
