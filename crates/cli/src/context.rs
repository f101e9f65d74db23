//! The console, the directories and the way to the service, for every command.

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

/// How long the end of a run waits for the service to sign out a token that is not kept.
const SIGN_OUT_LIMIT: Duration = Duration::from_secs(10);

/// The surroundings of one run of the program.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where everything is printed.
    pub(crate) console: Arc<Console>,
    /// Where everything is kept.
    pub(crate) home: Home,
    /// Cancelled when the program is to end early.
    pub(crate) stop: CancellationToken,
    /// The parsed form of the address in `options`.
    api_url: Url,
    options: ClientOptions,
    /// How long the user wants to wait for an answer.
    patience: Option<Duration>,
    /// Looked for when it is needed, which few commands do: it can take a while.
    aws: OnceCell<SdkConfig>,
    /// A token that nobody keeps.
    unkept: Mutex<Option<Token>>,
}

impl Context {
    /// From the options that every command has, and the environment.
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

    /// How AWS is reached.
    ///
    /// # Errors
    /// When certificates or proxy cannot be used.
    pub(crate) async fn aws(&self) -> Result<&SdkConfig, Failed> {
        self.aws.get_or_try_init(|| aws::load(self.network(), self.patience)).await
    }

    /// How long a call to AWS may take with all its attempts.
    pub(crate) fn aws_limit(&self) -> Duration {
        aws::call_limit(self.patience)
    }

    /// Proxies and certificates.
    pub(crate) fn network(&self) -> &Network {
        &self.options.network
    }

    /// How persistent requests to a bucket are.
    pub(crate) fn bucket_retries(&self) -> Retries {
        let usual = Retries::default();
        Retries { within: self.patience.unwrap_or(usual.within), ..usual }
    }

    /// How persistent requests to a table are.
    pub(crate) fn table_retries(&self) -> DynamoOptions {
        let usual = DynamoOptions::default();
        DynamoOptions { within: self.patience.unwrap_or(usual.within), ..usual }
    }

    /// Notes that a token is to be signed out when the run ends, however it ends.
    pub(crate) fn sign_out_at_end(&self, token: &Token) {
        *self.unkept.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
    }

    /// Takes that back: the token is kept, or was handed on.
    pub(crate) fn keep_signed_in(&self) {
        self.unkept.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Signs out what is not kept, so that no token stays valid that nobody has.
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

    /// Where tokens are kept.
    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::new(&self.home)
    }

    /// Where derived keys are kept.
    pub(crate) fn key_file(&self) -> KeyFile {
        KeyFile::new(&self.home)
    }

    /// Where pins are kept.
    pub(crate) fn pin_file(&self) -> PinFile {
        PinFile::new(&self.home)
    }

    /// Prints a sentence about what was done to standard output; not with `-q`.
    pub(crate) fn say(&self, text: &str) -> Result<(), Failed> {
        if self.console.is_quiet() { Ok(()) } else { self.console.result(text) }
    }

    /// Says what a command did: as the answer for scripts with `json`, else as a sentence.
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

    /// The outcome of what ends soon by itself when the program is asked to end: a failure then is said, and it
    /// was interrupted.
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

/// As the environment says, with the certificates of `--ca-file`.
fn network(global: &Global) -> Result<Network, Failed> {
    let network = Network::from_env().map_err(|error| Failed::of(Exit::Usage, &error))?;
    let ca_file = global.ca_file.clone().filter(|path| !path.as_os_str().is_empty());
    Ok(Network { ca_file, ..network })
}

/// The usual limits, each brought down or up to what the user wants to wait for an answer.
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

/// The usual pauses between attempts, none longer than what the user wants to wait for an answer.
fn limited_retry(wait: Duration) -> RetryPolicy {
    let usual = RetryPolicy::default();
    RetryPolicy { max_delay: usual.max_delay.min(wait), min_delay: usual.min_delay.min(wait / 4), ..usual }
}
