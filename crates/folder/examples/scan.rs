//! Time and memory of a scan of 100,000 unchanged files, beside `git status` on the same tree: `cargo run
//! --release -p obsync-folder --example scan [FOLDER]`. The files are created in a temporary folder if none
//! is given.

#![expect(clippy::expect_used, reason = "a measurement that cannot be made is told by a panic")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs};

use obsync_core::{FileMeta, LocalTree, Record, RecordKind, Scan, ScanInput};
use obsync_folder::{FolderDestination, FolderOptions};
use obsync_protocol::{Filter, Uid};

const FILES: usize = 100_000;
const TIMES: usize = 10;

fn main() {
    let temporary = tempfile::tempdir().expect("a folder");
    let vault = env::args().nth(1).map_or_else(|| temporary.path().join("vault"), Into::into);
    fs::create_dir_all(vault.join(".obsync")).expect("a folder");
    for number in 0..FILES {
        let folder = vault.join(format!("Area {}/Topic {}", number / 1000, number / 50));
        if number % 50 == 0 {
            fs::create_dir_all(&folder).expect("a folder");
        }
        fs::write(folder.join(format!("Note number {number}.md")), format!("note {number}")).expect("a file");
    }
    git(&vault, &["init", "--quiet"]);
    git(&vault, &["add", "--all"]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let store = FolderDestination::open(&vault, FolderOptions::default()).expect("a store");
    let scan = |records: &Arc<Vec<Record>>| {
        let input = ScanInput { records: records.clone(), filter: Filter::default() };
        runtime.block_on(store.scan(input)).expect("a scan").expect("a scan")
    };
    let first = scan(&Arc::default());
    println!("first scan: {} files found and read", first.read);
    let records = Arc::new(recorded(first));
    let (mut scans, mut statuses) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        scans.push(timed(|| {
            let tree = scan(&records);
            assert_eq!((tree.found, tree.read), (FILES as u64, 0), "nothing was changed");
        }));
        statuses.push(timed(|| git(&vault, &["status", "--porcelain"])));
    }
    let (scan, status) = (median(scans), median(statuses));
    println!("scan {scan:?}, git status {status:?}: {:.2}", scan.as_secs_f64() / status.as_secs_f64());
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        status.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| println!("{line}"));
    }
}

fn recorded(tree: LocalTree) -> Vec<Record> {
    let files = tree.files.into_iter().map(|file| {
        let (hash, size) = (file.content.hash, file.content.size);
        let meta = FileMeta { hash, size, mtime: file.mtime, ctime: file.ctime, uid: Uid(1) };
        Record::seen(file.path, RecordKind::File(meta), Some(file.facts))
    });
    let folders = tree.folders.into_iter().map(|path| Record::seen(path, RecordKind::Folder(Uid(1)), None));
    let mut records: Vec<Record> = files.chain(folders).collect();
    records.sort_by(|one, other| one.path.cmp(&other.path));
    records
}

fn git(vault: &Path, arguments: &[&str]) {
    let mut git = Command::new("git");
    let done = git.arg("-C").arg(vault).args(arguments).stdout(Stdio::null()).status().expect("git");
    assert!(done.success(), "git {arguments:?}");
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
