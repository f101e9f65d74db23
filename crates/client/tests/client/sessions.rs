//! Sessions: opening, listing, queries, and every way in which the server can prevent them.

use std::time::Duration;

use obsync_client::{ClientError, Session, SessionTarget, Token};
use obsync_protocol::{MasterKey, Uid, VaultId, VaultKeys, VaultPath};
use obsync_testkit::Server;

use crate::bed::{Bed, limited};

/// Limits that a test can wait for.
async fn impatient() -> Bed {
    Bed::with(|mut options| {
        let limit = Duration::from_millis(300);
        (options.timeouts.connect, options.timeouts.answer) = (limit, limit);
        (options.timeouts.silence, options.timeouts.stall) = (limit, limit);
        options
    })
    .await
}

#[tokio::test]
async fn the_listing_brings_every_entry_in_order_and_then_the_version() {
    let bed = Bed::start().await;
    bed.vault.write("Daily/one.md", "1", 1000).unwrap();
    bed.vault.write("two.md", "2", 2000).unwrap();
    bed.vault.delete("two.md").unwrap();
    let (session, entries) = bed.listed().await;
    assert_eq!(session.version(), bed.vault.version().0);
    assert!(entries.is_sorted_by_key(|entry| entry.uid));
    let keys = bed.keys();
    let seen: Vec<_> = entries
        .iter()
        .map(|entry| (keys.decode_path(&entry.path).unwrap().to_string(), entry.folder, entry.deleted))
        .collect();
    let expected = [("Daily", true, false), ("Daily/one.md", false, false), ("two.md", false, true)];
    assert_eq!(seen, expected.map(|(path, folder, deleted)| (path.to_owned(), folder, deleted)));
}

#[tokio::test]
async fn a_session_that_begins_at_a_version_lists_only_what_is_newer() {
    let bed = Bed::start().await;
    let old = bed.vault.write("old.md", "1", 1).unwrap();
    bed.vault.write("new.md", "2", 2).unwrap();
    let mut session = limited(Session::open(&bed.client, &bed.target(), old.0, false)).await.unwrap();
    let mut uids = Vec::new();
    limited(session.listing(&mut |entry| uids.push(entry.uid))).await.unwrap();
    assert_eq!(uids, [bed.vault.version()]);
    let stats = bed.server.stats();
    let init = stats.inits.last().unwrap();
    assert_eq!((init.version, init.initial, init.device.as_str()), (old.0, false, "obsync"));
}

#[tokio::test]
async fn a_refused_opening_says_why() {
    let bed = Bed::start().await;
    let open = |target: SessionTarget| {
        let client = bed.client.clone();
        async move { limited(Session::open(&client, &target, 0, true)).await.unwrap_err() }
    };
    let stranger = SessionTarget { token: Token::new("nobody's"), ..bed.target() };
    assert!(matches!(open(stranger).await, ClientError::NotSignedIn));

    let unknown = SessionTarget { vault_id: VaultId::try_new("no-such-vault").unwrap(), ..bed.target() };
    assert!(matches!(open(unknown).await, ClientError::VaultNotFound));

    let other_keys =
        VaultKeys::new(&MasterKey::derive(&"other".into(), "salt"), bed.vault.encryption_version(), "salt");
    let locked_out = SessionTarget { keys: other_keys, ..bed.target() };
    assert!(open(locked_out).await.is_auth());

    bed.server.set_subscription_expired(true).unwrap();
    assert!(matches!(open(bed.target()).await, ClientError::SubscriptionExpired));
    // None of these was retried.
    assert_eq!(bed.server.stats().inits.len(), 4);
}

#[tokio::test]
async fn the_servers_words_are_recognised_in_any_letter_case_and_others_passed_on() {
    let bed = Bed::start().await;
    bed.fault("init-error,init-error-text=YOUR SUBSCRIPTION TO OBSIDIAN SYNC HAS EXPIRED.");
    assert!(matches!(bed.open().await, Err(ClientError::SubscriptionExpired)));
    bed.fault("init-error,init-error-text=The moon is in the wrong phase");
    let error = bed.open().await.unwrap_err();
    assert!(matches!(&error, ClientError::Service { message } if message.contains("moon")), "{error:?}");
    assert_eq!(bed.server.stats().inits.len(), 2);
}

