//! Rebuild: a new instance from the volume snapshots of a backup, joined to its shard or recovered
//! to a moment.
//!
//! [`Infrastructure`] creates the machine, and [`Playbook`] configures the server on it. This story
//! decides which instance is made from which snapshots, and checks itself that a server has joined.
//! For another ending the instance runs `backstop recover --on-volume`, which checks the server. All its state is in the target directory, the journal in `DIR/.backstop/`: if a rebuild
//! was stopped or killed, the same command resumes it.

mod cleanup;
mod decide;
mod host_report;
mod report;
mod volume_initialization;
mod wait_for_join;

use std::path::PathBuf;

use backstop_config::extra_options::ExtraOptions;
use backstop_config::option_file::quoted;
use backstop_policy::carried_settings::{
    CarriedSettings, Certificates, DataFiles, Overrides, carry_settings,
};
use backstop_policy::topology::current_primary;
use backstop_repo::Manifest;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::{BackupId, Endpoint, ShardName};
use backstop_types::server::RecordedSettings;

use crate::context::RunContext;
use crate::journal::Steps;
use crate::ports::{
    CreatedInstance, DestroyProtection, HostRecovery, Infrastructure, InfrastructureChanges, InstanceSpec,
    Playbook, PlaybookInputs, Topology, VolumeInitialization, VolumeSnapshots,
};
use crate::recover::stopwatch::Stopwatch;
use crate::recover::{LiveMembers, join, preflight};
use crate::report::RecoverSeconds;

use host_report::HostReport;
pub use report::{EbsRecoveryReport, RecoveredInstance};

pub(crate) use decide::EbsRecoveryDecision;
pub use decide::{EbsRecoveryPlan, Subnets};

/// Inputs of a rebuild.
pub struct EbsRecovery<'a> {
    /// Manifest of the backup that the plan chose.
    pub manifest: &'a Manifest,
    /// Members of the shard to join. Probes the new server too.
    pub topology: &'a dyn Topology,
    /// Snapshots that the backup consists of.
    pub snapshots: &'a dyn VolumeSnapshots,
    /// Locates servers, and creates the machine.
    pub infrastructure: &'a dyn Infrastructure,
    /// Configures the server.
    pub playbook: &'a dyn Playbook,
    /// Clock, progress reporter, cancellation.
    pub ctx: &'a RunContext,
    /// Request of the user.
    pub request: EbsRecoveryRequest,
}

/// Request of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EbsRecoveryRequest {
    /// Shard of the backup.
    pub shard: ShardName,
    /// Target as the user wrote it.
    pub target: String,
    /// The backup that the plan chose.
    pub backup_id: BackupId,
    /// Target directory: it holds the state of this recovery and no data.
    pub into: PathBuf,
    /// Subnets for the instance.
    pub subnets: Subnets,
    /// Recovery that the instance performs; `None`: the server joins its shard.
    pub on_host: Option<HostRecovery>,
    /// Policy of a new primary for members that answer.
    pub members: LiveMembers,
    /// Timeline of the archive that the instance replays; `None`: it replays nothing.
    pub timeline: Option<u32>,
}

/// Returns the planned instance and the changes. Changes nothing on this host or elsewhere.
///
/// # Errors
/// As [`rebuild`], up to its first change.
pub async fn plan(recovery: &EbsRecovery<'_>) -> Result<(EbsRecoveryPlan, InfrastructureChanges)> {
    preflight::check_target_dir(&recovery.request.into)?;
    let decided = recovery.ctx.unless_stopped(decide::decide(recovery)).await?;
    let changes = recovery.infrastructure.plan(&decided.instance_spec(DestroyProtection::Off)).await?;
    Ok((decided.plan(), changes))
}

/// Creates an instance from a backup's volume snapshots, and leaves a server on it that has joined
/// the shard, or is recovered as requested.
///
/// # Errors
/// Returns [`ErrorKind::Refused`] if a guard refuses (nothing was touched then),
/// [`ErrorKind::NotRecoverable`] if the shard has purged what the server would need. The instance
/// is destroyed only if no server can have started on it; otherwise it is left, and the message
/// says so.
pub async fn rebuild(recovery: &EbsRecovery<'_>) -> Result<EbsRecoveryReport> {
    preflight::check_target_dir(&recovery.request.into)?;
    let mut steps = Steps::open(&recovery.request.into.join(".backstop/journal"), recovery.ctx)?;
    match run_steps(recovery, &mut steps).await {
        Ok(report) => Ok(report),
        Err(error) => Err(cleanup::destroy_after(recovery, &mut steps, error).await),
    }
}

