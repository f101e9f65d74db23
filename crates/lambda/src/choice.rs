//! Chooses the vaults of an event.
//!
//! A service can list any number of vaults, and anybody can share one with an account under any name. So:
//!
//! - A name denotes an own vault before a shared one, for events, settings and the secret alike.
//! - An event without names denotes the vaults that the settings or the secret name, own end-to-end encrypted
//!   ones with a password, and those that have a place already. A standard vault that nobody named and that
//!   has no place is left out, since the password from the service alone opens it. So is a shared one; a
//!   shared vault with a place continues, with a warning.

use std::collections::{BTreeMap, BTreeSet};

use obsync_core::ProblemCode;
use obsync_protocol::{VaultId, VaultInfo, VaultList};

use crate::vault_report::{VaultReport, VaultStatus};

/// Number of places up to which vaults that nobody named get a new one.
pub(crate) const UNNAMED_PLACES: usize = 100;

/// One of the account's vaults.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) info: VaultInfo,
    /// Its listed name, used only for comparison with settings and events.
    pub(crate) listed_name: String,
    /// Somebody else shares it with the account.
    pub(crate) is_shared: bool,
    /// Its name denotes it, possibly among others. The name of an own vault denotes no shared one.
    pub(crate) goes_by_name: bool,
}

/// The available credentials of a vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Means {
    /// None.
    Nothing,
    /// The password from the service.
    HandedOut,
    /// A password for any vault that it opens.
    Global,
    /// A password or key for this very vault.
    Own,
}

/// The vaults of an event.
#[derive(Debug, Default)]
pub(crate) struct Choice<'v> {
    /// The vaults, ordered by id.
    pub(crate) vaults: Vec<Chosen<'v>>,
    /// A report on each name that denotes no vault, or more than one.
    pub(crate) mistaken: Vec<VaultReport>,
    /// Number of vaults left out because nobody named them.
    pub(crate) unnamed: usize,
}

/// A vault of an event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chosen<'v> {
    pub(crate) vault: &'v Listed,
    /// Nobody named it. It continues because it has a place.
    pub(crate) is_unnamed: bool,
}

impl Listed {
    /// The account's vaults, its own first, with their names processed by `presentable`.
    pub(crate) fn all(list: VaultList, presentable: impl Fn(&str) -> String) -> Vec<Listed> {
        let own_names: BTreeSet<String> = list.vaults.iter().map(|vault| vault.name.clone()).collect();
        let listed = |info: VaultInfo, is_shared: bool| {
            let goes_by_name = !is_shared || !own_names.contains(&info.name);
            let (name, listed_name) = (presentable(&info.name), info.name.clone());
            Listed { info: VaultInfo { name, ..info }, listed_name, is_shared, goes_by_name }
        };
        let own: Vec<Listed> = list.vaults.into_iter().map(|info| listed(info, false)).collect();
        own.into_iter().chain(list.shared.into_iter().map(|info| listed(info, true))).collect()
    }
}

impl<'v> Choice<'v> {
    /// The vaults that these names denote.
    pub(crate) fn of_names<'n>(vaults: &'v [Listed], names: impl IntoIterator<Item = &'n String>) -> Self {
        let mut choice = Choice::default();
        let mut chosen: BTreeMap<&VaultId, &Listed> = BTreeMap::new();
        for name in names {
            match find(vaults, name) {
                Ok(vault) => drop(chosen.insert(&vault.info.id, vault)),
                Err((code, problem)) => {
                    let report =
                        VaultReport::nothing(name, "", VaultStatus::Failed, problem.to_owned()).coded(code);
                    choice.mistaken.push(report);
                }
            }
        }
        choice.vaults = chosen.into_values().map(|vault| Chosen { vault, is_unnamed: false }).collect();
        choice
    }

    /// The vaults of an event without names: those of `names`, and others of `vaults` that may be synced
    /// unnamed. That depends on the credentials of each, on its place, and on the room for further vaults
    /// that only a password for any vault opens.
    pub(crate) fn unasked(
        vaults: &'v [Listed],
        names: &[String],
        means: impl Fn(&Listed) -> Means,
        has_place: impl Fn(&VaultId) -> bool,
        mut places: usize,
    ) -> Self {
        let Choice { vaults: named, mistaken, .. } = Choice::of_names(vaults, names);
        let mut chosen: BTreeMap<&VaultId, Chosen<'v>> =
            named.into_iter().map(|chosen| (&chosen.vault.info.id, chosen)).collect();
        let mut unnamed = 0;
        for vault in vaults {
            let (id, means) = (&vault.info.id, means(vault));
            if means == Means::Nothing || chosen.contains_key(id) {
                continue;
            }
            let is_unnamed = means == Means::HandedOut || (means == Means::Global && vault.is_shared);
            // A service can list as many seemingly own vaults as it likes, and each takes a place for good.
            let takes_room = means == Means::Global && !is_unnamed && !has_place(id);
            let may_come = if takes_room { places > 0 } else { !is_unnamed || has_place(id) };
            match may_come {
                true => drop(chosen.insert(id, Chosen { vault, is_unnamed })),
                false => unnamed += 1,
            }
            places = places.saturating_sub(usize::from(takes_room));
        }
        Choice { vaults: chosen.into_values().collect(), mistaken, unnamed }
    }

    /// A sentence about the vaults left out, if there are any.
    pub(crate) fn notice(&self) -> Option<String> {
        (self.unnamed > 0).then(|| {
            format!(
                "{} vaults are left out because they were not named (standard encryption, shared with the account, or \
                 more than \
                 {UNNAMED_PLACES} of them): name those that are to be synced in OBSYNC_VAULTS or in the event",
                self.unnamed
            )
        })
    }
}

