//! Formats errors with their source chain, and makes untrusted text safe to print: on one line, without
//! characters that control a terminal or reorder the shown text, and limited in length.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Write as _;

use crate::limits::NAME_SHOWN;

/// Limit of a repeated untrusted text, in characters.
const LONGEST: usize = 300;

/// The text of an error and those of its sources, each once: many errors have their source's text in their
/// own.
#[must_use]
pub fn with_reasons(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(reason) = next {
        let more = reason.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = reason.source();
    }
    text
}

/// True if a character is not printed as it is: C0 and C1 controls, line and paragraph separators, and
/// characters that reorder the text around them (UAX #9).
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// Makes an untrusted text safe for an error message or a terminal: white space and control characters as one
/// space, reordering characters as escapes, and an ellipsis after 300 characters.
#[must_use]
pub fn printable(text: &str) -> String {
    let words = text.split(|character: char| character.is_whitespace() || character.is_control());
    let words = words.filter(|word| !word.is_empty());
    let mut characters = words.flat_map(|word| [" ", word]).flat_map(str::chars).skip(1);
    let shown: String = characters.by_ref().take(LONGEST).collect();
    let mut shown = escaped(&shown).into_owned();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

/// A text with every character that is not safe to print, including line breaks, as an escape such as
/// `\u{1b}`.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    escaped_where(text, is_unsafe)
}

/// The same with line breaks unchanged: for texts of several lines whose names were [`escaped`].
#[must_use]
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    escaped_where(text, |character| character != '\n' && is_unsafe(character))
}

fn escaped_where(text: &str, is_unsafe: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_unsafe(character) {
            safe.extend(character.escape_unicode());
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

/// A JSON document in which characters that are not safe to print, but allowed in a JSON string, are JSON
/// escapes: it parses to the same document.
#[must_use]
pub fn escaped_json(document: &str) -> Cow<'_, str> {
    let is_unsafe = |character: char| !matches!(character, '\n' | '\r' | '\t') && is_unsafe(character);
    if !document.contains(is_unsafe) {
        return Cow::Borrowed(document);
    }
    let mut safe = String::with_capacity(document.len() + 16);
    for character in document.chars() {
        if is_unsafe(character) {
            // All of these are in the basic plane. Writing to a String cannot fail.
            let _ = write!(safe, "\\u{:04x}", u32::from(character));
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

/// An untrusted name or path for a terminal: [`escaped`], and with an ellipsis after [`NAME_SHOWN`]
/// characters.
#[must_use]
pub fn shown_name(name: &str) -> Cow<'_, str> {
    match short_name(name) {
        Cow::Borrowed(name) => escaped(name),
        Cow::Owned(name) => Cow::Owned(escaped(&name).into_owned()),
    }
}

/// An untrusted name, with an ellipsis after [`NAME_SHOWN`] characters.
#[must_use]
pub fn short_name(name: &str) -> Cow<'_, str> {
    match name.char_indices().nth(NAME_SHOWN) {
        None => Cow::Borrowed(name),
        Some((end, _)) => Cow::Owned(format!("{}…", name.get(..end).unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl fmt::Display for Layer {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|layer| layer as &(dyn Error + 'static))
        }
    }

    #[test]
    fn every_reason_is_told_once() {
        let error = Layer("no route: timed out", Some(Box::new(Layer("timed out", None))));
        assert_eq!(with_reasons(&error), "no route: timed out");
        let chain =
            Layer("no route", Some(Box::new(Layer("cable", Some(Box::new(Layer("unplugged", None)))))));
        assert_eq!(with_reasons(&chain), "no route: cable: unplugged");
    }

    #[test]
    fn a_text_from_elsewhere_cannot_flood_or_steer_a_terminal() {
        let hostile = format!("\u{1b}[2J{}", "x".repeat(1_000_000));
        let shown = printable(&hostile);
        assert!(!shown.contains('\u{1b}'));
        assert!(shown.chars().count() <= LONGEST + 1);
        assert!(shown.ends_with('…'));
        assert_eq!(printable(" No\r\n  such\tbucket \n"), "No such bucket");
        assert_eq!(printable(&"x".repeat(LONGEST)), "x".repeat(LONGEST));
    }

    #[test]
    fn what_reorders_or_breaks_a_line_is_escaped() {
        assert_eq!(printable("evil\u{202e}dm.exe \u{2066}x"), "evil\\u{202e}dm.exe \\u{2066}x");
        assert_eq!(
            escaped("a\nb\u{85}c\u{9b}d\u{2028}e\u{61c}f"),
            "a\\u{a}b\\u{85}c\\u{9b}d\\u{2028}e\\u{61c}f"
        );
        assert_eq!(escaped_lines("a\nb\u{200f}c"), "a\nb\\u{200f}c");
        assert_eq!(escaped("Ünïcode עברית 日本 👩‍👩‍👧"), "Ünïcode עברית 日本 👩‍👩‍👧");
    }

    #[test]
    fn an_escaped_document_says_the_same() {
        let names = ["a\u{9b}31m\u{202e}b\u{2028}\u{7f}\u{1b}\n", "plain \u{1f600} 日本"];
        let document = serde_json::to_string_pretty(&names).unwrap_or_default();
        let safe = escaped_json(&document);
        assert!(!safe.contains(|character| character != '\n' && is_unsafe(character)), "{safe:?}");
        let read: Vec<String> = serde_json::from_str(&safe).unwrap_or_default();
        assert_eq!(read, names);
    }

    #[test]
    fn a_name_is_cut_at_two_hundred_characters() {
        assert_eq!(shown_name(&"é".repeat(200)), "é".repeat(200));
        assert_eq!(shown_name(&"é".repeat(201)), "é".repeat(200) + "…");
        assert_eq!(shown_name("a\nb"), "a\\u{a}b");
    }
}
