//! Sessions: the opening, the listing, pulls and pushes, and notifications of other devices.

use obsync_protocol::{ContentHash, ServerMessage, VaultPath};
use obsync_testkit::{PIECE_SIZE, Server, VaultHandle, VaultSpec};
use serde_json::{Value, json};

use crate::client::{Device, EMAIL, Outcome, PASSWORD, file, init, sign_in};

/// A server with one account and one empty vault.
async fn server() -> Outcome<(Server, VaultHandle)> {
    let server = Server::builder()
        .user(EMAIL, PASSWORD)
        .vault(VaultSpec::end_to_end("Notes", "vault password"))
        .start()
        .await?;
    let vault = server.vault("Notes")?;
    Ok((server, vault))
}

/// The `push` message for a folder or a deletion.
fn mark(vault: &VaultHandle, path: &str, folder: bool, deleted: bool) -> Outcome<Value> {
    Ok(json!({
        "op": "push", "path": vault.keys()?.encode_path(&VaultPath::parse(path)?), "relatedpath": null,
        "extension": "", "hash": "", "ctime": 0, "mtime": 0, "folder": folder, "deleted": deleted,
    }))
}

#[tokio::test]
async fn a_session_is_refused_for_a_bad_token_key_vault_version_or_subscription() -> Outcome {
    let (server, vault) = server().await?;
    let token = sign_in(&server).await?;
    let good = init(&vault, &token, "x", 0)?;
    let refusals = [
        ("token", json!("nonsense"), "Authentication failed"),
        ("keyhash", json!("00"), "Authentication failed"),
        ("id", json!("0123456789abcdef"), "Vault not found"),
        ("encryption_version", json!(2), "encryption version"),
    ];
    for (field, value, reason) in refusals {
        let mut request = good.clone();
        request[field] = value;
        let mut device = Device::connect(&server).await?;
        device.send(request).await?;
        let error = device.answer().await?.error().ok_or("let in")?;
        assert!(error.contains(reason), "{field}: {error}");
        assert!(device.frame().await?.is_none(), "the connection stays open");
    }
    server.set_subscription_expired(true)?;
    let (_, answer) = Device::open(&server, &vault, "x", 0).await?;
    assert_eq!(answer.error().as_deref(), Some("Your subscription to Obsidian Sync has expired"));
    assert!(server.stats().inits.iter().all(|init| !init.accepted));
    Ok(())
}

#[tokio::test]
async fn nothing_is_answered_before_init_but_by_an_error() -> Outcome {
    let (server, _) = server().await?;
    for first in [json!({ "op": "size" }), json!({ "op": "nonsense" }), json!(7)] {
        let mut device = Device::connect(&server).await?;
        device.send(first).await?;
        assert!(device.answer().await?.error().is_some());
        assert!(device.frame().await?.is_none());
    }
    Ok(())
}

#[tokio::test]
async fn init_is_answered_first_with_the_limits() -> Outcome {
    let (server, vault) = server().await?;
    vault.write("a.md", b"a", 1)?;
    let (_, answer) = Device::open(&server, &vault, "x", 0).await?;
    assert!(answer.is_ok());
    assert_eq!((answer.per_file_max, answer.user_id), (Some(199 * 1024 * 1024), Some(1)));
    Ok(())
}

#[tokio::test]
async fn a_listing_has_the_last_entry_of_each_path_ascending_and_only_what_is_newer() -> Outcome {
    let (server, vault) = server().await?;
    vault.write("a.md", b"1", 1)?;
    vault.write("b.md", b"2", 2)?;
    vault.write("a.md", b"3", 3)?;
    vault.delete("b.md")?;
    vault.create_folder("c")?;
    let uids = |entries: Vec<obsync_protocol::PushMessage>| -> Vec<(u64, bool)> {
        entries.iter().map(|entry| (entry.uid.0, entry.deleted)).collect()
    };
    let (_, entries, version) = Device::listed(&server, &vault, "x", 0).await?;
    assert_eq!((uids(entries), version), (vec![(3, false), (4, true), (5, false)], 5));
    let (_, entries, version) = Device::listed(&server, &vault, "x", 4).await?;
    assert_eq!((uids(entries), version), (vec![(5, false)], 5));
    let (_, entries, version) = Device::listed(&server, &vault, "x", 5).await?;
    assert_eq!((uids(entries), version), (vec![], 5));
    let inits = server.stats().inits;
    assert_eq!(inits.iter().map(|init| init.version).collect::<Vec<_>>(), [0, 4, 5]);
    assert_eq!(inits.iter().map(|init| init.initial).collect::<Vec<_>>(), [true, false, false]);
    Ok(())
}

