//! Findings about a server that matter to a recovery of its backup, with any snapshot provider.

use backstop_policy::plugins::plugins_needed;
use backstop_types::finding::Finding;

use super::connection::Connection;
use super::error::SqlError;
use super::plugins::library_plugins;
use super::server_facts::enabled_events;

/// Finds settings that would surprise an operator after a recovery.
///
/// # Errors
/// See [`SqlCause`](super::error::SqlCause).
pub async fn recovery_findings(session: &mut Connection) -> Result<Vec<Finding>, SqlError> {
    let events = events(&enabled_events(session).await?);
    Ok(events.into_iter().chain(plugins_needed(&library_plugins(session).await?)).collect())
}

fn events(enabled: &[String]) -> Option<Finding> {
    let [first, rest @ ..] = enabled else { return None };
    let others = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
    Some(Finding::warning(
        "events-enabled",
        format!("event {first}{others} would fire on a recovered server"),
        "recovered servers have event_scheduler = OFF, except one that is recovered with --as-primary",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_named() {
        assert_eq!(events(&[]), None);
        let of = |names: &[&str]| {
            events(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).map(|finding| finding.what)
        };
        assert_eq!(of(&["shop.tick"]).as_deref(), Some("event shop.tick would fire on a recovered server"));
        assert!(of(&["a.b", "a.c", "a.d"]).is_some_and(|what| what.contains("a.b and 2 more")));
    }
}
