//! Questions and output on a terminal.

use std::fs;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use obsync_testkit::{Faults, VaultSpec};
use pty_process::blocking::{Command, open};
use rustix::termios::{LocalModes, tcgetattr};

use crate::world::{EMAIL, PASSWORD, VAULT_PASSWORD, World, put};

/// Longer than anything takes to appear, unless it never does.
const LIMIT: Duration = Duration::from_secs(60);

/// The value of a variable that the program does not have.
pub(crate) const UNSET: &str = "\u{0}";

/// A terminal in which the program runs.
pub(crate) struct Terminal {
    keyboard: fs::File,
    screen: Receiver<Vec<u8>>,
    program: Child,
    /// Rows and columns.
    size: (u16, u16),
    /// All output so far,
    written: Vec<u8>,
    /// and the same as text.
    shown: String,
    /// Length of the part that was waited for already.
    read: usize,
}

impl Terminal {
    fn run(world: &World, args: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::sized((24, 100), world, args, environment)
    }

    pub(crate) fn sized(
        size: (u16, u16),
        world: &World,
        args: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let (terminal, inside) = open().unwrap();
        terminal.resize(pty_process::Size::new(size.0, size.1)).unwrap();
        let program = Command::new(env!("CARGO_BIN_EXE_obsync"))
            .args(args)
            .current_dir(world.path(""))
            .env_clear()
            .env("TERM", "xterm")
            .env("OBSYNC_HOME", world.home())
            .env("OBSYNC_API_URL", world.server.url());
        let program = environment.iter().fold(program, |program, (name, value)| match *value {
            UNSET => program.env_remove(name),
            value => program.env(name, value),
        });
        let program = program.spawn(inside).unwrap();
        let keyboard: OwnedFd = terminal.as_fd().try_clone_to_owned().unwrap();
        let (sender, screen) = channel();
        thread::spawn(move || {
            let mut terminal = terminal;
            let mut buffer = [0; 4096];
            // A terminal whose program has ended is an error to read. Read twice: the system checks for text
            // first and for the program then, and a program may write its last words and end between the two.
            let mut is_left = false;
            loop {
                match terminal.read(&mut buffer) {
                    Err(_) if !is_left => is_left = true,
                    Ok(length @ 1..) if sender.send(buffer[..length].to_vec()).is_ok() => is_left = false,
                    _ => return,
                }
            }
        });
        let (written, shown) = (Vec::new(), String::new());
        Terminal { keyboard: keyboard.into(), screen, program, size, written, shown, read: 0 }
    }

    fn take(&mut self, more: &[u8]) {
        self.written.extend_from_slice(more);
        self.shown = String::from_utf8_lossy(&self.written).into_owned();
    }

    pub(crate) fn screen(&self) -> String {
        let [rows, columns] = [self.size.0, self.size.1].map(|length| NonZeroU16::new(length).unwrap());
        let mut terminal = vt100::Parser::new(rows, columns, 0);
        terminal.process(&self.written);
        terminal.screen().contents()
    }

    /// Waits until `text` is on the screen, and returns the screen.
    #[track_caller]
    pub(crate) fn until_shown(&mut self, text: &str) -> String {
        loop {
            let screen = self.screen();
            if screen.contains(text) {
                return screen;
            }
            match self.screen.recv_timeout(LIMIT) {
                Ok(more) => self.take(&more),
                Err(_) => panic!("{text:?} is not shown: {screen}"),
            }
        }
    }

    /// Waits until `text` appears after the part that was waited for before.
    #[track_caller]
    fn expect(&mut self, text: &str) {
        loop {
            if let Some(found) = self.shown[self.read..].find(text) {
                self.read += found + text.len();
                return;
            }
            match self.screen.recv_timeout(LIMIT) {
                Ok(more) => self.take(&more),
                Err(_) => panic!("{text:?} did not appear after {:?}", &self.shown),
            }
        }
    }

