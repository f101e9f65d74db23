//! Probes which conditions an S3-compatible service honours, by requests whose condition does not hold. They
//! use one of obsync's own keys; conditions of removals are probed at an object that is to be removed. Each
//! kind costs a run a few requests, once, and only if the run has such a request to make.

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
    /// Probes a kind of condition of writes or copies, unless it is known, by a request whose condition does
    /// not hold. `probe` is the key of the empty object for this, `from` the object to be copied.
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
                // There was no object, or the condition is ignored.
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
            // That was about the original.
            return Ok(());
        }
        self.note(kind, verdict(outcome)?);
        Ok(())
    }

    /// The same for completing uploads, by an upload of one byte. An object is at `probe` for either
    /// condition, so that "not found" can only be about the upload.
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

    /// Probes whether the service honours conditions of removals: removes an object that was just looked at,
    /// with a condition that does not hold, by a request for many objects. If that loses the condition, by
    /// one for a single object. Returns true if the object is gone.
    pub(super) async fn find_out_about_removals(&self, doomed: &Doomed) -> bool {
        let Some(s3) = &self.s3 else { return false };
        let wrong = s3::DeleteRow { key: doomed.key.clone(), e_tag: Some(NOBODYS.to_owned()) };
        for kind in [Conditional::DeleteMany, Conditional::Delete] {
            if !self.are_removals_unknown() {
                return false;
            }
            let Some(_asking) = self.conditions.ask(kind).await else { continue };
            let removed = match kind {
                Conditional::DeleteMany => {
                    let answers = s3.delete_many(std::slice::from_ref(&wrong)).await;
                    answers.and_then(|mut answers| answers.pop().unwrap_or(Ok(())))
                }
                _ => s3.delete_one(wrong.clone()).await,
            };
            let standing = removed.as_ref().map_or_else(shown_by, |()| Standing::Ignored);
            self.note(kind, standing);
            if standing == Standing::Ignored {
                return true;
            }
        }
        false
    }
}

/// Puts an empty object at the probe's key with this condition.
async fn put_empty(s3: &S3, probe: &Path, guard: &Guard) -> Result<UpdateVersion, RequestError> {
    s3.put(probe, PutPayload::default(), None, &Attributes::new(), guard).await
}

/// Ensures that there is an object at the probe's key. An existing one stays, so that no versions pile up.
async fn occupy(s3: &S3, probe: &Path) -> Result<(), RequestError> {
    match put_empty(s3, probe, &Guard::Nothing).await {
        Err(error) if error.next() == Some(Next::LookAgain) => Ok(()),
        Err(error) if error.next() == Some(Next::WithoutCondition) => {
            put_empty(s3, probe, &Guard::Anything).await.map(drop)
        }
        outcome => outcome.map(drop),
    }
}

/// Restores the probe object after a request was carried out although its condition did not hold.
async fn empty(s3: &S3, probe: &Path) {
    if let Err(error) = put_empty(s3, probe, &Guard::Anything).await {
        tracing::debug!(?error, "the object for finding out about conditions is not empty");
    }
}

/// Uploads a byte and completes the upload with a condition that does not hold. Aborts it after a refusal.
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

/// Evaluates a request whose condition does not hold. Returns an error that every other request would meet.
fn verdict(outcome: Result<UpdateVersion, RequestError>) -> Result<Standing, RequestError> {
    match outcome {
        Ok(_) => Ok(Standing::Ignored),
        Err(error) if error.is_of_all_requests() => Err(error),
        Err(error) => Ok(shown_by(&error)),
    }
}

/// Evaluates a refusal. Only a refusal because of the object at the key proves that a condition is honoured:
/// a conflict with another request (409), which was retried until that seemed useless, may come from a
/// service that ignores conditions.
fn shown_by(refusal: &RequestError) -> Standing {
    match refusal.next() {
        Some(Next::LookAgain) if refusal.code() != Some("NoSuchUpload") => Standing::Kept,
        Some(Next::WithoutCondition) => Standing::Doubted,
        _ => {
            tracing::debug!(?refusal, "whether conditions are kept cannot be found out");
            Standing::Unclear
        }
    }
}
