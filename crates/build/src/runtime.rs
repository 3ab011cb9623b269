//! Managed runtimes: which there are, what each brings, and how a source of its language is built.
//!
//! A runtime is a file of data (docs/runtimes.md). Those of App Runner and a few more come with Ekiden;
//! operators add files, or change some of the keys of a runtime that is there. Ekiden's own are packages
//! of Debian bookworm, so a name such as `nodejs22` may stand for a version that Debian does not have:
//! then the plan says which one is used, and a version that is locked to another one is an error.

use std::{collections::BTreeMap, fmt};

use ekiden_model::image::ImageReference;
use serde::Deserialize;

use crate::{
    apprunner_yaml::{nearest, short},
    plan::{Base, CACHE_DIR},
    version::Version,
};

/// Packages of every base of packages: to fetch what builds fetch.
const PACKAGES_ALWAYS: [&str; 3] = ["ca-certificates", "curl", "git"];

/// The largest file of a runtime, in bytes.
const FILE_BYTES_MAX: usize = 128 << 10;

/// Stands in values of caches for the directory that is kept.
const CACHE_PLACEHOLDER: &str = "{cache}";

/// The runtimes that come with Ekiden, by file name.
const BUILTIN: [(&str, &str); 9] = [
    ("ruby.yaml", include_str!("../runtimes/ruby.yaml")),
    ("php.yaml", include_str!("../runtimes/php.yaml")),
    ("go.yaml", include_str!("../runtimes/go.yaml")),
    ("java.yaml", include_str!("../runtimes/java.yaml")),
    ("dotnet.yaml", include_str!("../runtimes/dotnet.yaml")),
    ("rust.yaml", include_str!("../runtimes/rust.yaml")),
    ("python.yaml", include_str!("../runtimes/python.yaml")),
    ("nodejs.yaml", include_str!("../runtimes/nodejs.yaml")),
    ("static.yaml", include_str!("../runtimes/static.yaml")),
];

/// All runtimes, in the order in which a source is compared with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtimes(Vec<Runtime>);

/// One language's runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// Its own name, such as `python`.
    pub name: String,
    /// Its language's name, such as `Python`.
    pub title: String,
    /// Its place in the order in which a source is compared with runtimes: the least comes first.
    pub order: u32,
    /// What App Runner calls it, by the name of `apprunner.yaml`.
    pub names: BTreeMap<String, Alias>,
    /// What it is made of, unless a name has its own.
    system: System,
    /// Shell commands that complete a base.
    pub setup: Vec<String>,
    /// Variables of commands of a build.
    pub build_env: BTreeMap<String, String>,
    /// Variables of the application.
    pub run_env: BTreeMap<String, String>,
    /// Variables of commands of a build that point into the cache.
    pub caches: BTreeMap<String, String>,
    /// Where a source says which version it needs.
    pub(crate) wants: Vec<Want>,
    /// A built-in look at sources that rules cannot express.
    pub(crate) analysis: Option<Analysis>,
    /// How sources of the language are built and started: the first that fits.
    pub(crate) rules: Vec<Rule>,
}

/// A name that App Runner has for a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// Its name in the API, such as `PYTHON_311`.
    pub api: Option<String>,
    /// Which of App Runner's two ways to build it is.
    pub process: Process,
    /// The version that App Runner means by it.
    pub means: Option<Version>,
    /// What it is made of, if not what the runtime is.
    system: System,
}

/// App Runner's two ways to build (specification, section 8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Process {
    /// The build runs a second time, in the image.
    Original,
    /// The image has the application's directory, and what `pre-run` adds.
    Revised,
}

/// A runtime that was asked for by a name, and what it really is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected<'a> {
    /// The runtime.
    pub runtime: &'a Runtime,
    /// What it was called.
    pub name: String,
    /// How it builds.
    pub process: Process,
    /// The version that App Runner means by the name.
    pub means: Option<Version>,
    /// The version it has.
    pub version: Version,
    /// What that is a part of, such as `Debian bookworm (python3)`.
    pub origin: String,
    base: Base,
}

