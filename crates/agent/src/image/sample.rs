//! Archives and images for tests, honest and otherwise.

use std::{io::Write, path::Path};

use ekiden_model::image::Digest;
use serde_json::json;

use super::{
    manifest::{Descriptor, Manifest, OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST, Platform},
    pull::digest_of,
};

/// A tar archive written entry by entry, by hand, so that it can be wrong.
#[derive(Default, Clone)]
pub(super) struct Tape {
    bytes: Vec<u8>,
    mode: Option<u32>,
    owner: (u32, u32),
}

impl Tape {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// For the entries that follow.
    pub(super) fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    /// For the entries that follow.
    pub(super) fn owner(mut self, uid: u32, gid: u32) -> Self {
        self.owner = (uid, gid);
        self
    }

    pub(super) fn file(self, path: &str, data: &[u8]) -> Self {
        self.entry(b'0', path, "", data, data.len() as u64)
    }

    pub(super) fn directory(self, path: &str) -> Self {
        self.entry(b'5', path, "", b"", 0)
    }

    pub(super) fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(b'2', path, target, b"", 0)
    }

    pub(super) fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(b'1', path, target, b"", 0)
    }

    /// Records of a pax header for the next entry.
    pub(super) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (keyword, value) in records {
            // The length counts its own digits.
            let rest = keyword.len() + value.len() + 3;
            let length = (rest + 1..)
                .find(|n| n - n.to_string().len() == rest)
                .unwrap();
            data.extend(format!("{length} {keyword}=").bytes());
            data.extend(*value);
            data.push(b'\n');
        }
        self.entry(b'x', "pax", "", &data, data.len() as u64)
    }

    /// Anything: `size` is what the header says.
    pub(super) fn entry(self, kind: u8, path: &str, target: &str, data: &[u8], size: u64) -> Self {
        let mut header = [0; 512];
        let mut put = |at: usize, field: &[u8]| header[at..at + field.len()].copy_from_slice(field);
        put(0, &path.as_bytes()[..path.len().min(100)]);
        let default = if kind == b'5' { 0o755 } else { 0o644 };
        put(
            100,
            format!("{:07o}\0", self.mode.unwrap_or(default)).as_bytes(),
        );
        put(
            108,
            format!("{:07o}\0{:07o}\0", self.owner.0, self.owner.1).as_bytes(),
        );
        put(
            124,
            format!("{size:011o}\0{:011o}\0", 1_600_000_000).as_bytes(),
        );
        put(156, &[kind]);
        put(157, target.as_bytes());
        put(257, b"ustar\x0000");
        self.raw(header, data)
    }

    /// A header whose checksum is put in, and its data.
    pub(super) fn raw(mut self, mut header: [u8; 512], data: &[u8]) -> Self {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend(header);
        self.bytes.extend(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    /// With the two blocks at its end.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }

    /// Without any end.
    pub(super) fn cut(self) -> Vec<u8> {
        self.bytes
    }
}

pub(super) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// An image as a registry has it.
#[derive(Clone)]
pub(super) struct SampleImage {
    pub(super) manifest: Vec<u8>,
    pub(super) config: Vec<u8>,
    /// Compressed.
    pub(super) layers: Vec<Vec<u8>>,
}

impl SampleImage {
    /// Of these archives, lowest first, gzipped, for this machine.
    pub(super) fn of(archives: &[Vec<u8>]) -> Self {
        Self::for_platform(archives, &Platform::here().architecture)
    }

    pub(super) fn for_platform(archives: &[Vec<u8>], architecture: &str) -> Self {
        let layers = archives.iter().map(|archive| gzip(archive)).collect();
        Self::with_layers(archives, layers, architecture)
    }

    /// With layers compressed by somebody else.
    pub(super) fn with_layers(
        archives: &[Vec<u8>],
        layers: Vec<Vec<u8>>,
        architecture: &str,
    ) -> Self {
        let diff_ids: Vec<Digest> = archives.iter().map(|archive| digest_of(archive)).collect();
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": {
                "Entrypoint": ["/app"],
                "Cmd": ["--serve"],
                "Env": ["A=1"],
                "WorkingDir": "/srv",
                "User": "7:8",
                "StopSignal": "SIGQUIT",
            },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = config.to_string().into_bytes();
        let describe =
            |kind: &str, bytes: &[u8]| Descriptor::new(kind, digest_of(bytes), bytes.len() as u64);
        let manifest = Manifest {
            schema_version: 2,
            media_type: OCI_MANIFEST.to_owned(),
            config: describe(OCI_CONFIG, &config),
            layers: layers
                .iter()
                .map(|layer| describe(OCI_LAYER_GZIP, layer))
                .collect(),
        };
        Self {
            manifest: serde_json::to_vec(&manifest).unwrap(),
            config,
            layers,
        }
    }

    pub(super) fn digest(&self) -> Digest {
        digest_of(&self.manifest)
    }

    /// Every blob but the manifest.
    pub(super) fn blobs(&self) -> impl Iterator<Item = &[u8]> {
        [self.config.as_slice()]
            .into_iter()
            .chain(self.layers.iter().map(Vec::as_slice))
    }

    /// Writes an OCI layout.
    pub(super) fn write_layout(&self, folder: &Path, name: &str) {
        let blobs = folder.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        for blob in self.blobs().chain([self.manifest.as_slice()]) {
            std::fs::write(blobs.join(digest_of(blob).hex()), blob).unwrap();
        }
        let index = json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": OCI_MANIFEST,
                "digest": self.digest(),
                "size": self.manifest.len(),
                "annotations": { "org.opencontainers.image.ref.name": name },
            }],
        });
        std::fs::write(folder.join("index.json"), index.to_string()).unwrap();
        std::fs::write(
            folder.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
    }
}

/// Whether this test can run; says so when it cannot. Making devices and owners takes root.
pub(super) fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("SKIPPED: needs root");
    }
    is_root
}
