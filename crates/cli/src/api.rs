//! Calls of the API, as the commands make them.

use std::time::Duration;

use ekiden_aws::{
    apprunner::shapes::{
        self, DescribeServiceRequest, DescribeServiceResponse, ListServicesRequest,
        ListServicesResponse, Service, ServiceSummary,
    },
    client::{Client, ClientError, Content},
    native, protocol,
    sigv4::credentials::{Credentials, SecretAccessKey},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{endpoint::Endpoint, failure::Failure};

/// Services looked through for one of a certain name: more pages than this host can have.
const PAGES_MAX: usize = 10_000;

/// Services of one page: the most App Runner gives.
const PAGE_SERVICES: i32 = 20;

/// How often a command that waits asks again while the API is not to be had: half a minute in all.
pub const RETRIES_MAX: u32 = 60;

/// The time between two such attempts.
pub const RETRY_WAIT: Duration = Duration::from_millis(500);

/// One endpoint, ready to be called.
pub struct Api {
    client: Client,
    url: String,
    region: String,
    edge_port: Option<u16>,
}

/// Whether a failure may pass by itself: control may be starting anew. What it refused stays so.
pub fn may_pass(failure: &Failure) -> bool {
    match failure.error.downcast_ref::<ClientError>() {
        Some(ClientError::Api { status, .. }) => status.is_server_error(),
        Some(
            ClientError::Connect { .. } | ClientError::Broken { .. } | ClientError::TimedOut { .. },
        ) => true,
        _ => false,
    }
}

impl Api {
    /// For calls of `endpoint`.
    ///
    /// # Errors
    /// Its URL cannot be used.
    pub fn new(endpoint: Endpoint) -> Result<Self, Failure> {
        let (url, edge_port) = (endpoint.url.clone(), endpoint.edge_port);
        let region = endpoint.region.clone();
        let credentials = Credentials {
            access_key_id: endpoint.access_key_id,
            secret_access_key: SecretAccessKey::new(endpoint.secret_access_key),
            session_token: endpoint.session_token,
        };
        let client = Client::new(&endpoint.url, endpoint.region, credentials)?;
        Ok(Self {
            client,
            url,
            region,
            edge_port,
        })
    }

    /// An operation of App Runner.
    ///
    /// # Errors
    /// What the endpoint answered, or that it cannot be reached.
    pub async fn call<I: Serialize, O: DeserializeOwned>(
        &self,
        operation: &str,
        input: &I,
    ) -> Result<O, Failure> {
        self.send(&format!("{}.{operation}", shapes::TARGET_PREFIX), input)
            .await
    }

    /// An operation of Ekiden's own.
    ///
    /// # Errors
    /// As [`Api::call`].
    pub async fn native<I: Serialize, O: DeserializeOwned>(
        &self,
        operation: &str,
        input: &I,
    ) -> Result<O, Failure> {
        self.send(&format!("{}.{operation}", native::TARGET_PREFIX), input)
            .await
    }

    /// An operation of a companion.
    ///
    /// # Errors
    /// As [`Api::call`].
    pub async fn of<I: Serialize, O: DeserializeOwned>(
        &self,
        companion: &protocol::Api,
        operation: &str,
        input: &I,
    ) -> Result<O, Failure> {
        let prefix = companion.target_prefix.unwrap_or(companion.name);
        self.send(&format!("{prefix}.{operation}"), input).await
    }

    /// What is no operation but a path, such as an upload.
    ///
    /// # Errors
    /// As [`Api::call`].
    pub async fn post<O: DeserializeOwned>(
        &self,
        path: &str,
        content_type: &str,
        content: Content,
    ) -> Result<O, Failure> {
        self.client
            .post(path, content_type, content)
            .await
            .map_err(|error| self.explain(error))
    }

    /// The region that is asked.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// A path of the endpoint.
    pub fn url_of(&self, path: &str) -> String {
        format!("{}{path}", self.url.trim_end_matches('/'))
    }

    /// Every service of the region.
    ///
    /// # Errors
    /// As [`Api::call`].
    pub async fn services(&self) -> Result<Vec<ServiceSummary>, Failure> {
        let mut services = Vec::new();
        let mut request = ListServicesRequest {
            max_results: Some(PAGE_SERVICES),
            ..Default::default()
        };
        for _ in 0..PAGES_MAX {
            let page: ListServicesResponse = self.call("ListServices", &request).await?;
            services.extend(page.service_summary_list.unwrap_or_default());
            request.next_token = page.next_token;
            if request.next_token.is_none() {
                break;
            }
        }
        Ok(services)
    }

    /// The service of a name, or of an ARN, if there is one.
    ///
    /// # Errors
    /// As [`Api::call`].
    pub async fn find(&self, name: &str) -> Result<Option<ServiceSummary>, Failure> {
        let services = self.services().await?;
        let same = |service: &ServiceSummary| {
            service.service_name.as_deref() == Some(name)
                || service.service_arn.as_deref() == Some(name)
        };
        Ok(services.into_iter().find(same))
    }

    /// The ARN of the service of a name.
    ///
    /// # Errors
    /// As [`Api::call`], and there is none.
    pub async fn arn(&self, name: &str) -> Result<String, Failure> {
        let found = self
            .find(name)
            .await?
            .and_then(|service| service.service_arn);
        found.ok_or_else(|| {
            Failure::new(format!("there is no service \"{name}\""))
                .hint("`ekiden ps` lists the services")
        })
    }

    /// Where a service is to be asked: the front door speaks HTTP, and the host name leads to it
    /// where `*.localhost` or DNS does.
    pub fn service_url(&self, host: &str) -> String {
        match self.edge_port {
            None | Some(80) => format!("http://{host}"),
            Some(port) => format!("http://{host}:{port}"),
        }
    }

    /// The whole service.
    ///
    /// # Errors
    /// As [`Api::call`].
    pub async fn service(&self, arn: &str) -> Result<Service, Failure> {
        let request = DescribeServiceRequest {
            service_arn: Some(arn.to_owned()),
        };
        let response: DescribeServiceResponse = self.call("DescribeService", &request).await?;
        response
            .service
            .ok_or_else(|| Failure::new("the endpoint answered without a service"))
    }

    async fn send<I: Serialize, O: DeserializeOwned>(
        &self,
        target: &str,
        input: &I,
    ) -> Result<O, Failure> {
        self.client
            .call(target, input)
            .await
            .map_err(|error| self.explain(error))
    }

    fn explain(&self, error: ClientError) -> Failure {
        let unreachable = matches!(error, ClientError::Connect { .. });
        let failure = Failure::from(error);
        match unreachable {
            true => failure.hint(format!(
                "is Ekiden running at {}? `ekiden status` on its host says so",
                self.url
            )),
            false => failure,
        }
    }
}
