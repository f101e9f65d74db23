//! Pairs the names in one folder with the recorded ones (docs/PROTOCOL.md section 4).
//!
//! A name that equals a recorded one byte for byte is that one. Only other names are normalised. Of several
//! names that many file systems treat as equal, one is used, always the same, and the others are its twins.

use std::collections::{HashMap, HashSet};

use obsync_protocol::{VaultPath, normalize_local_name};

/// A name in the folder that has a path in the vault.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Its index among the entries.
    pub(super) entry: usize,
    /// The index of its recorded name.
    pub(super) known: Option<usize>,
    /// Its name in the vault, if that is another one.
    pub(super) name: Option<String>,
}

/// Result of pairing the names in a folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Matched {
    pub(super) places: Vec<Place>,
    /// Twins, each with the index of the place with the same name.
    pub(super) twins: Vec<(usize, usize)>,
    /// Indices of recorded names that are missing.
    pub(super) missing: Vec<usize>,
    /// Recorded names that are there in other letter case, unrecorded: each with the index of that place.
    pub(super) respelled: Vec<(usize, usize)>,
}

/// Pairs names. `entries` and `known` are sorted and without duplicates; `others` are names in the folder
/// that have no path in the vault, but may be a spelling of a recorded one.
pub(super) fn match_names(entries: &[&str], known: &[&str], others: &[String]) -> Matched {
    let mut matched = Matched::default();
    let (mut unknown, mut missing) = (Vec::new(), Vec::new());
    let (mut at, mut next) = (0, 0);
    loop {
        match (entries.get(at), known.get(next)) {
            (None, None) => break,
            (Some(entry), Some(name)) if entry == name => {
                matched.places.push(Place { entry: at, known: Some(next), name: None });
                (at, next) = (at + 1, next + 1);
            }
            (Some(entry), name) if name.is_none_or(|name| entry < name) => {
                unknown.push(at);
                at += 1;
            }
            _ => {
                missing.push(next);
                next += 1;
            }
        }
    }
    if !unknown.is_empty() || !missing.is_empty() {
        Spellings::of(&matched, entries).pair(&mut matched, (entries, &unknown), (known, missing), others);
    }
    matched
}

/// The places that are taken, by the key that all spellings of a name share.
struct Spellings(HashMap<String, usize>);

impl Spellings {
    fn of(matched: &Matched, entries: &[&str]) -> Self {
        let places = matched.places.iter().enumerate();
        Spellings(places.map(|(index, place)| (key(entries[place.entry]), index)).collect())
    }

    fn pair(
        mut self,
        matched: &mut Matched,
        (entries, unknown): (&[&str], &[usize]),
        (known, missing): (&[&str], Vec<usize>),
        others: &[String],
    ) {
        let mut rest = Vec::new();
        let mut is_missing = vec![true; missing.len()];
        let mut recorded = by_normal_form(known, &missing);
        for entry in unknown {
            let name = normalize_local_name(entries[*entry]);
            let is_itself = name == entries[*entry];
            // A recorded name whose file has another spelling: its file system, an editor or a user gave it.
            match recorded.remove(&name) {
                Some(position) => {
                    is_missing[position] = false;
                    let index = missing[position];
                    self.0.insert(key(&name), matched.places.len());
                    let name = Some(known[index].to_owned());
                    matched.places.push(Place { entry: *entry, known: Some(index), name });
                }
                None => rest.push((!is_itself, *entry, name)),
            }
        }
        // Normalized ones first, so that the choice does not depend on the order.
        rest.sort_by_key(|(is_other, entry, _)| (*is_other, *entry));
        for (is_other, entry, name) in rest {
            let key = key(&name);
            match self.0.get(&key) {
                Some(place) => matched.twins.push((entry, *place)),
                None => {
                    self.0.insert(key, matched.places.len());
                    matched.places.push(Place { entry, known: None, name: is_other.then_some(name) });
                }
            }
        }
        let others: HashSet<String> = match is_missing.contains(&true) {
            true => others.iter().map(|name| key(name)).collect(),
            false => return,
        };
        for index in
            missing.into_iter().zip(is_missing).filter_map(|(index, is_missing)| is_missing.then_some(index))
        {
            let key = key(known[index]);
            match self.0.get(&key) {
                Some(place) if matched.places[*place].known.is_none() => {
                    matched.respelled.push((index, *place))
                }
                Some(_) => {}
                None if others.contains(&key) => {}
                None => matched.missing.push(index),
            }
        }
    }
}

/// The positions of missing names by their normal form. Of several with one form, the normal one comes first.
fn by_normal_form(known: &[&str], missing: &[usize]) -> HashMap<String, usize> {
    let mut positions = HashMap::new();
    for (position, index) in missing.iter().enumerate() {
        let normal = normalize_local_name(known[*index]);
        if normal == known[*index] || !positions.contains_key(&normal) {
            positions.insert(normal, position);
        }
    }
    positions
}