#[tokio::test]
async fn an_upload_is_echoed_before_its_ok_and_comes_back_byte_for_byte() -> Outcome {
    let (server, vault) = server().await?;
    let keys = vault.keys()?;
    let (mut device, ..) = Device::listed(&server, &vault, "one", 0).await?;
    let blob = keys.seal([7; 12], b"hello")?;
    let request = file(keys, "a.md", b"hello", &blob)?;
    let (echo, asked) = device.push(request.clone(), &blob).await?;
    assert!(asked);
    assert_eq!(request["path"], echo.path.as_str());
    assert_eq!((echo.uid.0, echo.size, echo.mtime), (1, blob.len() as u64, 1_700_000_001_000));
    assert_eq!((echo.device.as_str(), echo.user.as_str()), ("one", EMAIL));

    let (answer, content) = device.pull(1).await?;
    assert_eq!((answer.size, answer.pieces), (Some(blob.len() as u64), Some(1)));
    assert_eq!(keys.open(&content)?, b"hello");
    Ok(())
}

#[tokio::test]
async fn content_that_is_known_is_not_asked_for_but_echoed() -> Outcome {
    let (server, vault) = server().await?;
    let keys = vault.keys()?;
    vault.write("first.md", b"the same", 1)?;
    let (mut device, ..) = Device::listed(&server, &vault, "one", 0).await?;
    let blob = keys.seal([9; 12], b"the same")?;
    let (echo, asked) = device.push(file(keys, "second.md", b"the same", &blob)?, &blob).await?;
    assert!(!asked);
    assert_eq!(echo.uid.0, 2);
    let (_, content) = device.pull(2).await?;
    assert_eq!(keys.open(&content)?, b"the same");
    let stats = server.stats();
    assert_eq!((stats.pushes, stats.pushes_without_content, stats.content_bytes_received), (1, 1, 0));
    Ok(())
}

#[tokio::test]
async fn a_large_file_goes_up_and_comes_down_in_pieces_of_two_mebibytes() -> Outcome {
    let (server, vault) = server().await?;
    let keys = vault.keys()?;
    let plain: Vec<u8> = (0..5_000_000_u32).map(|number| number.wrapping_mul(2_654_435_761) as u8).collect();
    let blob = keys.seal([1; 12], &plain)?;
    let pieces: Vec<&[u8]> = blob.chunks(PIECE_SIZE as usize).collect();
    let (mut device, ..) = Device::listed(&server, &vault, "one", 0).await?;
    let mut request = file(keys, "big.png", &plain, &blob)?;
    request["pieces"] = json!(pieces.len());
    device.send(request).await?;
    for piece in &pieces {
        assert!(device.answer().await?.is_next());
        // A heartbeat in the middle of an upload is answered like any other.
        device.send(json!({ "op": "ping" })).await?;
        assert_eq!(device.message().await?, ServerMessage::Pong);
        device.send_binary(piece.to_vec()).await?;
    }
    assert_eq!(device.pushed().await?.size, blob.len() as u64);
    assert!(device.answer().await?.is_ok());

    device.send(json!({ "op": "pull", "uid": 1 })).await?;
    let answer = device.answer().await?;
    assert_eq!((answer.size, answer.pieces), (Some(blob.len() as u64), Some(3)));
    let mut content = Vec::new();
    for piece in &pieces {
        let frame = device.binary().await?;
        assert_eq!(frame.len(), piece.len());
        content.extend(frame);
    }
    assert!(content == blob, "another content came back");
    Ok(())
}

