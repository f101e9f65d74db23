//! Breaks lines at their words, for terminals that are narrower than the text.

use unicode_width::UnicodeWidthStr;

use crate::ui::width::USUAL;

/// Wraps text to `width` columns, except for wider words. A line of two columns continues below its second
/// one, if that leaves half of the width. Commands stay whole, so that they can be copied.
pub(crate) fn to_width(text: &str, width: usize) -> String {
    text.split('\n').map(|line| broken(line, width)).collect::<Vec<_>>().join("\n")
}

/// The same for a text that was wrapped to 80 columns, the width of help: those breaks are removed first.
pub(crate) fn help_to_width(text: &str, width: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut before = "";
    for line in text.split('\n') {
        match lines.last_mut() {
            Some(whole) if goes_on(whole, before, line) => {
                whole.push(' ');
                whole.push_str(line.trim_start());
            }
            _ => lines.push(line.to_owned()),
        }
        before = line;
    }
    to_width(&lines.join("\n"), width)
}

/// True if a line continues the ones before it, which are `whole` together: the last of them had no room for
/// its first word.
fn goes_on(whole: &str, before: &str, line: &str) -> bool {
    let is_command = |line: &str| format!(" {line}").contains(" obsync ");
    let Some(word) = line.split_whitespace().next() else { return false };
    let below = second_column(whole).unwrap_or_else(|| indent(whole));
    let is_below = indent(line) == below && second_column(line).is_none();
    is_below && !is_command(whole) && !is_command(line) && before.width() + 1 + word.width() > USUAL
}

fn indent(line: &str) -> usize {
    line.width() - line.trim_start_matches(' ').width()
}

fn broken(line: &str, width: usize) -> String {
    if line.width() <= width || line.trim_start().starts_with("obsync ") {
        return line.to_owned();
    }
    let layout = Layout::of(line, width);
    let mut text = " ".repeat(layout.begins);
    let mut column = layout.begins;
    let mut is_first = true;
    for (spaces, word) in words(line) {
        let spaces = if is_first { 0 } else { spaces };
        let is_column = spaces > 1 && layout.has_own_lines;
        if !is_first && (is_column || column + spaces + word.width() > width) {
            // A word too wide for the rest of the line may still fit further to the left.
            let indent = layout.goes_on.min(width.saturating_sub(word.width()));
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            column = indent;
        } else {
            text.push_str(&" ".repeat(spaces));
            column += spaces;
        }
        text.push_str(word);
        column += word.width();
        is_first = false;
    }
    text
}

/// Where the wrapped parts of one line begin.
struct Layout {
    begins: usize,
    goes_on: usize,
    /// The second column has no room beside the first one, and goes below it.
    has_own_lines: bool,
}

impl Layout {
    fn of(line: &str, width: usize) -> Self {
        /// The additional indent of text that belongs to the line above it.
        const STEP: usize = 4;
        let begins = indent(line);
        // The rest of a second column without room on the right.
        let begins = if begins > width / 2 { 2 + STEP } else { begins };
        match second_column(line) {
            Some(column) if column <= width / 2 => Layout { begins, goes_on: column, has_own_lines: false },
            Some(_) => Layout { begins, goes_on: begins + STEP, has_own_lines: true },
            None => Layout { begins, goes_on: begins, has_own_lines: false },
        }
    }
}

/// Where a second column begins: after the first two or more spaces that are not the line's indent.
fn second_column(line: &str) -> Option<usize> {
    let text = line.trim_start_matches(' ');
    let indent = line.len() - text.len();
    let gap = text.find("  ")?;
    let column = gap + text[gap..].len() - text[gap..].trim_start_matches(' ').len();
    Some(line[..indent + column].width())
}

/// The words of a line, each with the number of spaces before it.
fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut spaces = 0;
    line.split(' ').filter_map(move |word| {
        if word.is_empty() {
            spaces += 1;
            return None;
        }
        let before = std::mem::replace(&mut spaces, 1);
        Some((before, word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_as_it_was() {
        for text in ["", "short", "  a  b", "two\nlines\n"] {
            assert_eq!(to_width(text, 10), text);
        }
    }

    #[test]
    fn prose_goes_on_where_it_began() {
        assert_eq!(to_width("one two three four", 9), "one two\nthree\nfour");
        assert_eq!(to_width("  one two three", 9), "  one two\n  three");
    }

    #[test]
    fn a_second_column_goes_on_below_itself_where_it_has_half_of_the_width() {
        assert_eq!(to_width(" 10  one two three", 14), " 10  one two\n     three");
        assert_eq!(to_width("  A_LONG_NAME  one two", 16), "  A_LONG_NAME\n      one two");
        assert_eq!(to_width("               one two", 16), "      one two");
    }

    #[test]
    fn help_is_broken_as_if_it_had_not_been_broken_before() {
        let first = "  1  an error that none of the others describes (destination not usable, no";
        let text = format!("{first}\n     space for anything)\n  2  the command line");
        assert_eq!(
            help_to_width(&text, 48),
            "  1  an error that none of the others describes\n     (destination not usable, no space for\n     anything)\n  2  the command line"
        );
        let commands = format!("  obsync {}\n  obsync login", "x".repeat(70));
        assert_eq!(help_to_width(&commands, 40), commands);
    }

    #[test]
    fn a_word_that_is_too_wide_is_left_to_the_terminal_and_a_command_stays_whole() {
        assert_eq!(to_width("to /a/very/long/path", 10), "to\n/a/very/long/path");
        assert_eq!(to_width("  vault  (0123456789)", 14), "  vault\n  (0123456789)");
        let command = "  obsync pull \"My Vault\" ./notes";
        assert_eq!(to_width(command, 10), command);
    }

    #[test]
    fn wide_characters_count_as_two() {
        assert_eq!(to_width("日本 日本 日本", 10), "日本 日本\n日本");
    }
}
