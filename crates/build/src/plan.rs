//! How a source tree becomes an image and how that is run. Data: decided here, executed elsewhere.
//!
//! The contract with whoever executes it:
//!
//! - Commands run as root of an isolated container, each by `/bin/sh -c` in [`Run::working_dir`], with
//!   `HOME=/root`. The first that fails fails the build.
//! - The source is at [`APPLICATION_DIR`]. [`CACHE_DIR`] can be written, belongs to one service and
//!   outlives the build. Nothing below `/run` or `/tmp` is kept.
//! - A step's result may be reused when all of it and all before it is the same.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

use ekiden_model::image::ImageReference;
use serde::{Deserialize, Serialize};

pub use crate::yaml::Position;

/// Where the source is, in builds and in images.
pub const APPLICATION_DIR: &str = "/app";

/// Where builds of a service keep what they downloaded.
pub const CACHE_DIR: &str = "/run/ekiden/cache";

/// Where an application listens unless it is told otherwise: App Runner's default.
pub const PORT_DEFAULT: u16 = 8080;

/// What is to be done, and on what grounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// What decided.
    pub basis: Basis,
    /// What is to be done.
    pub plan: Plan,
}

/// What a plan was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Basis {
    /// The file `apprunner.yaml`.
    AppRunnerYaml,
    /// Values of the API.
    Values,
    /// A Dockerfile.
    Dockerfile,
    /// What the source is made of: what it was taken for, and by which files.
    Detected(String),
}

/// One of two ways to build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Plan {
    /// By steps on a base that Ekiden makes.
    Managed(BuildPlan),
    /// As the Dockerfile says.
    Dockerfile(DockerfilePlan),
}

/// Steps that make an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildPlan {
    /// The runtime, as it was named.
    pub runtime: String,
    /// What that really is, such as `python311: Python 3.11 of Debian bookworm (python3)`.
    pub version: String,
    /// What the steps begin with.
    pub base: Base,
    /// In the order they run.
    pub steps: Vec<Step>,
    /// What the image holds.
    pub image: From,
    /// How it is run.
    pub run: Run,
    /// What people should know.
    pub notes: Vec<Note>,
}

/// An image that a Dockerfile describes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerfilePlan {
    /// The file, relative to the source directory.
    pub path: String,
    /// Its stage to build; the last without.
    pub target: Option<String>,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// How it is run.
    pub run: Run,
    /// What people should know.
    pub notes: Vec<Note>,
}

/// A root file system.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Base {
    /// Debian bookworm, minimal, with these packages: sorted, each once.
    Packages {
        /// Names of Debian packages.
        packages: Vec<String>,
    },
    /// Somebody's image.
    Image(ImageReference),
}

/// Commands, and what they run on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Step {
    /// For people: `build`, `post-build`, `install` and so on.
    pub name: String,
    /// The file system they find.
    pub on: From,
    /// What of the source is laid over it.
    pub input: Input,
    /// One shell command each. None: the source is laid there, and that is all.
    pub commands: Vec<String>,
    /// Variables they see.
    pub env: BTreeMap<String, String>,
    /// Whether its result is used. One that is not must succeed all the same.
    pub keep: bool,
}

/// What a step or the image is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum From {
    /// The base.
    Base,
    /// All that this step left; steps count from 0.
    Step(usize),
    /// The base, and of what this step left only what is below [`APPLICATION_DIR`].
    Application(usize),
}

/// What of the source a step is given.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Input {
    /// All of it, once: steps upon this one have it.
    Source,
    /// These files only, relative to the source directory: the step depends on nothing else.
    Files(Vec<String>),
    /// Nothing more than what the step is on.
    Nothing,
}

/// How an image is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// For `/bin/sh -c`; the image's own without.
    pub command: Option<String>,
    /// Where it listens; Ekiden sets `PORT` to it.
    pub port: u16,
    /// One more variable that is set to the port.
    pub port_env: Option<String>,
    /// Its variables.
    pub env: BTreeMap<String, String>,
    /// References to the values of its secret variables.
    pub secrets: BTreeMap<String, String>,
    /// Where it starts, and where every step's commands do.
    pub working_dir: String,
}

/// Something people should know that is no error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Where in `apprunner.yaml`, if it is of a place there.
    pub at: Option<Position>,
    /// A sentence.
    pub text: String,
}

impl Note {
    /// One that has no place.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { at: None, text }
    }

    /// One about a place in `apprunner.yaml`.
    pub fn at(at: Position, text: impl Into<String>) -> Self {
        let (at, text) = (Some(at), text.into());
        Self { at, text }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = self.at {
            write!(f, "apprunner.yaml, {at}: ")?;
        }
        f.write_str(&self.text)
    }
}

