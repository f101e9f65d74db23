//! Random histories of a bucket that obsync and somebody else write to, checked against a small model of
//! obsync's guarantees: it publishes its files, and nothing that somebody else wrote is ever lost.

use std::collections::{BTreeMap, BTreeSet};

use obsync_conformance::{DestinationUnderTest as _, at, meta, publish_one, stage};
use obsync_core::{DestinationExt, Inspect, KnownContent, Receive, Removable, Removal, Wanted};
use obsync_protocol::ContentHash;
use proptest::prelude::*;

use crate::buckets::{MemoryBucket, options};

const PATHS: [&str; 5] = ["a.md", "b.md", "a.md/c", "x/y z.canvas", "x/ü"];

#[derive(Clone, Debug)]
enum Step {
    /// Somebody else writes.
    Plant { path: usize, content: u8 },
    /// Somebody else deletes.
    Delete { path: usize },
    /// obsync publishes.
    Publish { path: usize, content: u8, state_known: bool, looks_first: bool },
    /// obsync copies within the bucket.
    Copy { from: usize, to: usize },
    /// obsync removes what the vault deleted.
    Remove { path: usize },
    /// A new run begins.
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let path = 0..PATHS.len();
    let content = 0_u8..4;
    let step = prop_oneof![
        2 => (path.clone(), content.clone()).prop_map(|(path, content)| Step::Plant { path, content }),
        1 => path.clone().prop_map(|path| Step::Delete { path }),
        4 => (path.clone(), content, any::<bool>(), any::<bool>()).prop_map(
            |(path, content, state_known, looks_first)| Step::Publish { path, content, state_known, looks_first }
        ),
        2 => (path.clone(), path.clone()).prop_map(|(from, to)| Step::Copy { from, to }),
        2 => path.prop_map(|path| Step::Remove { path }),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Contents of different sizes, and two of one size.
fn bytes(content: u8) -> Vec<u8> {
    vec![b'0' + content; if content < 2 { 3 } else { content as usize }]
}

#[derive(Default)]
struct Model {
    /// The object at each path.
    there: BTreeMap<usize, Vec<u8>>,
    /// obsync's last content at each path, by its state.
    recorded: BTreeMap<usize, Vec<u8>>,
    /// Paths whose object obsync wrote itself.
    stamped: BTreeSet<usize>,
}

impl Model {
    fn obsync_wrote(&mut self, path: usize, content: Vec<u8>) {
        self.there.insert(path, content.clone());
        self.recorded.insert(path, content);
        self.stamped.insert(path);
    }

    /// True if the object at a path has to be kept when obsync puts `content` there.
    fn is_foreign(&self, path: usize, content: &[u8], replaces: Option<&Vec<u8>>) -> bool {
        let Some(there) = self.there.get(&path) else { return false };
        !self.stamped.contains(&path) && there != content && Some(there) != replaces
    }
}

async fn check(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let bucket = MemoryBucket::new();
    let mut store = bucket.open(options());
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Reopen => store = bucket.open(options()),
            Step::Plant { path, content } => {
                bucket.plant(PATHS[path], &bytes(content)).await;
                model.there.insert(path, bytes(content));
                model.stamped.remove(&path);
            }
            Step::Delete { path } => {
                bucket.remove(PATHS[path]).await;
                model.there.remove(&path);
                model.stamped.remove(&path);
            }
            Step::Publish { path, content, state_known, looks_first } => {
                let content = bytes(content);
                if looks_first {
                    let held = store.holds(vec![wanted(path, &content)]).await.unwrap();
                    prop_assert_eq!(held, [model.there.get(&path) == Some(&content)]);
                }
                let replaces = model.recorded.get(&path).filter(|_| state_known).cloned();
                let staged = stage(&store, PATHS[path], &content, 7).await;
                finish(&bucket, &store, &mut model, path, content, replaces, staged).await?;
            }
            Step::Copy { from, to } => {
                let Some(content) = model.there.get(&from).cloned() else { continue };
                let copied = store.copy(&at(PATHS[from]), &at(PATHS[to]), &meta(&content, 7)).await;
                // Objects forgotten for a new look may be known wrongly, and then the copy is not made.
                let Some(staged) = copied.unwrap() else { continue };
                if from == to {
                    continue;
                }
                // The same bytes, written anew by somebody else, are another version: the copy detects that,
                // and the next run makes it.
                let replaces = model.recorded.get(&to).cloned();
                finish(&bucket, &store, &mut model, to, content, replaces, staged).await?;
            }
            Step::Remove { path } => {
                let Some(content) = model.recorded.remove(&path) else { continue };
                let file = Removable { path: at(PATHS[path]), content: KnownContent::of(&content) };
                let removal = store.remove_files(vec![file]).await.pop().unwrap().unwrap();
                let expected = match model.there.get(&path) {
                    None => Removal::Missing,
                    Some(there) if *there == content => Removal::Removed,
                    Some(_) => Removal::Kept,
                };
                prop_assert_eq!(removal, expected);
                if removal == Removal::Removed {
                    model.there.remove(&path);
                    model.stamped.remove(&path);
                }
            }
        }
        for (path, content) in &model.there {
            let found = bucket.content(PATHS[*path]).await;
            prop_assert_eq!(found.as_ref(), Some(content), "{}", PATHS[*path]);
        }
    }
    store.discard_staged().await.unwrap();
    let files = store.list().await.unwrap().files.into_iter().map(|file| file.path);
    let files: BTreeSet<String> = files.filter(|path| !path.contains("Conflicted copy")).collect();
    let expected: BTreeSet<String> = model.there.keys().map(|path| PATHS[*path].to_owned()).collect();
    prop_assert_eq!(files, expected);
    Ok(())
}

fn wanted(path: usize, content: &[u8]) -> Wanted {
    Wanted { path: at(PATHS[path]), hash: ContentHash::of(content), size: content.len() as u64 }
}

/// Publishes the staged contents and compares the answer with the model's.
async fn finish(
    bucket: &MemoryBucket,
    store: &obsync_bucket::BucketDestination,
    model: &mut Model,
    path: usize,
    content: Vec<u8>,
    replaces: Option<Vec<u8>>,
    staged: obsync_core::Staged,
) -> Result<(), TestCaseError> {
    let foreign = model.is_foreign(path, &content, replaces.as_ref()).then(|| model.there[&path].clone());
    let published = match publish_one(store, staged, replaces.as_deref().map(KnownContent::of)).await {
        Ok(published) => published,
        Err(failure) if failure.error.to_string().contains("changed meanwhile") => return Ok(()),
        Err(failure) => return Err(TestCaseError::fail(failure.error.to_string())),
    };
    match (foreign, published.conflict) {
        (Some(foreign), Some(aside)) => {
            prop_assert_eq!(bucket.content(aside.as_str()).await, Some(foreign));
        }
        (foreign, conflict) => prop_assert_eq!((foreign, conflict), (None, None)),
    }
    model.obsync_wrote(path, content);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(steps))?;
    }
}
