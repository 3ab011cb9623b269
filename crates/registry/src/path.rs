//! What a request of the distribution protocol is about, by its path.
//!
//! A name may have any number of parts, also ones that are words of the protocol: the end of the path
//! decides.

use ekiden_model::{
    image::{Digest, is_repository, is_tag},
    repository::REPOSITORY_NAME_BYTES_MAX,
};
use uuid::Uuid;

use crate::error::Refusal;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// Whether this is a registry.
    Base,
    /// All repositories.
    Catalog,
    /// Something of a repository.
    Of(String, Thing),
}

/// Something of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Thing {
    /// All tags.
    Tags,
    /// By its tag.
    TaggedManifest(String),
    /// By its digest.
    Manifest(Digest),
    /// By its digest.
    Blob(Digest),
    /// Where uploads begin.
    Uploads,
    /// One that was begun.
    Upload(Uuid),
    /// The manifests that are about this one.
    Referrers(Digest),
}

impl Target {
    /// Reads a path that begins with `/v2`.
    pub(crate) fn read(path: &str) -> Result<Self, Refusal> {
        let path = path.replace("%3A", ":").replace("%3a", ":");
        let rest = path.strip_prefix("/v2").unwrap_or(&path);
        let rest = match rest {
            "" | "/" => return Ok(Self::Base),
            "/_catalog" => return Ok(Self::Catalog),
            rest => rest.trim_start_matches('/'),
        };
        let unknown = || {
            Refusal::new(
                http::StatusCode::NOT_FOUND,
                "UNSUPPORTED",
                "this is not a path of a registry",
            )
        };
        let parts: Vec<&str> = rest.split('/').collect();
        let (name, thing) = match parts.as_slice() {
            [name @ .., "tags", "list"] => (name, Thing::Tags),
            [name @ .., "blobs", "uploads", ""] | [name @ .., "blobs", "uploads"] => {
                (name, Thing::Uploads)
            }
            [name @ .., "blobs", "uploads", id] => {
                let id = id.parse().map_err(|_| Refusal::no_upload())?;
                (name, Thing::Upload(id))
            }
            [name @ .., "blobs", digest] => (name, Thing::Blob(digest_in(digest)?)),
            [name @ .., "referrers", digest] => (name, Thing::Referrers(digest_in(digest)?)),
            [name @ .., "manifests", reference] => match reference.contains(':') {
                true => (name, Thing::Manifest(digest_in(reference)?)),
                false => (name, Thing::TaggedManifest(tag_in(reference)?)),
            },
            _ => return Err(unknown()),
        };
        Ok(Self::Of(repository(&name.join("/"))?, thing))
    }
}

/// A repository's name.
pub(crate) fn repository(name: &str) -> Result<String, Refusal> {
    let fits = (2..=REPOSITORY_NAME_BYTES_MAX).contains(&name.len());
    match fits && is_repository(name) {
        true => Ok(name.to_owned()),
        false => Err(Refusal::name_invalid(name)),
    }
}

/// A digest as clients write it.
pub(crate) fn digest_in(text: &str) -> Result<Digest, Refusal> {
    text.parse()
        .map_err(|error: ekiden_model::image::InvalidDigest| {
            Refusal::digest_invalid(error.to_string())
        })
}

fn tag_in(text: &str) -> Result<String, Refusal> {
    match is_tag(text) {
        true => Ok(text.to_owned()),
        false => Err(Refusal::new(
            http::StatusCode::BAD_REQUEST,
            "TAG_INVALID",
            "a tag is 1 to 128 letters, digits, `_`, `.` and `-`, and begins with none of the last two",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> Result<Target, &'static str> {
        Target::read(path).map_err(|refusal| refusal.code)
    }

    #[test]
    fn the_end_of_a_path_says_what_is_asked_for() {
        let digest = Digest::from_sha256([0xab; 32]);
        let of = |name: &str, thing| Ok(Target::Of(name.to_owned(), thing));
        assert_eq!(read("/v2/"), Ok(Target::Base));
        assert_eq!(read("/v2/_catalog"), Ok(Target::Catalog));
        assert_eq!(read("/v2/a/b/tags/list"), of("a/b", Thing::Tags));
        assert_eq!(
            read("/v2/blobs/manifests/x/blobs/uploads/"),
            of("blobs/manifests/x", Thing::Uploads)
        );
        assert_eq!(
            read(&format!("/v2/web/blobs/{digest}")),
            of("web", Thing::Blob(digest))
        );
        assert_eq!(
            read(&format!("/v2/web/manifests/sha256%3A{}", digest.hex())),
            of("web", Thing::Manifest(digest))
        );
        assert_eq!(
            read("/v2/web/manifests/v1"),
            of("web", Thing::TaggedManifest("v1".to_owned()))
        );
        for (path, code) in [
            ("/v2/web", "UNSUPPORTED"),
            ("/v2/../x/tags/list", "NAME_INVALID"),
            ("/v2/Web/tags/list", "NAME_INVALID"),
            ("/v2/a/tags/list", "NAME_INVALID"),
            ("/v2/tags/list", "NAME_INVALID"),
            ("/v2/web/blobs/sha256:1", "DIGEST_INVALID"),
            ("/v2/web/manifests/.x", "TAG_INVALID"),
            ("/v2/web/blobs/uploads/x", "BLOB_UPLOAD_UNKNOWN"),
        ] {
            assert_eq!(read(path), Err(code), "{path}");
        }
    }
}
