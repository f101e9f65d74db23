//! The memory of a function: always measured, and limited as far as the machine allows.
//!
//! Linux has no limit on the resident memory of a single process (`RLIMIT_RSS` has no effect, `RLIMIT_AS` and
//! `RLIMIT_DATA` count memory that is reserved and never touched). A control group is effective, where the
//! machine allows creating one; elsewhere the peak is watched and the program is killed once it is too high.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Enforcement of a function's memory size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum MemoryLimit {
    /// It is only measured.
    Measure,
    /// Its peak is checked every 10 ms, and the program is killed when it exceeds the size: too late to
    /// prevent it, but never unnoticed.
    #[default]
    Watch,
    /// The kernel enforces it: the program runs in its own control group, created in this directory of the
    /// cgroup2 file system, whose `cgroup.subtree_control` must contain `memory`.
    Cgroup(PathBuf),
}

impl MemoryLimit {
    /// A control group if this process may create one, else [`MemoryLimit::Watch`].
    ///
    /// Only checks; creates and moves nothing.
    pub fn strongest() -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        match delegated_group(Path::new("/sys/fs/cgroup"), &own) {
            Some(directory) => Self::Cgroup(directory),
            None => Self::Watch,
        }
    }
}

/// The nearest group above (or at) this process's own in which groups with a memory limit may be created.
fn delegated_group(mounted: &Path, own: &str) -> Option<PathBuf> {
    // cgroup2 has the hierarchy number 0 (cgroups(7)).
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own = mounted.join(own);
    own.ancestors().take_while(|group| group.starts_with(mounted)).find_map(|group| {
        let controllers = fs::read_to_string(group.join("cgroup.subtree_control")).ok()?;
        let limits_memory = controllers.split_whitespace().any(|controller| controller == "memory");
        let writable = rustix::fs::access(group, rustix::fs::Access::WRITE_OK).is_ok()
            && rustix::fs::access(group.join("cgroup.procs"), rustix::fs::Access::WRITE_OK).is_ok();
        (limits_memory && writable).then(|| group.to_path_buf())
    })
}

/// A control group for one program; removed when dropped.
#[derive(Debug)]
pub(super) struct Cgroup {
    directory: PathBuf,
}

impl Cgroup {
    /// Creates a group with this limit in MiB, without swap.
    pub(super) fn create(parent: &Path, name: &str, memory_mb: u32) -> io::Result<Self> {
        let directory = parent.join(name);
        fs::create_dir(&directory)?;
        let group = Self { directory };
        fs::write(group.directory.join("memory.max"), mib(memory_mb).to_string())?;
        let swap = group.directory.join("memory.swap.max");
        if swap.exists() {
            fs::write(swap, "0")?;
        }
        Ok(group)
    }

    /// The file for joining the group.
    pub(super) fn procs(&self) -> PathBuf {
        self.directory.join("cgroup.procs")
    }

    /// True if the kernel killed a process in it because of memory.
    pub(super) fn killed_for_memory(&self) -> bool {
        let events = fs::read_to_string(self.directory.join("memory.events")).unwrap_or_default();
        let kills = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.and_then(|kills| kills.parse::<u64>().ok()).is_some_and(|kills| kills > 0)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.directory) {
            tracing::warn!(%error, directory = %self.directory.display(), "a control group is left behind");
        }
    }
}

/// MiB in bytes.
pub(super) fn mib(count: u32) -> u64 {
    u64::from(count) * 1024 * 1024
}

/// The highest resident memory of a process since it began or was last reset, in bytes.
///
/// `None` without `/proc` (other systems than Linux), and when the process is gone.
pub(super) fn peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Resets the peak to the present resident memory (proc(5), `clear_refs`); where that is not allowed, it
/// stays.
pub(super) fn reset_peak(pid: u32) {
    if let Err(error) = fs::write(format!("/proc/{pid}/clear_refs"), "5") {
        tracing::debug!(%error, pid, "the memory peak is that of the whole process");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_group_that_hands_memory_on_is_found() {
        let mounted = tempfile::tempdir().unwrap();
        let outer = mounted.path().join("user");
        let inner = outer.join("session");
        fs::create_dir_all(&inner).unwrap();
        for (group, controllers) in [(mounted.path(), "cpu memory\n"), (&outer, "memory pids"), (&inner, "")]
        {
            fs::write(group.join("cgroup.subtree_control"), controllers).unwrap();
            fs::write(group.join("cgroup.procs"), "").unwrap();
        }
        assert_eq!(delegated_group(mounted.path(), "4:memory:/x\n0::/user/session\n"), Some(outer));
        assert_eq!(delegated_group(mounted.path(), "4:memory:/x\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_of_a_process_is_known_and_can_be_reset() {
        let own = std::process::id();
        let block = vec![1_u8; 64 << 20];
        let with_block = peak(own).unwrap();
        assert!(with_block >= 64 << 20, "{with_block}");
        drop(block);
        assert_eq!(peak(0), None);
    }
}
