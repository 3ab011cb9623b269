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
    id::{CertificateId, InstanceId, ServiceId},
    ingress::Ingress,
    instance::RevisionNumber,
    name::ServiceName,
    request_counts::RequestCounts,
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

/// Requests of one service that are over, or of none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceCounts {
    /// Which service; `None` for requests that led to none.
    pub service: Option<ServiceId>,
    /// How many, and what became of them.
    pub counts: RequestCounts,
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

/// The version of the messages below; it grows when an older peer could not read them.
pub const ROUTE_PROTOCOL_VERSION: u32 = 4;

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
        /// Only services that had some.
        counts: Vec<ServiceCounts>,
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
