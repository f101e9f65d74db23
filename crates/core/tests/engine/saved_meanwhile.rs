//! Notes that a user saves here at the very moment of a run.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use obsync_core::{NoProgress, Outcome, Progress, Report, pull};
use tokio_util::sync::CancellationToken;

use crate::bench::Bench;
use crate::meddled::MeddledFolder;

const T: i64 = 1_700_000_000_000;

/// Pulls; a user saves `text` as `path` between the check of it and the first batch.
async fn pull_while_saving(bench: &Bench, path: &str, text: &'static str) -> Report {
    let file = bench.dest().join(path);
    let destination = MeddledFolder::before_publishing(bench.store(), move || fs::write(file, text).unwrap());
    let (progress, stop) = (Arc::new(NoProgress), CancellationToken::new());
    pull(&bench.source, Arc::new(destination), bench.state(), &bench.options, progress, stop).await.unwrap()
}

/// True if a file has the time at which it was saved, and not one of the vault's.
fn has_own_time(path: &Path) -> bool {
    fs::metadata(path).unwrap().modified().unwrap().elapsed().unwrap() < Duration::from_secs(3600)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_that_is_saved_while_it_is_adopted_keeps_its_text_and_time() {
    for text in ["mine", "my own text of another length"] {
        let bench = Bench::new().await;
        bench.vault.write("note.md", "text", T).unwrap();
        fs::create_dir_all(bench.dest()).unwrap();
        fs::write(bench.dest().join("note.md"), "text").unwrap();
        let report = pull_while_saving(&bench, "note.md", text).await;
        assert_eq!((report.outcome, report.adopted.files), (Outcome::Complete, 0), "{report:#?}");
        let [conflict] = &report.conflicts[..] else { panic!("{report:#?}") };
        assert_eq!(bench.read(conflict.kept_as.as_str()), text);
        assert!(has_own_time(&bench.dest().join(conflict.kept_as.as_str())));
        assert_eq!(bench.read("note.md"), "text");
        let verification = bench.verify().await;
        assert!(verification.missing.is_empty() && verification.changed.is_empty(), "{verification:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_that_is_saved_while_its_time_is_set_stays_as_it_is() {
    let bench = Bench::new().await;
    bench.vault.write("note.md", "text", T).unwrap();
    bench.pull().await;
    bench.vault.write("note.md", "text", T + 5000).unwrap();
    let report = pull_while_saving(&bench, "note.md", "mine").await;
    assert_eq!((report.outcome, report.conflicts.len()), (Outcome::Complete, 0), "{report:#?}");
    assert_eq!(bench.read("note.md"), "mine");
    assert!(has_own_time(&bench.dest().join("note.md")));
    // The vault does not have it, and the vault's next version does not overwrite it.
    bench.vault.write("note.md", "another text", T + 6000).unwrap();
    let report = bench.pull().await;
    assert_eq!(bench.read(report.conflicts[0].kept_as.as_str()), "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_has_one_conflicted_copy_and_none_that_obsidian_loads() {
    let bench = Bench::new().await;
    let files = ["note.md", ".obsidian/app.json", ".obsidian/snippets/wide.css"];
    for file in files {
        bench.vault.write(file, "from the vault", T).unwrap();
    }
    bench.pull().await;
    for round in 1..=50 {
        for file in files {
            fs::write(bench.dest().join(file), "formatted").unwrap();
            bench.vault.write(file, format!("from the vault {round}"), T + round).unwrap();
        }
        let report = bench.pull().await;
        assert_eq!((report.outcome, report.conflicts.len()), (Outcome::Complete, 3), "{report:#?}");
        for conflict in &report.conflicts {
            assert_eq!(bench.read(conflict.kept_as.as_str()), "formatted");
        }
    }
    let copies: Vec<String> =
        bench.files().into_iter().filter(|file| file.contains("Conflicted copy")).collect();
    assert_eq!(copies.len(), 3, "{copies:?}");
    assert!(copies.iter().all(|copy| !copy.ends_with(".css") && !copy.ends_with(".json")), "{copies:?}");
    // Another content is another copy.
    fs::write(bench.dest().join("note.md"), "another").unwrap();
    bench.vault.write("note.md", "from the vault at last", T + 50).unwrap();
    let report = bench.pull().await;
    assert_eq!(bench.read(report.conflicts[0].kept_as.as_str()), "another");
    assert_eq!(bench.files().len(), 7);
}

/// Collects what a user is told during a run.
#[derive(Default)]
struct Notices(Mutex<Vec<String>>);

impl Progress for Notices {
    fn notice(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_text_stays_is_said_also_by_a_run_that_ends_with_an_error() {
    let mut bench = Bench::new().await;
    bench.folder.trash = true;
    bench.vault.write("old.md", "old", T).unwrap();
    bench.pull().await;
    fs::write(bench.dest().join(".obsync/trash"), "not a folder").unwrap();
    bench.vault.delete("old.md").unwrap();
    bench.vault.write("new.md", "new", T).unwrap();
    let destination = Arc::new(MeddledFolder::full_at_first(bench.store()));
    let (notices, stop) = (Arc::new(Notices::default()), CancellationToken::new());
    let pulled = pull(&bench.source, destination, bench.state(), &bench.options, notices.clone(), stop).await;
    let error = pulled.unwrap_err();
    assert!(error.to_string().contains("is full"), "{error}");
    let said = notices.0.lock().unwrap();
    assert!(said.iter().any(|text| text.starts_with("old.md cannot be put into the trash")), "{said:?}");
}
