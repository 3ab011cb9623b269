//! Secrets and parameters, opened: for those who may ask, and for deployments.
//!
//! Values are sealed with the installation's key wherever they are kept: those of secrets and
//! parameters beside their records, and those that a deployment has read beside its revision, so that
//! each instance of a revision is given the same values whatever became of the secrets since. They
//! are open only here, in memory, on their way to a client or to an instance.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ekiden_model::{
    id::ServiceId,
    instance::RevisionNumber,
    parameter::{Parameter, ParameterRefusal, ParameterVersion},
    secret::{SUFFIX_LEN, Secret, SecretRefusal, SecretVersion, ValueKind},
    secret_env::{SealedEnv, SecretEnv},
    secret_reference::{SecretReference, SecretTarget},
};
use ekiden_store::{Store, StoreError};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::keyring::{DoesNotOpen, Keyring};

/// Secret variables of one instance together, in bytes: half of what an engine takes with everything
/// else.
const SECRET_ENV_BYTES_MAX: usize = 512 * 1024;

/// Variables that a failed deployment names; more are only counted.
const FAILURES_SHOWN_MAX: usize = 5;

/// Finds and opens what is sealed. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Vault {
    store: Arc<Store>,
    keyring: Arc<Keyring>,
    account_id: String,
}

/// Why the variables of a deployment could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    /// Trying again may help.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It stays so until somebody changes something; which variables, and why.
    #[error("{0}")]
    Refused(String),
}

/// Why a value could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    DoesNotOpen(#[from] DoesNotOpen),
}

/// Why one variable could not be had.
enum Unresolved {
    Store(StoreError),
    Because(String),
}

impl Vault {
    pub(crate) fn new(store: Arc<Store>, keyring: Arc<Keyring>, account_id: String) -> Self {
        Self {
            store,
            keyring,
            account_id,
        }
    }

    /// The secret that an ARN's last part means: a name with its suffix, or without.
    pub(crate) async fn secret_by_arn(
        &self,
        region: &str,
        resource: &str,
    ) -> Result<Option<Secret>, StoreError> {
        let cut = resource.len().saturating_sub(SUFFIX_LEN + 1);
        if let Some((name, suffix)) = resource.split_at_checked(cut)
            && let Some(suffix) = suffix.strip_prefix('-')
            && let Some(secret) = self.store.secret(region, name).await?
            && secret.suffix == suffix
        {
            return Ok(Some(secret));
        }
        self.store.secret(region, resource).await
    }

    /// The parameter that an ARN's last part means. It is the same for `name` and `/name`.
    pub(crate) async fn parameter_by_arn(
        &self,
        region: &str,
        resource: &str,
    ) -> Result<Option<Parameter>, StoreError> {
        if !resource.contains('/')
            && let Some(parameter) = self.store.parameter(region, resource).await?
        {
            return Ok(Some(parameter));
        }
        self.store.parameter(region, &format!("/{resource}")).await
    }

    pub(crate) fn seal_secret(&self, secret: &str, version: &str, value: &[u8]) -> Vec<u8> {
        self.keyring.seal(&secret_place(secret, version), value)
    }

    pub(crate) fn seal_parameter(&self, parameter: &str, version: u64, value: &[u8]) -> Vec<u8> {
        self.keyring
            .seal(&parameter_place(parameter, version), value)
    }

    /// What tells whether two values of a secret are the same, and nothing else to whoever has no key.
    pub(crate) fn fingerprint(&self, secret: &str, value: &[u8]) -> String {
        let mut data = Zeroizing::new(secret.as_bytes().to_vec());
        data.push(b'/');
        data.extend_from_slice(value);
        let signature = self.keyring.sign("the value of a secret", &data);
        signature.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) async fn open_secret(
        &self,
        secret: &Secret,
        version: &SecretVersion,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let sealed = self.store.secret_value(&secret.id, &version.id).await?;
        let sealed = sealed.ok_or(DoesNotOpen)?;
        let place = secret_place(&secret.id, &version.id);
        Ok(self.keyring.open(&place, &sealed)?)
    }

