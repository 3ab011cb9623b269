//! The documents of an image: index, manifest and configuration, of OCI (image specification 1.1)
//! and of Docker (distribution's "Image Manifest Version 2, Schema 2").

use std::collections::BTreeMap;

use ekiden_model::image::{Digest, ImageConfig};
use serde::{Deserialize, Serialize};

/// Bytes of a manifest, an index or a configuration: the distribution specification asks
/// registries to take manifests of at least 4 MiB.
pub(super) const DOCUMENT_BYTES_MAX: u64 = 4 << 20;

/// Layers of an image: what overlayfs stacks (`OVL_MAX_STACK` in the kernel's `fs/overlayfs`).
pub(super) const LAYERS_MAX: usize = 500;

/// Entries of an index that are looked at.
const INDEX_ENTRIES_MAX: usize = 1000;

/// Names of an image's platforms that an error lists.
const PLATFORMS_LISTED_MAX: usize = 20;

pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(super) const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(super) const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
pub(super) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(super) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// What a registry is asked for.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";

/// A reference to a document or a layer by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    /// Bytes.
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

impl Descriptor {
    pub(super) fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        let (platform, annotations) = (None, BTreeMap::new());
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform,
            annotations,
        }
    }
}

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Platform {
    pub(super) architecture: String,
    pub(super) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) variant: Option<String>,
}

impl Platform {
    /// What this machine runs, in Go's words, which the specification uses.
    pub(super) fn here() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            variant: None,
        }
    }

    /// How well something built for `self` runs on `here`; lower is better, absent is not at all.
    fn rank(&self, here: &Self) -> Option<u8> {
        if self.os != here.os || self.architecture != here.architecture {
            return None;
        }
        match self.variant.as_deref().unwrap_or_default() {
            // Every processor of the architecture runs these: the variants' baselines.
            "" | "v1" if here.architecture == "amd64" => Some(0),
            "" | "v8" => Some(0),
            _ => None,
        }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant
            .iter()
            .filter(|variant| !variant.is_empty())
            .try_for_each(|v| write!(f, "/{v}"))
    }
}

/// The manifest of one platform's image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub(super) schema_version: u32,
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// A list of manifests by platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index {
    pub(super) schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) media_type: String,
    pub(super) manifests: Vec<Descriptor>,
}

/// What stands under an image's name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Document {
    Manifest(Manifest),
    Index(Index),
}

/// Why nothing of an index was chosen.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoPlatform {
    pub(super) wanted: String,
    pub(super) available: String,
}

impl Document {
    /// Reads an index or a manifest; `said` is the media type that the sender gave, which is used
    /// when the document does not tell.
    ///
    /// # Errors
    /// A sentence saying what is wrong with it.
    pub(super) fn parse(bytes: &[u8], said: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Head {
            schema_version: Option<u32>,
            #[serde(default)]
            media_type: String,
            manifests: Option<serde::de::IgnoredAny>,
        }
        let broken = |error: serde_json::Error| format!("its manifest is broken: {error}");
        let head: Head = serde_json::from_slice(bytes).map_err(broken)?;
        if head.schema_version != Some(2) {
            return Err(
                "its manifest has an old format (schema 1), which current tools do not write"
                    .to_owned(),
            );
        }
        let media_type = if head.media_type.is_empty() {
            said
        } else {
            &head.media_type
        };
        let is_index = match media_type {
            OCI_INDEX | DOCKER_INDEX => true,
            OCI_MANIFEST | DOCKER_MANIFEST => false,
            _ => head.manifests.is_some(),
        };
        if is_index {
            return serde_json::from_slice(bytes)
                .map(Self::Index)
                .map_err(broken);
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(broken)?;
        manifest.check()?;
        Ok(Self::Manifest(manifest))
    }
}

impl Index {
    /// The manifest for a platform.
    pub(super) fn choose(&self, here: &Platform) -> Result<&Descriptor, NoPlatform> {
        let candidates = self
            .manifests
            .iter()
            .take(INDEX_ENTRIES_MAX)
            .filter(|m| m.is_image());
        let ranked = candidates.filter_map(|m| {
            m.platform
                .as_ref()
                .map_or(Some(9), |p| p.rank(here))
                .map(|rank| (rank, m))
        });
        // Of equals the first, as the specification has it.
        ranked
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, m)| m)
            .ok_or_else(|| NoPlatform {
                wanted: here.to_string(),
                available: self.platforms(),
            })
    }

    fn platforms(&self) -> String {
        let images = self.manifests.iter().filter(|manifest| manifest.is_image());
        let names: Vec<String> = images
            .filter_map(|manifest| manifest.platform.as_ref().map(Platform::to_string))
            .take(PLATFORMS_LISTED_MAX)
            .collect();
        if names.is_empty() {
            "no platform at all".to_owned()
        } else {
            names.join(", ")
        }
    }
}

