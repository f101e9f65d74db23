//! The action `status`: what the table knows of vaults, without touching anything.

use jiff::Timestamp;
use obsync_core::StateError;
use obsync_core::pin::VaultKind;
use obsync_dynamodb::{DynamoState, DynamoSummary, StateKey, StoredProgress};
use obsync_protocol::VaultInfo;
use serde_json::{Value, json};

use crate::warm::Warm;

/// What is known of the state of one vault at one place.
pub(crate) async fn of_vault(
    warm: &Warm,
    vault: &VaultInfo,
    destination: String,
) -> Result<Value, StateError> {
    let key = StateKey { vault_id: vault.id.clone(), vault_name: vault.name.clone(), destination };
    let state = DynamoState::read(&warm.table, key.clone()).await?;
    let summary = state.summary().await?;
    let progress = state.progress().await?;
    let mut document = document(&key, summary.as_ref(), &progress);
    document["encryption"] = json!(warm.pinned_kind(vault, &key.destination).await?.map(VaultKind::as_str));
    Ok(document)
}

fn document(key: &StateKey, summary: Option<&DynamoSummary>, progress: &StoredProgress) -> Value {
    let mut document = json!({
        "vault_id": key.vault_id,
        "name": key.vault_name,
        "destination": key.destination,
        "status": status(summary, progress),
    });
    if let Some(summary) = summary {
        document["version"] = json!(summary.version);
        document["files"] = json!(summary.files);
        document["bytes"] = json!(summary.bytes);
        document["failed"] = json!(summary.failed);
        document["filtered"] = json!(summary.filtered);
        document["last_sync"] = json!(summary.committed.and_then(time));
        if let Some(holder) = &summary.holder {
            document["lease"] = json!({ "owner": holder.owner, "expires": time(holder.expires) });
        }
    }
    if let StoredProgress::Found(record) = progress {
        document["progress"] = json!(record);
    }
    document
}

/// What a vault is at, in a word.
fn status(summary: Option<&DynamoSummary>, progress: &StoredProgress) -> Value {
    match (summary, progress) {
        (None, _) => json!("never_synced"),
        (Some(summary), _) if summary.holder.is_some() => json!("running"),
        (_, StoredProgress::Found(record)) => json!(record.status),
        _ => json!("idle"),
    }
}

/// Milliseconds since the epoch as people write them.
fn time(milliseconds: i64) -> Option<String> {
    Timestamp::from_millisecond(milliseconds).ok().map(|time| time.to_string())
}
