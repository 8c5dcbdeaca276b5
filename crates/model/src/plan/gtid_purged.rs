//! Decides how a recovered server's GTID sets become exactly those of its backup.

use crate::gtid::GtidSet;

/// Change to a recovered server's GTID sets before it may replicate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GtidStep {
    /// None: `gtid_executed` is correct, and the files contain no binary logs of the donor.
    Keep,
    /// Reset, then set `gtid_purged`: the files contain the donor's binary logs, not this server's.
    ResetAndSet,
    /// Set `gtid_purged`: an earlier run stopped between the two statements of a reset.
    SetPurged,
    /// Refuse: the server's transactions differ from those it must hold.
    Refuse {
        /// The missing transactions.
        missing: GtidSet,
        /// The surplus transactions.
        extra: GtidSet,
    },
}

/// Decides from the server's `gtid_executed` and `gtid_purged`, the set it must hold (`held`, as
/// journaled before any reset), and whether the journal records that a reset had begun.
///
/// On a server without binary logs of the donor, everything executed is also in `gtid_purged`. What
/// is executed and not purged is in a binary log that came with the files.
pub fn gtid_step(executed: &GtidSet, held: &GtidSet, purged: &GtidSet, reset_begun: bool) -> GtidStep {
    if executed == held {
        return if purged == executed { GtidStep::Keep } else { GtidStep::ResetAndSet };
    }
    if executed.is_empty() && reset_begun {
        return GtidStep::SetPurged;
    }
    GtidStep::Refuse { missing: held.subtract(executed), extra: executed.subtract(held) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn set(text: &str) -> GtidSet {
        text.replace('A', "3e11fa47-71ca-11e1-9e33-c80aa9429562").parse().unwrap()
    }

    #[test]
    fn every_state_a_kill_can_leave() {
        let step = |executed, purged, begun| gtid_step(&set(executed), &set("A:1-9"), &set(purged), begun);
        assert_eq!(step("A:1-9", "A:1-9", false), GtidStep::Keep);
        assert_eq!(step("A:1-9", "A:1-9", true), GtidStep::Keep, "reset and set were done");
        assert_eq!(step("A:1-9", "A:1-5", false), GtidStep::ResetAndSet);
        assert_eq!(step("A:1-9", "A:1-5", true), GtidStep::ResetAndSet, "killed before the reset");
        assert_eq!(step("", "", true), GtidStep::SetPurged, "killed between reset and set");
        let refuse = |missing, extra| GtidStep::Refuse { missing: set(missing), extra: set(extra) };
        assert_eq!(step("", "", false), refuse("A:1-9", ""));
        assert_eq!(step("A:2-10", "", true), refuse("A:1", "A:10"));
    }

    #[test]
    fn an_empty_backup_needs_nothing() {
        let empty = GtidSet::new();
        assert_eq!(gtid_step(&empty, &empty, &empty, true), GtidStep::Keep);
    }
}
