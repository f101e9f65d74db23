//! Finds out which conditions a service of S3's protocol keeps, by requests whose condition does not hold: they are made at a
//! key of obsync's own, but for removals, which are tried at an object that is to go.

use std::sync::atomic::Ordering;

use object_store::path::Path;
use object_store::{Attributes, PutPayload, UpdateVersion};

use super::conditions::{Conditional, Standing};
use super::error::{Kind, RequestError};
use super::guard::{Guard, NOBODYS};
use super::objects::{Doomed, Objects};
use super::refusal::Next;
use super::s3::{self, CopyOrder};

impl Objects {
    /// Finds out whether the service keeps a kind of condition of writes or copies, unless that is known, by a request whose
    /// condition does not hold. `probe` is the key of the empty object that is there for this, `from` the object that is to be
    /// copied.
    pub(super) async fn find_out_about(
        &self,
        kind: Conditional,
        from: Option<&Path>,
        probe: &Path,
    ) -> Result<(), RequestError> {
        let Some(s3) = &self.s3 else { return Ok(()) };
        if from.is_some() && self.copies_not.load(Ordering::Relaxed) {
            return Ok(());
        }
        let Some(_asking) = self.conditions.ask(kind).await else { return Ok(()) };
        let _alone = self.probing.lock().await;
        let put =
            async |guard: &Guard| s3.put(probe, PutPayload::default(), None, &Attributes::new(), guard).await;
        let any = UpdateVersion { e_tag: None, version: None };
        let copy = async |from, guard| {
            s3.copy(&CopyOrder { from, version: &any, to: probe, attributes: None, guard }).await
        };
        let nobodys = Guard::nobodys();
        let outcome = match (kind, from) {
            (Conditional::CopyNew, Some(from)) => match put(&Guard::Nothing).await {
                Err(error) if error.is_of_all_requests() => Err(error),
                _ => copy(from, &Guard::Nothing).await,
            },
            (_, Some(from)) => copy(from, &nobodys).await,
            (Conditional::Create, None) => match put(&Guard::Nothing).await {
                // There was nothing, or the condition is ignored.
                Ok(_) => put(&Guard::Nothing).await,
                outcome => outcome,
            },
            (_, None) => put(&nobodys).await,
        };
        if from.is_some()
            && outcome.is_ok()
            && let Err(error) = put(&Guard::Anything).await
        {
            tracing::debug!(?error, "a copy stays at the key for finding out about conditions");
        }
        if let (Err(error), Some(from)) = (&outcome, from)
            && error.kind == Kind::Missing
            && !matches!(self.head(from).await, Ok(Some(_)))
        {
            // That was a word about the original.
            return Ok(());
        }
        self.note(kind, verdict(outcome)?);
        Ok(())
    }

    /// Finds out, by one request, whether the service keeps conditions of removals: an object that was just looked at and is to be
    /// removed is so on a condition that does not hold. Tells whether it is gone.
    pub(super) async fn find_out_about_removals(&self, doomed: &Doomed) -> bool {
        let Some(s3) = &self.s3 else { return false };
        let Some(_asking) = self.conditions.ask(Conditional::Delete).await else { return false };
        let first = [s3::DeleteRow { key: doomed.key.clone(), e_tag: Some(NOBODYS.to_owned()) }];
        let removed = s3.delete_many(&first).await.map(|mut answers| answers.pop().unwrap_or(Ok(())));
        let standing = match removed {
            Ok(Ok(())) => Standing::Ignored,
            Ok(Err(error)) if error.is_conflict() => Standing::Kept,
            Ok(Err(error)) | Err(error) if error.next() == Some(Next::WithoutCondition) => Standing::Refused,
            Ok(Err(_)) | Err(_) => Standing::Unclear,
        };
        self.note(Conditional::Delete, standing);
        standing == Standing::Ignored
    }
}

/// What a request on a condition that does not hold showed. An error is one that every other request would meet.
fn verdict(outcome: Result<UpdateVersion, RequestError>) -> Result<Standing, RequestError> {
    Ok(match outcome {
        Ok(_) => Standing::Ignored,
        Err(error) if error.is_conflict() => Standing::Kept,
        Err(error) if error.next() == Some(Next::WithoutCondition) => Standing::Refused,
        Err(error) if error.is_of_all_requests() => return Err(error),
        Err(error) => {
            tracing::debug!(?error, "whether conditions are kept cannot be found out");
            Standing::Unclear
        }
    })
}
