//! The REST calls: their results, and their errors.

use std::time::Duration;

use obsync_client::{
    Client, ClientError, NewVault, NewVaultEncryption, PushFile, Session, SessionTarget, Token,
    WritingSession,
};
use obsync_protocol::{ContentHash, EncryptionVersion, MasterKey, VaultKeys, VaultPath};
use obsync_testkit::{Server, VaultSpec};

use crate::bed::{Bed, EMAIL, PASSWORD, limited, options};

const SIGN_IN: &str = "/user/signin";
const TOTP_SECRET: &str = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP";

fn calls(server: &Server, path: &str) -> u64 {
    server.stats().rest_by_path.get(path).copied().unwrap_or(0)
}

async fn sign_in(server: &Server, password: &str, mfa: Option<&str>) -> Result<Token, ClientError> {
    let client = Client::new(options(&server.url())).unwrap();
    limited(client.sign_in(EMAIL, &password.into(), mfa)).await.map(|signed_in| signed_in.token)
}

#[tokio::test]
async fn signing_in_gives_a_token_that_lists_own_vaults_before_shared_ones() {
    let server = Server::builder()
        .user(EMAIL, PASSWORD)
        .user("other@example.com", "pw")
        .vault(VaultSpec::managed("Theirs").owner("other@example.com").shared_with(EMAIL))
        .vault(VaultSpec::end_to_end("Mine", "secret").owner(EMAIL))
        .vault(VaultSpec::managed("Hidden").owner("other@example.com"))
        .start()
        .await
        .unwrap();
    let client = Client::new(options(&server.url())).unwrap();
    let signed_in = client.sign_in(EMAIL, &PASSWORD.into(), None).await.unwrap();
    assert_eq!(signed_in.email, EMAIL);
    let vaults = client.vaults(&signed_in.token).await.unwrap();
    let names: Vec<_> = vaults.iter().map(|vault| vault.name.as_str()).collect();
    assert_eq!(names, ["Mine", "Theirs"]);
    assert!(vaults[0].password.is_none() && vaults[1].password.is_some());
    assert_eq!(client.user_info(&signed_in.token).await.unwrap().email, EMAIL);
    assert_eq!(client.regions(&signed_in.token).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_wrong_password_is_told_at_once_and_never_tried_again() {
    let bed = Bed::start().await;
    let before = calls(&bed.server, SIGN_IN);
    let error = sign_in(&bed.server, "not the password", None).await.unwrap_err();
    assert!(matches!(error, ClientError::WrongCredentials), "{error:?}");
    assert!(error.is_auth() && !error.is_retryable());
    assert_eq!(calls(&bed.server, SIGN_IN) - before, 1);
}

#[tokio::test]
async fn a_missing_and_a_wrong_two_factor_code_are_told_apart_and_the_right_one_signs_in() {
    let server = Server::builder().user_with_totp(EMAIL, PASSWORD, TOTP_SECRET).start().await.unwrap();
    let error = sign_in(&server, PASSWORD, None).await.unwrap_err();
    assert!(matches!(error, ClientError::MfaRequired), "{error:?}");
    let error = sign_in(&server, PASSWORD, Some("abcdef")).await.unwrap_err();
    assert!(matches!(error, ClientError::MfaWrong { clock: None }), "{error:?}");
    assert_eq!(calls(&server, SIGN_IN), 2);
    let code = server.totp_code(EMAIL).unwrap();
    sign_in(&server, PASSWORD, Some(&code)).await.unwrap();
}

#[tokio::test]
async fn a_two_factor_code_that_is_refused_while_the_clock_is_wrong_names_the_clock() {
    let server = Server::builder().user_with_totp(EMAIL, PASSWORD, TOTP_SECRET).start().await.unwrap();
    for (shift, said) in
        [("90", Some("90 s behind the service's")), ("-90", Some("90 s ahead of the service's")), ("3", None)]
    {
        server.faults().set(format!("date-shift={shift}").parse().unwrap());
        let error = sign_in(&server, PASSWORD, Some("000000")).await.unwrap_err();
        assert!(matches!(error, ClientError::MfaWrong { .. }), "{error:?}");
        // A second may pass between the answer and its measurement.
        let text = error.to_string().replace("89 s", "90 s").replace("91 s", "90 s");
        match said {
            Some(said) => assert!(text.contains("this computer's clock is") && text.contains(said), "{text}"),
            None => assert!(!text.contains("clock"), "{text}"),
        }
    }
}

#[tokio::test]
async fn a_token_that_has_expired_or_was_signed_out_asks_for_a_new_sign_in() {
    let bed = Bed::start().await;
    bed.client.sign_out(&bed.token).await.unwrap();
    let error = bed.client.vaults(&bed.token).await.unwrap_err();
    assert!(matches!(error, ClientError::NotSignedIn), "{error:?}");
    let token = sign_in(&bed.server, PASSWORD, None).await.unwrap();
    bed.server.expire_tokens().unwrap();
    let error = bed.client.user_info(&token).await.unwrap_err();
    assert!(matches!(error, ClientError::NotSignedIn) && error.is_auth(), "{error:?}");
}

#[tokio::test]
async fn an_overloaded_service_is_asked_again_until_it_answers() {
    for fault in [
        "rest-overloaded=next:2",
        "rest-status-error=next:2,rest-status=503",
        "rest-status-error=next:2,rest-status=429",
        "rest-drop=next:2",
    ] {
        let bed = Bed::start().await;
        bed.fault(fault);
        limited(bed.client.vaults(&bed.token)).await.unwrap();
        assert_eq!(calls(&bed.server, "/vault/list"), 3, "{fault}");
    }
}

#[tokio::test]
async fn after_the_last_attempt_the_error_says_what_was_wrong() {
    let bed = Bed::start().await;
    bed.fault("rest-overloaded");
    let error = limited(bed.client.vaults(&bed.token)).await.unwrap_err();
    assert!(matches!(error, ClientError::Overloaded), "{error:?}");
    assert_eq!(calls(&bed.server, "/vault/list"), 3);
    bed.fault("rest-status-error,rest-status=500");
    let error = limited(bed.client.vaults(&bed.token)).await.unwrap_err();
    assert!(matches!(error, ClientError::Http { status: 500 }), "{error:?}");
    assert_eq!(calls(&bed.server, "/vault/list"), 6);
}

#[tokio::test]
async fn what_another_attempt_cannot_mend_is_not_tried_again() {
    for (fault, expected) in [("rest-status-error,rest-status=404", "404"), ("rest-garbage", "a web page")] {
        let bed = Bed::start().await;
        bed.fault(fault);
        let error = limited(bed.client.vaults(&bed.token)).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(calls(&bed.server, "/vault/list"), 1, "{fault}");
    }
}

#[tokio::test]
async fn a_service_that_never_answers_is_given_up() {
    let bed = Bed::with(|mut options| {
        options.timeouts.rest_request = Duration::from_millis(300);
        options
    })
    .await;
    bed.fault("rest-hang,rest-path=/vault/list");
    let error = limited(bed.client.vaults(&bed.token)).await.unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error:?}");
    assert!(error.to_string().contains("300 ms"), "{error}");
    assert_eq!(calls(&bed.server, "/vault/list"), 1);
}

#[tokio::test]
async fn a_service_that_is_down_is_named_as_unreachable() {
    let server = Server::builder().start().await.unwrap();
    let url = server.url();
    server.shutdown().await;
    let client = Client::new(options(&url)).unwrap();
    let error = limited(client.sign_in(EMAIL, &PASSWORD.into(), None)).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Unreachable { host, .. } if host.starts_with("127.0.0.1:")),
        "{error:?}"
    );
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_vault_can_be_made_and_opened_with_its_password_only() {
    let bed = Bed::start().await;
    let salt = "00112233445566778899aabbccddeeff";
    let keys = |password: &str| {
        VaultKeys::new(&MasterKey::derive(&password.into(), salt), EncryptionVersion::V3, salt)
    };
    let right = keys("right");
    let encryption =
        NewVaultEncryption::EndToEnd { key_hash: right.key_hash().clone(), salt: salt.to_owned() };
    let made = NewVault { name: "Made".to_owned(), region: String::new(), encryption };
    let made = bed.client.create_vault(&bed.token, made).await.unwrap();
    let managed =
        NewVault { name: "Kept".to_owned(), region: String::new(), encryption: NewVaultEncryption::Managed };
    bed.client.create_vault(&bed.token, managed).await.unwrap();
    let vaults = bed.client.vaults(&bed.token).await.unwrap();
    let vault = vaults.iter().find(|vault| vault.id == made.id).unwrap();
    assert!(vaults.iter().any(|vault| vault.name == "Kept" && vault.password.is_some()));

    bed.client.check_access(&bed.token, vault, right.key_hash()).await.unwrap();
    let error = bed.client.check_access(&bed.token, vault, keys("wrong").key_hash()).await.unwrap_err();
    assert!(matches!(error, ClientError::WrongVaultPassword), "{error:?}");
}

