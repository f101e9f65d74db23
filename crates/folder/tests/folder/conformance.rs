//! A folder keeps the promises of the engine's trait for destinations.

use obsync_conformance::check_vault_store;
use obsync_folder::{Durability, FolderOptions};

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
