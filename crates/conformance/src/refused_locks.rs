//! File systems that refuse locks, as network drives can: the kernel refuses the calls of one thread, of the
//! threads that it starts and of their children.

use std::collections::BTreeMap;

use rustix::io::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

use super::not_tested;

/// A kind of lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `flock`, on a whole file.
    Flock,
    /// `fcntl`, on records of a file, as SQLite locks.
    Records,
}

/// Errors of file systems for `flock`. `EAGAIN` is also the error if another process has the lock.
pub const FLOCK_REFUSALS: [Errno; 6] =
    [Errno::OPNOTSUPP, Errno::NOSYS, Errno::NOLCK, Errno::ACCESS, Errno::IO, Errno::AGAIN];

/// Errors of file systems for `fcntl`.
pub const RECORD_REFUSALS: [Errno; 4] = [Errno::AGAIN, Errno::ACCESS, Errno::NOLCK, Errno::IO];

/// Runs `work` on a thread for which locks of a kind fail with `error`; `None` if this machine cannot do that
/// ([`not_tested`](fn@not_tested)).
pub fn without_locks<T: Send>(kind: Kind, error: Errno, work: impl FnOnce() -> T + Send) -> Option<T> {
    let filter = filter(kind, error);
    let done = std::thread::scope(|scope| {
        let confined = scope.spawn(|| apply_filter(&filter).map(|()| work()));
        confined.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    done.inspect_err(|error| not_tested(&format!("system calls cannot be refused: {error}"))).ok()
}

fn filter(kind: Kind, error: Errno) -> BpfProgram {
    let is_lock = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, libc::F_SETLK as u64);
    let (call, rules) = match kind {
        Kind::Flock => (libc::SYS_flock, vec![]),
        Kind::Records => (libc::SYS_fcntl, vec![SeccompRule::new(vec![is_lock.unwrap()]).unwrap()]),
    };
    let refusal = SeccompAction::Errno(error.raw_os_error().unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter =
        SeccompFilter::new(BTreeMap::from([(call, rules)]), SeccompAction::Allow, refusal, arch).unwrap();
    filter.try_into().unwrap()
}
