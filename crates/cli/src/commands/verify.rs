//! `obsync verify`: compares every file of a destination with the recorded one, and says whether that is the
//! whole vault.

mod remedies;

use std::sync::Arc;

use jiff::Timestamp;
use obsync_bucket::BucketOptions;
use obsync_core::{
    Phase, Problem, ProblemCode, Progress, RunOutcome, StateError, StateStore, Unfinished, VaultState,
    Verification, VerifiedFile, VerifyError, verify,
};
use obsync_protocol::{VaultPath, escaped, printable, shown_name};
use serde::Serialize;

use self::remedies::{Remedy, Usual, mend, remedies};
use super::waiting::patiently;
use crate::answer::Answer;
use crate::args::Verify;
use crate::context::Context;
use crate::exit::{Exit, Failed};
use crate::target::destination::Destination;
use crate::target::disks::Absence;
use crate::target::known::{Known, Nested, Purpose};
use crate::target::states::{State, StateVault};
use crate::ui::human;
use crate::ui::listing::named;
use crate::ui::progress::Display;

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct VerifyDocument {
    /// The destination as given on the command line.
    destination: String,
    /// The vault's name.
    vault: Option<String>,
    /// The vault's id.
    vault_id: Option<String>,
    /// True if the destination is the whole vault, exactly as it was last pulled.
    clean: bool,
    /// Why the folder is not the one that was pulled to: `no_folder`, `no_marker` or `other_marker`; null if it is, and
    /// for a bucket. Such a folder is never clean.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    absence: Option<Absence>,
    /// Commands that repair the destination, in order.
    commands: Vec<String>,
    /// Other destinations inside this one. Their files are not in `extra`.
    nested: Vec<NestedPlace>,
    #[serde(flatten)]
    verification: Verification,
}

/// Another destination inside the one that is verified.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct NestedPlace {
    destination: String,
    /// The vault of that destination.
    vault: String,
    /// Number of its files, which this command does not check.
    files: u64,
}

/// Removes the files of other destinations from those that are not the vault's, or that no run syncs.
async fn take_nested(known: &Known, verification: &mut Verification) -> Result<Vec<NestedPlace>, Failed> {
    let mut places = Vec::new();
    if verification.extra.is_empty() && verification.never_synced_files.is_empty() {
        return Ok(places);
    }
    for Nested { destination, vault, inside } in known.nested().await? {
        let Some(inside) = inside else { continue };
        let folder = format!("{inside}/");
        let own = format!("{folder}.obsync/");
        let mut files = 0;
        for paths in [&mut verification.extra, &mut verification.never_synced_files] {
            paths.retain(|path| {
                let is_nested = path.starts_with(&folder);
                files += u64::from(is_nested && !path.starts_with(&own));
                !is_nested
            });
        }
        places.push(NestedPlace { destination, vault, files });
    }
    verification.never_synced = verification.never_synced_files.len() as u64;
    Ok(places)
}

pub(super) async fn run(options: &Verify, context: &Context) -> Result<Exit, Failed> {
    patiently(options.wait, &context.stop, async || verify_once(options, context).await).await
}

/// The result of one verification.
struct Findings {
    verification: Verification,
    /// Other destinations inside this one.
    nested: Vec<NestedPlace>,
    absence: Option<Absence>,
    usual: Usual,
    /// The last run found the vault older than the destination.
    vault_was_older: bool,
}

impl Findings {
    fn is_clean(&self) -> bool {
        self.verification.is_clean() && self.absence.is_none()
    }

    /// True if the files are right, but the folder's marker is not.
    fn lacks_only_its_marker(&self) -> bool {
        let is_there = !matches!(self.absence, None | Some(Absence::NoFolder));
        is_there && self.verification.is_as_recorded() && self.verification.intact.files > 0
    }
}

