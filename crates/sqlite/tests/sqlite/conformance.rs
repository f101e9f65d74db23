//! A database fulfills the contract of the engine's trait for states.

use obsync_conformance::check_state_store;

use crate::database::DatabaseFile;

#[tokio::test]
async fn sqlite_is_a_state_store() {
    check_state_store(async || DatabaseFile::new()).await;
}