impl Chosen<'_> {
    /// A warning for the owner about the choice of the vault.
    pub(crate) fn warning(&self) -> Option<String> {
        (self.is_unnamed && self.vault.is_shared).then(|| {
            "another account shares this vault and it was not named; it is synced because it was before: \
             name it in OBSYNC_VAULTS if that is right, or remove its state if not"
                .to_owned()
        })
    }
}

/// A vault by its id, else by its name, else by a prefix of its id, as in the command line.
///
/// # Errors
/// Code and sentence for a name that denotes none, or more than one.
pub(crate) fn find<'v>(
    vaults: &'v [Listed],
    wanted: &str,
) -> Result<&'v Listed, (ProblemCode, &'static str)> {
    if let Some(vault) = vaults.iter().find(|vault| vault.info.id.as_str() == wanted) {
        return Ok(vault);
    }
    let is_named = |vault: &&Listed| vault.info.name == wanted || vault.listed_name == wanted;
    let mut named = vaults.iter().filter(|vault| vault.goes_by_name).filter(is_named);
    match (named.next(), named.next()) {
        (Some(vault), None) => Ok(vault),
        (Some(_), Some(_)) => {
            Err((ProblemCode::VaultAmbiguous, "more than one vault has this name; use the id"))
        }
        (None, _) => by_prefix(vaults, wanted),
    }
}

fn by_prefix<'v>(vaults: &'v [Listed], wanted: &str) -> Result<&'v Listed, (ProblemCode, &'static str)> {
    let mut found = vaults.iter().filter(|vault| vault.info.id.has_prefix(wanted));
    match (found.next(), found.next()) {
        (Some(vault), None) => Ok(vault),
        (Some(_), Some(_)) => Err((
            ProblemCode::VaultAmbiguous,
            "more than one vault has an id that begins so; give more of it",
        )),
        (None, _) => Err((ProblemCode::VaultNotFound, "the account has no vault of this id or name")),
    }
}

#[cfg(test)]
mod tests {
    use obsync_testkit::vault_info;

    use super::*;

    fn listed(own: &[(&str, &str)], shared: &[(&str, &str)]) -> Vec<Listed> {
        let infos = |vaults: &[(&str, &str)]| vaults.iter().map(|(id, name)| vault_info(id, name)).collect();
        Listed::all(
            VaultList { vaults: infos(own), shared: infos(shared), limit: None, unreadable: 0 },
            str::to_owned,
        )
    }

    fn ids(choice: &Choice<'_>) -> Vec<String> {
        choice.vaults.iter().map(|chosen| chosen.vault.info.id.to_string()).collect()
    }

