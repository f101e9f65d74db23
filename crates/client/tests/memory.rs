//! Memory of uploads, in a separate process, since its peak memory is measured. The server discards the
//! uploads.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::convert::Infallible;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use obsync_client::{
    Client, ClientOptions, PushFile, SessionTarget, Token, Upload, UploadOptions, UploadPool, UploadSource,
};
use obsync_protocol::{
    ContentHash, ContentHasher, EncryptionVersion, MasterKey, VaultId, VaultKeys, VaultPath,
};
use tokio::io::{AsyncReadExt, Repeat, Take};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

/// The size of each file in bytes: more than the limit for all of them together.
const SIZE: u64 = 80 << 20;

/// Memory limit of four uploads at once, in KiB: each has two pieces that wait to be sent and one being
/// encrypted.
const MOST_MEMORY: u64 = 48 << 10;

/// Files of 80 MiB, each of one byte repeated.
struct Large;

struct Job {
    path: VaultPath,
    byte: u8,
    hash: ContentHash,
}

impl UploadSource for Large {
    type Job = Job;
    type Content = Take<Repeat>;
    type Error = Infallible;

    fn upload<'a>(&self, job: &'a Job) -> Upload<'a> {
        Upload::File(PushFile { path: &job.path, hash: job.hash, ctime: 1, mtime: 1, related: None }, SIZE)
    }

    async fn open(&self, job: &Job) -> Result<Self::Content, Infallible> {
        Ok(tokio::io::repeat(job.byte).take(SIZE))
    }
}

fn job(byte: u8) -> Job {
    let mut hasher = ContentHasher::new();
    let part = vec![byte; 1 << 20];
    (0..SIZE >> 20).for_each(|_| hasher.update(&part));
    Job { path: VaultPath::parse(&format!("{byte}.bin")).unwrap(), byte, hash: hasher.finish() }
}

/// Accepts every client and every file.
async fn serve(stream: TcpStream) {
    let mut websocket = tokio_tungstenite::accept_async(stream).await.unwrap();
    let mut pieces = 0;
    while let Some(Ok(message)) = websocket.next().await {
        let answers: &[&str] = match message {
            Message::Text(text) if text.contains(r#""op":"init""#) => {
                &[r#"{"res":"ok","perFileMax":1000000000}"#, r#"{"op":"ready","version":0}"#]
            }
            Message::Text(text) if text.contains(r#""op":"push""#) => {
                let after = text.split_once(r#""pieces":"#).unwrap().1;
                pieces = after.trim_end_matches('}').parse().unwrap();
                &[r#"{"res":"next"}"#]
            }
            Message::Binary(_) => {
                pieces -= 1;
                if pieces > 0 { &[r#"{"res":"next"}"#] } else { &[r#"{"res":"ok"}"#] }
            }
            _ => &[],
        };
        for answer in answers {
            websocket.send(Message::text(*answer)).await.unwrap();
        }
    }
}

/// The largest resident memory of this process so far, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_large_files_at_once_take_little_memory() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    let options = ClientOptions { api_url: format!("http://{host}"), ..ClientOptions::default() };
    let master = MasterKey::from_hex(&"42".repeat(32)).unwrap();
    let target = SessionTarget {
        token: Token::new("token"),
        vault_id: VaultId::try_new("vault").unwrap(),
        host,
        keys: VaultKeys::new(&master, EncryptionVersion::V3, "salt"),
    };
    let (feed, jobs) = mpsc::channel(8);
    let (results, mut taken) = mpsc::channel(8);
    for byte in 0..8 {
        feed.send(job(byte)).await.unwrap();
    }
    drop(feed);
    let before = peak();
    let pool = UploadPool {
        client: Client::new(options).unwrap(),
        target,
        version: 0,
        options: UploadOptions { connections: 4, ..UploadOptions::default() },
        source: Arc::new(Large),
        jobs,
        results,
        cancel: CancellationToken::new(),
        first_session: None,
    };
    let (summary, count) = tokio::join!(pool.run(), async {
        let mut count = 0;
        while let Some(result) = taken.recv().await {
            assert!(result.outcome.is_ok(), "{:?}", result.outcome);
            count += 1;
        }
        count
    });
    assert_eq!((summary.unwrap().bytes, count), (8 * SIZE, 8));
    let more = peak() - before;
    println!("{} MiB more for {} MiB", more >> 10, (8 * SIZE) >> 20);
    assert!(more < MOST_MEMORY, "{more} KiB more than before");
}
