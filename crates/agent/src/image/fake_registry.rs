//! A registry for tests that misbehaves as it is told.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use ekiden_model::image::ImageReference;
use futures_util::{StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use super::{manifest::OCI_MANIFEST, pull::digest_of, sample::SampleImage};

/// What to do with one request.
#[derive(Clone)]
pub(super) enum Behaviour {
    /// This status and no more.
    Status(u16),
    /// As 429, with this many seconds in `Retry-After`.
    RetryAfter(u64),
    /// Nothing at all, for ever.
    Hang,
    /// The head and so many bytes, then nothing, for ever.
    HangAfter(usize),
    /// The head and so many bytes, then the connection is closed.
    CloseAfter(usize),
    /// Other bytes than the right ones.
    Instead(Vec<u8>),
    /// The whole of it, whatever range is asked for.
    NoRange,
    /// Nothing until it is told to.
    Wait(watch::Receiver<bool>),
    /// 307 to this address.
    Redirect(String),
}

/// Who may read.
#[derive(Clone)]
pub(super) enum Door {
    Open,
    /// This `Authorization`, for basic authentication.
    Basic(String),
    /// A token, which is given for this `Authorization`; `None` for everybody.
    Token(Option<String>),
}

pub(super) struct FakeRegistry {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    address: SocketAddr,
    door: Mutex<Door>,
    /// By path, what is there and its media type.
    things: Mutex<HashMap<String, (Vec<u8>, &'static str)>>,
    /// A part of a path, what to do, and how often.
    behaviours: Mutex<Vec<(String, Behaviour, usize)>>,
    /// `path` or `path range`.
    asked: Mutex<Vec<String>>,
    /// Of each request, in the same order.
    authorizations: Mutex<Vec<Option<String>>>,
}

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

impl FakeRegistry {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            address,
            door: Mutex::new(Door::Open),
            things: Mutex::default(),
            behaviours: Mutex::default(),
            asked: Mutex::default(),
            authorizations: Mutex::default(),
        });
        let server = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self {
            address,
            shared,
            server,
        }
    }

    pub(super) fn name(&self, rest: &str) -> ImageReference {
        format!("{}/{rest}", self.address).parse().unwrap()
    }

    /// Puts an image under a repository and a tag, and under its digest.
    pub(super) fn put(&self, repository: &str, tag: &str, image: &SampleImage) {
        for name in [tag.to_owned(), image.digest().to_string()] {
            let path = format!("/v2/{repository}/manifests/{name}");
            self.put_at(&path, &image.manifest, OCI_MANIFEST);
        }
        for blob in image.blobs() {
            let path = format!("/v2/{repository}/blobs/{}", digest_of(blob));
            self.put_at(&path, blob, "application/octet-stream");
        }
    }

    pub(super) fn put_at(&self, path: &str, bytes: &[u8], media_type: &'static str) {
        lock(&self.shared.things).insert(path.to_owned(), (bytes.to_vec(), media_type));
    }

    pub(super) fn door(&self, door: Door) {
        *lock(&self.shared.door) = door;
    }

    /// Misbehaves in the next `times` requests whose path contains `part`.
    pub(super) fn behave(&self, part: &str, behaviour: Behaviour, times: usize) {
        lock(&self.shared.behaviours).push((part.to_owned(), behaviour, times));
    }

    /// The requests so far whose path contains `part`.
    pub(super) fn asked(&self, part: &str) -> Vec<String> {
        lock(&self.shared.asked)
            .iter()
            .filter(|path| path.contains(part))
            .cloned()
            .collect()
    }

    /// What each request so far showed of itself.
    pub(super) fn authorizations(&self) -> Vec<Option<String>> {
        lock(&self.shared.authorizations).clone()
    }

    /// Ends it: connections are refused.
    pub(super) async fn stop(self) {
        self.server.abort();
        let _ = self.server.await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| answer(Arc::clone(&shared), request));
        connections.spawn(async move {
            // A connection that the client gives up is no matter.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let header = |name: &str| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let range = header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    let offset = range.and_then(|offset| offset.parse::<usize>().ok());
    let range = range.map(|range| format!(" {range}")).unwrap_or_default();
    lock(&shared.asked).push(format!("{path}{range}"));
    let authorization = header("authorization").map(str::to_owned);
    lock(&shared.authorizations).push(authorization.clone());
    if let Some(refusal) = shared.check(&path, authorization.as_deref()) {
        return Ok(refusal);
    }
    let behaviour = shared.behaviour(&path);
    match &behaviour {
        Some(Behaviour::Status(status)) => return Ok(plain(*status, "")),
        Some(Behaviour::RetryAfter(seconds)) => {
            let mut response = plain(429, "");
            response
                .headers_mut()
                .insert("retry-after", (*seconds).into());
            return Ok(response);
        }
        Some(Behaviour::Redirect(to)) => {
            let mut response = plain(307, "");
            response
                .headers_mut()
                .insert("location", to.parse().unwrap());
            return Ok(response);
        }
        Some(Behaviour::Hang) => std::future::pending::<()>().await,
        Some(Behaviour::Wait(gate)) => drop(gate.clone().wait_for(|open| *open).await),
        _ => {}
    }
    let thing = lock(&shared.things).get(&path).cloned();
    let Some((bytes, media_type)) = thing else {
        return Ok(plain(404, "{}"));
    };
    Ok(thing_response(bytes, media_type, offset, behaviour))
}

fn thing_response(
    mut bytes: Vec<u8>,
    media_type: &str,
    offset: Option<usize>,
    behaviour: Option<Behaviour>,
) -> Response<Body> {
    let mut response = Response::builder().header("content-type", media_type);
    if let Some(Behaviour::Instead(other)) = &behaviour {
        bytes.clone_from(other);
    }
    if let Some(offset) = offset
        && !matches!(behaviour, Some(Behaviour::NoRange))
    {
        bytes.drain(..offset.min(bytes.len()));
        response = response.status(StatusCode::PARTIAL_CONTENT);
    }
    let frame = |bytes: Vec<u8>| Ok(Frame::data(Bytes::from(bytes)));
    let body = match behaviour {
        Some(Behaviour::HangAfter(length)) => {
            bytes.truncate(length);
            stream::iter([frame(bytes)])
                .chain(stream::pending())
                .boxed()
        }
        Some(Behaviour::CloseAfter(length)) => {
            bytes.truncate(length);
            // What was sent leaves while the body is not ready, and the connection breaks after that.
            let broken = stream::once(async {
                tokio::task::yield_now().await;
                Err(std::io::Error::other("closed"))
            });
            stream::iter([frame(bytes)]).chain(broken).boxed()
        }
        _ => {
            response = response.header("content-length", bytes.len());
            stream::iter([frame(bytes)]).boxed()
        }
    };
    response.body(StreamBody::new(body).boxed_unsync()).unwrap()
}

impl Shared {
    fn behaviour(&self, path: &str) -> Option<Behaviour> {
        let mut behaviours = lock(&self.behaviours);
        let next = behaviours
            .iter_mut()
            .find(|(part, _, times)| path.contains(part) && *times > 0)?;
        next.2 -= 1;
        Some(next.1.clone())
    }

    /// The answer to who may not come in, and that of the token server.
    fn check(&self, path: &str, authorization: Option<&str>) -> Option<Response<Body>> {
        let door = lock(&self.door).clone();
        let challenge = |text: String| {
            let mut response = plain(401, "");
            response
                .headers_mut()
                .insert("www-authenticate", text.parse().unwrap());
            Some(response)
        };
        match door {
            Door::Open => None,
            Door::Basic(right) if authorization == Some(&right) => None,
            Door::Basic(_) => challenge("Basic realm=\"x\"".to_owned()),
            Door::Token(right) if path == "/token" => match right {
                Some(right) if authorization != Some(&right) => Some(plain(401, "")),
                _ => Some(plain(200, r#"{"token":"let-me-in"}"#)),
            },
            Door::Token(_) if authorization == Some("Bearer let-me-in") => None,
            Door::Token(_) => {
                let realm = format!("http://{}/token", self.address);
                challenge(format!("Bearer realm=\"{realm}\",service=\"fake\""))
            }
        }
    }
}

fn plain(status: u16, text: &str) -> Response<Body> {
    let body = http_body_util::Full::new(Bytes::from(text.to_owned()));
    let body = body.map_err(|never| match never {}).boxed_unsync();
    Response::builder().status(status).body(body).unwrap()
}
