//! `obsync totp`: prints the present two-factor code.

use std::time::Duration;

use obsync_client::totp::Generator;

use crate::args::Totp;
use crate::context::Context;
use crate::environment;
use crate::exit::{Exit, Failed};
use crate::ui::human;

pub(super) async fn run(options: &Totp, context: &Context) -> Result<Exit, Failed> {
    let generator = environment::totp()?.ok_or_else(|| {
        Failed::new(
            Exit::Usage,
            "OBSIDIAN_TOTP_SECRET is not set; set it to the base32 secret of your account's two-factor \
             authentication",
        )
    })?;
    loop {
        let left = print(&generator, context)?;
        if !options.watch {
            return Ok(Exit::Done);
        }
        tokio::time::sleep(Duration::from_secs(left)).await;
    }
}

/// Prints the code alone to standard output, for scripts; returns its remaining validity in seconds.
fn print(generator: &Generator, context: &Context) -> Result<u64, Failed> {
    let code = generator.current();
    context.console.result(&code.digits)?;
    context
        .console
        .note(&format!("valid for {} more", human::counted(code.seconds_left, "second", "seconds")));
    Ok(code.seconds_left)
}
