//! Changes whose answer was lost and that the vault takes much later: after other texts came here, after their
//! user wrote more, in a later run.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use obsync_core::{Doubt, Intent, Outcome, Phase, Progress, Report, StateStore, SyncOptions, sync};
use obsync_protocol::Uid;
use obsync_testkit::Chance;
use tokio_util::sync::CancellationToken;

use crate::bench::Bench;
use crate::two_way::{has, in_step};

const T: i64 = 1_700_000_000_000;
/// Requests after which the vault takes a change: from within its own run to some runs later.
const MOMENTS: std::ops::RangeInclusive<u64> = 1..=10;

/// Cuts a sync off while its first change is on its way, which the vault takes after this many requests.
async fn cut_off(bench: &Bench, late_after: u64) {
    bench.server.faults().update(|faults| {
        faults.late_push = Chance::next(1);
        faults.late_after = late_after;
    });
    cut_off_at(bench, "late-push").await;
}

/// Cuts a sync off when this fault strikes, if it does.
async fn cut_off_at(bench: &Bench, fault: &str) {
    let stop = CancellationToken::new();
    let strike = async {
        while bench.server.faults().strikes(fault) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stop.cancel();
    };
    let run = bench.sync_until(stop.clone(), |_| {});
    tokio::pin!(run);
    let ended = tokio::select! {
        ended = &mut run => ended,
        () = strike => run.await,
    };
    ended.unwrap();
    bench.server.faults().clear();
}

/// Syncs until the vault has taken everything and both sides are equal.
async fn come_to_rest(bench: &Bench, when: &str) {
    for runs in 0.. {
        let is_late = bench.server.late_pushes() > 0;
        let report = bench.sync().await;
        if !is_late && report.outcome == Outcome::Complete && report.is_unchanged() {
            break;
        }
        assert!(runs < 20, "{when}: they do not come to rest: {report:#?}");
    }
    bench.assert_in_step().await;
    let is_unsettled = |intent: &Intent| matches!(intent, Intent::Push { missing_since: None, .. });
    assert!(!bench.state().intents().await.unwrap().iter().any(is_unsettled), "{when}");
}

/// Another device writes to what the vault has at this moment.
fn write_there(bench: &Bench, path: &str, line: &str) {
    let mut text = bench.vault.contents().unwrap().remove(path).unwrap_or_default();
    text.extend_from_slice(line.as_bytes());
    bench.vault.as_device("Phone").write(path, text, T + 5000).unwrap();
}

