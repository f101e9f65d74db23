//! Differences between types of file systems: the meaning of a colon in a name, and how data is flushed.

use std::path::Path;

/// Types of file systems (statfs(2), linux/magic.h, and the sources of ntfs3 and of the SMB client) on which
/// a name with a colon names a stream of another file, or becomes another name. NTFS-3G is one of many behind
/// FUSE, and a folder of Windows in WSL is behind 9P; these do not say which file system is behind them.
const WITH_STREAMS: &[(u64, &str)] = &[
    (0x5346_544e, "NTFS"),
    (0x7366_746e, "NTFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0x4d44, "FAT"),
    (0x2011_bab0, "exFAT"),
    (0x6573_5546, "FUSE, which may be NTFS"),
    (0x0102_1997, "9P, which may be NTFS"),
];

/// Types of file systems on which a flush of the whole reaches neither a disk nor a server: FUSE does not
/// pass it on, and network file systems (9P, SMB, NFS, AFS, Ceph, Lustre) promise it for single files only.
#[cfg(any(target_os = "linux", test))]
const FLUSHED_BY_FILE: &[u64] = &[
    0x6573_5546,
    0x0102_1997,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
    0x6969,
    0x5346_414f,
    0x00c3_6400,
    0x0bd0_0bd0,
];

/// True if each file has to be flushed by itself on the file system of an open file or folder.
#[cfg(target_os = "linux")]
pub(super) fn is_flushed_by_file(handle: impl rustix::fd::AsFd) -> bool {
    rustix::fs::fstatfs(handle).is_ok_and(|facts| FLUSHED_BY_FILE.contains(&u64::from(facts.f_type as u32)))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn is_flushed_by_file(_handle: impl rustix::fd::AsFd) -> bool {
    true
}

/// Type of the file system of a path (existing or not), if it does not allow a colon in names. The official
/// client writes no such name anywhere (docs/PROTOCOL.md, names), so no real note is lost.
pub(super) fn without_colons(path: &Path) -> Option<&'static str> {
    let existing = path.ancestors().find_map(|above| {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        type_of(above)
    })?;
    name_of(existing)
}

fn name_of(kind: u64) -> Option<&'static str> {
    WITH_STREAMS.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name)
}

#[cfg(target_os = "linux")]
fn type_of(path: &Path) -> Option<u64> {
    // The number has 32 bits, in a field that is signed on some machines.
    rustix::fs::statfs(path).ok().map(|facts| u64::from(facts.f_type as u32))
}

#[cfg(not(target_os = "linux"))]
fn type_of(_path: &Path) -> Option<u64> {
    None
}

/// The device of a file; its type differs between systems.
#[allow(clippy::unnecessary_cast)]
pub(super) fn device(facts: &rustix::fs::Stat) -> u64 {
    facts.st_dev as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_with_streams_take_no_colons_and_others_do() {
        for kind in
            [0x5346_544e, 0x7366_746e, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x4d44, 0x2011_bab0, 0x6573_5546]
        {
            assert!(name_of(kind).is_some(), "{kind:x}");
        }
        // ext4, btrfs, XFS, tmpfs, ZFS, NFS, overlay
        for kind in [0xef53, 0x9123_683e, 0x5846_5342, 0x0102_1994, 0x2fc1_2fc1, 0x6969, 0x794c_7630] {
            assert_eq!(name_of(kind), None, "{kind:x}");
        }
    }

    #[test]
    fn file_systems_behind_others_are_flushed_file_by_file() {
        assert!(FLUSHED_BY_FILE.contains(&0x6573_5546), "FUSE");
        for kind in [0xef53, 0x9123_683e, 0x5846_5342, 0x0102_1994, 0x2fc1_2fc1, 0x794c_7630] {
            assert!(!FLUSHED_BY_FILE.contains(&kind), "{kind:x}");
        }
        // True in every container in which this is tested.
        let folder = std::fs::File::open("/dev/shm").unwrap();
        assert_eq!(is_flushed_by_file(folder), cfg!(not(target_os = "linux")));
    }

    #[test]
    fn what_does_not_exist_yet_is_on_the_file_system_of_what_is_above_it() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(without_colons(&folder.path().join("a/b/c")), without_colons(folder.path()));
    }
}
