//! `obsync vaults`: the vaults of the account and those shared with it.

use obsync_core::pin::{VaultKind, fingerprint};
use obsync_protocol::{Redactor, VaultInfo, VaultList, shown_name};
use serde::Serialize;

use crate::account::sign_in;
use crate::answer::Answer;
use crate::args::Vaults;
use crate::context::Context;
use crate::exit::{Exit, Failed};
use crate::ui::human;
use crate::ui::table;

/// Columns of a name in the table, so that size, encryption and id (32 digits) fit beside it in 80.
const WIDEST_NAME: usize = 20;

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct VaultsDocument {
    vaults: Vec<VaultRow>,
}

/// One vault, without its secrets.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct VaultRow {
    vault_id: String,
    /// Its name.
    vault: String,
    region: String,
    encryption: VaultKind,
    encryption_version: u64,
    /// Of kind, version and salt, to compare between machines.
    fingerprint: String,
    /// Encrypted, with older versions of files, in bytes.
    size: u64,
    /// When it was made.
    #[serde(serialize_with = "crate::answer::as_time")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    created: i64,
    /// Whether somebody else shares it with the account.
    shared: bool,
}

pub(super) async fn run(options: &Vaults, context: &Context) -> Result<Exit, Failed> {
    let client = context.client()?;
    let (_, list) =
        sign_in::with_token(context, &client, async |token| client.vault_list(token).await).await?;
    let rows = rows(&list, client.redactor());
    if options.json {
        context.console.answer(&Answer::new(Exit::Done, None, VaultsDocument { vaults: rows }))?;
    } else if rows.is_empty() {
        context.console.note("The account has no vaults.");
    } else {
        context.console.result(&as_table(&rows))?;
    }
    Ok(Exit::Done)
}

fn rows(list: &VaultList, redactor: &Redactor) -> Vec<VaultRow> {
    let own = list.vaults.iter().map(|vault| row(vault, false, redactor));
    own.chain(list.shared.iter().map(|vault| row(vault, true, redactor))).collect()
}

fn row(vault: &VaultInfo, shared: bool, redactor: &Redactor) -> VaultRow {
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
    }
}

/// The name first, and all of it within 80 columns; `--json` has the rest.
fn as_table(rows: &[VaultRow]) -> String {
    let heading = ["NAME", "SIZE", "ENCRYPTION", "ID"].map(String::from).to_vec();
    let lines = rows.iter().map(|row| {
        let name = shown_name(&row.vault);
        let name = if row.shared { format!("{name} (shared)") } else { name.into_owned() };
        vec![
            name,
            human::size(row.size),
            format!("{} v{}", row.encryption, row.encryption_version),
            shown_name(&row.vault_id).into_owned(),
        ]
    });
    table::columns(&std::iter::once(heading).chain(lines).collect::<Vec<_>>(), &[1], WIDEST_NAME)
}
