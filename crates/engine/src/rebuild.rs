//! Rebuild: a new instance from the volume snapshots of a backup, joined to its shard.
//!
//! The machine is made by [`Infrastructure`], the server on it is configured by [`Playbook`]; this story decides what is
//! made from what, and looks for itself whether the server has joined. Everything it must know is kept in the target
//! directory, its journal in `DIR/.backstop/`: a rebuild that was stopped or killed goes on where it was when the same
//! command is given again.

mod decide;
mod loaded;
mod member;
mod report;
mod undo;

use std::path::PathBuf;

use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::gtid::GtidSet;
use backstop_model::ids::{BackupId, ShardName};
use backstop_model::option_file::quoted;
use backstop_model::own_options::OwnOptions;
use backstop_model::recovered::{Certificates, Given, recovered_settings};
use backstop_model::report::RecoverSeconds;
use backstop_model::topology::current_primary;
use backstop_repo::Reader;

use crate::journal::Steps;
use crate::ports::{
    Changes, CloudHosts, Doorbell, Infrastructure, Loading, Made, Playbook, Protection, Site, Topology,
    VolumeSnapshots, Wanted,
};
use crate::recover::{guard, join};
use crate::world::World;

pub use report::{RebuildReport, RebuiltInstance};

pub(crate) use decide::Decided;
pub use decide::{RebuildPlan, Subnets};

/// What a rebuild is made of.
pub struct Rebuild<'a> {
    /// Backups are read from here.
    pub reader: &'a Reader,
    /// The shard to join.
    pub topology: &'a dyn Topology,
    /// Asks the new server.
    pub doorbell: &'a dyn Doorbell,
    /// Where servers are.
    pub hosts: &'a dyn CloudHosts,
    /// What the backup consists of.
    pub snapshots: &'a dyn VolumeSnapshots,
    /// Makes the machine.
    pub infrastructure: &'a dyn Infrastructure,
    /// Configures the server.
    pub playbook: &'a dyn Playbook,
    /// Time, reporter, stop.
    pub world: &'a World,
    /// What was asked for.
    pub request: RebuildRequest,
}

/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebuildRequest {
    /// Whose backup.
    pub shard: ShardName,
    /// The moment, as asked.
    pub target: String,
    /// The backup that the plan chose.
    pub backup_id: BackupId,
    /// The target directory: it holds what this recovery must know, no data.
    pub into: PathBuf,
    /// The subnets that it may be made in.
    pub subnets: Subnets,
}

/// Shows what would be made. Touches nothing, here or there.
///
/// # Errors
/// As [`rebuild`], up to its first change.
pub async fn plan(r: &Rebuild<'_>) -> Result<(RebuildPlan, Changes)> {
    guard::target_directory(&r.request.into)?;
    let decided = r.world.unless_stopped(decide::decide(r)).await?;
    let changes = r.infrastructure.plan(&decided.wanted(Protection::Off)).await?;
    Ok((decided.plan(), changes))
}

/// Makes an instance from a backup's volume snapshots, and leaves a server on it that has joined the shard.
///
/// # Errors
/// [`Kind::Refused`] when a guard refuses (nothing was touched then), [`Kind::NotRecoverable`] when the shard has purged
/// what the server would need. What was made is destroyed only if no server can have started on it; else it is left, and
/// the message says so.
pub async fn rebuild(r: &Rebuild<'_>) -> Result<RebuildReport> {
    guard::target_directory(&r.request.into)?;
    let mut steps = Steps::open(&r.request.into.join(".backstop/journal"), r.world)?;
    match story(r, &mut steps).await {
        Ok(report) => Ok(report),
        Err(fault) => Err(undo::after(r, &mut steps, fault).await),
    }
}

async fn story(r: &Rebuild<'_>, steps: &mut Steps<'_>) -> Result<RebuildReport> {
    let begun = Lap::start(r.world);
    let decided = steps.once("decide", r.world.unless_stopped(decide::decide(r))).await?;
    decided.is_of(&r.request)?;

    let mut seconds = RecoverSeconds::default();
    let lap = Lap::start(r.world);
    // Once a server may run on it, nothing of the machine is touched any more.
    let made = match steps.output("apply")? {
        Some(made) if steps.has_begun("configure") => made,
        _ => apply(r, steps, &decided).await?,
    };
    seconds.materialise = lap.seconds();
    let lap = Lap::start(r.world);
    if !steps.is_done("hand_over") {
        // Again, since the server may have been stopped, or the primary have changed, after an earlier run.
        steps.again("configure", configure(r, &decided, &made)).await?;
    }
    seconds.start = lap.seconds();
    let lap = Lap::start(r.world);
    let held = steps.again("joined", r.world.unless_stopped(member::joined(r, &decided, &made))).await?;
    seconds.join = lap.seconds();
    steps.once("protect", r.infrastructure.apply(&decided.wanted(Protection::On))).await?;
    let loading = steps.once("loaded", r.world.unless_stopped(loaded::loaded(r, &made))).await?;
    steps.once("hand_over", async { Ok(()) }).await?;
    seconds.total = begun.seconds();
    Ok(RebuildReport::of(decided, made, held, loading, seconds))
}

/// Makes the instance, or goes on with it. A first failure is followed by one attempt that goes on in the same state: most
/// broken attempts are cut connections.
async fn apply(r: &Rebuild<'_>, steps: &mut Steps<'_>, decided: &Decided) -> Result<Made> {
    let wanted = decided.wanted(Protection::Off);
    match steps.again("apply", r.infrastructure.apply(&wanted)).await {
        Err(fault) if fault.kind == Kind::Failed => {
            r.world.reporter.notice(&format!("{fault}; going on once more"));
            steps.again("apply", r.infrastructure.apply(&wanted)).await
        }
        done => done,
    }
}

/// Has the server configured, with the primary of this moment to follow.
async fn configure(r: &Rebuild<'_>, decided: &Decided, made: &Made) -> Result<()> {
    let members = r.world.unless_stopped(r.topology.look()).await?;
    let (primary, _) = current_primary(&members)?;
    let own = OwnOptions::default();
    let given = Given { certificates: Certificates::OfItsOwn, options: &own, host: None };
    let settings = recovered_settings(&decided.settings, given);
    settings.findings().iter().for_each(|finding| r.world.reporter.notice(&finding.notice()));
    let site = Site {
        inventory: made.inventory.clone(),
        backup_id: decided.backup_id.clone(),
        gtid_executed: decided.gtid_executed.clone(),
        server_version: decided.server_version.clone(),
        recorded: decided.settings.clone(),
        options: settings.options.into_iter().map(|(name, value)| (name, quoted(&value))).collect(),
        server_id: decided.server_id,
        primary: primary.clone(),
        folder: decided.folder(),
    };
    r.playbook.run(&site).await
}

/// A stopwatch on the story's clock.
struct Lap<'a> {
    world: &'a World,
    begun: std::time::Duration,
}

impl<'a> Lap<'a> {
    fn start(world: &'a World) -> Self {
        Self { world, begun: world.clock.monotonic() }
    }

    fn seconds(&self) -> f64 {
        (self.world.clock.monotonic() - self.begun).as_secs_f64()
    }
}
