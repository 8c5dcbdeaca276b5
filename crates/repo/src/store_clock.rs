//! Compares this host's clock with the store's and with the log's before any deletion by age.

use std::time::Duration;

use backstop_types::error::{Error, Result};
use chrono::{DateTime, TimeDelta, Utc};

/// Maximum difference between the clocks.
const MAX_CLOCK_DRIFT: TimeDelta = TimeDelta::minutes(5);

/// Returns the store's time if this host's clock agrees with it and the log has no later entry.
pub(crate) fn agreed_time(
    here: DateTime<Utc>,
    store: DateTime<Utc>,
    last: Option<DateTime<Utc>>,
) -> Result<DateTime<Utc>> {
    let text = |at: DateTime<Utc>| at.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let refuse = |what: String, hint: &str| {
        Err(Error::refused(format!("cannot delete by age: {what}, so the age of objects is unknown"))
            .hint(hint))
    };
    if (here - store).abs() > MAX_CLOCK_DRIFT {
        let what = format!("the clock of this host says {}, that of the store {}", text(here), text(store));
        return refuse(
            what,
            "set the clock of this host, or of the store if that one is wrong; nothing was deleted",
        );
    }
    match last {
        Some(last) if last - store > MAX_CLOCK_DRIFT => {
            let what =
                format!("the store's clock says {}, but the log has an entry of {}", text(store), text(last));
            let hint = "set the clock of the host that backed up last; wait until that time, or back up again from a host whose clock \
                        is right; nothing was deleted";
            refuse(what, hint)
        }
        _ => Ok(store),
    }
}

/// Returns true if the grace period of a deletion at the time `at` is over.
pub(crate) fn is_grace_over(at: DateTime<Utc>, now: DateTime<Utc>, grace: Duration) -> bool {
    (now - at).to_std().is_ok_and(|age| age >= grace)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn deletion_is_refused_if_the_clocks_disagree() {
        let store = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
        let off = |minutes| store + TimeDelta::minutes(minutes);
        for (here, last, agrees) in [
            (0, None, true),
            (4, Some(-9999), true),
            (-4, Some(4), true),
            (6, None, false),
            (40 * 24 * 60, None, false),
            (-6, Some(-7), false),
            (0, Some(6), false),
        ] {
            let found = agreed_time(off(here), store, last.map(off));
            assert_eq!(found.is_ok(), agrees, "{here} {last:?}: {found:?}");
            assert!(found.is_ok_and(|at| at == store) || !agrees);
        }
    }
}
