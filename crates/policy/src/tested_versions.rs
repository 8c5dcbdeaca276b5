//! MySQL versions on which Backstop was tested, and findings on other versions and on replication
//! groups.

use backstop_types::finding::Finding;
use backstop_types::ids::ShardName;
use backstop_types::server::ServerVersion;
use backstop_types::topology::Member;

/// Versions on which all tests ran. A version is added only after `make test` ran on it.
pub const TESTED_VERSIONS: [(u16, u16, u16); 1] = [(9, 7, 4)];

/// Returns a finding on an untested version. `who` runs it: `db1:3306`, `the server program here`.
pub fn version_finding(shard: &ShardName, who: &str, version: &ServerVersion) -> Option<Finding> {
    if TESTED_VERSIONS.contains(&(version.major, version.minor, version.patch)) {
        return None;
    }
    let proven: Vec<String> =
        TESTED_VERSIONS.iter().map(|(major, minor, patch)| format!("{major}.{minor}.{patch}")).collect();
    Some(Finding::warning(
        "version-not-proven",
        format!(
            "not tested on {version}, which {who} runs: Backstop was tested on MySQL {} only",
            proven.join(", ")
        ),
        format!(
            "test a recovery before you rely on its backups: `backstop recover {shard} --to latest --into DIR --standalone`"
        ),
    ))
}

/// Returns findings on the members' versions and on members of a replication group.
pub fn support_findings(shard: &ShardName, members: &[Member]) -> Vec<Finding> {
    let told = || members.iter().filter_map(|member| Some((&member.endpoint, member.state.as_ref().ok()?)));
    let mut findings: Vec<Finding> = Vec::new();
    let mut said = Vec::new();
    for (endpoint, state) in told().filter(|(_, state)| state.version.is_supported()) {
        if !said.contains(&&state.version) {
            findings.extend(version_finding(shard, &endpoint.to_string(), &state.version));
            said.push(&state.version);
        }
    }
    let grouped: Vec<String> = told()
        .filter_map(|(endpoint, state)| Some(format!("{endpoint} ({})", state.group.as_ref()?)))
        .collect();
    if !grouped.is_empty() {
        findings.push(Finding::warning(
            "group-replication",
            format!(
                "{}: members of a replication group. Group Replication is not supported: only the group's primary is \
                 backed up, and a recovered server joins as an ordinary replica, not as a member of the group",
                grouped.join(", ")
            ),
            "recover such a server with --standalone, and join it to the group with MySQL's own tools",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn version_is_proven_only_if_tests_ran_it() {
        let shard: ShardName = "orders".parse().unwrap();
        let said = |version: &str| version_finding(&shard, "db1:3306", &version.parse().unwrap());
        assert_eq!(said("9.7.4-2"), None);
        for other in ["9.7.3", "9.7.5", "8.0.36", "26.10.0"] {
            let finding = said(other).unwrap();
            assert!(
                finding.what.starts_with(&format!("not tested on {other}, which db1:3306 runs")),
                "{finding:?}"
            );
        }
    }
}
