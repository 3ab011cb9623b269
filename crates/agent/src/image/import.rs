//! Images from files: an OCI layout (image specification, "Image Layout") as a folder or an archive,
//! and the archive of `docker save`.

use std::{
    io::{self, BufRead, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use ekiden_model::image::{Digest, ImageReference, LOCAL_REGISTRY, PreparedImage};
use serde::Deserialize;

use super::{
    blob::Stored,
    catalog::{BlobRecord, ImageRecord, LayerRecord, Origin, Recipe},
    decode::{Compression, DecodeBounds},
    error::ImageError,
    holds::Hold,
    layer::FillError,
    layout::Files,
    manifest::{
        Configuration, Descriptor, Document, Index, Manifest, OCI_CONFIG, OCI_LAYER,
        OCI_LAYER_GZIP, OCI_LAYER_ZSTD, OCI_MANIFEST, Platform,
    },
    progress::Progress,
    pull::digest_of,
    store::{ImageStore, Store, blocking, now},
    unpack::{UnpackBudget, UnpackError},
};

/// The annotation that names an image in a layout: a tag or a whole name.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What containerd writes, always a whole name.
const IMAGE_NAME: &str = "io.containerd.image.name";

/// Names that an error lists.
const NAMES_LISTED_MAX: usize = 20;

impl ImageStore {
    /// Takes in an OCI layout or a docker archive, under a name below `localhost/`: `name`, or the
    /// image's own name, whose registry is then replaced. Its blobs are kept, so that it can be
    /// exported again byte for byte. Answers with the name it got.
    ///
    /// # Errors
    /// [`ImageError::BadRequest`] for a name that is not local or not there; otherwise what is
    /// wrong with the image, or the host.
    pub async fn import(
        &self,
        path: PathBuf,
        name: Option<ImageReference>,
        progress: &Progress,
    ) -> Result<(ImageReference, PreparedImage), ImageError> {
        let (store, progress) = (Arc::clone(&self.0), progress.clone());
        blocking(move || {
            let imported = import(&store, &path, name, &progress);
            // What a failed import has left goes; a good one may have made the store too large.
            store.tidy(imported.is_ok());
            imported
        })
        .await
    }
}

fn import(
    store: &Store,
    path: &Path,
    name: Option<ImageReference>,
    progress: &Progress,
) -> Result<(ImageReference, PreparedImage), ImageError> {
    if let Some(name) = &name {
        check_local(name)?;
    }
    progress.phase(format!("reading `{}`", path.display()));
    let files = Files::open(path, &store.drafts, store.settings.image_bytes_max)?;
    let found = if let Some(index) = files.document("index.json")? {
        find_in_layout(&files, &index, name.as_ref())?
    } else if let Some(list) = files.document("manifest.json")? {
        find_in_docker_archive(&files, &list, name.as_ref())?
    } else {
        return Err(files.bad(
            "it holds no image: neither `index.json` of an OCI layout nor `manifest.json` of a \
             docker archive",
        ));
    };
    let name = name
        .or_else(|| found.name.as_deref().and_then(local_name))
        .ok_or_else(|| ImageError::BadRequest {
            problem: format!("the image in `{}` has no name: give it one", path.display()),
        })?;
    let parts = take_layers(store, &files, found, progress)?;
    progress.phase("syncing");
    let prepared = parts.add(store, &name, None)?;
    Ok((name, prepared))
}

/// An image in files, before its layers are taken.
struct Found {
    /// As it came; absent in a docker archive, which has none.
    manifest: Option<Vec<u8>>,
    configuration: Vec<u8>,
    layers: Vec<FoundLayer>,
    /// What it calls itself.
    name: Option<String>,
}

struct FoundLayer {
    member: String,
    /// Absent in a docker archive.
    promised: Option<Descriptor>,
}

fn find_in_layout(
    files: &Files,
    index: &[u8],
    name: Option<&ImageReference>,
) -> Result<Found, ImageError> {
    let index: Index = serde_json::from_slice(index)
        .map_err(|error| files.bad(format!("its `index.json` is broken: {error}")))?;
    let top = choose_named(files, &index, name)?;
    let bytes = blob_document(files, &top.digest)?;
    let (bytes, manifest) = match parse(files, &bytes, &top.media_type)? {
        Document::Manifest(manifest) => (bytes, manifest),
        Document::Index(inner) => {
            let chosen = inner.choose(&Platform::here());
            let chosen = chosen.map_err(|no| no.tell(&own_name(top).unwrap_or_default()))?;
            let bytes = blob_document(files, &chosen.digest)?;
            match parse(files, &bytes, &chosen.media_type)? {
                Document::Manifest(manifest) => (bytes, manifest),
                Document::Index(_) => return Err(files.bad("its index leads to another index")),
            }
        }
    };
    let layers = manifest.layers.iter().map(|layer| FoundLayer {
        member: blob_member(&layer.digest),
        promised: Some(layer.clone()),
    });
    Ok(Found {
        configuration: blob_document(files, &manifest.config.digest)?,
        layers: layers.collect(),
        name: own_name(top),
        manifest: Some(bytes),
    })
}

/// The only image of a layout, or the one of several that is meant.
fn choose_named<'a>(
    files: &Files,
    index: &'a Index,
    name: Option<&ImageReference>,
) -> Result<&'a Descriptor, ImageError> {
    if let [only] = index.manifests.as_slice() {
        return Ok(only);
    }
    let wanted = name.and_then(|name| name.tag.as_deref());
    let meant = index.manifests.iter().find(|manifest| {
        let own = own_name(manifest);
        own.is_some()
            && (own.as_deref() == wanted || own.as_deref().and_then(local_name).as_ref() == name)
    });
    if let Some(meant) = meant {
        return Ok(meant);
    }
    // Several platforms of one image, without a name for any.
    if index
        .manifests
        .iter()
        .all(|manifest| own_name(manifest).is_none())
    {
        return index
            .choose(&Platform::here())
            .map_err(|no| no.tell("the layout"));
    }
    let names: Vec<String> = index
        .manifests
        .iter()
        .filter_map(own_name)
        .take(NAMES_LISTED_MAX)
        .collect();
    Err(several(files, &names))
}

