//! `ekiden.yaml`, Ekiden's own file in a source directory (docs/ekiden-yaml.md).
//!
//! Its `service` is for `ekiden deploy`, but for the port and the variables, which count wherever the
//! source is built. All of it may be left out. Like `apprunner.yaml` it is read with places: what it says
//! wrong is told all at once, and what it says in vain is a warning.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    ops::RangeInclusive,
};

use ekiden_model::{name::ServiceName, revision::ENV_RESERVED, secret_reference::SecretReference};

use crate::{
    apprunner_yaml::{self, Mistake, Quoted, nearest, short},
    planner::Method,
    yaml::{self, Entry, Node, Position, Value},
};

/// The file's name, in the source directory.
pub const FILE_NAME: &str = "ekiden.yaml";

/// The largest file, in bytes.
pub const FILE_BYTES_MAX: usize = apprunner_yaml::FILE_BYTES_MAX;

/// The Dockerfile, unless another one is named.
const DOCKERFILE: &str = "Dockerfile";

/// Mistakes that are told of one file at most.
const MISTAKES_MAX: usize = 20;

/// The keys of each map.
const TOP: &[&str] = &["service", "build", "run"];
const SERVICE: &[&str] = &[
    "name",
    "port",
    "cpu",
    "memory",
    "health_path",
    "min",
    "max",
    "concurrency",
    "auto_deploy",
    "env",
    "secrets",
];
const BUILD: &[&str] = &[
    "with",
    "dockerfile",
    "target",
    "args",
    "packages",
    "command",
    "env",
    "secrets",
];
const RUN: &[&str] = &["command"];

/// Packages that a build may ask for.
const PACKAGES_MAX: usize = 200;

/// Whether it can be the name of a package (Debian Policy, section 5.6.7).
fn is_package(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (2..=100).contains(&name.len())
        && name.starts_with(plain)
        && name.chars().all(|c| plain(c) || "+-.".contains(c))
}

/// What the file says. [`write()`] makes a file of it that says the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EkidenYaml {
    /// Its `service`.
    pub service: ServiceOptions,
    /// Its `build` and `run`, and the port.
    pub build: BuildOptions,
}

/// What a service is that runs the source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceOptions {
    /// What it is called.
    pub name: Option<String>,
    /// Where the application listens.
    pub port: Option<u16>,
    /// CPU of one instance, such as `1 vCPU`.
    pub cpu: Option<String>,
    /// Memory of one instance, such as `2 GB`.
    pub memory: Option<String>,
    /// What to GET for its health.
    pub health_path: Option<String>,
    /// Instances that always run.
    pub min: Option<u32>,
    /// Instances at most.
    pub max: Option<u32>,
    /// Requests that one instance holds at once.
    pub concurrency: Option<u32>,
    /// Whether a push deploys.
    pub auto_deploy: Option<bool>,
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// References to the values of secret variables.
    pub secrets: BTreeMap<String, String>,
}

/// How the source becomes an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildOptions {
    /// What decides.
    pub method: Method,
    /// Debian packages that the base has besides the runtime's, for the build and the application.
    pub packages: Vec<String>,
    /// Instead of the command that builds.
    pub build_command: Option<String>,
    /// Instead of the command that starts the application.
    pub start_command: Option<String>,
    /// Where the application listens: `service.port`.
    pub port: Option<u16>,
    /// Variables of the build only.
    pub env: BTreeMap<String, String>,
    /// References to secrets of the build only.
    pub secrets: BTreeMap<String, String>,
    /// What the file says in vain, each with its place.
    pub warnings: Vec<String>,
}

/// A file that is not valid: its mistakes in the order they are in the file, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid(pub Vec<Mistake>);

impl std::error::Error for Invalid {}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            let Mistake {
                at,
                problem,
                advice,
            } = mistake;
            write!(f, "{separator}{FILE_NAME}, {at}: {problem}; {advice}")?;
        }
        Ok(())
    }
}

