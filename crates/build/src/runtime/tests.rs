use super::*;

fn builtin() -> Runtimes {
    Runtimes::builtin().unwrap_or_else(|error| panic!("{error}"))
}

fn with(text: &str) -> Result<Runtimes, String> {
    let files = vec![("mine.yaml".to_owned(), text.to_owned())];
    Runtimes::with(files).map_err(|error| error.to_string())
}

#[track_caller]
fn statement(name: &str, want: &str) {
    assert_eq!(builtin().select(name).unwrap().to_string(), want);
}

#[test]
fn every_name_of_app_runner_is_known() {
    let runtimes = builtin();
    let original = [
        ("python3", "PYTHON_3"),
        ("nodejs12", "NODEJS_12"),
        ("nodejs14", "NODEJS_14"),
        ("nodejs16", "NODEJS_16"),
        ("corretto8", "CORRETTO_8"),
        ("corretto11", "CORRETTO_11"),
        ("go1", "GO_1"),
        ("php81", "PHP_81"),
        ("ruby31", "RUBY_31"),
    ];
    let revised = [
        ("python311", "PYTHON_311"),
        ("nodejs18", "NODEJS_18"),
        ("nodejs22", "NODEJS_22"),
    ];
    let of = |process| move |(name, api)| (name, api, process);
    let all = original.map(of(Process::Original)).into_iter();
    for (name, api, process) in all.chain(revised.map(of(Process::Revised))) {
        let selected = runtimes.select(name).unwrap();
        assert_eq!(selected.process, process, "{name}");
        assert_eq!(runtimes.select(api).unwrap(), selected);
    }
}

#[test]
fn what_a_name_really_is_is_said() {
    statement(
        "python311",
        "python311: Python 3.11 of Debian bookworm (python3)",
    );
    statement(
        "NODEJS_22",
        "nodejs22: Node.js 18 of Debian bookworm (nodejs)",
    );
    statement(
        "corretto11",
        "corretto11: Java 17 of Debian bookworm (openjdk-17-jdk-headless)",
    );
    statement("rust", "rust: Rust 1.63 of Debian bookworm (rustc)");
    let runtimes = builtin();
    let difference = |name| runtimes.select(name).unwrap().difference();
    assert_eq!(difference("python311"), None);
    assert_eq!(difference("go1"), None);
    assert_eq!(
        difference("nodejs22").as_deref(),
        Some(
            "`nodejs22` is Node.js 22 on App Runner; here it is Node.js 18 of Debian bookworm (nodejs)"
        )
    );
}

#[test]
fn a_lock_must_be_what_there_is() {
    let runtimes = builtin();
    let check = |name: &str, lock: &str| {
        let selected = runtimes.select(name).unwrap();
        selected
            .check_lock(&lock.parse().unwrap())
            .map_err(|error| error.to_string())
    };
    for (name, lock) in [
        ("python311", "3"),
        ("python3", "3.11"),
        ("python311", "3.11.14"),
        ("nodejs22", "18"),
    ] {
        assert_eq!(check(name, lock), Ok(()), "{name} {lock}");
    }
    assert_eq!(
        check("python3", "3.8").unwrap_err(),
        "The specified runtime version is not supported. Refer to the Release information in the App \
         Runner Developer guide for supported runtime versions. `runtime-version` is 3.8, and `python3` is \
         Python 3.11 of Debian bookworm (python3) here: lock it to 3.11 or leave it out."
    );
    assert!(check("nodejs22", "22.14.0").is_err() && check("corretto8", "8.312.07.1").is_err());
}

#[test]
fn what_is_not_there_is_refused_in_words() {
    let runtimes = builtin();
    let refused = |name| runtimes.select(name).unwrap_err().to_string();
    let unknown = refused("python312");
    assert!(
        unknown.starts_with("there is no runtime `python312`, did you mean `python31"),
        "{unknown}"
    );
    assert!(refused("COBOL").contains("there are: ruby31, ruby, php81, php, go1, go, "));
    let none = refused("dotnet6");
    assert!(
        none.starts_with("the runtime `dotnet6` has no base"),
        "{none}"
    );
    assert!(none.contains("`name: dotnet`"), "{none}");
}

#[test]
fn a_file_changes_a_runtime() {
    let text = "name: dotnet\nimage: mcr.microsoft.com/dotnet/sdk:8.0\nversion: 8.0\n";
    let runtimes = with(text).unwrap();
    let selected = runtimes.select("DOTNET_6").unwrap();
    assert_eq!(
        selected.to_string(),
        "dotnet6: .NET 8.0 of mcr.microsoft.com/dotnet/sdk:8.0"
    );
    assert!(selected.base(&["nginx-light".to_owned()]) == selected.base(&[]));
    assert_eq!(selected.runtime.rules.len(), 2);

    // For one name only, and the version is as it is written.
    let text = "name: nodejs\nnames:\n  nodejs22: { image: \"node:22\", version: 22.10 }\n";
    let runtimes = with(text).unwrap();
    let version = |name| runtimes.select(name).unwrap().version.to_string();
    assert_eq!(
        (version("nodejs22"), version("nodejs18")),
        ("22.10".into(), "18".into())
    );
    assert_eq!(runtimes.select("nodejs22").unwrap().difference(), None);
    assert_eq!(
        runtimes.select("NODEJS_22").unwrap().process,
        Process::Revised
    );
}

#[test]
fn a_file_adds_a_runtime() {
    let text = "name: elixir\ntitle: Elixir\norder: 5\npackages: [elixir]\nversion: 1.14\nrules:\n- name: Elixir\n  when: [mix.exs]\n  start: mix run --no-halt\n";
    let runtimes = with(text).unwrap();
    assert_eq!(runtimes.iter().next().unwrap().name, "elixir");
    let selected = runtimes.select("elixir").unwrap();
    assert_eq!(
        selected.to_string(),
        "elixir: Elixir 1.14 of Debian bookworm (elixir)"
    );
    let packages = ["ca-certificates", "curl", "elixir", "git"]
        .map(str::to_owned)
        .to_vec();
    assert_eq!(selected.base(&[]), Base::Packages { packages });
}

#[test]
fn a_file_that_is_no_runtimes_is_refused() {
    for (text, want) in [
        ("name: x\ncolour: red\n", "colour"),
        ("title: x\n", "name"),
        ("name: X Y\n", "`X Y` cannot be a runtime's name"),
        (
            "name: x\npackages: [y]\n",
            "`packages` need the `version` they have",
        ),
        (
            "name: x\nimage: y\n",
            "an `image` needs the `version` it has",
        ),
        (
            "name: x\nimage: y\npackages: [z]\nversion: 1\n",
            "keep one of the two",
        ),
        (
            "name: x\npackages: [z]\nversion: new\n",
            "`version: new` is not a version",
        ),
        (
            "name: x\ncaches: {A: /tmp}\n",
            "the cache `A` does not name `{cache}`",
        ),
    ] {
        let why = with(text).unwrap_err();
        assert!(
            why.starts_with("runtime file `mine.yaml`: ") && why.contains(want),
            "{why}"
        );
    }
}

#[test]
fn variables_of_a_build_point_into_the_cache() {
    let runtimes = builtin();
    let java = runtimes
        .select("java")
        .unwrap()
        .runtime
        .variables_of_build();
    assert_eq!(
        java["MAVEN_OPTS"],
        "-Dmaven.repo.local=/run/ekiden/cache/maven"
    );
    assert_eq!(java["JAVA_HOME"], "/usr/lib/jvm/default-java");
}
