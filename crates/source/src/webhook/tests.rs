use super::*;

const SECRET: &[u8] = b"It's a Secret to Everybody";
const NOW: u64 = 1_800_000_000;
const OLD: &str = "1111111111111111111111111111111111111111";
const NEW: &str = "2222222222222222222222222222222222222222";
const ZERO: &str = "0000000000000000000000000000000000000000";

fn hmac(message: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
    mac.update(message);
    Digest::from_sha256(mac.finalize().into_bytes().into()).hex()
}

fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
    let pairs = list.iter();
    pairs
        .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
        .collect()
}

fn read(list: &[(&'static str, &str)], body: &str) -> Result<Delivery, WebhookError> {
    verify_and_parse(&headers(list), body.as_bytes(), SECRET, NOW)
}

fn github(event: &str, body: &str) -> Delivery {
    let signature = format!("sha256={}", hmac(body.as_bytes()));
    let list = [
        ("x-github-event", event),
        ("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        ("x-hub-signature-256", &*signature),
        ("content-type", "application/json"),
    ];
    read(&list, body).unwrap()
}

fn gitea(body: &str) -> Delivery {
    let signature = hmac(body.as_bytes());
    let hub = format!("sha256={signature}");
    let list = [
        ("x-gitea-event", "push"),
        ("x-gitea-delivery", "f6266f16"),
        ("x-gitea-signature", &*signature),
        ("x-github-event", "push"),
        ("x-hub-signature-256", &*hub),
    ];
    read(&list, body).unwrap()
}

fn gitlab(event: &str, body: &str) -> Delivery {
    let list = [
        ("x-gitlab-event", event),
        ("x-gitlab-token", std::str::from_utf8(SECRET).unwrap()),
        ("x-gitlab-webhook-uuid", "02affd2d"),
        ("idempotency-key", "f5e5f430"),
    ];
    read(&list, body).unwrap()
}

fn bitbucket(event: &str, id: &'static str, body: &str) -> Delivery {
    let signature = format!("sha256={}", hmac(body.as_bytes()));
    let list = [
        ("x-event-key", event),
        (id, "abc"),
        ("x-hub-signature", &*signature),
    ];
    read(&list, body).unwrap()
}

/// A payload, with `'` for `"`, and OLD, NEW and ZERO for commits.
fn json(text: &str) -> String {
    text.replace('\'', "\"")
        .replace("OLD", OLD)
        .replace("NEW", NEW)
        .replace("ZERO", ZERO)
}

#[test]
fn githubs_own_example_is_believed() {
    // From "Validating webhook deliveries".
    assert_eq!(
        hmac(b"Hello, World!"),
        "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    );
}

#[test]
fn github_says_what_a_push_changed() {
    let body = json(
        "{'ref':'refs/heads/main','before':'OLD','after':'NEW','created':false,'deleted':false,
        'forced':false,'base_ref':null,'repository':{'id':1,'full_name':'o/r',
        'html_url':'https://github.com/o/r','ssh_url':'git@github.com:o/r.git',
        'clone_url':'https://github.com/o/r.git','created_at':1},'pusher':{'name':'o'},
        'commits':[{'id':'a','added':['web/new'],'removed':[],'modified':['README']},
        {'id':'NEW','added':[],'removed':['web/old'],'modified':['README']}],
        'head_commit':{'id':'NEW'}}",
    );
    let delivery = github("push", &body);
    assert_eq!(delivery.provider, Provider::GitHub);
    assert_eq!(
        delivery.id.as_deref(),
        Some("72d3162e-cc78-11e3-81ab-4c9367dc0958")
    );
    let [push] = &delivery.pushes[..] else {
        panic!("{delivery:?}");
    };
    assert_eq!(
        (push.reference.as_str(), push.deleted),
        ("refs/heads/main", false)
    );
    assert_eq!(push.commit.as_deref(), Some(NEW));
    let changed = push.changed_paths.as_ref().unwrap();
    assert_eq!(changed, &["README", "web/new", "web/old"]);
    assert!(
        push.repository_urls
            .contains(&"git@github.com:o/r.git".to_owned())
    );
    for odd in ["'forced':true", "'created':true"] {
        let odd = json(odd);
        let plain = odd.replace("true", "false");
        let push = &github("push", &body.replace(&plain, &odd)).pushes[0];
        assert_eq!(push.changed_paths, None, "{odd}");
    }
    let commits = vec![r#"{"added":["a"]}"#; 2048].join(",");
    let long = json("{'ref':'refs/heads/a','before':'OLD','after':'NEW','commits':[LIST]}");
    assert_eq!(
        github("push", &long.replace("LIST", &commits)).pushes[0].changed_paths,
        None
    );
}

#[test]
fn other_events_are_no_pushes() {
    assert_eq!(github("ping", r#"{"zen":"Keep it simple."}"#).pushes, []);
    assert_eq!(
        github("push", &json("{'ref':'refs/notes/x','after':'NEW'}")).pushes,
        []
    );
    assert_eq!(gitlab("Merge Request Hook", "{}").pushes, []);
    assert_eq!(
        gitlab("System Hook", &json("{'event_name':'project_create'}")).pushes,
        []
    );
    let ping = bitbucket("diagnostics:ping", "x-request-id", r#"{"test":true}"#);
    assert_eq!(
        (ping.provider, ping.pushes),
        (Provider::BitbucketServer, vec![])
    );
}

#[test]
fn a_deleted_branch_has_no_commit() {
    let body = json("{'ref':'refs/heads/a','before':'OLD','after':'ZERO','deleted':true}");
    for push in [&github("push", &body).pushes, &gitea(&body).pushes] {
        assert_eq!((push[0].deleted, push[0].commit.as_deref()), (true, None));
    }
    let body = json(
        "{'object_kind':'push','ref':'refs/heads/a','before':'OLD','after':'ZERO','checkout_sha':null}",
    );
    assert!(gitlab("Push Hook", &body).pushes[0].deleted);
}

#[test]
fn gitea_is_not_taken_for_github() {
    let body = json(
        "{'ref':'refs/heads/main','before':'OLD','after':'NEW','total_commits':TOTAL,
        'commits':[{'id':'NEW','added':null,'removed':null,'modified':['a/b']}],
        'repository':{'clone_url':'http://git.example/o/r.git','ssh_url':'git@git.example:o/r.git'}}",
    );
    let delivery = gitea(&body.replace("TOTAL", "1"));
    assert_eq!(delivery.provider, Provider::Gitea);
    assert_eq!(
        delivery.pushes[0].changed_paths,
        Some(vec!["a/b".to_owned()])
    );
    // It lists a few only.
    assert_eq!(
        gitea(&body.replace("TOTAL", "2")).pushes[0].changed_paths,
        None
    );
}

#[test]
fn gitlab_lists_twenty_commits() {
    let body = json(
        "{'object_kind':'push','event_name':'push','ref':'refs/heads/main','before':'OLD',
        'after':'NEW','checkout_sha':'NEW','total_commits_count':TOTAL,
        'commits':[{'id':'NEW','added':['c'],'modified':[],'removed':[]}],
        'project':{'git_http_url':'https://gitlab.com/o/r.git','git_ssh_url':'git@gitlab.com:o/r.git',
        'web_url':'https://gitlab.com/o/r'}}",
    );
    let delivery = gitlab("Push Hook", &body.replace("TOTAL", "1"));
    assert_eq!(delivery.id.as_deref(), Some("f5e5f430"));
    assert_eq!(delivery.pushes[0].changed_paths, Some(vec!["c".to_owned()]));
    assert_eq!(delivery.pushes[0].repository_urls.len(), 3);
    let push = &gitlab("Push Hook", &body.replace("TOTAL", "21")).pushes[0];
    assert_eq!(push.changed_paths, None);
    let tag = json(
        "{'object_kind':'tag_push','ref':'refs/tags/v1','before':'ZERO','after':'OLD','checkout_sha':'NEW'}",
    );
    let push = &gitlab("Tag Push Hook", &tag).pushes[0];
    assert_eq!(
        (push.reference.as_str(), push.commit.as_deref()),
        ("refs/tags/v1", Some(NEW))
    );
}

#[test]
fn bitbucket_tells_of_several_branches() {
    let body = json(
        "{'push':{'changes':[{'old':null,'new':{'type':'branch','name':'main','target':{'hash':'NEW'}},
        'created':true},{'new':null,'old':{'type':'tag','name':'v1','target':{'hash':'OLD'}}}]},
        'repository':{'full_name':'o/r','links':{'html':{'href':'https://bitbucket.org/o/r'}}}}",
    );
    let delivery = bitbucket("repo:push", "x-request-uuid", &body);
    assert_eq!(delivery.provider, Provider::BitbucketCloud);
    let [main, tag] = &delivery.pushes[..] else {
        panic!("{delivery:?}");
    };
    assert_eq!(
        (main.reference.as_str(), main.commit.as_deref()),
        ("refs/heads/main", Some(NEW))
    );
    assert_eq!(
        (tag.reference.as_str(), tag.deleted),
        ("refs/tags/v1", true)
    );
    assert_eq!(main.repository_urls, ["https://bitbucket.org/o/r"]);
    let body = json(
        "{'eventKey':'repo:refs_changed','repository':{'slug':'r','links':{'clone':
        [{'href':'ssh://git@b.example:7999/o/r.git','name':'ssh'}]}},'changes':[{'ref':{'id':
        'refs/heads/main'},'refId':'refs/heads/main','fromHash':'OLD','toHash':'NEW','type':'UPDATE'}]}",
    );
    let delivery = bitbucket("repo:refs_changed", "x-request-id", &body);
    assert_eq!(delivery.provider, Provider::BitbucketServer);
    assert_eq!(delivery.pushes[0].commit.as_deref(), Some(NEW));
    assert_eq!(delivery.pushes[0].repository_urls.len(), 1);
}

