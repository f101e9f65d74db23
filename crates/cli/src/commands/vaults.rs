//! `obsync vaults`: lists the vaults of the account and those shared with it.

use obsync_core::pin::{VaultKind, fingerprint};
use obsync_protocol::{Redactor, VaultInfo, VaultList, shown_name};
use serde::Serialize;

use crate::account::sign_in;
use crate::answer::Answer;
use crate::args::Vaults;
use crate::context::Context;
use crate::exit::{Exit, Failed};
use crate::target::state_place::StatePlace;
use crate::target::state_row::{StateRow, direction_for_people};
use crate::target::states::{Registry, State};
use crate::ui::{human, table, width, wrap};

/// Columns of a name in the table, so that size, encryption and id (32 digits) fit beside it in 80.
const WIDEST_NAME: usize = 20;

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct VaultsDocument {
    /// The vaults of the account, then those that others share with it.
    vaults: Vec<VaultRow>,
}

/// One vault, without its secrets.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct VaultRow {
    /// The vault's id.
    vault_id: String,
    /// Its name.
    vault: String,
    /// The region where the service stores it.
    region: String,
    /// The encryption that the service lists.
    encryption: VaultKind,
    /// The version of the encryption (docs/PROTOCOL.md).
    encryption_version: u64,
    /// Fingerprint of the kind, version and salt of the encryption, to compare between machines.
    fingerprint: String,
    /// Encrypted size in bytes, including older versions of files.
    size: u64,
    /// When the vault was created.
    #[serde(serialize_with = "crate::answer::as_time")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    created: i64,
    /// True if another account shares the vault with this one.
    shared: bool,
    /// Destinations of the vault, according to the states on this computer.
    destinations: Vec<SyncedWith>,
}

/// A destination of a vault, according to the states on this computer.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SyncedWith {
    /// The folder or bucket.
    destination: String,
    /// The direction of the sync: `pull`, `push` or `both`.
    direction: &'static str,
    /// Number of local changes that the last run did not send: the vault refused them, or they have to be confirmed.
    waiting: u64,
}

pub(super) async fn run(options: &Vaults, context: &Context) -> Result<Exit, Failed> {
    let client = context.client()?;
    let (_, list) =
        sign_in::with_token(context, &client, async |token| client.vault_list(token).await).await?;
    let synced = synced(context, client.redactor()).await;
    let rows = rows(&list, &synced, client.redactor());
    if options.json {
        context.console.answer(&Answer::new(Exit::Done, None, VaultsDocument { vaults: rows }))?;
    } else if rows.is_empty() {
        context.console.note("The account has no vaults.");
    } else {
        let vaults = if width::narrow().is_some() { as_list(&rows) } else { as_table(&rows) };
        context.console.result(&[vec![vaults], destinations(&rows)].concat().join("\n"))?;
    }
    Ok(Exit::Done)
}

/// The destinations of each vault, by the states on this computer. An unreadable state is left to `status`.
async fn synced(context: &Context, redactor: &Redactor) -> Vec<(String, SyncedWith)> {
    let Ok(registry) = Registry::of(&StatePlace::Local, context).await else { return Vec::new() };
    let mut rows = Vec::new();
    for found in registry.all().await.unwrap_or_default() {
        let Ok(State::Database(state)) = registry.read(&found).await else { continue };
        rows.extend(StateRow::of_database(&state, redactor).await.ok().flatten());
    }
    StateRow::mark_replaced(&mut rows);
    rows.retain(|row| !row.is_blank() && !row.is_replaced());
    let mut synced: Vec<(String, SyncedWith)> = rows
        .iter()
        .map(|row| {
            let destination = row.destination().to_owned();
            let (direction, waiting) = (row.direction(), row.waiting());
            (row.vault_id().to_owned(), SyncedWith { destination, direction, waiting })
        })
        .collect();
    synced.sort_by(|(_, one), (_, other)| one.destination.cmp(&other.destination));
    synced
}

fn rows(list: &VaultList, synced: &[(String, SyncedWith)], redactor: &Redactor) -> Vec<VaultRow> {
    let own = list.vaults.iter().map(|vault| row(vault, false, synced, redactor));
    own.chain(list.shared.iter().map(|vault| row(vault, true, synced, redactor))).collect()
}

fn row(vault: &VaultInfo, shared: bool, synced: &[(String, SyncedWith)], redactor: &Redactor) -> VaultRow {
    let destinations = synced.iter().filter(|(id, _)| *id == vault.id.as_str());
    let own = |text: &str| redactor.take_out(text).into_owned();
    VaultRow {
        vault_id: vault.id.to_string(),
        vault: own(&vault.name),
        region: own(&vault.region),
        encryption: VaultKind::of(vault),
        encryption_version: vault.encryption_version,
        fingerprint: fingerprint(vault),
        size: vault.size,
        created: vault.created,
        shared,
        destinations: destinations.map(|(_, destination)| destination.clone()).collect(),
    }
}

/// Lines about the destinations of vaults. Path and direction have a line each: a path can be as wide as a
/// terminal.
fn destinations(rows: &[VaultRow]) -> Vec<String> {
    let synced = rows.iter().filter(|row| !row.destinations.is_empty());
    let lines = synced.flat_map(|row| {
        let heading = wrap::to_width(&format!("{} is synced with", shown_name(&row.vault)), width::USUAL);
        std::iter::once(heading).chain(row.destinations.iter().map(SyncedWith::describe))
    });
    lines.collect()
}

impl SyncedWith {
    fn describe(&self) -> String {
        let waiting = match self.waiting {
            0 => String::new(),
            waiting => format!("; {} to be sent", human::counted(waiting, "change waits", "changes wait")),
        };
        let (destination, direction) = (shown_name(&self.destination), direction_for_people(self.direction));
        format!("  {destination}\n    {direction}{waiting}")
    }
}

/// The name first, and all of it within 80 columns; `--json` has the rest.
fn as_table(rows: &[VaultRow]) -> String {
    let heading = ["NAME", "SIZE", "ENCRYPTION", "ID"].map(String::from);
    let lines: Vec<Vec<String>> =
        std::iter::once(heading).chain(rows.iter().map(cells)).map(Vec::from).collect();
    table::columns(&lines, &[1], WIDEST_NAME)
}

/// The same for terminals too narrow for an id beside a name.
fn as_list(rows: &[VaultRow]) -> String {
    let lines = rows.iter().map(cells);
    let lines = lines.map(|[name, size, encryption, id]| format!("{name}\n  {size}, {encryption}\n  {id}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The columns for people: name, size, encryption and id.
fn cells(row: &VaultRow) -> [String; 4] {
    let name = shown_name(&row.vault);
    [
        if row.shared { format!("{name} (shared)") } else { name.into_owned() },
        human::size(row.size),
        format!("{} v{}", row.encryption, row.encryption_version),
        shown_name(&row.vault_id).into_owned(),
    ]
}
