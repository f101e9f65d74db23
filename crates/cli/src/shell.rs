//! Commands in messages, as a shell wants them: what is copied from a message must do what the message says.

use std::borrow::Cow;

/// A command line of these words, each quoted where a POSIX shell would take it for something else.
pub(crate) fn command<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(word).collect::<Vec<_>>().join(" ")
}

/// A word of a command line. One with a zero byte is told as it is: no argument of a program can have one.
pub(crate) fn word(text: &str) -> Cow<'_, str> {
    shlex::try_quote(text).unwrap_or(Cow::Borrowed(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_they_need_it() {
        assert_eq!(command(["obsync", "reset", "./notes"]), "obsync reset ./notes");
        for (text, quoted) in
            [("my notes", "'my notes'"), ("$HOME", "'$HOME'"), ("a;b", "'a;b'"), ("~", "'~'"), ("", "''")]
        {
            assert_eq!(word(text), quoted);
        }
    }

    #[test]
    fn a_shell_reads_what_was_quoted() {
        for text in ["my notes", "it's", "\"both\" 'kinds'", "$(reboot) `x` \\ !", "*", "日記 🗒", "a\nb"]
        {
            assert_eq!(shlex::split(&command(["obsync", text])).unwrap(), ["obsync", text]);
        }
    }
}