/// Reads the file. One that is empty says nothing.
///
/// # Errors
/// It is not valid, with all its mistakes.
pub fn parse(text: &str) -> Result<EkidenYaml, Invalid> {
    let mut reader = Reader::default();
    if text.len() > FILE_BYTES_MAX {
        let (size, most) = (text.len(), FILE_BYTES_MAX);
        let problem = format!("the file has {size} bytes, more than {most}");
        reader.mistake(
            Position::default(),
            problem,
            "move long commands into scripts",
        );
        return Err(Invalid(reader.mistakes));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let root = yaml::read(text).map_err(|error| {
        reader.mistake(error.at, error.problem, error.advice);
        Invalid(std::mem::take(&mut reader.mistakes))
    })?;
    let Some(root) = root else {
        return Ok(EkidenYaml::default());
    };
    let file = reader.file(&root);
    if reader.mistakes.is_empty() {
        return Ok(file);
    }
    reader.mistakes.sort_by_key(|mistake| mistake.at);
    reader.mistakes.truncate(MISTAKES_MAX);
    Err(Invalid(reader.mistakes))
}

/// A file that says the same, but for its warnings.
pub fn write(file: &EkidenYaml) -> String {
    let EkidenYaml { service, build } = file;
    let mut text = String::new();
    let mut section = Section::new("service");
    section.text("name", service.name.as_deref());
    section.plain("port", service.port.or(build.port));
    section.text("cpu", service.cpu.as_deref());
    section.text("memory", service.memory.as_deref());
    section.text("health_path", service.health_path.as_deref());
    section.plain("min", service.min);
    section.plain("max", service.max);
    section.plain("concurrency", service.concurrency);
    section.plain("auto_deploy", service.auto_deploy);
    section.map("env", &service.env);
    section.map("secrets", &service.secrets);
    section.end(&mut text);
    let mut section = Section::new("build");
    match &build.method {
        // Values are the API's: no file has them.
        Method::Auto | Method::Values(_) => {}
        Method::AppRunnerYaml => section.plain("with", Some("apprunner.yaml")),
        Method::Detect => section.plain("with", Some("detect")),
        Method::Dockerfile { path, target, args } => {
            section.plain("with", Some("dockerfile"));
            section.text("dockerfile", Some(path));
            section.text("target", target.as_deref());
            section.map("args", args);
        }
    }
    section.list("packages", &build.packages);
    section.text("command", build.build_command.as_deref());
    section.map("env", &build.env);
    section.map("secrets", &build.secrets);
    section.end(&mut text);
    let mut section = Section::new("run");
    section.text("command", build.start_command.as_deref());
    section.end(&mut text);
    text
}

/// What is below a key of the file.
struct Section(&'static str, String);

impl Section {
    fn new(key: &'static str) -> Self {
        Self(key, String::new())
    }

    fn plain(&mut self, key: &str, value: Option<impl fmt::Display>) {
        if let Some(value) = value {
            // A `String` takes everything.
            let _ = writeln!(self.1, "  {key}: {value}");
        }
    }

    fn text(&mut self, key: &str, text: Option<&str>) {
        self.plain(key, text.map(Scalar));
    }

    fn list(&mut self, key: &str, items: &[String]) {
        if items.is_empty() {
            return;
        }
        let _ = writeln!(self.1, "  {key}:");
        for item in items {
            let _ = writeln!(self.1, "    - {}", Scalar(item));
        }
    }

    fn map(&mut self, key: &str, pairs: &BTreeMap<String, String>) {
        if pairs.is_empty() {
            return;
        }
        let _ = writeln!(self.1, "  {key}:");
        for (name, value) in pairs {
            let _ = writeln!(self.1, "    {}: {}", Scalar(name), Scalar(value));
        }
    }

    fn end(self, text: &mut String) {
        let Self(key, lines) = self;
        if !lines.is_empty() {
            let _ = write!(text, "{key}:\n{lines}");
        }
    }
}

/// A text as people write it where that cannot be misread, else in quotes.
struct Scalar<'a>(&'a str);

impl fmt::Display for Scalar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let starts = self
            .0
            .starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/');
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        let is_null = self.0.eq_ignore_ascii_case("null");
        match starts && self.0.chars().all(plain) && !is_null {
            true => f.write_str(self.0),
            false => Quoted(self.0).fmt(f),
        }
    }
}

/// Goes through the tree and collects what it finds wrong; goes on with something in its place.
#[derive(Default)]
struct Reader {
    mistakes: Vec<Mistake>,
    warnings: Vec<String>,
}

/// A map's entries; none when it is not there.
struct Map<'a> {
    path: &'static str,
    entries: &'a [Entry],
}

