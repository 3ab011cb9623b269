//! The distribution protocol: one request to one answer (distribution specification 1.1, "Endpoints").

use std::{
    fs::File,
    io::{self, Seek, SeekFrom},
    sync::Arc,
};

use bytes::Bytes;
use ekiden_model::{image::Digest, repository::ManifestRecord};
use ekiden_store::registry::Reference;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full, Limited};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::{
    Action, PAGE_MAX, Registry,
    blobs::Held,
    error::{Body, Refusal},
    manifest::{self, MANIFEST_BYTES_MAX},
    now,
    part::{FileBody, Range},
    path::{Target, Thing, digest_in, repository},
    query::{Query, encoded},
};

const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
const VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

type Answer = Result<Response<Body>, Refusal>;

/// What a request must ask for before it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What it does.
    pub action: Action,
    /// To which repository; to none in particular when absent.
    pub repository: Option<String>,
}

impl Wanted {
    /// What a request wants of which no more is known.
    pub const fn nothing() -> Self {
        Self {
            action: Action::Pull,
            repository: None,
        }
    }
}

/// A request whose path was understood.
#[derive(Debug)]
pub struct Parsed(Target);

impl Parsed {
    /// Reads a path that begins with `/v2`.
    ///
    /// # Errors
    /// It is none of a registry, or a name or digest in it is malformed.
    pub fn read(path: &str) -> Result<Self, Refusal> {
        Target::read(path).map(Self)
    }

    /// What permission is needed.
    pub fn wanted(&self, method: &Method) -> Wanted {
        let action = match *method {
            Method::POST | Method::PUT | Method::PATCH => Action::Push,
            // Giving an upload up is a part of pushing.
            Method::DELETE if matches!(&self.0, Target::Of(_, Thing::Upload(_))) => Action::Push,
            Method::DELETE => Action::Delete,
            _ if matches!(&self.0, Target::Of(_, Thing::Upload(_))) => Action::Push,
            _ => Action::Pull,
        };
        let repository = match &self.0 {
            Target::Of(name, _) => Some(name.clone()),
            Target::Base | Target::Catalog => None,
        };
        Wanted { action, repository }
    }
}

impl Registry {
    /// Answers a request whose sender may do what it [wants](Parsed::wanted). `may_pull` says which other
    /// repositories its sender may look at.
    pub async fn respond<B>(
        self: &Arc<Self>,
        parsed: Parsed,
        request: Request<B>,
        may_pull: impl Fn(&str) -> bool,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::fmt::Display + Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let is_head = request.method() == Method::HEAD;
        let mut answer = match self.answer(parsed.0, request, may_pull).await {
            Ok(answer) => answer,
            Err(refusal) if is_head => {
                // An answer to HEAD has no body, but says how long it would be.
                let (parts, _) = refusal.answer().into_parts();
                Response::from_parts(parts, empty())
            }
            Err(refusal) => refusal.answer(),
        };
        answer
            .headers_mut()
            .insert(VERSION, HeaderValue::from_static("registry/2.0"));
        answer
    }

