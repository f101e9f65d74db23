//! How errors are told, and texts that come from elsewhere repeated: on one line, whole, and no longer than people read.

use std::error::Error;

/// The longest text from elsewhere that is repeated, in characters.
const LONGEST: usize = 300;

/// The text of an error and those of its reasons, each once: many errors tell their reason as part of their own text.
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

/// A text from elsewhere made fit for an error message or a terminal: on one line, without control characters, and with an
/// ellipsis after 300 characters.
#[must_use]
pub fn printable(text: &str) -> String {
    let words = text.split(|character: char| character.is_whitespace() || character.is_control());
    let words = words.filter(|word| !word.is_empty());
    let mut characters = words.flat_map(|word| [" ", word]).flat_map(str::chars).skip(1);
    let mut shown: String = characters.by_ref().take(LONGEST).collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
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
        let told = Layer("no route: timed out", Some(Box::new(Layer("timed out", None))));
        assert_eq!(with_reasons(&told), "no route: timed out");
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
}
