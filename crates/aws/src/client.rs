//! A small client: one signed JSON `POST` and its answer, or a plain one with a login.
//!
//! For Ekiden's own command line, which talks to an endpoint on the same machine or network. A call
//! is one connection; nothing is retried, because only the caller knows what may be repeated.

mod file_body;

use std::{
    fs::File,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{
    Method, Request, Response, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE},
    request::Parts,
};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{net::TcpStream, time::timeout};

use self::file_body::FileBody;
use crate::{
    epoch_seconds::EpochSeconds,
    native::PlainFailure,
    protocol::{APIS, APP_RUNNER, Api, Protocol, REQUEST_ID, TARGET},
    sigv4::{
        credentials::Credentials,
        signer::{SignError, sign},
    },
};

/// How long a connection may take to be made.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may take, from the first byte sent to the last received.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a plain request may take: an hour, in which 1 GiB comes through a line of 2.4 Mbit/s.
pub const PLAIN_TIMEOUT: Duration = Duration::from_secs(3600);

/// Bytes an answer may have.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;

/// A client of one endpoint. Has no `Debug`, because it holds a secret.
#[derive(Clone)]
pub struct Client {
    authority: String,
    region: String,
    credentials: Credentials,
}

/// What a plain request brings.
#[derive(Debug)]
pub enum Content {
    /// These bytes.
    Bytes(Bytes),
    /// A whole file, from its beginning.
    File(File),
}

