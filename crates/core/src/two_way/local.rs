//! Reads local files to merge, and puts merged texts in place.

use obsync_protocol::limits::MERGED_TEXT;
use obsync_protocol::{ContentHash, Uid, VaultPath};
use tokio::io::AsyncReadExt;

use crate::destination::{Expect, Published};
use crate::error::PullError;
use crate::model::{FileMeta, Intent, KnownContent};
use crate::publish::publish_one;
use crate::run::Run;
use crate::state::Commit;

impl Run<'_> {
    /// Content of a local file that is small enough to be merged. `None` if it is too large or cannot be
    /// read.
    pub(crate) async fn read_text(&self, path: &VaultPath) -> Result<Option<Vec<u8>>, PullError> {
        let file = match self.destination.open_file(path).await {
            Ok(file) if file.facts.size() <= MERGED_TEXT as u64 => file,
            Ok(_) => return Ok(None),
            Err(error) if error.is_fatal() => return Err(error.into()),
            Err(error) => {
                tracing::debug!(%error, "a file cannot be read to be merged");
                return Ok(None);
            }
        };
        let mut text = Vec::new();
        let mut bounded = file.content.take(MERGED_TEXT as u64 + 1);
        match bounded.read_to_end(&mut text).await {
            Ok(_) => Ok((text.len() <= MERGED_TEXT).then_some(text)),
            Err(error) => {
                tracing::debug!(%error, "a file cannot be read to be merged");
                Ok(None)
            }
        }
    }

    /// Replaces the expected content with a text. `None` if something else was there, which was left alone.
    pub(crate) async fn put_text(
        &self,
        path: &VaultPath,
        text: Vec<u8>,
        expect: Expect,
        times: (i64, i64),
    ) -> Result<Option<Published>, PullError> {
        let content = KnownContent::of(&text);
        let (mtime, ctime) = times;
        let meta = FileMeta { hash: content.hash, size: content.size, mtime, ctime, uid: Uid(0) };
        let mut writer = self.destination.begin(path, &meta).await?;
        if content.hash != ContentHash::EMPTY {
            writer.write(text).await?;
        }
        let staged = writer.finish().await?;
        let replaces = expect != Expect::Absent;
        if replaces {
            // If this process dies during the exchange, the next run can tell which file is its own.
            let staged = staged.handle.clone();
            self.announce(Some(Intent::Exchange { path: path.clone(), staged, expected: Some(content) }))
                .await?;
        }
        let published = publish_one(self.destination.as_ref(), staged, expect).await;
        if replaces {
            self.announce(None).await?;
        }
        published
    }

    /// Announces an exchange in addition to the announced changes; `None` clears the last one.
    async fn announce(&self, exchange: Option<Intent>) -> Result<(), PullError> {
        let (state, mut intents) = (self.state.load().await?, self.state.intents().await?);
        intents.retain(|intent| !matches!(intent, Intent::Exchange { .. }));
        intents.extend(exchange);
        Ok(self.state.commit(Commit { state, intents, ..Commit::default() }).await?)
    }
}
