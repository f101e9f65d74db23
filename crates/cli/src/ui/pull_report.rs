//! A pull's report in plain sentences. (`--json` prints the [`Report`] itself.)

use std::time::Duration;

use obsync_core::{Direction, Outcome, Report, Step, StepAction, Tally};
use obsync_protocol::{escaped, printable, shown_name};

use crate::ui::human;
use crate::ui::listing::{named, named_of};

/// Most held-back deletions listed.
const HELD_BACK_SHOWN: usize = 20;
/// Most steps of a plan shown before a question, so that its beginning and its sum are on one screen.
const STEPS_SHOWN: usize = 20;

/// The finished or planned actions, one sentence a line.
pub(crate) fn sentences(report: &Report) -> String {
    sentences_with(report, usize::MAX)
}

/// The planned actions, for a question: of many steps only the first ones.
pub(crate) fn plan(report: &Report) -> String {
    sentences_with(report, STEPS_SHOWN)
}

fn sentences_with(report: &Report, most_steps: usize) -> String {
    let mut lines = Vec::new();
    match report.outcome {
        Outcome::DryRun => steps(report, most_steps, &mut lines),
        _ => done(report, &mut lines),
    }
    if report.skipped.files > 0 {
        lines.push(format!(
            "Left out: {} ({}): {}.",
            human::files(report.skipped.files),
            human::size(report.skipped.bytes),
            reasons(report)
        ));
    }
    if report.accepted_failures > 0 {
        lines.push(format!(
            "Accepted failures: {}; `obsync status` lists them.",
            human::counted(report.accepted_failures, "change", "changes")
        ));
    }
    if !report.other_config_dirs.is_empty() {
        lines.push(
            "Left out, though these look like configuration folders that other devices use. To pull them, give \
             --config-dir once for each, and once for .obsidian:"
                .to_owned(),
        );
        named(report.other_config_dirs.iter().cloned(), &mut lines);
    }
    if report.outcome == Outcome::DryRun {
        lines.push(would_take(report));
    }
    lines.join("\n")
}

/// The failures with the remedy, or `None` if there are none.
pub(crate) fn failures(report: &Report) -> Option<String> {
    if report.failures.is_empty() {
        return None;
    }
    let count = report.failed();
    let is_dry = report.outcome == Outcome::DryRun;
    let mut lines = vec![match is_dry {
        true => format!("{} would fail:", human::counted(count, "change", "changes")),
        false => format!("{}; the next run retries:", could_not(count, report.direction)),
    }];
    lines.extend(report.failures.iter().map(|failure| {
        let (path, reason) = (shown_name(&failure.path), human::with_local_times(&failure.reason));
        let reason = printable(&reason);
        format!("  {path} (version {}): {reason}", failure.uid)
    }));
    if report.failures_unlisted > 0 {
        lines.push(format!("  and {} more", human::number(report.failures_unlisted)));
    }
    if report.has_lasting_failures {
        let or_excluded =
            if report.has_excludable_failures { ", or leave them out with `--exclude`" } else { "" };
        lines.push(format!(
            "To accept entries that can never be stored here, pull once with `--accept-failures`; or rename them in \
             Obsidian{or_excluded}."
        ));
    }
    // Other outcomes have their own sentence.
    let is_worse = report.older_vault.is_some() || report.held_back() + report.not_taken_back() > 0;
    if is_dry && !is_worse {
        lines.push("The run itself would end with exit status 5.".to_owned());
    }
    Some(lines.join("\n"))
}

/// The number of failed changes, with the verb of the direction.
pub(crate) fn could_not(changes: u64, direction: Direction) -> String {
    let verb = match direction {
        Direction::Pull => "pulled",
        Direction::Push => "sent",
        Direction::Both => "synced",
    };
    format!("{} could not be {verb}", human::counted(changes, "change", "changes"))
}

