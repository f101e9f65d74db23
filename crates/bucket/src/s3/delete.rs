//! Removals: many objects by one request (`DeleteObjects`), each only if it is still the examined version, or
//! one by one (`DeleteObject`).

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use object_store::path::Path;
use object_store::signer::Method;
use quick_xml::escape::escape;
use serde::Deserialize;

use super::client::S3;
use super::request::{Request, no_answer};
use crate::error::RequestError;
use crate::refusal::{Next, Operation};
use obsync_core::blocking::lock;

/// An object to be removed.
#[derive(Clone, Debug)]
pub(crate) struct DeleteRow {
    pub(crate) key: Path,
    /// The version to remove; `None`: any.
    pub(crate) e_tag: Option<String>,
}

#[derive(Deserialize)]
struct DeleteAnswer {
    #[serde(rename = "$value", default)]
    rows: Vec<Row>,
}

#[derive(Deserialize)]
enum Row {
    Error(Refusal),
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Refusal {
    key: String,
    code: Option<String>,
    message: Option<String>,
}

impl S3 {
    /// Removes as many objects as one request can. Answers in order. An error concerns the request as a
    /// whole.
    ///
    /// Rows that fail for transient reasons are requested again: a busy service answers status 200 with rows
    /// `SlowDown`.
    pub(crate) async fn delete_many(
        &self,
        doomed: &[DeleteRow],
    ) -> Result<Vec<Result<(), RequestError>>, RequestError> {
        let answers: Mutex<Vec<Option<Result<(), RequestError>>>> = Mutex::new(vec![None; doomed.len()]);
        let asked = self.retries.repeat(|| async {
            let open = open_rows(&lock(&answers));
            let rows: Vec<DeleteRow> = open.iter().map(|index| doomed[*index].clone()).collect();
            // The request as a whole was retried already.
            let answered = self.delete_once(&rows).await.map_err(|error| (error, false))?;
            let passing =
                answered.iter().filter_map(|answer| answer.as_ref().err()).find(|error| passes(error));
            let passing = passing.cloned();
            let mut answers = lock(&answers);
            for (index, answer) in open.into_iter().zip(answered) {
                answers[index] = Some(answer);
            }
            passing.map_or(Ok(()), |error| Err((error, true)))
        });
        let asked = asked.await;
        let answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
        match (asked, answers.into_iter().collect()) {
            (_, Some(answers)) => Ok(answers),
            (Err(refused), None) => Err(refused),
            (Ok(()), None) => Err(no_answer("rows are missing")),
        }
    }

    async fn delete_once(&self, doomed: &[DeleteRow]) -> Result<Vec<Result<(), RequestError>>, RequestError> {
        let conditional = doomed.iter().any(|object| object.e_tag.is_some());
        // A service that demands checksums here demands this one (S3 API reference, DeleteObjects).
        let request = Request::of_bucket(Operation::DeleteMany, Method::POST)
            .query("delete", "")
            .header("content-type", "application/xml")?
            .body(list(doomed).into_bytes().into(), None)
            .with_checksum()?;
        let request = if conditional { request.conditional() } else { request };
        let answer: DeleteAnswer = self.send(request).await?.document("DeleteResult")?;
        Ok(answers(doomed, answer))
    }

