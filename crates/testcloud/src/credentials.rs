//! The only identity that the cloud accepts, its region and its account.

/// The access key id that requests are signed with.
pub(super) const ACCESS_KEY: &str = "AKIALOOPBACKCLOUD000";

/// The secret access key; worth nothing anywhere else.
pub(super) const SECRET_KEY: &str = "loopback-cloud-secret-key-of-no-value-00";

/// The session token of functions; not checked.
pub(super) const SESSION_TOKEN: &str = "loopback-cloud-session-token";

/// The region of everything.
pub(super) const REGION: &str = "us-east-1";

/// The account of everything.
pub(super) const ACCOUNT: &str = "123456789012";
