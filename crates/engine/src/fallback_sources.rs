//! Survey of fallback sources: the members that the next backup would use if its source were lost,
//! checked in advance.

use std::time::Duration;

use backstop_types::error::Error;
use backstop_types::finding::{Finding, Severity};
use backstop_types::ids::Endpoint;
use backstop_types::topology::SourceChoice;
use futures::future::join_all;

use crate::context::RunContext;
use crate::ports::BackupInstances;

/// Timeout for one member. All are surveyed concurrently.
const MEMBER_SURVEY_TIMEOUT: Duration = Duration::from_secs(30);

/// Returns warnings about problems that would prevent a backup of each of `others` if `source` were
/// lost. Each names the member.
pub async fn survey_fallbacks(
    ctx: &RunContext,
    instances: &dyn BackupInstances,
    source: &Endpoint,
    others: &[SourceChoice],
    provider: &'static str,
) -> Vec<Finding> {
    let looks = others.iter().map(|choice| async move {
        let doing = format!("cannot survey {}", choice.endpoint);
        let found = ctx.within(MEMBER_SURVEY_TIMEOUT, &doing, instances.survey(choice, provider)).await;
        let found = found.unwrap_or_else(|error| vec![unknown(&error)]);
        found
            .into_iter()
            .filter_map(|finding| second_choice(source, &choice.endpoint, finding))
            .collect::<Vec<_>>()
    });
    join_all(looks).await.concat()
}

fn unknown(error: &Error) -> Finding {
    let todo = error.hint.clone().unwrap_or_else(|| "correct this and repeat the check".to_owned());
    Finding::problem("member-not-looked-at", &error.message, todo)
}

/// Lowers a problem of a fallback member to a warning, since it stops no backup today.
fn second_choice(source: &Endpoint, member: &Endpoint, finding: Finding) -> Option<Finding> {
    if finding.severity != Severity::Problem {
        return None;
    }
    let what = format!("if {source} is lost, backups stop: {member}: {}", finding.what);
    Some(Finding { severity: Severity::Warning, what, ..finding }.on(member))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_of_fallback_source_becomes_warning() {
        let [source, member] = ["db2", "db3"].map(|host| Endpoint::new(host, 3306));
        let problem =
            Finding::problem("clone-plugin-missing", "no plugin", "load it").fixed_by(["INSTALL …"]);
        let finding = second_choice(&source, &member, problem);
        let finding = finding.unwrap_or_else(|| Finding::ok("none", "none"));
        assert_eq!((finding.severity, finding.on.as_ref()), (Severity::Warning, Some(&member)));
        assert_eq!(finding.what, "if db2:3306 is lost, backups stop: db3:3306: no plugin");
        assert_eq!(finding.fix.len(), 1);
        assert_eq!(second_choice(&source, &member, Finding::warning("cost", "slow", "wait")), None);
    }
}
