//! The progress of a run: a separate item for each state, with the progress as JSON and a time to live.
//!
//! Nothing depends on it. Only the state counts; a missing, unreadable or outdated progress record costs at
//! most a repeated check.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use jiff::Timestamp;
use obsync_core::{
    LastRun, Problem, ProblemCode, RunError, RunOutcome, RunProgress, StateError, StateStore as _,
};
use obsync_protocol::VaultId;
use serde::{Deserialize, Serialize};

use super::attributes::{Damage, Item, Reader, VAULT_ID, number, text};
use super::error::CallError;
use super::head::Counts;
use super::keys::ItemKeys;
use super::slow_file::SlowFile;
use super::state::DynamoState;
use super::table::DynamoTable;
use super::transaction::Write;

/// The attribute with the record as JSON.
const DATA: &str = "data";
/// The item's expiry for DynamoDB, in seconds since the epoch.
pub(super) const TTL: &str = "ttl";
/// Lifetime of a record in seconds: long enough that a monthly function counts its consecutive failures.
const KEPT: i64 = 90 * 24 * 60 * 60;
/// The longest error that is stored whole, in bytes.
const LONGEST_ERROR: usize = 4 << 10;
/// The longest resume token that is stored, in bytes of JSON: an item has at most 400 KB.
const LONGEST_TOKEN: usize = 256 << 10;

/// The status of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProgressStatus {
    /// Running, or killed while running.
    Running,
    /// It was interrupted in an orderly way, and can be resumed.
    Interrupted,
    /// Everything is done.
    Complete,
    /// It failed.
    Failed,
}

/// The progress of a run, over all its invocations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressRecord {
    /// The vault.
    pub vault_id: VaultId,
    /// When it began.
    #[serde(with = "rfc3339")]
    pub start_time: Timestamp,
    /// When this record was written.
    #[serde(with = "rfc3339")]
    pub last_update: Timestamp,
    /// Files to transfer in all.
    pub files_total: u64,
    /// Files transferred and recorded.
    pub files_complete: u64,
    /// Bytes to transfer in all.
    pub bytes_total: u64,
    /// Bytes transferred and recorded.
    pub bytes_complete: u64,
    /// The run's status.
    pub status: ProgressStatus,
    /// The error, if there is one.
    #[serde(default)]
    pub error: Option<String>,
    /// A next run may resume from the token.
    pub resumable: bool,
    /// The vault's version that the state had when this was written.
    pub last_version: u64,
    /// Position of the run, in a format of its writer.
    #[serde(default)]
    pub resume_token: Option<String>,
    /// Invocations so far.
    pub invocations: u32,
    /// Consecutive runs that failed, or did not apply everything, this one included.
    #[serde(default)]
    pub failures_in_a_row: u32,
    /// The last error, of this run or an earlier one.
    #[serde(default)]
    pub last_error: Option<RunError>,
    /// This run was cut short while transferring changes, or an earlier one was and no later one made up for
    /// it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut_short: bool,
    /// It transfers no changes from the vault (any more); see [`LastRun::sending`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sending: bool,
    /// A file that did not arrive within the available time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hurdle: Option<SlowFile>,
}

mod rfc3339 {
    //! Points in time as texts of RFC 3339, in UTC.

    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A stored progress record.
#[derive(Clone, Debug, PartialEq)]
pub enum StoredProgress {
    /// None, or an expired one.
    Missing,
    /// Something that is not a progress record.
    Unreadable {
        /// The reason.
        reason: String,
    },
    /// A record.
    Found(Box<ProgressRecord>),
}

impl StoredProgress {
    /// The last run. If there is a record that does not say how it ended, it may have been cut short.
    pub fn last_run(&self) -> Option<LastRun> {
        match self {
            StoredProgress::Found(record) => Some(record.last_run()),
            StoredProgress::Unreadable { .. } => Some(LastRun::of_unknown_end(Timestamp::UNIX_EPOCH)),
            StoredProgress::Missing => None,
        }
    }
}

/// Where a next run can resume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// The position of the interrupted run.
    Token(String),
    /// The last checkpoint: the recorded state.
    Checkpoint {
        /// Why there is no newer position.
        reason: String,
    },
}

