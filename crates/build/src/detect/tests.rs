use super::*;
use crate::{
    plan::{Base, Basis, BuildPlan, From, Input, Plan},
    planner::{Method, Request, plan},
    tree::memory::Memory,
};

const GO_MAIN: &str = "package main\n\nfunc main() {}\n";

fn detected(files: &[(&str, &str)]) -> Result<(String, BuildPlan), PlanError> {
    let runtimes = Runtimes::builtin().unwrap();
    let request = Request {
        method: Method::Detect,
        ..Request::default()
    };
    let planned = plan(&Memory::new(files), &request, &runtimes)?;
    match (planned.basis, planned.plan) {
        (Basis::Detected(what), Plan::Managed(plan)) => Ok((what, plan)),
        other => panic!("{other:?}"),
    }
}

/// What a source is taken for; what of it each step is given and the step's commands, `setup` apart; and
/// what starts it.
#[track_caller]
fn check(files: &[(&str, &str)], what: &str, steps: &[(&str, &[&str])], start: &str) -> BuildPlan {
    let (taken_for, plan) = detected(files).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(taken_for, what);
    let input = |input: &Input| match input {
        Input::Source => "*".to_owned(),
        Input::Files(files) => files.join(" "),
        Input::Nothing => String::new(),
    };
    let shown = plan.steps.iter().filter(|step| step.name != "setup");
    let got: Vec<_> = shown
        .map(|step| {
            let commands = step
                .commands
                .iter()
                .map(|command| command.trim_end().to_owned());
            (input(&step.input), commands.collect::<Vec<_>>())
        })
        .collect();
    let want: Vec<_> = steps
        .iter()
        .map(|(input, commands)| {
            let commands = commands.iter().map(|command| (*command).to_owned());
            ((*input).to_owned(), commands.collect::<Vec<_>>())
        })
        .collect();
    assert_eq!(got, want);
    assert_eq!(plan.run.command.as_deref(), Some(start));
    // Each upon the one before, the source in the last, and the image is the last.
    for (index, step) in plan.steps.iter().enumerate() {
        assert_eq!(step.on, index.checked_sub(1).map_or(From::Base, From::Step));
        assert!(step.keep);
    }
    assert_eq!(plan.image, From::Step(plan.steps.len() - 1));
    plan
}

#[track_caller]
fn refused(files: &[(&str, &str)], want: &str) {
    let why = detected(files).unwrap_err().to_string();
    assert!(why.contains(want), "{why}");
}

fn notes(plan: &BuildPlan) -> Vec<&str> {
    plan.notes.iter().map(|note| note.text.as_str()).collect()
}

fn packages(plan: &BuildPlan) -> &[String] {
    match &plan.base {
        Base::Packages { packages } => packages,
        Base::Image(image) => panic!("{image}"),
    }
}

const VENV: &str = "python3 -m venv /opt/venv";
const PIP: &str = "pip install -r requirements.txt";

#[test]
fn python_servers_are_found_in_their_modules() {
    let plan = check(
        &[
            ("requirements.txt", "Flask==3.0\ngunicorn\n"),
            ("app.py", "from flask import Flask\napp = Flask(__name__)\n"),
        ],
        "Flask (requirements.txt)",
        &[("requirements.txt", &[VENV, PIP]), ("*", &[])],
        "gunicorn --bind 0.0.0.0:$PORT app:app",
    );
    assert!(plan.run.env["PATH"].starts_with("/opt/venv/bin:"));
    assert_eq!(plan.steps[0].env["PATH"], plan.run.env["PATH"]);
    assert_eq!(plan.steps[0].env["PIP_CACHE_DIR"], "/run/ekiden/cache/pip");
    assert_eq!(plan.run.env["PYTHONUNBUFFERED"], "1");
    assert_eq!(notes(&plan), [""; 0]);
    check(
        &[
            ("requirements.txt", "fastapi[standard]\n"),
            ("app/main.py", "api: FastAPI = FastAPI(title=\"x\")\n"),
        ],
        "FastAPI (requirements.txt)",
        &[("requirements.txt", &[VENV, PIP]), ("*", &[])],
        "uvicorn --host 0.0.0.0 --port $PORT --proxy-headers app.main:api",
    );
    check(
        &[
            ("requirements.txt", "flask\ngunicorn\n"),
            (
                "app/__init__.py",
                "def create_app():\n    app = flask.Flask(__name__)\n",
            ),
        ],
        "Flask (requirements.txt)",
        &[("requirements.txt", &[VENV, PIP]), ("*", &[])],
        "gunicorn --bind 0.0.0.0:$PORT 'app:create_app()'",
    );
    check(
        &[
            ("requirements.txt", "streamlit\n"),
            ("streamlit_app.py", "import streamlit as st\n"),
        ],
        "Streamlit (requirements.txt)",
        &[("requirements.txt", &[VENV, PIP]), ("*", &[])],
        "streamlit run streamlit_app.py --server.port $PORT --server.address 0.0.0.0 --server.headless true",
    );
    check(
        &[("server.py", "print('x')\n")],
        "Python",
        &[("", &[VENV]), ("*", &[])],
        "python3 server.py",
    );
}

