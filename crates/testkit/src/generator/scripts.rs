//! The letters of many scripts, for names from all over the world.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// A script: inclusive ranges of code points for letters, and for marks that follow a letter.
pub(super) struct Script {
    letters: &'static [(u32, u32)],
    marks: &'static [(u32, u32)],
}

/// A row of the table; the name is for readers.
const fn script(_name: &'static str, letters: &'static [(u32, u32)], marks: &'static [(u32, u32)]) -> Script {
    Script { letters, marks }
}

/// Right-to-left, CJK, scripts with combining marks, scripts outside the BMP, and emoji.
pub(super) const SCRIPTS: &[Script] = &[
    script("Latin", &[(0x61, 0x7a)], &[]),
    script("Latin with accents", &[(0xe0, 0xf6), (0x101, 0x17e)], &[]),
    script("Vietnamese", &[(0x1ea1, 0x1ef9)], &[]),
    script("Latin with combining marks", &[(0x61, 0x7a)], &[(0x300, 0x36f)]),
    script("Greek", &[(0x3b1, 0x3c9)], &[]),
    script("Cyrillic", &[(0x430, 0x45f)], &[]),
    script("Armenian", &[(0x561, 0x586)], &[]),
    script("Hebrew", &[(0x5d0, 0x5ea)], &[(0x5b0, 0x5bc)]),
    script("Arabic", &[(0x627, 0x63a), (0x641, 0x64a)], &[(0x64b, 0x652)]),
    script("Syriac", &[(0x712, 0x72c)], &[(0x730, 0x74a)]),
    script("Thaana", &[(0x780, 0x7a5)], &[(0x7a6, 0x7b0)]),
    script("N'Ko", &[(0x7ca, 0x7ea)], &[(0x7eb, 0x7f3)]),
    script("Samaritan", &[(0x800, 0x815)], &[]),
    script("Mandaic", &[(0x840, 0x858)], &[]),
    script("Devanagari", &[(0x905, 0x939)], &[(0x93e, 0x94d)]),
    script("Bengali", &[(0x995, 0x9a8)], &[(0x9be, 0x9c4)]),
    script("Gurmukhi", &[(0xa15, 0xa28)], &[(0xa3e, 0xa42)]),
    script("Gujarati", &[(0xa95, 0xaa8)], &[(0xabe, 0xac5)]),
    script("Oriya", &[(0xb15, 0xb28)], &[(0xb3e, 0xb43)]),
    script("Tamil", &[(0xbae, 0xbb9)], &[(0xbbe, 0xbc2)]),
    script("Telugu", &[(0xc15, 0xc28)], &[(0xc3e, 0xc44)]),
    script("Kannada", &[(0xc95, 0xca8)], &[(0xcbe, 0xcc4)]),
    script("Malayalam", &[(0xd15, 0xd28)], &[(0xd3e, 0xd43)]),
    script("Sinhala", &[(0xd9a, 0xdb1)], &[(0xdcf, 0xdd4)]),
    script("Thai", &[(0xe01, 0xe2e)], &[(0xe34, 0xe39), (0xe48, 0xe4b)]),
    script("Lao", &[(0xe94, 0xe97), (0xe99, 0xe9f)], &[(0xeb4, 0xeb9)]),
    script("Tibetan", &[(0xf40, 0xf47)], &[(0xf71, 0xf72)]),
    script("Myanmar", &[(0x1000, 0x1021)], &[(0x102b, 0x1032)]),
    script("Georgian", &[(0x10d0, 0x10f0)], &[]),
    script("Ethiopic", &[(0x1200, 0x1247)], &[]),
    script("Cherokee", &[(0x13a0, 0x13f4)], &[]),
    script("Canadian syllabics", &[(0x1401, 0x1650)], &[]),
    script("Ogham", &[(0x1681, 0x169a)], &[]),
    script("Runic", &[(0x16a0, 0x16ea)], &[]),
    script("Khmer", &[(0x1780, 0x17a2)], &[(0x17b6, 0x17c5)]),
    script("Mongolian", &[(0x1820, 0x1877)], &[]),
    script("Limbu", &[(0x1901, 0x191c)], &[(0x1920, 0x1922)]),
    script("Tai Le", &[(0x1950, 0x196d)], &[]),
    script("New Tai Lue", &[(0x1980, 0x19ab)], &[]),
    script("Buginese", &[(0x1a00, 0x1a16)], &[(0x1a17, 0x1a1a)]),
    script("Balinese", &[(0x1b13, 0x1b33)], &[(0x1b36, 0x1b3a)]),
    script("Sundanese", &[(0x1b8a, 0x1ba0)], &[(0x1ba4, 0x1ba9)]),
    script("Batak", &[(0x1bc0, 0x1be5)], &[]),
    script("Lepcha", &[(0x1c00, 0x1c23)], &[(0x1c26, 0x1c2b)]),
    script("Ol Chiki", &[(0x1c5a, 0x1c77)], &[]),
    script("Glagolitic", &[(0x2c30, 0x2c5e)], &[]),
    script("Coptic", &[(0x2c80, 0x2cb1)], &[]),
    script("Tifinagh", &[(0x2d30, 0x2d65)], &[]),
    script("Hiragana", &[(0x3041, 0x3096)], &[]),
    script("Katakana", &[(0x30a1, 0x30fa)], &[]),
    script("Bopomofo", &[(0x3105, 0x312f)], &[]),
    script("Han", &[(0x4e00, 0x9fa5)], &[]),
    script("Han outside the BMP", &[(0x20000, 0x2a6d6)], &[]),
    script("Hangul", &[(0xac00, 0xd7a3)], &[]),
    script("Yi", &[(0xa000, 0xa48c)], &[]),
    script("Lisu", &[(0xa4d0, 0xa4f7)], &[]),
    script("Vai", &[(0xa500, 0xa60b)], &[]),
    script("Bamum", &[(0xa6a0, 0xa6e5)], &[]),
    script("Syloti Nagri", &[(0xa80c, 0xa822)], &[(0xa823, 0xa827)]),
    script("Phags-pa", &[(0xa840, 0xa873)], &[]),
    script("Saurashtra", &[(0xa882, 0xa8b3)], &[(0xa8b5, 0xa8c3)]),
    script("Kayah Li", &[(0xa90a, 0xa925)], &[(0xa926, 0xa92d)]),
    script("Rejang", &[(0xa930, 0xa946)], &[(0xa947, 0xa951)]),
    script("Javanese", &[(0xa984, 0xa9b2)], &[(0xa9b4, 0xa9bd)]),
    script("Cham", &[(0xaa00, 0xaa28)], &[(0xaa29, 0xaa32)]),
    script("Tai Viet", &[(0xaa80, 0xaaaf)], &[]),
    script("Meetei Mayek", &[(0xabc0, 0xabe2)], &[(0xabe3, 0xabea)]),
    script("Linear B", &[(0x10000, 0x1000b)], &[]),
    script("Gothic", &[(0x10330, 0x10340)], &[]),
    script("Deseret", &[(0x10400, 0x1044f)], &[]),
    script("Cuneiform", &[(0x12000, 0x1236e)], &[]),
    script("Hieroglyphs", &[(0x13000, 0x1342e)], &[]),
    script("Mathematical letters", &[(0x1d400, 0x1d454)], &[]),
    script("Emoji", &[(0x1f300, 0x1f5fa), (0x1f600, 0x1f64f)], &[(0x1f3fb, 0x1f3ff), (0xfe0f, 0xfe0f)]),
];