    /// Removes one object. A missing one counts as removed.
    pub(crate) async fn delete_one(&self, doomed: DeleteRow) -> Result<(), RequestError> {
        let mut request = Request::of_object(Operation::Delete, Method::DELETE, &doomed.key);
        if let Some(e_tag) = &doomed.e_tag {
            request = request.header("if-match", e_tag)?.conditional();
        }
        match self.send(request).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_missing_object() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The rows without an answer yet, or with a transient one.
fn open_rows(answers: &[Option<Result<(), RequestError>>]) -> Vec<usize> {
    let is_open = |answer: &Option<Result<(), RequestError>>| match answer {
        None => true,
        Some(answer) => answer.as_ref().is_err_and(passes),
    };
    (0..answers.len()).filter(|index| is_open(&answers[*index])).collect()
}

fn passes(error: &RequestError) -> bool {
    error.next() == Some(Next::Repeat)
}

fn list(doomed: &[DeleteRow]) -> String {
    let mut xml = "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>".to_owned();
    for DeleteRow { key, e_tag } in doomed {
        xml.push_str(&format!("<Object><Key>{}</Key>", escape(key.as_ref())));
        if let Some(e_tag) = e_tag {
            xml.push_str(&format!("<ETag>{}</ETag>", escape(e_tag)));
        }
        xml.push_str("</Object>");
    }
    xml + "</Delete>"
}

/// Rows name objects by their keys; objects without a row are removed. If the service spells a key otherwise
/// than the request, its row may be about any object without a row: unless it can be about one only, all of
/// them are looked at again.
fn answers(doomed: &[DeleteRow], answer: DeleteAnswer) -> Vec<Result<(), RequestError>> {
    let refusals = answer.rows.into_iter().filter_map(|row| match row {
        Row::Error(refusal) => Some((refusal.key.clone(), refusal)),
        Row::Other => None,
    });
    let refusals: HashMap<String, Refusal> = refusals.collect();
    let asked: HashSet<&str> = doomed.iter().map(|object| object.key.as_ref()).collect();
    let strays: Vec<&Refusal> = refusals.values().filter(|row| !asked.contains(row.key.as_str())).collect();
    let unnamed = asked.iter().filter(|key| !refusals.contains_key(**key)).count();
    let answer = |object: &DeleteRow| match (refusals.get(object.key.as_ref()), strays.first()) {
        (Some(own), _) => own.answer(object),
        (None, None) => Ok(()),
        (None, Some(stray)) if strays.len() >= unnamed => stray.answer(object),
        (None, Some(stray)) => stray.answer(object).map_err(RequestError::into_conflict),
    };
    doomed.iter().map(answer).collect()
}

impl Refusal {
    /// The answer about this object. A missing one counts as removed.
    fn answer(&self, object: &DeleteRow) -> Result<(), RequestError> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (code, message) = (text(&self.code), text(&self.message));
        let error = RequestError::of_row(Operation::Delete, object.e_tag.is_some(), &code, &message);
        if error.is_missing_object() { Ok(()) } else { Err(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doomed(keys: &[&str]) -> Vec<DeleteRow> {
        let one = |key: &&str| DeleteRow { key: Path::parse(key).unwrap(), e_tag: Some("\"1\"".to_owned()) };
        keys.iter().map(one).collect()
    }

    #[test]
    fn rows_are_read_among_others_whether_the_service_is_quiet_or_not() {
        let xml = "<DeleteResult><Deleted><Key>a</Key></Deleted>\
            <Error><Key>b &amp; c</Key><Code>PreconditionFailed</Code><Message>no</Message></Error>\
            <Deleted><Key>d</Key></Deleted>\
            <Error><Key>e</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error>\
            <Error><Key>f</Key><Code>NoSuchKey</Code></Error></DeleteResult>";
        let answer: DeleteAnswer = quick_xml::de::from_str(xml).unwrap();
        let answers = answers(&doomed(&["a", "b & c", "d", "e", "f"]), answer);
        assert!(answers[0].is_ok() && answers[2].is_ok());
        assert!(answers[1].as_ref().unwrap_err().is_conflict());
        assert!(answers[3].as_ref().unwrap_err().said().contains("AccessDenied: Access Denied"));
        assert!(
            answers[4].as_ref().is_err_and(RequestError::is_conflict),
            "it is not the version that was looked at"
        );
        let nothing: DeleteAnswer = quick_xml::de::from_str("<DeleteResult/>").unwrap();
        assert!(nothing.rows.is_empty());
    }

    #[test]
    fn a_row_with_another_spelling_of_a_key_is_about_one_of_the_objects_without_a_row() {
        let row = |code: &str| format!("<Error><Key>b%20c</Key><Code>{code}</Code></Error>");
        let of = |keys: &[&str], rows: &str| {
            let xml = format!("<DeleteResult>{rows}</DeleteResult>");
            answers(&doomed(keys), quick_xml::de::from_str(&xml).unwrap())
        };
        let own = "<Error><Key>a</Key><Code>AccessDenied</Code></Error>";
        for code in ["AccessDenied", "PreconditionFailed"] {
            let several = of(&["a", "b c", "d"], &format!("{own}{}", row(code)));
            assert!(!several[0].as_ref().unwrap_err().is_conflict());
            assert!(several[1..].iter().all(|answer| answer.as_ref().is_err_and(RequestError::is_conflict)));
        }
        let alone = of(&["a", "b c"], &format!("{own}{}", row("AccessDenied")));
        let error = alone[1].as_ref().unwrap_err();
        assert!(!error.is_conflict() && error.said() == "AccessDenied", "{error:?}");
        assert!(passes(of(&["b c", "d"], &row("SlowDown"))[1].as_ref().unwrap_err()));
    }

    #[test]
    fn keys_and_tags_are_escaped() {
        let xml = list(&doomed(&["a<b>&c"]));
        assert!(xml.contains("<Key>a&lt;b&gt;&amp;c</Key><ETag>&quot;1&quot;</ETag>"), "{xml}");
    }
}
