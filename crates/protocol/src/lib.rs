//! The Obsidian Sync protocol without I/O: keys and ciphers, wire messages, names and filters.
//!
//! Everything here is a pure function of its arguments, so that it can be tested against recorded data and
//! used by a client, a server for tests, or a tool alike. Nothing here opens a file or a socket, reads the
//! clock or draws random numbers: the caller passes those in.
//!
//! - [`MasterKey`] and [`VaultKeys`]: the keys of a vault from its password, and the encoded forms of paths
//!   and content hashes.
//! - [`ContentDecryptor`] and [`ContentEncryptor`]: file content, piece by piece in constant memory.
//! - [`ClientMessage`] and [`ServerMessage`]: the text frames of a session; [`RestRequest`] and
//!   [`RestReply`]: the bodies of the HTTP calls.
//! - [`VaultPath`]: a checked path that can be joined to a root; [`Filter`]: selects the entries that sync.
//! - [`limits`]: every limit on the resources that others can use, in one place.
//! - [`with_reasons`], [`printable`] and [`escaped`]: errors with their reasons, and untrusted texts made
//!   safe to print; [`Redactor`]: removes secrets from such texts.
//!
//! "docs/PROTOCOL.md section N" in the documentation of an item names the part of docs/PROTOCOL.md that the
//! item implements.

mod content;
mod filter;
/// Entry points of the fuzz targets.
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gcm;
mod git_names;
mod hash;
mod ids;
mod json;
mod keys;
pub mod limits;
mod messages;
mod name_folding;
mod path;
mod redactor;
mod rest;
mod secret;
mod siv;
mod untrusted;

pub use content::{
    CONTENT_OVERHEAD, ContentDecryptor, ContentEncryptor, ContentError, NONCE_LENGTH, plain_size,
};
pub use filter::{
    Choice, ConfigCategories, ConfigCategory, ConfigDirError, DEFAULT_CONFIG_DIR, FileType, FileTypes,
    Filter, Selection, SelectionError, SkipReason, Verdict, parse_config_dir,
};
pub use git_names::{RepositoryPart, alias_key};
pub use hash::{ContentHash, ContentHasher, HashError};
pub use ids::{EncryptionVersion, IdError, Uid, UnsupportedEncryption, VaultId};
pub use json::{FieldProblem, MessageError};
pub use keys::{KeyError, KeyHash, MasterKey, NameDefect, NameError, VaultKeys};
pub use messages::{Answer, ClientMessage, Init, PushMessage, PushRequest, ServerMessage};
pub use name_folding::NameFolding;
pub use path::{
    EncodedHash, EncodedPath, PathError, VaultPath, decomposed, is_same_name, normalize_local_name,
};
pub use redactor::Redactor;
pub use rest::{
    CreateVaultRequest, CreatedVault, DeleteVaultRequest, Done, Region, Regions, RegionsRequest, RestError,
    RestReply, RestRequest, SUPPORTED_ENCRYPTION_VERSION, ServiceError, SignInRequest, SignOutRequest,
    SignedIn, UserInfo, UserInfoRequest, VaultAccessRequest, VaultInfo, VaultList, VaultListRequest,
};
pub use secrecy::{ExposeSecret, SecretString};
pub use untrusted::{escaped, escaped_json, escaped_lines, printable, short_name, shown_name, with_reasons};
