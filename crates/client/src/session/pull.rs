//! One pull: the request, its answer, and the pieces of content after it.

use std::future::Future;

use bytes::Bytes;
use obsync_protocol::limits::{BYTES_PER_CONTENT_FRAME, CONTENT_FRAMES, TEXT_MESSAGE};
use obsync_protocol::{ClientMessage, EncodedHash, Uid};

use super::{Event, Session};
use crate::error::ClientError;

/// The server's answer to a pull.
pub(crate) enum PullAnswer {
    /// The content is gone.
    Gone,
    /// The server's reason for a refusal.
    Refused(String),
    /// The content follows.
    Content(ContentHeader),
}

/// The announcement before the pieces.
#[derive(Clone, Debug)]
pub(crate) struct ContentHeader {
    pub(crate) hash: EncodedHash,
    pub(crate) size: u64,
    pub(crate) pieces: u64,
}

/// The encrypted content of one file while it arrives.
///
/// The pieces are checked against the server's announcement. Whoever decrypts them has to check the
/// plaintext, by the cipher's tag and the content hash. Small pieces share a buffer with their neighbours: do
/// not keep them.
#[derive(Debug)]
pub struct Content<'session> {
    session: &'session mut Session,
    size: u64,
    pieces: u64,
    received: u64,
    taken: u64,
    failure: Option<ClientError>,
}

impl Session {
    /// Queues a pull. Requests are answered in order.
    pub(crate) fn queue_pull(&mut self, uid: Uid) -> Result<(), ClientError> {
        self.wire.queue(&ClientMessage::Pull { uid })
    }

    /// Sends what is queued.
    pub(crate) async fn flush(&mut self) -> Result<(), ClientError> {
        self.wire.flush().await
    }

    /// Receives the answer to the oldest unanswered pull.
    pub(crate) async fn pull_answer(&mut self) -> Result<PullAnswer, ClientError> {
        let answer = self.answer("the server's answer to a request for content", TEXT_MESSAGE).await?;
        if let Some(reason) = answer.error() {
            return Ok(PullAnswer::Refused(reason));
        }
        if answer.deleted {
            return Ok(PullAnswer::Gone);
        }
        let (Some(size), Some(pieces)) = (answer.size, answer.pieces) else {
            // The official client takes this for an empty file, and overwrites good content with it.
            return Err(ClientError::protocol("an answer announces no content, and no error either"));
        };
        Ok(PullAnswer::Content(ContentHeader { hash: answer.hash.unwrap_or_default(), size, pieces }))
    }

    /// The content that `header` announced.
    pub(crate) fn content(&mut self, header: &ContentHeader) -> Content<'_> {
        Content {
            session: self,
            size: header.size,
            pieces: header.pieces,
            received: 0,
            taken: 0,
            failure: None,
        }
    }
}

impl ContentHeader {
    /// True if this many bytes can come in this many pieces. Pieces may have any length (docs/PROTOCOL.md
    /// section 3), so some may be short or empty, but not without limit.
    pub(crate) fn has_possible_pieces(&self) -> bool {
        let most = CONTENT_FRAMES.saturating_add(self.size / BYTES_PER_CONTENT_FRAME);
        self.pieces <= most && (self.pieces > 0 || self.size == 0)
    }
}

impl Content<'_> {
    /// The total size of all pieces in bytes, as announced.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The number of pieces, as announced.
    #[must_use]
    pub fn pieces(&self) -> u64 {
        self.pieces
    }

    /// The next piece, or `None` after the last.
    ///
    /// # Errors
    /// [`ClientError::Protocol`] when there are fewer pieces than announced or their sizes do not add up,
    /// [`ClientError::TimedOut`], [`ClientError::ConnectionLost`]. The pool requests the file again by
    /// itself, whatever a receiver does with the error.
    pub async fn next_piece(&mut self) -> Result<Option<Bytes>, ClientError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if self.taken == self.pieces {
            return Ok(None);
        }
        match self.receive().await {
            Ok(piece) => Ok(Some(piece)),
            Err(error) => {
                self.failure = Some(error.clone());
                Err(error)
            }
        }
    }

    async fn receive(&mut self) -> Result<Bytes, ClientError> {
        let due = self.session.wire.piece_due("the next piece of a file");
        let piece = loop {
            match self.session.event(&due, TEXT_MESSAGE).await? {
                Event::Piece(piece) => break piece,
                Event::Push(_) | Event::Ready | Event::Nothing => {}
                Event::Answer(_) => {
                    return Err(ClientError::protocol("an answer came where a piece of content was due"));
                }
            }
        };
        self.taken += 1;
        self.received += piece.len() as u64;
        let complete = self.taken == self.pieces;
        if self.received > self.size || (complete && self.received < self.size) {
            return Err(ClientError::protocol(format!(
                "the pieces of a file do not add up to the announced {} bytes",
                self.size
            )));
        }
        Ok(piece)
    }

    /// Does `work`, such as writing a piece, and sends keep-alives meanwhile, so that a destination slower
    /// than the server's patience does not cost the connection.
    pub async fn keep_alive_while<T>(&mut self, work: impl Future<Output = T>) -> T {
        self.session.wire.keep_alive_while(work).await
    }

    /// Bytes still to come.
    pub(crate) fn remaining(&self) -> u64 {
        self.size - self.received.min(self.size)
    }

    /// True once the last piece was taken.
    pub(crate) fn is_complete(&self) -> bool {
        self.taken == self.pieces
    }

    /// Bytes received.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// The failure while receiving the pieces, if there was one.
    pub(crate) fn failure(&self) -> Option<&ClientError> {
        self.failure.as_ref()
    }

    /// Receives and discards the rest, so that the next answer can be read.
    pub(crate) async fn drain(&mut self) -> Result<(), ClientError> {
        while self.next_piece().await?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_possible(size: u64, pieces: u64) -> bool {
        ContentHeader { hash: EncodedHash::from(""), size, pieces }.has_possible_pieces()
    }

    #[test]
    fn pieces_of_any_length_are_possible() {
        // 13 bytes each are possible up to 14 KB: 1,024 pieces and one more for each 256 bytes.
        for (size, pieces) in
            [(0, 0), (0, 1), (28, 1), (29, 29), (29, 1024), (14_000, 1077), (2 << 20, 1), (208_666_652, 100)]
        {
            assert!(is_possible(size, pieces), "{size} bytes in {pieces} pieces");
        }
    }

    #[test]
    fn pieces_without_end_are_not() {
        for (size, pieces) in [(1, 0), (255, 1025), (1 << 20, 5121), (0, 1 << 30), (28, u64::MAX)] {
            assert!(!is_possible(size, pieces), "{size} bytes in {pieces} pieces");
        }
        assert!(is_possible(1 << 20, 5120));
    }
}
