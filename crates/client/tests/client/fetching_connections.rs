//! The number of connections of a run during and after trouble, by the server's counters.

use std::time::{Duration, Instant};

use crate::bed::{Bed, limited};
use crate::collector::{Fetched, Run};
use crate::fetching::small_files;

/// Enough files that the run outlasts the injected trouble.
const FILES: usize = 4000;

/// Keeps a run from ending too soon.
const LATENCY: &str = "latency=10ms";

async fn bed() -> Bed {
    let bed = Bed::start().await;
    small_files(&bed, FILES);
    bed.fault(LATENCY);
    bed
}

fn assert_complete(fetched: &Fetched) {
    assert!(fetched.run.is_ok(), "{:?}", fetched.run);
    assert_eq!((fetched.files.len(), fetched.failures.len()), (FILES, 0), "{:?}", fetched.failures);
}

#[tokio::test]
async fn a_server_in_trouble_has_fewer_connections_and_all_again_when_it_is_well() {
    // The second fault strikes each file once at most: refused files are requested again last.
    for fault in ["overload-pull=30%", "err-answer=next:300"] {
        let bed = bed().await;
        let mut run = Run::of(&bed).await;
        run.options.attempts = 100;
        let watching = async {
            bed.server.wait_for(|stats| stats.open_websockets == 4).await;
            bed.fault(&format!("{LATENCY},{fault}"));
            bed.server.wait_for(|stats| (1..=2).contains(&stats.open_websockets)).await;
            bed.fault(LATENCY);
            bed.server.wait_for(|stats| stats.open_websockets == 4).await;
        };
        let (fetched, ()) = limited(async { tokio::join!(run.fetch(&bed), watching) }).await;
        assert_complete(&fetched);
        let (summary, stats) = (fetched.summary(), bed.server.stats());
        assert!(summary.connections >= 6 && summary.reconnects == 0, "{fault}: {summary:?}");
        assert_eq!(stats.max_open_websockets, 4, "{fault}");
    }
}

#[tokio::test]
async fn of_connections_that_break_together_half_are_made_again() {
    let bed = Bed::with(|mut options| {
        // None is restored while this runs. A connection that settled a job is replaced without a pause.
        options.retry.min_delay = Duration::from_secs(60);
        options
    })
    .await;
    small_files(&bed, FILES);
    bed.fault(LATENCY);
    let run = Run::of(&bed).await;
    let breaking = async {
        bed.server.wait_for(|stats| stats.open_websockets == 4 && stats.pulls_answered > 500).await;
        bed.server.disconnect_all();
    };
    let (fetched, ()) = limited(async { tokio::join!(run.fetch(&bed), breaking) }).await;
    assert_complete(&fetched);
    let reconnects = fetched.summary().reconnects;
    assert!((1..=2).contains(&reconnects), "{:?}", fetched.summary());
    assert_eq!(bed.server.stats().websocket_connections, 4 + reconnects);
}

#[tokio::test]
async fn connections_that_are_refused_for_a_while_are_made_later() {
    for (fault, refused) in [
        ("init-error,init-error-text=Too many connections", "init-error"),
        ("refuse-upgrade", "refuse-upgrade"),
    ] {
        let bed = bed().await;
        let run = Run::of(&bed).await;
        bed.fault(&format!("{LATENCY},{fault}"));
        let watching = async {
            bed.server.wait_for(|stats| stats.pulls_answered > 300).await;
            let strikes = bed.server.faults().strikes(refused);
            assert!(strikes >= 3 && bed.server.stats().open_websockets < 4, "{refused}: {strikes}");
            bed.fault(LATENCY);
            bed.server.wait_for(|stats| stats.open_websockets == 4).await;
        };
        let (fetched, ()) = limited(async { tokio::join!(run.fetch(&bed), watching) }).await;
        assert_complete(&fetched);
    }
}

#[tokio::test]
async fn the_only_connection_is_made_again_also_where_it_is_refused_at_first() {
    let bed = bed().await;
    let run = Run::of(&bed).await;
    bed.fault("drop-on-request=next:1+after:500,init-error=next:2,init-error-text=Too many connections");
    let fetched = run.connections(1).fetch(&bed).await;
    assert_complete(&fetched);
    assert_eq!((fetched.summary().reconnects, bed.server.faults().strikes("init-error")), (1, 2));
}

