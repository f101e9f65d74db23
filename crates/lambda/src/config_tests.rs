//! The function's variables: valid ones, invalid ones, and their errors.

use std::collections::HashMap;

use super::*;

const LEAST: [(&str, &str); 2] = [("S3_BUCKET", "my-bucket"), ("OBSYNC_SECRET_NAME", "obsync")];

fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    Config::read(|name| variables.get(name).map(OsString::from))
}

fn with(more: &[(&'static str, &'static str)]) -> Result<Config, ConfigError> {
    read(&[&LEAST[..], more].concat())
}

#[test]
fn a_bucket_and_a_secret_are_enough() {
    let config = read(&LEAST).unwrap();
    assert_eq!(config.root.to_string(), "s3://my-bucket");
    assert_eq!(config.table.as_str(), "obsync-state");
    assert_eq!((config.checkpoint_files, config.concurrency), (100, 5));
    assert_eq!((config.timeout_buffer, config.memory), (None, None));
    assert!(config.progress);
    assert_eq!(config.chains, Limits { steps: 0, daily: 2000 });
    assert_eq!(config.resume_within, Duration::from_secs(3600));
    assert_eq!(config.memory_check, Duration::from_secs(5));
    assert_eq!(config.scratch, 400 << 20);
}

#[test]
fn every_variable_is_taken() {
    let config = with(&[
        ("S3_PREFIX", "/notes/all/"),
        ("STATE_TABLE_NAME", "states"),
        ("LAMBDA_MAX_MEMORY_MB", "128"),
        ("LAMBDA_BATCH_SIZE", "7"),
        ("LAMBDA_MAX_CONCURRENT", "2"),
        ("LAMBDA_TIMEOUT_BUFFER", "10"),
        ("LAMBDA_ENABLE_PROGRESS", "FALSE"),
        ("OBSYNC_SELF_CONTINUE", "true"),
        ("OBSYNC_SELF_CONTINUE_LIMIT", "3"),
        ("OBSYNC_EXCLUDE", "Archive/, Private"),
        ("OBSYNC_FILE_TYPES", "image,pdf"),
        ("OBSYNC_CONFIG_DIR", ".obsidian, .obsidian-mobile"),
        ("S3_STORAGE_CLASS", "STANDARD_IA"),
        ("OBSYNC_KEEP_DELETED", "1"),
        ("OBSYNC_DEAD_LETTER_QUEUE", "https://sqs.eu-central-1.amazonaws.com/123456789012/letters"),
        ("OBSYNC_QUEUE", "https://sqs.eu-central-1.amazonaws.com/123456789012/vaults"),
        ("OBSYNC_METRICS", "vaults"),
    ])
    .unwrap();
    assert_eq!(config.root.to_string(), "s3://my-bucket/notes/all");
    assert_eq!(config.table.as_str(), "states");
    assert_eq!(config.memory, Some(128 << 20));
    assert_eq!((config.checkpoint_files, config.concurrency), (7, 2));
    assert_eq!(config.timeout_buffer, Some(Duration::from_secs(10)));
    assert!(!config.progress);
    assert_eq!(config.chains.steps, 3);
    assert_eq!(config.filter.excluded.len(), 2);
    assert_eq!(config.filter.config_dirs, [".obsidian", ".obsidian-mobile"]);
    assert_eq!(config.objects.storage_class.as_deref(), Some("STANDARD_IA"));
    assert!(config.objects.keep_deleted);
    assert!(config.queue.is_some_and(|queue| queue.ends_with("/vaults")));
    assert_eq!(config.metrics, Metrics::Vaults);
    assert!(config.dead_letters.is_some_and(|queue| queue.ends_with("/letters")));
}

#[test]
fn destinations_of_events_are_buckets_or_prefixes() {
    let config = with(&[("OBSYNC_ALLOW_DESTINATIONS", "copies, archive/2026/notes/")]).unwrap();
    let places: Vec<String> = config.destinations.iter().map(BucketLocation::to_string).collect();
    assert_eq!(places, ["s3://copies", "s3://archive/2026/notes"]);
    for wrong in ["*", "copies/*", "s3://copies", "copies/../x", "x"] {
        let error = read(&[LEAST[0], LEAST[1], ("OBSYNC_ALLOW_DESTINATIONS", wrong)]).unwrap_err();
        assert!(error.problems.contains_key("OBSYNC_ALLOW_DESTINATIONS"), "{wrong}");
    }
}