/// Who sees variables.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Build,
    Run,
}

impl<'a> Map<'a> {
    fn get(&self, key: &str) -> Option<&'a Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    fn path_of(&self, key: &str) -> String {
        match self.path {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }
}

impl Reader {
    fn file(&mut self, root: &Node) -> EkidenYaml {
        let top = self.map(root, "", TOP);
        let service = self.section(&top, "service", SERVICE);
        let service = self.service(&service);
        let build = self.section(&top, "build", BUILD);
        let run = self.section(&top, "run", RUN);
        let (env, secrets) = self.variables(&build, Purpose::Build);
        let build_command = self.text(&build, "command");
        let method = self.method(&build);
        if matches!(method, Method::Dockerfile { .. }) {
            self.warn_of_ignored(
                &build,
                "env",
                "a Dockerfile does not see it: use `build.args`",
            );
            self.warn_of_ignored(&build, "command", "the Dockerfile builds");
            self.warn_of_ignored(&build, "packages", "the Dockerfile installs what it needs");
        }
        let packages = self.packages(&build);
        let build = BuildOptions {
            method,
            packages,
            build_command,
            start_command: self.text(&run, "command"),
            port: service.port,
            env,
            secrets,
            warnings: std::mem::take(&mut self.warnings),
        };
        EkidenYaml { service, build }
    }

    fn packages(&mut self, build: &Map<'_>) -> Vec<String> {
        let Some(entry) = build.get("packages") else {
            return Vec::new();
        };
        let advice = "list names of Debian packages, each on a line of its own after `- `";
        let items = match &entry.node.value {
            Value::List(items) if items.len() <= PACKAGES_MAX => items,
            Value::List(_) => {
                let problem = format!("`build.packages` has more than {PACKAGES_MAX}");
                self.mistake(entry.node.at, problem, "make a base image of them");
                return Vec::new();
            }
            other => {
                let problem = format!("`build.packages` is {}, not a list", other.kind());
                self.mistake(entry.node.at, problem, advice);
                return Vec::new();
            }
        };
        let mut packages = Vec::new();
        for item in items {
            match &item.value {
                Value::Text(name) if is_package(name) => packages.push(name.clone()),
                Value::Text(name) => {
                    let problem = format!("`{}` is no Debian package's name", short(name));
                    self.mistake(item.at, problem, advice);
                }
                other => {
                    let problem = format!("`build.packages` has {} in it", other.kind());
                    self.mistake(item.at, problem, advice);
                }
            }
        }
        packages.sort();
        packages.dedup();
        packages
    }

    fn service(&mut self, map: &Map<'_>) -> ServiceOptions {
        let (env, secrets) = self.variables(map, Purpose::Run);
        let service = ServiceOptions {
            name: self.text(map, "name"),
            port: self.port(map),
            cpu: self.text(map, "cpu"),
            memory: self.text(map, "memory"),
            health_path: self.text(map, "health_path"),
            min: self.number(map, "min", 0..=u32::MAX),
            max: self.number(map, "max", 1..=u32::MAX),
            concurrency: self.number(map, "concurrency", 1..=u32::MAX),
            auto_deploy: self.flag(map, "auto_deploy"),
            env,
            secrets,
        };
        if let (Some(entry), Some(name)) = (map.get("name"), &service.name)
            && let Err(error) = name.parse::<ServiceName>()
        {
            self.mistake(entry.node.at, error.to_string(), "choose another name");
        }
        if let (Some(entry), Some(path)) = (map.get("health_path"), &service.health_path)
            && !path.starts_with('/')
        {
            let problem = format!("`service.health_path` is `{}`", short(path));
            self.mistake(entry.node.at, problem, "begin it with `/`");
        }
        if let (Some(entry), Some(min), Some(max)) = (map.get("min"), service.min, service.max)
            && min > max
        {
            let problem = format!("`service.min` is {min}, and `service.max` is {max}");
            self.mistake(entry.node.at, problem, "make `min` the smaller one");
        }
        service
    }