fn has_word(bench: &Bench, word: &str) -> bool {
    bench.files().iter().any(|path| bench.read(path).contains(word))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_change_does_not_replace_what_its_user_wrote_since() {
    for note in ["note.md", "note.bin"] {
        for moment in MOMENTS {
            let when = format!("{note}, {moment}");
            let bench = in_step(&[(note, "base\n"), ("kept.md", "k")]).await;
            bench.edit(note, "first\n");
            cut_off(&bench, moment).await;
            bench.edit(note, "second\n");
            come_to_rest(&bench, &when).await;
            assert_eq!(bench.read(note), "second\n", "{when}");
            assert_eq!(bench.files().len(), 2, "{when}: {:?}", bench.files());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_change_removes_nothing_of_what_another_device_wrote_and_a_run_brought_here() {
    for note in ["note.md", "note.bin"] {
        for moment in MOMENTS {
            let when = format!("{note}, {moment}");
            let bench = in_step(&[(note, "base\n"), ("kept.md", "k")]).await;
            bench.edit(note, "mine\nbase\n");
            cut_off(&bench, moment).await;
            write_there(&bench, note, "theirs\n");
            come_to_rest(&bench, &when).await;
            assert!(has_word(&bench, "mine") && has_word(&bench, "theirs"), "{when}: {:?}", bench.files());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_late_change_and_two_newer_texts_none_is_lost() {
    for note in ["note.md", "note.bin", "new.md", "new.bin"] {
        for moment in MOMENTS {
            let when = format!("{note}, {moment}");
            let bench = in_step(&[("note.md", "base\n"), ("note.bin", "base\n")]).await;
            bench.edit(note, "mine\nbase\n");
            cut_off(&bench, moment).await;
            write_there(&bench, note, "theirs\n");
            bench.edit(note, "newer\nmine\nbase\n");
            come_to_rest(&bench, &when).await;
            for word in ["newer", "mine", "theirs"] {
                assert!(has_word(&bench, word), "{word}, {when}: {:?}", bench.files());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_sent_twice_may_arrive_twice() {
    for note in ["note.md", "note.bin"] {
        for moment in MOMENTS {
            let when = format!("{note}, {moment}");
            let bench = in_step(&[(note, "base\n"), ("kept.md", "k")]).await;
            bench.edit(note, "mine\nbase\n");
            cut_off(&bench, moment).await;
            bench.server.faults().update(|faults| faults.lose_echo = Chance::next(1));
            cut_off_at(&bench, "lose-echo").await;
            write_there(&bench, note, "theirs\n");
            come_to_rest(&bench, &when).await;
            assert!(has_word(&bench, "mine") && has_word(&bench, "theirs"), "{when}: {:?}", bench.files());
        }
    }
}

/// Neither of two late copies is believed to be the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_sent_three_times_may_arrive_late_twice() {
    for note in ["note.md", "note.bin"] {
        for moment in MOMENTS {
            let when = format!("{note}, {moment}");
            let bench = in_step(&[(note, "base\n"), ("kept.md", "k")]).await;
            bench.edit(note, "mine\nbase\n");
            cut_off(&bench, moment).await;
            cut_off(&bench, moment + 4).await;
            write_there(&bench, note, "theirs\n");
            let report = bench.sync().await;
            assert_eq!(report.outcome, Outcome::Complete, "{when}");
            write_there(&bench, note, "latest\n");
            come_to_rest(&bench, &when).await;
            for word in ["mine", "theirs", "latest"] {
                assert!(has_word(&bench, word), "{word}, {when}: {:?}", bench.files());
            }
        }
    }
}

/// Longer than any test: the vault takes the change by a write of its device, if at all.
const NEVER: u64 = 1_000_000;

/// Does something once a plan is being applied.
struct WhileApplying<F>(Mutex<Option<F>>);

impl<F: FnOnce() + Send + 'static> Progress for WhileApplying<F> {
    fn phase(&self, phase: Phase) {
        if phase == Phase::Transferring
            && let Some(act) = self.0.lock().unwrap().take()
        {
            act();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_change_that_only_a_further_listing_shows_replaces_nothing_newer() {
    for note in ["note.md", "note.bin"] {
        let bench = in_step(&[(note, "base\n"), ("kept.md", "k")]).await;
        bench.edit(note, "mine\n");
        cut_off(&bench, NEVER).await;
        bench.server.forget_late_pushes();
        bench.edit(note, "newer\n");
        assert_eq!(bench.sync().await.outcome, Outcome::Complete);
        // A content that is replaced after it was listed makes the run list again.
        let old = bench.vault.write("large.bin", "old", T).unwrap();
        bench.server.faults().set(format!("gone-answer=uid:{}", old.0).parse().unwrap());
        let (vault, here) = (bench.vault.clone(), bench.source.client.options().device.clone());
        let arrives = move || {
            vault.as_device(&here).write(note, "mine\n", T + 1000).unwrap();
            vault.write("large.bin", "new", T + 1000).unwrap();
        };
        let progress = Arc::new(WhileApplying(Mutex::new(Some(arrives))));
        let options = SyncOptions { pull: bench.options.clone(), ..SyncOptions::default() };
        let stop = CancellationToken::new();
        sync(&bench.source, bench.store(), bench.state(), &options, progress, stop).await.unwrap();
        bench.server.faults().clear();
        come_to_rest(&bench, note).await;
        assert!(has_word(&bench, "newer"), "{note}: {:?}", bench.files());
        assert_eq!(bench.read("large.bin"), "new");
    }
}

/// A new file whose push was lost has no history in the vault, and nobody knows how a service says that.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_is_refused_holds_up_no_run() {
    let bench = in_step(&[("kept.md", "k")]).await;
    bench.edit("new.md", "mine\n");
    cut_off(&bench, NEVER).await;
    bench.server.forget_late_pushes();
    bench.server.faults().set("refuse-history=always".parse().unwrap());
    for _ in 0..2 {
        let report = bench.sync().await;
        assert_eq!(report.outcome, Outcome::Failures, "it says what it does not know: {report:#?}");
    }
    assert!(bench.server.faults().strikes("refuse-history") >= 1);
    assert_eq!(bench.vault.contents().unwrap()["new.md"], b"mine\n");
    bench.server.faults().clear();
    come_to_rest(&bench, "answered again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_deletion_deletes_nothing_that_was_written_since() {
    for moment in MOMENTS {
        for is_written_here in [true, false] {
            let when = format!("{moment}, here: {is_written_here}");
            let bench = in_step(&[("note.md", "base\n"), ("kept.md", "k")]).await;
            fs::remove_file(bench.dest().join("note.md")).unwrap();
            cut_off(&bench, moment).await;
            match is_written_here {
                true => bench.edit("note.md", "again\n"),
                false => write_there(&bench, "note.md", "again\n"),
            }
            come_to_rest(&bench, &when).await;
            assert!(has_word(&bench, "again"), "{when}: {:?}", bench.files());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_rename_takes_no_text_along_that_was_written_since() {
    for moment in MOMENTS {
        // A server may leave the deletion of the old path to the client, which is cut off before it.
        for keep_related in [Chance::never(), Chance::always()] {
            let when = format!("{moment}, {keep_related:?}");
            let bench = in_step(&[("note.md", "base\n"), ("kept.md", "k")]).await;
            fs::rename(bench.dest().join("note.md"), bench.dest().join("renamed.md")).unwrap();
            cut_off(&bench, moment).await;
            bench.server.faults().update(|faults| faults.keep_related = keep_related.clone());
            bench.edit("renamed.md", "base\nsecond\n");
            write_there(&bench, "note.md", "theirs\n");
            come_to_rest(&bench, &when).await;
            assert_eq!(bench.read("renamed.md"), "base\nsecond\n", "{when}");
            assert!(has_word(&bench, "theirs"), "{when}: {:?}", bench.files());
        }
    }
}

/// After a sync, a folder may be pulled only.
#[tokio::test(flavor = "multi_thread")]
async fn a_pull_settles_what_a_sync_sent_even_if_another_pull_was_cut_off_before() {
    for moment in MOMENTS {
        let bench = in_step(&[("note.bin", "base\n"), ("kept.md", "k")]).await;
        bench.edit("note.bin", "mine\n");
        cut_off(&bench, moment).await;
        bench.edit("note.bin", "newer\n");
        // It has begun: the direction is stored.
        let stop = CancellationToken::new();
        bench.server.faults().update(|faults| faults.drop_in_listing = Chance::always());
        let halt = async {
            while bench.server.faults().strikes("drop-in-listing") == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            stop.cancel();
        };
        let pull = bench.pull_with(std::sync::Arc::new(obsync_core::NoProgress), stop.clone());
        let (_, ()) = tokio::join!(pull, halt);
        bench.server.faults().clear();
        while bench.server.late_pushes() > 0 {
            bench.pull().await;
        }
        bench.pull().await;
        assert!(has_word(&bench, "newer"), "{moment}: {:?}", bench.files());
        assert_eq!(bench.read("note.bin"), "newer\n", "{moment}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_rename_over_two_texts_the_one_that_can_be_had_is_kept_once() {
    let bench = in_step(&[("a.bin", "base"), ("kept.md", "k")]).await;
    fs::rename(bench.dest().join("a.bin"), bench.dest().join("b.bin")).unwrap();
    let (there, version) = (bench.vault.as_device("Phone"), bench.vault.version().0);
    bench.server.faults().update(|faults| {
        faults.rival_push = Chance::next(1);
        faults.drop_in_content = Chance::always().for_uid(Uid(version + 1));
    });
    let write = move || {
        there.write("a.bin", "theirs", T + 5000).unwrap();
    };
    let ended = bench.sync_while(write).await;
    assert!(ended.is_err(), "what was written to the old name cannot be had: {ended:?}");
    let copies = |bench: &Bench| bench.files().iter().filter(|path| path.starts_with("b (")).count();
    for _ in 0..3 {
        let report: Report = bench.try_sync().await.unwrap();
        assert_eq!(report.outcome, Outcome::Failures, "{report:#?}");
        assert_eq!(copies(&bench), 1, "{:?}", bench.files());
    }
    bench.server.faults().clear();
    come_to_rest(&bench, "at last").await;
    assert_eq!(copies(&bench), 1, "{:?}", bench.files());
    assert!(has_word(&bench, "theirs"), "{:?}", bench.files());
}

/// A checkout or an editor can make the old name again at any moment.
#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_file_whose_old_name_is_back_at_the_last_moment_is_sent_in_this_run() {
    let bench = in_step(&[("a.md", "the text"), ("kept.md", "k")]).await;
    fs::rename(bench.dest().join("a.md"), bench.dest().join("b.md")).unwrap();
    let old = bench.dest().join("a.md");
    let report = bench.sync_while(move || fs::write(old, "again").unwrap()).await.unwrap();
    assert_eq!(report.pushed.files, 1, "{report:#?}");
    let there = bench.vault.contents().unwrap();
    assert_eq!(there["b.md"], b"the text");
    assert_eq!(there["a.md"], b"the text", "it is the next run's");
    come_to_rest(&bench, "the next run").await;
    assert_eq!((bench.read("a.md"), bench.read("b.md")), ("again".to_owned(), "the text".to_owned()));
}

/// What the vault took late is not applied before it is known to be older than the file here.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_history_of_a_listed_change_is_refused_its_path_alone_waits() {
    let bench = in_step(&[("note.md", "base\n"), ("kept.md", "k")]).await;
    bench.edit("note.md", "first\n");
    cut_off(&bench, 1).await;
    bench.edit("note.md", "second\n");
    bench.server.faults().set("refuse-history=always".parse().unwrap());
    for text in ["kept once", "kept twice"] {
        bench.edit("kept.md", text);
        let report = bench.sync_until(CancellationToken::new(), |_| {}).await.unwrap();
        let failed: Vec<&str> = report.failures.iter().map(|failure| failure.path.as_str()).collect();
        assert_eq!((report.outcome, failed.as_slice()), (Outcome::Failures, &["note.md"][..]), "{report:#?}");
        assert!(has(&bench, "kept.md", text), "everything else goes on: {report:#?}");
        // What is listed is the first text, an old one of this device.
        assert!(has(&bench, "note.md", "first\n"));
        assert_eq!(bench.read("note.md"), "second\n");
    }
    bench.server.faults().clear();
    come_to_rest(&bench, "at last").await;
    assert_eq!((bench.read("note.md").as_str(), bench.files().len()), ("second\n", 2));
    assert!(has(&bench, "note.md", "second\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_is_refused_once_hides_no_other_change_of_its_path() {
    let bench = in_step(&[("note.bin", "base\n"), ("kept.md", "k")]).await;
    bench.edit("note.bin", "first\n");
    cut_off(&bench, NEVER).await;
    bench.edit("note.bin", "second\n");
    cut_off(&bench, NEVER).await;
    bench.server.forget_late_pushes();
    bench.edit("note.bin", "third\n");
    // The vault takes the second one.
    let here = bench.source.client.options().device.clone();
    bench.vault.as_device(&here).write("note.bin", "second\n", T + 1000).unwrap();
    bench.server.faults().set("refuse-history=next:1".parse().unwrap());
    let _ = bench.sync_until(CancellationToken::new(), |_| {}).await;
    bench.server.faults().clear();
    come_to_rest(&bench, "at last").await;
    assert_eq!(bench.read("note.bin"), "third\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_history_of_one_change_leaves_the_others_of_its_batch_recorded() {
    let bench = in_step(&[("kept.md", "k")]).await;
    bench.edit("a.md", "a");
    bench.edit("b.md", "b");
    bench.server.faults().update(|faults| {
        faults.lose_echo = Chance::always();
        faults.refuse_history = Chance::next(1);
    });
    bench.sync().await;
    bench.server.faults().clear();
    come_to_rest(&bench, "at last").await;
    assert_eq!(bench.vault.contents().unwrap().len(), 3);
}

/// What is announced has nothing to do with the files here: it can still arrive.
#[tokio::test(flavor = "multi_thread")]
async fn a_destination_in_doubt_forgets_no_change_that_may_still_arrive() {
    let notes = ["1.md", "2.md", "3.md", "4.md", "5.md"];
    let texts: Vec<_> = notes.iter().map(|note| (*note, "newest\n")).chain([("note.md", "base\n")]).collect();
    let bench = in_step(&texts).await;
    bench.edit("note.md", "first\n");
    cut_off(&bench, NEVER).await;
    assert!(!bench.state().intents().await.unwrap().is_empty());
    for note in notes {
        bench.edit(note, "of a backup\n");
        let file = fs::File::options().append(true).open(bench.dest().join(note)).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_600_000_000)).unwrap();
    }
    let report = bench.sync().await;
    assert_eq!(report.doubt, Some(Doubt::OlderFiles), "{report:#?}");
    let now = bench.state().intents().await.unwrap();
    assert!(now.iter().any(|intent| matches!(intent, Intent::Push { .. })), "{now:?}");
}
