//! One state in `obsync status`: as JSON and in lines for people.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use obsync_core::pin::VaultKind;
use obsync_core::{
    Direction, Failure, LastRun, Outstanding, RandomId, RunOutcome, StateError, StateStore, Unfinished,
};
use obsync_dynamodb::{DynamoState, DynamoSummary, LeaseHolder, StateKey, StoredProgress};
use obsync_folder::{FolderDestination, FolderOptions};
use obsync_protocol::{Redactor, escaped, printable, shown_name};
use obsync_sqlite::{SqliteState, StateSummary};
use serde::{Serialize, Serializer};

use crate::answer;
use crate::target::disks::{self, Absence};
use crate::ui::{human, shell};

/// A run's clock may have been ahead by this much; a later time is implausible.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(24 * 3600);

/// The state of one destination.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct StateRow {
    /// The destination in its canonical form.
    pub(crate) destination: String,
    /// True if the folder exists with the marker of this state, or with an unreadable one; null for a bucket, which
    /// is not checked.
    present: Option<bool>,
    /// Why it is not.
    #[serde(skip)]
    absence: Option<Absence>,
    /// The id in the marker.
    #[serde(skip)]
    id: Option<RandomId>,
    /// Whether a run ever came to the end of the vault's list.
    #[serde(skip)]
    listed: bool,
    /// The vault's id.
    vault_id: String,
    /// The vault's name.
    vault: String,
    /// The vault's encryption when it was last opened; null if no pin records it.
    pub(crate) encryption: Option<VaultKind>,
    /// The direction of the sync: `pull`, `push` or `both`.
    direction: &'static str,
    /// The vault's version up to which the destination is complete.
    version: u64,
    /// Why the destination is not the whole vault.
    unfinished: Vec<Unfinished>,
    /// Number of files in the destination.
    files: u64,
    /// Their bytes.
    bytes: u64,
    /// Number of folders in the destination.
    folders: u64,
    /// Number of changes that the filter leaves out.
    filtered: u64,
    #[serde(flatten)]
    outstanding: Outstanding,
    /// Number of files that were kept when the vault deleted them.
    #[serde(skip_serializing_if = "is_zero")]
    retained: u64,
    /// When a run last found the destination up to date, or brought it up to date.
    #[serde(serialize_with = "time_or_null")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    last_check: Option<i64>,
    /// When a change was last recorded.
    #[serde(serialize_with = "time_or_null")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    last_change: Option<i64>,
    /// The last run.
    last_run: Option<LastRun>,
    /// The process that is working on the destination.
    at_work: Option<AtWork>,
    /// Number of invocations of the last run so far; only in a table.
    invocations: Option<u32>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

fn time_or_null<S: Serializer>(milliseconds: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    milliseconds.and_then(answer::time).serialize(serializer)
}

/// The process that is working on a destination.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct AtWork {
    /// Host and process, or invocation; null if unknown.
    owner: Option<String>,
    /// Since when, if that is known.
    since: Option<String>,
    /// When the lease expires, unless it is renewed; null for a local run, whose lock ends with the process.
    until: Option<String>,
}

impl StateRow {
    /// The row of a database; `None` if that is empty.
    pub(crate) async fn of_database(
        state: &SqliteState,
        redactor: &Redactor,
    ) -> Result<Option<Self>, StateError> {
        let Some(summary) = state.summary()? else { return Ok(None) };
        let outstanding = Outstanding::of(state, redactor).await?;
        let last_run = state.last_run().await?;
        // A run may be at work. Others' locks are not touched without need.
        let may_be =
            !summary.listed || last_run.as_ref().is_some_and(|run| run.ended.is_none() || run.of_follower);
        let folder = Path::new(&summary.identity.destination);
        let known = state.load().await?;
        // An id that was never written has no folder.
        let id = known.destination.filter(|destination| !destination.is_unwritten()).map(|known| known.id);
        let absence = disks::absence(folder, id).await;
        let present = folder.is_absolute().then_some(absence.is_none());
        let owner = || state.holder().or_else(|| holder(folder));
        let at_work = (may_be && state.is_at_work()).then(|| AtWork::of_lock(owner()));
        let direction = direction(known.direction);
        let row = StateRow {
            present,
            absence,
            id,
            direction,
            outstanding,
            last_check: state.last_check().await?,
            unfinished: Unfinished::of(state, at_work.is_some()).await?,
            at_work,
            last_run,
            ..summary.into()
        };
        Ok(Some(row.presentable(redactor)))
    }

