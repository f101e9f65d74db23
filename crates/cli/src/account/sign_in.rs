//! From what there is — a token in the environment, a saved one, credentials, a person to ask — to a token
//! that the service accepts.

use obsync_client::totp::{Generator, now, wait_past_boundary};
use obsync_client::{Client, ClientError, SignedIn, Token};
use secrecy::ExposeSecret;

use crate::account::credentials::Saved;
use crate::account::password::Password;
use crate::context::Context;
use crate::environment;
use crate::exit::{Exit, Failed};
use crate::ui::ask;

/// How often a code is asked for on a terminal.
const CODE_ATTEMPTS: u32 = 3;

/// What a sign-in needs; the two-factor code is found when the service wants one.
#[derive(Debug)]
pub(crate) struct Account {
    /// The account's email address.
    pub(crate) email: String,
    /// The account's password.
    pub(crate) password: Password,
    /// A two-factor code that was given with the command.
    pub(crate) mfa: Option<String>,
}

impl Account {
    /// The account of the environment, when both `OBSIDIAN_EMAIL` and `OBSIDIAN_PASSWORD` are set.
    fn from_environment() -> Result<Option<Self>, Failed> {
        let (email, password) = (environment::email()?, environment::password()?);
        Ok(email.zip(password).map(|(email, password)| Account { email, password, mfa: None }))
    }

    /// Signs in, with a code where the service wants one.
    ///
    /// # Errors
    /// What the service says, or that a code is needed and there is nowhere to get it.
    pub(crate) async fn sign_in(&self, client: &Client) -> Result<Saved, Failed> {
        match self.attempt(client, self.mfa.as_deref()).await {
            Err(ClientError::MfaRequired) => self.sign_in_with_code(client).await,
            Err(ClientError::WrongCredentials) => {
                Err(self.password.refused(ClientError::WrongCredentials.into()))
            }
            result => Ok(result?),
        }
    }

    async fn sign_in_with_code(&self, client: &Client) -> Result<Saved, Failed> {
        if let Some(generator) = environment::totp()? {
            return self.sign_in_with_generator(client, &generator).await;
        }
        if !ask::can_ask() {
            return Err(Failed::new(
                Exit::SignIn,
                "this account needs a two-factor code; run `obsync login --mfa CODE`, or set OBSIDIAN_TOTP_SECRET \
                 for obsync to compute the codes",
            ));
        }
        let mut attempt = 1;
        loop {
            let code = ask::line("Two-factor code: ".to_owned()).await?;
            let code: String = code.split_whitespace().collect();
            match self.attempt(client, Some(&code)).await {
                Err(error @ ClientError::MfaWrong { .. }) if attempt < CODE_ATTEMPTS => {
                    attempt += 1;
                    ask::tell(&error.to_string());
                }
                result => return Ok(result?),
            }
        }
    }

    /// A code that was refused near the end of its period was perhaps only late: then the next one is tried.
    async fn sign_in_with_generator(&self, client: &Client, generator: &Generator) -> Result<Saved, Failed> {
        match self.attempt(client, Some(&generator.current().digits)).await {
            Err(ClientError::MfaWrong { .. }) => {}
            result => return Ok(result?),
        }
        if let Some(wait) = wait_past_boundary(now()) {
            tracing::warn!(
                "the two-factor code was refused at the end of its time; trying again in {wait:?}"
            );
            tokio::time::sleep(wait).await;
            match self.attempt(client, Some(&generator.current().digits)).await {
                Err(ClientError::MfaWrong { .. }) => {}
                result => return Ok(result?),
            }
        }
        let clock = match client.clock_skew() {
            Some(skew) => skew.to_string(),
            None => "this computer's clock is right".to_owned(),
        };
        Err(Failed::new(
            Exit::SignIn,
            format!(
                "the service refused the code computed from OBSIDIAN_TOTP_SECRET; {clock}, so check {}",
                if client.clock_skew().is_some() { "the clock first" } else { "the secret" }
            ),
        ))
    }

    async fn attempt(&self, client: &Client, code: Option<&str>) -> Result<Saved, ClientError> {
        if let Some(password) = self.password.without_line_end() {
            client.redactor().know(password.expose_secret());
        }
        let signed_in = match client.sign_in(&self.email, self.password.as_given(), code).await {
            Err(ClientError::WrongCredentials) => self.attempt_without_line_end(client, code).await?,
            result => result?,
        };
        Ok(Saved { token: signed_in.token, email: signed_in.email })
    }

    /// The password with the line break that it has was refused.
    async fn attempt_without_line_end(
        &self,
        client: &Client,
        code: Option<&str>,
    ) -> Result<SignedIn, ClientError> {
        let Some(password) = self.password.without_line_end() else {
            return Err(ClientError::WrongCredentials);
        };
        let signed_in = client.sign_in(&self.email, password, code).await?;
        self.password.tell_of_line_end();
        Ok(signed_in)
    }
}

/// Calls the service with the best token there is, and returns that token with the answer.
///
/// A saved token that the service does not know any more is renewed once, when the environment has
/// credentials.
///
/// # Errors
/// That nobody is signed in, or what the service says.
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
        return Err(Failed::new(
            Exit::SignIn,
            "you are not signed in; run `obsync login`, or set OBSIDIAN_EMAIL and OBSIDIAN_PASSWORD",
        ));
    };
    let saved = account.sign_in(client).await?;
    keep(context, &saved);
    let answer = call(&saved.token).await?;
    Ok((saved.token, answer))
}

/// What to say when the service answers `OBSIDIAN_AUTH_TOKEN` with an error.
pub(crate) fn environment_token_refused(error: ClientError) -> Failed {
    match error {
        ClientError::NotSignedIn => Failed::new(
            Exit::SignIn,
            "the service does not accept OBSIDIAN_AUTH_TOKEN (any more); set it to a valid token, or unset it and run \
             `obsync login`",
        ),
        error => error.into(),
    }
}

/// The saved token, unless the environment names another account than the one it is for.
fn saved_token(context: &Context, account: Option<&Account>) -> Result<Option<Saved>, Failed> {
    let saved = context.credentials().load(context.api_url(), &context.console)?;
    Ok(saved.filter(|saved| account.is_none_or(|account| account.email.eq_ignore_ascii_case(&saved.email))))
}

/// Keeps a token that was got on the way. Where nothing can be kept (a read-only container), the work goes
/// on.
fn keep(context: &Context, saved: &Saved) {
    if let Err(failed) = context.credentials().save(context.api_url(), saved, &context.console) {
        context.console.warn(&format!("the sign-in is not kept for the next time: {failed}"));
    }
}