#[tokio::test]
async fn folders_deletions_and_empty_files_need_no_content() -> Outcome {
    let (server, vault) = server().await?;
    let keys = vault.keys()?;
    let (mut device, ..) = Device::listed(&server, &vault, "one", 0).await?;
    let (folder, asked) = device.push(mark(&vault, "f", true, false)?, &[]).await?;
    assert!(folder.folder && !folder.deleted && !asked);
    let (empty, asked) = device.push(file(keys, "f/empty.md", b"", b"")?, &[]).await?;
    assert!(empty.size == 0 && keys.decode_hash(&empty.hash)? == ContentHash::EMPTY && !asked);
    let (answer, content) = device.pull(empty.uid.0).await?;
    assert_eq!((answer.size, answer.pieces, content.len()), (Some(0), Some(0), 0));
    let (gone, _) = device.push(mark(&vault, "f/empty.md", false, true)?, &[]).await?;
    assert!(gone.deleted && gone.hash.is_empty());
    for uid in [gone.uid.0, folder.uid.0, 99] {
        let (answer, _) = device.pull(uid).await?;
        assert!(answer.deleted && answer.pieces.is_none(), "uid {uid}");
    }
    let (answer, _) = device.pull(empty.uid.0).await?;
    assert!(!answer.deleted, "older uids stay available");
    Ok(())
}

#[tokio::test]
async fn other_devices_hear_of_every_change_whoever_makes_it() -> Outcome {
    let (server, vault) = server().await?;
    let keys = vault.keys()?;
    let (mut writer, ..) = Device::listed(&server, &vault, "writer", 0).await?;
    let (mut listener, ..) = Device::listed(&server, &vault, "listener", 0).await?;
    let blob = keys.seal([1; 12], b"x")?;
    writer.push(file(keys, "a.md", b"x", &blob)?, &blob).await?;
    let heard = listener.pushed().await?;
    assert_eq!((heard.uid.0, heard.device.as_str()), (1, "writer"));
    vault.as_device("direct").write("b.md", b"y", 2)?;
    for device in [&mut writer, &mut listener] {
        let heard = device.pushed().await?;
        assert_eq!((heard.uid.0, heard.device.as_str()), (2, "direct"));
    }
    Ok(())
}

#[tokio::test]
async fn a_rename_is_a_deletion_and_an_entry() -> Outcome {
    let (server, vault) = server().await?;
    let keys = vault.keys()?;
    vault.write("old.md", b"x", 1)?;
    let (mut device, ..) = Device::listed(&server, &vault, "one", 0).await?;
    let blob = keys.seal([1; 12], b"x")?;
    let mut request = file(keys, "new.md", b"x", &blob)?;
    request["relatedpath"] = json!(keys.encode_path(&VaultPath::parse("old.md")?));
    device.send(request).await?;
    let (deletion, entry) = (device.pushed().await?, device.pushed().await?);
    assert!(device.answer().await?.is_ok());
    assert!(deletion.deleted && keys.decode_path(&deletion.path)?.as_str() == "old.md");
    assert!(!entry.deleted && keys.decode_path(&entry.path)?.as_str() == "new.md");
    assert_eq!(entry.related_path, Some(deletion.path));
    assert_eq!((deletion.uid.0, entry.uid.0), (2, 3));
    Ok(())
}

#[tokio::test]
async fn pipelined_pulls_are_answered_in_their_order() -> Outcome {
    let (server, vault) = server().await?;
    for number in 1..=50 {
        vault.write(&format!("{number}.md"), format!("content {number}"), number)?;
    }
    let (mut device, ..) = Device::listed(&server, &vault, "one", 0).await?;
    for uid in 1..=50 {
        device.send(json!({ "op": "pull", "uid": uid })).await?;
    }
    for uid in 1..=50 {
        let (_, content) = device.pulled().await?;
        assert_eq!(vault.keys()?.open(&content)?, format!("content {uid}").as_bytes());
    }
    let stats = server.stats();
    assert_eq!((stats.pulls, stats.pulls_answered, stats.served.len()), (50, 50, 50));
    assert!(stats.served_more_than_once().is_empty());
    Ok(())
}