async fn run_steps(recovery: &EbsRecovery<'_>, steps: &mut Steps<'_>) -> Result<EbsRecoveryReport> {
    let begun = Stopwatch::start(recovery.ctx);
    let decided = steps.once("decide", recovery.ctx.unless_stopped(decide::decide(recovery))).await?;
    decided.is_of(&recovery.request)?;

    let mut seconds = RecoverSeconds::default();
    let lap = Stopwatch::start(recovery.ctx);
    // Once a server may run on it, the machine is left alone.
    let made = match steps.output("apply")? {
        Some(made) if steps.has_begun("configure") => made,
        _ => apply(recovery, steps, &decided).await?,
    };
    seconds.materialise = lap.seconds();
    let lap = Stopwatch::start(recovery.ctx);
    let on_host = if steps.is_done("hand_over") {
        steps.output::<Option<HostReport>>("configure")?.flatten()
    } else {
        // In every run, since the server may have been stopped, or the primary have changed, after
        // an earlier run.
        steps.again("configure", configure(recovery, &decided, &made)).await?
    };
    seconds.start = lap.seconds();
    let lap = Stopwatch::start(recovery.ctx);
    let recovered = match on_host {
        Some(report) => report,
        None => {
            let joined = wait_for_join::wait_until_joined(recovery, &decided, &made);
            HostReport::joined(steps.again("joined", recovery.ctx.unless_stopped(joined)).await?)
        }
    };
    seconds.join = lap.seconds();
    steps
        .once("protect", recovery.infrastructure.apply(&decided.instance_spec(DestroyProtection::On)))
        .await?;
    let loading = steps
        .once(
            "loaded",
            recovery.ctx.unless_stopped(volume_initialization::wait_until_initialized(recovery, &made)),
        )
        .await?;
    steps.once("hand_over", async { Ok(()) }).await?;
    let listed = match recovered.joined {
        true => recovery.topology.await_listed(Some(&made.server)).await,
        false => None,
    };
    seconds.total = begun.seconds();
    Ok(EbsRecoveryReport::of(decided, made, recovered, loading, seconds).with_listing(listed))
}

/// Creates the instance, or continues with it. A first failure is followed by one more attempt in
/// the same state: most interrupted attempts are cut connections.
async fn apply(
    recovery: &EbsRecovery<'_>,
    steps: &mut Steps<'_>,
    decided: &EbsRecoveryDecision,
) -> Result<CreatedInstance> {
    let wanted = decided.instance_spec(DestroyProtection::Off);
    match steps.again("apply", recovery.infrastructure.apply(&wanted)).await {
        Err(error) if error.kind == ErrorKind::Failed => {
            recovery.ctx.reporter.notice(&format!("{error}; retrying once"));
            steps.again("apply", recovery.infrastructure.apply(&wanted)).await
        }
        done => done,
    }
}

/// Configures the server: with the current primary as its source, or by a recovery on the instance.
/// Returns that recovery's report.
async fn configure(
    recovery: &EbsRecovery<'_>,
    decided: &EbsRecoveryDecision,
    made: &CreatedInstance,
) -> Result<Option<HostReport>> {
    let primary = match decided.on_host {
        None => {
            let members = recovery.ctx.unless_stopped(recovery.topology.members()).await?;
            Some(current_primary(&members)?.0.clone())
        }
        Some(_) => None,
    };
    let settings = carried_on_volumes(&decided.settings);
    settings.findings().iter().for_each(|finding| recovery.ctx.reporter.notice(&finding.notice()));
    let site = PlaybookInputs {
        inventory: made.inventory.clone(),
        backup_id: decided.backup_id.clone(),
        gtid_executed: decided.gtid_executed.clone(),
        server_version: decided.server_version.clone(),
        recorded: decided.settings.clone(),
        options: settings.options.into_iter().map(|(name, value)| (name, quoted(&value))).collect(),
        server_id: decided.server_id,
        primary,
        on_host: decided.on_host.as_ref().map(|on_host| on_host.at(&made.server)),
        folder: decided.folder(),
    };
    let said = recovery.playbook.run(&site).await?;
    match (&decided.on_host, said) {
        (None, _) => Ok(None),
        (Some(_), Some(said)) => HostReport::parse(&said).map(Some),
        (Some(_), None) => {
            Err(Error::failed("cannot read the report of the recovery on the instance: there is none"))
        }
    }
}

/// Returns the donor's settings that a server on volumes of its backup keeps.
fn carried_on_volumes(recorded: &RecordedSettings) -> CarriedSettings {
    let given = Overrides {
        certificates: Certificates::OfItsOwn,
        options: &ExtraOptions::default(),
        host: None,
        data_files: DataFiles::OnVolumes,
    };
    carry_settings(recorded, given)
}

impl HostRecovery {
    /// Completes the arguments with the ending and the address of the server.
    fn at(&self, server: &Endpoint) -> Self {
        let mut arguments = self.arguments.clone();
        arguments.extend([self.ending.clone(), "--port".to_owned(), server.port.to_string()]);
        if self.ending == "--as-primary" {
            arguments.extend(["--listen".to_owned(), server.host.clone()]);
        }
        Self { arguments, ..self.clone() }
    }
}
