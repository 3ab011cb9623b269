//! The command line's grammar, and what each command leads to.

use std::{collections::BTreeMap, env, fs, io, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use ekiden_cli::{
    failure::{Failure, Outcome},
    output::{self, OutputFormat},
    status::Status,
};

use crate::{
    config::{Config, ConfigError, setting, typed::Sources},
    supervisor,
};

/// Where the configuration is when nobody says otherwise; it need not exist.
const CONFIG_FILE: &str = "/etc/ekiden/ekiden.toml";

/// App Runner you own: gives a container image back as a running, load-balanced web application.
#[derive(Debug, Parser)]
#[command(name = "ekiden", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    settings: Settings,

    /// How to print
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    output: OutputFormat,

    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  sudo ekiden server                     run Ekiden on this host
  sudo ekiden doctor                     see what is missing on this host
  eval \"$(sudo ekiden env)\"              let the aws command line speak to it
  ekiden deploy --image docker.io/library/nginx --name web --port 80";

/// Settings that every command takes.
#[derive(Debug, Args)]
struct Settings {
    /// The configuration file [default: /etc/ekiden/ekiden.toml, if it exists]
    #[arg(long, global = true, env = "EKIDEN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Set one setting, over the file and the environment: `--set edge.listen=0.0.0.0:80`
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run Ekiden on this host until it is told to stop; needs root
    Server,
    /// Show whether the server and its roles run
    Status,
    /// List every setting: its default, what it may be, and what it is for
    Settings,
}

impl Arguments {
    /// Does what was asked.
    pub fn run(self) -> ExitCode {
        match self.dispatch() {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.report(),
        }
    }

    fn dispatch(self) -> Outcome {
        let config = self.settings.read().map_err(|error| {
            Failure::from(error).hint("docs/configuration.md lists every setting")
        })?;
        match self.command {
            Command::Server => server(config),
            Command::Status => status(&config, self.output),
            Command::Settings => Ok(output::print_line(&setting::reference())?),
        }
    }
}

impl Settings {
    fn read(&self) -> Result<Config, ConfigError> {
        let environment: BTreeMap<_, _> = env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let flags = self
            .set
            .iter()
            .map(|(key, value)| (key.clone(), value.clone(), format!("--set {key}")));
        let sources = Sources {
            file: self.file()?,
            environment,
            flags: flags.collect(),
        };
        Config::from_typed(&sources.read()?)
    }

    fn file(&self) -> Result<Option<(PathBuf, String)>, ConfigError> {
        let path = self.config.clone().unwrap_or_else(|| CONFIG_FILE.into());
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some((path, text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.config.is_none() => {
                Ok(None)
            }
            Err(source) => Err(ConfigError::Read { path, source }),
        }
    }
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| "expected `KEY=VALUE`, such as `edge.listen=0.0.0.0:80`".to_owned())
}

fn server(config: Config) -> Outcome {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new(
            "the server needs root: it makes namespaces, groups and networks",
        )
        .hint("run `sudo ekiden server`; the roles that face the network give root up"));
    }
    Ok(supervisor::run(config)?)
}

fn status(config: &Config, format: OutputFormat) -> Outcome {
    let path = config.status_file();
    let status = Status::read(&path)?.ok_or_else(|| {
        Failure::new(format!("no server runs on `{}`", config.run_dir.display()))
            .hint("start one with `sudo ekiden server`")
    })?;
    Ok(output::print(format, &status, |_| String::new())?)
}
