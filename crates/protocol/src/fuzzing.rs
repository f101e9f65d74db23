//! Runs the fuzz targets of this crate on an input, and on a few seeds as tests (docs/FUZZING.md).
//!
//! Everything uses the public interface. A panic is a finding, and so is a violated property.

mod input;

pub use input::Input;

use std::sync::LazyLock;

use crate::limits;
use crate::{
    ClientMessage, ConfigCategories, ContentError, ContentHash, CreatedVault, Done, EncryptionVersion,
    FileTypes, Filter, MasterKey, Redactor, Regions, RestError, RestReply, ServerMessage, SignedIn,
    SkipReason, UserInfo, VaultId, VaultKeys, VaultList, VaultPath, Verdict, escaped, escaped_json,
    escaped_lines, normalize_local_name, printable, shown_name,
};

/// The keys of a vault of each encryption version.
static KEYS: LazyLock<Vec<VaultKeys>> = LazyLock::new(|| {
    let master = MasterKey::from_hex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
    let versions = [EncryptionVersion::V0, EncryptionVersion::V2, EncryptionVersion::V3];
    let keys = |master: MasterKey| versions.map(|version| VaultKeys::new(&master, version, "salt")).to_vec();
    master.map(keys).unwrap_or_default()
});

/// Text frames and answers of the service. A parsed message must parse to the same after it was serialised
/// again.
pub fn messages(data: &[u8]) {
    rest_replies(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    match ServerMessage::parse(text) {
        // Its name was cleaned and shortened for display.
        Ok(ServerMessage::Unknown { op }) => assert!(op.chars().count() <= 64 && !has_control(&op)),
        Ok(message) => {
            if let ServerMessage::Answer(answer) = &message {
                assert!(
                    answer.error().is_none_or(|error| error.len() <= text.len() + 64 && !has_control(&error))
                );
            }
            assert_eq!(ServerMessage::parse(&message.to_json()), Ok(message));
        }
        Err(error) => check_sentence(&error.to_string()),
    }
    match ClientMessage::parse(text) {
        Ok(message) => {
            let written = message.to_json();
            let again = ClientMessage::parse(&written).map(|message| message.to_json());
            assert_eq!(again, Ok(written));
        }
        Err(error) => check_sentence(&error.to_string()),
    }
}

fn rest_replies(body: &[u8]) {
    fn read<R: RestReply>(body: &[u8]) -> Option<R> {
        let refused = |error: &RestError| match error {
            RestError::Service(reason) => assert!(!has_control(reason)),
            RestError::Message(error) => check_sentence(&error.to_string()),
        };
        R::parse(body).inspect_err(refused).ok()
    }
    let _ = (read::<Done>(body), read::<SignedIn>(body), read::<CreatedVault>(body));
    let _ = (read::<Regions>(body), read::<UserInfo>(body));
    if let Some(list) = read::<VaultList>(body) {
        for vault in list.vaults.iter().chain(&list.shared) {
            let _ = vault.encryption();
        }
        let written = serde_json::to_vec(&list).unwrap_or_default();
        let again = read::<VaultList>(&written).map(|list| serde_json::to_vec(&list).unwrap_or_default());
        assert_eq!(again, Some(written));
    }
}

/// An error's sentence is short and safe to print, whatever it is about.
fn check_sentence(sentence: &str) {
    assert!(sentence.len() < 2000 && !has_control(sentence), "{sentence:?}");
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// Encoded paths and hashes: the input as one, as the plaintext of one, and one with a changed bit.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(hash) = text.parse::<ContentHash>() {
        assert_eq!(hash.to_string(), text);
    }
    let _ = MasterKey::from_hex(text);
    for keys in KEYS.iter() {
        if let Ok(path) = keys.decode_path(text) {
            assert!(keys.encode_path(&path).as_str().eq_ignore_ascii_case(text));
        }
        if let Ok(hash) = keys.decode_hash(text) {
            assert!(keys.encode_hash(&hash).as_str().eq_ignore_ascii_case(text));
        }
        let hash = ContentHash::of(data);
        assert_eq!(keys.decode_hash(keys.encode_hash(&hash)), Ok(hash));
        if let Ok(encoded) = keys.encode_text(text) {
            assert_eq!(keys.decode_text(&encoded).as_deref(), Ok(text));
            assert_eq!(keys.decode_path(&encoded).ok(), VaultPath::parse(text).ok());
            let place = data.first().map_or(0, |byte| usize::from(*byte) * 7 % encoded.len());
            let other = if encoded.as_bytes()[place] == b'0' { "1" } else { "0" };
            let damaged = [&encoded[..place], other, &encoded[place + 1..]].concat();
            assert!(keys.decode_text(&damaged).is_err());
        }
    }
}

