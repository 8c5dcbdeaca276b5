//! Waits until orchestrator lists a server that has joined: only then does it fail over to it, and
//! only then do Backstop's commands see it.

use std::time::Duration;

use backstop_types::finding::Finding;
use backstop_types::ids::Endpoint;
use serde_json::Value;

use super::client::ApiError;
use super::{Orchestrator, cluster, leader};

/// Interval between two looks at the list: orchestrator's own polls.
const LISTING_INTERVAL: Duration = Duration::from_secs(5);
/// Number of waits for the server to be listed: a minute.
const LISTING_WAITS: u64 = 12;
/// Limit for orchestrator to connect to the server and read its state.
const DISCOVER_TIMEOUT: Duration = Duration::from_secs(15);

/// Code of the finding that orchestrator does not list a server that has joined.
const NOT_LISTED: &str = "orchestrator-lacks-server";

impl Orchestrator {
    /// Has orchestrator discover the server, if it may, and waits until it lists the server.
    pub(super) async fn wait_until_listed(&self, server: &Endpoint) -> Finding {
        let uuid = super::state_of(&self.connector, server).await.ok().map(|state| state.server_uuid);
        let uuid = uuid.map(|uuid| uuid.to_string());
        let (mut waits, mut discovered) = (0, !self.may_discover);
        loop {
            let why = match self.look_for(server, uuid.as_deref(), &mut discovered).await {
                Ok(place) => {
                    let what =
                        format!("orchestrator lists the server in cluster {} as {place}", self.cluster);
                    return Finding::ok("orchestrator-lists-server", what);
                }
                Err(why) => why,
            };
            if waits == LISTING_WAITS {
                return self.not_listed(server, &why);
            }
            if waits == 0 {
                self.ctx.reporter.remark(&format!("waiting until orchestrator lists {server}"));
            }
            waits += 1;
            self.ctx.host.clock.sleep(LISTING_INTERVAL).await;
        }
    }

    /// Returns the address at which orchestrator lists the server, or the reason why it does not.
    async fn look_for(
        &self,
        server: &Endpoint,
        uuid: Option<&str>,
        discovered: &mut bool,
    ) -> Result<Endpoint, String> {
        let leaders = leader::leaders(&self.nodes).await.map_err(|error| error.message())?;
        let Some(node) = leaders.first() else { return Err("it has no leader".to_owned()) };
        if !*discovered {
            let port = server.port.to_string();
            let told: Result<Value, ApiError> =
                node.get(&["discover", &server.host, &port], DISCOVER_TIMEOUT).await;
            told.map_err(|failure| format!("it cannot discover it: {failure}"))?;
            *discovered = true;
        }
        let listed = cluster::instances(node, &self.cluster).await.map_err(|error| error.message())?;
        let is_meant = |one: &&super::assessment::OrchestratorInstance| match uuid {
            Some(uuid) => one.server_uuid.eq_ignore_ascii_case(uuid),
            None => one.endpoint() == *server,
        };
        let found = listed.iter().find(is_meant).ok_or_else(|| "it does not list it".to_owned())?;
        match found.is_last_check_valid {
            true => Ok(found.endpoint()),
            false => Err(format!("its last check of {} failed", found.endpoint())),
        }
    }

    fn not_listed(&self, server: &Endpoint, why: &str) -> Finding {
        let (cluster, waited) = (&self.cluster, LISTING_WAITS * LISTING_INTERVAL.as_secs());
        let what = format!(
            "{server} has joined, but orchestrator does not have it in cluster {cluster} after {waited} s: {why}"
        );
        let run = format!("run `orchestrator-client -c discover -i {server}`");
        let todo = match self.may_discover {
            true => format!("check that orchestrator reaches it and can log in to it, then {run}"),
            false => format!("{run}; `topology.orchestrator_discover = true` lets Backstop ask for that"),
        };
        Finding::warning(NOT_LISTED, what, todo)
    }
}

/// Returns the finding about a server that orchestrator cannot reach.
pub(super) fn listens_on_loopback(cluster: &str) -> Finding {
    Finding::warning(
        NOT_LISTED,
        format!(
            "the server has joined, but orchestrator cannot list it in cluster {cluster}: it listens on loopback only"
        ),
        "have it listen at an address of this host and set report_host to that (`--listen` does both), then run \
         `orchestrator-client -c discover -i HOST:PORT`",
    )
}
