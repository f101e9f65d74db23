//! Describes the machine of the figures.

use std::fmt;
use std::fs;
use std::path::Path;
use std::thread;

use serde::Serialize;

/// Properties that matter for figures; "unknown" where the system does not report them.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    cpu: String,
    processors: usize,
    system: String,
    /// The type of the destination's file system.
    file_system: String,
    /// `release` or `debug`.
    build: &'static str,
}

impl Machine {
    /// This machine; `folder` is the destination.
    pub(super) fn describe(folder: &Path) -> Self {
        let unknown = || "unknown".to_owned();
        let kernel = nix::sys::utsname::uname().map_or_else(
            |_| unknown(),
            |kernel| format!("{} {}", kernel.sysname().to_string_lossy(), kernel.release().to_string_lossy()),
        );
        let release = field("/etc/os-release", "PRETTY_NAME", '=');
        Self {
            cpu: field("/proc/cpuinfo", "model name", ':').unwrap_or_else(unknown),
            processors: thread::available_parallelism().map_or(1, usize::from),
            system: release.map_or(kernel.clone(), |release| format!("{release}, {kernel}")),
            file_system: file_system(folder).unwrap_or_else(unknown),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, processors, system, file_system, build } = self;
        write!(formatter, "{processors} × {cpu}; {system}; pulling to {file_system}; {build} build")?;
        if *build == "debug" {
            formatter.write_str("\nwarning: figures of a debug build say little; run it with --release")?;
        }
        Ok(())
    }
}

/// The value of the first line `name SEPARATOR value` of a file.
fn field(file: &str, name: &str, separator: char) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let mut values = text.lines().filter_map(|line| line.split_once(separator));
    let (_, value) = values.find(|(key, _)| key.trim() == name)?;
    Some(value.trim().trim_matches('"').to_owned())
}

/// The type of a folder's file system, in Linux's terms.
fn file_system(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut parts = line.split(' ').skip(1);
        Some((Path::new(parts.next()?), parts.next()?))
    });
    // Of several mounts in one place, the last one is visible.
    let nearest = mounts
        .filter(|(place, _)| folder.starts_with(place))
        .max_by_key(|(place, _)| place.components().count());
    nearest.map(|(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_described() {
        let machine = Machine::describe(Path::new("."));
        assert!(machine.processors > 0 && !machine.system.is_empty());
        if cfg!(target_os = "linux") {
            assert_ne!(machine.file_system, "unknown");
        }
    }
}
