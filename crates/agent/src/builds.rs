//! What builds need of a host besides instances: images made of what they leave, and caches that outlive
//! them.

use std::{
    collections::{BTreeMap, VecDeque},
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ekiden_engine::{
    DockerfileRecipe, EngineError, ImageRecipe, MadeImage,
    remote::{Answer, ImageCommand},
};
use ekiden_model::{
    id::{InstanceId, ServiceId},
    image::{Digest, ImageConfig, ImageReference, LOCAL_REGISTRY, PreparedImage},
    instance::InstanceState,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tracing::warn;

use crate::{
    config::{AgentConfig, BUILD_UID_BASE},
    dockerfile::{self, DockerfileBuild, DockerfileError, LocalImage},
    durable,
    host::{Host, blocking, host_error},
    image::make::Left,
    images::Images,
    resolver, tree,
};

/// Images of this host that one Dockerfile may name.
const BASES_MAX: usize = 8;

/// Builds that ended before they began which are remembered.
const ENDED_MAX: usize = 64;

/// Lines of a tool that wait to be passed on.
const LINES_WAITING_MAX: usize = 64;

/// What was made of what an instance has left, in its directory: asked again, that is the answer.
const MADE: &str = "made.json";

/// The longest name of a part, in bytes.
const PART_BYTES_MAX: usize = 64;

impl<I: Images> Host<I> {
    /// As [`ekiden_engine::Engine::make_image`]; `progress` takes one line at a time.
    pub(crate) async fn make_image(
        self: &Arc<Self>,
        recipe: ImageRecipe,
        progress: impl Fn(String) + Send + Sync + 'static,
    ) -> Result<MadeImage, EngineError> {
        let image = match recipe {
            ImageRecipe::Base { packages } => self.images.base(packages, progress).await?,
            ImageRecipe::Source { digest } => {
                let archive = source_archive(&self.config, digest);
                self.images.take_source(archive, digest).await?
            }
            ImageRecipe::Stack { images, config } => self.images.stack(images, config).await?,
            ImageRecipe::Left {
                instance,
                config,
                part,
            } => return self.take_left(instance, config, part).await,
            ImageRecipe::Dockerfile(recipe) => self.build_dockerfile(*recipe, progress).await?,
        };
        Ok(MadeImage { image, part: None })
    }

    /// Builds what a Dockerfile says, and takes it into the store.
    async fn build_dockerfile(
        self: &Arc<Self>,
        recipe: DockerfileRecipe,
        progress: impl Fn(String) + Send + Sync + 'static,
    ) -> Result<PreparedImage, EngineError> {
        // One that was begun for a control plane that is gone is of no use, and has the cache.
        self.dockerfiles.end(|_, of| of == recipe.service).await;
        let (work, mut cancelled) = self.dockerfiles.begin(recipe.build, recipe.service);
        let directory = self.config.builds_dir().join(recipe.build.to_string());
        let made = tokio::select! {
            made = self.build_in(&directory, recipe, progress) => made,
            // The sender lives as long as the work. What is dropped ends with all it has started.
            _ = cancelled.wait_for(|cancelled| *cancelled) => Err(invalid("the build was cancelled")),
        };
        // However it ended: whatever is left of it is killed first.
        let group = self.cgroups.group(work.build);
        let removed = blocking(move || {
            group.remove().map_err(io::Error::other)?;
            tree::remove(&directory)
        });
        if let Err(error) = removed.await {
            warn!(%error, "what a build has left cannot be removed");
        }
        drop(work);
        made
    }

    async fn build_in(
        self: &Arc<Self>,
        directory: &Path,
        recipe: DockerfileRecipe,
        progress: impl Fn(String) + Send + Sync + 'static,
    ) -> Result<PreparedImage, EngineError> {
        let place = self.reserve()?;
        let source = self.images.layers(recipe.source)?;
        let _kept = self.images.hold(recipe.source)?;
        let [source] = source.as_slice() else {
            return Err(invalid("the source of a build is one layer"));
        };
        let made = directory.to_owned();
        let storage = self.config.storage_dir(recipe.service);
        let parent = self.config.builds_dir();
        blocking(move || {
            let mut private = fs::DirBuilder::new();
            private.recursive(true).mode(0o700).create(&parent)?;
            fs::create_dir(&made)
        })
        .await
        .map_err(|error| host_error("make the build's directory", &error))?;
        let text = dockerfile::read_dockerfile(source, &recipe.dockerfile).map_err(told)?;
        let local_images = self
            .export_bases(&text, (&recipe.args, recipe.limits.disk_bytes), directory)
            .await?;
        let group = self.cgroups.group(recipe.build);
        let (limits, made) = (recipe.limits, group.clone());
        blocking(move || made.create(&limits).map_err(io::Error::other))
            .await
            .map_err(|error| host_error("limit the build", &error))?;
        let (host, slot) = (Arc::clone(self), place.slot);
        let network = blocking(move || {
            host.network
                .create_namespace(slot)
                .map_err(io::Error::other)
        });
        let network = network
            .await
            .map_err(|error| host_error("connect the build", &error))?;
        let (lines, mut said) = mpsc::channel(LINES_WAITING_MAX);
        let build = DockerfileBuild {
            program: self.config.shim_program.clone(),
            context: source.clone(),
            dockerfile: recipe.dockerfile,
            target: recipe.target,
            args: recipe.args,
            secrets: recipe
                .secrets
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned().into()))
                .collect(),
            storage,
            output: directory.join("output"),
            local_images,
            uid_base: BUILD_UID_BASE,
            network,
            resolv_conf: resolver::resolv_conf(&self.config.dns),
            authorities: self.build_authorities().await?,
            group,
            deadline: Duration::from_secs(recipe.seconds_max),
            disk_bytes_max: recipe.limits.disk_bytes,
            cache_bytes_max: recipe.cache_bytes_max,
            log: lines,
        };
        let built = async {
            let mut building = std::pin::pin!(dockerfile::build(build));
            let built = loop {
                tokio::select! {
                    // Neither loses anything when it is polled again.
                    Some(line) = said.recv() => progress(line),
                    built = &mut building => break built,
                }
            };
            while let Ok(line) = said.try_recv() {
                progress(line);
            }
            built
        };
        let built = built.await;
        let layout = built.map_err(told)?;
        let import = ImageCommand::Import {
            path: layout,
            name: Some(image_name(recipe.service)?),
        };
        match self.images.command(import, |_| {}).await? {
            Answer::Imported { image, name } => {
                // It is its revisions' and nobody else's: without a name it goes with them.
                self.images.unname(&name).await?;
                Ok(image)
            }
            _ => Err(invalid("the image store answered something else")),
        }
    }

    async fn build_authorities(&self) -> Result<Option<String>, EngineError> {
        let path = self.config.build_authorities.clone();
        blocking(move || path.map(fs::read_to_string).transpose())
            .await
            .map_err(|error| {
                host_error("read the certificates of `builds.ca_certificates`", &error)
            })
    }

    /// Puts the images of this host that a Dockerfile names where the build finds them: those that have a
    /// name here, and are no other service's.
    async fn export_bases(
        &self,
        text: &str,
        recipe: (&BTreeMap<String, String>, u64),
        directory: &Path,
    ) -> Result<Vec<LocalImage>, EngineError> {
        let (args, bytes_max) = recipe;
        let mut images = Vec::new();
        let mut bytes = 0;
        let Answer::Images { images: here } =
            self.images.command(ImageCommand::List, |_| {}).await?
        else {
            return Err(invalid("the image store answered something else"));
        };
        for name in dockerfile::bases(text, args) {
            let Ok(reference) = name.parse::<ImageReference>() else {
                continue; // buildah says what is wrong with it
            };
            if !reference.is_local() {
                continue;
            }
            if reference.digest.is_some() {
                return Err(invalid(&format!(
                    "the Dockerfile names `{name}`: images of this host are named by a tag"
                )));
            }
            if images.len() >= BASES_MAX {
                return Err(invalid(&format!(
                    "the Dockerfile names more than {BASES_MAX} images of this host"
                )));
            }
            let found = here.iter().find(|image| image.names.contains(&reference));
            bytes += found.map_or(0, |image| image.size_bytes);
            if bytes > bytes_max {
                return Err(invalid(
                    "the images of this host that the Dockerfile names are larger than a build may \
                     write (`builds.disk`)",
                ));
            }
            let archive = directory.join(format!("image-{}.tar", images.len()));
            let export = ImageCommand::Export {
                reference,
                path: archive.clone(),
            };
            self.images.command(export, |_| {}).await?;
            images.push(LocalImage { name, archive });
        }
        Ok(images)
    }

    /// Removes what the Dockerfiles of a service have left.
    pub(crate) async fn forget_dockerfiles(&self, service: ServiceId) {
        let storage = self.config.storage_dir(service);
        let removed = blocking(move || tree::remove(&storage)).await;
        if let Err(error) = removed {
            warn!(%service, %error, "the build cache of a service cannot be removed");
        }
    }

    async fn take_left(
        &self,
        id: InstanceId,
        config: ImageConfig,
        part: Option<String>,
    ) -> Result<MadeImage, EngineError> {
        if part.as_deref().is_some_and(|part| !is_part(part)) {
            return Err(invalid("a part is a name of letters and digits"));
        }
        let Some((record, state)) = self.record(id) else {
            return Err(invalid("the instance that built is gone"));
        };
        let Some(build) = record.spec.build else {
            return Err(invalid("the instance builds nothing"));
        };
        if !matches!(state, InstanceState::Exited(_)) {
            return Err(invalid("the instance that builds has not ended"));
        }
        let directory = record.paths(&self.config).directory;
        let made = directory.join(MADE);
        if let Some(made) = read_made(made.clone()).await? {
            return Ok(MadeImage {
                image: PreparedImage {
                    config,
                    ..made.image
                },
                part: made.part,
            });
        }
        let [upper, ..] = record.paths(&self.config).trees();
        let left = Left {
            image: record.spec.image,
            upper,
            uid_base: record.uid_base().unwrap_or(0),
            epoch: build.epoch,
            part,
            config,
        };
        let image = self.images.take_left(left).await?;
        let record = Made {
            image: image.image.clone(),
            part: image.part.clone(),
        };
        blocking(move || durable::write_json(&made, &record))
            .await
            .map_err(|error| host_error("record an image", &error))?;
        Ok(image)
    }
}

