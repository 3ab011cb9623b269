use super::*;
use crate::{plan::Base, tree::memory::Memory};

fn request(method: Method) -> Request {
    Request {
        method,
        ..Request::default()
    }
}

fn planned(files: &[(&str, &str)], request: &Request) -> Result<Planned, PlanError> {
    plan(&Memory::new(files), request, &Runtimes::builtin().unwrap())
}

#[track_caller]
fn managed(files: &[(&str, &str)], request: &Request) -> BuildPlan {
    match planned(files, request) {
        Ok(Planned {
            plan: Plan::Managed(plan),
            ..
        }) => plan,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(files: &[(&str, &str)], request: &Request, want: &str) {
    assert_eq!(planned(files, request).unwrap_err().to_string(), want);
}

fn file(runtime: &str, more: &str) -> String {
    format!(
        "version: 1.0\nruntime: {runtime}\nbuild:\n  commands:\n    pre-build: [one]\n    build: [two]\n    post-build: [three]\n  env: [{{name: STAGE, value: build}}]\nrun:\n  command: four\n  env: [{{name: STAGE, value: run}}]\n{more}"
    )
}

fn by_file(runtime: &str, more: &str) -> BuildPlan {
    let request = request(Method::AppRunnerYaml);
    managed(&[("apprunner.yaml", &file(runtime, more))], &request)
}

/// Name, what it is on, commands and whether it is kept.
fn shape(plan: &BuildPlan) -> Vec<(&str, From, Vec<&str>, bool)> {
    let steps = plan.steps.iter();
    steps
        .map(|step| {
            let commands = step.commands.iter().map(String::as_str).collect();
            (step.name.as_str(), step.on, commands, step.keep)
        })
        .collect()
}

#[test]
fn the_revised_build_ships_the_application_and_what_pre_run_adds() {
    let plan = by_file("python311", "  pre-run: [five]\n");
    assert_eq!(
        shape(&plan),
        [
            ("build", From::Base, vec!["one", "two"], true),
            ("pre-run", From::Application(0), vec!["five"], true),
            ("post-build", From::Step(0), vec!["three"], false),
        ]
    );
    assert_eq!(plan.image, From::Step(1));
    assert_eq!(plan.steps[0].input, Input::Source);
    assert_eq!(plan.steps[1].input, Input::Nothing);
    assert!(plan.steps.iter().all(|step| step.env["STAGE"] == "build"));
    assert_eq!(plan.steps[0].env["PIP_BREAK_SYSTEM_PACKAGES"], "1");
    assert_eq!(plan.run.env["STAGE"], "run");
    assert!(!plan.run.env.contains_key("PIP_CACHE_DIR"));
    let without = by_file("python311", "");
    assert_eq!(without.image, From::Application(0));
    assert_eq!(without.notes, []);
}

#[test]
fn the_original_build_builds_twice_and_has_no_pre_run() {
    let plan = by_file("go1", "  pre-run: [five]\n");
    assert_eq!(
        shape(&plan),
        [
            ("build", From::Base, vec!["one", "two"], true),
            ("build again", From::Application(0), vec!["two"], true),
            ("post-build", From::Step(0), vec!["three"], false),
        ]
    );
    assert_eq!(plan.image, From::Step(1));
    let notes: Vec<_> = plan.notes.iter().map(Note::to_string).collect();
    assert_eq!(
        notes,
        [
            "apprunner.yaml, line 12, column 3: `pre-run` is ignored: the runtime `go1` builds the original \
          way, in which `build` runs again in the image"
        ]
    );
}

#[test]
fn what_completes_a_base_is_there_in_the_image_too() {
    let plan = by_file("nodejs18", "");
    let setup = &plan.steps[0].commands[0];
    assert!(setup.contains("yarnpkg"), "{setup}");
    assert_eq!(plan.steps[1].commands, [setup.as_str()]);
    assert_eq!(
        (plan.steps[1].on, plan.image),
        (From::Application(0), From::Step(1))
    );
}

#[test]
fn the_version_that_is_used_is_said() {
    let plan = by_file("nodejs22", "");
    assert_eq!(
        plan.version,
        "nodejs22: Node.js 18 of Debian bookworm (nodejs)"
    );
    assert_eq!(
        plan.notes[0].text,
        "`nodejs22` is Node.js 22 on App Runner; here it is Node.js 18 of Debian bookworm (nodejs)"
    );
    let plan = by_file("python311", "  runtime-version: 3.11.9\n");
    assert_eq!(
        plan.notes[0].to_string(),
        "apprunner.yaml, line 12, column 20: the version is locked to 3.11.9; Python 3.11 of Debian \
         bookworm (python3) has patches of its own"
    );
    let text = file("python3", "  runtime-version: 3.8\n");
    refused(
        &[("apprunner.yaml", &text)],
        &request(Method::Auto),
        "apprunner.yaml, line 12, column 20: The specified runtime version is not supported. Refer to the \
         Release information in the App Runner Developer guide for supported runtime versions. \
         `runtime-version` is 3.8, and `python3` is Python 3.11 of Debian bookworm (python3) here: lock it \
         to 3.11 or leave it out.",
    );
    let text = file("nodejs18", "  runtime-version: 18\n");
    refused(
        &[
            ("apprunner.yaml", &text),
            ("package.json", r#"{"engines":{"node":">=20"}}"#),
        ],
        &request(Method::Auto),
        "`runtime-version` is 18, and package.json asks for Node.js >=20 (`engines.node`); make them agree",
    );
}

#[test]
fn a_file_that_cannot_be_used_is_refused() {
    let by_file = request(Method::AppRunnerYaml);
    refused(
        &[("Dockerfile", "")],
        &by_file,
        "there is no `apprunner.yaml` in the source directory; add one, correct the source directory, or \
         configure the service by values instead of by the repository",
    );
    refused(
        &[("apprunner.yaml", "")],
        &by_file,
        "apprunner.yaml, line 1, column 1: the file is empty; it needs `version`, `runtime`, `build` and \
         `run`",
    );
    let large = "#".repeat(READ_BYTES_MAX + 1);
    refused(
        &[("apprunner.yaml", &large)],
        &by_file,
        "`apprunner.yaml` cannot be read: it must be UTF-8 and at most 131072 bytes",
    );
    let why = planned(&[("apprunner.yaml", &file("pyton3", ""))], &by_file);
    let why = why.unwrap_err().to_string();
    assert!(
        why.starts_with(
            "apprunner.yaml, line 2, column 10: there is no runtime `pyton3`, did you mean `python3`?; \
             there are: ruby31, ruby, "
        ),
        "{why}"
    );
}

#[test]
fn values_of_the_api_are_one_build_command() {
    let values = CodeValues {
        runtime: "PYTHON_311".to_owned(),
        build_command: Some("pip install -r requirements.txt".to_owned()),
        start_command: Some("python app.py".to_owned()),
        port: Some(3000),
        env: BTreeMap::from([("A".to_owned(), "b".to_owned())]),
        secrets: BTreeMap::from([("S".to_owned(), "p".to_owned())]),
    };
    // The file is not looked at.
    let files = [("apprunner.yaml", "no")];
    let plan = managed(&files, &request(Method::Values(values.clone())));
    assert_eq!(
        shape(&plan),
        [(
            "build",
            From::Base,
            vec!["pip install -r requirements.txt"],
            true
        )]
    );
    assert!(!plan.steps[0].env.contains_key("A"));
    assert_eq!((plan.run.env["A"].as_str(), plan.run.port), ("b", 3000));
    assert_eq!(plan.run.secrets["S"], "p");
    let mut without = values.clone();
    without.start_command = None;
    refused(
        &[],
        &request(Method::Values(without)),
        "python311: how it is started is not known: there is no start command; give one",
    );
    let mut reserved = values;
    reserved.env.insert("PORT".to_owned(), "1".to_owned());
    refused(
        &[],
        &request(Method::Values(reserved)),
        "the variable `PORT` is set by Ekiden; choose another name",
    );
}

#[test]
fn what_decides_is_the_file_then_the_dockerfile_then_the_source() {
    let app = file("python311", "");
    let all = [
        ("apprunner.yaml", app.as_str()),
        ("Dockerfile", "FROM x\n"),
        ("index.html", ""),
    ];
    let basis = |files: &[(&str, &str)]| planned(files, &Request::default()).unwrap().basis;
    assert_eq!(basis(&all), Basis::AppRunnerYaml);
    assert_eq!(basis(&all[1..]), Basis::Dockerfile);
    assert_eq!(
        basis(&all[2..]),
        Basis::Detected("static site (index.html)".to_owned())
    );
}

#[test]
fn a_dockerfile_is_run_where_it_listens() {
    let dockerfile = "FROM a AS b\nEXPOSE 1\nFROM c\nEXPOSE 3000/tcp\n";
    let method = Method::Dockerfile {
        path: "deploy/Dockerfile".to_owned(),
        target: Some("b".to_owned()),
        args: BTreeMap::new(),
    };
    let files = [("deploy/Dockerfile", dockerfile)];
    let mut request = request(method);
    let of = |request: &Request| match planned(&files, request).unwrap().plan {
        Plan::Dockerfile(plan) => plan,
        Plan::Managed(plan) => panic!("{plan:?}"),
    };
    let plan = of(&request);
    assert_eq!((plan.run.port, plan.run.command), (1, None));
    assert_eq!(plan.target.as_deref(), Some("b"));
    request.overrides.port = Some(80);
    request.overrides.start_command = Some("x".to_owned());
    let plan = of(&request);
    assert_eq!(
        (plan.run.port, plan.run.command.as_deref()),
        (80, Some("x"))
    );
    refused(
        &[],
        &request,
        "there is no `deploy/Dockerfile` in the source directory; correct the path or add the file",
    );
    assert_eq!(exposed("FROM a\nEXPOSE 1 2\n", None), None);
    assert_eq!(exposed("FROM a\nexpose $PORT\n", None), None);
    let stages = "FROM a AS final\nEXPOSE 9000\nFROM final AS other\nEXPOSE 1\n";
    assert_eq!(exposed(stages, Some("final")), Some(9000));
    assert_eq!(exposed(stages, None), Some(1));
}

#[test]
fn what_is_overridden_takes_the_place_of_what_was_decided() {
    let mut request = request(Method::Auto);
    request.overrides = Overrides {
        packages: Vec::new(),
        build_command: Some("make".to_owned()),
        start_command: Some("./run".to_owned()),
        port: Some(9000),
    };
    request.source_directory = "/services/web/".to_owned();
    let app = file("python311", "");
    let plan = managed(&[("apprunner.yaml", &app)], &request);
    assert_eq!(plan.steps[0].commands, ["one", "make"]);
    assert_eq!(plan.run.command.as_deref(), Some("./run"));
    assert_eq!(
        (plan.run.port, plan.run.working_dir.as_str()),
        (9000, "/app/services/web")
    );
    let plan = managed(&[("requirements.txt", "")], &request);
    assert_eq!(plan.steps[0].name, "install");
    assert_eq!(plan.steps[1].commands, ["make"]);
    request.source_directory = "../x".to_owned();
    refused(
        &[],
        &request,
        "`../x` cannot be a source directory; give a path below the repository's root",
    );
}

#[test]
fn commands_of_amazon_linux_are_noted() {
    let plan = by_file("php81", "").notes;
    assert!(plan.iter().all(|note| !note.text.contains("yum")));
    let text = file("python311", "").replace("[one]", "[\"yum install -y gcc\"]");
    let plan = managed(&[("apprunner.yaml", &text)], &request(Method::Auto));
    assert!(
        plan.notes[0]
            .text
            .starts_with("a command uses `yum` of Amazon Linux")
    );
}

#[test]
fn a_plan_is_shown_before_it_runs() {
    let text = file(
        "python311",
        "  network: {port: 8000, env: MY_PORT}\n  pre-run: [five]\n  secrets: [{name: KEY, value-from: p}]\n",
    );
    let files = [("apprunner.yaml", text.as_str())];
    let planned = planned(&files, &Request::default()).unwrap();
    assert_eq!(
        planned.to_string(),
        "by         apprunner.yaml\n\
         runtime    python311: Python 3.11 of Debian bookworm (python3)\n\
         base       Debian bookworm with build-essential, ca-certificates, curl, git, libffi-dev, \
         libpq-dev, libssl-dev, pkg-config, python-is-python3, python3, python3-dev, python3-pip, \
         python3-venv\n\
         build      on the base, with the source\n\
         \u{20}          $ one\n\
         \u{20}          $ two\n\
         pre-run    on the base and /app of `build`\n\
         \u{20}          $ five\n\
         post-build on what `build` left; not kept\n\
         \u{20}          $ three\n\
         image      what `pre-run` left\n\
         start      four\n\
         in         /app\n\
         port       8000 (PORT, MY_PORT)\n\
         env        PYTHONUNBUFFERED, STAGE\n\
         secrets    KEY\n"
    );
    assert_eq!(planned.lines().len(), 16);
    assert!(!planned.to_string().contains("value-from"));
    let json = serde_json::to_string(&planned).unwrap();
    assert_eq!(serde_json::from_str::<Planned>(&json).unwrap(), planned);
}

#[test]
fn a_base_of_packages_is_the_same_for_the_same_packages() {
    let of = |runtime| by_file(runtime, "").base;
    assert_eq!(of("nodejs18"), of("nodejs22"));
    match of("ruby31") {
        Base::Packages { packages } => assert!(packages.is_sorted()),
        Base::Image(image) => panic!("{image}"),
    }
}

#[test]
fn packages_come_before_all_else() {
    let files = [("app.py", "import flask"), ("requirements.txt", "flask")];
    let mut request = request(Method::Detect);
    let plain = managed(&files, &request);
    request.overrides.packages = vec!["ffmpeg".to_owned(), "imagemagick".to_owned()];
    let plan = managed(&files, &request);
    assert_eq!(plan.steps.len(), plain.steps.len() + 1);
    assert_eq!(plan.steps[0].on, From::Base);
    assert!(plan.steps[0].commands[1].ends_with("ffmpeg imagemagick"));
    assert!(plan.steps[1..].iter().all(|step| step.on != From::Base));
    assert_ne!(plan.image, plain.image);
}
