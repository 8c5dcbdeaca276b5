//! The infrastructure of a recovery on AWS: Terraform creates the instance, EC2 reports on it.

use async_trait::async_trait;
use backstop_adapters::terraform::Terraform;
use backstop_engine::ports::{
    CreatedInstance, Infrastructure, InfrastructureChanges, InstanceSpec, VolumeInitialization,
};
use backstop_types::error::Result;
use backstop_types::ids::Endpoint;

use crate::AwsVolumes;

/// Instances that Terraform creates in the account.
pub struct AwsInfrastructure {
    /// Creates and destroys them.
    pub terraform: Terraform,
    /// Servers and volumes in EC2.
    pub volumes: AwsVolumes,
}

#[async_trait]
impl Infrastructure for AwsInfrastructure {
    async fn zone(&self, server: &Endpoint) -> Result<String> {
        self.volumes.zone(server).await
    }

    async fn plan(&self, spec: &InstanceSpec) -> Result<InfrastructureChanges> {
        self.terraform.plan(spec).await
    }

    async fn apply(&self, spec: &InstanceSpec) -> Result<CreatedInstance> {
        self.terraform.apply(spec).await
    }

    async fn volume_initialization(&self, volume_ids: &[String]) -> Result<VolumeInitialization> {
        self.volumes.volume_initialization(volume_ids).await
    }

    async fn destroy(&self, spec: &InstanceSpec) -> Result<()> {
        self.terraform.destroy(spec).await
    }
}
