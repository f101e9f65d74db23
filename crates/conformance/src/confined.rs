//! Runs a test once more in a child process that has less than this one: a small disk, a disk that can only be read, small
//! files only, no rights.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::not_tested::not_tested_in;

/// Where the child finds the place that was prepared for it.
const PLACE: &str = "OBSYNC_TEST_PLACE";

/// A file that belongs to another user, who lets everybody read it, and what is in it.
pub const OTHERS: (&str, &str) = ("others.md", "somebody's");

/// What a child has.
#[derive(Clone, Copy)]
pub enum Confinement {
    /// A folder with a small memory file system, mounted with these options.
    Disk(&'static str),
    /// A folder in which no file can have more than a few KiB.
    SmallFiles,
    /// A folder, and not the rights of a superuser. Where the parent has them, the folder has a file [`OTHERS`].
    NoPrivileges,
}

/// Runs `test` (its path within this program) in a child that is confined. `Some` is the answer in that child: the folder
/// prepared for it. `None` is the answer to the test itself: the child has passed, or this machine does not allow it
/// ([`not_tested_in`]). The test is to return then.
pub fn confined(test: &str, confinement: Confinement) -> Option<PathBuf> {
    if let Some(place) = std::env::var_os(PLACE) {
        return Some(PathBuf::from(place));
    }
    let place = tempfile::tempdir().unwrap();
    plant_others(&place.path().join(OTHERS.0));
    let Some(mut command) = command(confinement, place.path().to_str().unwrap()) else {
        not_tested_in(test, "this machine does not allow a child process to be confined so");
        return None;
    };
    command
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(PLACE, place.path());
    let output = command.output().unwrap();
    let printed = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    assert!(output.status.success() && printed.contains("1 passed"), "in the child process:\n{printed}");
    None
}

/// The command to which the program to run and its arguments are added; `None` where it does not work.
fn command(confinement: Confinement, place: &str) -> Option<Command> {
    let confine = || match confinement {
        Confinement::Disk(options) => {
            let mut command = Command::new("unshare");
            let script = "mount -t tmpfs -o \"$1\" none \"$2\" && shift 2 && exec \"$@\"";
            command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", options, place]);
            command
        }
        Confinement::SmallFiles => {
            let mut command = Command::new("sh");
            // Without the signal the system says it as an error.
            command.args(["-c", "trap '' XFSZ && ulimit -f 8 && exec \"$@\"", "sh"]);
            command
        }
        Confinement::NoPrivileges if rustix::process::geteuid().is_root() => {
            let mut command = Command::new("setpriv");
            command.args(["--bounding-set=-all", "--inh-caps=-all"]);
            command
        }
        Confinement::NoPrivileges => Command::new("env"),
    };
    let works = confine().arg("true").output().is_ok_and(|output| output.status.success());
    works.then(confine)
}

/// Makes the file of another user, where that is allowed.
fn plant_others(path: &Path) {
    fs::write(path, OTHERS.1).unwrap();
    if std::os::unix::fs::chown(path, Some(65_534), None).is_err() {
        fs::remove_file(path).unwrap();
    }
}
