//! A bucket and a vault kept equal, both ways.

use super::place::{BUCKET, DEST, PREFIX, Place};
use crate::world::ran;

fn has(place: &Place, path: &str) -> bool {
    place.world.vault("Notes").expected().unwrap().files.iter().any(|file| file.path == path)
}

#[test]
fn objects_that_others_put_reach_the_vault_and_objects_that_are_gone_delete_nothing() {
    let place = Place::new();
    place.write("a.md", "a");
    place.write("b.md", "b");
    place.must(&["sync", "Notes", DEST, "--yes"]);
    place.cloud.s3().put(BUCKET, &format!("{PREFIX}/new/folder/c.md"), "of another program", &[]);
    place.cloud.s3().put(BUCKET, &format!("{PREFIX}/a.md"), "edited in the bucket", &[]);
    place.cloud.s3().delete(BUCKET, &format!("{PREFIX}/b.md"));
    place.must(&["sync", "Notes", DEST, "--yes"]);
    let files = place.world.vault("Notes").contents().unwrap();
    assert_eq!(files["a.md"], b"edited in the bucket");
    assert_eq!(files["new/folder/c.md"], b"of another program");
    // Rules expire objects, and nobody sees that.
    assert!(has(&place, "b.md"));
    // Devices need the folders of new files.
    let folders = place.world.vault("Notes").expected().unwrap().folders;
    assert!(folders.contains(&"new/folder".into()), "{folders:?}");
    // The owner of the bucket decides whether that is a deletion: of objects present in the previous run.
    place.cloud.s3().delete(BUCKET, &format!("{PREFIX}/new/folder/c.md"));
    place.must(&["sync", "Notes", DEST, "--yes", "--bucket-deletes"]);
    assert!(!has(&place, "new/folder/c.md") && has(&place, "b.md"));
    // Changes of the vault reach the bucket, and nothing is sent twice.
    place.write("a.md", "edited in the vault");
    place.must(&["sync", "Notes", DEST, "--yes"]);
    assert_eq!(&place.object("a.md").unwrap().content[..], b"edited in the vault");
    let version = place.world.vault("Notes").version();
    place.must(&["sync", "Notes", DEST, "--yes"]);
    assert_eq!(place.world.vault("Notes").version(), version);
}

#[test]
fn a_bucket_can_be_pushed_and_its_deletions_are_an_option_of_buckets_only() {
    let place = Place::new();
    place.cloud.s3().put(BUCKET, &format!("{PREFIX}/site/index.md"), "of another program", &[]);
    let told = place.must(&["push", "Notes", DEST, "--yes"]).stdout;
    assert!(told.contains("Sent to the vault: 1 file"), "{told}");
    assert_eq!(place.world.vault("Notes").contents().unwrap()["site/index.md"], b"of another program");

    for command in ["sync", "push"] {
        let refused = place.run(&[command, "Notes", "folder", "--bucket-deletes", "--yes"]);
        assert_eq!(
            refused.stderr,
            match command {
                "sync" => "obsync: --bucket-deletes is for buckets only, and folder is none; leave it out\n",
                _ => "obsync: there is no folder folder to send from; check the path\n",
            }
        );
        assert!(!place.world.path("folder").exists());
    }
    place.run(&["sync", "Notes", "folder", "--yes", "--bucket-deletes", "--json"]).expect(2).json();
    // The variable is for buckets, so it does not apply to a folder.
    let mut sync = place.command(&["sync", "Notes", "folder", "--yes"]);
    ran(sync.env("OBSYNC_BUCKET_DELETES", "true")).expect(0);
}
