//! Compares the size of a plan with the free space before anything is written: only files that do not fit
//! fail.

use std::cmp::Reverse;
use std::collections::{HashSet, VecDeque};

use obsync_protocol::VaultPath;

use crate::destination::{Destination, DestinationExt, Wanted};
use crate::error::PullError;
use crate::publish::Publisher;
use crate::schedule::{Target, Transfer};
use crate::transfer::{BACKLOG, Scout, wanted};

/// Transfers compared with the destination at a time: the paths of all of them would take as much memory as
/// the plan.
const COMPARED: usize = 4096;

/// The next batch of rescues.
#[derive(Default)]
pub(crate) struct NextRescues {
    /// Transfers that fit.
    pub(crate) batch: Vec<Transfer>,
    /// Transfers that do not fit; they are in the ledger as failed.
    pub(crate) too_large: Vec<Transfer>,
    /// Transfers whose source does not have the content.
    pub(crate) elsewhere: Vec<Transfer>,
}

/// A transfer that does not fit, with the reason.
type TooLarge = (Transfer, Shortage);

/// Space of a transfer that does not fit, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shortage {
    /// Space that it needs.
    needed: u64,
    /// Space that other transfers of this run need first.
    others: u64,
}

impl Shortage {
    /// The reason for the user. All numbers are bytes: rounded ones can look as if it would fit.
    fn reason(self, free: u64, location: &str) -> String {
        let Shortage { needed, others } = self;
        let room = match others {
            0 => format!("{location} has {free} bytes free"),
            others => {
                format!("of the {free} bytes free in {location}, {others} are for other files of this run")
            }
        };
        let missing = needed.saturating_sub(free.saturating_sub(others));
        format!(
            "it takes {needed} bytes, and {room}; free {missing} bytes more, and the next run downloads it"
        )
    }
}

impl Publisher<'_, '_> {
    /// Takes out the transfers for which there is no space, and reports them as failed.
    pub(crate) async fn refuse_what_does_not_fit(
        &mut self,
        transfers: &mut Vec<Transfer>,
        scout: &Scout,
    ) -> Result<(), PullError> {
        let mounted = Mounted::new(self.destination.mounted_folders().await?);
        for space in 0..mounted.0.len() {
            self.refuse_below(&mounted, space, transfers).await?;
        }
        let Some(free) = self.destination.free_space().await? else { return Ok(()) };
        if transfers.iter().map(Need::of).fold(0, |sum: u64, need| sum.saturating_add(need.written)) <= free {
            return Ok(());
        }
        // A content that is there already needs none. Checked only now, because that reads files.
        let needs = match (scout.is_empty, mounted.0.is_empty()) {
            (true, true) => transfers.iter().map(Need::of).collect(),
            (false, true) => missing_space(self.destination.as_ref(), transfers).await?,
            (_, false) => {
                let here = missing_space(self.destination.as_ref(), &mounted.part(transfers, None)).await?;
                let all = missing_space(self.destination.as_ref(), transfers).await?;
                here.into_iter().zip(all).map(|(here, all)| here.with_staged(all)).collect()
            }
        };
        let (fitting, too_large) = divide(std::mem::take(transfers), needs, free, self.staged_at_once());
        *transfers = fitting;
        for (transfer, shortage) in too_large {
            self.does_not_fit(&transfer, shortage, free, &self.destination.location());
        }
        Ok(self.ledger.commit().await?)
    }

    /// Files that are complete and not yet in place: at most a batch, and the files that arrive while it is
    /// published.
    fn staged_at_once(&self) -> usize {
        self.destination.traits().batch_limit.files + BACKLOG
    }

