//! Decides how a source is built: the one function that everything here is for.

use std::collections::BTreeMap;

use ekiden_model::revision::ENV_RESERVED;

use crate::{
    apprunner_yaml::{self, AppRunnerYaml, Parsed},
    detect::{self, Detection, Needs, nodejs},
    plan::{
        APPLICATION_DIR, Basis, BuildPlan, DockerfilePlan, From, Input, Note, PORT_DEFAULT, Plan,
        Planned, Run, Step,
    },
    procfile::{self, InvalidProcfile, Procfile},
    runtime::{Process, RuntimeError, Runtimes, Selected},
    shell,
    tree::{READ_BYTES_MAX, Tree},
    yaml::Position,
};

/// The Dockerfile that is looked for.
const DOCKERFILE: &str = "Dockerfile";

/// Package managers of Amazon Linux, on which App Runner's runtimes are.
const AMAZON_LINUX: [&str; 4] = ["yum", "dnf", "microdnf", "amazon-linux-extras"];

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// How to decide.
    pub method: Method,
    /// What takes the place of what was decided.
    pub overrides: Overrides,
    /// The source directory below the whole source: what the tree's paths are relative to. Empty or `/`:
    /// the whole.
    pub source_directory: String,
}

/// What decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Method {
    /// `apprunner.yaml` if there is one, else `Dockerfile`, else detection.
    #[default]
    Auto,
    /// `apprunner.yaml`: the API's `REPOSITORY`.
    AppRunnerYaml,
    /// These values: the API's `API`.
    Values(CodeValues),
    /// What the source is made of.
    Detect,
    /// A Dockerfile.
    Dockerfile {
        /// Relative to the source directory.
        path: String,
        /// Its stage; the last without.
        target: Option<String>,
        /// Build arguments.
        args: BTreeMap<String, String>,
    },
}

impl Method {
    /// Whether `apprunner.yaml` says how `tree` is built.
    pub fn reads_apprunner_yaml(&self, tree: &dyn Tree) -> bool {
        match self {
            Self::Auto => tree.is_file(apprunner_yaml::FILE_NAME),
            Self::AppRunnerYaml => true,
            Self::Values(_) | Self::Detect | Self::Dockerfile { .. } => false,
        }
    }
}

/// `CodeConfigurationValues` of the API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CodeValues {
    /// Such as `PYTHON_311`; the names of `apprunner.yaml` do as well.
    pub runtime: String,
    /// The `build` phase.
    pub build_command: Option<String>,
    /// What starts the application.
    pub start_command: Option<String>,
    /// Where it listens.
    pub port: Option<u16>,
    /// Its variables. Commands of the build do not see them.
    pub env: BTreeMap<String, String>,
    /// References to its secret variables.
    pub secrets: BTreeMap<String, String>,
}

