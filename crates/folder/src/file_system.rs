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

/// Types of file systems that other programs or computers serve: FUSE, 9P, SMB, NFS, AFS (OpenAFS and the
/// kernel's own), Ceph, Lustre, shared folders of VirtualBox. Their notices and locks may be incomplete.
#[cfg(any(target_os = "linux", test))]
const SERVED: &[u64] = &[
    0x6573_5546,
    0x0102_1997,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
    0x6969,
    0x5346_414f,
    0x6b41_4653,
    0x00c3_6400,
    0x0bd0_0bd0,
    0x786f_4256,
];

/// Types of file systems on which a flush of the whole reaches the disk and its cache, each with its names in
/// `/proc/self/mountinfo`: a file system on top of another, such as eCryptfs, may report the type of that.
/// Any other is flushed file by file: FUSE, for one, does not pass on a flush of the whole.
#[cfg(any(target_os = "linux", test))]
const FLUSHED_AS_A_WHOLE: &[(u64, &[&str])] = &[
    (0xef53, &["ext2", "ext3", "ext4"]),
    (0x9123_683e, &["btrfs"]),
    (0x5846_5342, &["xfs"]),
    (0xf2f5_2010, &["f2fs"]),
    (0xca45_1a4e, &["bcachefs"]),
    (0x2fc1_2fc1, &["zfs"]),
    (0x3153_464a, &["jfs"]),
    (0x794c_7630, &["overlay"]),
    (0x0102_1994, &["tmpfs"]),
];

/// True if each file has to be flushed by itself on the file system of an open file or folder.
#[cfg(target_os = "linux")]
pub(super) fn is_flushed_by_file(handle: impl rustix::fd::AsFd) -> bool {
    let Some(kind) = type_of_open(&handle) else { return true };
    !mounted_type(handle).is_some_and(|name| is_flushed_as_a_whole(kind, &name))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn is_flushed_by_file(_handle: impl rustix::fd::AsFd) -> bool {
    true
}

/// True if another program or computer serves the file system of an open file or folder.
#[cfg(target_os = "linux")]
pub(super) fn is_served(handle: impl rustix::fd::AsFd) -> bool {
    type_of_open(handle).is_some_and(|kind| SERVED.contains(&kind))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn is_served(_handle: impl rustix::fd::AsFd) -> bool {
    true
}

#[cfg(any(target_os = "linux", test))]
fn is_flushed_as_a_whole(kind: u64, name: &str) -> bool {
    FLUSHED_AS_A_WHOLE.iter().any(|(number, names)| *number == kind && names.contains(&name))
}

/// Name of the file system of an open file or folder, as it was mounted.
#[cfg(target_os = "linux")]
fn mounted_type(handle: impl rustix::fd::AsFd) -> Option<String> {
    use std::os::fd::AsRawFd;
    let number = handle.as_fd().as_raw_fd();
    let facts = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
    let mount = facts.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    named_type(&std::fs::read_to_string("/proc/self/mountinfo").ok()?, mount.trim()).map(str::to_owned)
}

/// The type of the mount with this number (proc_pid_mountinfo(5)): the first field after a lone dash.
#[cfg(any(target_os = "linux", test))]
fn named_type<'m>(mounts: &'m str, mount: &str) -> Option<&'m str> {
    let line = mounts.lines().find(|line| line.split(' ').next() == Some(mount))?;
    line.split(' ').skip_while(|field| *field != "-").nth(1)
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

#[cfg(target_os = "linux")]
fn type_of_open(handle: impl rustix::fd::AsFd) -> Option<u64> {
    rustix::fs::fstatfs(handle).ok().map(|facts| u64::from(facts.f_type as u32))
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
    fn only_file_systems_known_to_reach_the_disk_are_flushed_as_a_whole() {
        for (kind, name) in
            [(0xef53, "ext4"), (0x9123_683e, "btrfs"), (0x5846_5342, "xfs"), (0x2fc1_2fc1, "zfs")]
        {
            assert!(is_flushed_as_a_whole(kind, name), "{name}");
        }
        // FUSE, NFS, the kernel's AFS, shared folders of VirtualBox, eCryptfs (which may report the type below
        // it), FAT, one that is not known.
        let others = [
            (0x6573_5546, "fuse.sshfs"),
            (0x6969, "nfs4"),
            (0x6b41_4653, "afs"),
            (0x786f_4256, "vboxsf"),
            (0xf15f, "ecryptfs"),
            (0xef53, "ecryptfs"),
            (0x4d44, "vfat"),
            (0x1234, "other"),
        ];
        for (kind, name) in others {
            assert!(!is_flushed_as_a_whole(kind, name), "{name}");
        }
        for kind in [0x6573_5546, 0x6969, 0x6b41_4653, 0x786f_4256] {
            assert!(SERVED.contains(&kind), "{kind:x}");
        }
    }

    #[test]
    fn the_type_of_a_mount_is_after_its_optional_fields() {
        let mounts = "22 1 0:5 / /proc rw - proc proc rw\n\
                      36 22 98:0 /a /home/an\\040na rw,noatime master:1 shared:2 - ecryptfs /home/.anna rw\n\
                      360 22 8:1 / /srv rw - ext4 /dev/sda1 rw\n";
        assert_eq!(named_type(mounts, "36"), Some("ecryptfs"));
        assert_eq!(named_type(mounts, "360"), Some("ext4"));
        assert_eq!(named_type(mounts, "3"), None);
    }

    #[test]
    fn a_file_system_in_memory_is_flushed_as_a_whole() {
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
