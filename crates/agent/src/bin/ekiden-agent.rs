//! The agent by itself, with plain directories for images: for tests and measurements.
//!
//! `ekiden-agent run <name> <data dir> <run dir> <ipv4 network> <layers dir>`: an image `sha256:x` has the
//! one layer `<layers dir>/x`. `ekiden-agent shim` is what it runs for each instance.

use std::{path::PathBuf, process::ExitCode};

use ekiden_agent::{
    config::AgentConfig, dockerfile, image::make::Left, images::Images, server, shim, teardown,
};
use ekiden_engine::{
    EngineError, MadeImage,
    remote::{Answer, ImageCommand},
};
use ekiden_model::image::{Digest, ImageConfig, ImageReference, PreparedImage, ResolvedImage};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["shim"] => shim::main(),
        [dockerfile::SANDBOX] => dockerfile::sandbox_main(),
        ["run", name, data, run, network, layers] => {
            configure(name, data, run, network).and_then(|config| serve(config, layers.into()))
        }
        ["teardown", name, data, run, network] => configure(name, data, run, network)
            .and_then(|config| teardown::teardown(&config).map_err(|error| chain(&error))),
        _ => Err("usage: ekiden-agent run <name> <data> <run> <network> <layers>".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn configure(name: &str, data: &str, run: &str, network: &str) -> Result<AgentConfig, String> {
    let mut config = AgentConfig::new(name, data.into(), run.into());
    config.ipv4 = network
        .parse()
        .map_err(|error| format!("`{network}`: {error}"))?;
    Ok(config)
}

fn serve(config: AgentConfig, layers: PathBuf) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.map_err(|error| chain(&error))?.block_on(async {
        let socket = config.run_dir.join("agent").join("agent.sock");
        std::fs::create_dir_all(config.run_dir.join("agent")).map_err(|error| chain(&error))?;
        let _ = std::fs::remove_file(&socket);
        let listener = tokio::net::UnixListener::bind(&socket).map_err(|error| chain(&error))?;
        let interrupted = async { drop(tokio::signal::ctrl_c().await) };
        let served = server::run(config, Directories { layers }, listener, interrupted).await;
        served.map_err(|error| chain(&error))
    })
}

/// Images that are directories.
struct Directories {
    layers: PathBuf,
}

impl Images for Directories {
    type Hold = ();

    async fn prepare(&self, _: &ImageReference) -> Result<PreparedImage, EngineError> {
        Err(not_here())
    }

    async fn resolve(&self, _: &ImageReference) -> Result<ResolvedImage, EngineError> {
        Err(not_here())
    }

    fn hold(&self, _: Digest) -> Result<(), EngineError> {
        Ok(())
    }

    fn layers(&self, image: Digest) -> Result<Vec<PathBuf>, EngineError> {
        Ok(vec![self.layers.join(image.hex())])
    }

    fn retain(&self, _: &[Digest]) -> Result<(), EngineError> {
        Ok(())
    }

    async fn base(
        &self,
        _: Vec<String>,
        _: impl Fn(String) + Send + Sync + 'static,
    ) -> Result<PreparedImage, EngineError> {
        Err(not_here())
    }

    async fn unname(&self, _: &ImageReference) -> Result<(), EngineError> {
        Err(not_here())
    }

    async fn take_source(&self, _: PathBuf, _: Digest) -> Result<PreparedImage, EngineError> {
        Err(not_here())
    }

    async fn stack(&self, _: Vec<Digest>, _: ImageConfig) -> Result<PreparedImage, EngineError> {
        Err(not_here())
    }

    async fn take_left(&self, _: Left) -> Result<MadeImage, EngineError> {
        Err(not_here())
    }

    async fn command(
        &self,
        _: ImageCommand,
        _: impl Fn(String) + Send + Sync + 'static,
    ) -> Result<Answer, EngineError> {
        Err(not_here())
    }
}

fn not_here() -> EngineError {
    EngineError::Invalid {
        message: "this agent has no image store".to_owned(),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
