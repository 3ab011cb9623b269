//! VPC ingress connections: the names under which a private service is to be reached.
//!
//! A connection is made, changed and deleted in two steps: a request records what is to become of
//! it, and [`Ingress::settle`] carries that out. What is recorded is in the store, so a control
//! plane that was stopped in between goes on where it was. There is nothing on a host that could
//! refuse one: the `FAILED_*` states of App Runner do not come about here.

use std::{sync::Arc, time::Duration};

use ekiden_model::{
    id::{ResourceId, ServiceId},
    name::ServiceName,
    time::Timestamp,
};
use ekiden_store::{
    Store,
    resources::{ChangeError, Filter, Kind, Numbering, Resource},
};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{clock, worker::Chain};

/// How long until what the store did not let through is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What a connection is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct VpcIngress {
    /// The service it leads to.
    pub(crate) service: ServiceId,
    /// That service's name.
    pub(crate) service_name: ServiceName,
    /// Its owner's VPC.
    pub(crate) vpc_id: String,
    /// That VPC's endpoint.
    pub(crate) vpc_endpoint_id: String,
    /// What makes its host name its own.
    pub(crate) host_label: String,
    /// Where it is.
    pub(crate) state: State,
    /// When its deletion was asked for.
    pub(crate) deletion_asked_at: Option<Timestamp>,
}

/// Where a connection is (specification, section 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    PendingCreation,
    Available,
    PendingUpdate,
    PendingDeletion,
    Deleted,
}

impl State {
    /// In App Runner's words.
    pub(crate) const fn wire(self) -> &'static str {
        match self {
            Self::PendingCreation => "PENDING_CREATION",
            Self::Available => "AVAILABLE",
            Self::PendingUpdate => "PENDING_UPDATE",
            Self::PendingDeletion => "PENDING_DELETION",
            Self::Deleted => "DELETED",
        }
    }

    /// What becomes of it by itself.
    const fn settled(self) -> Self {
        match self {
            Self::PendingCreation | Self::Available | Self::PendingUpdate => Self::Available,
            Self::PendingDeletion | Self::Deleted => Self::Deleted,
        }
    }
}

impl Kind for VpcIngress {
    const NAME: &'static str = "vpcingressconnection";
    const NUMBERING: Numbering = Numbering::Single;

    fn is_pending(&self) -> bool {
        self.state != self.state.settled()
    }
}

/// All connections, and the task that settles them.
#[derive(Debug)]
pub(crate) struct Ingress {
    store: Arc<Store>,
    changed: Notify,
}

impl Ingress {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            changed: Notify::new(),
        }
    }

    /// Says that something was recorded that is to be carried out.
    pub(crate) fn changed(&self) {
        self.changed.notify_one();
    }

    /// Carries out what is recorded, until told to stop.
    pub(crate) async fn settle(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let left = match self.settle_all().await {
                Ok(()) => false,
                Err(error) => {
                    warn!(error = %Chain(&error), "VPC ingress connections could not be settled");
                    true
                }
            };
            tokio::select! {
                () = stop.cancelled() => return, // cancel-safe: nothing is in flight here
                () = self.changed.notified() => {} // cancel-safe per its docs
                () = tokio::time::sleep(RETRY), if left => {} // a timer
            }
        }
    }

    async fn settle_all(&self) -> Result<(), ekiden_store::StoreError> {
        for (region, id) in self.store.pending_resources::<VpcIngress>().await? {
            self.settle_one(&region, id).await?;
        }
        Ok(())
    }

    async fn settle_one(
        &self,
        region: &str,
        id: ResourceId,
    ) -> Result<(), ekiden_store::StoreError> {
        let settle = |found: &mut Resource<VpcIngress>| {
            found.record.state = found.record.state.settled();
            if found.record.state == State::Deleted {
                found.deleted_at.get_or_insert_with(clock::now);
            }
            Ok::<(), std::convert::Infallible>(())
        };
        match self.store.change_resource(region, id, settle).await {
            Ok(settled) => {
                info!(name = settled.name, status = settled.record.state.wire(),
                    service = %settled.record.service_name, "VPC ingress connection settled");
                Ok(())
            }
            Err(ChangeError::Unknown) => Ok(()),
            Err(ChangeError::Refused(never)) => match never {},
            Err(ChangeError::Store(error)) => Err(error),
        }
    }

    /// A service's connections, those that are being made and deleted included.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn of_service(
        &self,
        region: &str,
        service: ServiceId,
    ) -> Result<Vec<Resource<VpcIngress>>, ekiden_store::StoreError> {
        let filter = Filter {
            service: Some(service),
            ..Filter::default()
        };
        self.store.resources(region, filter, None, u32::MAX).await
    }
}
