//! The console, the directories and the clients of the service, for every command.

use std::env;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::SdkConfig;
use obsync_bucket::Retries;
use obsync_client::{Client, ClientError, ClientOptions, RetryPolicy, Timeouts, Token};
use obsync_core::ProblemCode;
use obsync_dynamodb::DynamoOptions;
use obsync_net::Network;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::account::credentials::Credentials;
use crate::account::keys::KeyFile;
use crate::account::pins::PinFile;
use crate::answer::Answer;
use crate::args::Global;
use crate::exit::{Exit, Failed};
use crate::home::Home;
use crate::target::aws;
use crate::ui::console::Console;

/// Longest wait at the end of a run for the service to sign out a token.
const SIGN_OUT_LIMIT: Duration = Duration::from_secs(10);

/// The environment of one run of the program.
#[derive(Debug)]
pub(crate) struct Context {
    /// All output.
    pub(crate) console: Arc<Console>,
    /// All stored files.
    pub(crate) home: Home,
    /// Cancelled when the program is to end early.
    pub(crate) stop: CancellationToken,
    /// The parsed form of the address in `options`.
    api_url: Url,
    options: ClientOptions,
    /// The user's time limit for answers.
    patience: Option<Duration>,
    /// Loaded on demand, by the few commands that need it: it can take a while.
    aws: OnceCell<SdkConfig>,
    /// Tokens to sign out at the end.
    unkept: Mutex<Option<Token>>,
}

impl Context {
    /// From the options of every command, and the environment.
    pub(crate) fn new(
        global: &Global,
        console: Arc<Console>,
        stop: CancellationToken,
    ) -> Result<Self, Failed> {
        let api_url = global.api_url.clone();
        let allow_hosts = global.allow_host.iter().map(|host| host.trim()).filter(|host| !host.is_empty());
        let patience = global.timeout.and_then(|patience| patience.0);
        let timeouts = patience.map_or_else(Timeouts::default, limited);
        let options = ClientOptions {
            api_url: api_url.to_string(),
            allow_hosts: allow_hosts.map(str::to_owned).collect(),
            retry: limited_retry(timeouts.rest_request),
            timeouts,
            redactor: console.redactor().clone(),
            min_speed: global.min_speed,
            network: network(global)?,
            ..ClientOptions::default()
        };
        let home = Home::find(env::var_os("OBSYNC_HOME"))?;
        Ok(Context {
            console,
            home,
            stop,
            api_url,
            options,
            patience,
            aws: OnceCell::new(),
            unkept: Mutex::default(),
        })
    }

    /// The address of the service; tokens and keys are filed under it.
    pub(crate) fn api_url(&self) -> &Url {
        &self.api_url
    }

    /// A client of the service.
    pub(crate) fn client(&self) -> Result<Client, Failed> {
        Ok(Client::new(self.options.clone())?)
    }

    /// The client of a device with this name.
    ///
    /// # Errors
    /// As for [`Context::client`].
    pub(crate) fn client_as(&self, device: String) -> Result<Client, Failed> {
        Ok(Client::new(ClientOptions { device, ..self.options.clone() })?)
    }

    /// The AWS configuration.
    ///
    /// # Errors
    /// When certificates or proxy are unusable.
    pub(crate) async fn aws(&self) -> Result<&SdkConfig, Failed> {
        self.aws.get_or_try_init(|| aws::load(self.network(), self.patience)).await
    }

    /// Time limit of a call to AWS with all its attempts.
    pub(crate) fn aws_limit(&self) -> Duration {
        aws::call_limit(self.patience)
    }

    /// Proxies and certificates.
    pub(crate) fn network(&self) -> &Network {
        &self.options.network
    }

    /// Retries of requests to a bucket.
    pub(crate) fn bucket_retries(&self) -> Retries {
        let usual = Retries::default();
        Retries { within: self.patience.unwrap_or(usual.within), ..usual }
    }

    /// Retries of requests to a table.
    pub(crate) fn table_retries(&self) -> DynamoOptions {
        let usual = DynamoOptions::default();
        DynamoOptions { within: self.patience.unwrap_or(usual.within), ..usual }
    }

