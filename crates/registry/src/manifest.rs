//! Manifests, as far as a registry must understand them: what they name, and what they are about.
//!
//! OCI image specification 1.1, "Image Manifest" and "Image Index", and Docker's schema 2, which has the
//! same members. Everything else in them is their owner's.

use std::collections::BTreeMap;

use ekiden_model::{image::Digest, repository::ManifestRecord, time::Timestamp};
use ekiden_store::registry::NewManifest;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// The longest manifest, in bytes: what the distribution specification asks registries for.
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;

/// What one manifest may name.
pub const REFERENCES_MAX: usize = 4096;

/// Annotations of one manifest that lists show, in bytes; longer ones are in the manifest alone.
pub const ANNOTATIONS_BYTES_MAX: usize = 16 << 10;

/// The longest media type, in bytes (RFC 6838, section 4.2, has 127 for each half).
const MEDIA_TYPE_BYTES_MAX: usize = 255;

const IMAGES: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// Layers that are somewhere else, and need not be here.
const FOREIGN: [&str; 4] = [
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

/// The media type of a configuration that is none.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Why bytes are no manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidManifest(String);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u64,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    subject: Option<Descriptor>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: Digest,
    size: u64,
}

/// The digest of some bytes.
pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

/// Reads a manifest that was pushed as this media type.
///
/// # Errors
/// It is no manifest of a kind that is known, or contradicts itself; the sentence says what is wrong.
pub fn read(
    content_type: Option<&str>,
    content: &[u8],
    now: Timestamp,
) -> Result<NewManifest, InvalidManifest> {
    let invalid = |what: String| Err(InvalidManifest(what));
    let manifest: Manifest = serde_json::from_slice(content)
        .map_err(|error| InvalidManifest(format!("it is not a manifest: {error}")))?;
    if manifest.schema_version != 2 {
        return invalid(format!(
            "its `schemaVersion` is {}: only 2 is supported; push it with a newer tool",
            manifest.schema_version
        ));
    }
    let declared = content_type.map(|given| given.split(';').next().unwrap_or(given).trim());
    let media_type = match (declared, manifest.media_type.as_deref()) {
        (Some(declared), Some(own)) if declared != own => {
            return invalid(format!(
                "its `mediaType` is `{own}`, and `Content-Type` says `{declared}`"
            ));
        }
        (Some(media_type), _) | (None, Some(media_type)) => media_type,
        (None, None) => return invalid("neither it nor `Content-Type` says what it is".to_owned()),
    };
    if media_type.len() > MEDIA_TYPE_BYTES_MAX {
        return invalid(format!(
            "its media type is longer than {MEDIA_TYPE_BYTES_MAX} bytes"
        ));
    }
    let (is_image, is_index) = (IMAGES.contains(&media_type), INDEXES.contains(&media_type));
    if !is_image && !is_index {
        return invalid(format!(
            "`{media_type}` is not a manifest's media type that is known here"
        ));
    }
    let layers = manifest.layers.unwrap_or_default();
    let manifests = manifest.manifests.unwrap_or_default();
    if layers.len() + manifests.len() > REFERENCES_MAX {
        return invalid(format!("it names more than {REFERENCES_MAX} others"));
    }
    if is_image && manifest.config.is_none() {
        return invalid("it has no `config`".to_owned());
    }
    if manifest
        .artifact_type
        .as_ref()
        .is_some_and(|name| name.len() > MEDIA_TYPE_BYTES_MAX)
    {
        return invalid(format!(
            "its `artifactType` is longer than {MEDIA_TYPE_BYTES_MAX} bytes"
        ));
    }
    let config_type = manifest.config.as_ref().map(|config| &config.media_type);
    let artifact_type = manifest
        .artifact_type
        .or_else(|| config_type.filter(|name| *name != EMPTY).cloned());
    let kept = |layer: &&Descriptor| !FOREIGN.contains(&layer.media_type.as_str());
    let layers = layers.iter().filter(kept);
    let blobs = manifest.config.iter().chain(layers.clone());
    Ok(NewManifest {
        record: ManifestRecord {
            digest: digest_of(content),
            media_type: media_type.to_owned(),
            size: content.len() as u64,
            layers_size: layers.fold(0, |sum: u64, layer| sum.saturating_add(layer.size)),
            artifact_type,
            subject: manifest.subject.as_ref().map(|subject| subject.digest),
            annotations: kept_annotations(manifest.annotations),
            pushed_at: now,
        },
        content: content.to_vec(),
        blobs: blobs.map(|blob| blob.digest).collect(),
        manifests: manifests.iter().map(|one| one.digest).collect(),
    })
}

/// What lists of manifests show of annotations: none, when they are long.
fn kept_annotations(given: Option<BTreeMap<String, String>>) -> BTreeMap<String, String> {
    let given = given.unwrap_or_default();
    let bytes: usize = given
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    match bytes <= ANNOTATIONS_BYTES_MAX {
        true => given,
        false => BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OCI: &str = IMAGES[0];

    fn descriptor(byte: &str, size: u64, media_type: &str) -> String {
        format!(
            r#"{{"mediaType":"{media_type}","digest":"sha256:{}","size":{size}}}"#,
            byte.repeat(32)
        )
    }

    fn image(more: &str) -> String {
        let config = descriptor("aa", 2, "application/vnd.oci.image.config.v1+json");
        let layer = descriptor("bb", 100, "application/vnd.oci.image.layer.v1.tar+gzip");
        let foreign = descriptor("cc", 100, FOREIGN[3]);
        format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer},{foreign}]{more}}}"#)
    }

    fn check(content_type: Option<&str>, content: &str) -> Result<NewManifest, String> {
        read(content_type, content.as_bytes(), Timestamp::from_millis(7))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_image_names_its_configuration_and_the_layers_that_are_here() {
        let read = check(Some(OCI), &image("")).unwrap();
        assert_eq!((read.blobs.len(), read.manifests.len()), (2, 0));
        assert_eq!(read.record.layers_size, 100);
        assert_eq!(read.record.media_type, OCI);
        let subject = format!(r#","subject":{}"#, descriptor("dd", 1, OCI));
        let read = check(Some(OCI), &image(&subject)).unwrap();
        assert!(read.record.subject.is_some());
    }

    #[test]
    fn an_index_names_manifests() {
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
            INDEXES[0],
            descriptor("ee", 5, OCI)
        );
        assert_eq!(check(None, &text).unwrap().manifests.len(), 1);
        assert!(
            check(Some(OCI), &text)
                .unwrap_err()
                .contains("`mediaType` is")
        );
    }

    #[test]
    fn what_is_no_manifest_is_refused_in_words() {
        for (content_type, content, want) in [
            (Some(OCI), "{", "not a manifest"),
            (Some(OCI), r#"{"schemaVersion":1}"#, "only 2 is supported"),
            (Some(OCI), r#"{"schemaVersion":2}"#, "no `config`"),
            (None, r#"{"schemaVersion":2}"#, "says what it is"),
            (Some("text/plain"), r#"{"schemaVersion":2}"#, "`text/plain`"),
            (
                Some(OCI),
                r#"{"schemaVersion":2,"layers":null}"#,
                "no `config`",
            ),
        ] {
            let why = check(content_type, content).unwrap_err();
            assert!(why.contains(want), "{why}");
        }
    }
}
