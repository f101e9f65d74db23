//! Names in scripts from all over the world.

use obsync_testkit::{GeneratorOptions, fill_vault};

use crate::world::World;

/// The longest name that file systems take, in bytes.
const LONGEST: usize = 255;

#[test]
fn eleven_thousand_files_in_sixty_scripts_are_pulled_exactly() {
    let world = World::new();
    let options = GeneratorOptions {
        files: 11_000,
        seed: 60,
        many_scripts: true,
        scale: 0.1,
        max_size: 20_000,
        ..Default::default()
    };
    fill_vault(&world.vault("Notes"), &options).unwrap();
    let expected = world.vault("Notes").expected().unwrap();
    assert_eq!(expected.files.len(), 11_000);
    let segments = expected.files.iter().flat_map(|file| file.path.split('/'));
    assert_eq!(segments.map(str::len).max(), Some(LONGEST));
    world.must(&["pull", "Notes", "notes"]);
    assert_eq!(world.differences("Notes", "notes"), [""; 0]);
    world.must(&["verify", "notes"]);
}
