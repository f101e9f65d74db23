//! The REST calls (docs/PROTOCOL.md section 2): bodies in, bodies out, independent of HTTP.

use obsync_protocol::{
    CreateVaultRequest, DeleteVaultRequest, Done, EncryptionVersion, ExposeSecret, Region, Regions,
    RegionsRequest, RestRequest, SecretString, ServiceError, SignInRequest, SignOutRequest, SignedIn,
    UserInfo, UserInfoRequest, VaultAccessRequest, VaultInfo, VaultList, VaultListRequest,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ServerError;
use super::state::ServerState;
use crate::accounts::Person;
use crate::faults::FaultKind;
use crate::vault::{Encryption, REGION, Standing, Vault, VaultRecord, VaultSpec, new_id, now};

/// The limit of vaults in `/vault/list`. Not enforced.
const VAULT_LIMIT: u64 = 1000;

/// The service's message for an expired subscription (docs/PROTOCOL.md section 3).
pub(super) const SUBSCRIPTION_EXPIRED: &str = "Your subscription to Obsidian Sync has expired";

/// The calls there are.
const PATHS: &[&str] = &[
    SignInRequest::PATH,
    SignOutRequest::PATH,
    UserInfoRequest::PATH,
    VaultListRequest::PATH,
    RegionsRequest::PATH,
    CreateVaultRequest::PATH,
    DeleteVaultRequest::PATH,
    VaultAccessRequest::PATH,
];

/// Why a call has no result.
pub(super) enum Failure {
    /// There is no such call.
    NotFound,
    /// An application error, sent to the client with status 200.
    Error(String),
    /// The server failed.
    Internal(ServerError),
}

impl<E: Into<ServerError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Internal(error.into())
    }
}

/// The path as a constant, so that counting by path cannot be abused to take memory.
pub(super) fn known_path(path: &str) -> &'static str {
    PATHS.iter().find(|known| **known == path).copied().unwrap_or("other")
}

/// A number for a path, for the draws of faults.
pub(super) fn path_number(path: &str) -> u64 {
    PATHS.iter().position(|known| *known == path).map_or(u64::MAX, |position| position as u64)
}

/// The body of an application error.
pub(super) fn error_body(error: &str) -> String {
    serde_json::to_string(&ServiceError { error: error.to_owned() }).unwrap_or_default()
}

/// Answers one call.
pub(super) async fn call(path: &str, body: &[u8], state: &ServerState) -> Result<String, Failure> {
    match path {
        SignInRequest::PATH => reply(&sign_in(read(body)?, state)?),
        SignOutRequest::PATH => {
            state.accounts.sign_out(read::<SignOutRequest>(body)?.token.expose_secret())?;
            reply(&Done {})
        }
        UserInfoRequest::PATH => {
            let person = holder(state, &read::<UserInfoRequest>(body)?.token)?;
            let Person { uid, name, email, mfa, .. } = person;
            reply(&UserInfo { uid: uid.to_string(), name, email, mfa })
        }
        VaultListRequest::PATH => reply(&list(&read(body)?, state)?),
        RegionsRequest::PATH => {
            holder(state, &read::<RegionsRequest>(body)?.token)?;
            let region = Region { name: "Loopback".to_owned(), value: REGION.to_owned() };
            reply(&Regions { regions: vec![region] })
        }
        CreateVaultRequest::PATH => reply(&create(read(body)?, state).await?),
        DeleteVaultRequest::PATH => {
            let request: DeleteVaultRequest = read(body)?;
            let person = holder(state, &request.token)?;
            match state.remove_vault(request.vault_uid.as_str(), &person) {
                true => reply(&Done {}),
                false => Err(Failure::Error("Vault not found".to_owned())),
            }
        }
        VaultAccessRequest::PATH => {
            access(&read(body)?, state)?;
            reply(&Done {})
        }
        _ => Err(Failure::NotFound),
    }
}

fn sign_in(request: SignInRequest, state: &ServerState) -> Result<SignedIn, Failure> {
    if state.allow_sign_up && !request.email.trim().is_empty() && !state.accounts.exists(&request.email) {
        state.accounts.add(&request.email, &request.password, None)?;
        tracing::info!("a new account signed up");
    }
    let mfa = request.mfa.expose_secret().trim();
    match state.accounts.sign_in(&request.email, &request.password, mfa)? {
        Ok((token, _)) if state.faults.strikes_at(FaultKind::EchoPassword, 0) => {
            let password = request.password.expose_secret().to_owned();
            Ok(SignedIn { token, name: password.clone(), email: password })
        }
        Ok((token, person)) => Ok(SignedIn { token, name: person.name, email: person.email }),
        Err(refusal) => Err(Failure::Error(refusal.to_string())),
    }
}

