//! Waiting for a store that asks for it: 503 and 429 are no refusals, but "later". The wait is bounded by time, not by a count.

#![allow(clippy::disallowed_methods, reason = "requests are repeated below the port of the stories")]

use std::time::Duration;

use async_trait::async_trait;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::{ClientOptions, Result};
use tokio::time::{Instant, sleep};

/// A store may ask for so much patience with one request.
const PATIENCE: Duration = Duration::from_secs(60);
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(3);

/// Makes clients that are patient.
#[derive(Debug)]
pub(super) struct Patiently;

#[derive(Debug)]
struct Patient {
    client: HttpClient,
}

impl HttpConnector for Patiently {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Patient { client }))
    }
}

#[async_trait]
impl HttpService for Patient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (begun, mut wait) = (Instant::now(), FIRST);
        loop {
            let response = self.client.execute(request.clone()).await?;
            let status = response.status().as_u16();
            if !matches!(status, 503 | 429) || begun.elapsed() + wait > PATIENCE {
                return Ok(response);
            }
            tracing::info!("the store asks for patience ({status})");
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST);
        }
    }
}
