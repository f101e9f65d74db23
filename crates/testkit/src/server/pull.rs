//! Answers a pull: a header, then the content in pieces; and all faults of it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use obsync_protocol::{Answer, EncodedHash, Uid};
use rand::RngExt;

use super::session::Session;
use super::wire::End;
use crate::faults::{FaultControl, FaultKind, PieceSizes};
use crate::vault::{Entry, VaultHandle};

/// Delay of `trickle-content` after each byte.
const TRICKLE: Duration = Duration::from_millis(50);

/// An answer to a pull, before it is sent.
struct Delivery {
    uid: Uid,
    hash: Option<EncodedHash>,
    /// The announced size.
    size: u64,
    /// The announced number of pieces.
    pieces: u64,
    frames: Vec<Bytes>,
    /// Where the answer breaks off, if it does.
    cut: Option<Cut>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Drop,
    Stall,
}

impl Session {
    pub(super) async fn pull(&mut self, uid: Uid) -> Result<(), End> {
        let in_flight = self.pulls_in_flight();
        self.state.recorder.record(|stats| {
            stats.pulls += 1;
            stats.max_pulls_in_flight = stats.max_pulls_in_flight.max(in_flight);
        });
        self.unknown_ops().await?;
        if !self.state.faults.quiet() && self.misanswer(uid).await? {
            return Ok(());
        }
        let gone = Answer { deleted: true, ..Answer::default() };
        let Some(entry) = self.vault.entry(uid).filter(|entry| entry.is_live_file()) else {
            return self.send_answer(gone).await;
        };
        let content = match &entry.content {
            Some(content) => content.bytes().await.map_err(End::Disk)?,
            None if entry.size == 0 => Bytes::new(),
            None => return self.send_answer(gone).await,
        };
        let delivery = Delivery::of(&entry, content, &self.state.faults);
        self.deliver(delivery).await?;
        let content = (self.vault.record.id.clone(), uid);
        self.state.recorder.record(|stats| {
            stats.pulls_answered += 1;
            *stats.served.entry(content).or_default() += 1;
        });
        Ok(())
    }

    async fn deliver(&mut self, delivery: Delivery) -> Result<(), End> {
        let Delivery { uid, hash, size, pieces, frames, cut } = delivery;
        self.send_answer(Answer { hash, size: Some(size), pieces: Some(pieces), ..Answer::default() })
            .await?;
        let middle = cut.map(|_| frames.len() / 2);
        for (position, frame) in frames.into_iter().enumerate() {
            if !self.state.faults.quiet() {
                self.interrupt(uid).await?;
            }
            if middle == Some(position) {
                let half = frame.len() as u64 / 2;
                self.state.recorder.record(|stats| stats.content_bytes += half);
                self.wire.send_half(&frame).await?;
                return self.cut_off(cut == Some(Cut::Stall)).await;
            }
            let length = frame.len() as u64;
            match self.state.faults.strikes_content(FaultKind::TrickleContent, uid) {
                true => self.wire.send_slowly(&frame, TRICKLE).await?,
                false => self.wire.send_binary(frame).await?,
            }
            self.state.recorder.record(|stats| stats.content_bytes += length);
        }
        Ok(())
    }

    /// Sends the messages that faults put between the frames of a content.
    async fn interrupt(&mut self, uid: Uid) -> Result<(), End> {
        self.unknown_ops().await?;
        if self.state.faults.strikes_content(FaultKind::LivePushes, uid) {
            let vault = VaultHandle::new(self.vault.clone()).as_device("Live writer");
            let path = format!("Live {}.md", vault.version());
            if let Err(error) = vault.write(&path, format!("written during {uid}"), VaultHandle::now()) {
                tracing::warn!(%error, "a live push could not be made");
            }
            self.send_pushes().await?;
        }
        Ok(())
    }

