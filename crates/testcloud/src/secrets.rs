//! Secrets Manager: secrets read by name or ARN, created and changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::credentials::{ACCOUNT, REGION};
use super::faults::Verdict;
use super::gate::Gate;
use super::http::{self, Dropped, FullBody, Tasks};
use super::json_api::{fault_answer, json_answer, json_error};
use super::log::Service;

/// The content type of the protocol.
const JSON: &str = "application/x-amz-json-1.1";

/// The largest request accepted, in bytes; a secret may have 65,536.
const BODY_MAX: usize = 256 * 1024;

struct Secret {
    arn: String,
    value: SecretValue,
    version: String,
    created: f64,
}

#[derive(Clone)]
enum SecretValue {
    Text(String),
    /// In base64, as received.
    Binary(String),
}

/// The fields of the three requests.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SecretCall {
    #[serde(alias = "Name")]
    secret_id: Option<String>,
    secret_string: Option<String>,
    secret_binary: Option<String>,
}

impl SecretCall {
    fn value(&self) -> Option<SecretValue> {
        let text = self.secret_string.clone().map(SecretValue::Text);
        text.or_else(|| self.secret_binary.clone().map(SecretValue::Binary))
    }
}

struct SecretFailure {
    kind: &'static str,
    message: String,
}

fn failure(kind: &'static str, message: impl Into<String>) -> SecretFailure {
    SecretFailure { kind, message: message.into() }
}

/// Secrets of a cloud, by name; client requests are counted, calls of this type's methods are not.
#[derive(Clone, Default)]
pub struct Secrets {
    secrets: Arc<Mutex<BTreeMap<String, Secret>>>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").field("names", &self.lock().keys().collect::<Vec<_>>()).finish()
    }
}

impl Secrets {
    /// Creates a secret or changes its text; returns its ARN.
    pub fn put(&self, name: &str, text: &str) -> String {
        self.set(name, SecretValue::Text(text.to_owned())).0
    }

    /// Removes a secret. Returns true if it existed.
    pub fn remove(&self, name: &str) -> bool {
        self.lock().remove(name).is_some()
    }

    /// Stores the value as a new version; returns ARN and version.
    fn set(&self, name: &str, value: SecretValue) -> (String, String) {
        let mut secrets = self.lock();
        let arn = match secrets.get(name) {
            Some(secret) => secret.arn.clone(),
            // AWS ends ARNs in six random characters, so that a new secret of an old name has a new ARN.
            None => format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}-{}", random_hex::<3>()),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let version = random_hex::<16>();
        let secret = Secret { arn: arn.clone(), value, version: version.clone(), created: now.as_secs_f64() };
        secrets.insert(name.to_owned(), secret);
        (arn, version)
    }

