//! `apprunner.yaml`, App Runner's file in the source (specification, section 7).
//!
//! What the file says wrong is told all at once, with places. What it says in vain, such as an unknown
//! key, is a note. Two things are read more kindly than App Runner documents them: a single command may
//! be a text instead of a list, which is noted, and values of variables may be scalars of any type,
//! which are taken as they are written. Which runtimes and versions there are is not known here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use ekiden_model::{revision::ENV_RESERVED, secret_reference::SecretReference};

use crate::{
    plan::{Note, PORT_DEFAULT},
    version::Version,
    yaml::{self, Entry, Node, Position, Value},
};

/// The file's name, in the source directory.
pub const FILE_NAME: &str = "apprunner.yaml";

/// The largest file, in bytes.
pub const FILE_BYTES_MAX: usize = 128 << 10;

/// App Runner's log line before the file is read.
pub const LOG_READING: &str = "Reading apprunner.yaml config file.";

/// App Runner's log line after the file was read.
pub const LOG_VALID: &str = "Successfully validate configuration file.";

/// The version of the format.
const FORMAT: &str = "1.0";

/// Prefix of names of variables that App Runner keeps for itself.
const RESERVED_PREFIX: &str = "AWSAPPRUNNER";

/// Mistakes that are told of one file at most.
const MISTAKES_MAX: usize = 20;

/// How like an unknown key must be a known one to be taken for a slip (strsim's Jaro-Winkler).
pub(crate) const LIKENESS_MIN: f64 = 0.8;

/// What the file says. Prints as a file that says the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppRunnerYaml {
    /// The runtime's name, such as `python311`.
    pub runtime: String,
    /// How the application is built.
    pub build: Build,
    /// How it is run.
    pub run: Run,
}

/// Its `build`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Build {
    /// `commands.pre-build`.
    pub pre_build: Vec<String>,
    /// `commands.build`: at least one.
    pub build: Vec<String>,
    /// `commands.post-build`.
    pub post_build: Vec<String>,
    /// `env`: seen by these commands and by `pre-run`.
    pub env: BTreeMap<String, String>,
}

/// Its `run`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    /// `runtime-version`, as far as it is locked.
    pub runtime_version: Option<Version>,
    /// `pre-run`.
    pub pre_run: Vec<String>,
    /// `command`.
    pub command: String,
    /// `network.port`, 8080 unless given.
    pub port: u16,
    /// `network.env`: one more variable that is set to the port.
    pub port_env: Option<String>,
    /// `env`: seen by the command only.
    pub env: BTreeMap<String, String>,
    /// `secrets`: references by name.
    pub secrets: BTreeMap<String, String>,
}

/// A file that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// What it says.
    pub file: AppRunnerYaml,
    /// Where it names the runtime.
    pub runtime_at: Position,
    /// Where it locks the runtime's version.
    pub version_at: Option<Position>,
    /// Where `pre-run` is.
    pub pre_run_at: Option<Position>,
    /// What it says in vain.
    pub notes: Vec<Note>,
}

/// One thing the file says wrong: what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub at: Position,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub advice: String,
}

/// A file that is not valid: its mistakes in the order they are in the file, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid(pub Vec<Mistake>);

impl std::error::Error for Invalid {}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            at,
            problem,
            advice,
        } = self;
        write!(f, "{FILE_NAME}, {at}: {problem}; {advice}")
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{mistake}")?;
        }
        Ok(())
    }
}

/// Reads the file.
///
/// # Errors
/// It is not valid, with all its mistakes.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Invalid> {
    let text = text(bytes)?;
    let root = yaml::read(text).map_err(|error| {
        alone(Mistake {
            at: error.at,
            problem: error.problem,
            advice: error.advice.to_owned(),
        })
    })?;
    let Some(root) = root else {
        return Err(alone(Mistake {
            at: Position::default(),
            problem: "the file is empty".to_owned(),
            advice: "it needs `version`, `runtime`, `build` and `run`".to_owned(),
        }));
    };
    let mut reader = Reader::default();
    let parsed = reader.file(&root);
    if reader.mistakes.is_empty() {
        return Ok(Parsed {
            notes: reader.notes,
            ..parsed
        });
    }
    reader.mistakes.sort_by_key(|mistake| mistake.at);
    reader.mistakes.truncate(MISTAKES_MAX);
    Err(Invalid(reader.mistakes))
}

