//! The installer of the table, against the loopback cloud.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use obsync_bucket::AwsHttp;
use obsync_dynamodb::{DynamoOptions, DynamoTable, TableName};
use obsync_net::Network;
use obsync_testcloud::{Cloud, CloudOptions, Service, ServiceFaults};
use obsync_testkit::Chance;

use super::{TableInstaller, TableStatus, TableStep};

const TABLE: &str = TableName::DEFAULT;

async fn cloud() -> Cloud {
    Cloud::start(CloudOptions::default()).await.unwrap()
}

fn client(cloud: &Cloud) -> Client {
    let (key, secret) = cloud.credentials();
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(cloud.endpoint(Service::DynamoDb))
        .region(Region::new(cloud.region().to_owned()))
        .credentials_provider(Credentials::new(key, secret, None, None, "a test"))
        .http_client(AwsHttp::new(&Network::default()).unwrap().client());
    Client::from_conf(config.build())
}

/// An installer with short intervals.
fn installer(cloud: &Cloud) -> TableInstaller {
    let pause = Duration::from_millis(1);
    let options =
        DynamoOptions { attempts: 6, min_delay: pause, max_delay: 10 * pause, ..DynamoOptions::default() };
    TableInstaller::new(DynamoTable::new(&client(cloud), TableName::default(), options))
}

#[tokio::test]
async fn a_table_is_made_once() {
    let cloud = cloud().await;
    let table = installer(&cloud);
    let status = table.status().await.unwrap();
    assert_eq!(status, TableStatus::Missing);
    let all = [TableStep::Create, TableStep::ExpireItems, TableStep::MakeRestorable];
    assert_eq!(status.steps(), all);
    assert!(status.steps()[0].to_string().contains("vault_id"));
    assert_eq!(cloud.counts().of(Service::DynamoDb, "CreateTable"), 0, "looking changes nothing");

    assert_eq!(table.set_up().await.unwrap(), status.steps());
    assert_eq!(table.status().await.unwrap(), TableStatus::Ready { expires_items: true, restorable: true });
    assert_eq!(table.set_up().await.unwrap(), [], "all is well already");
    assert_eq!(cloud.counts().of(Service::DynamoDb, "CreateTable"), 1);
}

#[tokio::test]
async fn a_table_that_is_there_is_only_given_what_it_lacks() {
    let cloud = cloud().await;
    cloud.dynamodb().create_table(TABLE).unwrap();
    let status = installer(&cloud).status().await.unwrap();
    assert_eq!(status, TableStatus::Ready { expires_items: false, restorable: false });
    let lacking = [TableStep::ExpireItems, TableStep::MakeRestorable];
    assert_eq!(status.steps(), lacking);
    assert_eq!(installer(&cloud).set_up().await.unwrap(), lacking);
    assert_eq!(cloud.counts().of(Service::DynamoDb, "CreateTable"), 0);
}

#[tokio::test]
async fn a_table_is_billed_by_request_and_can_be_deleted() {
    let cloud = cloud().await;
    installer(&cloud).set_up().await.unwrap();
    let table = client(&cloud).describe_table().table_name(TABLE).send().await.unwrap().table.unwrap();
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
        let cloud = cloud().await;
        make_table(&cloud, schema).await;
        let status = installer(&cloud).status().await.unwrap();
        assert!(
            matches!(&status, TableStatus::Unusable { reason } if reason.contains("vault_id")),
            "{status:?}"
        );
        assert_eq!(status.steps(), []);
        assert!(installer(&cloud).set_up().await.is_err());
    }
}

/// Creates a table that differs from obsync's.
async fn make_table(cloud: &Cloud, keys: &[(&str, KeyType, ScalarAttributeType)]) {
    let mut request = client(cloud).create_table().table_name(TABLE).billing_mode(BillingMode::PayPerRequest);
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
    let cloud = cloud().await;
    let faults = ServiceFaults { throttled: Chance::next(3), ..ServiceFaults::default() };
    cloud.faults().update(|all| all.dynamodb = faults);
    assert_eq!(installer(&cloud).set_up().await.unwrap().len(), 3);
    for operation in ["DescribeTable", "DescribeTimeToLive", "DescribeContinuousBackups"] {
        let operations = vec![operation.to_owned()];
        let faults = ServiceFaults { operations, forbidden: Chance::always(), ..ServiceFaults::default() };
        cloud.faults().update(|all| all.dynamodb = faults);
        let error = installer(&cloud).status().await.unwrap_err().to_string();
        assert!(error.contains("does not allow") && error.contains(operation), "{error}");
    }
}