async fn verify_once(options: &Verify, context: &Context) -> Result<Exit, Failed> {
    let known = Known::of(&options.destination, &options.state.place, context).await?;
    let state = known.only_state().await?;
    let absence = known.absence(&state).await?;
    let recorded = state.store().load().await?;
    let mut verification = look(&known, &state, &recorded, options, context).await?;
    let nested = take_nested(&known, &mut verification).await?;
    let last_run = state.store().last_run().await?;
    // For an empty vault no run makes the folder.
    let was_made = recorded.destination.as_ref().is_some_and(|destination| !destination.is_unwritten());
    let findings = Findings {
        nested,
        absence: absence.filter(|_| was_made || verification.differs()),
        usual: Usual::of(&recorded, &options.destination, &verification.extra),
        vault_was_older: last_run.is_some_and(|run| run.outcome == RunOutcome::VaultOlder),
        verification,
    };
    let vault = state.vault();
    let remedies = match findings.is_clean() {
        true => Vec::new(),
        false => {
            let id = vault.as_ref().map_or("VAULT", |vault| vault.id.as_str());
            remedies(&known, id, &findings, options)
        }
    };
    let exit = if findings.is_clean() { Exit::Done } else { Exit::Failures };
    if options.json {
        let problem = problem(&findings, &remedies, options);
        let commands = remedies.into_iter().map(|remedy| remedy.command).collect();
        let document = document(options, vault, findings, commands);
        context.console.answer(&Answer::new(exit, problem, document))?;
    } else {
        tell(&findings, &remedies, vault.as_ref(), options, context)?;
    }
    Ok(exit)
}

/// Compares the destination with the state, when nobody is at work, or beside an idle follower.
async fn look(
    known: &Known,
    state: &State,
    recorded: &VaultState,
    options: &Verify,
    context: &Context,
) -> Result<Verification, Failed> {
    // The folder's lock prevents runs during the check.
    let rest = match state.refuse_while_at_work().await {
        Ok(()) => None,
        Err(error) => {
            let at_work = known.with_holder(error.into());
            match resting(state).await? {
                Some(began) => Some((began, at_work)),
                None => return Err(at_work),
            }
        }
    };
    let purpose = Purpose { looks: rest.is_some(), ..Purpose::default() };
    let destination = known.open(BucketOptions::default(), purpose, context).await?;
    let display = Display::new(Arc::clone(&context.console));
    display.phase(Phase::Transferring);
    let drawing = display.draw(false);
    let result =
        verify(destination.as_ref(), state.store().as_ref(), options.list_files, display.as_ref()).await;
    drop(drawing);
    // Changes by a run meanwhile would be mistaken for damage.
    match rest {
        Some((began, at_work)) if resting(state).await? != Some(began) => return Err(at_work),
        Some(_) => {}
        None => refuse_if_changed(known, recorded, options).await?,
    }
    result.map_err(failed)
}

/// Refuses the result for a bucket, which has no lock against runs, if one began or has changed it since its state
/// was read.
async fn refuse_if_changed(known: &Known, before: &VaultState, options: &Verify) -> Result<(), Failed> {
    let Destination::Bucket(_) = options.destination else { return Ok(()) };
    // The open state may answer from memory.
    let now = known.only_state().await?;
    now.refuse_while_at_work().await?;
    if now.store().load().await? == *before {
        return Ok(());
    }
    let message = format!("a run changed {} while it was verified; verify it again", options.destination);
    Err(Failed::new(Exit::AlreadyRunning, message).coded(ProblemCode::AlreadyRunning))
}

/// The beginning of a follower's last run, if it waits for the next one now.
async fn resting(state: &State) -> Result<Option<Timestamp>, StateError> {
    let State::Database(state) = state else { return Ok(None) };
    let run = state.last_run().await?;
    Ok(run.filter(|run| run.of_follower && run.ended.is_some()).map(|run| run.began))
}

fn document(
    options: &Verify,
    vault: Option<StateVault>,
    findings: Findings,
    commands: Vec<String>,
) -> VerifyDocument {
    let (vault, vault_id) = vault.map(|vault| (vault.name, vault.id)).unzip();
    VerifyDocument {
        destination: options.destination.text(),
        vault,
        vault_id,
        clean: findings.is_clean(),
        absence: findings.absence,
        commands,
        nested: findings.nested,
        verification: findings.verification,
    }
}

