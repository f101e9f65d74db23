//! Which vaults are synced when an event names none, and which a name denotes.

use obsync_testkit::VaultSpec;
use serde_json::{Value, json};

use crate::world::{
    BUCKET, EMAIL, PASSWORD, VAULT_PASSWORD, World, answered, failed, invoke, sync, write_notes,
};

const FRIEND: &str = "friend@example.com";

/// The secret with only the account.
fn account_only(world: &World) {
    world.put_secret(&json!({ "auth": { "email": EMAIL, "password": PASSWORD } }));
}

fn places(world: &World) -> Vec<String> {
    let objects = world.cloud.s3().files(BUCKET, "notes/");
    let mut places: Vec<String> =
        objects.iter().filter_map(|object| Some(object.key.split('/').nth(1)?.to_owned())).collect();
    places.dedup();
    places
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_vaults_that_nobody_named_and_that_have_no_state_are_not_synced() {
    let world = World::with(|builder| {
        (0..20).fold(builder.vault(VaultSpec::managed("Notes")), |builder, number| {
            builder.vault(VaultSpec::managed(&format!("Invented {number}")))
        })
    })
    .await;
    account_only(&world);
    world.server.vaults().iter().for_each(|vault| write_notes(vault, 1));
    let function = world.function();
    let invocation = invoke(&function, &json!({})).await;
    let answer = answered(&invocation);
    let message = answer["message"].as_str().unwrap();
    assert!(message.contains("21 vaults are left out") && message.contains("OBSYNC_VAULTS"), "{answer}");
    assert_eq!(places(&world), [""; 0]);
    // Once named it has a place, and a schedule without names continues with it.
    answered(&invoke(&function, &sync("Notes")).await);
    world.vault("Notes").write("new.md", "new", 1_800_000_000_000).unwrap();
    let invocation = invoke(&function, &json!({})).await;
    assert_eq!(answered(&invocation)["files_count"], 1);
    world.assert_exact("Notes");
    assert_eq!(places(&world), ["Notes"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_name_vaults_for_a_schedule() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 3);
    write_notes(&world.vault("Private"), 3);
    let function = world.function_with(&[("OBSYNC_VAULTS", "Notes")]);
    let invocation = invoke(&function, &json!({})).await;
    assert_eq!(answered(&invocation)["vaults_synced"], 2, "the named one and the one of the secret");
    world.assert_exact("Notes");
    world.assert_exact("Private");
    let function = world.function_with(&[("OBSYNC_VAULTS", "Notes, Nots")]);
    let invocation = invoke(&function, &json!({})).await;
    let answer = answered(&invocation);
    assert_eq!(answer["status"], "partial");
    assert!(answer["errors"][0].as_str().unwrap().starts_with("Nots: "), "a misspelt name is told: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_means_an_own_vault_and_not_one_that_somebody_shares() {
    let world = World::with(|builder| {
        builder
            .user(FRIEND, "pw")
            .vault(VaultSpec::end_to_end("Private", "of the friend").owner(FRIEND).shared_with(EMAIL))
            .vault(VaultSpec::end_to_end("Private", VAULT_PASSWORD).owner(EMAIL))
    })
    .await;
    world.server.vaults().iter().for_each(|vault| write_notes(vault, 2));
    let invocation = invoke(&world.function(), &sync("Private")).await;
    assert_eq!(answered(&invocation)["status"], "complete");
    assert_eq!(places(&world), ["Private"], "the shared one does not change the place of the own one");
    let accesses = world.server.stats().rest_by_path["/vault/access"];
    assert_eq!(accesses, 1, "the password of the own vault was not tried on the shared one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_vault_is_synced_by_name_and_goes_on_with_a_warning() {
    let world = World::with(|builder| {
        let team = VaultSpec::managed("Team").owner(FRIEND).shared_with(EMAIL);
        builder.user(FRIEND, "pw").vault(VaultSpec::managed("Notes").owner(EMAIL)).vault(team)
    })
    .await;
    account_only(&world);
    world.server.vaults().iter().for_each(|vault| write_notes(vault, 2));
    let function = world.function_with(&[("OBSYNC_VAULTS", "Notes")]);
    answered(&invoke(&function, &json!({})).await);
    assert_eq!(places(&world), ["Notes"]);
    let warnings = |answer: &Value| answer["vaults"][0]["warnings"].clone();
    let invocation = invoke(&function, &sync("Team")).await;
    assert_eq!(warnings(answered(&invocation)), Value::Null, "it was named");
    let invocation = invoke(&world.function(), &json!({})).await;
    let answer = answered(&invocation);
    let told = answer["vaults"].as_array().unwrap().iter().find(|vault| vault["vault"] == "Team").unwrap();
    assert!(told["warnings"][0].as_str().unwrap().contains("another account shares"), "{answer}");
    assert_eq!(told["status"], "complete");
    let named = world.function_with(&[("OBSYNC_VAULTS", "Team")]);
    let invocation = invoke(&named, &json!({})).await;
    assert!(!answered(&invocation).to_string().contains("another account shares"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_to_sync_is_no_failure_and_an_unknown_name_is() {
    let world = World::new().await;
    account_only(&world);
    let invocation = invoke(&world.function(), &json!({})).await;
    assert_eq!(answered(&invocation)["status"], "complete");
    assert_eq!(failed(&invoke(&world.function(), &sync("Nots")).await).0, "SyncFailed");
}