impl Descriptor {
    /// Leaves out what build tools attach: attestations, for the platform `unknown`.
    fn is_image(&self) -> bool {
        let kind = self.media_type.as_str();
        let unknown = self
            .platform
            .as_ref()
            .is_some_and(|platform| platform.os == "unknown");
        matches!(kind, "" | OCI_MANIFEST | DOCKER_MANIFEST) && !unknown
    }
}

impl Manifest {
    fn check(&self) -> Result<(), String> {
        if !matches!(
            self.config.media_type.as_str(),
            OCI_CONFIG | DOCKER_CONFIG | ""
        ) {
            let kind: String = self.config.media_type.chars().take(100).collect();
            return Err(format!("it is no container image but `{kind}`"));
        }
        if self.layers.len() > LAYERS_MAX {
            return Err(format!("it has more than {LAYERS_MAX} layers: squash some"));
        }
        if self.config.size > DOCUMENT_BYTES_MAX {
            return Err("its configuration is larger than 4 MiB".to_owned());
        }
        Ok(())
    }

    /// Compressed bytes of all layers.
    pub(super) fn layer_bytes(&self) -> u64 {
        self.layers
            .iter()
            .fold(0, |sum, layer| sum.saturating_add(layer.size))
    }
}

/// The configuration of an image, as far as it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Configuration {
    pub(super) platform: Platform,
    pub(super) process: ImageConfig,
    /// Of the layers, lowest first.
    pub(super) diff_ids: Vec<Digest>,
}

impl Configuration {
    /// Reads a configuration and checks it against the number of layers.
    ///
    /// # Errors
    /// A sentence saying what is wrong with it.
    pub(super) fn parse(bytes: &[u8], layers: usize) -> Result<Self, String> {
        let stored: StoredConfiguration = serde_json::from_slice(bytes)
            .map_err(|error| format!("its configuration is broken: {error}"))?;
        if stored.rootfs.diff_ids.len() != layers {
            return Err(format!(
                "its manifest has {layers} layers and its configuration {}",
                stored.rootfs.diff_ids.len()
            ));
        }
        let process = stored.config.unwrap_or_default();
        Ok(Self {
            platform: Platform {
                architecture: stored.architecture,
                os: stored.os,
                variant: stored.variant,
            },
            process: ImageConfig {
                entrypoint: process.entrypoint.unwrap_or_default(),
                cmd: process.cmd.unwrap_or_default(),
                env: process.env.unwrap_or_default(),
                working_dir: process.working_dir.unwrap_or_default(),
                user: process.user.unwrap_or_default(),
                stop_signal: process.stop_signal.unwrap_or_default(),
            },
            diff_ids: stored.rootfs.diff_ids,
        })
    }

    /// Whether it runs on a platform.
    pub(super) fn check_platform(&self, here: &Platform) -> Result<(), NoPlatform> {
        self.platform
            .rank(here)
            .map(drop)
            .ok_or_else(|| NoPlatform {
                wanted: here.to_string(),
                available: self.platform.to_string(),
            })
    }
}

