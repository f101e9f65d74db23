//! A separate world for each test: a sync server, a cloud, and the function in it.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use jsonschema::Validator;
use obsync_testcloud::{
    Cloud, CloudOptions, Invocation, InvokeOptions, LambdaOptions, LambdaRuntime, Outcome,
};
use obsync_testkit::{Expected, Server, ServerBuilder, VaultHandle, VaultSpec};
use serde_json::{Value, json};

/// The account of every world.
pub(crate) const EMAIL: &str = "me@example.com";
pub(crate) const PASSWORD: &str = "account-s3cret";
/// The password of the end-to-end encrypted vault `Private`.
pub(crate) const VAULT_PASSWORD: &str = "vault-s3cret";
pub(crate) const BUCKET: &str = "vaults";
/// The start of its keys.
pub(crate) const PREFIX: &str = "notes";
pub(crate) const TABLE: &str = "obsync-state";
pub(crate) const SECRET: &str = "obsync";

/// The program: as built for tests, or the one that `OBSYNC_TEST_BOOTSTRAP` names, to measure a deployed one.
fn program() -> String {
    std::env::var("OBSYNC_TEST_BOOTSTRAP").unwrap_or_else(|_| env!("CARGO_BIN_EXE_bootstrap").to_owned())
}

/// Number of files in a large vault: `usual`, or the value of `OBSYNC_TEST_FILES`, to measure with more.
pub(crate) fn many(usual: usize) -> usize {
    std::env::var("OBSYNC_TEST_FILES").map_or(usual, |files| files.parse().unwrap())
}

pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) cloud: Cloud,
}

impl World {
    /// A server with the account [`EMAIL`] and the vaults `Notes` (standard) and `Private` (end-to-end).
    pub(crate) async fn new() -> Self {
        Self::with(|builder| {
            builder.vault(VaultSpec::managed("Notes")).vault(VaultSpec::end_to_end("Private", VAULT_PASSWORD))
        })
        .await
    }

    /// A server with the account [`EMAIL`] and further contents.
    pub(crate) async fn with(more: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        let server = more(Server::builder().user(EMAIL, PASSWORD)).start().await.unwrap();
        let cloud = Cloud::start(CloudOptions::default()).await.unwrap();
        cloud.s3().create_bucket(BUCKET);
        cloud.dynamodb().create_table(TABLE).unwrap();
        let world = World { server, cloud };
        world.put_secret(&json!({
            "auth": { "email": EMAIL, "password": PASSWORD },
            "vaults": { "Private": { "password": VAULT_PASSWORD } },
        }));
        world
    }

    pub(crate) fn put_secret(&self, secret: &Value) {
        self.cloud.secrets().put(SECRET, &secret.to_string());
    }

    /// The function as in the template.
    pub(crate) fn options(&self) -> LambdaOptions {
        let url = self.server.url();
        let variables = [
            ("S3_BUCKET", BUCKET),
            ("S3_PREFIX", PREFIX),
            ("STATE_TABLE_NAME", TABLE),
            ("OBSYNC_SECRET_NAME", SECRET),
            ("OBSYNC_API_URL", url.as_str()),
        ];
        let env = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        LambdaOptions {
            env,
            memory_mb: 256,
            memory_limit: obsync_testcloud::MemoryLimit::Measure,
            timeout: Duration::from_secs(120),
            // The speed of the start is measured elsewhere, on an otherwise idle machine.
            init_timeout: Duration::from_secs(120),
            ..LambdaOptions::new(program())
        }
    }

    /// The function with further or changed variables.
    pub(crate) fn function_with(&self, variables: &[(&str, &str)]) -> LambdaRuntime {
        let mut options = self.options();
        for (name, value) in variables {
            options.env.retain(|(other, _)| other != name);
            options.env.push(((*name).to_owned(), (*value).to_owned()));
        }
        LambdaRuntime::new(&self.cloud, options)
    }

    pub(crate) fn function(&self) -> LambdaRuntime {
        self.function_with(&[])
    }

    pub(crate) fn vault(&self, name: &str) -> VaultHandle {
        self.server.vault(name).unwrap()
    }

    /// Makes another's lease of a vault expire, as if a day had passed for the table. The function is a
    /// separate process with the system's clock.
    pub(crate) fn end_lease(&self, vault: &str) {
        let id = self.vault(vault).id().to_string();
        self.cloud.dynamodb().age(TABLE, &id, "lease_expires", 24 * 3600).unwrap();
    }

