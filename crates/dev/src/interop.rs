//! `obsync-dev interop`: tries obsync against another vendor's server, and prints the results as rows of a
//! table.
//!
//! `dev/interop/run` installs and starts the servers. [`remote_place`] adapts one of them to the conformance
//! suite, [`pulls`] pulls the fixtures, [`questions`] probes how S3 handles conditions, [`function`] runs the
//! function in AWS's emulator, [`row`] formats the result.

mod bucket;
mod function;
mod pulls;
mod questions;
mod remote_place;
mod row;

use std::panic;

use anyhow::{Context, Result, bail};
use obsync_bucket::{BucketLocation, Service};
use obsync_conformance::check_destination;

use self::bucket::RemoteBucket;
use self::questions::Questions;
use self::row::InteropRow;
use crate::args::{InteropBucket, InteropFunction, InteropOptions, InteropSubject};
use crate::console::{note, say};

/// Runs the requested trial, and prints its row.
///
/// # Errors
/// When obsync breaks a guarantee with the server.
pub(crate) async fn run(options: &InteropOptions) -> Result<()> {
    // For the HTTP clients that are made here. Nothing else in this process selects one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let row = match &options.subject {
        InteropSubject::Bucket(options) => bucket_row(options).await?,
        InteropSubject::Function(options) => function_row(options).await?,
    };
    say(&row.to_string());
    Ok(())
}

async fn bucket_row(options: &InteropBucket) -> Result<InteropRow> {
    let location = BucketLocation::parse(&options.bucket)?;
    let bucket = RemoteBucket::open(&location)?;
    let mut row = InteropRow::new(&options.name);
    if location.service() == Service::S3 {
        let questions = Questions::from_environment(location.bucket())?;
        questions.create_bucket(options.versioned, options.object_lock).await?;
        questions.ask_all(&mut row).await?;
    } else {
        questions::ask_library(&bucket, &mut row).await?;
    }
    note(&format!("{}: conformance", options.name));
    check_conformance(bucket.clone()).await?;
    row.add("all promises hold");
    note(&format!("{}: pulls", options.name));
    row.add(&pulls::pull_everything(&bucket).await?);
    Ok(row)
}

/// Runs the suite as a separate task, since a broken guarantee is a panic.
async fn check_conformance(bucket: RemoteBucket) -> Result<()> {
    let suite = tokio::task::spawn_blocking(move || {
        tokio::runtime::Handle::current().block_on(check_destination(async || bucket.fresh_site()));
    });
    match suite.await {
        Ok(()) => Ok(()),
        Err(error) => match error.try_into_panic() {
            Ok(broken) => panic::resume_unwind(broken),
            Err(_) => bail!("the conformance suite was ended"),
        },
    }
}

async fn function_row(options: &InteropFunction) -> Result<InteropRow> {
    let mut row = InteropRow::new(&options.name);
    row.add(&function::sync_everything(options).await.context("the function in the emulator")?);
    Ok(row)
}