    fn method(&mut self, build: &Map<'_>) -> Method {
        let with = self.text(build, "with");
        let (path, target) = (self.text(build, "dockerfile"), self.text(build, "target"));
        let (args, _) = self.pairs(build, "args");
        let dockerfile = Method::Dockerfile {
            path: path.unwrap_or_else(|| DOCKERFILE.to_owned()),
            target,
            args,
        };
        let of_dockerfile = ["dockerfile", "target", "args"];
        let of_dockerfile = of_dockerfile.into_iter().find_map(|key| build.get(key));
        let method = match (with.as_deref(), of_dockerfile) {
            // Whoever says how to use a Dockerfile wants one.
            (Some("dockerfile"), _) | (None | Some("auto"), Some(_)) => return dockerfile,
            (None | Some("auto"), None) => return Method::Auto,
            (Some("apprunner.yaml"), _) => Method::AppRunnerYaml,
            (Some("detect"), _) => Method::Detect,
            (Some(other), _) => {
                let at = build
                    .get("with")
                    .map_or_else(Position::default, |entry| entry.node.at);
                let problem = format!("`build.with` is `{}`", short(other));
                let advice = "it is `auto`, `apprunner.yaml`, `dockerfile` or `detect`";
                self.mistake(at, problem, advice);
                return Method::Auto;
            }
        };
        if let Some(entry) = of_dockerfile {
            let (key, with) = (&entry.key, with.unwrap_or_default());
            let problem =
                format!("`build.{key}` is for a Dockerfile, and `build.with` is `{with}`");
            self.mistake(entry.at, problem, "leave one of the two out");
        }
        method
    }

    fn port(&mut self, map: &Map<'_>) -> Option<u16> {
        let port = self.number(map, "port", 1..=u32::from(u16::MAX))?;
        u16::try_from(port).ok()
    }

    fn number(&mut self, map: &Map<'_>, key: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let text = self.text(map, key)?;
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<u32>().ok().filter(|_| digits);
        if let Some(number) = number.filter(|number| range.contains(number)) {
            return Some(number);
        }
        let at = map
            .get(key)
            .map_or_else(Position::default, |entry| entry.node.at);
        let problem = format!("`{}` is `{}`", map.path_of(key), short(&text));
        let advice = match *range.end() {
            u32::MAX => format!("write a number from {}", range.start()),
            end => format!("write a number from {} to {end}", range.start()),
        };
        self.mistake(at, problem, &advice);
        None
    }

    fn flag(&mut self, map: &Map<'_>, key: &str) -> Option<bool> {
        let text = self.text(map, key)?;
        match text.as_str() {
            "true" | "True" | "TRUE" => return Some(true),
            "false" | "False" | "FALSE" => return Some(false),
            _ => {}
        }
        let at = map
            .get(key)
            .map_or_else(Position::default, |entry| entry.node.at);
        let problem = format!("`{}` is `{}`", map.path_of(key), short(&text));
        self.mistake(at, problem, "write `true` or `false`");
        None
    }

    fn text(&mut self, map: &Map<'_>, key: &str) -> Option<String> {
        let entry = map.get(key)?;
        let path = map.path_of(key);
        let (problem, advice) = match &entry.node.value {
            Value::Text(text) if text.contains('\0') => ("has a NUL in it", "remove it"),
            Value::Text(text) if !text.trim().is_empty() => return Some(text.clone()),
            Value::Text(_) | Value::Null => ("is empty", "give it or leave it out"),
            Value::List(_) => ("is a list, not a text", "write a single value"),
            Value::Map(_) => (
                "is a map, not a text",
                "write a single value, in quotes if need be",
            ),
        };
        self.mistake(entry.node.at, format!("`{path}` {problem}"), advice);
        None
    }