    /// The row of a table's entry.
    pub(crate) async fn of_entry(
        state: &DynamoState,
        summary: &DynamoSummary,
        redactor: &Redactor,
    ) -> Result<Self, StateError> {
        let outstanding = Outstanding::of(state, redactor).await?;
        let progress = match state.progress().await? {
            StoredProgress::Found(record) => Some(record),
            // Nothing depends on it.
            StoredProgress::Missing | StoredProgress::Unreadable { .. } => None,
        };
        let direction = direction(state.load().await?.direction);
        let retained = state.retained(summary).await?;
        let row = StateRow {
            direction,
            outstanding,
            filtered: summary.filtered.saturating_sub(retained),
            retained,
            invocations: progress.as_ref().map(|record| record.invocations),
            last_run: progress.map(|record| record.last_run()),
            last_check: state.last_check().await?,
            unfinished: Unfinished::of(state, summary.holder.is_some()).await?,
            ..StateRow::of_summary(state.key(), summary)
        };
        Ok(row.presentable(redactor))
    }

    /// The same without secrets that an older release may have stored.
    fn presentable(mut self, redactor: &Redactor) -> Self {
        if let Some(error) = self.last_run.as_mut().and_then(|run| run.last_error.as_mut()) {
            error.message = redactor.printable(&error.message);
        }
        self
    }

    /// A sentence if no run found or made the destination up to date within this time before `now`, or if
    /// there is no destination; `None` if all is well.
    pub(crate) fn too_old(&self, age: Duration, now: Timestamp) -> Option<String> {
        let destination = &escaped(&self.destination);
        if let Some(absence) = self.absence {
            return Some(format!("{destination} is not there: {absence}"));
        }
        if self.is_blank() {
            return Some(format!("nothing was ever pulled to {destination}"));
        }
        let Some(checked) = self.last_check else {
            return Some(format!("no run to {destination} was successful yet"));
        };
        check_is_too_old(destination, checked, age, now.as_millisecond())
    }

    /// True if no run ever transferred anything: the first one failed.
    pub(crate) fn is_blank(&self) -> bool {
        let is_empty = self.version == 0 && self.files == 0 && self.folders == 0 && !self.listed;
        is_empty && self.last_check.is_none() && self.at_work.is_none()
    }

    /// True if another known destination is at the path now, so that this one does not exist any more.
    pub(crate) fn is_replaced(&self) -> bool {
        self.absence == Some(Absence::Replaced)
    }

    /// Number of changes that wait to be sent, or to be confirmed.
    pub(crate) fn waiting(&self) -> u64 {
        (self.outstanding.waiting.len() + self.outstanding.held_back_in_vault.len()) as u64
    }

