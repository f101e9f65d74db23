//! A cloud on loopback for tests and for `obsync-dev cloud`: S3, DynamoDB, Secrets Manager, Lambda and SQS.
//!
//! [`Cloud::start`] serves each on its own port, in this process and in memory; [`Cloud::env`] has the
//! variables for the AWS SDKs. Requests are counted ([`Cloud::counts`]) and logged ([`Cloud::requests`]), and
//! [`CloudFaults`] inject faults. [`Cloud::s3`] and its like give direct access without requests.

mod credentials;
mod dynamodb;
mod error;
mod faults;
mod gate;
mod http;
mod json_api;
mod lambda;
mod log;
mod queues;
mod rogue;
mod s3;
mod secrets;
mod under_way;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use gate::Gate;
use http::Tasks;

pub use dynamodb::{Capacity, DynamoDb};
pub use error::CloudError;
pub use faults::{CloudFaultControl, CloudFaults, ServiceFaults};
#[cfg(unix)]
pub use lambda::{Invocation, InvokeOptions, LambdaOptions, LambdaRuntime, LogSink, MemoryLimit, Outcome};
pub use lambda::{Lambda, QueuedEvent};
pub use log::{RequestCounts, RequestRecord, Service};
pub use queues::{Queues, SentMessage};
pub use rogue::{Rogue, RogueAnswer, rogue_answer, rogue_flood};
pub use s3::{
    BucketSettings, ListedKeys, Refusal, RefusedWhen, S3, S3Manners, StoredObject, UploadInProgress,
};
pub use secrets::Secrets;

/// Longest wait of a test for an event.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// Options of a cloud.
#[derive(Debug, Clone, Default)]
pub struct CloudOptions {
    /// The ports: this one for S3, and the next for DynamoDB, Secrets Manager and Lambda in that order; any
    /// free ports when none, or 0, is given. SQS has a free one in any case.
    pub first_port: Option<u16>,
    /// Faults from the start.
    pub faults: CloudFaults,
}

/// The addresses of the services.
#[derive(Debug, Clone, Copy)]
struct Addresses {
    s3: SocketAddr,
    dynamodb: SocketAddr,
    secrets_manager: SocketAddr,
    lambda: SocketAddr,
    sqs: SocketAddr,
}

/// A running cloud. Dropping it stops it; [`Cloud::shutdown`] also waits for that.
#[derive(Debug)]
pub struct Cloud {
    addresses: Addresses,
    gate: Gate,
    tasks: Tasks,
    s3: S3,
    dynamodb: DynamoDb,
    secrets: Secrets,
    lambda: Lambda,
    queues: Queues,
}

impl Cloud {
    /// Starts an empty cloud.
    ///
    /// # Errors
    /// When a port is taken.
    pub async fn start(options: CloudOptions) -> Result<Self, CloudError> {
        let first = options.first_port.filter(|port| *port != 0);
        let port = |offset: u16| first.map_or(0, |first| first.saturating_add(offset));
        let (s3_listener, s3) = http::listen(port(0)).await?;
        let (dynamodb_listener, dynamodb) = http::listen(port(1)).await?;
        let (secrets_listener, secrets_manager) = http::listen(port(2)).await?;
        let (lambda_listener, lambda) = http::listen(port(3)).await?;
        let (sqs_listener, sqs) = http::listen(0).await?;
        let addresses = Addresses { s3, dynamodb, secrets_manager, lambda, sqs };
        let tasks = Tasks::default();
        let gate = Gate::new(options.faults);
        // Fallible steps come first: after an error nothing is left running.
        let dynamodb = dynamodb::start(dynamodb_listener, &tasks, gate.clone())?;
        let s3 = s3::start(s3_listener, &tasks, gate.clone());
        let secrets = secrets::start(secrets_listener, &tasks, gate.clone());
        let lambda = lambda::start(lambda_listener, &tasks, gate.clone());
        let queues = queues::start(sqs_listener, format!("http://{sqs}"), &tasks, gate.clone());
        tracing::info!(?addresses, "the loopback cloud listens");
        Ok(Self { addresses, gate, tasks, s3, dynamodb, secrets, lambda, queues })
    }

