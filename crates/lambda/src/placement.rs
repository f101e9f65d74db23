//! Places each vault's objects at `<prefix>/<vault name>/`, with the name made safe.
//!
//! Of two vaults with one name, both get their id added; of an own vault and a shared one, only the shared
//! one. A vault keeps its place when it is renamed (the table stores it, see
//! [`DynamoTable::places`](obsync_dynamodb::DynamoTable::places)), and no other vault ever gets that place.

use std::collections::{BTreeMap, HashMap, HashSet};

use obsync_protocol::{VaultId, VaultPath, normalize_local_name};

use crate::choice::Listed;

/// The longest name made from a vault's, in bytes: keys have 1,024 in all.
const LONGEST: usize = 200;
/// The name of a vault whose own name has no usable character.
const NAMELESS: &str = "vault";

/// The names of the `wanted` vaults' places, given the `taken` ones. `all` are the account's vaults: a
/// vault's name does not depend on which of them are synced.
pub(crate) fn places(
    all: &[Listed],
    wanted: &[&Listed],
    taken: &BTreeMap<VaultId, String>,
) -> BTreeMap<VaultId, String> {
    // For each name, the number of vaults that have it, and how many of these are the account's own.
    let mut namesakes: HashMap<String, (usize, usize)> = HashMap::new();
    for vault in all {
        let (count, own) = namesakes.entry(folded(&safe_name(&vault.info.name))).or_default();
        *count += 1;
        *own += usize::from(!vault.is_shared);
    }
    let mut occupied: HashSet<String> = taken.values().map(|name| folded(name)).collect();
    let mut given = BTreeMap::new();
    for vault in wanted {
        let id = &vault.info.id;
        if let Some(name) = taken.get(id) {
            given.insert(id.clone(), name.clone());
            continue;
        }
        let name = safe_name(&vault.info.name);
        let rivals = namesakes.get(&folded(&name));
        let is_alone =
            rivals.is_none_or(|(count, own)| if vault.is_shared { *count <= 1 } else { *own <= 1 });
        let with_id = format!("{name} ({id})");
        let choices = is_alone.then_some(name).into_iter().chain([with_id, id.to_string()]);
        let name = choices.into_iter().find(|name| !occupied.contains(&folded(name)));
        // All three are taken only if another vault uses this vault's id as its name.
        let name = name.unwrap_or_else(|| format!("{NAMELESS} {id}"));
        occupied.insert(folded(&name));
        given.insert(id.clone(), name);
    }
    given
}

/// True if the stored place of a vault is a valid name: one segment of a key, and no other vault's. Any other
/// value was not written by obsync.
pub(crate) fn is_sound(vault: &VaultId, names: &BTreeMap<VaultId, String>) -> bool {
    let Some(name) = names.get(vault) else { return false };
    let is_one_segment = VaultPath::parse(name).is_ok_and(|path| path.segments().count() == 1);
    let key = folded(name);
    is_one_segment && names.iter().all(|(other, name)| other == vault || folded(name) != key)
}

/// A vault's name as one segment of a key that is valid in every tool and file system.
pub(crate) fn safe_name(name: &str) -> String {
    let plain: String = normalize_local_name(name)
        .chars()
        .map(|character| if is_awkward(character) { '-' } else { character })
        .collect();
    let end = plain.floor_char_boundary(LONGEST);
    // A leading dot hides the entry, a trailing one is lost on Windows.
    let trimmed = plain[..end].trim_matches(|character: char| character == '.' || character.is_whitespace());
    match VaultPath::parse(trimmed) {
        Ok(path) => path.as_str().to_owned(),
        Err(_) => NAMELESS.to_owned(),
    }
}

fn is_awkward(character: char) -> bool {
    character.is_control() || "/\\:*?\"<>|".contains(character)
}

/// Folds names that are equal to a case-insensitive file system.
fn folded(name: &str) -> String {
    VaultPath::parse(name).map_or_else(|_| name.to_lowercase(), |path| path.fold_key())
}

#[cfg(test)]
mod tests {
    use obsync_testkit::vault_info;
    use proptest::prelude::*;

    use super::*;

