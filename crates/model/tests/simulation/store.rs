//! What is durable: it survives every crash. A write happens whole or not at all.

use std::{collections::BTreeMap, rc::Rc};

use ekiden_model::{
    id::{OperationId, ServiceId},
    instance::RevisionNumber,
    revision::Revision,
    route::{Generation, Route},
    service::{Operation, Service},
};

/// The rows.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) services: BTreeMap<ServiceId, Service>,
    pub(crate) revisions: BTreeMap<(ServiceId, RevisionNumber), Rc<Revision>>,
    /// Operations that are over.
    pub(crate) ended: BTreeMap<OperationId, Operation>,
    pub(crate) routes: BTreeMap<ServiceId, Rc<Route>>,
    pub(crate) generation: Generation,
}

impl Store {
    pub(crate) fn put_service(
        &mut self,
        service: &Service,
        revision: Option<&Revision>,
        ended: Option<&Operation>,
    ) {
        self.services.insert(service.id, service.clone());
        if let Some(revision) = revision {
            self.revisions
                .insert((service.id, revision.number), Rc::new(revision.clone()));
        }
        if let Some(ended) = ended {
            self.ended.insert(ended.id, ended.clone());
        }
    }

    pub(crate) fn put_route(&mut self, service: ServiceId, route: Option<&Route>) -> Generation {
        self.generation = Generation(self.generation.0 + 1);
        match route {
            Some(route) => self.routes.insert(service, Rc::new(route.clone())),
            None => self.routes.remove(&service),
        };
        self.generation
    }

    pub(crate) fn revision(
        &self,
        service: ServiceId,
        number: Option<RevisionNumber>,
    ) -> Option<Rc<Revision>> {
        self.revisions.get(&(service, number?)).cloned()
    }
}