    /// The differences of the objects below a place from the expected vault; empty when they are equal.
    pub(crate) fn differences(&self, place: &str, expected: &Expected) -> Vec<String> {
        let prefix = format!("{PREFIX}/{place}/");
        let objects = self.cloud.s3().files(BUCKET, &prefix);
        let mut lines = Vec::new();
        for file in &expected.files {
            let Some(object) = objects.iter().find(|object| object.key[prefix.len()..] == file.path) else {
                lines.push(format!("missing {:?}", file.path));
                continue;
            };
            let hash = obsync_protocol::ContentHash::of(&object.content).to_string();
            let metadata = |name: &str| object.metadata.get(name).map_or("", String::as_str);
            let is_right = hash == file.sha256
                && metadata("sha256") == file.sha256
                && metadata("mtime") == file.mtime_ms.to_string()
                && !metadata("uid").is_empty()
                && object.content_type.is_some();
            if !is_right {
                lines.push(format!("wrong {:?}: {:?}", file.path, object.metadata));
            }
        }
        let is_known = |key: &str| expected.files.iter().any(|file| file.path == key[prefix.len()..]);
        lines.extend(
            objects
                .iter()
                .filter(|object| !is_known(&object.key))
                .map(|object| format!("extra {:?}", object.key)),
        );
        lines
    }

    /// Asserts that the vault is in the bucket exactly, without leftovers.
    #[track_caller]
    pub(crate) fn assert_exact(&self, vault: &str) {
        let expected = self.vault(vault).expected().unwrap();
        assert_eq!(self.differences(vault, &expected), [""; 0]);
        assert_eq!(self.cloud.s3().uploads(BUCKET).len(), 0, "no upload is left open");
    }
}

/// Writes this many small notes, in some folders.
pub(crate) fn write_notes(vault: &VaultHandle, count: usize) {
    for number in 0..count {
        let content = format!("note {number}\n").repeat(1 + number % 50);
        vault
            .write(
                &format!("folder {}/note {number}.md", number % 7),
                content,
                1_700_000_000_000 + number as i64,
            )
            .unwrap();
    }
}

pub(crate) fn sync(vault: &str) -> Value {
    json!({ "action": "sync", "vault_id": vault })
}

/// Runs the function.
pub(crate) async fn invoke(function: &LambdaRuntime, event: &Value) -> Invocation {
    function.invoke(event, InvokeOptions::default()).await.unwrap()
}

/// Runs the function with this much time.
pub(crate) async fn invoke_for(function: &LambdaRuntime, event: &Value, milliseconds: u64) -> Invocation {
    let timeout = Some(Duration::from_millis(milliseconds));
    function.invoke(event, InvokeOptions { timeout, ..InvokeOptions::default() }).await.unwrap()
}

/// The answer of a successful invocation.
#[track_caller]
pub(crate) fn answered(invocation: &Invocation) -> &Value {
    match invocation.answer() {
        Some(answer) => {
            assert_follows_schema(answer);
            answer
        }
        None => panic!("{:?}\n{}", invocation.outcome, invocation.logs.join("\n")),
    }
}

/// The schema of the function's answers.
static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schemas/function.json");
    jsonschema::validator_for(&serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()).unwrap()
});

/// Fails if an answer violates docs/schemas. The answer for a queue's messages has Lambda's format, and an
/// HTTP answer has it in its body.
#[track_caller]
fn assert_follows_schema(answer: &Value) {
    let body = answer["body"].as_str().map(|body| serde_json::from_str(body).unwrap());
    if body.is_none() && answer.get("batchItemFailures").is_some() {
        return;
    }
    let answer: &Value = body.as_ref().unwrap_or(answer);
    assert_eq!(schema_faults(answer), [""; 0], "{answer:#}");
}

/// Why a document is no valid answer; nothing if it is.
pub(crate) fn schema_faults(answer: &Value) -> Vec<String> {
    SCHEMA.iter_errors(answer).map(|error| format!("{}: {error}", error.instance_path)).collect()
}

/// The kind and message of an invocation that failed.
#[track_caller]
pub(crate) fn failed(invocation: &Invocation) -> (&str, &str) {
    match &invocation.outcome {
        Outcome::Failed { kind, message } => (kind, message),
        other => panic!("{other:?}\n{}", invocation.logs.join("\n")),
    }
}

/// The report on the only vault of an answer.
#[track_caller]
pub(crate) fn report(answer: &Value) -> &Value {
    let vaults = answer["vaults"].as_array().unwrap();
    assert_eq!(vaults.len(), 1, "{answer}");
    &vaults[0]
}