/// The problem for scripts: the gravest one.
fn problem(findings: &Findings, remedies: &[Remedy], options: &Verify) -> Option<Problem> {
    if findings.is_clean() {
        return None;
    }
    let (code, message) = gravest(findings, options);
    // Only another run changes the result.
    let problem = Problem::new(code, message).lasting();
    Some(match remedies::hint(findings, remedies) {
        Some(hint) => problem.with_hint(hint),
        None => problem,
    })
}

fn gravest(Findings { verification, absence, .. }: &Findings, options: &Verify) -> (ProblemCode, String) {
    let changes = |count: usize| human::counted(count as u64, "change", "changes");
    let deletions = |count: usize| human::counted(count as u64, "deletion", "deletions");
    let absent = absence
        .map_or_else(String::new, |absence| format!("{} is not there: {absence}", options.destination));
    match verification {
        _ if verification.unfinished == [Unfinished::Unsent] => (
            ProblemCode::Unfinished,
            "a run ended while it was sending, so the vault does not have all local changes".to_owned(),
        ),
        _ if !verification.unfinished.is_empty() => {
            (ProblemCode::Unfinished, "a pull did not finish, so this is not the whole vault".to_owned())
        }
        _ if !verification.is_as_recorded() => {
            (ProblemCode::Differs, "the destination is not what was pulled".to_owned())
        }
        _ if absence.is_some() => (ProblemCode::Differs, absent),
        _ if !verification.failures.is_empty() => {
            let count = changes(verification.failures.len());
            (ProblemCode::Failures, format!("{count} of the vault could not be pulled"))
        }
        _ if !verification.diverged.is_empty() => {
            let count = changes(verification.diverged.len());
            (ProblemCode::Differs, format!("{count} of the vault left alone by a push"))
        }
        _ => match verification.held_back.len() + verification.held_back_in_vault.len() {
            // Nobody has to confirm them again.
            0 => {
                let count = deletions(verification.confirmed.len());
                (ProblemCode::Unfinished, format!("{count} confirmed and not made yet"))
            }
            held_back => (ProblemCode::HeldBack, format!("{} held back", deletions(held_back))),
        },
    }
}

fn tell(
    findings: &Findings,
    remedies: &[Remedy],
    vault: Option<&StateVault>,
    options: &Verify,
    context: &Context,
) -> Result<(), Failed> {
    let verification = &findings.verification;
    let destination = options.destination.to_string();
    let intact = format!(
        "{} ({}) of {destination} as pulled (version {}){}.",
        human::files(verification.intact.files),
        human::size(verification.intact.bytes),
        verification.version,
        ways(verification)
    );
    let mut lines = Vec::new();
    lines.extend(absent(findings, &destination));
    notes(findings, &mut lines);
    lines.extend(verification.files.iter().flatten().map(|file| looked_at(file, &verification.unverified)));
    if findings.is_clean() {
        lines.push(format!("All is well: {intact}"));
        return context.say(&lines.join("\n"));
    }
    lines.extend(verification.unfinished.iter().map(|reason| unfinished(*reason).to_owned()));
    faults(verification, &mut lines);
    lines.push(intact);
    mend(findings, remedies, vault, &mut lines);
    context.console.result(&lines.join("\n"))
}

/// Says that the folder is not the one that was pulled to.
fn absent(findings: &Findings, destination: &str) -> Option<String> {
    let absence = findings.absence?;
    if findings.lacks_only_its_marker() {
        return Some(match absence {
            Absence::NoMarker => format!("The files are right, but the marker of {destination} is missing."),
            _ => format!("The files are right, but {destination} has the marker of another folder."),
        });
    }
    let absence = absence.to_string();
    let stop = if absence.ends_with('?') { "" } else { "." };
    Some(format!(
        "{destination} is not there: {absence}{stop} Mount its disk, if that is missing, before anything else."
    ))
}