fn several(files: &Files, names: &[String]) -> ImageError {
    let names = names.join(", ");
    files.bad(format!(
        "it holds several images ({names}): give the name of one of them"
    ))
}

fn own_name(descriptor: &Descriptor) -> Option<String> {
    let annotations = &descriptor.annotations;
    annotations
        .get(IMAGE_NAME)
        .or_else(|| annotations.get(REF_NAME))
        .cloned()
}

fn find_in_docker_archive(
    files: &Files,
    list: &[u8],
    name: Option<&ImageReference>,
) -> Result<Found, ImageError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Image {
        config: String,
        repo_tags: Option<Vec<String>>,
        layers: Vec<String>,
    }
    let list: Vec<Image> = serde_json::from_slice(list)
        .map_err(|error| files.bad(format!("its `manifest.json` is broken: {error}")))?;
    let tags = |image: &Image| image.repo_tags.clone().unwrap_or_default();
    let image = match list.as_slice() {
        [only] => only,
        _ => {
            let is_meant = |image: &&Image| {
                tags(image)
                    .iter()
                    .any(|tag| local_name(tag).as_ref() == name)
            };
            let all: Vec<String> = list.iter().flat_map(tags).take(NAMES_LISTED_MAX).collect();
            list.iter()
                .find(is_meant)
                .ok_or_else(|| several(files, &all))?
        }
    };
    let configuration = files.document(&image.config)?;
    let layers = image.layers.iter();
    Ok(Found {
        manifest: None,
        configuration: configuration
            .ok_or_else(|| files.bad(format!("its configuration `{}` is missing", image.config)))?,
        layers: layers
            .map(|layer| FoundLayer {
                member: layer.clone(),
                promised: None,
            })
            .collect(),
        name: tags(image).into_iter().next(),
    })
}

/// A document of a layout, verified.
fn blob_document(files: &Files, digest: &Digest) -> Result<Vec<u8>, ImageError> {
    let bytes = files.document(&blob_member(digest))?;
    let bytes = bytes.ok_or_else(|| missing(files, digest))?;
    check(
        format!("`{}`", blob_member(digest)),
        *digest,
        digest_of(&bytes),
    )?;
    Ok(bytes)
}

fn check(what: String, expected: Digest, actual: Digest) -> Result<(), ImageError> {
    if expected == actual {
        Ok(())
    } else {
        Err(ImageError::Corrupt {
            what,
            expected,
            actual,
        })
    }
}

fn missing(files: &Files, digest: &Digest) -> ImageError {
    files.bad(format!("its blob `{digest}` is missing"))
}

