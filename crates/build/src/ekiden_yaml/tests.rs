use super::*;

const WHOLE: &str = "\
service:
  name: website
  port: 9000
  cpu: 1 vCPU
  memory: 2 GB
  health_path: /health
  min: 1
  max: 25
  concurrency: 80
  auto_deploy: true
  env: {STAGE: production, VERSION: 3.10}
  secrets: {PASSWORD: /web/password}
build:
  with: dockerfile
  dockerfile: docker/web.Dockerfile
  target: final
  args: {DEBUG: no}
  secrets:
    NPM_TOKEN: arn:aws:secretsmanager:us-east-1:000000000000:secret:npm-a1b2c3
run:
  command: ./serve --all
";

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[track_caller]
fn refused(text: &str, want: &[&str]) {
    let error = parse(text).unwrap_err().to_string();
    assert_eq!(error.lines().collect::<Vec<_>>(), want);
}

#[track_caller]
fn warned(text: &str, want: &[&str]) {
    assert_eq!(parse(text).unwrap().build.warnings, want);
}

#[test]
fn a_whole_file_is_understood() {
    let EkidenYaml { service, build } = parse(WHOLE).unwrap();
    assert_eq!(service.name.as_deref(), Some("website"));
    assert_eq!((service.port, build.port), (Some(9000), Some(9000)));
    assert_eq!(service.cpu.as_deref(), Some("1 vCPU"));
    assert_eq!(service.health_path.as_deref(), Some("/health"));
    let numbers = (
        service.min,
        service.max,
        service.concurrency,
        service.auto_deploy,
    );
    assert_eq!(numbers, (Some(1), Some(25), Some(80), Some(true)));
    assert_eq!(
        service.env,
        map(&[("STAGE", "production"), ("VERSION", "3.10")])
    );
    assert_eq!(service.secrets, map(&[("PASSWORD", "/web/password")]));
    let method = Method::Dockerfile {
        path: "docker/web.Dockerfile".into(),
        target: Some("final".into()),
        args: map(&[("DEBUG", "no")]),
    };
    assert_eq!(build.method, method);
    assert_eq!(build.start_command.as_deref(), Some("./serve --all"));
    assert!(build.secrets.contains_key("NPM_TOKEN") && build.warnings.is_empty());
}

#[test]
fn what_is_written_says_the_same() {
    let whole = parse(WHOLE).unwrap();
    assert_eq!(parse(&write(&whole)).unwrap(), whole);
    let mut odd = EkidenYaml::default();
    odd.service.env = map(&[
        ("A", "null"),
        ("B", ""),
        ("C", "a: #\"\\\n\u{1f600}"),
        ("D", "- x"),
    ]);
    odd.build.method = Method::Detect;
    odd.build.build_command = Some("make && echo 'done'".into());
    odd.build.env = map(&[("CI", "true")]);
    assert_eq!(parse(&write(&odd)).unwrap(), odd);
    assert_eq!(write(&EkidenYaml::default()), "");
    let mut small = EkidenYaml::default();
    (small.service.name, small.service.port) = (Some("my-web".into()), Some(80));
    assert_eq!(write(&small), "service:\n  name: my-web\n  port: 80\n");
}

#[test]
fn all_of_it_may_be_left_out() {
    for text in [
        "",
        "# nothing\n",
        "service:\nbuild:\nrun:\n",
        "build:\n  env:\n",
    ] {
        assert_eq!(parse(text).unwrap(), EkidenYaml::default(), "{text}");
    }
}

#[test]
fn whoever_says_how_to_use_a_dockerfile_wants_one() {
    let method = |text: &str| parse(text).unwrap().build.method;
    let dockerfile = |target: Option<&str>| Method::Dockerfile {
        path: "Dockerfile".into(),
        target: target.map(str::to_owned),
        args: BTreeMap::new(),
    };
    assert_eq!(method("build: {with: dockerfile}"), dockerfile(None));
    assert_eq!(method("build: {target: web}"), dockerfile(Some("web")));
    assert_eq!(method("build: {with: auto}"), Method::Auto);
    assert_eq!(
        method("build: {with: apprunner.yaml}"),
        Method::AppRunnerYaml
    );
    refused(
        "build:\n  with: detect\n  args: {A: 1}\n",
        &[
            "ekiden.yaml, line 3, column 3: `build.args` is for a Dockerfile, and `build.with` is \
           `detect`; leave one of the two out",
        ],
    );
}

#[test]
fn mistakes_are_told_all_at_once_with_their_places() {
    refused(
        "service:\n  name: x\n  port: 80a\n  min: 3\n  max: 2\n  auto_deploy: yes\n  env:\n    \
         PORT: 1\n    A:\n  secrets: [a]\nbuild:\n  with: nix\n  command: [make]\nrun: go\n",
        &[
            "ekiden.yaml, line 2, column 9: `x` cannot name a service: 4 to 40 letters, digits, `-` \
             and `_`, starting with a letter or digit; choose another name",
            "ekiden.yaml, line 3, column 9: `service.port` is `80a`; write a number from 1 to 65535",
            "ekiden.yaml, line 4, column 8: `service.min` is 3, and `service.max` is 2; make `min` \
             the smaller one",
            "ekiden.yaml, line 6, column 16: `service.auto_deploy` is `yes`; write `true` or `false`",
            "ekiden.yaml, line 8, column 5: `PORT` is set by Ekiden; set `service.port` instead",
            "ekiden.yaml, line 9, column 5: `A` in `service.env` has no value; write one; `\"\"` is \
             the empty one",
            "ekiden.yaml, line 10, column 12: `service.secrets` is a list, not a map; write `NAME: \
             value` in lines below it",
            "ekiden.yaml, line 12, column 9: `build.with` is `nix`; it is `auto`, `apprunner.yaml`, \
             `dockerfile` or `detect`",
            "ekiden.yaml, line 13, column 12: `build.command` is a list, not a text; write a single \
             value",
            "ekiden.yaml, line 14, column 6: `run` is a text, not a map; write keys such as \
             `command:`",
        ],
    );
    refused(
        "- a\n",
        &[
            "ekiden.yaml, line 1, column 1: the file is a list, not a map; write keys such as \
           `service:`",
        ],
    );
    let long = "#".repeat(FILE_BYTES_MAX + 1);
    assert!(
        parse(&long)
            .unwrap_err()
            .to_string()
            .contains("more than 131072")
    );
    let both = "service: {env: {A: 1}, secrets: {A: /a}}";
    assert!(
        parse(both)
            .unwrap_err()
            .to_string()
            .contains("keep one of the two")
    );
}

#[test]
fn what_is_said_in_vain_is_a_warning() {
    warned(
        "servce: {}\nservice:\n  prot: 80\n",
        &[
            "ekiden.yaml, line 1, column 1: `servce` is not known and ignored; did you mean \
             `service`?",
            "ekiden.yaml, line 3, column 3: `prot` in `service` is not known and ignored; did you \
             mean `port`?",
        ],
    );
    warned(
        "build:\n  with: dockerfile\n  env: {A: b}\n  command: make\n",
        &[
            "ekiden.yaml, line 3, column 3: `build.env` is ignored: a Dockerfile does not see it: \
             use `build.args`",
            "ekiden.yaml, line 4, column 3: `build.command` is ignored: the Dockerfile builds",
        ],
    );
}
