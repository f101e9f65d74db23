//! Faults of the development server, all disabled by default.
//!
//! A fault has a name for command lines (`corrupt-content`), a field of [`Faults`] (`corrupt_content`) and a
//! [`Chance`] that says when it strikes. Other settings (a seed, a latency, the sizes of pieces) are fields
//! and names beside them. [`Faults::set`] accepts both, [`Faults::names`] lists them for a help text.

mod chance;
mod control;
mod flood;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

pub use chance::Chance;
pub use control::FaultControl;
pub use flood::{Flood, FloodKind};

/// An invalid fault setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// No fault or setting has this name.
    #[error("there is no fault named {name:?}; the names are listed by Faults::names")]
    Name {
        /// The given name.
        name: String,
    },
    /// A chance that is not in the format of [`Chance`].
    #[error(
        "{text:?} does not say when a fault strikes; write always, 0.1, 10%, next:3, after:5, at-most:2 or uid:7, joined by +"
    )]
    Chance {
        /// The given chance.
        text: String,
    },
    /// A setting with an invalid value.
    #[error("{value:?} is no value for {name}; {expected}")]
    Value {
        /// The name of the setting.
        name: &'static str,
        /// The given value.
        value: String,
        /// Its valid values.
        expected: &'static str,
    },
}

/// The lengths of the binary frames that carry content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceSizes {
    /// Each this many bytes, the last one shorter. The service sends 2 MiB.
    Fixed(u32),
    /// Drawn between 0 and this many bytes, by the seed and the uid.
    Random(u32),
    /// The whole content in one frame.
    Whole,
}

/// The length of the service's pieces (docs/PROTOCOL.md section 3), in bytes.
pub const PIECE_SIZE: u32 = 2 * 1024 * 1024;

impl Default for PieceSizes {
    fn default() -> Self {
        Self::Fixed(PIECE_SIZE)
    }
}

