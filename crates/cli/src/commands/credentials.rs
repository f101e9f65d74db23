//! `obsync credentials`: a secret for a function, and the end of one.

mod export;
mod revoke;

pub(super) use export::export;
pub(super) use revoke::revoke;
