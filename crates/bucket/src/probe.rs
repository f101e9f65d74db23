//! Finds out which conditions a service of S3's protocol keeps, by requests whose condition does not hold: they are made at a
//! key of obsync's own, but for removals, which are tried at an object that is to go. Each kind costs a run a few requests, once,
//! and only if the run has such a request to make.

use std::sync::atomic::Ordering;

use object_store::path::Path;
use object_store::{Attributes, PutPayload, UpdateVersion};

use super::conditions::{Conditional, Standing};
use super::error::{Kind, RequestError};
use super::guard::{Guard, NOBODYS};
use super::objects::{Doomed, Objects};
use super::refusal::Next;
use super::s3::{self, CopyOrder, S3};

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
        let put = async |guard: &Guard| put_empty(s3, probe, guard).await;
        let any = UpdateVersion { e_tag: None, version: None };
        let copy = async |from, guard| {
            s3.copy(&CopyOrder { from, version: &any, to: probe, attributes: None, guard }).await
        };
        let nobodys = Guard::nobodys();
        let outcome = match (kind, from) {
            (Conditional::CopyNew, Some(from)) => match occupy(s3, probe).await {
                Ok(()) => copy(from, &Guard::Nothing).await,
                Err(error) => Err(error),
            },
            (_, Some(from)) => copy(from, &nobodys).await,
            (Conditional::Create, None) => match put(&Guard::Nothing).await {
                // There was nothing, or the condition is ignored.
                Ok(_) => put(&Guard::Nothing).await,
                outcome => outcome,
            },
            (_, None) => put(&nobodys).await,
        };
        if from.is_some() && outcome.is_ok() {
            empty(s3, probe).await;
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

    /// The same of completing uploads, by an upload of one byte. There is an object at `probe` then whichever condition is asked
    /// about, so that "not found" can only be a word about the upload.
    pub(super) async fn find_out_about_uploads(
        &self,
        kind: Conditional,
        probe: &Path,
    ) -> Result<(), RequestError> {
        let Some(s3) = &self.s3 else { return Ok(()) };
        let Some(_asking) = self.conditions.ask(kind).await else { return Ok(()) };
        let _alone = self.probing.lock().await;
        let guard = if kind == Conditional::CompleteNew { Guard::Nothing } else { Guard::nobodys() };
        let outcome = match occupy(s3, probe).await {
            Ok(()) => complete_wrongly(s3, probe, &guard).await,
            Err(error) => Err(error),
        };
        if outcome.is_ok() {
            empty(s3, probe).await;
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
            Ok(Err(error)) | Err(error) => shown_by(&error),
        };
        self.note(Conditional::Delete, standing);
        standing == Standing::Ignored
    }
}

/// Puts an empty object at the key of the probe on this condition.
async fn put_empty(s3: &S3, probe: &Path, guard: &Guard) -> Result<UpdateVersion, RequestError> {
    s3.put(probe, PutPayload::default(), None, &Attributes::new(), guard).await
}

/// Sees to it that there is an object at the key of the probe. One that is there stays, so that no versions pile up.
async fn occupy(s3: &S3, probe: &Path) -> Result<(), RequestError> {
    match put_empty(s3, probe, &Guard::Nothing).await {
        Err(error) if error.next() == Some(Next::LookAgain) => Ok(()),
        Err(error) if error.next() == Some(Next::WithoutCondition) => {
            put_empty(s3, probe, &Guard::Anything).await.map(drop)
        }
        outcome => outcome.map(drop),
    }
}

/// Makes the object of the probe what it was before a request was carried out that should not have been.
async fn empty(s3: &S3, probe: &Path) {
    if let Err(error) = put_empty(s3, probe, &Guard::Anything).await {
        tracing::debug!(?error, "the object for finding out about conditions is not empty");
    }
}

/// Uploads a byte and completes that on a condition that does not hold. What is refused is aborted.
async fn complete_wrongly(s3: &S3, probe: &Path, guard: &Guard) -> Result<UpdateVersion, RequestError> {
    let upload = s3.begin_upload(probe, &Attributes::new()).await?;
    let number = upload.next_part();
    let completed = match upload.clone().put_part(number, PutPayload::from_static(b" ")).await {
        Ok(()) => upload.complete(guard).await,
        Err(error) => Err(error),
    };
    if completed.is_err()
        && let Err(error) = upload.abort().await
    {
        tracing::debug!(?error, "an upload for finding out about conditions stays; a later run aborts it");
    }
    completed
}

/// What a request on a condition that does not hold showed. An error is one that every other request would meet.
fn verdict(outcome: Result<UpdateVersion, RequestError>) -> Result<Standing, RequestError> {
    match outcome {
        Ok(_) => Ok(Standing::Ignored),
        Err(error) if error.is_of_all_requests() => Err(error),
        Err(error) => Ok(shown_by(&error)),
    }
}

/// The same of a refusal. Only one for what is at the key shows that a condition is kept: a conflict with another request
/// (409), which was asked again until it seemed of no use, could come of a service that ignores conditions.
fn shown_by(refusal: &RequestError) -> Standing {
    match refusal.next() {
        Some(Next::LookAgain) if refusal.code() != Some("NoSuchUpload") => Standing::Kept,
        Some(Next::WithoutCondition) => Standing::Refused,
        _ => {
            tracing::debug!(?refusal, "whether conditions are kept cannot be found out");
            Standing::Unclear
        }
    }
}