/// Defines the struct of faults, their kinds and their names from one table, so that none can lack a name.
macro_rules! faults {
    ($( $(#[doc = $help:literal])+ $field:ident $kind:ident $name:literal, )+) => {
        /// Faults of the development server, and when they strike. The default is a faultless server.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Faults {
            /// Seed of the random draws (name `seed`).
            pub seed: u64,
            /// Delay of all answers (name `latency`, such as `20ms`).
            pub latency: Duration,
            /// The service's time for each request; those of one connection are sequential (name
            /// `service-time`, such as `20ms`). Unlike `latency`, requests under way on one connection do not
            /// share it.
            pub service_time: Duration,
            /// The lengths of the frames of content (name `pieces`: bytes, `random:MAX` or `whole`).
            pub pieces: PieceSizes,
            /// Number of frames that a connection struck by `drop_after_frames` sends (name `frames`).
            pub frames: u64,
            /// The HTTP status of `rest_status_error` (name `rest-status`).
            pub rest_status: u16,
            /// The only REST path affected by REST faults, such as `/vault/list` (name `rest-path`).
            pub rest_path: Option<String>,
            /// Seconds by which the `Date` of REST answers is ahead of the clock; negative if behind (name
            /// `date-shift`).
            pub date_shift: i32,
            /// The text of `init_error` (name `init-error-text`).
            pub init_error_text: String,
            /// The text of `refuse_push` (name `refuse-push-text`).
            pub refuse_push_text: String,
            /// The largest file in bytes of plaintext, instead of the server's own limit (name `per-file-max`).
            pub per_file_max: Option<u64>,
            /// An account's quota in bytes of encrypted content: a push of a file beyond it is refused (name
            /// `storage-limit`).
            pub storage_limit: Option<u64>,
            /// Number of requests for a listing or a history after which a late push is recorded (name
            /// `late-after`).
            pub late_after: u64,
            /// The `host` in `/vault/list` instead of the server's own (name `listing-host`).
            pub listing_host: Option<String>,
            /// The name of every vault in `/vault/list` (name `listing-name`).
            pub listing_name: Option<String>,
            /// The password of every vault in `/vault/list` (name `listing-password`).
            pub listing_password: Option<String>,
            /// The salt of every vault in `/vault/list` (name `listing-salt`).
            pub listing_salt: Option<String>,
            /// The version in `ready` instead of the vault's own (name `ready-version`).
            pub ready_version: Option<u64>,
            /// Entries of each listing after those of the vault (name `flood`).
            pub flood: Option<Flood>,
            $( $(#[doc = $help])+ pub $field: Chance, )+
        }

        /// The faults that strike by chance.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum FaultKind { $( $kind, )+ }

        impl FaultKind {
            const ALL: &[Self] = &[$( Self::$kind, )+];

            pub(crate) fn name(self) -> &'static str {
                match self { $( Self::$kind => $name, )+ }
            }

            fn help(self) -> &'static str {
                match self { $( Self::$kind => concat!($( $help ),+), )+ }
            }
        }

        impl Default for Faults {
            fn default() -> Self {
                Self {
                    seed: 0,
                    latency: Duration::ZERO,
                    service_time: Duration::ZERO,
                    pieces: PieceSizes::default(),
                    frames: 100,
                    rest_status: 503,
                    rest_path: None,
                    date_shift: 0,
                    init_error_text: "Authentication failed".to_owned(),
                    refuse_push_text: "The change cannot be taken just now".to_owned(),
                    per_file_max: None,
                    storage_limit: None,
                    late_after: 1,
                    listing_host: None,
                    listing_name: None,
                    listing_password: None,
                    listing_salt: None,
                    ready_version: None,
                    flood: None,
                    $( $field: Chance::never(), )+
                }
            }
        }

        impl Faults {
            pub(crate) fn chance(&self, kind: FaultKind) -> &Chance {
                match kind { $( FaultKind::$kind => &self.$field, )+ }
            }

            fn chance_mut(&mut self, kind: FaultKind) -> &mut Chance {
                match kind { $( FaultKind::$kind => &mut self.$field, )+ }
            }
        }
    };
}

faults! {
    /// A WebSocket connection is dropped once it has sent `frames` frames.
    drop_after_frames DropAfterFrames "drop-after-frames",
    /// The connection is dropped instead of answering a request.
    drop_on_request DropOnRequest "drop-on-request",
    /// The connection is dropped in the middle of a file, in the middle of a frame.
    drop_in_content DropInContent "drop-in-content",
    /// The connection is dropped in the middle of the listing.
    drop_in_listing DropInListing "drop-in-listing",
    /// A request is never answered, nor is any later one on that connection.
    stall_request StallRequest "stall-request",
    /// The same for the pull of a content.
    stall_pull StallPull "stall-pull",
    /// The same for the history of a path.
    stall_history StallHistory "stall-history",
    /// The content stops in the middle of a file and nothing more comes.
    stall_in_content StallInContent "stall-in-content",
    /// The listing stops in the middle and `ready` never comes.
    stall_in_listing StallInListing "stall-in-listing",
    /// The listing begins with a ping, and pings follow without end; their answers are not read.
    flood_pings FloodPings "flood-pings",
    /// The listing begins with a pong that nobody asked for, and pongs follow without end.
    flood_pongs FloodPongs "flood-pongs",
    /// The listing begins with a message of empty fragments that has no end.
    flood_fragments FloodFragments "flood-fragments",
    /// The listing has no end: folders without a name that could be read, one after the other.
    endless_listing EndlessListing "endless-listing",
    /// The content comes a byte every 50 milliseconds.
    trickle_content TrickleContent "trickle-content",
    /// `init` is never answered.
    stall_init StallInit "stall-init",
    /// `init` is answered by an error with the text `init-error-text`.
    init_error InitError "init-error",
    /// The answer to `init` has none of its optional fields.
    init_bare InitBare "init-bare",
    /// A byte of the content is changed.
    corrupt_content CorruptContent "corrupt-content",
    /// The content ends early, and the header says so: it is well-formed but not the file.
    truncate_content TruncateContent "truncate-content",
    /// The last frame is shorter than the header promised.
    short_piece ShortPiece "short-piece",
    /// One frame more than announced is sent.
    extra_piece ExtraPiece "extra-piece",
    /// The last frame is left out.
    missing_piece MissingPiece "missing-piece",
    /// The header's `size` is not that of the frames, nor of the listing.
    lie_size LieSize "lie-size",
    /// The header announces an absurd size and number of pieces (memory must not be taken for it).
    huge_header HugeHeader "huge-header",
    /// The header carries the hash of another content.
    wrong_hash WrongHash "wrong-hash",
    /// The header carries no hash.
    missing_hash MissingHash "missing-hash",
    /// Two pipelined pulls are answered in the wrong order (it waits for the second request to come).
    swap_answers SwapAnswers "swap-answers",
    /// A pull is refused: `res` "err" with `msg`.
    refuse_pull RefusePull "refuse-pull",
    /// A pull is refused because the server is overloaded.
    overload_pull OverloadPull "overload-pull",
    /// A pull is answered by `err` alone.
    err_answer ErrAnswer "err-answer",
    /// A pull is answered without `size` and `pieces`.
    bare_answer BareAnswer "bare-answer",
    /// A pull of something that exists is answered `deleted`.
    gone_answer GoneAnswer "gone-answer",
    /// A pull is answered by text that is no JSON.
    garbage_answer GarbageAnswer "garbage-answer",
    /// A pull is answered by a text message of four megabytes.
    huge_text HugeText "huge-text",
    /// A push is refused: `res` "err" with the text `refuse-push-text`.
    refuse_push RefusePush "refuse-push",
    /// A push of a file that has a content is refused because the account is full; all other pushes are taken.
    vault_full VaultFull "vault-full",
    /// The connection is dropped in the middle of an upload, after its first piece.
    drop_in_upload DropInUpload "drop-in-upload",
    /// An upload is answered no more after its first piece, nor is any later request on that connection.
    stall_in_upload StallInUpload "stall-in-upload",
    /// A push is recorded, and the connection dropped before its echo and its answer.
    lose_echo LoseEcho "lose-echo",
    /// A push is recorded and echoed, and the connection dropped before its answer.
    lose_answer LoseAnswer "lose-answer",
    /// The echo of a push comes after its `ok`.
    late_echo LateEcho "late-echo",
    /// The echo of a push comes twice.
    double_echo DoubleEcho "double-echo",
    /// A push is recorded only after `late-after` requests for a listing or a `history`; its connection is dropped at once.
    late_push LatePush "late-push",
    /// Another device writes the path of a push just before that is recorded.
    rival_push RivalPush "rival-push",
    /// A push with `relatedpath` leaves the old path as it is.
    keep_related KeepRelated "keep-related",
    /// Messages with unknown `op`s, and a `pong`, come before answers and between frames of content. The
    /// official client 0.0.14 takes one before an answer for an empty file, and uploads that.
    unknown_ops UnknownOps "unknown-ops",
    /// Another device writes a note in the middle of a content, and its push comes between the frames.
    live_pushes LivePushes "live-pushes",
    /// Entries with hostile paths (`..`, absolute, NUL, a backslash, ...) are in the vault when it is listed.
    hostile_paths HostilePaths "hostile-paths",
    /// The WebSocket handshake is answered 503.
    refuse_upgrade RefuseUpgrade "refuse-upgrade",
    /// The WebSocket handshake is never answered.
    hang_upgrade HangUpgrade "hang-upgrade",
    /// A REST call is answered 200 with an error that contains "overloaded".
    rest_overloaded RestOverloaded "rest-overloaded",
    /// A REST call is answered with the HTTP status `rest-status`.
    rest_status_error RestStatusError "rest-status-error",
    /// A REST call is never answered.
    rest_hang RestHang "rest-hang",
    /// A REST call's connection is closed without an answer.
    rest_drop RestDrop "rest-drop",
    /// A REST call is answered 200 with a list of more than a million empty objects.
    rest_many_objects RestManyObjects "rest-many-objects",
    /// A sign-in is answered with a token of five megabytes.
    huge_token HugeToken "huge-token",
    /// A list of vaults has the account's own among those that others share with it.
    list_as_shared ListAsShared "list-as-shared",
    /// A sign-in is answered with the password in place of the name and the e-mail address.
    echo_password EchoPassword "echo-password",
    /// A REST call is answered 200 with text that is no JSON.
    rest_garbage RestGarbage "rest-garbage",
    /// The history of a path is refused.
    refuse_history RefuseHistory "refuse-history",
}

/// The settings that are no chances: name and help.
const SETTINGS: &[(&str, &str)] = &[
    ("seed", "What the draws of probabilities depend on, a number."),
    ("latency", "How long the server waits before it answers anything, such as 20ms or 1s."),
    ("service-time", "How long each request takes, those of one connection one after another, such as 20ms."),
    ("pieces", "The lengths of frames of content: a number of bytes, random:MAX or whole."),
    ("frames", "How many frames a connection struck by drop-after-frames sends."),
    ("rest-status", "The HTTP status of rest-status-error."),
    ("rest-path", "The only REST path that REST faults concern."),
    ("date-shift", "By how many seconds the Date of REST answers is ahead, or behind when negative."),
    ("init-error-text", "The text of init-error."),
    ("refuse-push-text", "The text of refuse-push."),
    ("per-file-max", "The largest file in bytes of plaintext, instead of the server's own limit."),
    ("storage-limit", "Bytes of content that an account may hold; files beyond it are refused."),
    (
        "late-after",
        "After how many requests for a listing or a history a push struck by late-push is recorded.",
    ),
    ("listing-host", "The host that /vault/list gives instead of the server's own."),
    ("ready-version", "The version that `ready` says instead of the vault's own."),
    ("flood", "Entries that each listing has after those of the vault, such as undecodable:1000000."),
];

impl Faults {
    /// Every name that [`Faults::set`] knows, with a sentence for a help text.
    pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
        let faults = FaultKind::ALL.iter().map(|kind| (kind.name(), kind.help().trim()));
        SETTINGS.iter().copied().chain(faults)
    }

    /// Sets one fault from text: `NAME=VALUE`, or `NAME` alone for "always".
    ///
    /// # Errors
    /// When there is no such name or the value is invalid for it.
    pub fn set(&mut self, text: &str) -> Result<(), FaultError> {
        let (name, value) = text.split_once('=').unwrap_or((text, "always"));
        let (name, value) = (name.trim(), value.trim());
        if let Some(kind) = FaultKind::ALL.iter().find(|kind| kind.name() == name) {
            *self.chance_mut(*kind) = value.parse()?;
            return Ok(());
        }
        self.set_setting(name, value)
    }

    fn set_setting(&mut self, name: &str, value: &str) -> Result<(), FaultError> {
        const NUMBER: &str = "it is a whole number";
        match name {
            "seed" => self.seed = parsed("seed", value, NUMBER)?,
            "latency" => self.latency = duration("latency", value)?,
            "service-time" => self.service_time = duration("service-time", value)?,
            "pieces" => self.pieces = value.parse()?,
            "frames" => self.frames = parsed("frames", value, NUMBER)?,
            "rest-status" => self.rest_status = status(value)?,
            "rest-path" => self.rest_path = Some(value.to_owned()),
            "date-shift" => self.date_shift = parsed("date-shift", value, NUMBER)?,
            "init-error-text" => self.init_error_text = value.to_owned(),
            "refuse-push-text" => self.refuse_push_text = value.to_owned(),
            "per-file-max" => self.per_file_max = Some(parsed("per-file-max", value, NUMBER)?),
            "storage-limit" => self.storage_limit = Some(parsed("storage-limit", value, NUMBER)?),
            "late-after" => self.late_after = parsed("late-after", value, NUMBER)?,
            "listing-host" => self.listing_host = Some(value.to_owned()),
            "listing-name" => self.listing_name = Some(value.to_owned()),
            "listing-password" => self.listing_password = Some(value.to_owned()),
            "listing-salt" => self.listing_salt = Some(value.to_owned()),
            "ready-version" => self.ready_version = Some(parsed("ready-version", value, NUMBER)?),
            "flood" => self.flood = Some(value.parse()?),
            _ => {
                return Err(FaultError::Name { name: name.to_owned() });
            }
        }
        Ok(())
    }
}

