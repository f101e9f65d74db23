//! Checks on a scratch vault the behaviour of the service that two-way sync relies on: echoes and their order,
//! history, renames, abandoned uploads, pipelined requests, several connections.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use obsync_client::{
    Client, ClientError, Content, FetchOptions, FetchPool, LiveChanges, OldPath, PullRequest, PushFailure,
    PushFile, Receiver, Session, SessionTarget, WritingSession,
};
use obsync_protocol::{CONTENT_OVERHEAD, ContentHash, PushMessage, Uid, VaultPath};
use serde::Serialize;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::entry::{EntryKind, RemoteEntry};
use crate::model::KnownContent;

/// Timeout for an echo.
const PATIENCE: Duration = Duration::from_secs(30);
/// Files requested at once.
const AT_ONCE: usize = 16;
/// Connections opened at once.
const CONNECTIONS: usize = 4;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Finding {
    /// The service behaves as obsync expects.
    AsExpected,
    /// Both behaviours are right; `details` says which was observed.
    Observed,
    /// The service behaves differently, so obsync should not be used for writing.
    Differs,
    /// The check failed, so the behaviour is unknown.
    Unknown,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceFact {
    /// The name of the check, for scripts.
    pub name: &'static str,
    /// The expected behaviour.
    pub expected: &'static str,
    /// The result.
    pub finding: Finding,
    /// The details.
    pub details: String,
}

/// Result of one check, with its words.
type Looked = Result<(Finding, String), ClientError>;

/// Runs all checks over sessions of two devices. `target` must be a vault that nobody uses.
pub fn check_service<'a>(client: &'a Client, target: &'a SessionTarget) -> BoxFuture<'a, Vec<ServiceFact>> {
    Box::pin(check_here(client, target))
}

async fn check_here(client: &Client, target: &SessionTarget) -> Vec<ServiceFact> {
    let mut facts = Vec::new();
    let mut check = match Check::open(client, target).await {
        Ok(check) => check,
        Err(error) => {
            let (name, expected) = ("session", "a new vault can be opened twice and lists nothing");
            return vec![ServiceFact {
                name,
                expected,
                finding: Finding::Differs,
                details: error.to_string(),
            }];
        }
    };
    let mut note = |name, expected, looked: Looked| {
        let (finding, details) = looked.unwrap_or_else(|error| (Finding::Unknown, error.to_string()));
        facts.push(ServiceFact { name, expected, finding, details });
    };
    note("echo_before_answer", "a push is echoed to its sender before its answer", check.echo().await);
    note("order_of_versions", "later pushes get higher versions, each its own", check.order().await);
    note("heard_by_others", "another session hears a push, with its device", check.heard().await);
    note("known_content", "a content that the vault has is not asked for again", check.known_content().await);
    note("history", "the history of a path has all of its versions, the newest first", check.history().await);
    note("old_versions", "an older version can be fetched", check.old_version().await);
    note(
        "rename",
        "the old path of a rename is deleted, by the service or by its own change",
        check.rename().await,
    );
    note("deletion", "a deletion is echoed and is in the history", check.deletion().await);
    note("abandoned_upload", "an upload that is given up leaves nothing", check.abandoned().await);
    note("reading_ahead", "several requests can be under way on a connection", check.reading_ahead().await);
    note("connections", "a vault can be open several times at once", check.connections().await);
    check.close().await;
    facts
}

struct Check<'a> {
    client: &'a Client,
    target: &'a SessionTarget,
    writer: WritingSession,
    own: LiveChanges,
    reader: Session,
    others: LiveChanges,
}

impl<'a> Check<'a> {
    async fn open(client: &'a Client, target: &'a SessionTarget) -> Result<Self, ClientError> {
        let (writer, own) = open_to_write(client, target, 0).await?;
        let mut reader = Session::open(client, target, 0, true).await?;
        let others = reader.live_changes();
        reader.listing(&mut |_| {}).await?;
        Ok(Check { client, target, writer, own, reader, others })
    }

    async fn close(self) {
        self.writer.close().await;
        self.reader.close().await;
    }

