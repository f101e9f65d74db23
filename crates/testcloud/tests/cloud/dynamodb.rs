//! Tables and items with the DynamoDB client.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, KeysAndAttributes,
    PutRequest, ScalarAttributeType, TimeToLiveSpecification, WriteRequest,
};
use obsync_testkit::Chance;
use serde_json::json;

use crate::client::{Outcome, cloud, code, dynamodb};

const TABLE: &str = "obsync-state";

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn write(vault_id: &str) -> Outcome<WriteRequest> {
    let put = PutRequest::builder().item("vault_id", text(vault_id)).build()?;
    Ok(WriteRequest::builder().put_request(put).build())
}

async fn make_table(dynamodb: &Client) -> Outcome {
    let key = KeySchemaElement::builder().attribute_name("vault_id").key_type(KeyType::Hash).build()?;
    let attribute = AttributeDefinition::builder()
        .attribute_name("vault_id")
        .attribute_type(ScalarAttributeType::S)
        .build()?;
    dynamodb
        .create_table()
        .table_name(TABLE)
        .billing_mode(BillingMode::PayPerRequest)
        .key_schema(key)
        .attribute_definitions(attribute)
        .send()
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_table_is_made_with_its_time_to_live_and_described() -> Outcome {
    let cloud = cloud().await?;
    let dynamodb = dynamodb(&cloud);
    let missing = dynamodb.describe_table().table_name(TABLE).send().await;
    assert_eq!(code(missing), "ResourceNotFoundException");
    make_table(&dynamodb).await?;
    let ttl = TimeToLiveSpecification::builder().attribute_name("ttl").enabled(true).build()?;
    dynamodb.update_time_to_live().table_name(TABLE).time_to_live_specification(ttl).send().await?;
    let described = dynamodb.describe_table().table_name(TABLE).send().await?;
    let status = described.table().and_then(|table| table.table_status()).ok_or("no status")?;
    assert_eq!(status.as_str(), "ACTIVE");
    let ttl = dynamodb.describe_time_to_live().table_name(TABLE).send().await?;
    let name = ttl.time_to_live_description().and_then(|ttl| ttl.attribute_name());
    assert_eq!(name, Some("ttl"));
    cloud.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_conditional_update_takes_a_lease_once() -> Outcome {
    let cloud = cloud().await?;
    cloud.dynamodb().create_table(TABLE)?;
    let dynamodb = dynamodb(&cloud);
    let take = |owner: &str| {
        dynamodb
            .update_item()
            .table_name(TABLE)
            .key("vault_id", text("v"))
            .update_expression("SET lease_owner = :me ADD fencing :one")
            .condition_expression("attribute_not_exists(lease_owner) OR lease_owner = :me")
            .expression_attribute_values(":me", text(owner))
            .expression_attribute_values(":one", AttributeValue::N("1".to_owned()))
            .send()
    };
    take("first").await?;
    assert_eq!(code(take("second").await), "ConditionalCheckFailedException");
    take("first").await?;
    let item = cloud.dynamodb().item(TABLE, "v")?.ok_or("no item")?;
    assert_eq!(item["fencing"], json!({ "N": "2" }));
    assert_eq!(item["lease_owner"], json!({ "S": "first" }));
    Ok(())
}

#[tokio::test]
async fn batches_write_and_read_and_items_can_be_looked_at_from_inside() -> Outcome {
    let cloud = cloud().await?;
    cloud.dynamodb().create_table(TABLE)?;
    let dynamodb = dynamodb(&cloud);
    let writes = (0..25).map(|number| write(&format!("file#{number}"))).collect::<Outcome<Vec<_>>>()?;
    let written = dynamodb.batch_write_item().request_items(TABLE, writes).send().await?;
    assert!(written.unprocessed_items().is_none_or(HashMap::is_empty));
    let keys =
        (0..30).map(|number| HashMap::from([("vault_id".to_owned(), text(&format!("file#{number}")))]));
    let keys = KeysAndAttributes::builder().set_keys(Some(keys.collect())).build()?;
    let read = dynamodb.batch_get_item().request_items(TABLE, keys).send().await?;
    assert_eq!(read.responses().and_then(|found| found.get(TABLE)).map(Vec::len), Some(25));
    assert_eq!(cloud.dynamodb().items(TABLE)?.len(), 25);
    cloud.dynamodb().put_item(TABLE, json!({ "vault_id": { "S": "foreign" } }))?;
    assert_eq!(dynamodb.scan().table_name(TABLE).send().await?.count(), 26);
    assert!(cloud.dynamodb().items("nowhere").is_err());
    Ok(())
}

#[tokio::test]
async fn a_batch_that_is_left_half_done_says_what_is_missing() -> Outcome {
    let cloud = cloud().await?;
    cloud.dynamodb().create_table(TABLE)?;
    let dynamodb = dynamodb(&cloud);
    cloud.faults().update(|faults| faults.unprocessed = Chance::next(3));
    let writes = ["a", "b", "c"].into_iter().map(write).collect::<Outcome<Vec<_>>>()?;
    let mut left = HashMap::from([(TABLE.to_owned(), writes)]);
    let mut sizes = Vec::new();
    while !left.is_empty() {
        sizes.push(left[TABLE].len());
        let written = dynamodb.batch_write_item().set_request_items(Some(left)).send().await?;
        left = written.unprocessed_items.unwrap_or_default();
    }
    assert_eq!(sizes, [3, 2, 1, 1]);
    assert_eq!(cloud.dynamodb().items(TABLE)?.len(), 3);
    cloud.faults().update(|faults| faults.unprocessed = Chance::next(1));
    let keys = ["a", "b"].map(|id| HashMap::from([("vault_id".to_owned(), text(id))]));
    let keys = KeysAndAttributes::builder().set_keys(Some(keys.to_vec())).consistent_read(true).build()?;
    let read = dynamodb.batch_get_item().request_items(TABLE, keys).send().await?;
    let unread = read.unprocessed_keys().and_then(|keys| keys.get(TABLE)).ok_or("nothing unread")?;
    assert_eq!((unread.keys().len(), unread.consistent_read()), (1, Some(true)));
    assert_eq!(read.responses().and_then(|found| found.get(TABLE)).map(Vec::len), Some(1));
    Ok(())
}
