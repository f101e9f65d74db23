//! Obtains a token that the service accepts: from the environment, a stored one, credentials, or the person
//! at the terminal.

use obsync_client::totp::Generator;
use obsync_client::{Client, ClientError, Password, SignIn, SignedIn, Token};
use obsync_core::ProblemCode;

use crate::account::credentials::Saved;
use crate::account::password::{from_command, refused};
use crate::context::Context;
use crate::environment;
use crate::exit::{Exit, Failed};
use crate::ui::ask;

/// Most prompts for a code on a terminal.
const CODE_ATTEMPTS: u32 = 3;

/// Credentials for signing in; the two-factor code is obtained when the service wants one.
#[derive(Debug)]
pub(crate) struct Account {
    /// The account's email address.
    pub(crate) email: String,
    /// The account's password.
    pub(crate) password: Password,
    /// A two-factor code from the command line.
    pub(crate) mfa: Option<String>,
}

impl Account {
    /// The account of the environment, when both `OBSIDIAN_EMAIL` and `OBSIDIAN_PASSWORD` are set.
    fn from_environment() -> Result<Option<Self>, Failed> {
        let (email, password) = (environment::email()?, environment::password()?);
        Ok(email.zip(password).map(|(email, password)| Account { email, password, mfa: None }))
    }

    /// Signs in, with a code if the service wants one.
    ///
    /// # Errors
    /// The service's error, or a missing code.
    pub(crate) async fn sign_in(&self, client: &Client) -> Result<Saved, Failed> {
        self.sign_in_by(client, environment::totp).await
    }

    /// The same with codes from another source.
    async fn sign_in_by(
        &self,
        client: &Client,
        totp: impl FnOnce() -> Result<Option<Generator>, Failed>,
    ) -> Result<Saved, Failed> {
        let mut sign_in = SignIn::new(client, &self.email, &self.password);
        let signed_in = match sign_in.attempt(self.mfa.as_deref()).await {
            Err(ClientError::MfaRequired) => match totp()? {
                Some(generator) => sign_in.with_codes(&generator).await?,
                None => ask_for_code(&mut sign_in).await?,
            },
            Err(ClientError::WrongCredentials) => {
                return Err(refused(&self.password, ClientError::WrongCredentials.into()));
            }
            result => result?,
        };
        Ok(Saved { token: signed_in.token, email: signed_in.email })
    }
}

async fn ask_for_code(sign_in: &mut SignIn<'_>) -> Result<SignedIn, Failed> {
    if !ask::can_ask() {
        return Err(Failed::new(
            Exit::SignIn,
            "this account needs a two-factor code; run `obsync login --mfa CODE`, or set OBSIDIAN_TOTP_SECRET for obsync \
             to compute the codes",
        ));
    }
    let mut attempt = 1;
    loop {
        let code = ask::line("Two-factor code: ".to_owned()).await?;
        let code: String = code.split_whitespace().collect();
        match sign_in.attempt(Some(&code)).await {
            Err(error @ ClientError::MfaWrong { .. }) if attempt < CODE_ATTEMPTS => {
                attempt += 1;
                ask::tell(&error.to_string());
            }
            result => return Ok(result?),
        }
    }
}

/// Calls the service with the best available token, and returns that token with the answer.
///
/// A stored token that the service rejects is renewed once, if the environment has credentials.
///
/// # Errors
/// When nobody is signed in; errors of the service.
pub(crate) async fn with_token<T>(
    context: &Context,
    client: &Client,
    call: impl AsyncFn(&Token) -> Result<T, ClientError>,
) -> Result<(Token, T), Failed> {
    if let Some(token) = environment::token()? {
        return match call(&token).await {
            Ok(answer) => Ok((token, answer)),
            Err(error) => Err(environment_token_refused(error)),
        };
    }
    let account = Account::from_environment()?;
    if let Some(saved) = saved_token(context, account.as_ref())? {
        match (call(&saved.token).await, &account) {
            (Ok(answer), _) => return Ok((saved.token, answer)),
            (Err(ClientError::NotSignedIn), Some(_)) => {
                tracing::debug!("the saved token is not valid any more; signing in again");
            }
            (Err(error), _) => return Err(error.into()),
        }
    }
    let Some(account) = account else {
        return Err(not_signed_in(context));
    };
    let saved = account.sign_in(client).await?;
    keep(context, &saved);
    let answer = call(&saved.token).await?;
    Ok((saved.token, answer))
}

/// The message when the service answers `OBSIDIAN_AUTH_TOKEN` with an error.
pub(crate) fn environment_token_refused(error: ClientError) -> Failed {
    match error {
        ClientError::NotSignedIn => Failed::new(
            Exit::SignIn,
            "the service does not accept OBSIDIAN_AUTH_TOKEN (any more); set it to a valid token, or unset it and run \
             `obsync login`",
        )
        .coded(ProblemCode::NotSignedIn),
        error => error.into(),
    }
}

