//! The output and error output of a function, line by line, in the order written.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::unix::pipe;

use super::super::http::Tasks;
use super::runtime::LogSink;

/// Most log lines kept of one invocation; a function that writes more is broken.
const LINES_MAX: usize = 200_000;

/// Most log bytes kept of one invocation.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// A longer line is cut, in bytes: CloudWatch takes events of 256 KiB.
const LINE_MAX: usize = 256 * 1024;

/// Bytes read at a time.
const READ_SIZE: usize = 16 * 1024;

/// Reads at the end of an invocation: more than a pipe holds, and limited in case the program is still
/// writing.
const LAST_READS: usize = 64;

#[derive(Default)]
struct Lines {
    partial: Vec<u8>,
    whole: Vec<String>,
    /// The bytes of the whole lines.
    bytes: usize,
}

/// The reading end of the pipe that a program writes to.
pub(super) struct Logs {
    receiver: pipe::Receiver,
    lines: Mutex<Lines>,
    sink: Option<LogSink>,
}

impl Logs {
    /// A pipe: the reading end here, and the writing end for the program.
    pub(super) fn open(tasks: &Tasks, sink: Option<LogSink>) -> io::Result<(Arc<Self>, OwnedFd)> {
        let (sender, receiver) = pipe::pipe()?;
        let logs = Arc::new(Self { receiver, lines: Mutex::default(), sink });
        tasks.spawn(follow(Arc::clone(&logs)));
        Ok((logs, sender.into_blocking_fd()?))
    }

    /// Everything written since the last time, an unfinished line included.
    pub(super) fn take(&self) -> Vec<String> {
        let mut lines = self.lock();
        // The runtime may not know yet that there is something to read, so the pipe itself is read.
        for _ in 0..LAST_READS {
            let Ok(Some(bytes)) = self.read() else {
                break;
            };
            self.add(&mut lines, &bytes);
        }
        if !lines.partial.is_empty() {
            self.add(&mut lines, b"\n");
        }
        lines.bytes = 0;
        std::mem::take(&mut lines.whole)
    }

    /// Reads available bytes without waiting; none at the end.
    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; READ_SIZE];
        let count = rustix::io::read(&self.receiver, &mut bytes)?;
        bytes.truncate(count);
        Ok((count > 0).then_some(bytes))
    }

    fn add(&self, lines: &mut Lines, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            lines.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || lines.partial.len() >= LINE_MAX {
                self.end_line(lines);
            }
        }
    }

    fn end_line(&self, lines: &mut Lines) {
        let line = String::from_utf8_lossy(&std::mem::take(&mut lines.partial)).trim_end().to_owned();
        if let Some(sink) = &self.sink {
            sink.line(&line);
        }
        if lines.whole.len() < LINES_MAX && lines.bytes < BYTES_MAX {
            lines.bytes += line.len();
            lines.whole.push(line);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the pipe from filling up, until the program has closed it.
async fn follow(logs: Arc<Logs>) {
    while logs.receiver.readable().await.is_ok() {
        // Locked before reading: the next reader of lines finds these.
        let mut lines = logs.lock();
        match logs.receiver.try_io(|| logs.read()) {
            Ok(Some(bytes)) => logs.add(&mut lines, &bytes),
            Ok(None) => return,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                tracing::warn!(%error, "the output of a function cannot be read");
                return;
            }
        }
    }
}
