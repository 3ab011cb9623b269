use super::*;

const SMALLEST: &str = "version: 1.0\nruntime: python311\nbuild:\n  commands:\n    build:\n      - true\nrun:\n  command: python3 server.py\n";

/// The example of the specification, section 7.
const EXAMPLE: &str = r#"
version: 1.0
runtime: python311
build:
  commands:
    pre-build: [ "echo prep" ]
    build:
      - pip3 install -r requirements.txt -t /app/vendor
    post-build: [ "python3 -m pytest -q" ]
  env:
    - { name: APP_STAGE, value: "build" }
run:
  runtime-version: 3.11
  pre-run: [ "pip3 install -r requirements.txt" ]
  command: python3 server.py
  network: { port: 8000, env: MY_APP_PORT }
  env:
    - { name: APP_STAGE, value: "run" }
  secrets:
    - { name: DB_PASSWORD, value-from: "arn:aws:secretsmanager:us-east-1:123456789012:secret:db-AbCdEf:password::" }
    - { name: FLAG, value-from: "parameter-name" }
"#;

fn read(text: &str) -> Parsed {
    parse(text.as_bytes()).unwrap_or_else(|invalid| panic!("{invalid}"))
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn pairs(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    list.iter().map(owned).collect()
}

/// The exact text of all mistakes of a file, without the file's name.
#[track_caller]
fn refused(text: &str, want: &[&str]) {
    let invalid = match parse(text.as_bytes()) {
        Ok(parsed) => panic!("it was read: {parsed:?}"),
        Err(invalid) => invalid.to_string(),
    };
    let got: Vec<_> = invalid
        .lines()
        .map(|line| line.strip_prefix("apprunner.yaml, ").unwrap_or(line))
        .collect();
    assert_eq!(got, want);
}

/// The smallest file with one text in place of another.
fn with(old: &str, new: &str) -> String {
    assert!(SMALLEST.contains(old), "{old}");
    SMALLEST.replace(old, new)
}

#[track_caller]
fn noted(text: &str, want: &[&str]) {
    let notes: Vec<_> = read(text).notes.iter().map(Note::to_string).collect();
    let want: Vec<_> = want
        .iter()
        .map(|note| format!("apprunner.yaml, {note}"))
        .collect();
    assert_eq!(notes, want);
}

#[test]
fn everything_documented_is_read() {
    let parsed = read(EXAMPLE);
    let AppRunnerYaml {
        runtime,
        build,
        run,
    } = &parsed.file;
    assert_eq!(runtime, "python311");
    assert_eq!(build.pre_build, ["echo prep"]);
    assert_eq!(
        build.build,
        ["pip3 install -r requirements.txt -t /app/vendor"]
    );
    assert_eq!(build.post_build, ["python3 -m pytest -q"]);
    assert_eq!(build.env, pairs(&[("APP_STAGE", "build")]));
    assert_eq!(run.runtime_version, "3.11".parse().ok());
    assert_eq!(run.pre_run, ["pip3 install -r requirements.txt"]);
    assert_eq!(run.command, "python3 server.py");
    assert_eq!(
        (run.port, run.port_env.as_deref()),
        (8000, Some("MY_APP_PORT"))
    );
    assert_eq!(run.env, pairs(&[("APP_STAGE", "run")]));
    assert_eq!(run.secrets["FLAG"], "parameter-name");
    assert_eq!(
        parsed.runtime_at,
        Position {
            line: 3,
            column: 10
        }
    );
    assert_eq!(
        parsed.version_at,
        Some(Position {
            line: 13,
            column: 20
        })
    );
    assert_eq!(parsed.notes, []);
}

#[test]
fn what_is_left_out_has_its_default() {
    let parsed = read(SMALLEST);
    assert_eq!(parsed.file.build.build, ["true"]);
    assert_eq!(parsed.file.run.port, 8080);
    assert_eq!(parsed.file.run.runtime_version, None);
    let bom = format!("\u{feff}{}", SMALLEST.replace('\n', "\r\n"));
    assert_eq!(read(&bom).file, parsed.file);
    let quoted = with("1.0", "\"1.0\"");
    assert_eq!(read(&quoted).file, parsed.file);
}

#[test]
fn scalars_are_taken_as_they_are_written() {
    let text = format!(
        "{SMALLEST}  runtime-version: 3.10\n  env:\n  - name: A\n    value: 1.10\n  - name: B\n    value: no\n  - name: C\n    value: \"\"\n  - name: D\n    value: 0x1F\n  - name: E\n    value: |\n      x\n      y\n"
    );
    let run = read(&text).file.run;
    assert_eq!(run.runtime_version.unwrap().to_string(), "3.10");
    let want = [
        ("A", "1.10"),
        ("B", "no"),
        ("C", ""),
        ("D", "0x1F"),
        ("E", "x\ny\n"),
    ];
    assert_eq!(run.env, pairs(&want));
}

#[test]
fn what_is_missing_is_named() {
    refused(
        "",
        &["line 1, column 1: the file is empty; it needs `version`, `runtime`, `build` and `run`"],
    );
    refused(
        "# nothing\n",
        &["line 1, column 1: the file is empty; it needs `version`, `runtime`, `build` and `run`"],
    );
    refused(
        "{}",
        &[
            "line 1, column 1: `version` is missing; begin the file with `version: 1.0`",
            "line 1, column 1: `runtime` is missing; name one, such as `runtime: python311`",
            "line 1, column 1: `build` is missing; add it with the `commands` that build the application",
            "line 1, column 1: `run` is missing; add it with a `command` that starts the application",
        ],
    );
    refused(
        &with("version: 1.0\n", ""),
        &["line 1, column 1: `version` is missing; begin the file with `version: 1.0`"],
    );
    refused(
        &with("runtime: python311\n", ""),
        &["line 1, column 1: `runtime` is missing; name one, such as `runtime: python311`"],
    );
    refused(
        "version: 1.0\nruntime: go1\nrun:\n  command: ./a\n",
        &[
            "line 1, column 1: `build` is missing; add it with the `commands` that build the application",
        ],
    );
    refused(
        "version: 1.0\nruntime: go1\nbuild:\nrun:\n  command: ./a\n",
        &[
            "line 3, column 1: `build` is empty; add it with the `commands` that build the application",
        ],
    );
    refused(
        "version: 1.0\nruntime: go1\nbuild:\n  env: []\nrun:\n  command: ./a\n",
        &["line 4, column 3: `build.commands` is missing; add it with a list `build`"],
    );
    refused(
        "version: 1.0\nruntime: go1\nbuild:\n  commands:\n    pre-build: [a]\nrun:\n  command: ./a\n",
        &[
            "line 5, column 5: `build.commands.build` is missing; list at least one command; `- true` does nothing",
        ],
    );
    refused(
        "version: 1.0\nruntime: go1\nbuild:\n  commands: {build: []}\nrun:\n  command: ./a\n",
        &[
            "line 4, column 21: `build.commands.build` has no commands; list at least one command; `- true` does nothing",
        ],
    );
    refused(
        &with("run:\n  command: python3 server.py\n", ""),
        &[
            "line 1, column 1: `run` is missing; add it with a `command` that starts the application",
        ],
    );
    refused(
        &with("command: python3 server.py", "network: {port: 80}"),
        &[
            "line 8, column 3: `run.command` is missing; add the command that starts the application",
        ],
    );
    refused(
        &with("command: python3 server.py", "command:"),
        &["line 8, column 10: `run.command` is empty; add the command that starts the application"],
    );
}

#[test]
fn what_is_of_the_wrong_kind_is_named() {
    refused(
        "- a\n",
        &["line 1, column 1: the file is a list, not a map; write keys such as `version:`"],
    );
    refused(
        "a text",
        &["line 1, column 1: the file is a text, not a map; write keys such as `version:`"],
    );
    refused(
        &with("version: 1.0", "version: 2"),
        &["line 1, column 10: `version` is `2`; the only version there is is `1.0`"],
    );
    refused(
        &with("runtime: python311", "runtime: [python311]"),
        &[
            "line 2, column 10: `runtime` is a list, not a text; name one, such as `runtime: python311`",
        ],
    );
    refused(
        "version: 1.0\nruntime: go1\nbuild: [go build]\nrun: ./a\n",
        &[
            "line 3, column 8: `build` is a list, not a map; write keys such as `commands:`",
            "line 4, column 6: `run` is a text, not a map; write keys such as `runtime-version:`",
        ],
    );
    refused(
        "version: 1.0\nruntime: go1\nbuild:\n  commands:\n  - go build\nrun:\n  command: ./a\n",
        &[
            "line 5, column 5: `build.commands` is a list, not a map; write keys such as `pre-build:`",
        ],
    );
    refused(
        &with("      - true", "      first: true"),
        &[
            "line 6, column 7: `build.commands.build` is a map, not a list; write a list: each command on a line of its own after `- `",
        ],
    );
    refused(
        &with(
            "      - true",
            "      - echo a: b\n      - [x]\n      -\n      - \" \"",
        ),
        &[
            "line 6, column 9: a command of `build.commands.build` is a map; put it in quotes: a text with `: ` in it is read as a map",
            "line 7, column 9: a command of `build.commands.build` is a list; put it in quotes: a text that begins with `[` or `- ` is read as a list",
            "line 8, column 8: a command of `build.commands.build` is empty; remove it",
            "line 9, column 9: a command of `build.commands.build` is empty; remove it",
        ],
    );
}

#[test]
fn a_single_command_may_be_a_text() {
    let text = with("    build:\n      - true", "    build: make");
    assert_eq!(read(&text).file.build.build, ["make"]);
    noted(
        &text,
        &[
            "line 5, column 12: `build.commands.build` is a text: taken as a list of one; write a list: each command on a line of its own after `- `",
        ],
    );
}

#[test]
fn ports_are_numbers_of_ports() {
    for (port, want) in [
        (
            "0",
            "`run.network.port` is 0; choose a port from 1 to 65535",
        ),
        (
            "70000",
            "`run.network.port` is 70000; choose a port from 1 to 65535",
        ),
        (
            "http",
            "`run.network.port` is `http`, not a number; write the port the application listens on",
        ),
        (
            "-1",
            "`run.network.port` is `-1`, not a number; write the port the application listens on",
        ),
        (
            "+80",
            "`run.network.port` is `+80`, not a number; write the port the application listens on",
        ),
        (
            "[80]",
            "`run.network.port` is a list, not a text; write a single value",
        ),
        (
            "\"\"",
            "`run.network.port` is empty; give it or leave it out",
        ),
    ] {
        let text = format!("{SMALLEST}  network:\n    port: {port}\n");
        refused(&text, &[&format!("line 10, column 11: {want}")]);
    }
    assert_eq!(
        read(&format!("{SMALLEST}  network: {{port: '3000'}}\n"))
            .file
            .run
            .port,
        3000
    );
    noted(
        &format!("{SMALLEST}  network: {{env: PORT}}\n"),
        &["line 9, column 18: `PORT` is set to the port in any case"],
    );
}

#[test]
fn variables_have_names_and_values() {
    let env = |items: &str| format!("{SMALLEST}  env:\n{items}");
    refused(
        &env("    A: b\n"),
        &[
            "line 10, column 5: `run.env` is a map, not a list; write items such as `- name: STAGE` with `value: …` below",
        ],
    );
    refused(
        &env("  - A=b\n"),
        &[
            "line 10, column 5: an item of `run.env` is a text, not a map; write items such as `- name: STAGE` with `value: …` below",
        ],
    );
    refused(
        &env(
            "  - value: b\n  - name: A\n  - name: B\n    value:\n  - name: C\n    value: [x]\n  - name: \"\"\n    value: x\n",
        ),
        &[
            "line 10, column 5: an item of `run.env` has no `name`; add it",
            "line 11, column 5: `A` in `run.env` has no `value`; add it",
            "line 13, column 10: `B` in `run.env` has an empty `value`; write one; `\"\"` is the empty one",
            "line 15, column 12: the `value` of `C` in `run.env` is a list; write a text, in quotes if need be",
            "line 16, column 11: an item of `run.env` has an empty `name`; write one",
        ],
    );
    refused(
        &env("  - {name: A, value: b}\n  - {name: A, value: c}\n"),
        &["line 11, column 5: `A` is in `run.env` twice; keep one of the two"],
    );
    refused(
        &env(
            "  - {name: PORT, value: 80}\n  - {name: EKIDEN_SERVICE, value: b}\n  - {name: AWSAPPRUNNER_X, value: b}\n  - {name: A=B, value: b}\n",
        ),
        &[
            "line 10, column 12: `PORT` is set by Ekiden; set `run.network.port` instead",
            "line 11, column 12: `EKIDEN_SERVICE` is set by Ekiden; choose another name",
            "line 12, column 12: `AWSAPPRUNNER_X`: names with `AWSAPPRUNNER` are reserved; choose another name",
            "line 13, column 12: `A=B` cannot be a variable's name; leave out `=`",
        ],
    );
    // A build has no port.
    let text = with(
        "build:\n  commands",
        "build:\n  env: [{name: PORT, value: 80}]\n  commands",
    );
    assert_eq!(read(&text).file.build.env, pairs(&[("PORT", "80")]));
}

#[test]
fn secrets_are_references_and_are_not_repeated() {
    let secrets = |items: &str| format!("{SMALLEST}  secrets:\n{items}");
    let text =
        secrets("  - {name: A, value-from: \"arn:aws:s3:::hunter2\"}\n  - {name: B, value: b}\n");
    let invalid = parse(text.as_bytes()).unwrap_err().to_string();
    assert!(!invalid.contains("hunter2"), "{invalid}");
    let lines: Vec<_> = invalid.lines().collect();
    assert!(
        lines[0].contains("the `value-from` of `A` is not a reference to a secret"),
        "{invalid}"
    );
    assert!(
        lines[1].contains("`B` in `run.secrets` has no `value-from`; add it"),
        "{invalid}"
    );
    refused(
        &secrets("  - {name: A, value-from: p}\n  env: [{name: A, value: b}]\n"),
        &["line 9, column 3: `A` is in `run.env` and in `run.secrets`; keep one of the two"],
    );
}

#[test]
fn unknown_keys_are_noted_and_ignored() {
    let text = "version: 1.0\nruntime: go1\nname: x\nbuild:\n  comands: {}\n  commands:\n    prebuild: [a]\n    build: [b]\nrun:\n  command: c\n  comand: d\n  network: {ports: 1}\n  env: [{name: A, value: b, description: c}]\n";
    noted(
        text,
        &[
            "line 3, column 1: `name` is not known and ignored",
            "line 5, column 3: `comands` in `build` is not known and ignored; did you mean `commands`?",
            "line 7, column 5: `prebuild` in `build.commands` is not known and ignored; did you mean `pre-build`?",
            "line 11, column 3: `comand` in `run` is not known and ignored; did you mean `command`?",
            "line 12, column 13: `ports` in `run.network` is not known and ignored; did you mean `port`?",
            "line 13, column 29: `description` in `run.env` is not known and ignored",
        ],
    );
}

#[test]
fn what_is_not_yaml_is_refused_with_its_place() {
    refused(
        &with("  commands", "\tcommands"),
        &["line 4, column 1: a tab cannot indent; indent with spaces"],
    );
    refused(
        &with("run:", "runtime: go1\nrun:"),
        &["line 7, column 1: `runtime` is there twice, first on line 2; remove one of the two"],
    );
    refused(
        &format!("{SMALLEST}---\na: b\n"),
        &["line 9, column 1: a second document begins here; keep one document in the file"],
    );
    refused(
        &format!("a: {}{}", "[".repeat(40), "]".repeat(40)),
        &["line 1, column 36: nested deeper than 32 levels; make it flatter"],
    );
    let text = format!("{SMALLEST}  runtime-version: latest\n");
    refused(
        &text,
        &[
            "line 9, column 20: `run.runtime-version` is `latest`; write numbers, such as `3.11` or `3.11.2`, or leave it out",
        ],
    );
    let large = format!("{SMALLEST}# {}", "x".repeat(FILE_BYTES_MAX));
    refused(
        &large,
        &[&format!(
            "line 1, column 1: the file has {} bytes, more than 131072; move long commands into scripts",
            large.len()
        )],
    );
    let invalid = parse(b"version: 1.0\nr\xc3\xbc\xff: x\n").unwrap_err();
    assert_eq!(
        invalid.to_string(),
        "apprunner.yaml, line 2, column 3: the file is not UTF-8; save it as UTF-8"
    );
}

#[test]
fn aliases_stand_for_their_values() {
    let text = "version: 1.0\nruntime: go1\nbuild:\n  commands:\n    build: &b [make]\n    post-build: *b\nrun:\n  command: c\n";
    assert_eq!(read(text).file.build.post_build, ["make"]);
}

#[test]
fn what_is_printed_says_the_same() {
    let mut file = read(EXAMPLE).file;
    assert_eq!(read(&file.to_string()).file, file);
    file.build.build = texts(&[
        "echo \"a: b\" # 'c'",
        "- x\ty\nz\\",
        "é\u{85}\u{7f}\u{1F600}",
    ]);
    file.run.env = pairs(&[("A", ""), ("B", "~"), ("C D", "\u{feff}")]);
    assert_eq!(read(&file.to_string()).file, file);
}
