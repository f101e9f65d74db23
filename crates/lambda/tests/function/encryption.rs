//! A service that lies about the encryption of vaults gets nothing, and nothing changes.

use obsync_protocol::MasterKey;
use obsync_testcloud::LambdaRuntime;
use obsync_testkit::VaultSpec;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::world::{
    BUCKET, EMAIL, PASSWORD, SECRET, TABLE, VAULT_PASSWORD, World, answered, failed, invoke, report, sync,
    write_notes,
};

/// A password that the service knows.
const HANDED_OUT: &str = "chosen by the service";

fn auth() -> Value {
    json!({ "email": EMAIL, "password": PASSWORD })
}

/// The secret as `obsync credentials export` writes it, with the account's password for signing in.
fn exported(world: &World) -> Value {
    let vault = world.vault("Private");
    let key = MasterKey::derive(&VAULT_PASSWORD.into(), vault.salt()).expose_hex();
    let key = json!({ "key": key.expose_secret(), "encryption_version": 3, "salt": vault.salt() });
    json!({ "auth": auth(), "vaults": { (vault.id().as_str()): key } })
}

fn hand_out(world: &World, password: Option<&str>) {
    world.server.faults().update(|faults| faults.listing_password = password.map(str::to_owned));
}

/// The keys of the pins in the table.
fn pins(world: &World) -> Vec<String> {
    let items = world.cloud.dynamodb().items(TABLE).unwrap();
    let keys = items.iter().filter_map(|item| item["vault_id"]["S"].as_str());
    keys.filter(|key| key.starts_with("pin#")).map(str::to_owned).collect()
}

/// Number of times a key was sent to the service.
fn shown(world: &World) -> u64 {
    world.server.stats().rest_by_path.get("/vault/access").copied().unwrap_or(0)
}