    /// Waits for a secret question, and until the terminal has really switched echo off: the program does
    /// that a moment after the question.
    #[track_caller]
    fn expect_secretly(&mut self, text: &str) {
        self.expect(text);
        let since = Instant::now();
        while tcgetattr(&self.keyboard).unwrap().local_modes.contains(LocalModes::ECHO) {
            assert!(since.elapsed() < LIMIT, "{text:?} would show the answer");
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the program's end. Returns its exit status and all output.
    #[track_caller]
    fn end(mut self) -> (Option<i32>, String) {
        let code = self.ended();
        (code, std::mem::take(&mut self.shown))
    }

    /// Waits for the program's end.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> Option<i32> {
        loop {
            match self.screen.recv_timeout(LIMIT) {
                Ok(more) => self.take(&more),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end: {:?}", self.shown),
            }
        }
        let code = self.program.wait().unwrap().code();
        for secret in [PASSWORD, VAULT_PASSWORD] {
            assert!(!self.shown.contains(secret), "a secret was shown: {:?}", self.shown);
        }
        code
    }

    /// All output to the terminal.
    pub(crate) fn written(&self) -> &str {
        &self.shown
    }
}

impl Drop for Terminal {
    /// A failed test leaves no program that keeps its world busy.
    fn drop(&mut self) {
        let _ = self.program.kill();
    }
}

pub(crate) const CREDENTIALS: [(&str, &str); 2] =
    [("OBSIDIAN_EMAIL", EMAIL), ("OBSIDIAN_PASSWORD", PASSWORD)];

#[test]
fn a_login_asks_for_what_is_missing() {
    let world = World::new();
    let mut terminal = Terminal::run(&world, &["login"], &[]);
    terminal.expect("Email: ");
    terminal.press(&format!("{EMAIL}\n"));
    terminal.expect_secretly("Password: ");
    terminal.press(&format!("{PASSWORD}\n"));
    terminal.expect("Signed in as me@example.com.");
    assert_eq!(terminal.end().0, Some(0));
}

#[test]
fn the_password_of_a_new_vault_is_asked_for_until_it_was_typed_twice() {
    let world = World::new();
    let mut terminal = Terminal::run(&world, &["create", "Journal"], &CREDENTIALS);
    for (again, told) in [("other", "The passwords differ."), (VAULT_PASSWORD, "was created")] {
        terminal.expect_secretly("Password for the vault \"Journal\": ");
        terminal.press(&format!("{VAULT_PASSWORD}\n"));
        terminal.expect_secretly("The same again: ");
        terminal.press(&format!("{again}\n"));
        terminal.expect(told);
    }
    assert_eq!(terminal.end().0, Some(0));
    world.must(&["pull", "Journal", "notes"]);
}

#[test]
fn a_login_asks_for_a_code_again_when_it_was_wrong() {
    let world = World::without_account(|builder| {
        builder.user_with_totp(EMAIL, PASSWORD, "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")
    });
    let mut terminal = Terminal::run(&world, &["login"], &CREDENTIALS);
    terminal.expect("Two-factor code: ");
    terminal.press("000000\n");
    terminal.expect("the two-factor code is not right");
    terminal.expect("Two-factor code: ");
    let code = world.server.totp_code(EMAIL).unwrap();
    terminal.press(&format!("{} {}\n", &code[..3], &code[3..]));
    terminal.expect("Signed in as me@example.com.");
    assert_eq!(terminal.end().0, Some(0));
}

#[test]
fn a_pull_asks_for_the_vault_password_until_it_is_right_and_then_never_again() {
    let world = World::new();
    world.vault("Private").write("Diary.md", "dear diary", 1_700_000_000_000).unwrap();
    let pull = ["pull", "Private", "private"];
    let mut terminal = Terminal::run(&world, &pull, &CREDENTIALS);
    terminal.expect_secretly("Password of the vault \"Private\": ");
    terminal.press("wr0ng\n");
    terminal.expect("the password does not open this vault");
    terminal.expect_secretly("Password of the vault \"Private\": ");
    terminal.press(&format!("{VAULT_PASSWORD}\n"));
    terminal.expect("Pulled 1 file");
    assert_eq!(terminal.end().0, Some(0));
    let mut terminal = Terminal::run(&world, &pull, &CREDENTIALS);
    terminal.expect("Nothing new in");
    assert_eq!(terminal.end().0, Some(0));
}

#[test]
fn the_first_run_that_sends_shows_its_plan_and_does_nothing_without_a_yes() {
    let world =
        World::with(|builder| builder.vault(VaultSpec::managed("sync")).vault(VaultSpec::managed("push")));
    for (way, brings) in [("sync", true), ("push", false)] {
        let vault = world.vault(way);
        vault.write("there.md", "there", 1_700_000_000_000).unwrap();
        let (folder, here) = (world.path(way), world.path(way).join("here.md"));
        put(&here, "here");
        let in_vault = || -> Vec<String> { vault.contents().unwrap().into_keys().collect() };
        let command = [way, way, way];
        for refusal in ["n\n", "\n", "certainly not\n", "\u{4}"] {
            let mut terminal = Terminal::run(&world, &command, &CREDENTIALS);
            terminal.expect("here.md");
            terminal.expect("The first run deletes nothing on either side. Continue? [y/N] ");
            terminal.press(refusal);
            terminal.expect("Nothing was done.");
            assert_eq!(terminal.end().0, Some(0), "{way} {refusal:?}");
            assert_eq!(in_vault(), ["there.md"], "{way} {refusal:?}");
            assert!(!folder.join("there.md").exists(), "{way} {refusal:?}");
        }
        let in_time = [way, way, way, "--max-time", "3s"];
        let mut terminal = Terminal::run(&world, &in_time, &CREDENTIALS);
        terminal.expect("Continue? [y/N] ");
        let (code, shown) = terminal.end();
        assert!(code == Some(6) && shown.contains("--max-time"), "{way}: {shown}");
        let mut terminal = Terminal::run(&world, &command, &CREDENTIALS);
        terminal.expect("Continue? [y/N] ");
        terminal.press("yes\n");
        assert_eq!(terminal.end().0, Some(0), "{way}");
        assert_eq!(in_vault(), ["here.md", "there.md"], "{way}");
        assert_eq!(folder.join("there.md").exists(), brings, "{way}");
        // It is asked once.
        fs::write(&here, "changed here").unwrap();
        let (code, shown) = Terminal::run(&world, &command, &CREDENTIALS).end();
        assert!(code == Some(0) && !shown.contains("Continue?"), "{way}: {shown}");
    }
}

#[test]
fn a_plan_that_is_interrupted_is_not_shown() {
    let world = World::with(|builder| builder.vault(VaultSpec::managed("Notes")));
    put(&world.path("notes/here.md"), "here");
    world.server.faults().update(|faults| faults.set("stall-init=always").unwrap());
    let mut terminal = Terminal::run(&world, &["sync", "Notes", "notes"], &CREDENTIALS);
    world.runtime.block_on(async {
        let listing = world.server.wait_for(|stats| stats.websocket_connections > 0);
        tokio::time::timeout(Duration::from_secs(60), listing).await.unwrap();
    });
    terminal.press("\u{3}");
    let (code, shown) = terminal.end();
    assert!(code == Some(6) && shown.contains("obsync: interrupted"), "{shown}");
    assert!(!shown.contains("would"), "{shown}");
}

#[test]
fn of_a_long_plan_the_beginning_and_the_sum_are_shown_before_the_question() {
    let world = World::with(|builder| builder.vault(VaultSpec::managed("Notes")));
    for number in 0..1_254 {
        put(&world.path(&format!("notes/{number:04}.md")), "text");
    }
    let mut terminal = Terminal::run(&world, &["sync", "Notes", "notes"], &CREDENTIALS);
    terminal.expect("  send           0000.md");
    terminal.expect("  … and 1,234 more (--dry-run names them all)");
    terminal.expect("would take 1,254 steps: send 1,254 files.");
    terminal.expect("Continue? [y/N] ");
    terminal.press("n\n");
    let (code, shown) = terminal.end();
    assert_eq!((code, shown.matches("  send ").count()), (Some(0), 20), "{shown}");
}

#[test]
fn wrong_vault_passwords_come_to_an_end() {
    let world = World::new();
    let mut terminal = Terminal::run(&world, &["pull", "Private", "private"], &CREDENTIALS);
    for _ in 0..3 {
        terminal.expect_secretly("Password of the vault \"Private\": ");
        terminal.press("wr0ng\n");
    }
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(3));
    assert!(shown.ends_with(
        "obsync: the password does not open this vault; give the vault's encryption password\r\n"
    ));
}

