//! `obsync aws init`: creates a bucket and a table for vaults, or prints what it would do.

use aws_config::{Region, SdkConfig};
use obsync_bucket::{BucketOptions, BucketSettings};
use obsync_core::Ending;
use serde::Serialize;
use serde_json::Value;

use crate::answer::Answer;
use crate::args::AwsInit;
use crate::context::Context;
use crate::exit::{Exit, Failed};
use crate::install::{BucketInstaller, BucketStep, TableInstaller, TableStatus, TableStep, policy_for_pulls};
use crate::target::aws;

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct AwsDocument {
    /// True if nothing was changed.
    dry_run: bool,
    /// The region of bucket and table.
    region: String,
    /// The bucket.
    bucket: Place,
    /// The table.
    table: Place,
    /// The IAM policy that a user or role needs for pulling there.
    policy: Value,
}

/// Changes to a bucket or a table, made or planned.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Place {
    /// Its name.
    name: String,
    /// The steps, for scripts.
    steps: Vec<&'static str>,
    #[serde(skip)]
    sentences: Vec<String>,
}

pub(super) async fn init(options: &AwsInit, context: &Context) -> Result<Exit, Failed> {
    let config = config(options, context).await?;
    let Some(region) = config.region() else {
        let message = "no AWS region is set; give --region REGION, such as eu-central-1, or set AWS_REGION";
        return Err(Failed::new(Exit::Usage, message));
    };
    // The bucket first: its name may be taken, and then nothing must be done.
    let bucket = Box::pin(bucket(options, &config, region.as_ref(), context)).await?;
    let table = Box::pin(table(options, &config, context)).await?;
    let region = region.to_string();
    let key = options.kms_key.as_deref();
    let policy = policy_for_pulls(&options.bucket, options.table.as_str(), &region, key);
    let document = AwsDocument { dry_run: options.dry_run, region, bucket, table, policy };
    match options.json {
        true => {
            let outcome = if options.dry_run { Ending::DryRun } else { Ending::Complete };
            context.console.answer(&Answer::new(Exit::Done, None, document).with_outcome(outcome))?;
        }
        false => context.say(&document.describe())?,
    }
    Ok(Exit::Done)
}

async fn config(options: &AwsInit, context: &Context) -> Result<SdkConfig, Failed> {
    let config = context.aws().await?.clone();
    Ok(match options.region.clone() {
        Some(region) => config.into_builder().region(Region::new(region)).build(),
        None => config,
    })
}

async fn bucket(
    options: &AwsInit,
    config: &SdkConfig,
    region: &str,
    context: &Context,
) -> Result<Place, Failed> {
    let ways = BucketOptions {
        retries: context.bucket_retries(),
        network: context.network().clone(),
        ..BucketOptions::default()
    };
    let settings = BucketSettings::open(&options.bucket, &ways, config).await?;
    let (key, limit) = (options.kms_key.clone(), context.aws_limit());
    let installer = BucketInstaller::new(settings, &options.bucket, region, key, limit);
    let steps = if options.dry_run { installer.missing().await? } else { installer.set_up().await? };
    Ok(Place {
        name: format!("s3://{}", options.bucket),
        steps: steps.iter().copied().map(bucket_word).collect(),
        sentences: steps.iter().map(ToString::to_string).collect(),
    })
}

async fn table(options: &AwsInit, config: &SdkConfig, context: &Context) -> Result<Place, Failed> {
    let table = aws::table(config, &options.table, context.table_retries());
    let installer = TableInstaller::new(table);
    let steps = if options.dry_run {
        let status = installer.status().await?;
        if let TableStatus::Unusable { reason } = status {
            let message = format!("the table {} cannot be used: {reason}", options.table);
            return Err(Failed::new(Exit::Error, message));
        }
        status.steps()
    } else {
        installer.set_up().await?
    };
    Ok(Place {
        name: options.table.to_string(),
        steps: steps.iter().copied().map(table_word).collect(),
        sentences: steps.iter().map(ToString::to_string).collect(),
    })
}

impl AwsDocument {
    fn describe(&self) -> String {
        let mut lines = Vec::new();
        for place in [&self.bucket, &self.table] {
            let name = &place.name;
            lines.push(match (place.sentences.is_empty(), self.dry_run) {
                (true, _) => format!("{name} in {} is ready.", self.region),
                (false, true) => format!("{name} in {}, to be done:", self.region),
                (false, false) => format!("{name} in {}, done:", self.region),
            });
            lines.extend(place.sentences.iter().map(|sentence| format!("  {sentence}")));
        }
        lines.push(
            "Users and roles that pull there need this policy (IAM, \"Create policy\", JSON):".to_owned(),
        );
        lines.push(format!("{:#}", self.policy));
        if !self.dry_run {
            lines.push(format!(
                "Next: `obsync pull VAULT {}/PREFIX --state {}`.",
                self.bucket.name, self.table.name
            ));
        }
        lines.join("\n")
    }
}

fn bucket_word(step: BucketStep) -> &'static str {
    match step {
        BucketStep::Create => "create",
        BucketStep::Tag => "tag",
        BucketStep::OwnObjects => "own_objects",
        BucketStep::BlockPublicAccess => "block_public_access",
        BucketStep::KeepVersions => "keep_versions",
        BucketStep::Encrypt => "encrypt",
        BucketStep::AbortUploads => "abort_uploads",
        BucketStep::ForgetVersions => "forget_versions",
        BucketStep::RequireTls => "require_tls",
    }
}

fn table_word(step: TableStep) -> &'static str {
    match step {
        TableStep::Create => "create",
        TableStep::ExpireItems => "expire_items",
        TableStep::MakeRestorable => "make_restorable",
    }
}