/// The stored form; `null` and absence are the same, as Docker writes both.
#[derive(Deserialize)]
struct StoredConfiguration {
    architecture: String,
    os: String,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default)]
    config: Option<StoredProcess>,
    rootfs: StoredRoot,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct StoredProcess {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
}

#[derive(Deserialize)]
struct StoredRoot {
    diff_ids: Vec<Digest>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(os: &str, architecture: &str, variant: Option<&str>) -> Descriptor {
        let platform = Platform {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            variant: variant.map(str::to_owned),
        };
        let digest = Digest::from_sha256([architecture.len() as u8; 32]);
        Descriptor {
            platform: Some(platform),
            ..Descriptor::new(OCI_MANIFEST, digest, 1)
        }
    }

    #[track_caller]
    fn check(entries: &[Descriptor], want: Result<&str, &str>) {
        let manifests = entries.to_vec();
        let index = Index {
            schema_version: 2,
            media_type: String::new(),
            manifests,
        };
        let here = Platform {
            architecture: "amd64".into(),
            os: "linux".into(),
            variant: None,
        };
        let got = index
            .choose(&here)
            .map(|d| d.platform.as_ref().unwrap().to_string());
        let want = want.map(str::to_owned).map_err(|available| NoPlatform {
            wanted: "linux/amd64".to_owned(),
            available: available.to_owned(),
        });
        assert_eq!(got, want);
    }

    #[test]
    fn index_gives_this_platform_or_lists_what_it_has() {
        check(
            &[
                entry("linux", "arm64", Some("v8")),
                entry("linux", "amd64", None),
            ],
            Ok("linux/amd64"),
        );
        check(
            &[
                entry("linux", "amd64", Some("v3")),
                entry("linux", "amd64", None),
            ],
            Ok("linux/amd64"),
        );
        check(
            &[
                entry("linux", "arm64", Some("v8")),
                entry("windows", "amd64", None),
            ],
            Err("linux/arm64/v8, windows/amd64"),
        );
        check(
            &[entry("unknown", "unknown", None)],
            Err("no platform at all"),
        );
        check(&[], Err("no platform at all"));
    }

    #[test]
    fn documents_are_told_apart_by_their_own_words_first() {
        let index = br#"{"schemaVersion":2,"manifests":[]}"#;
        assert!(matches!(Document::parse(index, ""), Ok(Document::Index(_))));
        assert!(
            Document::parse(br#"{"schemaVersion":1}"#, "")
                .unwrap_err()
                .contains("schema 1")
        );
        assert!(
            Document::parse(b"<html>", "")
                .unwrap_err()
                .contains("broken")
        );
        let digest = Digest::from_sha256([1; 32]);
        let mut manifest = Manifest {
            schema_version: 2,
            media_type: OCI_MANIFEST.to_owned(),
            config: Descriptor::new(OCI_CONFIG, digest, 10),
            layers: Vec::new(),
        };
        let parse = |manifest: &Manifest| {
            Document::parse(&serde_json::to_vec(manifest).unwrap(), OCI_INDEX)
        };
        assert!(matches!(parse(&manifest), Ok(Document::Manifest(_))));
        manifest.config.media_type = "application/vnd.cncf.helm.config.v1+json".to_owned();
        assert!(parse(&manifest).unwrap_err().contains("helm"));
    }

    #[test]
    fn configuration_takes_null_for_absent_and_counts_its_layers() {
        let text = br#"{"architecture":"amd64","os":"linux","config":{"Cmd":null,"Env":["A=1"],
            "User":"7"},"rootfs":{"type":"layers","diff_ids":[]}}"#;
        let configuration = Configuration::parse(text, 0).unwrap();
        assert_eq!(configuration.process.env, ["A=1"]);
        assert_eq!(configuration.process.user, "7");
        assert!(
            Configuration::parse(text, 1)
                .unwrap_err()
                .contains("1 layers")
        );
    }
}
