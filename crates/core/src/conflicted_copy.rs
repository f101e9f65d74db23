//! The names of conflicted copies: what is in the way and was not written by obsync is kept under a name beside its own.

/// When a conflicted copy is made, as its name tells it: year, month, day, hour and minute, local time.
pub fn stamp() -> String {
    jiff::Zoned::now().strftime("%Y%m%d%H%M").to_string()
}

/// What the mark of a copy begins with.
const MARK: &str = " (Conflicted copy obsync ";

/// `name (Conflicted copy obsync 202501312359).md`, and from the second copy on `… 2).md`; at most `limit` bytes long.
/// With `ends_with_mark` the extension is a part of the name, as that of a folder is, and the mark comes last.
pub fn name(name: &str, ends_with_mark: bool, stamp: &str, copy: u32, limit: usize) -> String {
    let (mut stem, mut extension) = parts(name, ends_with_mark);
    let mark = match copy {
        1 => format!("{MARK}{stamp})"),
        _ => format!("{MARK}{stamp} {copy})"),
    };
    if mark.len() + extension.len() >= limit {
        (stem, extension) = (name, "");
    }
    let room = limit.saturating_sub(mark.len() + extension.len());
    let kept = stem.get(..stem.floor_char_boundary(room)).unwrap_or_default();
    format!("{kept}{mark}{extension}")
}

/// Whether a name is that of a copy of `name`, as [`name`] makes it where it need not shorten anything.
pub fn is_copy_of(copy: &str, name: &str, ends_with_mark: bool) -> bool {
    let (stem, extension) = parts(name, ends_with_mark);
    let mark = copy.strip_prefix(stem).and_then(|rest| rest.strip_suffix(extension));
    mark.and_then(|mark| mark.strip_prefix(MARK)?.strip_suffix(')')).is_some_and(|stamp| {
        !stamp.is_empty() && stamp.bytes().all(|byte| byte.is_ascii_digit() || byte == b' ')
    })
}

/// What comes before the mark of a copy, and what after.
fn parts(name: &str, ends_with_mark: bool) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 && dot + 1 < name.len() && !ends_with_mark => name.split_at(dot),
        _ => (name, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: &str = "202501312359";

    #[test]
    fn the_mark_goes_before_the_extension() {
        assert_eq!(
            name("Note.v2.md", false, STAMP, 1, 255),
            "Note.v2 (Conflicted copy obsync 202501312359).md"
        );
        assert_eq!(name("Note", false, STAMP, 2, 255), "Note (Conflicted copy obsync 202501312359 2)");
        assert_eq!(name(".hidden", false, STAMP, 1, 255), ".hidden (Conflicted copy obsync 202501312359)");
        assert_eq!(name("v1.2", true, STAMP, 1, 255), "v1.2 (Conflicted copy obsync 202501312359)");
    }

    #[test]
    fn a_copy_is_known_by_its_name() {
        for (of, ends_with_mark) in
            [("Note.v2.md", false), ("Note", false), ("app.json", true), ("v1.2", true)]
        {
            for copy in [1, 2, 10] {
                let made = name(of, ends_with_mark, STAMP, copy, 255);
                assert!(is_copy_of(&made, of, ends_with_mark), "{made}");
                assert!(!is_copy_of(&made, &format!("x{of}"), ends_with_mark), "{made}");
            }
            assert!(!is_copy_of(of, of, ends_with_mark));
        }
        assert!(!is_copy_of("a (Conflicted copy obsync mine).md", "a.md", false));
    }

    #[test]
    fn a_long_name_is_shortened_between_two_characters() {
        for length in 60..85 {
            let long = format!("{}.md", "語".repeat(length));
            let aside = name(&long, false, STAMP, 3, 255);
            assert!(aside.len() <= 255, "{} bytes", aside.len());
            assert!(aside.ends_with(" (Conflicted copy obsync 202501312359 3).md"));
            assert!(aside.starts_with('語'));
        }
    }

    #[test]
    fn an_extension_that_leaves_no_room_is_shortened_with_the_rest() {
        let long = format!("a.{}", "x".repeat(250));
        let aside = name(&long, false, STAMP, 1, 255);
        assert_eq!(aside.len(), 255);
        assert!(aside.starts_with("a.xxx") && aside.ends_with("202501312359)"));
    }
}
