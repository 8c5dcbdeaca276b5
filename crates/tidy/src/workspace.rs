//! Output of `cargo metadata` for this workspace on this machine's platform.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

/// Every package that is built for the workspace, including its own crates.
pub struct Workspace {
    pub packages: Vec<Package>,
}

/// A package, and the packages that are linked into it.
pub struct Package {
    pub name: String,
    pub licence: Option<String>,
    /// Names of its dependencies, without those of build scripts and tests.
    pub uses: Vec<String>,
}

impl Workspace {
    pub fn load() -> Self {
        let metadata =
            cargo(&["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", &host()]);
        let metadata: Metadata = serde_json::from_str(&metadata).unwrap();
        let names: BTreeMap<_, _> =
            metadata.packages.iter().map(|p| (p.id.clone(), p.name.clone())).collect();
        let mut uses: BTreeMap<_, _> =
            metadata.resolve.nodes.into_iter().map(|node| (node.id, node.deps)).collect();
        let packages = metadata.packages.into_iter().map(|package| {
            let deps = uses.remove(&package.id).unwrap_or_default();
            let linked = deps.iter().filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind.is_none()));
            let uses = linked.map(|dep| names[&dep.pkg].clone()).collect();
            Package { name: package.name, licence: package.license, uses }
        });
        Self { packages: packages.collect() }
    }

    /// Returns the names of all packages that are linked into a crate when it is built alone,
    /// without features: in a build of the whole workspace, other crates may enable features of its
    /// dependencies.
    pub fn linked_alone(name: &str) -> Vec<String> {
        let format = ["--edges=normal", "--prefix=none", "--format={p}", "--locked", "--offline"];
        let tree = cargo(&[&["tree", "--package", name, "--target", &host()], &format[..]].concat());
        tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
    }
}

/// Returns the root of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn host() -> String {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = run(Command::new(rustc).arg("-vV"));
    version.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned()
}

fn cargo(args: &[&str]) -> String {
    run(Command::new(env!("CARGO")).args(args).current_dir(root()))
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct MetadataPackage {
    id: String,
    name: String,
    license: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<ResolveNode>,
}

#[derive(Deserialize)]
struct ResolveNode {
    id: String,
    deps: Vec<Dep>,
}

#[derive(Deserialize)]
struct Dep {
    pkg: String,
    dep_kinds: Vec<DepKind>,
}

#[derive(Deserialize)]
struct DepKind {
    kind: Option<String>,
}
