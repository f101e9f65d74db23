//! Direct writes to a vault, and the expected result of a full pull afterwards.

use std::fs::{self, File, FileTimes};
use std::time::{Duration, UNIX_EPOCH};

use obsync_protocol::ContentHash;
use obsync_testkit::{
    Expected, GeneratorOptions, RawEntry, Server, VaultHandle, VaultSpec, WriteError, fill_directory,
    fill_vault,
};
use secrecy::SecretString;
use serde_json::json;
use tempfile::TempDir;

use crate::client::{Device, EMAIL, Outcome, PASSWORD, post, sign_in};

async fn vault() -> Outcome<(Server, VaultHandle)> {
    let server = Server::builder().user(EMAIL, PASSWORD).vault(VaultSpec::managed("Notes")).start().await?;
    let vault = server.vault("Notes")?;
    Ok((server, vault))
}

fn paths(expected: &Expected) -> Vec<&str> {
    expected.files.iter().map(|file| file.path.as_str()).collect()
}

#[tokio::test]
async fn parents_get_folder_entries_but_for_those_of_the_configuration() -> Outcome {
    let (_server, vault) = vault().await?;
    assert_eq!(vault.write("a/b/c.md", b"x", 7)?.0, 3);
    assert_eq!(vault.write(".obsidian/themes/Plain/theme.css", b"y", 8)?.0, 4);
    let expected = vault.expected()?;
    assert_eq!(paths(&expected), [".obsidian/themes/Plain/theme.css", "a/b/c.md"]);
    assert_eq!(expected.folders, ["a", "a/b"]);
    let file = &expected.files[1];
    assert_eq!((file.size, file.mtime_ms), (1, 7));
    assert_eq!(file.sha256, ContentHash::of(b"x").to_string());
    Ok(())
}

#[tokio::test]
async fn folders_move_and_go_with_everything_in_them() -> Outcome {
    let (_server, vault) = vault().await?;
    vault.write("a/b/one.md", b"1", 1)?;
    vault.write("a/two.md", b"2", 2)?;
    vault.create_folder("a/empty")?;
    vault.write("ab.md", b"not in a", 3)?;
    vault.rename("a", "moved/here")?;
    let expected = vault.expected()?;
    assert_eq!(paths(&expected), ["ab.md", "moved/here/b/one.md", "moved/here/two.md"]);
    assert_eq!(expected.folders, ["moved", "moved/here", "moved/here/b", "moved/here/empty"]);
    vault.delete_folder("moved")?;
    let expected = vault.expected()?;
    assert_eq!((paths(&expected), expected.folders.len()), (vec!["ab.md"], 0));
    Ok(())
}

#[tokio::test]
async fn a_deleted_folder_is_told_deepest_first_and_a_rename_can_share_its_uid() -> Outcome {
    let (server, vault) = vault().await?;
    vault.write("a/b/c.md", b"x", 1)?;
    let (mut device, ..) = Device::listed(&server, &vault, "one", 3).await?;
    vault.delete("a")?;
    let mut gone = Vec::new();
    for _ in 0..3 {
        gone.push(vault.keys()?.decode_path(&device.pushed().await?.path)?.to_string());
    }
    assert_eq!(gone, ["a/b/c.md", "a/b", "a"]);
    vault.write("d.md", b"y", 2)?;
    device.pushed().await?;
    let uid = vault.rename_sharing_uid("d.md", "e.md")?;
    let (deletion, entry) = (device.pushed().await?, device.pushed().await?);
    assert!(deletion.deleted && !entry.deleted);
    assert_eq!((deletion.uid, entry.uid), (uid, uid));
    let (_, content) = device.pull(uid.0).await?;
    assert_eq!(vault.keys()?.open(&content)?, b"y");
    Ok(())
}

#[tokio::test]
async fn a_change_that_no_device_could_make_is_refused() -> Outcome {
    let (_server, vault) = vault().await?;
    vault.write("file", b"x", 1)?;
    vault.create_folder("folder")?;
    let occupied = |outcome| matches!(outcome, Err(WriteError::Occupied { .. }));
    assert!(occupied(vault.write("folder", b"x", 1)));
    assert!(occupied(vault.write("file/below.md", b"x", 1)));
    assert!(occupied(vault.create_folder("file")));
    assert!(occupied(vault.rename("file", "folder")));
    assert!(matches!(vault.delete("nothing"), Err(WriteError::Missing { .. })));
    assert!(matches!(vault.delete_folder("file"), Err(WriteError::Missing { .. })));
    assert!(matches!(vault.write("../x.md", b"x", 1), Err(WriteError::Path(_))));
    assert_eq!(vault.version().0, 2);
    Ok(())
}

