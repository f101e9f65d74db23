//! The process of a function: started with only Lambda's environment, watched, stopped.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::super::CloudError;
use super::super::http::Tasks;
use super::logs::Logs;
use super::memory::{self, Cgroup, MemoryLimit, mib};
use super::runtime::LambdaOptions;

/// Interval of memory checks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Clock ticks per second, on every machine of Lambda (proc(5), `utime`).
const TICKS: u64 = 100;

/// A test's orders to a running process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Kill,
    Freeze,
    Thaw,
}

/// Why a process ended before the awaited event.
#[derive(Debug)]
pub(super) enum Ended {
    TimedOut,
    OutOfMemory,
    Killed,
    Exited(ExitStatus),
}

pub(super) struct Process {
    child: Child,
    pub(super) logs: Arc<Logs>,
    /// Above it the process is killed, in bytes.
    watched_limit: Option<u64>,
    /// The highest memory seen since the last reset, in bytes.
    peak: Option<u64>,
    /// Dropped after the child, so that the group is empty then.
    cgroup: Option<Cgroup>,
}

impl Process {
    /// Starts the program with these variables and no others.
    pub(super) fn start(
        options: &LambdaOptions,
        memory_mb: u32,
        variables: &[(String, String)],
        tasks: &Tasks,
    ) -> Result<Self, CloudError> {
        let failed = |source| CloudError::Function { program: options.program.clone(), source };
        let program = options.program.canonicalize().map_err(failed)?;
        let name = format!("obsync-function-{}-{memory_mb}", unique());
        let cgroup = match &options.memory_limit {
            MemoryLimit::Cgroup(parent) => Some(Cgroup::create(parent, &name, memory_mb).map_err(failed)?),
            MemoryLimit::Measure | MemoryLimit::Watch => None,
        };
        let (logs, output) = Logs::open(tasks, options.log_sink.clone()).map_err(failed)?;
        let errors = output.try_clone().map_err(failed)?;
        let mut command = command(&program, &options.args, cgroup.as_ref());
        command
            .env_clear()
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .current_dir(program.parent().unwrap_or(Path::new("/")))
            .stdin(Stdio::null())
            .stdout(Stdio::from(output))
            .stderr(Stdio::from(errors))
            .kill_on_drop(true);
        let child = command.spawn().map_err(failed)?;
        // The command holds the writing ends of the pipe: without it, the pipe ends with the program.
        drop(command);
        let watched_limit = (options.memory_limit != MemoryLimit::Measure).then(|| mib(memory_mb));
        Ok(Self { child, logs, watched_limit, peak: None, cgroup })
    }

    /// Waits for `until`, at most to the deadline, and carries out orders meanwhile.
    ///
    /// After an error the process is dead.
    pub(super) async fn supervise<T>(
        &mut self,
        until: impl Future<Output = T>,
        deadline: Instant,
        orders: &mut mpsc::UnboundedReceiver<Order>,
    ) -> Result<T, Ended> {
        let ended = tokio::select! {
            biased;
            done = until => return Ok(done),
            ended = self.watch(deadline, orders) => ended,
        };
        self.kill().await;
        Err(match ended {
            Ended::Exited(_) if self.cgroup.as_ref().is_some_and(Cgroup::killed_for_memory) => {
                Ended::OutOfMemory
            }
            ended => ended,
        })
    }

    async fn watch(&mut self, deadline: Instant, orders: &mut mpsc::UnboundedReceiver<Order>) -> Ended {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                Some(order) = orders.recv() => match order {
                    Order::Kill => return Ended::Killed,
                    Order::Freeze => self.signal(Signal::STOP),
                    Order::Thaw => self.signal(Signal::CONT),
                },
                status = self.child.wait() => match status {
                    Ok(status) => return Ended::Exited(status),
                    Err(error) => {
                        tracing::warn!(%error, "a function cannot be waited for");
                        return Ended::Killed;
                    }
                },
                () = sleep_until(deadline) => return Ended::TimedOut,
                _ = looks.tick() => {
                    self.look();
                    if self.is_above_limit() {
                        return Ended::OutOfMemory;
                    }
                }
            }
        }
    }

    /// Measures the memory; returns the highest since the last reset, in bytes.
    pub(super) fn look(&mut self) -> Option<u64> {
        let now = self.child.id().and_then(memory::peak);
        self.peak = self.peak.max(now);
        self.peak
    }

    /// True if the memory exceeded the watched limit.
    pub(super) fn is_above_limit(&self) -> bool {
        self.watched_limit.zip(self.peak).is_some_and(|(limit, peak)| peak > limit)
    }

    /// The processor time of all threads since the process was started.
    pub(super) fn processor(&self) -> Option<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()?)).ok()?;
        processor_of(&stat)
    }

    /// Starts a new measurement.
    pub(super) fn reset_peak(&mut self) {
        self.peak = None;
        if let Some(pid) = self.child.id() {
            memory::reset_peak(pid);
        }
    }

    /// True if the process has ended by itself.
    pub(super) fn has_exited(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Stops the process where it is, as Lambda does between invocations.
    pub(super) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Resumes a stopped process.
    pub(super) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills the process, stopped or not, and waits until it is gone.
    pub(super) async fn kill(&mut self) {
        if let Err(error) = self.child.kill().await {
            tracing::debug!(%error, "a function was gone before it was killed");
        }
    }

    fn signal(&self, signal: Signal) {
        // The id is available only until the process was waited for, so it cannot be another process's.
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(Err(error)) = pid.map(|pid| kill_process(pid, signal)) {
            tracing::debug!(%error, "a function cannot be signalled");
        }
    }
}

/// The command, by a shell that joins the control group first: from its first page on, the program's memory
/// counts there.
fn command(program: &Path, args: &[OsString], cgroup: Option<&Cgroup>) -> Command {
    let mut command = match cgroup {
        Some(cgroup) => {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", r#"echo $$ > "$0" && exec "$@""#]).arg(cgroup.procs()).arg(program);
            shell
        }
        None => Command::new(program),
    };
    command.args(args);
    command
}

/// The processor time in a process's `stat` (proc(5)): in user and system mode, fields 14 and 15.
fn processor_of(stat: &str) -> Option<Duration> {
    // The name before it may contain spaces and brackets.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut times = after_name.split_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (times.next()?.ok()?, times.next()?.ok()?);
    Some(Duration::from_millis((user + system) * 1000 / TICKS))
}

/// A unique number across processes and calls.
fn unique() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static CALLS: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), CALLS.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_time_of_a_process_is_that_of_program_and_system() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 31 0 0 20 0 4 0 100 1000 10";
        assert_eq!(processor_of(stat), Some(Duration::from_millis(2810)));
        assert_eq!(processor_of("7 (a"), None);
        assert_eq!(processor_of("7 (a) S 1"), None);
    }
}