impl Script {
    /// A letter, or a mark with a probability of a third where the script has marks.
    pub(super) fn letter(&self, rng: &mut ChaCha8Rng, first: bool) -> char {
        if !first && !self.marks.is_empty() && rng.random_range(0..3) == 0 {
            return pick(self.marks, rng);
        }
        pick(self.letters, rng)
    }

    /// A word of 2 to 7 letters and marks.
    pub(super) fn word(&self, rng: &mut ChaCha8Rng) -> String {
        let length = rng.random_range(2..=7);
        (0..length).map(|position| self.letter(rng, position == 0)).collect()
    }
}

fn pick(ranges: &[(u32, u32)], rng: &mut ChaCha8Rng) -> char {
    let (first, last) = ranges[rng.random_range(0..ranges.len())];
    // No range contains a surrogate, the only code points that are no characters.
    char::from_u32(rng.random_range(first..=last)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn there_are_more_than_sixty_scripts_and_all_their_code_points_are_characters() {
        let distinct: HashSet<_> = SCRIPTS.iter().map(|script| (script.letters, script.marks)).collect();
        assert!(distinct.len() == SCRIPTS.len() && distinct.len() >= 60);
        for script in SCRIPTS {
            for (first, last) in script.letters.iter().chain(script.marks) {
                assert!((*first..=*last).all(|code| char::from_u32(code).is_some_and(|c| !c.is_control())));
            }
        }
    }
}
