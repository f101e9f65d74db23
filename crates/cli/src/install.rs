//! The installers of `obsync aws init`: they create the AWS resources of a vault and change no setting that
//! is not in their steps.
//!
//! - `bucket`: the bucket of S3. `policy`: the policies of a bucket and of the role that pulls to it.
//! - `table`: the DynamoDB table. `recovery`: its point-in-time recovery.

mod bucket;
mod policy;
mod recovery;
mod table;
#[cfg(test)]
mod table_tests;

pub(crate) use bucket::{BucketInstaller, BucketStep};
pub(crate) use policy::for_pulls as policy_for_pulls;
pub(crate) use table::{TableInstaller, TableStatus, TableStep};
