//! The commands that repair what `obsync verify` found.

use obsync_core::{Direction, Unfinished, VaultState};
use obsync_protocol::{Filter, VaultPath, escaped};

use super::{Findings, list};
use crate::args::Verify;
use crate::target::destination::Destination;
use crate::target::known::Known;
use crate::target::states::StateVault;

/// A command that repairs something.
pub(super) struct Remedy {
    does: Does,
    pub(super) command: String,
}

impl Remedy {
    fn new(does: Does, command: String) -> Self {
        Remedy { does, command }
    }
}

/// The effect of a [`Remedy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// It resumes an interrupted run.
    GoesOn,
    /// It retries failed changes, and makes confirmed deletions.
    Retries,
    /// The same after a push, which does neither here.
    RetriesHere,
    /// It accepts failures that no run can resolve.
    Accepts,
    /// It compares every file, and writes the folder's marker.
    Identifies,
    /// It applies changes of the vault that a push left alone.
    Applies,
    /// It replaces them in the vault.
    Replaces,
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
pub(super) struct Usual {
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
    /// By the `recorded` state. `extra` are the files that are not the vault's.
    pub(super) fn of(recorded: &VaultState, destination: &Destination, extra: &[String]) -> Self {
        Usual {
            direction: recorded.direction,
            choice: recorded.filter.as_deref().and_then(Filter::of_fingerprint).as_ref().map(choice_options),
            never_sends: match recorded.direction {
                Direction::Pull => Vec::new(),
                Direction::Push | Direction::Both => never_sent(destination, extra),
            },
        }
    }

    fn command(&self) -> &'static str {
        match self.direction {
            Direction::Pull => "pull",
            Direction::Push => "push",
            Direction::Both => "sync",
        }
    }

    /// The command that applies changes of the vault here: a push applies none.
    fn applying(&self) -> &'static str {
        match self.direction {
            Direction::Pull => "pull",
            Direction::Push | Direction::Both => "sync",
        }
    }

    /// The last run, which was cut short. A push may have followed it.
    fn last(&self) -> &'static str {
        match self.direction {
            Direction::Push => "run",
            Direction::Pull | Direction::Both => self.command(),
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
///
/// `vault` is its id: a name can be changed, and others in the account can have it.
pub(super) fn remedies(known: &Known, vault: &str, findings: &Findings, options: &Verify) -> Vec<Remedy> {
    let Findings { verification, usual, absence, nested, .. } = findings;
    let destination = options.destination.text();
    let bring = |subcommand: &str, options: &[&str]| {
        let choice = usual.choice.iter().flatten().map(String::as_str);
        // Without it a pull would remove files that were kept.
        let keeps =
            (!verification.retained.is_empty()).then_some("--keep-deleted").filter(|_| subcommand == "pull");
        let options: Vec<&str> = options.iter().copied().chain(choice).chain(keeps).collect();
        known.command(subcommand, &[vault, &destination], &options)
    };
    let again = || bring(usual.command(), &[]);
    let (sends, differs) = (usual.direction != Direction::Pull, verification.differs());
    // A sync takes missing files for deleted ones, and damaged files for edited ones: only a pull restores
    // them. For a missing destination neither can be known.
    let has_own = verification.extra.len() > usual.never_sends.len();
    let may_be_meant = absence.is_none() && (differs || has_own);
    let mut remedies = Vec::new();
    if sends && may_be_meant {
        remedies.push(Remedy::new(Does::Sends, again()));
    }
    if differs {
        remedies.push(Remedy::new(Does::BringsBack, bring("pull", &["--full"])));
    } else if absence.is_some() {
        remedies.push(Remedy::new(Does::Identifies, again()));
    } else if !(sends && may_be_meant)
        && let Some((does, subcommand)) = findings.left_by_runs()
    {
        remedies.push(Remedy::new(does, bring(subcommand, &[])));
    }
    if verification.lasting_failures > 0 {
        remedies.push(Remedy::new(Does::Accepts, bring(usual.applying(), &["--accept-failures"])));
    }
    if !verification.diverged.is_empty() {
        let sync = bring("sync", &[]);
        if !remedies.iter().any(|remedy| remedy.command == sync) {
            remedies.push(Remedy::new(Does::Applies, sync));
        }
        remedies.push(Remedy::new(Does::Replaces, bring("push", &["--mirror"])));
    }
    // A mirror would take kept files, and other destinations, for local additions.
    let has_own_alone = verification.retained.is_empty() && nested.is_empty() && absence.is_none();
    let is_folder = matches!(options.destination, Destination::Folder(_));
    if !sends && is_folder && has_own_alone && !verification.extra.is_empty() {
        remedies.push(Remedy::new(Does::SetsAside, bring("pull", &["--mirror"])));
    }
    if !verification.held_back.is_empty() || !verification.held_back_in_vault.is_empty() {
        remedies.push(Remedy::new(Does::Confirms, known.command("confirm", &[&destination], &[])));
    }
    remedies
}

impl Findings {
    /// True if the usual run has to finish what another one began.
    fn was_cut_short(&self) -> bool {
        !self.verification.unfinished.is_empty() || !self.verification.left_by_killed_run.is_empty()
    }

    /// The command that finishes it. A push completes no earlier run that brought changes here.
    fn finishing(&self) -> &'static str {
        let is_of_push = |reason: &Unfinished| {
            matches!(reason, Unfinished::Unsent | Unfinished::FirstPull | Unfinished::OtherChoice)
        };
        match self.verification.unfinished.iter().all(is_of_push) {
            true => self.usual.command(),
            false => self.usual.applying(),
        }
    }

    /// The command that does what earlier runs left. A push retries no change of the vault, and deletes nothing
    /// here.
    fn left_by_runs(&self) -> Option<(Does, &'static str)> {
        let Findings { verification, usual, .. } = self;
        let has_passing = verification.failures.len() as u64 > verification.lasting_failures;
        let is_here = has_passing || verification.confirmed_here > 0;
        match (is_here, usual.direction) {
            _ if self.was_cut_short() => Some((Does::GoesOn, self.finishing())),
            (true, Direction::Push) => Some((Does::RetriesHere, usual.applying())),
            (false, _) if verification.confirmed.is_empty() => None,
            _ => Some((Does::Retries, usual.command())),
        }
    }
}

