//! The decisions for every combination of base, local and remote, under every rule. The table in the snapshot
//! is the specification.

use obsync_protocol::VaultPath;

use super::*;
use crate::model::FileMeta;

const BASE: u64 = 10;

fn content(text: &str) -> KnownContent {
    KnownContent::of(text.as_bytes())
}

fn record(kind: RecordKind) -> Record {
    Record::new(VaultPath::parse("a").unwrap(), kind)
}

fn file(text: &str) -> Record {
    let KnownContent { hash, size } = content(text);
    record(RecordKind::File(FileMeta { hash, size, mtime: 1000, ctime: 0, uid: Uid(BASE) }))
}

fn listed(text: &str, mtime: i64, uid: u64) -> Remote {
    Remote::File { content: content(text), mtime, uid: Uid(uid) }
}

const RULES: [(&str, Rules); 6] = [
    ("incremental", Rules { reach: Reach::Everything, full_above: None }),
    ("full", Rules { reach: Reach::Everything, full_above: Some(Uid(0)) }),
    ("full, looked at before", Rules { reach: Reach::Everything, full_above: Some(Uid(99)) }),
    ("older vault accepted", Rules { reach: Reach::Listed, full_above: None }),
    ("older vault", Rules { reach: Reach::Additions, full_above: None }),
    ("keep everything", Rules { reach: Reach::KeepEverything, full_above: None }),
];

fn bases() -> Vec<(&'static str, Option<Record>)> {
    vec![("-", None), ("file A", Some(file("A"))), ("folder", Some(record(RecordKind::Folder(Uid(BASE)))))]
}

fn locals() -> Vec<(&'static str, Local)> {
    vec![
        ("not scanned", Local::NotScanned),
        ("absent", Local::Absent),
        ("file A", Local::File(content("A"))),
        ("file B", Local::File(content("B"))),
        ("file C", Local::File(content("C"))),
        ("file C, once the vault's", Local::Earlier(content("C"))),
        ("other", Local::Other),
    ]
}

fn remotes() -> Vec<(&'static str, Remote)> {
    vec![
        ("unlisted", Remote::Unlisted),
        ("left out, live", Remote::LeftOut { uid: Uid(20), is_folder: false, is_live: true }),
        ("left out, deleted", Remote::LeftOut { uid: Uid(20), is_folder: false, is_live: false }),
        ("file A, as recorded", listed("A", 1000, BASE)),
        ("file A, newer", listed("A", 1000, 20)),
        ("file A, newer, other time", listed("A", 2000, 20)),
        ("file A, older", listed("A", 1000, 5)),
        ("file B, newer", listed("B", 1000, 20)),
        ("file B, older", listed("B", 1000, 5)),
        ("folder, as recorded", Remote::Folder(Uid(BASE))),
        ("folder, newer", Remote::Folder(Uid(20))),
        ("deleted", Remote::Deleted),
    ]
}

fn shown(Decision { before, action }: Decision) -> String {
    let replaced = |replaces: Option<KnownContent>| match replaces {
        None => "nothing".to_owned(),
        Some(known) => ["A", "B", "C"].into_iter().find(|text| content(text) == known).unwrap().to_owned(),
    };
    let action = match action {
        Action::Nothing => "-".to_owned(),
        Action::Skip => "skip".to_owned(),
        Action::DeferFiltered => "defer".to_owned(),
        Action::Renew => "renew the record".to_owned(),
        Action::SetTimes => "set the times".to_owned(),
        Action::Compare { size: 1, replaces } => format!("compare, over {}", replaced(replaces)),
        Action::Compare { size, .. } => panic!("a size of {size}"),
        Action::Adopt => "adopt".to_owned(),
        Action::Put { replaces } => format!("put over {}", replaced(replaces)),
        Action::KeepBoth => "keep both".to_owned(),
        Action::MakeFolder { is_recorded: true } => "check the folder".to_owned(),
        Action::MakeFolder { is_recorded: false } => "make the folder".to_owned(),
        Action::KeepLocal => "keep what is here".to_owned(),
    };
    match before {
        Before::Keep => action,
        Before::Remove => format!("remove; {action}"),
        Before::Release => format!("give up; {action}"),
    }
}