#[tokio::test]
async fn history_deleted_and_restore_look_back() -> Outcome {
    let (server, vault) = server().await?;
    let keys = vault.keys()?;
    for version in 1..=3 {
        vault.write("a.md", format!("version {version}"), version)?;
    }
    vault.delete("a.md")?;
    vault.write("b.md", b"b", 5)?;
    vault.rename("b.md", "c.md")?;
    let (mut device, ..) = Device::listed(&server, &vault, "one", 7).await?;
    let path = keys.encode_path(&VaultPath::parse("a.md")?);

    device.send(json!({ "op": "history", "path": path, "last": 0 })).await?;
    let answer = device.answer().await?;
    let uids: Vec<u64> = answer.items.iter().flatten().map(|item| item.uid.0).collect();
    assert_eq!((uids, answer.more), (vec![4, 3, 2, 1], Some(false)));
    device.send(json!({ "op": "history", "path": path, "last": 3 })).await?;
    assert_eq!(device.answer().await?.items.map(|items| items.len()), Some(2));

    for (suppress, expected) in [(true, vec![4]), (false, vec![6, 4])] {
        device.send(json!({ "op": "deleted", "suppressrenames": suppress })).await?;
        let items = device.answer().await?.items.unwrap_or_default();
        assert_eq!(items.iter().map(|item| item.uid.0).collect::<Vec<_>>(), expected);
    }

    device.send(json!({ "op": "restore", "uid": 2 })).await?;
    let restored = device.pushed().await?;
    assert!(device.answer().await?.is_ok());
    assert_eq!((restored.uid.0, restored.path, restored.mtime), (8, path, 2));
    let (_, content) = device.pull(8).await?;
    assert_eq!(keys.open(&content)?, b"version 2");
    device.send(json!({ "op": "restore", "uid": 99 })).await?;
    assert!(device.answer().await?.error().is_some());
    Ok(())
}

#[tokio::test]
async fn history_comes_in_pages() -> Outcome {
    let (server, vault) = server().await?;
    for version in 1..=150 {
        vault.write("a.md", format!("version {version}"), version)?;
    }
    let (mut device, ..) = Device::listed(&server, &vault, "one", 150).await?;
    let path = vault.keys()?.encode_path(&VaultPath::parse("a.md")?);
    device.send(json!({ "op": "history", "path": path, "last": 0 })).await?;
    let answer = device.answer().await?;
    assert_eq!((answer.items.map(|items| items.len()), answer.more), (Some(100), Some(true)));
    device.send(json!({ "op": "history", "path": path, "last": 51 })).await?;
    let answer = device.answer().await?;
    assert_eq!((answer.items.map(|items| items.len()), answer.more), (Some(50), Some(false)));
    Ok(())
}

#[tokio::test]
async fn size_usernames_and_purge_are_answered() -> Outcome {
    let (server, vault) = server().await?;
    vault.write("a.md", vec![b'1'; 100], 1)?;
    vault.write("a.md", vec![b'2'; 200], 2)?;
    let (mut device, ..) = Device::listed(&server, &vault, "one", 2).await?;
    device.send(json!({ "op": "size" })).await?;
    let answer = device.answer().await?;
    assert_eq!(answer.size, Some(100 + 28 + 200 + 28));
    assert!(answer.limit > answer.size);
    device.send(json!({ "op": "usernames" })).await?;
    assert!(device.answer().await?.is_ok());
    device.send(json!({ "op": "purge" })).await?;
    assert!(device.answer().await?.is_ok());
    device.send(json!({ "op": "size" })).await?;
    assert_eq!(device.answer().await?.size, Some(200 + 28));
    let (old, _) = device.pull(1).await?;
    let (new, _) = device.pull(2).await?;
    assert!(old.deleted && !new.deleted);
    Ok(())
}

