//! Why the edge answered by itself, or gave a request up.

/// The published causes, one after another: what each is for, its status, its name, and the
/// sentence that says what happened and what to do.
macro_rules! causes {
    ($($(#[$doc:meta])* $variant:ident = $status:literal $name:literal $sentence:literal;)*) => {
        /// The published list of causes: in the header `x-ekiden-cause`, the access log and the
        /// counters.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Cause {
            $($(#[$doc])* $variant,)*
        }

        impl Cause {
            /// Every cause, in the order of the list.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            const fn published(self) -> (u16, &'static str, &'static str) {
                match self {
                    $(Self::$variant => ($status, $name, $sentence),)*
                }
            }
        }
    };
}

causes! {
    /// The request's head breaks HTTP's grammar, or could be read in two ways.
    BadRequest = 400 "bad_request"
        "The request is not well-formed HTTP/1.1; check the client.";
    /// The request's body breaks the chunked coding.
    BadBody = 400 "bad_body"
        "The request body is not well-formed; check the client.";
    /// The request's head is longer, or has more fields, than allowed.
    HeadTooLarge = 431 "head_too_large"
        "The request headers are too large or too many; send fewer or smaller ones.";
    /// The request's target is longer than allowed.
    TargetTooLong = 414 "target_too_long"
        "The request target is too long; send a shorter URL.";
    /// The request's head did not arrive in time.
    HeadTooSlow = 408 "head_too_slow"
        "The request headers did not arrive in time; send it again.";
    /// The request's body paused for too long.
    BodyTooSlow = 408 "body_too_slow"
        "The request body stopped arriving; send it again.";
    /// The client has too many connections.
    TooManyConnections = 429 "too_many_connections"
        "Your address has too many connections; close some, or use them for more than one request.";
    /// A protocol version that is not served.
    VersionNotSupported = 505 "version_not_supported"
        "This protocol version is not served here; use HTTP/1.1.";
    /// A method that is not served: `CONNECT`.
    MethodNotSupported = 501 "method_not_supported"
        "This method is not served here; it is no forward proxy.";
    /// A transfer coding other than `chunked`.
    TransferCodingNotSupported = 501 "transfer_coding_not_supported"
        "The only transfer coding served here is chunked.";
    /// A change of protocol that is not served.
    UpgradeNotSupported = 501 "upgrade_not_supported"
        "Changing the protocol of a connection is not served here; use plain HTTP.";
    /// An expectation other than `100-continue`.
    ExpectationFailed = 417 "expectation_failed"
        "The only expectation served here is 100-continue; leave the header out.";
    /// No service has this host name.
    NoSuchHost = 404 "no_such_host"
        "No service has this host name; compare it with the service's URL.";
    /// The edge has not been told its routes yet.
    NoRoutes = 503 "no_routes"
        "The front door is starting; send the request again.";
    /// The service is paused.
    Paused = 503 "paused"
        "The service is paused; resume it to serve requests.";
    /// The service has never had a working deployment.
    NotDeployed = 503 "not_deployed"
        "The service has no working deployment yet; look at its last operation.";
    /// The service does not let this client's address in.
    AddressDenied = 403 "address_denied"
        "The service does not let your address in; ask its owner.";
    /// The service does not serve this path to anybody.
    PathDenied = 403 "path_denied"
        "This path of the service is not open; ask its owner.";
    /// The service asks for a user and a password, and they were absent or wrong.
    LoginRequired = 401 "login_required"
        "A user name and a password are needed; send them by basic authentication.";
    /// The service is private, and this is not a private listener.
    NotPublic = 404 "not_public"
        "The service is not open to the public; use its private address.";
    /// Plain HTTP is sent to HTTPS.
    HttpsRequired = 308 "https_required"
        "The service is served over HTTPS; follow the redirect.";
    /// The service is served under another host name.
    OtherHost = 308 "other_host"
        "The service is served under another name; follow the redirect.";
    /// Too many requests wait for an instance of this service already.
    QueueFull = 503 "queue_full"
        "Too many requests wait for this service already; send it again later.";
    /// No instance had room for the request in time.
    NoCapacityInTime = 503 "no_capacity_in_time"
        "No instance of the service had room in time; send the request again later.";
    /// No instance could be connected to in time.
    AppUnreachable = 502 "app_unreachable"
        "No instance of the service accepts connections; look at its logs.";
    /// The application closed the connection before its response was complete.
    AppClosedEarly = 502 "app_closed_early"
        "The application closed the connection without an answer; look at its logs.";
    /// The application's response breaks HTTP's grammar.
    AppBadResponse = 502 "app_bad_response"
        "The application's answer is not well-formed HTTP/1.1; look at its logs.";
    /// The application was silent for too long.
    AppTimedOut = 504 "app_timed_out"
        "The application did not answer in time; look at its logs.";
    /// The request was not over in the time that the service gives one.
    RequestTimedOut = 504 "request_timed_out"
        "The request took longer than the service allows; ask for less at once.";
    /// The client went away; never sent, only counted and logged.
    ClientLeft = 499 "client_left"
        "The client closed the connection.";
}

/// How many causes there are.
pub const CAUSES: usize = Cause::ALL.len();

impl Cause {
    /// The name: lower case with underscores, stable across releases.
    pub const fn name(self) -> &'static str {
        self.published().1
    }

    /// The status code of the answer. `ClientLeft` has 499, which is only ever logged. A redirect
    /// may have another, by the service's settings.
    pub const fn status(self) -> u16 {
        self.published().0
    }

    /// What happened and what to do, for whoever reads the answer.
    pub const fn sentence(self) -> &'static str {
        self.published().2
    }

    /// Whether the same request may succeed in a moment.
    pub const fn passes(self) -> bool {
        matches!(
            self,
            Self::NoRoutes | Self::QueueFull | Self::NoCapacityInTime | Self::TooManyConnections
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_can_be_for_exactly_these_causes() {
        let names: Vec<_> = Cause::ALL.iter().map(|cause| cause.name()).collect();
        assert_eq!(names, ekiden_model::ingress::CAUSES);
    }

    /// docs/ingress.md has the list for those who read it.
    #[test]
    fn the_documented_causes_are_these() {
        let documented = include_str!("../../../docs/ingress.md");
        let table: String = Cause::ALL
            .iter()
            .map(|cause| {
                format!(
                    "| `{}` | {} | {} |\n",
                    cause.name(),
                    cause.status(),
                    cause.sentence()
                )
            })
            .collect();
        assert!(documented.contains(&table), "the table has to be:\n{table}");
    }
}
