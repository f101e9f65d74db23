//! Buckets and tables, on a loopback cloud.

mod aws_init;
mod bucket;
mod credentials;
mod ends;
mod exact;
mod failures;
mod interrupted;
mod pins;
pub(crate) mod place;
mod table;
mod two_way;
