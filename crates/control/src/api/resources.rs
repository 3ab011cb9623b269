//! What the operations on all kinds of resources beside services have in common: ARNs, look-up, and
//! how it is said that something is not there or that there is no room for more.

use ekiden_aws::{
    arn::{self, Arn, Revised, Revision, Single},
    epoch_seconds::EpochSeconds,
    error::ApiError,
};
use ekiden_engine::Engine;
use ekiden_model::{id::ResourceId, time::Timestamp};
use ekiden_store::resources::{ChangeError, CreateError, Kind, Resource, Which};

use serde::{Serialize, de::DeserializeOwned};

use super::{Api, Caller, page::Page, store_error};
use crate::clock;

/// A place in a list of resources: a name and a revision.
pub(super) type Place = (String, u32);

/// A kind as the API speaks of it.
pub(super) trait ApiKind: Kind {
    /// What messages call one, such as `VPC connector`.
    const NOUN: &'static str;

    /// One as its ARN names it.
    fn to_arn(revision: Revision) -> arn::Resource;

    /// How an ARN names one; `None` when it names something of another kind.
    fn named(resource: &arn::Resource) -> Option<Which<'_>>;
}

impl<E: Engine> Api<E> {
    /// The page of a list that a request asks for.
    ///
    /// # Errors
    /// `InvalidRequestException`: its token is none of this list.
    pub(super) fn page<P: Serialize + DeserializeOwned>(
        &self,
        operation: &str,
        caller: &Caller,
        request: &impl Serialize,
    ) -> Result<Page<P>, ApiError> {
        Page::asked(&self.keyring, operation, &caller.region, request)
    }

    /// The whole ARN of a resource.
    pub(super) fn resource_arn<K: ApiKind>(&self, region: &str, resource: &Resource<K>) -> String {
        Arn {
            region: region.to_owned(),
            account: self.config.account_id.clone(),
            resource: K::to_arn(Revision {
                name: resource.name.clone(),
                revision: resource.revision,
                id: resource.id.to_string(),
            }),
        }
        .to_string()
    }

    /// Finds a resource by its ARN, whole or, where its kind allows that, in part. One that was
    /// deleted is found while it is remembered, unless its ARN has no number.
    ///
    /// # Errors
    /// `InvalidRequestException` when the ARN is none of this kind, `ResourceNotFoundException` when
    /// it names nothing here.
    pub(super) async fn look_up<K: ApiKind>(
        &self,
        caller: &Caller,
        text: Option<&str>,
    ) -> Result<Resource<K>, ApiError> {
        let text = text.unwrap_or_default();
        let arn: Arn = text.parse().map_err(|_| invalid_arn(K::NOUN, text))?;
        let which = K::named(&arn.resource).ok_or_else(|| invalid_arn(K::NOUN, text))?;
        if !self.is_here(caller, &arn) {
            return Err(not_found(K::NOUN, text));
        }
        let whole = matches!(which, Which::Id(_));
        let found = self
            .store
            .resource(&caller.region, which)
            .await
            .map_err(|error| store_error(&error))?;
        found
            // An id is unique; the name and the number before it must be its own.
            .filter(|found| !whole || self.resource_arn(&caller.region, found) == text)
            .ok_or_else(|| not_found(K::NOUN, text))
    }

    /// As [`Api::look_up`], for whoever can do nothing with a deleted one unless it is named by its
    /// whole ARN.
    pub(super) async fn look_up_shown<K: ApiKind>(
        &self,
        caller: &Caller,
        text: Option<&str>,
    ) -> Result<Resource<K>, ApiError> {
        let found: Resource<K> = self.look_up(caller, text).await?;
        let arn = self.resource_arn(&caller.region, &found);
        match found.deleted_at.is_some() && text != Some(arn.as_str()) {
            true => Err(not_found(K::NOUN, text.unwrap_or_default())),
            false => Ok(found),
        }
    }