    /// The direction for scripts.
    pub(crate) fn direction(&self) -> &'static str {
        self.direction
    }

    /// Marks rows at whose path another of them is now.
    pub(crate) fn mark_replaced(rows: &mut [Self]) {
        let there: HashSet<(String, RandomId)> =
            rows.iter().filter(|row| row.absence.is_none()).filter_map(Self::place).collect();
        for row in rows {
            if let Some(Absence::OtherMarker(id)) = row.absence
                && there.contains(&(row.destination.clone(), id))
            {
                row.absence = Some(Absence::Replaced);
            }
        }
    }

    fn place(&self) -> Option<(String, RandomId)> {
        Some((self.destination.clone(), self.id?))
    }

    fn of_summary(key: &StateKey, summary: &DynamoSummary) -> Self {
        StateRow {
            destination: key.destination.clone(),
            present: None,
            absence: None,
            id: None,
            listed: true,
            vault_id: key.vault_id.to_string(),
            vault: summary.vault_name.clone(),
            encryption: None,
            direction: direction(Direction::Pull),
            version: summary.version,
            unfinished: Vec::new(),
            files: summary.files,
            bytes: summary.bytes,
            folders: summary.folders,
            filtered: summary.filtered,
            outstanding: Outstanding::default(),
            retained: 0,
            last_check: None,
            last_change: summary.committed,
            last_run: None,
            at_work: summary.holder.as_ref().map(AtWork::new),
            invocations: None,
        }
    }

    /// The canonical destination.
    pub(crate) fn destination(&self) -> &str {
        &self.destination
    }

    /// The vault's id.
    pub(crate) fn vault_id(&self) -> &str {
        &self.vault_id
    }

    /// The row for people.
    pub(crate) fn describe(&self) -> String {
        let mut lines = vec![
            escaped(&self.destination).into_owned(),
            format!("  vault      {:?} ({})", self.vault, self.vault_id),
            format!("  encryption {}", self.encryption.map_or("unknown", VaultKind::as_str)),
            format!("  direction  {}", self.direction_for_people()),
            format!(
                "  contents   {} ({}), {}",
                human::files(self.files),
                human::size(self.bytes),
                human::folders(self.folders)
            ),
            format!("  version    {}", self.version),
            format!("  checked    {}", self.last_check.map_or_else(|| "never".to_owned(), human::time)),
            format!("  changed    {}", self.last_change.map_or_else(|| "never".to_owned(), human::time)),
        ];
        if self.is_blank() {
            lines.insert(1, "  empty      nothing was ever pulled there".to_owned());
        }
        if let Some(absence) = self.absence {
            let forget = match absence {
                Absence::Replaced => {
                    let command = command("reset", &[&self.destination], &["--gone"]);
                    format!("; `{command}` forgets it")
                }
                _ => String::new(),
            };
            lines.insert(1, format!("  not there  {absence}{forget}"));
        }
        lines.extend(self.unfinished.iter().map(|reason| format!("  unfinished {}", unfinished(*reason))));
        lines.extend(self.at_work.as_ref().map(AtWork::describe));
        if let Some(run) = &self.last_run {
            self.describe_run(run, &mut lines);
        }
        if self.filtered > 0 {
            lines.push(format!("  left out   {}", human::counted(self.filtered, "change", "changes")));
        }
        if self.retained > 0 {
            let files = human::files(self.retained);
            lines.push(format!("  kept       {files} that the vault deleted; `obsync verify` names them"));
        }
        self.describe_failures(&mut lines);
        lines.join("\n")
    }

    /// True if deletions wait, or were confirmed since. A mirror holds other things back.
    fn holds_deletions_back(&self) -> bool {
        let Outstanding { held_back, held_back_in_vault, confirmed, .. } = &self.outstanding;
        ![held_back, held_back_in_vault, confirmed].into_iter().all(Vec::is_empty)
    }

    fn direction_for_people(&self) -> &'static str {
        direction_for_people(self.direction)
    }

    fn describe_run(&self, run: &LastRun, lines: &mut Vec<String>) {
        let outcome = match run.outcome {
            RunOutcome::Running if self.at_work.is_some() => "running",
            RunOutcome::Running => "killed",
            RunOutcome::Complete => "complete",
            RunOutcome::Failures => "some changes failed",
            RunOutcome::HeldBack if self.holds_deletions_back() => "deletions held back",
            RunOutcome::HeldBack => "local changes not reverted, too many",
            RunOutcome::VaultOlder => "the vault was older",
            RunOutcome::Interrupted => "interrupted",
            RunOutcome::Failed => "failed",
        };
        let moment = |time: jiff::Timestamp| human::time(time.as_millisecond());
        let when = match run.ended {
            Some(ended) => format!("ended {}", moment(ended)),
            None => format!("began {}", moment(run.began)),
        };
        lines.push(format!("  last run   {outcome}, {when}{}", self.after()));
        let progress = &run.progress;
        if progress.files_total > 0 && run.outcome != RunOutcome::Complete {
            lines.push(format!(
                "  progress   {} of {}, {} of {}",
                human::number(progress.files_complete),
                human::files(progress.files_total),
                human::size(progress.bytes_complete),
                human::size(progress.bytes_total)
            ));
        }
        if let Some(reason) = run.unwatched.as_ref().filter(|_| self.at_work.is_some()) {
            lines.push(format!("  watching   not every change is seen at once: {}", printable(reason)));
        }
        if run.failures_in_a_row > 1 {
            lines.push(format!(
                "  in a row   {} failed",
                human::counted(run.failures_in_a_row.into(), "run", "runs")
            ));
        }
        if let Some(error) = &run.last_error {
            let is_mended = run.outcome == RunOutcome::Complete && error.at < run.began;
            lines.push(format!(
                "  last error {} ({}{}): {}",
                moment(error.at),
                error.code,
                if is_mended { ", resolved since" } else { "" },
                printable(&error.message)
            ));
        }
    }

    fn after(&self) -> String {
        let invocations = self.invocations.filter(|invocations| *invocations > 1);
        invocations.map_or_else(String::new, |invocations| {
            format!(", after {}", human::counted(invocations.into(), "invocation", "invocations"))
        })
    }

    fn describe_failures(&self, lines: &mut Vec<String>) {
        let mut describe = |failures: &[Failure], label: &str, what_now: &str| {
            if failures.is_empty() {
                return;
            }
            let count = human::counted(failures.len() as u64, "change", "changes");
            lines.push(format!("  {label:10} {count}{what_now}:"));
            lines.extend(failures.iter().map(|failure| {
                let (path, reason) = (shown_name(&failure.path), human::with_local_times(&failure.reason));
                let reason = printable(&reason);
                format!("    {path} (version {}): {reason}", failure.uid)
            }));
        };
        describe(&self.outstanding.failures, "failed", ", retried by the next run");
        describe(&self.outstanding.accepted, "accepted", " that can never be stored here");
        describe(&self.outstanding.waiting, "waiting", " to be sent");
        let diverged = &self.outstanding.diverged;
        if !diverged.is_empty() {
            let count = human::counted(diverged.len() as u64, "change", "changes");
            // The name can be changed, and other vaults can have it.
            let here = [self.vault_id.as_str(), self.destination.as_str()];
            let (sync, mirror) = (command("sync", &here, &[]), command("push", &here, &["--mirror"]));
            lines.push(format!(
                "  diverged   {count} of the vault left alone by a push; `{sync}` applies them here, `{mirror}` \
                 replaces them:"
            ));
            lines.extend(diverged.iter().map(|path| format!("    {}", shown_name(path))));
        }
        let mut describe_held_back = |paths: &[String], side: &str| {
            if paths.is_empty() {
                return;
            }
            let count = human::counted(paths.len() as u64, "deletion", "deletions");
            let command = command("confirm", &[&self.destination], &[]);
            lines.push(format!("  held back  {count}{side}; `{command}` allows them:"));
            lines.extend(paths.iter().map(|path| format!("    {}", shown_name(path))));
        };
        describe_held_back(&self.outstanding.held_back, "");
        describe_held_back(&self.outstanding.held_back_in_vault, " in the vault");
        let confirmed = &self.outstanding.confirmed;
        if !confirmed.is_empty() {
            let count = human::counted(confirmed.len() as u64, "deletion", "deletions");
            lines.push(format!("  confirmed  {count}, made by the next run:"));
            lines.extend(confirmed.iter().map(|path| format!("    {}", shown_name(path))));
        }
    }
}

