//! Compares what is to be written with the space that there is, before it is written: what cannot fit fails alone.

use crate::error::PullError;
use crate::plan::Transfer;
use crate::publish::Publisher;
use crate::store::{VaultStore, Wanted};
use crate::transfer::Scout;

/// A transfer that does not fit, and how much space it takes, in bytes.
type TooLarge = (Transfer, u64);

impl Publisher<'_, '_> {
    /// Takes out the transfers for which there is no space, and reports them as failed.
    pub(crate) async fn refuse_what_does_not_fit(
        &mut self,
        transfers: &mut Vec<Transfer>,
        scout: &Scout,
    ) -> Result<(), PullError> {
        let Some(free) = self.store.free_space().await? else { return Ok(()) };
        if transfers.iter().map(space).fold(0, u64::saturating_add) <= free {
            return Ok(());
        }
        // What is there already takes none. To look is worth it only now: it reads files.
        let needs = match scout.fresh {
            true => transfers.iter().map(space).collect(),
            false => missing_space(self.store.as_ref(), transfers).await?,
        };
        let (fitting, too_large) = divide(std::mem::take(transfers), needs, free);
        *transfers = fitting;
        for (transfer, need) in too_large {
            let location = self.store.location();
            let reason = format!(
                "it takes {need} bytes, and {location} has {free} bytes free for this pull; free some space, and the next \
                 pull brings it"
            );
            self.ledger.transfer_failed(&transfer, &reason);
        }
        Ok(self.ledger.commit().await?)
    }
}

/// Bytes that a transfer adds: all its targets, less what they replace.
fn space(transfer: &Transfer) -> u64 {
    let added = transfer.size.saturating_mul(transfer.targets.len() as u64);
    let replaced = transfer.targets.iter().filter_map(|target| target.replaces).map(|known| known.size);
    replaced.fold(added, u64::saturating_sub)
}

/// The same for each transfer, without the targets that hold their content already.
async fn missing_space(store: &dyn VaultStore, transfers: &[Transfer]) -> Result<Vec<u64>, PullError> {
    let wanted = |transfer: &Transfer| -> Vec<Wanted> {
        let one = |path| Wanted { path, hash: transfer.hash, size: transfer.size };
        transfer.targets.iter().map(|target| one(target.path.clone())).collect()
    };
    let mut held = store.holds(transfers.iter().flat_map(wanted).collect()).await?.into_iter();
    let missing = |transfer: &Transfer| {
        let mut missing = transfer.clone();
        missing.targets.retain(|_| !held.next().unwrap_or(false));
        space(&missing)
    };
    Ok(transfers.iter().map(missing).collect())
}

/// Divides transfers into those that fit and those that do not. The smallest first: one that claims a size beyond all that
/// there is must not keep the others out. Both in the order in which they came.
fn divide(transfers: Vec<Transfer>, needs: Vec<u64>, free: u64) -> (Vec<Transfer>, Vec<TooLarge>) {
    let mut by_need: Vec<usize> = (0..needs.len()).collect();
    by_need.sort_by_key(|at| needs[*at]);
    let (mut left, mut fits) = (free, vec![false; needs.len()]);
    for at in by_need {
        let Some(rest) = left.checked_sub(needs[at]) else { break };
        (left, fits[at]) = (rest, true);
    }
    let (mut fitting, mut too_large) = (Vec::new(), Vec::new());
    for ((transfer, need), fits) in transfers.into_iter().zip(needs).zip(fits) {
        match fits {
            true => fitting.push(transfer),
            false => too_large.push((transfer, need)),
        }
    }
    (fitting, too_large)
}

#[cfg(test)]
mod tests {
    use obsync_protocol::{ContentHash, Uid, VaultPath};

    use super::*;
    use crate::plan::{Source, Target};
    use crate::store::KnownContent;

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
        };
        Transfer { hash, size, source: Source::Remote, targets: vec![target] }
    }

    fn divided(transfers: Vec<Transfer>, free: u64) -> (Vec<String>, Vec<String>) {
        let needs = transfers.iter().map(space).collect();
        let (fitting, too_large) = divide(transfers, needs, free);
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
    fn what_is_replaced_makes_room() {
        let (fitting, _) = divided(vec![transfer("a.md", 150, Some(100))], 50);
        assert_eq!(fitting, ["a.md"]);
    }
}