#[tokio::test]
async fn a_vault_that_was_made_takes_what_its_keys_encrypt() {
    let bed = Bed::start().await;
    let password = "only the user knows it".into();
    let (encryption, keys) = NewVaultEncryption::end_to_end(&password).unwrap();
    let NewVaultEncryption::EndToEnd { salt, .. } = &encryption else { panic!("{encryption:?}") };
    assert!(salt.len() == 32 && salt.bytes().all(|byte| byte.is_ascii_hexdigit()), "{salt}");
    let (other, _) = NewVaultEncryption::end_to_end(&password).unwrap();
    assert!(matches!(&other, NewVaultEncryption::EndToEnd { salt: other, .. } if other != salt));

    let vault = NewVault { name: "Made".to_owned(), region: String::new(), encryption };
    let made = bed.client.create_vault(&bed.token, vault).await.unwrap();
    let vaults = bed.client.vaults(&bed.token).await.unwrap();
    let vault = vaults.into_iter().find(|vault| vault.id == made.id).unwrap();
    assert_eq!(vault.encryption_version, 3);
    let target = SessionTarget { vault_id: vault.id, host: vault.host, keys, ..bed.target() };
    let session = limited(WritingSession::open(&bed.client, &target, 0, true)).await.unwrap();
    let (mut session, _) = limited(session.listing(&mut |_| {})).await.unwrap();
    let (path, content) = (VaultPath::parse("note.md").unwrap(), b"the first note");
    let file = PushFile { path: &path, hash: ContentHash::of(content), ctime: 1, mtime: 2, related: None };
    limited(session.push_file(&file, content)).await.unwrap();

    // Another device derives the same keys from the password and the listed salt.
    let stored = bed.server.vault("Made").unwrap();
    stored.unlock(&password).unwrap();
    assert_eq!(stored.expected().unwrap().files[0].sha256, ContentHash::of(content).to_string());
}

