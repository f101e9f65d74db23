//! A server with a data folder: accounts, vaults and contents outlive it.

use std::fs;
use std::path::Path;

use obsync_testkit::{Expected, Server, VaultSpec};
use serde_json::json;
use tempfile::TempDir;

use crate::client::{Device, EMAIL, Outcome, PASSWORD, file, init, sign_in};

async fn server(data: &Path) -> Outcome<Server> {
    let spec = VaultSpec::end_to_end("Notes", "vault password");
    Ok(Server::builder().user(EMAIL, PASSWORD).data_dir(data).vault(spec).start().await?)
}

/// The folder of the only vault.
fn vault_folder(data: &Path) -> Outcome<std::path::PathBuf> {
    let folders: Vec<_> = fs::read_dir(data)?.filter_map(|item| Some(item.ok()?.path())).collect();
    let mut folders = folders.into_iter().filter(|path| path.is_dir());
    let folder = folders.next().ok_or("no vault folder")?;
    assert!(folders.next().is_none(), "more than one vault folder");
    Ok(folder)
}

fn blobs(folder: &Path) -> Outcome<usize> {
    Ok(fs::read_dir(folder.join("blobs"))?.count())
}

#[tokio::test]
async fn a_vault_and_a_token_outlive_the_server() -> Outcome {
    let data = TempDir::new()?;
    let first = server(data.path()).await?;
    let vault = first.vault("Notes")?;
    let keys = vault.keys()?;
    let blob = keys.seal([1; 12], b"by socket")?;
    let (mut device, ..) = Device::listed(&first, &vault, "one", 0).await?;
    device.push(file(keys, "folderless.md", b"by socket", &blob)?, &blob).await?;
    vault.write("a/b.md", b"direct", 2)?;
    vault.write("a/same.md", b"by socket", 3)?;
    vault.write("empty.md", b"", 4)?;
    vault.delete("a/b.md")?;
    let (expected, id) = (vault.expected()?, vault.id().clone());
    let token = sign_in(&first).await?;
    first.shutdown().await;

    let second = server(data.path()).await?;
    let vault = second.vault("Notes")?;
    assert_eq!((vault.id(), vault.version().0, vault.expected()?), (&id, 6, expected));
    let mut device = Device::connect(&second).await?;
    device.send(init(&vault, &token, "again", 6)?).await?;
    assert!(device.answer().await?.is_ok());
    device.listing().await?;
    for uid in [1, 4] {
        let (_, content) = device.pull(uid).await?;
        assert_eq!(vault.keys()?.open(&content)?, b"by socket");
    }
    assert_eq!(vault.write("next.md", b"x", 1)?.0, 7);
    Ok(())
}

#[tokio::test]
async fn a_data_folder_has_the_layout_of_a_fixture() -> Outcome {
    let data = TempDir::new()?;
    let first = server(data.path()).await?;
    let vault = first.vault("Notes")?;
    vault.write("a.md", b"content", 1_700_000_000_000)?;
    vault.create_folder("f")?;
    let expected = vault.expected()?;
    first.shutdown().await;
    let folder = vault_folder(data.path())?;
    fs::write(folder.join("expected.json"), serde_json::to_vec(&expected)?)?;
    let copy = Server::builder().vault_dir(&folder).start().await?;
    assert_eq!(copy.vault("Notes")?.expected()?, Expected::load(&folder)?);
    copy.vault("Notes")?.write("not kept.md", b"x", 1)?;
    copy.shutdown().await;
    let again = Server::builder().vault_dir(&folder).start().await?;
    assert_eq!(again.vault("Notes")?.version().0, 2);
    Ok(())
}

#[tokio::test]
async fn half_a_line_at_the_end_of_the_log_is_forgotten() -> Outcome {
    let data = TempDir::new()?;
    let first = server(data.path()).await?;
    first.vault("Notes")?.write("a.md", b"a", 1)?;
    first.shutdown().await;
    let log = vault_folder(data.path())?.join("entries.jsonl");
    let mut text = fs::read(&log)?;
    text.extend_from_slice(b"{\"uid\":2,\"path\":\"00");
    fs::write(&log, text)?;
    for expected in [1, 2] {
        let server = server(data.path()).await?;
        assert_eq!(server.vault("Notes")?.version().0, expected);
        server.vault("Notes")?.write(&format!("{expected}.md"), b"more", 1)?;
        server.shutdown().await;
    }
    Ok(())
}

#[tokio::test]
async fn a_purge_removes_what_no_path_needs_any_more() -> Outcome {
    let data = TempDir::new()?;
    let first = server(data.path()).await?;
    let vault = first.vault("Notes")?;
    for version in 1..=3 {
        vault.write("a.md", format!("version {version}"), version)?;
    }
    let folder = vault_folder(data.path())?;
    assert_eq!(blobs(&folder)?, 3);
    let (mut device, ..) = Device::listed(&first, &vault, "one", 3).await?;
    device.send(json!({ "op": "purge" })).await?;
    assert!(device.answer().await?.is_ok());
    assert_eq!(blobs(&folder)?, 1);
    vault.write("b.md", b"after", 4)?;
    let expected = vault.expected()?;
    first.shutdown().await;
    assert_eq!(server(data.path()).await?.vault("Notes")?.expected()?, expected);
    Ok(())
}

#[tokio::test]
async fn a_folder_that_is_no_vault_is_refused_with_its_name() -> Outcome {
    let data = TempDir::new()?;
    let refused = Server::builder().vault_dir(data.path()).start().await.err().ok_or("it was taken")?;
    assert!(refused.to_string().contains(&data.path().display().to_string()), "{refused}");
    Ok(())
}