    /// The secret's name for a name or an ARN (with or without its last six characters).
    fn resolve(&self, id: &str) -> Result<String, SecretFailure> {
        let secrets = self.lock();
        let is_meant = |name: &&String, secret: &Secret| {
            let short = secret.arn.rsplit_once('-').map(|(short, _)| short);
            name.as_str() == id || secret.arn == id || short == Some(id)
        };
        let found = secrets.iter().find(|(name, secret)| is_meant(name, secret));
        found.map(|(name, _)| name.clone()).ok_or_else(|| {
            failure("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
        })
    }

    fn call(&self, operation: &str, body: &[u8]) -> Result<Value, SecretFailure> {
        let call: SecretCall = serde_json::from_slice(body)
            .map_err(|error| failure("InvalidRequestException", error.to_string()))?;
        let id = call.secret_id.clone().unwrap_or_default();
        if id.is_empty() {
            return Err(failure("InvalidParameterException", "You must provide a name or ARN."));
        }
        match operation {
            "GetSecretValue" => self.get(&self.resolve(&id)?),
            "PutSecretValue" => self.change(&self.resolve(&id)?, &call),
            "CreateSecret" => {
                if self.lock().contains_key(&id) {
                    let message = format!("The operation failed because the secret {id} already exists.");
                    return Err(failure("ResourceExistsException", message));
                }
                self.change(&id, &call)
            }
            _ => Err(failure("UnknownOperationException", format!("{operation} is not served here"))),
        }
    }

    fn get(&self, name: &str) -> Result<Value, SecretFailure> {
        let secrets = self.lock();
        let secret = secrets.get(name).ok_or_else(|| failure("ResourceNotFoundException", name))?;
        let mut answer = json!({
            "ARN": secret.arn,
            "Name": name,
            "VersionId": secret.version,
            "VersionStages": ["AWSCURRENT"],
            "CreatedDate": secret.created,
        });
        match &secret.value {
            SecretValue::Text(text) => answer["SecretString"] = json!(text),
            SecretValue::Binary(base64) => answer["SecretBinary"] = json!(base64),
        }
        Ok(answer)
    }

    fn change(&self, name: &str, call: &SecretCall) -> Result<Value, SecretFailure> {
        let value = call.value().ok_or_else(|| {
            failure("InvalidParameterException", "You must provide SecretString or SecretBinary.")
        })?;
        let (arn, version) = self.set(name, value);
        Ok(json!({ "ARN": arn, "Name": name, "VersionId": version, "VersionStages": ["AWSCURRENT"] }))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Secret>> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As many random bytes, in hexadecimal.
fn random_hex<const BYTES: usize>() -> String {
    let mut bytes = [0; BYTES];
    // An id without randomness is still an id.
    let _ = getrandom::fill(&mut bytes);
    HEXLOWER.encode(&bytes)
}

/// Serves secrets on this listener.
pub(super) fn start(listener: TcpListener, tasks: &Tasks, gate: Gate) -> Secrets {
    let secrets = Secrets::default();
    let served = secrets.clone();
    http::serve(listener, tasks, move |request| answer(request, served.clone(), gate.clone()));
    secrets
}

async fn answer(
    request: Request<Incoming>,
    secrets: Secrets,
    gate: Gate,
) -> Result<Response<FullBody>, Dropped> {
    let target = http::header_text(request.headers(), "x-amz-target");
    let operation = target.rsplit_once('.').map_or("Unknown", |(_, operation)| operation).to_owned();
    let signed = !http::header_text(request.headers(), "authorization").is_empty();
    let body = match http::whole_body(request.into_body(), BODY_MAX).await {
        Ok(body) => body,
        Err(response) => return Ok(response),
    };
    let call: Option<SecretCall> = serde_json::from_slice(&body).ok();
    let resource = call.and_then(|call| call.secret_id).unwrap_or_default();
    let admitted = gate.admit(Service::SecretsManager, &operation, resource, body.len() as u64).await;
    if admitted.verdict == Verdict::Dropped {
        return Err(Dropped);
    }
    let fault = fault_answer(Service::SecretsManager, &operation, JSON, admitted.verdict);
    let response = match fault {
        Some(response) => response,
        None if !signed => json_error(
            StatusCode::BAD_REQUEST,
            JSON,
            "MissingAuthenticationTokenException",
            "Missing Authentication Token",
        ),
        None => match secrets.call(&operation, &body) {
            Ok(answer) => json_answer(StatusCode::OK, JSON, &answer),
            Err(failure) => json_error(StatusCode::BAD_REQUEST, JSON, failure.kind, &failure.message),
        },
    };
    gate.end(admitted, response.status().as_u16()).await?;
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_by_name_and_by_arn_with_and_without_its_end() {
        let secrets = Secrets::default();
        let arn = secrets.put("obsync/test", "text");
        let short = arn.rsplit_once('-').unwrap().0;
        for id in ["obsync/test", &arn, short] {
            assert_eq!(secrets.resolve(id).ok().as_deref(), Some("obsync/test"), "{id}");
        }
        assert!(secrets.resolve("obsync").is_err());
    }

    #[test]
    fn a_changed_secret_keeps_its_arn_and_debug_shows_no_value() {
        let secrets = Secrets::default();
        let arn = secrets.put("name", "first value");
        assert_eq!(secrets.put("name", "second value"), arn);
        assert!(!format!("{secrets:?}").contains("value"));
    }
}
