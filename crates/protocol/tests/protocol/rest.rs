//! The bodies of the HTTP calls.

use obsync_protocol::{
    CreateVaultRequest, CreatedVault, Done, EncryptionVersion, ExposeSecret, KeyHash, Regions,
    RegionsRequest, RestError, RestReply, RestRequest, SUPPORTED_ENCRYPTION_VERSION, SecretString,
    SignInRequest, SignOutRequest, SignedIn, UnsupportedEncryption, UserInfo, UserInfoRequest,
    VaultAccessRequest, VaultId, VaultInfo, VaultList, VaultListRequest,
};
use serde_json::{Value, json};

fn token() -> SecretString {
    SecretString::from("SECRET")
}

/// The body of a request, with its path.
fn body<R: RestRequest>(request: &R) -> (&'static str, Value) {
    (R::PATH, serde_json::to_value(request).expect("a body is JSON"))
}

fn refusal<R: RestReply>(body: &[u8]) -> String {
    match R::parse(body) {
        Ok(_) => panic!("{} is accepted", String::from_utf8_lossy(body)),
        Err(error) => error.to_string(),
    }
}

#[test]
fn requests_are_written_as_the_protocol_has_them() {
    let id = VaultId::try_new("abc").expect("an id");
    let sign_in = SignInRequest { email: "a@example.com".to_owned(), password: token(), mfa: "".into() };
    let list =
        VaultListRequest { token: token(), supported_encryption_version: SUPPORTED_ENCRYPTION_VERSION };
    let managed = CreateVaultRequest {
        token: token(),
        name: "Notes".to_owned(),
        keyhash: None,
        salt: None,
        region: String::new(),
        encryption_version: EncryptionVersion::V3,
    };
    let end_to_end = CreateVaultRequest {
        keyhash: Some(KeyHash::from("ff")),
        salt: Some("00".to_owned()),
        ..managed.clone()
    };
    let access = VaultAccessRequest {
        token: token(),
        vault_uid: id,
        keyhash: KeyHash::from("ff"),
        host: "sync-1.obsidian.md".to_owned(),
        encryption_version: EncryptionVersion::V0,
    };
    for ((path, body), (expected_path, expected)) in [
        (body(&sign_in), ("/user/signin", json!({"email":"a@example.com","password":"SECRET","mfa":""}))),
        (body(&SignOutRequest { token: token() }), ("/user/signout", json!({"token":"SECRET"}))),
        (body(&UserInfoRequest { token: token() }), ("/user/info", json!({"token":"SECRET"}))),
        (body(&list), ("/vault/list", json!({"token":"SECRET","supported_encryption_version":3}))),
        (body(&RegionsRequest { token: token(), host: None }), ("/vault/regions", json!({"token":"SECRET"}))),
        (
            body(&managed),
            (
                "/vault/create",
                json!({"token":"SECRET","name":"Notes","keyhash":null,"region":"","encryption_version":3}),
            ),
        ),
        (
            body(&end_to_end),
            (
                "/vault/create",
                json!({"token":"SECRET","name":"Notes","keyhash":"ff","salt":"00","region":"",
                    "encryption_version":3}),
            ),
        ),
        (
            body(&access),
            (
                "/vault/access",
                json!({"token":"SECRET","vault_uid":"abc","keyhash":"ff","host":"sync-1.obsidian.md",
                    "encryption_version":0}),
            ),
        ),
    ] {
        assert_eq!((path, body), (expected_path, expected));
    }
}

#[test]
fn requests_can_be_read_by_a_server_for_tests() {
    let request: SignInRequest =
        serde_json::from_value(json!({"email":"a","password":"p","new":1})).expect("a request");
    assert_eq!((request.password.expose_secret(), request.mfa.expose_secret()), ("p", ""));
    let request: CreateVaultRequest =
        serde_json::from_value(json!({"token":"t","name":"n","keyhash":null,"encryption_version":3}))
            .expect("a request");
    assert!(request.keyhash.is_none() && request.salt.is_none());
}

