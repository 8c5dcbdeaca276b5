//! The times of a command line, understood by this host's clock and zone, or by the zone that was named.

use backstop_engine::world::World;
use backstop_model::fault::Result;
use backstop_model::target::{Target, WrittenTarget};
use backstop_model::time::{self, Here, WrittenTime};
use chrono::{DateTime, FixedOffset, Local, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Tz;

use crate::args::TargetArgs;

/// The target that `--to` means. It is said where the words alone do not tell.
///
/// # Errors
/// As [`WrittenTime::moment`].
pub fn target(args: &TargetArgs, world: &World) -> Result<Option<Target>> {
    let Some(written) = &args.to else { return Ok(None) };
    let target = written.target(&here(world, args.time_zone)).map_err(|fault| fault.during("--to"))?;
    if let (WrittenTarget::Time(written), Target::Time(at)) = (written, &target) {
        say("--to", written, *at, args.time_zone, world);
    }
    Ok(Some(target))
}

/// The moment that an option with a time means. It is said where the words alone do not tell.
///
/// # Errors
/// As [`WrittenTime::moment`].
pub fn time(
    name: &str,
    written: Option<WrittenTime>,
    zone: Option<Tz>,
    world: &World,
) -> Result<Option<DateTime<Utc>>> {
    let Some(written) = written else { return Ok(None) };
    let at = written.moment(&here(world, zone)).map_err(|fault| fault.during(name))?;
    say(name, &written, at, zone, world);
    Ok(Some(at))
}

fn here(world: &World, zone: Option<Tz>) -> Here {
    Here { now: world.clock.now(), zone, host: on_this_host }
}

fn on_this_host(local: NaiveDateTime) -> Option<DateTime<FixedOffset>> {
    Local.from_local_datetime(&local).earliest().map(|at| at.fixed_offset())
}

fn say(name: &str, written: &WrittenTime, at: DateTime<Utc>, zone: Option<Tz>, world: &World) {
    if zone.is_some() || !matches!(written, WrittenTime::At(_)) {
        world.reporter.notice(&format!("{name} is understood as {}", time::understood(at, zone)));
    }
}
