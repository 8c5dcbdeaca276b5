//! What the parts of Backstop note down for those who look closely (`-v`): on standard error.

use std::io::Write;
use std::sync::Arc;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::escape;
use crate::progress::Narrator;
use crate::terminal::{Form, Level, Terminal};

/// Begins to write logs. `BACKSTOP_LOG` overrides what is logged (`backstop_repo=debug`).
pub fn begin(terminal: &Terminal, narrator: Arc<dyn Narrator>) {
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter(terminal.level))
        .with_writer(ThroughNarrator { narrator, form: terminal.form })
        .with_ansi(false);
    // A second beginning in one process changes nothing.
    let _ = match terminal.form {
        Form::Json => logs.json().try_init(),
        Form::Text => logs.without_time().with_target(terminal.level >= Level::Verbose).try_init(),
    };
}

fn filter(level: Level) -> EnvFilter {
    let ours = match level {
        Level::Quiet => "error",
        Level::Normal => "warn",
        Level::Verbose => "info",
        Level::Debug => "debug",
    };
    let wish = std::env::var("BACKSTOP_LOG").ok().filter(|wish| !wish.is_empty());
    let crates = ["cli", "engine", "adapters", "repo", "model"].map(|name| format!("backstop_{name}={ours}"));
    let default = format!("off,{}", crates.join(","));
    EnvFilter::builder().parse_lossy(wish.unwrap_or(default))
}

/// Writes events, each in one go, so that they do not tear a progress bar.
#[derive(Clone)]
struct ThroughNarrator {
    narrator: Arc<dyn Narrator>,
    form: Form,
}

impl Write for ThroughNarrator {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        let event = String::from_utf8_lossy(text);
        let event = event.trim_end();
        self.narrator.write(&match self.form {
            Form::Text => escape::lines(event),
            Form::Json => escape::json(event).into_owned(),
        });
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for ThroughNarrator {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