#[test]
fn an_error_in_an_answer_is_always_a_failure() {
    for (body, reason) in [
        (r#"{"error":"Login failed"}"#, "Login failed"),
        (r#"{"error":"2FA code is incorrect","token":"t"}"#, "2FA code is incorrect"),
        (r#"{"token":"t","error":""}"#, "the service gave no reason"),
        (r#"{"token":"t","error":null}"#, "the service gave no reason"),
        (r#"{"token":"t","error":{"code":1}}"#, "the service gave no reason"),
        (r#"{"error":"two\nlines"}"#, "twolines"),
    ] {
        let expected = RestError::Service(reason.to_owned());
        assert_eq!(SignedIn::parse(body.as_bytes()).expect_err(body), expected);
        assert_eq!(Done::parse(body.as_bytes()), Err(expected));
    }
    assert_eq!(refusal::<Done>(br#"{"error":"overloaded"}"#), "the service answered: overloaded");
}

#[test]
fn signing_in_gives_a_token() {
    let signed_in = SignedIn::parse(br#"{"token":"t","name":"A","email":"a@example.com","license":""}"#);
    let signed_in = signed_in.expect("signed in");
    assert_eq!(signed_in.token.expose_secret(), "t");
    assert_eq!((signed_in.name.as_str(), signed_in.email.as_str()), ("A", "a@example.com"));
    assert_eq!(refusal::<SignedIn>(b"{}"), "answer to signing in: the field `token` is missing");
    assert_eq!(
        refusal::<SignedIn>(br#"{"token":""}"#),
        "answer to signing in: the field `token` has a value that it cannot have"
    );
}

#[test]
fn user_information_takes_a_uid_of_either_kind() {
    for uid in ["7", "\"7\""] {
        let body = format!(r#"{{"uid":{uid},"name":"A","email":"a@example.com","mfa":true,"credit":0}}"#);
        let info = UserInfo::parse(body.as_bytes()).expect("user information");
        assert_eq!((info.uid.as_str(), info.mfa), ("7", true));
    }
}

#[test]
fn vaults_are_listed_own_and_shared() {
    let vault = |id: &str, password: &str, version: u64| {
        json!({"id":id,"uid":"u","name":"Notes","password":password,"salt":"s","created":1.7e12,
            "host":"sync-1.obsidian.md","region":"eu","size":10,"encryption_version":version,"new":[]})
    };
    let body = json!({"vaults":[vault("a", "", 3), vault("b", "SECRET", 0), vault("c", "", 9)],
        "shared":[vault("d", "", 2)],"limit":5});
    let list = VaultList::parse(body.to_string().as_bytes()).expect("a list");
    let [end_to_end, managed, future] = &list.vaults[..] else { panic!("three vaults") };
    assert!(end_to_end.password.is_none());
    assert_eq!(end_to_end.encryption(), Ok(EncryptionVersion::V3));
    assert_eq!(managed.password.as_ref().map(|password| password.expose_secret()), Some("SECRET"));
    assert_eq!(future.encryption(), Err(UnsupportedEncryption(9)));
    assert_eq!((list.shared[0].id.as_str(), list.limit), ("d", Some(5)));
    assert_eq!(end_to_end.created, 1_700_000_000_000);
    assert!(!format!("{list:?}").contains("SECRET"));
}

#[test]
fn a_vault_that_cannot_be_read_does_not_hide_the_others() {
    let vault = |id: &str, field: &str, value: serde_json::Value| {
        let mut vault = json!({"id":id,"name":"Notes","salt":"s","host":"sync-1.obsidian.md"});
        vault[field] = value;
        vault
    };
    let long = |length: usize| json!("x".repeat(length));
    let body = json!({"vaults":[
        vault("!", "size", json!(1)),
        vault("a", "host", long(262)),
        vault("b", "salt", long(1025)),
        vault("c", "password", long(1025)),
        vault("d", "name", long(1025)),
        vault("e", "password", json!(7)),
        vault("f", "size", json!(1e300)),
        vault("g", "name", long(1024)),
    ]});
    let list = VaultList::parse(body.to_string().as_bytes()).expect("a list");
    assert_eq!((list.vaults.len(), list.unreadable), (1, 7));
    assert_eq!(list.vaults[0].id.as_str(), "g");
}

#[test]
fn texts_that_would_be_kept_are_refused_when_they_are_longer_than_their_limits() {
    let signed_in = |token: usize, name: usize| {
        let body = json!({"token":"t".repeat(token),"name":"n".repeat(name)});
        SignedIn::parse(body.to_string().as_bytes()).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(signed_in(8192, 1024), Ok(()));
    assert_eq!(signed_in(5 << 20, 1), Err("answer to signing in: the field `token` is too long".to_owned()));
    assert_eq!(signed_in(1, 1025), Err("answer to signing in: the field `name` is too long".to_owned()));
    let vaults = vec!["{}"; 10_001].join(",");
    let body = format!(r#"{{"vaults":[{vaults}]}}"#);
    assert_eq!(refusal::<VaultList>(body.as_bytes()), "vault list: the field `vaults` has too many elements");
}

#[test]
fn a_list_that_a_server_for_tests_writes_is_read_as_it_was() {
    let vault = VaultInfo {
        id: VaultId::try_new("abc").expect("an id"),
        uid: "abc".to_owned(),
        name: "Notes".to_owned(),
        password: Some(token()),
        salt: "00".to_owned(),
        created: 5,
        host: "127.0.0.1:80".to_owned(),
        region: "here".to_owned(),
        size: 7,
        encryption_version: 3,
    };
    let list = VaultList { vaults: vec![vault], shared: Vec::new(), limit: None, unreadable: 0 };
    let body = serde_json::to_value(&list).expect("a body is JSON");
    assert_eq!(body["vaults"][0]["password"], "SECRET");
    let read = VaultList::parse(body.to_string().as_bytes()).expect("just written");
    assert_eq!(serde_json::to_value(&read).expect("a body is JSON"), body);
}

#[test]
fn regions_and_created_vaults_are_read() {
    let regions = Regions::parse(br#"{"regions":[{"name":"Europe","value":"eu"}]}"#).expect("regions");
    assert_eq!((regions.regions[0].name.as_str(), regions.regions[0].value.as_str()), ("Europe", "eu"));
    let vault =
        CreatedVault::parse(br#"{"id":"abc","name":"Notes","region":"eu","host":"x"}"#).expect("a vault");
    assert_eq!((vault.id.as_str(), vault.name.as_str(), vault.region.as_str()), ("abc", "Notes", "eu"));
}

#[test]
fn wrong_answers_are_refused_without_showing_what_they_hold() {
    for (error, sentence) in [
        (
            refusal::<SignedIn>(br#"{"token":["SECRET"]}"#),
            "answer to signing in: the field `token` is not text",
        ),
        (refusal::<SignedIn>(b"<html>SECRET"), "answer to signing in: not valid JSON (line 1, column 1)"),
        (refusal::<SignedIn>(b"\"SECRET\""), "answer to signing in: not a JSON object"),
        (
            refusal::<SignedIn>(b"{\"token\":\"\xff\"}"),
            "answer to signing in: not valid JSON (line 1, column 11)",
        ),
        (
            refusal::<VaultList>(br#"{"vaults":["SECRET"]}"#),
            "vault list: the field `vaults` is not a list of objects",
        ),
        (refusal::<Regions>(br#"{"regions":[{}]}"#), "region of the list: the field `value` is missing"),
    ] {
        assert_eq!(error, sentence);
    }
}

#[test]
fn secrets_in_requests_are_not_shown_by_debug() {
    let request = SignInRequest { email: "a".to_owned(), password: token(), mfa: "SECRET".into() };
    assert!(!format!("{request:?}").contains("SECRET"));
}