/// What takes the place of what was decided otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Debian packages that are installed before all else, sorted and each once.
    pub packages: Vec<String>,
    /// Instead of the commands that build. Dependencies that were detected are installed all the same.
    pub build_command: Option<String>,
    /// Instead of the command that starts the application.
    pub start_command: Option<String>,
    /// Where it listens.
    pub port: Option<u16>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The configuration was to be read from the source, and is not there.
    #[error(
        "there is no `apprunner.yaml` in the source directory; add one, correct the source directory, or \
         configure the service by values instead of by the repository"
    )]
    ConfigurationMissing,
    /// `apprunner.yaml` is too large, or not UTF-8.
    #[error("`{path}` cannot be read: it must be UTF-8 and at most {most} bytes")]
    Unreadable {
        /// Which file.
        path: String,
        /// The bound.
        most: usize,
    },
    /// `apprunner.yaml` is not valid.
    #[error(transparent)]
    Configuration(#[from] apprunner_yaml::Invalid),
    /// The runtime that `apprunner.yaml` names cannot be had.
    #[error("{file}, {at}: {problem}", file = apprunner_yaml::FILE_NAME)]
    RuntimeAt {
        /// Where it is named.
        at: Position,
        /// Why.
        problem: RuntimeError,
    },
    /// A runtime cannot be had.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// `package.json` excludes the version that was locked.
    #[error(
        "`runtime-version` is {locked}, and package.json asks for Node.js {range} (`engines.node`); make \
         them agree"
    )]
    EngineConflict {
        /// The lock.
        locked: String,
        /// What `package.json` says.
        range: String,
    },
    /// Nobody said how the application is started.
    #[error("{what}: how it is started is not known: {problem}; {advice}")]
    StartUnknown {
        /// What it was taken for.
        what: String,
        /// What was looked for.
        problem: String,
        /// What to do.
        advice: &'static str,
    },
    /// A source that is known but cannot be built.
    #[error("{what}: {problem}")]
    Source {
        /// What it was taken for.
        what: String,
        /// Why not, and what to do.
        problem: String,
    },
    /// No runtime knows the source.
    #[error(
        "nothing was found by which to build the source: there is no apprunner.yaml, no Dockerfile and \
         none of {looked_for}; add one of them, or correct the source directory{}",
        found_instead(.found)
    )]
    NothingDetected {
        /// Files that were looked for.
        looked_for: String,
        /// What is there instead: a few names.
        found: Vec<String>,
    },
    /// The Dockerfile that was named is not there.
    #[error("there is no `{path}` in the source directory; correct the path or add the file")]
    DockerfileMissing {
        /// Which.
        path: String,
    },
    /// The `Procfile` is not one.
    #[error(transparent)]
    Procfile(#[from] InvalidProcfile),
    /// A variable that is Ekiden's to set.
    #[error("the variable `{name}` is set by Ekiden; choose another name")]
    Reserved {
        /// Which.
        name: String,
    },
    /// A source directory that is not below the source.
    #[error("`{path}` cannot be a source directory; give a path below the repository's root")]
    SourceDirectory {
        /// Which.
        path: String,
    },
}

fn found_instead(found: &[String]) -> String {
    match found.is_empty() {
        true => ", which is empty".to_owned(),
        false => format!(", which has {}", found.join(", ")),
    }
}

/// What to do when nobody says how to start.
const START_ADVICE: &str =
    "add a Procfile with `web: …`, an apprunner.yaml, or give a start command";

/// Decides how a source is built and run.
///
/// # Errors
/// It cannot be: the error says why and what to do.
pub fn plan(tree: &dyn Tree, request: &Request, runtimes: &Runtimes) -> Result<Planned, PlanError> {
    let planner = Planner {
        tree,
        overrides: &request.overrides,
        runtimes,
        working_dir: working_dir(&request.source_directory)?,
    };
    let mut planned = planner.decide(&request.method)?;
    if let Plan::Managed(plan) = &mut planned.plan {
        install_first(plan, &request.overrides.packages);
    }
    Ok(planned)
}

/// Puts a step before all others that installs packages, so that all are upon it.
fn install_first(plan: &mut BuildPlan, packages: &[String]) {
    if packages.is_empty() {
        return;
    }
    let moved = |from: From| match from {
        From::Base => From::Step(0),
        From::Step(index) => From::Step(index + 1),
        From::Application(index) => From::Application(index + 1),
    };
    for step in &mut plan.steps {
        step.on = moved(step.on);
    }
    plan.image = moved(plan.image);
    let packages = packages.join(" ");
    let step = Step {
        name: "packages".to_owned(),
        on: From::Base,
        input: Input::Nothing,
        commands: vec![
            "apt-get update -q".to_owned(),
            format!("apt-get install -q -y --no-install-recommends {packages}"),
            "rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin".to_owned(),
        ],
        env: BTreeMap::from([("DEBIAN_FRONTEND".to_owned(), "noninteractive".to_owned())]),
        keep: true,
    };
    plan.steps.insert(0, step);
}

