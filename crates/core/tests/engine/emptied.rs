//! Destinations from which all pulled files are gone, and in which other files are left.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use obsync_conformance::confined::{Confinement, confined};
use obsync_core::{Doubt, Outcome};

use crate::bench::Bench;

const T: i64 = 1_700_000_000_000;

/// Files that file systems, operating systems and other programs leave in a folder.
fn litter(bench: &Bench) {
    for folder in ["lost+found", ".git/objects", "@eaDir", ".stfolder", ".Trash-1000/files"] {
        fs::create_dir_all(bench.dest().join(folder)).unwrap();
    }
    fs::write(bench.dest().join(".DS_Store"), "x").unwrap();
    fs::write(bench.dest().join(".git/objects/a"), "x").unwrap();
    fs::set_permissions(bench.dest().join("lost+found"), fs::Permissions::from_mode(0o000)).unwrap();
}

fn remove_all_but_litter(bench: &Bench) {
    for entry in fs::read_dir(bench.dest()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with(['.', '@']) && name != ".obsidian" || name == "lost+found" {
            continue;
        }
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_in_which_only_litter_is_left_is_filled_again() {
    let bench = Bench::new().await;
    for path in ["a.md", "Folder/b.md", ".obsidian/app.json"] {
        bench.vault.write(path, path, T).unwrap();
    }
    bench.pull().await;
    litter(&bench);
    let report = bench.pull().await;
    assert_eq!((report.warnings.len(), report.pulled.files), (0, 0), "{report:#?}");
    remove_all_but_litter(&bench);
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.pulled.files), (Outcome::Complete, 3), "{report:#?}");
    assert_eq!(report.doubt, Some(Doubt::OtherFiles), "{report:#?}");
    assert!(report.warnings[0].contains("none of the checked files"), "{report:#?}");
    let report = bench.pull().await;
    assert_eq!((report.warnings.len(), report.pulled.files), (0, 0), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_deep_below_folders_that_are_not_recorded_is_not_nothing() {
    let bench = Bench::new().await;
    bench.vault.write("one/two/three.md", "text", T).unwrap();
    bench.pull().await;
    for number in 0..30 {
        fs::write(bench.dest().join(format!("mine {number}.md")), "mine").unwrap();
    }
    let report = bench.pull().await;
    assert_eq!((report.warnings.len(), report.requests), (0, 0), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_read_and_holds_nothing_recorded_is_a_note_of_verify() {
    let test = "emptied::a_folder_that_cannot_be_read_and_holds_nothing_recorded_is_a_note_of_verify";
    let Some(place) = confined(test, Confinement::NoPrivileges) else { return };
    let bench = Bench::new().await.at(&place);
    bench.vault.write("a.md", "text", T).unwrap();
    bench.pull().await;
    fs::create_dir(bench.dest().join("lost+found")).unwrap();
    fs::set_permissions(bench.dest().join("lost+found"), fs::Permissions::from_mode(0o000)).unwrap();
    let verification = bench.verify().await;
    assert!(verification.is_clean(), "{verification:#?}");
    assert_eq!(verification.unreadable, ["lost+found"]);
}