#[test]
fn all_problems_are_told_at_once_with_the_names_of_their_variables() {
    let error = read(&[
        ("S3_PREFIX", "a//b"),
        ("S3_BUCKET", "my-bucket"),
        ("STATE_TABLE_NAME", "a table"),
        ("LAMBDA_MAX_MEMORY_MB", "lots"),
        ("LAMBDA_BATCH_SIZE", "0"),
        ("LAMBDA_MAX_CONCURRENT", "-1"),
        ("LAMBDA_TIMEOUT_BUFFER", "30s"),
        ("LAMBDA_ENABLE_PROGRESS", "maybe"),
        ("OBSIDIAN_EMAIL", "me@example.com"),
        ("OBSIDIAN_TOTP_SECRET", "geheim1"),
        ("OBSYNC_API_URL", "http://example.com"),
        ("OBSYNC_ENCRYPTION", "strong"),
        ("OBSYNC_DEAD_LETTER_QUEUE", "letters"),
        ("OBSYNC_QUEUE", "vaults"),
        ("OBSYNC_METRICS", "some"),
        ("OBSYNC_FILE_TYPES", "images"),
        ("OBSYNC_CONFIG_DIR", ".obsidian,a/b"),
        ("OBSYNC_EXCLUDE", "../x"),
    ])
    .unwrap_err();
    let names: Vec<&str> = error.problems.keys().copied().collect();
    assert_eq!(
        names,
        [
            "LAMBDA_BATCH_SIZE",
            "LAMBDA_ENABLE_PROGRESS",
            "LAMBDA_MAX_CONCURRENT",
            "LAMBDA_MAX_MEMORY_MB",
            "LAMBDA_TIMEOUT_BUFFER",
            "OBSIDIAN_PASSWORD",
            "OBSIDIAN_TOTP_SECRET",
            "OBSYNC_API_URL",
            "OBSYNC_CONFIG_DIR",
            "OBSYNC_DEAD_LETTER_QUEUE",
            "OBSYNC_ENCRYPTION",
            "OBSYNC_EXCLUDE",
            "OBSYNC_FILE_TYPES",
            "OBSYNC_METRICS",
            "OBSYNC_QUEUE",
            "S3_PREFIX",
            "STATE_TABLE_NAME",
        ]
    );
    let text = error.to_string();
    assert!(names.iter().all(|name| text.contains(name)), "{text}");
    assert!(!text.contains("geheim"), "{text}");
}

#[test]
fn nothing_set_is_told_as_what_is_needed() {
    let error = read(&[("S3_BUCKET", "")]).unwrap_err();
    assert_eq!(error.problems.keys().copied().collect::<Vec<_>>(), ["OBSYNC_SECRET_NAME", "S3_BUCKET"]);
}

#[test]
fn a_bad_prefix_is_told_though_there_is_no_bucket() {
    let error = read(&[("OBSYNC_SECRET_NAME", "obsync"), ("S3_PREFIX", "a//b")]).unwrap_err();
    assert_eq!(error.problems.keys().copied().collect::<Vec<_>>(), ["S3_BUCKET", "S3_PREFIX"]);
}

#[test]
fn some_time_is_always_kept_to_end_in() {
    let error = with(&[("LAMBDA_TIMEOUT_BUFFER", "0")]).unwrap_err();
    assert!(error.problems["LAMBDA_TIMEOUT_BUFFER"].contains("from 1 to 900"), "{error}");
}

