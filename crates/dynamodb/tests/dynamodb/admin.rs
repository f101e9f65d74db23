//! Making the table.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use obsync_core::StateStore;
use obsync_dynamodb::{DynamoState, TableStatus, TableStep};
use obsync_testcloud::{Service, ServiceFaults};
use obsync_testkit::Chance;

use crate::site::{DESTINATION, Site, TABLE, commit_of, files, key};

#[tokio::test]
async fn a_table_is_made_once_and_can_be_worked_with_then() {
    let site = Site::without_table().await;
    let table = site.table();
    let status = table.status().await.unwrap();
    assert_eq!(status, TableStatus::Missing);
    let all = [TableStep::Create, TableStep::ExpireItems, TableStep::MakeRestorable];
    assert_eq!(status.steps(), all);
    assert!(status.steps()[0].to_string().contains("vault_id"));
    assert_eq!(site.cloud.counts().of(Service::DynamoDb, "CreateTable"), 0, "looking changes nothing");

    assert_eq!(table.set_up().await.unwrap(), status.steps());
    assert_eq!(table.status().await.unwrap(), TableStatus::Ready { expires_items: true, restorable: true });
    assert_eq!(table.set_up().await.unwrap(), [], "all is well already");
    assert_eq!(site.cloud.counts().of(Service::DynamoDb, "CreateTable"), 1);
    site.state().await.commit(commit_of(files(1), 1)).await.unwrap();
}

#[tokio::test]
async fn a_table_that_is_there_is_only_given_what_it_lacks() {
    let site = Site::new().await;
    let status = site.table().status().await.unwrap();
    assert_eq!(status, TableStatus::Ready { expires_items: false, restorable: false });
    let lacking = [TableStep::ExpireItems, TableStep::MakeRestorable];
    assert_eq!(status.steps(), lacking);
    assert_eq!(site.table().set_up().await.unwrap(), lacking);
    assert_eq!(site.cloud.counts().of(Service::DynamoDb, "CreateTable"), 0);
}

#[tokio::test]
async fn a_table_is_billed_by_request_and_can_be_deleted() {
    let site = Site::without_table().await;
    site.table().set_up().await.unwrap();
    let table = site.client().describe_table().table_name(TABLE).send().await.unwrap().table.unwrap();
    assert_eq!(table.billing_mode_summary.unwrap().billing_mode, Some(BillingMode::PayPerRequest));
    assert_ne!(table.deletion_protection_enabled, Some(true));
}

#[tokio::test]
async fn a_table_with_another_key_is_left_alone() {
    let text = ScalarAttributeType::S;
    let other_name = [("id", KeyType::Hash, text.clone())];
    let a_number = [("vault_id", KeyType::Hash, ScalarAttributeType::N)];
    let two_keys = [("vault_id", KeyType::Hash, text.clone()), ("path", KeyType::Range, text)];
    for schema in [other_name.as_slice(), &a_number, &two_keys] {
        let site = Site::without_table().await;
        make_table(&site, schema).await;
        let status = site.table().status().await.unwrap();
        assert!(
            matches!(&status, TableStatus::Unusable { reason } if reason.contains("vault_id")),
            "{status:?}"
        );
        assert_eq!(status.steps(), []);
        assert!(site.table().set_up().await.is_err());
        for error in [
            site.try_open("a test").await.unwrap_err(),
            DynamoState::read(&site.table(), key(DESTINATION)).await.unwrap_err(),
        ] {
            let error = error.to_string();
            assert!(error.contains("its key is not") && error.contains("obsync aws init"), "{error}");
        }
    }
}

/// Makes a table as no obsync would.
async fn make_table(site: &Site, keys: &[(&str, KeyType, ScalarAttributeType)]) {
    let mut request = site.client().create_table().table_name(TABLE).billing_mode(BillingMode::PayPerRequest);
    for (name, key_type, attribute_type) in keys {
        let key = KeySchemaElement::builder().attribute_name(*name).key_type(key_type.clone());
        let attribute =
            AttributeDefinition::builder().attribute_name(*name).attribute_type(attribute_type.clone());
        request = request.key_schema(key.build().unwrap()).attribute_definitions(attribute.build().unwrap());
    }
    request.send().await.unwrap();
}

#[tokio::test]
async fn setting_up_bears_throttling_and_tells_what_is_forbidden() {
    let site = Site::without_table().await;
    let faults = ServiceFaults { throttled: Chance::next(3), ..ServiceFaults::default() };
    site.cloud.faults().update(|all| all.dynamodb = faults);
    assert_eq!(site.table().set_up().await.unwrap().len(), 3);
    for operation in ["DescribeTable", "DescribeTimeToLive", "DescribeContinuousBackups"] {
        let operations = vec![operation.to_owned()];
        let faults = ServiceFaults { operations, forbidden: Chance::always(), ..ServiceFaults::default() };
        site.cloud.faults().update(|all| all.dynamodb = faults);
        let error = site.table().status().await.unwrap_err().to_string();
        assert!(error.contains("does not allow") && error.contains(operation), "{error}");
    }
}
