//! Random histories of three replicas and a vault that another device writes to, with kills, stops, cuts,
//! lost answers, rivals, users who work during a run, an official client that sends in its own order, clocks
//! that jump, filters that change and deletions that are held back. In the end all sides are equal, and no
//! text is lost.
//!
//! Every edit adds a word that was never used before to the text that its author sees. A word may be missing
//! in the end only if a user who could see it took it out or deleted the file. A word that is only in the
//! vault's history counts as lost, because every push is in there.
//!
//! `OBSYNC_HISTORIES=5000` runs more than the usual [`USUAL`]; `OBSYNC_HISTORY=17` runs one again, and
//! reduces it if it fails.

mod at_work;
mod clock;
mod counted;
mod official;
mod replica;
mod user;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use counted::Counted;
use official::Act;
use user::Deed;
use world::World;

const PATHS: [&str; 6] = ["a.md", "b.md", "x/c.md", "x/y/d.md", "picture.png", "x"];
const FOLDERS: [&str; 2] = ["x", "x/y"];

/// The replicas, and the vault as one more device after them.
const REPLICAS: usize = 3;
const DEVICES: usize = 4;

const FAULTS: [&str; 14] = [
    "late-push",
    "rival-push",
    "lose-echo",
    "lose-answer",
    "late-echo",
    "double-echo",
    "drop-in-upload",
    "keep-related",
    "drop-on-request",
    "drop-in-listing",
    "drop-in-content",
    "refuse-push",
    "vault-full",
    "init-error",
];

/// Number of histories that are run by default.
const USUAL: u64 = 500;

/// An event of a history.
#[derive(Clone, Debug)]
enum Event {
    /// A user adds a word to a file, at its beginning or at its end.
    Edit(Edit),
    Delete {
        on: usize,
        at: usize,
    },
    Rename {
        on: usize,
        from: usize,
        to: usize,
    },
    /// A run of a replica, possibly with a fault, possibly while another device writes right before the run
    /// sends.
    Sync {
        on: usize,
        fault: Option<Fault>,
        meanwhile: Option<usize>,
    },
    /// A pull. The next sync is the first in its direction.
    Pull {
        on: usize,
    },
    /// A run of a replica that is killed after this many events. A pull may follow.
    Killed {
        on: usize,
        after: u64,
        then_pulls: bool,
    },
    /// A run of a replica that is stopped after this many events, possibly with a fault, possibly while
    /// another device writes right before the run sends.
    Stopped {
        on: usize,
        after: u64,
        fault: Option<Fault>,
        meanwhile: Option<usize>,
    },
    /// A run of a replica during which its clock jumps by this many hours.
    Jump {
        on: usize,
        after: u64,
        hours: i64,
    },
    /// A run of a replica during which its user acts, after this many events.
    UserAtWork {
        on: usize,
        deed: Deed,
        after: u64,
    },
    /// A replica and another device change a file that was equal on both sides, and the run that merges it is
    /// killed after this many events.
    KilledMerge {
        on: usize,
        at: usize,
        after: u64,
    },
    /// Another device changes a file while a replica sends its deletion.
    DeletedMeanwhile {
        on: usize,
        at: usize,
    },
    /// A replica and another device change the configuration, once in a history: settings that change more
    /// often count as a fight.
    Configure {
        on: usize,
    },
    /// A run of a replica finds an empty folder in place of its own, which is then put back.
    Swapped {
        on: usize,
    },
    /// A run of a replica filters a folder, a file in it is removed, and the filter ends.
    LeftOut {
        on: usize,
        at: usize,
    },
    /// During a run, a file has a name that no vault can have.
    BadName {
        on: usize,
        at: usize,
    },
    /// The user of the official client acts.
    Official(Vec<Act>),
    /// The official client sends this many changes.
    OfficialSends(usize),
    /// The official client sends an edit right after a replica sent one of the same file, which it has not
    /// seen. The run that receives it is killed after this many events.
    Unseen {
        on: usize,
        at: usize,
        in_front: (bool, bool),
        after: u64,
    },
    /// A user edits a file again after a run that sent an earlier edit, which the vault takes late. The run is
    /// stopped after this many events.
    Late {
        on: usize,
        at: usize,
        late_after: u64,
        after: u64,
    },
    /// A user removes a folder with everything in it.
    RemoveFolder {
        on: usize,
        at: usize,
    },
    /// From now on, runs of a replica filter a folder, or do not.
    Choose {
        on: usize,
        narrow: bool,
    },
    /// From now on, runs of a replica hold back every deletion, on both sides.
    Careful {
        on: usize,
    },
    /// A file is removed, a replica holds the deletion back, and its user confirms it.
    Confirm {
        on: usize,
        at: usize,
    },
    /// Another device renames a file that a user edits here.
    Carry {
        on: usize,
        from: usize,
        to: usize,
    },
    /// Another device changes the time of a file, but not its text.
    Touch {
        at: usize,
    },
}