#[tokio::test]
async fn what_no_correct_client_takes_is_not_expected() -> Outcome {
    let (server, vault) = vault().await?;
    vault.write("good.md", b"good", 1)?;
    let damaged = vault.write_damaged("damaged.md", b"damaged")?;
    vault.write_wrong_hash("wrong hash.md", b"content")?;
    let lying = vault.write_lying_size("lying.md", b"content", 1 << 40)?;
    let hostile = vault.write_hostile_paths()?;
    vault.write_raw(RawEntry { path: "not encoded".to_owned(), ..RawEntry::default() })?;
    assert_eq!(paths(&vault.expected()?), ["good.md"]);

    let (mut device, entries, _) = Device::listed(&server, &vault, "one", 0).await?;
    assert_eq!(entries.len(), 5 + hostile);
    let keys = vault.keys()?;
    let is_refused = |path| keys.decode_path(path).map_or(true, |path| path.check_to_write().is_err());
    let refused = entries.iter().filter(|entry| is_refused(&entry.path)).count();
    assert_eq!(refused, hostile + 1);
    let (_, content) = device.pull(damaged.0).await?;
    assert!(vault.keys()?.open(&content).is_err());
    let entry = entries.iter().find(|entry| entry.uid == lying).ok_or("not listed")?;
    let (answer, content) = device.pull(lying.0).await?;
    assert_eq!((entry.size, answer.size), (1 << 40, Some(content.len() as u64)));
    Ok(())
}

#[tokio::test]
async fn a_vault_that_a_client_made_is_written_once_its_password_is_told() -> Outcome {
    let (server, managed) = vault().await?;
    let token = sign_in(&server).await?;
    let keys = obsync_protocol::MasterKey::derive(&SecretString::from("secret"), "5a17");
    let keys = obsync_protocol::VaultKeys::new(&keys, managed.encryption_version(), "5a17");
    let body = json!({
        "token": token, "name": "Mine", "keyhash": keys.key_hash().as_str(), "salt": "5a17", "region": "",
        "encryption_version": 3,
    });
    post(&server, "/vault/create", body).await?;
    let vault = server.vault("Mine")?;
    assert!(matches!(vault.write("a.md", b"x", 1), Err(WriteError::Locked)));
    let wrong = vault.unlock(&SecretString::from("wrong"));
    assert!(matches!(wrong, Err(WriteError::WrongPassword)));
    vault.unlock(&SecretString::from("secret"))?;
    vault.write("a.md", b"x", 1)?;
    assert_eq!(paths(&vault.expected()?), ["a.md"]);
    Ok(())
}

#[tokio::test]
async fn a_directory_is_compared_by_content_time_and_folders() -> Outcome {
    let (_server, vault) = vault().await?;
    vault.write("a/one.md", b"1", 1_700_000_000_123)?;
    vault.create_folder("empty")?;
    let expected = vault.expected()?;
    let dir = TempDir::new()?;
    assert_eq!(expected.differences(dir.path())?.len(), 3);
    fs::create_dir_all(dir.path().join("a"))?;
    fs::create_dir(dir.path().join("empty"))?;
    let one = dir.path().join("a/one.md");
    let set = |content: &[u8], millis| -> Outcome {
        fs::write(&one, content)?;
        let times = FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_millis(millis));
        Ok(File::options().write(true).open(&one)?.set_times(times)?)
    };
    set(b"1", 1_700_000_000_123)?;
    assert!(expected.differences(dir.path())?.is_empty());
    set(b"2", 1_700_000_000_123)?;
    assert_eq!(expected.differences(dir.path())?.len(), 1);
    set(b"1", 1_700_000_000_124)?;
    assert_eq!(expected.differences(dir.path())?.len(), 1);
    set(b"1", 1_700_000_000_123)?;
    fs::write(dir.path().join("extra.md"), "x")?;
    fs::create_dir(dir.path().join("extra"))?;
    assert_eq!(expected.differences(dir.path())?, ["extra file \"extra.md\"", "extra folder \"extra\""]);
    Ok(())
}

#[tokio::test]
async fn a_generated_vault_is_the_same_in_a_vault_and_in_a_directory() -> Outcome {
    let (_server, vault) = vault().await?;
    let options =
        GeneratorOptions { files: 300, seed: 9, many_scripts: true, max_size: 9000, ..Default::default() };
    let dir = TempDir::new()?;
    let filled = fill_vault(&vault, &options)?;
    assert_eq!(filled, fill_directory(dir.path(), &options)?);
    let expected = vault.expected()?;
    assert_eq!((expected.files.len(), expected.total_size()), (filled.files, filled.bytes));
    assert_eq!(expected.differences(dir.path())?, Vec::<String>::new());
    Ok(())
}
