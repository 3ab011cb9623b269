//! Python: Django, Flask, FastAPI, Streamlit and plain programs; pip, uv, Poetry and Pipenv.
//!
//! Packages go into a virtual environment outside of the source, [`ENVIRONMENT`], which is first on the
//! search path of the build and of the application.

use toml::{Table, Value};

use super::{Detection, Look, Needs};
use crate::{plan::Note, planner::PlanError, shell::quote, tree};

/// Files by which Python is known.
pub(super) const MARKS: [&str; 12] = [
    "requirements.txt",
    "pyproject.toml",
    "uv.lock",
    "Pipfile",
    "setup.py",
    "manage.py",
    "app.py",
    "main.py",
    "server.py",
    "wsgi.py",
    "application.py",
    "streamlit_app.py",
];

/// Files in which an application may be, in the order they are looked at.
const PROGRAMS: [&str; 15] = [
    "app.py",
    "main.py",
    "server.py",
    "wsgi.py",
    "asgi.py",
    "application.py",
    "api.py",
    "run.py",
    "streamlit_app.py",
    "app/main.py",
    "app/app.py",
    "app/__init__.py",
    "src/main.py",
    "src/app.py",
    "src/server.py",
];

/// Where packages are installed.
const ENVIRONMENT: &str = "/opt/venv";

/// The search path with that first.
const PATH: &str = "/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an application is made with, and what serves it.
struct Framework {
    title: &'static str,
    /// What makes an application: `app = Flask(`.
    class: &'static str,
    server: &'static str,
    serves: &'static str,
}

/// `{}` stands for `module:variable`. Access logs are the front door's.
const FRAMEWORKS: [Framework; 6] = [
    Framework {
        title: "FastAPI",
        class: "FastAPI",
        server: "uvicorn",
        serves: "uvicorn --host 0.0.0.0 --port $PORT --proxy-headers {}",
    },
    Framework {
        title: "Starlette",
        class: "Starlette",
        server: "uvicorn",
        serves: "uvicorn --host 0.0.0.0 --port $PORT --proxy-headers {}",
    },
    Framework {
        title: "Quart",
        class: "Quart",
        server: "hypercorn",
        serves: "hypercorn --bind 0.0.0.0:$PORT {}",
    },
    Framework {
        title: "Flask",
        class: "Flask",
        server: "gunicorn",
        serves: "gunicorn --bind 0.0.0.0:$PORT {}",
    },
    Framework {
        title: "Falcon",
        class: "falcon.App",
        server: "gunicorn",
        serves: "gunicorn --bind 0.0.0.0:$PORT {}",
    },
    Framework {
        title: "Bottle",
        class: "Bottle",
        server: "gunicorn",
        serves: "gunicorn --bind 0.0.0.0:$PORT {}",
    },
];

