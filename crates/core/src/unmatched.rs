//! Excluded folders that the vault does not have: most likely a typing error.

use std::collections::BTreeSet;

use obsync_protocol::VaultPath;

use crate::error::PullError;
use crate::model::DeferredKind;
use crate::report::Report;
use crate::run::Run;
use crate::state::DeferredParts;
use crate::survey::Survey;

/// Similarity of two names, up to 1, above which one is suggested for the other.
const ALIKE: f64 = 0.75;
/// Folders compared at most.
const COMPARED: usize = 100_000;

impl Run<'_> {
    /// Warns of excluded folders that are nowhere in the vault. Only if all of it is known without another
    /// request.
    pub(crate) async fn warn_of_unmatched(
        &self,
        survey: &Survey,
        report: &mut Report,
    ) -> Result<(), PullError> {
        let filter = &self.options.filter;
        let is_new = survey.known.filter.as_deref() != Some(filter.fingerprint().as_str());
        if filter.excluded.is_empty() || !(is_new || survey.is_whole()) {
            return Ok(());
        }
        let mut folders = BTreeSet::new();
        let mut see = |path: &VaultPath| {
            if folders.len() < COMPARED {
                folders.extend(path.ancestors());
                folders.insert(path.clone());
            }
        };
        survey.listing.entries.iter().for_each(|entry| see(&entry.path));
        if survey.floor > 0 && !survey.is_whole() {
            self.state.all_records().await?.iter().for_each(|record| see(&record.path));
            for kind in [DeferredKind::Filtered, DeferredKind::Failed] {
                let mut parts = DeferredParts::of(self.state.as_ref(), kind);
                while let Some(part) = parts.next().await? {
                    part.iter()
                        .filter_map(|deferred| VaultPath::parse(deferred.key.shown()).ok())
                        .for_each(|path| see(&path));
                }
            }
        }
        // Nothing is known of an empty vault yet.
        for excluded in
            filter.excluded.iter().filter(|excluded| !folders.is_empty() && !folders.contains(*excluded))
        {
            self.warn(nothing_left_out(excluded, nearest(excluded, &folders)), report);
        }
        Ok(())
    }
}

fn nothing_left_out(excluded: &VaultPath, nearest: Option<&VaultPath>) -> String {
    let meant =
        nearest.map_or_else(String::new, |nearest| format!("; the nearest name is {:?}", nearest.as_str()));
    format!(
        "the excluded folder {:?} is not in the vault, so nothing is left out for it{meant}",
        excluded.as_str()
    )
}

/// The folder with the most similar name.
fn nearest<'f>(wanted: &VaultPath, folders: &'f BTreeSet<VaultPath>) -> Option<&'f VaultPath> {
    let folded = wanted.fold_key();
    let alike = folders
        .iter()
        .map(|folder| (strsim::normalized_damerau_levenshtein(&folded, &folder.fold_key()), folder));
    let best = alike.max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.filter(|(likeness, _)| *likeness >= ALIKE).map(|(_, folder)| folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_one_that_could_be_meant() {
        let path = |text: &str| VaultPath::parse(text).unwrap();
        let folders: BTreeSet<VaultPath> = ["Archive", "Daily", "Archive/2020"].map(path).into();
        assert_eq!(nearest(&path("Archiv"), &folders), Some(&path("Archive")));
        assert_eq!(nearest(&path("archive"), &folders), Some(&path("Archive")));
        assert_eq!(nearest(&path("Archive/2021"), &folders), Some(&path("Archive/2020")));
        assert_eq!(nearest(&path("Recipes"), &folders), None);
    }
}