impl ProgressRecord {
    /// The record when none is stored.
    fn of_nothing(vault_id: VaultId, began: Timestamp, version: u64) -> Self {
        ProgressRecord {
            vault_id,
            start_time: began,
            last_update: began,
            files_total: 0,
            files_complete: 0,
            bytes_total: 0,
            bytes_complete: 0,
            status: ProgressStatus::Complete,
            error: None,
            resumable: false,
            last_version: version,
            resume_token: None,
            invocations: 1,
            failures_in_a_row: 0,
            last_error: None,
            cut_short: false,
            sending: false,
            hurdle: None,
        }
    }

    /// Default lifetime of a resume token.
    pub const FRESHNESS: Duration = Duration::from_secs(60 * 60);

    /// The run in the engine's terms.
    pub fn last_run(&self) -> LastRun {
        let (ended, outcome) = match (self.status, &self.error) {
            (ProgressStatus::Running, _) => (None, RunOutcome::Running),
            (ProgressStatus::Interrupted, _) => (Some(self.last_update), RunOutcome::Interrupted),
            (ProgressStatus::Complete, None) => (Some(self.last_update), RunOutcome::Complete),
            (ProgressStatus::Complete, Some(_)) => (Some(self.last_update), self.left_to_do()),
            (ProgressStatus::Failed, _) => (Some(self.last_update), RunOutcome::Failed),
        };
        LastRun {
            began: self.start_time,
            ended,
            outcome,
            failures_in_a_row: self.failures_in_a_row,
            last_error: self.last_error.clone(),
            cut_short: self.cut_short,
            sending: self.sending,
            of_follower: false,
            progress: RunProgress {
                files_total: self.files_total,
                files_complete: self.files_complete,
                bytes_total: self.bytes_total,
                bytes_complete: self.bytes_complete,
            },
            unwatched: None,
        }
    }

    /// The outcome of a run that did everything except its error.
    fn left_to_do(&self) -> RunOutcome {
        let code = self.last_error.as_ref().map(|error| error.code.as_str());
        match code {
            Some(code) if code == ProblemCode::HeldBack.as_str() => RunOutcome::HeldBack,
            Some(code) if code == ProblemCode::VaultOlder.as_str() => RunOutcome::VaultOlder,
            _ => RunOutcome::Failures,
        }
    }

    /// The record after a run that began at this time and ended before it could resume from this record.
    fn after_failure(self, status: ProgressStatus, problem: &Problem, began: Timestamp) -> Self {
        let last = self.last_run();
        let now = Timestamp::now();
        let counts = match self.resumable {
            true => self,
            false => ProgressRecord {
                start_time: began,
                files_total: 0,
                files_complete: 0,
                bytes_total: 0,
                bytes_complete: 0,
                invocations: 1,
                ..self
            },
        };
        ProgressRecord {
            last_update: now,
            status,
            error: Some(problem.message.clone()),
            failures_in_a_row: last
                .failures_in_a_row
                .saturating_add(u32::from(status == ProgressStatus::Failed)),
            last_error: Some(RunError::of(problem, now)),
            // It did not come far enough to leave anything undone itself.
            cut_short: last.is_cut_short(),
            sending: false,
            ..counts
        }
    }

    /// The item of a record written at `now`, in milliseconds since the epoch.
    fn item(&self, keys: &ItemKeys, now: i64) -> Result<Item, Damage> {
        let data = serde_json::to_string(&self.bounded()).map_err(|error| error.to_string())?;
        let ttl = now / 1000 + KEPT;
        Ok(Item::from([
            (VAULT_ID.to_owned(), text(keys.progress())),
            (DATA.to_owned(), text(data)),
            (TTL.to_owned(), number(ttl)),
        ]))
    }

    /// Writes a record at `now`.
    pub(super) fn write(&self, keys: &ItemKeys, now: i64) -> Result<Write, Damage> {
        Ok(Write::put(keys.progress(), self.item(keys, now)?, Counts::default()))
    }

    /// The record, shortened to fit an item.
    pub(super) fn bounded(&self) -> Self {
        let mut record = self.clone();
        if let Some(error) = &mut record.error {
            error.truncate(error.floor_char_boundary(LONGEST_ERROR));
        }
        let length = |token: &String| serde_json::to_string(token).map_or(usize::MAX, |json| json.len());
        if let Some(error) = &mut record.last_error {
            error.message.truncate(error.message.floor_char_boundary(LONGEST_ERROR));
        }
        record.resume_token = record.resume_token.filter(|token| length(token) <= LONGEST_TOKEN);
        record
    }
}

