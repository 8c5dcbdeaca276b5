//! The AWS Lambda function: one invocation backs up one shard, or ends backups whose snapshots EC2
//! has stored. `docs/lambda.md` describes events, results and errors.

mod completion;
mod completion_event;
mod deadline;
mod invocation;
mod lambda_event;
mod logging;
mod outcome;
mod shard_access;
mod time_limit;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> Result<(), Error> {
    begin_logs();
    // Fails only if a provider is already installed.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| async {
        let (event, context) = event.into_parts();
        invocation::handle(&event, &context).await
    }))
    .await
}

/// Starts the logs: one JSON object per line, as CloudWatch reads them. `BACKSTOP_LOG` overrides
/// the filter.
fn begin_logs() {
    let wish = std::env::var("BACKSTOP_LOG").ok().filter(|wish| !wish.is_empty());
    let crates = ["lambda", "aws", "engine", "adapters", "repo", "policy"];
    let default = crates.map(|name| format!("backstop_{name}=info,bootstrap=info")).join(",");
    let filter = EnvFilter::builder().parse_lossy(wish.unwrap_or_else(|| format!("off,{default}")));
    tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).with_ansi(false).init();
}
