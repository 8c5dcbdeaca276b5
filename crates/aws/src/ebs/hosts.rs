//! The machines of a recovery: where the primary's is, and how far new volumes are filled.

use async_trait::async_trait;
use backstop_engine::ports::{CloudHosts, Loading};
use backstop_model::fault::{Fault, Result};
use backstop_model::ids::Endpoint;

use super::ec2::Ec2;
use super::instance;
use crate::connect::Aws;

/// EC2 instances and volumes.
pub struct Ec2Hosts {
    ec2: Ec2,
}

impl Ec2Hosts {
    /// Those that this access reaches.
    pub fn new(aws: &Aws) -> Self {
        Self { ec2: Ec2::new(aws) }
    }
}

#[async_trait]
impl CloudHosts for Ec2Hosts {
    async fn zone(&self, server: &Endpoint) -> Result<String> {
        let found = instance::find(&self.ec2, server).await?;
        if found.zone.is_empty() {
            return Err(Fault::failed(format!("find the availability zone of {}: EC2 names none", found.id)));
        }
        Ok(found.zone)
    }

    async fn loading(&self, volume_ids: &[String]) -> Result<Loading> {
        Ok(loading(&self.ec2.filled(volume_ids).await?))
    }
}

/// As far as the volume that is least far.
fn loading(filled: &[Option<(i64, bool)>]) -> Loading {
    if !filled.is_empty() && filled.iter().all(|one| one.is_some_and(|(percent, _)| percent >= 100)) {
        return Loading::Loaded;
    }
    let itself = |one: &Option<(i64, bool)>| one.filter(|(percent, itself)| *itself || *percent >= 100);
    let Some(all) = filled.iter().map(itself).collect::<Option<Vec<_>>>() else { return Loading::WhenRead };
    let least = all.iter().map(|(percent, _)| *percent).min();
    let percent = least.and_then(|percent| u8::try_from(percent.clamp(0, 99)).ok());
    percent.map_or(Loading::WhenRead, Loading::Percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_as_far_as_its_last_volume() {
        assert_eq!(loading(&[Some((100, true)), Some((100, false))]), Loading::Loaded);
        assert_eq!(loading(&[Some((100, false)), Some((40, true))]), Loading::Percent(40));
        for when_read in
            [&[Some((40, true)), Some((40, false))][..], &[Some((100, true)), None], &[None], &[]]
        {
            assert_eq!(loading(when_read), Loading::WhenRead, "{when_read:?}");
        }
    }
}
