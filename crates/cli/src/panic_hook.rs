//! Panic hook that reports a defect of Backstop in one line.

use std::io::Write;

use crate::escape;

/// Installs a hook that prints the place of a panic, without a stack trace.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| format!("{}:{}", place.file(), place.line()));
        let why = escape::line(reason(panic.payload()));
        let text = format!(
            "error: internal error in backstop {} at {}: {why}; please report this\n",
            env!("CARGO_PKG_VERSION"),
            place.unwrap_or_default()
        );
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }));
}

fn reason(payload: &dyn std::any::Any) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason given")
}