/// Why a runtime cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// No such name.
    #[error("there is no runtime `{name}`{}; there are: {}", did_you_mean(.like), .known.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// What was probably meant.
        like: Option<String>,
        /// All names.
        known: Vec<String>,
    },
    /// Debian does not have it and nobody said what to use.
    #[error(
        "the runtime `{name}` has no base: Debian bookworm does not have {title}; \
         add a runtime file with `name: {runtime}`, an `image` that has it and its `version` \
         (see docs/runtimes.md), or build with a Dockerfile"
    )]
    NoBase {
        /// What it was called.
        name: String,
        /// The language.
        title: String,
        /// The runtime's own name.
        runtime: String,
    },
    /// A version that is not there. The first sentences are App Runner's.
    #[error(
        "The specified runtime version is not supported. Refer to the Release information in the App \
         Runner Developer guide for supported runtime versions. `runtime-version` is {locked}, and \
         {there} here: lock it to {version} or leave it out."
    )]
    Version {
        /// What was asked for.
        locked: String,
        /// Which version there is.
        version: String,
        /// What there is, with its name: `python3` is Python 3.11 of Debian bookworm.
        there: String,
    },
    /// A runtime's file that cannot be used.
    #[error("runtime file `{file}`: {problem}")]
    File {
        /// Which file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
}

fn did_you_mean(like: &Option<String>) -> String {
    match like {
        Some(like) => format!(", did you mean `{like}`?"),
        None => String::new(),
    }
}

/// A built-in look at a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Analysis {
    Go,
    Nodejs,
    Python,
    Ruby,
    Rust,
}

/// Where a source says which version it needs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Want {
    pub(crate) file: String,
    /// The text right before the version.
    pub(crate) after: String,
}

/// How one kind of source is built and started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Rule {
    /// For people.
    pub(crate) name: String,
    /// Files that must all be there; the last segment may have one `*`.
    pub(crate) when: Vec<String>,
    /// Files of which none may be there.
    pub(crate) unless: Vec<String>,
    /// Texts that files must have in them.
    pub(crate) contains: BTreeMap<String, String>,
    /// More packages.
    pub(crate) packages: Vec<String>,
    /// Files that `install` needs. With none, it needs the source.
    pub(crate) dependencies: Vec<String>,
    pub(crate) install: Vec<String>,
    pub(crate) build: Vec<String>,
    pub(crate) start: Option<String>,
    pub(crate) build_env: BTreeMap<String, String>,
    pub(crate) run_env: BTreeMap<String, String>,
    /// Sentences for people.
    pub(crate) notes: Vec<String>,
    /// Why such a source cannot be built, if it cannot.
    pub(crate) refuse: Option<String>,
}

/// What a runtime is made of; keys that are absent are those of what it is laid over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct System {
    packages: Option<Vec<String>>,
    image: Option<ImageReference>,
    version: Option<String>,
    /// The package that decides the version.
    from: Option<String>,
}

/// A runtime's file, as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    name: String,
    title: Option<String>,
    order: Option<u32>,
    #[serde(default)]
    names: BTreeMap<String, FileAlias>,
    packages: Option<Vec<String>>,
    image: Option<ImageReference>,
    version: Option<String>,
    from: Option<String>,
    setup: Option<Vec<String>>,
    build_env: Option<BTreeMap<String, String>>,
    run_env: Option<BTreeMap<String, String>>,
    caches: Option<BTreeMap<String, String>>,
    wants: Option<Vec<Want>>,
    analysis: Option<Analysis>,
    rules: Option<Vec<Rule>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileAlias {
    api: Option<String>,
    process: Option<Process>,
    means: Option<String>,
    packages: Option<Vec<String>>,
    image: Option<ImageReference>,
    version: Option<String>,
    from: Option<String>,
}

impl Runtimes {
    /// Those that come with Ekiden.
    ///
    /// # Errors
    /// Never, as a test makes sure.
    pub fn builtin() -> Result<Self, RuntimeError> {
        Self::with(Vec::new())
    }

    /// Ekiden's own, with these files over them: names and texts, in the order they are laid.
    ///
    /// # Errors
    /// A file that is no runtime's.
    pub fn with(files: Vec<(String, String)>) -> Result<Self, RuntimeError> {
        let mut runtimes = Self(Vec::new());
        for (name, text) in BUILTIN {
            runtimes.add(name, text)?;
        }
        for (name, text) in &files {
            runtimes.add(name, text)?;
        }
        runtimes.0.sort_by_key(|runtime| runtime.order);
        Ok(runtimes)
    }