/// Why a call has no output.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The endpoint's address cannot be used.
    #[error("`{endpoint}` is not an endpoint: expected `http://<host>[:<port>]`")]
    Endpoint {
        /// What was given.
        endpoint: String,
    },
    /// The input cannot be written as JSON.
    #[error("cannot write the input of `{target}`")]
    Input {
        /// The operation.
        target: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The target has characters that a header cannot have.
    #[error("`{target}` cannot be an operation")]
    Target {
        /// What was given.
        target: String,
    },
    /// The request cannot be signed.
    #[error("cannot sign the request")]
    Sign(#[from] SignError),
    /// Nobody listens there, or the way there is closed. Nothing was sent: trying again is safe.
    #[error("cannot connect to `{authority}`")]
    Connect {
        /// Host and port.
        authority: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The connection broke before the answer was whole. Whether the operation was done is unknown.
    #[error("the connection to `{authority}` broke before the answer came")]
    Broken {
        /// Host and port.
        authority: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in [`ANSWER_TIMEOUT`]. Whether the operation was done is unknown.
    #[error("`{authority}` did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    TimedOut {
        /// Host and port.
        authority: String,
    },
    /// The operation failed and says why.
    #[error("{message}")]
    Api {
        /// The error's name, such as `InvalidRequestException`.
        code: String,
        /// For a person.
        message: String,
        /// The answer's status.
        status: StatusCode,
        /// To look for in the server's log.
        request_id: Option<String>,
    },
    /// A plain request was refused.
    #[error("{message}")]
    Refused {
        /// For a person.
        message: String,
        /// The answer's status.
        status: StatusCode,
    },
    /// The path cannot be asked for.
    #[error("`{path}` cannot be a path")]
    Path {
        /// What was given.
        path: String,
    },
    /// The file to be sent cannot be read.
    #[error("cannot read the file that is to be sent")]
    File(#[source] std::io::Error),
    /// The answer is not of the protocol: something else listens there.
    #[error("`{authority}` answered {status} with something that is not the API's")]
    NotTheApi {
        /// Host and port.
        authority: String,
        /// The answer's status.
        status: StatusCode,
        /// What is wrong with the body.
        #[source]
        source: serde_json::Error,
    },
}

impl ClientError {
    /// The name of the error that the operation failed with, if it is one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Api { code, .. } => Some(code),
            _ => None,
        }
    }
}

impl Client {
    /// A client of `endpoint`, such as `http://127.0.0.1:8080`. Connects to nothing yet.
    ///
    /// # Errors
    /// [`ClientError::Endpoint`] when it is not plain HTTP to a host.
    pub fn new(
        endpoint: &str,
        region: impl Into<String>,
        credentials: Credentials,
    ) -> Result<Self, ClientError> {
        let authority = authority(endpoint).ok_or_else(|| ClientError::Endpoint {
            endpoint: endpoint.to_owned(),
        })?;
        Ok(Self {
            authority,
            region: region.into(),
            credentials,
        })
    }

    /// Asks for an operation, such as `AppRunner.ListServices`, and waits for its output.
    ///
    /// Cancel-safe for the client; the server may do the operation all the same.
    ///
    /// # Errors
    /// [`ClientError::Api`] when the operation failed; the others when it could not be asked for or
    /// its answer not be had.
    pub async fn call<I: Serialize, O: DeserializeOwned>(
        &self,
        target: &str,
        input: &I,
    ) -> Result<O, ClientError> {
        let request = self.request(target, input)?;
        self.read(&self.send(request, ANSWER_TIMEOUT).await?)
    }

    /// Posts something to a path of Ekiden's own, with the access key as a login, and waits for what
    /// is answered in JSON. The answer to a refusal is a [`PlainFailure`]. Reads a file as it sends
    /// it, which may block for the disk.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when it was refused; the others when it could not be sent or its
    /// answer not be had.
    pub async fn post<O: DeserializeOwned>(
        &self,
        path: &str,
        content_type: &str,
        content: Content,
    ) -> Result<O, ClientError> {
        let body = match content {
            Content::Bytes(bytes) => Either::Left(Full::new(bytes)),
            Content::File(file) => Either::Right(FileBody::new(file).map_err(ClientError::File)?),
        };
        let request = Request::post(path)
            .header(http::header::HOST, &self.authority)
            .header(AUTHORIZATION, self.credentials.login())
            .header(CONTENT_TYPE, content_type)
            .body(body);
        let request = request.map_err(|_| ClientError::Path {
            path: path.to_owned(),
        })?;
        let response = self.send(request, PLAIN_TIMEOUT).await?;
        let status = response.status();
        let foreign = |source| self.foreign(status, source);
        if status.is_success() {
            return serde_json::from_slice(response.body()).map_err(foreign);
        }
        let PlainFailure { message } = serde_json::from_slice(response.body()).map_err(foreign)?;
        Err(ClientError::Refused { message, status })
    }

    async fn send<B>(
        &self,
        request: Request<B>,
        within: Duration,
    ) -> Result<Response<Bytes>, ClientError>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect(self.address())).await;
        let stream = connecting
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(|source| ClientError::Connect {
                authority: self.authority.clone(),
                source,
            })?;
        match timeout(within, exchange(stream, request)).await {
            Ok(answered) => answered.map_err(|source| ClientError::Broken {
                authority: self.authority.clone(),
                source,
            }),
            Err(_) => Err(ClientError::TimedOut {
                authority: self.authority.clone(),
            }),
        }
    }

    fn foreign(&self, status: StatusCode, source: serde_json::Error) -> ClientError {
        ClientError::NotTheApi {
            authority: self.authority.clone(),
            status,
            source,
        }
    }

    fn request<I: Serialize>(
        &self,
        target: &str,
        input: &I,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let body = serde_json::to_vec(input).map_err(|source| ClientError::Input {
            target: target.to_owned(),
            source,
        })?;
        let mut parts = self.unsigned(target).ok_or_else(|| ClientError::Target {
            target: target.to_owned(),
        })?;
        let service = api_of(target).signing_name;
        sign(
            &mut parts,
            &body,
            &self.credentials,
            &self.region,
            service,
            now(),
        )?;
        Ok(Request::from_parts(parts, Full::new(Bytes::from(body))))
    }

    fn unsigned(&self, target: &str) -> Option<Parts> {
        let request = Request::builder()
            .method(Method::POST)
            .uri("/")
            .header(http::header::HOST, &self.authority)
            .header(CONTENT_TYPE, json_of(api_of(target)).content_type())
            .header(TARGET, target)
            .body(());
        request.ok().map(|request| request.into_parts().0)
    }

    /// Where to connect: port 80 when the endpoint names none.
    fn address(&self) -> String {
        let has_port = self
            .authority
            .rsplit(']')
            .next()
            .is_some_and(|rest| rest.contains(':'));
        match has_port {
            true => self.authority.clone(),
            false => format!("{}:80", self.authority),
        }
    }

    fn read<O: DeserializeOwned>(&self, response: &Response<Bytes>) -> Result<O, ClientError> {
        let status = response.status();
        let foreign = |source| self.foreign(status, source);
        if status.is_success() {
            return serde_json::from_slice(response.body()).map_err(foreign);
        }
        let envelope: Envelope = serde_json::from_slice(response.body()).map_err(foreign)?;
        let request_id = response
            .headers()
            .get(REQUEST_ID)
            .and_then(|id| id.to_str().ok());
        Err(ClientError::Api {
            code: envelope.code(),
            message: envelope
                .message
                .or(envelope.lower_case_message)
                .unwrap_or_default(),
            status,
            request_id: request_id.map(str::to_owned),
        })
    }
}

