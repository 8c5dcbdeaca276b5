//! The command `backstop recover` for a backup in EBS snapshots: creates an instance from them.

use backstop_adapters::ansible::Ansible;
use backstop_adapters::terraform::Terraform;
use backstop_config::settings::{ProviderSetting, RecoverySettings, ShardSettings};
use backstop_engine::recover_ebs::{self, EbsRecovery, EbsRecoveryRequest};
use backstop_policy::plan::{Ending, RecoveryPlan};
use backstop_repo::Storage;
use backstop_types::error::{Error, Result};

use super::{CommandOutcome, recover};
use crate::app::App;
use crate::args::RecoverArgs;
use crate::output::Output;
use crate::render::EbsRecoveryPlanned;

/// Returns true if the backup that the recovery would use is in EBS snapshots. A shard that never
/// had a backup there is not queried.
///
/// # Errors
/// As the plan of a recovery.
pub async fn is_ebs_backup(args: &RecoverArgs, app: &App) -> Result<bool> {
    let Some(shard) = app.settings.shards.get(&args.shard) else { return Ok(false) };
    if args.on_volume {
        return Ok(false); // there is an instance already: this one
    }
    if shard.recovery.is_none() && shard.snapshot.provider != ProviderSetting::Ebs {
        return Ok(false);
    }
    let (repository, plan) = app.ctx.unless_stopped(recover::planned(args, app)).await?;
    let manifest = repository.reader(&args.shard).manifest(&plan.backup_id).await?;
    Ok(matches!(manifest.storage, Storage::Ebs { .. }))
}

/// Creates an instance from the snapshots and prints the next steps, or shows what would be
/// created.
///
/// # Errors
/// As [`recover_ebs::rebuild`], and an error if the shard's settings do not say how to create an
/// instance.
pub async fn run(args: &RecoverArgs, app: &App, output: &Output) -> Result<CommandOutcome> {
    let shard = app.shard(&args.shard)?;
    let settings = settings(args, shard)?;
    let (repository, plan) = app.ctx.unless_stopped(recover::planned(args, app)).await?;
    let (ctx, credentials) = (&app.ctx, app.credentials(shard)?);
    let (topology, server_probe) = (app.topology(shard)?, app.server_probe(shard)?);
    let cloud = app.volumes(&args.shard);
    let story = EbsRecovery {
        reader: &repository.reader(&args.shard),
        topology: &*topology,
        server_probe: &server_probe,
        hosts: &cloud,
        snapshots: &cloud,
        infrastructure: &Terraform::new(settings.clone(), ctx.clone()),
        playbook: &Ansible::new(settings.playbook.clone(), credentials, ctx.clone()),
        ctx,
        request: request(args, settings, &plan),
    };
    if args.plan {
        let (rebuild, changes) = recover_ebs::plan(&story).await?;
        output.report(&EbsRecoveryPlanned::new(plan, rebuild, changes));
    } else {
        ctx.reporter.remark(&format!("recovering from backup {}: {}", plan.backup_id, plan.why));
        plan.notices().iter().for_each(|notice| ctx.reporter.notice(notice));
        output.report(&recover_ebs::rebuild(&story).await?);
    }
    Ok(CommandOutcome::Well)
}

fn request(args: &RecoverArgs, settings: &RecoverySettings, plan: &RecoveryPlan) -> EbsRecoveryRequest {
    EbsRecoveryRequest {
        shard: args.shard.clone(),
        target: plan.target.clone(),
        backup_id: plan.backup_id.clone(),
        into: args.into.clone(),
        subnets: settings.subnets.clone(),
    }
}

/// Returns the shard's settings for such a recovery. Refuses arguments that it does not support.
fn settings<'a>(args: &RecoverArgs, shard: &'a ShardSettings) -> Result<&'a RecoverySettings> {
    if args.ending.ending() != Ending::Join {
        return Err(Error::refused("a backup in EBS snapshots can be recovered with --join only")
            .hint("for another ending, and for a moment after the backup, run the command with --on-volume on an instance that has a volume of the backup (docs/aws.md)"));
    }
    let here = [
        ("--port", args.port.is_some()),
        ("--listen", args.listen.is_some()),
        ("--server-user", args.server_user.is_some()),
        ("--defaults-file", args.defaults_file.is_some()),
        ("--server-option", !args.server_option.is_empty()),
        ("--accept-broken", !args.accept_broken.is_empty()),
        ("--systemd", args.systemd),
    ];
    if let Some((flag, _)) = here.iter().find(|(_, given)| *given) {
        return Err(Error::refused(format!(
            "{flag} applies to a server on this host, but the backup is in EBS snapshots"
        ))
        .hint("set this in the Terraform module and the playbook: see `recovery.variables`"));
    }
    shard.recovery.as_ref().ok_or_else(|| {
        Error::refused(format!(
            "cannot make an instance from EBS snapshots: shard `{}` has no table `recovery`",
            args.shard
        ))
        .hint("write the table (docs/aws.md, \"Recovering\")")
    })
}
