//! One pull: the request, its answer, and the pieces of content that follow.

use bytes::Bytes;
use obsync_protocol::{ClientMessage, EncodedHash, Uid};

use super::{Event, MAX_TEXT, Session};
use crate::error::ClientError;
use crate::transport::MAX_MESSAGE;

/// How many pieces without a byte are accepted in any case.
const MOST_EMPTY_PIECES: u64 = 1024;

/// What the server says to a pull.
pub(crate) enum PullAnswer {
    /// The content is not there any more.
    Gone,
    /// The server's reason for not giving it.
    Refused(String),
    /// The content follows.
    Content(ContentHeader),
}

/// What is announced before the pieces come.
#[derive(Clone, Debug)]
pub(crate) struct ContentHeader {
    pub(crate) hash: EncodedHash,
    pub(crate) size: u64,
    pub(crate) pieces: u64,
}

/// The encrypted content of one file while it arrives.
///
/// The pieces are checked against what the server announced; the plaintext has to be checked by whoever decrypts
/// them, by the cipher's tag and the content hash. Small pieces share a buffer with their neighbours: do not keep
/// them.
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
    /// Takes a pull for sending. Requests are answered in their order.
    pub(crate) fn queue_pull(&mut self, uid: Uid) -> Result<(), ClientError> {
        self.wire.queue(&ClientMessage::Pull { uid })
    }

    /// Sends what is queued.
    pub(crate) async fn flush(&mut self) -> Result<(), ClientError> {
        self.wire.flush().await
    }

    /// The answer to the oldest pull that has none yet.
    pub(crate) async fn pull_answer(&mut self) -> Result<PullAnswer, ClientError> {
        let answer = self.answer("the server's answer to a request for content", MAX_TEXT).await?;
        if let Some(reason) = answer.error() {
            return Ok(PullAnswer::Refused(reason));
        }
        if answer.deleted {
            return Ok(PullAnswer::Gone);
        }
        let (Some(size), Some(pieces)) = (answer.size, answer.pieces) else {
            // The official client takes this for an empty file, and writes one over good content.
            return Err(ClientError::protocol("an answer announces no content, and no error either"));
        };
        let header = ContentHeader { hash: answer.hash.unwrap_or_default(), size, pieces };
        header.check()?;
        Ok(PullAnswer::Content(header))
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
    /// Refuses numbers that cannot both be true, before anything is received on their strength.
    fn check(&self) -> Result<(), ClientError> {
        let largest = self.pieces.saturating_mul(MAX_MESSAGE as u64);
        // Pieces may have any length (protocol.md section 3), so some may be empty, but not without end.
        let most_pieces = self.size.saturating_mul(4).saturating_add(MOST_EMPTY_PIECES);
        if self.size > largest || self.pieces > most_pieces {
            return Err(ClientError::protocol(format!(
                "{} bytes of content cannot come in {} pieces",
                self.size, self.pieces
            )));
        }
        Ok(())
    }
}

impl Content<'_> {
    /// The size of all pieces together, in bytes, as the server announced it.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The number of pieces, as the server announced it.
    #[must_use]
    pub fn pieces(&self) -> u64 {
        self.pieces
    }

    /// The next piece, or `None` after the last.
    ///
    /// # Errors
    /// [`ClientError::Protocol`] when there are fewer pieces than announced or their sizes do not add up,
    /// [`ClientError::TimedOut`], [`ClientError::ConnectionLost`]. The pool asks for the file again by itself, whatever
    /// a receiver makes of the error.
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
            match self.session.event(&due, MAX_TEXT).await? {
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

    /// How many bytes are still to come.
    pub(crate) fn remaining(&self) -> u64 {
        self.size - self.received.min(self.size)
    }

    /// Whether the last piece was taken.
    pub(crate) fn is_complete(&self) -> bool {
        self.taken == self.pieces
    }

    /// How many bytes came.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// What went wrong while the pieces came, if anything did.
    pub(crate) fn failure(&self) -> Option<&ClientError> {
        self.failure.as_ref()
    }

    /// Receives the rest for nobody, so that the next answer can be read.
    pub(crate) async fn drain(&mut self) -> Result<(), ClientError> {
        while self.next_piece().await?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(size: u64, pieces: u64) -> bool {
        ContentHeader { hash: EncodedHash::from(""), size, pieces }.check().is_ok()
    }

    #[test]
    fn numbers_that_can_be_true_are_accepted() {
        for (size, pieces) in [(0, 0), (0, 1), (28, 1), (29, 29), (29, 40), (2 << 20, 1), (208_666_652, 100)]
        {
            assert!(check(size, pieces), "{size} bytes in {pieces} pieces");
        }
    }

    #[test]
    fn numbers_that_cannot_be_true_are_refused_before_anything_is_received() {
        for (size, pieces) in [(1, 0), ((16 << 20) + 1, 1), (u64::MAX, 1 << 30), (0, 1 << 30), (28, u64::MAX)]
        {
            assert!(!check(size, pieces), "{size} bytes in {pieces} pieces");
        }
    }
}