/// The reason why the vault is not synced.
async fn refused(function: &LambdaRuntime) -> String {
    let invocation = invoke(function, &sync("Private")).await;
    let (kind, message) = failed(&invocation);
    assert_eq!(kind, "SyncFailed");
    let logs = invocation.logs.join("\n");
    assert!(!logs.contains("Private"), "no name is logged: {logs}");
    message.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_of_the_secret_is_never_opened_by_a_password_that_the_service_hands_out() {
    for by_key in [true, false] {
        let world = World::new().await;
        let password = json!({ "auth": auth(), "vaults": { "Private": { "password": VAULT_PASSWORD } } });
        world.put_secret(&if by_key { exported(&world) } else { password });
        let vault = world.vault("Private");
        write_notes(&vault, 3);
        hand_out(&world, Some(HANDED_OUT));
        let cold = world.function();
        let message = refused(&cold).await;
        assert!(message.contains("forge") && message.contains("Nothing was sent"), "{message}");
        assert!(!message.contains(HANDED_OUT));
        assert_eq!(shown(&world), 0);
        assert!(world.cloud.s3().files(BUCKET, "").is_empty());

        // Nor after the vault was opened and its keys are cached.
        hand_out(&world, None);
        let warm = world.function();
        answered(&invoke(&warm, &sync("Private")).await);
        let shown_before = shown(&world);
        vault.write("new.md", "forged", 1_800_000_000_000).unwrap();
        hand_out(&world, Some(HANDED_OUT));
        for function in [&cold, &warm] {
            refused(function).await;
        }
        assert_eq!(shown(&world), shown_before);
        assert_eq!(world.cloud.s3().files(BUCKET, "notes/Private/").len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_secret_is_used_with_the_salt_only_that_it_was_made_for() {
    let world = World::new().await;
    write_notes(&world.vault("Private"), 3);
    let secret = exported(&world);
    world.put_secret(&secret);
    let salt = |salt: Option<&str>| {
        world.server.faults().update(|faults| faults.listing_salt = salt.map(str::to_owned));
    };
    salt(Some("0123456789abcdef0123456789abcdef"));
    let function = world.function();
    let message = refused(&function).await;
    assert!(message.contains("the salt of the end-to-end encrypted vault"), "{message}");
    assert_eq!(shown(&world), 0);
    salt(None);
    let invocation = invoke(&function, &sync("Private")).await;
    assert_eq!(report(answered(&invocation))["encryption"], "end-to-end");
    world.assert_exact("Private");

    // A secret of an early release, where the pin in the table agrees.
    let mut old = secret;
    for vault in old["vaults"].as_object_mut().unwrap().values_mut() {
        vault.as_object_mut().unwrap().retain(|name, _| name == "key");
    }
    world.put_secret(&old);
    answered(&invoke(&world.function(), &sync("Private")).await);
    // Without a pin in the table, nothing shows which salt the key is for.
    world.cloud.dynamodb().delete_table(TABLE).unwrap();
    world.cloud.dynamodb().create_table(TABLE).unwrap();
    let message = refused(&world.function()).await;
    assert!(message.contains("obsync credentials export"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_kept_of_a_password_of_the_service_opens_no_end_to_end_vault() {
    let world = World::new().await;
    world.put_secret(&json!({ "auth": auth() }));
    write_notes(&world.vault("Private"), 3);
    hand_out(&world, Some(VAULT_PASSWORD));
    let function = world.function();
    let invocation = invoke(&function, &sync("Private")).await;
    assert_eq!(report(answered(&invocation))["encryption"], "standard");
    hand_out(&world, None);
    let message = refused(&function).await;
    assert!(message.contains("there is no password for it"), "{message}");
}

/// A vault in the secret that an older release synced, without a pin, is listed under another name with a
/// password of the service, and the effects of `fault`. It is not opened.
async fn is_not_opened_under_another_name(fault: Option<&str>) {
    let world = World::with(|builder| builder.vault(VaultSpec::end_to_end("Private", VAULT_PASSWORD))).await;
    let vault = world.vault("Private");
    write_notes(&vault, 3);
    answered(&invoke(&world.function(), &sync("Private")).await);
    for key in pins(&world) {
        let request = json!({ "vault_id": { "S": key } });
        world.cloud.dynamodb().delete_item(TABLE, request).unwrap();
    }
    vault.write("new.md", "forged", 1_800_000_000_000).unwrap();
    world.server.faults().update(|faults| {
        faults.listing_name = Some("Other".to_owned());
        fault.into_iter().for_each(|fault| faults.set(fault).unwrap());
    });
    hand_out(&world, Some(HANDED_OUT));
    let before = shown(&world);
    let invocation = invoke(&world.function(), &json!({ "action": "sync" })).await;
    let (_, message) = failed(&invocation);
    assert!(message.contains("whoever controls the service could read and forge"), "{message}");
    assert_eq!(shown(&world), before);
    assert_eq!(world.cloud.s3().files(BUCKET, "").len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_of_the_secret_is_known_by_its_former_name_where_an_older_release_left_no_pin() {
    is_not_opened_under_another_name(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_of_the_secret_that_is_listed_as_shared_under_another_name_is_not_opened_either() {
    is_not_opened_under_another_name(Some("list-as-shared")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_salt_is_refused_at_the_first_contact() {
    let world = World::with(|builder| {
        builder.vault(VaultSpec::end_to_end("Private", VAULT_PASSWORD).salt("too short"))
    })
    .await;
    let function = world.function();
    // Also the second time: it has a place then, but no pin.
    for _ in 0..2 {
        let message = refused(&function).await;
        assert!(message.contains("a salt of 9 bytes"), "{message}");
    }
    assert_eq!(shown(&world), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_setting_for_encryption_refuses_any_other_kind() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 2);
    write_notes(&world.vault("Private"), 2);
    let both = json!({ "action": "sync", "vaults": ["Notes", "Private"] });
    for (wanted, opened, refused) in [("end-to-end", "Private", "Notes"), ("standard", "Notes", "Private")] {
        let function = world.function_with(&[("OBSYNC_ENCRYPTION", wanted)]);
        let invocation = invoke(&function, &both).await;
        let answer = answered(&invocation);
        assert_eq!((&answer["status"], &answer["vaults_synced"]), (&json!("partial"), &json!(1)), "{answer}");
        world.assert_exact(opened);
        let error = answer["errors"][0].as_str().unwrap();
        assert!(error.starts_with(world.vault(refused).id().as_str()), "{error}");
        assert!(error.contains("encryption is required"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standard_vault_beside_a_vault_password_is_refused_at_the_first_contact() {
    let world = World::new().await;
    world.cloud.secrets().put(SECRET, &json!({ "auth": auth() }).to_string());
    write_notes(&world.vault("Notes"), 2);
    let password = ("OBSYNC_VAULT_PASSWORD", VAULT_PASSWORD);
    let function = world.function_with(&[password]);
    for _ in 0..2 {
        let invocation = invoke(&function, &sync("Notes")).await;
        let (_, message) = failed(&invocation);
        assert!(message.contains("either it is a standard vault"), "{message}");
    }
    let said = world.function_with(&[password, ("OBSYNC_ENCRYPTION", "standard")]);
    let invocation = invoke(&said, &sync("Notes")).await;
    assert_eq!(report(answered(&invocation))["encryption"], "standard");
    // From now on it is pinned.
    answered(&invoke(&function, &sync("Notes")).await);
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_was_end_to_end_encrypted_is_not_opened_by_a_password_that_the_service_hands_out() {
    let world = World::new().await;
    world.put_secret(&json!({ "auth": auth() }));
    let vault = world.vault("Private");
    write_notes(&vault, 3);
    let password = ("OBSYNC_VAULT_PASSWORD", VAULT_PASSWORD);
    answered(&invoke(&world.function_with(&[password]), &sync("Private")).await);
    assert_eq!(pins(&world).len(), 3, "for the vault, its name and its destination");
    vault.write("new.md", "forged", 1_800_000_000_000).unwrap();
    hand_out(&world, Some(HANDED_OUT));
    let before = shown(&world);
    // The password is removed from the settings, too: only the table knows the vault's encryption.
    for function in [world.function_with(&[password]), world.function()] {
        let message = refused(&function).await;
        assert!(message.contains("the table knows it as end-to-end encrypted"), "{message}");
    }
    let said = world.function_with(&[("OBSYNC_ENCRYPTION", "standard")]);
    refused(&said).await;
    assert_eq!(shown(&world), before);
    assert_eq!(world.cloud.s3().files(BUCKET, "notes/Private/").len(), 3);
    // An unreadable pin is no first contact.
    hand_out(&world, None);
    for key in pins(&world) {
        let item = json!({ "vault_id": { "S": key }, "pin": { "S": "{}" } });
        world.cloud.dynamodb().put_item(TABLE, item).unwrap();
    }
    let message = refused(&world.function_with(&[password])).await;
    assert!(message.contains("cannot be understood"), "{message}");
}