#[tokio::test]
async fn making_a_vault_is_not_tried_again_when_it_may_have_been_done() {
    let bed = Bed::start().await;
    bed.fault("rest-drop=next:1");
    let vault =
        NewVault { name: "Twice".to_owned(), region: String::new(), encryption: NewVaultEncryption::Managed };
    let error = limited(bed.client.create_vault(&bed.token, vault)).await.unwrap_err();
    assert!(matches!(error, ClientError::ConnectionLost { .. }), "{error:?}");
    assert_eq!(calls(&bed.server, "/vault/create"), 1);
}

#[tokio::test]
async fn a_host_outside_the_list_gets_neither_a_connection_nor_the_token() {
    let bed = Bed::start().await;
    bed.fault("listing-host=sync.obsidian.md.example.com");
    let vaults = bed.client.vaults(&bed.token).await.unwrap();
    let target = SessionTarget { host: vaults[0].host.clone(), ..bed.target() };
    let error = Session::open(&bed.client, &target, 0, true).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::HostNotAllowed { host } if host == "sync.obsidian.md.example.com"),
        "{error:?}"
    );
    assert!(!error.is_retryable());
}

#[test]
fn an_address_that_cannot_be_used_is_refused_with_a_reason() {
    for url in ["not a url", "http://example.com/", "ftp://example.com/", "https://me:pw@example.com/"] {
        let error = Client::new(options(url)).unwrap_err();
        assert!(matches!(error, ClientError::InvalidOption { .. }), "{url}: {error:?}");
        assert!(!error.to_string().contains("pw"), "{error}");
    }
}
