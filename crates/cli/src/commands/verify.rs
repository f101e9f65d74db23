//! `obsync verify`: compares every file of a destination with the recorded one, and says whether that is the
//! whole vault.

use std::sync::Arc;

use jiff::Timestamp;
use obsync_bucket::BucketOptions;
use obsync_core::{
    Direction, Phase, Problem, ProblemCode, Progress, StateError, StateStore, Unfinished, Verification,
    VerifiedFile, VerifyError, verify,
};
use obsync_protocol::{Filter, VaultPath, escaped, printable, shown_name};
use serde::Serialize;

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

async fn verify_once(options: &Verify, context: &Context) -> Result<Exit, Failed> {
    let known = Known::of(&options.destination, &options.state.place, context).await?;
    let state = known.only_state().await?;
    let absence = known.absence(&state).await?;
    let mut verification = look(&known, &state, options, context).await?;
    let nested = take_nested(&known, &mut verification).await?;
    let vault = state.vault();
    let recorded = state.store().load().await?;
    let usual = Usual {
        direction: recorded.direction,
        choice: recorded.filter.as_deref().and_then(Filter::of_fingerprint).as_ref().map(choice_options),
        never_sends: match recorded.direction {
            Direction::Pull => Vec::new(),
            _ => never_sent(&options.destination, &verification.extra),
        },
    };
    let remedies = remedies(&known, vault.as_ref(), &usual, &verification, &nested, absence, options);
    let exit = if verification.is_clean() { Exit::Done } else { Exit::Failures };
    if options.json {
        let problem = problem(&verification, &remedies, &usual, absence);
        let commands = remedies.into_iter().map(|remedy| remedy.command).collect();
        context.console.answer(&Answer::new(
            exit,
            problem,
            document(options, vault, verification, commands, nested),
        ))?;
    } else {
        tell(&verification, &remedies, &usual, &nested, absence, options, context)?;
    }
    Ok(exit)
}

/// Compares the destination with the state, when nobody is at work, or beside an idle follower.
async fn look(
    known: &Known,
    state: &State,
    options: &Verify,
    context: &Context,
) -> Result<Verification, Failed> {
    // The folder's lock prevents runs during the check. A bucket has none.
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
    match rest {
        // Changes by a run meanwhile would be mistaken for damage.
        Some((began, at_work)) if resting(state).await? != Some(began) => Err(at_work),
        _ => result.map_err(failed),
    }
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
    verification: Verification,
    commands: Vec<String>,
    nested: Vec<NestedPlace>,
) -> VerifyDocument {
    let (vault, vault_id) = vault.map(|vault| (vault.name, vault.id)).unzip();
    VerifyDocument {
        destination: options.destination.to_string(),
        vault,
        vault_id,
        clean: verification.is_clean(),
        commands,
        nested,
        verification,
    }
}

/// The problem for scripts: the gravest one.
fn problem(
    verification: &Verification,
    remedies: &[Remedy],
    usual: &Usual,
    absence: Option<Absence>,
) -> Option<Problem> {
    if verification.is_clean() {
        return None;
    }
    let differs = !verification.is_as_recorded();
    let (code, message) = match verification {
        _ if verification.unfinished == [Unfinished::Unsent] => (
            ProblemCode::Unfinished,
            "a run ended while it was sending, so the vault does not have all local changes".to_owned(),
        ),
        _ if !verification.unfinished.is_empty() => {
            (ProblemCode::Unfinished, "a pull did not finish, so this is not the whole vault".to_owned())
        }
        _ if differs => (ProblemCode::Differs, "the destination is not what was pulled".to_owned()),
        _ if !verification.failures.is_empty() => {
            let count = human::counted(verification.failures.len() as u64, "change", "changes");
            (ProblemCode::Failures, format!("{count} of the vault could not be pulled"))
        }
        _ => {
            let held_back = verification.held_back.len() + verification.held_back_in_vault.len();
            let deletions = |count: usize| human::counted(count as u64, "deletion", "deletions");
            let message = match held_back {
                0 => format!("{} confirmed and not made yet", deletions(verification.confirmed.len())),
                held_back => format!("{} held back", deletions(held_back)),
            };
            (ProblemCode::HeldBack, message)
        }
    };
    let problem = Problem::new(code, message);
    Some(match remedies {
        [first, ..] if absence.is_some() => problem.with_hint(format!(
            "mount its disk, if it is not mounted; else `{}`, {}",
            first.command,
            usual.missing()
        )),
        [Remedy { does: Does::Confirms, command }, ..] => problem.with_hint(format!("`{command}`")),
        [Remedy { does: Does::Sends, command }, Remedy { does: Does::BringsBack, command: back }, ..] => {
            problem.with_hint(format!(
                "`{command}` sends local changes, `{back}` restores the vault's files; each {}",
                usual.missing()
            ))
        }
        [first, ..] => problem.with_hint(format!("`{}`, {}", first.command, usual.missing())),
        [] if !usual.never_sends.is_empty() => problem.with_hint(
            "rename or remove the files that are not of the vault, or leave them: no run sends links and such names",
        ),
        [] if !verification.extra.is_empty() => problem.with_hint(
            "remove the files that are not part of the vault, or leave them: obsync does not touch them",
        ),
        [] => problem,
    })
}

