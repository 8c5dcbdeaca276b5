//! Structure of the sources: names of types, circles of files, length of functions, and calls that
//! belong behind a port.
//!
//! Each count has a bound that may only be lowered.

use std::collections::{BTreeMap, BTreeSet};

use crate::files::Text;

/// Maximum number of type names that more than one module exports.
pub const DUPLICATE_TYPES_BOUND: usize = 0;
/// Maximum number of circles of files.
pub const CIRCLES_BOUND: usize = 0;
/// Maximum number of functions with more than [`LONG_FUNCTION`] lines.
pub const LONG_FUNCTIONS_BOUND: usize = 32;
/// Lines of a function that is hard to read as a whole.
const LONG_FUNCTION: usize = 40;

/// File that repeats the types of a feature for a build without it.
const WITHOUT_FEATURE: &str = "without_aws.rs";

/// Crates whose clock, randomness and tasks come from `Host` only.
const HOSTED: [&str; 2] = ["crates/repo/src/", "crates/engine/src/"];
/// Calls that bypass `Host`.
const BARE_CALLS: [&str; 8] = [
    "tokio::spawn(",
    "spawn_blocking(",
    "tokio::time::",
    "Utc::now()",
    "Instant::now()",
    "SystemTime::now()",
    "getrandom::",
    "/proc/self/stat",
];
/// Maximum number of calls that bypass `Host`.
pub const BARE_CALLS_BOUND: usize = 1;
/// Crates in which every `select!` names the order of its branches.
const ORDERED: [&str; 4] =
    ["crates/host/src/", "crates/repo/src/", "crates/engine/src/", "crates/binlog/src/"];
/// Maximum number of `select!` without `biased`.
pub const UNORDERED_SELECTS_BOUND: usize = 0;

/// A source file of a crate, without comments and unit tests.
struct Source<'a> {
    path: &'a str,
    code: String,
}

/// Returns complaints about type names that several modules export.
pub fn duplicate_types(texts: &[Text]) -> Vec<String> {
    let mut places: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let exempt = |path: &str| path.contains("/testkit/") || path.ends_with(WITHOUT_FEATURE);
    for source in sources(texts).filter(|source| !exempt(source.path)) {
        let names: BTreeSet<&str> = source.code.lines().filter_map(exported_type).collect();
        for name in names {
            places.entry(name.to_owned()).or_default().push(source.path);
        }
    }
    let several = places.into_iter().filter(|(_, paths)| paths.len() > 1);
    several.map(|(name, paths)| format!("{name} is a type of {}", paths.join(" and "))).collect()
}

/// Returns complaints about files of a crate that import each other in a circle. A folder's own
/// module and the modules below it count as one place.
pub fn circles(texts: &[Text]) -> Vec<String> {
    let mut crates: BTreeMap<&str, BTreeMap<Vec<&str>, Source<'_>>> = BTreeMap::new();
    for source in sources(texts) {
        let (name, module) = module_of(source.path);
        crates.entry(name).or_default().insert(module, source);
    }
    let mut complaints = Vec::new();
    for (name, modules) in &crates {
        let arrows: BTreeMap<_, _> =
            modules.iter().map(|(module, source)| (module, imports(module, &source.code, modules))).collect();
        for circle in connected(&arrows) {
            let circle: Vec<_> = circle.iter().map(|module| module.join("/")).collect();
            complaints.push(format!("{name}: {} import each other", circle.join(", ")));
        }
    }
    complaints
}

/// Returns complaints about functions that are hard to read as a whole.
pub fn long_functions(texts: &[Text]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources(texts) {
        let lines: Vec<&str> = source.code.lines().collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| begins_function(line)) {
            let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
            let body = lines[at..].iter().find(|line| line.ends_with(['{', '}', ';']));
            if body.is_none_or(|line| line.ends_with(';')) {
                continue;
            }
            let Some(length) = lines[at..].iter().position(|line| *line == end) else { continue };
            if length >= LONG_FUNCTION {
                complaints.push(format!(
                    "{}:{} has {} lines: {}",
                    source.path,
                    at + 1,
                    length + 1,
                    line.trim()
                ));
            }
        }
    }
    complaints
}