/// The key that all spellings of a name share.
fn key(name: &str) -> String {
    let name = normalize_local_name(name);
    VaultPath::parse(&name).map_or_else(|_| name.to_lowercase(), |path| path.fold_key())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result of pairing, as text.
    fn described(entries: &[&str], known: &[&str], others: &[&str]) -> Vec<String> {
        let (mut entries, mut known) = (entries.to_vec(), known.to_vec());
        entries.sort_unstable();
        known.sort_unstable();
        let others: Vec<String> = others.iter().map(|&name| name.to_owned()).collect();
        let matched = match_names(&entries, &known, &others);
        let vault_name =
            |place: &Place| place.name.clone().unwrap_or_else(|| entries[place.entry].to_owned());
        let mut lines: Vec<String> = Vec::new();
        for place in &matched.places {
            let kind = if place.known.is_some() { "known" } else { "new" };
            assert!(place.known.is_none_or(|index| known[index] == vault_name(place)));
            lines.push(format!("{kind} {}", vault_name(place)));
        }
        let twin = |(_, place): &(usize, usize)| format!("twin of {}", vault_name(&matched.places[*place]));
        lines.extend(matched.twins.iter().map(twin));
        lines.extend(matched.missing.iter().map(|index| format!("missing {}", known[*index])));
        let respelled = |(index, place): &(usize, usize)| {
            format!("{} is now {}", known[*index], vault_name(&matched.places[*place]))
        };
        lines.extend(matched.respelled.iter().map(respelled));
        lines.sort();
        lines
    }

    const NFC: &str = "Caf\u{e9}";
    const NFD: &str = "Cafe\u{301}";

    #[test]
    fn equal_names_are_known_and_others_new_or_missing() {
        assert_eq!(described(&["a", "b"], &["b", "c"], &[]), ["known b", "missing c", "new a"]);
        assert_eq!(described(&[], &[], &[]), Vec::<String>::new());
    }

    #[test]
    fn a_name_is_normalised_only_if_it_is_not_recorded_as_it_is() {
        assert_eq!(described(&[NFD], &[NFD], &[]), [format!("known {NFD}")]);
        assert_eq!(described(&[NFD], &[NFC], &[]), [format!("known {NFC}")]);
        assert_eq!(described(&[NFD], &[], &[]), [format!("new {NFC}")]);
        assert_eq!(described(&["a\u{a0}b"], &["a b"], &[]), ["known a b"]);
        assert_eq!(described(&["a b"], &["a\u{a0}b"], &[]), ["known a\u{a0}b"]);
        assert_eq!(described(&["a\u{202f}b"], &["a\u{202f}b"], &[]), ["known a\u{202f}b"]);
    }

    #[test]
    fn a_recorded_name_in_another_normal_form_is_that_one() {
        assert_eq!(described(&[NFC], &[NFD], &[]), [format!("known {NFD}")]);
        // The file of one of them is missing, but it may be the other's.
        assert_eq!(described(&[NFC], &[NFC, NFD], &[]), [format!("known {NFC}")]);
        assert_eq!(described(&["a\u{202f}b"], &["a b", "a\u{a0}b"], &[]), ["known a b"]);
        let upper = "CAFE\u{301}";
        let expected = [format!("{upper} is now {NFC}"), format!("new {NFC}")];
        assert_eq!(described(&[NFC], &[upper], &[]), expected);
    }

    #[test]
    fn a_recorded_name_whose_other_spelling_is_there_is_not_missing() {
        assert_eq!(described(&["Note"], &["note"], &[]), ["new Note", "note is now Note"]);
        // Both are recorded, so this is no renaming; still it is not certain that one was removed.
        assert_eq!(described(&["Note"], &["Note", "note"], &[]), ["known Note"]);
        assert_eq!(described(&[], &[".obsidian"], &[".Obsidian"]), Vec::<String>::new());
    }

    #[test]
    fn of_twins_the_recorded_one_is_had_or_the_normalised_one() {
        assert_eq!(described(&[NFC, NFD], &[NFC], &[]), [format!("known {NFC}"), format!("twin of {NFC}")]);
        assert_eq!(described(&[NFC, NFD], &[], &[]), [format!("new {NFC}"), format!("twin of {NFC}")]);
        assert_eq!(
            described(&[NFC, NFD], &[NFC, NFD], &[]),
            [format!("known {NFD}"), format!("known {NFC}")]
        );
        assert_eq!(described(&["Note", "note"], &["note"], &[]), ["known note", "twin of note"]);
        assert_eq!(described(&["NOTE", "note"], &[], &[]), ["new NOTE", "twin of NOTE"]);
        let upper = "CAF\u{c9}";
        assert_eq!(described(&[upper, NFD], &[NFC], &[]), [format!("known {NFC}"), format!("twin of {NFC}")]);
    }
}
