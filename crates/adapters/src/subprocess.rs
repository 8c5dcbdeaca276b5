//! Runs a program that must not be killed: its output goes to a log file, and on a stop it is only
//! interrupted.
//!
//! The program outlives this process: its output is a file, not a pipe, and it runs in a separate
//! process group, so that a Ctrl-C at the terminal reaches it once, from here. Its standard input
//! is an empty file that is locked while it runs: a process that follows a killed run waits for it
//! instead of starting a second program beside it.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use backstop_engine::context::RunContext;
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

/// Interval between two checks of the program's log and of the lock.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Limit for the program to stop after an interrupt. Less than a command may take to clean up.
const INTERRUPT_TIMEOUT: Duration = Duration::from_secs(110);

/// A program to be run.
pub(crate) struct Subprocess<'a> {
    /// Purpose of the run, for messages: `apply Terraform`.
    pub(crate) doing: String,
    /// Path of the program.
    pub(crate) program: PathBuf,
    /// Arguments of the program. They must not hold secrets.
    pub(crate) args: Vec<OsString>,
    /// Environment variables, in addition to those of this process.
    pub(crate) environment: Vec<(&'static str, OsString)>,
    /// Working directory.
    pub(crate) directory: PathBuf,
    /// File to which the program's output is appended.
    pub(crate) log: PathBuf,
    /// File that is locked while the program runs.
    pub(crate) lock: PathBuf,
    /// Time after which the program is interrupted.
    pub(crate) deadline: Duration,
    /// Clock, and the user's request to stop.
    pub(crate) ctx: &'a RunContext,
}

/// Writes a file for a program to read; only the file's owner can read it.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    let what = format!("cannot write {}", path.display());
    let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    options.failed(&what)?.write_all(text.as_bytes()).failed(&what)
}

/// Exit status and output of the program.
pub(crate) struct SubprocessExit {
    pub(crate) status: ExitStatus,
    pub(crate) said: String,
}

impl Subprocess<'_> {
    /// Runs the program to its end, and passes every line of its output to the callback.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Interrupted`] once the program has stopped at the user's request;
    /// [`ErrorKind::Held`] if an earlier one still runs after the deadline; and an error if the
    /// program cannot be started or exceeds the deadline.
    pub(crate) async fn run(self, mut told: impl FnMut(&str)) -> Result<SubprocessExit> {
        let lock = self.lock().await?;
        let log = private_file(&self.log).failed(format!("cannot open {}", self.log.display()))?;
        let mut tail = LogTail::at_the_end_of(&self.log)?;
        let mut child = self.start(lock, log)?;
        let deadline = self.ctx.host.clock.monotonic() + self.deadline;
        let mut stop = self.ctx.stop.clone();
        let status = loop {
            tokio::select! {
                biased;
                ended = child.wait() => break ended.failed(self.failure())?,
                () = stop_requested(&mut stop) => {
                    self.interrupt(&mut child).await?;
                    let message = format!("{}: stopped on request", self.failure());
                    return Err(Error::new(ErrorKind::Interrupted, message));
                }
                () = self.ctx.host.clock.sleep(POLL_INTERVAL) => {}
            }
            tail.read(&mut told)?;
            if self.ctx.host.clock.monotonic() >= deadline {
                self.interrupt(&mut child).await?;
                return Err(self.timeout_error(&format!("timed out after {:?}", self.deadline)));
            }
        };
        tail.read(&mut told)?;
        Ok(SubprocessExit { status, said: tail.text })
    }

    /// Waits until no earlier program runs.
    async fn lock(&self) -> Result<File> {
        let what = format!("cannot lock {}", self.lock.display());
        let file = private_file(&self.lock).failed(&what)?;
        let deadline = self.ctx.host.clock.monotonic() + self.deadline;
        let mut told = false;
        while file.try_lock().is_err() {
            if !std::mem::replace(&mut told, true) {
                self.ctx
                    .reporter
                    .notice(&format!("{}: waiting for an earlier run that is still running", self.doing));
            }
            if self.ctx.host.clock.monotonic() >= deadline {
                let message =
                    format!("{}: an earlier run still holds {}", self.failure(), self.lock.display());
                return Err(Error::new(ErrorKind::Held, message)
                    .hint(format!("check its log {}", self.log.display())));
            }
            self.wait().await?;
        }
        Ok(file)
    }

    async fn wait(&self) -> Result<()> {
        let waited = async {
            self.ctx.host.clock.sleep(POLL_INTERVAL).await;
            Ok(())
        };
        self.ctx.unless_stopped(waited).await
    }

    fn start(&self, lock: File, log: File) -> Result<Child> {
        unblock_sigint()?;
        let mut command = Command::new(&self.program);
        // Variables of Backstop's configuration are not passed on: they may hold secrets.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BACKSTOP_"))
        {
            command.env_remove(name);
        }
        command.args(&self.args).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.directory).process_group(0);
        let errors = log.try_clone().failed(self.failure())?;
        command.stdin(Stdio::from(lock)).stdout(Stdio::from(log)).stderr(Stdio::from(errors));
        command.spawn().map_err(|error| {
            let program = self.program.display();
            let failure = Error::failed(format!("{}: cannot start {program}: {error}", self.failure()));
            failure.hint(format!("install {program}, or add its directory to PATH"))
        })
    }

    /// Interrupts the program, and waits. The program is never killed: it may hold results that
    /// only it can record.
    async fn interrupt(&self, child: &mut Child) -> Result<()> {
        if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) {
            // The program may have ended since.
            let _ = kill_process(pid, Signal::INT);
        }
        match tokio::time::timeout(INTERRUPT_TIMEOUT, child.wait()).await {
            Ok(ended) => ended.map(drop).failed(self.failure()),
            Err(_) => {
                Err(self.timeout_error(&format!("still running {INTERRUPT_TIMEOUT:?} after the interrupt")))
            }
        }
    }

    /// Returns the beginning of each error: `cannot apply Terraform`.
    fn failure(&self) -> String {
        format!("cannot {}", self.doing)
    }

    fn timeout_error(&self, why: &str) -> Error {
        Error::failed(format!("{}: {why}", self.failure()))
            .hint(format!("check its log {}", self.log.display()))
    }
}

