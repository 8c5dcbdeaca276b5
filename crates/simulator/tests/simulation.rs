//! Simulated histories of a shard and its archive.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::print_stderr, reason = "a search reports its progress")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use backstop_host::Host;
use backstop_simulator::schedule::SimSchedule;
use backstop_simulator::search::{search, shrink};
use backstop_simulator::world::{Outcome, run};

/// Time that the search takes if `BACKSTOP_SIMULATE_SECONDS` does not say otherwise.
const SEARCH_SECONDS: u64 = 45;
/// Number of seeds of such a search.
const SEARCH_SEEDS: u64 = 130;
/// Number of seeds that run twice.
const REPEATED_SEEDS: u64 = 100;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// Returns the seed from which an unguided search begins: another one each time.
fn fresh_seed() -> u64 {
    Host::system().random.number().unwrap() >> 16
}

fn report(schedule: &SimSchedule, outcome: &Outcome) -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join(format!("schedule-{}.json", schedule.seed));
    let shrunk = shrink(schedule);
    std::fs::write(&file, serde_json::to_string_pretty(&shrunk).unwrap()).unwrap();
    let failures = run(&shrunk, false).failures;
    format!(
        "seed {} breaks rules:\n{}\nrepeat it with BACKSTOP_SEED={}; shrunk to {} steps and {} faults in {}:\n{}",
        schedule.seed,
        outcome.failures.join("\n"),
        schedule.seed,
        shrunk.steps.len(),
        shrunk.requests.len() + shrunk.calls.len(),
        file.display(),
        failures.join("\n")
    )
}

#[test]
fn archive_keeps_every_acknowledged_commit() {
    let seconds = number("BACKSTOP_SIMULATE_SECONDS").unwrap_or(SEARCH_SECONDS);
    let (first, count) = match number("BACKSTOP_SEED") {
        Some(seed) => (seed, number("BACKSTOP_SEEDS").unwrap_or(1)),
        // Without a wish the same seeds each time: what passed once passes again.
        None if std::env::var_os("BACKSTOP_SIMULATE_SECONDS").is_none() => (1, SEARCH_SEEDS),
        None => (fresh_seed(), number("BACKSTOP_SEEDS").unwrap_or(u64::MAX)),
    };
    let found = search(first, count, Duration::from_secs(seconds));
    eprintln!("{} runs from seed {first}, {} acknowledged transactions", found.runs, found.acknowledged);
    if let Some((schedule, outcome)) = found.broken {
        if std::env::var_os("BACKSTOP_TRACE").is_some() {
            eprintln!("{}", run(&schedule, true).lines.join("\n"));
        }
        panic!("{}", report(&schedule, &outcome));
    }
}

#[test]
fn equal_schedules_give_equal_traces() {
    let first = number("BACKSTOP_SEED").unwrap_or(1);
    for seed in first..first + REPEATED_SEEDS {
        let schedule = SimSchedule::draw(seed);
        let (one, other) = (run(&schedule, false), run(&schedule, false));
        assert_eq!(one, other, "seed {seed}");
    }
}

/// Runs the schedules that once broke a rule, or the one that `BACKSTOP_SCHEDULE` names.
#[test]
fn recorded_schedules_break_no_rule() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/schedules");
    let recorded = || std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let chosen = std::env::var_os("BACKSTOP_SCHEDULE").map(PathBuf::from);
    let paths = chosen.map_or_else(|| recorded().collect(), |path| vec![path]);
    assert!(!paths.is_empty(), "no schedule was recorded");
    for path in paths {
        let schedule: SimSchedule = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let outcome = run(&schedule, std::env::var_os("BACKSTOP_TRACE").is_some());
        eprintln!("{}", outcome.lines.join("\n"));
        assert_eq!(outcome.failures, [] as [String; 0], "{}", path.display());
    }
}
