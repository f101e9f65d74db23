//! Going on by itself: an invocation whose time was over invokes the function again for what is left.
//!
//! That ends when everything is done, when an invocation got nowhere, or when the chain has its longest
//! length, whichever is first: a function must not be able to run for ever at its owner's expense.

use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::answer::{VaultReport, VaultStatus};
use crate::event::SyncRequest;

/// What becomes of an unfinished run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Continuation {
    /// Nothing is left, or the function is not set to go on by itself.
    None,
    /// It goes on with this event.
    Event(Value),
    /// It should go on, but must not.
    Refused(&'static str),
}

/// What is to be done about what these reports left undone, when `limit` continuations are allowed.
pub(crate) fn continuation(request: &SyncRequest, reports: &[VaultReport], limit: u32) -> Continuation {
    let left: Vec<&VaultReport> =
        reports.iter().filter(|report| report.status == VaultStatus::Incomplete).collect();
    if left.is_empty() || limit == 0 {
        return Continuation::None;
    }
    if request.continuation >= limit {
        return Continuation::Refused(
            "the function has invoked itself as often as OBSYNC_SELF_CONTINUE_LIMIT allows",
        );
    }
    if !left.iter().any(|report| report.is_progress()) {
        return Continuation::Refused("nothing was done in the time there was; give the function more of it");
    }
    Continuation::Event(request.continued(left.iter().map(|report| report.vault_id.clone())))
}

/// Invokes a function with an event, without waiting for what comes of it.
///
/// # Errors
/// A sentence about why that was not possible before `until`.
pub(crate) async fn invoke(
    aws: &aws_config::SdkConfig,
    function: &str,
    event: &Value,
    until: Instant,
) -> Result<(), String> {
    use aws_sdk_lambda::error::DisplayErrorContext;
    use aws_sdk_lambda::primitives::Blob;
    use aws_sdk_lambda::types::InvocationType;

    let request = aws_sdk_lambda::Client::new(aws)
        .invoke()
        .function_name(function)
        .invocation_type(InvocationType::Event)
        .payload(Blob::new(event.to_string()));
    match timeout_at(until, request.send()).await {
        Err(_) => Err("there was no time to invoke the function again".to_owned()),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!(
            "the function could not invoke itself to go on ({}); allow its role lambda:InvokeFunction on \
             itself",
            DisplayErrorContext(&error)
        )),
    }
}

#[cfg(test)]
mod tests {
    use obsync_core::Tally;

    use super::*;

    fn incomplete(id: &str, files: u64) -> VaultReport {
        VaultReport {
            pulled: Tally { files, bytes: files },
            ..VaultReport::nothing(id, "", VaultStatus::Incomplete, String::new())
        }
    }

    #[test]
    fn what_is_left_is_gone_on_with() {
        let done = VaultReport { status: VaultStatus::Complete, ..incomplete("a", 1) };
        let reports = [done, incomplete("b", 1), incomplete("c", 0)];
        let Continuation::Event(event) = continuation(&SyncRequest::default(), &reports, 3) else { panic!() };
        assert_eq!(event["vaults"], serde_json::json!(["b", "c"]));
        assert_eq!(event["continuation"], 1);
    }

    #[test]
    fn a_chain_ends() {
        let request = SyncRequest { continuation: 3, ..SyncRequest::default() };
        let is_refused = |request: &SyncRequest, report: VaultReport, limit| {
            matches!(continuation(request, &[report], limit), Continuation::Refused(_))
        };
        assert!(is_refused(&request, incomplete("a", 1), 3));
        assert!(!is_refused(&request, incomplete("a", 1), 4));
        assert!(is_refused(&SyncRequest::default(), incomplete("a", 0), 3));
        assert_eq!(continuation(&request, &[incomplete("a", 1)], 0), Continuation::None);
        assert_eq!(continuation(&request, &[], 3), Continuation::None);
    }
}