fn alone(mistake: Mistake) -> Invalid {
    Invalid(vec![mistake])
}

fn text(bytes: &[u8]) -> Result<&str, Invalid> {
    if bytes.len() > FILE_BYTES_MAX {
        let (size, most) = (bytes.len(), FILE_BYTES_MAX);
        return Err(alone(Mistake {
            at: Position::default(),
            problem: format!("the file has {size} bytes, more than {most}"),
            advice: "move long commands into scripts".to_owned(),
        }));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let last = before.rsplit('\n').next().unwrap_or_default();
        alone(Mistake {
            at: Position {
                line: 1 + before.matches('\n').count(),
                column: 1 + last.chars().count(),
            },
            problem: "the file is not UTF-8".to_owned(),
            advice: "save it as UTF-8".to_owned(),
        })
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Goes through the tree and collects what it finds wrong; goes on with something in its place.
#[derive(Default)]
struct Reader {
    mistakes: Vec<Mistake>,
    notes: Vec<Note>,
}

/// A map's entries by key, and where the map is.
struct Map<'a> {
    at: Position,
    path: &'static str,
    entries: &'a [Entry],
}

impl<'a> Map<'a> {
    fn get(&self, key: &str) -> Option<&'a Node> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(&entry.node)
    }

    fn key_at(&self, key: &str) -> Position {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        entry.map_or(self.at, |entry| entry.at)
    }

    fn path_of(&self, key: &str) -> String {
        match self.path {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }
}

/// An item of `env` or `secrets`.
struct Pair {
    name: String,
    value: String,
    name_at: Position,
    value_at: Position,
}

impl Reader {
    fn file(&mut self, root: &Node) -> Parsed {
        let keys = &["version", "runtime", "build", "run"];
        let Some(top) = self.map_of(root, "", keys) else {
            return Parsed::default();
        };
        self.version(&top);
        let advice = "name one, such as `runtime: python311`";
        let runtime = self.required_text(&top, "runtime", advice);
        let build = self.build(&top);
        let advice = "add it with a `command` that starts the application";
        let keys = &[
            "runtime-version",
            "pre-run",
            "command",
            "network",
            "env",
            "secrets",
        ];
        let mut parsed = Parsed {
            runtime_at: top
                .get("runtime")
                .map_or(Position::default(), |node| node.at),
            ..Parsed::default()
        };
        (parsed.file.runtime, parsed.file.build) = (runtime, build);
        if let Some(run) = self.required_map(&top, "run", "run", keys, advice) {
            parsed.version_at = run.get("runtime-version").map(|node| node.at);
            parsed.pre_run_at = run.get("pre-run").map(|_| run.key_at("pre-run"));
            parsed.file.run = self.run(&run);
        }
        parsed
    }

    fn version(&mut self, top: &Map<'_>) {
        let advice = "begin the file with `version: 1.0`";
        let version = self.required_text(top, "version", advice);
        if let Some(node) = top.get("version")
            && version != FORMAT
            && matches!(node.value, Value::Text(_))
        {
            let problem = format!("`version` is `{}`", short(&version));
            self.mistake(node.at, problem, "the only version there is is `1.0`");
        }
    }

    fn build(&mut self, top: &Map<'_>) -> Build {
        let advice = "add it with the `commands` that build the application";
        let keys = &["commands", "env"];
        let Some(build) = self.required_map(top, "build", "build", keys, advice) else {
            return Build::default();
        };
        let env = self.variables(&build, Purpose::Build);
        let keys = &["pre-build", "build", "post-build"];
        let advice = "add it with a list `build`";
        let path = "build.commands";
        let Some(commands) = self.required_map(&build, "commands", path, keys, advice) else {
            return Build::default();
        };
        let advice = "list at least one command; `- true` does nothing";
        match commands.get("build").map(|node| (&node.value, node.at)) {
            None => self.mistake(commands.at, "`build.commands.build` is missing", advice),
            Some((Value::List(items), at)) if items.is_empty() => {
                self.mistake(at, "`build.commands.build` has no commands", advice);
            }
            Some(_) => {}
        }
        Build {
            pre_build: self.commands(&commands, "pre-build"),
            build: self.commands(&commands, "build"),
            post_build: self.commands(&commands, "post-build"),
            env,
        }
    }

    fn run(&mut self, run: &Map<'_>) -> Run {
        let advice = "add the command that starts the application";
        let command = self.required_text(run, "command", advice);
        let network = self.optional_map(run, "network", "run.network", &["port", "env"]);
        let (env, secrets) = (self.variables(run, Purpose::Run), self.secrets(run));
        for name in secrets.keys().filter(|name| env.contains_key(*name)) {
            let problem = format!("`{}` is in `run.env` and in `run.secrets`", short(name));
            self.mistake(run.key_at("secrets"), problem, "keep one of the two");
        }
        Run {
            runtime_version: self.runtime_version(run),
            pre_run: self.commands(run, "pre-run"),
            command,
            port: self.port(&network),
            port_env: self.port_env(&network),
            env,
            secrets,
        }
    }

    fn runtime_version(&mut self, run: &Map<'_>) -> Option<Version> {
        let node = run.get("runtime-version")?;
        let text = self.text(run, "runtime-version", node)?;
        let version = text.parse().ok();
        if version.is_none() {
            let problem = format!("`run.runtime-version` is `{}`", short(&text));
            let advice = "write numbers, such as `3.11` or `3.11.2`, or leave it out";
            self.mistake(node.at, problem, advice);
        }
        version
    }

    fn port(&mut self, network: &Map<'_>) -> u16 {
        let Some(node) = network.get("port") else {
            return PORT_DEFAULT;
        };
        let Some(text) = self.text(network, "port", node) else {
            return PORT_DEFAULT;
        };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<u16>() {
            Ok(port) if port > 0 && digits => return port,
            _ if digits => {
                let problem = format!("`run.network.port` is {}", short(&text));
                self.mistake(node.at, problem, "choose a port from 1 to 65535");
            }
            _ => {
                let problem = format!("`run.network.port` is `{}`, not a number", short(&text));
                self.mistake(
                    node.at,
                    problem,
                    "write the port the application listens on",
                );
            }
        }
        PORT_DEFAULT
    }

    fn port_env(&mut self, network: &Map<'_>) -> Option<String> {
        let node = network.get("env")?;
        let name = self.text(network, "env", node)?;
        // The usual mistake of all: it is set anyway.
        if name == "PORT" {
            self.notes
                .push(Note::at(node.at, "`PORT` is set to the port in any case"));
            return None;
        }
        self.check_name(&name, node.at, Purpose::Run);
        Some(name)
    }

    fn variables(&mut self, map: &Map<'_>, purpose: Purpose) -> BTreeMap<String, String> {
        let pairs = self.pairs(map, "env", "value");
        let mut variables = BTreeMap::new();
        for Pair {
            name,
            value,
            name_at,
            ..
        } in pairs
        {
            self.check_name(&name, name_at, purpose);
            variables.insert(name, value);
        }
        variables
    }

    fn secrets(&mut self, run: &Map<'_>) -> BTreeMap<String, String> {
        let pairs = self.pairs(run, "secrets", "value-from");
        let mut secrets = BTreeMap::new();
        for Pair {
            name,
            value: from,
            name_at,
            value_at,
        } in pairs
        {
            self.check_name(&name, name_at, Purpose::Run);
            if let Err(error) = from.parse::<SecretReference>() {
                let problem = format!("the `value-from` of `{}` is {error}", short(&name));
                let advice = "give the ARN of a secret or of a parameter, or a parameter's name";
                self.mistake(value_at, problem, advice);
            }
            secrets.insert(name, from);
        }
        secrets
    }

    fn check_name(&mut self, name: &str, at: Position, purpose: Purpose) {
        let (problem, advice) = if name.contains(['=', '\0']) {
            let problem = format!("`{}` cannot be a variable's name", short(name));
            (problem, "leave out `=`")
        } else if purpose == Purpose::Run && ENV_RESERVED.contains(&name) {
            let advice = match name {
                "PORT" => "set `run.network.port` instead",
                _ => "choose another name",
            };
            (format!("`{name}` is set by Ekiden"), advice)
        } else if name.to_ascii_uppercase().starts_with(RESERVED_PREFIX) {
            let problem = format!(
                "`{}`: names with `{RESERVED_PREFIX}` are reserved",
                short(name)
            );
            (problem, "choose another name")
        } else {
            return;
        };
        self.mistake(at, problem, advice);
    }

    /// Items of a list of `{name, value}`, and where their names are.
    fn pairs(&mut self, map: &Map<'_>, key: &'static str, value_key: &'static str) -> Vec<Pair> {
        let path = map.path_of(key);
        let advice = format!("write items such as `- name: STAGE` with `{value_key}: …` below");
        let items = match map.get(key).map(|node| (&node.value, node.at)) {
            None | Some((Value::Null, _)) => return Vec::new(),
            Some((Value::List(items), _)) => items,
            Some((other, at)) => {
                let problem = format!("`{path}` is {}, not a list", other.kind());
                self.mistake(at, problem, &advice);
                return Vec::new();
            }
        };
        let mut pairs = Vec::new();
        let mut names = BTreeSet::new();
        for item in items {
            let Value::Map(entries) = &item.value else {
                let problem = format!("an item of `{path}` is {}, not a map", item.value.kind());
                self.mistake(item.at, problem, &advice);
                continue;
            };
            let fields = Map {
                at: item.at,
                path: "",
                entries,
            };
            self.unknown_keys(&fields, &path, &["name", value_key]);
            let name = self.field(&fields, &path, "name", None);
            let value = self.field(&fields, &path, value_key, name.as_deref());
            if let Some(name) = &name
                && !names.insert(name.clone())
            {
                let problem = format!("`{}` is in `{path}` twice", short(name));
                self.mistake(item.at, problem, "keep one of the two");
            }
            if let (Some(name), Some(value)) = (name, value) {
                let at = |key| fields.get(key).map_or(item.at, |node| node.at);
                pairs.push(Pair {
                    name,
                    value,
                    name_at: at("name"),
                    value_at: at(value_key),
                });
            }
        }
        pairs
    }

    fn field(
        &mut self,
        fields: &Map<'_>,
        path: &str,
        key: &str,
        of: Option<&str>,
    ) -> Option<String> {
        let item = match of {
            Some(name) => format!("`{}` in `{path}`", short(name)),
            None => format!("an item of `{path}`"),
        };
        match fields.get(key).map(|node| (&node.value, node.at)) {
            Some((Value::Text(text), _)) if !(text.is_empty() && key != "value") => {
                return Some(text.clone());
            }
            None => self.mistake(fields.at, format!("{item} has no `{key}`"), "add it"),
            Some((Value::Text(_) | Value::Null, at)) => {
                let advice = match key {
                    "value" => "write one; `\"\"` is the empty one",
                    _ => "write one",
                };
                self.mistake(at, format!("{item} has an empty `{key}`"), advice);
            }
            Some((other, at)) => {
                let problem = format!("the `{key}` of {item} is {}", other.kind());
                self.mistake(at, problem, "write a text, in quotes if need be");
            }
        }
        None
    }

    fn commands(&mut self, map: &Map<'_>, key: &'static str) -> Vec<String> {
        let path = map.path_of(key);
        let advice = "write a list: each command on a line of its own after `- `";
        let (value, at) = match map.get(key) {
            None => return Vec::new(),
            Some(node) => (&node.value, node.at),
        };
        match value {
            Value::List(items) => {
                let items = items.iter();
                items.filter_map(|item| self.command(item, &path)).collect()
            }
            Value::Text(text) if !text.trim().is_empty() => {
                let note = format!("`{path}` is a text: taken as a list of one; {advice}");
                self.notes.push(Note::at(at, note));
                vec![text.clone()]
            }
            Value::Text(_) | Value::Null => {
                self.mistake(
                    at,
                    format!("`{path}` is empty"),
                    "list commands or leave it out",
                );
                Vec::new()
            }
            Value::Map(_) => {
                self.mistake(at, format!("`{path}` is a map, not a list"), advice);
                Vec::new()
            }
        }
    }

    fn command(&mut self, item: &Node, path: &str) -> Option<String> {
        let (problem, advice) = match &item.value {
            Value::Text(text) if text.contains('\0') => ("has a NUL in it".to_owned(), "remove it"),
            Value::Text(text) if !text.trim().is_empty() => return Some(text.clone()),
            Value::Text(_) | Value::Null => ("is empty".to_owned(), "remove it"),
            Value::Map(_) => {
                let advice = "put it in quotes: a text with `: ` in it is read as a map";
                ("is a map".to_owned(), advice)
            }
            Value::List(_) => {
                let advice =
                    "put it in quotes: a text that begins with `[` or `- ` is read as a list";
                ("is a list".to_owned(), advice)
            }
        };
        self.mistake(item.at, format!("a command of `{path}` {problem}"), advice);
        None
    }

    fn required_text(&mut self, map: &Map<'_>, key: &'static str, advice: &str) -> String {
        let path = map.path_of(key);
        match map.get(key) {
            None => self.mistake(map.at, format!("`{path}` is missing"), advice),
            Some(node) => match &node.value {
                Value::Text(text) if !text.trim().is_empty() => return text.clone(),
                Value::Text(_) | Value::Null => {
                    self.mistake(node.at, format!("`{path}` is empty"), advice);
                }
                Value::List(_) | Value::Map(_) => {
                    let problem = format!("`{path}` is {}, not a text", node.value.kind());
                    self.mistake(node.at, problem, advice);
                }
            },
        }
        String::new()
    }

    fn text(&mut self, map: &Map<'_>, key: &'static str, node: &Node) -> Option<String> {
        let path = map.path_of(key);
        match &node.value {
            Value::Text(text) if !text.trim().is_empty() => return Some(text.clone()),
            Value::Text(_) | Value::Null => {
                self.mistake(
                    node.at,
                    format!("`{path}` is empty"),
                    "give it or leave it out",
                );
            }
            other => {
                let problem = format!("`{path}` is {}, not a text", other.kind());
                self.mistake(node.at, problem, "write a single value");
            }
        }
        None
    }

    fn required_map<'a>(
        &mut self,
        map: &Map<'a>,
        key: &'static str,
        path: &'static str,
        keys: &[&str],
        advice: &str,
    ) -> Option<Map<'a>> {
        let state = match map.get(key).map(|node| (node, &node.value)) {
            Some((_, Value::Null)) => "empty",
            Some((node, _)) => return self.map_of(node, path, keys),
            None => "missing",
        };
        self.mistake(map.key_at(key), format!("`{path}` is {state}"), advice);
        None
    }

    fn optional_map<'a>(
        &mut self,
        map: &Map<'a>,
        key: &'static str,
        path: &'static str,
        keys: &[&str],
    ) -> Map<'a> {
        let found = match map.get(key) {
            Some(node) if !matches!(node.value, Value::Null) => self.map_of(node, path, keys),
            Some(_) | None => None,
        };
        found.unwrap_or(Map {
            at: map.at,
            path,
            entries: &[],
        })
    }

    fn map_of<'a>(&mut self, node: &'a Node, path: &'static str, keys: &[&str]) -> Option<Map<'a>> {
        if let Value::Map(entries) = &node.value {
            let map = Map {
                at: node.at,
                path,
                entries,
            };
            self.unknown_keys(&map, path, keys);
            return Some(map);
        }
        let (what, kind) = (named(path), node.value.kind());
        let advice = format!("write keys such as `{}:`", keys.first().unwrap_or(&"name"));
        self.mistake(node.at, format!("{what} is {kind}, not a map"), &advice);
        None
    }

    fn unknown_keys(&mut self, map: &Map<'_>, path: &str, keys: &[&str]) {
        let unknown = map.entries.iter();
        for entry in unknown.filter(|entry| !keys.contains(&entry.key.as_str())) {
            let within = match path {
                "" => String::new(),
                path => format!(" in `{path}`"),
            };
            let mut text = format!("`{}`{within} is not known and ignored", short(&entry.key));
            if let Some(like) = nearest(&entry.key, keys.iter().copied()) {
                text += &format!("; did you mean `{like}`?");
            }
            self.notes.push(Note::at(entry.at, text));
        }
    }

    fn mistake(&mut self, at: Position, problem: impl Into<String>, advice: &str) {
        self.mistakes.push(Mistake {
            at,
            problem: problem.into(),
            advice: advice.to_owned(),
        });
    }
}

