//! Which provider an instance gets.

use backstop_engine::ports::Snapshots;
use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::finding::Severity;
use backstop_model::settings::ProviderWish;

use super::Site;
use super::btrfs::Btrfs;
use super::clone::Clone;

/// The provider that the configuration asks for; `auto`: btrfs where nothing stands in its way, else clone, and the
/// reporter is told why.
///
/// # Errors
/// [`Kind::Usage`] for a provider that this build does not have; with `auto`, when the instance cannot be looked at.
pub async fn open(wish: ProviderWish, site: Site) -> Result<Box<dyn Snapshots>> {
    match wish {
        ProviderWish::Clone => Ok(Box::new(Clone::new(site))),
        ProviderWish::Btrfs => Ok(Box::new(Btrfs::new(site))),
        ProviderWish::Ebs => {
            let message = "snapshot.provider = \"ebs\" takes no snapshot on this host";
            Err(Fault::new(Kind::Usage, message).hint("use \"auto\", \"btrfs\" or \"clone\""))
        }
        ProviderWish::Auto => auto(site).await,
    }
}

async fn auto(site: Site) -> Result<Box<dyn Snapshots>> {
    let btrfs = Btrfs::new(site.clone());
    let findings = btrfs.check().await?;
    let problems = findings.iter().filter(|finding| finding.severity == Severity::Problem);
    let why: Vec<_> = problems.map(|finding| finding.what.as_str()).collect();
    if why.is_empty() {
        return Ok(Box::new(btrfs));
    }
    site.world.reporter.remark(&format!("the snapshot is made by CLONE: {}", why.join("; ")));
    Ok(Box::new(Clone::new(site)))
}
