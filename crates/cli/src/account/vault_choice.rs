//! Chooses one of the account's vaults by name or id.

use obsync_core::ProblemCode;
use obsync_protocol::{Redactor, VaultInfo, VaultList, short_name};

use crate::exit::{Exit, Failed};
use crate::suggestions::nearest;

/// Most vaults named in a message.
const MAX_NAMED: usize = 20;

/// Finds a vault by its id, else by its name, else by a prefix of its id. A name denotes an own vault before
/// one that somebody else shares: whoever shares a vault chooses its name.
///
/// # Errors
/// When no vault, or more than one, has that name; the message lists the candidates.
pub(crate) fn choose(list: VaultList, wanted: &str, redactor: &Redactor) -> Result<VaultInfo, Failed> {
    let vault = find(list, wanted, redactor)?;
    // A name that the user typed needs no cleaning.
    Ok(if vault.name == wanted { vault } else { presentable(vault, redactor) })
}

/// The vault with a name for reports, files and tables: without secrets, and not longer than is shown.
pub(crate) fn presentable(vault: VaultInfo, redactor: &Redactor) -> VaultInfo {
    let name = short_name(&redactor.take_out(&vault.name)).into_owned();
    VaultInfo { name, ..vault }
}

fn find(list: VaultList, wanted: &str, redactor: &Redactor) -> Result<VaultInfo, Failed> {
    let own = list.vaults.len();
    let mut vaults: Vec<VaultInfo> = list.vaults.into_iter().chain(list.shared).collect();
    if let Some(index) = vaults.iter().position(|vault| vault.id.as_str() == wanted) {
        return Ok(vaults.swap_remove(index));
    }
    let mut named: Vec<usize> =
        vaults.iter().enumerate().filter(|(_, vault)| vault.name == wanted).map(|(index, _)| index).collect();
    if named.first().is_some_and(|first| *first < own) {
        named.retain(|index| *index < own);
    }
    match named.as_slice() {
        [index] => Ok(vaults.swap_remove(*index)),
        [] => by_prefix(vaults, wanted, redactor),
        _ => Err(ambiguous(named.iter().map(|index| &vaults[*index]), wanted)),
    }
}

/// The only vault whose id begins with this.
fn by_prefix(mut vaults: Vec<VaultInfo>, wanted: &str, redactor: &Redactor) -> Result<VaultInfo, Failed> {
    let found: Vec<usize> = (0..vaults.len()).filter(|index| vaults[*index].id.has_prefix(wanted)).collect();
    match found.as_slice() {
        [index] => Ok(vaults.swap_remove(*index)),
        [] => Err(unknown(&vaults, wanted, redactor)),
        _ => Err(ambiguous_id(found.iter().map(|index| &vaults[*index]), wanted)),
    }
}

fn ambiguous_id<'a>(vaults: impl Iterator<Item = &'a VaultInfo>, wanted: &str) -> Failed {
    let ids = vaults.take(MAX_NAMED).map(|vault| vault.id.to_string());
    let message = format!(
        "more than one vault has an id that begins with {wanted:?}; give more of it: {}",
        ids.collect::<Vec<_>>().join(", ")
    );
    Failed::new(Exit::NotFound, message).coded(ProblemCode::VaultAmbiguous)
}

fn unknown(vaults: &[VaultInfo], wanted: &str, redactor: &Redactor) -> Failed {
    let message = if vaults.is_empty() {
        format!("there is no vault {wanted:?}: the account has none")
    } else {
        let shown: Vec<String> =
            vaults.iter().map(|vault| short_name(&redactor.take_out(&vault.name)).into_owned()).collect();
        let names: Vec<String> = shown.iter().take(MAX_NAMED).map(|name| format!("{name:?}")).collect();
        let more = if vaults.len() > MAX_NAMED { ", …" } else { "" };
        let meant = match nearest(wanted, shown.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean {meant:?}? The"),
            None => "the".to_owned(),
        };
        format!("there is no vault {wanted:?}; {meant} account has {}{more}", names.join(", "))
    };
    Failed::new(Exit::NotFound, message)
}

fn ambiguous<'a>(vaults: impl Iterator<Item = &'a VaultInfo>, wanted: &str) -> Failed {
    let ids = vaults.take(MAX_NAMED).map(|vault| vault.id.to_string());
    Failed::new(
        Exit::NotFound,
        format!(
            "more than one vault is named {wanted:?}; use the id of one: {}",
            ids.collect::<Vec<_>>().join(", ")
        ),
    )
    .coded(ProblemCode::VaultAmbiguous)
}