    /// Marks a token to be signed out when the run ends, however it ends.
    pub(crate) fn sign_out_at_end(&self, token: &Token) {
        *self.unkept.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
    }

    /// Takes that back: the token is stored, or was handed on.
    pub(crate) fn keep_signed_in(&self) {
        self.unkept.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Signs out unused tokens, so that none stays valid that nobody has.
    pub(crate) async fn end(&self) {
        let unkept = self.unkept.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some(token), Ok(client)) = (unkept, self.client()) else { return };
        let problem = match timeout(SIGN_OUT_LIMIT, client.sign_out(&token)).await {
            Ok(Ok(()) | Err(ClientError::NotSignedIn)) => return,
            Ok(Err(error)) => Failed::from(error).message,
            Err(_) => format!("it did not answer within {} s", SIGN_OUT_LIMIT.as_secs()),
        };
        self.console
            .warn(&format!("the token of this run is still valid, the service did not end it: {problem}"));
    }

    /// The file of tokens.
    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::new(&self.home)
    }

    /// The file of derived keys.
    pub(crate) fn key_file(&self) -> KeyFile {
        KeyFile::new(&self.home)
    }

    pub(crate) fn pin_file(&self) -> PinFile {
        PinFile::new(&self.home)
    }

    /// Prints a sentence about a result to standard output; not with `-q`.
    pub(crate) fn say(&self, text: &str) -> Result<(), Failed> {
        if self.console.is_quiet() { Ok(()) } else { self.console.result(text) }
    }

    /// Prints the result of a command: as the answer for scripts with `json`, else as a sentence.
    pub(crate) fn did<T: serde::Serialize>(
        &self,
        json: bool,
        document: T,
        sentence: &str,
    ) -> Result<Exit, Failed> {
        match json {
            true => self.console.answer(&Answer::new(Exit::Done, None, document))?,
            false => self.say(sentence)?,
        }
        Ok(Exit::Done)
    }

    /// Ends early with [`Failed::interrupted`] when the program is to end.
    pub(crate) async fn or_stopped<T>(
        &self,
        work: impl Future<Output = Result<T, Failed>>,
    ) -> Result<T, Failed> {
        tokio::select! {
            result = work => result,
            () = self.stop.cancelled() => Err(Failed::new(Exit::Unfinished, "interrupted")),
        }
    }

    /// The outcome of work that ends soon by itself when the program is asked to end: a failure then is
    /// printed, and counts as interrupted.
    pub(crate) fn unless_stopped<T>(&self, result: Result<T, Failed>) -> Result<T, Failed> {
        result.map_err(|failed| {
            if !self.stop.is_cancelled() || failed.exit != Exit::Error {
                return failed;
            }
            if failed.code != ProblemCode::Interrupted {
                tracing::warn!("{failed}");
            }
            Failed::new(Exit::Unfinished, "interrupted")
        })
    }
}

/// By the environment, with the certificates of `--ca-file`.
fn network(global: &Global) -> Result<Network, Failed> {
    let network = Network::from_env().map_err(|error| Failed::of(Exit::Usage, &error))?;
    let ca_file = global.ca_file.clone().filter(|path| !path.as_os_str().is_empty());
    Ok(Network { ca_file, ..network })
}

/// The default limits, each lowered or raised to the user's time limit.
fn limited(wait: Duration) -> Timeouts {
    let usual = Timeouts::default();
    Timeouts {
        rest_connect: usual.rest_connect.min(wait),
        rest_request: wait,
        connect: wait,
        answer: wait,
        // Half of it, so that the ping's answer can come before the connection is given up.
        ping_after: usual.ping_after.min(wait / 2),
        silence: wait,
        stall: wait * 10,
        ..usual
    }
}

/// The default pauses between attempts, none longer than the user's time limit.
fn limited_retry(wait: Duration) -> RetryPolicy {
    let usual = RetryPolicy::default();
    RetryPolicy { max_delay: usual.max_delay.min(wait), min_delay: usual.min_delay.min(wait / 4), ..usual }
}