fn list(request: &VaultListRequest, state: &ServerState) -> Result<VaultList, Failure> {
    let person = holder(state, &request.token)?;
    let mut list =
        VaultList { vaults: Vec::new(), shared: Vec::new(), limit: Some(VAULT_LIMIT), unreadable: 0 };
    for vault in state.vaults() {
        if vault.record.version > request.supported_encryption_version {
            continue;
        }
        match vault.record.standing(&person.email) {
            Standing::Own => list.vaults.push(info(&vault, state)),
            Standing::Shared => list.shared.push(info(&vault, state)),
            Standing::Hidden => {}
        }
    }
    if state.faults.strikes_at(FaultKind::ListAsShared, 0) {
        list.shared.append(&mut list.vaults);
    }
    Ok(list)
}

async fn create(request: CreateVaultRequest, state: &ServerState) -> Result<VaultInfo, Failure> {
    let person = holder(state, &request.token)?;
    subscribed(&person)?;
    if request.name.trim().is_empty() {
        return Err(Failure::Error("A vault needs a name".to_owned()));
    }
    let record = match (request.keyhash, request.salt) {
        (Some(key_hash), Some(salt)) => VaultRecord {
            id: new_id()?,
            name: request.name,
            version: request.encryption_version,
            salt,
            key_hash: key_hash.as_str().to_owned(),
            encryption: Encryption::EndToEnd(None),
            owner: Some(person.email),
            shared_with: Vec::new(),
            created: now(),
            region: REGION.to_owned(),
        },
        (None, None) => build_managed(&request.name, request.encryption_version, &person.email).await?,
        _ => {
            return Err(Failure::Error("A vault needs both a key hash and a salt, or neither".to_owned()));
        }
    };
    let vault = state.add_vault(record)?;
    Ok(info(&vault, state))
}

/// Creates a vault with standard encryption, on a blocking thread: deriving its key takes a while.
async fn build_managed(name: &str, version: EncryptionVersion, owner: &str) -> Result<VaultRecord, Failure> {
    let spec = VaultSpec::managed(name).version(version).owner(owner);
    Ok(tokio::task::spawn_blocking(move || spec.build()).await??)
}

fn access(request: &VaultAccessRequest, state: &ServerState) -> Result<(), Failure> {
    let person = holder(state, &request.token)?;
    subscribed(&person)?;
    let vault = state
        .visible_vault(request.vault_uid.as_str(), &person)
        .ok_or_else(|| Failure::Error("Vault not found".to_owned()))?;
    if !vault.record.admits(request.keyhash.as_str()) || vault.record.version != request.encryption_version {
        return Err(Failure::Error("Incorrect vault password".to_owned()));
    }
    Ok(())
}

fn info(vault: &Vault, state: &ServerState) -> VaultInfo {
    let record = &vault.record;
    let (host, password, salt) = state.faults.read(|faults| {
        (faults.listing_host.clone(), faults.listing_password.clone(), faults.listing_salt.clone())
    });
    let name = state.faults.read(|faults| faults.listing_name.clone());
    let password = password.unwrap_or_else(|| record.listed_password().to_owned());
    VaultInfo {
        id: record.id.clone(),
        uid: record.id.to_string(),
        name: name.unwrap_or_else(|| record.name.clone()),
        password: (!password.is_empty()).then(|| SecretString::from(password)),
        salt: salt.unwrap_or_else(|| record.salt.clone()),
        created: i64::try_from(record.created).unwrap_or(i64::MAX),
        host: host.unwrap_or_else(|| state.host.clone()),
        region: record.region.clone(),
        size: vault.size(),
        encryption_version: u64::from(record.version),
    }
}

fn holder(state: &ServerState, token: &SecretString) -> Result<Person, Failure> {
    let person = state.accounts.holder(token.expose_secret());
    person.ok_or_else(|| Failure::Error("Not logged in".to_owned()))
}

fn subscribed(person: &Person) -> Result<(), Failure> {
    if person.subscribed { Ok(()) } else { Err(Failure::Error(SUBSCRIPTION_EXPIRED.to_owned())) }
}

/// Parses a body. The parser's reason is not returned: it could quote a password.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|_| Failure::Error("The request could not be understood".to_owned()))
}

fn reply(answer: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(answer).map_err(|_| Failure::Error("The answer could not be written".to_owned()))
}