    /// Takes out the targets in a mounted file system for which it has no space, and reports them as failed.
    async fn refuse_below(
        &mut self,
        mounted: &Mounted,
        space: usize,
        transfers: &mut Vec<Transfer>,
    ) -> Result<(), PullError> {
        let there = |transfer: &Transfer| {
            let targets =
                transfer.targets.iter().filter(|target| mounted.space_of(&target.path) == Some(space));
            transfer.size.saturating_mul(targets.count() as u64)
        };
        let written = transfers.iter().map(there).fold(0, u64::saturating_add);
        // A file system that no file goes to is left alone: it may never answer.
        if written == 0 {
            return Ok(());
        }
        let folder = &mounted.0[space];
        let Some(free) = self.destination.free_space_below(folder).await? else { return Ok(()) };
        if written <= free {
            return Ok(());
        }
        let part = mounted.part(transfers, Some(space));
        let needs = missing_space(self.destination.as_ref(), &part).await?;
        let (_, too_large) = divide(part, needs, free, self.staged_at_once());
        let location = format!("{}/{folder}", self.destination.location());
        let mut refused = HashSet::new();
        for (transfer, shortage) in too_large {
            self.does_not_fit(&transfer, shortage, free, &location);
            refused.extend(transfer.targets.into_iter().map(|target| target.path));
        }
        for transfer in transfers.iter_mut() {
            transfer.targets.retain(|target| !refused.contains(&target.path));
        }
        transfers.retain(|transfer| !transfer.targets.is_empty());
        Ok(self.ledger.commit().await?)
    }

    /// Takes out the next rescues: not more than `most`, and not more than there is space for, as each is a
    /// copy beside its source; `staged` bytes are already staged. Rescues that do not fit even after all
    /// before them are in place fail.
    pub(crate) async fn next_rescues(
        &mut self,
        rescues: &mut VecDeque<Transfer>,
        most: usize,
        staged: u64,
    ) -> Result<NextRescues, PullError> {
        let Some(free) = self.destination.free_space().await? else {
            let batch = rescues.drain(..most.min(rescues.len())).collect();
            return Ok(NextRescues { batch, ..NextRescues::default() });
        };
        // Space of earlier staged content counts as free; space of content staged now does not.
        let left = free.saturating_sub(staged);
        let mut next = NextRescues::default();
        let mut written = 0_u64;
        while next.batch.len() < most
            && let Some(transfer) = rescues.pop_front()
        {
            let need = Need::of(&transfer).written;
            let with_it = written.saturating_add(need);
            if with_it <= left {
                written = with_it;
                next.batch.push(transfer);
            } else if !next.batch.is_empty() {
                rescues.push_front(transfer);
                break;
            } else if self.is_at_its_source(&transfer).await? {
                let location = self.destination.location();
                self.does_not_fit(&transfer, Shortage { needed: need, others: staged }, free, &location);
                next.too_large.push(transfer);
            } else {
                next.elsewhere.push(transfer);
            }
        }
        Ok(next)
    }

    /// True if a rescue's content is at its source. If not, it may be in place already.
    async fn is_at_its_source(&self, transfer: &Transfer) -> Result<bool, PullError> {
        let Some(path) = transfer.source.local().cloned() else { return Ok(false) };
        let wanted = Wanted { path, hash: transfer.hash, size: transfer.size };
        Ok(self.destination.holds(vec![wanted]).await?.contains(&true))
    }

    fn does_not_fit(&mut self, transfer: &Transfer, shortage: Shortage, free: u64, location: &str) {
        self.ledger.transfer_failed(transfer, &shortage.reason(free, location));
    }
}

/// Folders of a destination at which other file systems are mounted, innermost first.
struct Mounted(Vec<VaultPath>);

impl Mounted {
    fn new(mut folders: Vec<VaultPath>) -> Self {
        folders.sort_by_key(|folder| Reverse(folder.as_str().len()));
        Mounted(folders)
    }

    /// The file system that a path is in; `None` if it is the destination's own.
    fn space_of(&self, path: &VaultPath) -> Option<usize> {
        self.0.iter().position(|folder| path.is_below(folder))
    }

    /// The transfers with only their targets in one file system, which may be none.
    fn part(&self, transfers: &[Transfer], space: Option<usize>) -> Vec<Transfer> {
        let is_there = |target: &&Target| self.space_of(&target.path) == space;
        let part = |transfer: &Transfer| Transfer {
            hash: transfer.hash,
            size: transfer.size,
            source: transfer.source.clone(),
            targets: transfer.targets.iter().filter(is_there).cloned().collect(),
        };
        transfers.iter().map(part).collect()
    }
}

