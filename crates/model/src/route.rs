//! What the edge is told: which host names lead to which instances.
//!
//! The control plane publishes, the edge serves. Each publication has a generation, a number that
//! only grows; the edge acknowledges a generation when every one of its workers serves by it.
//! Only then may an instance that is no longer in the table begin to drain, and it may be stopped
//! when the edge reports it idle.
//!
//! Certificates come the same way, beside the table and with a generation of their own, so that
//! neither waits for the other.

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    histogram::Histogram,
    id::{CertificateId, InstanceId, ServiceId},
    ingress::Ingress,
    instance::RevisionNumber,
    name::ServiceName,
    request_counts::RequestCounts,
    span::RequestSpan,
    time::Timestamp,
};

/// The number of a publication; a later one has a greater number, across restarts too.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

/// One service as the edge serves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Which service.
    pub service: ServiceId,
    /// Its name, for the access log and for answers that people read.
    pub service_name: ServiceName,
    /// Host names that lead to it: lower case, no port, no trailing dot. `*.example.com` is for
    /// every name one label below that is nobody's own. A private
    /// service has none.
    pub hosts: Vec<String>,
    /// The same for a private service: these lead to it on private listeners only. An edge that
    /// does not know them serves them nowhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub private_hosts: Vec<String>,
    /// What to do with a request.
    pub state: RouteState,
    /// Requests that one instance may hold at once; at least 1.
    pub concurrency_per_instance: u32,
    /// Who may serve. May be empty: then requests wait, bounded in number and time.
    pub upstreams: Vec<Upstream>,
    /// How its front door is set. In a box: most routes have none of it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ingress: Box<Ingress>,
}

fn is_default(ingress: &Ingress) -> bool {
    ingress.is_default()
}

/// What the edge does with a request for a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteState {
    /// Forward it; wait for an instance if there is none.
    Serving,
    /// Refuse it: the service is paused.
    Paused,
    /// Refuse it: the service has never had a working deployment.
    NotDeployed,
}

/// One instance, as somewhere to send requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// Which instance.
    pub instance: InstanceId,
    /// Its revision, for the access log.
    pub revision: RevisionNumber,
    /// Where it listens.
    pub address: SocketAddr,
}

/// The number of a message with certificates. It grows within one connection and means nothing
/// beyond it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct CertificateGeneration(pub u64);

/// A private key in PEM (PKCS #8). Not shown by `Debug`, wiped when it is dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PrivateKeyPem(pub Zeroizing<String>);

impl fmt::Debug for PrivateKeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKeyPem")
    }
}

/// A certificate as the edge presents it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeCertificate {
    /// Which; what it stands for never changes.
    pub id: CertificateId,
    /// The names it is presented for: lower case, no trailing dot, and `*.example.com` for every
    /// name one label below that has none of its own. Control has decided whose each name is: no
    /// other certificate has it.
    pub names: Vec<String>,
    /// The certificate and those that vouch for it, in PEM, its own first.
    pub chain: String,
    /// Its key.
    pub key: PrivateKeyPem,
}

/// What proves to an ACME server (RFC 8555) that a name is served here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "challenge")]
pub enum Challenge {
    /// Answered on a plain listener (RFC 8555, section 8.3).
    Http01 {
        /// The name that is proved.
        host: String,
        /// The last segment of the path that is asked for.
        token: String,
        /// The answer.
        authorization: String,
    },
    /// Answered by a handshake for the protocol `acme-tls/1` (RFC 8737).
    TlsAlpn01 {
        /// The name that is proved.
        host: String,
        /// The certificate to present, in PEM.
        chain: String,
        /// Its key.
        key: PrivateKeyPem,
    },
}

/// Requests of one service that are over, or of none, and what is under way.
///
/// Since version 5 with all that follows `counts`; what an older edge tells is as if it were none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceCounts {
    /// Which service; `None` for requests that led to none.
    pub service: Option<ServiceId>,
    /// How many, and what became of them.
    pub counts: RequestCounts,
    /// A moment of the interval that they were counted in, half a second before its end; absent
    /// from an older edge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// How long they took, in microseconds: from when the head was read to when the last byte of
    /// the response was handed on, or the edge answered or gave up. Of a change of protocol, to its
    /// answer. One for each request that is counted, but for those that could not be read.
    #[serde(default, skip_serializing_if = "Histogram::is_empty", with = "compact")]
    pub latency: Histogram,
    /// How long they waited for an instance with room, in microseconds: of those that waited.
    #[serde(default, skip_serializing_if = "Histogram::is_empty", with = "compact")]
    pub queued: Histogram,
    /// The same of those whose service had no instance when they began to wait.
    #[serde(default, skip_serializing_if = "Histogram::is_empty", with = "compact")]
    pub cold: Histogram,
    /// The most requests that instances held at once.
    #[serde(default)]
    pub concurrency_max: u32,
    /// Requests that instances held when the interval ended.
    #[serde(default)]
    pub in_flight: u32,
}

