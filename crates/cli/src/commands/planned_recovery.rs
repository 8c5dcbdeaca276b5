//! Plans the recovery that a command shows or performs: once, whatever the backup consists of.

use backstop_engine::plan::{self, PlanInputs, PlanOptions};
use backstop_engine::recover;
use backstop_policy::plan::RecoveryPlan;
use backstop_repo::{Manifest, Repository, Storage};
use backstop_types::error::Result;

use super::{known_or_stored, time_args};
use crate::app::App;
use crate::args::RecoverArgs;

/// A planned recovery, and what it was planned from.
pub struct PlannedRecovery {
    /// Repository of the backup.
    pub repository: Repository,
    /// The plan.
    pub plan: RecoveryPlan,
    /// Manifest of the backup that the plan names.
    pub manifest: Manifest,
}

impl PlannedRecovery {
    /// Plans the recovery that the arguments of `recover` request. Changes nothing.
    ///
    /// # Errors
    /// As [`plan::plan`], and an error if the backup's manifest cannot be read.
    pub async fn of(args: &RecoverArgs, app: &App) -> Result<Self> {
        // A recovery that was begun is planned on its own timeline again, which it may have left for
        // one of its own; its ending was checked when it was begun.
        let begun = recover::begun_timeline(&args.into)?;
        let options = PlanOptions {
            shard: args.shard.clone(),
            target: time_args::target(&args.target, &app.ctx)?,
            timeline: args.target.line.or(begun),
            backup: args.target.backup.clone(),
            into: Some(args.into.clone()),
            port: args.port,
            listen: args.listen.clone(),
            ending: begun.is_none().then(|| args.ending.ending()),
        };
        let planned = async {
            let (repository, plan) = plan_recovery(&options, app).await?;
            let manifest = repository.reader(&options.shard).manifest(&plan.backup_id).await?;
            Ok(Self { repository, plan, manifest })
        };
        app.ctx.unless_stopped(planned).await
    }

    /// Returns true if the backup's data is in EBS snapshots, not in the repository.
    pub fn is_in_ebs(&self) -> bool {
        matches!(self.manifest.storage, Storage::Ebs { .. })
    }
}

/// Opens the repository and plans a recovery from it. Reads the catalog, the archive's index and at
/// most one segment.
///
/// # Errors
/// As [`plan::plan`], and an error if nothing is known of the shard.
pub async fn plan_recovery(options: &PlanOptions, app: &App) -> Result<(Repository, RecoveryPlan)> {
    let repository = app.repository().await?;
    known_or_stored(app, &repository, &options.shard).await?;
    let stored = PlanInputs {
        reader: &repository.reader(&options.shard),
        archive: &repository.archive(&options.shard),
        volumes: &app.volumes(&options.shard),
        now: app.ctx.host.clock.now(),
    };
    let plan = plan::plan(&stored, options).await?;
    Ok((repository, plan))
}
