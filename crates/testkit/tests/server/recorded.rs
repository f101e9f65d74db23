//! A recorded session of the official client with a compatible server is reproduced with this one.

use std::fs;

use obsync_testkit::{Server, fixture_dir};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Device, Outcome, post};

/// The account of the recording: its address is part of the server's messages.
const EMAIL: &str = "lab@example.com";

/// A line of the recording: the sender of the frame, and its text or its length in bytes.
#[derive(Deserialize)]
struct Frame {
    dir: String,
    text: Option<String>,
    bin: Option<usize>,
}

impl Frame {
    fn message(&self) -> Outcome<Option<Value>> {
        Ok(self.text.as_deref().map(serde_json::from_str).transpose()?)
    }
}

#[tokio::test]
async fn the_recorded_session_goes_as_it_went() -> Outcome {
    let recording = fs::read_to_string(fixture_dir("session-v2.frames.jsonl"))?;
    let frames: Vec<Frame> = recording.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let init = frames[0].message()?.ok_or("the recording does not begin with init")?;
    let folder = vault_of(&init)?;
    let server = Server::builder().user(EMAIL, "pw").vault_dir(folder.path()).start().await?;
    let body = json!({ "email": EMAIL, "password": "pw", "mfa": "" });
    let token = post(&server, "/user/signin", body).await?["token"].clone();

    let mut device = Device::connect(&server).await?;
    for (number, frame) in frames.iter().enumerate() {
        match (frame.dir.as_str(), frame.message()?, frame.bin) {
            ("client", Some(mut message), _) => {
                if message["op"] == "init" {
                    message["token"] = token.clone();
                    device = Device::connect(&server).await?;
                }
                device.send(message).await?;
            }
            ("client", None, Some(length)) => device.send_binary(vec![0; length]).await?,
            ("server", Some(expected), _) => {
                assert_eq!(heard(&mut device).await?, without_doubles(expected), "line {}", number + 1);
            }
            ("server", None, Some(length)) => {
                assert_eq!(device.binary().await?.len(), length, "line {}", number + 1);
            }
            _ => return Err(format!("line {} is no frame", number + 1).into()),
        }
    }
    Ok(())
}

/// The folder of an empty vault that accepts the recorded `init`.
fn vault_of(init: &Value) -> Outcome<TempDir> {
    let folder = TempDir::new()?;
    let vault = json!({
        "id": init["id"], "name": "recorded", "encryption_version": init["encryption_version"],
        "salt": "", "keyhash": init["keyhash"],
    });
    fs::write(folder.path().join("vault.json"), vault.to_string())?;
    Ok(folder)
}

/// The next text message, as plain JSON.
async fn heard(device: &mut Device) -> Outcome<Value> {
    match device.frame().await? {
        Some(Message::Text(text)) => Ok(serde_json::from_str(&text)?),
        other => Err(format!("{other:?} instead of a text message").into()),
    }
}

/// The message without the second names of two fields in the recorded server's answer to `init`.
fn without_doubles(mut message: Value) -> Value {
    if let Some(fields) = message.as_object_mut() {
        fields.remove("user_id");
        fields.remove("max_size");
    }
    message
}
