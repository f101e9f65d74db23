//! No input from the other side makes a decoder panic.

use obsync_protocol::{
    ClientMessage, ContentHash, CreatedVault, Done, FileTypes, Filter, MasterKey, MessageError, Regions,
    RestReply, ServerMessage, SignedIn, UserInfo, VaultId, VaultList, VaultPath, normalize_local_name,
};
use proptest::prelude::*;

use crate::support::{VERSIONS, keys};

/// Passes a text to every decoder of text. Only panics count, not the results.
fn decode_by_all(text: &str) {
    let _ = ServerMessage::parse(text);
    let _ = ClientMessage::parse(text);
    for version in VERSIONS {
        let keys = keys(version);
        let _ = keys.decode_path(text);
        let _ = keys.decode_hash(text);
        let _ = keys.decode_text(text);
        let _ = keys.open(text.as_bytes());
    }
    if let Ok(path) = VaultPath::parse(text) {
        let _ = (path.fold_key(), path.extension(), path.join(text), path.is_below(&path));
        let _ = Filter::default().verdict(&path, false);
    }
    let _ = text.parse::<ContentHash>();
    let _ = text.parse::<VaultId>();
    let _ = text.parse::<FileTypes>();
    let _ = MasterKey::from_hex(text);
    let _ = normalize_local_name(text);
    read_body_by_all(text.as_bytes());
}

fn read_body_by_all(body: &[u8]) {
    let _ = SignedIn::parse(body);
    let _ = UserInfo::parse(body);
    let _ = VaultList::parse(body);
    let _ = Regions::parse(body);
    let _ = CreatedVault::parse(body);
    let _ = Done::parse(body);
}

/// JSON values of every type, some of them out of range.
fn any_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:e}")),
        Just("1e999".to_owned()),
        Just("-0".to_owned()),
        Just("99999999999999999999999999999999999999999".to_owned()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).expect("text")),
        "\"(push|pull|init|ready|err|ok|next|[0-9a-f]{0,40})\"",
        "\"\\\\u[0-9a-f]{0,4}\"",
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec((any_field(), inner), 0..4).prop_map(|fields| object(&fields)),
        ]
    })
}

/// Names of fields that messages have, so that values reach their checks.
fn any_field() -> impl Strategy<Value = String> {
    let known = "op|uid|path|relatedpath|hash|size|pieces|ctime|mtime|folder|deleted|device|user|version|\
        res|status|err|msg|message|items|more|limit|perFileMax|max_size|userId|token|id|keyhash|initial|\
        encryption_version|last|vaults|shared|host|password|salt|created|regions|name|value|error|email|mfa|\
        \\\\u006fp|x";
    proptest::string::string_regex(known).expect("a pattern")
}

fn object(fields: &[(String, String)]) -> String {
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_text_is_decoded_or_refused(text: String) {
        decode_by_all(&text);
    }

    #[test]
    fn any_hexadecimal_is_decoded_or_refused(text in "[0-9a-fA-F]{0,300}") {
        decode_by_all(&text);
    }

    #[test]
    fn any_json_is_decoded_or_refused(text in any_value()) {
        decode_by_all(&text);
    }

    #[test]
    fn any_object_with_known_fields_is_decoded_or_refused(
        op in "\"(push|ready|pong|init|pull|history|deleted|restore|x)\"",
        fields in proptest::collection::vec((any_field(), any_value()), 0..12),
    ) {
        let mut fields = fields;
        fields.insert(0, ("op".to_owned(), op));
        decode_by_all(&object(&fields));
        decode_by_all(&object(&fields[1..]));
    }

    #[test]
    fn any_bytes_are_read_or_refused(body: Vec<u8>) {
        read_body_by_all(&body);
        for version in VERSIONS {
            let _ = keys(version).open(&body);
        }
    }
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"items\":", "}]")] {
        for depth in [100, 200, 100_000] {
            let nested = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            decode_by_all(&nested);
            decode_by_all(&open.repeat(depth));
            let text = format!("{{\"op\":\"pong\",\"x\":{nested}}}");
            match ServerMessage::parse(&text) {
                Ok(message) => assert_eq!(message, ServerMessage::Pong),
                Err(error) => assert!(matches!(error, MessageError::NotJson { .. }), "{error}"),
            }
        }
    }
}

#[test]
fn numbers_beyond_every_range_are_refused() {
    for number in ["1e400", "-1e400", "1".repeat(400).as_str()] {
        decode_by_all(number);
        let text = format!(r#"{{"op":"push","path":"a","uid":{number}}}"#);
        assert!(ServerMessage::parse(&text).is_err(), "{text}");
    }
}

#[test]
fn a_message_with_very_many_fields_is_refused() {
    let fields: Vec<_> = (0..100_000).map(|number| (format!("f{number}"), "1".to_owned())).collect();
    let error = ServerMessage::parse(&object(&fields)).unwrap_err();
    assert!(matches!(error, MessageError::TooManyFields { .. }), "{error}");
}
