//! An event's request. `envelope` finds it in any form of event.
//!
//! Events come from outside, so nothing in them is trusted: anything unknown is refused with a sentence that
//! names the valid alternatives, and no event can name more than [`EVENT_VAULTS`] vaults.

use std::collections::BTreeSet;

use obsync_core::Mode;
use obsync_protocol::limits::{EVENT, EVENT_VAULTS};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::config::location;
use crate::direction::Direction;
use crate::envelope::kind_of;

/// The longest name or id of a vault, in bytes.
const MAX_NAME: usize = 1024;
/// Most characters of an unknown value that an error repeats.
const MAX_QUOTED: usize = 60;

/// A parsed event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// One request; its answer is the report itself.
    Direct(Action),
    /// One request by HTTP.
    Http(Result<Action, EventError>),
    /// Messages of a queue, a topic or a list, each with its own result. The sender reads from the answer
    /// only which of them are to come again.
    Batch(Vec<Message>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    /// The queue's message id; none outside of queues.
    pub(crate) id: Option<String>,
    /// The ARN of its queue.
    pub(crate) queue: Option<String>,
    /// Its group, in a FIFO queue: the messages of a group are served in their order.
    pub(crate) group: Option<String>,
    /// Its content as received.
    pub(crate) body: String,
    /// Its request.
    pub(crate) action: Result<Action, EventError>,
}

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Sync vaults to the bucket.
    Sync(SyncRequest),
    /// Report the progress of vaults.
    Status {
        /// The vaults, by id or name; all if empty.
        vaults: BTreeSet<String>,
    },
    /// Nothing: the event is valid, and is no request.
    Ignore {
        /// The reason, in a sentence.
        reason: String,
    },
}

/// The vaults to sync, the mode, and the destination.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SyncRequest {
    /// The vaults, by id or name; all that have credentials if empty.
    pub(crate) vaults: BTreeSet<String>,
    pub(crate) mode: Mode,
    /// The bucket, for this event only.
    pub(crate) bucket: Option<String>,
    /// The prefix, for this event only.
    pub(crate) prefix: Option<String>,
    /// The direction, if the event has one.
    pub(crate) direction: Option<Direction>,
    /// The answer lists the changed files.
    pub(crate) list_changes: bool,
    /// The step of a chain: number of self-invocations up to here.
    pub(crate) continuation: u32,
}

/// Why an event is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EventError {
    /// The payload has a type that is never valid.
    #[error("the event is {what}; send a JSON object such as {{\"action\":\"sync\"}}")]
    NotAnObject {
        /// The type.
        what: &'static str,
    },
    /// It has no action.
    #[error("the event has no \"action\"; send \"sync\" or \"status\"")]
    NoAction,
    /// It has an unknown action.
    #[error("the action {action:?} is unknown; there are \"sync\" and \"status\"")]
    UnknownAction {
        /// The action, shortened.
        action: String,
    },
    /// A field is invalid.
    #[error("the event cannot be used: {reason}")]
    BadField {
        /// The field, and its valid values.
        reason: String,
    },
    /// The content of a message or a request is not JSON.
    #[error("{carrier} does not carry JSON ({reason})")]
    NotJson {
        /// The carrier of the content.
        carrier: &'static str,
        /// The parser's error.
        reason: String,
    },
    /// It is too long to be parsed.
    #[error("the event has {size} bytes; {EVENT} are the most")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// Too many nested envelopes.
    #[error("the event is in more than two envelopes; send it in one, or in one within another")]
    Nested,
}

/// The fields of a direct event. Unknown ones are refused: a typing error in `dest_bucket` must not send
/// notes to another bucket.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventFields {
    action: String,
    vault_id: Option<String>,
    vaults: Option<Vec<String>>,
    sync_type: Option<SyncType>,
    dest_bucket: Option<String>,
    dest_prefix: Option<String>,
    direction: Option<Direction>,
    list_changes: Option<bool>,
    #[serde(default)]
    continuation: u32,
    /// Added by Step Functions to the input of an execution that another one starts.
    #[serde(rename = "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID")]
    _started_by: Option<IgnoredAny>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SyncType {
    Incremental,
    /// The name in earlier releases, which may receive continuations of this one.
    #[serde(alias = "full")]
    Complete,
}

impl Action {
    /// The action of an empty event.
    pub(crate) fn every_vault() -> Self {
        Action::Sync(SyncRequest::default())
    }

