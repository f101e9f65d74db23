//! Measures the memory available to the function and in use: by the platform's settings, the control group,
//! or the machine; and the free space of `/tmp`.

use std::fs;
use std::path::Path;

/// Where AWS keeps a function's files.
const SCRATCH: &str = "/tmp";
/// More than any machine has: a control group without a limit reports more.
const UNLIMITED: u64 = 1 << 50;

/// The available memory, and how its use is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gauge {
    /// Bytes available.
    pub(crate) limit: u64,
    meter: Meter,
}

/// Source of the measured use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meter {
    /// The resident memory of this process.
    Process,
    /// The memory charged to the control group, without pages that the kernel can drop at once.
    ControlGroup(ControlGroup),
}

/// The two versions of control groups, with their files as seen from inside a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ControlGroup {
    First,
    Second,
}

impl Gauge {
    /// The memory that was `set`, else the platform's grant to this function, else the limit of the control
    /// group, else the machine's.
    pub(crate) fn new(set: Option<u64>, function_mb: Option<&str>) -> Self {
        let process = |limit| Gauge { limit, meter: Meter::Process };
        let function = || function_mb?.trim().parse::<u64>().ok().filter(|mb| *mb > 0).map(|mb| mb << 20);
        if let Some(limit) = set.or_else(function) {
            return process(limit);
        }
        let group = [ControlGroup::Second, ControlGroup::First].into_iter().find_map(|group| {
            let limit = group.limit()?;
            (limit < UNLIMITED).then_some(Gauge { limit, meter: Meter::ControlGroup(group) })
        });
        // If even that is unknown, the smallest function of AWS is a safe guess.
        group.unwrap_or_else(|| process(machine_memory().unwrap_or(128 << 20)))
    }

    /// Bytes in use now; `None` where the system does not report it.
    pub(crate) fn used(&self) -> Option<u64> {
        match self.meter {
            Meter::Process => resident(),
            Meter::ControlGroup(group) => group.used().or_else(resident),
        }
    }
}

impl ControlGroup {
    fn limit(self) -> Option<u64> {
        match self {
            ControlGroup::First => number("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
            // `max` is no number.
            ControlGroup::Second => number("/sys/fs/cgroup/memory.max"),
        }
    }

    fn used(self) -> Option<u64> {
        let (used, stat, name) = match self {
            ControlGroup::First => {
                ("memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file ")
            }
            ControlGroup::Second => ("memory.current", "memory.stat", "inactive_file "),
        };
        let root = Path::new("/sys/fs/cgroup");
        let stat = fs::read_to_string(root.join(stat)).unwrap_or_default();
        let droppable = stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        Some(number(root.join(used))?.saturating_sub(droppable.unwrap_or(0)))
    }
}

/// Bytes of this process that are resident.
fn resident() -> Option<u64> {
    of_status("VmRSS:")
}

/// The most that ever was resident of this process, in bytes.
pub(crate) fn peak() -> Option<u64> {
    of_status("VmHWM:")
}

/// A line of `/proc/self/status` (proc(5)), in units of 1024 bytes.
fn of_status(name: &str) -> Option<u64> {
    of_table(&fs::read_to_string("/proc/self/status").ok()?, name)
}

fn machine_memory() -> Option<u64> {
    of_table(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")
}

fn of_table(table: &str, name: &str) -> Option<u64> {
    let value = table.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn number(file: impl AsRef<Path>) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Free bytes in `/tmp`; `None` where there is none.
pub(crate) fn free_scratch() -> Option<u64> {
    let found = rustix::fs::statvfs(SCRATCH).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_goes_before_what_the_platform_grants() {
        assert_eq!(Gauge::new(Some(64 << 20), Some("512")).limit, 64 << 20);
        assert_eq!(Gauge::new(None, Some("512")).limit, 512 << 20);
    }

    #[test]
    fn without_either_something_sensible_is_found() {
        for wrong in [None, Some("0"), Some("much")] {
            assert!(Gauge::new(None, wrong).limit >= 1 << 20);
        }
    }

    #[test]
    fn tables_of_proc_are_read() {
        let table = "VmPeak:\t  200 kB\nVmRSS:\t  100 kB\nThreads:\t3\n";
        assert_eq!(of_table(table, "VmRSS:"), Some(102_400));
        assert_eq!(of_table(table, "VmHWM:"), None);
        assert_eq!(of_table(table, "Threads:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_memory_and_there_is_a_tmp() {
        let used = Gauge::new(Some(1 << 30), None).used().unwrap();
        assert!(used > 1 << 20 && used <= peak().unwrap());
        assert!(free_scratch().is_some());
    }
}