#[test]
fn a_hook_of_ones_own_is_believed_for_five_minutes() {
    let body = json("{'ref':'refs/heads/main','after':'NEW','changed_paths':['a']}");
    let send = |time: &str| {
        let signature = format!("sha256={}", hmac(format!("{time}.{body}").as_bytes()));
        let list = [
            ("x-ekiden-signature-256", &*signature),
            ("x-ekiden-timestamp", time),
        ];
        read(&list, &body)
    };
    let delivery = send(&NOW.to_string()).unwrap();
    assert_eq!(delivery.provider, Provider::Plain);
    assert_eq!(delivery.id.unwrap().len(), 64);
    assert_eq!(delivery.pushes[0].changed_paths, Some(vec!["a".to_owned()]));
    assert!(send(&(NOW - 300).to_string()).is_ok());
    for time in [
        &*(NOW - 301).to_string(),
        &(NOW + 301).to_string(),
        "",
        "-1",
        "x",
    ] {
        assert_eq!(send(time), Err(WebhookError::Clock), "{time}");
    }
}

#[test]
fn nothing_is_believed_without_the_secret() {
    let body = json("{'ref':'refs/heads/main','after':'NEW'}");
    let good = hmac(body.as_bytes());
    let other = hmac(b"other");
    let (good_hub, other_hub) = (format!("sha256={good}"), format!("sha256={other}"));
    let sha1 = "sha1=7d38cdd689735b008b3c702edd92eea23791c5f6";
    let lists: &[&[(&'static str, &str)]] = &[
        &[],
        &[("x-github-event", "push")],
        &[("x-github-event", "ping")],
        &[
            ("x-github-event", "push"),
            ("x-hub-signature-256", &other_hub),
        ],
        &[("x-github-event", "push"), ("x-hub-signature-256", &good)],
        &[
            ("x-github-event", "push"),
            ("x-hub-signature-256", "sha256="),
        ],
        &[("x-github-event", "push"), ("x-hub-signature", sha1)],
        &[("x-gitea-event", "push"), ("x-gitea-signature", &other)],
        &[
            ("x-gitea-event", "push"),
            ("x-hub-signature-256", &good_hub),
        ],
        &[("x-gitlab-event", "Push Hook")],
        &[("x-gitlab-event", "Push Hook"), ("x-gitlab-token", "")],
        &[
            ("x-gitlab-event", "Push Hook"),
            ("x-gitlab-token", "It's a Secret to Everybod"),
        ],
        &[
            ("x-event-key", "repo:push"),
            ("x-hub-signature", &other_hub),
        ],
        &[("x-event-key", "repo:push"), ("x-hub-signature", sha1)],
        // Signed without the time.
        &[
            ("x-ekiden-signature-256", &good_hub),
            ("x-ekiden-timestamp", "1800000000"),
        ],
    ];
    for list in lists {
        let error = read(list, &body).unwrap_err();
        let known = matches!(error, WebhookError::Unsigned | WebhookError::Signature);
        assert!(known, "{list:?}: {error}");
    }
    let list = headers(&[("x-gitlab-event", "Push Hook"), ("x-gitlab-token", "")]);
    let error = verify_and_parse(&list, b"{}", b"", NOW).unwrap_err();
    assert_eq!(error, WebhookError::NoSecret);
}

#[test]
fn a_form_is_explained() {
    let body = "payload=%7B%7D";
    let signature = format!("sha256={}", hmac(body.as_bytes()));
    let list = [
        ("x-github-event", "push"),
        ("x-hub-signature-256", &*signature),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    assert_eq!(read(&list, body), Err(WebhookError::Form));
}

#[test]
fn a_directory_is_touched_by_what_is_below_it() {
    let changed = ["web/src/a".to_owned(), "api".to_owned()];
    for directory in [
        "",
        "/",
        ".",
        "web",
        "/web/",
        "./web/src",
        "web/src/a",
        "api",
    ] {
        assert!(touches(&changed, directory), "{directory}");
    }
    for directory in ["we", "web/s", "src", "webs", "api/x"] {
        assert!(!touches(&changed, directory), "{directory}");
    }
    assert!(!touches(&[], ""));
}