/// A histogram as a list of numbers: sum, minimum, maximum, and a bucket and its count in turn.
/// Shorter than its usual form, and readable where serde buffers: a message that is told apart by a
/// member cannot have maps whose keys are numbers.
mod compact {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::histogram::Histogram;

    pub(super) fn serialize<S: Serializer>(
        histogram: &Histogram,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let buckets = histogram.buckets.iter();
        let pairs = buckets.flat_map(|(bucket, count)| [u64::from(*bucket), *count]);
        let numbers = [histogram.sum, histogram.min, histogram.max];
        serializer.collect_seq(numbers.into_iter().chain(pairs))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Histogram, D::Error> {
        let numbers = Vec::<u64>::deserialize(deserializer)?;
        let broken = || D::Error::custom("a histogram has to have three numbers, and then pairs");
        let [sum, min, max, pairs @ ..] = numbers.as_slice() else {
            return Err(broken());
        };
        let mut histogram = Histogram {
            sum: *sum,
            min: *min,
            max: *max,
            ..Histogram::default()
        };
        for pair in pairs.chunks(2) {
            let &[bucket, count] = pair else {
                return Err(broken());
            };
            let bucket = u16::try_from(bucket).map_err(|_| broken())?;
            histogram.count = histogram.count.saturating_add(count);
            histogram.buckets.insert(bucket, count);
        }
        Ok(histogram)
    }
}

/// How requests are traced. Before control has said, nothing is exported and every new trace is
/// marked as sampled: so an application that records what its caller records goes on recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracing {
    /// So many of a million new traces are sampled.
    pub sample_per_million: u32,
    /// Whether control wants the spans of requests that are sampled.
    pub export: bool,
    /// Whether a trace that a client began is sampled when the client says so. Otherwise it is
    /// as a new trace is.
    pub client_decides: bool,
}

impl Default for Tracing {
    fn default() -> Self {
        Self {
            sample_per_million: 1_000_000,
            export: false,
            client_decides: true,
        }
    }
}

/// Certificates that are not presented any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Removed {
    /// These.
    These(Vec<CertificateId>),
    /// Every one but these and those that come with the message.
    AllBut(Vec<CertificateId>),
}

/// The first version of the protocol that has certificates.
pub const ROUTE_PROTOCOL_CERTIFICATES: u32 = 2;

/// The first version of the protocol that has counts of requests.
pub const ROUTE_PROTOCOL_COUNTS: u32 = 3;

/// The first version of the protocol by which edges tell of demand.
pub const ROUTE_PROTOCOL_DEMAND: u32 = 4;

/// The first version of the protocol that has distributions beside counts, and traces.
pub const ROUTE_PROTOCOL_TRACING: u32 = 5;

/// The version of the messages below; it grows when an older peer could not read them.
pub const ROUTE_PROTOCOL_VERSION: u32 = 5;

/// Spans in one [`FromEdge::Spans`].
pub const SPANS_PER_MESSAGE_MAX: usize = 512;

/// The first frame in each direction, sent without waiting for the other's. Both then speak the
/// lower of the two versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteHello {
    /// The newest version that the sender speaks; at least 1.
    pub version: u32,
}

/// Control to edge, over the edge's connection to control.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "message")]
pub enum ToEdge {
    /// The whole table; always the first message on a connection. What is not in it is gone.
    Table {
        /// The table's generation.
        generation: Generation,
        /// Every route.
        routes: Vec<Route>,
    },
    /// What changed since the message before it on this connection.
    Change {
        /// The table's generation after the change.
        generation: Generation,
        /// New and changed routes, whole.
        set: Vec<Route>,
        /// Services that have no route any more.
        remove: Vec<ServiceId>,
    },
    /// What changed about certificates. Since version 2; the first on a connection, which may be
    /// any time after the table, tells by [`Removed::AllBut`] what is not there any more.
    Certificates {
        /// The generation after the change.
        generation: CertificateGeneration,
        /// New certificates.
        set: Vec<EdgeCertificate>,
        /// Certificates that are not presented any more.
        remove: Removed,
        /// What is presented to clients that name no host.
        default: Option<CertificateId>,
        /// Every challenge there is.
        challenges: Vec<Challenge>,
        /// Patterns of names for which a certificate is wanted when a client asks for one:
        /// `*.example.com` is for every name one label below.
        on_demand: Vec<String>,
    },
    /// How requests are traced from now on. Since version 5; any time after the table, and it
    /// holds until there is another, across connections.
    Tracing(Tracing),
}