    /// Parses the JSON object of a request.
    ///
    /// # Errors
    /// [`EventError`] for an invalid one.
    pub(crate) fn parse(action: &str, object: &str) -> Result<Self, EventError> {
        let action: String = serde_json::from_str(action)
            .map_err(|_| EventError::bad_field(format!("\"action\" is {}, not a text", kind_of(action))))?;
        if !matches!(action.as_str(), "sync" | "status") {
            return Err(EventError::UnknownAction { action: quoted(&action) });
        }
        let fields: EventFields =
            serde_json::from_str(object).map_err(|error| EventError::bad_field(error.to_string()))?;
        let is_sync = action == "sync";
        fields.check(is_sync)?;
        let vaults = fields.vaults()?;
        Ok(match is_sync {
            true => Action::Sync(fields.request(vaults)),
            false => Action::Status { vaults },
        })
    }
}

impl EventError {
    /// The error for an invalid field. Only the beginning of the reason is kept, since it may repeat input.
    pub(crate) fn bad_field(reason: impl AsRef<str>) -> Self {
        EventError::BadField { reason: quoted_reason(reason.as_ref()) }
    }
}

impl EventFields {
    /// Checks the rules between fields: a status has no destination and no mode; a destination must be a
    /// valid one.
    fn check(&self, is_sync: bool) -> Result<(), EventError> {
        let is_of_sync = [
            ("sync_type", self.sync_type.is_some()),
            ("dest_bucket", self.dest_bucket.is_some()),
            ("dest_prefix", self.dest_prefix.is_some()),
            ("direction", self.direction.is_some()),
            ("list_changes", self.list_changes.is_some()),
        ];
        if let Some((name, _)) = is_of_sync.into_iter().find(|(_, is_there)| !is_sync && *is_there) {
            let reason = format!("\"{name}\" means nothing to the action \"{}\"", self.action);
            return Err(EventError::bad_field(reason));
        }
        let bucket = self.dest_bucket.as_deref().unwrap_or("any-bucket");
        location(bucket, self.dest_prefix.as_deref().unwrap_or_default())
            .map(drop)
            .map_err(|error| EventError::bad_field(format!("no such destination: {error}")))
    }

    /// The vaults named by both fields together.
    fn vaults(&self) -> Result<BTreeSet<String>, EventError> {
        let bad = |reason: String| Err(EventError::bad_field(reason));
        let named = self.vault_id.iter().chain(self.vaults.iter().flatten());
        let vaults: BTreeSet<String> = named.cloned().collect();
        if self.vault_id.is_none() && self.vaults.as_ref().is_some_and(Vec::is_empty) {
            return bad("\"vaults\" is empty; leave it out for every vault".to_owned());
        }
        if vaults.len() > EVENT_VAULTS {
            return bad(format!("it names {} vaults; {EVENT_VAULTS} are the most", vaults.len()));
        }
        if let Some(name) = vaults.iter().find(|name| name.is_empty() || name.len() > MAX_NAME) {
            return bad(format!("a vault's id or name has 1 to {MAX_NAME} bytes, not {}", name.len()));
        }
        Ok(vaults)
    }

    fn request(self, vaults: BTreeSet<String>) -> SyncRequest {
        SyncRequest {
            vaults,
            mode: match self.sync_type {
                Some(SyncType::Complete) => Mode::Full,
                Some(SyncType::Incremental) | None => Mode::Incremental,
            },
            bucket: self.dest_bucket,
            prefix: self.dest_prefix,
            direction: self.direction,
            list_changes: self.list_changes.unwrap_or_default(),
            continuation: self.continuation,
        }
    }
}

impl SyncRequest {
    /// The event that requests the rest of this: these vaults, at this step. Older and newer releases of the
    /// function must understand it, so it has only fields that always existed, and a direction if the event
    /// itself had one. Nobody reads its answer, so it does not request a list of changes.
    pub(crate) fn continued(&self, vaults: impl IntoIterator<Item = String>, step: u32) -> Value {
        let mut event = serde_json::json!({
            "action": "sync",
            "vaults": vaults.into_iter().collect::<Vec<_>>(),
            "sync_type": self.sync_type(),
            "continuation": step,
        });
        let direction = self.direction.map(Direction::as_str);
        let own = [
            ("dest_bucket", self.bucket.as_deref()),
            ("dest_prefix", self.prefix.as_deref()),
            ("direction", direction),
        ];
        for (name, value) in own {
            if let Some(value) = value {
                event[name] = Value::from(value);
            }
        }
        event
    }

    /// True if it is for all vaults, in their usual places.
    pub(crate) fn is_of_all(&self) -> bool {
        self.vaults.is_empty() && self.bucket.is_none() && self.prefix.is_none()
    }

