//! The one identity that the cloud knows, and where it says it is.

/// The access key id that requests are signed with.
pub(super) const ACCESS_KEY: &str = "AKIALOOPBACKCLOUD000";

/// The secret to it; worth nothing anywhere else.
pub(super) const SECRET_KEY: &str = "loopback-cloud-secret-key-of-no-value-00";

/// The session token that functions get besides; not checked.
pub(super) const SESSION_TOKEN: &str = "loopback-cloud-session-token";

/// The region that everything is in.
pub(super) const REGION: &str = "us-east-1";

/// The account that everything belongs to.
pub(super) const ACCOUNT: &str = "123456789012";
