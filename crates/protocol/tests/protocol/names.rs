//! Encoded names: only encoded names are decoded.

use data_encoding::{HEXLOWER, HEXUPPER};
use obsync_protocol::{ContentHash, EncryptionVersion, NameDefect, NameError, PathError, VaultPath};
use proptest::prelude::*;

use crate::support::{VERSIONS, keys};

/// Texts of every length around the cipher's blocks.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![".{0,80}", "[a-z]{0,40}", "\\PC{100,400}"]
}

fn undecodable<T>(defect: NameDefect) -> Result<T, NameError> {
    Err(NameError::Undecodable(defect))
}

proptest! {
    #[test]
    fn every_text_comes_back(text in any_text()) {
        for version in VERSIONS {
            let encoded = keys(version).encode_text(&text).expect("short");
            prop_assert_eq!(keys(version).decode_text(&encoded), Ok(text.clone()));
        }
    }

    #[test]
    fn every_path_comes_back(path in "[^/\\\\\\pC]{1,30}x(/x[^/\\\\\\pC]{1,30}){0,4}") {
        let path = VaultPath::parse(&path).expect("made to be a path");
        for version in VERSIONS {
            prop_assert_eq!(keys(version).decode_path(keys(version).encode_path(&path)), Ok(path.clone()));
        }
    }

    #[test]
    fn every_hash_comes_back(hash: [u8; 32]) {
        let hash = ContentHash::from_bytes(hash);
        for version in VERSIONS {
            prop_assert_eq!(keys(version).decode_hash(keys(version).encode_hash(&hash)), Ok(hash));
        }
    }

    #[test]
    fn equal_texts_have_equal_encodings_and_different_ones_different(a in any_text(), b in any_text()) {
        for version in VERSIONS {
            let (encoded_a, encoded_b) = (keys(version).encode_text(&a), keys(version).encode_text(&b));
            prop_assert_eq!(a == b, encoded_a == encoded_b);
        }
    }

    #[test]
    fn an_encoding_with_any_bit_changed_is_refused(text in any_text(), place: usize, bit in 0..8_u32) {
        for version in VERSIONS {
            let encoded = keys(version).encode_text(&text).expect("short");
            let mut bytes = HEXLOWER.decode(encoded.as_bytes()).expect("hexadecimal");
            let place = place % bytes.len();
            bytes[place] ^= 1 << bit;
            let decoded = keys(version).decode_text(&HEXLOWER.encode(&bytes));
            prop_assert_eq!(decoded, undecodable(NameDefect::Forged));
        }
    }

    #[test]
    fn an_encoding_that_is_cut_off_is_refused(text in any_text(), kept: usize) {
        for version in VERSIONS {
            let encoded = keys(version).encode_text(&text).expect("short");
            let kept = kept % (encoded.len() / 2) * 2;
            prop_assert_eq!(keys(version).decode_text(&encoded[..kept]), undecodable(NameDefect::Forged));
        }
    }
}

#[test]
fn an_encoding_in_capitals_is_the_same_encoding() {
    for version in VERSIONS {
        let encoded = keys(version).encode_text("Note.md").expect("short");
        let bytes = HEXLOWER.decode(encoded.as_bytes()).expect("hexadecimal");
        assert_eq!(keys(version).decode_text(&HEXUPPER.encode(&bytes)).as_deref(), Ok("Note.md"));
    }
}

#[test]
fn a_bare_nonce_is_no_name_though_it_is_a_content() {
    let nonce = "000102030405060708090a0b";
    assert_eq!(keys(EncryptionVersion::V0).decode_text(nonce), undecodable(NameDefect::Forged));
}

#[test]
fn what_is_not_hexadecimal_is_refused_as_such() {
    for text in ["xyz", "abc", "0g", " ab", "äö"] {
        assert_eq!(keys(EncryptionVersion::V3).decode_text(text), undecodable(NameDefect::NotHexadecimal));
    }
}