/// What is no fault of the files.
fn notes(Findings { verification, nested, vault_was_older, .. }: &Findings, lines: &mut Vec<String>) {
    for folder in &verification.unreadable {
        lines.push(format!("Not read, for lack of permission: {}", escaped(folder)));
    }
    for place in nested {
        let (files, vault) = (human::files(place.files), &place.vault);
        lines.push(format!(
            "Another destination, not checked: {} ({files} of the vault {vault:?})",
            escaped(&place.destination)
        ));
    }
    list("Deleted in the vault, and kept", verification.retained.iter().cloned(), lines);
    if verification.never_synced > 0 {
        let files = human::files(verification.never_synced);
        lines.push(format!("Not synced by any run: {files}."));
    }
    if verification.accepted_failures > 0 {
        let count = human::counted(verification.accepted_failures, "change", "changes");
        lines.push(format!("Accepted failures: {count}; `obsync status` lists them."));
    }
    if *vault_was_older {
        lines.push("The last run found the vault on the server older than this destination.".to_owned());
    }
}

/// A file of the vault, with the way of its comparison. `unread` has, sorted, those that could not be read.
fn looked_at(file: &VerifiedFile, unread: &[VaultPath]) -> String {
    let (how, path) = (file.checked_by.as_str(), shown_name(file.path.as_str()));
    let note = match file.intact {
        true => "",
        false if unread.binary_search(&file.path).is_ok() => " (could not be read)",
        false => " (changed)",
    };
    format!("  {how:8}  {path}{note}")
}

/// The ways of comparison, if not all files were read.
fn ways(verification: &Verification) -> String {
    match (verification.compared.files, verification.read.files) {
        (0, _) => String::new(),
        (compared, read) => format!(
            "; {} compared by the SHA-256 and size in the objects' metadata, {} read",
            human::number(compared),
            human::number(read)
        ),
    }
}

fn unfinished(reason: Unfinished) -> &'static str {
    match reason {
        Unfinished::FirstPull => "Not the whole vault: the first pull did not finish.",
        Unfinished::FullPull => "A full run did not finish.",
        Unfinished::OtherChoice => "A pull with another filter did not finish.",
        Unfinished::KeepEverything => "A pull that keeps everything did not finish.",
        Unfinished::Killed => "A run ended while it was placing files: it was killed, or failed.",
        Unfinished::Interrupted => "Not the whole vault: a run was interrupted before its end.",
        Unfinished::Unsent => "Some local changes are not in the vault: a run ended while it was sending.",
    }
}

fn faults(verification: &Verification, lines: &mut Vec<String>) {
    let paths = |paths: &[VaultPath]| paths.iter().map(ToString::to_string).collect::<Vec<_>>();
    list("Missing", paths(&verification.missing).into_iter(), lines);
    list("Changed", verification.changed.iter().map(|file| file.path.to_string()), lines);
    list("Left by an unfinished run", paths(&verification.left_by_killed_run).into_iter(), lines);
    list("Could not be read", paths(&verification.unverified).into_iter(), lines);
    list("Not part of the vault", verification.extra.iter().cloned(), lines);
    if !verification.diverged.is_empty() {
        let count = human::counted(verification.diverged.len() as u64, "change", "changes");
        lines.push(format!("Changed in the vault, and left alone by a push: {count}"));
        named(verification.diverged.iter().cloned(), lines);
    }
    if !verification.failures.is_empty() {
        let count = human::counted(verification.failures.len() as u64, "change", "changes");
        lines.push(format!("Could not be pulled: {count}"));
        let failures = verification.failures.iter();
        let shown =
            failures.map(|failure| format!("{}: {}", shown_name(&failure.path), printable(&failure.reason)));
        named(shown.collect::<Vec<_>>().into_iter(), lines);
    }
    list("Deleted in the vault, and held back", verification.held_back.iter().cloned(), lines);
    list("Deleted here, and held back in the vault", verification.held_back_in_vault.iter().cloned(), lines);
    list("Confirmed deletions, not made yet", verification.confirmed.iter().cloned(), lines);
}

fn list(heading: &str, paths: impl ExactSizeIterator<Item = String>, lines: &mut Vec<String>) {
    if paths.len() > 0 {
        lines.push(format!("{heading}: {}", human::files(paths.len() as u64)));
        named(paths, lines);
    }
}

fn failed(error: VerifyError) -> Failed {
    match error {
        VerifyError::State(error) => error.into(),
        VerifyError::Store(error) => error.into(),
    }
}