/// A command that repairs something.
struct Remedy {
    does: Does,
    command: String,
}

/// The effect of a [`Remedy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// It resumes an interrupted run.
    GoesOn,
    /// It sends local changes.
    Sends,
    /// It restores missing or changed files.
    BringsBack,
    /// It puts locally added or changed files into the trash.
    SetsAside,
    /// It confirms deletions.
    Confirms,
}

/// The usual run for the destination, as far as its state shows it.
struct Usual {
    direction: Direction,
    /// The filter's options; `None` if unknown.
    choice: Option<Vec<String>>,
    /// Files here that it does not send, although it sends others.
    never_sends: Vec<String>,
}

/// Returns those files that no run sends: symbolic links, and files whose names the vault must not get.
fn never_sent(destination: &Destination, extra: &[String]) -> Vec<String> {
    let is_link = |name: &str| match destination {
        Destination::Folder(folder) => folder.join(name).is_symlink(),
        _ => false,
    };
    let is_refused = |name: &str| {
        let is_allowed = VaultPath::parse(name).is_ok_and(|path| path.check_to_write().is_ok());
        !is_allowed || name.contains(':')
    };
    extra.iter().filter(|name| is_refused(name) || is_link(name)).cloned().collect()
}

impl Usual {
    fn command(&self) -> &'static str {
        match self.direction {
            Direction::Pull => "pull",
            Direction::Push => "push",
            Direction::Both => "sync",
        }
    }

    /// Advice on further options for users who have some.
    fn missing(&self) -> &'static str {
        match self.choice {
            Some(_) => "with the other options of your usual run, such as --keep-deleted",
            None => "with the options of your usual run, such as --exclude and --keep-deleted",
        }
    }
}

/// A filter as options of a command line.
fn choice_options(filter: &Filter) -> Vec<String> {
    let usual = Filter::default();
    let mut options = Vec::new();
    let mut give = |name: &str, value: &str| options.extend([name.to_owned(), value.to_owned()]);
    if filter.file_types != usual.file_types {
        give("--file-types", &filter.file_types.to_string());
    }
    if filter.configs != usual.configs {
        give("--configs", &filter.configs.to_string());
    }
    filter.excluded.iter().for_each(|folder| give("--exclude", folder.as_str()));
    if filter.config_dirs != usual.config_dirs {
        filter.config_dirs.iter().for_each(|folder| give("--config-dir", folder));
    }
    if !filter.code {
        options.push("--no-code".to_owned());
    }
    options
}

