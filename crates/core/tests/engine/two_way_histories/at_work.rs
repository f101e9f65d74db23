//! Acts at a chosen event of a run, and counts decisions that no report contains.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use obsync_core::{FileAction, Phase, Progress};
use obsync_protocol::VaultPath;
use obsync_testkit::VaultHandle;
use tokio_util::sync::CancellationToken;

use super::clock::JumpingClock;
use super::counted::Counted;
use super::user::{Done, User};
use super::world::{vault_texts, with_word, write};

/// Follows the progress of a run.
#[derive(Default)]
pub(super) struct AtWork {
    midway: Option<Midway>,
    rival: Option<Rival>,
    times_set: AtomicU64,
    gave_way: AtomicU64,
    put_back: AtomicU64,
    newer: AtomicU64,
}

/// An action that follows the run's event of this number.
struct Midway {
    left: AtomicU64,
    what: WhatHappens,
}

enum WhatHappens {
    /// The run is killed or stopped, depending on who waits for this token.
    End(CancellationToken),
    /// Its clocks jump.
    Jump(Arc<JumpingClock>, i64),
    /// Its user acts.
    Act(User),
}

/// Another device, which writes once the session for sending is open and nothing is sent yet.
struct Rival {
    vault: VaultHandle,
    path: &'static str,
    word: String,
    time: i64,
    is_sending: AtomicBool,
    has_written: Mutex<Option<bool>>,
}

impl AtWork {
    /// Cancels `ends` after this many events.
    pub(super) fn that_ends(mut self, after: u64, ends: &CancellationToken) -> Self {
        self.midway = Some(Midway { left: AtomicU64::new(after), what: WhatHappens::End(ends.clone()) });
        self
    }

    /// Makes the clock jump by this many hours, after this many events.
    pub(super) fn with_jump(mut self, after: u64, clock: &Arc<JumpingClock>, hours: i64) -> Self {
        let what = WhatHappens::Jump(clock.clone(), hours);
        self.midway = Some(Midway { left: AtomicU64::new(after), what });
        self
    }

    /// Lets the user act after this many events.
    pub(super) fn with_user(mut self, after: u64, user: User) -> Self {
        self.midway = Some(Midway { left: AtomicU64::new(after), what: WhatHappens::Act(user) });
        self
    }

    /// Returns the result of the user's action.
    pub(super) fn done(&self) -> Done {
        match self.midway.as_ref().map(|midway| &midway.what) {
            Some(WhatHappens::Act(user)) => user.done(),
            _ => Done::default(),
        }
    }

    /// Lets another device write a word into this file during the run.
    pub(super) fn with_rival(
        mut self,
        vault: &VaultHandle,
        path: Option<&'static str>,
        word: &str,
        time: i64,
    ) -> Self {
        self.rival = path.map(|path| Rival {
            vault: vault.clone(),
            path,
            word: word.to_owned(),
            time,
            is_sending: AtomicBool::new(false),
            has_written: Mutex::new(None),
        });
        self
    }

    /// Returns the path and the word that another device wrote during the run, if it did.
    pub(super) fn written(&self) -> Option<(&'static str, &str)> {
        let rival = self.rival.as_ref()?;
        let has_written = rival.has_written.lock().unwrap().unwrap_or_default();
        has_written.then_some((rival.path, rival.word.as_str()))
    }

    /// Counts the decisions of the run.
    pub(super) fn count(&self, counted: &mut Counted) {
        counted.add("decision: times set", self.times_set.load(Ordering::Relaxed));
        counted.add("decision: gave way to a folder", self.gave_way.load(Ordering::Relaxed));
        counted.add("decision: put back after a deletion", self.put_back.load(Ordering::Relaxed));
        counted.add("late: what is here was newer", self.newer.load(Ordering::Relaxed));
    }

    /// Called at each event.
    pub(super) fn news(&self) {
        if let Some(Midway { left, what }) = &self.midway
            && left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            match what {
                WhatHappens::End(ends) => ends.cancel(),
                WhatHappens::Jump(clock, hours) => clock.jump(*hours),
                WhatHappens::Act(user) => user.act(),
            }
        }
    }
}

impl Progress for AtWork {
    fn phase(&self, phase: Phase) {
        if let Some(rival) = &self.rival {
            rival.is_sending.store(phase == Phase::Sending, Ordering::Relaxed);
        }
        self.news();
    }

    fn planned(&self, _files: u64, _bytes: u64) {
        if let Some(rival) = &self.rival {
            rival.write();
        }
        self.news();
    }

    fn placed(&self, _bytes: u64) {
        self.news();
    }

    fn file(&self, _path: &VaultPath, action: FileAction) {
        self.times_set.fetch_add(u64::from(action == FileAction::TimesSet), Ordering::Relaxed);
        self.news();
    }

    fn notice(&self, text: &str) {
        let gave_way = text.contains("is a folder in the vault, too");
        self.gave_way.fetch_add(u64::from(gave_way), Ordering::Relaxed);
        let put_back = text.contains("while its deletion was sent; it is back");
        self.put_back.fetch_add(u64::from(put_back), Ordering::Relaxed);
        let is_newer = text.contains("what is here is sent again");
        self.newer.fetch_add(u64::from(is_newer), Ordering::Relaxed);
        self.news();
    }
}

impl Rival {
    fn write(&self) {
        let mut has_written = self.has_written.lock().unwrap();
        if self.is_sending.load(Ordering::Relaxed) && has_written.is_none() {
            let before = vault_texts(&self.vault).remove(self.path).unwrap_or_default();
            let text = with_word(&before, &self.word, true);
            *has_written = Some(write(&self.vault, self.path, &text, self.time + 500));
        }
    }
}
