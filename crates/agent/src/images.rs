//! What the agent needs of an image store.

use std::{future::Future, path::PathBuf};

use ekiden_engine::{
    EngineError,
    remote::{Answer, ImageCommand},
};
use ekiden_model::image::{Digest, ImageReference, PreparedImage, ResolvedImage};
use tokio::sync::mpsc;

use crate::image::{
    bootstrap::Bootstrap,
    error::ImageError,
    progress::Progress,
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
        let (events, mut said) = mpsc::channel(PROGRESS_MAX);
        let mut work = std::pin::pin!(work(self, command, Progress::to(events)));
        loop {
            tokio::select! {
                // Neither loses anything when it is polled again.
                Some(event) = said.recv() => progress(event.to_string()),
                answer = &mut work => return Ok(answer?),
            }
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
