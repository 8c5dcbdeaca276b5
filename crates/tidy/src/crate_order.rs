//! Checks the dependencies between crates, and the packages that each crate must not use.

use std::collections::BTreeSet;

use crate::workspace::Package;

/// Crates in order: each may use those before it. `cli`, `lambda` and `tidy` are not libraries: no
/// crate uses them.
const ORDER: [&str; 13] = [
    "backstop-types",
    "backstop-config",
    "backstop-policy",
    "backstop-host",
    "backstop-binlog",
    "backstop-repo",
    "backstop-engine",
    "backstop-adapters",
    "backstop-aws",
    "backstop-testbed",
    "backstop-cli",
    "backstop-lambda",
    "backstop-tidy",
];

/// Crates for tests: no crate may depend on them otherwise.
const TESTS_ONLY: [&str; 2] = ["backstop-simulator", "backstop-testkit"];

/// Packages of the AWS SDK, which has its own time library.
const AWS: &[&str] = &["aws-sdk-*", "aws-config", "time"];

/// Packages of crates that do I/O or wait.
const NO_IO: &[&str] = &["tokio", "futures*", "async-trait", "object_store", "mysql_async"];

/// A crate, the packages that it may not use even indirectly, and the reason. A trailing `*`
/// matches any ending.
const FORBIDDEN: [(&str, &[&str], &str); 9] = [
    ("backstop-types", NO_IO, "values do no I/O"),
    ("backstop-config", NO_IO, "a configuration is parsed from text"),
    ("backstop-policy", NO_IO, "decisions do no I/O"),
    ("backstop-binlog", &["object_store", "reqwest"], "the binlog format knows no bucket"),
    ("backstop-repo", &["mysql_async", "mysql_common"], "the repository speaks to no MySQL"),
    (
        "backstop-engine",
        &["mysql_async", "mysql_common", "aws-sdk-*", "aws-config"],
        "the engine knows neither MySQL nor AWS",
    ),
    (
        "*",
        &["native-tls", "openssl", "openssl-sys", "jiff"],
        "one TLS stack (rustls with aws-lc-rs) and one time library (chrono)",
    ),
    ("backstop-adapters", AWS, "the default build pays nothing for AWS"),
    ("backstop-testbed", AWS, "the default build pays nothing for AWS"),
];

/// Crate whose default build links no AWS SDK: only the feature `aws` of `backstop-aws` does.
pub const DEFAULT_BUILD: &str = "backstop-cli";

/// Returns complaints about packages that are linked into the default build and must not be.
pub fn against_the_default_build(linked: &[String]) -> Vec<String> {
    let found = linked.iter().filter(|used| AWS.iter().any(|pattern| matches(pattern, used)));
    found
        .map(|used| format!("{DEFAULT_BUILD} links {used}: the default build pays nothing for AWS"))
        .collect()
}

/// Returns complaints about crates that use one that is not above them in the order.
pub fn against_the_order(packages: &[Package]) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in packages.iter().filter(|package| package.name.starts_with("backstop-")) {
        let place = place(&package.name);
        if place.is_none() && !TESTS_ONLY.contains(&package.name.as_str()) {
            complaints.push(format!("{} has no place in the order of crates", package.name));
        }
        for used in package.uses.iter().filter(|used| used.starts_with("backstop-")) {
            if !may_use(place, used) {
                complaints.push(format!("{} must not use {used}", package.name));
            }
        }
    }
    complaints
}

/// Returns complaints about crates that use, directly or not, a forbidden package.
pub fn against_the_absences(packages: &[Package]) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in packages.iter().filter(|package| package.name.starts_with("backstop-")) {
        let used = reached_from(package, packages);
        for (_, absent, why) in FORBIDDEN.iter().filter(|(name, ..)| matches(name, &package.name)) {
            let found = used.iter().filter(|used| absent.iter().any(|pattern| matches(pattern, used)));
            complaints.extend(found.map(|used| format!("{} uses {used}: {why}", package.name)));
        }
    }
    complaints
}

fn place(name: &str) -> Option<usize> {
    ORDER.iter().position(|known| *known == name)
}

/// Returns true if the crate at `user` may use `used`; a crate for tests has no place and may use
/// every library.
fn may_use(user: Option<usize>, used: &str) -> bool {
    let libraries = ORDER.len() - 3;
    place(used).is_some_and(|used| used < user.unwrap_or(libraries).min(libraries))
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

fn reached_from<'a>(from: &'a Package, packages: &'a [Package]) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<&str> = from.uses.iter().map(String::as_str).collect();
    while let Some(name) = waiting.pop() {
        if reached.insert(name) {
            let users = packages.iter().filter(|package| package.name == name);
            waiting.extend(users.flat_map(|package| package.uses.iter().map(String::as_str)));
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, uses: &[&str]) -> Package {
        let uses = uses.iter().map(|used| (*used).to_owned()).collect();
        Package { name: name.to_owned(), licence: None, uses }
    }

    #[test]
    fn allowed_dependencies_pass() {
        let good = [
            package("backstop-policy", &["serde"]),
            package("backstop-repo", &["backstop-policy", "backstop-binlog"]),
            package("backstop-cli", &["backstop-adapters", "backstop-policy"]),
            package("backstop-testkit", &["backstop-adapters"]),
        ];
        assert_eq!(against_the_order(&good), Vec::<String>::new());
    }

    #[test]
    fn forbidden_dependencies_are_found() {
        for (user, used) in [
            ("backstop-policy", "backstop-repo"),
            ("backstop-repo", "backstop-engine"),
            ("backstop-engine", "backstop-adapters"),
            ("backstop-lambda", "backstop-cli"),
            ("backstop-cli", "backstop-testkit"),
            ("backstop-testkit", "backstop-cli"),
            ("backstop-repo", "backstop-repo"),
        ] {
            let complaints = against_the_order(&[package(user, &[used])]);
            assert_eq!(complaints, [format!("{user} must not use {used}")]);
        }
        assert_eq!(against_the_order(&[package("backstop-new", &[])]).len(), 1);
    }

    #[test]
    fn sdk_in_the_default_build_is_found() {
        let linked = ["backstop-cli", "backstop-aws", "aws-lc-rs", "aws-sdk-ec2"].map(str::to_owned);
        let complaints = against_the_default_build(&linked);
        assert_eq!(complaints, ["backstop-cli links aws-sdk-ec2: the default build pays nothing for AWS"]);
        assert_eq!(against_the_default_build(&linked[..3]), Vec::<String>::new());
    }

    #[test]
    fn indirect_forbidden_dependencies_are_found() {
        let bad = [
            package("backstop-engine", &["helper"]),
            package("helper", &["aws-sdk-ec2"]),
            package("aws-sdk-ec2", &[]),
            package("backstop-policy", &["futures-core"]),
            package("backstop-adapters", &["mysql_async", "openssl-sys"]),
        ];
        let complaints = against_the_absences(&bad).join("\n");
        for expected in [
            "backstop-engine uses aws-sdk-ec2",
            "backstop-policy uses futures-core",
            "backstop-adapters uses openssl-sys",
        ] {
            assert!(complaints.contains(expected), "{expected} in {complaints}");
        }
        assert_eq!(complaints.lines().count(), 3, "{complaints}");
    }
}