    /// `env` and `secrets`.
    fn variables(
        &mut self,
        map: &Map<'_>,
        purpose: Purpose,
    ) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
        let (env, places) = self.pairs(map, "env");
        for (name, at) in places {
            self.check_name(&name, at, purpose);
        }
        let (secrets, places) = self.pairs(map, "secrets");
        for (name, at) in places {
            self.check_name(&name, at, purpose);
            if env.contains_key(&name) {
                let (one, other) = (map.path_of("env"), map.path_of("secrets"));
                let problem = format!("`{}` is in `{one}` and in `{other}`", short(&name));
                self.mistake(at, problem, "keep one of the two");
            }
            if let Some(Err(error)) = secrets
                .get(&name)
                .map(|from| from.parse::<SecretReference>())
            {
                let problem = format!("the secret `{}` is {error}", short(&name));
                let advice = "give the ARN of a secret or of a parameter, or a parameter's name";
                self.mistake(at, problem, advice);
            }
        }
        (env, secrets)
    }

    fn check_name(&mut self, name: &str, at: Position, purpose: Purpose) {
        let (problem, advice) = if name.is_empty() || name.contains(['=', '\0']) {
            let problem = format!("`{}` cannot be a variable's name", short(name));
            (problem, "choose another name")
        } else if purpose == Purpose::Run && ENV_RESERVED.contains(&name) {
            let advice = match name {
                "PORT" => "set `service.port` instead",
                _ => "choose another name",
            };
            (format!("`{name}` is set by Ekiden"), advice)
        } else {
            return;
        };
        self.mistake(at, problem, advice);
    }

    /// Names with their values, and where the names are.
    fn pairs(
        &mut self,
        map: &Map<'_>,
        key: &str,
    ) -> (BTreeMap<String, String>, Vec<(String, Position)>) {
        let (mut pairs, mut places) = (BTreeMap::new(), Vec::new());
        let path = map.path_of(key);
        let advice = "write `NAME: value` in lines below it";
        let entries = match map.get(key).map(|entry| (&entry.node.value, entry.node.at)) {
            None | Some((Value::Null, _)) => return (pairs, places),
            Some((Value::Map(entries), _)) => entries,
            Some((other, at)) => {
                self.mistake(
                    at,
                    format!("`{path}` is {}, not a map", other.kind()),
                    advice,
                );
                return (pairs, places);
            }
        };
        for Entry { key, at, node } in entries {
            match &node.value {
                Value::Text(value) if value.contains('\0') => {
                    let problem = format!("`{}` in `{path}` has a NUL in it", short(key));
                    self.mistake(node.at, problem, "remove it");
                }
                Value::Text(value) => {
                    pairs.insert(key.clone(), value.clone());
                    places.push((key.clone(), *at));
                }
                Value::Null => {
                    let problem = format!("`{}` in `{path}` has no value", short(key));
                    self.mistake(*at, problem, "write one; `\"\"` is the empty one");
                }
                other => {
                    let problem = format!("`{}` in `{path}` is {}", short(key), other.kind());
                    self.mistake(node.at, problem, "write a text, in quotes if need be");
                }
            }
        }
        (pairs, places)
    }

    fn section<'a>(&mut self, top: &Map<'a>, key: &'static str, keys: &[&str]) -> Map<'a> {
        match top.get(key) {
            Some(entry) if !matches!(entry.node.value, Value::Null) => {
                self.map(&entry.node, key, keys)
            }
            Some(_) | None => Map {
                path: key,
                entries: &[],
            },
        }
    }

    fn map<'a>(&mut self, node: &'a Node, path: &'static str, keys: &[&str]) -> Map<'a> {
        let Value::Map(entries) = &node.value else {
            let what = match path {
                "" => "the file".to_owned(),
                path => format!("`{path}`"),
            };
            let problem = format!("{what} is {}, not a map", node.value.kind());
            let advice = format!("write keys such as `{}:`", keys.first().unwrap_or(&"name"));
            self.mistake(node.at, problem, &advice);
            return Map { path, entries: &[] };
        };
        for entry in entries
            .iter()
            .filter(|entry| !keys.contains(&entry.key.as_str()))
        {
            let within = match path {
                "" => String::new(),
                path => format!(" in `{path}`"),
            };
            let mut text = format!("`{}`{within} is not known and ignored", short(&entry.key));
            if let Some(like) = nearest(&entry.key, keys.iter().copied()) {
                let _ = write!(text, "; did you mean `{like}`?");
            }
            self.warn(entry.at, &text);
        }
        Map { path, entries }
    }

    fn warn_of_ignored(&mut self, map: &Map<'_>, key: &str, why: &str) {
        if let Some(entry) = map.get(key) {
            let text = format!("`{}` is ignored: {why}", map.path_of(key));
            self.warn(entry.at, &text);
        }
    }

    fn warn(&mut self, at: Position, text: &str) {
        self.warnings.push(format!("{FILE_NAME}, {at}: {text}"));
    }

    fn mistake(&mut self, at: Position, problem: impl Into<String>, advice: &str) {
        self.mistakes.push(Mistake {
            at,
            problem: problem.into(),
            advice: advice.to_owned(),
        });
    }
}

#[cfg(test)]
mod tests;
