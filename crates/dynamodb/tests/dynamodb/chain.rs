//! Steps of chains: which may begin, and which have passed.

use std::time::{Duration, UNIX_EPOCH};

use obsync_core::{Clock, StateError, StateStore};
use obsync_dynamodb::{ChainEnd, ChainEntry, ChainStep, DynamoState, LeaseOptions, Opened};
use obsync_testcloud::ServiceFaults;
use obsync_testkit::Chance;
use serde_json::json;

use crate::scene::{DESTINATION, Scene, VAULT, commit_of, files, key};

const HAND_ON: ChainEnd = ChainEnd::HandOn { idle: 0, is_quiet: true };

async fn open(scene: &Scene, entry: ChainEntry) -> Result<Option<(DynamoState, ChainStep)>, StateError> {
    open_with(scene, entry, scene.lease_of("a step")).await
}

async fn open_with(
    scene: &Scene,
    entry: ChainEntry,
    options: LeaseOptions,
) -> Result<Option<(DynamoState, ChainStep)>, StateError> {
    match DynamoState::open_step(&scene.table(), key(DESTINATION), &options, entry).await? {
        Opened::Step(state, step) => Ok(Some((*state, step))),
        Opened::Superseded => Ok(None),
    }
}

async fn begin(scene: &Scene, entry: ChainEntry) -> (DynamoState, ChainStep) {
    open(scene, entry).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_step_begins_once_and_the_next_when_it_was_handed_on() {
    let scene = Scene::new().await;
    let (first, step) = begin(&scene, ChainEntry::First).await;
    assert_eq!((step.step, step.today), (0, 1));
    assert!(open(&scene, ChainEntry::Step(1)).await.unwrap().is_none(), "it was not handed on yet");
    first.commit(commit_of(files(1), 1)).await.unwrap();
    assert!(first.close_step(HAND_ON).await.unwrap());
    let (second, next) = begin(&scene, ChainEntry::Step(1)).await;
    assert_eq!((next.step, &next.chain, next.today), (1, &step.chain, 2));
    assert!(open(&scene, ChainEntry::Step(1)).await.unwrap().is_none(), "it is under way");
    assert!(second.close_step(ChainEnd::Over).await.unwrap());
    for step in [1, 2] {
        assert!(open(&scene, ChainEntry::Step(step)).await.unwrap().is_none(), "the chain is over");
    }
    let (_, anew) = begin(&scene, ChainEntry::First).await;
    assert_ne!(anew.chain, step.chain);
}

#[tokio::test]
async fn an_event_that_comes_between_two_steps_becomes_the_next_one() {
    let scene = Scene::new().await;
    let (first, _) = begin(&scene, ChainEntry::First).await;
    first.close_step(HAND_ON).await.unwrap();
    let (state, step) = begin(&scene, ChainEntry::First).await;
    assert_eq!(step.step, 1);
    state.close_step(HAND_ON).await.unwrap();
    assert!(open(&scene, ChainEntry::Step(1)).await.unwrap().is_none());
    // Nobody waits for such an old step.
    scene.spoil(VAULT, "chain_handed", json!({ "N": "1000" }));
    let (_, step) = begin(&scene, ChainEntry::First).await;
    assert_eq!(step.step, 0);
}

#[tokio::test]
async fn a_step_that_failed_or_died_begins_again() {
    let scene = Scene::new().await;
    let (first, _) = begin(&scene, ChainEntry::First).await;
    first.close_step(HAND_ON).await.unwrap();
    let (failed, _) = begin(&scene, ChainEntry::Step(1)).await;
    failed.close().await.unwrap();
    let (died, _) = begin(&scene, ChainEntry::Step(1)).await;
    drop(died);
    let patient = LeaseOptions { patience: 2 * scene.lease, ..scene.lease_of("a step") };
    let again = scene.clock.passing(open_with(&scene, ChainEntry::Step(1), patient)).await.unwrap();
    assert_eq!(again.unwrap().1.step, 1);
}

#[tokio::test]
async fn a_lease_never_outlasts_its_holders_deadline_by_more_than_two_seconds() {
    let scene = Scene::new().await;
    let deadline = scene.clock.wall() + Duration::from_secs(3);
    let options = LeaseOptions { deadline: Some(deadline), ..scene.lease_of("a step") };
    let (state, _) = open_with(&scene, ChainEntry::First, options).await.unwrap().unwrap();
    let latest = deadline.duration_since(UNIX_EPOCH).unwrap().as_secs_f64() + 2.0;
    let expires =
        || -> f64 { scene.item(VAULT).unwrap()["lease_expires"]["N"].as_str().unwrap().parse().unwrap() };
    assert!(expires() <= latest, "taken");
    state.commit(commit_of(files(1), 1)).await.unwrap();
    assert!(expires() <= latest, "renewed by a commit");
    let end = ChainEnd::HandOn { idle: 1, is_quiet: false };
    assert!(state.close_step(end).await.unwrap());
    assert!(expires() <= latest, "handed on while something was under way");
    assert!(matches!(open(&scene, ChainEntry::Step(1)).await, Err(StateError::Locked { .. })));
}

#[tokio::test]
async fn answers_that_are_lost_neither_begin_a_step_twice_nor_end_a_chain() {
    let scene = Scene::new().await;
    let lose = || {
        let faults = ServiceFaults { lost_answer: Chance::next(1), ..ServiceFaults::default() };
        scene.cloud.faults().update(|all| all.dynamodb = faults);
    };
    lose();
    let (first, step) = begin(&scene, ChainEntry::First).await;
    assert_eq!((step.step, step.today), (0, 1));
    lose();
    assert!(first.close_step(HAND_ON).await.unwrap(), "it was handed on");
    lose();
    assert_eq!(begin(&scene, ChainEntry::Step(1)).await.1.step, 1);
}