#[test]
fn the_table_of_all_decisions() {
    let mut table = String::new();
    for (rule, rules) in RULES {
        table.push_str(&format!("# {rule}\n"));
        for (base_name, base) in bases() {
            for (remote_name, remote) in remotes() {
                let decided = |local| shown(decide(base.as_ref(), local, remote, &rules));
                let all: Vec<(&str, String)> =
                    locals().into_iter().map(|(name, local)| (name, decided(local))).collect();
                table.push_str(&format!("{base_name:8} | {remote_name:25} |"));
                match all.iter().all(|(_, decision)| *decision == all[0].1) {
                    true => table.push_str(&format!(" {}\n", all[0].1)),
                    false => {
                        table.push('\n');
                        for (local, decision) in all {
                            table.push_str(&format!("{:36} | {local:24} | {decision}\n", ""));
                        }
                    }
                }
            }
        }
        table.push('\n');
    }
    insta::assert_snapshot!(table);
}

/// Every combination, with its decision.
fn all() -> impl Iterator<Item = (Rules, Option<Record>, Local, Remote, Decision)> {
    RULES.into_iter().flat_map(|(_, rules)| {
        bases().into_iter().flat_map(move |(_, base)| {
            locals().into_iter().flat_map(move |(_, local)| {
                let base = base.clone();
                remotes().into_iter().map(move |(_, remote)| {
                    let decision = decide(base.as_ref(), local, remote, &rules);
                    (rules, base.clone(), local, remote, decision)
                })
            })
        })
    })
}

#[test]
fn only_the_recorded_content_or_one_that_the_vault_had_is_ever_replaced() {
    for (_, base, local, remote, Decision { action, .. }) in all() {
        let Action::Put { replaces: Some(replaced) } = action else { continue };
        let recorded = base.as_ref().and_then(Record::file).map(KnownContent::from);
        let is_earlier = local == Local::Earlier(replaced);
        assert!(recorded == Some(replaced) || is_earlier, "{base:?} {local:?} {remote:?}");
        assert!(matches!(local, Local::File(found) | Local::Earlier(found) if found == replaced));
    }
}

#[test]
fn a_file_that_differs_from_its_record_is_never_removed() {
    for (_, base, local, remote, Decision { before, .. }) in all() {
        let Some(known) = base.as_ref().and_then(Record::file) else { continue };
        if before == Before::Remove && remote == Remote::Deleted {
            assert!(
                !matches!(local, Local::File(found) if found.hash != known.hash) && local != Local::Other
            );
        }
    }
}

#[test]
fn an_older_vault_removes_and_lowers_nothing() {
    for (rules, base, local, remote, decision) in all() {
        if rules.reach == Reach::Additions {
            assert_eq!(decision.before, Before::Keep, "{base:?} {local:?} {remote:?}");
        }
    }
}

#[test]
fn whoever_keeps_everything_removes_nothing() {
    for (rules, base, local, remote, decision) in all() {
        if rules.reach == Reach::KeepEverything {
            // The vault's own earlier content may be removed without a record.
            let is_vaults = matches!(local, Local::Earlier(_));
            assert!(decision.before != Before::Remove || is_vaults, "{base:?} {local:?} {remote:?}");
        }
    }
}

#[test]
fn what_has_the_wanted_content_is_adopted_whoever_put_it_there() {
    for (rules, base, local, remote, Decision { action, .. }) in all() {
        let (Local::File(found), Remote::File { content: wanted, .. }) = (local, remote) else { continue };
        if found.hash == wanted.hash && rules.reach != Reach::Additions {
            assert_eq!(action, Action::Adopt, "{base:?}");
        }
    }
}

#[test]
fn what_obsync_wrote_as_an_earlier_version_is_replaced_and_as_a_later_one_left_alone() {
    let (wanted, known, found) = (content("A"), content("B"), content("C"));
    let decided = |recorded, found, version: Option<u64>| {
        decide_occupied(recorded, found, version.map(Uid), wanted, Uid(BASE))
    };
    for recorded in [None, Some(known)] {
        assert_eq!(decided(recorded, None, None), Occupied::KeepBoth);
        assert_eq!(decided(recorded, Some(found), None), Occupied::KeepBoth);
        for version in [1, BASE] {
            let replaced = Occupied::Retry { replaces: Some(found) };
            assert_eq!(decided(recorded, Some(found), Some(version)), replaced);
        }
        assert_eq!(decided(recorded, Some(found), Some(BASE + 1)), Occupied::Newer);
        // The wanted content is there already, whoever wrote it.
        for version in [None, Some(1), Some(BASE + 1)] {
            assert_eq!(decided(recorded, Some(wanted), version), Occupied::Retry { replaces: recorded });
        }
    }
    for version in [None, Some(1), Some(BASE + 1)] {
        assert_eq!(decided(Some(known), Some(known), version), Occupied::Retry { replaces: Some(known) });
    }
}