/// The content cipher's framing. The first byte chooses the keys, the next eight say where pieces end and
/// which byte is damaged, the rest is a content, and a blob.
pub fn content(data: &[u8]) {
    let Some((&[which, cuts @ .., place, bit], content)) = data.split_first_chunk::<9>() else { return };
    let Some(keys) = KEYS.get(usize::from(which) % 3) else { return };
    let nonce = [which; crate::NONCE_LENGTH];
    let Ok(blob) = keys.seal(nonce, content) else { return };

    let mut encryptor = keys.content_encryptor(nonce);
    let mut streamed = Vec::new();
    for piece in pieces(content, &cuts) {
        assert_eq!(encryptor.update(piece, &mut streamed), Ok(()));
    }
    encryptor.finish(&mut streamed);
    assert_eq!(streamed, blob);
    assert_eq!(open_in_pieces(keys, &blob, &cuts).as_deref(), Ok(content));
    // The rest is no blob, or one from elsewhere.
    assert_eq!(open_in_pieces(keys, content, &cuts), keys.open(content));

    let place = usize::from(place) * (blob.len() / 256 + 1) % blob.len();
    let mut damaged = blob.clone();
    damaged[place] ^= 1 << (bit % 8);
    assert_eq!(open_in_pieces(keys, &damaged, &cuts), Err(ContentError::Forged));
    let cut_off = open_in_pieces(keys, &blob[..place], &cuts);
    match place {
        12 => assert_eq!(cut_off, Ok(Vec::new())),
        0..28 => assert_eq!(cut_off, Err(ContentError::TooShort { received: place as u64 })),
        _ => assert_eq!(cut_off, Err(ContentError::Forged)),
    }
    let longer = [&blob[..], &[bit]].concat();
    assert_eq!(open_in_pieces(keys, &longer, &cuts), Err(ContentError::Forged));
}

/// The pieces between these places, some of them empty.
fn pieces<'b>(bytes: &'b [u8], cuts: &[u8]) -> Vec<&'b [u8]> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    for cut in cuts {
        // Short pieces cut through nonce and tag.
        let (piece, after) =
            rest.split_at((usize::from(*cut % 64) * usize::from(cut / 64 + 1)).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

fn open_in_pieces(keys: &VaultKeys, blob: &[u8], cuts: &[u8]) -> Result<Vec<u8>, ContentError> {
    let mut content = Vec::new();
    let mut decryptor = keys.content_decryptor();
    for piece in pieces(blob, cuts) {
        decryptor.update(piece, &mut content)?;
    }
    decryptor.finish()?;
    Ok(content)
}

/// Texts of the other side. The first line of the input is a secret, the second another, the rest is a text
/// that may repeat them.
pub fn texts(data: &[u8]) {
    let Ok(input) = std::str::from_utf8(data) else { return };
    let mut parts = input.splitn(3, '\n');
    let mut part = || parts.next().unwrap_or_default();
    let (secrets, text) = ([part(), part()], part());
    let redactor = Redactor::default();
    secrets.iter().for_each(|secret| redactor.know(secret));
    let left = redactor.take_out(text).to_ascii_lowercase();
    let own = redactor.take_out_of_own(text).to_ascii_lowercase();
    for secret in secrets.iter().map(|secret| secret.to_ascii_lowercase()) {
        // Words of the replacements of secrets.
        let is_a_word_of_ours = "[secret] [withheld: the text repeats a secret]".contains(&secret);
        let overlaps = secret.starts_with(['s', 'e', 'c', 'r', 't', ']'])
            || secret.ends_with(['[', 's', 'e', 'c', 'r', 't']);
        if !is_a_word_of_ours && !overlaps {
            assert!(!left.contains(&secret), "{left:?} repeats {secret:?}");
            assert!(secret.len() < 20 || !own.contains(&secret), "{own:?} repeats {secret:?}");
        }
    }
    let shown = printable(text);
    assert!(shown.chars().count() <= 301 * 10 && !has_control(&shown));
    assert!(!has_control(&escaped(text)) && !has_control(&escaped_lines(text).replace('\n', "")));
    assert!(shown_name(text).chars().count() <= limits::NAME_SHOWN * 10 + 1);
    if let Ok(value) = serde_json::from_str::<serde_json::Value>(text) {
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped_json(text)).ok(), Some(value));
    }
}

