//! Removes known secrets from untrusted text before it becomes an error, a report or a stored reason.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use zeroize::Zeroizing;

use crate::limits::LEAST_SECRET_SEARCHED;
use crate::printable;

/// Replacement of a secret.
const REDACTED: &str = "[secret]";
/// Replacement of a text.
const WITHHELD: &str = "[withheld: the text repeats a secret]";
/// Least length in bytes of a secret that is searched for in this program's own output, as tokens and keys
/// have. A password may be a word, and removing that from every path would damage a report and reveal the
/// password.
const LEAST_IN_OWN: usize = 20;
/// Searched bytes of a text: far more than is shown of any. The sender must not control how long the search
/// takes.
const MOST_SEARCHED: usize = 4096;
/// Least number of letters and digits of a secret that is searched for in a text reduced to its letters and
/// digits.
const LEAST_SQUEEZED: usize = 6;

/// The secrets of one program: tokens, passwords, codes, key hashes. Clones share them.
///
/// The server knows most of them and can repeat them in any text, while logs and reports go to places that
/// must not have them.
#[derive(Clone, Default)]
pub struct Redactor(Arc<RwLock<Vec<Secret>>>);

struct Secret {
    plain: Zeroizing<String>,
    squeezed: Zeroizing<String>,
}

impl Redactor {
    /// Adds a secret. An empty one is ignored.
    pub fn know(&self, secret: &str) {
        if secret.is_empty() {
            return;
        }
        let mut secrets = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if secrets.iter().all(|known| *known.plain != secret) {
            let squeezed = Zeroizing::new(squeeze(secret));
            secrets.push(Secret { plain: Zeroizing::new(secret.to_owned()), squeezed });
        }
    }

    /// Removes the secrets from a text of the other side, in any letter case. The whole text is withheld if
    /// it has a secret of less than [`LEAST_SECRET_SEARCHED`] bytes, or one whose letters and digits are
    /// there with other characters in between. A text of more than 4 KiB is truncated.
    #[must_use]
    pub fn take_out<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if secrets.is_empty() {
            return Cow::Borrowed(text);
        }
        let longest = secrets.iter().map(|secret| secret.plain.len()).max().unwrap_or_default();
        let searched = text.get(..text.floor_char_boundary(MOST_SEARCHED + longest)).unwrap_or(text);
        let mut left = replace(searched, &secrets, LEAST_SECRET_SEARCHED);
        if searched.len() < text.len() {
            // A secret that begins there may extend beyond the searched part.
            let end = left.floor_char_boundary(left.len().saturating_sub(longest));
            left.to_mut().truncate(end);
        }
        let squeezed = Zeroizing::new(squeeze(&left));
        let is_repeated = |secret: &Secret| {
            let is_short = secret.plain.len() < LEAST_SECRET_SEARCHED;
            (is_short && find(&left, &secret.plain).is_some())
                || (secret.squeezed.len() >= LEAST_SQUEEZED && squeezed.contains(secret.squeezed.as_str()))
        };
        if secrets.iter().any(is_repeated) {
            left = Cow::Borrowed(WITHHELD);
        }
        left
    }

    /// True if a text repeats a secret that is long enough to be searched for.
    #[must_use]
    pub fn is_repeated_in(&self, text: &str) -> bool {
        let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        matches!(replace(text, &secrets, LEAST_SECRET_SEARCHED), Cow::Owned(_))
    }

    /// The same for a text that is partly this program's own, such as a whole report: secrets of at least 20
    /// bytes are replaced, and nothing else is changed.
    #[must_use]
    pub fn take_out_of_own<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        replace(text, &secrets, LEAST_IN_OWN)
    }

    /// A text of the other side for an error message: without the secrets, and [`printable`].
    #[must_use]
    pub fn printable(&self, text: &str) -> String {
        printable(&self.take_out(text))
    }
}

