//! The engine against a real server, a real folder and a real database.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod bench;
mod brake;
mod emptied;
mod field;
mod follow_times;
mod following;
mod full_pulls;
mod histories;
mod identity;
mod journal;
mod kills;
mod late_pushes;
mod leases;
mod meddled;
mod mirrors;
mod mounted;
mod older_vaults;
mod open_session;
mod overtaken;
mod refusals;
mod rehearsals;
mod rescues;
mod saved_meanwhile;
mod semantics;
mod service;
mod sizes;
mod spellings;
mod steps;
mod stopping;
mod test_sources;
mod two_way;
mod two_way_histories;
mod two_way_kills;
mod unseen;
mod verifications;
mod waiting_changes;
mod witnesses;
