//! Runs a test again in a child process with restrictions: a small disk, a read-only disk, small files only,
//! no privileges.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::not_tested::not_tested_in;

/// Variable with the place prepared for the child.
const PLACE: &str = "OBSYNC_TEST_PLACE";

/// A file of another user that everybody may read, with its content.
pub const OTHERS: (&str, &str) = ("others.md", "somebody's");

/// Restriction of a child.
#[derive(Clone, Copy)]
pub enum Confinement {
    /// A folder with a small memory file system, mounted with these options.
    Disk(&'static str),
    /// A folder in which no file can have more than a few KiB.
    SmallFiles,
    /// A folder, and no superuser privileges. If the parent has them, the folder has a file [`OTHERS`].
    NoPrivileges,
}

/// Runs `test` (its path within this program) in a confined child. In that child, returns `Some` with the
/// folder prepared for it. In the test itself, returns `None`: the child has passed, or this machine does not
/// allow it ([`not_tested_in`]). The test has to return then.
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

/// The command to which the program and its arguments are added; `None` if it does not work.
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
            // Without the signal the system returns an error.
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

/// Creates the file of another user, if permitted.
fn plant_others(path: &Path) {
    fs::write(path, OTHERS.1).unwrap();
    if std::os::unix::fs::chown(path, Some(65_534), None).is_err() {
        fs::remove_file(path).unwrap();
    }
}