    async fn answer<B>(
        self: &Arc<Self>,
        target: Target,
        request: Request<B>,
        may_pull: impl Fn(&str) -> bool,
    ) -> Answer
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::fmt::Display + Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let query = Query::read(parts.uri.query().unwrap_or_default());
        let (name, thing) = match target {
            Target::Base => return Ok(json_answer(StatusCode::OK, &json!({}))),
            Target::Catalog => {
                return match parts.method {
                    Method::GET => self.catalog(&query, may_pull).await,
                    other => Err(Refusal::method_not_allowed(&other)),
                };
            }
            Target::Of(name, thing) => (name, thing),
        };
        let method = parts.method.clone();
        match (method.clone(), thing) {
            (Method::GET | Method::HEAD, Thing::Blob(digest)) => {
                self.blob(&name, digest, &method, &parts.headers).await
            }
            (Method::DELETE, Thing::Blob(digest)) => {
                let removed = self.store.remove_repository_blob(&name, digest).await?;
                match removed {
                    true => Ok(status(StatusCode::ACCEPTED)),
                    false => Err(Refusal::no_blob(&digest.to_string())),
                }
            }
            (Method::POST, Thing::Uploads) => {
                self.begin_upload(&name, &query, body, may_pull).await
            }
            (Method::GET, Thing::Upload(id)) => {
                let upload = self.blobs.resume(&name, id).await?;
                let at = place(StatusCode::NO_CONTENT, &upload_path(&name, id));
                Ok(with_range(at, id, upload.offset()))
            }
            (Method::PATCH, Thing::Upload(id)) => {
                let upload = self.blobs.resume(&name, id).await?;
                check_begin(&parts.headers, upload.offset())?;
                self.taken(upload, body, None, name, true).await
            }
            (Method::PUT, Thing::Upload(id)) => {
                let digest = query.digest()?.ok_or_else(|| {
                    Refusal::digest_invalid("`digest` is missing: what the whole blob is")
                })?;
                let upload = self.blobs.resume(&name, id).await?;
                check_begin(&parts.headers, upload.offset())?;
                self.taken(upload, body, Some(digest), name, true).await
            }
            (Method::DELETE, Thing::Upload(id)) => {
                let upload = self.blobs.resume(&name, id).await?;
                self.blobs.cancel(upload).await;
                Ok(status(StatusCode::NO_CONTENT))
            }
            (Method::GET | Method::HEAD, Thing::Manifest(digest)) => {
                self.manifest(&name, Reference::Digest(digest), &method)
                    .await
            }
            (Method::GET | Method::HEAD, Thing::TaggedManifest(tag)) => {
                self.manifest(&name, Reference::Tag(&tag), &method).await
            }
            (Method::PUT, Thing::Manifest(digest)) => {
                self.push_manifest(&name, Reference::Digest(digest), &parts.headers, body)
                    .await
            }
            (Method::PUT, Thing::TaggedManifest(tag)) => {
                self.push_manifest(&name, Reference::Tag(&tag), &parts.headers, body)
                    .await
            }
            (Method::DELETE, Thing::Manifest(digest)) => {
                self.remove_manifest(&name, Reference::Digest(digest)).await
            }
            (Method::DELETE, Thing::TaggedManifest(tag)) => {
                self.remove_manifest(&name, Reference::Tag(&tag)).await
            }
            (Method::GET, Thing::Tags) => self.tags(&name, &query).await,
            (Method::GET, Thing::Referrers(digest)) => self.referrers(&name, digest, &query).await,
            (_, _) => Err(Refusal::method_not_allowed(&method)),
        }
    }

    // ---- blobs

    async fn blob(
        &self,
        name: &str,
        digest: Digest,
        method: &Method,
        headers: &HeaderMap,
    ) -> Answer {
        let size = self.store.repository_blob(name, digest).await?;
        let Some(size) = size else {
            return Err(Refusal::no_blob(&digest.to_string()));
        };
        // Whoever was told that it is there may name it in a manifest next.
        self.store
            .touch_repository_blob(name, digest, now())
            .await?;
        let range = Range::read(headers, size)?;
        let (first, length) = range.map_or((0, size), |range| (range.first, range.length()));
        let body = match *method {
            Method::HEAD => empty(),
            _ => self.stream(digest, first, length).await?,
        };
        let mut answer = Response::new(body);
        let headers = answer.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
        headers.insert(header::CONTENT_LENGTH, length.into());
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        insert(headers, DIGEST, &digest.to_string());
        insert(headers, header::ETAG, &format!("\"{digest}\""));
        if let Some(range) = range {
            insert(
                headers,
                header::CONTENT_RANGE,
                &format!("bytes {}-{}/{size}", range.first, range.last),
            );
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        Ok(answer)
    }

    /// A part of a blob's file as a body.
    async fn stream(&self, digest: Digest, first: u64, length: u64) -> Result<Body, Refusal> {
        let path = self.blobs.path(digest);
        let opened = spawn_blocking(move || {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(first))?;
            io::Result::Ok(file)
        });
        let file = opened
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        let file = file.map_err(|error| Refusal::io("read a blob", &error))?;
        Ok(FileBody::new(file, length).boxed())
    }

    async fn begin_upload<B>(
        self: &Arc<Self>,
        name: &str,
        query: &Query,
        body: B,
        may_pull: impl Fn(&str) -> bool,
    ) -> Answer
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::fmt::Display,
    {
        let whole = query.digest()?;
        let mount = match (query.get("mount"), query.get("from")) {
            (Some(digest), Some(from)) => Some((digest_in(digest)?, repository(from)?)),
            _ => None,
        };
        self.provide(name).await?;
        if let Some((digest, from)) = mount {
            let mounted = match may_pull(&from) {
                true => {
                    self.store
                        .mount_repository_blob(name, &from, digest, now())
                        .await?
                }
                false => None,
            };
            if mounted.is_some() {
                return Ok(created(&format!("/v2/{name}/blobs/{digest}"), digest));
            }
        }
        let upload = self.blobs.begin(name).await?;
        match whole {
            Some(digest) => {
                self.taken(upload, body, Some(digest), name.to_owned(), false)
                    .await
            }
            None => {
                let at = place(StatusCode::ACCEPTED, &upload_path(name, upload.id));
                Ok(with_range(at, upload.id, 0))
            }
        }
    }

    /// Begins an upload for a client that sends its parts by other ways; its id.
    ///
    /// # Errors
    /// There are too many, or the disk failed.
    pub async fn begin_upload_of(&self, name: &str) -> Result<String, Refusal> {
        Ok(self.blobs.begin(name).await?.id.to_string())
    }

    /// Takes a part of an upload in, which begins at this byte; how many have come then.
    ///
    /// # Errors
    /// There is no such upload, or the part does not begin where the one before ended.
    pub async fn add_part<B>(
        self: &Arc<Self>,
        name: &str,
        id: &str,
        first: u64,
        body: B,
    ) -> Result<u64, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::fmt::Display,
    {
        let upload = self.resumed(name, id).await?;
        if upload.offset() != first {
            return Err(out_of_place(upload.offset()));
        }
        self.take(upload, body, None, name.to_owned(), true).await
    }

    /// Ends an upload: it is a blob of the repository now.
    ///
    /// # Errors
    /// There is no such upload, or it is not what was said.
    pub async fn end_upload(
        self: &Arc<Self>,
        name: &str,
        id: &str,
        digest: Digest,
    ) -> Result<(), Refusal> {
        let upload = self.resumed(name, id).await?;
        let nothing = Empty::<Bytes>::new();
        self.take(upload, nothing, Some(digest), name.to_owned(), true)
            .await?;
        Ok(())
    }

    /// Gives an upload up.
    ///
    /// # Errors
    /// There is no such upload.
    pub async fn cancel_upload(&self, name: &str, id: &str) -> Result<(), Refusal> {
        let upload = self.resumed(name, id).await?;
        self.blobs.cancel(upload).await;
        Ok(())
    }

    async fn resumed(&self, name: &str, id: &str) -> Result<Held, Refusal> {
        let id = id.parse().map_err(|_| Refusal::no_upload())?;
        self.blobs.resume(name, id).await
    }

    /// Takes a body in and answers.
    async fn taken<B>(
        self: &Arc<Self>,
        upload: Held,
        body: B,
        digest: Option<Digest>,
        name: String,
        is_known: bool,
    ) -> Answer
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::fmt::Display,
    {
        let id = upload.id;
        let offset = self
            .take(upload, body, digest, name.clone(), is_known)
            .await?;
        Ok(match digest {
            Some(digest) => created(&format!("/v2/{name}/blobs/{digest}"), digest),
            None => {
                let at = place(StatusCode::ACCEPTED, &upload_path(&name, id));
                with_range(at, id, offset)
            }
        })
    }

    /// Takes a body in, and ends the upload if its digest is said; how many bytes have come. It goes on
    /// when the client leaves: what has come by then is kept, if the client knows the upload, and nobody
    /// else is at it meanwhile.
    async fn take<B>(
        self: &Arc<Self>,
        mut upload: Held,
        body: B,
        digest: Option<Digest>,
        name: String,
        is_known: bool,
    ) -> Result<u64, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::fmt::Display,
    {
        let registry = Arc::clone(self);
        let taking = tokio::spawn(async move {
            let appended = match registry.room().await {
                Ok(room) => registry.blobs.append(&mut upload, body, room).await,
                Err(refusal) => Err(refusal),
            };
            let offset = match appended {
                Ok(offset) => offset,
                Err(refusal) => {
                    if !is_known {
                        registry.blobs.cancel(upload).await;
                    }
                    return Err(refusal);
                }
            };
            let Some(digest) = digest else {
                return Ok(offset);
            };
            let sealed = registry.blobs.seal(upload, digest).await?;
            let size = sealed.size;
            let _kept = registry.files.read().await;
            registry.blobs.keep(sealed).await?;
            let put = registry
                .store
                .put_repository_blob(&name, digest, size, now());
            match put.await? {
                true => Ok(size),
                false => Err(Refusal::no_repository(&name)),
            }
        });
        taking
            .await
            .unwrap_or_else(|error| Err(Refusal::io("take an upload in", &io::Error::other(error))))
    }

    // ---- manifests

    async fn manifest(&self, name: &str, reference: Reference<'_>, method: &Method) -> Answer {
        let Some(found) = self.store.manifest(name, reference).await? else {
            return Err(no_manifest(reference));
        };
        let length = found.content.len() as u64;
        let mut answer = Response::new(match *method {
            Method::HEAD => empty(),
            _ => whole(found.content.into()),
        });
        let headers = answer.headers_mut();
        insert(headers, header::CONTENT_TYPE, &found.record.media_type);
        headers.insert(header::CONTENT_LENGTH, length.into());
        insert(headers, DIGEST, &found.record.digest.to_string());
        insert(
            headers,
            header::ETAG,
            &format!("\"{}\"", found.record.digest),
        );
        Ok(answer)
    }

    async fn push_manifest<B>(
        &self,
        name: &str,
        reference: Reference<'_>,
        headers: &HeaderMap,
        body: B,
    ) -> Answer
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let invalid =
            |message: String| Refusal::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", message);
        let read = Limited::new(body, MANIFEST_BYTES_MAX).collect();
        let content = match tokio::time::timeout(crate::BODY_IDLE, read).await {
            Ok(Ok(content)) => content.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                return Err(Refusal::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "MANIFEST_INVALID",
                    format!("a manifest may have {MANIFEST_BYTES_MAX} bytes"),
                ));
            }
            Ok(Err(error)) => return Err(invalid(format!("the body was cut off: {error}"))),
            Err(_) => return Err(invalid("the body did not come in time".to_owned())),
        };
        let content_type = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let manifest = manifest::read(content_type, &content, now())
            .map_err(|error| invalid(error.to_string()))?;
        let digest = manifest.record.digest;
        let tag = match reference {
            Reference::Tag(tag) => Some(tag),
            Reference::Digest(said) if said != digest => {
                return Err(Refusal::digest_invalid(format!(
                    "the manifest is {digest}, not {said}"
                )));
            }
            Reference::Digest(_) => None,
        };
        self.provide(name).await?;
        self.put_manifest(name, &manifest, tag).await?;
        let mut answer = created(&format!("/v2/{name}/manifests/{digest}"), digest);
        if let Some(subject) = manifest.record.subject {
            insert(answer.headers_mut(), SUBJECT, &subject.to_string());
        }
        Ok(answer)
    }

    async fn remove_manifest(&self, name: &str, reference: Reference<'_>) -> Answer {
        let removed = self.store.remove_manifest(name, reference).await?;
        match removed {
            Some(_) => Ok(status(StatusCode::ACCEPTED)),
            None => Err(no_manifest(reference)),
        }
    }

    async fn referrers(&self, name: &str, digest: Digest, query: &Query) -> Answer {
        self.known(name).await?;
        let wanted = query.get("artifactType");
        let from: u32 = match query.get("from") {
            None => 0,
            Some(from) => from.parse().unwrap_or(u32::MAX),
        };
        let mut all = self
            .store
            .referrers(name, digest, from, PAGE_MAX + 1)
            .await?;
        let next = (all.len() > PAGE_MAX as usize).then(|| {
            let filter = wanted.map_or(String::new(), |wanted| {
                format!("&artifactType={}", encoded(wanted))
            });
            let from = from.saturating_add(PAGE_MAX);
            format!("</v2/{name}/referrers/{digest}?from={from}{filter}>; rel=\"next\"")
        });
        all.truncate(PAGE_MAX as usize);
        let manifests: Vec<Value> = all
            .iter()
            .filter(|one| wanted.is_none_or(|wanted| one.artifact_type.as_deref() == Some(wanted)))
            .map(descriptor)
            .collect();
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests,
        });
        let mut answer = json_answer(StatusCode::OK, &index);
        let headers = answer.headers_mut();
        insert(
            headers,
            header::CONTENT_TYPE,
            "application/vnd.oci.image.index.v1+json",
        );
        if wanted.is_some() {
            headers.insert(FILTERS, HeaderValue::from_static("artifactType"));
        }
        Ok(linked(answer, next))
    }

    // ---- lists

    async fn tags(&self, name: &str, query: &Query) -> Answer {
        self.known(name).await?;
        let (most, last) = query.page()?;
        let mut tags = self.store.repository_tags(name, last, most + 1).await?;
        let next = next_page(&format!("/v2/{name}/tags/list"), &mut tags, most);
        let list = json!({"name": name, "tags": tags});
        Ok(linked(json_answer(StatusCode::OK, &list), next))
    }

    async fn catalog(&self, query: &Query, may_pull: impl Fn(&str) -> bool) -> Answer {
        let (most, last) = query.page()?;
        let all = self.store.repositories(last, most + 1).await?;
        let mut names: Vec<String> = all.into_iter().map(|one| one.name).collect();
        let next = next_page("/v2/_catalog", &mut names, most);
        names.retain(|name| may_pull(name));
        let list = json!({"repositories": names});
        Ok(linked(json_answer(StatusCode::OK, &list), next))
    }

    /// Refuses when there is no such repository.
    async fn known(&self, name: &str) -> Result<(), Refusal> {
        match self.store.repository(name).await? {
            Some(_) => Ok(()),
            None => Err(Refusal::no_repository(name)),
        }
    }
}