/// Replaces all secrets of at least `least` bytes.
fn replace<'t>(text: &'t str, secrets: &[Secret], least: usize) -> Cow<'t, str> {
    let mut left = Cow::Borrowed(text);
    for secret in secrets.iter().filter(|secret| secret.plain.len() >= least) {
        let mut from = 0;
        while let Some(at) = left.get(from..).and_then(|rest| find(rest, &secret.plain)) {
            let at = from + at;
            left.to_mut().replace_range(at..at + secret.plain.len(), REDACTED);
            from = at + REDACTED.len();
        }
    }
    left
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

/// Position of a secret in a text, ignoring ASCII case.
fn find(text: &str, secret: &str) -> Option<usize> {
    let (text_bytes, secret) = (text.as_bytes(), secret.as_bytes());
    let last = text_bytes.len().checked_sub(secret.len())?;
    (0..=last).find(|&at| {
        text.is_char_boundary(at)
            && text.is_char_boundary(at + secret.len())
            && text_bytes.get(at..at + secret.len()).is_some_and(|part| part.eq_ignore_ascii_case(secret))
    })
}

/// The letters and digits of a text, lower-case.
fn squeeze(text: &str) -> String {
    text.chars().filter(|character| character.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knowing(secrets: &[&str]) -> Redactor {
        let redactor = Redactor::default();
        secrets.iter().for_each(|secret| redactor.know(secret));
        redactor
    }

    #[test]
    fn a_secret_is_taken_out_wherever_it_stands_and_however_often() {
        let redactor = knowing(&["0123abcd0123abcd", "correct horse"]);
        assert_eq!(
            redactor.take_out("0123ABCD0123abcd: token 0123abcd0123abcd, or correct horse?"),
            "[secret]: token [secret], or [secret]?"
        );
        assert_eq!(redactor.take_out("no such vault"), "no such vault");
        assert!(matches!(redactor.take_out("no such vault"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_text_that_repeats_a_short_secret_is_withheld_whole() {
        let redactor = knowing(&["123456", "pw"]);
        for text in ["the code 123456 is wrong", "123456", "x123456x", "PW", "1-2-3 4\u{200b}56"] {
            assert_eq!(redactor.take_out(text), WITHHELD, "{text:?}");
        }
        assert_eq!(redactor.take_out("the code is wrong"), "the code is wrong");
    }

    #[test]
    fn a_secret_with_something_between_its_letters_is_not_repeated_either() {
        let redactor = knowing(&["0123abcd-0123abcd"]);
        for text in ["0123 abcd 0123 abcd", "0\u{0}123abcd\n0123abcd", "x 0.1.2.3.a.b.c.d.0.1.2.3.a.b.c.d"] {
            assert_eq!(redactor.take_out(text), WITHHELD, "{text:?}");
        }
    }

    #[test]
    fn a_secret_at_the_end_of_a_long_text_is_not_cut_into_view() {
        let redactor = knowing(&["0123abcd0123abcd"]);
        let shown = redactor.printable(&format!("{}0123abcd0123abcd", "x".repeat(292)));
        assert!(!shown.contains("0123abcd"), "{shown}");
    }

    #[test]
    fn a_long_text_is_cut_before_it_is_searched_and_never_within_a_secret() {
        let redactor = knowing(&["0123abcd0123abcd", &"s".repeat(1000)]);
        for at in (MOST_SEARCHED - 40)..(MOST_SEARCHED + 1100) {
            let text = format!("{}0123abcd0123abcd{}", "x".repeat(at), "y".repeat(60_000));
            let left = redactor.take_out(&text);
            assert!(left.len() <= MOST_SEARCHED + 1000 && !left.contains("0123"), "{at}");
        }
        let short = "x".repeat(MOST_SEARCHED);
        assert_eq!(redactor.take_out(&short), short);
    }

    #[test]
    fn what_is_known_is_not_shown() {
        assert_eq!(format!("{:?}", knowing(&["0123abcd0123abcd"])), "Redactor");
    }
}