#[test]
fn a_text_longer_than_any_name_is_refused_before_it_is_decoded() {
    let long = "ab".repeat(1 << 20);
    for version in VERSIONS {
        assert_eq!(keys(version).decode_text(&long), undecodable(NameDefect::TooLong));
        assert_eq!(keys(version).encode_text(&long), undecodable(NameDefect::TooLong));
    }
}

#[test]
fn the_longest_text_that_is_encoded_is_decoded() {
    let longest = "x".repeat(32 * 1024);
    for version in VERSIONS {
        let encoded = keys(version).encode_text(&longest).expect("not too long");
        assert_eq!(keys(version).decode_text(&encoded), Ok(longest.clone()));
    }
}

#[test]
fn short_and_long_texts_are_decoded_alike() {
    // Up to 512 bytes of encrypted text are decoded without allocating.
    for version in VERSIONS {
        for length in 480..=513 {
            let encoded = keys(version).encode_text(&"x".repeat(length)).expect("short");
            assert_eq!(keys(version).decode_text(&encoded), Ok("x".repeat(length)));
            let odd = &encoded[1..];
            assert_eq!(keys(version).decode_text(odd), undecodable(NameDefect::NotHexadecimal));
            let cut = &encoded[2..];
            assert_eq!(keys(version).decode_text(cut), undecodable(NameDefect::Forged));
        }
    }
}

#[test]
fn a_name_of_another_vault_is_refused() {
    let encoded = keys(EncryptionVersion::V3).encode_text("Note.md").expect("short");
    let other = obsync_protocol::MasterKey::from_hex(&"77".repeat(32)).expect("64 digits");
    let other = obsync_protocol::VaultKeys::new(&other, EncryptionVersion::V3, "salt");
    assert_eq!(other.decode_path(&encoded), undecodable(NameDefect::Forged));
}

#[test]
fn a_hostile_path_is_refused_although_it_is_well_encoded() {
    for (path, error) in [
        ("../outside.md", PathError::DotSegment),
        ("/etc/passwd", PathError::Absolute),
        ("a\0b", PathError::ControlCharacter),
        ("a\\b", PathError::Backslash),
        ("", PathError::Empty),
    ] {
        for version in VERSIONS {
            let encoded = keys(version).encode_text(path).expect("short");
            let found = keys(version).decode_path(&encoded);
            assert!(matches!(&found, Err(NameError::Hostile { source, .. }) if *source == error), "{path:?}");
        }
    }
}

#[test]
fn a_content_is_no_name_though_version_0_encrypts_both_with_one_key() {
    for version in VERSIONS {
        let content = keys(version).seal([7; 12], b"Projects/evil.md").expect("short");
        let hex: String = content.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(keys(version).decode_path(&hex), undecodable(NameDefect::Forged));
    }
}

#[test]
fn a_name_that_holds_no_hash_is_refused_as_a_hash() {
    for version in VERSIONS {
        let encoded = keys(version).encode_text("Note.md").expect("short");
        assert_eq!(keys(version).decode_hash(&encoded), undecodable(NameDefect::NotAHash));
    }
}

#[test]
fn secrets_are_not_shown() {
    let keys = keys(EncryptionVersion::V3);
    let master = obsync_protocol::MasterKey::from_hex(&"77".repeat(32)).expect("64 digits");
    for shown in [format!("{keys:?}"), format!("{:?}", keys.key_hash()), format!("{master:?}")] {
        assert!(!shown.contains(keys.key_hash().as_str()) && !shown.contains("77"), "{shown}");
    }
}

#[test]
fn a_saved_master_key_is_read_back_and_nothing_else_is() {
    use obsync_protocol::{ExposeSecret, KeyError, MasterKey};
    let text = "0f".repeat(32);
    let key = MasterKey::from_hex(&text).expect("64 digits");
    assert_eq!(key.expose_hex().expose_secret(), text);
    for bad in [String::new(), "0f".repeat(31), "0f".repeat(33), "0g".repeat(32), "é".repeat(32)] {
        assert_eq!(MasterKey::from_hex(&bad).map(|_| ()), Err(KeyError));
    }
}
