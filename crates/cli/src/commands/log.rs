//! `obsync log`: prints which files were changed on which side, by which device, and from which version.

use obsync_core::{JournalChange, JournalEntry, Side};
use obsync_protocol::{Redactor, shown_name};
use serde::Serialize;

use crate::answer::Answer;
use crate::args::Log;
use crate::context::Context;
use crate::exit::{Exit, Failed};
use crate::target::known::Known;
use crate::ui::{human, table};

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct LogDocument {
    /// The changes, newest first.
    entries: Vec<LogRow>,
}

/// One change.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct LogRow {
    /// When the change was recorded.
    #[serde(serialize_with = "crate::answer::as_time")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    at: i64,
    /// The side that was changed.
    side: Side,
    /// The kind of change.
    change: JournalChange,
    /// The path in the vault.
    path: String,
    /// The former path of a renamed file, or the original of a conflicted copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// The device that made the change, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    /// The version that the change was based on; 0 if none was recorded.
    base: u64,
    /// The version of the change in the vault; 0 if it has none yet.
    version: u64,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

pub(super) async fn run(options: &Log, context: &Context) -> Result<Exit, Failed> {
    let known = Known::of(&options.destination, &options.state.place, context).await?;
    let state = known.only_state().await?;
    let entries = state.store().journal(options.path.as_ref(), options.limit).await?;
    if options.json {
        let entries = entries.iter().map(|entry| row(entry, context.console.redactor())).collect();
        context.console.answer(&Answer::new(Exit::Done, None, LogDocument { entries }))?;
    } else if !state.store().keeps_journal() {
        context.say(
            "The state of this destination is in a table, which keeps no journal of changes. Obsidian's version \
             history has the changes of each file.",
        )?;
    } else if entries.is_empty() {
        context.say("No changes are recorded.")?;
    } else {
        context.console.result(&as_table(&entries))?;
    }
    Ok(Exit::Done)
}

fn row(entry: &JournalEntry, redactor: &Redactor) -> LogRow {
    LogRow {
        at: entry.at,
        side: entry.side,
        change: entry.change,
        path: entry.path.to_string(),
        from: entry.from.as_ref().map(ToString::to_string),
        device: entry.device.as_ref().map(|device| redactor.take_out(device).into_owned()),
        base: entry.base.0,
        version: entry.uid.0,
        size: entry.size,
    }
}

fn as_table(entries: &[JournalEntry]) -> String {
    let heading = ["TIME", "SIDE", "CHANGE", "VERSION", "DEVICE", "PATH"].map(String::from).to_vec();
    let lines = entries.iter().map(|entry| {
        let path = shown_name(entry.path.as_str());
        let path = match &entry.from {
            Some(from) => format!("{} -> {path}", shown_name(from.as_str())),
            None => path.into_owned(),
        };
        let version = match (entry.base.0, entry.uid.0) {
            (0, 0) => "-".to_owned(),
            (base, 0) => base.to_string(),
            (0, version) => version.to_string(),
            (base, version) => format!("{base} -> {version}"),
        };
        let device = entry.device.as_deref().map_or_else(|| "-".into(), shown_name);
        vec![
            human::time(entry.at),
            side(entry.side).to_owned(),
            change(entry.change).to_owned(),
            version,
            device.into_owned(),
            path,
        ]
    });
    table::columns(&std::iter::once(heading).chain(lines).collect::<Vec<_>>(), &[], usize::MAX)
}

fn side(side: Side) -> &'static str {
    match side {
        Side::Here => "here",
        Side::Vault => "vault",
    }
}

fn change(change: JournalChange) -> &'static str {
    match change {
        JournalChange::Write => "write",
        JournalChange::Merge => "merge",
        JournalChange::Delete => "delete",
        JournalChange::CreateFolder => "create folder",
        JournalChange::DeleteFolder => "delete folder",
        JournalChange::ConflictedCopy => "conflicted copy",
    }
}

#[cfg(test)]
mod tests {
    use obsync_protocol::{Uid, VaultPath};

    use super::*;

    #[test]
    fn a_line_has_the_version_before_and_the_name_before() {
        let entry = |from: Option<&str>, base| JournalEntry {
            at: 0,
            side: Side::Vault,
            change: JournalChange::Write,
            path: VaultPath::parse("b\u{202e}.md").unwrap(),
            from: from.map(|from| VaultPath::parse(from).unwrap()),
            device: None,
            base: Uid(base),
            uid: Uid(9),
            size: Some(3),
        };
        let copy =
            JournalEntry { uid: Uid(0), change: JournalChange::ConflictedCopy, ..entry(Some("a.md"), 4) };
        let table = as_table(&[entry(Some("a.md"), 4), entry(None, 0), copy]);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[1].contains("vault  write            4 -> 9   -       a.md -> b"), "{table}");
        assert!(lines[2].contains("vault  write            9 "), "{table}");
        assert!(lines[3].contains("vault  conflicted copy  4        -       a.md -> b"), "{table}");
        assert!(!table.contains('\u{202e}'), "{table}");
    }
}