/// The remedies in one sentence, for scripts.
pub(super) fn hint(findings: &Findings, remedies: &[Remedy]) -> Option<String> {
    let Findings { verification, usual, absence, .. } = findings;
    let missing = usual.missing();
    Some(match remedies {
        [first, ..] if absence.is_some() && !findings.lacks_only_its_marker() => {
            format!("mount its disk, if it is not mounted; else `{}`, {missing}", first.command)
        }
        [Remedy { does: Does::Confirms, command }, ..] => format!("`{command}`"),
        [Remedy { does: Does::Sends, command }, Remedy { does: Does::BringsBack, command: back }, ..] => format!(
            "`{command}` sends local changes, `{back}` restores the vault's files; each {missing}"
        ),
        [Remedy { does: Does::Applies, command }, Remedy { does: Does::Replaces, command: mirror }, ..] => format!(
            "`{command}` applies the vault's changes here, `{mirror}` replaces them in the vault; each {missing}"
        ),
        [Remedy { does: Does::Accepts, command }, ..] => {
            format!("`{command}`, {missing}; or rename these files in Obsidian, or leave them out with --exclude")
        }
        [first, ..] => format!("`{}`, {missing}", first.command),
        [] if !usual.never_sends.is_empty() => {
            "rename or remove the files that are not of the vault, or leave them: no run sends links and such names"
                .to_owned()
        }
        [] if !verification.extra.is_empty() => {
            "remove the files that are not part of the vault, or leave them: obsync does not touch them".to_owned()
        }
        [] => return None,
    })
}

/// Says what each command does. The commands have the id of the `vault`.
pub(super) fn mend(
    findings: &Findings,
    remedies: &[Remedy],
    vault: Option<&StateVault>,
    lines: &mut Vec<String>,
) {
    let Findings { verification, usual, .. } = findings;
    let sends = remedies.iter().any(|remedy| remedy.does == Does::Sends);
    for Remedy { does, command } in remedies {
        let command = escaped(command);
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
            Does::GoesOn => format!("`{command}` continues where the last {} stopped.", usual.last()),
            Does::Retries if verification.confirmed.is_empty() => {
                format!("`{command}` tries the failed changes again.")
            }
            Does::Retries => format!("`{command}` makes the confirmed deletions, and tries what failed again."),
            Does::RetriesHere => {
                let deed = match verification.confirmed.is_empty() {
                    true => "tries the failed changes again",
                    false => "makes the confirmed deletions, tries what failed again",
                };
                format!("`{command}` {deed}, and applies the vault's changes here, which a push does not.")
            }
            Does::Accepts => format!(
                "`{command}` accepts what can never be stored here; or rename it in Obsidian, or leave it out with \
                 `--exclude`."
            ),
            Does::Identifies => format!("`{command}` compares every file, and writes the marker."),
            Does::Applies => format!("`{command}` applies the vault's changes here, and sends local changes."),
            Does::Replaces => format!("`{command}` replaces the vault's changes by the files here instead."),
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
        let id = vault.map(|StateVault { id, name }| format!(" {id} is the vault {name:?}."));
        lines.push(format!("Run it {}.{}", usual.missing(), id.unwrap_or_default()));
    }
}
