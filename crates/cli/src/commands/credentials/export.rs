//! `obsync credentials export`: the secret that a function needs to pull vaults, without any password.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use obsync_client::{Client, Token};
use obsync_core::pin::{PasswordAtHand, VaultKind};
use obsync_protocol::{Redactor, VaultInfo, VaultList};
use secrecy::SecretString;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::account::admission::{admit, wish};
use crate::account::sign_in::{AccountOptions, environment_token_refused, token_of_its_own};
use crate::account::vault_choice::{choose, presentable};
use crate::account::vault_keys::Lock;
use crate::args::CredentialsExport;
use crate::context::Context;
use crate::environment;
use crate::exit::{Exit, Failed};
use crate::private_file::create_private;
use crate::ui::human;

/// The secret in the function's format.
#[derive(Serialize)]
struct ExportedSecret {
    auth: ExportedAuth,
    /// By vault id.
    vaults: BTreeMap<String, VaultKey>,
}

#[derive(Serialize)]
struct ExportedAuth {
    #[serde(with = "crate::account::secret_text")]
    token: SecretString,
}

#[derive(Serialize)]
struct VaultKey {
    /// 64 hexadecimal digits.
    #[serde(with = "crate::account::secret_text")]
    key: SecretString,
    /// The parameters that the key was derived for: the function opens nothing else with it.
    encryption_version: u64,
    salt: String,
}

pub(in crate::commands) async fn export(
    options: &CredentialsExport,
    context: &Context,
) -> Result<Exit, Failed> {
    if options.output.is_none() && !options.force && io::stdout().is_terminal() {
        let message = "the secret would be shown on this terminal; give --output FILE, or send it to a file or \
                       program, or give --force";
        return Err(Failed::new(Exit::Usage, message));
    }
    let client = context.client()?;
    let (token, list) = token(options, context, &client).await?;
    let vaults = keys(options, context, &client, &token, list).await?;
    let secret = ExportedSecret { auth: ExportedAuth { token: token.expose().into() }, vaults };
    let count = human::counted(secret.vaults.len() as u64, "key", "keys");
    let text = serde_json::to_string_pretty(&secret).map(|text| Zeroizing::new(text + "\n"));
    let text = text.map_err(|error| Failed::cannot("write the secret", &error))?;
    match &options.output {
        Some(file) => write(file, &text, options.force)?,
        None => context.console.write_out(&text)?,
    }
    context.keep_signed_in();
    context.console.note(&format!(
        "obsync: this is secret: a token of the account, and {count}. Anyone who has it can read the vaults. `obsync logout` \
         does not revoke the token; `obsync credentials revoke` with this secret does."
    ));
    Ok(Exit::Done)
}

/// A separate token, and the vaults that it shows. Signing out on this computer does not invalidate it. A
/// token from the environment is exported unchanged.
async fn token(
    options: &CredentialsExport,
    context: &Context,
    client: &Client,
) -> Result<(Token, VaultList), Failed> {
    if let Some(token) = environment::token()? {
        let list = client.vault_list(&token).await.map_err(environment_token_refused)?;
        return Ok((token, list));
    }
    let account = AccountOptions {
        password_command: options.account_password_command.as_deref(),
        mfa: options.mfa.as_deref(),
    };
    let token = token_of_its_own(context, client, account).await?.token;
    let list = client.vault_list(&token).await?;
    Ok((token, list))
}

/// The keys of the requested vaults, except those whose password the service provides.
async fn keys(
    options: &CredentialsExport,
    context: &Context,
    client: &Client,
    token: &Token,
    list: VaultList,
) -> Result<BTreeMap<String, VaultKey>, Failed> {
    let takes_all = options.vaults.is_empty();
    let mut keys = BTreeMap::new();
    for vault in wanted(options, list, client.redactor())? {
        match key(options, context, client, token, &vault).await {
            Ok(None) => {
                context.console.note(&format!("obsync: {:?} needs no key: the token opens it", vault.name));
            }
            Ok(Some(key)) => {
                keys.insert(vault.id.to_string(), key);
            }
            // Nobody named this one in particular.
            Err(failed) if takes_all && failed.exit == Exit::SignIn => {
                context.console.warn(&format!("{:?} is left out: {failed}", vault.name));
            }
            Err(failed) => return Err(failed),
        }
    }
    Ok(keys)
}

/// The key of a vault; `None` for a standard vault that was never known as anything else.
async fn key(
    options: &CredentialsExport,
    context: &Context,
    client: &Client,
    token: &Token,
    vault: &VaultInfo,
) -> Result<Option<VaultKey>, Failed> {
    let mut wish = wish(options.encryption.kind(), options.password_stdin, false)?;
    if VaultKind::of(vault) == VaultKind::Standard && !options.password_stdin {
        // It is not opened here, so a password for another vault is no contradiction.
        wish.password = PasswordAtHand::None;
    }
    let admitted = admit(vault, None, wish, context).await?;
    if admitted.kind() == VaultKind::Standard {
        return Ok(None);
    }
    let lock = Lock { context, client, token, vault, password_command: options.password_command.as_deref() };
    let open = lock.open(&admitted, options.password_stdin).await?;
    admitted.tell(context);
    admitted.keep_in_home(&open.master, context);
    Ok(Some(VaultKey {
        key: open.master.expose_hex(),
        encryption_version: vault.encryption_version,
        salt: vault.salt.clone(),
    }))
}

fn wanted(
    options: &CredentialsExport,
    list: VaultList,
    redactor: &Redactor,
) -> Result<Vec<VaultInfo>, Failed> {
    if options.vaults.is_empty() {
        let all = list.vaults.into_iter().chain(list.shared);
        return Ok(all.map(|vault| presentable(vault, redactor)).collect());
    }
    options.vaults.iter().map(|wanted| choose(list.clone(), wanted, redactor)).collect()
}

/// Writes a file that only its owner can read.
fn write(path: &Path, text: &str, replace: bool) -> Result<(), Failed> {
    let result = create_private(path, replace).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    match result {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let message = format!("{} is there already; give --force to replace it", path.display());
            Err(Failed::new(Exit::Usage, message))
        }
        result => result.map_err(|error| Failed::cannot(format_args!("write {}", path.display()), &error)),
    }
}
