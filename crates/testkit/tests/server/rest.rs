//! The REST calls: signing in with and without a second factor, vaults, and their visibility.

use obsync_protocol::EncryptionVersion;
use obsync_testkit::{Server, ServerError, VaultSpec, fixture_dir};
use serde_json::{Value, json};

use crate::client::{EMAIL, Outcome, PASSWORD, post, request, sign_in};

const TOTP_SECRET: &str = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP";

async fn server() -> Outcome<Server> {
    Ok(Server::builder().user(EMAIL, PASSWORD).start().await?)
}

/// The error text of an answer that must be an error.
fn error(answer: &Value) -> &str {
    answer["error"].as_str().unwrap_or("no error")
}

async fn try_sign_in(server: &Server, email: &str, password: &str, mfa: &str) -> Outcome<Value> {
    post(server, "/user/signin", json!({ "email": email, "password": password, "mfa": mfa })).await
}

async fn create(
    server: &Server,
    token: &str,
    name: &str,
    version: u64,
    salt: Option<&str>,
) -> Outcome<Value> {
    let mut body = json!({
        "token": token, "name": name, "region": "", "encryption_version": version, "keyhash": null,
    });
    if let Some(salt) = salt {
        body["salt"] = json!(salt);
        body["keyhash"] = json!(format!("key hash of {salt}"));
    }
    post(server, "/vault/create", body).await
}

async fn list(server: &Server, token: &str) -> Outcome<Value> {
    post(server, "/vault/list", json!({ "token": token, "supported_encryption_version": 3 })).await
}

fn names(vaults: &Value) -> Vec<&str> {
    vaults.as_array().into_iter().flatten().filter_map(|vault| vault["name"].as_str()).collect()
}

#[tokio::test]
async fn a_browser_may_ask_before_it_signs_in() -> Outcome {
    let server = server().await?;
    let reply = request(&server, "OPTIONS", "/user/signin", "").await?;
    assert_eq!(reply.status, 204);
    assert!(reply.headers.contains("access-control-allow-origin: https://obsidian.md"));
    assert!(reply.headers.contains("access-control-allow-methods: post, options"));
    Ok(())
}