/// Who sees a variable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Build,
    Run,
}

fn named(path: &str) -> String {
    match path {
        "" => "the file".to_owned(),
        path => format!("`{path}`"),
    }
}

/// The one that was probably meant.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name: String = name.chars().take(64).collect::<String>().to_lowercase();
    let likeness = |other: &str| strsim::jaro_winkler(&name, &other.to_lowercase());
    let rated = known.map(|other| (likeness(other), other));
    let best = rated.max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .map(|(_, other)| other)
}

/// At most as much of a text as an error should repeat.
pub(crate) fn short(text: &str) -> String {
    let shown: String = text.chars().take(64).collect();
    match shown.len() < text.len() {
        true => format!("{}…", shown.escape_debug()),
        false => shown.escape_debug().to_string(),
    }
}

impl fmt::Display for AppRunnerYaml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            runtime,
            build,
            run,
        } = self;
        writeln!(f, "version: {FORMAT}\nruntime: {}", Quoted(runtime))?;
        writeln!(f, "build:\n  commands:")?;
        write_list(f, 4, "pre-build", &build.pre_build)?;
        write_list(f, 4, "build", &build.build)?;
        write_list(f, 4, "post-build", &build.post_build)?;
        write_pairs(f, "env", "value", &build.env)?;
        writeln!(f, "run:")?;
        if let Some(version) = &run.runtime_version {
            writeln!(f, "  runtime-version: {version}")?;
        }
        write_list(f, 2, "pre-run", &run.pre_run)?;
        writeln!(f, "  command: {}", Quoted(&run.command))?;
        writeln!(f, "  network:\n    port: {}", run.port)?;
        if let Some(name) = &run.port_env {
            writeln!(f, "    env: {}", Quoted(name))?;
        }
        write_pairs(f, "env", "value", &run.env)?;
        write_pairs(f, "secrets", "value-from", &run.secrets)
    }
}

/// A text in YAML's double quotes.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                ' '..='~' => write!(f, "{c}")?,
                _ => write!(f, "\\U{:08x}", u32::from(c))?,
            }
        }
        f.write_str("\"")
    }
}

fn write_list(
    f: &mut fmt::Formatter<'_>,
    indentation: usize,
    key: &str,
    items: &[String],
) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(f, "{:indentation$}{key}:", "")?;
    items
        .iter()
        .try_for_each(|item| writeln!(f, "{:indentation$}- {}", "", Quoted(item)))
}

fn write_pairs(
    f: &mut fmt::Formatter<'_>,
    key: &str,
    value_key: &str,
    pairs: &BTreeMap<String, String>,
) -> fmt::Result {
    if pairs.is_empty() {
        return Ok(());
    }
    writeln!(f, "  {key}:")?;
    pairs.iter().try_for_each(|(name, value)| {
        writeln!(
            f,
            "  - name: {}\n    {value_key}: {}",
            Quoted(name),
            Quoted(value)
        )
    })
}

#[cfg(test)]
mod tests;