#[test]
fn what_serves_a_python_application_is_installed_if_it_is_not_there() {
    let plan = check(
        &[
            ("requirements.txt", "flask # not gunicorn\n"),
            ("main.py", "web = flask.Flask(__name__)\n"),
        ],
        "Flask (requirements.txt)",
        &[
            ("requirements.txt", &[VENV, PIP, "pip install gunicorn"]),
            ("*", &[]),
        ],
        "gunicorn --bind 0.0.0.0:$PORT main:web",
    );
    assert!(notes(&plan)[0].starts_with("gunicorn serves the application and is installed"));
}

#[test]
fn django_is_served_by_its_project() {
    check(
        &[
            ("manage.py", ""),
            ("requirements.txt", "Django>=4\ngunicorn==21\n"),
            ("shop/wsgi.py", ""),
            ("shop/asgi.py", ""),
            ("shop/settings.py", "STATIC_ROOT = BASE_DIR / 'static'\n"),
        ],
        "Django (manage.py) (requirements.txt)",
        &[
            ("requirements.txt", &[VENV, PIP]),
            ("*", &["python3 manage.py collectstatic --noinput"]),
        ],
        "gunicorn --bind 0.0.0.0:$PORT shop.wsgi:application",
    );
    check(
        &[
            ("manage.py", ""),
            ("requirements.txt", "django\ndaphne\n"),
            ("shop/wsgi.py", ""),
            ("shop/asgi.py", ""),
        ],
        "Django (manage.py) (requirements.txt)",
        &[("requirements.txt", &[VENV, PIP]), ("*", &[])],
        "daphne -b 0.0.0.0 -p $PORT shop.asgi:application",
    );
    refused(
        &[("manage.py", "")],
        "Django (manage.py): how it is started is not known: no directory has a wsgi.py beside manage.py",
    );
}

