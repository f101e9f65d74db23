//! Failures that users report of two-way sync clients, as inputs. Each test begins with the name of its case.
//!
//! | case | tests here | others |
//! | --- | --- | --- |
//! | stale copy | `edits::stale_copy_*`, `followers::stale_copy_*` | `quiet` (unit tests) |
//! | empty folder | `absence::empty_folder_*` | `two_way::a_folder_that_was_emptied_empties_nothing`, `two_way_kills` |
//! | wider filter | `absence::wider_filter_*` | |
//! | settings lost | `absence::settings_lost_*` | `cli::a_damaged_state_is_told_and_can_be_reset`, `cli::a_sync_with_a_damaged_state_*`, `cli::a_sync_with_an_empty_state_*`, `cli::a_sync_with_an_unreadable_state_*` |
//! | folders that are not there | `absence::folders_that_are_not_there_*` | `folder::below_a_folder_that_cannot_be_read_nothing_is_absent` |
//! | both edited | `edits::both_edited_*` | `two_way`, `merge` (unit tests) |
//! | false renames | `names::false_renames_*` | `outgoing::a_rename_is_what_certainly_is_one` |
//! | save by rename | `edits::save_by_rename_*`, `followers::save_by_rename_*` | `quiet` (unit tests) |
//! | half-written | `edits::half_written_*`, `followers::half_written_*`, `followers::save_by_rename_*` | `quiet` (unit tests) |
//! | blind watchers | `followers::blind_watchers_*` | `folder::a_queue_that_overflows_makes_a_follower_scan_everything`, `folder::of_20000_events_none_is_missed_without_a_word` |
//! | asleep | `followers::asleep_*` | `clock` (unit test), `cli::a_follower_that_was_stopped_for_seconds_*` |
//! | settings that fight | `edits::settings_that_fight_*` | `flapping` (unit tests) |
//! | trees that are not notes | `names::trees_that_are_not_notes_*`, `followers::trees_that_are_not_notes_*` | `folder::links_pipes_and_sockets_are_unknown_and_never_opened_or_followed` |
//! | full vault | `limits::full_vault_*` | `two_way::a_full_vault_is_told_and_the_rest_goes_on` |
//! | stopped midway | `limits::stopped_midway_*` | `cli::a_sync_that_begins_while_another_ends_gets_the_folder_when_nothing_of_that_goes_on` |
//! | race and kill | `limits::race_and_kill_*`, `limits::race_and_cut_*`, `followers::race_and_kill_*` | `two_way_kills`, `cli::thirty_kills_of_a_follower_*`, `settlement` (unit tests) |
//! | swapped names | `names::swapped_names_*` | `two_way::swapped_names_and_chains_arrive` |
//! | old backup | `backups::old_backup_*` | `identity` |
//! | filter and absence | `absence::filter_and_absence_*` | |
//! | server restored | `backups::server_restored_*` | `identity` |
//!
//! Bad input, and its tests:
//!
//! | input | tests |
//! | --- | --- |
//! | folder unmounted or replaced | `absence::folders_that_are_not_there_*`, `identity`, `cli::a_folder_that_is_emptied_replaced_or_half_restored_is_doubted_and_deletes_nothing` |
//! | half restored, half readable | `backups::old_backup_*`, `absence::folders_that_are_not_there_*`, `folder::below_a_folder_that_cannot_be_read_nothing_is_absent` |
//! | filter narrowed and widened | `absence::wider_filter_*`, `absence::filter_and_absence_*`, `cli::a_filter_that_is_narrowed_and_widened_by_options_deletes_nothing` |
//! | settings lost | `absence::settings_lost_*` |
//! | state newer, older, damaged | `cli::a_state_from_the_future_is_told_and_kept`, `cli::a_state_of_a_newer_release_is_told_to_whoever_sends_and_kept`, `cli::a_sync_with_a_state_of_format_1_*`, `backups::old_backup_of_the_state_alone_*`, `absence::settings_lost_*` |
//! | file over the limit, vault full, subscription expired midway | `limits::full_vault_*`, `cli::a_full_vault_and_a_file_over_its_limit_are_status_5_and_the_rest_goes_on`, `cli::a_subscription_that_expires_midway_ends_the_run_and_the_next_one_sends_the_rest`, `cli::a_follower_whose_subscription_expires_ends_and_says_so` |
//! | password changed on the server | `cli::a_kept_key_that_is_not_accepted_any_more_is_told`, `cli::a_follower_whose_sign_in_ends_with_the_password_of_the_account_says_so_and_loses_nothing`, `cli::a_follower_of_a_vault_whose_password_was_changed_ends_and_changes_nothing` |
//! | two obsyncs on one folder | `cli::two_pulls_at_once_are_one_too_many`, `cli::two_syncs_at_once_are_one_too_many_and_a_sync_beside_a_follower_is`, `folder::one_store_at_a_time_has_the_lock`, `cli::a_sync_that_begins_while_another_ends_gets_the_folder_when_nothing_of_that_goes_on` |
//! | file and folder at once | `names::swapped_names_a_file_here_and_a_folder_there_at_once_are_both_kept`, `names::swapped_names_a_folder_here_and_a_file_there_at_once_are_both_kept`, `two_way::a_folder_in_the_place_of_a_file_that_the_vault_edited_is_kept_beside` |
//! | renames by case or normalisation only, names that the vault must not get | `names::bad_input_*`, `absence::filter_and_absence_a_decomposed_name_*` |
//! | binary files named `.md` | `edits::both_edited_without_the_base_*` |
//! | 20,000 events in a second | `folder::of_20000_events_none_is_missed_without_a_word`, `followers::blind_watchers_after_20000_events_*` |
//! | watch limits | `folder::more_folders_than_may_be_watched_are_said`, `cli::where_the_system_lets_50_folders_be_watched_a_follower_says_so_and_misses_nothing`, `followers::blind_watchers_*` |
//! | pipe, socket, device | `cli::pipes_sockets_and_devices_in_the_folder_hold_no_run_up_and_are_not_sent`, `names::trees_that_are_not_notes_stay_here_*`, `folder::links_pipes_and_sockets_are_unknown_and_never_opened_or_followed` |

mod absence;
mod backups;
mod edits;
mod followers;
mod limits;
mod names;

use obsync_core::{JournalChange, JournalEntry, Side, StateStore};

use crate::bench::Bench;

pub(crate) use super::two_way::{has, in_step};

/// Number of deletions in the vault that the journal has.
async fn deletions_there(bench: &Bench) -> usize {
    let journal = bench.state().journal(None, 5000).await.unwrap();
    let is_one = |line: &&JournalEntry| line.change == JournalChange::Delete && line.side == Side::Vault;
    journal.iter().filter(is_one).count()
}

const T: i64 = 1_700_000_000_000;
