//! `obsync login`: signs in and stores the token.

use obsync_client::Password;
use secrecy::ExposeSecret;

use crate::account::password::from_command;
use crate::account::sign_in::{Account, environment_token_refused};
use crate::args::Login;
use crate::context::Context;
use crate::environment;
use crate::exit::{Exit, Failed};
use crate::ui::ask;

pub(super) async fn run(options: &Login, context: &Context) -> Result<Exit, Failed> {
    let client = context.client()?;
    if let Some(token) = environment::token()? {
        let user = client.user_info(&token).await.map_err(environment_token_refused)?;
        context.say(&format!(
            "OBSIDIAN_AUTH_TOKEN is valid: it is the token of {}. Nothing was kept.",
            user.email
        ))?;
        return Ok(Exit::Done);
    }
    let account = Account {
        email: email(options).await?,
        password: password(options).await?,
        mfa: options.mfa.clone(),
    };
    let saved = account.sign_in(&client).await?;
    context.sign_out_at_end(&saved.token);
    context.credentials().save(context.api_url(), &saved, &context.console)?;
    context.keep_signed_in();
    let email = client.redactor().take_out(&saved.email);
    context.say(&format!("Signed in as {email}. `obsync vaults` lists your vaults."))?;
    Ok(Exit::Done)
}

async fn email(options: &Login) -> Result<String, Failed> {
    let given = options.email.as_deref().map(str::trim).filter(|email| !email.is_empty());
    match given.map(str::to_owned).or(environment::email()?) {
        Some(email) => Ok(email),
        None if ask::can_ask() && !options.password_stdin => {
            not_empty(ask::line("Email: ".to_owned()).await?, "email")
        }
        None => Err(Failed::new(
            Exit::Usage,
            "the email address is missing; give --email EMAIL or set OBSIDIAN_EMAIL",
        )),
    }
}

async fn password(options: &Login) -> Result<Password, Failed> {
    if options.password_stdin {
        return ask::first_line_of_stdin("password").await.map(Password::exactly);
    }
    if let Some(command) = &options.password_command {
        return from_command(command, "password").await;
    }
    if let Some(password) = environment::password()? {
        return Ok(password);
    }
    if !ask::can_ask() {
        return Err(Failed::new(
            Exit::SignIn,
            "the password is missing; pipe it in with --password-stdin, or set OBSIDIAN_PASSWORD or OBSIDIAN_PASSWORD_FILE",
        ));
    }
    let password = ask::secret("Password: ".to_owned()).await?;
    not_empty(password.expose_secret(), "password")?;
    Ok(Password::exactly(password))
}

fn not_empty<T: AsRef<str>>(answer: T, what: &str) -> Result<T, Failed> {
    if answer.as_ref().is_empty() {
        return Err(Failed::new(Exit::Usage, format!("the {what} is empty; nothing was done")));
    }
    Ok(answer)
}
