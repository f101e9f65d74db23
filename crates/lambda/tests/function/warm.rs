//! State that is kept between invocations, and state that is not.

use obsync_testcloud::Service;
use obsync_testkit::VaultSpec;
use serde_json::json;

use crate::world::{
    BUCKET, EMAIL, PASSWORD, SECRET, VAULT_PASSWORD, World, answered, failed, invoke, report, sync,
    write_notes,
};

/// Number of requests for this path.
fn asked(world: &World, path: &str) -> u64 {
    world.server.stats().rest_by_path.get(path).copied().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_start_reads_no_secret_and_does_not_sign_in() {
    let world = World::new().await;
    let function = world.function();
    write_notes(&world.vault("Private"), 3);
    let cold = invoke(&function, &sync("Private")).await;
    answered(&cold);
    let (counts, before) = (world.cloud.counts(), asked(&world, "/user/signin"));
    world.vault("Private").write("new.md", "new", 1_700_000_000_000).unwrap();
    let warm = invoke(&function, &sync("Private")).await;
    assert_eq!(answered(&warm)["files_count"], 1);
    assert!(cold.is_cold_start() && !warm.is_cold_start());
    let since = world.cloud.counts().since(&counts);
    assert_eq!(since.total(Service::SecretsManager), 0);
    assert_eq!(asked(&world, "/user/signin"), before);
    world.assert_exact("Private");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_renewed() {
    let world = World::new().await;
    let function = world.function();
    write_notes(&world.vault("Notes"), 3);
    answered(&invoke(&function, &sync("Notes")).await);
    world.server.expire_tokens().unwrap();
    let before = asked(&world, "/user/signin");
    let invocation = invoke(&function, &sync("Notes")).await;
    assert_eq!(answered(&invocation)["status"], "complete");
    assert_eq!(asked(&world, "/user/signin"), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_credentials_cannot_be_renewed_and_says_so() {
    let world = World::new().await;
    world.put_secret(&json!({ "auth": { "token": "not-a-token" } }));
    let invocation = invoke(&world.function(), &sync("Notes")).await;
    let (kind, message) = failed(&invocation);
    assert_eq!(kind, "SignInFailed");
    assert!(message.contains("obsync credentials export") && !message.contains("not-a-token"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_password_that_was_corrected_in_the_secret_is_found() {
    let world = World::new().await;
    write_notes(&world.vault("Private"), 3);
    let secret = |password: &str| {
        json!({
            "auth": { "email": EMAIL, "password": PASSWORD },
            "vaults": { "Private": { "password": password } },
        })
    };
    world.put_secret(&secret("wrong"));
    let function = world.function();
    let invocation = invoke(&function, &sync("Private")).await;
    assert!(failed(&invocation).1.contains("password does not open"), "{:?}", invocation.outcome);
    world.put_secret(&secret(VAULT_PASSWORD));
    let invocation = invoke(&function, &sync("Private")).await;
    assert_eq!(answered(&invocation)["status"], "complete");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_vault_password_costs_neither_the_token_nor_the_keys_of_other_vaults() {
    let world = World::with(|builder| {
        let other = VaultSpec::end_to_end("Other", VAULT_PASSWORD);
        builder.vault(VaultSpec::end_to_end("Private", VAULT_PASSWORD)).vault(other)
    })
    .await;
    let vaults = json!({ "Private": { "password": "wrong" }, "Other": { "password": VAULT_PASSWORD } });
    world.put_secret(&json!({ "auth": { "email": EMAIL, "password": PASSWORD }, "vaults": vaults }));
    let function = world.function();
    assert_eq!(answered(&invoke(&function, &json!({})).await)["status"], "partial");
    let before = (asked(&world, "/user/signin"), asked(&world, "/vault/access"), world.cloud.counts());
    assert_eq!(answered(&invoke(&function, &json!({})).await)["status"], "partial");
    let after = (asked(&world, "/user/signin"), asked(&world, "/vault/access"));
    assert_eq!(after, (before.0, before.1 + 1), "only the key that is wrong is derived again, and once");
    assert_eq!(world.cloud.counts().since(&before.2).total(Service::SecretsManager), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_and_no_title_is_logged() {
    let world = World::new().await;
    world.vault("Private").write("My Diary/strange title.md", "x", 1_700_000_000_000).unwrap();
    // An object of somebody else is in the way, which is worth a notice.
    world.cloud.s3().put(BUCKET, "notes/Private/My Diary/strange title.md", "theirs", &[]);
    let invocation = invoke(&world.function(), &sync("Private")).await;
    assert_eq!(report(answered(&invocation))["conflicts"].as_array().unwrap().len(), 1);
    let logs = invocation.logs.join("\n");
    for hidden in [PASSWORD, VAULT_PASSWORD, "Diary", "strange title"] {
        assert!(!logs.contains(hidden), "{hidden} is in\n{logs}");
    }
    let metrics = invocation.json_logs().into_iter().find(|line| line["message"] == "Sync metrics").unwrap();
    assert_eq!((&metrics["metric_type"], &metrics["files_synced"]), (&json!("sync_performance"), &json!(1)));
    assert_eq!(metrics["_aws"]["CloudWatchMetrics"][0]["Namespace"], "Obsync");
    assert!(
        invocation.logs.iter().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()),
        "{logs}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_two_factors_is_signed_in_to() {
    const TOTP: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
    let world = World::with(|builder| {
        let vault = VaultSpec::managed("Guarded").owner("two@example.com");
        builder.user_with_totp("two@example.com", PASSWORD, TOTP).vault(vault)
    })
    .await;
    write_notes(&world.vault("Guarded"), 3);
    world.put_secret(&json!({ "auth": { "email": "two@example.com", "password": PASSWORD } }));
    let invocation = invoke(&world.function(), &sync("Guarded")).await;
    assert!(failed(&invocation).1.contains("totp_secret"), "{:?}", invocation.outcome);
    world.put_secret(&json!({
        "auth": { "email": "two@example.com", "password": PASSWORD, "totp_secret": TOTP },
    }));
    answered(&invoke(&world.function(), &sync("Guarded")).await);
    world.assert_exact("Guarded");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_account_can_be_in_the_environment_and_vault_passwords_in_a_flat_secret() {
    let world = World::new().await;
    write_notes(&world.vault("Private"), 3);
    let secret = json!({ (world.vault("Private").id().as_str()): VAULT_PASSWORD });
    let arn = world.cloud.secrets().put(SECRET, &secret.to_string());
    let variables =
        [("OBSIDIAN_EMAIL", EMAIL), ("OBSIDIAN_PASSWORD", PASSWORD), ("OBSYNC_SECRET_NAME", arn.as_str())];
    answered(&invoke(&world.function_with(&variables), &sync("Private")).await);
    world.assert_exact("Private");
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_with_a_line_break_at_the_end_open_account_and_vault() {
    let world = World::new().await;
    write_notes(&world.vault("Private"), 3);
    world.put_secret(&json!({
        "auth": { "email": format!("{EMAIL}\n"), "password": format!("{PASSWORD}\n") },
        "vaults": { "Private": { "password": format!("{VAULT_PASSWORD}\r\n") } },
    }));
    let invocation = invoke(&world.function(), &sync("Private")).await;
    assert_eq!(answered(&invocation)["status"], "complete");
    let logs = invocation.logs.join("\n");
    for origin in ["the account's password in the secret", "a vault's password in the secret"] {
        assert!(logs.contains(&format!("{origin} ends with a line break")), "{logs}");
    }
    assert!(!logs.contains(PASSWORD) && !logs.contains(VAULT_PASSWORD), "{logs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_files_open_account_and_vault() {
    let world = World::new().await;
    write_notes(&world.vault("Private"), 3);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("{text}\n")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let function = world.function_with(&[
        ("OBSYNC_SECRET_NAME", ""),
        ("OBSIDIAN_EMAIL_FILE", &file("email", EMAIL)),
        ("OBSIDIAN_PASSWORD_FILE", &file("password", PASSWORD)),
        ("OBSYNC_VAULT_PASSWORD_FILE", &file("vault", VAULT_PASSWORD)),
    ]);
    assert_eq!(answered(&invoke(&function, &sync("Private")).await)["status"], "complete");
}
