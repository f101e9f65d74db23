//! The text frames: tolerated, refused with an error message, and with secrets hidden.

use obsync_protocol::{
    Answer, ClientMessage, EncodedPath, EncryptionVersion, Init, KeyHash, PushMessage, PushRequest,
    SecretString, ServerMessage, Uid, VaultId,
};
use proptest::prelude::*;

fn parse(text: &str) -> ServerMessage {
    ServerMessage::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn push(text: &str) -> PushMessage {
    match parse(text) {
        ServerMessage::Push(push) => push,
        other => panic!("{text} is taken for {other:?}"),
    }
}

fn answer(text: &str) -> Answer {
    match parse(text) {
        ServerMessage::Answer(answer) => answer,
        other => panic!("{text} is taken for {other:?}"),
    }
}

fn refusal(text: &str) -> String {
    match ServerMessage::parse(text) {
        Ok(message) => panic!("{text} is taken for {message:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_push_needs_no_more_than_uid_and_path() {
    let expected = PushMessage { uid: Uid(3), path: "ab".into(), ..PushMessage::default() };
    assert_eq!(push(r#"{"op":"push","uid":3,"path":"ab"}"#), expected);
    let nulls = r#"{"op":"push","uid":3,"path":"ab","relatedpath":null,"hash":null,"size":null,
        "ctime":null,"mtime":null,"folder":null,"deleted":null,"device":null,"user":null}"#;
    assert_eq!(push(nulls), expected);
}

#[test]
fn unknown_fields_are_passed_over_whatever_they_hold() {
    let text = r#"{"new":{"deep":[1,{"x":null}]},"op":"push","uid":3,"list":[[],"a"],"path":"ab","n":1.5}"#;
    assert_eq!(push(text).uid, Uid(3));
}

#[test]
fn unknown_messages_are_known_as_such() {
    assert_eq!(
        parse(r#"{"op":"fireworks","uid":"x"}"#),
        ServerMessage::Unknown { op: "fireworks".to_owned() }
    );
    let ServerMessage::Unknown { op } = parse(&format!(r#"{{"op":"{}\n"}}"#, "x".repeat(1000))) else {
        panic!("an unknown message");
    };
    assert_eq!(op, "x".repeat(64));
}

#[test]
fn whole_numbers_may_be_written_as_any_number_that_is_whole() {
    let message =
        push(r#"{"op":"push","uid":3.0,"path":"ab","size":3.4e1,"mtime":1795344174715.732,"ctime":1.7e12}"#);
    assert_eq!((message.uid, message.size), (Uid(3), 34));
    assert_eq!((message.mtime, message.ctime), (1_795_344_174_715, 1_700_000_000_000));
    assert_eq!(push(r#"{"op":"push","uid":1,"path":"a","mtime":-5.5}"#).mtime, -5);
    assert_eq!(push(r#"{"op":"push","uid":9007199254740992,"path":"a"}"#).uid, Uid(1 << 53));
}

#[test]
fn an_entry_with_numbers_that_make_no_sense_is_read_and_known_as_such() {
    let number_of = |number: &str| {
        let entry =
            push(&format!(r#"{{"op":"push","uid":{number},"path":"a","size":{number},"folder":true}}"#));
        assert_eq!((entry.path.as_str(), entry.folder), ("a", true));
        (entry.has_sound_uid(), entry.has_sound_size())
    };
    assert_eq!(number_of("9007199254740992"), (true, true));
    for number in ["9007199254740993", "18446744073709551616", "1e300", "-1", "-1.0", "1.5", "\"1\"", "{}"] {
        assert_eq!(number_of(number), (false, false), "{number}");
    }
    assert!(!push(r#"{"op":"push","path":"a"}"#).has_sound_uid());
    assert!(push(r#"{"op":"push","uid":1,"path":"a"}"#).has_sound_size());
    assert!(!push(r#"{"op":"push","uid":1,"path":"a","deleted":"yes"}"#).has_sound_uid());
}

#[test]
fn an_entry_with_texts_or_times_that_make_no_sense_is_read_without_them() {
    let long = "x".repeat(2000);
    let text = format!(
        r#"{{"op":"push","uid":1,"path":7,"hash":[],"relatedpath":{{}},"mtime":9223372036854775808,"ctime":"x",
            "device":"{long}","user":[]}}"#
    );
    assert_eq!(push(&text), PushMessage { uid: Uid(1), ..PushMessage::default() });
}

#[test]
fn an_object_that_no_message_has_takes_no_memory_for_its_fields() {
    let fields: Vec<_> = (0..65).map(|number| format!(r#""f{number}":1"#)).collect();
    assert_eq!(refusal(&format!("{{{}}}", fields.join(","))), "server message: more than 64 fields");
    assert_eq!(answer(&format!("{{{}}}", fields[..64].join(","))), Answer::default());
}

#[test]
fn a_list_longer_than_any_answer_has_is_refused() {
    let list = vec!["{}"; 100_001].join(",");
    let sentence = "answer: the field `items` has too many elements";
    assert_eq!(refusal(&format!(r#"{{"items":[{list}]}}"#)), sentence);
    assert_eq!(answer(&format!(r#"{{"other":[{list}]}}"#)), Answer::default());
}

#[test]
fn of_a_field_that_comes_twice_the_last_one_counts() {
    assert_eq!(push(r#"{"op":"push","uid":1,"path":"a","uid":2}"#).uid, Uid(2));
}

#[test]
fn wrong_messages_are_refused_with_message_and_field() {
    for (text, sentence) in [
        (r#"{"op":"ready"}"#, "ready message: the field `version` is missing"),
        (r#"{"op":7}"#, "server message: the field `op` is not text"),
        (r#"{"res":"ok","pieces":true}"#, "answer: the field `pieces` is not a whole number"),
        (r#"{"items":[1]}"#, "answer: the field `items` is not a list of objects"),
        (r#"{"items":{}}"#, "answer: the field `items` is not a list of objects"),
        ("", "server message: not valid JSON (line 1, column 0)"),
        ("{\"op\":\n}", "server message: not valid JSON (line 2, column 1)"),
        (r#"{"op":"pong"}{}"#, "server message: not valid JSON (line 1, column 14)"),
        ("[]", "server message: not a JSON object"),
        ("\"secret\"", "server message: not a JSON object"),
    ] {
        assert_eq!(refusal(text), sentence, "{text}");
    }
}

#[test]
fn errors_do_not_show_what_was_received() {
    for text in
        [r#""SECRET""#, r#"{"SECRET"}"#, r#"{"res":SECRET}"#, r#"{"op":"ready","version":{"SECRET":1}}"#]
    {
        assert!(!refusal(text).contains("SECRET"), "{text}");
        let error = ServerMessage::parse(text).expect_err("refused");
        assert!(!format!("{error:?}").contains("SECRET"), "{text}");
    }
}

#[test]
fn every_way_of_saying_error_is_an_error() {
    for (text, reason) in [
        (r#"{"res":"err","msg":"Authentication failed"}"#, "Authentication failed"),
        (r#"{"status":"err","message":"Vault not found"}"#, "Vault not found"),
        (r#"{"err":"no such file"}"#, "no such file"),
        (r#"{"err":"code 7","msg":"no such file"}"#, "no such file"),
        (r#"{"err":true}"#, "the server gave no reason"),
        (r#"{"err":""}"#, "the server gave no reason"),
        (r#"{"err":{"code":1}}"#, "the server gave no reason"),
        (r#"{"err":42}"#, "42"),
        (r#"{"res":"err"}"#, "the server gave no reason"),
        (r#"{"res":"ok","status":"err","msg":"  "}"#, "the server gave no reason"),
    ] {
        let answer = answer(text);
        assert_eq!(answer.error().as_deref(), Some(reason), "{text}");
        assert!(!answer.is_ok() && !answer.is_next(), "{text}");
    }
    for text in [r#"{"res":"ok"}"#, r#"{"err":null,"res":"next"}"#, r#"{"err":false}"#, r#"{"size":1}"#, "{}"]
    {
        assert_eq!(answer(text).error(), None, "{text}");
    }
}

#[test]
fn the_words_of_the_server_are_one_line_and_whole_for_secrets_to_be_found_in_them() {
    let text = format!(r#"{{"res":"err","msg":"\u001b[31mred\n{}"}}"#, "x".repeat(1000));
    let reason = answer(&text).error().expect("an error");
    assert_eq!(reason.chars().count(), 4 + 3 + 1000);
    assert!(reason.starts_with("[31mredxxx"), "{reason}");
}

#[test]
fn the_limit_of_uploads_has_two_names() {
    assert_eq!(answer(r#"{"res":"ok","perFileMax":5,"userId":7}"#).per_file_max, Some(5));
    let other = answer(r#"{"res":"ok","max_size":5,"user_id":7}"#);
    assert_eq!((other.per_file_max, other.user_id), (Some(5), Some(7)));
    assert_eq!(answer(r#"{"res":"ok"}"#).per_file_max, None);
}

#[test]
fn lists_of_entries_are_read() {
    let history =
        answer(r#"{"items":[{"uid":2,"path":"a","deleted":true},{"uid":1,"path":"a"}],"more":true}"#);
    let items = history.items.expect("items");
    assert_eq!((items.len(), items[0].uid, items[0].deleted, history.more), (2, Uid(2), true, Some(true)));
    assert_eq!(answer(r#"{"items":[]}"#).items, Some(Vec::new()));
    assert_eq!(answer(r#"{"size":10,"limit":100}"#).limit, Some(100));
}

fn init() -> Init {
    Init {
        token: SecretString::from("SECRET-token"),
        id: VaultId::try_new("abc").expect("an id"),
        keyhash: KeyHash::from("SECRET-hash"),
        version: 7,
        initial: true,
        device: "laptop".to_owned(),
        encryption_version: EncryptionVersion::V3,
    }
}

#[test]
fn requests_are_written_as_the_protocol_has_them() {
    let folder = PushRequest {
        path: "ab".into(),
        related_path: None,
        extension: String::new(),
        hash: "".into(),
        ctime: 0,
        mtime: 0,
        folder: true,
        deleted: false,
        size: None,
        pieces: None,
    };
    for (message, text) in [
        (
            ClientMessage::Init(init()),
            concat!(
                r#"{"op":"init","token":"SECRET-token","id":"abc","keyhash":"SECRET-hash","version":7,"#,
                r#""initial":true,"device":"laptop","encryption_version":3}"#
            ),
        ),
        (ClientMessage::Pull { uid: Uid(5) }, r#"{"op":"pull","uid":5}"#),
        (
            ClientMessage::Push(folder),
            concat!(
                r#"{"op":"push","path":"ab","relatedpath":null,"extension":"","hash":"","ctime":0,"#,
                r#""mtime":0,"folder":true,"deleted":false}"#
            ),
        ),
        (ClientMessage::Deleted { suppress_renames: true }, r#"{"op":"deleted","suppressrenames":true}"#),
        (
            ClientMessage::History { path: EncodedPath::from("ab"), last: Uid(0) },
            r#"{"op":"history","path":"ab","last":0}"#,
        ),
        (ClientMessage::Restore { uid: Uid(5) }, r#"{"op":"restore","uid":5}"#),
        (ClientMessage::Size, r#"{"op":"size"}"#),
        (ClientMessage::Usernames, r#"{"op":"usernames"}"#),
        (ClientMessage::Purge, r#"{"op":"purge"}"#),
        (ClientMessage::Ping, r#"{"op":"ping"}"#),
    ] {
        assert_eq!(message.to_json(), text);
        assert_eq!(ClientMessage::parse(text).expect("just written").to_json(), text);
    }
}

#[test]
fn the_token_and_the_key_hash_are_not_shown_by_debug() {
    let shown = format!("{:?}", ClientMessage::Init(init()));
    assert!(shown.contains("laptop") && !shown.contains("SECRET"), "{shown}");
}

#[test]
fn wrong_requests_are_refused_without_showing_what_they_hold() {
    for (text, sentence) in [
        (r#"{"op":"explode"}"#, "unknown request `explode`"),
        (r#"{"uid":1}"#, "request: the field `op` is missing"),
        (r#"{"op":"pull"}"#, "pull request: the field `uid` is missing"),
        (r#"{"op":"init","token":["SECRET"]}"#, "init request: the field `token` is not text"),
        (
            r#"{"op":"init","token":"SECRET","id":"SECRET/","keyhash":"k"}"#,
            "init request: the field `id` has a value that it cannot have",
        ),
        (
            r#"{"op":"init","token":"SECRET","id":"a","keyhash":"k","version":0,"encryption_version":1}"#,
            "init request: the field `encryption_version` has a value that it cannot have",
        ),
    ] {
        assert_eq!(ClientMessage::parse(text).expect_err(text).to_string(), sentence);
    }
}

#[test]
fn server_messages_are_written_as_the_protocol_has_them() {
    for (message, text) in [
        (ServerMessage::Ready { version: 5 }, r#"{"op":"ready","version":5}"#),
        (ServerMessage::Pong, r#"{"op":"pong"}"#),
        (ServerMessage::Answer(Answer::ok()), r#"{"res":"ok"}"#),
        (ServerMessage::Answer(Answer::next()), r#"{"res":"next"}"#),
        (ServerMessage::Answer(Answer::failed("no")), r#"{"res":"err","msg":"no"}"#),
        (ServerMessage::Answer(Answer { deleted: true, ..Answer::default() }), r#"{"deleted":true}"#),
        (ServerMessage::Unknown { op: "new".to_owned() }, r#"{"op":"new"}"#),
    ] {
        assert_eq!(message.to_json(), text);
        assert_eq!(parse(text), message);
    }
}

fn any_push() -> impl Strategy<Value = PushMessage> {
    let texts = (any::<String>(), any::<Option<String>>(), any::<String>(), any::<String>(), any::<String>());
    let exact = || 0..=PushMessage::SENSELESS;
    let numbers = (exact(), exact(), any::<i64>(), any::<i64>());
    (texts, numbers, any::<bool>(), any::<bool>()).prop_map(
        |((path, related, hash, device, user), (uid, size, ctime, mtime), folder, deleted)| PushMessage {
            uid: Uid(uid),
            path: path.into(),
            related_path: related.map(EncodedPath::from),
            hash: hash.into(),
            size,
            ctime,
            mtime,
            folder,
            deleted,
            device,
            user,
        },
    )
}

proptest! {
    #[test]
    fn every_push_comes_back(push in any_push()) {
        let message = ServerMessage::Push(push);
        prop_assert_eq!(ServerMessage::parse(&message.to_json()), Ok(message));
    }

    #[test]
    fn every_answer_comes_back(
        res: Option<String>, msg: Option<String>, err: Option<String>, hash: Option<String>,
        numbers: [Option<u64>; 5], deleted: bool, more: Option<bool>,
        items in proptest::option::of(proptest::collection::vec(any_push(), 0..4)),
    ) {
        let [size, pieces, per_file_max, user_id, limit] = numbers;
        let hash = hash.map(Into::into);
        let (message, status) = (msg.clone(), res.clone());
        let answer = ServerMessage::Answer(Answer {
            res, status, err, msg, message, hash, size, pieces, deleted, per_file_max, user_id, limit, items,
            more,
        });
        prop_assert_eq!(ServerMessage::parse(&answer.to_json()), Ok(answer));
    }
}
