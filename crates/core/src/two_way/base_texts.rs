//! Keeps the texts that both sides agreed on, for later merges: the vault's older versions expire, and a merge without its base
//! is none.
//!
//! After a run each recorded text that the state has not looked at yet is read here once and kept there, the newest first, as far
//! as it has room for them. What is kept is only a copy: it is checked by its hash when it is used, and where it is missing the
//! vault is asked.

use obsync_protocol::ContentHash;

use crate::error::PullError;
use crate::merge::MergeKind;
use crate::model::{KnownContent, Record};
use crate::report::Report;
use crate::run::Run;

/// The largest text that is kept, in bytes.
const LARGEST: u64 = 1 << 20;
/// How many texts are read and kept at a time.
const AT_A_TIME: usize = 64;

impl Run<'_> {
    /// Keeps the texts of what was recorded. The run is done when it is called: a failure is a warning.
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

    /// The text that is recorded, if it is here still and can be merged.
    async fn agreed_text(&self, record: &Record) -> Result<Option<Vec<u8>>, PullError> {
        let Some(file) = record.file() else { return Ok(None) };
        if MergeKind::of(&record.path, &self.config_dir(&record.path)).is_none() {
            return Ok(None);
        }
        let text = self.read_text(&record.path).await?;
        Ok(text.filter(|text| KnownContent::of(text) == KnownContent::from(file)))
    }
}
