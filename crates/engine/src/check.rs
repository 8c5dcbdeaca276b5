//! Check: decides if a shard can be backed up and recovered. Changes nothing.

use backstop_config::schedule::Schedule;
use backstop_policy::backup_age::freshness;
use backstop_policy::backup_availability::availability_findings;
use backstop_policy::carried_settings::{Certificates, certificates_finding};
use backstop_policy::coverage::Coverage;
use backstop_policy::shard_identity::{ShardBinding, ShardHistory};
use backstop_policy::tested_versions::support_findings;
use backstop_policy::topology::{choose_source, fidelity_findings, second_choices};
use backstop_repo::{CatalogEntry, ShardReader};
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::finding::Finding;
use backstop_types::ids::ShardName;
use backstop_types::topology::SourceChoice;

use crate::archive::{ShardArchive, check_archive};
use crate::backup_health::backups_with_health;
use crate::context::RunContext;
use crate::ports::{BackupInstances, MysqldControl, Schemas, Topology, VolumeSnapshots};
use crate::report::ShardCheck;
use crate::source_selection::SourceChoiceRules;
use crate::{compare_schemas, damaged_backups, fallback_sources};

/// Inputs of a check.
pub struct Check<'a> {
    /// The shard.
    pub shard: &'a ShardName,
    /// Rules for the choice of the source.
    pub rules: SourceChoiceRules<'a>,
    /// Schedule of its backups.
    pub schedule: Option<&'a Schedule>,
    /// Its members.
    pub topology: &'a dyn Topology,
    /// Opens the source.
    pub instances: &'a dyn BackupInstances,
    /// Starts recovered servers on this host.
    pub mysqld: &'a dyn MysqldControl,
    /// Its backups.
    pub reader: &'a ShardReader,
    /// Certificates that a recovered server would have.
    pub certificates: Certificates,
    /// EBS snapshots that may hold its backups.
    pub volumes: &'a dyn VolumeSnapshots,
    /// Its archive.
    pub archived: ShardArchive<'a>,
    /// Reads the tables of its members.
    pub schemas: &'a dyn Schemas,
    /// Clock, progress reporter, cancellation.
    pub ctx: &'a RunContext,
}

/// Returns all findings about a shard, in the order in which a backup and a recovery would meet
/// them.
///
/// # Errors
/// Fails only if the user cancels it: every other fault is a finding.
pub async fn check(check: &Check<'_>) -> Result<ShardCheck> {
    check.ctx.unless_stopped(async { Ok(checked(check).await) }).await
}

async fn checked(check: &Check<'_>) -> ShardCheck {
    let mut findings = Vec::new();
    let choice = source(check, &mut findings).await;
    if let Some((choice, others)) = &choice {
        instance(check, choice, others, &mut findings).await;
        program(check, choice, &mut findings).await;
        findings.extend(compare_schemas::compare_tables(check.shard, choice, check.schemas).await);
    }
    let catalog = backups(check, &mut findings).await;
    if let (Some((choice, _)), Some(catalog)) = (&choice, &catalog) {
        check_history(check, choice, catalog, &mut findings).await;
    }
    archive(check, &mut findings).await;
    let coverage = match catalog {
        Some(catalog) => coverage(check, &catalog, &mut findings).await,
        None => None,
    };
    ShardCheck { shard: check.shard.clone(), coverage, findings }
}

/// Chooses the source, and the members that would replace it if it were lost.
async fn source(check: &Check<'_>, findings: &mut Vec<Finding>) -> Option<(SourceChoice, Vec<SourceChoice>)> {
    let SourceChoiceRules { source, on_primary, locking } = check.rules;
    let chosen = match check.topology.members().await {
        Ok(members) => {
            findings.extend(check.topology.findings());
            findings.extend(support_findings(check.shard, &members));
            findings.extend(fidelity_findings(check.shard, &members, check.archived.settings.is_some()));
            let chosen = choose_source(&members, source, on_primary, locking).map_err(|none| {
                findings.extend(none.rejected.iter().map(rejected));
                Error::from(none)
            });
            chosen.map(|choice| {
                let others = second_choices(&members, source, on_primary, locking, &choice.endpoint);
                (choice, others)
            })
        }
        Err(error) => Err(error),
    };
    match chosen {
        Ok((choice, others)) => {
            findings.extend(choice.rejected.iter().map(rejected));
            findings.push(Finding::ok("source", choice.reason.clone()));
            Some((choice, others))
        }
        Err(error) => {
            findings.push(problem("no-source", &error));
            None
        }
    }
}

fn rejected(rejection: &backstop_types::topology::RejectedMember) -> Finding {
    let what = format!("{} is not the source: {}", rejection.endpoint, rejection.reason);
    Finding::warning("member-rejected", what, "correct this if it should be used for backups")
}

