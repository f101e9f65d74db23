//! Screens of a terminal: progress, tables and help at 80 and at 40 columns, and the rest after the end.

use std::time::Duration;

use obsync_testkit::{Chance, Faults, VaultSpec};

use crate::terminal::{CREDENTIALS, Terminal, UNSET};
use crate::world::{EMAIL, World, ran};

const USUAL: (u16, u16) = (24, 80);
const NARROW: (u16, u16) = (24, 40);

const PULL: [&str; 5] = ["pull", "Notes", "notes", "--connections", "1"];

/// A vault of ten files of 1,000 bytes each, and a server with this fault.
fn ten_files(faults: Faults) -> World {
    let world = World::with(|builder| builder.vault(VaultSpec::managed("Notes")));
    for number in 0..10 {
        let content = format!("{number:01000}");
        world.vault("Notes").write(&format!("{number}.md"), content, 1_700_000_000_000).unwrap();
    }
    world.server.faults().set(faults);
    world
}

/// The server sends this many contents and then stalls.
fn gives(contents: u64) -> Faults {
    Faults { stall_pull: Chance::always().after(contents), ..Faults::default() }
}

/// The line of the screen with the bar.
#[track_caller]
fn bar(screen: &str) -> &str {
    screen.lines().find(|line| line.starts_with('[')).unwrap_or_else(|| panic!("there is no bar: {screen}"))
}

#[test]
fn a_pull_has_one_line_whatever_the_width() {
    for (size, line) in [
        (USUAL, "[                              ] 0 of 10 files, 0 bytes of 10.0 kB"),
        (NARROW, "[                     ] 0 of 10 files"),
        ((24, 20), "0 of 10 files"),
    ] {
        let world = ten_files(gives(0));
        let mut terminal = Terminal::sized(size, &world, &PULL, &CREDENTIALS);
        let screen = terminal.until_shown("0 of 10 files");
        let shown = screen.lines().last().unwrap();
        assert_eq!(shown, line);
        assert!(shown.len() < usize::from(size.1));
        terminal.press("\u{3}");
        assert_eq!(terminal.ended(), Some(6));
    }
}

#[test]
fn the_bar_is_empty_until_the_plan_is_known() {
    let world = ten_files(Faults { stall_in_listing: Chance::always(), ..Faults::default() });
    let mut terminal = Terminal::sized(USUAL, &world, &PULL, &CREDENTIALS);
    let screen = terminal.until_shown("listing: ");
    assert!(bar(&screen).starts_with("[                              ] listing: "), "{screen}");
    terminal.press("\u{3}");
    assert_eq!(terminal.ended(), Some(6));
}

#[test]
fn after_ctrl_c_no_part_of_the_bar_is_left() {
    let world = ten_files(gives(0));
    let mut terminal = Terminal::sized(USUAL, &world, &PULL, &CREDENTIALS);
    terminal.until_shown("0 of 10 files");
    terminal.press("\u{3}");
    assert_eq!(terminal.ended(), Some(6));
    let screen = terminal.screen();
    assert_eq!(screen.lines().filter(|line| line.trim() == "^C").count(), 0, "{screen}");
    assert!(!screen.contains('[') && !screen.contains("of 10 files, "), "{screen}");
    assert!(screen.contains("obsync: interrupted; pulled files are kept"), "{screen}");
}

#[test]
fn a_resumed_pull_shows_the_whole_vault() {
    let world = ten_files(gives(4));
    // The pull is stopped once four files are in place, however long that takes.
    let mut first = Terminal::sized(USUAL, &world, &PULL, &CREDENTIALS);
    first.until_shown("4 of 10 files");
    first.press("\u{3}");
    assert_eq!(first.ended(), Some(6));
    let there = std::fs::read_dir(world.path("notes")).unwrap();
    let there = there.filter(|entry| entry.as_ref().unwrap().path().extension().is_some()).count();
    assert!(there > 0, "nothing was pulled before");
    world.server.faults().set(gives(0));
    let mut terminal = Terminal::sized(USUAL, &world, &PULL, &CREDENTIALS);
    let screen = terminal.until_shown(" of 10 files");
    assert!(bar(&screen).contains(&format!("{there} of 10 files, {there}.0 kB of 10.0 kB")), "{screen}");
    terminal.press("\u{3}");
    assert_eq!(terminal.ended(), Some(6));
}

#[test]
fn a_terminal_that_cannot_move_its_cursor_gets_lines() {
    for name in ["dumb", "", UNSET] {
        let world = ten_files(gives(0));
        let environment = [CREDENTIALS[0], CREDENTIALS[1], ("TERM", name)];
        let mut terminal = Terminal::sized(NARROW, &world, &PULL, &environment);
        terminal.until_shown("0 of 10 files");
        terminal.press("\u{3}");
        assert_eq!(terminal.ended(), Some(6));
        assert!(!terminal.written().contains('\u{1b}'), "{:?}", terminal.written());
    }
}

