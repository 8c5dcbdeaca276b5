//! Every request to an S3-compatible store passes here. 503 and 429 are no refusals, but "later": the wait is bounded by time, not by a
//! count. And an answer may tell that the bucket keeps its objects.

#![allow(clippy::disallowed_methods, reason = "requests are repeated below the port of the stories")]

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::{ClientOptions, Result};
use tokio::time::{Instant, sleep};

/// A store may ask for so much patience with one request.
const MAX_THROTTLED_TIME: Duration = Duration::from_secs(60);
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(3);

/// The retention of an object, which S3 tells those who have `s3:GetObjectRetention`: HeadObject in Amazon's S3 API reference.
const OBJECT_LOCK_MODE_HEADER: &str = "x-amz-object-lock-mode";

/// The mode in which the bucket keeps its objects (`GOVERNANCE`, `COMPLIANCE`), once an answer has told it.
pub(crate) type ObjectLock = Arc<OnceLock<String>>;

/// Makes clients that are patient.
#[derive(Debug)]
pub(super) struct S3RetryConnector {
    pub(super) object_lock: ObjectLock,
}

#[derive(Debug)]
struct S3RetryClient {
    client: HttpClient,
    object_lock: ObjectLock,
}

impl HttpConnector for S3RetryConnector {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(S3RetryClient { client, object_lock: self.object_lock.clone() }))
    }
}

#[async_trait]
impl HttpService for S3RetryClient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (begun, mut wait) = (Instant::now(), FIRST_BACKOFF);
        loop {
            let response = self.client.execute(request.clone()).await?;
            if let Some(Ok(mode)) = response.headers().get(OBJECT_LOCK_MODE_HEADER).map(|mode| mode.to_str())
            {
                self.object_lock.get_or_init(|| mode.to_owned());
            }
            let status = response.status().as_u16();
            if !matches!(status, 503 | 429) || begun.elapsed() + wait > MAX_THROTTLED_TIME {
                return Ok(response);
            }
            tracing::info!("the store asks for patience ({status})");
            sleep(wait).await;
            wait = (wait * 2).min(MAX_BACKOFF);
        }
    }
}
