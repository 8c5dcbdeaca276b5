//! Decides how a recovered server's GTID sets become exactly those of its backup.

use backstop_types::gtid::GtidSet;
use backstop_types::ids::ServerUuid;

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

/// Progress of a reset of GTIDs as journaled, and what makes a reset necessary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GtidReset {
    /// The recovered server's own UUID.
    pub server_uuid: ServerUuid,
    /// True if the server has `MEMORY` tables. The server logs their first use after a start as its
    /// own transaction, so that a reset uses them first.
    pub memory_tables: bool,
    /// True if the reset has begun.
    pub begun: bool,
    /// True if the reset is complete.
    pub done: bool,
}

/// Decides from the server's `gtid_executed` and `gtid_purged`, the set it must hold (`held`, as
/// journaled before any reset), and the progress of a reset.
///
/// On a server without binary logs of the donor, everything executed is also in `gtid_purged`. What
/// is executed and not purged is in a binary log that came with the files.
pub fn gtid_step(executed: &GtidSet, held: &GtidSet, purged: &GtidSet, reset: &GtidReset) -> GtidStep {
    // A reset begins with the use of each MEMORY table, which the server logs under its own UUID.
    let own = executed.of_uuid(reset.server_uuid);
    let counted =
        if reset.begun && !reset.done { executed.subtract(&own.subtract(held)) } else { executed.clone() };
    if counted == *held {
        let keep = purged == executed && (reset.done || !reset.memory_tables);
        return if keep { GtidStep::Keep } else { GtidStep::ResetAndSet };
    }
    if executed.is_empty() && reset.begun {
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

    fn reset(begun: bool, done: bool, memory_tables: bool) -> GtidReset {
        GtidReset {
            server_uuid: "bbbbbbbb-71ca-11e1-9e33-c80aa9429562".parse().unwrap(),
            memory_tables,
            begun,
            done,
        }
    }

    fn refuse(missing: &str, extra: &str) -> GtidStep {
        GtidStep::Refuse { missing: set(missing), extra: set(extra) }
    }

    #[test]
    fn gtid_step_is_right_for_each_state_after_a_kill() {
        let step = |executed, purged, begun| {
            gtid_step(&set(executed), &set("A:1-9"), &set(purged), &reset(begun, begun, false))
        };
        assert_eq!(step("A:1-9", "A:1-9", false), GtidStep::Keep);
        assert_eq!(step("A:1-9", "A:1-9", true), GtidStep::Keep, "reset and set were done");
        assert_eq!(step("A:1-9", "A:1-5", false), GtidStep::ResetAndSet);
        assert_eq!(step("A:1-9", "A:1-5", true), GtidStep::ResetAndSet, "killed before the reset");
        assert_eq!(step("", "", true), GtidStep::SetPurged, "killed between reset and set");
        assert_eq!(step("", "", false), refuse("A:1-9", ""));
        assert_eq!(step("A:2-10", "", true), refuse("A:1", "A:10"));
    }

    #[test]
    fn first_use_of_memory_tables_is_tolerated_before_reset() {
        let own = "bbbbbbbb-71ca-11e1-9e33-c80aa9429562:1-2";
        let used = format!("A:1-9,{own}");
        let step = |executed: &str, begun, done| {
            gtid_step(&set(executed), &set("A:1-9"), &set("A:1-9"), &reset(begun, done, true))
        };
        assert_eq!(step("A:1-9", false, false), GtidStep::ResetAndSet);
        assert_eq!(step(&used, true, false), GtidStep::ResetAndSet, "killed before the reset");
        assert_eq!(step("", true, true), GtidStep::SetPurged);
        assert_eq!(step("A:1-9", true, true), GtidStep::Keep);
        assert_eq!(step(&used, true, true), refuse("", own), "the reset was done: who wrote this?");
        assert_eq!(step(&used, false, false), refuse("", own), "no reset has begun: who wrote this?");
    }

    #[test]
    fn empty_backup_needs_no_gtid_step() {
        let empty = GtidSet::new();
        assert_eq!(gtid_step(&empty, &empty, &empty, &reset(true, true, false)), GtidStep::Keep);
    }
}
