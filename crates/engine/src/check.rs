//! Check: can this shard be backed up and recovered? Looks, and touches nothing.

use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::finding::Finding;
use backstop_model::freeze::OnPrimary;
use backstop_model::freshness::freshness;
use backstop_model::identity::{Bound, Candidate};
use backstop_model::ids::ShardName;
use backstop_model::proven::support_findings;
use backstop_model::recovered::{Certificates, certificates_finding};
use backstop_model::report::{Coverage, ShardChecked};
use backstop_model::schedule::Schedule;
use backstop_model::standing::standing_findings;
use backstop_model::topology::{
    Choice, Locking, SourceRules, choose_source, fidelity_findings, second_choices,
};
use backstop_repo::{CatalogEntry, Reader};

use crate::archive::{Archived, check_archive};
use crate::ports::{Instances, Schemas, ServerPrograms, SourceInspection, Topology, VolumeSnapshots};
use crate::standing::standings;
use crate::world::World;
use crate::{compare, sound, survey};

/// What checking a shard is made of.
pub struct Check<'a> {
    /// Which shard.
    pub shard: &'a ShardName,
    /// Which instance may be the source.
    pub source: &'a SourceRules,
    /// What may be done to a primary.
    pub on_primary: OnPrimary,
    /// Whether the configured provider may lock.
    pub locking: Locking,
    /// When it should be backed up.
    pub schedule: Option<&'a Schedule>,
    /// Its members.
    pub topology: &'a dyn Topology,
    /// Opens the source.
    pub instances: &'a dyn Instances,
    /// Starts recovered servers here.
    pub programs: &'a dyn ServerPrograms,
    /// Its backups.
    pub reader: &'a Reader,
    /// The certificates that a recovered server would have.
    pub certificates: Certificates,
    /// The EBS snapshots that they may be kept in.
    pub volumes: &'a dyn VolumeSnapshots,
    /// Its archive.
    pub archived: Archived<'a>,
    /// Asks its primary for the settings that the archive depends on.
    pub sources: &'a dyn SourceInspection,
    /// Asks its members for their tables.
    pub schemas: &'a dyn Schemas,
    /// Time, reporter, stop.
    pub world: &'a World,
}

/// Everything worth saying of a shard, in the order in which a backup and a recovery would meet it.
///
/// # Errors
/// Only when the user stops it: whatever else goes wrong is a finding.
pub async fn check(c: &Check<'_>) -> Result<ShardChecked> {
    c.world.unless_stopped(async { Ok(checked(c).await) }).await
}

async fn checked(c: &Check<'_>) -> ShardChecked {
    let mut findings = Vec::new();
    let choice = source(c, &mut findings).await;
    if let Some((choice, others)) = &choice {
        instance(c, choice, others, &mut findings).await;
        program(c, choice, &mut findings).await;
        findings.extend(compare::tables(c.shard, choice, c.schemas).await);
    }
    let catalog = backups(c, &mut findings).await;
    if let (Some((choice, _)), Some(catalog)) = (&choice, &catalog) {
        belongs(c, choice, catalog, &mut findings).await;
    }
    archive(c, &mut findings).await;
    let coverage = match catalog {
        Some(catalog) => coverage(c, &catalog, &mut findings).await,
        None => None,
    };
    ShardChecked { shard: c.shard.clone(), coverage, findings }
}

/// The source, and the members that would be it if it were lost.
async fn source(c: &Check<'_>, findings: &mut Vec<Finding>) -> Option<(Choice, Vec<Choice>)> {
    let chosen = match c.topology.look().await {
        Ok(members) => {
            findings.extend(support_findings(c.shard, &members));
            findings.extend(fidelity_findings(c.shard, &members, c.archived.settings.is_some()));
            let chosen = choose_source(&members, c.source, c.on_primary, c.locking).map_err(|none| {
                findings.extend(none.rejected.iter().map(rejected));
                Fault::from(none)
            });
            chosen.map(|choice| {
                let others = second_choices(&members, c.source, c.on_primary, c.locking, &choice.endpoint);
                (choice, others)
            })
        }
        Err(fault) => Err(fault),
    };
    match chosen {
        Ok((choice, others)) => {
            findings.extend(choice.rejected.iter().map(rejected));
            findings.push(Finding::ok("source", choice.reason.clone()));
            Some((choice, others))
        }
        Err(fault) => {
            findings.push(problem("no-source", &fault));
            None
        }
    }
}

fn rejected(rejection: &backstop_model::topology::Rejection) -> Finding {
    let what = format!("{} is not the source: {}", rejection.endpoint, rejection.reason);
    Finding::warning("member-rejected", what, "mend it if it should be used for backups")
}