fn no_manifest(reference: Reference<'_>) -> Refusal {
    let what = match reference {
        Reference::Tag(tag) => format!("tag `{tag}`"),
        Reference::Digest(digest) => digest.to_string(),
    };
    Refusal::new(
        StatusCode::NOT_FOUND,
        "MANIFEST_UNKNOWN",
        format!("the repository has no image with the {what}"),
    )
}

fn descriptor(record: &ManifestRecord) -> Value {
    let mut descriptor = json!({
        "mediaType": record.media_type,
        "digest": record.digest.to_string(),
        "size": record.size,
    });
    if let Some(artifact_type) = &record.artifact_type {
        descriptor["artifactType"] = json!(artifact_type);
    }
    if !record.annotations.is_empty() {
        descriptor["annotations"] = json!(record.annotations);
    }
    descriptor
}

/// Where the next page begins, when there are more than `most` entries; the others are taken away.
fn next_page(path: &str, entries: &mut Vec<String>, most: u32) -> Option<String> {
    if entries.len() <= most as usize {
        return None;
    }
    entries.truncate(most as usize);
    let last = entries.last()?;
    Some(format!("<{path}?n={most}&last={last}>; rel=\"next\""))
}

fn linked(mut answer: Response<Body>, next: Option<String>) -> Response<Body> {
    if let Some(next) = next {
        insert(answer.headers_mut(), header::LINK, &next);
    }
    answer
}

