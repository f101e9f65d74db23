//! DynamoDB keeps the promises of the engine's state trait.

use std::time::Duration;

use obsync_conformance::check_state_store;

use crate::site::Site;

#[tokio::test]
async fn dynamodb_is_a_state_store() {
    check_state_store(async || {
        let mut site = Site::new().await;
        // A run that is over has let go of its lease by dying.
        site.lease = Duration::from_millis(300);
        site
    })
    .await;
}