async fn instance(c: &Check<'_>, choice: &Choice, others: &[Choice], findings: &mut Vec<Finding>) {
    let found = match c.instances.open(choice).await {
        Ok(instance) => {
            findings.extend(instance.findings);
            findings.extend(certificates_finding(&instance.settings, c.certificates));
            let provider = instance.snapshots.provider();
            let (own, second) = futures::join!(
                instance.snapshots.check(),
                survey::survey(c.world, c.instances, &choice.endpoint, others, provider)
            );
            findings.extend(second);
            own
        }
        Err(fault) => Err(fault),
    };
    match found {
        Ok(found) => findings.extend(found),
        Err(fault) => findings.push(problem("source-not-usable-here", &fault)),
    }
}

async fn program(c: &Check<'_>, choice: &Choice, findings: &mut Vec<Finding>) {
    let data = &choice.state.version;
    findings.push(match c.programs.version().await {
        Ok(version)
            if (version.major, version.minor, version.patch) >= (data.major, data.minor, data.patch) =>
        {
            Finding::ok("server-program", format!("the server program here is {version}"))
        }
        Ok(version) => Finding::problem(
            "server-program-old",
            format!(
                "the server program here is {version}, the shard runs {data}: a backup could not be started"
            ),
            "set `mysql.server` to a mysqld of the shard's version or newer",
        ),
        Err(fault) => problem("server-program-missing", &fault),
    });
}

async fn backups(c: &Check<'_>, findings: &mut Vec<Finding>) -> Option<Vec<CatalogEntry>> {
    match c.reader.catalog().await {
        Ok(catalog) => {
            let newest = catalog.last().map(|entry| entry.facts.taken_at);
            let finding = freshness(newest, c.schedule, c.world.clock.now()).finding(c.shard);
            findings.push(not_yet(finding));
            match sound::standing(c.shard, c.reader, &c.archived.reader).await {
                Ok(standing) => findings.extend(standing),
                Err(fault) => findings.push(problem("repository", &fault)),
            }
            Some(catalog)
        }
        Err(fault) => {
            findings.push(problem("repository", &fault));
            None
        }
    }
}

/// Whether the source is of the history that the shard's name belongs to.
async fn belongs(c: &Check<'_>, choice: &Choice, catalog: &[CatalogEntry], findings: &mut Vec<Finding>) {
    // What keeps the log from being read was told above.
    let adopted = c.reader.adopted().await.unwrap_or_default();
    let bound = Bound { newest: catalog.last().map(|entry| &entry.facts), adopted: adopted.as_ref() };
    let source = Candidate::from(choice);
    match bound.admit(c.shard, &source) {
        Ok(()) => findings.extend(bound.gone_back(c.shard, &source)),
        Err(fault) => findings.push(problem("another-history", &fault)),
    }
}

async fn archive(c: &Check<'_>, findings: &mut Vec<Finding>) {
    // Whether the members answer was told above.
    let members = c.topology.look().await.unwrap_or_default();
    match check_archive(c.shard, &c.archived, &members, c.sources, c.world.clock.now()).await {
        Ok(found) => findings.extend(found),
        Err(fault) => findings.push(problem("archive", &fault)),
    }
}

/// Which moments could be recovered now, and what is missing between them.
async fn coverage(c: &Check<'_>, catalog: &[CatalogEntry], findings: &mut Vec<Finding>) -> Option<Coverage> {
    let coverage = async {
        let backups = standings(c.reader, catalog, c.volumes).await?;
        findings.extend(standing_findings(c.shard, &backups));
        crate::status::coverage(&c.archived.reader, &backups).await
    };
    match coverage.await {
        Ok(coverage) => {
            findings.extend(coverage.findings(c.shard));
            Some(coverage)
        }
        Err(fault) => {
            findings.push(problem("coverage", &fault));
            None
        }
    }
}

/// A shard that is being set up has no backup yet: that is worth saying, but stands in nobody's way.
fn not_yet(finding: Finding) -> Finding {
    if finding.code == "no-backup" {
        let todo = finding.todo.clone().unwrap_or_default();
        return Finding::warning("no-backup", finding.what, todo);
    }
    finding
}

fn problem(code: &'static str, fault: &Fault) -> Finding {
    let todo = match (&fault.hint, fault.kind) {
        (Some(hint), _) => hint.clone(),
        (None, Kind::Denied) => "correct the credentials; docs/grants.md has the grants".to_owned(),
        (None, _) => "correct it and check again".to_owned(),
    };
    Finding::problem(code, fault.message.clone(), todo)
}
