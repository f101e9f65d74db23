//! The second half of the demonstration: the same vault in a bucket, by the function for AWS Lambda.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use obsync_testcloud::{Cloud, Invocation, InvokeOptions, LambdaRuntime, Outcome, Service, StoredObject};
use obsync_testkit::{Server, VaultHandle};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::changes;
use super::device::Device;
use super::story::Story;
use crate::check::same_as_bucket;
use crate::child::Identity;
use crate::function::{self, Program};
use crate::human;
use crate::services::{SECRET, Services, Setup, requests};

const BUCKET: &str = "vaults";
const TABLE: &str = "obsync-state";

/// The start of the keys of all vaults.
const PREFIX: &str = "notes";

/// The function's memory size, the smallest one, in MB.
const MEMORY_MB: u32 = 128;

/// Timeout of an invocation: too short for the first one.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Least duration of the first invocation.
const SLOW: Duration = Duration::from_secs(6);

/// The approximate number of checkpoints for the vault, and the most files of each: as many objects as are
/// put at a time.
const CHECKPOINTS: usize = 20;
const CHECKPOINT_MAX: usize = 16;

/// More invocations than any vault of the demonstration needs.
const MOST_INVOCATIONS: usize = 200;

/// The most requests to S3 and DynamoDB together for an invocation with a few changes.
const FEW_REQUESTS: u64 = 48;

/// Number of objects shown.
const SHOWN: usize = 6;

/// A function with its cloud, and the vault to sync there.
pub(super) struct InTheCloud {
    vault: VaultHandle,
    services: Services,
    function: LambdaRuntime,
    files: usize,
    /// The prefix of the vault's objects.
    place: String,
}

impl InTheCloud {
    /// Starts the cloud, with a secret that opens the vault; the function is started by its first invocation.
    pub(super) async fn start(server: &Server, vault: &VaultHandle, identity: &Identity) -> Result<Self> {
        let password = identity.vault_password.as_ref().context("the vault needs a password")?;
        let secret = json!({
            "auth": { "email": identity.email, "password": identity.password.expose_secret() },
            "vaults": { vault.name(): { "password": password.expose_secret() } },
        });
        let services = Services::start(Setup {
            bucket: BUCKET.to_owned(),
            table: TABLE.to_owned(),
            port: 0,
            secret: Some(secret.to_string()),
            files: None,
            event: None,
            api_url: Some(server.url()),
        })
        .await?;
        let files = vault.expected()?.files.len();
        let mut options = Program::this()?.options(MEMORY_MB, TIMEOUT);
        options.env = services.variables();
        let own = [("S3_PREFIX", PREFIX.to_owned()), ("LAMBDA_BATCH_SIZE", checkpoint(files).to_string())];
        options.env.extend(own.map(|(name, value)| (name.to_owned(), value)));
        let function = LambdaRuntime::new(&services.cloud, options);
        let place = format!("{PREFIX}/{}/", vault.name());
        Ok(Self { vault: vault.clone(), services, function, files, place })
    }

    /// Syncs the whole vault, in more than one invocation.
    pub(super) async fn first_sync(&self, story: &mut Story) -> Result<()> {
        story.step(
            "The vault goes to a bucket too: the function for AWS Lambda runs on a cloud on this machine",
        );
        self.introduce(story);
        let before = self.cloud().counts();
        self.slow_down(story);
        let mut invocation = self.invoke(story).await?;
        ensure!(status(&invocation)? == "incomplete", "the first invocation was to be too short");
        self.cloud().faults().clear();
        let (mut count, mut there) = (1, 0);
        while status(&invocation)? == "incomplete" {
            let before = std::mem::replace(&mut there, self.objects().len());
            ensure!(there > before, "an invocation made no progress");
            ensure!(count < MOST_INVOCATIONS, "the vault is not there after {count} invocations");
            invocation = self.invoke(story).await?;
            count += 1;
        }
        ensure!(!invocation.is_cold_start(), "the process of the first invocation was not kept");
        self.tell_progress(story)?;
        tell_metrics(story, &invocation)?;
        story.tell(&format!("requests: {}", requests(&self.cloud().counts().since(&before))));
        self.show(story);
        self.check(story)
    }

    /// Syncs a few changes.
    pub(super) async fn changes(&self, story: &mut Story, laptop: &mut Device) -> Result<()> {
        story.step("The laptop changes a few notes, and the function runs once more, as on a schedule");
        let changes = changes::make_few(laptop).await.context("the laptop cannot send its changes")?;
        story.tell(&changes);
        let before = self.cloud().counts();
        let invocation = self.invoke(story).await?;
        ensure!(status(&invocation)? == "complete", "the changes were not brought over");
        let counts = self.cloud().counts().since(&before);
        story.tell(&format!("requests: {}", requests(&counts)));
        let made = counts.total(Service::S3) + counts.total(Service::DynamoDb);
        ensure!(made < FEW_REQUESTS, "a few changes cost {made} requests: {}", requests(&counts));
        self.check(story)
    }

    /// Ends the function and the cloud.
    pub(super) async fn end(self) {
        self.function.kill().await;
        self.services.shutdown().await;
    }

    fn cloud(&self) -> &Cloud {
        &self.services.cloud
    }

    fn introduce(&self, story: &Story) {
        let cloud = self.cloud();
        let [s3, dynamodb] = [Service::S3, Service::DynamoDb].map(|service| cloud.endpoint(service));
        story.tell(&format!("the bucket {BUCKET} is on {s3}, the table {TABLE} on {dynamodb}"));
        story.tell(&format!(
            "the secret {SECRET} in Secrets Manager has the account and the vault's password"
        ));
        let limit = function::limit(&self.function.options().memory_limit);
        let timeout = human::seconds(TIMEOUT);
        story.tell(&format!("the function has {MEMORY_MB} MB ({limit}) and {timeout} for each invocation"));
    }