    pub(crate) async fn open_parameter(
        &self,
        parameter: &Parameter,
        version: &ParameterVersion,
    ) -> Result<Zeroizing<String>, OpenError> {
        let sealed = self.sealed_parameter(parameter, version).await?;
        let place = parameter_place(&parameter.id, version.number);
        let value = self.keyring.open(&place, &sealed)?;
        let text = std::str::from_utf8(&value).map_err(|_| DoesNotOpen)?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// A parameter's value as it is kept.
    pub(crate) async fn sealed_parameter(
        &self,
        parameter: &Parameter,
        version: &ParameterVersion,
    ) -> Result<Vec<u8>, OpenError> {
        let sealed = self
            .store
            .parameter_value(&parameter.id, version.number)
            .await?;
        Ok(sealed.ok_or(DoesNotOpen)?)
    }

    /// Seals a revision's secret variables for that revision alone; `None` when there are none.
    pub(crate) fn seal_env(
        &self,
        service: ServiceId,
        revision: RevisionNumber,
        env: &SecretEnv,
    ) -> Option<SealedEnv> {
        if env.is_empty() {
            return None;
        }
        let text = serde_json::to_vec(env).expect("a map of texts can be written");
        let text = Zeroizing::new(text);
        let sealed = self.keyring.seal(&env_place(service, revision), &text);
        Some(SealedEnv(BASE64_STANDARD.encode(sealed)))
    }

    pub(crate) fn open_env(
        &self,
        service: ServiceId,
        revision: RevisionNumber,
        sealed: &SealedEnv,
    ) -> Result<SecretEnv, DoesNotOpen> {
        let sealed = BASE64_STANDARD.decode(&sealed.0).map_err(|_| DoesNotOpen)?;
        let text = self.keyring.open(&env_place(service, revision), &sealed)?;
        serde_json::from_slice(&text).map_err(|_| DoesNotOpen)
    }

    /// Reads the values that a service's references name, as they are now.
    ///
    /// # Errors
    /// [`ResolveError`]: when one cannot be had, none is.
    pub(crate) async fn resolve(
        &self,
        region: &str,
        references: &BTreeMap<String, SecretReference>,
    ) -> Result<SecretEnv, ResolveError> {
        let mut env = SecretEnv::default();
        let mut failures = Vec::new();
        for (name, reference) in references {
            match self.resolve_one(region, reference).await {
                Ok(value) => env.insert(name.clone(), value),
                Err(Unresolved::Store(error)) => return Err(error.into()),
                Err(Unresolved::Because(why)) => {
                    failures.push(format!("{name}: {reference}: {why}"));
                }
            }
        }
        let bytes: usize = env
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if failures.is_empty() && bytes > SECRET_ENV_BYTES_MAX {
            failures.push(format!(
                "all secret variables together have {bytes} bytes, and may have \
                 {SECRET_ENV_BYTES_MAX}"
            ));
        }
        if failures.is_empty() {
            return Ok(env);
        }
        let more = failures.len().saturating_sub(FAILURES_SHOWN_MAX);
        failures.truncate(FAILURES_SHOWN_MAX);
        let mut message = failures.join("; ");
        if more > 0 {
            message.push_str(&format!("; and {more} more"));
        }
        Err(ResolveError::Refused(message))
    }

    async fn resolve_one(
        &self,
        region: &str,
        reference: &SecretReference,
    ) -> Result<Zeroizing<String>, Unresolved> {
        let value = match reference.target() {
            SecretTarget::Secret {
                region,
                account,
                name,
                json_key,
                stage,
                version,
            } => {
                self.check_account(account)?;
                let secret = self.secret_by_arn(region, name).await?;
                let secret = secret.ok_or_else(|| because("there is no such secret"))?;
                let version = secret.find(version.as_deref(), stage.as_deref())?;
                if version.kind == ValueKind::Binary {
                    return Err(because("it is bytes, and a variable holds text"));
                }
                let value = self.open_secret(&secret, version).await?;
                let text = std::str::from_utf8(&value).map_err(|_| because("it is no text"))?;
                match json_key {
                    None => Zeroizing::new(text.to_owned()),
                    Some(key) => member(text, key)?,
                }
            }
            SecretTarget::Parameter { place, name } => {
                let (name, selector) = split_selector(name);
                let parameter = match place {
                    None => self.store.parameter(region, name).await?,
                    Some((region, account)) => {
                        self.check_account(account)?;
                        self.parameter_by_arn(region, name).await?
                    }
                };
                let parameter = parameter.ok_or_else(|| because("there is no such parameter"))?;
                let version = parameter.find(selector)?;
                self.open_parameter(&parameter, version).await?
            }
        };
        match value.contains('\0') {
            true => Err(because("it has a zero byte, which no variable can hold")),
            false => Ok(value),
        }
    }

    fn check_account(&self, account: &str) -> Result<(), Unresolved> {
        match account == self.account_id {
            true => Ok(()),
            false => Err(Unresolved::Because(format!(
                "it belongs to another account; this installation's is {}",
                self.account_id
            ))),
        }
    }
}

/// A parameter's name, and the version or label after a colon.
pub(crate) fn split_selector(name: &str) -> (&str, Option<&str>) {
    match name.split_once(':') {
        Some((name, selector)) => (name, Some(selector)),
        None => (name, None),
    }
}

/// A member of the JSON object that a secret is. What is no text becomes the JSON it is.
fn member(text: &str, key: &str) -> Result<Zeroizing<String>, Unresolved> {
    let Ok(Value::Object(mut object)) = serde_json::from_str(text) else {
        return Err(Unresolved::Because(format!(
            "it is no JSON object, and so has no key `{key}`"
        )));
    };
    match object.remove(key) {
        Some(Value::String(text)) => Ok(Zeroizing::new(text)),
        Some(other) => Ok(Zeroizing::new(other.to_string())),
        None => Err(Unresolved::Because(format!("it has no key `{key}`"))),
    }
}

fn because(why: &str) -> Unresolved {
    Unresolved::Because(why.to_owned())
}

impl From<StoreError> for Unresolved {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<OpenError> for Unresolved {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Store(error) => Self::Store(error),
            OpenError::DoesNotOpen(error) => Self::Because(error.to_string()),
        }
    }
}