#[tokio::test]
async fn signing_in_gives_a_token_that_tells_who_it_is_until_it_is_signed_out() -> Outcome {
    let server = server().await?;
    let answer = try_sign_in(&server, EMAIL, PASSWORD, "").await?;
    assert_eq!((answer["email"].as_str(), answer["name"].as_str()), (Some(EMAIL), Some("someone")));
    let token = answer["token"].clone();
    let person = post(&server, "/user/info", json!({ "token": token })).await?;
    assert_eq!(person["email"], EMAIL);
    assert_eq!(person["mfa"], false);
    assert_eq!(post(&server, "/user/signout", json!({ "token": token })).await?, json!({}));
    assert_eq!(error(&post(&server, "/user/info", json!({ "token": token })).await?), "Not logged in");
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_are_refused_alike() -> Outcome {
    let server = server().await?;
    let wrong = try_sign_in(&server, EMAIL, "wrong", "").await?;
    assert!(error(&wrong).starts_with("Login failed"));
    assert_eq!(wrong, try_sign_in(&server, "nobody@example.com", PASSWORD, "").await?);
    Ok(())
}

#[tokio::test]
async fn the_second_factor_is_asked_for_and_checked() -> Outcome {
    let server = Server::builder().user_with_totp(EMAIL, PASSWORD, TOTP_SECRET).start().await?;
    let wanted = try_sign_in(&server, EMAIL, PASSWORD, "").await?;
    assert!(error(&wanted).contains("2FA code") && !error(&wanted).contains("incorrect"));
    let wrong = try_sign_in(&server, EMAIL, PASSWORD, "12345").await?;
    assert!(error(&wrong).contains("2FA code is incorrect"));
    let code = server.totp_code(EMAIL).ok_or("no code")?;
    assert!(try_sign_in(&server, EMAIL, PASSWORD, &code).await?["token"].is_string());
    Ok(())
}

#[tokio::test]
async fn an_unknown_address_signs_up_only_where_that_is_allowed() -> Outcome {
    let open = Server::builder().allow_sign_up(true).start().await?;
    assert!(try_sign_in(&open, "new@example.com", "pw", "").await?["token"].is_string());
    assert!(error(&try_sign_in(&open, "new@example.com", "other", "").await?).starts_with("Login failed"));
    let closed = server().await?;
    assert!(error(&try_sign_in(&closed, "new@example.com", "pw", "").await?).starts_with("Login failed"));
    Ok(())
}

#[tokio::test]
async fn tokens_can_be_made_to_expire() -> Outcome {
    let server = server().await?;
    let token = sign_in(&server).await?;
    server.expire_tokens()?;
    assert_eq!(error(&list(&server, &token).await?), "Not logged in");
    assert!(list(&server, &sign_in(&server).await?).await?["vaults"].is_array());
    Ok(())
}

#[tokio::test]
async fn vaults_of_both_kinds_and_every_version_are_made_and_listed() -> Outcome {
    let server = server().await?;
    let token = sign_in(&server).await?;
    for version in [0, 2, 3] {
        let own = create(&server, &token, &format!("own {version}"), version, Some("cafe")).await?;
        assert!(own["id"].is_string(), "{own}");
        create(&server, &token, &format!("managed {version}"), version, None).await?;
        let managed = server.vault(&format!("managed {version}"))?;
        assert_eq!(u64::from(managed.encryption_version()), version);
        managed.write("a.md", b"the server knows the password", 1)?;
    }
    let vaults = list(&server, &token).await?["vaults"].clone();
    assert_eq!(names(&vaults).len(), 6);
    for vault in vaults.as_array().into_iter().flatten() {
        let managed = vault["name"].as_str().is_some_and(|name| name.starts_with("managed"));
        assert_eq!(vault["password"].as_str().is_some_and(|password| !password.is_empty()), managed);
        assert_eq!(vault["host"], server.host());
        assert!(vault["salt"].is_string() && vault["created"].is_u64() && vault["size"].is_u64());
    }
    Ok(())
}

#[tokio::test]
async fn two_vaults_can_share_a_name() -> Outcome {
    let server = server().await?;
    let token = sign_in(&server).await?;
    let one = create(&server, &token, "Notes", 3, Some("aa")).await?;
    let other = create(&server, &token, "Notes", 3, Some("bb")).await?;
    assert_ne!(one["id"], other["id"]);
    assert_eq!(names(&list(&server, &token).await?["vaults"]), ["Notes", "Notes"]);
    assert!(matches!(server.vault("Notes"), Err(ServerError::AmbiguousVault(_))));
    assert_eq!(server.vault(one["id"].as_str().unwrap_or_default())?.salt(), "aa");
    Ok(())
}

#[tokio::test]
async fn a_vault_that_cannot_be_made_is_refused() -> Outcome {
    let server = server().await?;
    let token = sign_in(&server).await?;
    let without_salt = json!({
        "token": token, "name": "half", "keyhash": "aa", "region": "", "encryption_version": 3,
    });
    assert!(post(&server, "/vault/create", without_salt).await?["error"].is_string());
    assert!(create(&server, &token, " ", 3, None).await?["error"].is_string());
    assert!(create(&server, &token, "of the future", 9, None).await?["error"].is_string());
    assert!(create(&server, "no token", "vault", 3, None).await?["error"].is_string());
    Ok(())
}

#[tokio::test]
async fn others_see_a_vault_only_when_it_is_shared_with_them() -> Outcome {
    let server = Server::builder()
        .user(EMAIL, PASSWORD)
        .vault(VaultSpec::managed("everybody's"))
        .vault(VaultSpec::managed("mine").owner(EMAIL))
        .vault(VaultSpec::managed("shared").owner("other@example.com").shared_with(EMAIL))
        .vault(VaultSpec::managed("hidden").owner("other@example.com"))
        .start()
        .await?;
    let lists = list(&server, &sign_in(&server).await?).await?;
    assert_eq!(names(&lists["vaults"]), ["everybody's", "mine"]);
    assert_eq!(names(&lists["shared"]), ["shared"]);
    Ok(())
}

#[tokio::test]
async fn a_client_is_not_shown_vaults_that_it_does_not_understand() -> Outcome {
    let server = Server::builder()
        .user(EMAIL, PASSWORD)
        .vault(VaultSpec::managed("two").version(EncryptionVersion::V2))
        .vault(VaultSpec::managed("three"))
        .start()
        .await?;
    let body = json!({ "token": sign_in(&server).await?, "supported_encryption_version": 2 });
    assert_eq!(names(&post(&server, "/vault/list", body).await?["vaults"]), ["two"]);
    Ok(())
}

#[tokio::test]
async fn access_wants_the_right_key_hash_the_right_vault_and_a_subscription() -> Outcome {
    let server =
        Server::builder().user(EMAIL, PASSWORD).vault_dir(fixture_dir("official-v2")).start().await?;
    let vault = server.vault("official-v2")?;
    let token = sign_in(&server).await?;
    let access = |id: &str, keyhash: &str| {
        json!({
            "token": token, "vault_uid": id, "keyhash": keyhash, "host": server.host(),
            "encryption_version": 2,
        })
    };
    let id = vault.id().as_str();
    let key_hash = vault.keys()?.key_hash().as_str();
    assert_eq!(post(&server, "/vault/access", access(id, key_hash)).await?, json!({}));
    assert!(error(&post(&server, "/vault/access", access(id, "00")).await?).contains("password"));
    assert_eq!(error(&post(&server, "/vault/access", access("nowhere", key_hash)).await?), "Vault not found");
    server.set_subscription_expired(true)?;
    assert!(error(&post(&server, "/vault/access", access(id, key_hash)).await?).contains("expired"));
    server.set_subscription_expired(false)?;
    assert_eq!(post(&server, "/vault/access", access(id, key_hash)).await?, json!({}));
    Ok(())
}

#[tokio::test]
async fn regions_are_listed() -> Outcome {
    let server = server().await?;
    let answer = post(&server, "/vault/regions", json!({ "token": sign_in(&server).await? })).await?;
    assert_eq!(answer["regions"][0]["value"], "loopback");
    Ok(())
}

#[tokio::test]
async fn requests_that_make_no_sense_are_answered_and_counted() -> Outcome {
    let server = server().await?;
    assert_eq!(request(&server, "POST", "/nowhere", "{}").await?.status, 404);
    assert_eq!(request(&server, "GET", "/vault/list", "").await?.status, 405);
    assert_eq!(request(&server, "POST", "/vault/list", &"x".repeat(100_000)).await?.status, 413);
    let nonsense =
        request(&server, "POST", "/user/signin", "{\"email\": 7, \"password\": \"hunter2\"").await?;
    assert_eq!(nonsense.status, 200);
    assert!(nonsense.body.contains("error") && !nonsense.body.contains("hunter2"));
    let stats = server.stats();
    assert_eq!((stats.rest_requests, stats.rest_by_path["other"]), (3, 1));
    Ok(())
}

#[tokio::test]
async fn the_server_listens_on_loopback_only() -> Outcome {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let refused = Server::builder().listen(address.parse()?).start().await;
        assert!(matches!(refused, Err(ServerError::NotLoopback(_))), "{address}");
    }
    Ok(())
}

#[tokio::test]
async fn a_port_is_free_again_after_shutdown() -> Outcome {
    let first = server().await?;
    let address = first.address();
    assert!(matches!(Server::builder().listen(address).start().await, Err(ServerError::Listen { .. })));
    first.shutdown().await;
    Server::builder().listen(address).start().await?.shutdown().await;
    Ok(())
}