    async fn push(&mut self, name: &str, text: &[u8]) -> Result<Option<Uid>, ClientError> {
        let path = path(name)?;
        let file = file(&path, text);
        let pushed = self.writer.push_file(&file, text).await.map_err(reason)?;
        Ok(pushed.echo)
    }

    async fn echo(&mut self) -> Looked {
        let echo = self.push("echo.md", b"first").await?;
        Ok(match echo {
            Some(uid) => (Finding::AsExpected, format!("version {}", uid.0)),
            None => match self.next_own("echo.md").await {
                Some(late) => {
                    (Finding::Observed, format!("the echo, version {}, came after the answer", late.uid.0))
                }
                None => (Finding::Differs, "no echo came".to_owned()),
            },
        })
    }

    async fn order(&mut self) -> Looked {
        let mut uids = Vec::new();
        for n in 0..8 {
            let name = format!("order {n}.md");
            let echo = match self.push(&name, format!("text {n}").as_bytes()).await? {
                Some(uid) => Some(uid),
                None => self.next_own(&name).await.map(|message| message.uid),
            };
            uids.extend(echo);
        }
        let is_rising = uids.len() == 8 && uids.windows(2).all(|pair| pair[0] < pair[1]);
        let details = format!("versions {:?}", uids.iter().map(|uid| uid.0).collect::<Vec<_>>());
        Ok((if is_rising { Finding::AsExpected } else { Finding::Differs }, details))
    }

    async fn heard(&mut self) -> Looked {
        let text = b"heard by others";
        self.push("heard.md", text).await?;
        let device = self.client.options().device.clone();
        let wanted = path("heard.md")?;
        let keys = self.target.keys.clone();
        let hear = async {
            loop {
                tokio::select! {
                    biased;
                    change = self.others.next() => {
                        let Ok(change) = change else { return None };
                        let is_it = keys.decode_path(&change.path).is_ok_and(|path| path == wanted);
                        if is_it {
                            return Some(change);
                        }
                    }
                    _ = self.reader.idle() => return None,
                }
            }
        };
        Ok(match timeout(PATIENCE, hear).await {
            Ok(Some(change)) if change.device == device => (Finding::AsExpected, format!("by {device}")),
            Ok(Some(change)) => {
                (Finding::Differs, format!("by {:?}, which is not {device:?}", change.device))
            }
            Ok(None) | Err(_) => (Finding::Differs, "it heard nothing".to_owned()),
        })
    }

    async fn known_content(&mut self) -> Looked {
        let text = b"a content that is sent once";
        self.push("known 1.md", text).await?;
        let was_read = Arc::new(AtomicBool::new(false));
        let path = path("known 2.md")?;
        let content = Watched { content: &text[..], was_read: was_read.clone() };
        self.writer.push_file_from(&file(&path, text), text.len() as u64, content).await.map_err(reason)?;
        Ok(match was_read.load(Ordering::Relaxed) {
            false => (Finding::AsExpected, "it was not read".to_owned()),
            true => (Finding::Observed, "it was sent again".to_owned()),
        })
    }

    async fn history(&mut self) -> Looked {
        for n in 0..3 {
            self.push("history.md", format!("state {n}").as_bytes()).await?;
        }
        let entries = self.past("history.md").await?;
        let is_falling = entries.windows(2).all(|pair| pair[0].uid > pair[1].uid);
        let details = format!("{} versions", entries.len());
        Ok((if entries.len() == 3 && is_falling { Finding::AsExpected } else { Finding::Differs }, details))
    }

    async fn old_version(&mut self) -> Looked {
        let entries = self.past("history.md").await?;
        let Some(oldest) = entries.last() else { return Ok((Finding::Unknown, "there is none".to_owned())) };
        let text = b"state 0";
        let wanted = AskedContent { uid: oldest.uid, content: KnownContent::of(text) };
        let (fetched, _) = self.fetch(vec![wanted]).await?;
        let details = format!("version {}", oldest.uid.0);
        Ok((if fetched == 1 { Finding::AsExpected } else { Finding::Differs }, details))
    }