/// The held-back deletions with the remedy, or `None` if there are none.
pub(crate) fn held_back(report: &Report, command: &str) -> Option<String> {
    if report.held_back() == 0 {
        return None;
    }
    let files = human::files(report.held_back());
    let is_dry = report.outcome == Outcome::DryRun;
    let verb = if is_dry { "Would not be deleted" } else { "Not deleted" };
    let mut lines = vec![format!("{verb}, because there are too many: {files}:")];
    let shown = report.held_back.iter().chain(&report.held_back_in_vault).take(HELD_BACK_SHOWN);
    lines.extend(shown.map(|path| format!("  {}", shown_name(path.as_str()))));
    if let Some(more @ 1..) = report.held_back().checked_sub(HELD_BACK_SHOWN as u64) {
        let where_from = if is_dry { "" } else { "; `obsync status` names them" };
        lines.push(format!("  and {} more{where_from}", human::number(more)));
    }
    if is_dry {
        lines.push("The run itself would end with exit status 9.".to_owned());
        return Some(lines.join("\n"));
    }
    let looked_at = match report.held_back_in_vault.is_empty() {
        true => "the vault in Obsidian",
        false => "the folder and the vault",
    };
    lines.push(format!(
        "Look at {looked_at}. If these deletions are intended, `{command}` lets the next run make them."
    ));
    Some(lines.join("\n"))
}

/// The changes that a mirror left untouched with the remedy, or `None` if there are none.
pub(crate) fn not_taken_back(report: &Report) -> Option<String> {
    let count = report.not_taken_back();
    if count == 0 {
        return None;
    }
    let is_dry = report.outcome == Outcome::DryRun;
    let verb = if is_dry { "Would not be reverted" } else { "Not reverted" };
    let files = human::files(count);
    let mut lines = vec![format!("{verb}, because too many files were changed or added here: {files}:")];
    let shown = report.not_taken_back.iter().take(HELD_BACK_SHOWN);
    lines.extend(shown.map(|path| format!("  {}", shown_name(path.as_str()))));
    if let Some(more @ 1..) = count.checked_sub(HELD_BACK_SHOWN as u64) {
        lines.push(format!("  and {} more", human::number(more)));
    }
    lines.push(match is_dry {
        true => "The run itself would end with exit status 9.".to_owned(),
        false => "Look at the folder. To move these files to its trash, run the command again with `--max-delete none`."
            .to_owned(),
    });
    Some(lines.join("\n"))
}

fn done(report: &Report, lines: &mut Vec<String>) {
    let time = human::duration(Duration::from_millis(report.duration_ms));
    let (vault, destination) = (&report.vault, escaped(&report.destination));
    // A mirror that took nothing back has no news either; held-back deletions are news.
    let is_left_alone = report.outcome == Outcome::HeldBack && report.held_back() == 0;
    if report.is_unchanged() && (report.outcome == Outcome::Complete || is_left_alone) {
        lines.push(match report.version {
            0 => {
                format!("The vault {vault:?} is empty: there is nothing to copy to {destination} ({time}).")
            }
            version => {
                format!("Nothing new in {vault:?} for {destination} since version {version} ({time}).")
            }
        });
        return;
    }
    let version = report.version;
    match report.direction {
        Direction::Pull => lines.push(format!(
            "Pulled {} from {vault:?} to {destination} in {time} (version {version}).",
            tally(report.pulled)
        )),
        Direction::Push => {
            lines.push(format!("Sent {destination} to {vault:?} in {time} (version {version})."));
        }
        Direction::Both => {
            lines.push(format!("Synced {destination} and {vault:?} in {time} (version {version})."));
            if report.pulled.files > 0 {
                lines.push(format!("Pulled: {}.", tally(report.pulled)));
            }
        }
    }
    sent(report, lines);
    if report.adopted.files > 0 {
        lines.push(format!("Found in place, so not downloaded: {}.", tally(report.adopted)));
    }
    let (copied, deleted) = (without(report.copied, report.moved), without(report.deleted, report.moved));
    if copied.files > 0 {
        lines.push(format!("Copied from other paths with the same content: {}.", tally(copied)));
    }
    if report.moved.files > 0 {
        lines.push(format!("Moved, as in the vault: {}.", human::files(report.moved.files)));
        let names = report.moved_files.iter().map(|moved| format!("{} is now {}", moved.from, moved.path));
        named_of(report.moved.files, names, lines);
    }
    if report.folders_created > 0 {
        lines.push(format!("Created {}.", human::folders(report.folders_created)));
    }
    if deleted.files > 0 || report.folders_deleted > 0 {
        let files = (deleted.files > 0).then(|| human::files(deleted.files));
        let counted = files_and_folders(files, report.folders_deleted);
        lines.push(format!("Deleted, as in the vault: {counted}."));
        named_of(deleted.files, report.deleted_files.iter().map(ToString::to_string), lines);
    }
    if report.retained.files > 0 {
        lines
            .push(format!("Deleted or renamed in the vault, kept as you asked: {}.", tally(report.retained)));
    }
    kept(report, lines);
    diverged(report, lines);
    code(report, lines);
}