#[test]
fn a_standard_vault_beside_a_password_for_all_vaults_is_opened_after_a_yes_only() {
    let world = World::with(|builder| builder.vault(VaultSpec::managed("Notes")));
    world.vault("Notes").write("Note.md", "a note", 1_700_000_000_000).unwrap();
    let [email, password] = CREDENTIALS;
    let environment = [email, password, ("OBSYNC_VAULT_PASSWORD", VAULT_PASSWORD)];
    for (answer, code, is_there) in [("\n", 3, false), ("no\n", 3, false), ("y\n", 0, true)] {
        let mut terminal = Terminal::run(&world, &["pull", "Notes", "notes"], &environment);
        terminal.expect("so it can read the vault");
        terminal.expect("Open it as a standard vault, with the password of the service? [y/N] ");
        terminal.press(answer);
        assert_eq!(terminal.end().0, Some(code), "{answer:?}");
        assert_eq!(world.path("notes/Note.md").exists(), is_there, "{answer:?}");
    }
    let mut terminal = Terminal::run(&world, &["pull", "Notes", "notes"], &environment);
    terminal.expect("Nothing new in");
    assert_eq!(terminal.end().0, Some(0), "it is pinned, and nothing is asked any more");
}

#[test]
fn an_interrupted_question_leaves_everything_as_it_was() {
    let world = World::new();
    for prompt in ["Email: ", "Password: "] {
        let environment = if prompt == "Email: " { &[][..] } else { &CREDENTIALS[..1] };
        let mut terminal = Terminal::run(&world, &["login"], environment);
        match prompt {
            "Email: " => terminal.expect(prompt),
            _ => terminal.expect_secretly(prompt),
        }
        terminal.press("\u{3}");
        let (code, shown) = terminal.end();
        assert_eq!(code, Some(6), "{shown:?}");
        assert!(shown.contains("obsync: interrupted"), "{shown:?}");
    }
    assert_eq!(world.server.stats().rest_requests, 0);
}

