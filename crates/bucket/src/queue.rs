//! The order in which a batch is published: one file of each content comes first, and the others are copies
//! of it.

use std::collections::{HashMap, VecDeque};

use object_store::path::Path;
use obsync_core::{Publication, PublicationContent, PublishFailure, Published};

use super::context::Context;
use super::error::{Kind, RequestError};
use super::staging::Stage;

/// A file to be published.
pub(super) struct Order {
    /// Its index in the batch.
    pub(super) index: usize,
    pub(super) publication: Publication,
    /// Its content, if that is not stored under its handle.
    pub(super) stage: Option<Stage>,
}

/// The remains of a staged content.
#[derive(Default)]
pub(super) struct Rest {
    /// The content for further paths.
    pub(super) further: Option<Stage>,
    /// A parked copy that is not needed any more.
    pub(super) parked: Option<Path>,
}

/// The result of a file.
pub(super) struct Done {
    pub(super) index: usize,
    pub(super) answer: Result<Published, PublishFailure>,
    /// For a content that further paths want: its handle, and what is left of it.
    pub(super) further: Option<(String, Option<Stage>)>,
    pub(super) parked: Option<Path>,
}

/// The unpublished files of a batch.
pub(super) struct Queue {
    waiting: VecDeque<Order>,
    /// Files that wait for another file with their content, by its handle.
    followers: HashMap<String, VecDeque<(usize, Publication)>>,
}

impl Queue {
    pub(super) fn new(batch: Vec<Publication>) -> Self {
        let mut queue = Queue { waiting: VecDeque::with_capacity(batch.len()), followers: HashMap::new() };
        for (index, publication) in batch.into_iter().enumerate() {
            let handle = publication.content.staged().map(|staged| staged.handle.as_str());
            if let Some(followers) = handle.and_then(|handle| queue.followers.get_mut(handle)) {
                followers.push_back((index, publication));
                continue;
            }
            if let PublicationContent::CopyOfStaged(staged) = &publication.content {
                queue.followers.insert(staged.handle.clone(), VecDeque::new());
            }
            queue.waiting.push_back(Order { index, publication, stage: None });
        }
        queue
    }

    /// Takes the next files, at most `most`.
    pub(super) fn take(&mut self, most: usize) -> impl Iterator<Item = Order> {
        self.waiting.drain(..most.min(self.waiting.len()))
    }

    /// A content that further paths want was published, or failed. What is left of it goes to them, or stays
    /// staged for the next batch.
    pub(super) fn go_on(&mut self, context: &Context, handle: String, left: Option<Stage>) {
        let mut followers = self.followers.remove(&handle).unwrap_or_default();
        // An upload cannot be completed at another path.
        let lost =
            || Stage::Lost(RequestError::without_answer(Kind::Other, "it was uploaded for another path"));
        let stage = left.unwrap_or_else(lost);
        if stage.is_for_many() {
            let is_last = |(_, publication): &(usize, Publication)| {
                matches!(publication.content, PublicationContent::Staged(_))
            };
            let ends = followers.iter().any(is_last);
            for (index, publication) in followers {
                let (publication, stage) = (alone(publication), stage.share());
                self.waiting.push_back(Order { index, publication, stage });
            }
            if !ends {
                context.stages.keep(&handle, stage);
            }
            return;
        }
        match followers.pop_front() {
            Some((index, publication)) => {
                if matches!(publication.content, PublicationContent::CopyOfStaged(_)) {
                    self.followers.insert(handle, followers);
                }
                self.waiting.push_front(Order { index, publication, stage: Some(stage) });
            }
            None => context.stages.keep(&handle, stage),
        }
    }
}

/// A file that shares its content with no other.
fn alone(publication: Publication) -> Publication {
    let content = match publication.content {
        PublicationContent::CopyOfStaged(staged) => PublicationContent::Staged(staged),
        content => content,
    };
    Publication { content, ..publication }
}
