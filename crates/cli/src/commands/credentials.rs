//! `obsync credentials`: exports a secret for a function, and revokes it.

mod export;
mod revoke;

pub(super) use export::export;
pub(super) use revoke::revoke;