impl Planner<'_> {
    fn decide(&self, method: &Method) -> Result<Planned, PlanError> {
        let (planner, tree) = (self, self.tree);
        match method {
            Method::Auto if method.reads_apprunner_yaml(tree) => planner.by_file(),
            Method::Auto if tree.is_file(DOCKERFILE) => {
                planner.by_dockerfile(DOCKERFILE, None, BTreeMap::new())
            }
            Method::Auto | Method::Detect => planner.by_detection(),
            Method::AppRunnerYaml => planner.by_file(),
            Method::Values(values) => planner.by_values(values),
            Method::Dockerfile { path, target, args } => {
                planner.by_dockerfile(path, target.clone(), args.clone())
            }
        }
    }
}

fn working_dir(source_directory: &str) -> Result<String, PlanError> {
    let parts = source_directory
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".");
    let mut dir = APPLICATION_DIR.to_owned();
    for part in parts {
        if part == ".." || part.contains('\0') {
            return Err(PlanError::SourceDirectory {
                path: apprunner_yaml::short(source_directory),
            });
        }
        dir = format!("{dir}/{part}");
    }
    Ok(dir)
}

struct Planner<'a> {
    tree: &'a dyn Tree,
    overrides: &'a Overrides,
    runtimes: &'a Runtimes,
    working_dir: String,
}

/// The phases of a build of App Runner's.
struct Phases {
    pre_build: Vec<String>,
    build: Vec<String>,
    post_build: Vec<String>,
    pre_run: Vec<String>,
    env: BTreeMap<String, String>,
}

