//! The steps of writing to a folder, so that a test can act, or end the process, at each of them.

use std::fmt;
use std::sync::Arc;

use obsync_protocol::VaultPath;

/// A step of publishing or removing a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// A copy of a staged file is complete.
    Copied,
    /// The contents of a batch are durable, and none of them is visible.
    Prepared,
    /// The file at the path was compared with the expected one.
    Compared,
    /// The staged file has the name of a file to be taken out.
    Renamed,
    /// The new file and the old one are exchanged.
    Exchanged,
    /// The new file is in its place.
    Placed,
    /// The names of a batch are durable.
    Flushed,
    /// The taken files of a batch were compared once more and removed.
    Released,
    /// A file to be removed was compared with its record.
    ToBeRemoved,
    /// It is out of its place.
    TakenOut,
    /// A file in place has the wanted content; its time is about to be set.
    Recognized,
    /// Its time is set.
    Timed,
    /// A file to be set aside has a copy with the same content.
    CopyFound,
    /// A file that cannot be moved to the trash is copied there, and has no name of its own yet.
    CopiedToTrash,
    /// A new version of one of obsync's own files is complete beside it.
    OwnWritten,
}

impl Step {
    /// All steps.
    pub const ALL: [Step; 15] = [
        Step::Copied,
        Step::Prepared,
        Step::Compared,
        Step::Renamed,
        Step::Exchanged,
        Step::Placed,
        Step::Flushed,
        Step::Released,
        Step::ToBeRemoved,
        Step::TakenOut,
        Step::Recognized,
        Step::Timed,
        Step::CopyFound,
        Step::CopiedToTrash,
        Step::OwnWritten,
    ];
}

/// Called at each step before the next one, with the path if it concerns one file.
type StepWatch = Arc<dyn Fn(Step, Option<&VaultPath>) + Send + Sync>;

/// The callback for the steps, if any.
#[derive(Clone, Default)]
pub(super) struct Steps(Option<StepWatch>);

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Steps")
    }
}

impl Steps {
    pub(super) fn watched(watch: impl Fn(Step, Option<&VaultPath>) + Send + Sync + 'static) -> Self {
        Steps(Some(Arc::new(watch)))
    }

    pub(super) fn reach(&self, step: Step, path: Option<&VaultPath>) {
        if let Some(watch) = &self.0 {
            watch(step, path);
        }
    }
}