    /// A resource that a service is to use.
    ///
    /// # Errors
    /// `InvalidRequestException` when the ARN names nothing here, or what was deleted.
    pub(super) async fn resolve<K: ApiKind>(
        &self,
        caller: &Caller,
        text: &str,
    ) -> Result<Resource<K>, ApiError> {
        let client_error = |error: ApiError| match error.status().is_server_error() {
            true => error,
            false => invalid_arn(K::NOUN, text),
        };
        let found = self.look_up(caller, Some(text)).await;
        let found: Resource<K> = found.map_err(client_error)?;
        match found.deleted_at {
            None => Ok(found),
            Some(_) => Err(invalid_arn(K::NOUN, text)),
        }
    }

    /// Whether an ARN is of this account and of the caller's region.
    pub(super) fn is_here(&self, caller: &Caller, arn: &Arn) -> bool {
        arn.account == self.config.account_id && arn.region == caller.region
    }

    /// What a failed change means to a client. `text` is the ARN it gave.
    pub(super) fn change_error(noun: &str, text: &str, error: ChangeError<ApiError>) -> ApiError {
        match error {
            ChangeError::Unknown => not_found(noun, text),
            ChangeError::Refused(error) => error,
            ChangeError::Store(error) => store_error(&error),
        }
    }
}

/// An ARN that is not one of the kind that is asked for.
pub(super) fn invalid_arn(noun: &str, text: &str) -> ApiError {
    ApiError::invalid_request(format!(
        "The {noun} ARN you specified isn't valid. ARN: '{text}'"
    ))
}

/// An ARN that names nothing here.
pub(super) fn not_found(noun: &str, text: &str) -> ApiError {
    ApiError::resource_not_found(format!(
        "{} cannot be found for the provided ARN: {text}",
        sentence(noun)
    ))
}

/// A quota is reached: what there are too many of, the bound, and the setting that moves it.
pub(super) fn quota_reached(what: &str, bound: u64, setting: &str) -> ApiError {
    ApiError::service_quota_exceeded(format!(
        "No more {what} can be created: the quota is {bound}. Delete what is not needed, or have \
         the setting `{setting}` raised."
    ))
}

/// What a failed creation means that its handler has no words for.
pub(super) fn unexpected(error: &CreateError) -> ApiError {
    match error {
        CreateError::Store(error) => store_error(error),
        CreateError::NameTaken
        | CreateError::NamesFull
        | CreateError::RevisionsFull
        | CreateError::ServiceFull
        | CreateError::ServiceUnknown
        | CreateError::ServiceBusy => ApiError::internal_service_error(error.to_string()),
    }
}

pub(super) fn new_id() -> ResourceId {
    ResourceId::from_bytes(clock::random_id())
}

pub(super) fn seconds(at: Timestamp) -> EpochSeconds {
    EpochSeconds(at.as_secs())
}

/// The place of a resource in a list.
pub(super) fn place<K>(resource: &Resource<K>) -> Place {
    (resource.name.clone(), resource.revision)
}

/// Reads back a place as the store wants it.
pub(super) fn after(place: Option<&Place>) -> Option<(&str, u32)> {
    place.map(|(name, revision)| (name.as_str(), *revision))
}

/// How a kind without revisions is named.
pub(super) fn single(single: &Single) -> Option<Which<'static>> {
    single.id.parse().ok().map(Which::Id)
}

/// How a revision is named, whole.
pub(super) fn whole(revision: &Revision) -> Option<Which<'static>> {
    revision.id.parse().ok().map(Which::Id)
}

/// How a kind with revisions is named, perhaps in part.
pub(super) fn revised(revised: &Revised) -> Option<Which<'_>> {
    match revised {
        Revised::Newest { name } => Some(Which::Newest(name)),
        Revised::Numbered { name, revision } => Some(Which::Numbered(name, *revision)),
        Revised::Whole(revision) => whole(revision),
    }
}

pub(super) fn to_single(revision: Revision) -> Single {
    Single {
        name: revision.name,
        id: revision.id,
    }
}

fn sentence(noun: &str) -> String {
    let mut letters = noun.chars();
    letters
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .chain(letters)
        .collect()
}
