//! A home on a file system that refuses locks, as network drives may.

use obsync_conformance::refused_locks::{FLOCK_REFUSALS, Kind, RECORD_REFUSALS, without_locks};
use rustix::io::Errno;

use crate::world::{Ran, World};

const NOON: i64 = 1_700_000_000_000;

/// A world whose vault was pulled before, to another folder.
fn furnished() -> World {
    let world = World::new();
    world.vault("Notes").write("Welcome.md", "# Welcome", NOON).unwrap();
    world.must(&["pull", "Notes", "other"]);
    world
}

fn run_without_locks(world: &World, kind: Kind, error: Errno, args: &[&str]) -> Option<Ran> {
    without_locks(kind, error, || world.run(args))
}

/// The text without the name of the database, which differs in each world.
fn without_database(told: &str) -> String {
    let (before, rest) = told.split_once("state/").unwrap();
    let (_, after) = rest.split_once(".sqlite").unwrap();
    format!("{before}state/[DATABASE]{after}")
}

/// The error of a pull where locks are refused. Nothing is downloaded or written.
fn refused_pull(world: &World, kind: Kind, error: Errno) -> Option<String> {
    let pulls = world.server.stats().pulls;
    let ran = run_without_locks(world, kind, error, &["pull", "Notes", "notes"])?;
    assert_eq!((ran.code, world.server.stats().pulls), (1, pulls), "{error:?}: {}", ran.stderr);
    assert!(!world.path("notes").exists(), "{error:?}");
    Some(without_database(&ran.told(world)))
}

#[test]
fn a_state_whose_file_system_refuses_record_locks_is_found_out_before_anything_is_downloaded() {
    let world = furnished();
    let refused: Option<Vec<String>> =
        RECORD_REFUSALS.into_iter().map(|error| refused_pull(&world, Kind::Records, error)).collect();
    let Some(refused) = refused else { return };
    insta::assert_snapshot!(refused.join("\n"), @r"
    exit status 1
    --- stderr
    obsync: the state database [DIR]/home/state/[DATABASE] cannot be used: its file system refuses locks, as network drives can: Resource temporarily unavailable (os error 11); set OBSYNC_HOME or XDG_STATE_HOME to a folder on a local disk

    exit status 1
    --- stderr
    obsync: the state database [DIR]/home/state/[DATABASE] cannot be used: its file system refuses locks, as network drives can: Permission denied (os error 13); set OBSYNC_HOME or XDG_STATE_HOME to a folder on a local disk

    exit status 1
    --- stderr
    obsync: the state database [DIR]/home/state/[DATABASE] cannot be used: its file system refuses locks, as network drives can: No locks available (os error 37); set OBSYNC_HOME or XDG_STATE_HOME to a folder on a local disk

    exit status 1
    --- stderr
    obsync: the state database [DIR]/home/state/[DATABASE] cannot be used: its file system refuses locks, as network drives can: Input/output error (os error 5); set OBSYNC_HOME or XDG_STATE_HOME to a folder on a local disk
    ");
}

#[test]
fn a_state_whose_file_system_refuses_locks_on_files_is_found_out_before_anything_is_downloaded() {
    let world = furnished();
    let refused: Option<Vec<String>> =
        FLOCK_REFUSALS.into_iter().map(|error| refused_pull(&world, Kind::Flock, error)).collect();
    let Some(refused) = refused else { return };
    insta::assert_snapshot!(refused.join("\n"), @r"
    exit status 1
    --- stderr
    obsync: the state database [DIR]/home/state/[DATABASE] cannot be used: its file system refuses locks, as network drives can: Operation not supported (os error 95); set OBSYNC_HOME or XDG_STATE_HOME to a folder on a local disk

    exit status 1
    --- stderr
    obsync: the state database [DIR]/home/state/[DATABASE] cannot be used: its file system refuses locks, as network drives can: Function not implemented (os error 38); set OBSYNC_HOME or XDG_STATE_HOME to a folder on a local disk

    exit status 1
    --- stderr
    obsync: the state database [DIR]/home/state/[DATABASE] cannot be used: its file system refuses locks, as network drives can: No locks available (os error 37); set OBSYNC_HOME or XDG_STATE_HOME to a folder on a local disk

    exit status 1
    --- stderr
    obsync: the state database [DIR]/home/state/[DATABASE] cannot be used: its file system refuses locks, as network drives can: Permission denied (os error 13); set OBSYNC_HOME or XDG_STATE_HOME to a folder on a local disk

    exit status 1
    --- stderr
    obsync: the state database [DIR]/home/state/[DATABASE] cannot be used: its file system refuses locks, as network drives can: Input/output error (os error 5); set OBSYNC_HOME or XDG_STATE_HOME to a folder on a local disk

    exit status 1
    --- stderr
    obsync: the state database [DIR]/home/state/[DATABASE] cannot be used: its file system refuses locks, as network drives can: Resource temporarily unavailable (os error 11); set OBSYNC_HOME or XDG_STATE_HOME to a folder on a local disk
    ");
}

#[test]
fn what_only_looks_says_that_locks_are_refused_too() {
    let world = furnished();
    let told = |error| {
        let ran = run_without_locks(&world, Kind::Records, error, &["verify", "other"])?;
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        Some(without_database(&ran.told(&world)))
    };
    let (Some(none), Some(failing)) = (told(Errno::NOLCK), told(Errno::IO)) else { return };
    insta::assert_snapshot!([none, failing].join("\n"), @r"
    exit status 1
    --- stderr
    obsync: the state database [DIR]/home/state/[DATABASE] cannot be used: its file system refuses locks, as network drives can: No locks available (os error 37); set OBSYNC_HOME or XDG_STATE_HOME to a folder on a local disk

    exit status 1
    --- stderr
    obsync: the state database [DIR]/home/state/[DATABASE] cannot be used: its file system refuses locks, as network drives can: disk I/O error; set OBSYNC_HOME or XDG_STATE_HOME to a folder on a local disk
    ");
}

#[test]
fn credentials_whose_file_system_refuses_locks_are_not_kept_and_that_is_said() {
    let world = World::new();
    let Some(ran) = run_without_locks(&world, Kind::Flock, Errno::OPNOTSUPP, &["login"]) else { return };
    insta::assert_snapshot!(ran.told(&world), @r"
    exit status 1
    --- stderr
    obsync: cannot lock [DIR]/home/config/.lock: its file system refuses locks, as network drives can: Operation not supported (os error 95); set OBSYNC_HOME or XDG_CONFIG_HOME to a folder on a local disk
    ");
}
