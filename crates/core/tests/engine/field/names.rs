//! Names: false renames, swapped names, and trees that are not notes.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;

use obsync_core::{MaxDelete, Outcome, StateStore, SyncOptions};
use obsync_protocol::NameFolding;

use super::{T, has, in_step};
use crate::bench::Bench;

fn paths_in_vault(bench: &Bench) -> Vec<String> {
    bench.vault.expected().unwrap().files.into_iter().map(|file| file.path).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn false_renames_of_empty_and_of_equal_notes_touch_no_third_file() {
    let bench = Bench::new().await;
    for number in 0..10 {
        bench.vault.write(&format!("empty {number}.md"), "", T).unwrap();
    }
    bench.vault.write("template 1.md", "the same", T).unwrap();
    bench.vault.write("template 2.md", "the same", T).unwrap();
    bench.sync().await;
    let at = |name: &str| bench.dest().join(name);
    fs::remove_file(at("empty 3.md")).unwrap();
    fs::write(at("empty new.md"), "").unwrap();
    fs::remove_file(at("template 1.md")).unwrap();
    fs::rename(at("template 2.md"), at("template.md")).unwrap();
    let report = bench.sync().await;
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    bench.assert_in_step().await;
    assert_eq!(paths_in_vault(&bench).len(), 11);
    assert!(has(&bench, "template.md", "the same") && has(&bench, "empty new.md", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn false_renames_of_equal_notes_that_are_the_same_files_are_renames() {
    let bench = in_step(&[("a.md", "the same"), ("b.md", "the same"), ("c.md", "the same")]).await;
    let at = |name: &str| bench.dest().join(name);
    fs::rename(at("a.md"), at("x.md")).unwrap();
    fs::rename(at("b.md"), at("y.md")).unwrap();
    fs::copy(at("c.md"), at("copy.md")).unwrap();
    fs::rename(at("c.md"), at("z.md")).unwrap();
    bench.sync().await;
    bench.assert_in_step().await;
    let journal = bench.state().journal(None, 10).await.unwrap();
    let mut renamed: Vec<String> =
        journal.iter().filter_map(|line| Some(format!("{} to {}", line.from.as_ref()?, line.path))).collect();
    renamed.sort();
    assert_eq!(renamed, ["a.md to x.md", "b.md to y.md", "c.md to z.md"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn false_renames_a_rename_with_an_edit_and_an_exchange_arrive_as_they_are() {
    let bench = in_step(&[("a.md", "A"), ("b.md", "B"), ("c.md", "C")]).await;
    let at = |name: &str| bench.dest().join(name);
    fs::rename(at("a.md"), at("t")).unwrap();
    fs::rename(at("b.md"), at("a.md")).unwrap();
    fs::rename(at("t"), at("b.md")).unwrap();
    fs::rename(at("c.md"), at("d.md")).unwrap();
    fs::write(at("d.md"), "C, edited").unwrap();
    bench.sync().await;
    bench.assert_in_step().await;
    assert_eq!(paths_in_vault(&bench), ["a.md", "b.md", "d.md"]);
    assert!(has(&bench, "a.md", "B") && has(&bench, "b.md", "A") && has(&bench, "d.md", "C, edited"));
}

#[tokio::test(flavor = "multi_thread")]
async fn false_renames_a_folder_of_1000_is_renamed_while_one_note_changes_there() {
    let bench = Bench::new().await;
    for number in 0..1000 {
        bench.vault.write(&format!("old/{number}.md"), format!("note {number}"), T).unwrap();
    }
    bench.sync().await;
    fs::rename(bench.dest().join("old"), bench.dest().join("new")).unwrap();
    let other = bench.vault.as_device("B");
    let edit = move || {
        other.write("old/500.md", "edited there", T + 1000).unwrap();
    };
    let report = bench.sync_while(edit).await.unwrap();
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    bench.sync().await;
    bench.assert_in_step().await;
    let paths = paths_in_vault(&bench);
    let texts = bench.vault.contents().unwrap();
    assert!(texts.values().any(|text| text == b"edited there"));
    assert!((1000..=1001).contains(&paths.len()), "{}", paths.len());
    let moved = paths.iter().filter(|path| path.starts_with("new/")).count();
    assert!(moved >= 999, "{moved}");
    let content = bench.server.stats();
    assert!(content.pushes_without_content >= 999, "contents are not sent again: {content:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_names_and_a_chain_made_there_arrive_here() {
    let bench = in_step(&[("a.md", "A"), ("b.md", "B"), ("c.md", "C")]).await;
    let other = bench.vault.as_device("B");
    for (from, to) in [("a.md", "t.md"), ("b.md", "a.md"), ("t.md", "b.md"), ("c.md", "d.md")] {
        other.rename(from, to).unwrap();
    }
    bench.edit("e.md", "mine");
    bench.sync().await;
    bench.assert_in_step().await;
    assert!(has(&bench, "a.md", "B") && has(&bench, "b.md", "A") && has(&bench, "d.md", "C"));
}

/// Each name goes on to the next one, and one note goes on twice.
const CHAINS: [(&str, &str); 5] =
    [("c.md", "d.md"), ("b.md", "c.md"), ("a.md", "b.md"), ("x.md", "y.md"), ("y.md", "z.md")];

#[tokio::test(flavor = "multi_thread")]
async fn swapped_names_chains_made_there_and_here_arrive_on_the_other_side() {
    for is_there in [true, false] {
        let bench = in_step(&[("a.md", "A"), ("b.md", "B"), ("c.md", "C"), ("x.md", "X")]).await;
        for (from, to) in CHAINS {
            match is_there {
                true => drop(bench.vault.as_device("B").rename(from, to).unwrap()),
                false => fs::rename(bench.dest().join(from), bench.dest().join(to)).unwrap(),
            }
        }
        let report = bench.sync().await;
        assert_eq!((report.outcome, report.conflicts.len()), (Outcome::Complete, 0), "{report:#?}");
        bench.assert_in_step().await;
        assert_eq!(paths_in_vault(&bench), ["b.md", "c.md", "d.md", "z.md"], "there {is_there}");
        assert!(has(&bench, "b.md", "A") && has(&bench, "c.md", "B") && has(&bench, "d.md", "C"));
        assert!(has(&bench, "z.md", "X"));
        assert!(bench.sync().await.is_unchanged());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_names_an_edit_here_survives_a_chain_there() {
    let texts = ["A, of some length\n", "B, of some length\n", "C, of some length\n"];
    let notes = [("a.md", texts[0]), ("b.md", texts[1]), ("c.md", texts[2]), ("x.md", "X")];
    let bench = in_step(&notes).await;
    let edited = "A, of some length\nand an edit\n";
    bench.edit("a.md", edited);
    for (from, to) in CHAINS {
        bench.vault.as_device("B").rename(from, to).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(bench.sync().await.outcome, Outcome::Complete);
    }
    bench.assert_in_step().await;
    let found = bench.vault.contents().unwrap();
    for text in [edited, texts[1], texts[2], "X"] {
        assert!(found.values().any(|found| found == text.as_bytes()), "{text}: {found:?}");
    }
    assert!(has(&bench, "c.md", texts[1]) && has(&bench, "d.md", texts[2]), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_names_an_edit_here_goes_along_with_a_rename_there() {
    let bench = in_step(&[("a.md", "text of some length\n"), ("kept.md", "k")]).await;
    bench.edit("a.md", "text of some length\nand an edit\n");
    bench.vault.as_device("B").rename("a.md", "folder/b.md").unwrap();
    let report = bench.sync().await;
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    bench.assert_in_step().await;
    assert_eq!(paths_in_vault(&bench), ["folder/b.md", "kept.md"], "{report:#?}");
    assert!(has(&bench, "folder/b.md", "text of some length\nand an edit\n"));
    assert!(report.conflicts.is_empty(), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_names_an_edit_stays_where_it_is_if_the_new_name_is_taken_here() {
    let bench = in_step(&[("a.md", "text of some length\n"), ("kept.md", "k")]).await;
    bench.edit("a.md", "text of some length\nand an edit\n");
    bench.edit("b.md", "another note");
    bench.vault.as_device("B").rename("a.md", "b.md").unwrap();
    bench.sync().await;
    bench.sync().await;
    bench.assert_in_step().await;
    let texts: Vec<String> =
        bench.vault.contents().unwrap().into_values().map(|text| String::from_utf8(text).unwrap()).collect();
    for text in ["text of some length\nand an edit\n", "another note"] {
        assert!(texts.iter().any(|other| other == text), "{texts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_that_are_not_notes_stay_here_and_links_are_left_alone() {
    let bench = in_step(&[("note.md", "n")]).await;
    let outside = bench.home().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret.md"), "secret").unwrap();
    for hidden in [
        ".git/config",
        ".git/objects/ab/cdef",
        "venv/.hidden/x.py",
        ".trash/old.md",
        "inner/.obsidian/app.json",
    ] {
        bench.edit(hidden, "not a note");
    }
    bench.edit("inner/note.md", "of a vault in the vault");
    let links = [
        ("../outside/secret.md", "out.md"),
        ("../outside", "outer"),
        (".", "itself"),
        ("nowhere.md", "dangling.md"),
    ];
    for (target, link) in links {
        symlink(target, bench.dest().join(link)).unwrap();
    }
    assert!(Command::new("mkfifo").arg(bench.dest().join("pipe.md")).status().unwrap().success());
    let _socket = UnixListener::bind(bench.dest().join("socket.md")).unwrap();
    // A device, if this user may create one: that of a terminal, which cannot be read to its end.
    let _ = Command::new("mknod").arg(bench.dest().join("device.md")).args(["c", "5", "0"]).output();
    let report = bench.sync().await;
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    assert_eq!(paths_in_vault(&bench), ["inner/note.md", "note.md"]);
    for (target, link) in links {
        assert_eq!(fs::read_link(bench.dest().join(link)).unwrap().to_str(), Some(target));
    }
    assert!(report.warnings.iter().any(|warning| warning.contains("symbolic link")), "{report:#?}");
    // A link in place of a note is neither followed nor a deletion.
    fs::rename(bench.dest().join("note.md"), outside.join("note.md")).unwrap();
    symlink(outside.join("note.md"), bench.dest().join("note.md")).unwrap();
    bench.vault.write("note.md", "changed there", T + 1000).unwrap();
    bench.sync().await;
    assert!(has(&bench, "note.md", "changed there"));
    assert_eq!(fs::read_to_string(outside.join("note.md")).unwrap(), "n");
}

/// A virtual environment of Python as its tools make it: thousands of small files, links to the interpreter
/// and between its own folders, and dot files.
fn make_venv(at: &std::path::Path) {
    for (folder, count) in [("lib/python3/site-packages/pip", 700), ("lib/python3/site-packages/x/y", 300)] {
        for number in 0..count {
            let folder = at.join(folder).join(format!("{}", number % 20));
            fs::create_dir_all(folder.join("__pycache__")).unwrap();
            fs::write(folder.join(format!("{number}.py")), format!("number = {number}\n")).unwrap();
            fs::write(folder.join(format!("__pycache__/{number}.pyc")), [0, 1, number as u8]).unwrap();
        }
    }
    fs::create_dir_all(at.join("bin")).unwrap();
    fs::write(at.join("pyvenv.cfg"), "home = /usr/bin\n").unwrap();
    fs::write(at.join(".gitignore"), "*\n").unwrap();
    let links =
        [("/usr/bin/python3", "bin/python3"), ("python3", "bin/python"), ("lib", "lib64"), ("..", "loop")];
    links.iter().for_each(|(target, link)| symlink(target, at.join(link)).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_that_are_not_notes_a_virtual_environment_loses_nothing_here_and_there() {
    let bench = in_step(&[("a/note.md", "n"), ("kept.md", "k")]).await;
    let venv = bench.dest().join("a/.venv");
    let visible = bench.dest().join("venv");
    make_venv(&venv);
    make_venv(&visible);
    bench.edit("kept.md", "edited here");
    bench.vault.as_device("B").write("a/note.md", "edited there", T + 1000).unwrap();
    let report = bench.sync().await;
    assert_eq!((report.outcome, report.failures.len()), (Outcome::Complete, 0), "{report:#?}");
    assert!(has(&bench, "kept.md", "edited here") && has(&bench, "a/note.md", "edited there"));
    // The dot folder stays here, and of the other one every file that is none of dots and links goes.
    let paths = paths_in_vault(&bench);
    assert!(
        !paths.iter().any(|path| path.contains(".venv") || path.contains("lib64") || path.contains("loop"))
    );
    assert_eq!(paths.iter().filter(|path| path.starts_with("venv/")).count(), 2001);
    for at in [&venv, &visible] {
        assert_eq!(fs::read_link(at.join("bin/python3")).unwrap().to_str(), Some("/usr/bin/python3"));
        assert_eq!(fs::read(at.join("lib64/python3/site-packages/pip/7/7.py")).unwrap(), b"number = 7\n");
    }
    assert!(bench.sync().await.is_unchanged());
    // Both are made anew, as such folders are.
    fs::remove_dir_all(&venv).unwrap();
    fs::remove_dir_all(&visible).unwrap();
    let usual = |options: &mut SyncOptions| options.max_delete_in_vault = MaxDelete::InVault;
    let report = bench.sync_with(usual).await.unwrap();
    assert_eq!((report.outcome, report.deleted_in_vault.files), (Outcome::HeldBack, 0));
    make_venv(&visible);
    assert_eq!(bench.sync_with(usual).await.unwrap().outcome, Outcome::Complete);
    assert_eq!(paths_in_vault(&bench), paths);
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_that_are_not_notes_while_git_rewrites_them_lose_nothing() {
    let bench = Bench::new().await;
    for number in 0..300 {
        bench.vault.write(&format!("{number}.md"), format!("note {number}"), T).unwrap();
    }
    bench.sync().await;
    // Another branch: 240 files change, 30 are removed. The checkout is not done yet.
    bench.edit(".git/index.lock", "");
    for number in 0..240 {
        bench.edit(format!("{number}.md"), &format!("of the branch {number}"));
    }
    for number in 240..270 {
        fs::remove_file(bench.dest().join(format!("{number}.md"))).unwrap();
    }
    let report = bench.sync().await;
    assert_eq!(report.deleted_in_vault.files, 0, "{report:#?}");
    // And checkout back.
    for number in 0..270 {
        bench.edit(format!("{number}.md"), &format!("note {number}"));
    }
    fs::remove_file(bench.dest().join(".git/index.lock")).unwrap();
    bench.sync().await;
    assert_eq!(paths_in_vault(&bench).len(), 300);
    let texts = bench.vault.contents().unwrap();
    assert!((0..300).all(|number| texts[&format!("{number}.md")] == format!("note {number}").as_bytes()));
    assert_eq!(bench.files().len(), 300);
}

/// A folder in sync after another device wrote `there` at the moment in which `here` was synced: each a path
/// and its text.
async fn written_at_once(here: (&str, &str), there: (&'static str, &'static str)) -> Bench {
    let bench = in_step(&[("kept.md", "k")]).await;
    bench.edit(here.0, here.1);
    let other = bench.vault.as_device("B");
    bench
        .sync_while(move || {
            other.write(there.0, there.1, T).unwrap();
        })
        .await
        .unwrap();
    for _ in 0..2 {
        assert_eq!(bench.sync().await.outcome, Outcome::Complete);
    }
    bench.assert_in_step().await;
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_names_a_file_here_and_a_folder_there_at_once_are_both_kept() {
    let bench = written_at_once(("x", "a file"), ("x/c.md", "in a folder")).await;
    let texts = bench.vault.contents().unwrap();
    assert_eq!(texts.get("x/c.md").map(Vec::as_slice), Some(&b"in a folder"[..]), "{texts:?}");
    assert!(texts.values().any(|text| text == b"a file"), "{texts:?}");
    assert!(bench.sync().await.is_unchanged());
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_names_a_folder_here_and_a_file_there_at_once_are_both_kept() {
    let bench = written_at_once(("x/c.md", "in a folder"), ("x", "a file")).await;
    let texts = bench.vault.contents().unwrap();
    for text in ["in a folder", "a file"] {
        assert!(texts.values().any(|other| other == text.as_bytes()), "{text}: {texts:?}");
    }
    assert_eq!(texts.len(), 3, "nothing is there twice: {texts:?}");
    assert!(bench.sync().await.is_unchanged());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_renames_by_case_or_normalisation_only_and_names_that_no_vault_may_get() {
    let bench =
        in_step(&[("note.md", "by case"), ("Caf\u{e9}.md", "by normalisation"), ("kept.md", "k")]).await;
    let at = |name: &str| bench.dest().join(name);
    fs::rename(at("note.md"), at("Note.md")).unwrap();
    fs::rename(at("Caf\u{e9}.md"), at("Cafe\u{301}.md")).unwrap();
    for name in ["back\\slash.md", "tab\there.md"] {
        fs::write(at(name), "stays here").unwrap();
    }
    let report = bench.sync().await;
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    for name in ["slash.md", "here.md"] {
        let is_said = |warning: &String| warning.contains(name) && warning.contains("stays here only");
        assert!(report.warnings.iter().any(is_said), "{name}: {report:#?}");
        assert!(!paths_in_vault(&bench).iter().any(|path| path.contains(name)));
    }
    bench.sync().await;
    let texts = bench.vault.contents().unwrap();
    assert_eq!(texts.len(), 3, "{texts:?}");
    assert_eq!(texts.get("Note.md").map(Vec::as_slice), Some(&b"by case"[..]), "{texts:?}");
    assert_eq!(texts.get("Caf\u{e9}.md").map(Vec::as_slice), Some(&b"by normalisation"[..]), "{texts:?}");
    assert!(bench.dest().join("Cafe\u{301}.md").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn false_renames_by_case_together_with_an_edit_are_done_in_one_run_where_names_are_folded() {
    let mut bench = in_step(&[("here.md", "h"), ("there.md", "t"), ("kept.md", "k")]).await;
    bench.folder.folds_names = Some(NameFolding::Case);
    fs::rename(bench.dest().join("here.md"), bench.dest().join("Here.md")).unwrap();
    bench.edit("Here.md", "renamed and edited here");
    let other = bench.vault.as_device("B");
    other.rename("there.md", "There.md").unwrap();
    other.write("There.md", "renamed and edited there", T + 1000).unwrap();
    let report = bench.sync().await;
    assert_eq!((report.outcome, report.conflicts.len()), (Outcome::Complete, 0), "{report:#?}");
    assert_eq!(paths_in_vault(&bench), ["Here.md", "There.md", "kept.md"]);
    bench.assert_in_step().await;
    assert!(has(&bench, "Here.md", "renamed and edited here"));
    assert!(has(&bench, "There.md", "renamed and edited there"));
    assert!(bench.sync().await.is_unchanged());
}
