//! Counts the frames of a WebSocket connection from its bytes, below the WebSocket library.
//!
//! The library answers pings and joins fragments without returning to its caller, so a server that sends
//! nothing else could keep it busy for ever. This code sees each header (RFC 6455 section 5.2) before the
//! library: control frames and empty fragments between two data frames are limited, and the bytes of data
//! frames are counted as the measure of progress and speed.

use std::fmt;
use std::time::{Duration, Instant};

use obsync_protocol::limits::{CONTROL_FRAMES, CONTROL_FRAMES_PER_SECOND};

/// The longest header: two bytes, a length of eight, a mask of four.
const LONGEST_HEADER: usize = 14;

const CONTINUATION: u8 = 0;
const BINARY: u8 = 2;
const FIRST_CONTROL: u8 = 8;

/// More control frames or empty fragments arrived than are accepted between two data frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flood;

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it sends control frames or empty fragments without end")
    }
}

impl std::error::Error for Flood {}

/// Parses the frames of one direction of a connection.
#[derive(Debug)]
pub(crate) struct Frames {
    state: State,
    /// The message under way is binary.
    binary: bool,
    /// Control frames and empty fragments since `since`.
    idle: u64,
    /// When the last data frame began.
    since: Instant,
    binary_bytes: u64,
    last_binary: Instant,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In the handshake response, up to its first empty line.
    Handshake {
        begun: bool,
        line_is_empty: bool,
    },
    Header {
        bytes: [u8; LONGEST_HEADER],
        length: usize,
    },
    Payload {
        left: u64,
        kind: Kind,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Control,
    Text,
    Binary,
}

impl State {
    const HEADER: Self = Self::Header { bytes: [0; LONGEST_HEADER], length: 0 };
}

impl Frames {
    /// For a connection that begins with the handshake response.
    pub(crate) fn after_handshake(now: Instant) -> Self {
        Self { state: State::Handshake { begun: false, line_is_empty: true }, ..Self::new(now) }
    }

    /// For a connection that begins with a frame.
    pub(crate) fn new(now: Instant) -> Self {
        Self { state: State::HEADER, binary: false, idle: 0, since: now, binary_bytes: 0, last_binary: now }
    }

    /// Bytes of binary messages so far, without headers.
    pub(crate) fn binary_bytes(&self) -> u64 {
        self.binary_bytes
    }

    /// When the last byte of a binary message arrived; before the first one, when the connection began.
    pub(crate) fn last_binary(&self) -> Instant {
        self.last_binary
    }