    /// Slows S3 down, so that the first invocation cannot finish.
    fn slow_down(&self, story: &Story) {
        let checkpoints = self.files.div_ceil(checkpoint(self.files));
        let latency = SLOW / u32::try_from(checkpoints).unwrap_or(u32::MAX).max(1);
        self.cloud().faults().update(|faults| {
            faults.s3.operations = vec!["PutObject".to_owned()];
            faults.s3.latency = latency;
        });
        let latency = human::seconds(latency);
        story.tell(&format!("S3 is made to take {latency} for each object during the first invocation"));
    }

    /// Runs the function for the vault, and prints the result.
    async fn invoke(&self, story: &Story) -> Result<Invocation> {
        let event = json!({ "action": "sync", "vault_id": self.vault.name() });
        let timeout = TIMEOUT.as_secs();
        story.command(&format!(
            "echo '{event}' | obsync-dev invoke - --memory {MEMORY_MB} --timeout {timeout}"
        ));
        let invocation = self.function.invoke(&event, InvokeOptions::default()).await?;
        story.tell(&function::summary(&invocation, MEMORY_MB));
        let Some(answer) = invocation.answer() else {
            bail!("the function {}\n{}", function::outcome(&invocation.outcome), invocation.logs.join("\n"));
        };
        let left = &answer["vaults"][0]["remaining"];
        let left = match left["files"].as_u64().unwrap_or_default() {
            0 => String::new(),
            files => {
                let bytes = left["bytes"].as_u64().unwrap_or_default();
                format!("; {} ({}) are left", human::files(files), human::size(bytes))
            }
        };
        let there = human::counted(self.objects().len() as u64, "object", "objects");
        story.tell(&format!("the bucket has {there} of the vault now{left}"));
        Ok(invocation)
    }

    /// Prints the table's progress record of the run.
    fn tell_progress(&self, story: &Story) -> Result<()> {
        let item = self.cloud().dynamodb().item(TABLE, &format!("progress#{}", self.vault.id()))?;
        let data = item.as_ref().and_then(|item| item["data"]["S"].as_str());
        let record: Value = serde_json::from_str(data.context("the table has no progress of the vault")?)?;
        let number = |name: &str| record[name].as_u64().unwrap_or_default();
        ensure!(record["status"] == "complete", "the progress is not that of a complete run: {record}");
        story.tell(&format!(
            "progress in the table: {} of {}, complete, version {}, after {}",
            human::number(number("files_complete")),
            human::files(number("files_total")),
            number("last_version"),
            human::counted(number("invocations"), "invocation", "invocations")
        ));
        Ok(())
    }

    fn objects(&self) -> Vec<StoredObject> {
        self.cloud().s3().files(BUCKET, &self.place)
    }

    /// Some of the objects, the largest first.
    fn show(&self, story: &Story) {
        let mut objects = self.objects();
        let count = objects.len();
        objects.sort_by_key(|object| std::cmp::Reverse(object.content.len()));
        story.tell(&format!(
            "{BUCKET}/{} has {} ({}), the largest and the smallest of them:",
            self.place,
            human::counted(count as u64, "object", "objects"),
            human::size(objects.iter().map(|object| object.content.len() as u64).sum())
        ));
        let half = SHOWN / 2;
        let ends = objects.iter().enumerate().filter(|(at, _)| *at < half || *at + half >= count);
        ends.for_each(|(_, object)| story.tell(&format!("  {}", line(object, &self.place))));
    }

    fn check(&self, story: &Story) -> Result<()> {
        same_as_bucket(&self.vault, &self.objects(), &self.place)?;
        let uploads = self.cloud().s3().uploads(BUCKET).len();
        ensure!(uploads == 0, "{uploads} multipart uploads were left behind");
        story.checked("the bucket is the vault: every key, byte and time; no upload was left behind");
        Ok(())
    }
}

/// Number of files in a checkpoint.
fn checkpoint(files: usize) -> usize {
    (files / CHECKPOINTS).clamp(1, CHECKPOINT_MAX)
}

fn status(invocation: &Invocation) -> Result<String> {
    match &invocation.outcome {
        Outcome::Answer(answer) => function::status(answer).context("the answer has no status"),
        other => bail!("the function {}", function::outcome(other)),
    }
}

/// The line that CloudWatch turns into metrics.
fn tell_metrics(story: &Story, invocation: &Invocation) -> Result<()> {
    let logs = invocation.json_logs();
    let metrics = logs.iter().find(|line| line["message"] == "Sync metrics");
    let metrics = metrics.context("the function logged no metrics")?;
    let names = [
        "metric_type",
        "vault_id",
        "files_synced",
        "bytes_synced",
        "duration_ms",
        "memory_used_mb",
        "success",
    ];
    let shown: Vec<String> = names.iter().map(|name| format!("{name} {}", metrics[*name])).collect();
    story.tell(&format!("metrics in the log: {}", shown.join(", ")));
    Ok(())
}

/// An object with its size, its type and its metadata.
fn line(object: &StoredObject, place: &str) -> String {
    let metadata = |name: &str| object.metadata.get(name).map_or("", String::as_str);
    let mtime = metadata("mtime").parse().map_or_else(|_| "-".to_owned(), human::date);
    let sha256: String = metadata("sha256").chars().take(8).collect();
    format!(
        "{:>9}  {:<16}  uid {:>5}  {mtime}  sha256 {sha256}…  {}",
        human::size(object.content.len() as u64),
        object.content_type.as_deref().unwrap_or("-"),
        metadata("uid"),
        object.key.strip_prefix(place).unwrap_or(&object.key)
    )
}
