//! Names of conflicted copies: a file in the way that obsync did not write is kept under a name beside its
//! own.

use std::fmt;

use obsync_protocol::VaultPath;

/// Limit of a device's name in the name of a copy, in bytes.
const DEVICE: usize = 40;

/// A device's name as used in the names of conflicted copies: shortened, without characters that file names
/// cannot have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DeviceName {
    bytes: [u8; DEVICE],
    length: usize,
}

impl DeviceName {
    /// The usable part of a name, or `obsync` if nothing is left.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let is_allowed = |c: &char| !c.is_control() && !r#"()[]#^|\/:*?"<>"#.contains(*c);
        let allowed: String = name.chars().filter(is_allowed).collect();
        let words = allowed.split_whitespace().collect::<Vec<_>>().join(" ");
        let kept = words.get(..words.floor_char_boundary(DEVICE)).unwrap_or_default();
        let kept = kept.trim_end_matches([' ', '.']);
        let kept = if kept.is_empty() { "obsync" } else { kept };
        let mut bytes = [0; DEVICE];
        bytes[..kept.len()].copy_from_slice(kept.as_bytes());
        DeviceName { bytes, length: kept.len() }
    }

    fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..self.length]).unwrap_or("obsync")
    }
}

impl Default for DeviceName {
    fn default() -> Self {
        DeviceName::new("obsync")
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Label of a conflicted copy: the device, and year, month, day, hour and minute in local time.
pub fn label(device: DeviceName) -> String {
    format!("{device} {}", jiff::Zoned::now().strftime("%Y%m%d%H%M"))
}

/// The longest name that common file systems accept, in bytes.
pub(crate) const LONGEST_NAME: usize = 255;
/// The shortest name, in bytes, that was shortened for its mark: eCryptfs has the smallest limit in use, 143
/// bytes, and a name is cut between two characters.
const SHORTEST_SHORTENED: usize = 143 - 3;
/// Copies of one file per minute, at most.
pub(crate) const COPIES: u32 = 1000;

/// Beginning of the mark of a copy.
const MARK: &str = " (Conflicted copy ";
/// The longest mark, in bytes: a device, a time, and the number of a copy made at it.
const LONGEST_MARK: usize = MARK.len() + DEVICE + " 202501312359 4294967295)".len();

/// `name (Conflicted copy laptop 202501312359).md`, and from the second copy on `… 2).md`; at most `limit` bytes long.
/// With `ends_with_mark` the extension is a part of the name, as that of a folder is, and the mark comes last.
pub fn name(name: &str, ends_with_mark: bool, label: &str, copy: u32, limit: usize) -> String {
    let number = if copy == 1 { label.to_owned() } else { format!("{label} {copy}") };
    marked(name, ends_with_mark, &number, limit)
}

/// Path of the copy of a file or folder, beside it, with a name of at most `limit` bytes. `None` if there is
/// no such path.
pub(crate) fn path(
    of: &VaultPath,
    is_folder: bool,
    label: &str,
    copy: u32,
    limit: usize,
) -> Option<VaultPath> {
    let ends_with_mark = is_folder || is_configuration(of);
    let name = name(of.file_name(), ends_with_mark, label, copy, limit);
    let path = of.parent().map_or_else(|| name.clone(), |folder| format!("{folder}/{name}"));
    VaultPath::parse(&path).ok()
}

/// The name with this number in its mark.
fn marked(name: &str, ends_with_mark: bool, number: &str, limit: usize) -> String {
    let mark = format!("{MARK}{number})");
    let (kept, extension) = kept(name, ends_with_mark, mark.len(), limit);
    format!("{kept}{mark}{extension}")
}

/// The parts of a name before and after a mark of this length, shortened to fit.
fn kept(name: &str, ends_with_mark: bool, mark: usize, limit: usize) -> (&str, &str) {
    let (mut stem, mut extension) = parts(name, ends_with_mark);
    if mark + extension.len() >= limit {
        (stem, extension) = (name, "");
    }
    let most = limit.saturating_sub(mark + extension.len());
    (stem.get(..stem.floor_char_boundary(most)).unwrap_or_default(), extension)
}

/// Common beginning of the names of all copies of `name`.
pub fn beginning(name: &str, ends_with_mark: bool, limit: usize) -> &str {
    kept(name, ends_with_mark, LONGEST_MARK, limit).0
}

/// True if a file is Obsidian's configuration. Obsidian loads style sheets and settings by extension, so a
/// copy must not keep it: its name [ends with the mark](name).
pub fn is_configuration(path: &VaultPath) -> bool {
    path.as_str().starts_with('.')
}

/// True if `copy` is a name that [`name`] makes for `name` and some device.
pub fn is_copy_of(copy: &str, name: &str, ends_with_mark: bool, limit: usize) -> bool {
    let number = copy.rfind(MARK).and_then(|at| copy.get(at + MARK.len()..)?.split_once(')'));
    number.is_some_and(|(number, _)| {
        is_timestamp(number) && marked(name, ends_with_mark, number, limit) == copy
    })
}

/// True if a path is that of a copy of a file, beside it: one made here, or on a system with other limits.
pub(crate) fn is_of(copy: &VaultPath, file: &VaultPath) -> bool {
    let is_copy = |limit| is_copy_of(copy.file_name(), file.file_name(), is_configuration(file), limit);
    let length = copy.file_name().len();
    copy.parent() == file.parent()
        && (is_copy(LONGEST_NAME) || (length >= SHORTEST_SHORTENED && is_copy(length)))
}

/// The original's name, if this is the name of a copy that was not shortened for its mark.
pub(crate) fn original(copy: &str) -> Option<String> {
    let at = copy.rfind(MARK)?;
    let (number, extension) = copy.get(at + MARK.len()..)?.split_once(')')?;
    is_timestamp(number).then(|| format!("{}{extension}", &copy[..at]))
}

/// True for a device with a time, and the number of a copy or none.
fn is_timestamp(text: &str) -> bool {
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let is_time = |word: &str| word.len() == 12 && is_number(word);
    let Some((before, last)) = text.rsplit_once(' ') else { return false };
    let with_number = before
        .rsplit_once(' ')
        .is_some_and(|(device, time)| !device.is_empty() && is_time(time) && is_number(last));
    with_number || (!before.is_empty() && is_time(last))
}

/// The parts before and after the mark of a copy.
fn parts(name: &str, ends_with_mark: bool) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 && dot + 1 < name.len() && !ends_with_mark => name.split_at(dot),
        _ => (name, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMESTAMP: &str = "obsync 202501312359";

    #[test]
    fn the_mark_goes_before_the_extension() {
        assert_eq!(
            name("Note.v2.md", false, TIMESTAMP, 1, 255),
            "Note.v2 (Conflicted copy obsync 202501312359).md"
        );
        assert_eq!(name("Note", false, TIMESTAMP, 2, 255), "Note (Conflicted copy obsync 202501312359 2)");
        assert_eq!(
            name(".hidden", false, TIMESTAMP, 1, 255),
            ".hidden (Conflicted copy obsync 202501312359)"
        );
        assert_eq!(name("v1.2", true, TIMESTAMP, 1, 255), "v1.2 (Conflicted copy obsync 202501312359)");
    }

    #[test]
    fn a_copy_bears_the_name_of_its_device_without_what_no_name_may_have() {
        let of =
            |device: &str| name("Note.md", false, &format!("{} {TIME}", DeviceName::new(device)), 2, 255);
        const TIME: &str = "202501312359";
        assert_eq!(of("Ada's laptop"), "Note (Conflicted copy Ada's laptop 202501312359 2).md");
        assert_eq!(of("../a:b\\c*|?(x) [y]"), "Note (Conflicted copy ..abcx y 202501312359 2).md");
        assert_eq!(of(" \n.  "), "Note (Conflicted copy obsync 202501312359 2).md");
        let long = "語".repeat(60);
        assert_eq!(DeviceName::new(&long).to_string(), "語".repeat(13));
        for device in ["Ada's laptop", "box 7", "202501312359", &long] {
            let copy = of(device);
            assert!(is_copy_of(&copy, "Note.md", false, 255), "{copy}");
            assert!(copy.starts_with(beginning("Note.md", false, 255)), "{copy}");
        }
    }

    #[test]
    fn a_copy_is_known_by_its_name() {
        for (of, ends_with_mark) in
            [("Note.v2.md", false), ("Note", false), ("app.json", true), ("v1.2", true)]
        {
            for copy in [1, 2, 10] {
                let made = name(of, ends_with_mark, TIMESTAMP, copy, 255);
                assert!(is_copy_of(&made, of, ends_with_mark, 255), "{made}");
                assert!(made.starts_with(beginning(of, ends_with_mark, 255)), "{made}");
                assert!(!is_copy_of(&made, &format!("x{of}"), ends_with_mark, 255), "{made}");
            }
            assert!(!is_copy_of(of, of, ends_with_mark, 255));
        }
        assert!(!is_copy_of("a (Conflicted copy obsync mine).md", "a.md", false, 255));
    }

    #[test]
    fn a_long_name_is_shortened_between_two_characters() {
        for length in 60..85 {
            let long = format!("{}.md", "語".repeat(length));
            let copy_name = name(&long, false, TIMESTAMP, 3, 255);
            assert!(copy_name.len() <= 255, "{} bytes", copy_name.len());
            assert!(copy_name.ends_with(" (Conflicted copy obsync 202501312359 3).md"));
            assert!(copy_name.starts_with('語'));
            assert!(
                is_copy_of(&copy_name, &long, false, 255)
                    && copy_name.starts_with(beginning(&long, false, 255))
            );
            assert!(!is_copy_of(&copy_name, &format!("{long}x"), false, 255));
        }
    }

    #[test]
    fn a_copy_is_known_whatever_limit_it_was_shortened_for() {
        let path = |name: &str| VaultPath::parse(&format!("folder/{name}")).unwrap();
        let long = format!("{}.md", "語".repeat(40));
        for limit in [143, 255, 700] {
            let copy = super::path(&path(&long), false, TIMESTAMP, 1, limit).unwrap();
            assert!(copy.file_name().len() <= limit && is_of(&copy, &path(&long)), "{copy}");
            assert!(!is_of(&copy, &path(&format!("x{long}"))), "{copy}");
        }
        let short = super::path(&path("a.md"), false, TIMESTAMP, 1, 143).unwrap();
        assert!(is_of(&short, &path("a.md")) && !is_of(&short, &path("ab.md")), "nothing was cut off");
    }

    #[test]
    fn an_extension_that_leaves_no_room_is_shortened_with_the_rest() {
        let long = format!("a.{}", "x".repeat(250));
        let copy_name = name(&long, false, TIMESTAMP, 1, 255);
        assert_eq!(copy_name.len(), 255);
        assert!(copy_name.starts_with("a.xxx") && copy_name.ends_with("202501312359)"));
    }
}