impl Plan {
    /// How the image is run.
    pub fn run(&self) -> &Run {
        match self {
            Self::Managed(plan) => &plan.run,
            Self::Dockerfile(plan) => &plan.run,
        }
    }

    /// The same, to be changed.
    pub fn run_mut(&mut self) -> &mut Run {
        match self {
            Self::Managed(plan) => &mut plan.run,
            Self::Dockerfile(plan) => &mut plan.run,
        }
    }

    /// What people should know.
    pub fn notes(&self) -> &[Note] {
        match self {
            Self::Managed(plan) => &plan.notes,
            Self::Dockerfile(plan) => &plan.notes,
        }
    }
}

impl Planned {
    /// The plan for people, line by line; its `Display` is the same. Values of variables are not shown.
    pub fn lines(&self) -> Vec<String> {
        self.to_string().lines().map(str::to_owned).collect()
    }
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AppRunnerYaml => f.write_str("apprunner.yaml"),
            Self::Values => f.write_str("the service's configuration"),
            Self::Dockerfile => f.write_str("a Dockerfile"),
            Self::Detected(what) => write!(f, "detected: {what}"),
        }
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        field(f, "by", &self.basis)?;
        match &self.plan {
            Plan::Managed(plan) => write!(f, "{plan}")?,
            Plan::Dockerfile(plan) => write!(f, "{plan}")?,
        }
        show_run(f, self.plan.run())?;
        let mut notes = self.plan.notes().iter();
        notes.try_for_each(|note| field(f, "note", note))
    }
}

impl fmt::Display for BuildPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        field(f, "runtime", &self.version)?;
        match &self.base {
            Base::Packages { packages } => {
                let packages = packages.join(", ");
                field(f, "base", format_args!("Debian bookworm with {packages}"))?;
            }
            Base::Image(image) => field(f, "base", image)?,
        }
        for step in &self.steps {
            let (on, input) = (self.origin(step.on), &step.input);
            let input = match input {
                Input::Source => ", with the source".to_owned(),
                Input::Files(files) => format!(", with {}", files.join(", ")),
                Input::Nothing => String::new(),
            };
            let dropped = if step.keep { "" } else { "; not kept" };
            field(f, &step.name, format_args!("on {on}{input}{dropped}"))?;
            show_commands(f, &step.commands)?;
        }
        field(f, "image", self.origin(self.image))
    }
}

impl fmt::Display for DockerfilePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.path.clone();
        if let Some(target) = &self.target {
            write!(text, ", stage {target}")?;
        }
        if !self.args.is_empty() {
            let names: Vec<_> = self.args.keys().map(String::as_str).collect();
            write!(text, ", with {}", names.join(", "))?;
        }
        field(f, "dockerfile", text)
    }
}

impl BuildPlan {
    fn origin(&self, from: From) -> String {
        let name = |step: usize| self.steps.get(step).map_or("?", |step| step.name.as_str());
        match from {
            From::Base => "the base".to_owned(),
            From::Step(step) => format!("what `{}` left", name(step)),
            From::Application(step) => {
                format!("the base and {APPLICATION_DIR} of `{}`", name(step))
            }
        }
    }
}

fn field(f: &mut fmt::Formatter<'_>, name: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(f, "{name:<10} {value}")
}

fn show_commands(f: &mut fmt::Formatter<'_>, commands: &[String]) -> fmt::Result {
    for command in commands {
        let mut lines = command.trim_end().lines();
        writeln!(f, "{:>10} $ {}", "", lines.next().unwrap_or_default())?;
        // Of a script its length is enough.
        let more = lines.count();
        if more > 0 {
            writeln!(f, "{:>10}   … {more} more lines", "")?;
        }
    }
    Ok(())
}

fn show_run(f: &mut fmt::Formatter<'_>, run: &Run) -> fmt::Result {
    let command = run.command.as_deref().unwrap_or("as the image says");
    field(f, "start", command)?;
    field(f, "in", &run.working_dir)?;
    match &run.port_env {
        Some(name) => field(f, "port", format_args!("{} (PORT, {name})", run.port))?,
        None => field(f, "port", format_args!("{} (PORT)", run.port))?,
    }
    let names = |of: &BTreeMap<String, String>| {
        let names: Vec<_> = of.keys().map(String::as_str).collect();
        names.join(", ")
    };
    if !run.env.is_empty() {
        field(f, "env", names(&run.env))?;
    }
    if !run.secrets.is_empty() {
        field(f, "secrets", names(&run.secrets))?;
    }
    Ok(())
}
