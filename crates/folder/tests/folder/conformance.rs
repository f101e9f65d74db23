//! A folder fulfills the contract of the engine's traits for destinations.

use obsync_conformance::check_destination;
use obsync_folder::{Durability, FolderOptions};

use crate::destination::TestFolder;

#[tokio::test]
async fn a_folder_is_a_vault_store() {
    check_destination(async || TestFolder::new()).await;
}

#[tokio::test]
async fn a_folder_is_a_vault_store_where_each_file_is_flushed_by_itself() {
    let options = FolderOptions { durability: Durability::EachFile, ..FolderOptions::default() };
    check_destination(async || TestFolder::with(options)).await;
}
