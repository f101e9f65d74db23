//! What people report about clients that sync two ways, as inputs. Each test begins with the name of its case.
//!
//! | case | tests here | others |
//! | --- | --- | --- |
//! | stale copy | `edits::stale_copy_*` | `quiet` (unit tests) |
//! | empty folder | `absence::empty_folder_*` | `two_way::a_folder_that_was_emptied_empties_nothing`, `two_way_kills` |
//! | wider filter | `absence::wider_filter_*` | |
//! | settings lost | `absence::settings_lost_*` | `cli::a_damaged_state_is_told_and_can_be_reset` |
//! | folders that are not there | `absence::folders_that_are_not_there_*` | `folder::below_a_folder_that_cannot_be_read_nothing_is_absent` |
//! | both edited | `edits::both_edited_*` | `two_way`, `merge` (unit tests) |
//! | false renames | `names::false_renames_*` | `outgoing::a_rename_is_what_certainly_is_one` |
//! | save by rename | `edits::save_by_rename_*` | `quiet`, `cli::save_by_rename_is_one_change` |
//! | half-written | `edits::half_written_*` | `quiet`, `cli::half_written_files_wait` |
//! | blind watchers | `followers::blind_watchers_*` | `folder::of_20000_events_none_is_missed_without_a_word` |
//! | asleep | `followers::asleep_*` | `follow` (unit test) |
//! | settings that fight | `edits::settings_that_fight_*` | |
//! | trees that are not notes | `names::trees_that_are_not_notes_*` | `folder::links_pipes_and_sockets_are_unknown_and_never_opened_or_followed` |
//! | full vault | `limits::full_vault_*` | `two_way::a_full_vault_is_told_and_the_rest_goes_on` |
//! | stopped midway | `limits::stopped_midway_*` | |
//! | race and kill | `limits::race_and_kill_*` | `two_way_kills`, `settlement` (unit tests) |
//! | swapped names | `names::swapped_names_*` | `two_way::swapped_names_and_chains_arrive` |
//! | old backup | `backups::old_backup_*` | `identity` |
//! | filter and absence | `absence::filter_and_absence_*` | |
//! | server restored | `backups::server_restored_*` | `identity` |

mod absence;
mod backups;
mod edits;
mod followers;
mod limits;
mod names;

pub(crate) use super::two_way::{has, in_step};

const T: i64 = 1_700_000_000_000;