impl StoredProgress {
    /// Where a run that begins now can resume. A resume token is valid for `freshness` after it was written.
    pub fn resumption(&self, freshness: Duration) -> Resumption {
        let checkpoint = |reason: &str| Resumption::Checkpoint { reason: reason.to_owned() };
        let record = match self {
            StoredProgress::Missing => return checkpoint("there is no progress record"),
            StoredProgress::Unreadable { reason } => {
                return checkpoint(&format!("the progress record is unreadable ({reason})"));
            }
            StoredProgress::Found(record) => record,
        };
        let age = Timestamp::now().duration_since(record.last_update);
        match &record.resume_token {
            _ if !record.resumable => checkpoint("the progress record is marked as not resumable"),
            _ if record.status == ProgressStatus::Complete => checkpoint("the last run was complete"),
            None => checkpoint("the progress record has no resume token"),
            // With a clock that is behind, a record seems to be from the future.
            Some(_) if Duration::try_from(age).is_ok_and(|age| age > freshness) => {
                checkpoint(&format!("the resume token is older than {} s", freshness.as_secs()))
            }
            Some(token) => Resumption::Token(token.clone()),
        }
    }

    pub(super) fn of_item(item: Option<&Item>, now: i64) -> Self {
        let Some(item) = item.map(Reader) else { return StoredProgress::Missing };
        let read = || -> Result<Self, Damage> {
            // DynamoDB removes expired items with a delay of up to days.
            if item.find_number::<i64>(TTL)?.is_some_and(|ttl| ttl <= now / 1000) {
                return Ok(StoredProgress::Missing);
            }
            let record = serde_json::from_str(item.text(DATA)?).map_err(|error| error.to_string())?;
            Ok(StoredProgress::Found(Box::new(record)))
        };
        read().unwrap_or_else(|reason| StoredProgress::Unreadable { reason })
    }
}

impl DynamoTable {
    /// The progress of the last run to a vault's first destination. One request.
    ///
    /// # Errors
    ///
    /// [`StateError::Unavailable`] if the table is unusable. A damaged record is not an error.
    pub async fn progress(&self, vault: &VaultId) -> Result<StoredProgress, StateError> {
        self.read_progress(&ItemKeys::of_vault(vault)).await
    }

    pub(super) async fn read_progress(&self, keys: &ItemKeys) -> Result<StoredProgress, StateError> {
        Ok(StoredProgress::of_item(self.get(&keys.progress()).await?.as_ref(), self.now()))
    }
}

impl DynamoState {
    /// Records that a run failed, or was stopped, before it had the lease. Keeps a record that another run
    /// wrote meanwhile, and one that this run wrote since it `began`. If a run had the lease when this state
    /// was opened for reading, nothing is written: that run continues although this one failed.
    ///
    /// # Errors
    ///
    /// [`StateError::Unavailable`] if the table is unusable.
    pub async fn note_failure(
        &self,
        status: ProgressStatus,
        problem: &Problem,
        began: Timestamp,
    ) -> Result<(), StateError> {
        if self.seen().await.is_some_and(|summary| summary.holder.is_some()) {
            return Ok(());
        }
        let (table, keys) = (self.table(), self.item_keys());
        let item = table.get(&keys.progress()).await?;
        let before = match StoredProgress::of_item(item.as_ref(), table.now()) {
            StoredProgress::Found(record) if record.last_update >= began && record.status == status => {
                return Ok(());
            }
            StoredProgress::Found(record) => *record,
            StoredProgress::Missing | StoredProgress::Unreadable { .. } => {
                let version = self.load().await?.version;
                ProgressRecord::of_nothing(self.key().vault_id.clone(), began, version)
            }
        };
        let record = before.after_failure(status, problem, began);
        let written = record.item(keys, table.now()).map_err(|damage| table.unavailable(damage))?;
        let seen = item.and_then(|item| item.get(DATA).cloned());
        let request = |client: &Client| {
            let put = client.put_item().table_name(table.name().as_str()).set_item(Some(written.clone()));
            let put = put.expression_attribute_names("#data", DATA);
            match &seen {
                Some(seen) => put
                    .condition_expression("#data = :seen")
                    .expression_attribute_values(":seen", seen.clone()),
                None => put.condition_expression("attribute_not_exists(#data)"),
            }
            .send()
        };
        match table.call(request).await {
            Ok(_) | Err(CallError::Refused(_)) => Ok(()),
            Err(CallError::Failed(error)) => Err(error),
        }
    }
}
