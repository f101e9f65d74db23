//! Counts the events of all histories: a history in which nothing happens proves nothing.

use std::collections::BTreeMap;

use obsync_core::{Intent, JournalChange, JournalEntry, Report, Side};

use super::FAULTS;

/// Every kind of decision, race and recovery that has to occur. Rare kinds have tests of their own.
const KINDS: [&str; 56] = [
    "decision: downloaded",
    "decision: copied here",
    "decision: removed here",
    "decision: folder made here",
    "decision: folder removed here",
    "decision: sent",
    "decision: folder sent",
    "decision: deleted in the vault",
    "decision: folder deleted in the vault",
    "decision: merged",
    "decision: kept under two names",
    "decision: kept though the vault deleted it",
    "decision: held back here",
    "decision: held back in the vault",
    "decision: left out",
    "decision: failed",
    "decision: adopted",
    "decision: times set",
    "decision: rename sent",
    "decision: an edit went along with a rename",
    "decision: gave way to a folder",
    "decision: name refused",
    "decision: configuration merged",
    "decision: put back after a deletion",
    "decision: the folder is doubted",
    "doubt: a folder without its files",
    "doubt: a folder that came back",
    "confirmed",
    "direction changed",
    "filter: something went while it was left out",
    "race: wrote while it was sent",
    "race: in a run that ended well",
    "race: what was overwritten was found",
    "race: its user edited while it ran",
    "race: its user saved by rename while it ran",
    "race: its user deleted while it ran",
    "race: its user renamed while it ran",
    "race: its user moved a tree while it ran",
    "race: its user checked out a branch while it ran",
    "race: its user was at work in a run that ended well",
    "race: the official client was in the midst of sending",
    "official client: sent",
    "official client: sent without a look at what came just before",
    "recovery: run ended by an error",
    "recovery: killed at work",
    "recovery: stopped at work",
    "recovery: announced pushes",
    "recovery: announced files",
    "recovery: settled by a pull",
    "recovery: settled late",
    "late: arrives after its run",
    "late: what is here was newer",
    "recovery: announced an exchange",
    "clock: behind",
    "clock: ahead",
    "clock: jumped in a run",
];

/// Number of occurrences of each kind.
#[derive(Debug, Default)]
pub(super) struct Counted(BTreeMap<String, u64>);

impl Counted {
    pub(super) fn note(&mut self, kind: impl Into<String>) {
        self.add(kind, 1);
    }

    pub(super) fn add(&mut self, kind: impl Into<String>, times: u64) {
        if times > 0 {
            *self.0.entry(kind.into()).or_default() += times;
        }
    }

    pub(super) fn extend(&mut self, other: &Counted) {
        for (kind, times) in &other.0 {
            self.add(kind.clone(), *times);
        }
    }

    pub(super) fn report(&mut self, report: &Report) {
        let kinds = [
            ("downloaded", report.pulled.files),
            ("copied here", report.copied.files),
            ("adopted", report.adopted.files),
            ("removed here", report.deleted.files),
            ("folder made here", report.folders_created),
            ("folder removed here", report.folders_deleted),
            ("sent", report.pushed.files),
            ("folder sent", report.folders_pushed),
            ("deleted in the vault", report.deleted_in_vault.files),
            ("folder deleted in the vault", report.folders_deleted_in_vault),
            ("merged", report.merged.len() as u64),
            ("kept under two names", report.conflicts.len() as u64),
            ("kept though the vault deleted it", report.kept.len() as u64),
            ("held back here", report.held_back.len() as u64),
            ("held back in the vault", report.held_back_in_vault.len() as u64),
            ("left out", report.skipped.files),
            ("failed", report.failures.len() as u64),
        ];
        for (kind, times) in kinds {
            self.add(format!("decision: {kind}"), times);
        }
        self.add("decision: the folder is doubted", u64::from(report.doubt.is_some()));
    }

    /// Counts decisions that only the journal of a replica shows.
    pub(super) fn journal(&mut self, entries: &[JournalEntry]) {
        let renames =
            entries.iter().filter(|entry| entry.from.is_some() && entry.change == JournalChange::Write);
        for entry in renames {
            self.note(match entry.side {
                Side::Vault => "decision: rename sent",
                Side::Here => "decision: an edit went along with a rename",
            });
        }
    }

    /// Counts the changes that an unfinished run left announced.
    pub(super) fn announced(&mut self, intents: &[Intent]) {
        let is_push = |intent: &Intent| matches!(intent, Intent::Push { .. });
        self.add("recovery: announced pushes", u64::from(intents.iter().any(is_push)));
        self.add("recovery: announced files", u64::from(intents.iter().any(|intent| !is_push(intent))));
        let is_exchange = |intent: &Intent| matches!(intent, Intent::Exchange { .. });
        self.add("recovery: announced an exchange", u64::from(intents.iter().any(is_exchange)));
    }

    /// Fails unless every kind occurred and every fault struck.
    pub(super) fn assert_all(&self) {
        let faults = FAULTS.iter().map(|fault| format!("fault: {fault}"));
        let kinds = KINDS.iter().map(|kind| (*kind).to_owned()).chain(faults);
        let missing: Vec<String> = kinds.filter(|kind| !self.0.contains_key(kind)).collect();
        assert!(missing.is_empty(), "never occurred: {missing:?}");
    }
}