impl Planner<'_> {
    fn by_file(&self) -> Result<Planned, PlanError> {
        let path = apprunner_yaml::FILE_NAME;
        if !self.tree.is_file(path) {
            return Err(PlanError::ConfigurationMissing);
        }
        let text = self.tree.read(path).ok_or_else(|| PlanError::Unreadable {
            path: path.to_owned(),
            most: apprunner_yaml::FILE_BYTES_MAX.min(READ_BYTES_MAX),
        })?;
        let Parsed {
            file,
            runtime_at,
            version_at,
            pre_run_at,
            mut notes,
        } = apprunner_yaml::parse(text.as_bytes())?;
        let AppRunnerYaml {
            runtime,
            build,
            run,
        } = file;
        let at = |at| move |problem| PlanError::RuntimeAt { at, problem };
        let selected = self.runtimes.select(&runtime).map_err(at(runtime_at))?;
        if let Some(locked) = &run.runtime_version {
            let version_at = version_at.unwrap_or(runtime_at);
            selected.check_lock(locked).map_err(at(version_at))?;
            self.check_engine(&selected, locked)?;
            if locked.is_finer_than(&selected.version) {
                let text = format!(
                    "the version is locked to {locked}; {} {} of {} has patches of its own",
                    selected.runtime.title, selected.version, selected.origin
                );
                notes.push(Note::at(version_at, text));
            }
        }
        let mut pre_run = run.pre_run;
        if selected.process == Process::Original && !pre_run.is_empty() {
            pre_run.clear();
            let text = format!(
                "`pre-run` is ignored: the runtime `{}` builds the original way, in which `build` runs \
                 again in the image",
                selected.name
            );
            notes.push(Note::at(pre_run_at.unwrap_or_default(), text));
        }
        let phases = Phases {
            pre_build: build.pre_build,
            build: build.build,
            post_build: build.post_build,
            pre_run,
            env: build.env,
        };
        let run = Run {
            command: Some(run.command),
            port: run.port,
            port_env: run.port_env,
            env: run.env,
            secrets: run.secrets,
            working_dir: self.working_dir.clone(),
        };
        let plan = self.managed(&selected, phases, run, notes);
        Ok(Planned {
            basis: Basis::AppRunnerYaml,
            plan: Plan::Managed(plan),
        })
    }

    fn by_values(&self, values: &CodeValues) -> Result<Planned, PlanError> {
        let selected = self.runtimes.select(&values.runtime)?;
        check_names(values.env.keys().chain(values.secrets.keys()))?;
        let given = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
        let command = given(&self.overrides.start_command).or(given(&values.start_command));
        if command.is_none() {
            return Err(PlanError::StartUnknown {
                what: selected.name,
                problem: "there is no start command".to_owned(),
                advice: "give one",
            });
        }
        let mut notes = Vec::new();
        let build: Vec<String> = given(&values.build_command).into_iter().collect();
        if build.is_empty() && given(&self.overrides.build_command).is_none() {
            let note = "there is no build command: the source is run as it is";
            notes.push(Note::new(note));
        }
        let phases = Phases {
            pre_build: Vec::new(),
            build,
            post_build: Vec::new(),
            pre_run: Vec::new(),
            env: BTreeMap::new(),
        };
        let run = Run {
            command,
            port: values.port.unwrap_or(PORT_DEFAULT),
            port_env: None,
            env: values.env.clone(),
            secrets: values.secrets.clone(),
            working_dir: self.working_dir.clone(),
        };
        let plan = self.managed(&selected, phases, run, notes);
        Ok(Planned {
            basis: Basis::Values,
            plan: Plan::Managed(plan),
        })
    }

    /// App Runner's two ways to build (specification, section 8.1).
    fn managed(
        &self,
        selected: &Selected<'_>,
        phases: Phases,
        mut run: Run,
        mut notes: Vec<Note>,
    ) -> BuildPlan {
        let Phases {
            pre_build,
            mut build,
            post_build,
            pre_run,
            env: own_env,
        } = phases;
        if let Some(command) = &self.overrides.build_command {
            build = vec![command.clone()];
        }
        notes.extend(selected.difference().map(Note::new));
        notes.extend(detect::wanted(self.tree, selected));
        let all = [&pre_build, &build, &post_build, &pre_run];
        notes.extend(amazon_linux(all.into_iter().flatten()));
        let mut env = selected.runtime.variables_of_build();
        env.extend(own_env);
        let setup = &selected.runtime.setup;
        let step = |name: &str, on, input, commands: Vec<String>, keep| Step {
            name: name.to_owned(),
            on,
            input,
            commands,
            env: env.clone(),
            keep,
        };
        let first = [setup, &pre_build, &build]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        let mut steps = vec![step("build", From::Base, Input::Source, first, true)];
        let mut image = From::Application(0);
        let second = match selected.process {
            Process::Original => ("build again", &build),
            Process::Revised => ("pre-run", &pre_run),
        };
        // What completes the base is not below /app, so the image needs it again.
        let commands: Vec<String> = setup.iter().chain(second.1).cloned().collect();
        if !commands.is_empty() {
            let (on, input) = (From::Application(0), Input::Nothing);
            steps.push(step(second.0, on, input, commands, true));
            image = From::Step(1);
        }
        if !post_build.is_empty() {
            let (on, input) = (From::Step(0), Input::Nothing);
            steps.push(step("post-build", on, input, post_build, false));
        }
        self.finish_run(selected, BTreeMap::new(), &mut run);
        BuildPlan {
            runtime: selected.name.clone(),
            version: selected.to_string(),
            base: selected.base(&[]),
            steps,
            image,
            run,
            notes,
        }
    }

    fn by_detection(&self) -> Result<Planned, PlanError> {
        let Some((selected, mut detection)) = detect::detect(self.tree, self.runtimes)? else {
            let mut found = self.tree.list("");
            found.truncate(10);
            return Err(PlanError::NothingDetected {
                looked_for: detect::looked_for(self.runtimes),
                found,
            });
        };
        self.apply_procfile(&mut detection)?;
        let command = self
            .overrides
            .start_command
            .clone()
            .or(detection.start.take());
        let Some(command) = command else {
            return Err(PlanError::StartUnknown {
                what: detection.what,
                problem: detection.start_unknown,
                advice: START_ADVICE,
            });
        };
        let mut run = Run {
            command: Some(command),
            port: PORT_DEFAULT,
            port_env: None,
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            working_dir: self.working_dir.clone(),
        };
        self.finish_run(&selected, detection.run_env.clone(), &mut run);
        let basis = Basis::Detected(detection.what.clone());
        let steps = self.detected_steps(&selected, &detection);
        let plan = BuildPlan {
            runtime: selected.name.clone(),
            version: selected.to_string(),
            base: selected.base(&detection.packages),
            image: From::Step(steps.len() - 1), // there is at least the one that lays the source
            steps,
            run,
            notes: detection.notes,
        };
        Ok(Planned {
            basis,
            plan: Plan::Managed(plan),
        })
    }

    /// Setup, install and build, each upon the one before; what has no commands is left out, except that
    /// the source is laid in the last.
    fn detected_steps(&self, selected: &Selected<'_>, detection: &Detection) -> Vec<Step> {
        let mut env = selected.runtime.variables_of_build();
        env.extend(detection.build_env.clone());
        let mut steps: Vec<Step> = Vec::new();
        let mut add = |name: &str, input, commands, env: BTreeMap<String, String>| {
            let on = steps.len().checked_sub(1).map_or(From::Base, From::Step);
            steps.push(Step {
                name: name.to_owned(),
                on,
                input,
                commands,
                env,
                keep: true,
            });
        };
        let setup = selected.runtime.setup.iter().chain(&detection.setup);
        let mut setup: Vec<String> = setup.cloned().collect();
        let mut seen = Vec::new();
        setup.retain(|command| {
            let is_new = !seen.contains(command);
            seen.push(command.clone());
            is_new
        });
        if !setup.is_empty() {
            let env = selected.runtime.variables_of_build();
            add("setup", Input::Nothing, setup, env);
        }
        let mut build = match &self.overrides.build_command {
            Some(command) => vec![command.clone()],
            None => detection.build.clone(),
        };
        match &detection.install {
            Some((Needs::Files(files), commands)) if !commands.is_empty() => {
                let input = match files.is_empty() {
                    true => Input::Nothing,
                    false => Input::Files(files.clone()),
                };
                add("install", input, commands.clone(), env.clone());
            }
            Some((Needs::Source, commands)) => {
                build = commands.iter().cloned().chain(build).collect();
            }
            Some((Needs::Files(_), _)) | None => {}
        }
        let name = if build.is_empty() { "source" } else { "build" };
        add(name, Input::Source, build, env);
        steps
    }

    fn apply_procfile(&self, detection: &mut Detection) -> Result<(), PlanError> {
        let path = procfile::FILE_NAME;
        if !self.tree.is_file(path) {
            return Ok(());
        }
        let text = self.tree.read(path).ok_or_else(|| PlanError::Unreadable {
            path: path.to_owned(),
            most: READ_BYTES_MAX,
        })?;
        let procfile = Procfile::parse(&text)?;
        match procfile.web() {
            Some(command) => detection.start = Some(command.to_owned()),
            None => {
                let note = "Procfile has no process `web`: it does not say how to start";
                detection.notes.push(Note::new(note));
            }
        }
        for name in procfile.names() {
            let text = match name {
                "web" => continue,
                "release" => "Procfile's `release` is not run: run it when you mean to".to_owned(),
                name => format!("Procfile's `{name}` is not run: only `web` is"),
            };
            detection.notes.push(Note::new(text));
        }
        Ok(())
    }

    fn by_dockerfile(
        &self,
        path: &str,
        target: Option<String>,
        args: BTreeMap<String, String>,
    ) -> Result<Planned, PlanError> {
        if !self.tree.is_file(path) {
            return Err(PlanError::DockerfileMissing {
                path: apprunner_yaml::short(path),
            });
        }
        let mut notes = Vec::new();
        if self.overrides.build_command.is_some() {
            let note = "the build command is ignored: the Dockerfile builds";
            notes.push(Note::new(note));
        }
        let text = self.tree.read(path);
        let exposed = text.and_then(|text| exposed(&text, target.as_deref()));
        let port = self.overrides.port.or(exposed).unwrap_or(PORT_DEFAULT);
        if let Some(exposed) = exposed.filter(|_| self.overrides.port.is_none()) {
            notes.push(Note::new(format!(
                "the port is {exposed} as the Dockerfile's `EXPOSE` says"
            )));
        }
        let run = Run {
            command: self.overrides.start_command.clone(),
            port,
            port_env: None,
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            working_dir: self.working_dir.clone(),
        };
        Ok(Planned {
            basis: Basis::Dockerfile,
            plan: Plan::Dockerfile(DockerfilePlan {
                path: path.to_owned(),
                target,
                args,
                run,
                notes,
            }),
        })
    }

    /// The runtime's variables below those that were given, and what overrides.
    fn finish_run(
        &self,
        selected: &Selected<'_>,
        detected: BTreeMap<String, String>,
        run: &mut Run,
    ) {
        let mut env = selected.runtime.run_env.clone();
        env.extend(detected);
        env.retain(|name, _| !run.secrets.contains_key(name));
        env.append(&mut run.env);
        run.env = env;
        if let Some(command) = &self.overrides.start_command {
            run.command = Some(command.clone());
        }
        run.port = self.overrides.port.unwrap_or(run.port);
    }

    /// App Runner fails a build whose lock `package.json` excludes.
    fn check_engine(
        &self,
        selected: &Selected<'_>,
        locked: &crate::version::Version,
    ) -> Result<(), PlanError> {
        if selected.runtime.name != "nodejs" {
            return Ok(());
        }
        match nodejs::engine_excluding(self.tree, locked) {
            Some(range) => Err(PlanError::EngineConflict {
                locked: locked.to_string(),
                range: apprunner_yaml::short(&range),
            }),
            None => Ok(()),
        }
    }
}