#[tokio::test]
async fn connections_that_are_cut_while_idle_cost_a_reconnect_and_no_file() {
    let bed = Bed::start().await;
    small_files(&bed, 100);
    let run = Run::of(&bed).await;
    bed.server.disconnect_all();
    limited(bed.server.wait_for(|stats| stats.open_websockets == 0)).await;
    let fetched = run.fetch(&bed).await;
    assert_eq!((fetched.files.len(), fetched.failures.len()), (100, 0), "{:?}", fetched.failures);
    assert!(bed.server.stats().websocket_connections >= 2);
}

/// Fetches `files` small files over at most `connections`; each request takes the service this many
/// `milliseconds`.
async fn served_one_after_another(files: usize, milliseconds: u64, connections: usize) -> (Duration, Bed) {
    fetched(files, &format!("service-time={milliseconds}ms"), connections).await
}

/// Fetches `files` small files from such a service over at most `connections`.
async fn fetched(files: usize, service: &str, connections: usize) -> (Duration, Bed) {
    let bed = Bed::start().await;
    small_files(&bed, files);
    let run = Run::of(&bed).await.connections(connections);
    bed.fault(service);
    let begin = Instant::now();
    let fetched = run.fetch(&bed).await;
    let took = begin.elapsed();
    assert_eq!((fetched.files.len(), fetched.failures.len()), (files, 0), "{:?}", fetched.failures);
    (took, bed)
}

#[tokio::test]
async fn connections_are_added_while_each_brings_more_up_to_the_allowed_number() {
    for (allowed, used) in [(10, 10), (7, 7), (4, 4), (2, 2)] {
        let (_, bed) = served_one_after_another(900, 10, allowed).await;
        assert_eq!(bed.server.stats().max_open_websockets, used, "{allowed} allowed");
    }
}

#[tokio::test]
async fn a_service_that_answers_one_after_another_on_a_connection_is_near_the_floor_of_ten() {
    let (files, milliseconds) = (2000, 20);
    let (took, _bed) = served_one_after_another(files, milliseconds, 10).await;
    let floor = Duration::from_millis(milliseconds * files as u64 / 10);
    assert!(took < floor.mul_f64(1.3), "{took:?}, the floor is {floor:?}");
}

#[tokio::test]
async fn where_only_the_round_trip_is_long_more_connections_make_nothing_slower() {
    // Long enough that other work of the machine hardly matters.
    let trip = Duration::from_millis(150);
    let service = format!("latency={}ms", trip.as_millis());
    for files in [200, 1600] {
        let (mut of_four, mut of_ten) = (Duration::ZERO, Duration::ZERO);
        // Alternating, so that other work of the machine affects both.
        for _ in 0..2 {
            of_four += fetched(files, &service, 4).await.0;
            of_ten += fetched(files, &service, 10).await.0;
        }
        assert!(of_ten <= of_four + trip, "{files} files, twice: {of_four:?} became {of_ten:?}");
    }
}

#[tokio::test]
async fn added_connections_are_given_back_when_the_server_has_trouble() {
    for fault in ["overload-pull=30%", "err-answer=next:300"] {
        let bed = Bed::start().await;
        small_files(&bed, FILES);
        bed.fault("service-time=10ms");
        let mut run = Run::of(&bed).await.connections(10);
        run.options.attempts = 100;
        let watching = async {
            bed.server.wait_for(|stats| stats.open_websockets == 10).await;
            bed.fault(&format!("service-time=10ms,{fault}"));
            bed.server.wait_for(|stats| stats.open_websockets <= 4).await;
            bed.fault("");
        };
        let (fetched, ()) = limited(async { tokio::join!(run.fetch(&bed), watching) }).await;
        assert_complete(&fetched);
    }
}

#[tokio::test]
async fn a_server_that_takes_no_more_connections_costs_nothing_but_the_question() {
    let bed = Bed::start().await;
    small_files(&bed, 900);
    bed.fault("service-time=10ms");
    let run = Run::of(&bed).await.connections(10);
    let watching = async {
        bed.server.wait_for(|stats| stats.inits.iter().filter(|init| init.accepted).count() == 4).await;
        bed.fault("service-time=10ms,init-error,init-error-text=Too many connections");
    };
    let (fetched, ()) = limited(async { tokio::join!(run.fetch(&bed), watching) }).await;
    assert_eq!((fetched.files.len(), fetched.failures.len()), (900, 0), "{:?}", fetched.failures);
    assert_eq!((fetched.summary().connections, fetched.summary().reconnects), (4, 0));
    assert!(bed.server.faults().strikes("init-error") > 0);
}
