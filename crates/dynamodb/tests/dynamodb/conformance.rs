//! The DynamoDB state passes the conformance suite of the engine's state trait.

use obsync_conformance::check_state_store;

use crate::scene::Scene;

#[tokio::test]
async fn dynamodb_is_a_state_store() {
    check_state_store(Scene::new).await;
}
