//! What the agent needs of an image store.

use std::{future::Future, path::PathBuf};

use ekiden_engine::{
    EngineError,
    remote::{Answer, ImageCommand},
};
use ekiden_model::image::{Digest, ImageReference, PreparedImage};

/// Gives images their files. The store of this crate, or plain directories in tests.
pub trait Images: Send + Sync + 'static {
    /// As [`ekiden_engine::Engine::prepare_image`].
    fn prepare(
        &self,
        reference: &ImageReference,
    ) -> impl Future<Output = Result<PreparedImage, EngineError>> + Send;

    /// The unpacked layers of an image that has been prepared, the topmost first; the image is kept
    /// as long as an instance of it exists, see [`Self::keep`]. Blocks for a file or two.
    ///
    /// # Errors
    /// [`EngineError::Image`] when it is not there.
    fn layers(&self, image: Digest) -> Result<Vec<PathBuf>, EngineError>;

    /// Tells which images the control plane needs, besides those that instances run. Blocks.
    ///
    /// # Errors
    /// When that cannot be recorded.
    fn retain(&self, images: &[Digest]) -> Result<(), EngineError>;

    /// Tells which images instances of this host use now. Does not block.
    fn keep(&self, images: &[Digest]);

    /// Works on the store for the host's administrator. `progress` takes one line at a time.
    fn command(
        &self,
        command: ImageCommand,
        progress: impl Fn(String) + Send + Sync + 'static,
    ) -> impl Future<Output = Result<Answer, EngineError>> + Send;
}
