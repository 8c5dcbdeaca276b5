//! Search: runs schedules of many seeds, and shrinks the first one that breaks a rule.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::process::lock;
use crate::schedule::SimSchedule;
use crate::world::{Outcome, run};

/// Largest number of runs that shrinking takes.
const MAX_SHRINK_RUNS: usize = 400;

/// Words of the moments at which a rule is checked.
const MOMENTS: [&str; 5] = ["at", "an", "before", "after", "the"];

/// Result of a search.
#[derive(Debug, Default)]
pub struct Searched {
    /// Number of schedules that ran.
    pub runs: u64,
    /// Number of transactions that were acknowledged in them.
    pub acknowledged: u64,
    /// The schedule of the lowest seed that broke a rule, with its outcome.
    pub broken: Option<(SimSchedule, Outcome)>,
}

/// Runs the schedules of the seeds from `first` on, at most `count` of them and at most for
/// `limit`, on as many threads as the machine has.
#[allow(clippy::disallowed_methods, reason = "a search ends by the machine's own clock")]
pub fn search(first: u64, count: u64, limit: Duration) -> Searched {
    let begun = std::time::Instant::now();
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let found = Mutex::new(Searched::default());
    let work = || {
        while begun.elapsed() < limit && !stop.load(Ordering::Relaxed) {
            let nth = next.fetch_add(1, Ordering::Relaxed);
            if nth >= count {
                return;
            }
            let schedule = SimSchedule::draw(first.wrapping_add(nth));
            let outcome = run(&schedule, false);
            let mut found = lock(&found);
            found.runs += 1;
            found.acknowledged += outcome.acknowledged as u64;
            if !outcome.failures.is_empty() {
                stop.store(true, Ordering::Relaxed);
                if found.broken.as_ref().is_none_or(|(other, _)| schedule.seed < other.seed) {
                    found.broken = Some((schedule, outcome));
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    found.into_inner().unwrap_or_default()
}

/// Leaves out parts of a schedule as long as it breaks a rule: faults first, then the rest.
pub fn shrink(schedule: &SimSchedule) -> SimSchedule {
    let mut runs = 0;
    let mut smallest = schedule.clone();
    let wanted = first_rule(&run(schedule, false));
    let mut fails = |candidate: &SimSchedule| {
        runs += 1;
        runs <= MAX_SHRINK_RUNS && wanted.is_some() && first_rule(&run(candidate, false)) == wanted
    };
    shrink_part(&mut smallest, &mut fails, |schedule| &mut schedule.requests);
    shrink_part(&mut smallest, &mut fails, |schedule| &mut schedule.calls);
    shrink_part(&mut smallest, &mut fails, |schedule| &mut schedule.steps);
    smallest
}

/// Returns the first broken rule of a run, without the numbers that differ from run to run.
fn first_rule(outcome: &Outcome) -> Option<String> {
    let words = outcome.failures.first()?.split_whitespace();
    let plain = words.filter(|word| word.chars().all(|letter| letter.is_ascii_lowercase()));
    let rule: Vec<&str> = plain.filter(|word| !MOMENTS.contains(word)).take(4).collect();
    Some(rule.join(" "))
}

/// Leaves out runs of items of a part, of halved lengths.
fn shrink_part<T: Clone>(
    smallest: &mut SimSchedule,
    fails: &mut impl FnMut(&SimSchedule) -> bool,
    part: impl Fn(&mut SimSchedule) -> &mut Vec<T>,
) {
    let mut length = part(smallest).len();
    while length > 0 {
        let mut at = 0;
        while at < part(smallest).len() {
            let mut candidate = smallest.clone();
            let items = part(&mut candidate);
            items.drain(at..(at + length).min(items.len()));
            if fails(&candidate) {
                *smallest = candidate;
            } else {
                at += length;
            }
        }
        length /= 2;
    }
}
