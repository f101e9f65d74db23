//! The commands, one file each.

use clap::CommandFactory;

use crate::args::{Arguments, AwsCommand, Command, CredentialsCommand};
use crate::context::Context;
use crate::exit::{Exit, Failed};

mod aws;
mod check_service;
mod completions;
mod confirm;
mod create;
mod credentials;
mod following;
mod help;
mod log;
mod login;
mod logout;
mod pull;
mod reset;
#[cfg(test)]
mod schemas;
mod status;
mod totp;
mod unlink;
mod vaults;
mod verify;
mod waiting;

/// Runs a command; returns the exit status of one that did its work.
///
/// # Errors
/// The failure of one that did not.
pub(crate) async fn run(command: &Command, context: &Context, verbose: bool) -> Result<Exit, Failed> {
    match command {
        // A cancelled pull ends in good order by itself.
        Command::Pull(options) => pull::run(options, context, verbose).await,
        Command::Sync(options) => pull::sync_both(options, context, verbose).await,
        Command::Push(options) => pull::push(options, context, verbose).await,
        Command::Login(options) => context.or_stopped(login::run(options, context)).await,
        Command::Logout(options) => context.or_stopped(logout::run(options, context)).await,
        Command::Vaults(options) => context.or_stopped(vaults::run(options, context)).await,
        // Only it knows from when on an interruption leaves something behind.
        Command::Create(options) => create::run(options, context).await,
        Command::CheckService(options) => check_service::run(options, context).await,
        Command::Status(options) => context.or_stopped(status::run(options, context)).await,
        Command::Verify(options) => context.or_stopped(verify::run(options, context)).await,
        Command::Reset(options) => context.or_stopped(reset::run(options, context)).await,
        Command::Unlink(options) => context.or_stopped(unlink::run(options, context)).await,
        Command::Log(options) => context.or_stopped(log::run(options, context)).await,
        Command::Confirm(options) => context.or_stopped(confirm::run(options, context)).await,
        Command::Credentials(credentials) => match &credentials.command {
            CredentialsCommand::Export(options) => {
                context.or_stopped(credentials::export(options, context)).await
            }
            CredentialsCommand::Revoke(options) => {
                context.or_stopped(credentials::revoke(options, context)).await
            }
        },
        Command::Aws(aws) => {
            let AwsCommand::Init(options) = &aws.command;
            context.or_stopped(aws::init(options, context)).await
        }
        Command::Totp(options) => context.or_stopped(totp::run(options, context)).await,
        Command::Completions(options) => completions::run(options, &mut Arguments::command(), context),
        Command::Help(options) => help::run(options, context),
    }
}
