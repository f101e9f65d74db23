//! The text frames of a session, in both directions (docs/PROTOCOL.md section 3).

mod client;
mod server;

pub use client::{ClientMessage, Init, PushRequest};
pub use server::{Answer, PushMessage, ServerMessage};

use serde::Serialize;

/// The JSON text of a message.
#[expect(clippy::expect_used, reason = "messages hold texts, numbers and flags: nothing that JSON lacks")]
fn to_json(message: &impl Serialize) -> String {
    serde_json::to_string(message).expect("a message that JSON can hold")
}
