//! AWS clients: configured like AWS's own tools, with limits to every wait.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use obsync_bucket::{AwsHttp, load_aws_config};
use obsync_dynamodb::{DynamoOptions, DynamoTable, LeaseOptions, TableName};
use obsync_net::Network;

use crate::environment;
use crate::exit::{Exit, Failed};

/// Timeout of one attempt at a call.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);
/// Default time limit of a call with all its attempts.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// Time limit of a call with all its attempts: the user's, if there is one.
pub(crate) fn call_limit(patience: Option<Duration>) -> Duration {
    patience.unwrap_or(CALL_LIMIT)
}

/// The configuration of the standard chain: environment, profile, SSO, web identity, container, instance.
/// `patience` is the user's time limit of a call.
///
/// # Errors
/// When certificates or proxy are unusable.
pub(crate) async fn load(network: &Network, patience: Option<Duration>) -> Result<SdkConfig, Failed> {
    let http = AwsHttp::new(network).map_err(|error| Failed::of(Exit::Usage, &error))?;
    let call = call_limit(patience);
    let limits = TimeoutConfig::builder()
        .operation_attempt_timeout(ATTEMPT_LIMIT.min(call))
        .operation_timeout(call)
        .build();
    let found = Box::pin(load_aws_config(http)).await;
    // An empty variable counts as unset; AWS's own chain takes it for the name of a region.
    let region = found.region().filter(|region| !region.as_ref().is_empty()).cloned();
    Ok(found.into_builder().region(region).timeout_config(limits).build())
}

/// A table of states. Sends no request yet.
pub(crate) fn table(config: &SdkConfig, name: &TableName, options: DynamoOptions) -> DynamoTable {
    DynamoTable::new(&aws_sdk_dynamodb::Client::new(config), name.clone(), options)
}

/// Duration and owner of this process's leases in a table.
///
/// # Errors
/// When the environment has an invalid duration of leases.
pub(crate) fn lease() -> Result<LeaseOptions, Failed> {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    let usual = LeaseOptions::new(format!("obsync on {host}, process {}", std::process::id()));
    Ok(LeaseOptions { duration: environment::lease()?.unwrap_or(usual.duration), ..usual })
}
