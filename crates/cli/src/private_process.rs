//! Keeps what the process writes and holds from other users of the host.

use backstop_types::error::{Result, ResultExt};
use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, set_dumpable_behavior, umask};

/// Lets no other user read or write what this process and its children create, whatever the umask
/// it was started with, and denies core dumps and debuggers: its memory holds keys and passwords.
/// Folders may be passed through where they are made so: the user of a server must reach its files.
///
/// # Errors
/// Returns an error if the kernel refuses.
pub fn keep_private() -> Result<()> {
    umask(Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH);
    set_dumpable_behavior(DumpableBehavior::NotDumpable).failed("cannot deny core dumps")
}
