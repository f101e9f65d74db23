//! The names of conflicted copies: what is in the way and was not written by obsync is kept under a name beside its own.

/// When a conflicted copy is made, as its name tells it: year, month, day, hour and minute, local time.
pub fn stamp() -> String {
    jiff::Zoned::now().strftime("%Y%m%d%H%M").to_string()
}

/// `name (Conflicted copy obsync 202501312359).md`, and from the second copy on `… 2).md`; at most `limit` bytes long.
/// The extension of a folder is part of its name.
pub fn name(name: &str, is_folder: bool, stamp: &str, copy: u32, limit: usize) -> String {
    let (mut stem, mut extension) = match name.rfind('.') {
        Some(dot) if dot > 0 && dot + 1 < name.len() && !is_folder => name.split_at(dot),
        _ => (name, ""),
    };
    let mark = match copy {
        1 => format!(" (Conflicted copy obsync {stamp})"),
        _ => format!(" (Conflicted copy obsync {stamp} {copy})"),
    };
    if mark.len() + extension.len() >= limit {
        (stem, extension) = (name, "");
    }
    let room = limit.saturating_sub(mark.len() + extension.len());
    let kept = stem.get(..stem.floor_char_boundary(room)).unwrap_or_default();
    format!("{kept}{mark}{extension}")
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