#[test]
fn no_colour_is_used_where_none_is_wanted() {
    let world = World::without_account(|builder| builder);
    for (variable, value, is_coloured) in [
        ("NO_COLOR", "1", false),
        ("TERM", "dumb", false),
        ("TERM", "", false),
        ("TERM", UNSET, false),
        ("LANG", "C", true),
    ] {
        let mut terminal = Terminal::sized(USUAL, &world, &["pull", "--nonsense"], &[(variable, value)]);
        assert_eq!(terminal.ended(), Some(2));
        assert_eq!(
            terminal.written().contains('\u{1b}'),
            is_coloured,
            "{variable}: {:?}",
            terminal.written()
        );
    }
}

#[test]
fn the_first_screen_fits_a_terminal() {
    let world = World::without_account(|builder| builder);
    // As many lines as the screen has, and one for the shell's next prompt.
    let mut terminal = Terminal::sized((26, 80), &world, &["--help"], &[]);
    assert_eq!(terminal.ended(), Some(0));
    insta::assert_snapshot!("first screen", terminal.screen());
}

#[test]
fn vaults_fit_80_columns_with_the_name_first() {
    let world = World::with(|builder| {
        builder
            .vault(VaultSpec::managed("Journal").owner(EMAIL))
            .vault(VaultSpec::end_to_end("日本の日記", "pw").owner(EMAIL))
            .vault(VaultSpec::managed("red \u{1b}[31m and \u{202e}evil").owner(EMAIL))
            .vault(VaultSpec::managed("Team").owner("you@example.com").shared_with(EMAIL))
    });
    world.must(&["pull", "Journal", "a folder with a name that leaves no room beside it in 80 columns"]);
    let mut terminal = Terminal::sized(USUAL, &world, &["vaults"], &CREDENTIALS);
    assert_eq!(terminal.ended(), Some(0));
    let screen = terminal.screen();
    let (mut screen, synced) =
        screen.split_once("Journal is synced with\n").map(|(one, other)| (one.to_owned(), other)).unwrap();
    let lines: Vec<&str> = synced.lines().collect();
    assert!(lines.len() >= 2 && lines.last() == Some(&"    from the vault to here"), "{synced}");
    for vault in world.server.vaults() {
        assert!(screen.contains(vault.id().as_str()), "{screen}");
        screen = screen.replace(vault.id().as_str(), &"0".repeat(vault.id().as_str().len()));
    }
    insta::assert_snapshot!("vaults", screen);
}

/// The screen of a command that ends by itself, in a terminal that is 40 columns wide and has room for all
/// lines.
fn in_40_columns(world: &World, args: &[&str]) -> String {
    let mut terminal = Terminal::sized((90, 40), world, args, &CREDENTIALS);
    assert_eq!(terminal.ended(), Some(0), "{args:?}: {}", terminal.written());
    terminal.screen()
}

#[test]
fn help_is_broken_at_words_in_40_columns() {
    let world = World::without_account(|builder| builder);
    insta::assert_snapshot!("first screen in 40 columns", in_40_columns(&world, &["--help"]));
    assert_eq!(in_40_columns(&world, &["help"]), in_40_columns(&world, &["--help"]));
    insta::assert_snapshot!("exit-codes in 40 columns", in_40_columns(&world, &["help", "exit-codes"]));
}

#[test]
fn vaults_and_status_are_broken_at_words_in_40_columns() {
    let world = World::with(|builder| {
        builder
            .vault(VaultSpec::managed("Journal").owner(EMAIL))
            .vault(VaultSpec::managed("Team").owner("you@example.com").shared_with(EMAIL))
    });
    let mut screen = in_40_columns(&world, &["vaults"]);
    for vault in world.server.vaults() {
        assert!(screen.contains(vault.id().as_str()), "{screen}");
        screen = screen.replace(vault.id().as_str(), &"0".repeat(vault.id().as_str().len()));
    }
    insta::assert_snapshot!("vaults in 40 columns", screen);
    world.vault("Journal").write_damaged("Broken.md", "lost").unwrap();
    world.run(&["pull", "Journal", "notes"]).expect(5);
    let status = in_40_columns(&world, &["status"]);
    for part in [
        "\n  vault      \"Journal\"\n      (",
        "\n  direction  from the vault to here\n",
        "\n  last run   some changes failed, ended\n             2",
        "\n    Broken.md (version 1): ",
    ] {
        assert!(status.contains(part), "{part:?} is not in {status}");
    }
}

#[test]
fn the_locale_changes_nothing() {
    let world = World::with(|builder| builder.vault(VaultSpec::managed("日本").owner(EMAIL)));
    let shown = |locale: &str| {
        let mut vaults = world.command(&["vaults"]);
        ran(vaults.env("LANG", locale).env("LC_ALL", locale)).expect(0).stdout
    };
    for locale in ["C", "POSIX", "de_DE.ISO-8859-1", "xx_YY.UTF-8", ""] {
        assert_eq!(shown(locale), shown("C.UTF-8"), "{locale}");
    }
    assert!(shown("C").contains("日本"));
}

#[test]
fn two_quick_signals_leave_a_clean_terminal() {
    let world = ten_files(gives(0));
    let mut terminal = Terminal::sized(USUAL, &world, &PULL, &CREDENTIALS);
    terminal.until_shown("0 of 10 files");
    terminal.press("\u{3}");
    std::thread::sleep(Duration::from_millis(1));
    terminal.press("\u{3}");
    assert_eq!(terminal.ended(), Some(6));
    assert!(!terminal.screen().contains("of 10 files"), "{}", terminal.screen());
}
