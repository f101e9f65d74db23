//! Merge of text by lines.
//!
//! Line ends, the newline at the end of the file and a byte order mark are merged as properties of the file,
//! so that an editor that changes them on one side does not collide with every edit of the other. If a file
//! has both kinds of line ends, they are compared as parts of the lines.

use imara_diff::{Algorithm, Diff, Hunk, Interner, Token};
use obsync_protocol::limits::COMPARED_LINES;

use super::no_merge::NoMerge;

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Merges the changes of both sides.
pub(super) fn merge(base: &str, local: &str, remote: &str) -> Result<String, NoMerge> {
    let is_mixed = [base, local, remote].into_iter().any(has_both_ends);
    let [base, local, remote] = [base, local, remote].map(|text| Text::read(text, is_mixed));
    let lines = merge_lines(&base.lines, &local.lines, &remote.lines)?;
    let merged = Text {
        has_mark: of_three(base.has_mark, local.has_mark, remote.has_mark),
        lines,
        end: of_three(base.end, local.end, remote.end),
        is_ended: of_three(base.is_ended, local.is_ended, remote.is_ended),
    };
    Ok(merged.write())
}

/// Merges a property of a file. It has two values, so sides that both changed it agree.
fn of_three<T: PartialEq>(base: T, local: T, remote: T) -> T {
    if local == base { remote } else { local }
}

fn has_both_ends(text: &str) -> bool {
    let with_return = text.matches("\r\n").count();
    with_return != 0 && with_return != text.matches('\n').count()
}

/// A text split into lines and properties.
struct Text<'a> {
    has_mark: bool,
    lines: Vec<&'a str>,
    /// The line end; empty if line ends are parts of the lines.
    end: &'static str,
    /// True if the last line has an end, too.
    is_ended: bool,
}

impl<'a> Text<'a> {
    fn read(text: &'a str, is_mixed: bool) -> Self {
        let has_mark = text.starts_with(BYTE_ORDER_MARK);
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        let end = match text.contains("\r\n") {
            _ if is_mixed => "",
            true => "\r\n",
            false => "\n",
        };
        let lines = text.split_inclusive('\n').map(|line| line.strip_suffix(end).unwrap_or(line)).collect();
        Self { has_mark, lines, end, is_ended: text.ends_with('\n') }
    }

    fn write(&self) -> String {
        let length = self.lines.iter().map(|line| line.len() + self.end.len()).sum::<usize>();
        let mut text = String::with_capacity(length + BYTE_ORDER_MARK.len_utf8());
        text.extend(self.has_mark.then_some(BYTE_ORDER_MARK));
        for (position, line) in self.lines.iter().enumerate() {
            text.push_str(line);
            if self.is_ended || position + 1 < self.lines.len() {
                text.push_str(self.end);
            }
        }
        text
    }
}

fn merge_lines<'a>(base: &[&'a str], local: &[&'a str], remote: &[&'a str]) -> Result<Vec<&'a str>, NoMerge> {
    let mut interner = Interner::new(base.len() + local.len() + remote.len());
    let [base_tokens, local_tokens, remote_tokens] = [base, local, remote]
        .map(|lines| lines.iter().map(|line| interner.intern(*line)).collect::<Vec<Token>>());
    let changes = |after: &[Token]| changes(&base_tokens, after, interner.num_tokens());
    let (local_changes, remote_changes) = (changes(&local_tokens)?, changes(&remote_tokens)?);
    let (mut ours, mut theirs) = (local_changes.iter().peekable(), remote_changes.iter().peekable());
    let (mut merged, mut at) = (Vec::with_capacity(local.len().max(remote.len())), 0);
    loop {
        let (hunk, after) = match (ours.peek(), theirs.peek()) {
            (Some(one), Some(other)) if collide(one, other) => {
                let is_same = one.before == other.before
                    && of(&local_tokens, &one.after) == of(&remote_tokens, &other.after);
                if !is_same {
                    return Err(NoMerge::Overlap);
                }
                theirs.next();
                (ours.next(), local)
            }
            (Some(one), other) if other.is_none_or(|other| one.before.start < other.before.start) => {
                (ours.next(), local)
            }
            _ => (theirs.next(), remote),
        };
        let Some(hunk) = hunk else { break };
        merged.extend_from_slice(of(base, &(at..hunk.before.start)));
        merged.extend_from_slice(of(after, &hunk.after));
        at = hunk.before.end;
    }
    merged.extend_from_slice(base.get(at as usize..).unwrap_or_default());
    Ok(merged)
}

/// The changes of one side, as small as possible: if as many lines replace others, each replaces one. So an
/// edit of the line above an edit of the other side is one change before a merge and after it.
fn changes(before: &[Token], after: &[Token], tokens: u32) -> Result<Vec<Hunk>, NoMerge> {
    if differing(before, after).saturating_mul(differing(after, before)) > COMPARED_LINES {
        return Err(NoMerge::TooLarge);
    }
    let mut diff = Diff::default();
    diff.compute_with(Algorithm::Histogram, before, after, tokens);
    Ok(diff.hunks().flat_map(split).collect())
}

/// Number of lines without the common ones at the beginning and at the end.
fn differing(one: &[Token], other: &[Token]) -> usize {
    let equal = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    let rest = one[equal..].iter().rev().zip(other[equal..].iter().rev());
    one.len() - equal - rest.take_while(|(one, other)| one == other).count()
}

fn split(hunk: Hunk) -> Vec<Hunk> {
    if hunk.before.len() != hunk.after.len() {
        return vec![hunk];
    }
    let single = |at: u32| at..at + 1;
    hunk.before
        .zip(hunk.after)
        .map(|(before, after)| Hunk { before: single(before), after: single(after) })
        .collect()
}

/// True if two changes concern the same lines. Added lines also belong to the lines around them: the order of
/// two additions at one place is unknown.
fn collide(one: &Hunk, other: &Hunk) -> bool {
    let (one_first, other_first) = (one.before.end, other.before.end);
    if one.is_pure_insertion() || other.is_pure_insertion() {
        one.before.start <= other_first && other.before.start <= one_first
    } else {
        one.before.start < other_first && other.before.start < one_first
    }
}

fn of<'a, T>(items: &'a [T], range: &std::ops::Range<u32>) -> &'a [T] {
    items.get(range.start as usize..range.end as usize).unwrap_or_default()
}
