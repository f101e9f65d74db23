//! Pulls vaults into a bucket with the program obsync: every fixture and a vault with names in all scripts, twice, with
//! changes between.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use obsync_testkit::{GeneratorOptions, Server, VaultHandle, VaultSpec, fill_vault, fixture_dir};
use secrecy::SecretString;

use super::bucket::RemoteBucket;
use crate::check::same_as_bucket;
use crate::child::{Identity, Obsync};

/// The vaults that the official client wrote.
const FIXTURES: [&str; 3] = ["official-v0", "official-v2", "official-managed"];
/// Those of them that are end-to-end encrypted.
const END_TO_END: [&str; 2] = ["official-v0", "official-v2"];
/// A vault with further cases: names in sixty scripts.
const SCRIPTS: &str = "Scripts + 100%";
/// Number of its files.
const FILES: usize = 60;
/// More bytes than one request uploads.
const LARGE: usize = 12 << 20;
/// The account.
pub(super) const EMAIL: &str = "interop@example.com";
pub(super) const PASSWORD: &str = "loopback";
/// A time of a change: milliseconds since 1970.
const TIME: i64 = 1_722_222_222_123;

/// A sync server with all vaults.
pub(super) async fn serve_vaults() -> Result<Server> {
    let mut builder = Server::builder().user(EMAIL, PASSWORD).vault(VaultSpec::managed(SCRIPTS));
    for name in FIXTURES {
        builder = builder.vault_dir(fixture_dir(name));
    }
    let server = builder.start().await?;
    let options = GeneratorOptions {
        files: FILES,
        many_scripts: true,
        max_size: 300_000,
        ..GeneratorOptions::default()
    };
    fill_vault(&server.vault(SCRIPTS)?, &options)?;
    Ok(server)
}

/// The password of an end-to-end encrypted vault. The service provides those of the others.
pub(super) fn own_password(vault: &VaultHandle) -> Option<SecretString> {
    END_TO_END.contains(&vault.name()).then(|| vault.password().cloned()).flatten()
}

/// Changes a vault in every way that a person does, and returns the paths that must not exist afterwards.
pub(super) fn change(vault: &VaultHandle) -> Result<()> {
    let before = vault.expected()?;
    let files: Vec<&str> =
        before.files.iter().filter(|file| file.size > 0).map(|file| file.path.as_str()).collect();
    let [edited, renamed, deleted, ..] = files[..] else { bail!("the vault {} is too small", vault.name()) };
    vault.write(edited, "# Edited\n", TIME)?;
    vault.rename(renamed, "Renamed + 100% & <so>.md")?;
    vault.delete(deleted)?;
    vault.write("New folder/Ünïcode ノート.md", "new", TIME + 1)?;
    let large: Vec<u8> = (0..LARGE).map(|at| (at % 251) as u8).collect();
    vault.write("New folder/large.bin", large, TIME + 2)?;
    Ok(())
}

/// Changes it once more: renames the large file, removes the new one.
pub(super) fn change_again(vault: &VaultHandle) -> Result<()> {
    vault.rename("New folder/large.bin", "New folder/still large.bin")?;
    vault.rename("Renamed + 100% & <so>.md", "Renamed again.md")?;
    vault.delete("New folder/Ünïcode ノート.md")?;
    Ok(())
}

/// Pulls every vault, and describes the amount.
///
/// # Errors
/// When a bucket differs from its vault.
pub(super) async fn pull_everything(bucket: &RemoteBucket) -> Result<String> {
    let server = serve_vaults().await?;
    let work = tempfile::tempdir()?;
    let (mut vaults, mut objects) = (0, 0);
    for vault in server.vaults() {
        let home = work.path().join(vaults.to_string());
        objects += pull_one(&server, &vault, bucket, &home)
            .await
            .with_context(|| format!("vault {}", vault.name()))?;
        vaults += 1;
    }
    server.shutdown().await;
    Ok(format!("exact ({vaults} vaults, {objects} objects)"))
}

async fn pull_one(server: &Server, vault: &VaultHandle, bucket: &RemoteBucket, home: &Path) -> Result<usize> {
    let identity = Identity {
        email: EMAIL.to_owned(),
        password: SecretString::from(PASSWORD),
        vault_password: own_password(vault),
    };
    let mut obsync = Obsync::new(home, &server.url(), &identity)?;
    obsync.with_environment(cloud_variables());
    let prefix = format!("pulls/{}", vault.id());
    let place = format!("{}/{prefix}", bucket.place);
    let pull = || obsync.pull(vault.name(), &place);
    tokio::task::block_in_place(pull).context("first pull")?;
    compare(vault, bucket, &prefix).await.context("after the first pull")?;
    for changes in [change, change_again] {
        changes(vault)?;
        tokio::task::block_in_place(pull).context("a pull of changes")?;
        compare(vault, bucket, &prefix).await.context("after changes")?;
    }
    let (report, _) = tokio::task::block_in_place(pull).context("a pull of nothing")?;
    ensure!(report.is_unchanged(), "a pull with nothing new did something: {report:?}");
    tokio::task::block_in_place(|| obsync.run(&["verify".as_ref(), place.as_ref()])).context("verify")?;
    Ok(vault.expected()?.files.len())
}

async fn compare(vault: &VaultHandle, bucket: &RemoteBucket, prefix: &str) -> Result<()> {
    same_as_bucket(vault, &bucket.files(prefix).await?, &format!("{prefix}/"))
}

/// The variables of the service for obsync.
fn cloud_variables() -> Vec<(String, String)> {
    let is_passed =
        |name: &str| ["AWS_", "AZURE_", "AZURITE_"].iter().any(|beginning| name.starts_with(beginning));
    std::env::vars().filter(|(name, _)| is_passed(name)).collect()
}