/// Builds of Dockerfiles that are on their way.
#[derive(Default)]
pub(crate) struct Dockerfiles(Mutex<Works>);

#[derive(Default)]
struct Works {
    going: BTreeMap<InstanceId, Work>,
    /// Those that were ended and may not have begun: the last ones.
    ended: VecDeque<InstanceId>,
}

struct Work {
    service: ServiceId,
    cancel: watch::Sender<bool>,
    over: watch::Receiver<bool>,
}

/// A build that is on its way, until it is dropped.
struct Begun<'a> {
    dockerfiles: &'a Dockerfiles,
    build: InstanceId,
    _over: watch::Sender<bool>,
}

impl Dockerfiles {
    fn begin(&self, build: InstanceId, service: ServiceId) -> (Begun<'_>, watch::Receiver<bool>) {
        let (cancel, cancelled) = watch::channel(false);
        let (over, done) = watch::channel(false);
        let work = Work {
            service,
            cancel,
            over: done,
        };
        let mut works = self.lock();
        if works.ended.contains(&build) {
            work.cancel.send_replace(true);
        }
        works.going.insert(build, work);
        drop(works);
        let begun = Begun {
            dockerfiles: self,
            build,
            _over: over,
        };
        (begun, cancelled)
    }

    /// Ends one, which may not have begun, and waits until it has.
    pub(crate) async fn end_one(&self, build: InstanceId) {
        {
            let mut works = self.lock();
            works.ended.push_back(build);
            if works.ended.len() > ENDED_MAX {
                works.ended.pop_front();
            }
        }
        self.end(|other, _| other == build).await;
    }