#[test]
fn line_breaks_around_a_token_or_a_secret_of_codes_are_not_part_of_it() {
    let config = with(&[
        ("OBSIDIAN_AUTH_TOKEN", "token\n"),
        ("OBSIDIAN_TOTP_SECRET", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\r\n"),
    ])
    .unwrap();
    assert_eq!(config.account.token.unwrap().expose(), "token");
    assert!(config.account.totp.is_some());
}

#[test]
fn secrets_are_read_from_files_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let config = read(&[
        ("S3_BUCKET", "my-bucket"),
        ("OBSIDIAN_EMAIL_FILE", &file("email", "me@example.com\n")),
        ("OBSIDIAN_PASSWORD_FILE", &file("password", " pw \r\n")),
        ("OBSIDIAN_AUTH_TOKEN_FILE", &file("token", "token\n")),
        ("OBSIDIAN_TOTP_SECRET_FILE", &file("totp", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n")),
        ("OBSYNC_VAULT_PASSWORD_FILE", &file("vault", "vault pw\n")),
    ]);
    let account = config.unwrap().account;
    let (email, password) = account.credentials.unwrap();
    assert_eq!((email.as_str(), password.as_given().expose_secret()), ("me@example.com", " pw "));
    assert_eq!((account.token.unwrap().expose(), account.totp.is_some()), ("token", true));
    assert_eq!(account.vault_password.unwrap().as_given().expose_secret(), "vault pw");
}

#[test]
fn a_secret_file_that_cannot_be_used_is_named_and_its_content_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large");
    std::fs::write(&large, "geheim".repeat(20_000)).unwrap();
    let large = large.to_str().unwrap();
    for (variables, name, reason) in [
        (
            &[("OBSYNC_VAULT_PASSWORD_FILE", "/nowhere/secret")][..],
            "OBSYNC_VAULT_PASSWORD_FILE",
            "/nowhere/secret",
        ),
        (&[("OBSYNC_VAULT_PASSWORD_FILE", large)], "OBSYNC_VAULT_PASSWORD_FILE", "more than"),
        (&[("OBSYNC_VAULT_PASSWORD_FILE", "/")], "OBSYNC_VAULT_PASSWORD_FILE", "not a file"),
        (
            &[("OBSYNC_VAULT_PASSWORD", "geheim"), ("OBSYNC_VAULT_PASSWORD_FILE", large)],
            "OBSYNC_VAULT_PASSWORD_FILE",
            "OBSYNC_VAULT_PASSWORD; unset one",
        ),
    ] {
        let error = read(&[&LEAST[..], variables].concat()).unwrap_err();
        assert!(error.problems[name].contains(reason), "{error}");
        assert!(!error.to_string().contains("geheim"), "{error}");
    }
}

#[test]
fn a_proxy_or_a_file_of_certificates_that_cannot_be_used_is_told_with_its_variable() {
    let error = with(&[("ALL_PROXY", "ftp://me:geheim@proxy")]).unwrap_err();
    assert!(error.problems["HTTPS_PROXY"].contains("ALL_PROXY"), "{error}");
    assert!(!error.to_string().contains("geheim"), "{error}");
    let error = with(&[("AWS_CA_BUNDLE", "/nowhere.pem")]).unwrap_err();
    assert!(error.problems["AWS_CA_BUNDLE"].contains("/nowhere.pem"), "{error}");
    let error = with(&[("OBSYNC_CA_FILE", "/nowhere.pem")]).unwrap_err();
    assert!(error.problems["OBSYNC_CA_FILE"].contains("/nowhere.pem"), "{error}");
    assert!(with(&[("HTTPS_PROXY", "http://proxy:3128"), ("NO_PROXY", "localhost")]).is_ok());
}

#[test]
fn no_secret_is_shown() {
    let config = read(&[
        ("S3_BUCKET", "my-bucket"),
        ("OBSIDIAN_EMAIL", "me@example.com"),
        ("OBSIDIAN_PASSWORD", "hunter2"),
        ("OBSIDIAN_AUTH_TOKEN", "hunter3"),
        ("OBSYNC_VAULT_PASSWORD", "hunter4"),
        ("OBSIDIAN_TOTP_SECRET", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"),
    ])
    .unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter") && !shown.contains("GEZD"), "{shown}");
}

#[test]
fn a_bucket_cannot_bring_a_prefix() {
    for bucket in ["a/b", "s3://bucket", "x", "b ucket"] {
        assert!(location(bucket, "").is_err(), "{bucket}");
    }
    assert_eq!(location("bucket", "/").unwrap().to_string(), "s3://bucket");
}
