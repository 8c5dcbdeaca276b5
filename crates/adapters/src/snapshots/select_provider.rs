//! Selects an instance's snapshot provider.

use backstop_config::settings::ProviderSetting;
use backstop_engine::ports::SnapshotProvider;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::finding::Severity;

use super::SnapshotSource;
use super::btrfs::BtrfsProvider;
use super::clone::CloneProvider;

/// Returns the provider that the configuration names. `auto` selects btrfs if nothing prevents it,
/// else clone, and reports the reason.
///
/// # Errors
/// Returns [`ErrorKind::Usage`] for a provider that this build does not have, and an error if
/// `auto` cannot inspect the instance.
pub async fn open_provider(
    wish: ProviderSetting,
    source: SnapshotSource,
) -> Result<Box<dyn SnapshotProvider>> {
    match wish {
        ProviderSetting::Clone => Ok(Box::new(CloneProvider::new(source))),
        ProviderSetting::Btrfs => Ok(Box::new(BtrfsProvider::new(source))),
        ProviderSetting::Ebs => {
            let message = "snapshot.provider = \"ebs\" does not take snapshots on this host";
            Err(Error::new(ErrorKind::Usage, message).hint("use \"auto\", \"btrfs\" or \"clone\""))
        }
        ProviderSetting::Auto => select_provider(source).await,
    }
}

async fn select_provider(source: SnapshotSource) -> Result<Box<dyn SnapshotProvider>> {
    let btrfs = BtrfsProvider::new(source.clone());
    let findings = btrfs.check().await?;
    let problems = findings.iter().filter(|finding| finding.severity == Severity::Problem);
    let why: Vec<_> = problems.map(|finding| finding.what.as_str()).collect();
    if why.is_empty() {
        return Ok(Box::new(btrfs));
    }
    source.ctx.reporter.remark(&format!("CLONE makes the snapshot: {}", why.join("; ")));
    Ok(Box::new(CloneProvider::new(source)))
}