fn check_names<'a>(mut names: impl Iterator<Item = &'a String>) -> Result<(), PlanError> {
    match names.find(|name| ENV_RESERVED.contains(&name.as_str())) {
        Some(name) => Err(PlanError::Reserved { name: name.clone() }),
        None => Ok(()),
    }
}

/// A remark, if commands are of App Runner's system rather than of this one.
fn amazon_linux<'a>(mut commands: impl Iterator<Item = &'a String>) -> Option<Note> {
    let found = commands.find_map(|command| {
        AMAZON_LINUX
            .into_iter()
            .find(|manager| shell::has_word(command, manager))
    })?;
    Some(Note::new(format!(
        "a command uses `{found}` of Amazon Linux; the base here is Debian, where it is \
         `apt-get update && apt-get install -y …`"
    )))
}

/// The port of the stage that is built, the last unless another is meant, if it exposes exactly one.
fn exposed(dockerfile: &str, target: Option<&str>) -> Option<u16> {
    let mut ports = Vec::new();
    let mut is_meant = false;
    for line in dockerfile.lines() {
        let mut words = line.split_whitespace();
        match words.next().map(str::to_ascii_uppercase).as_deref() {
            Some("FROM") if is_meant => break,
            Some("FROM") => {
                ports.clear();
                let name = line.split_whitespace().last();
                is_meant = target.is_some_and(|target| {
                    name.is_some_and(|name| name.eq_ignore_ascii_case(target))
                });
            }
            Some("EXPOSE") => ports.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    match ports.as_slice() {
        [port] => port
            .trim_end_matches("/tcp")
            .parse()
            .ok()
            .filter(|port| *port > 0),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
