//! Remembers which request conditions a service honours, separately for each kind of request: a service may
//! support `If-None-Match` of a PUT and ignore `If-Match`, or `<ETag>` of removals.
//!
//! An honoured condition saves a look before the request. A rejected condition (501) is not sent any more. A
//! silently ignored one is the dangerous case: a request whose condition cannot hold detects it.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::{Mutex, MutexGuard};

use super::guard::Guard;

/// The kinds of requests that can have a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conditional {
    /// PUT of a new object (`If-None-Match`).
    Create,
    /// PUT over a version (`If-Match`).
    Replace,
    /// Completing an upload of a new object.
    CompleteNew,
    /// Completing an upload over a version.
    CompleteOver,
    /// Copies to a free key.
    CopyNew,
    /// Copies over a version.
    CopyOver,
    /// DeleteObject (`If-Match`).
    Delete,
    /// Rows of DeleteObjects (`<ETag>`).
    DeleteMany,
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
            Conditional::Delete | Conditional::DeleteMany => "removals",
        }
    }
}

/// The findings about one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Standing {
    /// Unknown: conditions are sent, and not relied upon.
    Unknown,
    /// Honoured: a request whose condition did not hold was refused.
    Kept,
    /// Ignored: a request whose condition did not hold was carried out.
    Ignored,
    /// The service rejects requests with conditions.
    Refused,
    /// Cannot be determined: conditions are sent, and not relied upon.
    Unclear,
    /// A request with a condition was rejected, perhaps for another reason. Conditions are not sent until a
    /// request without one shows which.
    Doubted,
}

/// The condition of a request that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It had one.
    With,
    /// It was left out, because the service may reject it.
    LeftOut,
    /// There was none.
    Plain,
}

impl Sent {
    /// For a request that should have a condition, and one that has it.
    pub(super) fn of(is_asked: bool, is_sent: bool) -> Self {
        match (is_asked, is_sent) {
            (_, true) => Sent::With,
            (true, false) => Sent::LeftOut,
            (false, false) => Sent::Plain,
        }
    }

    /// For the condition of a write, and the one that is sent.
    pub(super) fn of_guards(asked: &Guard, sent: &Guard) -> Self {
        Sent::of(asked.is_condition(), sent.is_condition())
    }
}

/// The findings about all kinds.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    kinds: [KnownCondition; 8],
}

#[derive(Debug, Default)]
struct KnownCondition {
    standing: AtomicU8,
    /// Locked by the task that probes.
    asking: Mutex<()>,
}

impl Conditions {
    /// Conditions of a service that documents all of them.
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
            5 => Standing::Doubted,
            _ => Standing::Unknown,
        }
    }

    /// True if a request with such a condition fails when the condition does not hold.
    pub(super) fn are_kept(&self, kind: Conditional) -> bool {
        self.standing(kind) == Standing::Kept
    }

    /// True if a condition is worth sending.
    pub(super) fn are_sent(&self, kind: Conditional) -> bool {
        matches!(self.standing(kind), Standing::Kept | Standing::Unknown | Standing::Unclear)
    }

    /// Records a finding. Returns true if it is new.
    pub(super) fn learn(&self, kind: Conditional, standing: Standing) -> bool {
        self.kind(kind).standing.swap(standing as u8, Ordering::Relaxed) != standing as u8
    }

    /// Waits until no other task probes a kind; `None` once it is known.
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

    const KINDS: [Conditional; 8] =
        [Create, Replace, CompleteNew, CompleteOver, CopyNew, CopyOver, Delete, DeleteMany];

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