impl FromStr for Faults {
    type Err = FaultError;

    /// Parses settings as for [`Faults::set`], separated by commas.
    fn from_str(text: &str) -> Result<Self, FaultError> {
        let mut faults = Self::default();
        for setting in text.split(',').map(str::trim).filter(|setting| !setting.is_empty()) {
            faults.set(setting)?;
        }
        Ok(faults)
    }
}

impl FromStr for PieceSizes {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        const EXPECTED: &str = "expected a number of bytes above 0, random:MAX or whole";
        if text == "whole" {
            return Ok(Self::Whole);
        }
        let (random, digits) = match text.strip_prefix("random:") {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let bytes = parsed("pieces", digits, EXPECTED)?;
        match bytes {
            0 => Err(FaultError::Value { name: "pieces", value: text.to_owned(), expected: EXPECTED }),
            _ if random => Ok(Self::Random(bytes)),
            _ => Ok(Self::Fixed(bytes)),
        }
    }
}

impl fmt::Display for PieceSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(bytes) => write!(f, "{bytes}"),
            Self::Random(most) => write!(f, "random:{most}"),
            Self::Whole => f.write_str("whole"),
        }
    }
}

fn parsed<T: FromStr>(name: &'static str, value: &str, expected: &'static str) -> Result<T, FaultError> {
    value.parse().map_err(|_| FaultError::Value { name, value: value.to_owned(), expected })
}