    fn add(&mut self, name: &str, text: &str) -> Result<(), RuntimeError> {
        let wrong = |problem: String| RuntimeError::File {
            file: name.to_owned(),
            problem,
        };
        if text.len() > FILE_BYTES_MAX {
            return Err(wrong(format!("larger than {FILE_BYTES_MAX} bytes")));
        }
        let file: File =
            serde_saphyr::from_str(text).map_err(|error| wrong(first_line(&error.to_string())))?;
        let place = self.0.iter().position(|other| other.name == file.name);
        let under = place.map_or_else(|| Runtime::new(&file.name), |place| self.0[place].clone());
        let runtime = under.with(file).map_err(wrong)?;
        match place {
            Some(place) => self.0[place] = runtime,
            None => self.0.push(runtime),
        }
        Ok(())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Runtime> {
        self.0.iter()
    }

    /// The one of this name: of its own, of `apprunner.yaml` or of the API.
    ///
    /// # Errors
    /// There is none, or it has no base.
    pub fn select(&self, name: &str) -> Result<Selected<'_>, RuntimeError> {
        for runtime in &self.0 {
            let of_api = |alias: &Alias| alias.api.as_deref() == Some(name);
            let mut aliases = runtime.names.iter();
            if let Some((alias_name, alias)) =
                aliases.find(|(other, alias)| *other == name || of_api(alias))
            {
                return runtime.selected(alias_name, Some(alias));
            }
            if runtime.name == name {
                return runtime.selected(name, None);
            }
        }
        let known = || {
            let names = |runtime: &'_ Runtime| {
                let aliases: Vec<_> = runtime.names.keys().cloned().collect();
                aliases.into_iter().chain([runtime.name.clone()])
            };
            self.0.iter().flat_map(names)
        };
        let all: Vec<String> = known().collect();
        Err(RuntimeError::Unknown {
            like: nearest(name, all.iter().map(String::as_str)).map(str::to_owned),
            name: short(name),
            known: all,
        })
    }
}

impl Runtime {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            title: name.to_owned(),
            order: 0,
            names: BTreeMap::new(),
            system: System::default(),
            setup: Vec::new(),
            build_env: BTreeMap::new(),
            run_env: BTreeMap::new(),
            caches: BTreeMap::new(),
            wants: Vec::new(),
            analysis: None,
            rules: Vec::new(),
        }
    }

    /// This runtime with a file's keys in place of its own; names are added one by one.
    fn with(mut self, file: File) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        if file.name.is_empty() || !file.name.chars().all(plain) {
            return Err(format!(
                "`{}` cannot be a runtime's name",
                short(&file.name)
            ));
        }
        self.system = self.system.with(System {
            packages: file.packages,
            image: file.image,
            version: file.version,
            from: file.from,
        })?;
        for (name, alias) in file.names {
            let under = self.names.remove(&name).unwrap_or(Alias {
                api: None,
                process: Process::Revised,
                means: None,
                system: System::default(),
            });
            self.names.insert(name, under.with(alias)?);
        }
        replace(&mut self.title, file.title);
        replace(&mut self.order, file.order);
        replace(&mut self.setup, file.setup);
        replace(&mut self.build_env, file.build_env);
        replace(&mut self.run_env, file.run_env);
        replace(&mut self.caches, file.caches);
        replace(&mut self.wants, file.wants);
        replace(&mut self.rules, file.rules);
        self.analysis = file.analysis.or(self.analysis);
        if let Some((name, _)) = self
            .caches
            .iter()
            .find(|(_, to)| !to.contains(CACHE_PLACEHOLDER))
        {
            return Err(format!(
                "the cache `{name}` does not name `{CACHE_PLACEHOLDER}`"
            ));
        }
        Ok(self)
    }

    fn selected(&self, name: &str, alias: Option<&Alias>) -> Result<Selected<'_>, RuntimeError> {
        let none = System::default();
        let own = alias.map_or(&none, |alias| &alias.system);
        let no_base = || RuntimeError::NoBase {
            name: name.to_owned(),
            title: self.title.clone(),
            runtime: self.name.clone(),
        };
        let system = self
            .system
            .clone()
            .with(own.clone())
            .map_err(|_| no_base())?;
        let version = system
            .version
            .as_deref()
            .and_then(|version| version.parse().ok());
        let (base, origin) = match (system.image, system.packages) {
            (Some(image), _) => (Base::Image(image.clone()), image.to_string()),
            (None, Some(packages)) => {
                let from = system.from.or_else(|| packages.first().cloned());
                let origin = format!("Debian bookworm ({})", from.unwrap_or_default());
                (base_of(packages), origin)
            }
            (None, None) => return Err(no_base()),
        };
        Ok(Selected {
            runtime: self,
            name: name.to_owned(),
            process: alias.map_or(Process::Revised, |alias| alias.process),
            means: alias.and_then(|alias| alias.means.clone()),
            version: version.ok_or_else(no_base)?,
            origin,
            base,
        })
    }

    /// Its own system, for a source that names no runtime.
    ///
    /// # Errors
    /// It has no base.
    pub fn as_it_is(&self) -> Result<Selected<'_>, RuntimeError> {
        self.selected(&self.name, None)
    }

    /// The variables of commands of a build.
    pub fn variables_of_build(&self) -> BTreeMap<String, String> {
        let mut env = self.build_env.clone();
        let caches = self.caches.iter();
        env.extend(
            caches.map(|(name, to)| (name.clone(), to.replace(CACHE_PLACEHOLDER, CACHE_DIR))),
        );
        env
    }
}

