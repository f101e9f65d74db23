//! Destinations slower than the service: each invocation is used to its end, nothing is fetched in vain, and
//! a file that takes most of an invocation arrives.
//!
//! The tests assert a proportion: an invocation's work in relation to the possible work. A busy machine must
//! not decide about it: where it is slow, all times are longer, those of the invocation and those of the
//! destination.

use std::time::Duration;

use obsync_testcloud::{InvokeOptions, LambdaRuntime, Service};
use obsync_testkit::{Chance, VaultHandle};
use serde_json::{Value, json};

use crate::handing_on::{ON, continuation};
use crate::world::{World, answered, invoke, invoke_for, report, sync, write_notes};

/// The largest stretch of time: a slower machine is unsuitable for the test.
const SLOWEST: f64 = 8.0;

/// The factor by which times are longer here: work that takes at most `usual` took `took`.
pub(crate) fn stretch(took: Duration, usual: Duration) -> f64 {
    (took.as_secs_f64() / usual.as_secs_f64()).clamp(1.0, SLOWEST)
}

/// The function's time for an unchanged vault: the overhead of every invocation. The median of three.
pub(crate) async fn idle(world: &World, function: &LambdaRuntime) -> Duration {
    world.cloud.faults().clear();
    let mut took = Vec::new();
    for _ in 0..3 {
        let invocation = invoke(function, &sync("Private")).await;
        assert_eq!(answered(&invocation)["status"], "complete", "{}", answered(&invocation));
        took.push(invocation.duration);
    }
    took.sort_unstable();
    took[1]
}

/// Requests that a slow destination accepts per second, and a very slow one.
const PER_SECOND: u32 = 30;
const FEW_PER_SECOND: u32 = 5;

/// Delays these requests as a destination would that accepts so many per second, times `stretch`.
fn slow_down(world: &World, operations: &[&str], per_second: u32, stretch: f64) {
    let operations = operations.iter().map(|operation| (*operation).to_owned()).collect();
    world.cloud.faults().update(|faults| {
        faults.s3.operations = operations;
        faults.s3.pace = (Duration::from_secs(1) / per_second).mul_f64(stretch);
    });
}

/// A slow destination.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Requests wait for their turn.
    Patient,
    /// The same, and very slow.
    Crawling,
    /// The same, and conditions of `PutObject` are ignored: each object is looked at before it is written.
    Unconditional,
    /// Requests that would have to wait are answered with 503 at once.
    Shedding,
}

impl Kind {
    fn per_second(self) -> u32 {
        if self == Kind::Crawling { FEW_PER_SECOND } else { PER_SECOND }
    }

    fn apply(self, world: &World, stretch: f64) {
        slow_down(world, &[], self.per_second(), stretch);
        world.cloud.faults().update(|faults| match self {
            Kind::Patient | Kind::Crawling => {}
            Kind::Unconditional => faults.s3_manners.ignored_conditions = vec!["PutObject".to_owned()],
            Kind::Shedding => faults.s3.patience = Some(faults.s3.pace * 4),
        });
    }
}

/// The trigger of the next invocation.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Asks {
    /// A schedule, back to back.
    Schedule,
    /// The function itself.
    Chain,
}

/// The cost of a slow destination.
#[derive(Debug)]
struct Slow {
    invocations: u64,
    /// Number of invocations sufficient for all requests.
    needed: u64,
    pulls: u64,
    files: u64,
    /// For each invocation: the stretch of time, files, requests, contents pulled.
    _each: Vec<(f64, u64, u64, u64)>,
}

