//! Trace of a run: everything observable, in order. Equal schedules give equal traces.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Largest number of events within one simulated second before the run counts as a loop without
/// back-off.
const MAX_EVENTS_PER_SECOND: u64 = 20_000;

/// Events of a run, and the rules that it broke.
pub struct Trace {
    state: Mutex<TraceState>,
    begun: tokio::time::Instant,
}

struct TraceState {
    hasher: blake3::Hasher,
    /// The events as text, if they are wanted.
    lines: Option<Vec<String>>,
    failures: Vec<String>,
    second: u64,
    events: u64,
}

impl Trace {
    /// Begins a trace now. `verbose`: the events are kept as text.
    #[allow(clippy::disallowed_methods, reason = "the simulated time of the runtime")]
    pub fn begin(verbose: bool) -> Self {
        let state = TraceState {
            hasher: blake3::Hasher::new(),
            lines: verbose.then(Vec::new),
            failures: Vec::new(),
            second: 0,
            events: 0,
        };
        Self { state: Mutex::new(state), begun: tokio::time::Instant::now() }
    }

    /// Returns the simulated time since the beginning.
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Records an event.
    pub fn event(&self, who: &str, what: std::fmt::Arguments<'_>) {
        let now = self.now();
        let mut state = self.state();
        let line = format!("{:>9.3} {who}: {what}", now.as_secs_f64());
        state.hasher.update(line.as_bytes());
        if let Some(lines) = &mut state.lines {
            lines.push(line);
        }
        if state.second != now.as_secs() {
            (state.second, state.events) = (now.as_secs(), 0);
        }
        state.events += 1;
        if state.events == MAX_EVENTS_PER_SECOND {
            state.failures.push(format!("{MAX_EVENTS_PER_SECOND} events in second {}", now.as_secs()));
        }
    }

    /// Records a broken rule.
    pub fn fail(&self, what: String) {
        self.event("FAILURE", format_args!("{what}"));
        self.state().failures.push(what);
    }

    /// Returns true if a rule was broken.
    pub fn has_failed(&self) -> bool {
        !self.state().failures.is_empty()
    }

    /// Returns the broken rules, the identity of the trace, and its text.
    pub fn end(&self) -> (Vec<String>, String, Vec<String>) {
        let state = self.state();
        let hash = state.hasher.finalize().to_hex().to_string();
        (state.failures.clone(), hash, state.lines.clone().unwrap_or_default())
    }

    fn state(&self) -> MutexGuard<'_, TraceState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