    /// The variables with which the AWS SDKs find this cloud and sign for it.
    pub fn env(&self) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT_URL_S3", self.endpoint(Service::S3)),
            ("AWS_ENDPOINT_URL_DYNAMODB", self.endpoint(Service::DynamoDb)),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", self.endpoint(Service::SecretsManager)),
            ("AWS_ENDPOINT_URL_LAMBDA", self.endpoint(Service::Lambda)),
            ("AWS_ENDPOINT_URL_SQS", self.endpoint(Service::Sqs)),
            ("AWS_ACCESS_KEY_ID", credentials::ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", credentials::SECRET_KEY.to_owned()),
            ("AWS_REGION", credentials::REGION.to_owned()),
            ("AWS_DEFAULT_REGION", credentials::REGION.to_owned()),
            // Prevents look-ups of a metadata service when the keys are wrong.
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// The address of a service: `http://127.0.0.1:PORT`.
    pub fn endpoint(&self, service: Service) -> String {
        let address = match service {
            Service::S3 => self.addresses.s3,
            Service::DynamoDb => self.addresses.dynamodb,
            Service::SecretsManager => self.addresses.secrets_manager,
            Service::Lambda => self.addresses.lambda,
            Service::Sqs => self.addresses.sqs,
        };
        format!("http://{address}")
    }

    /// The access key id and its secret.
    pub fn credentials(&self) -> (&'static str, &'static str) {
        (credentials::ACCESS_KEY, credentials::SECRET_KEY)
    }

    /// The region of everything.
    pub fn region(&self) -> &'static str {
        credentials::REGION
    }

    /// The buckets.
    pub fn s3(&self) -> &S3 {
        &self.s3
    }

    /// The tables.
    pub fn dynamodb(&self) -> &DynamoDb {
        &self.dynamodb
    }

    /// The secrets.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The functions by name, and their waiting events.
    pub fn lambda(&self) -> &Lambda {
        &self.lambda
    }

    /// The queues.
    pub fn queues(&self) -> &Queues {
        &self.queues
    }

    /// The faults, which can be changed at any time.
    pub fn faults(&self) -> &CloudFaultControl {
        &self.gate.faults
    }

    /// Requests so far, by operation.
    pub fn counts(&self) -> RequestCounts {
        self.gate.log.counts()
    }

    /// The most requests to S3 or DynamoDB that were under way at a time, since the cloud started or
    /// [`Self::begin_maxima_anew`] was called. (Those to other services are not counted.)
    pub fn most_under_way(&self, service: Service) -> usize {
        self.gate.under_way.most(service)
    }

    /// Resets [`Self::most_under_way`].
    pub fn begin_maxima_anew(&self) {
        self.gate.under_way.begin_anew();
    }

    /// The last requests (200,000 at most), in order of arrival.
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.gate.log.records()
    }

    /// Waits until the request counts meet a condition, for a minute at most.
    ///
    /// # Panics
    /// When the minute is over: the awaited event does not happen.
    pub async fn wait_for(&self, condition: impl Fn(&RequestCounts) -> bool) {
        if tokio::time::timeout(WAIT_LIMIT, self.gate.log.wait_for(condition)).await.is_err() {
            panic!("what was waited for did not happen; what did: {}", self.counts());
        }
    }

    /// Waits until the logged requests meet a condition, for a minute at most.
    ///
    /// # Panics
    /// When the minute is over: the awaited event does not happen.
    pub async fn wait_for_requests(&self, condition: impl Fn(&VecDeque<RequestRecord>) -> bool) {
        if tokio::time::timeout(WAIT_LIMIT, self.gate.log.wait_for_records(condition)).await.is_err() {
            panic!("what was waited for did not happen; what did: {}", self.counts());
        }
    }

    /// Stops the cloud and waits until all its tasks have ended and the ports are free.
    pub async fn shutdown(self) {
        self.tasks.stop().await;
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.tasks.shutdown.cancel();
    }
}
