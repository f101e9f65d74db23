//! Tables that earlier releases wrote: read as they are, and brought to the present format when they are worked with.
//!
//! `data/format-first.json` has the items of the first release with a table (format 1), `format-last.json` those of the last one
//! before format 3; each is of a pull that was killed while it put objects in place.

use obsync_conformance::at;
use obsync_core::{Commit, DeferredKind, StateStore};
use obsync_dynamodb::{DynamoState, StateKey};
use serde_json::Value;

use crate::site::{Site, TABLE};

const WRITTEN: [&str; 2] =
    [include_str!("../data/format-first.json"), include_str!("../data/format-last.json")];

/// A site with these items, and whose state they are.
async fn place(written: &str) -> (Site, StateKey) {
    let site = Site::new().await;
    let items: Vec<Value> = serde_json::from_str(written).unwrap();
    let head = items.iter().find(|item| item.get("lease_id").is_some()).unwrap();
    let vault_id = head["vault_id"]["S"].as_str().unwrap().parse().unwrap();
    for item in items {
        site.cloud.dynamodb().put_item(TABLE, item).unwrap();
    }
    let key =
        StateKey { vault_id, vault_name: "Notes".to_owned(), destination: "s3://vaults/notes".to_owned() };
    (site, key)
}

fn format(site: &Site, key: &StateKey) -> Value {
    site.item(key.vault_id.as_str()).unwrap()["format"]["N"].clone()
}

#[tokio::test]
async fn a_state_of_an_earlier_format_has_everything_that_it_had() {
    for (written, earlier) in WRITTEN.into_iter().zip(["1", "2"]) {
        let (site, key) = place(written).await;
        assert_eq!(format(&site, &key), earlier);
        let looked = DynamoState::read(&site.table(), key.clone()).await.unwrap();
        let intents = looked.intents().await.unwrap();
        let failed = looked.deferred(DeferredKind::Failed).await.unwrap();
        let filtered = looked.deferred(DeferredKind::Filtered).await.unwrap();
        let known = looked.load().await.unwrap();
        assert_eq!(looked.all_records().await.unwrap().len(), 8);
        assert_eq!((failed.len(), filtered.len()), (1, 7));
        assert!(!intents.is_empty() && intents.iter().all(|intent| intent.placed().is_some()));
        assert_eq!((&known.destination, known.cursor), (&None, None));
        assert_eq!(format(&site, &key), earlier, "to look at it changes nothing");

        let state = DynamoState::open(&site.table(), key.clone(), &site.lease_of("a test")).await.unwrap();
        assert_eq!(format(&site, &key), "3");
        assert_eq!(state.load().await.unwrap(), known);
        assert_eq!(state.intents().await.unwrap(), intents);
        let records = state.all_records().await.unwrap();
        assert_eq!(records.len(), 8);
        assert!(records.iter().all(|record| record.facts.is_none() && !record.witnessed));
        let forgotten = vec![records[0].path.clone(), at("never was.md")];
        state.note_check(7).await;
        state.commit(Commit { forgotten, state: known.clone(), ..Commit::default() }).await.unwrap();
        state.close().await.unwrap();
        let state = DynamoState::open(&site.table(), key.clone(), &site.lease_of("a test")).await.unwrap();
        assert_eq!(state.all_records().await.unwrap().len(), 7);
        assert_eq!(state.intents().await.unwrap(), []);
        assert_eq!(state.deferred(DeferredKind::Failed).await.unwrap(), failed);
        assert_eq!(state.last_check().await.unwrap(), Some(7));
    }
}