/// The service that a target is of. One that nobody here knows is asked for as App Runner's.
fn api_of(target: &str) -> &'static Api {
    let prefix = target.rsplit_once('.').map(|(prefix, _)| prefix);
    APIS.iter()
        .find(|api| api.target_prefix.is_some() && api.target_prefix == prefix)
        .unwrap_or(&APP_RUNNER)
}

/// The version of JSON that a service is spoken to in.
fn json_of(api: &Api) -> Protocol {
    match api.protocols.contains(&Protocol::AwsJson11) {
        true => Protocol::AwsJson11,
        false => Protocol::AwsJson10,
    }
}

/// The body of an error.
#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "__type")]
    kind: String,
    #[serde(rename = "Message")]
    message: Option<String>,
    #[serde(rename = "message")]
    lower_case_message: Option<String>,
}

impl Envelope {
    /// The error's name without a name space before `#` or an address after `:`.
    fn code(&self) -> String {
        let bare = self
            .kind
            .rsplit_once('#')
            .map_or(self.kind.as_str(), |(_, bare)| bare);
        bare.split(':').next().unwrap_or_default().to_owned()
    }
}

async fn exchange<B>(
    stream: TcpStream,
    request: Request<B>,
) -> Result<Response<Bytes>, Box<dyn std::error::Error + Send + Sync>>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX)
            .collect()
            .await?
            .to_bytes();
        Ok(Response::from_parts(parts, body))
    };
    // The connection has to be driven while the answer is read. When it ends first, what it had is
    // already with the answer.
    tokio::pin!(answer);
    tokio::select! {
        answered = &mut answer => answered, // the connection is not needed any more
        ended = connection => match ended { // nothing but its end was waited for
            Ok(()) => answer.await,
            // Whoever refuses a body closes before all of it is sent; what is said then counts.
            Err(error) => answer.await.map_err(|_| error.into()),
        }
    }
}

fn authority(endpoint: &str) -> Option<String> {
    let uri: Uri = endpoint.parse().ok()?;
    let plain = uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/");
    let authority = uri
        .authority()
        .filter(|authority| !authority.as_str().contains('@'))?;
    (plain && uri.query().is_none()).then(|| authority.as_str().to_owned())
}

