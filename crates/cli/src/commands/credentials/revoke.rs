//! `obsync credentials revoke`: invalidates the token of an exported secret.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use obsync_client::{ClientError, Token};
use obsync_protocol::limits;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::args::CredentialsRevoke;
use crate::context::Context;
use crate::exit::{Exit, Failed};

/// The required part of a secret; the rest is for the function.
#[derive(Deserialize)]
struct Secret {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(with = "crate::account::secret_text")]
    token: SecretString,
}

pub(in crate::commands) async fn revoke(
    options: &CredentialsRevoke,
    context: &Context,
) -> Result<Exit, Failed> {
    let token = token(options.secret.as_deref())?;
    let client = context.client()?;
    let email = match client.user_info(&token).await {
        Ok(user) => user.email,
        Err(ClientError::NotSignedIn) => {
            context.say("The token of this secret was no longer valid.")?;
            return Ok(Exit::Done);
        }
        Err(error) => return Err(error.into()),
    };
    match client.sign_out(&token).await {
        Ok(()) | Err(ClientError::NotSignedIn) => {}
        Err(error) => return Err(error.into()),
    }
    forget_here(&token, context)?;
    context.say(&format!(
        "The token of {email} in this secret is revoked. Its keys can still decrypt copies of the vaults' contents."
    ))?;
    Ok(Exit::Done)
}

/// Removes this computer's sign-in if it uses the same token: early releases exported that.
fn forget_here(token: &Token, context: &Context) -> Result<(), Failed> {
    let (credentials, console) = (context.credentials(), &context.console);
    let kept = credentials.load(context.api_url(), console)?;
    if kept.is_some_and(|kept| kept.token.expose() == token.expose()) {
        credentials.forget(context.api_url(), console)?;
        console.warn(
            "the secret had the token of this computer, so you are signed out here, too: `obsync login`",
        );
    }
    Ok(())
}

fn token(file: Option<&Path>) -> Result<Token, Failed> {
    let unusable = |problem: &str| {
        Failed::new(Exit::Usage, format!("this is no secret of `obsync credentials export`: {problem}"))
    };
    let text = match file {
        Some(file) => File::open(file)
            .and_then(read)
            .map_err(|error| Failed::cannot(format_args!("read {}", file.display()), &error))?,
        None if io::stdin().is_terminal() => {
            return Err(Failed::new(
                Exit::Usage,
                "give the file of the secret, or send it to standard input",
            ));
        }
        None => read(io::stdin().lock()).map_err(|error| Failed::cannot("read standard input", &error))?,
    };
    if text.len() as u64 > limits::PRIVATE_FILE {
        return Err(unusable("it is too large"));
    }
    // The parser's own message would repeat its input.
    let secret: Secret =
        serde_json::from_str(&text).map_err(|_| unusable("it has no \"auth\" with a \"token\""))?;
    match secret.auth.token.expose_secret().trim() {
        "" => Err(unusable("its token is empty")),
        token => Ok(Token::new(token)),
    }
}

fn read(from: impl Read) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    from.take(limits::PRIVATE_FILE + 1).read_to_string(&mut text)?;
    Ok(text)
}
