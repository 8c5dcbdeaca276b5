//! Checks of the repository's rules: dependencies between crates, licences of packages, files, and
//! names in documents.
//!
//! Each checker is a pure function from its input to a list of complaints, so that a test with a
//! bad sample proves that it can complain; the tests here run all checkers on this repository.

#![cfg(test)]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod crate_order;
mod documents;
mod files;
mod licences;
mod prose;
mod structure;
mod workspace;

use workspace::Workspace;

fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn crates_use_only_those_above_them() {
    let packages = Workspace::load().packages;
    assert!(packages.iter().any(|package| package.name == "backstop-engine"));
    assert_none(&crate_order::against_the_order(&packages));
}

#[test]
fn crates_use_no_dependency_that_is_forbidden_to_them() {
    let packages = Workspace::load().packages;
    assert_none(&crate_order::against_the_absences(&packages));
    let linked = Workspace::linked_alone(crate_order::DEFAULT_BUILD);
    assert!(linked.iter().any(|name| name == "backstop-engine"));
    assert_none(&crate_order::against_the_default_build(&linked));
}

#[test]
fn dependencies_have_permissive_licences() {
    let packages = Workspace::load().packages;
    assert!(packages.len() > 50, "the dependencies are among the packages");
    assert_none(&licences::not_allowed(&packages));
}

fn documents() -> Vec<files::Text> {
    let texts = files::texts(&workspace::root()).into_iter();
    let documents: Vec<_> = texts.filter(|file| file.path.ends_with(".md")).collect();
    assert!(documents.iter().any(|document| document.path == "README.md"), "the documents are checked");
    documents
}

#[test]
fn documents_name_only_existing_paths_and_targets() {
    let root = workspace::root();
    let documents = documents();
    let makefile = std::fs::read_to_string(root.join("Makefile")).unwrap();
    let targets = documents::make_targets(&makefile);
    let exists = |path: &str| root.join(path).exists();
    let complaints = documents.iter().flat_map(|document| documents::false_names(document, &targets, exists));
    assert_none(&complaints.collect::<Vec<_>>());
}

#[test]
fn configurations_in_documents_are_accepted() {
    let documents = documents();
    assert_none(&documents.iter().flat_map(documents::refused_configurations).collect::<Vec<_>>());
}

#[test]
fn no_file_names_a_package_registry() {
    assert_none(&files::naming_a_registry(&files::texts(&workspace::root())));
}

#[test]
fn files_stay_short_and_have_descriptive_names() {
    let texts = files::texts(&workspace::root());
    assert!(texts.iter().any(|file| file.path == "crates/policy/src/lib.rs"), "the sources are checked");
    assert_none(&files::too_long(&texts, files::LONGER_FILES));
    assert_none(&files::vaguely_named(&texts));
}

#[test]
fn comments_and_documents_are_plain_english() {
    let texts = files::texts(&workspace::root());
    let lines = prose::comment_lines(&texts);
    assert!(lines > 5_000, "the comments are read: {lines}");
    for (complaints, bound) in
        [(prose::openings(&texts), prose::OPENINGS_BOUND), (prose::idioms(&texts), prose::IDIOMS_BOUND)]
    {
        let of_thousand = complaints.len() * 1_000 / lines;
        assert!(of_thousand <= bound, "{of_thousand} of 1,000:\n{}", complaints.join("\n"));
    }
    assert_none(&prose::long_lines(&documents()));
}

#[test]
fn sources_keep_their_structure() {
    let texts = files::texts(&workspace::root());
    let counts = [
        (structure::duplicate_types(&texts), structure::DUPLICATE_TYPES_BOUND),
        (structure::circles(&texts), structure::CIRCLES_BOUND),
        (structure::long_functions(&texts), structure::LONG_FUNCTIONS_BOUND),
        (structure::bare_calls(&texts), structure::BARE_CALLS_BOUND),
        (structure::unordered_selects(&texts), structure::UNORDERED_SELECTS_BOUND),
    ];
    let wrong = counts.iter().filter(|(complaints, bound)| complaints.len() != *bound);
    let wrong = wrong.map(|(complaints, bound)| {
        let what = if complaints.len() < *bound { "lower the bound to" } else { "of at most" };
        format!("{bound}: {what} {}:\n{}", complaints.len(), complaints.join("\n"))
    });
    assert_none(&wrong.collect::<Vec<_>>());
}