#[test]
fn a_reset_asks_first() {
    let world = World::new();
    world.vault("Notes").write("Note.md", "a note", 1_700_000_000_000).unwrap();
    world.must(&["pull", "Notes", "notes"]);
    for (answer, told, known) in [("\n", "Nothing was done.", 0), ("yes\n", "is forgotten.", 4)] {
        let mut terminal = Terminal::run(&world, &["reset", "notes"], &[]);
        terminal.expect("Forget the state of notes? No note is touched. [y/N] ");
        terminal.press(answer);
        terminal.expect(told);
        assert_eq!(terminal.end().0, Some(0));
        world.run(&["status", "notes"]).expect(known);
    }
}

#[test]
fn a_pull_shows_how_far_it_is() {
    let world = World::with(|builder| builder.vault(VaultSpec::managed("Notes")));
    for number in 0..100 {
        world
            .vault("Notes")
            .write(&format!("{number}.md"), format!("note {number}"), 1_700_000_000_000)
            .unwrap();
    }
    world.server.faults().set(Faults { latency: Duration::from_millis(20), ..Faults::default() });
    let mut terminal = Terminal::run(&world, &["pull", "Notes", "notes", "--connections", "1"], &CREDENTIALS);
    terminal.expect(" of 100 files, ");
    terminal.expect("Pulled 100 files (690 bytes)");
    assert_eq!(terminal.end().0, Some(0));
}