impl From<StateSummary> for StateRow {
    fn from(summary: StateSummary) -> Self {
        StateRow {
            destination: summary.identity.destination,
            present: None,
            absence: None,
            id: None,
            listed: summary.listed,
            vault_id: summary.identity.vault_id.to_string(),
            vault: summary.identity.vault_name,
            encryption: None,
            direction: direction(Direction::Pull),
            version: summary.version,
            unfinished: Vec::new(),
            files: summary.files,
            bytes: summary.bytes,
            folders: summary.folders,
            filtered: summary.filtered,
            outstanding: Outstanding::default(),
            retained: summary.retained,
            last_check: None,
            last_change: Some(summary.committed),
            last_run: None,
            at_work: None,
            invocations: None,
        }
    }
}

impl AtWork {
    fn new(holder: &LeaseHolder) -> Self {
        let until = answer::time(holder.expires);
        AtWork { owner: Some(holder.owner.clone()), since: None, until }
    }

    /// The holder of a lock, with its time if that has the form of times in JSON. Earlier releases wrote
    /// another form, which stays part of the name.
    fn of_lock(holder: Option<String>) -> Self {
        let parts = holder.as_deref().and_then(|holder| holder.rsplit_once(" since "));
        match parts.filter(|(_, since)| since.parse::<jiff::Timestamp>().is_ok()) {
            Some((owner, since)) => {
                AtWork { owner: Some(owner.to_owned()), since: Some(since.to_owned()), until: None }
            }
            None => AtWork { owner: holder, since: None, until: None },
        }
    }

