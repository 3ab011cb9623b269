//! Images back into files.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use ekiden_model::image::ImageReference;

use super::{
    catalog::BlobRecord,
    error::ImageError,
    import::{REF_NAME, blob_member},
    manifest::{Descriptor, Index, OCI_INDEX, OCI_MANIFEST},
    store::{ImageStore, Store, blocking},
};

impl ImageStore {
    /// Writes an imported image as an OCI layout in a tar file (`oci-archive:` to skopeo and buildah).
    /// The blobs are those it came with, byte for byte.
    ///
    /// # Errors
    /// [`ImageError::NotHere`]; [`ImageError::NotExportable`] for what was pulled;
    /// [`ImageError::BadRequest`] when `path` exists.
    pub async fn export(
        &self,
        reference: &ImageReference,
        path: PathBuf,
    ) -> Result<(), ImageError> {
        let (store, reference) = (Arc::clone(&self.0), reference.clone());
        blocking(move || export(&store, &reference, &path)).await
    }
}

fn export(store: &Store, reference: &ImageReference, path: &Path) -> Result<(), ImageError> {
    let image = || reference.to_string();
    let found = store
        .find(reference)
        .ok_or_else(|| ImageError::NotHere { image: image() })?;
    // Held, so that a removal meanwhile leaves the blobs.
    let record = store
        .record(&found)
        .ok_or_else(|| ImageError::NotHere { image: image() })?;
    let _holds: Vec<_> = record
        .blobs()
        .iter()
        .map(|blob| store.blobs.hold(blob.digest))
        .collect();
    let [manifest, ..] = record.blobs() else {
        return Err(ImageError::NotExportable { image: image() });
    };
    let (partial, file) = create(path)?;
    let tag = reference.tag.as_deref().unwrap_or("latest");
    let written =
        write(store, file, manifest, record.blobs(), tag).and_then(|()| fs::rename(&partial, path));
    written.map_err(|error| {
        // It may be the full disk itself that keeps the file from being removed.
        let _ = fs::remove_file(&partial);
        ImageError::host("write", path, &error)
    })
}

/// A file beside the one that is wanted.
fn create(path: &Path) -> Result<(PathBuf, File), ImageError> {
    let exists = path.symlink_metadata().is_ok();
    let name = path.file_name().filter(|_| !exists);
    let Some(name) = name else {
        let problem = format!("`{}` exists: give the name of a new file", path.display());
        return Err(ImageError::BadRequest { problem });
    };
    let mut partial = name.to_owned();
    partial.push(".partial");
    let partial = path.with_file_name(partial);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    match options.open(&partial) {
        Ok(file) => Ok((partial, file)),
        Err(error) => Err(ImageError::host("create", &partial, &error)),
    }
}

fn write(
    store: &Store,
    file: File,
    manifest: &BlobRecord,
    blobs: &[BlobRecord],
    tag: &str,
) -> io::Result<()> {
    let mut archive = tar::Builder::new(BufWriter::with_capacity(1 << 20, file));
    append(
        &mut archive,
        "oci-layout",
        br#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    let mut descriptor = Descriptor::new(OCI_MANIFEST, manifest.digest, manifest.bytes);
    descriptor
        .annotations
        .insert(REF_NAME.to_owned(), tag.to_owned());
    let media_type = OCI_INDEX.to_owned();
    let index = Index {
        schema_version: 2,
        media_type,
        manifests: vec![descriptor],
    };
    append(&mut archive, "index.json", &serde_json::to_vec(&index)?)?;
    let mut written = Vec::new();
    for blob in blobs {
        // An image may have one layer twice.
        if !written.contains(&blob.digest) {
            let data = File::open(store.blobs.path(&blob.digest))?;
            let member = blob_member(&blob.digest);
            archive.append_data(&mut header(blob.bytes), member, data)?;
            written.push(blob.digest);
        }
    }
    let mut buffer = archive.into_inner()?;
    buffer.flush()?;
    buffer.get_ref().sync_all()
}

fn append(archive: &mut tar::Builder<impl Write>, name: &str, data: &[u8]) -> io::Result<()> {
    archive.append_data(&mut header(data.len() as u64), name, data)
}

/// Nothing in it depends on the moment or the machine.
fn header(bytes: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(bytes);
    header.set_mode(0o644);
    header
}
