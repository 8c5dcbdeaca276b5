//! Times on the command line, interpreted by this host's clock and time zone, or by the zone that
//! was named.

use backstop_engine::context::RunContext;
use backstop_policy::parse_time;
use backstop_policy::parse_time::{LocalZone, TimeSpec};
use backstop_policy::recovery_target::{RecoveryTarget, TargetSpec};
use backstop_types::error::Result;
use chrono::{DateTime, FixedOffset, Local, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Tz;

use crate::args::TargetArgs;

/// Returns the target of `--to`. Prints it if the argument alone does not determine it.
///
/// # Errors
/// As [`TimeSpec::moment`].
pub fn target(args: &TargetArgs, ctx: &RunContext) -> Result<Option<RecoveryTarget>> {
    resolve("--to", args.to.as_ref(), args.time_zone, ctx)
}

/// Returns the target of an option. Prints it if the argument alone does not determine it.
///
/// # Errors
/// As [`TimeSpec::moment`].
pub fn resolve(
    name: &str,
    written: Option<&TargetSpec>,
    zone: Option<Tz>,
    ctx: &RunContext,
) -> Result<Option<RecoveryTarget>> {
    let Some(written) = written else { return Ok(None) };
    let target = written.target(&local_clock(ctx, zone)).map_err(|error| error.during(name))?;
    if let (TargetSpec::Time(written), RecoveryTarget::Time(at)) = (written, &target) {
        report_time(name, written, *at, zone, ctx);
    }
    Ok(Some(target))
}

/// Returns the moment of a time option. Prints it if the argument alone does not determine it.
///
/// # Errors
/// As [`TimeSpec::moment`].
pub fn time(
    name: &str,
    written: Option<TimeSpec>,
    zone: Option<Tz>,
    ctx: &RunContext,
) -> Result<Option<DateTime<Utc>>> {
    let Some(written) = written else { return Ok(None) };
    let at = written.moment(&local_clock(ctx, zone)).map_err(|error| error.during(name))?;
    report_time(name, &written, at, zone, ctx);
    Ok(Some(at))
}

fn local_clock(ctx: &RunContext, zone: Option<Tz>) -> LocalZone {
    LocalZone { now: ctx.host.clock.now(), zone, host: on_this_host }
}

fn on_this_host(local: NaiveDateTime) -> Option<DateTime<FixedOffset>> {
    Local.from_local_datetime(&local).earliest().map(|at| at.fixed_offset())
}

fn report_time(name: &str, written: &TimeSpec, at: DateTime<Utc>, zone: Option<Tz>, ctx: &RunContext) {
    if zone.is_some() || !matches!(written, TimeSpec::At(_)) {
        ctx.reporter.notice(&format!("{name} is understood as {}", parse_time::describe_time(at, zone)));
    }
}
