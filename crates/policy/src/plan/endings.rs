//! Decides which endings of a recovery are possible for a recovery point.

use backstop_types::gtid::GtidSet;
use serde::Serialize;

use super::Ending;
use crate::recovery_target::RecoveryTarget;

/// One ending for the recovery point, and whether it is possible as far as the repository shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndingFit {
    /// The ending.
    pub ending: Ending,
    /// True if it is possible.
    pub fits: bool,
    /// Its use, or the reason why it is not possible.
    pub why: String,
}

/// The newest moment of the shard's current timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewestPoint {
    /// The recovery point is the newest.
    Meant,
    /// The newest moment holds these GTIDs.
    Holds(GtidSet),
    /// The newest moment cannot be recovered, for this reason.
    Unknown(String),
}

/// Returns each ending, and whether a server with these GTIDs can end so.
pub fn endings_that_fit(target: &RecoveryTarget, held: &GtidSet, newest: &NewestPoint) -> Vec<EndingFit> {
    let (join, left_behind) = match newest {
        NewestPoint::Meant => (Ok(()), String::new()),
        NewestPoint::Holds(newest) => {
            let later = newest.subtract(held);
            let left = format!("; {} later transactions stay on the timeline that it leaves", later.count());
            (Err(cannot_join(target, held, newest)), if later.is_empty() { String::new() } else { left })
        }
        NewestPoint::Unknown(reason) => {
            (Err(format!("cannot join a server at {target}: {reason}")), String::new())
        }
    };
    let fit = |ending, why: String| EndingFit { ending, fits: true, why };
    let join = match join {
        Ok(()) => fit(Ending::Join, "as a replica of the current primary, caught up".to_owned()),
        Err(why) => EndingFit { ending: Ending::Join, fits: false, why },
    };
    let alone = "as a separate read-only copy; contacts no member of the shard";
    let primary = "only after the loss of all servers: refused while a member answers";
    vec![
        fit(Ending::Standalone, alone.to_owned()),
        join,
        fit(Ending::AsPrimary, format!("{primary}{left_behind}")),
    ]
}

/// Explains why a server cannot join. Only a server recovered to the newest moment can: an older
/// one would not stay older, since it would catch up.
fn cannot_join(target: &RecoveryTarget, held: &GtidSet, newest: &GtidSet) -> String {
    let (later, foreign) = (newest.subtract(held), held.subtract(newest));
    let mut message = format!("cannot join a server at {target}: ");
    match later.count() {
        0 => message.push_str("a replica does not stay at an earlier moment"),
        count => message.push_str(&format!("the shard is ahead by {count} transactions ({later})")),
    }
    if !foreign.is_empty() {
        message.push_str(&format!(", and the shard lacks `{foreign}`"));
    }
    message
}

/// Returns the ending whose steps are shown if none was requested.
pub fn preferred_ending(endings: &[EndingFit]) -> Ending {
    let joins = endings.iter().any(|fit| fit.ending == Ending::Join && fit.fits);
    if joins { Ending::Join } else { Ending::Standalone }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(last: u64) -> GtidSet {
        format!("{UUID}:1-{last}").parse().unwrap()
    }

    fn fits(newest: &NewestPoint) -> (Vec<bool>, Vec<String>, Ending) {
        let target = format!("before:{UUID}:8").parse().unwrap();
        let all = endings_that_fit(&target, &set(7), newest);
        let ending = preferred_ending(&all);
        (all.iter().map(|fit| fit.fits).collect(), all.into_iter().map(|fit| fit.why).collect(), ending)
    }

    #[test]
    fn old_target_is_refused_a_join() {
        let (all, why, ending) = fits(&NewestPoint::Holds(set(9)));
        assert_eq!((all, ending), (vec![true, false, true], Ending::Standalone));
        assert!(why[1].contains("the shard is ahead by 2 transactions") && why[1].contains(":8-9"));
        assert!(why[2].contains("2 later transactions stay"), "{}", why[2]);
        let (all, why, _) = fits(&NewestPoint::Holds(set(5)));
        assert!(!all[1] && why[1].contains("lacks `3e11fa47-71ca-11e1-9e33-c80aa9429562:6-7`"), "{}", why[1]);
        let (_, why, _) = fits(&NewestPoint::Holds(set(7)));
        assert!(why[1].contains("does not stay at") && !why[1].contains("by 0"), "{}", why[1]);
    }

    #[test]
    fn latest_target_fits_every_ending() {
        let (all, _, ending) = fits(&NewestPoint::Meant);
        assert_eq!((all, ending), (vec![true; 3], Ending::Join));
        let (all, why, ending) = fits(&NewestPoint::Unknown("a gap".to_owned()));
        assert_eq!((all, ending), (vec![true, false, true], Ending::Standalone));
        assert!(why[1].contains("a gap"));
    }
}
