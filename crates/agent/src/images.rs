//! What the agent needs of an image store.

use std::{future::Future, path::PathBuf};

use ekiden_engine::{
    EngineError, MadeImage,
    remote::{Answer, ImageCommand},
};
use ekiden_model::image::{Digest, ImageConfig, ImageReference, PreparedImage, ResolvedImage};
use tokio::sync::mpsc;

use crate::image::{
    bootstrap::Bootstrap,
    error::ImageError,
    make::Left,
    progress::{Progress, ProgressEvent},
    store::{ImagePin, ImageStore},
};

/// Lines of progress that wait for a slow reader; more are lost.
const PROGRESS_MAX: usize = 64;

/// Gives images their files. The store of this crate, or plain directories in tests.
pub trait Images: Send + Sync + 'static {
    /// Keeps an image while it exists.
    type Hold: Send + 'static;

    /// As [`ekiden_engine::Engine::prepare_image`].
    fn prepare(
        &self,
        reference: &ImageReference,
    ) -> impl Future<Output = Result<PreparedImage, EngineError>> + Send;

    /// As [`ekiden_engine::Engine::resolve_image`].
    fn resolve(
        &self,
        reference: &ImageReference,
    ) -> impl Future<Output = Result<ResolvedImage, EngineError>> + Send;

    /// Keeps an image that has been prepared, for an instance.
    ///
    /// # Errors
    /// [`EngineError::Image`] when it is not there.
    fn hold(&self, image: Digest) -> Result<Self::Hold, EngineError>;

    /// The unpacked layers of an image, the topmost first.
    ///
    /// # Errors
    /// [`EngineError::Image`] when it is not there.
    fn layers(&self, image: Digest) -> Result<Vec<PathBuf>, EngineError>;

    /// Tells which images the control plane needs, besides those that instances hold. Blocks.
    ///
    /// # Errors
    /// When that cannot be recorded.
    fn retain(&self, images: &[Digest]) -> Result<(), EngineError>;

    /// The base image with these packages. `progress` takes one line at a time.
    fn base(
        &self,
        packages: Vec<String>,
        progress: impl Fn(String) + Send + Sync + 'static,
    ) -> impl Future<Output = Result<PreparedImage, EngineError>> + Send;

    /// The image of one layer whose archive is a file.
    fn take_source(
        &self,
        archive: PathBuf,
        digest: Digest,
    ) -> impl Future<Output = Result<PreparedImage, EngineError>> + Send;

    /// The image of the layers of others, those of the first at the bottom.
    fn stack(
        &self,
        images: Vec<Digest>,
        config: ImageConfig,
    ) -> impl Future<Output = Result<PreparedImage, EngineError>> + Send;

    /// The image of what an instance has left.
    fn take_left(&self, left: Left) -> impl Future<Output = Result<MadeImage, EngineError>> + Send;

    /// Takes a name away, and leaves the image to whoever needs it.
    fn unname(&self, name: &ImageReference)
    -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Works on the store for the host's administrator. `progress` takes one line at a time.
    fn command(
        &self,
        command: ImageCommand,
        progress: impl Fn(String) + Send + Sync + 'static,
    ) -> impl Future<Output = Result<Answer, EngineError>> + Send;
}

impl Images for ImageStore {
    type Hold = ImagePin;

    async fn prepare(&self, reference: &ImageReference) -> Result<PreparedImage, EngineError> {
        Ok(ImageStore::prepare(self, reference, &Progress::none()).await?)
    }

    async fn resolve(&self, reference: &ImageReference) -> Result<ResolvedImage, EngineError> {
        Ok(ImageStore::resolve(self, reference).await?)
    }

    fn hold(&self, image: Digest) -> Result<ImagePin, EngineError> {
        Ok(self.pin(&image)?)
    }

    fn layers(&self, image: Digest) -> Result<Vec<PathBuf>, EngineError> {
        Ok(ImageStore::layers(self, &image)?)
    }

    fn retain(&self, images: &[Digest]) -> Result<(), EngineError> {
        ImageStore::retain(self, images);
        Ok(())
    }

    async fn command(
        &self,
        command: ImageCommand,
        progress: impl Fn(String) + Send + Sync + 'static,
    ) -> Result<Answer, EngineError> {
        let (events, said) = mpsc::channel(PROGRESS_MAX);
        telling(work(self, command, Progress::to(events)), said, progress).await
    }

    async fn base(
        &self,
        packages: Vec<String>,
        progress: impl Fn(String) + Send + Sync + 'static,
    ) -> Result<PreparedImage, EngineError> {
        let (events, said) = mpsc::channel(PROGRESS_MAX);
        let events = Progress::to(events);
        telling(ImageStore::base(self, packages, &events), said, progress).await
    }

    async fn unname(&self, name: &ImageReference) -> Result<(), EngineError> {
        Ok(ImageStore::unname(self, name).await?)
    }

    async fn take_source(
        &self,
        archive: PathBuf,
        digest: Digest,
    ) -> Result<PreparedImage, EngineError> {
        Ok(ImageStore::take_source(self, archive, digest).await?)
    }

    async fn stack(
        &self,
        images: Vec<Digest>,
        config: ImageConfig,
    ) -> Result<PreparedImage, EngineError> {
        Ok(ImageStore::stack(self, images, config).await?)
    }

    async fn take_left(&self, left: Left) -> Result<MadeImage, EngineError> {
        Ok(ImageStore::take_left(self, left).await?)
    }
}

/// Does some work and tells what it says meanwhile.
async fn telling<T>(
    work: impl Future<Output = Result<T, ImageError>>,
    mut said: mpsc::Receiver<ProgressEvent>,
    progress: impl Fn(String),
) -> Result<T, EngineError> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            // Neither loses anything when it is polled again.
            Some(event) = said.recv() => progress(event.to_string()),
            answer = &mut work => return Ok(answer?),
        }
    }
}

async fn work(
    store: &ImageStore,
    command: ImageCommand,
    progress: Progress,
) -> Result<Answer, ImageError> {
    Ok(match command {
        ImageCommand::List => Answer::Images {
            images: store.list(),
        },
        ImageCommand::Import { path, name } => {
            let (name, image) = store.import(path, name, &progress).await?;
            Answer::Imported { name, image }
        }
        ImageCommand::Remove { reference } => {
            store.remove(&reference).await?;
            Answer::Done
        }
        ImageCommand::Export { reference, path } => {
            store.export(&reference, path).await?;
            Answer::Done
        }
        ImageCommand::Bootstrap {
            distribution,
            packages,
            mirror,
            name,
            refresh,
        } => {
            let bootstrap = Bootstrap {
                distribution,
                packages,
                mirror,
                name,
                refresh,
            };
            Answer::Image {
                image: store.bootstrap(bootstrap, &progress).await?,
            }
        }
    })
}
