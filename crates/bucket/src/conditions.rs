//! Remembers which conditions a service keeps, separately for each kind of request: a service can know `If-None-Match` of a PUT
//! and ignore `If-Match`, or `<ETag>` of removals.
//!
//! A condition that is kept spares a look before the request. A condition that is refused (501) is not sent any more. One that
//! is ignored without a word is the dangerous case: it is found out by a request whose condition cannot hold.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::{Mutex, MutexGuard};

use super::guard::Guard;

/// The kinds of requests that can have a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conditional {
    /// PUT where nothing is to be (`If-None-Match`).
    Create,
    /// PUT over a version (`If-Match`).
    Replace,
    /// Completing an upload where nothing is to be.
    CompleteNew,
    /// Completing an upload over a version.
    CompleteOver,
    /// Copies to where nothing is to be.
    CopyNew,
    /// Copies over a version.
    CopyOver,
    Delete,
}

impl Conditional {
    /// The kind of a PUT with this condition.
    pub(super) fn of_put(guard: &Guard) -> Self {
        if matches!(guard, Guard::Nothing) { Conditional::Create } else { Conditional::Replace }
    }

    /// The kind of the end of an upload with this condition.
    pub(super) fn of_completion(guard: &Guard) -> Self {
        if matches!(guard, Guard::Nothing) { Conditional::CompleteNew } else { Conditional::CompleteOver }
    }

    /// The kind of a copy with this condition.
    pub(super) fn of_copy(guard: &Guard) -> Self {
        if matches!(guard, Guard::Nothing) { Conditional::CopyNew } else { Conditional::CopyOver }
    }

    /// Completes the sentence "the service … conditions on …".
    pub(super) fn text(self) -> &'static str {
        match self {
            Conditional::Create | Conditional::Replace => "writes",
            Conditional::CompleteNew | Conditional::CompleteOver => "completing uploads",
            Conditional::CopyNew | Conditional::CopyOver => "copies",
            Conditional::Delete => "removals",
        }
    }
}

/// What is known of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Standing {
    /// Nothing: conditions are sent, and not relied upon.
    Unknown,
    /// A request whose condition did not hold was refused.
    Kept,
    /// A request whose condition did not hold was carried out.
    Ignored,
    /// Requests with conditions are not known.
    Refused,
    /// That cannot be found out: conditions are sent, and not relied upon.
    Unclear,
}

/// What is known of all kinds.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    kinds: [KnownCondition; 7],
}

#[derive(Debug, Default)]
struct KnownCondition {
    standing: AtomicU8,
    /// Held by whoever finds out.
    asking: Mutex<()>,
}

impl Conditions {
    /// Those of a service that documents every one of them.
    pub(super) fn all_kept() -> Self {
        let conditions = Conditions::default();
        for kind in &conditions.kinds {
            kind.standing.store(Standing::Kept as u8, Ordering::Relaxed);
        }
        conditions
    }

    pub(super) fn standing(&self, kind: Conditional) -> Standing {
        match self.kind(kind).standing.load(Ordering::Relaxed) {
            1 => Standing::Kept,
            2 => Standing::Ignored,
            3 => Standing::Refused,
            4 => Standing::Unclear,
            _ => Standing::Unknown,
        }
    }

    /// Whether a request's condition tells if what was supposed is not so.
    pub(super) fn are_kept(&self, kind: Conditional) -> bool {
        self.standing(kind) == Standing::Kept
    }

    /// Whether a condition is worth sending.
    pub(super) fn are_sent(&self, kind: Conditional) -> bool {
        matches!(self.standing(kind), Standing::Kept | Standing::Unknown | Standing::Unclear)
    }

    /// Notes what was found out; whether it is news.
    pub(super) fn learn(&self, kind: Conditional, standing: Standing) -> bool {
        self.kind(kind).standing.swap(standing as u8, Ordering::Relaxed) != standing as u8
    }

    /// Waits until nobody else finds out about a kind; `None` once it is known.
    pub(super) async fn ask(&self, kind: Conditional) -> Option<MutexGuard<'_, ()>> {
        let asking = self.kind(kind).asking.lock().await;
        (self.standing(kind) == Standing::Unknown).then_some(asking)
    }

    fn kind(&self, kind: Conditional) -> &KnownCondition {
        &self.kinds[kind as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use Conditional::*;

    const KINDS: [Conditional; 7] = [Create, Replace, CompleteNew, CompleteOver, CopyNew, CopyOver, Delete];

    #[test]
    fn each_kind_is_known_by_itself() {
        for learned in KINDS {
            let conditions = Conditions::default();
            assert!(conditions.learn(learned, Standing::Refused));
            assert!(!conditions.learn(learned, Standing::Refused), "it is no news any more");
            for kind in KINDS {
                assert_eq!(conditions.are_sent(kind), kind != learned, "{kind:?} after {learned:?}");
                assert!(!conditions.are_kept(kind));
            }
        }
    }

    #[tokio::test]
    async fn one_finds_out_and_the_others_wait_for_it() {
        let conditions = Conditions::default();
        let asking = conditions.ask(Create).await.unwrap();
        let other = conditions.ask(Create);
        tokio::pin!(other);
        assert!(futures_util::poll!(&mut other).is_pending());
        conditions.learn(Create, Standing::Kept);
        drop(asking);
        assert!(other.await.is_none());
        assert!(conditions.ask(CopyNew).await.is_some());
    }
}