/// Returns complaints about calls that bypass `Host`.
pub fn bare_calls(texts: &[Text]) -> Vec<String> {
    let hosted = sources(texts).filter(|source| HOSTED.iter().any(|prefix| source.path.starts_with(prefix)));
    let mut complaints = Vec::new();
    for source in hosted {
        for call in BARE_CALLS.iter().filter(|call| source.code.contains(**call)) {
            let times = source.code.matches(call).count();
            complaints.extend((0..times).map(|_| format!("{}: {call} bypasses `Host`", source.path)));
        }
    }
    complaints
}

/// Returns complaints about `select!` whose branches are polled in a random order.
pub fn unordered_selects(texts: &[Text]) -> Vec<String> {
    let ordered =
        sources(texts).filter(|source| ORDERED.iter().any(|prefix| source.path.starts_with(prefix)));
    let mut complaints = Vec::new();
    for source in ordered {
        for after in
            source.code.split("select! {").skip(1).filter(|after| !after.trim_start().starts_with("biased;"))
        {
            let first = after.trim_start().lines().next().unwrap_or_default();
            complaints.push(format!("{}: select! without `biased;` before `{first}`", source.path));
        }
    }
    complaints
}

/// Returns the sources of all crates.
fn sources(texts: &[Text]) -> impl Iterator<Item = Source<'_>> {
    let sources = texts.iter().filter(|file| {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        let is_test = name == "tests.rs"
            || name == "frozen.rs"
            || file.path.contains("/tests/")
            || file.path.contains("/frozen/");
        file.path.starts_with("crates/") && file.path.contains("/src/") && name.ends_with(".rs") && !is_test
    });
    sources.map(|file| {
        let code = file.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let lines = code.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line });
        Source { path: &file.path, code: lines.collect::<Vec<_>>().join("\n") }
    })
}

fn exported_type(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub "))?;
    let rest = ["struct ", "enum ", "trait "].iter().find_map(|kind| rest.strip_prefix(kind))?;
    rest.split(|c: char| !c.is_alphanumeric()).next()
}

fn begins_function(line: &str) -> bool {
    let mut line = line.trim_start();
    for word in ["pub(crate) ", "pub(super) ", "pub ", "async ", "unsafe ", "const "] {
        line = line.strip_prefix(word).unwrap_or(line);
    }
    line.starts_with("fn ")
}

/// Returns the crate of a source and the path of its module: `crates/a/src/b/c.rs` is `b/c` of `a`.
fn module_of(path: &str) -> (&str, Vec<&str>) {
    let mut parts = path.trim_start_matches("crates/").trim_end_matches(".rs").split('/');
    let name = parts.next().unwrap_or_default();
    let mut module: Vec<&str> = parts.skip(1).collect();
    if matches!(module.last(), Some(&"mod" | &"lib" | &"main")) {
        module.pop();
    }
    (name, module)
}

/// Returns the modules of the same crate that a module imports, except those above and below it.
fn imports<'a>(
    module: &[&'a str],
    code: &'a str,
    modules: &BTreeMap<Vec<&'a str>, Source<'a>>,
) -> BTreeSet<Vec<&'a str>> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::").chain(code.match_indices("super::")) {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '$')) {
            continue;
        }
        let path = code[at..].split([';', '(', ')', '=']).next().unwrap_or_default();
        for leaf in leaves(path) {
            found.insert(target(module, &leaf, modules));
        }
    }
    let related = |other: &Vec<&str>| other.starts_with(module) || module.starts_with(other);
    found.into_iter().filter(|other| modules.contains_key(other) && !related(other)).collect()
}

/// Expands `a::{b, c::{d}}` into `a::b`, `a::c::d`, as lists of words.
fn leaves(path: &str) -> Vec<Vec<&str>> {
    let Some((before, inside)) = path.split_once('{') else {
        let end = path.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':'))).unwrap_or(path.len());
        return vec![path[..end].split("::").map(str::trim).filter(|word| !word.is_empty()).collect()];
    };
    let start: Vec<&str> = before.split("::").map(str::trim).filter(|word| !word.is_empty()).collect();
    let inside = inside.trim_end().strip_suffix('}').unwrap_or(inside);
    let (mut all, mut depth, mut from) = (Vec::new(), 0_i32, 0);
    for (at, character) in inside.char_indices().chain([(inside.len(), ',')]) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                for leaf in leaves(inside[from..at].trim()) {
                    all.push(start.iter().copied().chain(leaf).collect());
                }
                from = at + 1;
            }
            _ => {}
        }
    }
    all
}