    fn describe(&self) -> String {
        let owner = self.owner.as_deref().map_or("another process".into(), shown_name);
        let shown = |time: &Option<String>| {
            let time: Option<jiff::Timestamp> = time.as_ref().and_then(|time| time.parse().ok());
            time.map(|time| human::time(time.as_millisecond()))
        };
        let since = shown(&self.since).map_or_else(String::new, |since| format!(" since {since}"));
        let until =
            shown(&self.until).map_or_else(String::new, |until| format!(", until {until} unless renewed"));
        format!("  at work    {owner}{since}{until}")
    }
}

/// True if the recorded time of a check is in the future. The clock was wrong then or is wrong now, so the
/// age of the check is unknown.
pub(crate) fn is_in_the_future(checked: i64, now: i64) -> bool {
    let ahead = Duration::from_millis(checked.saturating_sub(now).try_into().unwrap_or_default());
    ahead > CLOCK_DIFFERENCE
}

/// The sentence for a check that is older than `age`, or of unknown age.
fn check_is_too_old(destination: &str, checked: i64, age: Duration, now: i64) -> Option<String> {
    if is_in_the_future(checked, now) {
        let checked = human::time(checked);
        return Some(format!(
            "the last successful run to {destination} was at {checked}, which is in the future: the clock was wrong then, or is \
             now; set it and run that again"
        ));
    }
    let passed = Duration::from_millis(now.saturating_sub(checked).try_into().unwrap_or_default());
    (passed > age).then(|| {
        let (passed, age) = (human::rough(passed), human::rough(age));
        format!("the last successful run to {destination} was {passed} ago, more than {age}")
    })
}

/// A direction for scripts.
pub(crate) fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Pull => "pull",
        Direction::Push => "push",
        Direction::Both => "both",
    }
}

/// The same for people.
pub(crate) fn direction_for_people(direction: &str) -> &'static str {
    match direction {
        "push" => "from here to the vault",
        "both" => "both ways",
        _ => "from the vault to here",
    }
}

/// The lock holder of a folder, as far as the lock names it.
fn holder(folder: &Path) -> Option<String> {
    FolderDestination::open(folder, FolderOptions::default()).ok()?.holder()
}

fn unfinished(reason: Unfinished) -> &'static str {
    match reason {
        Unfinished::FirstPull => "the first pull is not complete",
        Unfinished::FullPull => "a full run is not complete",
        Unfinished::OtherChoice => "a pull with another filter is not complete",
        Unfinished::KeepEverything => "a pull that keeps everything is not complete",
        Unfinished::Killed => "a run ended while it was placing files: it was killed, or failed",
        Unfinished::Interrupted => "a run was interrupted before its end",
        Unfinished::Unsent => "a run ended while it was sending local changes",
    }
}

/// A command in a line of its text.
fn command(subcommand: &str, operands: &[&str], options: &[&str]) -> String {
    escaped(&shell::command(subcommand, operands, options)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_counts_for_as_long_as_it_was_asked_for_and_not_if_it_is_of_the_future() {
        const HOUR: i64 = 3_600_000;
        const NOW: i64 = 1_767_268_800_000;
        let sentence = |checked| {
            check_is_too_old("notes", checked, Duration::from_secs(2 * 3600), NOW).unwrap_or_default()
        };
        assert_eq!(sentence(NOW - 2 * HOUR), "");
        assert_eq!(sentence(NOW + 23 * HOUR), "", "clocks differ");
        let old = "the last successful run to notes was 3 h 0 min ago, more than 2 h 0 min";
        assert_eq!(sentence(NOW - 3 * HOUR), old);
        for ahead in [25, 24 * 3650] {
            let sentence = sentence(NOW + ahead * HOUR);
            assert!(sentence.contains("in the future: the clock was wrong then, or is now"), "{sentence:?}");
        }
        assert!(!sentence(i64::MIN).is_empty() && !sentence(i64::MAX).is_empty());
    }
}
