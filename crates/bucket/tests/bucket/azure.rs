//! Azure Blob Storage as far as the object store library asks for it: blobs by path, without metadata.
//!
//! A PUT of a blob that exists is refused the first time, as if it demanded that there is none; the next one
//! replaces it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use object_store::azure::MicrosoftAzureBuilder;
use obsync_bucket::{BucketDestination, BucketLocation};
use obsync_testcloud::{Rogue, RogueAnswer};
use percent_encoding::percent_decode_str;

use crate::buckets::{BUCKET, PREFIX, options};

/// Headers of every answer about a blob.
const FACTS: &str = "etag: \"1\"\r\nlast-modified: Mon, 12 Oct 2009 17:50:30 GMT\r\n";
/// Boundary of the parts of an answer to many removals.
const BOUNDARY: &str = "parts";

/// Blobs by the paths in their addresses.
#[derive(Debug, Default)]
struct Blobs {
    blobs: HashMap<String, Vec<u8>>,
    /// Blocks of uploads that were not completed.
    blocks: HashMap<String, Vec<u8>>,
    /// Blobs whose PUT was refused once.
    refused: HashSet<String>,
}

/// The service, on loopback.
pub(crate) struct Azure {
    rogue: Rogue,
    blobs: Arc<Mutex<Blobs>>,
}

impl Azure {
    pub(crate) async fn start() -> Self {
        let blobs: Arc<Mutex<Blobs>> = Arc::default();
        let of_service = Arc::clone(&blobs);
        let rogue = Rogue::start(move |first, body| of_service.lock().unwrap().answer(first, body));
        Azure { rogue: rogue.await.unwrap(), blobs }
    }

    /// The store, opened as by a new run.
    pub(crate) fn store(&self) -> BucketDestination {
        // The library's own HTTP client wants it. An error means that it is there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let container = MicrosoftAzureBuilder::new()
            .with_account("account")
            .with_access_key("c2VjcmV0")
            .with_container_name(BUCKET)
            .with_endpoint(self.rogue.endpoint())
            .with_allow_http(true);
        let location = BucketLocation::parse(&format!("az://{BUCKET}/{PREFIX}")).unwrap();
        BucketDestination::over(Arc::new(container.build().unwrap()), &location, options())
    }

    /// Number of blobs.
    pub(crate) fn count(&self) -> usize {
        self.lock().blobs.len()
    }

    fn lock(&self) -> MutexGuard<'_, Blobs> {
        self.blobs.lock().unwrap()
    }
}

impl Blobs {
    fn answer(&mut self, first: &str, body: &str) -> RogueAnswer {
        let (method, target) = first.split_once(' ').unwrap();
        let (path, query) = target.split_once(' ').unwrap().0.split_once('?').unwrap_or((target, ""));
        let path = decoded(path.split(' ').next().unwrap());
        match method {
            "POST" => self.remove(body),
            "PUT" if query.contains("comp=blocklist") => {
                let content = self.blocks.remove(&path).unwrap_or_default();
                self.blobs.insert(path, content);
                answer("201 Created", FACTS, 0, "")
            }
            "PUT" if query.contains("comp=block") => {
                self.blocks.entry(path).or_default().extend(body.as_bytes());
                answer("201 Created", "", 0, "")
            }
            "PUT" if self.blobs.contains_key(&path) && self.refused.insert(path.clone()) => {
                refusal("409 Conflict", "BlobAlreadyExists", "PUT")
            }
            "PUT" => {
                self.blobs.insert(path, body.as_bytes().to_vec());
                answer("201 Created", FACTS, 0, "")
            }
            _ => match self.blobs.get(&path) {
                Some(content) => {
                    let text = if method == "HEAD" { "" } else { std::str::from_utf8(content).unwrap() };
                    answer("200 OK", FACTS, content.len(), text)
                }
                None => refusal("404 Not Found", "BlobNotFound", method),
            },
        }
    }

    /// Many removals by one request, each of which is a part of its body.
    fn remove(&mut self, body: &str) -> RogueAnswer {
        let removals = body.lines().filter_map(|line| line.strip_prefix("DELETE "));
        let mut parts = String::new();
        for (number, removal) in removals.enumerate() {
            let path = decoded(removal.split([' ', '?']).next().unwrap());
            let status = if self.blobs.remove(&path).is_some() { "202 Accepted" } else { "404 Not Found" };
            parts.push_str(&format!(
                "--{BOUNDARY}\r\ncontent-type: application/http\r\ncontent-id: {number}\r\n\r\nHTTP/1.1 {status}\r\n\r\n\r\n"
            ));
        }
        let parts = format!("{parts}--{BOUNDARY}--\r\n");
        let kind = format!("content-type: multipart/mixed; boundary={BOUNDARY}\r\n");
        answer("202 Accepted", &kind, parts.len(), &parts)
    }
}

fn decoded(path: &str) -> String {
    percent_decode_str(path).decode_utf8().unwrap().into_owned()
}

fn refusal(status: &str, code: &str, method: &str) -> RogueAnswer {
    let body =
        format!("\u{feff}<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>");
    let body = if method == "HEAD" { "" } else { &body };
    answer(status, "content-type: application/xml\r\n", body.len(), body)
}

fn answer(status: &str, headers: &str, length: usize, body: &str) -> RogueAnswer {
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}");
    Box::new(std::iter::once(head.into_bytes()))
}