/// Syncs this many notes to a slow destination, in invocations of four seconds.
async fn slowly(notes: u64, asks: Asks, kind: Kind) -> Slow {
    const SECONDS: u64 = 4;
    // Overhead of an invocation: a twentieth.
    let usual = Duration::from_millis(SECONDS * 1000 / 20);
    let world = World::new().await;
    write_notes(&world.vault("Notes"), notes as usize);
    let function = world.function_with(if asks == Asks::Chain { &ON[..1] } else { &[] });
    // The first start of the program does not count.
    answered(&invoke(&function, &sync("Private")).await);
    let (mut event, mut each) = (sync("Notes"), Vec::new());
    loop {
        let stretch = stretch(idle(&world, &function).await, usual);
        kind.apply(&world, stretch);
        let (before, pulls) = (world.cloud.counts(), world.server.stats().pulls);
        let time = Duration::from_secs(SECONDS).mul_f64(stretch).as_millis() as u64;
        let invocation = invoke_for(&function, &event, time).await;
        let answer = answered(&invocation);
        let requests = world.cloud.counts().since(&before).total(Service::S3);
        let pulls = world.server.stats().pulls - pulls;
        each.push((stretch, answer["files_count"].as_u64().unwrap(), requests, pulls));
        match answer["status"].as_str().unwrap() {
            "complete" => break,
            status => assert_eq!(status, "incomplete", "{answer}"),
        }
        assert!(each.len() < 40, "{each:?}");
        if asks == Asks::Chain {
            assert_eq!(answer["metadata"]["goes_on_by_itself"], json!(true), "{:?}", invocation.logs);
            event = continuation(&world);
        }
    }
    world.cloud.faults().clear();
    assert_eq!(world.cloud.lambda().waiting(), [], "nothing goes on");
    let requests: u64 = each.iter().map(|(_, _, requests, _)| requests).sum();
    let files = each.iter().map(|(_, files, _, _)| files).sum();
    world.assert_exact("Notes");
    let needed = requests.div_ceil(u64::from(kind.per_second()) * SECONDS);
    Slow { invocations: each.len() as u64, needed, pulls: world.server.stats().pulls, files, _each: each }
}

#[track_caller]
fn assert_little_is_pulled_twice(slow: &Slow, notes: u64) {
    println!("{slow:?}");
    // A commit whose answer came too late does not count.
    assert!(slow.files <= notes && slow.files * 100 >= notes * 90, "{slow:?}");
    assert!(slow.pulls * 100 <= notes * 105, "{slow:?}");
}

