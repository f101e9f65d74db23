//! The engine against a real server, a real folder and a real database.

mod bench;
mod histories;
mod semantics;
mod steps;
