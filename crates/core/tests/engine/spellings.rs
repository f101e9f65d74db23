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
