//! Every limit on the resources that a server, a file or an argument can use: memory, disk, time, output.
//!
//! Each constant has a row in docs/LIMITS.md with its way out for an honest user (a flag, or why none is
//! needed), the exit status, and whether an entry or the run fails; a test compares the page with this file.
//! Limits that belong to one algorithm (batch sizes, read buffers) stay beside it.

use std::time::Duration;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

// The connection.

/// Bytes waiting to be sent over one WebSocket connection: two pieces of a push.
pub const WRITE_BUFFER: usize = 4 * MIB;
/// Bytes of [`WRITE_BUFFER`] that pongs may take. A server that sends pings and reads no pongs is disconnected.
pub const PONG_BUFFER: usize = 64 * KIB;
/// The longest frame on the first connection of a run, in bytes. The official client sends 2 MiB (docs/PROTOCOL.md section 3).
pub const FIRST_CONNECTION_FRAME: usize = 16 * MIB;
/// The longest frame on every further connection, in bytes.
pub const FURTHER_CONNECTION_FRAME: usize = 4 * MIB;
/// Control frames and empty fragments between two data frames that are accepted at once.
pub const CONTROL_FRAMES: u64 = 1000;
/// Control frames and empty fragments that are accepted beyond [`CONTROL_FRAMES`] for each second between data frames.
pub const CONTROL_FRAMES_PER_SECOND: u64 = 10;
/// The longest text message outside of answers with lists, in bytes. An entry with the longest path has 20 KB.
pub const TEXT_MESSAGE: usize = 64 * KIB;
/// The longest answer to `history` or `deleted`, in bytes.
pub const LIST_MESSAGE: usize = 16 * MIB;
/// Entries of such an answer. An entry has at least 200 bytes, so this is more than fit in [`LIST_MESSAGE`].
pub const LIST_ITEMS: usize = 100_000;

// REST.

/// The longest answer to a call that lists vaults or regions, in bytes. A vault has some hundred bytes.
pub const REST_LIST_ANSWER: usize = 4 * MIB;
/// The longest answer to any other call, in bytes.
pub const REST_ANSWER: usize = 64 * KIB;
/// The head of an answer to a call, and of a proxy's answer to `CONNECT`, in bytes.
pub const ANSWER_HEAD: usize = 64 * KIB;
/// Vaults that one account may list.
pub const VAULTS_LISTED: usize = 10_000;

// Stored texts of the service.

/// Bytes of a token.
pub const TOKEN: usize = 8 * KIB;
/// Bytes of a salt. The official client makes 32 characters.
pub const SALT: usize = KIB;
/// Bytes of a password from the service.
pub const HANDED_OUT_PASSWORD: usize = KIB;
/// Bytes of a host with its port.
pub const HOST: usize = 261;
/// Bytes of the name of a vault, a user, a region or a device, and of an e-mail address.
pub const NAME: usize = KIB;
/// The shortest salt of a vault of encryption version 2 or 3, in bytes, that is accepted for a vault not yet known.
pub const LEAST_SALT: usize = 16;
/// Bytes of a written pin: a salt and five names as JSON, in which a character can take six times its size.
pub const PIN: usize = 64 * KIB;

// The listing.

/// Files and folders of one vault that a run keeps in memory. Deletions count by their memory only.
pub const ENTRIES_KEPT: u64 = 2_000_000;
/// Entries of one listing, older ones of the same paths and deletions included.
pub const ENTRIES_RECEIVED: u64 = 20_000_000;
/// Memory for the entries of a listing in a run, in bytes, unless the caller sets another limit: some 400 for
/// a file or folder with its path, 190 for a deletion.
pub const LISTING_MEMORY: u64 = 1 << 30;
/// Interruptions of a listing after which it is continued, as long as each part makes progress.
pub const LISTING_BREAKS: usize = 1000;
/// Stored unreadable entries of one vault: listed now, or deferred by earlier runs.
pub const UNREADABLE_ENTRIES: usize = 100_000;
/// Memory for the entries that [`UNREADABLE_ENTRIES`] counts, in bytes.
pub const UNREADABLE_MEMORY: u64 = 64 << 20;
/// Stored changes of one vault that could not be applied, to be retried. Beyond them the version stays below
/// the failed change, so that the next run lists it again.
pub const FAILED_CHANGES: usize = 100_000;
/// Memory for the changes that [`FAILED_CHANGES`] counts, in bytes.
pub const FAILED_MEMORY: u64 = 64 << 20;
/// Changes in a state that could not be applied: as many as a run leaves there at most. A state with more
/// drops all of them when it is opened, and everything is checked again.
pub const DEFERRED_CHANGES: usize = FAILED_CHANGES + UNREADABLE_ENTRIES;
/// Changes in a state that the filter excluded: as many as one listing may have. A state with more, which
/// only a service that invents them over many runs can cause, drops all of them when it is opened, and
/// everything is checked again.
pub const FILTERED_CHANGES: usize = ENTRIES_KEPT as usize;
/// The longest encoded path, in bytes, that is stored whole for an entry with an undecodable path. A longer
/// one is stored as its beginning and a hash.
pub const UNREADABLE_PATH: usize = 128;
/// The longest encoded content hash, in bytes, that is stored for an unreadable entry. A valid one is
/// shorter.
pub const UNREADABLE_HASH: usize = 256;
/// The largest uid, size or time that JSON numbers represent exactly.
pub const LARGEST_NUMBER: u64 = 1 << 53;
/// Segments of a path.
pub const PATH_SEGMENTS: usize = 100;
/// Entries of the listing that a further connection of a pool skips before it is given up.
pub const FURTHER_LISTING_ENTRIES: u64 = 100_000;
/// Time limit of the listing of a further connection of a pool.
pub const FURTHER_LISTING_TIME: Duration = Duration::from_secs(60);

