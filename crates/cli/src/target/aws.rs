//! The way to AWS: configured as AWS's own tools are, with limits to every wait.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use obsync_bucket::{AwsHttp, load_aws_config};
use obsync_dynamodb::{DynamoOptions, DynamoTable, LeaseOptions, TableName};
use obsync_net::Network;

use crate::environment;
use crate::exit::{Exit, Failed};

/// How long one attempt at a call may take.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);
/// How long a call may take with all its attempts, unless the user says so.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// How long a call may take with all its attempts: as long as the user wants to wait, if that was said.
pub(crate) fn call_limit(patience: Option<Duration>) -> Duration {
    patience.unwrap_or(CALL_LIMIT)
}

/// What the standard chain finds: environment, profile, SSO, web identity, container, instance. A call takes no longer
/// than the user's `patience`.
///
/// # Errors
/// When certificates or proxy cannot be used.
pub(crate) async fn load(network: &Network, patience: Option<Duration>) -> Result<SdkConfig, Failed> {
    let http = AwsHttp::new(network).map_err(|error| Failed::of(Exit::Usage, &error))?;
    let call = call_limit(patience);
    let limits = TimeoutConfig::builder()
        .operation_attempt_timeout(ATTEMPT_LIMIT.min(call))
        .operation_timeout(call)
        .build();
    let found = Box::pin(load_aws_config(http)).await;
    // An empty variable counts as unset, which AWS's own chain takes for the name of a region.
    let region = found.region().filter(|region| !region.as_ref().is_empty()).cloned();
    Ok(found.into_builder().region(region).timeout_config(limits).build())
}

/// A table of states. Nothing is asked yet.
pub(crate) fn table(config: &SdkConfig, name: &TableName, options: DynamoOptions) -> DynamoTable {
    DynamoTable::new(&aws_sdk_dynamodb::Client::new(config), name.clone(), options)
}

/// How this process holds leases in a table, and how it is called there.
///
/// # Errors
/// When the environment has a term for leases that cannot be one.
pub(crate) fn lease() -> Result<LeaseOptions, Failed> {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    let usual = LeaseOptions::new(format!("obsync on {host}, process {}", std::process::id()));
    Ok(LeaseOptions { duration: environment::lease()?.unwrap_or(usual.duration), ..usual })
}
