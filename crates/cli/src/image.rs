//! `ekiden image`: the image store of this host, through the agent's socket. For root.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Subcommand;
use ekiden_engine::remote::{AgentClient, Answer, ImageCommand, ImageSummary};
use ekiden_model::image::{ImageReference, PreparedImage};
use serde::Serialize;

use crate::{
    failure::{Failure, Outcome},
    output::{OutputFormat, print, print_line, table},
    progress::Progress,
};

/// How long the agent may take to answer at all.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// What to do with the store.
#[derive(Debug, Clone, Subcommand)]
pub enum Image {
    /// List the images
    #[command(alias = "list")]
    Ls,
    /// Take in an image from an OCI layout (folder or tar) or a docker archive
    Import {
        /// The folder or file
        path: PathBuf,
        /// What to call it, such as `localhost/web:1` [default: the name it brings]
        reference: Option<String>,
    },
    /// Forget an image's name, and the image when that was its last
    #[command(alias = "remove")]
    Rm {
        /// The name
        reference: String,
    },
    /// Make a base image from a distribution's packages, by mmdebstrap
    Bootstrap {
        /// `debian:bookworm`
        distribution: String,
        /// Packages besides the smallest system; separated by commas or given several times
        #[arg(long = "include", value_name = "PACKAGES", value_delimiter = ',')]
        packages: Vec<String>,
        /// Where packages come from [default: the distribution's own servers]
        #[arg(long, value_name = "URL")]
        mirror: Option<String>,
        /// Make it anew even if there is one that is less than a week old
        #[arg(long)]
        refresh: bool,
        /// What to call it [default: `localhost/` and the distribution]
        #[arg(long, value_name = "REF")]
        name: Option<String>,
    },
    /// Write an image out as an OCI archive, for `buildah pull oci-archive:FILE`
    Export {
        /// The name
        reference: String,
        /// A file that does not exist
        path: PathBuf,
    },
}

/// What an import has made.
#[derive(Serialize)]
struct Imported {
    name: ImageReference,
    image: PreparedImage,
}

impl Image {
    /// Does it, and says how it goes.
    ///
    /// # Errors
    /// What the store says, or that the agent does not answer or refuses who asks.
    pub async fn run(&self, socket: &Path, format: OutputFormat) -> Outcome {
        let command = self.command()?;
        std::fs::metadata(socket).map_err(|error| unreachable(socket, &error))?;
        std::os::unix::net::UnixStream::connect(socket)
            .map_err(|error| unreachable(socket, &error))?;
        let client = AgentClient::connect(socket);
        if !client.connected(CONNECT_MAX).await {
            return Err(Failure::new(format!(
                "the agent at `{}` does not answer",
                socket.display()
            ))
            .hint("`ekiden status` shows whether it runs"));
        }
        let mut progress = Progress::new();
        let answer = client.images(command, |line| progress.say(&line)).await?;
        drop(progress);
        match answer {
            Answer::Images { images } => Ok(print(format, &images, |images| list(images))?),
            Answer::Imported { name, image } => {
                let imported = Imported { name, image };
                Ok(print(format, &imported, |imported| {
                    format!("{} is {}", imported.name, imported.image.digest)
                })?)
            }
            Answer::Image { image } => Ok(print(format, &image, |image| image.digest.to_string())?),
            Answer::Done
            | Answer::Logs { .. }
            | Answer::Collected { .. }
            | Answer::Made { .. }
            | Answer::Resolved { .. } => Ok(print_line(&self.said())?),
        }
    }

    fn command(&self) -> Result<ImageCommand, Failure> {
        Ok(match self {
            Self::Ls => ImageCommand::List,
            Self::Import { path, reference } => ImageCommand::Import {
                path: std::path::absolute(path)?,
                name: reference.as_deref().map(parse).transpose()?,
            },
            Self::Rm { reference } => ImageCommand::Remove {
                reference: parse(reference)?,
            },
            Self::Bootstrap {
                distribution,
                packages,
                mirror,
                refresh,
                name,
            } => ImageCommand::Bootstrap {
                distribution: distribution.clone(),
                packages: packages.clone(),
                mirror: mirror.clone(),
                refresh: *refresh,
                name: match name {
                    Some(name) => parse(name)?,
                    None => parse(&format!("localhost/{distribution}"))?,
                },
            },
            Self::Export { reference, path } => ImageCommand::Export {
                reference: parse(reference)?,
                path: std::path::absolute(path)?,
            },
        })
    }

    fn said(&self) -> String {
        match self {
            Self::Ls => String::new(),
            Self::Import { path, .. } => format!("imported {}", path.display()),
            Self::Rm { reference } => format!("removed {reference}"),
            Self::Bootstrap { distribution, .. } => format!("made {distribution}"),
            Self::Export { reference, path } => format!("wrote {reference} to {}", path.display()),
        }
    }
}

fn parse(reference: &str) -> Result<ImageReference, Failure> {
    Ok(reference.parse()?)
}

fn unreachable(socket: &Path, error: &io::Error) -> Failure {
    let failure = Failure::new(format!(
        "cannot reach the agent at `{}`: {error}",
        socket.display()
    ));
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            failure.hint("images of this host are root's: run it through sudo")
        }
        _ => failure.hint("start the server with `sudo ekiden server`"),
    }
}

fn list(images: &[ImageSummary]) -> String {
    if images.is_empty() {
        return "no images; `ekiden image bootstrap debian:bookworm` makes one".to_owned();
    }
    let rows = images.iter().map(|image| {
        let names: Vec<_> = image.names.iter().map(ToString::to_string).collect();
        vec![
            if names.is_empty() {
                "-".to_owned()
            } else {
                names.join(", ")
            },
            image
                .digest
                .to_string()
                .chars()
                .take("sha256:".len() + 12)
                .collect(),
            format!("{:.1} MiB", image.size_bytes as f64 / f64::from(1 << 20)),
            if image.in_use { "yes" } else { "no" }.to_owned(),
        ]
    });
    table(&["NAME", "DIGEST", "SIZE", "IN USE"], rows)
}
