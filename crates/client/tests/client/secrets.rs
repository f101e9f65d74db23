//! No secret appears in `Debug` output, in errors or in the log.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use obsync_client::{Client, Session, SessionTarget, Token};
use tracing_subscriber::fmt::MakeWriter;

use crate::bed::{Bed, EMAIL, limited};
use crate::collector::Run;
use crate::fetching::small_files;

/// Keeps all log lines.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The secret as text, and as a dump of bytes shows it.
fn forms(secret: &str) -> [String; 2] {
    [secret.to_owned(), secret.bytes().map(|byte| format!("{byte:02x}")).collect()]
}

#[tokio::test]
async fn no_debug_output_shows_a_secret() {
    let bed = Bed::start().await;
    let signed_in = bed.client.sign_in(EMAIL, &crate::bed::PASSWORD.into(), None).await.unwrap();
    let (session, _) = bed.listed().await;
    let shown = format!("{signed_in:?} {:?} {:?} {:?} {session:?}", bed.client, bed.token, bed.target());
    let key_hash = bed.keys().key_hash().as_str().to_owned();
    for secret in [signed_in.token.expose(), bed.token.expose(), &key_hash, crate::bed::PASSWORD] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test]
async fn no_error_shows_a_secret() {
    let bed = Bed::start().await;
    let mut errors = Vec::new();
    errors.push(bed.client.sign_in(EMAIL, &"a wrong hunter2".into(), Some("123456")).await.unwrap_err());
    let stranger = Token::new("a wrong hunter2");
    errors.push(bed.client.vaults(&stranger).await.unwrap_err());
    let target = SessionTarget { token: stranger.clone(), ..bed.target() };
    errors.push(Session::open(&bed.client, &target, 0, true).await.unwrap_err());
    for fault in ["rest-garbage", "rest-drop", "rest-status-error", "rest-overloaded"] {
        bed.fault(fault);
        errors.push(bed.client.vaults(&stranger).await.unwrap_err());
    }
    for error in errors {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("123456"), "{shown}");
    }
}

#[tokio::test]
async fn no_log_line_shows_a_secret_even_at_the_lowest_level() {
    let log = Log::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    // Lines of the other tests are included; they may not show secrets either.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let bed = Bed::start().await;
    small_files(&bed, 40);
    bed.fault("drop-in-content=next:2,corrupt-content=next:2,refuse-pull=next:2,unknown-ops");
    let mut run = Run::of(&bed).await;
    run.collector.averse_to = Some(run.jobs[5].path.clone());
    run.fetch(&bed).await.run.unwrap();
    let _ = limited(bed.client.sign_in(EMAIL, &"not it".into(), None)).await;
    let lines = log.text();
    assert!(lines.contains("opening a session"), "nothing was logged");
    let key_hash = bed.keys().key_hash().as_str().to_owned();
    for secret in [bed.token.expose(), &key_hash, crate::bed::PASSWORD, "the vault's password", "not it"] {
        for form in forms(secret) {
            assert!(!lines.contains(&form), "the log shows {secret:?}");
        }
    }
    // Titles of notes are private, too.
    assert!(!lines.contains("Folder 3"), "the log shows a title");
}

#[test]
fn the_websocket_librarys_own_log_of_whole_frames_is_compiled_out() {
    assert!(log::STATIC_MAX_LEVEL <= log::LevelFilter::Debug);
}

#[test]
fn clients_and_sessions_can_be_moved_to_and_shared_by_tasks() {
    fn shared<T: Send + Sync>() {}
    shared::<Client>();
    shared::<Session>();
    shared::<SessionTarget>();
}