#[tokio::test]
async fn requests_that_make_no_sense_are_answered_by_an_error_and_the_session_goes_on() -> Outcome {
    let (server, vault) = server().await?;
    let (mut device, ..) = Device::listed(&server, &vault, "one", 0).await?;
    let requests = [
        json!({ "op": "nonsense" }),
        json!({ "op": "pull" }),
        json!({ "op": "pull", "uid": "seven" }),
        json!({ "op": "push" }),
        json!([1, 2]),
        init(&vault, "token", "again", 0)?,
    ];
    for request in requests {
        device.send(request.clone()).await?;
        assert!(device.answer().await?.error().is_some(), "{request}");
    }
    device.send(json!({ "op": "ping" })).await?;
    assert_eq!(device.message().await?, ServerMessage::Pong);
    Ok(())
}

#[tokio::test]
async fn an_upload_that_is_too_large_or_does_not_add_up_is_refused() -> Outcome {
    let server = Server::builder()
        .user(EMAIL, PASSWORD)
        .vault(VaultSpec::managed("Notes"))
        .per_file_max(1000)
        .start()
        .await?;
    let vault = server.vault("Notes")?;
    let keys = vault.keys()?;
    let (mut device, ..) = Device::listed(&server, &vault, "one", 0).await?;
    let mut request = file(keys, "a.md", b"x", &[0; 1028])?;
    device.push(request.clone(), &[0; 1028]).await?;
    request["hash"] = json!("another");
    for (field, value) in [("size", json!(1029)), ("pieces", json!(0)), ("pieces", json!(1_u64 << 40))] {
        let mut request = request.clone();
        request[field] = value;
        device.send(request).await?;
        assert!(device.answer().await?.error().is_some(), "{field}");
    }
    device.send(request.clone()).await?;
    assert!(device.answer().await?.is_next());
    device.send_binary(vec![0; 1000]).await?;
    assert!(device.answer().await?.error().is_some(), "less content than announced was taken");
    device.send(request).await?;
    assert!(device.answer().await?.is_next());
    device.send_binary(vec![0; 1029]).await?;
    assert!(!matches!(device.frame().await, Ok(Some(_))), "more content than announced was taken");
    assert_eq!(vault.version().0, 1);
    Ok(())
}

#[tokio::test]
async fn every_connection_ends_when_it_is_asked_to_and_at_shutdown() -> Outcome {
    let (server, vault) = server().await?;
    let (mut one, ..) = Device::listed(&server, &vault, "one", 0).await?;
    server.disconnect_all();
    assert!(!matches!(one.frame().await, Ok(Some(_))));
    let (mut other, ..) = Device::listed(&server, &vault, "other", 0).await?;
    let stats = server.stats();
    assert_eq!((stats.websocket_connections, stats.max_open_websockets), (2, 1));
    server.shutdown().await;
    assert!(!matches!(other.frame().await, Ok(Some(_))));
    Ok(())
}

#[tokio::test]
async fn the_maxima_can_be_begun_anew() -> Outcome {
    let (server, vault) = server().await?;
    vault.write("a.md", b"a", 1)?;
    let (mut one, ..) = Device::listed(&server, &vault, "one", 0).await?;
    let (other, ..) = Device::listed(&server, &vault, "other", 0).await?;
    one.pull(1).await?;
    drop(other);
    server.wait_for(|stats| stats.open_websockets == 1).await;
    assert_eq!((server.stats().max_open_websockets, server.stats().max_pulls_in_flight), (2, 1));
    server.begin_maxima_anew();
    let stats = server.stats();
    assert_eq!((stats.max_open_websockets, stats.max_pulls_in_flight), (1, 0));
    assert_eq!((stats.websocket_connections, stats.pulls), (2, 1));
    one.pull(1).await?;
    assert_eq!((server.stats().max_open_websockets, server.stats().max_pulls_in_flight), (1, 1));
    Ok(())
}

#[tokio::test]
async fn a_test_can_wait_for_what_happens() -> Outcome {
    let (server, vault) = server().await?;
    vault.write("a.md", b"a", 1)?;
    let pull = async {
        let (mut device, ..) = Device::listed(&server, &vault, "one", 0).await?;
        device.pull(1).await?;
        Outcome::Ok(device)
    };
    let (device, ()) = tokio::join!(pull, server.wait_for(|stats| stats.pulls_answered == 1));
    drop(device?);
    server.wait_for(|stats| stats.open_websockets == 0).await;
    Ok(())
}
