//! A table that throttles, answers in part, loses answers, refuses, or is not there.

use std::time::Duration;

use obsync_core::{StateError, StateStore};
use obsync_dynamodb::{DynamoOptions, DynamoState, DynamoTable, TableName};
use obsync_protocol::VaultPath;
use obsync_testcloud::{Service, ServiceFaults};
use obsync_testkit::Chance;

use crate::scene::{DESTINATION, Scene, TABLE, client, commit_of, file, files, key, quick, version};

fn strike(scene: &Scene, faults: ServiceFaults) {
    scene.cloud.faults().update(|all| all.dynamodb = faults);
}

fn paths(count: u64) -> Vec<VaultPath> {
    files(count).into_iter().map(|record| record.path).collect()
}

#[tokio::test]
async fn throttling_is_borne() {
    let scene = Scene::new().await;
    strike(&scene, ServiceFaults { throttled: Chance::next(4), ..ServiceFaults::default() });
    let table = scene.table_with(DynamoOptions { attempts: 30, ..quick() });
    let state = DynamoState::open(&table, key(DESTINATION), &scene.lease_of("a test")).await.unwrap();
    strike(&scene, ServiceFaults { throttled: Chance::probability(0.4), ..ServiceFaults::default() });
    for number in 1..20 {
        state.commit(commit_of(vec![file("a.md", number)], number)).await.unwrap();
        assert_eq!(state.records(&paths(1)).await.unwrap(), [None]);
    }
    assert_eq!(state.all_records().await.unwrap(), [file("a.md", 19)]);
}

#[tokio::test]
async fn throttling_without_end_is_an_error_that_says_so() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    strike(&scene, ServiceFaults { throttled: Chance::always(), ..ServiceFaults::default() });
    let before = scene.cloud.counts();
    let error = state.commit(commit_of(files(1), 1)).await.unwrap_err();
    assert!(
        matches!(&error, StateError::Unavailable { reason, .. } if reason.contains("throttled")),
        "{error}"
    );
    assert_eq!(scene.requests_since(&before).total(Service::DynamoDb), 6, "as often as it is told to try");
    scene.cloud.faults().clear();
    state.commit(commit_of(files(1), 1)).await.unwrap();
    assert_eq!(state.load().await.unwrap(), version(1));
}

#[tokio::test]
async fn an_answer_that_is_lost_does_no_harm() {
    let scene = Scene::new().await;
    strike(&scene, ServiceFaults { lost_answer: Chance::next(1), ..ServiceFaults::default() });
    let state = scene.state().await;
    for number in 1..6 {
        strike(&scene, ServiceFaults { lost_answer: Chance::next(number % 3), ..ServiceFaults::default() });
        state.commit(commit_of(files(150 * number), number)).await.unwrap();
    }
    let summary = state.summary().await.unwrap().unwrap();
    assert_eq!((summary.files, summary.version), (750, 5), "each commit counts once");
}

#[tokio::test]
async fn connections_that_break_and_errors_of_the_service_are_borne() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    let faults = ServiceFaults {
        dropped: Chance::probability(0.2),
        internal_error: Chance::probability(0.2),
        lost_answer: Chance::probability(0.2),
        ..ServiceFaults::default()
    };
    strike(&scene, faults);
    let table = scene.table_with(DynamoOptions { attempts: 30, ..quick() });
    drop(state);
    let mut scene = scene;
    scene.lease = Duration::from_secs(60);
    let other = key("s3://bucket/other");
    let state = DynamoState::open(&table, other, &scene.lease_of("a test")).await.unwrap();
    for number in 1..10 {
        state.commit(commit_of(files(number * 20), number)).await.unwrap();
    }
    let found = state.records(&paths(250)).await.unwrap();
    assert_eq!(found.iter().flatten().count(), 180);
    assert_eq!(state.summary().await.unwrap().unwrap().files, 180);
}

#[tokio::test]
async fn what_a_batch_leaves_undone_is_asked_for_again() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    state.commit(commit_of(files(300), 300)).await.unwrap();
    let before = scene.cloud.counts();
    scene.cloud.faults().update(|faults| faults.unprocessed = Chance::next(9));
    let found = state.records(&paths(300)).await.unwrap();
    assert_eq!(found, files(300).into_iter().map(Some).collect::<Vec<_>>());
    assert!(scene.requests_since(&before).of(Service::DynamoDb, "BatchGetItem") > 3);
}