/// Edge to control.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "message")]
pub enum FromEdge {
    /// Sent when every worker serves by `generation`, and again whenever `draining` changes.
    Serving {
        /// The newest generation that every worker serves by.
        generation: Generation,
        /// Instances that this table no longer has but that still hold requests from before.
        draining: Vec<InstanceId>,
    },
    /// Sent when every worker presents what that message brought, to every handshake that begins.
    /// Since version 2, and only after [`ToEdge::Certificates`].
    Presenting {
        /// The newest generation presented.
        generation: CertificateGeneration,
        /// Certificates that cannot be used, and are not presented.
        unusable: Vec<CertificateId>,
    },
    /// A client waits for a certificate of a name that matches a pattern and has none. Since
    /// version 2.
    CertificateWanted {
        /// The name, in lower case.
        name: String,
    },
    /// Requests that are over and that this edge has not told of before. Since version 3; about
    /// once a second while there are any, and when the edge ends.
    Counts {
        /// Only services that had some, or have some under way.
        counts: Vec<ServiceCounts>,
    },
    /// Requests that are over and were sampled. Since version 5, about once a second, and only when
    /// [`Tracing::export`] is set.
    Spans {
        /// At most [`SPANS_PER_MESSAGE_MAX`].
        spans: Vec<RequestSpan>,
        /// How many more there were that nothing is known of any more, since this was last told.
        lost: u64,
    },
    /// What is asked of services now, pushed when it changes. Since version 4; the first on a
    /// connection, which comes before any table need be there, tells of every service.
    Demand {
        /// Services that are not named are asked for nothing; otherwise they are as before.
        whole: bool,
        /// Those that changed.
        services: Vec<ServiceDemand>,
    },
}

/// What an edge has of one service's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceDemand {
    /// Which service.
    pub service: ServiceId,
    /// Requests that instances hold; at least 1 when there was one since it was last told.
    pub in_flight: u32,
    /// Requests that wait for an instance with room.
    pub queued: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> ServiceCounts {
        let mut counts = ServiceCounts {
            service: Some(ServiceId::from_bytes([1; 16])),
            at: Some(Timestamp::from_millis(59_500)),
            concurrency_max: 3,
            in_flight: 1,
            ..ServiceCounts::default()
        };
        counts.counts.answered[1] = 4;
        for value in [7, 7, 1_000_000, u64::MAX] {
            counts.latency.record(value);
        }
        counts.cold.record(0);
        counts
    }

    #[test]
    fn counts_read_back_as_they_were_told() {
        let message = FromEdge::Counts {
            counts: vec![counts(), ServiceCounts::default()],
        };
        let text = serde_json::to_string(&message).unwrap();
        assert_eq!(serde_json::from_str::<FromEdge>(&text).unwrap(), message);
    }

    #[test]
    fn counts_of_an_edge_that_knows_no_distributions_are_read() {
        let text = r#"{"service":null,"counts":{"answered":[0,2,0,0,0],"unanswered":0}}"#;
        let counts: ServiceCounts = serde_json::from_str(text).unwrap();
        assert_eq!(counts.counts.requests(), 2);
        assert_eq!((counts.at, counts.latency.count), (None, 0));
    }

    #[test]
    fn a_histogram_that_is_cut_or_has_no_such_bucket_is_refused() {
        for latency in ["[]", "[1,2]", "[1,2,3,4]", "[1,2,3,65536,1]", "{}"] {
            let text = format!(
                r#"{{"service":null,"counts":{{"answered":[0,0,0,0,0],"unanswered":0}},"latency":{latency}}}"#
            );
            assert!(
                serde_json::from_str::<ServiceCounts>(&text).is_err(),
                "{latency}"
            );
        }
    }

    #[test]
    fn how_requests_are_traced_is_a_message_like_the_others() {
        let message = ToEdge::Tracing(Tracing::default());
        let text = serde_json::to_string(&message).unwrap();
        assert_eq!(
            text,
            r#"{"message":"tracing","sample_per_million":1000000,"export":false,"client_decides":true}"#
        );
        assert_eq!(serde_json::from_str::<ToEdge>(&text).unwrap(), message);
    }
}
