//! A registry with its store on the disk: what is pushed is there, and what is removed is nobody's.

#![allow(clippy::unwrap_used)]

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use ekiden_model::{image::Digest, repository::Repository, time::Timestamp};
use ekiden_registry::{Body, Parsed, Registry, manifest::digest_of};
use ekiden_store::{Store, registry::RepositoryChange};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};

struct World {
    store: Arc<Store>,
    registry: Arc<Registry>,
    dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        Self::with_budget(1 << 30).await
    }

    async fn with_budget(budget: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&dir.path().join("db")).await.unwrap());
        let registry = Registry::open(Arc::clone(&store), dir.path().join("registry"), budget, 100);
        Self {
            registry: Arc::new(registry.await.unwrap()),
            store,
            dir,
        }
    }

    async fn ask(&self, method: &str, path: &str, body: &[u8]) -> Response<Body> {
        let target = path.split('?').next().unwrap();
        let parsed = Parsed::read(target).unwrap();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/vnd.oci.image.manifest.v1+json")
            .body(Full::new(Bytes::copy_from_slice(body)))
            .unwrap();
        self.registry.respond(parsed, request, |_| true).await
    }

    #[track_caller]
    fn is(answer: &Response<Body>, status: StatusCode) {
        assert_eq!(answer.status(), status);
    }

    async fn blob(&self, repository: &str, content: &[u8]) -> Digest {
        let digest = digest_of(content);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        Self::is(&self.ask("POST", &path, content).await, StatusCode::CREATED);
        digest
    }

    async fn image(&self, repository: &str, tag: &str, layer: &[u8]) -> Digest {
        let config = self.blob(repository, b"{}").await;
        let layer_digest = self.blob(repository, layer).await;
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{config}","size":2}},"layers":[{{"mediaType":"l","digest":"{layer_digest}","size":{}}}]}}"#,
            layer.len()
        );
        let path = format!("/v2/{repository}/manifests/{tag}");
        let put = self.ask("PUT", &path, manifest.as_bytes()).await;
        Self::is(&put, StatusCode::CREATED);
        digest_of(manifest.as_bytes())
    }

    /// Makes it seem that nobody has asked for a blob for a day.
    async fn age(&self) {
        let images = self.store.repositories("", 100).await.unwrap();
        for repository in images {
            for digest in files(self.dir.path()) {
                let size = self.store.repository_blob(&repository.name, digest).await;
                if let Some(size) = size.unwrap() {
                    let long_ago = Timestamp::from_millis(0);
                    self.store
                        .put_repository_blob(&repository.name, digest, size, long_ago)
                        .await
                        .unwrap();
                }
            }
        }
    }
}

fn files(dir: &Path) -> Vec<Digest> {
    let shelves = std::fs::read_dir(dir.join("registry/blobs")).unwrap();
    let files = shelves.flat_map(|shelf| std::fs::read_dir(shelf.unwrap().path()).unwrap());
    let name = |file: std::io::Result<std::fs::DirEntry>| {
        format!("sha256:{}", file.unwrap().file_name().to_str().unwrap())
    };
    files.map(|file| name(file).parse().unwrap()).collect()
}

#[tokio::test]
async fn what_a_manifest_names_stays_and_the_rest_goes_when_it_is_old() {
    let world = World::new().await;
    world.image("aa", "1", b"layer of one").await;
    let two = world.image("aa", "2", b"layer of two").await;
    let lonely = world.blob("aa", b"nobody names it").await;
    world.registry.collect().await.unwrap();
    assert_eq!(files(world.dir.path()).len(), 4);
    world.age().await;
    world.registry.collect().await.unwrap();
    assert!(!files(world.dir.path()).contains(&lonely));
    assert_eq!(files(world.dir.path()).len(), 3);
    let path = format!("/v2/aa/manifests/{two}");
    World::is(&world.ask("DELETE", &path, b"").await, StatusCode::ACCEPTED);
    world.registry.collect().await.unwrap();
    let left = files(world.dir.path());
    assert_eq!(left.len(), 2);
    assert!(!left.contains(&digest_of(b"layer of two")));
    let remove = |_: Option<Repository>, _, _| Ok::<_, ()>((RepositoryChange::Remove, ()));
    let removed = world.store.change_repository("aa", remove).await;
    removed.unwrap().unwrap();
    world.registry.collect().await.unwrap();
    assert!(files(world.dir.path()).is_empty());
}

