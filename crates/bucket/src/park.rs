//! Parks objects that are about to be replaced or removed and are needed as originals of copies: copies them
//! to one of obsync's own keys.

use std::collections::HashSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use obsync_core::DestinationError;
use obsync_protocol::VaultPath;

use super::context::Context;
use super::error::{Kind, RequestError};
use super::error_context::Action;
use super::guard::Guard;
use super::metadata::Facts;
use super::refusal::Next;
use super::staging::{Original, Stage};

impl Context {
    /// Parks copies of these objects where a staged content is to be copied from them: they are about to be
    /// replaced or removed. An error ends the run.
    pub(super) async fn park_originals(
        &self,
        going: impl Iterator<Item = &VaultPath>,
    ) -> Result<(), DestinationError> {
        let keys: HashSet<Path> = going.filter_map(|path| self.keys.of(path).ok()).collect();
        let originals = self.stages.take_originals(&keys);
        let parking = stream::iter(originals).map(|(number, original)| async move {
            let stage = self.park(*original).await?;
            self.stages.keep(&number.to_string(), stage);
            Ok(())
        });
        parking.buffer_unordered(self.options.concurrency).try_collect().await
    }

    async fn park(&self, original: Original) -> Result<Stage, DestinationError> {
        let Original { key: from, facts, path, meta } = original;
        let key = self.keys.of_parked(self.run, self.stages.number());
        let attributes = self.attributes(&path, &meta);
        let copied =
            self.objects.copy(&from, &facts.version, &key, Some(&attributes), &Guard::Anything).await;
        match copied {
            Ok(version) => {
                self.errors.succeeded(Action::Copy);
                Ok(Stage::Parked(key.into(), Facts::of_written(version, &meta, self.vault())))
            }
            Err(error) if error.is_conflict() || error.is_missing_object() => {
                let reason = "the file that it was to be a copy of was changed meanwhile";
                Ok(Stage::Lost(RequestError::without_answer(Kind::Other, reason)))
            }
            Err(error) if error.next() == Some(Next::AnotherWay) => Ok(Stage::Lost(error)),
            Err(error) => match self.failed(Action::Copy, &path, &error) {
                error if error.is_fatal() => Err(error),
                _ => Ok(Stage::Lost(error)),
            },
        }
    }
}