/// Bytes of a transfer.
#[derive(Clone, Copy)]
struct Need {
    /// For all its targets.
    written: u64,
    /// For the replaced files, which exist until the new ones are complete beside them.
    replaced: u64,
}

impl Need {
    fn of(transfer: &Transfer) -> Self {
        let written = transfer.size.saturating_mul(transfer.targets.len() as u64);
        let replaced = transfer.targets.iter().filter_map(|target| target.replaces).map(|known| known.size);
        Need { written, replaced: replaced.fold(0, u64::saturating_add) }
    }

    /// The need of all targets in the destination's own file system, of which only those counted in `self`
    /// stay there: the others are gone once their batch is published, as replaced files are.
    fn with_staged(self, all: Need) -> Need {
        Need { written: all.written, replaced: all.written.saturating_sub(self.added()) }
    }

    /// Bytes by which the used space grows.
    fn added(self) -> u64 {
        self.written.saturating_sub(self.replaced)
    }
}

/// The same for each transfer, without the targets that have their content already.
async fn missing_space(
    destination: &dyn Destination,
    transfers: &[Transfer],
) -> Result<Vec<Need>, PullError> {
    let mut needs = Vec::with_capacity(transfers.len());
    for transfers in transfers.chunks(COMPARED) {
        let mut present = destination.holds(wanted(transfers)).await?.into_iter();
        needs.extend(transfers.iter().map(|transfer| {
            let mut missing = transfer.clone();
            missing.targets.retain(|_| !present.next().unwrap_or(false));
            Need::of(&missing)
        }));
    }
    Ok(needs)
}

/// Divides transfers into those that fit and those that do not, in any order of execution: beside the added
/// files, replaced ones take space twice until the new ones are published, for as many files as are staged at
/// once. Smallest first: a file that claims an impossible size must not exclude the others. Both results keep
/// the given order.
fn divide(
    transfers: Vec<Transfer>,
    needs: Vec<Need>,
    free: u64,
    staged_at_once: usize,
) -> (Vec<Transfer>, Vec<TooLarge>) {
    let mut smallest_first: Vec<usize> = (0..needs.len()).collect();
    smallest_first.sort_by_key(|at| needs[*at].written);
    let (mut added, mut taken) = (0_u64, vec![None; needs.len()]);
    // Smallest first, so the last ones are the largest.
    let (mut twice, mut all_twice) = (VecDeque::new(), 0_u64);
    for at in smallest_first {
        let need = needs[at];
        let of_it = need.replaced.min(need.written);
        let oldest =
            if twice.len() >= staged_at_once { twice.front().copied().unwrap_or_default() } else { 0 };
        let others = added.saturating_add(all_twice - oldest);
        if others.saturating_add(need.written) > free {
            taken[at] = Some(others);
            continue;
        }
        (added, all_twice) = (added + need.added(), all_twice - oldest + of_it);
        twice.push_back(of_it);
        if twice.len() > staged_at_once {
            twice.pop_front();
        }
    }
    let (mut fitting, mut too_large) = (Vec::new(), Vec::new());
    for ((transfer, need), taken) in transfers.into_iter().zip(needs).zip(taken) {
        match taken {
            None => fitting.push(transfer),
            Some(others) => too_large.push((transfer, Shortage { needed: need.written, others })),
        }
    }
    (fitting, too_large)
}

#[cfg(test)]
mod tests {
    use crate::model::KnownContent;
    use obsync_protocol::{ContentHash, Uid};

    use super::*;
    use crate::schedule::Source;

    const STAGED_AT_ONCE: usize = 8192;

