//! Why the edge answered by itself, or gave a request up.

/// The published list of causes: in the header `x-ekiden-cause`, the access log and the counters.
///
/// Each has a status and a sentence that says what happened and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The request's head breaks HTTP's grammar, or could be read in two ways.
    BadRequest,
    /// The request's body breaks the chunked coding.
    BadBody,
    /// The request's head is longer, or has more fields, than allowed.
    HeadTooLarge,
    /// The request's target is longer than allowed.
    TargetTooLong,
    /// The request's head did not arrive in time.
    HeadTooSlow,
    /// The request's body paused for too long.
    BodyTooSlow,
    /// A protocol version that is not served.
    VersionNotSupported,
    /// A method that is not served: `CONNECT`.
    MethodNotSupported,
    /// A transfer coding other than `chunked`.
    TransferCodingNotSupported,
    /// A change of protocol that is not served.
    UpgradeNotSupported,
    /// An expectation other than `100-continue`.
    ExpectationFailed,
    /// No service has this host name.
    NoSuchHost,
    /// The edge has not been told its routes yet.
    NoRoutes,
    /// The service is paused.
    Paused,
    /// The service has never had a working deployment.
    NotDeployed,
    /// Too many requests wait for an instance of this service already.
    QueueFull,
    /// No instance had room for the request in time.
    NoCapacityInTime,
    /// No instance could be connected to in time.
    AppUnreachable,
    /// The application closed the connection before its response was complete.
    AppClosedEarly,
    /// The application's response breaks HTTP's grammar.
    AppBadResponse,
    /// The application was silent for too long.
    AppTimedOut,
    /// The client went away; never sent, only counted and logged.
    ClientLeft,
}

impl Cause {
    /// The name: lower case with underscores, stable across releases.
    pub fn name(self) -> &'static str {
        self.published().1
    }

    /// The status code of the answer. `ClientLeft` has 499, which is only ever logged.
    pub fn status(self) -> u16 {
        self.published().0
    }

    /// What happened and what to do, for whoever reads the answer.
    pub fn sentence(self) -> &'static str {
        self.published().2
    }

    /// Whether the same request may succeed in a moment.
    pub fn passes(self) -> bool {
        matches!(
            self,
            Self::NoRoutes | Self::QueueFull | Self::NoCapacityInTime
        )
    }

    fn published(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::BadRequest => (
                400,
                "bad_request",
                "The request is not well-formed HTTP/1.1; check the client.",
            ),
            Self::BadBody => (
                400,
                "bad_body",
                "The request body is not well-formed; check the client.",
            ),
            Self::HeadTooLarge => (
                431,
                "head_too_large",
                "The request headers are too large or too many; send fewer or smaller ones.",
            ),
            Self::TargetTooLong => (
                414,
                "target_too_long",
                "The request target is too long; send a shorter URL.",
            ),
            Self::HeadTooSlow => (
                408,
                "head_too_slow",
                "The request headers did not arrive in time; send it again.",
            ),
            Self::BodyTooSlow => (
                408,
                "body_too_slow",
                "The request body stopped arriving; send it again.",
            ),
            Self::VersionNotSupported => (
                505,
                "version_not_supported",
                "This protocol version is not served here; use HTTP/1.1.",
            ),
            Self::MethodNotSupported => (
                501,
                "method_not_supported",
                "This method is not served here; it is no forward proxy.",
            ),
            Self::TransferCodingNotSupported => (
                501,
                "transfer_coding_not_supported",
                "The only transfer coding served here is chunked.",
            ),
            Self::UpgradeNotSupported => (
                501,
                "upgrade_not_supported",
                "Changing the protocol of a connection is not served here; use plain HTTP.",
            ),
            Self::ExpectationFailed => (
                417,
                "expectation_failed",
                "The only expectation served here is 100-continue; leave the header out.",
            ),
            Self::NoSuchHost => (
                404,
                "no_such_host",
                "No service has this host name; compare it with the service's URL.",
            ),
            Self::NoRoutes => (
                503,
                "no_routes",
                "The front door is starting; send the request again.",
            ),
            Self::Paused => (
                503,
                "paused",
                "The service is paused; resume it to serve requests.",
            ),
            Self::NotDeployed => (
                503,
                "not_deployed",
                "The service has no working deployment yet; look at its last operation.",
            ),
            Self::QueueFull => (
                503,
                "queue_full",
                "Too many requests wait for this service already; send it again later.",
            ),
            Self::NoCapacityInTime => (
                503,
                "no_capacity_in_time",
                "No instance of the service had room in time; send the request again later.",
            ),
            Self::AppUnreachable => (
                502,
                "app_unreachable",
                "No instance of the service accepts connections; look at its logs.",
            ),
            Self::AppClosedEarly => (
                502,
                "app_closed_early",
                "The application closed the connection without an answer; look at its logs.",
            ),
            Self::AppBadResponse => (
                502,
                "app_bad_response",
                "The application's answer is not well-formed HTTP/1.1; look at its logs.",
            ),
            Self::AppTimedOut => (
                504,
                "app_timed_out",
                "The application did not answer in time; look at its logs.",
            ),
            Self::ClientLeft => (499, "client_left", "The client closed the connection."),
        }
    }
}