/// The difference of two tallies.
fn without(all: Tally, some: Tally) -> Tally {
    Tally { files: all.files.saturating_sub(some.files), bytes: all.bytes.saturating_sub(some.bytes) }
}

/// Files and folders, if there are any.
fn files_and_folders(files: Option<String>, folders: u64) -> String {
    let folders = (folders > 0).then(|| human::folders(folders));
    files.into_iter().chain(folders).collect::<Vec<_>>().join(" and ")
}

/// The changes sent to the vault.
fn sent(report: &Report, lines: &mut Vec<String>) {
    if report.pushed.files > 0 || report.folders_pushed > 0 {
        let sent = (report.pushed.files > 0).then(|| tally(report.pushed));
        lines.push(format!("Sent to the vault: {}.", files_and_folders(sent, report.folders_pushed)));
    }
    if report.deleted_in_vault.files > 0 || report.folders_deleted_in_vault > 0 {
        let files = report.deleted_in_vault.files;
        let deleted =
            files_and_folders((files > 0).then(|| human::files(files)), report.folders_deleted_in_vault);
        lines.push(format!("Deleted in the vault, as here: {deleted}."));
        named_of(
            report.deleted_in_vault.files,
            report.deleted_in_vault_files.iter().map(ToString::to_string),
            lines,
        );
    }
    if !report.merged.is_empty() {
        lines
            .push(format!("Changed on both sides and merged: {}.", human::files(report.merged.len() as u64)));
        named(report.merged.iter().map(ToString::to_string), lines);
    }
}

/// Changes of the vault that a push left alone.
fn diverged(report: &Report, lines: &mut Vec<String>) {
    let all = report.diverged.len() as u64 + report.diverged_unlisted;
    if all > 0 {
        let count = human::counted(all, "change", "changes");
        lines.push(format!(
            "Left alone in the vault: {count}. `obsync sync` applies them here, `obsync push --mirror` replaces them."
        ));
        named_of(all, report.diverged.iter().map(ToString::to_string), lines);
    }
}

/// Changed files that Obsidian runs or applies by itself.
fn code(report: &Report, lines: &mut Vec<String>) {
    if !report.code.is_empty() {
        lines.push(format!(
            "Code with new content, which Obsidian runs or applies when it opens the vault: {}.",
            human::files(report.code.len() as u64)
        ));
        named(report.code.iter().map(ToString::to_string), lines);
    }
}

/// The numbers of files left out, by reason.
fn reasons(report: &Report) -> String {
    let reason = |(name, tally): (&&str, &Tally)| {
        let text = match *name {
            "excluded" => "in excluded folders",
            "never_synced" => "never synced by Obsidian",
            "configuration" => "of configuration that is not selected",
            "hidden" => "hidden by a dot",
            "code" => "code",
            _ => "of file types that are not selected",
        };
        format!("{} {text}", human::number(tally.files))
    };
    report.skipped_reasons.iter().map(reason).collect::<Vec<_>>().join(", ")
}

fn kept(report: &Report, lines: &mut Vec<String>) {
    if !report.set_aside.is_empty() {
        let files = human::files(report.set_aside.len() as u64);
        let verb = if report.outcome == Outcome::DryRun { "Would be reverted" } else { "Reverted" };
        lines.push(format!(
            "{verb}, as they were changed or added here: {files} (in .obsync/trash for 30 days)."
        ));
        named(report.set_aside.iter().map(ToString::to_string), lines);
    }
    if !report.kept.is_empty() {
        lines.push(format!(
            "Deleted in the vault but changed here, so kept: {}.",
            human::files(report.kept.len() as u64)
        ));
        named(report.kept.iter().map(ToString::to_string), lines);
    }
    if !report.conflicts.is_empty() {
        lines.push(format!(
            "In the way of a file of the vault, so kept under another name: {}.",
            human::files(report.conflicts.len() as u64)
        ));
        named(
            report.conflicts.iter().map(|conflict| format!("{} is now {}", conflict.path, conflict.kept_as)),
            lines,
        );
    }
}

