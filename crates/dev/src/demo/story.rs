//! Prints the demonstration: numbered steps, the commands that a user would type, and the checks.

use std::path::Path;

use crate::console::{Style, say, styled};

/// Prints the demonstration, step by step.
#[derive(Debug)]
pub(super) struct Story {
    step: u32,
}

impl Story {
    pub(super) fn begin(title: &str) -> Self {
        say(&styled(Style::Title, title));
        Self { step: 0 }
    }

    /// The next step.
    pub(super) fn step(&mut self, title: &str) {
        self.step += 1;
        say(&format!("\n{}", styled(Style::Title, &format!("{}  {title}", self.step))));
    }

    /// Prints a command that a user would type.
    pub(super) fn command(&self, text: &str) {
        say(&format!("   {}", styled(Style::Command, &format!("$ {text}"))));
    }

    /// Prints an event.
    pub(super) fn tell(&self, text: &str) {
        say(&format!("   {text}"));
    }

    /// Prints a successful check.
    pub(super) fn checked(&self, text: &str) {
        say(&format!("   {} {text}", styled(Style::Good, "✓")));
    }

    /// Prints the successful end.
    pub(super) fn end(&self, kept: Option<&Path>) {
        let kept = kept.map(|folder| format!(" The notes are in {}.", folder.display())).unwrap_or_default();
        say(&format!("\n{}{kept}", styled(Style::Good, "All of it is as it must be.")));
    }
}
