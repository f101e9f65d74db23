//! Each fault does what its name says, and stops doing it.

use std::time::Duration;

use obsync_protocol::{ServerMessage, Uid};
use obsync_testkit::{Chance, Faults, PieceSizes, Server, VaultHandle, VaultSpec};
use serde_json::json;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Device, EMAIL, Outcome, PASSWORD, file, post, request, sign_in};

/// Time without a frame after which a server counts as stalled.
const STALL: Duration = Duration::from_millis(150);

const CONTENT: &[u8] = &[b'c'; 5000];

/// A server with a vault of ten files, uids 1 to 10, all of the same length.
async fn server(faults: &str) -> Outcome<(Server, VaultHandle)> {
    let server = Server::builder().user(EMAIL, PASSWORD).vault(VaultSpec::managed("Notes")).start().await?;
    let vault = server.vault("Notes")?;
    for number in 0..10_u8 {
        let content = [CONTENT, &[number]].concat();
        vault.write(&format!("{number}.md"), content, 1)?;
    }
    server.faults().set(faults.parse()?);
    Ok((server, vault))
}

async fn device(server: &Server, vault: &VaultHandle) -> Outcome<Device> {
    Ok(Device::listed(server, vault, "one", 10).await?.0)
}

/// True if the connection ends without another frame.
async fn is_over(device: &mut Device) -> bool {
    !matches!(device.frame().await, Ok(Some(_)))
}

/// True if nothing arrives any more, although the connection is open.
async fn is_stalled(device: &mut Device) -> bool {
    timeout(STALL, device.frame()).await.is_err()
}

/// Pulls the file with this uid and checks it.
async fn sound_pull(device: &mut Device, vault: &VaultHandle, uid: u64) -> Outcome {
    let (answer, content) = device.pull(uid).await?;
    assert_eq!(answer.size, Some(content.len() as u64));
    let plain = vault.keys()?.open(&content)?;
    assert_eq!((plain.len(), plain.last().copied()), (5001, u8::try_from(uid - 1).ok()));
    Ok(())
}