fn now() -> EpochSeconds {
    // A clock before 1970 makes a signature that is refused with the reason.
    EpochSeconds(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs(),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use hyper::{body::Incoming, server::conn::http1 as server, service::service_fn};
    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        apprunner::shapes::{ListServicesRequest, ListServicesResponse},
        error::ApiError,
        protocol::{self, APIS, RequestId},
        sigv4::{claim::Claim, credentials::SecretAccessKey},
    };

    fn credentials() -> Credentials {
        Credentials {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: SecretAccessKey::new("secret"),
            session_token: Some("token".to_owned()),
        }
    }

    /// Answers one connection's requests, and gives the client that is to ask.
    async fn serving<F>(answer: F) -> Client
    where
        F: Fn(&Parts, &Bytes) -> Response<Bytes> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = &answer;
            let service = service_fn(move |request: Request<Incoming>| async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                Ok::<_, hyper::Error>(answer(&parts, &body).map(Full::new))
            });
            let _ = server::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        Client::new(&endpoint, "eu-west-1", credentials()).unwrap()
    }

    async fn list(client: &Client) -> Result<ListServicesResponse, ClientError> {
        let input = ListServicesRequest {
            max_results: Some(5),
            next_token: None,
        };
        client.call("AppRunner.ListServices", &input).await
    }

    #[tokio::test]
    async fn request_is_routed_verified_and_answered() {
        let (seen, requests) = mpsc::channel();
        let client = serving(move |parts, body| {
            let route = protocol::route(parts, body, APIS).unwrap();
            let claim = Claim::read(parts, route.api.signing_name, now()).unwrap();
            assert_eq!(claim.session_token(), Some("token"));
            let key = claim.signing_key(&SecretAccessKey::new("secret"));
            let identity = claim.verify(&key, parts, body).unwrap();
            seen.send((route.operation.clone(), identity.region, body.clone()))
                .unwrap();
            let output = ListServicesResponse {
                next_token: Some("more".to_owned()),
                ..Default::default()
            };
            protocol::success(&route, RequestId::random(), &output)
        })
        .await;
        let output = list(&client).await.unwrap();
        assert_eq!(output.next_token.as_deref(), Some("more"));
        let want = (
            "ListServices".into(),
            "eu-west-1".into(),
            "{\"MaxResults\":5}".into(),
        );
        assert_eq!(requests.recv().unwrap(), want);
    }

    #[tokio::test]
    async fn failure_has_code_message_status_and_request_id() {
        let id = RequestId::random();
        let client = serving(move |_, _| {
            protocol::failure(Protocol::AwsJson10, id, &ApiError::invalid_state("not now"))
        })
        .await;
        match list(&client).await.unwrap_err() {
            ClientError::Api {
                code,
                message,
                status,
                request_id,
            } => {
                assert_eq!(
                    (code.as_str(), message.as_str()),
                    ("InvalidStateException", "not now")
                );
                assert_eq!((status.as_u16(), request_id), (400, Some(id.to_string())));
            }
            other => panic!("{other}"),
        }
    }

    #[tokio::test]
    async fn name_space_and_address_are_cut_from_the_code() {
        let client = serving(|_, _| {
            let body = r#"{"__type":"com.amazonaws#Throttling:http://x/","message":"slow"}"#;
            let mut response = Response::new(Bytes::from(body));
            *response.status_mut() = StatusCode::BAD_REQUEST;
            response
        })
        .await;
        let error = list(&client).await.unwrap_err();
        assert_eq!(
            (error.code(), error.to_string().as_str()),
            (Some("Throttling"), "slow")
        );
    }

    #[tokio::test]
    async fn answers_that_are_not_the_apis_are_told_apart() {
        let client = serving(|_, _| Response::new(Bytes::from("<html>"))).await;
        assert!(matches!(
            list(&client).await,
            Err(ClientError::NotTheApi { .. })
        ));

        let client = serving(|_, _| Response::new(vec![b' '; ANSWER_BYTES_MAX + 1].into())).await;
        assert!(matches!(
            list(&client).await,
            Err(ClientError::Broken { .. })
        ));

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let client = Client::new(&endpoint, "eu-west-1", credentials()).unwrap();
        let (answer, ()) = tokio::join!(list(&client), async { drop(listener.accept().await) });
        assert!(matches!(answer, Err(ClientError::Broken { .. })));

        drop(listener);
        assert!(matches!(
            list(&client).await,
            Err(ClientError::Connect { .. })
        ));
    }

    #[tokio::test]
    async fn plain_request_has_login_and_content() {
        let (seen, requests) = mpsc::channel();
        let client = serving(move |parts, body| {
            let login = parts.headers[AUTHORIZATION].to_str().unwrap().to_owned();
            let length = parts.headers["content-length"].to_str().unwrap().to_owned();
            seen.send((parts.uri.to_string(), login, length, body.len()))
                .unwrap();
            Response::new(Bytes::from(r#"{"Version":"v1"}"#))
        })
        .await;
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &[7; 300_000]).unwrap();
        let content = Content::File(file);
        let answer: crate::native::UploadResponse = client
            .post("/ekiden/uploads/r/web", "application/zstd", content)
            .await
            .unwrap();
        assert_eq!(answer.version, "v1");
        let (path, login, length, bytes) = requests.recv().unwrap();
        assert_eq!(
            (path.as_str(), length.as_str(), bytes),
            ("/ekiden/uploads/r/web", "300000", 300_000)
        );
        // AWS:AKIDEXAMPLE.secret.token
        assert_eq!(login, "Basic QVdTOkFLSURFWEFNUExFLnNlY3JldC50b2tlbg==");
    }

    #[tokio::test]
    async fn refused_plain_request_says_why() {
        let client = serving(|_, _| {
            let mut response = Response::new(Bytes::from(r#"{"Message":"too large"}"#));
            *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
            response
        })
        .await;
        let content = Content::Bytes(Bytes::from_static(b"{}"));
        let answer = client.post::<()>("/x", "application/json", content).await;
        let error = answer.unwrap_err();
        assert_eq!(error.to_string(), "too large");
        let wrong = client.post::<()>("a b", "x", Content::Bytes(Bytes::new()));
        assert!(matches!(wrong.await, Err(ClientError::Path { .. })));
    }

    #[test]
    fn endpoint_is_plain_http_to_a_host() {
        let address = |endpoint: &str| {
            Client::new(endpoint, "r", credentials())
                .ok()
                .map(|client| client.address())
        };
        assert_eq!(address("http://localhost").as_deref(), Some("localhost:80"));
        assert_eq!(
            address("http://127.0.0.1:8080/").as_deref(),
            Some("127.0.0.1:8080")
        );
        assert_eq!(address("http://[::1]:81").as_deref(), Some("[::1]:81"));
        assert_eq!(address("http://[::1]").as_deref(), Some("[::1]:80"));
        for other in [
            "",
            "localhost",
            "https://localhost",
            "http://a/b",
            "http://a/?q",
            "http://u@a",
        ] {
            assert_eq!(address(other), None, "{other}");
        }
    }
}
