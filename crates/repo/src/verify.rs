//! Checking what is stored.

use backstop_model::fault::{Fault, Result};

use crate::{Depth, OnProgress, Reader, VerifyReport};

/// One verification.
pub(crate) struct Verify<'a> {
    reader: &'a Reader,
    depth: Depth,
    progress: OnProgress<'a>,
}

impl<'a> Verify<'a> {
    pub(crate) fn new(reader: &'a Reader, depth: Depth, progress: OnProgress<'a>) -> Self {
        Self { reader, depth, progress }
    }

    pub(crate) async fn run(self) -> Result<VerifyReport> {
        let _ = (self.reader, self.depth, self.progress);
        Err(Fault::failed("not written yet"))
    }
}