fn parse(files: &Files, bytes: &[u8], media_type: &str) -> Result<Document, ImageError> {
    Document::parse(bytes, media_type).map_err(|problem| files.bad(problem))
}

pub(super) fn blob_member(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Unpacks and keeps every layer of an image, and its documents.
fn take_layers(
    store: &Store,
    files: &Files,
    found: Found,
    progress: &Progress,
) -> Result<Parts, ImageError> {
    let configuration = Configuration::parse(&found.configuration, found.layers.len())
        .map_err(|problem| files.bad(problem))?;
    configuration
        .check_platform(&Platform::here())
        .map_err(|no| no.tell(found.name.as_deref().unwrap_or("in the file")))?;
    let mut parts = Parts::new(store);
    let count = found.layers.len();
    for (at, (layer, diff_id)) in found.layers.iter().zip(&configuration.diff_ids).enumerate() {
        progress.phase(format!("unpacking layer {} of {count}", at + 1));
        let opened = files.reader(&layer.member)?;
        let (reader, _) =
            opened.ok_or_else(|| files.bad(format!("its layer `{}` is missing", layer.member)))?;
        parts.take_layer(store, reader, Some(*diff_id), layer.promised.as_ref())?;
    }
    parts.configure(store, &found.configuration, configuration)?;
    parts.describe(store, found.manifest)?;
    Ok(parts)
}

/// An image on its way into the store: everything it has so far is held.
pub(super) struct Parts {
    layers: Vec<LayerRecord>,
    layer_blobs: Vec<BlobRecord>,
    configuration: Option<(BlobRecord, Configuration)>,
    manifest: Option<BlobRecord>,
    budget: UnpackBudget,
    holds: Vec<Hold>,
    stored: Vec<Stored>,
}

impl Parts {
    pub(super) fn new(store: &Store) -> Self {
        let settings = &store.settings;
        Self {
            layers: Vec::new(),
            layer_blobs: Vec::new(),
            configuration: None,
            manifest: None,
            budget: UnpackBudget::new(settings.image_bytes_max, settings.image_entries_max),
            holds: Vec::new(),
            stored: Vec::new(),
        }
    }

    /// Keeps a layer's blob and unpacks it, in one pass. Answers with its diff id.
    pub(super) fn take_layer(
        &mut self,
        store: &Store,
        source: impl Read + Send,
        diff_id: Option<Digest>,
        promised: Option<&Descriptor>,
    ) -> Result<Digest, ImageError> {
        let fail = |error: &io::Error| ImageError::host("keep a layer in", &store.dir, error);
        // One byte more than may be, so that a blob that is too large is seen to be.
        let bytes_max = store.settings.image_bytes_max;
        let mut copy = store
            .blobs
            .copy(source.take(bytes_max + 1))
            .map_err(|e| fail(&e))?;
        let media_type = match Compression::of(copy.fill_buf().map_err(|e| fail(&e))?) {
            Compression::None => OCI_LAYER,
            Compression::Gzip => OCI_LAYER_GZIP,
            Compression::Zstd => OCI_LAYER_ZSTD,
        };
        let ratio_max = store.settings.compression_ratio_max;
        let bounds = DecodeBounds {
            budget: &self.budget,
            ratio_max,
        };
        let filled = store.layers.fill(&mut copy, diff_id, bounds);
        let stored = store.blobs.finish(copy).map_err(|e| fail(&e))?;
        let blob_digest = stored.digest;
        let was_read_whole = !matches!(filled, Err(FillError::Unpack(UnpackError::Write { .. })));
        if let Some(promised) = promised
            && was_read_whole
        {
            let what = format!("layer `{}`", promised.digest.short());
            check(what, promised.digest, blob_digest)?;
        }
        let (layer, hold) = filled.map_err(|error| error.tell(&blob_digest, &store.dir))?;
        let media_type = promised
            .map_or(media_type, |promised| &promised.media_type)
            .to_owned();
        self.layer_blobs.push(BlobRecord {
            media_type,
            digest: blob_digest,
            bytes: stored.bytes,
        });
        self.layers.push(layer);
        self.holds.push(hold);
        self.stored.push(stored);
        Ok(layer.diff_id)
    }

    /// Keeps the configuration.
    pub(super) fn configure(
        &mut self,
        store: &Store,
        bytes: &[u8],
        configuration: Configuration,
    ) -> Result<(), ImageError> {
        let record = self.keep(store, bytes, OCI_CONFIG)?;
        self.configuration = Some((record, configuration));
        Ok(())
    }

    /// Keeps the manifest; one is made when there is none.
    pub(super) fn describe(
        &mut self,
        store: &Store,
        manifest: Option<Vec<u8>>,
    ) -> Result<(), ImageError> {
        let bytes = manifest.unwrap_or_else(|| self.make_manifest());
        self.manifest = Some(self.keep(store, &bytes, OCI_MANIFEST)?);
        Ok(())
    }

    /// Adds the finished image.
    pub(super) fn add(
        self,
        store: &Store,
        name: &ImageReference,
        recipe: Option<Recipe>,
    ) -> Result<PreparedImage, ImageError> {
        let manifest = self.manifest.expect("`describe` has been called");
        let (record, configuration) = self.configuration.expect("`configure` has been called");
        let digest = manifest.digest;
        let blobs = [manifest, record]
            .into_iter()
            .chain(self.layer_blobs)
            .collect();
        let record = ImageRecord {
            config: configuration.process,
            layers: self.layers,
            indexes: Vec::new(),
            origin: Origin::Imported { blobs, recipe },
            added_at: now(),
            used_at: now(),
        };
        store.add(digest, record, Some(name.to_string()))
    }

    fn keep(
        &mut self,
        store: &Store,
        bytes: &[u8],
        media_type: &str,
    ) -> Result<BlobRecord, ImageError> {
        let stored = store.blobs.add(bytes);
        let stored = stored.map_err(|error| ImageError::host("write in", &store.dir, &error))?;
        let (digest, bytes) = (stored.digest, stored.bytes);
        self.stored.push(stored);
        Ok(BlobRecord {
            media_type: media_type.to_owned(),
            digest,
            bytes,
        })
    }

    fn make_manifest(&self) -> Vec<u8> {
        let describe =
            |blob: &BlobRecord| Descriptor::new(&blob.media_type, blob.digest, blob.bytes);
        let (configuration, _) = self
            .configuration
            .as_ref()
            .expect("`configure` has been called");
        let manifest = Manifest {
            schema_version: 2,
            media_type: OCI_MANIFEST.to_owned(),
            config: describe(configuration),
            layers: self.layer_blobs.iter().map(describe).collect(),
        };
        serde_json::to_vec(&manifest).expect("a manifest is made of text and numbers")
    }
}

/// # Errors
/// [`ImageError::BadRequest`] for a name that a registry could have.
pub(super) fn check_local(name: &ImageReference) -> Result<(), ImageError> {
    if name.is_local() && name.digest.is_none() {
        return Ok(());
    }
    let tag = name.tag.as_deref().unwrap_or("latest");
    let repository = name
        .repository
        .strip_prefix("library/")
        .unwrap_or(&name.repository);
    let problem = format!(
        "`{name}` would be looked for in a registry: name what is only here \
         `{LOCAL_REGISTRY}/{repository}:{tag}`"
    );
    Err(ImageError::BadRequest { problem })
}

/// An image's own name, moved below `localhost/`.
fn local_name(own: &str) -> Option<ImageReference> {
    let own: ImageReference = own.parse().ok()?;
    let repository = own
        .repository
        .strip_prefix("library/")
        .unwrap_or(&own.repository)
        .to_owned();
    Some(ImageReference {
        registry: LOCAL_REGISTRY.to_owned(),
        repository,
        tag: Some(own.tag.unwrap_or_else(|| "latest".to_owned())),
        digest: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_names_become_local() {
        let check = |own: &str, want: &str| {
            assert_eq!(
                local_name(own).map(|name| name.to_string()).as_deref(),
                Some(want)
            );
        };
        check("hello:1", "localhost/hello:1");
        check("localhost/hello", "localhost/hello:latest");
        check("quay.io/team/app:2", "localhost/team/app:2");
        assert_eq!(local_name("Not A Name"), None);
    }

    #[test]
    fn names_of_registries_are_refused_with_the_right_one() {
        let error = check_local(&"hello:1".parse().unwrap())
            .unwrap_err()
            .to_string();
        assert!(error.contains("`localhost/hello:1`"), "{error}");
        assert!(check_local(&"localhost/hello".parse().unwrap()).is_ok());
    }
}
