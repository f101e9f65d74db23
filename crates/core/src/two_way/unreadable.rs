//! Reports the places that a scan could not examine. Unreadable places with files of the vault are failures:
//! changes there are not sent, and without a failure the run would seem complete.

use std::collections::HashMap;

use obsync_protocol::{Uid, normalize_local_name};

use crate::model::{Record, RecordKind};
use crate::report::{Failure, Report};
use crate::scan::{LocalTree, Unknown, UnknownCause, sentences};

use super::TwoWay;

impl TwoWay<'_, '_> {
    pub(super) fn tell_unknown(&self, tree: &LocalTree, records: &[Record], report: &mut Report) {
        let recorded = versions_in(&tree.unknown, records);
        let mut others = Vec::new();
        for unknown in &tree.unknown {
            match (&unknown.why, recorded.get(unknown.path.as_str())) {
                (UnknownCause::Unreadable { reason }, Some(uid)) => {
                    report.fail_unreadable(unknown, *uid, reason);
                }
                _ => others.push(unknown.clone()),
            }
        }
        sentences(&others).into_iter().for_each(|sentence| self.run.warn(sentence, report));
    }
}

impl Report {
    fn fail_unreadable(&mut self, unknown: &Unknown, uid: Uid, reason: &str) {
        // Applying the vault's change may have failed there already.
        if self.failures.iter().any(|failure| failure.path == unknown.path) {
            return;
        }
        let reason = format!("it cannot be read ({reason}); what was changed there is not sent");
        self.fail(Failure { path: unknown.path.clone(), uid, reason });
    }
}

/// Newest recorded version at or below each of these places. Places without records are left out.
fn versions_in<'u>(unknown: &'u [Unknown], records: &[Record]) -> HashMap<&'u str, Uid> {
    if unknown.is_empty() {
        return HashMap::new();
    }
    let spelled = |unknown: &'u Unknown| [unknown.path.clone(), normalize_local_name(&unknown.path)];
    let places: HashMap<String, &str> = unknown
        .iter()
        .flat_map(|unknown| spelled(unknown).map(|path| (path, unknown.path.as_str())))
        .collect();
    let mut versions: HashMap<&str, Uid> = HashMap::new();
    for record in records {
        let path = record.path.as_str();
        let normal = if path.is_ascii() { path.to_owned() } else { normalize_local_name(path) };
        let uid = match &record.kind {
            RecordKind::File(meta) => meta.uid,
            RecordKind::Folder(uid) => *uid,
        };
        let above = |path| std::iter::successors(Some(path), |path: &&str| Some(path.rsplit_once('/')?.0));
        for place in above(path).chain(above(&normal)).filter_map(|path| places.get(path).copied()) {
            let newest = versions.entry(place).or_insert(uid);
            *newest = uid.max(*newest);
        }
    }
    versions
}
