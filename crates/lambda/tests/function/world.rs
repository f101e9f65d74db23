//! A world of its own for each test: a sync server, a cloud, and the function in it.

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
/// Its password.
pub(crate) const PASSWORD: &str = "account-s3cret";
/// The password of the end-to-end encrypted vault `Private`.
pub(crate) const VAULT_PASSWORD: &str = "vault-s3cret";
/// The bucket.
pub(crate) const BUCKET: &str = "vaults";
/// What its keys begin with.
pub(crate) const PREFIX: &str = "notes";
/// The table.
pub(crate) const TABLE: &str = "obsync-state";
/// The secret.
pub(crate) const SECRET: &str = "obsync";

/// The program: as built for tests, or the one that `OBSYNC_TEST_BOOTSTRAP` names, to measure what is deployed.
fn program() -> String {
    std::env::var("OBSYNC_TEST_BOOTSTRAP").unwrap_or_else(|_| env!("CARGO_BIN_EXE_bootstrap").to_owned())
}

/// How many files a large vault has: `usual`, or what `OBSYNC_TEST_FILES` says, to measure with more.
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

    /// A server with the account [`EMAIL`] and whatever else the test wants.
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

    /// The function as the template sets it up.
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
            // How fast it starts is measured elsewhere, on a machine that does nothing else.
            init_timeout: Duration::from_secs(120),
            ..LambdaOptions::new(program())
        }
    }

    /// The function with further variables, or others.
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

    /// Lets the lease that somebody may have of a vault run out, as if a day had passed for the table. The function is a process of
    /// its own with the system's clock.
    pub(crate) fn end_lease(&self, vault: &str) {
        let id = self.vault(vault).id().to_string();
        self.cloud.dynamodb().age(TABLE, &id, "lease_expires", 24 * 3600).unwrap();
    }

    /// How the objects below a place differ from what a vault should be; empty when they are exactly that.
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

    /// That the vault is in the bucket exactly, and nothing is left lying about.
    #[track_caller]
    pub(crate) fn assert_exact(&self, vault: &str) {
        let expected = self.vault(vault).expected().unwrap();
        assert_eq!(self.differences(vault, &expected), [""; 0]);
        assert_eq!(self.cloud.s3().uploads(BUCKET).len(), 0, "no upload is left open");
    }
}

/// Writes as many small notes, in some folders.
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

/// Runs the function, which has this long.
pub(crate) async fn invoke_for(function: &LambdaRuntime, event: &Value, milliseconds: u64) -> Invocation {
    let timeout = Some(Duration::from_millis(milliseconds));
    function.invoke(event, InvokeOptions { timeout, ..InvokeOptions::default() }).await.unwrap()
}

/// The answer of an invocation that has one.
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

/// The schema of what the function answers.
static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schemas/function.json");
    jsonschema::validator_for(&serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()).unwrap()
});

/// Fails if an answer is not what docs/schemas says. That of a queue's messages is Lambda's own, and an HTTP answer has it in
/// its body.
#[track_caller]
fn assert_follows_schema(answer: &Value) {
    let body = answer["body"].as_str().map(|body| serde_json::from_str(body).unwrap());
    if body.is_none() && answer.get("batchItemFailures").is_some() {
        return;
    }
    let answer: &Value = body.as_ref().unwrap_or(answer);
    assert_eq!(schema_faults(answer), [""; 0], "{answer:#}");
}

/// Why a document is not what the function answers; nothing if it is.
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
