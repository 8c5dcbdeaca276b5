//! Runs a program to its end, with a deadline.

use std::process::Stdio;
use std::time::Duration;

use backstop_types::error::{Error, Result, ResultExt};
use tokio::process::Command;

/// Runs a command and returns its standard output. Its standard input is empty. It is killed when
/// the deadline passes or the future is dropped. `doing` begins each error: `cannot unpack
/// mysql-server-core`.
///
/// # Errors
/// Returns an error if the command cannot be started, exceeds the deadline or fails; a failure
/// quotes the end of its standard error.
pub async fn output(command: &mut Command, deadline: Duration, doing: &str) -> Result<String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let done = tokio::time::timeout(deadline, command.output()).await;
    let late = || Error::failed(format!("{doing}: timed out after {deadline:?}"));
    let output = done.map_err(|_| late())?.failed(doing)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(Error::failed(format!("{doing}: {}: {}", output.status, last_lines(&errors, 5))))
}

/// Returns the last `count` lines of a text that are not empty.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    async fn sh(script: &str, deadline: Duration) -> Result<String> {
        output(Command::new("sh").args(["-c", script]), deadline, "try it").await
    }

    #[tokio::test]
    async fn command_returns_output_or_the_end_of_stderr() {
        let long = Duration::from_secs(60);
        assert_eq!(sh("echo yes", long).await.unwrap(), "yes\n");
        let failed = sh("echo why >&2; exit 3", long).await.unwrap_err();
        assert!(failed.message.starts_with("try it: exit status: 3: why"), "{failed}");
        let late = sh("exec sleep 60", Duration::from_millis(50)).await.unwrap_err();
        assert!(late.message.contains("timed out after 50ms"), "{late}");
    }
}
