//! `obsync-dev demo`: obsync at work between two devices and into a bucket, every result compared with the
//! expected one.

mod bucket;
mod changes;
mod device;
mod story;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use obsync_testkit::{GeneratorOptions, PIECE_SIZE, Server, VaultHandle, generate};
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;

use crate::args::DemoOptions;
use crate::check::{Snapshot, same_as_vault};
use crate::child::{Identity, Obsync};
use crate::generate::refuse_occupied;
use crate::human;
use crate::measure::Usage;
use crate::pull::{PullReport, Verification};
use bucket::InTheCloud;
use device::{Device, LocalFile};
use story::Story;

const VAULT: &str = "Field notes";
const EMAIL: &str = "demo@example.com";

/// The size of a file that needs several pieces (of 2 MiB), in bytes.
const RECORDING: u64 = 7_000_000;

/// Runs the demonstration.
///
/// # Errors
/// When anything fails or a result differs.
pub(crate) async fn run(options: &DemoOptions) -> Result<()> {
    if let Some(folder) = &options.keep {
        refuse_occupied(folder)?;
    }
    let work = tempfile::tempdir().context("cannot make a temporary folder")?;
    let identity = Identity {
        email: EMAIL.to_owned(),
        password: SecretString::from("the password of the account"),
        vault_password: Some(SecretString::from("the password of the vault")),
    };
    let server = Server::builder().user(EMAIL, identity.password.expose_secret()).start().await?;
    let mut story =
        Story::begin("obsync at work: two devices, one vault, a sync service and a cloud on this machine");

    let mut laptop = write_vault(&mut story, &server, &identity, options).await?;
    let demo = Demo::new(&server, &identity, options, &work)?;
    demo.first_pull(&mut story).await?;
    demo.pull_changes(&mut story, &mut laptop).await?;
    demo.pull_nothing(&mut story).await?;
    demo.verify(&mut story).await?;
    let cloud = InTheCloud::start(&server, &demo.vault, &identity).await?;
    cloud.first_sync(&mut story).await?;
    cloud.changes(&mut story, &mut laptop).await?;
    cloud.end().await;
    story.end(options.keep.as_deref());
    server.shutdown().await;
    Ok(())
}

/// The first device signs in, creates a vault, and sends all its files.
async fn write_vault(
    story: &mut Story,
    server: &Server,
    identity: &Identity,
    options: &DemoOptions,
) -> Result<Device> {
    story.step("The laptop signs in, makes an end-to-end encrypted vault and fills it");
    story.tell(&format!("the service is a development server on {}", server.url()));
    let mut laptop = Device::with_new_vault(&server.url(), identity, VAULT).await?;
    let begun = Instant::now();
    for (path, file) in vault_files(options) {
        laptop.write(&path, file).await.with_context(|| format!("the laptop cannot send {path}"))?;
    }
    let took = begun.elapsed();
    let (files, bytes) = laptop.totals();
    story.tell(&format!(
        "{} ({}) sent over one WebSocket session in {}, the largest ({}) in {} pieces",
        human::files(files),
        human::size(bytes),
        human::seconds(took),
        human::size(RECORDING),
        RECORDING.div_ceil(u64::from(PIECE_SIZE))
    ));
    Ok(laptop)
}

/// The laptop's files: a generated vault, and a recording.
fn vault_files(options: &DemoOptions) -> impl Iterator<Item = (String, LocalFile)> {
    let notes = GeneratorOptions {
        files: options.files - 1,
        seed: options.seed,
        max_size: 2_000_000,
        ..GeneratorOptions::default()
    };
    // A scaled picture or sound beyond the limit has the largest size.
    let recording = GeneratorOptions {
        files: 1,
        seed: options.seed,
        attachments: 1.0,
        configuration: false,
        scale: 1e9,
        max_size: RECORDING,
        ..GeneratorOptions::default()
    };
    let recording =
        generate(recording).map(|file| ("Attachments/Dawn chorus.m4a".to_owned(), LocalFile::from(&file)));
    generate(notes).map(|file| (file.path.clone(), LocalFile::from(&file))).chain(recording)
}

/// The device that pulls.
struct Demo {
    vault: VaultHandle,
    obsync: Arc<Obsync>,
    folder: PathBuf,
    /// The folder as shown in commands.
    shown: String,
}

impl Demo {
    fn new(server: &Server, identity: &Identity, options: &DemoOptions, work: &TempDir) -> Result<Self> {
        let vault = server.vault(VAULT)?;
        if let Some(password) = &identity.vault_password {
            vault.unlock(password)?;
        }
        let obsync = Obsync::new(&work.path().join("home"), &server.url(), identity)?;
        let folder = options.keep.clone().unwrap_or_else(|| work.path().join("notes"));
        let shown = options.keep.as_deref().unwrap_or(Path::new("./notes")).display().to_string();
        Ok(Self { vault, obsync: obsync.into(), folder, shown })
    }