    /// The name of its mode, known to every release.
    pub(crate) fn sync_type(&self) -> &'static str {
        match self.mode {
            Mode::Full => "complete",
            Mode::Incremental => "incremental",
        }
    }
}

/// The beginning of an untrusted text.
fn quoted(text: &str) -> String {
    text.chars().take(MAX_QUOTED).collect()
}

/// The parser's reason repeats its input.
pub(crate) fn quoted_reason(reason: &str) -> String {
    reason.chars().take(4 * MAX_QUOTED).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn direct(event: Value) -> Result<Action, EventError> {
        match Event::parse(&event.to_string())? {
            Event::Direct(action) => Ok(action),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn sync(vaults: &[&str]) -> SyncRequest {
        SyncRequest {
            vaults: vaults.iter().map(|name| (*name).to_owned()).collect(),
            ..SyncRequest::default()
        }
    }

    #[test]
    fn a_sync_says_which_vaults_how_and_to_where() {
        for word in ["full", "complete"] {
            let event = json!({
                "action": "sync", "vault_id": "a", "vaults": ["b", "a"], "sync_type": word,
                "dest_bucket": "other", "dest_prefix": "p",
            });
            let wanted = SyncRequest {
                mode: Mode::Full,
                bucket: Some("other".to_owned()),
                prefix: Some("p".to_owned()),
                ..sync(&["a", "b"])
            };
            assert_eq!(direct(event), Ok(Action::Sync(wanted)), "{word}");
        }
        assert_eq!(direct(json!({"action": "sync", "vault_id": null})), Ok(Action::Sync(sync(&[]))));
        let listing = SyncRequest { list_changes: true, ..sync(&[]) };
        assert_eq!(direct(json!({"action": "sync", "list_changes": true})), Ok(Action::Sync(listing)));
    }

    #[test]
    fn what_is_unknown_is_refused_with_what_would_be_right() {
        for (event, part) in [
            (json!({"action": "format"}), "\"format\" is unknown"),
            (json!({"vault_id": "a"}), "no \"action\""),
            (json!({"action": 1}), "\"action\" is a number"),
            (json!({"action": "sync", "dest_buket": "x"}), "dest_buket"),
            (json!({"action": "sync", "sync_type": "fast"}), "incremental"),
            (json!({"action": "sync", "vaults": []}), "leave it out"),
            (json!({"action": "sync", "vaults": "a"}), "sequence"),
            (json!({"action": "sync", "vault_id": ""}), "1 to 1024 bytes"),
            (json!({"action": "status", "dest_bucket": "b"}), "means nothing"),
            (json!({"action": "status", "list_changes": false}), "means nothing"),
            (json!({"action": "sync", "list_changes": "yes"}), "boolean"),
            (json!({"action": "sync", "dest_prefix": "../other"}), "no such destination"),
            (json!({"action": "sync", "dest_bucket": "a/b"}), "no such destination"),
            (json!({"action": "sync", "padding": "x".repeat(EVENT)}), "1048576 are the most"),
            (json!([1]), "is a list"),
            (json!("sync"), "is a text"),
        ] {
            let error = direct(event.clone()).unwrap_err().to_string();
            assert!(error.contains(part), "{event}: {error}");
        }
        let long = direct(json!({"action": "x".repeat(1 << 20)})).unwrap_err().to_string();
        assert!(long.len() < 200);
        let many: Vec<String> = (0..=EVENT_VAULTS).map(|number| number.to_string()).collect();
        assert!(direct(json!({"action": "sync", "vaults": many})).is_err());
    }

    #[test]
    fn a_status_is_of_one_vault_or_all() {
        let status = |vaults: &[&str]| Ok(Action::Status { vaults: sync(vaults).vaults });
        assert_eq!(direct(json!({"action": "status"})), status(&[]));
        assert_eq!(direct(json!({"action": "status", "vault_id": "a"})), status(&["a"]));
    }

    #[test]
    fn a_continued_event_is_understood_as_the_rest_of_the_first() {
        let first = SyncRequest { mode: Mode::Full, prefix: Some(String::new()), ..sync(&["a", "b"]) };
        let listing = SyncRequest { list_changes: true, ..first.clone() };
        let next = listing.continued(["b".to_owned()], 1);
        let wanted = SyncRequest { vaults: sync(&["b"]).vaults, continuation: 1, ..first };
        assert_eq!(direct(next), Ok(Action::Sync(wanted)));
    }
}
