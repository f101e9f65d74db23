//! `obsync create`: creates a vault, and stores its key.

use obsync_client::{Client, ClientError, NewVault, NewVaultEncryption, Token};
use obsync_core::ProblemCode;
use obsync_core::pin::{PasswordAtHand, VaultKind, Wish};
use obsync_protocol::{CreatedVault, VaultInfo, VaultList, shown_name};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use crate::account::admission::admit;
use crate::account::password::from_command;
use crate::account::sign_in;
use crate::account::vault_keys::Lock;
use crate::answer::Answer;
use crate::args::Create;
use crate::context::Context;
use crate::environment;
use crate::exit::{Exit, Failed};
use crate::ui::{ask, shell};

/// Most prompts for two equal passwords.
const ATTEMPTS: u32 = 3;

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct CreateDocument {
    /// The vault's id.
    vault_id: String,
    /// Its name.
    vault: String,
    /// The region of the vault.
    region: String,
    /// The vault's encryption.
    encryption: VaultKind,
}

pub(super) async fn run(options: &Create, context: &Context) -> Result<Exit, Failed> {
    let client = context.client()?;
    let order = context.or_stopped(order(options, &client, context)).await?;
    // After an interruption from here on, the service may or may not have created it.
    let made = context.or_stopped(make(options, order, &client, context)).await;
    let vault = made.map_err(|failed| match failed.exit {
        Exit::Unfinished => unknown(failed, &options.name),
        _ => failed,
    })?;
    tell(options, &vault, context)?;
    Ok(Exit::Done)
}

/// A vault to create.
struct Order {
    token: Token,
    vault: NewVault,
    password: Option<SecretString>,
}

/// Checks everything that can be refused before anything is created.
async fn order(options: &Create, client: &Client, context: &Context) -> Result<Order, Failed> {
    let (token, list) =
        sign_in::with_token(context, client, async |token| client.vault_list(token).await).await?;
    refuse_second(&list, &options.name)?;
    let region = region(options, client, &token).await?;
    let password = match options.encryption {
        VaultKind::Standard => None,
        VaultKind::EndToEnd => Some(password(options).await?),
    };
    let encryption = encryption(client, password.as_ref()).await?;
    let vault = NewVault { name: options.name.clone(), region, encryption };
    Ok(Order { token, vault, password })
}

/// Creates the vault, and opens it.
async fn make(
    options: &Create,
    Order { token, vault, password }: Order,
    client: &Client,
    context: &Context,
) -> Result<VaultInfo, Failed> {
    let created = client.create_vault(&token, vault).await.map_err(|error| lost(error, &options.name))?;
    let opened = open(options, &created, password.as_ref(), client, &token, context).await;
    opened.map_err(|failed| {
        let message = format!("the vault {:?} was created, but cannot be opened: {failed}", options.name);
        Failed { message, ..failed }
    })
}

/// People choose a vault by its name, so the name should be unique.
fn refuse_second(list: &VaultList, name: &str) -> Result<(), Failed> {
    match list.vaults.iter().find(|vault| vault.name == name) {
        Some(vault) => {
            let message = format!("there is a vault {name:?} already ({}); nothing was created", vault.id);
            Err(Failed::new(Exit::Error, message))
        }
        None => Ok(()),
    }
}

/// The region in the service's terms; "" lets it choose.
async fn region(options: &Create, client: &Client, token: &Token) -> Result<String, Failed> {
    let Some(wanted) = &options.region else { return Ok(String::new()) };
    let regions = client.regions(token).await?;
    if regions.iter().any(|region| region.value == *wanted) {
        return Ok(wanted.clone());
    }
    let names: Vec<_> = regions.iter().map(|region| shown_name(&region.value)).collect();
    let message = format!("there is no region {wanted:?}; the service has {}", names.join(", "));
    Err(Failed::new(Exit::Usage, message))
}