/// Paths, names and filters. The lines of the input are a path, an excluded folder, kinds of files, kinds of
/// configuration, and the configuration folders separated by commas.
pub fn paths(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (path, excluded) = (line(), line());
    let mut filter = Filter::default();
    if let Ok(types) = line().parse::<FileTypes>() {
        assert_eq!(types.to_string().parse(), Ok(types));
        filter.file_types = types;
    }
    if let Ok(configs) = line().parse::<ConfigCategories>() {
        assert_eq!(configs.to_string().parse(), Ok(configs));
        filter.configs = configs;
    }
    filter.config_dirs = line().split(',').map(str::to_owned).collect();
    filter.excluded.extend(VaultPath::parse(excluded));

    let normal = normalize_local_name(path);
    assert_eq!(normalize_local_name(&normal), normal);
    if let Ok(id) = VaultId::try_new(path) {
        assert!(id.as_str() == path && !path.contains(['/', '.', '#', '@']));
    }
    if let Ok(path) = VaultPath::parse(path) {
        a_path_stays_inside(&path);
        a_filter_decides(&filter, &path);
    }
}

fn a_path_stays_inside(path: &VaultPath) {
    use std::path::{Component, Path};
    let text = path.as_str();
    let names: Vec<_> = Path::new(text).components().collect();
    assert!(names.iter().all(|name| matches!(name, Component::Normal(_))), "{text:?}");
    assert_eq!(names.len(), path.segments().count());
    assert!(text.len() <= 4096 && !has_control(text) && !text.contains('\\'));
    // Only for paths that a vault may write; paths of older states are read in any case.
    if path.check_to_write().is_ok() {
        assert!(names.len() <= limits::PATH_SEGMENTS);
        assert!(!path.segments().any(is_git_folder), "{text:?}");
    }
    assert_eq!(path.segments().next_back(), Some(path.file_name()));
    assert_eq!(path.ancestors().count() + 1, names.len());
    for folder in path.ancestors() {
        assert!(path.is_below(&folder) && !folder.is_below(path));
        assert_eq!(VaultPath::parse(folder.as_str()), Ok(folder));
    }
    if let Ok(below) = path.join(path.file_name()) {
        assert_eq!(below.parent().as_ref(), Some(path));
    }
    let folded = path.fold_key();
    if let Ok(path) = VaultPath::parse(&folded) {
        assert_eq!(path.fold_key(), folded);
    }
    let _ = path.extension();
}

/// True if NTFS or HFS+ treats a name as `.git`, according to git's own checks (`is_ntfs_dotgit`,
/// `is_hfs_dotgit`) rather than the code under test.
fn is_git_folder(name: &str) -> bool {
    let is_ignored = |c: char| matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    let seen = name.chars().filter(|c| !is_ignored(*c)).collect::<String>().to_ascii_lowercase();
    let on_ntfs =
        |name: &str| name.split(':').next().unwrap_or_default().trim_end_matches([' ', '.']).to_owned();
    [seen.clone(), on_ntfs(&seen), on_ntfs(&name.to_ascii_lowercase())]
        .iter()
        .any(|n| n == ".git" || n == "git~1")
}

fn a_filter_decides(filter: &Filter, path: &VaultPath) {
    for folder in [false, true] {
        let verdict = filter.verdict(path, folder);
        assert_eq!(verdict, filter.clone().verdict(path, folder));
        let is_excluded = filter.excluded.iter().any(|excluded| path == excluded || path.is_below(excluded));
        assert_eq!(verdict == Verdict::Skip(SkipReason::Excluded), is_excluded);
    }
    let mut twice = filter.clone();
    twice.excluded.extend(filter.excluded.iter().cloned());
    twice.config_dirs.extend(filter.config_dirs.iter().rev().cloned());
    assert_eq!(twice.fingerprint(), filter.fingerprint());
    if let Some(folder) = filter.other_config_dir(path) {
        // With the folder named, the file is included, or excluded for another reason than its dot.
        twice.config_dirs.push(folder.to_owned());
        assert_ne!(twice.verdict(path, false), Verdict::Skip(SkipReason::Hidden));
    }
}

#[cfg(test)]
#[path = "../../../fuzz/seeds.rs"]
mod seeds;

#[cfg(test)]
mod tests {
    use super::seeds::run;

    #[test]
    fn messages() {
        run("messages", 1500, super::messages);
    }

    #[test]
    fn names() {
        run("names", 1000, super::names);
    }

    #[test]
    fn content() {
        run("content", 1000, super::content);
    }

    #[test]
    fn texts() {
        run("texts", 1500, super::texts);
    }

    #[test]
    fn paths() {
        run("paths", 1500, super::paths);
    }
}