#[derive(Clone, Copy, Debug)]
struct Edit {
    on: usize,
    at: usize,
    in_front: bool,
    /// Error of the author's clock, in hours.
    clock: i64,
}

/// A fault of the server during a run.
#[derive(Clone, Copy, Debug)]
struct Fault {
    name: &'static str,
    /// Number of requests after which a late push is recorded: in this run or in a later one.
    late_after: u64,
}

fn fault() -> impl Strategy<Value = Fault> {
    // More of the late ones: there are many moments at which they can arrive.
    let names = prop_oneof![4 => prop::sample::select(&FAULTS[..]), 1 => Just("late-push")];
    (names, 1..10_u64).prop_map(|(name, late_after)| Fault { name, late_after })
}

fn event() -> impl Strategy<Value = Event> {
    let device = 0..DEVICES;
    let replica = 0..REPLICAS;
    let path = 0..PATHS.len();
    let clock = prop_oneof![6 => Just(0_i64), 1 => Just(-9000_i64), 1 => Just(9000_i64)];
    prop_oneof![
        20 => (device.clone(), path.clone(), any::<bool>(), clock)
            .prop_map(|(on, at, in_front, clock)| Event::Edit(Edit { on, at, in_front, clock })),
        7 => (device.clone(), path.clone()).prop_map(|(on, at)| Event::Delete { on, at }),
        5 => (device, path.clone(), path.clone()).prop_map(|(on, from, to)| Event::Rename { on, from, to }),
        18 => (
            replica.clone(),
            prop::option::weighted(0.4, fault()),
            prop::option::weighted(0.3, path),
        )
            .prop_map(|(on, fault, meanwhile)| Event::Sync { on, fault, meanwhile }),
        1 => replica.clone().prop_map(|on| Event::Pull { on }),
        8 => (replica.clone(), 1..60_u64, prop::bool::weighted(0.3))
            .prop_map(|(on, after, then_pulls)| Event::Killed { on, after, then_pulls }),
        6 => (
            replica.clone(),
            1..20_u64,
            prop::option::weighted(0.3, fault()),
            prop::option::weighted(0.5, 0..PATHS.len()),
        )
            .prop_map(|(on, after, fault, meanwhile)| Event::Stopped { on, after, fault, meanwhile }),
        2 => (replica.clone(), 1..20_u64, prop_oneof![Just(-30_i64), Just(1), Just(9000)])
            .prop_map(|(on, after, hours)| Event::Jump { on, after, hours }),
        12 => (replica.clone(), deed(), 1..16_u64)
            .prop_map(|(on, deed, after)| Event::UserAtWork { on, deed, after }),
        2 => (replica.clone(), 0..4_usize, 1..30_u64)
            .prop_map(|(on, at, after)| Event::KilledMerge { on, at, after }),
        1 => (replica.clone(), 0..5_usize).prop_map(|(on, at)| Event::DeletedMeanwhile { on, at }),
        1 => replica.clone().prop_map(|on| Event::Configure { on }),
        1 => replica.clone().prop_map(|on| Event::Swapped { on }),
        2 => (replica.clone(), 2..4_usize).prop_map(|(on, at)| Event::LeftOut { on, at }),
        1 => (replica.clone(), 0..5_usize).prop_map(|(on, at)| Event::BadName { on, at }),
        3 => prop::collection::vec(act(), 1..5).prop_map(Event::Official),
        5 => (1..5_usize).prop_map(Event::OfficialSends),
        2 => (replica.clone(), 0..4_usize, any::<(bool, bool)>(), 1..60_u64)
            .prop_map(|(on, at, in_front, after)| Event::Unseen { on, at, in_front, after }),
        4 => (0..DEVICES, 0..FOLDERS.len()).prop_map(|(on, at)| Event::RemoveFolder { on, at }),
        2 => (replica.clone(), any::<bool>()).prop_map(|(on, narrow)| Event::Choose { on, narrow }),
        2 => replica.clone().prop_map(|on| Event::Careful { on }),
        3 => (replica, 0..PATHS.len()).prop_map(|(on, at)| Event::Confirm { on, at }),
        2 => (0..PATHS.len()).prop_map(|at| Event::Touch { at }),
        2 => (0..REPLICAS, 0..PATHS.len(), 0..PATHS.len())
            .prop_map(|(on, from, to)| Event::Carry { on, from, to }),
    ]
}

