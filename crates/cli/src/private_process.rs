//! Keeps what the process writes and holds from other users of the host.

use backstop_types::error::{Result, ResultExt};
use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, set_dumpable_behavior, umask};

/// Lets this process and its children create files for their own user only, whatever the umask it
/// was started with, and denies core dumps and debuggers: its memory holds keys and passwords.
///
/// # Errors
/// Returns an error if the kernel refuses.
pub fn keep_private() -> Result<()> {
    umask(Mode::RWXG | Mode::RWXO);
    set_dumpable_behavior(DumpableBehavior::NotDumpable).failed("cannot deny core dumps")
}