#[tokio::test]
async fn an_overloaded_server_is_asked_again() {
    let bed = Bed::start().await;
    bed.fault("init-error=next:2,init-error-text=Server overloaded");
    bed.open().await.unwrap();
    bed.fault("refuse-upgrade=next:2");
    bed.open().await.unwrap();
    bed.fault("refuse-upgrade");
    let error = bed.open().await.unwrap_err();
    assert!(matches!(error, ClientError::Http { status: 503 }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_is_down_is_named_as_unreachable() {
    let bed = Bed::start().await;
    let target = bed.target();
    let Bed { server, client, .. } = bed;
    server.shutdown().await;
    let error = limited(Session::open(&client, &target, 0, true)).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Unreachable { host, .. } if host.starts_with("127.0.0.1:")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_given_up() {
    for (fault, what) in [("hang-upgrade", "a connection"), ("stall-init", "answer to opening")] {
        let bed = impatient().await;
        bed.fault(fault);
        let error = bed.open().await.unwrap_err();
        assert!(matches!(error, ClientError::TimedOut { .. }), "{error:?}");
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[tokio::test]
async fn a_listing_that_stops_or_breaks_off_is_an_error() {
    let bed = impatient().await;
    for number in 0..10 {
        bed.vault.write(&format!("{number}.md"), "x", 1).unwrap();
    }
    for (fault, is_expected) in [
        (
            "stall-in-listing",
            (|error| matches!(error, ClientError::TimedOut { .. })) as fn(&ClientError) -> bool,
        ),
        ("drop-in-listing", |error| matches!(error, ClientError::ConnectionLost { .. })),
    ] {
        bed.fault(fault);
        let mut session = bed.open().await.unwrap();
        let mut entries = 0;
        let error = limited(session.listing(&mut |_| entries += 1)).await.unwrap_err();
        assert!(is_expected(&error), "{fault}: {error:?}");
        assert_eq!(entries, 5, "{fault}");
    }
}

#[tokio::test]
async fn messages_of_unknown_kinds_and_missing_fields_do_no_harm() {
    let bed = Bed::start().await;
    bed.vault.write("a.md", "a", 1).unwrap();
    bed.fault("unknown-ops,init-bare");
    let (session, entries) = bed.listed().await;
    assert_eq!(entries.len(), 1);
    // Without a limit from the server, 199 MiB are assumed.
    assert_eq!(session.file_limit(), 199 << 20);
}

#[tokio::test]
async fn a_vault_tells_its_size_and_its_past() {
    let bed = Bed::start().await;
    let first = bed.vault.write("note.md", "first", 1).unwrap();
    bed.vault.write("note.md", "second", 2).unwrap();
    bed.vault.write("gone.md", "gone", 3).unwrap();
    bed.vault.delete("gone.md").unwrap();
    let (mut session, _) = bed.listed().await;

    let size = limited(session.size()).await.unwrap();
    assert!(size.size > 0 && size.limit > size.size);

    let keys = bed.keys();
    let deleted = limited(session.deleted()).await.unwrap();
    assert_eq!(deleted.len(), 1);
    assert_eq!(keys.decode_path(&deleted[0].path).unwrap().as_str(), "gone.md");

    let path = keys.encode_path(&VaultPath::parse("note.md").unwrap());
    let history = limited(session.history(&path, Uid(0))).await.unwrap();
    assert_eq!((history.items.len(), history.more), (2, false));
    assert_eq!(history.items[1].uid, first);

    let (mut writer, mut live) = bed.writer().await;
    limited(writer.restore(first)).await.unwrap();
    assert_eq!(live.try_next().unwrap().map(|entry| entry.uid), Some(Uid(5)));
    assert_eq!(limited(writer.history(&path, Uid(0))).await.unwrap().items.len(), 3);
    assert_eq!(limited(writer.deleted()).await.unwrap().len(), 1);
    let error = limited(writer.restore(Uid(9999))).await.unwrap_err();
    assert!(matches!(error, ClientError::Service { .. }), "{error:?}");
    // A refusal leaves the session usable.
    assert!(limited(writer.size()).await.unwrap().size >= size.size);
}

#[tokio::test]
async fn a_server_is_reached_again_after_it_dropped_everything() {
    let bed = Bed::start().await;
    bed.vault.write("a.md", "a", 1).unwrap();
    let (mut session, _) = bed.listed().await;
    bed.server.disconnect_all();
    assert!(matches!(limited(session.size()).await, Err(ClientError::ConnectionLost { .. })));
    let (mut session, entries) = bed.listed().await;
    assert_eq!(entries.len(), 1);
    limited(session.size()).await.unwrap();
    session.close().await;
    limited(bed.server.wait_for(|stats| stats.open_websockets == 0)).await;
}

/// Tests the builder that the other tests rely on.
#[tokio::test]
async fn the_servers_limit_on_files_is_taken_over() {
    let server = Server::builder()
        .user(crate::bed::EMAIL, crate::bed::PASSWORD)
        .vault(obsync_testkit::VaultSpec::managed("Small"))
        .per_file_max(1000)
        .start()
        .await
        .unwrap();
    let vault = server.vault("Small").unwrap();
    let client = obsync_client::Client::new(crate::bed::options(&server.url())).unwrap();
    let token = client.sign_in(crate::bed::EMAIL, &crate::bed::PASSWORD.into(), None).await.unwrap().token;
    let target = SessionTarget {
        token,
        vault_id: vault.id().clone(),
        host: server.host(),
        keys: vault.keys().unwrap().clone(),
    };
    let session = limited(Session::open(&client, &target, 0, true)).await.unwrap();
    assert_eq!(session.file_limit(), 1000);
}

#[tokio::test]
async fn a_session_that_reads_asks_for_no_change_of_the_vault() {
    let bed = Bed::start().await;
    bed.vault.write("note.md", "text", 1).unwrap();
    let (mut session, entries) = bed.listed().await;
    limited(session.size()).await.unwrap();
    limited(session.deleted()).await.unwrap();
    limited(session.history(&entries[0].path, Uid(0))).await.unwrap();
    assert!(crate::collector::Run::of(&bed).await.fetch(&bed).await.failures.is_empty());
    assert_eq!((bed.server.stats().changes_requested, bed.vault.version()), (0, Uid(1)));
    // A session for writing does.
    let (mut writer, _) = bed.writer().await;
    limited(writer.push_folder(&VaultPath::parse("Folder").unwrap())).await.unwrap();
    assert_eq!(bed.server.stats().changes_requested, 1);
}
