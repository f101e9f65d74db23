//! The direction of syncing a vault and a destination, and its options.

use std::sync::Arc;

use obsync_client::FetchOptions;
use obsync_core::quiet::QuietRule;
use obsync_core::{
    Direction, FollowWay, Mode, Progress, PullError, PullOptions, PullSource, Report, StateStore,
    SyncDirection, SyncOptions, Watch, pull, sync,
};
use obsync_folder::FolderWatch;
use obsync_protocol::Filter;
use tokio_util::sync::CancellationToken;

use crate::args::{BucketDeletes, Choice, Pull, PullHere, Push, Sync};
use crate::exit::Failed;
use crate::target::destination::Destination;
use crate::target::known::Purpose;
use crate::target::objects::only_for;

/// A direction, with its options.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way<'a> {
    Pull(&'a PullHere),
    Both(&'a Sync),
    Push(&'a Push),
}

impl<'a> Way<'a> {
    /// The common options.
    pub(super) fn options(self) -> &'a Pull {
        match self {
            Way::Pull(options) => &options.pull,
            Way::Both(options) => &options.pull,
            Way::Push(options) => &options.sync.pull,
        }
    }

    /// The command's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Way::Pull(_) => "pull",
            Way::Both(_) => "sync",
            Way::Push(_) => "push",
        }
    }

    /// True if local changes are taken back.
    pub(super) fn takes_back(self) -> bool {
        matches!(self, Way::Pull(options) if options.mirror)
    }

    pub(super) fn sending(self) -> Option<(&'a Sync, SyncDirection)> {
        match self {
            Way::Pull(_) => None,
            Way::Both(options) => Some((options, SyncDirection::Both)),
            Way::Push(options) => Some((&options.sync, SyncDirection::Push { mirrors: options.mirror })),
        }
    }

    /// The direction for the record of a run.
    pub(super) fn direction(self) -> Direction {
        self.sending().map_or(Direction::Pull, |(_, direction)| direction.into())
    }

    /// The purpose of opening the destination.
    pub(super) fn purpose(self) -> Purpose {
        Purpose {
            looks: self.options().dry_run,
            trashes: self.sending().is_some() || self.takes_back(),
            keeps_deleted: matches!(self, Way::Pull(options) if options.keep_deleted),
        }
    }

    /// The runs of a follower.
    pub(super) fn follow(self, pull_options: PullOptions) -> FollowWay {
        match self.sync_options(pull_options.clone()) {
            Some(sync_options) => FollowWay::Sync(sync_options),
            None => FollowWay::Pull(pull_options),
        }
    }

    /// The watcher of a destination whose changes a follower sends.
    pub(super) fn watch(self, filter: &Filter, states: &Arc<dyn StateStore>) -> Option<Box<dyn Watch>> {
        let (options, _) = self.sending()?;
        let Destination::Folder(folder) = &options.pull.destination else { return None };
        let rule = QuietRule { quiet_for: options.quiet_for, ..QuietRule::default() };
        Some(Box::new(FolderWatch::new(folder, filter.clone(), rule, Arc::clone(states))))
    }

    fn sync_options(self, pull: PullOptions) -> Option<SyncOptions> {
        let (options, direction) = self.sending()?;
        let usual = SyncOptions::default();
        Some(SyncOptions {
            pull,
            direction,
            max_delete_in_vault: options.max_delete_in_vault.unwrap_or(usual.max_delete_in_vault),
            sends_configuration: options.push_configs,
            ..usual
        })
    }

    pub(super) async fn run(
        self,
        source: &PullSource,
        destination: Arc<dyn obsync_core::Destination>,
        states: Arc<dyn StateStore>,
        pull_options: PullOptions,
        progress: Arc<dyn Progress>,
        stop: CancellationToken,
    ) -> Result<Report, PullError> {
        match self.sync_options(pull_options.clone()) {
            Some(sync_options) => sync(source, destination, states, &sync_options, progress, stop).await,
            None => pull(source, destination, states, &pull_options, progress, stop).await,
        }
    }
}

/// True if files missing in a bucket count as deleted there.
pub(super) fn misses_deleted(options: &Sync) -> Result<bool, Failed> {
    match (options.bucket_deletes, &options.pull.destination) {
        (BucketDeletes::OfThisBucket, folder @ Destination::Folder(_)) => {
            Err(only_for("--bucket-deletes", "buckets", folder))
        }
        (BucketDeletes::No, _) => Ok(false),
        (BucketDeletes::OfAnyBucket | BucketDeletes::OfThisBucket, _) => Ok(true),
    }
}

/// The name of this device for the vault and in the names of conflicted copies.
pub(super) fn device_name(options: &Pull) -> String {
    let host = || {
        let system = rustix::system::uname();
        system.nodename().to_string_lossy().into_owned()
    };
    options.device_name.clone().unwrap_or_else(host)
}

pub(super) fn pull_options(options: &Pull) -> PullOptions {
    PullOptions {
        filter: filter(&options.choice),
        mode: if options.full { Mode::Full } else { Mode::Incremental },
        dry_run: options.dry_run,
        list_changes: options.list_changes.then_some(u64::MAX),
        accept_older_vault: options.accept_older_vault,
        accept_failures: options.accept_failures,
        max_delete: options.max_delete.unwrap_or_default(),
        fetch: FetchOptions { connections: options.connections.into(), ..FetchOptions::default() },
        ..PullOptions::default()
    }
}

pub(super) fn filter(choice: &Choice) -> Filter {
    Filter {
        file_types: choice.file_types,
        configs: choice.configs,
        excluded: choice.exclude.clone(),
        config_dirs: choice.config_dir.clone(),
        code: !choice.no_code,
    }
}
