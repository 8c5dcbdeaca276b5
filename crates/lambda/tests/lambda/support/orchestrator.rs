//! A served orchestrator: recorded answers of a real one, with this shard's servers in them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use backstop_adapters::mysql::connection::Connector;
use backstop_testkit::TestShard;
use backstop_types::ids::Endpoint;
use serde_json::{Value, json};

use crate::support::http_server::{Answer, HttpServer};

type Answers = Arc<Mutex<BTreeMap<String, (u16, String)>>>;

/// An orchestrator, stopped when dropped.
pub struct Orchestrator {
    answers: Answers,
    served: HttpServer,
}

impl Orchestrator {
    /// Starts an orchestrator that is the leader, and knows the shard as `shop-1`.
    pub async fn of(shard: &TestShard) -> Self {
        let answers: Answers = Arc::new(Mutex::new(healthy(shard).await));
        let (held, connector) = (Arc::clone(&answers), Connector::new(&shard.credentials()));
        let served = HttpServer::start(move |request| {
            let (held, connector) = (Arc::clone(&held), connector.clone());
            Box::pin(async move {
                let path = request.path.trim_start_matches("/api/");
                if let Some(server) = path.strip_prefix("discover/") {
                    return discovered(&held, &connector, server).await;
                }
                found(&held.lock().unwrap(), path)
            })
        })
        .await;
        Self { answers, served }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.served.address)
    }

    /// Returns its answer to a path.
    pub fn said(&self, path: &str) -> Value {
        serde_json::from_str(&self.answers.lock().unwrap()[path].1).unwrap()
    }

    /// Changes its answer to a path.
    pub fn says(&self, path: &str, status: u16, body: &str) {
        self.answers.lock().unwrap().insert(path.to_owned(), (status, body.to_owned()));
    }
}

/// Asks the server for its identity, as orchestrator does, and lists it as a replica.
async fn discovered(answers: &Answers, connector: &Connector, server: &str) -> Answer {
    let endpoint: Endpoint = server.replace('/', ":").parse().unwrap();
    let mut session = connector.connect(&endpoint).await.unwrap();
    let uuid: String = session.one("SELECT @@server_uuid").await.unwrap();
    let mut answers = answers.lock().unwrap();
    let (_, body) = answers.get_mut("cluster/alias/shop-1").unwrap();
    let mut cluster: Value = serde_json::from_str(body).unwrap();
    let mut replica = cluster[1].clone();
    replica["Key"] = json!({"Hostname": endpoint.host, "Port": endpoint.port});
    replica["ServerUUID"] = json!(uuid);
    cluster.as_array_mut().unwrap().push(replica);
    *body = cluster.to_string();
    let told = json!({"Code": "OK", "Message": format!("Instance discovered: {endpoint}"), "Details": null});
    (200, String::new(), told.to_string())
}

fn found(answers: &BTreeMap<String, (u16, String)>, path: &str) -> Answer {
    let (status, body) = match answers.get(path) {
        Some(known) => known.clone(),
        None if path.starts_with("cluster-info/alias/") => {
            (500, recorded("02-cluster-info-alias-unknown.json"))
        }
        None => (404, "404 page not found".to_owned()),
    };
    (status, String::new(), body)
}

fn recorded(name: &str) -> String {
    let folder = "../adapters/tests/fixtures/orchestrator";
    std::fs::read_to_string(format!("{}/{folder}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

async fn healthy(shard: &TestShard) -> BTreeMap<String, (u16, String)> {
    let mut cluster: Value = serde_json::from_str(&recorded("03-cluster-alias.json")).unwrap();
    let key = |index: usize| json!({"Hostname": "127.0.0.1", "Port": shard.members[index].endpoint().port});
    let mut info: Value = serde_json::from_str(&recorded("02-cluster-info-alias.json")).unwrap();
    info["CountInstances"] = json!(shard.members.len());
    cluster.as_array_mut().unwrap().truncate(shard.members.len());
    let mut answers = BTreeMap::new();
    let mut says = |path: &str, body: String| answers.insert(path.to_owned(), (200, body));
    for (index, member) in shard.members.iter().enumerate() {
        cluster[index]["Key"] = key(index);
        cluster[index]["ServerUUID"] = json!(member.value("SELECT @@server_uuid").await);
        cluster[index]["Replicas"] = json!([]);
        if index > 0 {
            cluster[index]["MasterKey"] = key(0);
        }
        says(&format!("refresh/127.0.0.1/{}", member.endpoint().port), recorded("05-refresh.json"));
    }
    says("leader-check", recorded("06-leader-check.json"));
    says("cluster-info/alias/shop-1", info.to_string());
    says("cluster/alias/shop-1", cluster.to_string());
    says("replication-analysis", recorded("07-replication-analysis.json"));
    answers
}