impl Alias {
    fn with(mut self, file: FileAlias) -> Result<Self, String> {
        let version = |text: String| {
            let parsed = text.parse();
            parsed.map_err(|error| format!("`means: {}` is {error}", short(&text)))
        };
        self.means = file.means.map(version).transpose()?.or(self.means);
        self.api = file.api.or(self.api);
        replace(&mut self.process, file.process);
        self.system = self.system.with(System {
            packages: file.packages,
            image: file.image,
            version: file.version,
            from: file.from,
        })?;
        Ok(self)
    }
}

impl System {
    /// This with the other's keys in place of its own. An image takes the place of packages, and the
    /// other way around; either needs a version of its own.
    fn with(self, over: System) -> Result<System, String> {
        if let Some(version) = &over.version
            && version.parse::<Version>().is_err()
        {
            return Err(format!("`version: {}` is not a version", short(version)));
        }
        if over.packages.is_some() && over.image.is_some() {
            return Err("it has `packages` and an `image`: keep one of the two".to_owned());
        }
        if over.image.is_some() && over.version.is_none() {
            return Err("an `image` needs the `version` it has".to_owned());
        }
        let is_new = over.packages.is_some() || over.image.is_some();
        let (packages, image) = match is_new {
            true => (over.packages, over.image),
            false => (self.packages, self.image),
        };
        let system = System {
            packages,
            image,
            version: over.version.or(self.version),
            from: over.from.or(if is_new { None } else { self.from }),
        };
        match system.packages.is_some() && system.version.is_none() {
            true => Err("`packages` need the `version` they have".to_owned()),
            false => Ok(system),
        }
    }
}

impl Selected<'_> {
    /// What a build begins with, with these packages more. An image gets none.
    pub fn base(&self, more: &[String]) -> Base {
        match &self.base {
            Base::Image(image) => Base::Image(image.clone()),
            Base::Packages { packages } => base_of(packages.iter().chain(more).cloned().collect()),
        }
    }

    /// Whether it is somebody's image, in which Debian's packages are not to be expected.
    pub(crate) fn is_image(&self) -> bool {
        matches!(self.base, Base::Image(_))
    }

    /// Whether the version it has satisfies a lock. What is not known of it is not compared: Debian's
    /// patches have their own numbers.
    ///
    /// # Errors
    /// It is another version.
    pub fn check_lock(&self, locked: &Version) -> Result<(), RuntimeError> {
        match self.version.agrees_with(locked) {
            true => Ok(()),
            false => Err(RuntimeError::Version {
                locked: locked.to_string(),
                version: self.version.to_string(),
                there: format!(
                    "`{}` is {} {} of {}",
                    self.name, self.runtime.title, self.version, self.origin
                ),
            }),
        }
    }

    /// A sentence, if the version is not the one that App Runner means by the name.
    pub fn difference(&self) -> Option<String> {
        let means = self.means.as_ref()?;
        let (name, title) = (&self.name, &self.runtime.title);
        (!self.version.agrees_with(means)).then(|| {
            format!(
                "`{name}` is {title} {means} on App Runner; here it is {title} {} of {}",
                self.version, self.origin
            )
        })
    }
}

impl fmt::Display for Selected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = &self.runtime.title;
        write!(
            f,
            "{}: {title} {} of {}",
            self.name, self.version, self.origin
        )
    }
}

fn base_of(mut packages: Vec<String>) -> Base {
    packages.extend(PACKAGES_ALWAYS.map(str::to_owned));
    packages.sort();
    packages.dedup();
    Base::Packages { packages }
}

fn replace<T>(value: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *value = new;
    }
}

/// The YAML library draws the place below its first line.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
