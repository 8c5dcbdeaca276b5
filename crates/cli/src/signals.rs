//! Ctrl-C, SIGTERM, and the end of the terminal.

use std::sync::Arc;
use std::time::Duration;

use backstop_engine::ports::Reporter;
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Limit for a command to clean up after the first signal.
pub const CLEANUP_TIMEOUT: Duration = Duration::from_secs(120);

/// Further time after which the process ends if the command does not.
const EXIT_GRACE_PERIOD: Duration = Duration::from_secs(10);

/// Signals that the user sends.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// `None` if the caller ignores the signal (`nohup`).
    hangup: Option<Signal>,
    stop: watch::Sender<bool>,
}

impl Signals {
    /// Listens from now on. The receiver becomes true with the first signal.
    ///
    /// # Errors
    /// Returns an error if the system refuses a handler.
    pub fn listen() -> Result<(Self, watch::Receiver<bool>)> {
        let (stop, stopped) = watch::channel(false);
        let on = |kind| signal(kind).failed("cannot listen for signals");
        let hangup = if ignores_hangup() { None } else { Some(on(SignalKind::hangup())?) };
        let (interrupt, terminate) = (on(SignalKind::interrupt())?, on(SignalKind::terminate())?);
        let signals = Self { interrupt, terminate, hangup, stop };
        Ok((signals, stopped))
    }

    /// Runs a command to its end. The first signal requests that it stops and cleans up; a second
    /// one, or a clean-up that takes too long, ends it immediately.
    ///
    /// # Errors
    /// As the command; [`ErrorKind::Interrupted`] if it was ended.
    pub async fn guard<T>(
        mut self,
        reporter: Arc<dyn Reporter>,
        command: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let _last_resort = ForceExitOnHang(tokio::spawn(force_exit()).abort_handle());
        let mut command = std::pin::pin!(command);
        tokio::select! {
            biased;
            ended = &mut command => return ended,
            () = self.next() => {}
        }
        reporter.notice("stopping after a clean-up; repeat the signal to stop immediately");
        // Commands hold receivers, or have ended.
        let _ = self.stop.send(true);
        let bounded = tokio::time::timeout(CLEANUP_TIMEOUT, &mut command);
        tokio::select! {
            biased;
            ended = bounded => ended.unwrap_or_else(|_| Err(interrupted(&format!("the clean-up took longer than {CLEANUP_TIMEOUT:?}")))),
            () = self.next() => Err(interrupted("stopped without a clean-up on the second signal")),
        }
    }

    async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = hung_up(&mut self.hangup) => {}
        }
    }
}

/// Ends the process if a command hangs in a call of the file system and blocks the thread that
/// waits for signals. Runs on a separate thread.
struct ForceExitOnHang(tokio::task::AbortHandle);

impl Drop for ForceExitOnHang {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[allow(
    clippy::disallowed_methods,
    clippy::exit,
    reason = "nothing else runs any more: no port can be asked, and no one can return"
)]
async fn force_exit() {
    let listen = |kind| signal(kind).ok();
    let (Some(mut interrupt), Some(mut terminate)) =
        (listen(SignalKind::interrupt()), listen(SignalKind::terminate()))
    else {
        return;
    };
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tokio::time::sleep(CLEANUP_TIMEOUT + EXIT_GRACE_PERIOD).await;
    std::process::exit(i32::from(ErrorKind::Interrupted.exit_code()));
}

async fn hung_up(hangup: &mut Option<Signal>) {
    match hangup {
        Some(hangup) => {
            hangup.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Returns true if this process was started with SIGHUP ignored, and should outlive its terminal.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

fn interrupted(why: &str) -> Error {
    Error::new(ErrorKind::Interrupted, why).hint("the next command on this host removes the remains")
}
