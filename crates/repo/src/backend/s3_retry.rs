//! HTTP connector for every request to an S3-compatible store. It repeats requests answered with
//! 503 or 429, which mean "later"; a time limit bounds the wait, not a count. It also records the
//! retention mode of the bucket from the answers.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use backstop_host::Host;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::{ClientOptions, Result};

/// Maximum time that a store may delay one request with such answers.
const MAX_THROTTLED_TIME: Duration = Duration::from_secs(60);
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(3);

/// Header with the retention mode of an object, which S3 sends to accounts with
/// `s3:GetObjectRetention`: HeadObject in Amazon's S3 API reference.
const OBJECT_LOCK_MODE_HEADER: &str = "x-amz-object-lock-mode";

/// Retention mode of the bucket (`GOVERNANCE`, `COMPLIANCE`), once an answer contains it.
pub(crate) type ObjectLock = Arc<OnceLock<String>>;

/// Creates HTTP clients that wait for a throttling store.
#[derive(Debug)]
pub(super) struct S3RetryConnector {
    pub(super) object_lock: ObjectLock,
    pub(super) host: Host,
}

#[derive(Debug)]
struct S3RetryClient {
    client: HttpClient,
    object_lock: ObjectLock,
    host: Host,
}

impl HttpConnector for S3RetryConnector {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        let (object_lock, host) = (self.object_lock.clone(), self.host.clone());
        Ok(HttpClient::new(S3RetryClient { client, object_lock, host }))
    }
}

#[async_trait]
impl HttpService for S3RetryClient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let clock = &self.host.clock;
        let (begun, mut wait) = (clock.monotonic(), FIRST_BACKOFF);
        loop {
            let response = self.client.execute(request.clone()).await?;
            if let Some(Ok(mode)) = response.headers().get(OBJECT_LOCK_MODE_HEADER).map(|mode| mode.to_str())
            {
                self.object_lock.get_or_init(|| mode.to_owned());
            }
            let status = response.status().as_u16();
            if !matches!(status, 503 | 429) || clock.monotonic() - begun + wait > MAX_THROTTLED_TIME {
                return Ok(response);
            }
            tracing::info!("the store throttles requests ({status})");
            clock.sleep(wait).await;
            wait = (wait * 2).min(MAX_BACKOFF);
        }
    }
}