impl Look<'_> {
    pub(super) fn python(&self) -> Result<Option<Detection>, PlanError> {
        let dependencies = self.python_dependencies()?;
        let mut detection = Detection::default();
        self.start_python(&dependencies, &mut detection);
        // `package.json` beside a few scripts: that is the application.
        if detection.start.is_none() && self.tree.is_file("package.json") {
            return Ok(None);
        }
        let Dependencies {
            needs,
            mut commands,
            from,
            ..
        } = dependencies;
        commands.insert(0, format!("python3 -m venv {ENVIRONMENT}"));
        commands.append(&mut detection.setup);
        detection.install = Some((needs, commands));
        detection.what = match from {
            Some(from) => format!("{} ({from})", detection.what),
            None => detection.what,
        };
        for env in [&mut detection.build_env, &mut detection.run_env] {
            env.insert("PATH".to_owned(), PATH.to_owned());
            env.insert("VIRTUAL_ENV".to_owned(), ENVIRONMENT.to_owned());
        }
        let uv = [
            ("UV_PROJECT_ENVIRONMENT", ENVIRONMENT),
            ("UV_PYTHON_DOWNLOADS", "never"),
        ];
        for (name, value) in uv {
            detection
                .build_env
                .insert(name.to_owned(), value.to_owned());
        }
        Ok(Some(detection))
    }

    fn start_python(&self, dependencies: &Dependencies, detection: &mut Detection) {
        if self.tree.is_file("manage.py") {
            return self.start_django(dependencies, detection);
        }
        for path in PROGRAMS {
            let Some(text) = self.tree.read(path) else {
                continue;
            };
            if text.contains("import streamlit") && dependencies.has("streamlit") {
                detection.what = "Streamlit".to_owned();
                detection.start = Some(format!(
                    "streamlit run {path} --server.port $PORT --server.address 0.0.0.0 \
                     --server.headless true"
                ));
                return;
            }
            for framework in &FRAMEWORKS {
                let Some(application) = application(&text, framework.class) else {
                    continue;
                };
                let target = quote(&format!("{}:{application}", module(path)));
                detection.what = framework.title.to_owned();
                detection.start = Some(framework.serves.replace("{}", &target));
                return server(framework.server, dependencies, detection);
            }
        }
        let programs = PROGRAMS
            .iter()
            .filter(|path| !path.ends_with("__init__.py"));
        let program = programs.copied().find(|path| self.tree.is_file(path));
        detection.what = "Python".to_owned();
        detection.start = program.map(|program| format!("python3 {program}"));
        detection.start_unknown = format!(
            "there is no manage.py of Django and none of {}",
            PROGRAMS.join(", ")
        );
    }

    fn start_django(&self, dependencies: &Dependencies, detection: &mut Detection) {
        detection.what = "Django (manage.py)".to_owned();
        let names = self.tree.list("").into_iter();
        let project = names
            .into_iter()
            .find(|name| self.tree.is_file(&format!("{name}/wsgi.py")));
        let Some(project) = project else {
            detection.start_unknown = "no directory has a wsgi.py beside manage.py".to_owned();
            return;
        };
        let settings = [
            format!("{project}/settings.py"),
            format!("{project}/settings/base.py"),
            format!("{project}/settings/production.py"),
            format!("{project}/settings/__init__.py"),
        ];
        let mut settings = settings.iter().filter_map(|path| self.tree.read(path));
        if settings.any(|text| {
            text.lines()
                .any(|line| line.trim_start().starts_with("STATIC_ROOT"))
        }) {
            let collect = "python3 manage.py collectstatic --noinput";
            detection.build.push(collect.to_owned());
        }
        let is_asgi = self.tree.is_file(&format!("{project}/asgi.py"));
        if is_asgi && dependencies.has("daphne") {
            let start = format!("daphne -b 0.0.0.0 -p $PORT {project}.asgi:application");
            detection.start = Some(start);
        } else if is_asgi && dependencies.has("uvicorn") && !dependencies.has("gunicorn") {
            let start = format!("uvicorn --host 0.0.0.0 --port $PORT {project}.asgi:application");
            detection.start = Some(start);
        } else {
            let start = format!("gunicorn --bind 0.0.0.0:$PORT {project}.wsgi:application");
            detection.start = Some(start);
            server("gunicorn", dependencies, detection);
        }
        let note = "migrations are not run: run `python3 manage.py migrate` when you mean to";
        detection.notes.push(Note::new(note));
    }

    fn python_dependencies(&self) -> Result<Dependencies, PlanError> {
        let read = |path: &str| self.tree.read(path).unwrap_or_default();
        let files = |names: &[&str]| Needs::Files(tree::present(self.tree, names));
        let pyproject = read("pyproject.toml");
        let table: Table = pyproject.parse().map_err(|_| PlanError::Source {
            what: "Python".to_owned(),
            problem: "`pyproject.toml` is not TOML".to_owned(),
        })?;
        let is_poetry = table
            .get("tool")
            .and_then(|tool| tool.get("poetry"))
            .is_some();
        Ok(
            if self.tree.is_file("uv.lock") && self.tree.is_file("pyproject.toml") {
                Dependencies {
                    needs: files(&["pyproject.toml", "uv.lock"]),
                    commands: vec![
                        tool("uv"),
                        "/opt/tools/bin/uv sync --frozen --no-dev --no-install-project".to_owned(),
                    ],
                    from: Some("uv.lock"),
                    text: pyproject,
                }
                .unless_local(
                    &read("uv.lock"),
                    &["source = { editable", "source = { directory"],
                    1,
                )
            } else if self.tree.is_file("requirements.txt") {
                let text = read("requirements.txt");
                let is_local = text.lines().any(is_local_requirement);
                let install = "pip install -r requirements.txt".to_owned();
                Dependencies {
                    needs: match is_local {
                        true => Needs::Source,
                        false => files(&["requirements.txt"]),
                    },
                    commands: vec![install],
                    from: Some("requirements.txt"),
                    text,
                }
            } else if is_poetry {
                Dependencies {
                    needs: files(&["pyproject.toml", "poetry.lock"]),
                    commands: vec![
                        tool("poetry"),
                        "/opt/tools/bin/poetry install --only main --no-root --no-interaction"
                            .to_owned(),
                    ],
                    from: Some("pyproject.toml of Poetry"),
                    text: pyproject.clone(),
                }
                .unless_local(&pyproject, &["path = "], 0)
            } else if self.tree.is_file("Pipfile") {
                let lock = match self.tree.is_file("Pipfile.lock") {
                    true => "",
                    false => "/opt/tools/bin/pipenv lock && ",
                };
                let requirements = "/opt/tools/bin/pipenv requirements > /tmp/requirements.txt";
                Dependencies {
                    needs: files(&["Pipfile", "Pipfile.lock"]),
                    commands: vec![
                        tool("pipenv"),
                        format!("{lock}{requirements} && pip install -r /tmp/requirements.txt"),
                    ],
                    from: Some("Pipfile"),
                    text: read("Pipfile"),
                }
                .unless_local(
                    &read("Pipfile"),
                    &["path = ", "path=", "editable"],
                    0,
                )
            } else if let Some(listed) = listed(&table) {
                let words: Vec<_> = listed.iter().map(|dependency| quote(dependency)).collect();
                let install = format!("pip install {}", words.join(" "));
                Dependencies {
                    // The command says it all.
                    needs: Needs::Files(Vec::new()),
                    commands: if words.is_empty() {
                        Vec::new()
                    } else {
                        vec![install]
                    },
                    from: Some("pyproject.toml"),
                    text: listed.join("\n"),
                }
            } else if self.tree.is_file("pyproject.toml") || self.tree.is_file("setup.py") {
                Dependencies {
                    needs: Needs::Source,
                    commands: vec!["pip install .".to_owned()],
                    from: Some("setup.py or pyproject.toml"),
                    text: pyproject + &read("setup.py") + &read("setup.cfg"),
                }
            } else {
                Dependencies {
                    needs: Needs::Files(Vec::new()),
                    commands: Vec::new(),
                    from: None,
                    text: String::new(),
                }
            },
        )
    }
}