    fn transfer(path: &str, size: u64, replaces: Option<u64>) -> Transfer {
        let hash = ContentHash::of(path.as_bytes());
        let target = Target {
            path: VaultPath::parse(path).unwrap(),
            uid: Uid(1),
            mtime: 0,
            ctime: 0,
            replaces: replaces.map(|size| KnownContent { hash, size }),
            obstructed: false,
            recorded: false,
            facts: None,
        };
        Transfer { hash, size, source: Source::Remote, targets: vec![target] }
    }

    fn divided(transfers: Vec<Transfer>, free: u64) -> (Vec<String>, Vec<String>) {
        let needs = transfers.iter().map(Need::of).collect();
        let (fitting, too_large) = divide(transfers, needs, free, STAGED_AT_ONCE);
        let path = |transfer: &Transfer| transfer.targets[0].path.to_string();
        (fitting.iter().map(path).collect(), too_large.iter().map(|(transfer, _)| path(transfer)).collect())
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_the_rest_stays_in_order() {
        let transfers =
            vec![transfer("huge.md", u64::MAX, None), transfer("b.md", 60, None), transfer("a.md", 40, None)];
        let (fitting, too_large) = divided(transfers, 100);
        assert_eq!(
            (fitting, too_large),
            (vec!["b.md".to_owned(), "a.md".to_owned()], vec!["huge.md".to_owned()])
        );
    }

    #[test]
    fn the_reason_says_what_is_missing_also_where_the_file_alone_would_fit() {
        let transfers = vec![transfer("large.md", 90, None), transfer("small.md", 60, None)];
        let needs = transfers.iter().map(Need::of).collect();
        let (_, too_large) = divide(transfers, needs, 100, STAGED_AT_ONCE);
        let [(_, shortage)] = too_large.as_slice() else { panic!("{too_large:?}") };
        assert_eq!(
            shortage.reason(100, "notes"),
            "it takes 90 bytes, and of the 100 bytes free in notes, 60 are for other files of this run; free 50 bytes \
             more, and the next run downloads it"
        );
        let alone = Shortage { needed: 1_800_000, others: 0 };
        assert_eq!(
            alone.reason(1_799_998, "notes"),
            "it takes 1800000 bytes, and notes has 1799998 bytes free; free 2 bytes more, and the next run downloads it"
        );
    }

    #[test]
    fn what_is_replaced_makes_room_once_the_new_content_is_complete_beside_it() {
        let replacing = || transfer("a.md", 150, Some(100));
        assert_eq!(divided(vec![replacing()], 50).0, [] as [String; 0]);
        assert_eq!(divided(vec![replacing()], 150).0, ["a.md"]);
        // If three files are replaced, all can be complete before the first is in place.
        let three = ["a.md", "b.md", "c.md"].map(|path| transfer(path, 100, Some(100)));
        assert_eq!(divided(three.to_vec(), 299).0.len(), 2);
        assert_eq!(divided(three.to_vec(), 300).0.len(), 3);
        // Files for another file system are only staged here.
        let staged = |size| Need { written: 0, replaced: 0 }.with_staged(Need { written: size, replaced: 0 });
        let elsewhere: Vec<_> =
            (0..10 * STAGED_AT_ONCE).map(|n| transfer(&format!("{n}.md"), 100, None)).collect();
        let needs = elsewhere.iter().map(|transfer| staged(transfer.size)).collect();
        assert!(divide(elsewhere, needs, 100 * STAGED_AT_ONCE as u64, STAGED_AT_ONCE).1.is_empty());
        let too_large = divide(vec![transfer("a.md", 200, None)], vec![staged(200)], 100, STAGED_AT_ONCE).1;
        assert_eq!(too_large.len(), 1, "it has to be complete here first");
        let replacing = Need { written: 150, replaced: 100 };
        assert_eq!(replacing.with_staged(replacing).added(), replacing.added());
        // Not more than are staged at once, so that a whole vault can be replaced on a disk that it half
        // fills.
        let many: Vec<_> =
            (0..10 * STAGED_AT_ONCE).map(|n| transfer(&format!("{n}.md"), 100, Some(100))).collect();
        assert!(divided(many, 100 * STAGED_AT_ONCE as u64).1.is_empty());
    }
}