impl From<SecretRefusal> for Unresolved {
    fn from(refusal: SecretRefusal) -> Self {
        Self::Because(refusal.to_string())
    }
}

impl From<ParameterRefusal> for Unresolved {
    fn from(refusal: ParameterRefusal) -> Self {
        Self::Because(refusal.to_string())
    }
}

fn secret_place(secret: &str, version: &str) -> String {
    format!("secret/{secret}/{version}")
}

fn parameter_place(parameter: &str, version: u64) -> String {
    format!("parameter/{parameter}/{version}")
}

fn env_place(service: ServiceId, revision: RevisionNumber) -> String {
    format!("revision/{service}/{revision}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, key: &str, want: &str) {
        let got = match member(text, key) {
            Ok(value) => value.to_string(),
            Err(Unresolved::Because(why)) => format!("error: {why}"),
            Err(Unresolved::Store(error)) => panic!("{error}"),
        };
        assert_eq!(got, want);
    }

    #[test]
    fn members_are_text_or_the_json_they_are() {
        let text = r#"{"user":"a b","port":5432,"tls":true,"o":{"k":[1]},"n":null}"#;
        check(text, "user", "a b");
        check(text, "port", "5432");
        check(text, "tls", "true");
        check(text, "o", r#"{"k":[1]}"#);
        check(text, "n", "null");
        check(text, "x", "error: it has no key `x`");
        for text in ["hunter2", "[1]", "\"hunter2\"", ""] {
            check(
                text,
                "k",
                "error: it is no JSON object, and so has no key `k`",
            );
        }
    }
}