/// The stored token, unless the environment names another account than the token's.
fn saved_token(context: &Context, account: Option<&Account>) -> Result<Option<Saved>, Failed> {
    let saved = context.credentials().load(context.api_url(), &context.console)?;
    Ok(saved.filter(|saved| account.is_none_or(|account| account.email.eq_ignore_ascii_case(&saved.email))))
}

/// Stores a token obtained during a command. If nothing can be stored (a read-only container), the work
/// continues, and the token is signed out when the run ends.
fn keep(context: &Context, saved: &Saved) {
    if let Err(failed) = context.credentials().save(context.api_url(), saved, &context.console) {
        context.sign_out_at_end(&saved.token);
        context.console.warn(&format!(
            "the sign-in could not be stored: {failed}. Each run signs in and out again; to spare that, give obsync \
             a place (OBSYNC_HOME) or a token (OBSIDIAN_AUTH_TOKEN)"
        ));
    }
}

/// A separate token for use elsewhere. It is signed out when the run ends, unless [`Context::keep_signed_in`]
/// says that it was handed on.
///
/// # Errors
/// When there are no credentials; errors of the service.
pub(crate) async fn token_of_its_own(
    context: &Context,
    client: &Client,
    account: AccountOptions<'_>,
) -> Result<Saved, Failed> {
    let saved = account.find(context).await?.sign_in(client).await?;
    context.sign_out_at_end(&saved.token);
    Ok(saved)
}

/// The account's options on the command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AccountOptions<'a> {
    /// A program that prints the account's password.
    pub(crate) password_command: Option<&'a str>,
    /// A two-factor code.
    pub(crate) mfa: Option<&'a str>,
}

impl AccountOptions<'_> {
    /// The account of the environment, else the one signed in here.
    async fn find(self, context: &Context) -> Result<Account, Failed> {
        let email = match environment::email()? {
            Some(email) => email,
            None => match context.credentials().load(context.api_url(), &context.console)? {
                Some(saved) => saved.email,
                None => return Err(not_signed_in(context)),
            },
        };
        let password = match self.password_command {
            Some(command) => from_command(command, "password").await?,
            None => match environment::password()? {
                Some(password) => password,
                None if ask::can_ask() => {
                    Password::exactly(ask::secret(format!("Password of the account {email}: ")).await?)
                }
                None => return Err(no_password(&email)),
            },
        };
        Ok(Account { email, password, mfa: self.mfa.map(str::to_owned) })
    }
}

fn not_signed_in(context: &Context) -> Failed {
    let has_home = ["HOME", "OBSYNC_HOME"].iter().any(|name| std::env::var_os(name).is_some());
    // The earlier look-up of the token has reported any fault of the file.
    let elsewhere = context.credentials().services(&context.console).unwrap_or_default();
    let why = match elsewhere.as_slice() {
        [] if has_home => String::new(),
        [] if context.home.require().is_err() => {
            " (neither HOME nor OBSYNC_HOME is set, so a kept sign-in cannot be found)".to_owned()
        }
        [] => format!(
            " (HOME is not set; a kept sign-in was looked for in {}, where the password database says that your home is)",
            context.home.config().display()
        ),
        services => format!(" at {}, but at {}", context.api_url(), services.join(", ")),
    };
    let message = format!(
        "you are not signed in{why}; run `obsync login`, or set OBSIDIAN_AUTH_TOKEN, or OBSIDIAN_EMAIL and OBSIDIAN_PASSWORD"
    );
    Failed::new(Exit::SignIn, message).coded(ProblemCode::NotSignedIn)
}

fn no_password(email: &str) -> Failed {
    let message = format!(
        "the secret gets a token of its own, for which the password of the account {email} is needed once more; set \
         OBSIDIAN_PASSWORD or OBSIDIAN_PASSWORD_FILE, give --account-password-command, or run this on a terminal"
    );
    Failed::new(Exit::SignIn, message)
}

#[cfg(test)]
mod tests {
    use obsync_client::ClientOptions;
    use obsync_conformance::SetClock;
    use obsync_testkit::Server;

    use super::*;

    #[tokio::test]
    async fn a_wrong_secret_is_told_apart_from_a_wrong_code() {
        let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        let server = Server::builder().user_with_totp("me@example.com", "pw", secret).start().await.unwrap();
        let clock = SetClock::new();
        let options =
            ClientOptions { api_url: server.url(), clock: clock.clone(), ..ClientOptions::default() };
        let client = Client::new(options).unwrap();
        let password = Password::exactly("pw".into());
        let account = Account { email: "me@example.com".to_owned(), password, mfa: None };
        let totp = || Ok(Generator::new(&"JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP".into()).ok());
        let failed = clock.passing(account.sign_in_by(&client, totp)).await.unwrap_err();
        assert_eq!(failed.exit, Exit::SignIn);
        // The local clock is ahead of the service's then, which the message adds.
        let sentence = "the service refused two codes computed from the two-factor secret; check the secret";
        assert!(failed.message.starts_with(sentence), "{}", failed.message);
        assert!(failed.message.ends_with("(OBSIDIAN_TOTP_SECRET)"), "{}", failed.message);
    }
}
