//! The function reproduces a vault exactly.

use obsync_testkit::{Expected, GeneratorOptions, fill_vault, fixture_dir};
use serde_json::{Value, json};

use crate::world::{BUCKET, TABLE, World, answered, invoke, report, sync, write_notes};

async fn comes_out_exactly(fixture: &str) {
    let world = World::with(|builder| builder.vault_dir(fixture_dir(fixture))).await;
    let text = std::fs::read_to_string(fixture_dir(fixture).join("vault.json")).unwrap();
    let about: Value = serde_json::from_str(&text).unwrap();
    // A managed vault has no password here: it is in the list of vaults.
    let password = about["end_to_end_password"].as_str().filter(|password| !password.is_empty());
    let vaults = password.map_or(json!({}), |password| json!({ (fixture): { "password": password } }));
    let auth = json!({ "email": crate::world::EMAIL, "password": crate::world::PASSWORD });
    world.put_secret(&json!({ "auth": auth, "vaults": vaults }));
    let invocation = invoke(&world.function(), &sync(fixture)).await;
    let answer = answered(&invocation);
    assert_eq!((&answer["status"], &answer["success"]), (&json!("complete"), &json!(true)), "{answer}");
    let expected = Expected::load(&fixture_dir(fixture)).unwrap();
    assert_eq!(world.differences(fixture, &expected), [""; 0]);
    assert_eq!(answer["files_count"], json!(expected.files.len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_of_the_official_client_v0() {
    comes_out_exactly("official-v0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_of_the_official_client_v2() {
    comes_out_exactly("official-v2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_of_the_official_client_managed() {
    comes_out_exactly("official-managed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_vault_of_3000_files() {
    let world = World::new().await;
    let options = GeneratorOptions { files: 3000, max_size: 12 << 20, ..GeneratorOptions::default() };
    fill_vault(&world.vault("Private"), &options).unwrap();
    let invocation = invoke(&world.function(), &sync("Private")).await;
    let answer = answered(&invocation);
    assert_eq!(answer["status"], "complete", "{answer}");
    world.assert_exact("Private");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_deletions_and_renames_arrive_and_nothing_else_is_touched() {
    let world = World::new().await;
    let (vault, function) = (world.vault("Notes"), world.function());
    write_notes(&vault, 40);
    answered(&invoke(&function, &sync("Notes")).await);
    vault.write("folder 0/note 0.md", "changed", 1_800_000_000_000).unwrap();
    vault.delete("folder 1/note 1.md").unwrap();
    vault.rename("folder 2", "renamed").unwrap();
    vault.write("new.md", "", 1_800_000_000_001).unwrap();
    let invocation = invoke(&function, &sync("Notes")).await;
    let answer = answered(&invocation);
    assert_eq!(answer["status"], "complete", "{answer}");
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_vault_that_there_are_credentials_for_is_synced_by_a_schedule() {
    let world = World::with(|builder| {
        use obsync_testkit::VaultSpec;
        builder
            .vault(VaultSpec::managed("Notes"))
            .vault(VaultSpec::end_to_end("Private", crate::world::VAULT_PASSWORD))
            .vault(VaultSpec::end_to_end("Locked", "nobody knows"))
    })
    .await;
    for vault in ["Notes", "Private", "Locked"] {
        write_notes(&world.vault(vault), 5);
    }
    let text = include_str!("../../../../deploy/events/scheduled.json");
    let function = world.function_with(&[("OBSYNC_VAULTS", "Notes")]);
    let invocation = invoke(&function, &serde_json::from_str(text).unwrap()).await;
    let answer = answered(&invocation);
    assert_eq!((&answer["vaults_synced"], &answer["files_count"]), (&json!(2), &json!(10)), "{answer}");
    world.assert_exact("Notes");
    world.assert_exact("Private");
    assert!(world.cloud.s3().files(BUCKET, "notes/Locked").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn vaults_of_one_name_do_not_meet() {
    use obsync_testkit::VaultSpec;
    let world =
        World::with(|builder| builder.vault(VaultSpec::managed("Notes")).vault(VaultSpec::managed("notes")))
            .await;
    let vaults = world.server.vaults();
    vaults.iter().for_each(|vault| write_notes(vault, 3));
    let ids: Vec<String> = vaults.iter().map(|vault| vault.id().to_string()).collect();
    answered(&invoke(&world.function(), &json!({ "action": "sync", "vaults": ids })).await);
    for vault in &vaults {
        let place = format!("{} ({})", vault.name(), vault.id());
        assert_eq!(world.differences(&place, &vault.expected().unwrap()), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_sync_removes_what_the_vault_no_longer_has() {
    let world = World::new().await;
    let (vault, function) = (world.vault("Notes"), world.function());
    write_notes(&vault, 10);
    answered(&invoke(&function, &sync("Notes")).await);
    vault.delete("folder 2/note 2.md").unwrap();
    // A state that claims to have seen the deletion already: the changes since then do not include it.
    let mut claimed = world.cloud.dynamodb().item(TABLE, vault.id().as_str()).unwrap().unwrap();
    claimed["version"]["N"] = json!(vault.version().to_string());
    world.cloud.dynamodb().put_item(TABLE, claimed).unwrap();
    let incremental = invoke(&function, &sync("Notes")).await;
    assert_eq!(report(answered(&incremental))["deleted"]["files"], 0);
    let event = json!({ "action": "sync", "vault_id": "Notes", "sync_type": "complete" });
    let complete = invoke(&function, &event).await;
    assert_eq!(report(answered(&complete))["deleted"]["files"], 1);
    world.assert_exact("Notes");
}