    async fn rename(&mut self) -> Looked {
        let text = b"a file that is renamed";
        self.push("before.md", text).await?;
        let (from, to) = (path("before.md")?, path("after.md")?);
        let renamed = self
            .writer
            .push_rename(&from, &file(&to, text), text.len() as u64, &text[..], || true, &|_| {})
            .await;
        let renamed = renamed.map_err(reason)?;
        let gone = self.past("before.md").await?;
        let is_gone = gone.first().is_some_and(|entry| matches!(entry.kind, EntryKind::Deleted { .. }));
        let how = match renamed.old {
            OldPath::DeletedByService(uid) => format!("the service deleted the old path, version {}", uid.0),
            OldPath::Deleted(_) => "the old path was deleted by a change of its own".to_owned(),
            OldPath::NotDeleted(failure) => format!("the old path is still there: {failure}"),
        };
        Ok((if is_gone { Finding::Observed } else { Finding::Differs }, how))
    }

    async fn deletion(&mut self) -> Looked {
        let path = path("after.md")?;
        let pushed = self.writer.push_deletion(&path, false).await.map_err(reason)?;
        let past = self.past("after.md").await?;
        let is_gone = past.first().is_some_and(|entry| matches!(entry.kind, EntryKind::Deleted { .. }));
        Ok(match (is_gone, pushed.echo) {
            (true, Some(uid)) => (Finding::AsExpected, format!("version {}", uid.0)),
            (true, None) => (Finding::Observed, "its echo did not come before the answer".to_owned()),
            (false, _) => (Finding::Differs, "the history does not have it".to_owned()),
        })
    }

    async fn abandoned(&mut self) -> Looked {
        // Two pieces are announced, and the source ends in the second one.
        let path = path("abandoned.bin")?;
        let size = 3 << 20;
        let text = vec![7; size];
        let short = &text[..size - 1000];
        let given_up = self.writer.push_file_from(&file(&path, &text), size as u64, short).await;
        if !matches!(given_up, Err(PushFailure::NotRecorded(_))) {
            return Ok((Finding::Unknown, format!("it ended otherwise: {given_up:?}")));
        }
        let version = self.reader.version();
        (self.writer, self.own) = open_to_write(self.client, self.target, version).await?;
        let past = self.past("abandoned.bin").await?;
        Ok(match past.is_empty() {
            true => (Finding::AsExpected, "its path has no version".to_owned()),
            false => (Finding::Differs, format!("its path has {} versions", past.len())),
        })
    }

    async fn reading_ahead(&mut self) -> Looked {
        let mut wanted = Vec::new();
        for n in 0..AT_ONCE {
            let (name, text) = (format!("ahead {n}.md"), format!("text of its own {n}"));
            let uid = match self.push(&name, text.as_bytes()).await? {
                Some(uid) => uid,
                None => self.past(&name).await?.first().map_or(Uid(0), |entry| entry.uid),
            };
            wanted.push(AskedContent { uid, content: KnownContent::of(text.as_bytes()) });
        }
        let (fetched, mixed_up) = self.fetch(wanted).await?;
        Ok(match (fetched, mixed_up) {
            (AT_ONCE, 0) => (Finding::AsExpected, format!("{AT_ONCE} at once, all answered in order")),
            (AT_ONCE, _) => {
                (Finding::Observed, "answers were mixed up; one at a time they are right".to_owned())
            }
            (fetched, _) => (Finding::Differs, format!("{fetched} of {AT_ONCE} came")),
        })
    }