/// An HTTP status code: a three-digit number.
fn status(text: &str) -> Result<u16, FaultError> {
    const EXPECTED: &str = "it is an HTTP status from 100 to 599";
    let status = parsed("rest-status", text, EXPECTED)?;
    if (100..600).contains(&status) {
        return Ok(status);
    }
    Err(FaultError::Value { name: "rest-status", value: text.to_owned(), expected: EXPECTED })
}

/// A duration: a number followed by `ms` or `s`.
fn duration(name: &'static str, text: &str) -> Result<Duration, FaultError> {
    const EXPECTED: &str = "it is a duration such as 20ms or 1.5s";
    let (digits, unit) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 0.001),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let seconds = parsed::<f64>(name, digits, EXPECTED)? * unit;
    Duration::try_from_secs_f64(seconds).map_err(|_| FaultError::Value {
        name,
        value: text.to_owned(),
        expected: EXPECTED,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_setting_can_be_set_from_text() {
        let faults: Faults =
            "seed=7, latency=20ms, service-time=5ms, pieces=random:1000, frames=3, rest-status=500, \
             rest-path=/vault/list, init-error-text=Vault not found, listing-host=evil.example, \
             corrupt-content=next:2, rest-hang"
                .parse()
                .unwrap();
        assert_eq!(faults.seed, 7);
        assert_eq!(faults.latency, Duration::from_millis(20));
        assert_eq!(faults.service_time, Duration::from_millis(5));
        assert_eq!(faults.pieces, PieceSizes::Random(1000));
        assert_eq!(faults.init_error_text, "Vault not found");
        assert_eq!(faults.corrupt_content, Chance::next(2));
        assert_eq!(faults.rest_hang, Chance::always());
        assert_eq!((faults.rest_status, faults.frames), (500, 3));
    }

    #[test]
    fn every_listed_name_is_known() {
        for (name, help) in Faults::names() {
            let unknown = FaultError::Name { name: name.to_owned() };
            assert_ne!(Faults::default().set(name), Err(unknown));
            assert!(help.ends_with('.'), "{name} is not explained by a sentence");
        }
    }

    #[test]
    fn settings_that_mean_nothing_are_refused() {
        for text in ["nonsense", "seed=x", "latency=-1s", "pieces=0", "pieces=random:", "rest-status=7"] {
            assert!(Faults::default().set(text).is_err(), "{text:?} was accepted");
        }
    }
}