fn steps(report: &Report, most: usize, lines: &mut Vec<String>) {
    lines.extend(report.steps.iter().take(most).map(step));
    if let Some(more @ 1..) = report.steps.len().checked_sub(most) {
        lines.push(format!("  … and {} more (--dry-run names them all)", human::number(more as u64)));
    }
    kept(report, lines);
    code(report, lines);
    if report.retained.files > 0 {
        lines
            .push(format!("Deleted or renamed in the vault, kept as you asked: {}.", tally(report.retained)));
    }
}

/// The name of the run.
fn run_of(report: &Report) -> &'static str {
    match report.direction {
        Direction::Pull => "A pull",
        Direction::Push => "A push",
        Direction::Both => "A sync",
    }
}

/// The result of a dry run in one sentence: the last one, as steps can be many.
fn would_take(report: &Report) -> String {
    let (vault, destination) = (&report.vault, escaped(&report.destination));
    match (report.steps.len() + report.set_aside.len()) as u64 {
        0 if report.held_back() > 0 => format!(
            "{} of {vault:?} to {destination} would hold back {} and change nothing.",
            run_of(report),
            human::counted(report.held_back(), "deletion", "deletions")
        ),
        0 => format!("{} of {vault:?} to {destination} would change nothing.", run_of(report)),
        steps => format!(
            "{} of {vault:?} to {destination} would take {}: {}.",
            run_of(report),
            human::counted(steps, "step", "steps"),
            deeds(report)
        ),
    }
}

/// The totals of the steps.
fn deeds(report: &Report) -> String {
    let count = |action| report.steps.iter().filter(|step| step.action == action).count() as u64;
    let mut deeds = Vec::new();
    if report.pulled.files > 0 {
        deeds.push(format!("download {}", tally(report.pulled)));
    }
    let counted = [
        (report.set_aside.len() as u64, "revert", human::files as fn(u64) -> String),
        (without(report.copied, report.moved).files, "copy", human::files),
        (report.moved.files, "move", human::files),
        (count(StepAction::Adopt), "take as they are", human::files),
        (count(StepAction::Touch), "set the times of", human::files),
        (count(StepAction::KeepBeside), "keep beside", human::files),
        (count(StepAction::Merge), "merge", human::files),
        (without(report.deleted, report.moved).files, "delete", human::files),
        (report.folders_created, "make", human::folders),
        (count(StepAction::RemoveFolder), "delete", human::folders),
        (count(StepAction::Push), "send", human::files),
        (count(StepAction::PushFolder), "make there", human::folders),
        (count(StepAction::DeleteInVault), "delete in the vault", human::files),
    ];
    deeds.extend(
        counted
            .into_iter()
            .filter(|(count, ..)| *count > 0)
            .map(|(count, verb, noun)| format!("{verb} {}", noun(count))),
    );
    deeds.join(", ")
}

fn step(step: &Step) -> String {
    let action = match step.action {
        StepAction::Download => "download",
        StepAction::Copy => "copy",
        StepAction::Touch => "set times",
        StepAction::Remove => "delete",
        StepAction::CreateFolder => "make folder",
        StepAction::RemoveFolder => "delete folder",
        StepAction::Push => "send",
        StepAction::PushFolder => "send folder",
        StepAction::DeleteInVault => "delete there",
        StepAction::Adopt => "take as it is",
        StepAction::KeepBeside => "keep beside",
        StepAction::Merge => "merge",
    };
    let size = step.size.map(|size| format!(" ({})", human::size(size))).unwrap_or_default();
    let from =
        step.from.as_ref().map(|from| format!(" from {}", shown_name(from.as_str()))).unwrap_or_default();
    format!("  {action:<13}  {}{size}{from}", shown_name(step.path.as_str()))
}

fn tally(tally: Tally) -> String {
    format!("{} ({})", human::files(tally.files), human::size(tally.bytes))
}
