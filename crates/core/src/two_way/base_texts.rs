//! Keeps the texts that both sides agreed on as bases for later merges: the vault's older versions expire,
//! and a three-way merge needs its base.
//!
//! After a run, each recorded text that the state does not have yet is read from the destination and stored
//! there, newest first, as far as there is room. A stored text is only a copy: its hash is checked when it is
//! used, and a missing one is fetched from the vault.

use obsync_protocol::ContentHash;

use crate::error::PullError;
use crate::merge::MergeKind;
use crate::model::{KnownContent, Record};
use crate::report::Report;
use crate::run::Run;

/// Size limit of a kept text, in bytes.
const LARGEST: u64 = 1 << 20;
/// Texts read and kept per batch.
const AT_A_TIME: usize = 64;

impl Run<'_> {
    /// Keeps the texts of the recorded files. Called after the run, so a failure is only a warning.
    pub(super) async fn keep_texts(&self, report: &mut Report) {
        if let Err(error) = self.keep_wanted_texts().await {
            self.warn(format!("texts for later merges could not be kept: {error}"), report);
        }
    }

    async fn keep_wanted_texts(&self) -> Result<(), PullError> {
        while !self.stop.is_cancelled() {
            let wanted = self.state.texts_wanted(LARGEST, AT_A_TIME).await?;
            if wanted.is_empty() {
                return Ok(());
            }
            let mut texts: Vec<(ContentHash, Option<Vec<u8>>)> = Vec::with_capacity(wanted.len());
            for record in &wanted {
                let Some(file) = record.file() else { continue };
                texts.push((file.hash, self.agreed_text(record).await?));
            }
            if !self.state.keep_texts(texts).await {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The text as recorded, if the destination still has it and it can be merged.
    async fn agreed_text(&self, record: &Record) -> Result<Option<Vec<u8>>, PullError> {
        let Some(file) = record.file() else { return Ok(None) };
        if MergeKind::of(&record.path, &self.config_dir(&record.path)).is_none() {
            return Ok(None);
        }
        let text = self.read_text(&record.path).await?;
        Ok(text.filter(|text| KnownContent::of(text) == KnownContent::from(file)))
    }
}
