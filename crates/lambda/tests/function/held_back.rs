//! Deletions that are too many without confirmation.

use serde_json::json;

use crate::world::{TABLE, World, answered, invoke, report, sync, write_notes};

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_was_emptied_keeps_its_objects_until_that_is_confirmed() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    write_notes(&vault, 20);
    let function = world.function();
    answered(&invoke(&function, &sync("Notes")).await);
    let objects = world.vault("Notes").expected().unwrap();
    for path in objects.files.iter().map(|file| &file.path) {
        vault.delete(path).unwrap();
    }
    for _ in 0..2 {
        let invocation = invoke(&function, &sync("Notes")).await;
        let vault = report(answered(&invocation));
        assert_eq!(vault["held_back"].as_array().unwrap().len(), 20, "{vault}");
        let command =
            format!("`obsync confirm s3://vaults/notes/Notes --state dynamodb://{TABLE}` allows them");
        assert!(vault["error"]["message"].as_str().unwrap().ends_with(&command), "{vault}");
        assert_eq!(world.differences("Notes", &objects), [""; 0]);
    }
    // As `obsync confirm` leaves it while the function has the lease: versions of the vault.
    let uids: Vec<String> = (1..=100).map(|uid| uid.to_string()).collect();
    let key = format!("confirmed#{}", vault.id());
    let item = json!({ "vault_id": { "S": key }, "uids": { "NS": uids } });
    world.cloud.dynamodb().put_item(TABLE, item).unwrap();
    let invocation = invoke(&function, &sync("Notes")).await;
    assert_eq!(report(answered(&invocation))["held_back"], json!([]));
    world.assert_exact("Notes");
    let left = world.cloud.dynamodb().item(TABLE, &key).unwrap();
    assert!(left.is_none_or(|item| item.get("uids").is_none()), "they count once");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_deletions_is_a_variable() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    write_notes(&vault, 20);
    let function = world.function_with(&[("OBSYNC_MAX_DELETE", "none")]);
    answered(&invoke(&function, &sync("Notes")).await);
    for path in world.vault("Notes").expected().unwrap().files.iter().map(|file| &file.path) {
        vault.delete(path).unwrap();
    }
    answered(&invoke(&function, &sync("Notes")).await);
    world.assert_exact("Notes");
}
