//! The stores of this crate keep the promises of the engine's storage traits.

use obsync_stores::conformance::{check_state_store, check_vault_store};
use obsync_stores::{Durability, FolderOptions};

use crate::database::DatabaseFile;
use crate::destination::Destination;

#[tokio::test]
async fn a_folder_is_a_vault_store() {
    check_vault_store(async || Destination::new()).await;
}

#[tokio::test]
async fn a_folder_is_a_vault_store_where_each_file_is_flushed_by_itself() {
    let options = FolderOptions { durability: Durability::EachFile, ..FolderOptions::default() };
    check_vault_store(async || Destination::with(options)).await;
}

#[tokio::test]
async fn sqlite_is_a_state_store() {
    check_state_store(async || DatabaseFile::new()).await;
}