/// Returns the module that a path leads to.
fn target<'a>(
    module: &[&'a str],
    path: &[&'a str],
    modules: &BTreeMap<Vec<&'a str>, Source<'a>>,
) -> Vec<&'a str> {
    let ups = path.iter().take_while(|word| **word == "super").count();
    let mut reached = if path.first() == Some(&"crate") {
        Vec::new()
    } else {
        module[..module.len().saturating_sub(ups)].to_vec()
    };
    for word in &path[ups.max(1)..] {
        reached.push(word);
        if !modules.contains_key(&reached) {
            reached.pop();
            break;
        }
    }
    reached
}

/// Returns the groups of modules that reach each other. Source: a module belongs to a group if it is
/// reachable from a module that it reaches (R. Tarjan's strongly connected components, computed here
/// by reachability, since a crate has few modules).
fn connected<'a>(arrows: &BTreeMap<&Vec<&'a str>, BTreeSet<Vec<&'a str>>>) -> Vec<Vec<Vec<&'a str>>> {
    let reachable = |from: &Vec<&'a str>| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(module) = next.pop() {
            for to in arrows.get(&module).into_iter().flatten() {
                if seen.insert(to.clone()) {
                    next.push(to.clone());
                }
            }
        }
        seen
    };
    let all: BTreeMap<_, _> = arrows.keys().map(|module| ((*module).clone(), reachable(module))).collect();
    let mut groups: BTreeSet<Vec<Vec<&'a str>>> = BTreeSet::new();
    for (module, reached) in all.iter().filter(|(module, reached)| reached.contains(*module)) {
        groups.insert(reached.iter().filter(|other| all[*other].contains(module)).cloned().collect());
    }
    groups.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str, text: &str) -> Text {
        Text { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn types_of_the_same_name_are_found() {
        let texts = [
            text("crates/a/src/b.rs", "pub struct One;\nstruct Two;\n"),
            text("crates/a/src/c.rs", "pub(crate) enum One {}\nstruct Two;\n#[cfg(test)]\nmod tests {\n"),
        ];
        assert_eq!(duplicate_types(&texts), ["One is a type of crates/a/src/b.rs and crates/a/src/c.rs"]);
    }

    #[test]
    fn circles_of_files_are_found() {
        let texts = [
            text("crates/a/src/lib.rs", "mod b;\npub use b::One;\n"),
            text("crates/a/src/b.rs", "use crate::{c::{Two}, d};\n"),
            text("crates/a/src/b/inner.rs", "use super::One;\n"),
            text("crates/a/src/c.rs", "fn f() { super::d::g(); }\n"),
            text("crates/a/src/d.rs", "use super::b::One;\n"),
            text("crates/a/src/e.rs", "use crate::d;\n"),
        ];
        assert_eq!(circles(&texts), ["a: b, c, d import each other"]);
        assert!(circles(&texts[..3]).is_empty());
    }

    #[test]
    fn long_functions_are_found() {
        let body = "    x();\n".repeat(LONG_FUNCTION - 1);
        let texts = [text("crates/a/src/b.rs", &format!("pub async fn f() {{\n{body}}}\nfn g() {{\n}}\n"))];
        assert_eq!(long_functions(&texts).len(), 1);
        let short = [text("crates/a/src/b.rs", &format!("fn f() {{\n{}}}\n", &body[9..]))];
        assert!(long_functions(&short).is_empty());
    }

    #[test]
    fn calls_beside_the_host_are_found() {
        let code = "let now = Utc::now();\n// Utc::now()\ntokio::select! {\n    a = b => {}\n}\n";
        let texts = [text("crates/repo/src/b.rs", code), text("crates/cli/src/b.rs", code)];
        assert_eq!(bare_calls(&texts), ["crates/repo/src/b.rs: Utc::now() bypasses `Host`"]);
        assert_eq!(unordered_selects(&texts).len(), 1);
        let ordered = [text("crates/repo/src/b.rs", "tokio::select! {\n    biased;\n    a = b => {}\n}\n")];
        assert!(unordered_selects(&ordered).is_empty());
    }
}
