//! AWS client: the SDK's standard chain for credentials and region, with timeouts.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use backstop_types::error::{Error, ErrorKind, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of one attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(20);
/// Timeout of a call with its retries.
const CALL_TIMEOUT: Duration = Duration::from_secs(90);
/// Largest number of attempts. Throttling is the common cause of a retry, and passes.
const MAX_ATTEMPTS: u32 = 6;

/// Access to AWS in one region.
#[derive(Debug, Clone)]
pub struct AwsClient {
    config: SdkConfig,
    region: String,
}

impl AwsClient {
    /// Finds region and credentials by the SDK's standard chain: variables (`AWS_REGION`,
    /// `AWS_ENDPOINT_URL`, …), the shared configuration files, the role of the container or the
    /// instance. The argument `region` overrides it.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Usage`] if no region is configured.
    pub async fn connect(region: Option<&str>) -> Result<Self> {
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).timeout_config(timeouts());
        loader = loader.retry_config(RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS));
        if let Some(region) = region {
            loader = loader.region(Region::new(region.to_owned()));
        }
        Self::with(loader.load().await)
    }

    /// Uses this configuration, with Backstop's own timeouts.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Usage`] if it names no region.
    pub fn with(config: SdkConfig) -> Result<Self> {
        let Some(region) = config.region().map(ToString::to_string) else {
            return Err(Error::new(ErrorKind::Usage, "cannot find the AWS region: none is configured")
                .hint("set snapshot.region, `region` in the secret, or the variable AWS_REGION"));
        };
        Ok(Self { config: config.into_builder().timeout_config(timeouts()).build(), region })
    }

    /// Returns the SDK's configuration.
    pub fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// Returns the region.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Returns the same access for another region.
    #[must_use]
    pub fn in_region(&self, region: &str) -> Self {
        let config = self.config.clone().into_builder().region(Region::new(region.to_owned())).build();
        Self { config, region: region.to_owned() }
    }
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(CALL_TIMEOUT)
        .build()
}