/// A client is told that a blob is there, and names it in a manifest next.
#[tokio::test]
async fn what_was_asked_for_is_kept_for_whoever_asked() {
    let world = World::new().await;
    let digest = world.blob("aa", b"shared").await;
    world.age().await;
    let path = format!("/v2/aa/blobs/{digest}");
    World::is(&world.ask("HEAD", &path, b"").await, StatusCode::OK);
    world.registry.collect().await.unwrap();
    assert_eq!(files(world.dir.path()), [digest]);
}

#[tokio::test]
async fn removing_during_pushes_loses_nothing() {
    let world = Arc::new(World::new().await);
    // What all begin with is old and named by nobody.
    world.blob("base", b"base").await;
    let pushing: Vec<_> = (0..8)
        .map(|worker| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                for round in 0..20 {
                    let (name, layer) = (format!("app{worker}"), format!("{}", round % 3));
                    world.image(&name, "latest", layer.as_bytes()).await;
                    let path = format!("/v2/{name}/manifests/latest");
                    World::is(&world.ask("GET", &path, b"").await, StatusCode::OK);
                    let path = format!("/v2/{name}/blobs/{}", digest_of(layer.as_bytes()));
                    let blob = world.ask("GET", &path, b"").await;
                    let body = blob.into_body().collect().await.unwrap().to_bytes();
                    assert_eq!(&body[..], layer.as_bytes());
                }
            })
        })
        .collect();
    let collecting = {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            loop {
                world.registry.collect().await.unwrap();
                tokio::task::yield_now().await;
            }
        })
    };
    for worker in pushing {
        worker.await.unwrap();
    }
    collecting.abort();
}

#[tokio::test]
async fn a_tag_that_moves_is_told() {
    let world = World::new().await;
    let mut moved = world.registry.moved();
    world.image("aa", "1", b"one").await;
    assert!(moved.has_changed().unwrap());
    moved.borrow_and_update();
    world.image("aa", "1", b"one").await;
    assert!(!moved.has_changed().unwrap());
    world.image("aa", "1", b"two").await;
    assert!(moved.has_changed().unwrap());
}

#[tokio::test]
async fn what_is_over_the_budget_is_refused_and_nothing_of_it_is_kept() {
    let world = World::with_budget(10).await;
    world.blob("aa", b"12345").await;
    let path = format!("/v2/aa/blobs/uploads/?digest={}", digest_of(b"123456"));
    let refused = world.ask("POST", &path, b"123456").await;
    World::is(&refused, StatusCode::INSUFFICIENT_STORAGE);
    let uploads = world.dir.path().join("registry/uploads");
    assert_eq!(std::fs::read_dir(uploads).unwrap().count(), 0);
    let manifest = br#"{"schemaVersion":2,"manifests":[]}"#;
    let refused = world.ask("PUT", "/v2/aa/manifests/1", manifest).await;
    World::is(&refused, StatusCode::BAD_REQUEST); // it is no image
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{}","size":5}}}}"#,
        digest_of(b"12345")
    );
    let refused = world
        .ask("PUT", "/v2/aa/manifests/1", manifest.as_bytes())
        .await;
    World::is(&refused, StatusCode::INSUFFICIENT_STORAGE);
}

#[tokio::test]
async fn an_upload_that_is_asked_for_wrongly_is_not_begun() {
    let world = World::new().await;
    for query in ["digest=sha256:1", "mount=x&from=aa", "mount=x&from=A"] {
        let path = format!("/v2/aa/blobs/uploads/?{query}");
        World::is(
            &world.ask("POST", &path, b"").await,
            StatusCode::BAD_REQUEST,
        );
    }
    assert!(world.store.repository("aa").await.unwrap().is_none());
    let uploads = world.dir.path().join("registry/uploads");
    assert_eq!(std::fs::read_dir(uploads).unwrap().count(), 0);
}
