//! A recorded session of the official client, frame by frame.

use obsync_protocol::{Answer, ClientMessage, ServerMessage};
use serde_json::Value;

/// The sender of each text frame, and the frame.
fn text_frames() -> Vec<(String, String)> {
    let lines = include_str!("../data/session-v2.frames.jsonl").lines();
    let frames = lines.map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    let text = |frame: Value| Some((frame["dir"].as_str()?.to_owned(), frame["text"].as_str()?.to_owned()));
    frames.filter_map(text).collect()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("a frame is JSON")
}

#[test]
fn every_client_frame_is_read_and_written_again_as_it_was() {
    let mut kinds = [0; 3];
    for (_, text) in text_frames().iter().filter(|(from, _)| from == "client") {
        let message = ClientMessage::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(json(&message.to_json()), json(text));
        match message {
            ClientMessage::Init(init) => {
                assert_eq!(init.encryption_version.number(), 2);
                kinds[0] += 1;
            }
            ClientMessage::Push(push) => {
                assert_eq!(push.size.is_none(), push.folder || push.deleted, "{text}");
                kinds[1] += 1;
            }
            ClientMessage::Pull { uid } => {
                assert_eq!(uid.0, 5);
                kinds[2] += 1;
            }
            other => panic!("the session has no {other:?}"),
        }
    }
    assert_eq!(kinds, [3, 5, 1], "three openings, five pushes, a pull");
}

#[test]
fn every_server_frame_is_read_as_what_it_is() {
    let (mut pushes, mut readies, mut answers) = (Vec::new(), Vec::new(), Vec::new());
    for (_, text) in text_frames().iter().filter(|(from, _)| from == "server") {
        let message = ServerMessage::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        match &message {
            ServerMessage::Push(push) => pushes.push(push.clone()),
            ServerMessage::Ready { version } => readies.push(*version),
            ServerMessage::Answer(answer) => answers.push(answer.clone()),
            other => panic!("the session has no {other:?}"),
        }
        if !matches!(&message, ServerMessage::Answer(answer) if answer.per_file_max.is_some()) {
            assert_eq!(json(&message.to_json()), json(text), "written again as it was");
        }
    }
    assert_eq!(pushes.iter().map(|push| push.uid.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 1, 4, 5]);
    assert_eq!(pushes.iter().filter(|push| push.folder).count(), 2);
    assert_eq!(pushes.iter().filter(|push| push.deleted).count(), 2);
    assert_eq!(pushes[2].size, 34);
    assert_eq!(pushes[2].mtime, 1_795_344_174_715);
    assert_eq!(pushes[2].device, "Official client");
    assert_eq!(readies, [0, 3, 5]);
    assert!(answers.iter().all(|answer| answer.error().is_none()));
    assert_eq!(answers.iter().filter(|answer| answer.per_file_max == Some(208_666_624)).count(), 3);
    assert_eq!(answers.iter().filter(|answer| answer.is_next()).count(), 2);
    assert_eq!(answers.iter().filter(|answer| **answer == Answer::ok()).count(), 5);
    let content = answers.last().expect("the answer to the pull");
    assert_eq!((content.size, content.pieces, content.deleted), (Some(39), Some(1), false));
    assert_eq!(content.hash.as_ref(), Some(&pushes[4].hash));
}