/// The commands that repair it.
fn remedies(
    known: &Known,
    vault: Option<&StateVault>,
    usual: &Usual,
    verification: &Verification,
    nested: &[NestedPlace],
    absence: Option<Absence>,
    options: &Verify,
) -> Vec<Remedy> {
    let destination = options.destination.to_string();
    let vault = vault.map_or("VAULT", |vault| vault.name.as_str());
    let bring = |subcommand: &str, options: &[&str]| {
        let choice = usual.choice.iter().flatten().map(String::as_str);
        // Without it a pull would remove files that were kept.
        let keeps =
            (!verification.retained.is_empty()).then_some("--keep-deleted").filter(|_| subcommand == "pull");
        let options: Vec<&str> = options.iter().copied().chain(choice).chain(keeps).collect();
        known.command(subcommand, &[vault, &destination], &options)
    };
    let (sends, differs) = (usual.direction != Direction::Pull, verification.differs());
    let is_behind = !verification.unfinished.is_empty()
        || !verification.failures.is_empty()
        || !verification.confirmed.is_empty()
        || !verification.left_by_killed_run.is_empty();
    // A sync takes missing files for deleted ones, and damaged files for edited ones: only a pull restores
    // them. For a missing destination neither can be known.
    let has_own = verification.extra.len() > usual.never_sends.len();
    let may_be_meant = absence.is_none() && (differs || has_own);
    let mut remedies = Vec::new();
    if sends && may_be_meant {
        remedies.push(Remedy { does: Does::Sends, command: bring(usual.command(), &[]) });
    }
    if differs {
        remedies.push(Remedy { does: Does::BringsBack, command: bring("pull", &["--full"]) });
    } else if is_behind && remedies.is_empty() {
        remedies.push(Remedy { does: Does::GoesOn, command: bring(usual.command(), &[]) });
    }
    // A mirror would take kept files, and other destinations, for local additions.
    let has_own_alone = verification.retained.is_empty() && nested.is_empty() && absence.is_none();
    let is_folder = matches!(options.destination, Destination::Folder(_));
    if !sends && is_folder && has_own_alone && !verification.extra.is_empty() {
        remedies.push(Remedy { does: Does::SetsAside, command: bring("pull", &["--mirror"]) });
    }
    if !verification.held_back.is_empty() || !verification.held_back_in_vault.is_empty() {
        let command = known.command("confirm", &[&destination], &[]);
        remedies.push(Remedy { does: Does::Confirms, command });
    }
    remedies
}

fn tell(
    verification: &Verification,
    remedies: &[Remedy],
    usual: &Usual,
    nested: &[NestedPlace],
    absence: Option<Absence>,
    options: &Verify,
    context: &Context,
) -> Result<(), Failed> {
    let intact = format!(
        "{} ({}) of {} as pulled (version {}){}.",
        human::files(verification.intact.files),
        human::size(verification.intact.bytes),
        options.destination,
        verification.version,
        ways(verification)
    );
    let mut lines = Vec::new();
    if let Some(absence) = absence {
        lines.push(format!(
            "{} is not there: {absence}. Mount its disk, if that is missing, before anything else.",
            options.destination
        ));
    }
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
    list("Deleted in the vault, and kept", verification.retained.iter().cloned(), &mut lines);
    if verification.never_synced > 0 {
        let files = human::files(verification.never_synced);
        lines.push(format!("Not synced by any run: {files}."));
    }
    if verification.accepted_failures > 0 {
        let count = human::counted(verification.accepted_failures, "change", "changes");
        lines.push(format!("Accepted failures: {count}; `obsync status` lists them."));
    }
    lines.extend(verification.files.iter().flatten().map(|file| looked_at(file, &verification.unverified)));
    if verification.is_clean() {
        lines.push(format!("All is well: {intact}"));
        return context.say(&lines.join("\n"));
    }
    lines.extend(verification.unfinished.iter().map(|reason| unfinished(*reason).to_owned()));
    faults(verification, &mut lines);
    lines.push(intact);
    mend(verification, remedies, usual, &mut lines);
    context.console.result(&lines.join("\n"))
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

fn mend(verification: &Verification, remedies: &[Remedy], usual: &Usual, lines: &mut Vec<String>) {
    let sends = remedies.iter().any(|remedy| remedy.does == Does::Sends);
    for Remedy { does, command } in remedies {
        lines.push(match does {
            Does::Confirms => format!("`{command}` allows the deletions."),
            Does::Sends => format!("`{command}` sends local changes, additions and deletions to the vault."),
            Does::BringsBack if sends => format!(
                "`{command}` restores the vault's files instead, and keeps changed files as conflicted copies."
            ),
            Does::BringsBack => format!(
                "`{command}` restores missing and changed files, and keeps changed files as conflicted copies."
            ),
            Does::SetsAside => format!(
                "`{command}` moves files that were added or changed here to .obsync/trash, for 30 days."
            ),
            Does::GoesOn => format!("`{command}` continues where the last {} stopped.", usual.command()),
        });
    }
    let refused = usual.never_sends.iter().cloned();
    list("Never sent, as the vault cannot have links or such names", refused, lines);
    if !usual.never_sends.is_empty() {
        lines.push("Rename or remove what is never sent, or leave it.".to_owned());
    } else if remedies.is_empty() && !verification.extra.is_empty() {
        lines.push(
            "Remove the files that are not part of the vault, or leave them: obsync does not touch them."
                .to_owned(),
        );
    }
    if remedies.iter().any(|remedy| remedy.does != Does::Confirms) {
        lines.push(format!("Run it {}.", usual.missing()));
    }
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
