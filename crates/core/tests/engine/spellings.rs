//! Names that are stored in decomposed form here and in composed form in the vault.

use std::fs;

use obsync_core::Outcome;
use obsync_protocol::ContentHash;

use crate::bench::Bench;

const T: i64 = 1_700_000_000_000;
const COMPOSED: &str = "caf\u{e9}.md";
const DECOMPOSED: &str = "cafe\u{301}.md";

/// The names of the notes here, as they are.
fn names(bench: &Bench) -> Vec<String> {
    let entries = fs::read_dir(bench.dest()).unwrap().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| !name.starts_with('.')).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decomposed_name_stays_as_it_is_when_the_vault_replaces_the_file() {
    let bench = Bench::new().await;
    bench.vault.write("other.md", "other", T).unwrap();
    bench.sync().await;
    bench.edit(DECOMPOSED, "mine");
    let report = bench.sync().await;
    assert_eq!((report.outcome, report.pushed.files), (Outcome::Complete, 1), "{report:#?}");
    // The vault has it in composed form, and replaces it.
    let sha256 = ContentHash::of(b"mine").to_string();
    let files = bench.vault.expected().unwrap().files;
    assert!(files.iter().any(|file| file.path == COMPOSED && file.sha256 == sha256), "{files:#?}");
    for text in ["theirs", "theirs again"] {
        bench.vault.write(COMPOSED, text, T + 1).unwrap();
        let report = bench.sync().await;
        assert_eq!((report.outcome, report.conflicts.len()), (Outcome::Complete, 0), "{report:#?}");
        assert!(
            names(&bench).contains(&DECOMPOSED.to_owned()) && names(&bench).len() == 2,
            "{:?}",
            names(&bench)
        );
        assert_eq!(bench.read(DECOMPOSED), text);
        let report = bench.sync().await;
        assert_eq!((report.pushed.files, report.deleted_in_vault.files), (0, 0), "{report:#?}");
    }
    // A file that the vault deletes is removed, and does not come back.
    bench.vault.delete(COMPOSED).unwrap();
    bench.sync().await;
    assert_eq!(names(&bench), ["other.md"]);
    let report = bench.sync().await;
    assert!(report.is_unchanged(), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decomposed_name_is_merged_where_both_sides_edited_it() {
    let bench = Bench::new().await;
    bench.vault.write(COMPOSED, "a\nb\nc\n", T).unwrap();
    bench.sync().await;
    fs::rename(bench.dest().join(COMPOSED), bench.dest().join(DECOMPOSED)).unwrap();
    bench.sync().await;
    bench.edit(DECOMPOSED, "A\nb\nc\n");
    bench.vault.write(COMPOSED, "a\nb\nC\n", T + 1).unwrap();
    let report = bench.sync().await;
    assert_eq!((report.merged.len(), report.conflicts.len()), (1, 0), "{report:#?}");
    let texts = bench.vault.contents().unwrap();
    assert_eq!((names(&bench).len(), texts.len(), &texts[COMPOSED][..]), (1, 1, &b"A\nb\nC\n"[..]));
}

/// A vault may have both forms of a name. The form that a user removed here is not found by that of the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_note_stays_when_its_twin_in_another_normal_form_is_removed_on_both_sides() {
    for (kept, removed) in [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)] {
        let bench = Bench::new().await;
        for path in [kept, removed, "other.md"] {
            bench.vault.write(path, "the same text", T).unwrap();
        }
        bench.sync().await;
        if names(&bench).len() < 3 {
            return obsync_conformance::not_tested("the file system folds names");
        }
        fs::remove_file(bench.dest().join(removed)).unwrap();
        bench.sync().await;
        bench.vault.delete(removed).unwrap();
        for _ in 0..2 {
            let report = bench.sync().await;
            assert_eq!((report.deleted.files, report.deleted_in_vault.files), (0, 0), "{report:#?}");
        }
        assert!(names(&bench).contains(&kept.to_owned()), "{:?}", names(&bench));
        assert!(bench.vault.contents().unwrap().contains_key(kept));
    }
}