#[test]
fn python_dependencies_are_installed_by_whoever_locked_them() {
    let app = ("app.py", "");
    let start = "python3 app.py";
    let tool = |name| format!("python3 -m venv /opt/tools && /opt/tools/bin/pip install {name}");
    let plan = check(
        &[
            app,
            (
                "pyproject.toml",
                "[project]\nname = 'x'\nrequires-python = '>=3.12'\n",
            ),
            ("uv.lock", "source = { editable = \".\" }\n"),
        ],
        "Python (uv.lock)",
        &[
            (
                "pyproject.toml uv.lock",
                &[
                    VENV,
                    &tool("uv"),
                    "/opt/tools/bin/uv sync --frozen --no-dev --no-install-project",
                ],
            ),
            ("*", &[]),
        ],
        start,
    );
    assert!(
        notes(&plan)[0]
            .starts_with("pyproject.toml asks for Python 3.12, and this is 3.11 of Debian")
    );
    check(
        &[
            app,
            ("pyproject.toml", "[tool.poetry]\nname = 'x'\n"),
            ("poetry.lock", ""),
        ],
        "Python (pyproject.toml of Poetry)",
        &[
            (
                "pyproject.toml poetry.lock",
                &[
                    VENV,
                    &tool("poetry"),
                    "/opt/tools/bin/poetry install --only main --no-root --no-interaction",
                ],
            ),
            ("*", &[]),
        ],
        start,
    );
    check(
        &[
            app,
            ("Pipfile", "[packages]\nflask = '*'\n"),
            ("Pipfile.lock", "{}"),
        ],
        "Python (Pipfile)",
        &[
            (
                "Pipfile Pipfile.lock",
                &[
                    VENV,
                    &tool("pipenv"),
                    "/opt/tools/bin/pipenv requirements > /tmp/requirements.txt && pip install -r /tmp/requirements.txt",
                ],
            ),
            ("*", &[]),
        ],
        start,
    );
    check(
        &[
            app,
            (
                "pyproject.toml",
                "[project]\nname = 'x'\ndependencies = ['flask>=2', \"a; python_version < '4'\"]\n",
            ),
        ],
        "Python (pyproject.toml)",
        &[
            (
                "",
                &[
                    VENV,
                    r"pip install 'flask>=2' 'a; python_version < '\''4'\'''",
                ],
            ),
            ("*", &[]),
        ],
        start,
    );
    check(
        &[app, ("setup.py", "")],
        "Python (setup.py or pyproject.toml)",
        &[("*", &[VENV, "pip install ."])],
        start,
    );
    // What needs more than its own file is installed with the source.
    for line in [
        "-r base.txt",
        "-e .",
        "./vendor/x",
        "x @ file:///app/x",
        "-c constraints.txt",
    ] {
        check(
            &[app, ("requirements.txt", line)],
            "Python (requirements.txt)",
            &[("*", &[VENV, PIP])],
            start,
        );
    }
    refused(
        &[("pyproject.toml", "[")],
        "Python: `pyproject.toml` is not TOML",
    );
}

