//! The command line's grammar, and what each command leads to.

use std::{collections::BTreeMap, env, fs, io, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use ekiden_cli::{
    command::Context,
    endpoint::LocalServer,
    failure::{Failure, Outcome},
    output::{self, OutputFormat},
};

use crate::{
    config::{Config, ConfigError, setting, typed::Sources},
    health, stop, supervisor,
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

    /// The API to ask, instead of AWS_ENDPOINT_URL or this host's Ekiden
    #[arg(long, global = true, value_name = "URL")]
    endpoint_url: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run Ekiden on this host until it is told to stop; needs root
    #[command(after_help = "Examples:\n  \
        sudo ekiden server\n  \
        sudo ekiden server --set edge.listen=0.0.0.0:80 --set service.domain=apps.example.org")]
    Server {
        /// Only say whether the settings are understood
        #[arg(long)]
        check: bool,
    },
    /// Stop the server of this host; instances go on running
    Stop,
    /// Take the settings and the program of now into use; the front door goes on
    Reload,
    /// Show whether the server and its roles serve
    Status {
        /// Wait until everything serves, at most so many seconds
        #[arg(long, value_name = "SECONDS")]
        wait: Option<u64>,
    },
    /// Look at what this host has and lacks, and how to mend it
    Doctor,
    /// List every setting: its default, what it may be, and what it is for
    Settings,
    /// Remove every trace of this Ekiden from this host: services, images, logs, everything
    Teardown {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    #[command(flatten)]
    Client(ekiden_cli::command::Command),
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
        let variables = variables();
        let config = self
            .settings
            .read(&variables)
            .map_err(|error| Failure::from(error).hint("`ekiden settings` lists every setting"))?;
        let context = context(&config, variables, self.settings.endpoint_url, self.output);
        match self.command {
            Command::Server { check: true } => Ok(()),
            Command::Server { check: false } => server(config),
            Command::Reload => stop::reload(&config),
            Command::Stop => stop::stop(&config),
            Command::Status { wait } => {
                health::status(&config, &context, wait.map(Duration::from_secs))
            }
            Command::Doctor => health::doctor(&config, &context),
            Command::Settings => Ok(output::print_line(&setting::reference())?),
            Command::Teardown { yes } => stop::teardown(&config, yes),
            Command::Client(command) => command.run(&context),
        }
    }
}

impl Settings {
    fn read(&self, variables: &BTreeMap<String, String>) -> Result<Config, ConfigError> {
        let environment = variables.clone();
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

/// The environment, read once; what is not Unicode is no setting.
fn variables() -> BTreeMap<String, String> {
    env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn context(
    config: &Config,
    variables: BTreeMap<String, String>,
    endpoint_url: Option<String>,
    format: OutputFormat,
) -> Context {
    let local = LocalServer {
        api: config.api.listen,
        key_file: config.data_dir.join("control").join("admin-key.json"),
        agent_socket: config.agent_socket(),
        edge_port: config.edge.listen[0].port(),
    };
    Context {
        local,
        endpoint_url,
        variables,
        format,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_grammar_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_reference_page_has_every_command_and_flag() {
        let reference = include_str!("../../../docs/cli.md");
        let mut missing = Vec::new();
        walk(&Arguments::command(), "ekiden", &mut |words| {
            if !reference.contains(words) {
                missing.push(words.to_owned());
            }
        });
        assert!(missing.is_empty(), "docs/cli.md lacks {missing:?}");
    }

    fn walk(command: &clap::Command, name: &str, tell: &mut impl FnMut(&str)) {
        for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
            tell(&format!("--{flag}"));
        }
        for inner in command.get_subcommands() {
            let name = format!("{name} {}", inner.get_name());
            if !inner.has_subcommands() {
                tell(&name);
            }
            walk(inner, &name, tell);
        }
    }
}
