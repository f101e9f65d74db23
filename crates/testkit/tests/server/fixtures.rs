//! Vaults that the official client wrote are returned by the server unchanged.

use std::collections::BTreeMap;

use obsync_protocol::{ContentHash, VaultPath};
use obsync_testkit::{Expected, ExpectedFile, Server, VaultHandle, fixture_dir};

use crate::client::{Device, EMAIL, Outcome, PASSWORD};

const FIXTURES: [&str; 3] = ["official-v0", "official-v2", "official-managed"];

#[tokio::test]
async fn what_is_pulled_of_a_fixture_is_what_it_expects() -> Outcome {
    for name in FIXTURES {
        let server = Server::builder().user(EMAIL, PASSWORD).vault_dir(fixture_dir(name)).start().await?;
        let expected = Expected::load(&fixture_dir(name))?;
        let pulled = pull_everything(&server, &server.vault(name)?).await?;
        assert_eq!(pulled, expected, "{name}");
        server.shutdown().await;
    }
    Ok(())
}

#[tokio::test]
async fn what_a_vault_says_of_itself_is_what_its_fixture_expects() -> Outcome {
    for name in FIXTURES {
        let server = Server::builder().vault_dir(fixture_dir(name)).start().await?;
        assert_eq!(server.vault(name)?.expected()?, Expected::load(&fixture_dir(name))?, "{name}");
    }
    Ok(())
}

/// Pulls a vault over its socket and describes the result.
async fn pull_everything(server: &Server, vault: &VaultHandle) -> Outcome<Expected> {
    let (mut device, entries, _) = Device::listed(server, vault, "puller", 0).await?;
    let keys = vault.keys()?;
    let mut latest = BTreeMap::new();
    for entry in entries {
        latest.insert(keys.decode_path(&entry.path)?, entry);
    }
    let mut pulled = Expected::default();
    for (path, entry) in latest.into_iter().filter(|(_, entry)| !entry.deleted) {
        let path = VaultPath::to_string(&path);
        if entry.folder {
            pulled.folders.push(path);
            continue;
        }
        let (answer, blob) = device.pull(entry.uid.0).await?;
        assert_eq!(answer.hash.as_ref(), Some(&entry.hash));
        assert_eq!(answer.size, Some(entry.size));
        let content = if blob.is_empty() { Vec::new() } else { keys.open(&blob)? };
        pulled.files.push(ExpectedFile {
            path,
            size: content.len() as u64,
            sha256: ContentHash::of(&content).to_string(),
            mtime_ms: entry.mtime,
        });
    }
    Ok(pulled)
}
