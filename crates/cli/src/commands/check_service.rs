//! `obsync check-service`: checks with a scratch vault whether the service behaves as two-way sync requires.

use obsync_client::{Client, ClientError, NewVault, NewVaultEncryption, SessionTarget, Token};
use obsync_core::{Finding, Problem, ProblemCode, ServiceFact, check_service};
use obsync_protocol::{VaultId, VaultInfo, VaultKeys};
use secrecy::SecretString;
use serde::Serialize;

use crate::account::sign_in;
use crate::answer::Answer;
use crate::args::CheckService;
use crate::context::Context;
use crate::exit::{Exit, Failed};
use crate::ui::{ask, human};

/// The start of the scratch vault's name.
const NAME: &str = "obsync check";

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct CheckServiceDocument {
    /// The checks, in the order in which they were made.
    facts: Vec<ServiceFact>,
    /// The scratch vault, if it was kept or could not be deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    vault_left: Option<String>,
}

pub(super) async fn run(options: &CheckService, context: &Context) -> Result<Exit, Failed> {
    if !options.yes {
        if !ask::can_ask() {
            let message = "confirmation is required to create a scratch vault on this account; give --yes";
            return Err(Failed::new(Exit::Usage, message));
        }
        if !ask::yes("Create a scratch vault on your account, and delete it again?").await? {
            context.say("Nothing was done.")?;
            return Ok(Exit::Done);
        }
    }
    let device = format!("{NAME} {}", jiff::Timestamp::now().as_second());
    let client = context.client_as(device.clone())?;
    let prepare = async { prepared(&client, context).await };
    let (token, encryption, keys) = context.or_stopped(prepare).await?;
    let vault = scratch_vault(&device, &client, &token, encryption, context).await?;
    let target =
        SessionTarget { token: token.clone(), vault_id: vault.id.clone(), host: vault.host.clone(), keys };
    // Cancelled or not, the vault is deleted.
    let facts = context.stop.run_until_cancelled(check_service(&client, &target)).await;
    let vault_left = match options.keep {
        true => Some(vault.name.clone()),
        false => delete(&client, &token, &vault.id, &vault.name, context).await,
    };
    let Some(facts) = facts else { return Err(Failed::new(Exit::Unfinished, "interrupted")) };
    let is_good = facts.iter().all(|fact| matches!(fact.finding, Finding::AsExpected | Finding::Observed));
    let exit = if is_good { Exit::Done } else { Exit::Failures };
    if options.json {
        let problem = (!is_good).then(|| {
            Problem::new(
                ProblemCode::Failures,
                "the service does not do everything that two-way sync depends on",
            )
            .lasting()
        });
        context.console.answer(&Answer::new(exit, problem, CheckServiceDocument { facts, vault_left }))?;
    } else {
        context.console.result(&described(&facts))?;
        if let Some(name) = vault_left {
            context.say(&format!("The vault {name:?} is still there."))?;
        }
    }
    Ok(exit)
}

/// A token, and the key of a vault to create.
async fn prepared(
    client: &Client,
    context: &Context,
) -> Result<(Token, NewVaultEncryption, VaultKeys), Failed> {
    let (token, _) =
        sign_in::with_token(context, client, async |token| client.vault_list(token).await).await?;
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| Failed::cannot("draw a password", &error))?;
    let password = SecretString::from(random.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let derived = tokio::task::spawn_blocking(move || NewVaultEncryption::end_to_end(&password)).await;
    let (encryption, keys) = derived.map_err(|error| Failed::cannot("derive the vault's key", &error))??;
    Ok((token, encryption, keys))
}

/// Creates the vault. Not cancelled midway: a requested vault is deleted again, whatever happens in between.
async fn scratch_vault(
    name: &str,
    client: &Client,
    token: &Token,
    encryption: NewVaultEncryption,
    context: &Context,
) -> Result<VaultInfo, Failed> {
    let vault = NewVault { name: name.to_owned(), region: String::new(), encryption };
    let asked = client.create_vault(token, vault).await;
    let listed = match asked {
        Ok(_) => {
            context.stop.run_until_cancelled(client.vaults(token)).await.unwrap_or_else(|| Ok(Vec::new()))
        }
        Err(_) => client.vaults(token).await,
    };
    // Its answer may have been lost. No other vault has this name.
    let made = |vault: &VaultInfo| match &asked {
        Ok(created) => vault.id == created.id,
        Err(_) => vault.name == name,
    };
    let found = listed.as_ref().ok().and_then(|vaults| vaults.iter().find(|vault| made(vault)).cloned());
    let error = match (asked, listed, found) {
        (Ok(_), _, Some(vault)) if !context.stop.is_cancelled() => return Ok(vault),
        (asked, listed, found) => {
            let id = found.map(|vault| vault.id).or(asked.as_ref().ok().map(|created| created.id.clone()));
            if let Some(id) = id {
                delete(client, token, &id, name, context).await;
            }
            asked.err().or(listed.err()).unwrap_or(ClientError::VaultNotFound)
        }
    };
    match context.stop.is_cancelled() {
        true => Err(Failed::new(Exit::Unfinished, "interrupted")),
        false => Err(error.into()),
    }
}

/// Deletes the scratch vault. Returns its name, if it still exists.
async fn delete(
    client: &Client,
    token: &Token,
    id: &VaultId,
    name: &str,
    context: &Context,
) -> Option<String> {
    let Err(error) = client.delete_vault(token, id).await else { return None };
    context.console.warn(&format!(
        "the scratch vault {name:?} cannot be deleted ({error}); delete it in Obsidian's settings"
    ));
    Some(name.to_owned())
}

fn described(facts: &[ServiceFact]) -> String {
    let lines = facts.iter().map(|fact| {
        let word = match fact.finding {
            Finding::AsExpected => "yes",
            Finding::Observed => "either",
            Finding::Differs => "NO",
            Finding::Unknown => "unknown",
        };
        format!("{word:8}{}: {}", fact.expected, fact.details)
    });
    let differ =
        facts.iter().filter(|fact| matches!(fact.finding, Finding::Differs | Finding::Unknown)).count();
    let end = match differ {
        0 => "Everything that two-way sync depends on is as expected.".to_owned(),
        differ => format!(
            "{} not as expected: do not use two-way sync with this service.",
            human::counted(differ as u64, "thing is", "things are")
        ),
    };
    lines.chain([end]).collect::<Vec<_>>().join("\n")
}
