//! Machines of a recovery: location of the primary, and initialization of new volumes.

use backstop_engine::ports::VolumeInitialization;
use backstop_types::error::{Error, Result};
use backstop_types::ids::Endpoint;

use super::ec2::Ec2;
use super::find_instance;
use crate::client::AwsClient;

/// EC2 instances and volumes.
pub struct Ec2Hosts {
    ec2: Ec2,
}

impl Ec2Hosts {
    /// Returns the hosts and volumes that this access reaches.
    pub fn new(aws: &AwsClient) -> Self {
        Self { ec2: Ec2::new(aws) }
    }
}

impl Ec2Hosts {
    /// Returns the availability zone of the instance that a MySQL server runs on.
    ///
    /// # Errors
    /// Fails if EC2 knows no such instance.
    pub async fn zone(&self, server: &Endpoint) -> Result<String> {
        let found = find_instance::find_instance(&self.ec2, server).await?;
        if found.zone.is_empty() {
            let message = format!("cannot find the availability zone of {}: EC2 names none", found.id);
            return Err(Error::failed(message));
        }
        Ok(found.zone)
    }

    /// Returns the progress of filling the volumes from their snapshots.
    ///
    /// # Errors
    /// Fails if EC2 cannot be queried.
    pub async fn volume_initialization(&self, volume_ids: &[String]) -> Result<VolumeInitialization> {
        Ok(loading(&self.ec2.filled(volume_ids).await?))
    }
}

/// Returns the progress of the least advanced volume.
fn loading(filled: &[Option<(i64, bool)>]) -> VolumeInitialization {
    if !filled.is_empty() && filled.iter().all(|one| one.is_some_and(|(percent, _)| percent >= 100)) {
        return VolumeInitialization::Loaded;
    }
    let itself = |one: &Option<(i64, bool)>| one.filter(|(percent, itself)| *itself || *percent >= 100);
    let Some(all) = filled.iter().map(itself).collect::<Option<Vec<_>>>() else {
        return VolumeInitialization::WhenRead;
    };
    let least = all.iter().map(|(percent, _)| *percent).min();
    let percent = least.and_then(|percent| u8::try_from(percent.clamp(0, 99)).ok());
    percent.map_or(VolumeInitialization::WhenRead, VolumeInitialization::Percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_is_initialized_as_far_as_its_last_volume() {
        assert_eq!(loading(&[Some((100, true)), Some((100, false))]), VolumeInitialization::Loaded);
        assert_eq!(loading(&[Some((100, false)), Some((40, true))]), VolumeInitialization::Percent(40));
        for when_read in
            [&[Some((40, true)), Some((40, false))][..], &[Some((100, true)), None], &[None], &[]]
        {
            assert_eq!(loading(when_read), VolumeInitialization::WhenRead, "{when_read:?}");
        }
    }
}