#[cfg(test)]
mod tests {
    use obsync_testkit::vault_info;

    use super::*;

    fn chosen(list: VaultList, wanted: &str) -> Result<VaultInfo, Failed> {
        choose(list, wanted, &Redactor::default())
    }

    #[test]
    fn a_name_that_repeats_a_secret_or_has_no_end_is_not_carried_on() {
        let redactor = Redactor::default();
        redactor.know("zebra-pass-1");
        let long = "x".repeat(1000);
        let vaults = || list(&[("a", "my zebra-pass-1"), ("b", &long)]);
        assert_eq!(choose(vaults(), "a", &redactor).unwrap().name, "my [secret]");
        assert_eq!(choose(vaults(), "b", &redactor).unwrap().name.chars().count(), 201);
        assert_eq!(choose(vaults(), "my zebra-pass-1", &redactor).unwrap().name, "my zebra-pass-1", "typed");
        let message = choose(vaults(), "c", &redactor).unwrap_err().message;
        assert!(!message.contains("zebra") && message.len() < 600, "{message}");
    }

    fn list(names: &[(&str, &str)]) -> VaultList {
        let vault = |(id, name): &(&str, &str)| vault_info(id, name);
        let (own, shared) = names.split_at(names.len() / 2);
        VaultList {
            vaults: own.iter().map(vault).collect(),
            shared: shared.iter().map(vault).collect(),
            limit: None,
            unreadable: 0,
        }
    }

    #[test]
    fn an_id_is_stronger_than_a_name() {
        let vaults = list(&[("a", "b"), ("b", "Journal")]);
        assert_eq!(chosen(vaults, "b").unwrap().name, "Journal");
    }

    #[test]
    fn the_beginning_of_an_id_names_a_vault_if_it_is_of_one() {
        let vaults = || list(&[("4f2a11", "Work"), ("4f2a22", "Notes"), ("77aa33", "4f2a")]);
        assert_eq!(chosen(vaults(), "4f2a1").unwrap().name, "Work");
        assert_eq!(chosen(vaults(), "4f2a").unwrap().id.as_str(), "77aa33", "a name is stronger");
        let failed = chosen(list(&[("4f2a11", "Work"), ("4f2a22", "Notes")]), "4f2a").unwrap_err();
        assert_eq!((failed.exit, failed.code), (Exit::NotFound, ProblemCode::VaultAmbiguous));
        assert!(failed.message.contains("4f2a11, 4f2a22"), "{}", failed.message);
        assert_eq!(chosen(vaults(), "77a").unwrap_err().code, ProblemCode::VaultNotFound, "too little of it");
    }

    #[test]
    fn a_name_must_be_of_one_vault() {
        let vaults = || list(&[("b", "Work"), ("a", "Notes"), ("c", "Notes")]);
        assert_eq!(chosen(vaults(), "Work").unwrap().id.as_str(), "b");
        let failed = chosen(vaults(), "Notes").unwrap_err();
        assert_eq!(failed.exit, Exit::NotFound);
        assert_eq!(failed.message, "more than one vault is named \"Notes\"; use the id of one: a, c");
    }

    #[test]
    fn an_own_vault_wins_over_a_shared_one_of_the_same_name() {
        let vaults = list(&[("a", "Notes"), ("b", "Work"), ("c", "Notes"), ("d", "Team")]);
        assert_eq!(chosen(vaults.clone(), "Notes").unwrap().id.as_str(), "a");
        assert_eq!(chosen(vaults.clone(), "c").unwrap().id.as_str(), "c", "a shared one is had by its id");
        assert_eq!(chosen(vaults, "Team").unwrap().id.as_str(), "d");
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_there_are() {
        let failed = chosen(list(&[("a", "Notes"), ("b", "Work")]), "notes").unwrap_err();
        assert_eq!(
            failed.message,
            "there is no vault \"notes\"; did you mean \"Notes\"? The account has \"Notes\", \"Work\""
        );
        let failed = chosen(list(&[("a", "Notes"), ("b", "Work")]), "Journal").unwrap_err();
        assert_eq!(failed.message, "there is no vault \"Journal\"; the account has \"Notes\", \"Work\"");
        let failed = chosen(list(&[]), "x").unwrap_err();
        assert_eq!(failed.message, "there is no vault \"x\": the account has none");
    }
}
