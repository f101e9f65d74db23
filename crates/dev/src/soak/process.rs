//! The soak test's side of the pulling process: sends orders and receives results, a line of JSON each.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::SOAKING;
use super::worker::{Order, PullUsage, WorkerSetup};

/// Time limit of a pull with all its attempts; more is a hang.
const PULL_LIMIT: Duration = Duration::from_secs(600);

/// Time limit for the process to end.
const END_LIMIT: Duration = Duration::from_secs(30);

pub(super) struct Process {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts it, as a user of the server.
    pub(super) async fn start(url: &str, email: &str, password: &str, vault: &str) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut child = Command::new(program)
            .arg(SOAKING)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the process that pulls")?;
        let orders = child.stdin.take().context("the process has no standard input")?;
        let answers =
            BufReader::new(child.stdout.take().context("the process has no standard output")?).lines();
        let mut process = Self { child, orders, answers };
        let [url, email, password, vault] = [url, email, password, vault].map(str::to_owned);
        process.tell(&WorkerSetup { url, email, password, vault }).await?;
        Ok(process)
    }

    /// Orders a pull of the vault to a folder, in any number of attempts.
    pub(super) async fn pull(&mut self, folder: &Path, state: &Path) -> Result<PullUsage> {
        self.tell(&Order { folder: folder.to_path_buf(), state: state.to_path_buf() }).await?;
        let line = match tokio::time::timeout(PULL_LIMIT, self.answers.next_line()).await {
            Ok(line) => line?.context("the process that pulls has ended; standard error may say why")?,
            Err(_) => bail!("a pull was not over after {} s", PULL_LIMIT.as_secs()),
        };
        serde_json::from_str(&line).context("what the process tells cannot be read")
    }

    async fn tell(&mut self, what: &impl serde::Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(what)?;
        line.push(b'\n');
        self.orders.write_all(&line).await.context("the process that pulls has ended")
    }

    /// Ends it in good order.
    pub(super) async fn end(mut self) -> Result<()> {
        drop(self.orders);
        let status = tokio::time::timeout(END_LIMIT, self.child.wait()).await;
        let status = status.context("the process that pulls does not end")??;
        if !status.success() {
            bail!("the process that pulls ended with {status}");
        }
        Ok(())
    }
}