/// From the sources of vault passwords, else from a person, who has to type it twice.
async fn password(options: &Create) -> Result<SecretString, Failed> {
    let given = match &options.password_command {
        _ if options.password_stdin => return ask::first_line_of_stdin("vault password").await,
        Some(command) => Some(from_command(command, "vault password").await?),
        None => environment::vault_password()?,
    };
    match given {
        // A line break at its end is not meant: nobody could type it in Obsidian.
        Some(password) => Ok(password.without_line_end().unwrap_or_else(|| password.as_given()).clone()),
        None if ask::can_ask() => ask_twice(&options.name).await,
        None => Err(Failed::new(
            Exit::SignIn,
            format!(
                "a password for the vault is needed; pipe it in with --password-stdin, or set {0} or {0}_FILE",
                environment::VAULT_PASSWORD
            ),
        )
        .coded(ProblemCode::VaultPassword)),
    }
    .and_then(|password| match password.expose_secret().is_empty() {
        true => Err(Failed::new(Exit::Usage, "the password is empty")),
        false => Ok(password),
    })
}

async fn ask_twice(name: &str) -> Result<SecretString, Failed> {
    for _ in 0..ATTEMPTS {
        let password = ask::secret(format!("Password for the vault {name:?}: ")).await?;
        let again = ask::secret("The same again: ".to_owned()).await?;
        if password.expose_secret() == again.expose_secret() {
            return Ok(password);
        }
        ask::tell("The passwords differ.");
    }
    let failed = Failed::new(Exit::SignIn, "no password was entered twice; nothing was created");
    Err(failed.coded(ProblemCode::VaultPassword))
}

/// Salt and proof of the password. scrypt takes tens of milliseconds, too long for a thread of the runtime.
async fn encryption(client: &Client, password: Option<&SecretString>) -> Result<NewVaultEncryption, Failed> {
    let Some(password) = password.cloned() else { return Ok(NewVaultEncryption::Managed) };
    client.redactor().know(password.expose_secret());
    let derived = tokio::task::spawn_blocking(move || NewVaultEncryption::end_to_end(&password)).await;
    let (encryption, _) = derived.map_err(|error| Failed::cannot("derive the vault's key", &error))??;
    Ok(encryption)
}

/// A call whose answer was lost, or replaced by a gateway's, may have created the vault; it is never repeated.
fn lost(error: ClientError, name: &str) -> Failed {
    let is_unknown = matches!(
        error,
        ClientError::ConnectionLost { .. }
            | ClientError::TimedOut { .. }
            | ClientError::Protocol { .. }
            | ClientError::Http { status: 500.. }
    );
    let failed = Failed::from(error);
    if is_unknown { unknown(failed, name) } else { failed }
}

/// Adds how to find out whether the vault was created.
fn unknown(failed: Failed, name: &str) -> Failed {
    let message = format!("{failed}; look with `obsync vaults` whether {name:?} was made");
    Failed { message, ..failed }
}

/// Opens the new vault as a pull does: stores key and pin, and proves that the password opens it.
async fn open(
    options: &Create,
    created: &CreatedVault,
    password: Option<&SecretString>,
    client: &Client,
    token: &Token,
    context: &Context,
) -> Result<VaultInfo, Failed> {
    let vaults = client.vaults(token).await?;
    let vault = vaults.into_iter().find(|vault| vault.id == created.id);
    let vault = vault.ok_or_else(|| Failed::from(ClientError::VaultNotFound))?;
    let password_at_hand = match password {
        Some(_) => PasswordAtHand::OfThisVault,
        None => PasswordAtHand::None,
    };
    let wish =
        Wish { encryption: Some(options.encryption), password: password_at_hand, accepts_change: false };
    let admitted = admit(&vault, None, wish, context).await?;
    let lock = Lock { context, client, token, vault: &vault, password_command: None };
    let unlocked = match password {
        Some(password) => lock.open_with(password, &admitted).await?,
        None => lock.open(&admitted, false).await?,
    };
    admitted.keep_in_home(&unlocked.master, context);
    Ok(vault)
}

fn tell(options: &Create, vault: &VaultInfo, context: &Context) -> Result<(), Failed> {
    let region = context.console.redactor().take_out(&vault.region).into_owned();
    if options.json {
        let (vault_id, vault, encryption) = (vault.id.to_string(), options.name.clone(), options.encryption);
        let document = CreateDocument { vault_id, vault, region, encryption };
        return context.console.answer(&Answer::new(Exit::Done, None, document));
    }
    let sync = shell::command("sync", &[&options.name, "./notes"], &[]);
    context.say(&format!(
        "The vault {:?} was created ({}, {} encryption, region {}). `{sync}` fills it.",
        options.name,
        vault.id,
        options.encryption,
        shown_name(&region)
    ))
}