#[track_caller]
fn assert_used_to_the_end(slow: &Slow, notes: u64) {
    assert_little_is_pulled_twice(slow, notes);
    assert!(slow.invocations * 10 <= slow.needed * 12, "{slow:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_destination_is_used_to_the_end_of_each_invocation_and_little_is_pulled_twice() {
    assert_used_to_the_end(&slowly(1200, Asks::Schedule, Kind::Patient).await, 1200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_uses_a_slow_destination_to_the_end_of_each_invocation_and_pulls_little_twice() {
    assert_used_to_the_end(&slowly(1200, Asks::Chain, Kind::Patient).await, 1200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_pulls_little_twice_for_a_bucket_that_ignores_conditions_and_needs_two_requests_a_file() {
    assert_used_to_the_end(&slowly(600, Asks::Chain, Kind::Unconditional).await, 600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_pulls_little_twice_for_a_bucket_that_refuses_what_is_too_fast() {
    assert_little_is_pulled_twice(&slowly(600, Asks::Chain, Kind::Shedding).await, 600);
}

/// The rate is known late, and few contents can be published until the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_pulls_little_twice_for_a_bucket_that_takes_five_requests_a_second() {
    assert_little_is_pulled_twice(&slowly(100, Asks::Chain, Kind::Crawling).await, 100);
}

/// Writes a file of this many bytes.
fn write_large(vault: &VaultHandle, bytes: u32, seed: u32) {
    let byte = |index: u32| (index.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 24) as u8;
    vault.write("large.bin", (0..bytes).map(byte).collect::<Vec<u8>>(), 1_700_000_000_000).unwrap();
}

/// A file of 199 MiB and 400 notes to a destination that accepts 30 small objects a second, in invocations of
/// ten seconds. No copy replaces a transfer here, so the large file has to arrive within one of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_199_mib_arrives_through_invocations_of_ten_seconds_in_128_mb() {
    const SECONDS: u64 = 10;
    const MIB: u32 = 199;
    const TRIED: u32 = 32;
    let world = World::new().await;
    let mut options = world.options();
    options.memory_mb = 128;
    options.env.extend(ON.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let function = LambdaRuntime::new(&world.cloud, options);
    answered(&invoke(&function, &sync("Private")).await);
    // A smaller file measures the time of the large one here: at most half of an invocation.
    write_large(&world.vault("Private"), TRIED << 20, 7);
    let tried = invoke(&function, &sync("Private")).await;
    assert_eq!(answered(&tried)["status"], "complete", "{}", answered(&tried));
    let stretch = stretch(tried.duration * MIB / TRIED, Duration::from_secs(SECONDS) / 2);

    let vault = world.vault("Notes");
    write_large(&vault, MIB << 20, 0);
    write_notes(&vault, 400);
    slow_down(&world, &["PutObject"], PER_SECOND, stretch);
    let timeout = Some(Duration::from_secs(SECONDS).mul_f64(stretch));
    let options = InvokeOptions { timeout, ..InvokeOptions::default() };
    let chain = function.invoke_chain(world.cloud.lambda(), &sync("Notes"), options, 15).await.unwrap();
    let answers: Vec<&Value> = chain.iter().map(answered).collect();
    println!("stretched {stretch:.2} times, {} invocations", answers.len());
    for answer in &answers {
        let used = answer["metadata"]["memory_used_mb"].as_u64().unwrap();
        assert!(used < 128, "{used} MB: {answer}");
    }
    assert_eq!(world.cloud.s3().uploads("vaults").len(), 0, "no upload is left open");
    let last = answers.last().unwrap();
    assert_eq!((&last["status"], &report(last)["failures"]), (&json!("complete"), &json!([])), "{last}");
    assert!((2..10).contains(&answers.len()), "{} invocations", answers.len());
    world.assert_exact("Notes");
}

/// The service stalls for the length of a chain, and a file is given up. The next run has no more time, and
/// brings it.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_given_up_while_the_service_stalled_comes_with_the_next_run() {
    const SECONDS: u64 = 5;
    const MIB: u32 = 24;
    let world = World::new().await;
    let function = world.function_with(&ON);
    answered(&invoke(&function, &sync("Private")).await);
    write_large(&world.vault("Private"), MIB << 20, 7);
    let tried = invoke(&function, &sync("Private")).await;
    assert_eq!(answered(&tried)["status"], "complete", "{}", answered(&tried));
    let stretch = stretch(tried.duration, Duration::from_secs(SECONDS) / 2);
    let timeout = Some(Duration::from_secs(SECONDS).mul_f64(stretch));
    let options = InvokeOptions { timeout, ..InvokeOptions::default() };

    let vault = world.vault("Notes");
    write_large(&vault, MIB << 20, 0);
    write_notes(&vault, 20);
    world.cloud.faults().update(|faults| {
        faults.s3.operations = vec!["UploadPart".to_owned()];
        faults.s3.hang = Chance::always();
    });
    let lambda = world.cloud.lambda();
    let chain = function.invoke_chain(lambda, &sync("Notes"), options.clone(), 10).await.unwrap();
    let last = answered(&chain[chain.len() - 1]);
    assert_eq!(last["status"], "partial", "{last}");
    let failures = report(last)["failures"].as_array().unwrap();
    assert_eq!((failures.len(), &failures[0]["path"]), (1, &json!("large.bin")), "{last}");
    world.cloud.faults().clear();
    let next = function.invoke(&sync("Notes"), options).await.unwrap();
    assert_eq!(answered(&next)["status"], "complete", "{}", answered(&next));
    world.assert_exact("Notes");
}
