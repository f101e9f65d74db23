//! Tables that obsync did not create.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use obsync_dynamodb::DynamoState;

use crate::scene::{DESTINATION, Scene, TABLE, key};

#[tokio::test]
async fn a_table_with_another_key_is_refused() {
    let text = ScalarAttributeType::S;
    let other_name = [("id", KeyType::Hash, text.clone())];
    let a_number = [("vault_id", KeyType::Hash, ScalarAttributeType::N)];
    let two_keys = [("vault_id", KeyType::Hash, text.clone()), ("path", KeyType::Range, text)];
    for schema in [other_name.as_slice(), &a_number, &two_keys] {
        let scene = Scene::without_table().await;
        make_table(&scene, schema).await;
        for error in [
            scene.try_open("a test").await.unwrap_err(),
            DynamoState::read(&scene.table(), key(DESTINATION)).await.unwrap_err(),
        ] {
            let error = error.to_string();
            assert!(error.contains("its key is not") && error.contains("obsync aws init"), "{error}");
        }
    }
}

/// Creates a table that differs from obsync's.
async fn make_table(scene: &Scene, keys: &[(&str, KeyType, ScalarAttributeType)]) {
    let mut request =
        scene.client().create_table().table_name(TABLE).billing_mode(BillingMode::PayPerRequest);
    for (name, key_type, attribute_type) in keys {
        let key = KeySchemaElement::builder().attribute_name(*name).key_type(key_type.clone());
        let attribute =
            AttributeDefinition::builder().attribute_name(*name).attribute_type(attribute_type.clone());
        request = request.key_schema(key.build().unwrap()).attribute_definitions(attribute.build().unwrap());
    }
    request.send().await.unwrap();
}