    /// Records received bytes.
    pub(crate) fn take(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Flood> {
        while let Some((&byte, rest)) = bytes.split_first() {
            match &mut self.state {
                State::Handshake { begun, line_is_empty } => {
                    // As in the library's HTTP parser: empty lines before the first one do not count.
                    match byte {
                        b'\n' if *begun && *line_is_empty => self.state = State::HEADER,
                        b'\n' => *line_is_empty = true,
                        b'\r' => {}
                        _ => (*begun, *line_is_empty) = (true, false),
                    }
                    bytes = rest;
                }
                State::Header { bytes: header, length } => {
                    if let Some(place) = header.get_mut(*length) {
                        *place = byte;
                        *length += 1;
                    }
                    bytes = rest;
                    if *length >= header_length(header, *length) {
                        let header = *header;
                        self.begin(&header, now)?;
                    }
                }
                State::Payload { left, kind } => {
                    let count = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= count as u64;
                    if *kind == Kind::Binary {
                        self.binary_bytes += count as u64;
                        self.last_binary = now;
                    }
                    if *left == 0 {
                        self.state = State::HEADER;
                    }
                    bytes = &bytes[count..];
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, header: &[u8; LONGEST_HEADER], now: Instant) -> Result<(), Flood> {
        let (is_final, opcode, length) = (header[0] & 0x80 != 0, header[0] & 0x0f, payload_length(header));
        if opcode != CONTINUATION && opcode < FIRST_CONTROL {
            self.binary = opcode == BINARY;
        }
        // An empty piece of content is a separate message; pieces have their own limit.
        let is_piece = opcode == BINARY && is_final;
        let is_idle = opcode >= FIRST_CONTROL || (length == 0 && !is_piece);
        if is_idle {
            self.idle += 1;
            if self.idle > accepted(now.saturating_duration_since(self.since)) {
                return Err(Flood);
            }
        } else {
            (self.idle, self.since) = (0, now);
        }
        let kind = match opcode {
            FIRST_CONTROL.. => Kind::Control,
            _ if self.binary => Kind::Binary,
            _ => Kind::Text,
        };
        self.state = if length == 0 { State::HEADER } else { State::Payload { left: length, kind } };
        Ok(())
    }
}

/// Control frames and empty fragments that are accepted without a data frame within this time.
fn accepted(time: Duration) -> u64 {
    CONTROL_FRAMES.saturating_add(CONTROL_FRAMES_PER_SECOND.saturating_mul(time.as_secs()))
}

/// The length of a header, as far as its first `known` bytes determine it.
fn header_length(header: &[u8; LONGEST_HEADER], known: usize) -> usize {
    if known < 2 {
        return 2;
    }
    let length = match header[1] & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask = if header[1] & 0x80 == 0 { 0 } else { 4 };
    2 + length + mask
}

fn payload_length(header: &[u8; LONGEST_HEADER]) -> u64 {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    match header[1] & 0x7f {
        126 => number(&header[2..4]),
        127 => number(&header[2..10]),
        short => short.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: [u8; 4] = [0x89, 2, b'h', b'i'];
    const EMPTY_FRAGMENT: [u8; 2] = [0x00, 0];

    /// A binary frame of so many bytes.
    fn binary(length: u16) -> Vec<u8> {
        let mut frame = vec![0x82, 126];
        frame.extend(length.to_be_bytes());
        frame.resize(4 + usize::from(length), 7);
        frame
    }

    fn take_all(frames: &mut Frames, frame: &[u8], times: usize, now: Instant) -> Result<(), Flood> {
        (0..times).try_for_each(|_| frames.take(frame, now))
    }

    #[test]
    fn frames_are_followed_wherever_their_bytes_are_cut() {
        let now = Instant::now();
        let stream =
            [b"HTTP/1.1 101 x\r\nA: b\r\n\r\n".as_slice(), &PING, &binary(300), &[0x81, 1, b'x']].concat();
        for cut in 1..stream.len() {
            let mut frames = Frames::after_handshake(now);
            for part in stream.chunks(cut) {
                frames.take(part, now).unwrap();
            }
            assert_eq!(frames.binary_bytes(), 300, "cut every {cut} bytes");
            assert_eq!(frames.idle, 0);
        }
    }

    #[test]
    fn control_frames_between_two_data_frames_have_a_limit() {
        let now = Instant::now();
        for idle in [PING.as_slice(), &EMPTY_FRAGMENT, &[0x8a, 0]] {
            let mut frames = Frames::new(now);
            for _ in 0..3 {
                take_all(&mut frames, idle, 1000, now).unwrap();
                frames.take(&binary(1), now).unwrap();
            }
            take_all(&mut frames, idle, 1000, now).unwrap();
            assert!(frames.take(idle, now).is_err());
        }
    }

    #[test]
    fn ten_control_frames_a_second_are_accepted_for_ever() {
        let begun = Instant::now();
        let mut frames = Frames::new(begun);
        for second in 0..10_000 {
            take_all(&mut frames, &PING, 10, begun + Duration::from_secs(second)).unwrap();
        }
        assert!(take_all(&mut frames, &PING, 1100, begun + Duration::from_secs(10_000)).is_err());
    }

    #[test]
    fn empty_pieces_are_no_empty_fragments() {
        let now = Instant::now();
        take_all(&mut Frames::new(now), &[0x82, 0], 5000, now).unwrap();
    }
}