#[tokio::test]
async fn a_batch_of_which_nothing_is_ever_done_is_given_up() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    state.commit(commit_of(files(1), 1)).await.unwrap();
    scene.cloud.faults().update(|faults| faults.unprocessed = Chance::always());
    let error = state.records(&paths(1)).await.unwrap_err();
    assert!(error.to_string().contains("throttled 6 attempts"), "{error}");
}

#[tokio::test]
async fn an_answer_that_never_comes_is_given_up() {
    let scene = Scene::new().await;
    let table = scene.table_with(DynamoOptions { answer: Duration::from_secs(1), attempts: 3, ..quick() });
    let state = DynamoState::open(&table, key(DESTINATION), &scene.lease_of("a test")).await.unwrap();
    strike(&scene, ServiceFaults { hang: Chance::next(1), ..ServiceFaults::default() });
    state.commit(commit_of(files(1), 1)).await.unwrap();
    strike(&scene, ServiceFaults { hang: Chance::always(), ..ServiceFaults::default() });
    let error = state.commit(commit_of(files(2), 2)).await.unwrap_err();
    assert!(error.to_string().contains("does not answer"), "{error}");
}

#[tokio::test]
async fn a_table_that_is_not_there_is_told_with_what_to_do() {
    let scene = Scene::without_table().await;
    let error = scene.try_open("a test").await.unwrap_err().to_string();
    for part in ["dynamodb://obsync-state", "no table", "obsync aws init", "AWS_REGION"] {
        assert!(error.contains(part), "{error}");
    }
    let error = DynamoState::read(&scene.table(), key(DESTINATION)).await.unwrap_err();
    assert!(error.to_string().contains("no table"), "{error}");
}

#[tokio::test]
async fn a_table_that_disappears_midway_is_told() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    state.commit(commit_of(files(2), 2)).await.unwrap();
    scene.cloud.dynamodb().delete_table(TABLE).unwrap();
    let error = state.commit(commit_of(files(3), 3)).await.unwrap_err();
    assert!(error.to_string().contains("no table"), "{error}");
    assert!(state.records(&paths(1)).await.unwrap_err().to_string().contains("no table"));
}

#[tokio::test]
async fn a_table_that_is_forbidden_is_told_at_once() {
    let scene = Scene::new().await;
    let before = scene.cloud.counts();
    strike(&scene, ServiceFaults { forbidden: Chance::always(), ..ServiceFaults::default() });
    let error = scene.try_open("a test").await.unwrap_err().to_string();
    assert!(error.contains("does not allow") && error.contains("obsync-state"), "{error}");
    assert_eq!(scene.requests_since(&before).total(Service::DynamoDb), 1, "asking again would not help");
}

#[tokio::test]
async fn an_endpoint_where_nobody_listens_is_told() {
    let client = client("http://127.0.0.1:1", "us-east-1", ("key", "secret"));
    let table = DynamoTable::new(&client, TableName::default(), quick());
    let error = DynamoState::read(&table, key(DESTINATION)).await.unwrap_err().to_string();
    assert!(error.contains("does not answer"), "{error}");
    assert!(!error.contains("secret"), "{error}");
}

#[tokio::test]
async fn credentials_that_are_not_there_are_told() {
    let scene = Scene::new().await;
    let config = scene.client().config().to_builder();
    let nobody = aws_sdk_dynamodb::config::SharedCredentialsProvider::new(Nobody);
    let client = aws_sdk_dynamodb::Client::from_conf(config.credentials_provider(nobody).build());
    let table = DynamoTable::new(&client, TableName::default(), quick());
    let error = DynamoState::read(&table, key(DESTINATION)).await.unwrap_err().to_string();
    assert!(error.contains("no valid AWS credentials"), "{error}");
}

/// A provider without credentials.
#[derive(Debug)]
struct Nobody;

impl aws_credential_types::provider::ProvideCredentials for Nobody {
    fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let error =
            aws_credential_types::provider::error::CredentialsError::not_loaded("nobody is signed in");
        aws_credential_types::provider::future::ProvideCredentials::ready(Err(error))
    }
}