#[test]
fn node_servers_are_started_by_their_script() {
    let plan = check(
        &[
            (
                "package.json",
                r#"{"scripts":{"start":"node server.js"},"dependencies":{"express":"4"}}"#,
            ),
            ("package-lock.json", "{}"),
        ],
        "Node.js (package.json)",
        &[
            (
                "package.json package-lock.json",
                &["npm ci --omit=dev --no-audit"],
            ),
            ("*", &[]),
        ],
        "node server.js",
    );
    assert_eq!(plan.run.env["NODE_ENV"], "production");
    assert_eq!(plan.steps[0].name, "setup");
    assert!(!plan.steps[1].env.contains_key("NODE_ENV"));
    check(
        &[(
            "package.json",
            r#"{"scripts":{"build":"tsc","start":"NODE_OPTIONS=x node dist/a.js"},"dependencies":{}}"#,
        )],
        "Node.js (package.json)",
        &[
            ("package.json", &["npm install --include=dev --no-audit"]),
            ("*", &["npm run build", "npm prune --omit=dev --no-audit"]),
        ],
        "npm run start",
    );
    check(
        &[("package.json", "\u{feff}{}"), ("index.js", "")],
        "Node.js (package.json)",
        &[
            ("package.json", &["npm install --omit=dev --no-audit"]),
            ("*", &[]),
        ],
        "node index.js",
    );
    check(
        &[("package.json", r#"{"main":"lib/a.js"}"#), ("lib/a.js", "")],
        "Node.js (package.json)",
        &[
            ("package.json", &["npm install --omit=dev --no-audit"]),
            ("*", &[]),
        ],
        "node lib/a.js",
    );
    refused(
        &[("package.json", "{}")],
        "Node.js (package.json): how it is started is not known: package.json has no script `start`",
    );
    refused(
        &[("package.json", "[]")],
        "Node.js: `package.json` is not a JSON object",
    );
}

#[test]
fn node_packages_are_installed_by_whoever_locked_them() {
    let package = r#"{"packageManager":"pnpm@8.15.1+sha512.abc","scripts":{"start":"node a.js"}}"#;
    check(
        &[
            ("package.json", package),
            ("pnpm-lock.yaml", ""),
            (".npmrc", ""),
        ],
        "Node.js (package.json)",
        &[
            (
                "package.json pnpm-lock.yaml .npmrc",
                &["npx --yes pnpm@8.15.1 install --frozen-lockfile --prod"],
            ),
            ("*", &[]),
        ],
        "node a.js",
    );
    let package = r#"{"scripts":{"start":"node a.js && b","build":"x"}}"#;
    check(
        &[("package.json", package), ("yarn.lock", "")],
        "Node.js (package.json)",
        &[
            (
                "package.json yarn.lock",
                &["yarn install --frozen-lockfile --production=false"],
            ),
            (
                "*",
                &[
                    "yarn run build",
                    "yarn install --frozen-lockfile --production --ignore-scripts",
                ],
            ),
        ],
        "yarn run start",
    );
    let package = r#"{"packageManager":"yarn@4.5.0","scripts":{"start":"node a.js"}}"#;
    check(
        &[
            ("package.json", package),
            ("yarn.lock", ""),
            (".yarnrc.yml", ""),
        ],
        "Node.js (package.json)",
        &[
            (
                "package.json yarn.lock .yarnrc.yml",
                &["npx --yes -p @yarnpkg/cli-dist@4.5.0 yarn install --immutable"],
            ),
            ("*", &[]),
        ],
        "node a.js",
    );
}

#[test]
fn node_packages_that_need_the_source_are_installed_with_it() {
    let files: &[&[(&str, &str)]] = &[
        &[(
            "package.json",
            r#"{"scripts":{"start":"node a.js","postinstall":"x"}}"#,
        )],
        &[(
            "package.json",
            r#"{"scripts":{"start":"node a.js"},"workspaces":["x"]}"#,
        )],
        &[(
            "package.json",
            r#"{"scripts":{"start":"node a.js"},"dependencies":{"x":"file:x"}}"#,
        )],
        &[
            ("package.json", r#"{"scripts":{"start":"node a.js"}}"#),
            ("prisma/schema.prisma", ""),
        ],
        &[
            ("package.json", r#"{"scripts":{"start":"node a.js"}}"#),
            ("patches/a.patch", ""),
        ],
    ];
    for files in files {
        check(
            files,
            "Node.js (package.json)",
            &[("*", &["npm install --omit=dev --no-audit"])],
            "node a.js",
        );
    }
}

#[test]
fn sites_that_are_built_are_served_as_files() {
    let plan = check(
        &[
            (
                "package.json",
                r#"{"scripts":{"dev":"vite","build":"vite build","start":"vite"},"devDependencies":{"vite":"5"}}"#,
            ),
            ("package-lock.json", ""),
            ("index.html", ""),
        ],
        "a site made with vite (package.json)",
        &[
            (
                "package.json package-lock.json",
                &["npm ci --include=dev --no-audit"],
            ),
            ("*", &["npm run build"]),
        ],
        "serve-static dist /index.html",
    );
    assert!(packages(&plan).contains(&"nginx-light".to_owned()));
    assert_eq!(plan.steps[0].commands.len(), 2);
    check(
        &[(
            "package.json",
            r#"{"scripts":{"start":"react-scripts start","build":"react-scripts build"},"dependencies":{"react-scripts":"5"}}"#,
        )],
        "a site made with react-scripts (package.json)",
        &[
            ("package.json", &["npm install --include=dev --no-audit"]),
            ("*", &["npm run build"]),
        ],
        "serve-static build /index.html",
    );
    check(
        &[
            (
                "package.json",
                r#"{"scripts":{"build":"next build"},"dependencies":{"next":"14"}}"#,
            ),
            ("next.config.js", "module.exports = { output: 'export' }"),
        ],
        "a site made with Next.js, exported (package.json)",
        &[
            ("package.json", &["npm install --include=dev --no-audit"]),
            ("*", &["npm run build"]),
        ],
        "serve-static out",
    );
    check(
        &[(
            "package.json",
            r#"{"scripts":{"build":"next build"},"dependencies":{"next":"14"}}"#,
        )],
        "Next.js (package.json)",
        &[
            ("package.json", &["npm install --include=dev --no-audit"]),
            ("*", &["npm run build", "npm prune --omit=dev --no-audit"]),
        ],
        "npx next start -H 0.0.0.0 -p $PORT",
    );
    // A server that is built with Vite is a server.
    check(
        &[(
            "package.json",
            r#"{"scripts":{"build":"vite build"},"devDependencies":{"vite":"5","@sveltejs/adapter-node":"1"}}"#,
        )],
        "Node.js (package.json)",
        &[
            ("package.json", &["npm install --include=dev --no-audit"]),
            ("*", &["npm run build", "npm prune --omit=dev --no-audit"]),
        ],
        "node build",
    );
}

#[test]
fn a_node_that_is_too_old_is_noted() {
    let package = r#"{"engines":{"node":">=20"},"scripts":{"start":"node a.js"}}"#;
    let (_, plan) = detected(&[("package.json", package)]).unwrap();
    assert!(
        notes(&plan)[0].starts_with("package.json asks for Node.js >=20, and this is 18 of Debian")
    );
}

#[test]
fn ruby_is_started_by_what_it_is_made_with() {
    const BUNDLE: &str = "bundle install --jobs 4 --retry 3";
    let plan = check(
        &[
            ("Gemfile", "gem 'sinatra'\n"),
            ("Gemfile.lock", "GEM\n  specs:\n    sinatra (3.0)\n"),
            ("app.rb", ""),
        ],
        "Ruby (Gemfile, app.rb)",
        &[("Gemfile Gemfile.lock", &[BUNDLE]), ("*", &[])],
        "bundle exec ruby app.rb -o 0.0.0.0 -p $PORT",
    );
    // Debian's gems are seen by both.
    assert_eq!(plan.steps[0].env["BUNDLE_PATH__SYSTEM"], "true");
    assert_eq!(plan.run.env["BUNDLE_WITHOUT"], "development:test");
    assert_eq!(plan.steps[0].env["BUNDLE_FROZEN"], "true");
    check(
        &[("Gemfile", "gem \"puma\"\n"), ("config.ru", "")],
        "Ruby (Gemfile, config.ru)",
        &[("Gemfile", &[BUNDLE]), ("*", &[])],
        "bundle exec puma -b tcp://0.0.0.0:$PORT",
    );
    let plan = check(
        &[
            ("Gemfile", "ruby '3.3.0'\ngem 'rails'\ngemspec\n"),
            ("config/application.rb", ""),
            ("Gemfile.lock", "    propshaft (1.0)\n"),
            ("package.json", "{}"),
            ("yarn.lock", ""),
        ],
        "Rails (Gemfile, config/application.rb)",
        &[(
            "*",
            &[
                BUNDLE,
                "yarn install --frozen-lockfile --production=false",
                "SECRET_KEY_BASE=only-for-the-build SECRET_KEY_BASE_DUMMY=1 bundle exec rails assets:precompile",
            ],
        )],
        "bundle exec rails server -b 0.0.0.0 -p $PORT",
    );
    assert_eq!(plan.run.env["RAILS_ENV"], "production");
    assert!(packages(&plan).contains(&"yarnpkg".to_owned()));
    assert!(notes(&plan)[0].starts_with("Gemfile asks for Ruby 3.3.0, and this is 3.1 of Debian"));
    refused(
        &[("Gemfile", "")],
        "there is no config/application.rb of Rails, no config.ru and none of app.rb",
    );
}

#[test]
fn go_builds_the_program_there_is() {
    let module = ("go.mod", "module example.org/shop\n\ngo 1.22\n");
    let start = "/usr/local/bin/service";
    let plan = check(
        &[module, ("main.go", GO_MAIN)],
        "Go (go.mod)",
        &[("*", &["go build -o /usr/local/bin/service ."])],
        start,
    );
    assert!(notes(&plan)[0].starts_with("go.mod asks for Go 1.22, and this is 1.19 of Debian"));
    for files in [
        &[module, ("cmd/anything/main.go", GO_MAIN)][..],
        &[
            module,
            ("cmd/anything/main.go", GO_MAIN),
            ("cmd/x/x.go", "package x\n"),
        ],
    ] {
        let build = ["go build -o /usr/local/bin/service ./cmd/anything"];
        check(files, "Go (go.mod)", &[("*", &build)], start);
    }
    check(
        &[
            module,
            ("cmd/shop/a.go", GO_MAIN),
            ("cmd/server/b.go", GO_MAIN),
        ],
        "Go (go.mod)",
        &[("*", &["go build -o /usr/local/bin/service ./cmd/shop"])],
        start,
    );
    refused(&[module], "Go: there is no `package main`");
    refused(
        &[module, ("cmd/a/a.go", GO_MAIN), ("cmd/b/b.go", GO_MAIN)],
        "several programs (a, b)",
    );
}

#[test]
fn rust_builds_the_binary_there_is() {
    let start = "/usr/local/bin/service";
    let steps = |locked: &str, package: &str, binary: &str| {
        (
            format!("cargo build --release{locked} --package {package} --bin {binary}"),
            format!("install -D \"$CARGO_TARGET_DIR/release/{binary}\" /usr/local/bin/service"),
        )
    };
    let (build, install) = steps(" --locked", "shop", "shop");
    let plan = check(
        &[
            (
                "Cargo.toml",
                "[package]\nname = \"shop\"\nedition = \"2024\"\n",
            ),
            ("Cargo.lock", "version = 4\n"),
            ("src/main.rs", ""),
        ],
        "Rust (Cargo.toml)",
        &[("*", &[&build, &install])],
        start,
    );
    assert_eq!(
        plan.steps[0].env["CARGO_TARGET_DIR"],
        "/run/ekiden/cache/target"
    );
    assert!(notes(&plan)[0].starts_with("edition 2024 needs Rust 1.85"));
    assert!(notes(&plan)[1].starts_with("Cargo.lock needs Rust 1.78"));
    let (build, install) = steps("", "web", "web");
    check(
        &[
            ("Cargo.toml", "[workspace]\nmembers = [\"crates/*\"]\n"),
            ("crates/web/Cargo.toml", "[package]\nname = \"web\"\n"),
            ("crates/web/src/main.rs", ""),
            ("crates/lib/Cargo.toml", "[package]\nname = \"lib\"\n"),
        ],
        "Rust (Cargo.toml)",
        &[("*", &[&build, &install])],
        start,
    );
    let two = "[package]\nname = \"x\"\n[[bin]]\nname = \"a\"\n[[bin]]\nname = \"b\"\n";
    refused(
        &[("Cargo.toml", two)],
        "Rust: it has several binaries (a, b)",
    );
    refused(
        &[("Cargo.toml", "[package]\nname = \"x\"\n")],
        "no package of it has a binary",
    );
}

#[test]
fn java_is_built_by_maven_or_by_gradles_wrapper() {
    let (what, plan) = detected(&[("pom.xml", "<java.version>21</java.version>")]).unwrap();
    assert_eq!(what, "Java (Maven) (pom.xml)");
    assert!(plan.steps[0].commands[0].contains("mvn -B -DskipTests package"));
    assert!(
        plan.run
            .command
            .as_deref()
            .unwrap()
            .contains("SERVER_PORT=\"$PORT\"")
    );
    assert!(notes(&plan)[0].starts_with("pom.xml asks for Java 21, and this is 17 of Debian"));
    let (what, plan) = detected(&[("pom.xml", "<id>quarkus</id>")]).unwrap();
    assert_eq!(what, "Java (Quarkus, Maven) (pom.xml)");
    assert!(
        plan.run
            .command
            .as_deref()
            .unwrap()
            .ends_with("target/quarkus-app/quarkus-run.jar")
    );
    let (what, _) = detected(&[("build.gradle.kts", ""), ("gradlew", "")]).unwrap();
    assert_eq!(what, "Java (Gradle) (gradlew, build.gradle*)");
    refused(
        &[("build.gradle", "")],
        "Java (Gradle): the project has no `gradlew`",
    );
}

#[test]
fn php_is_served_from_its_public_directory() {
    let install = "composer install --no-dev --no-scripts --no-autoloader --prefer-dist";
    let plan = check(
        &[
            ("composer.json", "{}"),
            ("composer.lock", "{}"),
            ("public/index.php", ""),
        ],
        "PHP (composer.json, public/index.php)",
        &[
            ("composer.json composer.lock", &[install]),
            (
                "*",
                &["composer install --no-dev --prefer-dist --optimize-autoloader"],
            ),
        ],
        "serve-php public",
    );
    assert!(
        plan.steps[0].commands[0]
            .starts_with("cat > /usr/local/bin/serve-php <<'EOF'\n#!/bin/sh\n")
    );
    check(
        &[("index.php", "")],
        "PHP (index.php)",
        &[("*", &[])],
        "serve-php .",
    );
    let (what, plan) = detected(&[
        ("composer.json", ""),
        ("artisan", ""),
        ("package.json", r#"{"scripts":{"build":"vite build"}}"#),
    ])
    .unwrap();
    assert_eq!(what, "PHP (Laravel) (composer.json, artisan)");
    let build = &plan.steps.last().unwrap().commands;
    assert_eq!(build.last().map(String::as_str), Some("npm run build"));
    assert!(packages(&plan).contains(&"npm".to_owned()));
}

#[test]
fn dotnet_needs_an_image() {
    refused(
        &[("App.csproj", "")],
        "the runtime `dotnet` has no base: Debian bookworm does not have .NET",
    );
}

#[test]
fn files_are_served_as_they_are() {
    let plan = check(
        &[("index.html", "")],
        "static site (index.html)",
        &[("*", &[])],
        "serve-static .",
    );
    assert_eq!(
        plan.version,
        "static: nginx 1.22 of Debian bookworm (nginx-light)"
    );
    check(
        &[("_site/index.html", "")],
        "static site (_site/index.html)",
        &[("*", &[])],
        "serve-static _site",
    );
}

#[test]
fn a_procfile_says_how_to_start() {
    let plan = check(
        &[
            ("requirements.txt", "flask\n"),
            ("Procfile", "web: gunicorn x:y\nrelease: a\nworker: b\n"),
        ],
        "Python (requirements.txt)",
        &[("requirements.txt", &[VENV, PIP]), ("*", &[])],
        "gunicorn x:y",
    );
    assert_eq!(
        notes(&plan),
        [
            "Procfile's `release` is not run: run it when you mean to",
            "Procfile's `worker` is not run: only `web` is",
        ]
    );
    refused(
        &[("requirements.txt", ""), ("Procfile", "web\n")],
        "Procfile, line 1: there is no `:`",
    );
}

#[test]
fn the_first_runtime_that_knows_a_source_is_taken() {
    let package = ("package.json", r#"{"scripts":{"start":"node a.js"}}"#);
    let (what, plan) = detected(&[package, ("go.mod", ""), ("main.go", GO_MAIN)]).unwrap();
    assert_eq!(what, "Go (go.mod)");
    assert!(notes(&plan)[0].starts_with("the source also looks like Node.js"));
    // A few scripts in Python do not make a server of it.
    let (what, _) = detected(&[package, ("requirements.txt", "")]).unwrap();
    assert_eq!(what, "Node.js (package.json)");
}

#[test]
fn nothing_that_is_known_is_an_error_with_advice() {
    let why = detected(&[("README.md", ""), ("src/x.f90", "")])
        .unwrap_err()
        .to_string();
    assert_eq!(
        why,
        "nothing was found by which to build the source: there is no apprunner.yaml, no Dockerfile and \
         none of Gemfile, composer.json, public/index.php, index.php, go.mod, Cargo.toml, pom.xml, \
         gradlew, build.gradle*, *.csproj, *.fsproj, requirements.txt, pyproject.toml, uv.lock, Pipfile, \
         setup.py, manage.py, app.py, main.py, server.py, wsgi.py, application.py, streamlit_app.py, \
         package.json, index.html, public/index.html, dist/index.html, build/index.html, \
         _site/index.html, site/index.html, html/index.html; add one of them, or correct the source \
         directory, which has README.md, src"
    );
    refused(&[], "which is empty");
}
