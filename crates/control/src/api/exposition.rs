//! What Prometheus scrapes.

use ekiden_engine::Engine;
use ekiden_metrics::exposition::CONTENT_TYPE;
use ekiden_model::access::{Access, Decision, decide};
use ekiden_registry::Body;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;

use super::{Api, whole};
use crate::identity::Identities;

/// Where it is.
pub(super) const PATH: &str = "/metrics";

impl<E: Engine> Api<E> {
    /// All metrics, for whoever has an access key that may read every service: its id is the name, its secret
    /// the password (RFC 7617), as Prometheus' `basic_auth` sends them.
    pub(super) fn exposition(&self, request: &Request<Incoming>, source: &str) -> Response<Body> {
        if request.method() != Method::GET {
            return refuse(
                StatusCode::METHOD_NOT_ALLOWED,
                "GET is what is understood here\n",
            );
        }
        let Some(identity) = self.logged_in(request.headers()) else {
            let mut answer = refuse(
                StatusCode::UNAUTHORIZED,
                "an access key is wanted: its id as the name, its secret as the password\n",
            );
            let basic = HeaderValue::from_static("Basic realm=\"ekiden\"");
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
            return answer;
        };
        Identities::note_use(&identity.key, source);
        if decide(&identity.key.facts.role, Access::Read, None) == Decision::Deny {
            return refuse(
                StatusCode::FORBIDDEN,
                "this access key may not read metrics\n",
            );
        }
        let mut answer = Response::new(whole(self.metrics.exposition().into()));
        let form = HeaderValue::from_static(CONTENT_TYPE);
        answer.headers_mut().insert(header::CONTENT_TYPE, form);
        answer
    }
}

fn refuse(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut answer = Response::new(whole(text.as_bytes().into()));
    *answer.status_mut() = status;
    answer
}