// Live changes.

/// Memory for the changes that a session received and that were not taken yet, in bytes. Beyond it the
/// session reports that, and a new one lists the missed changes.
pub const LIVE_CHANGES_MEMORY: usize = 32 * MIB;

// Contents.

/// Frames allowed for a content of any size.
pub const CONTENT_FRAMES: u64 = 1024;
/// Beyond [`CONTENT_FRAMES`], one more frame per this many bytes.
pub const BYTES_PER_CONTENT_FRAME: u64 = 256;

// Merging.

/// Bytes of each of the three texts of a merge. A larger file that changed on both sides is kept twice.
pub const MERGED_TEXT: usize = 4 * MIB;
/// Lines of each of the three texts of a merge.
pub const MERGED_LINES: usize = 200_000;
/// Lines of the common base times lines of one side, without those before the first difference and after the
/// last. The slowest texts at this limit take some seconds to compare.
pub const COMPARED_LINES: usize = 1 << 30;

// Files stored by obsync.

/// Bytes of `credentials.json` and `keys.json`, when they are read and when they are written.
pub const PRIVATE_FILE: u64 = 4 << 20;
/// A larger file is read up to this many bytes, to remove the entries that are too large.
pub const PRIVATE_FILE_MENDED: u64 = 64 << 20;

/// States on one computer for disks that are mounted alternately at one path. Each time a destination has
/// lost its marker it counts as another one; beyond the limit, the least recently used state is removed.
pub const DISKS_AT_ONE_PATH: usize = 8;

// Files and programs given by the user.

/// Bytes of a file with certificates. A bundle of all public authorities has a quarter of a MiB.
pub const CERTIFICATE_FILE: u64 = 8 << 20;
/// Bytes of a secret in a file, or printed by a program.
pub const GIVEN_SECRET: u64 = 64 << 10;

// Time.

/// The least speed while an answer is due and this side reads, in bytes per second over [`LEAST_SPEED_OVER`],
/// all connections together.
pub const LEAST_SPEED: u64 = 1024;
/// The least speed at which pieces of an upload must reach the server, in bytes per second: a piece of 2 MiB
/// may take nine minutes before its answer is waited for.
pub const LEAST_UPLOAD_SPEED: u64 = 4096;
/// The time over which [`LEAST_SPEED`] is measured.
pub const LEAST_SPEED_OVER: Duration = Duration::from_secs(600);
/// Timeout of the first entry of a listing.
pub const FIRST_ENTRY: Duration = Duration::from_secs(600);
/// Time that a run continues without any success while the service reports overload.
pub const OVERLOADED: Duration = Duration::from_secs(600);

// The user's own cloud.

/// The longest answer of a cloud service that is read into memory, in bytes: 16 MB of items of DynamoDB as JSON.
pub const CLOUD_ANSWER: usize = 32 * MIB;
/// Nesting limit of such an answer. Items of DynamoDB have at most 32 levels, of two brackets each.
pub const CLOUD_ANSWER_DEPTH: usize = 128;
/// Objects below the prefix of a vault that are listed.
pub const OBJECTS_LISTED: u64 = 4_000_000;
/// Pages in a row of a bucket's list that may be empty.
pub const EMPTY_PAGES: usize = 1000;
/// The longest pause accepted from `Retry-After`: the total time in which requests are retried.
pub const RETRY_AFTER: Duration = Duration::from_secs(120);
/// Stored warnings of a run about a service: its words in them can differ each time.
pub const CLOUD_WARNINGS: usize = 20;
/// Pages of a table, of up to 1 MB each, read by one scan.
pub const TABLE_PAGES: usize = 100_000;

// Events of the function on AWS Lambda.

/// Bytes of one event, of a message or of a request's body, as JSON. SQS, SNS and asynchronous invocations take no more.
pub const EVENT: usize = MIB;
/// Vaults that one event may name.
pub const EVENT_VAULTS: usize = 1000;
/// Messages of one invocation: as many as a queue delivers at a time.
pub const EVENT_MESSAGES: usize = 10_000;
/// Refused messages of one invocation that are logged individually; the others are counted.
pub const EVENT_REFUSALS: usize = 100;

// Output.

/// Characters of an untrusted name that are shown.
pub const NAME_SHOWN: usize = 200;
/// Failures that a report lists; the others are counted.
pub const FAILURES_LISTED: usize = 1000;
/// Further configuration folders that a report names.
pub const CONFIG_DIRS_NAMED: usize = 20;
/// Passwords of listed vaults that texts of the service are searched for, besides that of the opened vault.
pub const HANDED_OUT_PASSWORDS_KNOWN: usize = 100;
/// Secrets shorter than this, in bytes, are not replaced in a text; the whole text is withheld.
pub const LEAST_SECRET_SEARCHED: usize = 8;
