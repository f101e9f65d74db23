//! `obsync logout`: invalidates and removes the stored token, and removes the keys of vaults.

use obsync_client::ClientError;

use crate::args::Logout;
use crate::context::Context;
use crate::exit::{Exit, Failed};

pub(super) async fn run(options: &Logout, context: &Context) -> Result<Exit, Failed> {
    let (credentials, console) = (context.credentials(), &context.console);
    let saved = credentials.load(context.api_url(), console)?;
    let client = context.client()?;
    let signed_out = match &saved {
        Some(saved) => client.sign_out(&saved.token).await,
        None => Ok(()),
    };
    // Also when the service is unreachable: signing out must leave nothing on this computer.
    credentials.forget(context.api_url(), console)?;
    if !options.keep_keys {
        context.pin_file().take_over(&context.key_file(), console)?;
        context.key_file().forget_all(context.api_url(), console)?;
    }
    match (signed_out, saved) {
        (_, None) => context.say("You were not signed in.")?,
        (Ok(()) | Err(ClientError::NotSignedIn), Some(saved)) => {
            context.say(&format!("Signed out {}.", saved.email))?;
        }
        (Err(error), Some(_)) => {
            let failed = Failed::from(error);
            let message = format!("the token was deleted here, but not revoked at the service: {failed}");
            return Err(Failed { message, ..failed });
        }
    }
    Ok(Exit::Done)
}