async fn instance(
    check: &Check<'_>,
    choice: &SourceChoice,
    others: &[SourceChoice],
    findings: &mut Vec<Finding>,
) {
    let found = match check.instances.open(choice).await {
        Ok(instance) => {
            findings.extend(instance.findings);
            findings.extend(certificates_finding(&instance.settings, check.certificates));
            let provider = instance.snapshots.provider();
            let (own, second) = futures::join!(
                instance.snapshots.check(),
                fallback_sources::survey_fallbacks(
                    check.ctx,
                    check.instances,
                    &choice.endpoint,
                    others,
                    provider
                )
            );
            findings.extend(second);
            own
        }
        Err(error) => Err(error),
    };
    match found {
        Ok(found) => findings.extend(found),
        Err(error) => findings.push(problem("source-not-usable-here", &error)),
    }
}

async fn program(check: &Check<'_>, choice: &SourceChoice, findings: &mut Vec<Finding>) {
    let data = &choice.state.version;
    findings.push(match check.mysqld.version().await {
        Ok(version)
            if (version.major, version.minor, version.patch) >= (data.major, data.minor, data.patch) =>
        {
            Finding::ok("server-program", format!("the server program on this host is {version}"))
        }
        Ok(version) => Finding::problem(
            "server-program-old",
            format!(
                "the server program on this host is {version}, and the shard runs {data}: it could not start a backup"
            ),
            "set `mysql.server` to a mysqld of the shard's version or newer",
        ),
        Err(error) => problem("server-program-missing", &error),
    });
}

async fn backups(check: &Check<'_>, findings: &mut Vec<Finding>) -> Option<Vec<CatalogEntry>> {
    match check.reader.catalog().await {
        Ok(catalog) => {
            let newest = catalog.last().map(|entry| entry.facts.taken_at);
            let finding = freshness(newest, check.schedule, check.ctx.host.clock.now()).finding(check.shard);
            findings.push(as_not_set_up(finding));
            match damaged_backups::damage_findings(check.shard, check.reader, &check.archived.reader).await {
                Ok(standing) => findings.extend(standing),
                Err(error) => findings.push(problem("repository", &error)),
            }
            Some(catalog)
        }
        Err(error) => {
            findings.push(problem("repository", &error));
            None
        }
    }
}

/// Checks that the source belongs to the history of the shard's name.
async fn check_history(
    check: &Check<'_>,
    choice: &SourceChoice,
    catalog: &[CatalogEntry],
    findings: &mut Vec<Finding>,
) {
    // An unreadable log was reported above.
    let adopted = check.reader.adopted().await.unwrap_or_default();
    let bound = ShardBinding { newest: catalog.last().map(|entry| &entry.facts), adopted: adopted.as_ref() };
    let source = ShardHistory::from(choice);
    match bound.admit(check.shard, &source) {
        Ok(()) => findings.extend(bound.gone_back(check.shard, &source)),
        Err(error) => findings.push(problem("another-history", &error)),
    }
}

async fn archive(check: &Check<'_>, findings: &mut Vec<Finding>) {
    // Members that do not answer were reported above.
    let members = check.topology.members().await.unwrap_or_default();
    match check_archive(check.shard, &check.archived, &members, check.topology, check.ctx.host.clock.now())
        .await
    {
        Ok(found) => findings.extend(found),
        Err(error) => findings.push(problem("archive", &error)),
    }
}

/// Reports the moments that can be recovered now, and the gaps between them.
async fn coverage(
    check: &Check<'_>,
    catalog: &[CatalogEntry],
    findings: &mut Vec<Finding>,
) -> Option<Coverage> {
    let coverage = async {
        let backups = backups_with_health(check.reader, catalog, check.volumes).await?;
        findings.extend(availability_findings(check.shard, &backups));
        crate::status::coverage(&check.archived.reader, &backups).await
    };
    match coverage.await {
        Ok(coverage) => {
            findings.extend(coverage.findings(check.shard));
            Some(coverage)
        }
        Err(error) => {
            findings.push(problem("coverage", &error));
            None
        }
    }
}

/// Lowers the finding of a missing backup: a shard that is being set up has none yet, and nothing
/// must be blocked by that.
fn as_not_set_up(finding: Finding) -> Finding {
    if finding.code == "no-backup" {
        let todo = finding.todo.clone().unwrap_or_default();
        return Finding::warning("no-backup", finding.what, todo);
    }
    finding
}

fn problem(code: &'static str, error: &Error) -> Finding {
    let todo = match (&error.hint, error.kind) {
        (Some(hint), _) => hint.clone(),
        (None, ErrorKind::Denied) => "correct the credentials or the grants (docs/grants.md)".to_owned(),
        (None, _) => "correct this and repeat the check".to_owned(),
    };
    Finding::problem(code, error.message.clone(), todo)
}