    /// Answers a pull with something other than content, if such a fault strikes.
    async fn misanswer(&mut self, uid: Uid) -> Result<bool, End> {
        let state = self.state.clone();
        let strikes = |kind| state.faults.strikes_content(kind, uid);
        if strikes(FaultKind::StallPull) {
            self.cut_off(true).await?;
        } else if strikes(FaultKind::RefusePull) {
            self.send_answer(Answer::failed("The content cannot be read just now")).await?;
        } else if strikes(FaultKind::OverloadPull) {
            self.send_answer(Answer::failed("The server is overloaded, please try again later.")).await?;
        } else if strikes(FaultKind::ErrAnswer) {
            let err = Some("Internal error".to_owned());
            self.send_answer(Answer { err, ..Answer::default() }).await?;
        } else if strikes(FaultKind::BareAnswer) {
            self.send_answer(Answer::ok()).await?;
        } else if strikes(FaultKind::GoneAnswer) {
            self.send_answer(Answer { deleted: true, ..Answer::default() }).await?;
        } else if strikes(FaultKind::GarbageAnswer) {
            self.wire.send_text("{\"size\": 12, \"pieces\"").await?;
        } else if strikes(FaultKind::HugeText) {
            let padding = "x".repeat(4 * 1024 * 1024);
            self.wire.send_text(format!("{{\"op\":\"padding\",\"text\":\"{padding}\"}}")).await?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }
}

impl Delivery {
    /// The answer for an entry's content, with the striking faults applied.
    fn of(entry: &Entry, content: Bytes, faults: &FaultControl) -> Self {
        let hash = Some(entry.hash.clone());
        if faults.quiet() {
            return Self::new(entry.uid, hash, content.len() as u64, pieces(&content, PieceSizes::default()));
        }
        let content = spoiled(entry.uid, content, faults);
        let sizes = faults.read(|faults| faults.pieces);
        let frames = match sizes {
            PieceSizes::Random(most) => random_pieces(entry.uid, &content, most, faults),
            sizes => pieces(&content, sizes),
        };
        let mut delivery = Self::new(entry.uid, hash, content.len() as u64, frames);
        delivery.spoil(faults);
        delivery
    }

    fn new(uid: Uid, hash: Option<EncodedHash>, size: u64, frames: Vec<Bytes>) -> Self {
        Self { uid, hash, size, pieces: frames.len() as u64, frames, cut: None }
    }

    fn spoil(&mut self, faults: &FaultControl) {
        let uid = self.uid;
        let strikes = |kind| faults.strikes_content(kind, uid);
        if strikes(FaultKind::WrongHash) {
            self.hash = self.hash.as_ref().map(altered);
        }
        if strikes(FaultKind::MissingHash) {
            self.hash = None;
        }
        if strikes(FaultKind::LieSize) {
            let longer = faults.dice(FaultKind::LieSize, uid.0).random_bool(0.5);
            self.size = if longer { self.size + 1 } else { self.size.saturating_sub(1) };
        }
        if strikes(FaultKind::HugeHeader) {
            (self.size, self.pieces) = (1 << 52, 1 << 31);
        }
        if strikes(FaultKind::ShortPiece)
            && let Some(last) = self.frames.last_mut()
        {
            last.truncate(last.len().saturating_sub(1));
        }
        if strikes(FaultKind::ExtraPiece) {
            self.frames.push(Bytes::from_static(b"one piece too many"));
        }
        if strikes(FaultKind::MissingPiece) {
            self.frames.pop();
        }
        if self.frames.is_empty() {
            return;
        }
        if strikes(FaultKind::DropInContent) {
            self.cut = Some(Cut::Drop);
        } else if strikes(FaultKind::StallInContent) {
            self.cut = Some(Cut::Stall);
        }
    }
}

/// The content, corrupted or truncated if those faults strike.
fn spoiled(uid: Uid, content: Bytes, faults: &FaultControl) -> Bytes {
    if content.is_empty() {
        return content;
    }
    if faults.strikes_content(FaultKind::CorruptContent, uid) {
        let mut changed = BytesMut::from(&content[..]);
        let at = faults.dice(FaultKind::CorruptContent, uid.0).random_range(0..changed.len());
        changed[at] ^= 0x20;
        return changed.freeze();
    }
    if faults.strikes_content(FaultKind::TruncateContent, uid) {
        let length = faults.dice(FaultKind::TruncateContent, uid.0).random_range(0..content.len());
        return content.slice(..length);
    }
    content
}

/// The content in frames; none for no content.
fn pieces(content: &Bytes, sizes: PieceSizes) -> Vec<Bytes> {
    let most = match sizes {
        PieceSizes::Fixed(bytes) | PieceSizes::Random(bytes) => (bytes as usize).max(1),
        PieceSizes::Whole => content.len().max(1),
    };
    (0..content.len())
        .step_by(most)
        .map(|start| content.slice(start..content.len().min(start + most)))
        .collect()
}

/// The content in frames of 0 to `most` bytes.
fn random_pieces(uid: Uid, content: &Bytes, most: u32, faults: &FaultControl) -> Vec<Bytes> {
    // A separate constant: the sizes of pieces are a setting and no fault with a number.
    let mut dice = faults.dice(FaultKind::ExtraPiece, !uid.0);
    let mut rest = content.clone();
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let length = dice.random_range(0..=most as usize).min(rest.len());
        frames.push(rest.split_to(length));
    }
    frames
}

/// Another hash of the same length.
fn altered(hash: &EncodedHash) -> EncodedHash {
    EncodedHash::from(hash.as_str().chars().rev().collect::<String>())
}
