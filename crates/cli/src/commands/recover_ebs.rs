//! The command `backstop recover` for a backup in EBS snapshots: creates an instance from them.

use backstop_adapters::ansible::Ansible;
use backstop_adapters::terraform::Terraform;
use backstop_aws::AwsInfrastructure;
use backstop_config::settings::{ProviderSetting, RecoverySettings, ShardSettings};
use backstop_engine::ports::HostRecovery;
use backstop_engine::recover::LiveMembers;
use backstop_engine::recover_ebs::{self, EbsRecovery, EbsRecoveryRequest};
use backstop_policy::plan::{Ending, RecoveryPlan};
use backstop_types::error::{Error, Result};

use super::CommandOutcome;
use super::planned_recovery::PlannedRecovery;
use crate::app::App;
use crate::args::RecoverArgs;
use crate::output::Output;
use crate::render::{EbsRecoveryPlanned, VolumeLoading};

/// Returns true if the recovery creates an instance: its backup is in EBS snapshots, the shard is
/// configured for them, and no instance with a volume of the backup exists yet.
pub fn creates_instance(args: &RecoverArgs, app: &App, planned: &PlannedRecovery) -> bool {
    let Some(shard) = app.settings.shards.get(&args.shard) else { return false };
    let is_configured = shard.recovery.is_some() || shard.snapshot.provider == ProviderSetting::Ebs;
    is_configured && !args.on_volume && planned.is_in_ebs()
}

/// Creates an instance from the snapshots and prints the next steps, or shows what would be
/// created.
///
/// # Errors
/// As [`recover_ebs::rebuild`], and an error if the shard's settings do not say how to create an
/// instance.
pub async fn run(
    args: &RecoverArgs,
    app: &App,
    planned: PlannedRecovery,
    members: LiveMembers,
    output: &Output,
) -> Result<CommandOutcome> {
    let shard = app.shard(&args.shard)?;
    let settings = settings(args, shard)?;
    let PlannedRecovery { plan, manifest, .. } = planned;
    let (ctx, credentials) = (&app.ctx, app.credentials(shard)?);
    let topology = app.topology(shard)?;
    let infrastructure = AwsInfrastructure {
        terraform: Terraform::new(settings.clone(), ctx.clone()),
        volumes: app.volumes(&args.shard),
    };
    let story = EbsRecovery {
        manifest: &manifest,
        topology: &*topology,
        snapshots: &infrastructure.volumes,
        infrastructure: &infrastructure,
        playbook: &Ansible::new(settings.playbook.clone(), credentials, ctx.clone()),
        ctx,
        request: request(args, settings, &plan, members)?,
    };
    if args.plan {
        let (rebuild, changes) = recover_ebs::plan(&story).await?;
        let rate = settings.variables.get("initialization_rate_mibs").and_then(serde_json::Value::as_u64);
        let loading = VolumeLoading::of(&rebuild, rate);
        output.report(&EbsRecoveryPlanned::new(plan, rebuild, changes, loading));
    } else {
        ctx.reporter.remark(&format!("recovering from backup {}: {}", plan.backup_id, plan.why));
        plan.notices().iter().for_each(|notice| ctx.reporter.notice(notice));
        output.report(&recover_ebs::rebuild(&story).await?);
    }
    Ok(CommandOutcome::Well)
}

fn request(
    args: &RecoverArgs,
    settings: &RecoverySettings,
    plan: &RecoveryPlan,
    members: LiveMembers,
) -> Result<EbsRecoveryRequest> {
    Ok(EbsRecoveryRequest {
        shard: args.shard.clone(),
        target: plan.target.clone(),
        backup_id: plan.backup_id.clone(),
        into: args.into.clone(),
        subnets: settings.subnets.clone(),
        on_host: on_host(args, settings, plan)?,
        members,
        timeline: plan.replay.as_ref().map(|replay| replay.timeline),
    })
}

/// Returns the recovery that the instance performs: for every ending but `--join`, with which the
/// primary sends what the snapshots lack.
fn on_host(
    args: &RecoverArgs,
    settings: &RecoverySettings,
    plan: &RecoveryPlan,
) -> Result<Option<HostRecovery>> {
    let ending = match args.ending.ending() {
        Ending::Join => return Ok(None),
        Ending::Standalone => "--standalone",
        Ending::AsPrimary => "--as-primary",
    };
    let Some(configuration) = settings.configuration.clone() else {
        return Err(Error::refused(format!(
            "cannot recover on a new instance with {ending}: `recovery.configuration` is not set"
        ))
        .hint("name the configuration file that Backstop shall use on the instance (docs/aws.md, \"To a point in time\"), or run the command with --on-volume on an instance that has a volume of the backup"));
    };
    let mut arguments = vec![args.shard.to_string(), "--backup".to_owned(), plan.backup_id.to_string()];
    let mut add = |flag: &str, value: Option<String>| {
        arguments.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value]));
    };
    add("--to", args.target.to.as_ref().map(|_| plan.target.clone()));
    add("--line", args.target.line.map(|line| line.to_string()));
    add("--force-as-primary", args.force_as_primary.as_ref().map(ToString::to_string));
    Ok(Some(HostRecovery { arguments, ending: ending.to_owned(), configuration }))
}

/// Returns the shard's settings for such a recovery. Refuses arguments that it does not support.
fn settings<'a>(args: &RecoverArgs, shard: &'a ShardSettings) -> Result<&'a RecoverySettings> {
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
        .hint("write the table (docs/aws.md, \"Recovering\"), or run the command with --on-volume on an instance that has a volume of the backup")
    })
}
