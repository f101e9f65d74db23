//! The file system's own clock: shows whether a file changed so recently that one more change could leave its
//! times as they are.
//!
//! Servers of network drives have clocks of their own, and some file systems have steps of two seconds. So
//! "now" is the time that the file system gives to a file created in `.obsync`. (Git does the same with its
//! index: "racy git".)

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cap_std::fs::Dir;
use obsync_core::LocalFacts;
use obsync_core::blocking::lock;
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_NOW};

use crate::own_folder::{Own, own_folder};
use crate::root::Root;

/// The file that is created, and removed at once.
const STAMP: &str = "now";
/// The longest known step of a file system's clock (FAT), in nanoseconds.
const LONGEST_STEP: i64 = 2_000_000_000;
/// The longest step of the system's own clock (a kernel with 100 ticks a second), in nanoseconds.
const SYSTEM_STEP: i64 = 10_000_000;
/// Longest time that a scan waits, for all files together, until the clock moves on.
const PATIENCE: Duration = Duration::from_millis(300);
/// Length of one such wait.
const NAP: Duration = Duration::from_millis(2);

/// The time of a file system, as far as known.
pub(super) struct Clock {
    /// Folder in which its time can be read.
    own: Option<Dir>,
    /// Nanoseconds since the epoch. Any later change has this time or a later one.
    now: AtomicI64,
    patience: Mutex<Duration>,
}

impl Clock {
    pub(super) fn new(root: &Root) -> Self {
        let own = match own_folder(root) {
            Ok(Own::Private(own)) => Some(own),
            Ok(Own::Foreign | Own::Absent) | Err(_) => None,
        };
        let clock = Clock { own, now: AtomicI64::new(0), patience: Mutex::new(PATIENCE) };
        clock.renew();
        clock
    }

    fn renew(&self) {
        let now = self.own.as_ref().and_then(|own| file_system_time(own).ok()).unwrap_or_else(system_time);
        self.now.store(now, Ordering::Release);
    }

    /// True if a file with these facts may have changed since it was recorded with the very same ones.
    pub(super) fn is_racy(&self, facts: &LocalFacts) -> bool {
        let now = self.now.load(Ordering::Acquire);
        times(facts).is_some_and(|(modified, changed)| changed >= now || is_recent(modified, now))
    }

    /// Waits until a further change of a file with these facts would change them; just after a change, that
    /// takes a moment. `false` if it takes too long.
    pub(super) fn settle(&self, facts: &LocalFacts) -> bool {
        if !self.is_within_step(facts) {
            return true;
        }
        let mut patience = lock(&self.patience);
        loop {
            self.renew();
            if !self.is_within_step(facts) {
                return true;
            }
            let Some(left) = patience.checked_sub(NAP) else { return false };
            *patience = left;
            thread::sleep(NAP);
        }
    }

    fn is_within_step(&self, facts: &LocalFacts) -> bool {
        let now = self.now.load(Ordering::Acquire);
        times(facts).is_some_and(|(modified, changed)| is_recent(changed, now) || is_recent(modified, now))
    }
}

/// True if a time is within a step after now. A later one was made up, or the clock was set back.
fn is_recent(time: i64, now: i64) -> bool {
    (now..=now.saturating_add(LONGEST_STEP)).contains(&time)
}

fn times(facts: &LocalFacts) -> Option<(i64, i64)> {
    match facts {
        LocalFacts::File { modified, changed, .. } => Some((*modified, *changed)),
        LocalFacts::Object { .. } => None,
    }
}

/// The time that the file system gives to a file, in nanoseconds since the epoch.
#[allow(clippy::unnecessary_cast, reason = "the fields have other types on each system")]
fn file_system_time(own: &Dir) -> rustix::io::Result<i64> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(own, STAMP, flags, Mode::from_raw_mode(0o600))?;
    // One may be left from a killed run.
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let stamped = rustix::fs::futimens(&file, &Timestamps { last_access: now, last_modification: now })
        .and_then(|()| rustix::fs::fstat(&file));
    let _ = rustix::fs::unlinkat(own, STAMP, AtFlags::empty());
    let stamped = stamped?;
    Ok((stamped.st_mtime as i64).saturating_mul(1_000_000_000).saturating_add(stamped.st_mtime_nsec as i64))
}

/// The same if no file can be created: a local file system has the system's clock.
fn system_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    i64::try_from(since).unwrap_or(i64::MAX).saturating_sub(SYSTEM_STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(now: i64) -> Clock {
        Clock { own: None, now: AtomicI64::new(now), patience: Mutex::default() }
    }

    fn facts(modified: i64, changed: i64) -> LocalFacts {
        LocalFacts::File { size: 1, modified, changed, inode: 1 }
    }

    #[test]
    fn a_file_is_racy_until_the_clock_is_past_its_times() {
        const YEAR: i64 = 31_536_000_000_000_000;
        let clock = clock(YEAR);
        for (modified, changed, racy) in [
            (0, YEAR - 1, false),
            (0, YEAR, true),
            (YEAR - 1, YEAR - 1, false),
            (YEAR, YEAR - 1, true),
            // A file with a made-up time is not read for ever.
            (2 * YEAR, YEAR - 1, false),
            // The clock was set back.
            (0, 2 * YEAR, true),
        ] {
            assert_eq!(clock.is_racy(&facts(modified, changed)), racy, "{modified} {changed}");
        }
    }

    #[test]
    fn a_file_that_was_just_changed_settles_within_a_moment() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("note.md");
        std::fs::write(&path, "text").unwrap();
        let changed = std::fs::metadata(&path).unwrap().modified().unwrap();
        let changed = i64::try_from(changed.duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
        let clock = Clock { own: None, now: AtomicI64::new(changed), patience: Mutex::new(PATIENCE) };
        assert!(clock.is_racy(&facts(changed, changed)));
        assert!(clock.settle(&facts(changed, changed)));
        assert!(!clock.is_racy(&facts(changed, changed)));
    }

    #[test]
    fn patience_has_an_end() {
        let ahead = system_time() + LONGEST_STEP / 2;
        assert!(!clock(ahead).settle(&facts(ahead, ahead)));
    }
}
