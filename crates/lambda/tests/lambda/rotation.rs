//! A rotation while the function runs. AWS's functions change the server first (setSecret), and the
//! secret later (finishSecret):
//! docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_lambda-functions.html

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::environment::Environment;
use crate::support::runtime_api::Function;

#[tokio::test(flavor = "multi_thread")]
async fn function_survives_a_rotation_between_reading_and_login() {
    let fleet = Environment::start().await;
    let function = Function::start(&fleet, "one").await;
    let primary = fleet.shard.primary();
    primary.run(&["ALTER USER backstop@'%' FAILED_LOGIN_ATTEMPTS 4 PASSWORD_LOCK_TIME 1"]).await;
    primary.run(&["ALTER USER backstop@'%' IDENTIFIED BY 'Rotated-1'"]).await;
    fleet.shard.settle().await;
    let refusals = "SELECT VARIABLE_VALUE FROM performance_schema.global_status \
                    WHERE VARIABLE_NAME = 'Aborted_connects'";
    let earlier = primary.value(refusals).await;
    function.begin("r-1", json!({"secret_id": "prod/orders"}));
    let begun = Instant::now();
    while primary.value(refusals).await == earlier {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", function.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The keys that AWS's rotation needs in the secret
    // (docs.aws.amazon.com/secretsmanager/latest/userguide/reference_secret_json_structure.html).
    let mut entry = fleet.entry();
    for (key, value) in [
        ("password", json!("Rotated-1")),
        ("engine", json!("mysql")),
        ("host", json!("another.example")),
        ("port", json!(3306)),
        ("dbname", json!("shop")),
        ("masterarn", json!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:root-AbCdEf")),
    ] {
        entry[key] = value;
    }
    fleet.keeps("prod/orders", &entry);
    function.logs("the credentials have changed and were read again").await;
    let report = function.succeeds("r-2", json!({"secret_id": "prod/orders", "kind": "on_demand"})).await;
    assert_eq!(report["source"]["port"], fleet.shard.candidate().endpoint().port, "{report}");
    assert!(!function.log().contains("backup_failed") && !function.log().contains("Rotated-1"));
    assert_eq!(fleet.snapshots().len(), 2);
}