    async fn connections(&mut self) -> Looked {
        let mut sessions = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut session = Session::open(self.client, self.target, self.reader.version(), false).await?;
            session.listing(&mut |_| {}).await?;
            sessions.push(session);
        }
        for session in sessions {
            session.close().await;
        }
        Ok((Finding::AsExpected, format!("{CONNECTIONS} more at once")))
    }

    /// Versions of a path in the order of the service.
    async fn past(&mut self, name: &str) -> Result<Vec<RemoteEntry>, ClientError> {
        let encoded = self.target.keys.encode_path(&path(name)?);
        let page = self.writer.history(&encoded, Uid(0)).await?;
        let keys = &self.target.keys;
        Ok(page.items.iter().filter_map(|item| RemoteEntry::decode(item, keys).ok()).collect())
    }

    /// The next change of a path that the writing session receives.
    async fn next_own(&mut self, name: &str) -> Option<PushMessage> {
        let wanted = path(name).ok()?;
        let keys = self.target.keys.clone();
        let hear = async {
            loop {
                tokio::select! {
                    biased;
                    change = self.own.next() => {
                        let change = change.ok()?;
                        if keys.decode_path(&change.path).is_ok_and(|path| path == wanted) {
                            return Some(change);
                        }
                    }
                    _ = self.writer.idle() => return None,
                }
            }
        };
        timeout(PATIENCE, hear).await.ok().flatten()
    }

    /// Fetches contents over one connection, all requests at once. Returns how many arrived, and how many
    /// answers were mixed up.
    async fn fetch(&self, wanted: Vec<AskedContent>) -> Result<(usize, u64), ClientError> {
        let (jobs, job_queue) = mpsc::channel(wanted.len().max(1));
        let (results, mut result_queue) = mpsc::channel(wanted.len().max(1));
        for job in wanted {
            // The channel has room for all of them.
            let _ = jobs.try_send(job);
        }
        drop(jobs);
        let pool = FetchPool {
            client: self.client.clone(),
            target: self.target.clone(),
            version: self.reader.version(),
            options: FetchOptions { connections: 1, in_flight: AT_ONCE, ..FetchOptions::default() },
            receiver: Arc::new(Texts { keys: self.target.keys.clone() }),
            jobs: job_queue,
            results,
            cancel: CancellationToken::new(),
            first_session: None,
        };
        let summary = pool.run().await?;
        let mut fetched = 0;
        while let Some(result) = result_queue.recv().await {
            fetched += usize::from(result.outcome.is_ok());
        }
        Ok((fetched, summary.serial_fallbacks))
    }
}

async fn open_to_write(
    client: &Client,
    target: &SessionTarget,
    version: u64,
) -> Result<(WritingSession, LiveChanges), ClientError> {
    WritingSession::open(client, target, version, version == 0).await?.listing(&mut |_| {}).await
}

fn path(name: &str) -> Result<VaultPath, ClientError> {
    VaultPath::parse(name).map_err(|error| ClientError::Source { reason: error.to_string() })
}

fn file<'a>(path: &'a VaultPath, text: &[u8]) -> PushFile<'a> {
    let now = jiff::Timestamp::now().as_millisecond();
    PushFile { path, hash: ContentHash::of(text), ctime: now, mtime: now, related: None }
}

fn reason(failure: PushFailure) -> ClientError {
    failure.error().clone()
}

/// A content to request.
struct AskedContent {
    uid: Uid,
    content: KnownContent,
}

/// Receives contents and checks them.
struct Texts {
    keys: obsync_protocol::VaultKeys,
}

impl Receiver for Texts {
    type Job = AskedContent;
    type Output = ();
    type Error = String;

    fn request(&self, wanted: &AskedContent) -> PullRequest {
        let KnownContent { hash, size } = wanted.content;
        PullRequest { uid: wanted.uid, hash, size: size + CONTENT_OVERHEAD }
    }

    async fn receive(&self, wanted: &mut AskedContent, content: &mut Content<'_>) -> Result<(), String> {
        let (mut decryptor, mut text) = (self.keys.content_decryptor(), Vec::new());
        while let Some(piece) = content.next_piece().await.map_err(|error| error.to_string())? {
            decryptor.update(&piece, &mut text).map_err(|error| error.to_string())?;
        }
        decryptor.finish().map_err(|error| error.to_string())?;
        (KnownContent::of(&text) == wanted.content)
            .then_some(())
            .ok_or_else(|| "it is another one".to_owned())
    }
}

/// A content that notes whether it is read.
struct Watched<'a> {
    content: &'a [u8],
    was_read: Arc<AtomicBool>,
}

impl AsyncRead for Watched<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.was_read.store(true, Ordering::Relaxed);
        Pin::new(&mut self.content).poll_read(cx, buffer)
    }
}