/// An event around a push that the vault takes late.
fn late() -> impl Strategy<Value = Event> {
    let late = (0..REPLICAS, 0..5_usize, 1..12_u64, 1..30_u64)
        .prop_map(|(on, at, late_after, after)| Event::Late { on, at, late_after, after });
    prop_oneof![late, event()]
}

fn act() -> impl Strategy<Value = Act> {
    let path = 0..PATHS.len();
    prop_oneof![
        3 => path.clone().prop_map(|at| Act::Edit { at }),
        3 => (path.clone(), path).prop_map(|(from, to)| Act::Rename { from, to }),
        1 => (0..FOLDERS.len()).prop_map(|at| Act::RemoveFolder { at }),
    ]
}

fn deed() -> impl Strategy<Value = Deed> {
    let path = 0..PATHS.len();
    prop_oneof![
        4 => path.clone().prop_map(|at| Deed::Append { at }),
        2 => path.clone().prop_map(|at| Deed::SaveByRename { at }),
        2 => path.clone().prop_map(|at| Deed::Delete { at }),
        2 => (path.clone(), path).prop_map(|(from, to)| Deed::Rename { from, to }),
        1 => Just(Deed::MoveTree),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(gone, changed)| Deed::CheckOut { gone, changed }),
    ]
}

/// Returns the history of a seed, always the same one. Most late pushes come last: among the others they
/// would make rare kinds still rarer.
fn history(seed: u64) -> Vec<Event> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let events = (prop::collection::vec(event(), 4..32), prop::collection::vec(late(), 0..6));
    let (mut events, at_last) = events.new_tree(&mut runner).unwrap().current();
    events.extend(at_last);
    events
}

/// Runs a history to its end. The error names the lost words.
fn play(world: &mut World, runtime: &tokio::runtime::Runtime, events: &[Event]) -> Result<(), String> {
    let played = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            world.begin();
            for event in events {
                world.happen(event).await;
            }
            world.come_to_rest().await;
            world.check();
        });
    }));
    played.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}

/// Removes events as long as the rest still fails.
fn smaller(world: &mut World, runtime: &tokio::runtime::Runtime, mut events: Vec<Event>) -> Vec<Event> {
    let mut at = 0;
    while at < events.len() {
        let mut fewer = events.clone();
        fewer.remove(at);
        match play(world, runtime, &fewer) {
            Err(_) => events = fewer,
            Ok(()) => at += 1,
        }
    }
    events
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[test]
fn whatever_happens_on_all_sides_they_end_equal_and_no_text_is_lost() {
    if let Some(seed) = number("OBSYNC_HISTORY") {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut world = runtime.block_on(World::new());
        let failure = play(&mut world, &runtime, &history(seed));
        if let Err(failure) = failure {
            let events = smaller(&mut world, &runtime, history(seed));
            panic!("{failure}\nhistory {seed}, as small as it fails: {events:#?}");
        }
        return;
    }
    let histories = number("OBSYNC_HISTORIES").unwrap_or(USUAL);
    let (next, failures, counted) =
        (AtomicU64::new(0), Mutex::new(Vec::new()), Mutex::new(Counted::default()));
    let workers = thread::available_parallelism().map_or(2, usize::from).min(8);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(1)
                    .enable_all()
                    .build()
                    .unwrap();
                let mut world = runtime.block_on(World::new());
                while failures.lock().unwrap().len() < 3 {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= histories {
                        break;
                    }
                    if let Err(failure) = play(&mut world, &runtime, &history(seed)) {
                        failures.lock().unwrap().push(format!("OBSYNC_HISTORY={seed}: {failure}"));
                    }
                }
                counted.lock().unwrap().extend(&world.counted);
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{failures:#?}");
    let counted = counted.into_inner().unwrap();
    println!("{histories} histories: {counted:#?}");
    if histories >= USUAL {
        counted.assert_all();
    }
}