    /// Ends those that are meant, and waits until they have.
    pub(crate) async fn end(&self, is_meant: impl Fn(InstanceId, ServiceId) -> bool) {
        let ending: Vec<_> = self
            .lock()
            .going
            .iter()
            .filter(|(build, work)| is_meant(**build, work.service))
            .map(|(_, work)| {
                work.cancel.send_replace(true);
                work.over.clone()
            })
            .collect();
        for mut over in ending {
            // Its sender goes with the work.
            while over.changed().await.is_ok() {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Works> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.dockerfiles.lock().going.remove(&self.build);
    }
}

/// What the image of a service is called that its Dockerfile makes.
fn image_name(service: ServiceId) -> Result<ImageReference, EngineError> {
    format!("{LOCAL_REGISTRY}/ekiden-build/{service}")
        .parse()
        .map_err(|error| invalid(&format!("{error}")))
}

fn told(error: DockerfileError) -> EngineError {
    let mut message = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        message.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    match error {
        DockerfileError::Host { .. } | DockerfileError::Sandbox { .. } => {
            EngineError::Host { message }
        }
        _ => EngineError::Image { message },
    }
}

#[derive(Serialize, Deserialize)]
struct Made {
    image: PreparedImage,
    part: Option<PreparedImage>,
}

async fn read_made(path: PathBuf) -> Result<Option<Made>, EngineError> {
    blocking(move || durable::read_json(&path))
        .await
        .map_err(|error| host_error("read what was made", &error))
}

fn is_part(part: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    (1..=PART_BYTES_MAX).contains(&part.len()) && part.bytes().all(plain)
}

fn invalid(message: &str) -> EngineError {
    EngineError::Invalid {
        message: message.to_owned(),
    }
}

/// Where control puts the archive of a source tree.
fn source_archive(config: &AgentConfig, digest: Digest) -> PathBuf {
    config.sources_dir.join(format!("{}.tar", digest.hex()))
}

/// Where the caches of a service are, made if they are not, and anew if they have more bytes than they may.
/// Blocks.
pub(crate) fn make_cache(
    config: &AgentConfig,
    service: ServiceId,
    bytes_max: u64,
) -> io::Result<PathBuf> {
    let directory = cache(config, service);
    // Now, when none of its builds runs: what is removed must not be in use.
    if tree::exceeds(&directory, bytes_max) {
        tree::remove(&directory)?;
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)?;
    // Root's inside, whoever that is: it is mounted with its owners shifted.
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
    Ok(directory)
}

/// Removes the caches of a service. Blocks. Idempotent.
pub(crate) fn forget_cache(config: &AgentConfig, service: ServiceId) -> io::Result<()> {
    tree::remove(&cache(config, service))
}

pub(crate) fn cache(config: &AgentConfig, service: ServiceId) -> PathBuf {
    config.caches_dir().join(service.to_string())
}
