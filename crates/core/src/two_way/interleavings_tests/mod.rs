//! Runs the pure core through all interleavings of two replicas, two paths and up to five operations.
//! Reconciling, deciding what to send, merging and settling are the engine's own code; the simulated vault
//! behaves as docs/PROTOCOL.md section 6 says. In the end both replicas equal the vault, and no text is lost.

mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use world::World;

/// The first is merged by lines, the second is not.
const PATHS: [&str; 2] = ["a.md", "b.png"];
/// Operations per history, at most.
const OPERATIONS: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    /// A user adds a word.
    Edit(usize, usize),
    Delete(usize, usize),
    /// To the other path, if that is free.
    Rename(usize, usize),
    Sync(usize),
    /// The next operation happens after this run has decided everything and before it sends.
    Around(usize),
    /// The run dies after it has sent everything and before it records anything.
    Dies(usize),
    /// The same, and the vault takes what it sent only later.
    Late(usize),
    /// The vault takes everything that was sent and not taken yet.
    Lands,
}

impl Op {
    /// True if an operation can happen during this run, which has its folder to itself.
    fn may_surround(self, then: Op) -> bool {
        let of = |op: Op| match op {
            Op::Sync(on) | Op::Around(on) | Op::Dies(on) | Op::Late(on) => Some(on),
            Op::Edit(..) | Op::Delete(..) | Op::Rename(..) | Op::Lands => None,
        };
        !matches!(then, Op::Around(_)) && (of(then).is_none() || of(then) != of(self))
    }
}

fn operations() -> Vec<Op> {
    let user = [Op::Edit, Op::Delete, Op::Rename];
    let run = [Op::Sync, Op::Around, Op::Dies, Op::Late];
    let at = (0..2).flat_map(|replica| (0..2).map(move |path| (replica, path)));
    let by_users = at.flat_map(|(replica, path)| user.map(|op| op(replica, path)));
    by_users.chain((0..2).flat_map(|replica| run.map(|op| op(replica)))).chain([Op::Lands]).collect()
}

/// Tries every continuation of a history.
fn explore(world: &World, history: &mut Vec<Op>, operations: &[Op], tried: &AtomicU64) {
    for op in operations {
        let around = matches!(op, Op::Around(_));
        if history.len() + usize::from(around) >= OPERATIONS {
            continue;
        }
        let inner = if around { operations } else { &operations[..1] };
        for then in inner.iter().filter(|then| !around || op.may_surround(**then)) {
            let mut next = world.clone();
            if !next.happen(*op, Some(*then).filter(|_| around)) {
                continue;
            }
            let length = history.len();
            history.push(*op);
            history.extend(Some(*then).filter(|_| around));
            tried.fetch_add(1, Ordering::Relaxed);
            next.clone().check(history);
            explore(&next, history, operations, tried);
            history.truncate(length);
        }
    }
}

#[test]
fn all_interleavings_of_two_replicas_and_two_paths_end_equal_and_lose_nothing() {
    let operations = operations();
    // Both replicas are equal at first, so a run has nothing to do: the first operation is one of the first
    // replica's user.
    let first: Vec<Op> = operations
        .iter()
        .copied()
        .filter(|op| matches!(op, Op::Edit(0, _) | Op::Delete(0, _) | Op::Rename(0, _)))
        .collect();
    let servers = [(false, false), (true, false), (false, true)];
    let jobs = servers.into_iter().flat_map(|server| first.iter().map(move |op| (server, *op)));
    let jobs: Vec<((bool, bool), Op)> = jobs.collect();
    let (jobs, tried) = (Mutex::new(jobs), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(((keeps_related, are_alike), op)) = { jobs.lock().unwrap().pop() } {
                    let mut world = World::new(keeps_related, are_alike);
                    if world.happen(op, None) {
                        tried.fetch_add(1, Ordering::Relaxed);
                        world.clone().check(&[op]);
                        explore(&world, &mut vec![op], &operations, &tried);
                    }
                }
            });
        }
    });
    let tried = tried.into_inner();
    assert!(tried > 50_000, "{tried}");
    println!("{tried} interleavings");
}