    fn vault(id: &str, name: &str) -> Listed {
        Listed {
            info: vault_info(id, name),
            listed_name: name.to_owned(),
            is_shared: false,
            goes_by_name: true,
        }
    }

    fn shared(id: &str, name: &str) -> Listed {
        Listed { is_shared: true, ..vault(id, name) }
    }

    fn given(vaults: &[Listed], taken: &[(&str, &str)]) -> Vec<String> {
        let taken = taken.iter().map(|(id, name)| (id.parse().unwrap(), (*name).to_owned())).collect();
        let wanted: Vec<&Listed> = vaults.iter().collect();
        let given = places(vaults, &wanted, &taken);
        vaults.iter().map(|vault| given[&vault.info.id].clone()).collect()
    }

    #[test]
    fn a_vault_lies_under_its_name_and_namesakes_under_their_ids_too() {
        let vaults = [vault("a", "Notes"), vault("b", "Work"), vault("c", "notes")];
        assert_eq!(given(&vaults, &[]), ["Notes (a)", "Work", "notes (c)"]);
    }

    #[test]
    fn a_shared_vault_does_not_change_the_place_of_an_own_one() {
        let vaults = [vault("a", "Notes"), shared("b", "notes"), shared("c", "Team")];
        assert_eq!(given(&vaults, &[]), ["Notes", "notes (b)", "Team"]);
    }

    #[test]
    fn what_obsync_would_not_have_written_is_no_place() {
        let names = [("a", "Notes"), ("b", "x/y"), ("c", ".."), ("d", "Work"), ("e", "work"), ("f", "")];
        let names: BTreeMap<VaultId, String> =
            names.into_iter().map(|(id, name)| (id.parse().unwrap(), name.to_owned())).collect();
        let sound: Vec<&str> =
            names.keys().filter(|vault| is_sound(vault, &names)).map(VaultId::as_str).collect();
        assert_eq!(sound, ["a"]);
    }

    #[test]
    fn a_renamed_vault_stays_and_its_old_name_is_not_given_away() {
        let vaults = [vault("a", "Diary"), vault("b", "Notes")];
        assert_eq!(given(&vaults, &[("a", "Notes")]), ["Notes", "Notes (b)"]);
    }

    #[test]
    fn a_place_does_not_depend_on_which_vaults_are_synced() {
        let vaults = [vault("a", "Notes"), vault("b", "Notes")];
        let given = places(&vaults, &[&vaults[1]], &BTreeMap::new());
        assert_eq!(given.into_values().collect::<Vec<_>>(), ["Notes (b)"]);
    }

    #[test]
    fn names_are_made_safe() {
        for (name, safe) in [
            ("My Vault", "My Vault"),
            ("a/b\\c:d", "a-b-c-d"),
            ("..", "vault"),
            ("", "vault"),
            (" .hidden. ", "hidden"),
            ("Ω\u{7}x", "Ω-x"),
            ("日記", "日記"),
        ] {
            assert_eq!(safe_name(name), safe, "{name:?}");
        }
        assert!(safe_name(&"ä".repeat(500)).len() <= LONGEST);
    }

    proptest! {
        #[test]
        fn every_vault_gets_a_place_of_its_own_that_can_be_a_key(
            names in proptest::collection::vec("[aAbB./ ()0-3\\p{Cc}]{0,6}", 1..6),
            taken in proptest::collection::btree_map("[0-5]", "[aAb]( \\([0-5]\\))?", 0..3),
        ) {
            let vaults: Vec<Listed> =
                names.iter().enumerate().map(|(id, name)| vault(&id.to_string(), name)).collect();
            let mut distinct = HashSet::new();
            let taken: Vec<(&str, &str)> = taken
                .iter()
                .filter(|(_, name)| distinct.insert(folded(name)))
                .map(|(id, name)| (id.as_str(), name.as_str()))
                .collect();
            let mut seen = HashSet::new();
            for name in given(&vaults, &taken) {
                let path = VaultPath::parse(&name);
                prop_assert!(path.is_ok_and(|path| path.segments().count() == 1), "{name:?}");
                prop_assert!(seen.insert(folded(&name)), "{name:?}");
            }
        }
    }
}