/// What is to be installed.
struct Dependencies {
    needs: Needs,
    commands: Vec<String>,
    from: Option<&'static str>,
    /// Where their names are.
    text: String,
}

impl Dependencies {
    /// Whether a package is among them, by name.
    fn has(&self, package: &str) -> bool {
        let ends = |c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c));
        let lines = self
            .text
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default());
        let mut words = lines.flat_map(|line| line.split(ends));
        words.any(|word| word.eq_ignore_ascii_case(package))
    }

    /// The same, with the source if a file names more than `allowed` packages that are in the source.
    fn unless_local(self, file: &str, marks: &[&str], allowed: usize) -> Self {
        let is_local = |line: &&str| marks.iter().any(|mark| line.contains(mark));
        match file.lines().filter(is_local).count() > allowed {
            true => Self {
                needs: Needs::Source,
                ..self
            },
            false => self,
        }
    }
}

/// Tools have an environment of their own, so that their dependencies are not the application's.
fn tool(name: &str) -> String {
    format!("python3 -m venv /opt/tools && /opt/tools/bin/pip install {name}")
}

/// Dependencies that `pyproject.toml` lists itself.
fn listed(pyproject: &Table) -> Option<Vec<String>> {
    let project = pyproject.get("project")?.as_table()?;
    let dynamic = project.get("dynamic").and_then(Value::as_array);
    if dynamic.is_some_and(|names| names.iter().any(|n| n.as_str() == Some("dependencies"))) {
        return None;
    }
    let dependencies = project.get("dependencies").and_then(Value::as_array);
    let texts = dependencies.into_iter().flatten().filter_map(Value::as_str);
    Some(texts.map(str::to_owned).collect())
}

/// Whether a line of `requirements.txt` needs other files of the source.
fn is_local_requirement(line: &str) -> bool {
    let line = line.trim();
    let options = [
        "-e",
        "--editable",
        "-r",
        "--requirement",
        "-c",
        "--constraint",
        "-f",
        "--find",
    ];
    options.iter().any(|option| line.starts_with(option))
        || line.starts_with(['.', '/'])
        || line.contains("@ file:")
        || line.starts_with("file:")
        || line.ends_with(".whl") && !line.contains("://")
}

/// `app.main` of `app/main.py`.
fn module(path: &str) -> String {
    let path = path.trim_end_matches(".py");
    path.trim_end_matches("/__init__").replace('/', ".")
}

/// The variable that holds an application, or the function that makes one with `()`.
fn application(text: &str, class: &str) -> Option<String> {
    let call = format!("{class}(");
    let is_name = |name: &str| {
        let mut chars = name.chars();
        chars
            .next()
            .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let assigned = |line: &str| {
        let (left, right) = line.split_once('=')?;
        // `app: FastAPI = FastAPI()` and `app = flask.Flask()`.
        let name = left.split(':').next()?.trim_end();
        let made = right.trim_start().split('(').next()?;
        let is_class = made == class || made.ends_with(&format!(".{class}"));
        let is_call = right.contains('(');
        (is_class && is_call && is_name(name)).then(|| name.to_owned())
    };
    // At the top level: what is indented is not the module's.
    if let Some(name) = text.lines().find_map(assigned) {
        return Some(name);
    }
    let has_factory = text.lines().any(|line| line.starts_with("def create_app("));
    (has_factory && text.contains(&call) && class != "FastAPI").then(|| "create_app()".to_owned())
}

/// What serves the application is installed if the source does not bring it.
fn server(name: &str, dependencies: &Dependencies, detection: &mut Detection) {
    let brings = dependencies.has(name)
        || name == "uvicorn" && dependencies.text.to_lowercase().contains("fastapi[");
    if brings {
        return;
    }
    detection.setup.push(format!("pip install {name}"));
    detection.notes.push(Note::new(format!(
        "{name} serves the application and is installed for that; add it to the dependencies to choose \
         its version"
    )));
}