#[tokio::test]
async fn a_connection_is_dropped_after_a_number_of_frames() -> Outcome {
    let (server, vault) = server("drop-after-frames=next:1,frames=4").await?;
    let mut one = device(&server, &vault).await?;
    sound_pull(&mut one, &vault, 1).await?;
    one.send(json!({ "op": "pull", "uid": 2 })).await?;
    assert!(is_over(&mut one).await);
    let mut other = device(&server, &vault).await?;
    for uid in 1..=10 {
        sound_pull(&mut other, &vault, uid).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_is_dropped_on_a_request() -> Outcome {
    let (server, vault) = server("drop-on-request=next:1+after:1").await?;
    let mut one = device(&server, &vault).await?;
    sound_pull(&mut one, &vault, 1).await?;
    one.send(json!({ "op": "size" })).await?;
    assert!(is_over(&mut one).await);
    sound_pull(&mut device(&server, &vault).await?, &vault, 1).await
}

#[tokio::test]
async fn a_connection_is_dropped_in_the_middle_of_a_content() -> Outcome {
    let (server, vault) = server("drop-in-content=uid:3+at-most:1").await?;
    let mut one = device(&server, &vault).await?;
    sound_pull(&mut one, &vault, 2).await?;
    one.send(json!({ "op": "pull", "uid": 3 })).await?;
    assert_eq!(one.answer().await?.pieces, Some(1));
    assert!(is_over(&mut one).await);
    let stats = server.stats();
    assert_eq!((stats.pulls, stats.pulls_answered), (2, 1));
    assert_eq!(stats.content_bytes, 5029 + 5029 / 2);
    sound_pull(&mut device(&server, &vault).await?, &vault, 3).await
}

#[tokio::test]
async fn a_listing_is_cut_off_or_stalls_before_ready() -> Outcome {
    let (server, vault) = server("drop-in-listing=next:1").await?;
    let (mut one, _) = Device::open(&server, &vault, "one", 0).await?;
    for uid in 1..=5 {
        assert_eq!(one.pushed().await?.uid, Uid(uid));
    }
    assert!(is_over(&mut one).await);
    server.faults().set("stall-in-listing=next:1".parse()?);
    let (mut one, _) = Device::open(&server, &vault, "one", 4).await?;
    for uid in 5..=7 {
        assert_eq!(one.pushed().await?.uid, Uid(uid));
    }
    assert!(is_stalled(&mut one).await);
    let (_, entries, version) = Device::listed(&server, &vault, "one", 0).await?;
    assert_eq!((entries.len(), version), (10, 10));
    Ok(())
}

#[tokio::test]
async fn a_service_time_is_spent_on_each_request_of_a_connection_one_after_another() -> Outcome {
    const EACH: Duration = Duration::from_millis(100);
    let (server, vault) = server("").await?;
    let (mut one, mut two) = (device(&server, &vault).await?, device(&server, &vault).await?);
    server.faults().set("service-time=100ms".parse()?);
    let begin = Instant::now();
    for device in [&mut one, &mut two] {
        for _ in 0..4 {
            device.send(json!({ "op": "ping" })).await?;
        }
    }
    for device in [&mut one, &mut two] {
        for _ in 0..4 {
            assert!(matches!(device.message().await?, ServerMessage::Pong));
        }
    }
    let took = begin.elapsed();
    assert!((EACH * 4..EACH * 7).contains(&took), "{took:?}");
    Ok(())
}

#[tokio::test]
async fn the_pull_of_one_content_is_never_answered() -> Outcome {
    let (server, vault) = server("stall-pull=uid:2").await?;
    let mut one = device(&server, &vault).await?;
    sound_pull(&mut one, &vault, 1).await?;
    one.send(json!({ "op": "pull", "uid": 2 })).await?;
    one.send(json!({ "op": "ping" })).await?;
    assert!(is_stalled(&mut one).await);
    sound_pull(&mut device(&server, &vault).await?, &vault, 3).await
}

#[tokio::test]
async fn a_request_a_content_or_an_init_is_never_answered() -> Outcome {
    let (server, vault) = server("stall-request=next:1").await?;
    let mut one = device(&server, &vault).await?;
    one.send(json!({ "op": "pull", "uid": 1 })).await?;
    one.send(json!({ "op": "ping" })).await?;
    assert!(is_stalled(&mut one).await);

    server.faults().set("stall-in-content=next:1,pieces=1000".parse()?);
    let mut one = device(&server, &vault).await?;
    one.send(json!({ "op": "pull", "uid": 1 })).await?;
    assert_eq!(one.answer().await?.pieces, Some(6));
    for _ in 0..3 {
        assert_eq!(one.binary().await?.len(), 1000);
    }
    assert!(is_stalled(&mut one).await);

    server.faults().set("stall-init=next:1".parse()?);
    let mut one = Device::connect(&server).await?;
    one.send(crate::client::init(&vault, &sign_in(&server).await?, "one", 0)?).await?;
    assert!(is_stalled(&mut one).await);
    sound_pull(&mut device(&server, &vault).await?, &vault, 1).await
}

#[tokio::test]
async fn init_is_refused_in_any_words_or_answered_barely() -> Outcome {
    let (server, vault) = server("init-error=next:1,init-error-text=Server overloaded").await?;
    let (mut one, answer) = Device::open(&server, &vault, "one", 0).await?;
    assert_eq!(answer.error().as_deref(), Some("Server overloaded"));
    assert!(is_over(&mut one).await);
    server.faults().set("init-bare".parse()?);
    let (_, answer) = Device::open(&server, &vault, "one", 0).await?;
    assert!(answer.is_ok() && answer.per_file_max.is_none() && answer.user_id.is_none());
    Ok(())
}

#[tokio::test]
async fn content_is_corrupt_or_truncated_in_ways_that_only_decryption_finds() -> Outcome {
    for fault in ["corrupt-content", "truncate-content"] {
        let (server, vault) = server(&format!("{fault}=next:1")).await?;
        let mut one = device(&server, &vault).await?;
        let (answer, content) = one.pull(1).await?;
        assert_eq!(answer.size, Some(content.len() as u64), "{fault}");
        assert_eq!(content.len() < 5029, fault == "truncate-content");
        assert!(vault.keys()?.open(&content).is_err(), "{fault}");
        sound_pull(&mut one, &vault, 1).await?;
    }
    Ok(())
}

#[tokio::test]
async fn frames_do_not_add_up_to_what_the_header_says() -> Outcome {
    let (server, vault) = server("short-piece=next:1").await?;
    let mut one = device(&server, &vault).await?;
    let (answer, content) = one.pull(1).await?;
    assert_eq!((answer.size, content.len()), (Some(5029), 5028));

    server.faults().set("lie-size=next:1".parse()?);
    let (answer, content) = one.pull(1).await?;
    assert!(answer.size == Some(5030) || answer.size == Some(5028));
    assert_eq!(content.len(), 5029);

    server.faults().set("extra-piece=next:1".parse()?);
    let (answer, _) = one.pull(1).await?;
    assert_eq!((answer.size, answer.pieces), (Some(5029), Some(1)));
    assert_eq!(one.binary().await?, b"one piece too many");

    server.faults().set("missing-piece=next:1,pieces=3000".parse()?);
    one.send(json!({ "op": "pull", "uid": 1 })).await?;
    assert_eq!(one.answer().await?.pieces, Some(2));
    assert_eq!(one.binary().await?.len(), 3000);
    assert!(is_stalled(&mut one).await);

    server.faults().set("huge-header=next:1".parse()?);
    one.send(json!({ "op": "pull", "uid": 1 })).await?;
    let answer = one.answer().await?;
    assert_eq!((answer.size, answer.pieces), (Some(1 << 52), Some(1 << 31)));
    assert_eq!(one.binary().await?.len(), 5029);
    sound_pull(&mut one, &vault, 1).await
}

#[tokio::test]
async fn the_header_carries_a_wrong_hash_or_none() -> Outcome {
    let (server, vault) = server("wrong-hash=next:1").await?;
    let mut one = device(&server, &vault).await?;
    let (_, entries, _) = Device::listed(&server, &vault, "two", 0).await?;
    let right = entries[0].hash.clone();
    let (answer, _) = one.pull(1).await?;
    assert!(answer.hash.is_some_and(|hash| hash != right));
    server.faults().set("missing-hash=next:1".parse()?);
    assert_eq!(one.pull(1).await?.0.hash, None);
    assert_eq!(one.pull(1).await?.0.hash, Some(right));
    Ok(())
}

#[tokio::test]
async fn pipelined_answers_are_swapped_and_single_ones_are_not() -> Outcome {
    let (server, vault) = server("swap-answers=next:1").await?;
    let mut one = device(&server, &vault).await?;
    sound_pull(&mut one, &vault, 5).await?;
    for uid in [1, 2, 3] {
        one.send(json!({ "op": "pull", "uid": uid })).await?;
    }
    for expected in [1, 0, 2] {
        let (_, content) = one.pulled().await?;
        assert_eq!(vault.keys()?.open(&content)?.last(), Some(&expected));
    }
    Ok(())
}

#[tokio::test]
async fn pulls_are_answered_by_errors_of_every_kind() -> Outcome {
    let (server, vault) = server("refuse-pull=next:1").await?;
    let mut one = device(&server, &vault).await?;
    let (answer, _) = one.pull(1).await?;
    assert_eq!(answer.res.as_deref(), Some("err"));
    assert!(answer.msg.is_some());
    server.faults().set("err-answer=next:1".parse()?);
    let (answer, _) = one.pull(1).await?;
    assert!(answer.err.is_some() && answer.res.is_none());
    server.faults().set("bare-answer=next:1".parse()?);
    let (answer, _) = one.pull(1).await?;
    assert!(answer.error().is_none() && answer.size.is_none() && answer.pieces.is_none());
    server.faults().set("gone-answer=next:1".parse()?);
    assert!(one.pull(1).await?.0.deleted);
    server.faults().set("garbage-answer=next:1".parse()?);
    one.send(json!({ "op": "pull", "uid": 1 })).await?;
    let Some(Message::Text(text)) = one.frame().await? else {
        return Err("no text".into());
    };
    assert!(ServerMessage::parse(&text).is_err());
    server.faults().set("huge-text=next:1".parse()?);
    one.send(json!({ "op": "pull", "uid": 1 })).await?;
    let Some(Message::Text(text)) = one.frame().await? else {
        return Err("no text".into());
    };
    assert!(text.len() > 4 << 20);
    sound_pull(&mut one, &vault, 1).await
}

#[tokio::test]
async fn a_push_is_refused_and_nothing_is_recorded() -> Outcome {
    let (server, vault) = server("refuse-push=next:1").await?;
    let mut one = device(&server, &vault).await?;
    let blob = vault.keys()?.seal([1; 12], b"x")?;
    let request = file(vault.keys()?, "new.md", b"x", &blob)?;
    one.send(request.clone()).await?;
    assert!(one.answer().await?.error().is_some());
    assert_eq!(vault.version(), Uid(10));
    assert_eq!(one.push(request, &blob).await?.0.uid, Uid(11));
    Ok(())
}

#[tokio::test]
async fn messages_to_be_ignored_come_everywhere() -> Outcome {
    let (server, vault) = server("unknown-ops,pieces=3000").await?;
    let mut one = device(&server, &vault).await?;
    one.send(json!({ "op": "pull", "uid": 1 })).await?;
    let mut seen = Vec::new();
    while seen.iter().filter(|kind| **kind == "content").count() < 2 {
        seen.push(match one.frame().await? {
            Some(Message::Binary(_)) => "content",
            Some(Message::Text(text)) => match ServerMessage::parse(&text)? {
                ServerMessage::Unknown { .. } => "unknown",
                ServerMessage::Pong => "pong",
                ServerMessage::Answer(_) => "answer",
                other => return Err(format!("{other:?}").into()),
            },
            other => return Err(format!("{other:?}").into()),
        });
    }
    let expected = ["unknown", "pong", "answer", "unknown", "pong", "content", "unknown", "pong", "content"];
    assert_eq!(seen, expected);
    Ok(())
}

#[tokio::test]
async fn pushes_of_other_devices_come_between_frames() -> Outcome {
    let (server, vault) = server("live-pushes=next:1+after:1,pieces=3000").await?;
    let mut one = device(&server, &vault).await?;
    one.send(json!({ "op": "pull", "uid": 1 })).await?;
    assert_eq!(one.answer().await?.pieces, Some(2));
    one.binary().await?;
    let push = one.pushed().await?;
    assert_eq!((push.uid, push.device.as_str()), (Uid(11), "Live writer"));
    one.binary().await?;
    assert_eq!(vault.expected()?.files.len(), 11);
    Ok(())
}

#[tokio::test]
async fn hostile_paths_are_listed_once_they_are_asked_for() -> Outcome {
    let (server, vault) = server("hostile-paths").await?;
    let expected = vault.expected()?;
    let (_, first, version) = Device::listed(&server, &vault, "one", 10).await?;
    assert!(first.len() > 10);
    let keys = vault.keys()?;
    let is_refused = |path| keys.decode_path(path).map_or(true, |path| path.check_to_write().is_err());
    assert!(first.iter().all(|entry| is_refused(&entry.path)));
    let (_, second, _) = Device::listed(&server, &vault, "one", version).await?;
    assert!(second.is_empty());
    assert_eq!(vault.expected()?, expected);
    Ok(())
}

#[tokio::test]
async fn pieces_come_in_odd_sizes_and_add_up_all_the_same() -> Outcome {
    let (server, vault) = server("").await?;
    let sizes = [PieceSizes::Fixed(1), PieceSizes::Fixed(1000), PieceSizes::Random(700), PieceSizes::Whole];
    let mut one = device(&server, &vault).await?;
    for pieces in sizes {
        server.faults().set(Faults { pieces, seed: 3, ..Faults::default() });
        sound_pull(&mut one, &vault, 4).await?;
        let (answer, _) = one.pull(4).await?;
        match pieces {
            PieceSizes::Fixed(bytes) => assert_eq!(answer.pieces, Some(5029_u64.div_ceil(bytes.into()))),
            PieceSizes::Random(_) => assert!(answer.pieces > Some(7)),
            PieceSizes::Whole => assert_eq!(answer.pieces, Some(1)),
        }
    }
    Ok(())
}

#[tokio::test]
async fn latency_delays_answers_but_pipelining_hides_it() -> Outcome {
    let (server, vault) = server("latency=100ms").await?;
    let mut one = device(&server, &vault).await?;
    let start = Instant::now();
    for uid in 1..=10 {
        one.send(json!({ "op": "pull", "uid": uid })).await?;
    }
    for _ in 1..=10 {
        one.pulled().await?;
    }
    // Not faster than one latency. That it is not ten of them is the point, but clocks are too unreliable to
    // assert it.
    assert!(start.elapsed() >= Duration::from_millis(100));
    Ok(())
}

#[tokio::test]
async fn the_handshake_is_refused_or_never_answered() -> Outcome {
    let (server, vault) = server("refuse-upgrade=next:1").await?;
    assert!(Device::connect(&server).await.is_err());
    server.faults().set("hang-upgrade=next:1".parse()?);
    assert!(timeout(STALL, Device::connect(&server)).await.is_err());
    sound_pull(&mut device(&server, &vault).await?, &vault, 1).await
}

#[tokio::test]
async fn rest_calls_fail_in_every_way() -> Outcome {
    let (server, _) = server("").await?;
    let sign_in_once = || async {
        let body = json!({ "email": EMAIL, "password": PASSWORD, "mfa": "" });
        request(&server, "POST", "/user/signin", &body.to_string()).await
    };
    server.faults().set("rest-overloaded=next:1".parse()?);
    let reply = sign_in_once().await?;
    assert!(reply.status == 200 && reply.body.contains("overloaded") && reply.body.contains("error"));
    server.faults().set("rest-status-error=next:2,rest-status=500".parse()?);
    assert_eq!((sign_in_once().await?.status, sign_in_once().await?.status), (500, 500));
    server.faults().set("rest-garbage=next:1".parse()?);
    assert!(sign_in_once().await?.body.starts_with("<html>"));
    server.faults().set("rest-drop=next:1".parse()?);
    assert!(sign_in_once().await.is_err());
    server.faults().set("rest-hang=next:1".parse()?);
    assert!(timeout(STALL, sign_in_once()).await.is_err());
    assert!(sign_in_once().await?.body.contains("token"));
    assert_eq!(server.faults().strikes("rest-hang"), 1);
    Ok(())
}

#[tokio::test]
async fn rest_faults_can_be_kept_to_one_call() -> Outcome {
    let (server, _) = server("rest-overloaded,rest-path=/vault/list").await?;
    let token = sign_in(&server).await?;
    let list = json!({ "token": token, "supported_encryption_version": 3 });
    assert!(post(&server, "/vault/list", list).await?["error"].is_string());
    Ok(())
}

#[tokio::test]
async fn the_listing_can_send_clients_elsewhere() -> Outcome {
    let (server, _) = server("listing-host=evil.example:444").await?;
    let list = json!({ "token": sign_in(&server).await?, "supported_encryption_version": 3 });
    assert_eq!(post(&server, "/vault/list", list).await?["vaults"][0]["host"], "evil.example:444");
    Ok(())
}

#[tokio::test]
async fn the_same_seed_strikes_the_same_contents_whatever_the_order() -> Outcome {
    let mut struck = Vec::new();
    for order in [(1..=10).collect::<Vec<_>>(), (1..=10).rev().collect()] {
        let (server, vault) = server("").await?;
        let faults = Faults { refuse_pull: Chance::probability(0.5), seed: 1, ..Faults::default() };
        server.faults().set(faults);
        let mut refused = Vec::new();
        // Each from another connection: their order must not matter.
        for uid in order {
            let (answer, _) = device(&server, &vault).await?.pull(uid).await?;
            if answer.error().is_some() {
                refused.push(uid);
            }
        }
        refused.sort_unstable();
        struck.push(refused);
    }
    assert_eq!(struck[0], struck[1]);
    assert!(!struck[0].is_empty() && struck[0].len() < 10);
    Ok(())
}
