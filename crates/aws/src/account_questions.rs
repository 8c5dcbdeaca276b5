//! Questions of `check --aws` about an account.

use std::time::Duration;

use backstop_config::settings::{RepositoryUrl, ShardSettings};
use backstop_engine::context::RunContext;
use backstop_policy::first_day::roles::AwsRole;
use backstop_types::error::Result;
use backstop_types::ids::{Endpoint, ShardName};

/// Deadline of one question, with its retries.
pub const QUESTION_DEADLINE: Duration = Duration::from_secs(20);

/// Questions about the account.
pub struct AccountQuestions {
    /// The shards.
    pub shards: Vec<ShardQuestions>,
    /// The roles whose actions are asked.
    pub roles: Vec<AwsRole>,
    /// The repository.
    pub repository: RepositoryUrl,
    /// Deadline of one question.
    pub deadline: Duration,
    /// The clock.
    pub ctx: RunContext,
}

/// Questions about one shard.
pub struct ShardQuestions {
    /// The shard.
    pub shard: ShardName,
    /// Its settings.
    pub settings: ShardSettings,
    /// Its members, if they are known.
    pub members: Result<Vec<Endpoint>>,
}

#[cfg(feature = "aws")]
impl AccountQuestions {
    /// Waits for an answer until the deadline.
    pub(crate) async fn in_time<T>(&self, doing: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.ctx.within(self.deadline, &format!("cannot {doing}"), work).await
    }
}
