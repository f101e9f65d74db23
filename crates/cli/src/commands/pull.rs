//! `obsync pull`: brings a vault to a folder or a bucket.

use std::sync::Arc;

use obsync_client::FetchOptions;
use obsync_core::{Mode, Outcome, Progress, PullError, PullOptions, PullSource, Report, VaultStore, pull};
use obsync_protocol::Filter;
use tokio_util::sync::CancellationToken;

use crate::args::{Choice, Pull};
use crate::context::Context;
use crate::exit::{Exit, Failed};
use crate::followed::Followed;
use crate::known::Known;
use crate::progress::Display;
use crate::pull_report;
use crate::sign_in;
use crate::states::State;
use crate::vault_choice::choose;
use crate::vault_keys::Lock;

pub(super) async fn run(options: &Pull, context: &Context, verbose: bool) -> Result<Exit, Failed> {
    let objects = options.objects.for_destination(&options.destination)?;
    let known = Known::of(&options.destination, &options.state.place, context).await?;
    let source = context.or_stopped(source(options, context)).await?;
    let state = context.or_stopped(known.state_for(&source.vault, options.dry_run)).await?;
    let result = match context.or_stopped(known.store(objects, options.dry_run, context)).await {
        Ok(store) => pull_into(&source, store, &state, options, context, verbose).await,
        Err(failed) => Err(failed),
    };
    state.close().await;
    conclude(&result?, options, context)
}

/// Pulls, and has a table say how far that is and how it ended.
async fn pull_into(
    source: &PullSource,
    store: Arc<dyn VaultStore>,
    state: &State,
    options: &Pull,
    context: &Context,
    verbose: bool,
) -> Result<Report, Failed> {
    let display = Display::new(Arc::clone(&context.console));
    let _drawing = display.draw(verbose);
    let pull_options = pull_options(options);
    let followed = match options.dry_run {
        true => None,
        false => Followed::begin(state, pull_options.mode).await?,
    };
    let (states, progress) = match &followed {
        Some(followed) => (followed.store(), followed.progress(display.clone())),
        None => (state.store(), display.clone() as Arc<dyn Progress>),
    };
    let stop = context.stop.child_token();
    let pulling = pull(source, store, states, &pull_options, progress, stop.clone());
    let result = or_lost(pulling, state, &stop, &display).await;
    if let Some(followed) = &followed {
        followed.end(&result).await;
    }
    result
}

/// Pulls until it is done, the program is to end, or another process has the destination.
async fn or_lost(
    pulling: impl Future<Output = Result<Report, PullError>>,
    state: &State,
    stop: &CancellationToken,
    display: &Display,
) -> Result<Report, Failed> {
    let mut pulling = Box::pin(pulling);
    let result = tokio::select! {
        biased;
        result = &mut pulling => result,
        lost = state.lost() => {
            stop.cancel();
            // It ends in good order; what it has to say does not count any more.
            let _ = pulling.await;
            return Err(lost.into());
        }
    };
    result.map_err(|error| failed(error, display.connected()))
}

/// Signs in, finds the vault and opens it: everything that can be refused before anything is written.
async fn source(options: &Pull, context: &Context) -> Result<PullSource, Failed> {
    let client = context.client()?;
    let (token, vaults) =
        sign_in::with_token(context, &client, async |token| client.vault_list(token).await).await?;
    let vault = choose(vaults, &options.vault)?;
    let password_command = options.password_command.as_deref();
    let lock = Lock { context, client: &client, token: &token, vault: &vault, password_command };
    let keys = lock.open(options.password_stdin).await?.keys;
    Ok(PullSource { client, token, vault, keys })
}

fn pull_options(options: &Pull) -> PullOptions {
    PullOptions {
        filter: filter(&options.choice),
        mode: if options.full { Mode::Full } else { Mode::Incremental },
        dry_run: options.dry_run,
        accept_older_vault: options.accept_older_vault,
        fetch: FetchOptions { connections: options.connections.into(), ..FetchOptions::default() },
        ..PullOptions::default()
    }
}

fn filter(choice: &Choice) -> Filter {
    Filter {
        file_types: choice.file_types,
        configs: choice.configs,
        excluded: choice.exclude.clone(),
        config_dir: choice.config_dir.clone(),
    }
}

/// Tells how it went. The report is a result; what needs the user's attention goes to standard error, also
/// with `-q`.
fn conclude(report: &Report, options: &Pull, context: &Context) -> Result<Exit, Failed> {
    if options.json {
        context.console.json(report)?;
    } else {
        context.say(&pull_report::sentences(report))?;
    }
    if let Some(failures) = pull_report::failures(report) {
        context.console.error(&failures);
    }
    Ok(match report.outcome {
        Outcome::Complete | Outcome::DryRun => Exit::Done,
        Outcome::Failures => Exit::Failures,
        Outcome::VaultOlder => {
            // With -q the warnings of the run were not printed.
            if context.console.is_quiet() {
                report
                    .warnings
                    .iter()
                    .for_each(|warning| context.console.error(&format!("obsync: {warning}")));
            }
            Exit::VaultOlder
        }
        Outcome::Interrupted => {
            context
                .console
                .error("obsync: interrupted; what was pulled is kept, and the next run goes on from here");
            Exit::Unfinished
        }
    })
}

/// A pull that could not go on: cut off once it had begun, refused before that.
fn failed(error: PullError, connected: bool) -> Failed {
    match error {
        PullError::Client(error) => match Failed::from(error) {
            Failed { exit: Exit::Unreachable, message } if connected => {
                let message =
                    format!("{message}; what was pulled is kept, and the next run goes on from there");
                Failed::new(Exit::Unfinished, message)
            }
            failed => failed,
        },
        PullError::State(error) => error.into(),
        PullError::Store(error) => error.into(),
        other => Failed::of(Exit::Error, &other),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use obsync_client::ClientError;
    use obsync_core::StoreError;

    use super::*;

    #[test]
    fn the_same_trouble_is_refused_before_and_unfinished_after_the_pull_has_begun() {
        let lost =
            || PullError::Client(ClientError::TimedOut { what: "an answer", after: Duration::from_secs(60) });
        assert_eq!(failed(lost(), false).exit, Exit::Unreachable);
        assert_eq!(failed(lost(), true).exit, Exit::Unfinished);
        let expired = PullError::Client(ClientError::SubscriptionExpired);
        assert_eq!(failed(expired, true).exit, Exit::SignIn);
    }

    #[test]
    fn a_full_disk_says_what_to_do() {
        let full = failed(PullError::Store(StoreError::Full { location: "notes".to_owned() }), true);
        assert_eq!(full.exit, Exit::Error);
        assert_eq!(
            full.message,
            "notes is full; free some space and run the same command again, it goes on where it stopped"
        );
    }
}