/// Ensures that a started program receives SIGINT, the signal that stops it. A shell that starts a
/// command in the background of a script makes it ignore the signal, and child processes inherit
/// that; a signal that is handled here is not ignored in child processes.
fn unblock_sigint() -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    if mask >> (Signal::INT.as_raw() - 1) & 1 == 1 {
        // The handler stays after its stream is dropped.
        drop(signal(SignalKind::interrupt()).failed("cannot listen to SIGINT")?);
    }
    Ok(())
}

/// Returns when the user requests a stop; never returns if no request can arrive any more.
async fn stop_requested(stop: &mut tokio::sync::watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending().await
    }
}

/// Opens a file that only its owner can read.
fn private_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

/// Reads the part of a file that is written after a given moment.
struct LogTail {
    file: File,
    path: PathBuf,
    text: String,
    given: usize,
}

impl LogTail {
    fn at_the_end_of(path: &Path) -> Result<Self> {
        let what = format!("cannot read {}", path.display());
        let mut file = File::open(path).failed(&what)?;
        file.seek(SeekFrom::End(0)).failed(&what)?;
        Ok(Self { file, path: path.to_owned(), text: String::new(), given: 0 })
    }

    /// Passes on the whole lines that were written since the last call.
    fn read(&mut self, told: &mut impl FnMut(&str)) -> Result<()> {
        let mut new = Vec::new();
        self.file.read_to_end(&mut new).failed(format!("cannot read {}", self.path.display()))?;
        self.text.push_str(&String::from_utf8_lossy(&new));
        while let Some(end) = self.text[self.given..].find('\n') {
            told(self.text[self.given..self.given + end].trim_end());
            self.given += end + 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::sync::watch;

    use super::*;

    fn subprocess<'a>(script: &str, dir: &Path, ctx: &'a RunContext) -> Subprocess<'a> {
        Subprocess {
            doing: "try it".to_owned(),
            program: "sh".into(),
            args: vec!["-c".into(), script.into()],
            environment: vec![("GIVEN", "yes".into())],
            directory: dir.to_owned(),
            log: dir.join("log"),
            lock: dir.join("lock"),
            deadline: Duration::from_secs(60),
            ctx,
        }
    }

    #[tokio::test]
    async fn lines_are_passed_on_and_logged() {
        let (dir, ctx) =
            (tempfile::tempdir().unwrap(), backstop_testkit::snapshot_conformance::test_context());
        let mut lines = Vec::new();
        let script = "cat; echo one $GIVEN; echo two >&2; exit 3";
        let ended =
            subprocess(script, dir.path(), &ctx).run(|line| lines.push(line.to_owned())).await.unwrap();
        assert_eq!((ended.status.code(), lines.join("|").as_str()), (Some(3), "one yes|two"));
        let again = subprocess("echo three", dir.path(), &ctx).run(|_| {}).await.unwrap();
        assert_eq!(again.said, "three\n", "only its own");
        assert_eq!(std::fs::read_to_string(dir.path().join("log")).unwrap(), "one yes\ntwo\nthree\n");
    }

    #[tokio::test]
    async fn stop_request_waits_for_the_program_to_end() {
        let dir = tempfile::tempdir().unwrap();
        let (asks, stop) = watch::channel(false);
        let ctx = RunContext { stop, ..backstop_testkit::snapshot_conformance::test_context() };
        let script = "trap 'echo tidied; exit 0' INT; echo ready; while :; do sleep 0.05; done";
        let error =
            subprocess(script, dir.path(), &ctx).run(|_| asks.send(true).unwrap()).await.err().unwrap();
        assert_eq!(error.kind, ErrorKind::Interrupted);
        assert!(std::fs::read_to_string(dir.path().join("log")).unwrap().ends_with("tidied\n"));
    }

    #[test]
    fn program_receives_sigint_even_if_the_parent_ignores_it() {
        let this = std::env::current_exe().unwrap();
        let test = "subprocess::tests::stop_request_waits_for_the_program_to_end";
        let script = format!("trap '' INT; exec {} --exact {test}", this.display());
        let ran = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    }

    #[tokio::test]
    async fn second_run_waits_for_the_first_if_its_parent_died() {
        let (dir, ctx) =
            (tempfile::tempdir().unwrap(), backstop_testkit::snapshot_conformance::test_context());
        let first = subprocess("while [ ! -e go ]; do sleep 0.05; done; echo first", dir.path(), &ctx);
        {
            let lock = first.lock().await.unwrap();
            first.start(lock, private_file(&dir.path().join("log")).unwrap()).unwrap();
        }
        let go = dir.path().join("go");
        let second = subprocess("echo second", dir.path(), &ctx).run(|_| {});
        let release = async {
            assert!(File::open(dir.path().join("lock")).unwrap().try_lock().is_err(), "the first holds it");
            std::fs::write(go, "").unwrap();
        };
        let (ended, ()) = tokio::join!(second, release);
        assert!(ended.unwrap().status.success());
        assert_eq!(std::fs::read_to_string(dir.path().join("log")).unwrap(), "first\nsecond\n");
    }
}