/// Refuses a part of an upload that does not begin where the one before ended.
fn check_begin(headers: &HeaderMap, offset: u64) -> Result<(), Refusal> {
    let Some(range) = headers.get(header::CONTENT_RANGE) else {
        return Ok(());
    };
    let text = range.to_str().unwrap_or_default();
    let text = text
        .trim_start_matches("bytes")
        .trim_start_matches([' ', '=']);
    let first = text
        .split('-')
        .next()
        .and_then(|first| first.parse::<u64>().ok());
    match first == Some(offset) {
        true => Ok(()),
        false => Err(out_of_place(offset)),
    }
}

fn out_of_place(offset: u64) -> Refusal {
    Refusal {
        range_end: Some(offset),
        ..Refusal::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "BLOB_UPLOAD_INVALID",
            format!("{offset} bytes have come: go on there"),
        )
    }
}

fn upload_path(name: &str, id: Uuid) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

fn status(status: StatusCode) -> Response<Body> {
    let mut answer = Response::new(empty());
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CONTENT_LENGTH, 0.into());
    if status == StatusCode::NO_CONTENT {
        answer.headers_mut().remove(header::CONTENT_LENGTH);
    }
    answer
}

fn place(code: StatusCode, location: &str) -> Response<Body> {
    let mut answer = status(code);
    insert(answer.headers_mut(), header::LOCATION, location);
    answer
}

fn created(location: &str, digest: Digest) -> Response<Body> {
    let mut answer = place(StatusCode::CREATED, location);
    insert(answer.headers_mut(), DIGEST, &digest.to_string());
    answer
}

fn with_range(mut answer: Response<Body>, id: Uuid, offset: u64) -> Response<Body> {
    let headers = answer.headers_mut();
    insert(headers, UPLOAD_ID, &id.to_string());
    // Inclusive; that of nothing is the same as that of one byte.
    insert(
        headers,
        header::RANGE,
        &format!("0-{}", offset.saturating_sub(1)),
    );
    answer
}

fn json_answer(status: StatusCode, value: &Value) -> Response<Body> {
    let mut answer = Response::new(whole(value.to_string().into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    answer
}

/// What cannot be a header is left out: it came from no request that was understood.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}