    fn found<'v>(vaults: &'v [Listed], name: &str) -> Result<&'v str, &'static str> {
        find(vaults, name).map(|vault| vault.info.id.as_str()).map_err(|(_, problem)| problem)
    }

    #[test]
    fn an_own_vault_wins_over_a_shared_one_of_the_same_name() {
        let vaults = listed(&[("a", "Notes")], &[("b", "Notes"), ("c", "Team")]);
        assert_eq!(found(&vaults, "Notes"), Ok("a"));
        assert_eq!(found(&vaults, "b"), Ok("b"));
        assert_eq!(found(&vaults, "Team"), Ok("c"));
    }

    #[test]
    fn a_vault_is_found_by_the_beginning_of_its_id_if_no_other_begins_so() {
        let vaults =
            listed(&[("4f2a91", "Notes"), ("4f2a92", "4f2a9"), ("4f2bcd", "Work")], &[("77aa00", "Team")]);
        assert_eq!(found(&vaults, "4f2b"), Ok("4f2bcd"));
        assert_eq!(found(&vaults, "4f2a91"), Ok("4f2a91"));
        assert_eq!(found(&vaults, "4f2a9"), Ok("4f2a92"), "a name comes first");
        assert_eq!(found(&vaults, "77aa"), Ok("77aa00"));
        assert!(found(&vaults, "4f2a").unwrap_err().contains("more than one"));
        assert!(found(&vaults, "77a").is_err(), "too short to mean one");
    }

    #[test]
    fn a_name_of_several_vaults_or_of_none_means_none() {
        let vaults = listed(&[("a", "Notes"), ("b", "Notes")], &[]);
        let names = ["Notes".to_owned(), "b".to_owned(), "Work".to_owned()];
        let choice = Choice::of_names(&vaults, &names);
        assert_eq!(ids(&choice), ["b"]);
        let codes: Vec<_> =
            choice.mistaken.iter().filter_map(|report| Some(report.error.as_ref()?.code)).collect();
        assert_eq!(codes, [ProblemCode::VaultAmbiguous, ProblemCode::VaultNotFound]);
        assert_eq!(choice.mistaken.len(), 2);
    }

    /// Each row: shared, its credentials, has a place, named; and the expected choice.
    #[test]
    fn what_nobody_named_is_synced_only_if_the_service_or_a_stranger_cannot_have_invented_it() {
        use Means::{Global, HandedOut, Nothing, Own};
        for (shared, means, place, named, is_chosen) in [
            (false, Nothing, true, false, false),
            (false, Nothing, false, true, true),
            (false, HandedOut, false, false, false),
            (false, HandedOut, true, false, true),
            (false, HandedOut, false, true, true),
            (false, Global, false, false, true),
            (false, Own, false, false, true),
            (true, HandedOut, false, false, false),
            (true, HandedOut, true, false, true),
            (true, Global, false, false, false),
            (true, Global, true, false, true),
            (true, Own, false, false, true),
            (true, HandedOut, false, true, true),
        ] {
            let vault = [("v", "Notes")];
            let vaults = if shared { listed(&[], &vault) } else { listed(&vault, &[]) };
            let names: Vec<String> = named.then(|| "Notes".to_owned()).into_iter().collect();
            let choice = Choice::unasked(&vaults, &names, |_| means, |_| place, 1);
            let row = (shared, means, place, named);
            assert_eq!(!choice.vaults.is_empty(), is_chosen, "{row:?}");
            assert_eq!(choice.unnamed > 0, !is_chosen && means != Nothing, "{row:?}");
            let warns = choice.vaults.iter().any(|chosen| chosen.warning().is_some());
            assert_eq!(warns, shared && place && is_chosen && !named && means != Own, "{row:?}");
        }
    }

    #[test]
    fn vaults_that_only_a_password_for_any_opens_are_bounded_and_do_not_keep_the_others_out() {
        let names: Vec<(String, String)> =
            (0..300).map(|n| (format!("v{n:03}"), format!("Vault {n}"))).collect();
        let names: Vec<(&str, &str)> = names.iter().map(|(id, name)| (id.as_str(), name.as_str())).collect();
        let vaults = listed(&names, &[]);
        let means = |vault: &Listed| match vault.info.id.as_str() {
            "v299" => Means::Own,
            _ => Means::Global,
        };
        let has_place = |vault: &VaultId| vault.as_str() == "v200";
        let choice = Choice::unasked(&vaults, &["v298".to_owned()], means, has_place, UNNAMED_PLACES);
        assert_eq!((choice.vaults.len(), choice.unnamed), (UNNAMED_PLACES + 3, 197));
        assert!(["v200", "v298", "v299"].iter().all(|id| ids(&choice).contains(&(*id).to_owned())));
        assert!(Choice::unasked(&vaults, &[], means, has_place, 0).notice().unwrap().contains("298 vaults"));
    }
}
