//! The speed of the deployed function: a vault is synced to a bucket, then a changed tenth of it.
//!
//! `OBSYNC_TEST_BOOTSTRAP` names the measured program, `OBSYNC_TEST_OTHER_BOOTSTRAP` another one to compare
//! it with, run by run (docs/PERFORMANCE.md). Without them a small vault only shows that the measurement
//! works.

use std::path::Path;
use std::time::Duration;

use obsync_testcloud::{Invocation, LambdaOptions, LambdaRuntime};

use crate::world::{World, answered, invoke, many, sync, write_notes};

/// Notes of the vault, and the number of repetitions, when a deployed program is measured.
const NOTES: usize = 5_000;
const RUNS: usize = 7;

/// An invocation's time and its processor time, from the start of the process if it started then.
type Times = (Duration, Duration);

fn times_of(invocation: &Invocation) -> Times {
    let wall = invocation.init.unwrap_or_default() + invocation.duration;
    (wall, invocation.processor.unwrap_or_default())
}

/// Syncs a vault to an empty bucket in a new process, then a changed tenth of it.
async fn bring(program: &Path, notes: usize) -> [Times; 2] {
    let world = World::new().await;
    let vault = world.vault("Notes");
    write_notes(&vault, notes);
    let options = LambdaOptions { program: program.to_owned(), memory_mb: 1024, ..world.options() };
    let function = LambdaRuntime::new(&world.cloud, options);
    let first = invoke(&function, &sync("Notes")).await;
    assert_eq!(answered(&first)["files_count"], notes);
    for number in 0..notes / 10 {
        let path = format!("folder {}/note {number}.md", number % 7);
        vault.write(&path, format!("note {number} anew\n").repeat(20), 1_800_000_000_000).unwrap();
    }
    let changed = invoke(&function, &sync("Notes")).await;
    assert_eq!(answered(&changed)["files_count"], notes / 10);
    world.assert_exact("Notes");
    [times_of(&first), times_of(&changed)]
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_program_takes_for_a_vault_is_told_beside_another_one() {
    let deployed = std::env::var_os("OBSYNC_TEST_BOOTSTRAP");
    let (notes, runs) = if deployed.is_some() { (many(NOTES), RUNS) } else { (many(50), 1) };
    let program = deployed.unwrap_or_else(|| env!("CARGO_BIN_EXE_bootstrap").into());
    let other = std::env::var_os("OBSYNC_TEST_OTHER_BOOTSTRAP");
    let programs: Vec<_> = std::iter::once(program).chain(other).collect();
    let mut measured = vec![Vec::new(); programs.len()];
    for _ in 0..runs {
        for (program, measured) in programs.iter().zip(&mut measured) {
            measured.push(bring(Path::new(program), notes).await);
        }
    }
    for (program, measured) in programs.iter().zip(&measured) {
        for (index, what) in [format!("{notes} notes"), format!("{} changed", notes / 10)].iter().enumerate()
        {
            let wall = median(measured.iter().map(|steps| steps[index].0));
            let processor = median(measured.iter().map(|steps| steps[index].1));
            println!("{}: {what}: {wall:.2?}, processor {processor:.2?}", program.display());
        }
    }
    let has_times =
        |step: &Times| step.0 > Duration::ZERO && (cfg!(not(target_os = "linux")) || step.1 > Duration::ZERO);
    assert!(measured.iter().flatten().flatten().any(has_times), "{measured:?}");
}
