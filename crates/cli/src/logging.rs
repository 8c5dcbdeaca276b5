//! Log output on standard error (`-v`).

use std::io::Write;
use std::sync::Arc;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::escape;
use crate::progress::ProgressOutput;
use crate::terminal::{OutputFormat, Terminal, Verbosity};

/// Initializes logging. `BACKSTOP_LOG` overrides what is logged (`backstop_repo=debug`).
pub fn init_logging(terminal: &Terminal, progress_output: Arc<dyn ProgressOutput>) {
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter(terminal.level))
        .with_writer(ProgressLogWriter { progress_output, form: terminal.format })
        .with_ansi(false);
    // A second call in one process changes nothing.
    let _ = match terminal.format {
        OutputFormat::Json => logs.json().try_init(),
        OutputFormat::Text => {
            logs.without_time().with_target(terminal.level >= Verbosity::Verbose).try_init()
        }
    };
}

fn filter(level: Verbosity) -> EnvFilter {
    let ours = match level {
        Verbosity::Quiet => "error",
        Verbosity::Normal => "warn",
        Verbosity::Verbose => "info",
        Verbosity::Debug => "debug",
    };
    let wish = std::env::var("BACKSTOP_LOG").ok().filter(|wish| !wish.is_empty());
    let crates = ["cli", "engine", "adapters", "repo", "model"].map(|name| format!("backstop_{name}={ours}"));
    let default = format!("off,{}", crates.join(","));
    EnvFilter::builder().parse_lossy(wish.unwrap_or(default))
}

/// Writes each event in one call, so that it does not break a progress bar.
#[derive(Clone)]
struct ProgressLogWriter {
    progress_output: Arc<dyn ProgressOutput>,
    form: OutputFormat,
}

impl Write for ProgressLogWriter {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        let event = String::from_utf8_lossy(text);
        let event = event.trim_end();
        self.progress_output.write(&match self.form {
            OutputFormat::Text => escape::lines(event),
            OutputFormat::Json => escape::json(event).into_owned(),
        });
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for ProgressLogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