    async fn first_pull(&self, story: &mut Story) -> Result<()> {
        story.step("Another device pulls it");
        story.command(&format!("obsync login --email {EMAIL}"));
        let obsync = self.obsync.clone();
        blocking(move || obsync.login()).await?;
        let (report, usage) = self.pull(story).await?;
        story.tell(&format!(
            "{} ({}) in {}: {} files/s, {} received",
            human::files(report.pulled.files),
            human::size(report.pulled.bytes),
            human::seconds(report.duration()),
            human::per_second(report.pulled.files, report.duration()),
            human::size(report.bytes_received)
        ));
        story.tell(&figures(&report, &usage));
        self.check(story)
    }

    async fn pull_changes(&self, story: &mut Story, laptop: &mut Device) -> Result<()> {
        story.step("The laptop changes things, and the other device pulls the change");
        let changes = changes::make(laptop).await.context("the laptop cannot send its changes")?;
        story.tell(&changes.to_string());
        let (report, usage) = self.pull(story).await?;
        story.tell(&format!(
            "{} ({}) downloaded, {} copied here instead, {} deleted, in {}",
            human::files(report.pulled.files),
            human::size(report.pulled.bytes),
            human::number(report.copied.files),
            human::number(report.deleted.files),
            human::seconds(report.duration())
        ));
        story.tell(&figures(&report, &usage));
        ensure!(
            report.requests <= changes.new_contents(),
            "{} contents were downloaded, but only {} are new",
            report.requests,
            changes.new_contents()
        );
        self.check(story)
    }

    async fn pull_nothing(&self, story: &mut Story) -> Result<()> {
        story.step("Nothing is new");
        let before = Snapshot::of(&self.folder)?;
        let (report, usage) = self.pull(story).await?;
        story.tell(&format!(
            "up to date with version {} in {}",
            report.version,
            human::seconds(report.duration())
        ));
        story.tell(&figures(&report, &usage));
        ensure!(report.is_unchanged(), "a pull with nothing new did something: {report:?}");
        ensure!(report.connections == 1, "a pull with nothing new made {} connections", report.connections);
        ensure!(report.requests == 0, "a pull with nothing new downloaded {} contents", report.requests);
        before.refuse_changes(&self.folder)?;
        story.checked("one connection, no download, and nothing in the folder was written");
        Ok(())
    }

    async fn verify(&self, story: &mut Story) -> Result<()> {
        story.step("Every file is hashed and compared with what was pulled, without a connection");
        story.command(&format!("obsync verify {}", self.shown));
        let (obsync, folder) = (self.obsync.clone(), self.folder.clone());
        let finished =
            blocking(move || obsync.run(&["verify".as_ref(), folder.as_ref(), "--json".as_ref()])).await?;
        let found: Verification =
            serde_json::from_str(&finished.output).context("the report of `obsync verify` cannot be read")?;
        let expected = self.vault.expected()?;
        ensure!(
            found.intact.files == expected.files.len() as u64 && found.intact.bytes == expected.total_size(),
            "{} were checked, but the vault has {}",
            human::files(found.intact.files),
            human::files(expected.files.len() as u64)
        );
        story.checked(&format!(
            "{} ({}): none is missing, changed or extra ({})",
            human::files(found.intact.files),
            human::size(found.intact.bytes),
            human::seconds(finished.usage.wall)
        ));
        Ok(())
    }

    async fn pull(&self, story: &Story) -> Result<(PullReport, Usage)> {
        story.command(&format!("obsync pull \"{VAULT}\" {}", self.shown));
        let (obsync, folder) = (self.obsync.clone(), self.folder.clone());
        blocking(move || obsync.pull(VAULT, &folder)).await
    }

    fn check(&self, story: &Story) -> Result<()> {
        same_as_vault(&self.vault, &self.folder)?;
        story.checked("the folder is the vault: every path, byte and time");
        Ok(())
    }
}

/// The resource use of a pull.
fn figures(report: &PullReport, usage: &Usage) -> String {
    format!(
        "{} over {}; the process: {}, processor {}, peak memory {}",
        human::counted(report.requests, "request", "requests"),
        human::counted(report.connections, "connection", "connections"),
        human::seconds(usage.wall),
        human::seconds(usage.cpu),
        human::size(usage.peak_memory)
    )
}

/// Waits for a process without blocking the server, which is in this one.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("waiting for obsync failed")?
}
