//! Plans the files and segments for a replica. Pure; the plan is complete before the first event.

use std::collections::BTreeSet;

use backstop_types::gtid::GtidSet;

use crate::segment::Segment;

/// The segments of one file that contain transactions for a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileSegments {
    /// The file's first segment, which contains the format description.
    pub(crate) first: Segment,
    /// The segments to send, in order; may begin with `first`.
    pub(crate) segments: Vec<Segment>,
}

/// Chooses the files for a replica that holds `held`. Servers that took over from each other hold
/// the same transactions under the same GTIDs: each is sent once, from its first occurrence.
///
/// # Errors
/// Returns the refusal's message, if transactions are missing in between, or if the replica holds
/// some that this timeline lacks.
pub(crate) fn plan_dump(segments: &[Segment], held: &GtidSet) -> Result<Vec<FileSegments>, String> {
    let all = segments.iter().fold(GtidSet::new(), |all, segment| all.union(&segment.held_after()));
    let foreign = held.subtract(&all);
    if !foreign.is_empty() {
        return Err(format!("the replica has transactions that this archive timeline lacks: {foreign}"));
    }
    let mut done = held.clone();
    let mut runs: Vec<FileSegments> = Vec::new();
    for segment in segments {
        if segment.gtids.is_subset_of(&done) {
            continue;
        }
        let missing = segment.previous.subtract(&done);
        if !missing.is_empty() {
            return Err(format!(
                "the archive has a gap before {} at {}: missing {missing}",
                segment.file, segment.start
            ));
        }
        done = done.union(&segment.gtids);
        match runs.last_mut().filter(|run| same_file(&run.first, segment)) {
            Some(run) => run.segments.push(segment.clone()),
            None => runs
                .push(FileSegments { first: first_of(segments, segment)?, segments: vec![segment.clone()] }),
        }
    }
    Ok(runs)
}

/// Returns the segments from the beginning of a named file; everything before it counts as held.
///
/// # Errors
/// Returns a message if no file has that name, or if files of several servers have it.
pub(crate) fn from_file<'a>(segments: &'a [Segment], name: &str) -> Result<&'a [Segment], String> {
    let named = segments.iter().filter(|segment| segment.file == name);
    let sources: BTreeSet<_> = named.map(|segment| segment.source).collect();
    if sources.len() > 1 {
        return Err(format!("several servers have a file {name}: use GTID auto-positioning"));
    }
    let at = segments.iter().position(|segment| segment.file == name && segment.start == 0);
    at.and_then(|at| segments.get(at..))
        .ok_or_else(|| format!("the archive lacks the beginning of file {name}"))
}

fn same_file(one: &Segment, other: &Segment) -> bool {
    one.source == other.source && one.file == other.file
}

fn first_of(segments: &[Segment], of: &Segment) -> Result<Segment, String> {
    let first = segments.iter().find(|segment| same_file(segment, of) && segment.start == 0);
    first.cloned().ok_or_else(|| format!("the archive lacks the beginning of {}", of.file))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use backstop_types::ids::ServerUuid;

    use backstop_types::archive::SegmentHash;

    use super::*;

    const A: &str = "aaaaaaaa-0000-0000-0000-000000000000";
    const B: &str = "bbbbbbbb-0000-0000-0000-000000000000";

    fn segment(source: &str, file: &str, start: u64, previous: &str, gtids: &str) -> Segment {
        let set = |text: &str| text.replace('A', A).replace('B', B).parse().unwrap();
        let source: ServerUuid = source.parse().unwrap();
        let (previous, gtids) = (set(previous), set(gtids));
        let hash = SegmentHash([0; 32]);
        Segment { source, file: file.into(), start, end: start + 9, previous, gtids, committed: None, hash }
    }

    fn line() -> Vec<Segment> {
        vec![
            segment(A, "a.1", 0, "", "A:1-5"),
            segment(A, "a.1", 9, "A:1-5", "A:6-8"),
            segment(B, "b.1", 0, "A:1-4", "A:5-10"),
            segment(B, "b.2", 0, "A:1-10", "B:1-3"),
        ]
    }

    fn sent(held: &str) -> Result<Vec<(String, Vec<u64>)>, String> {
        let runs = plan_dump(&line(), &held.replace('A', A).replace('B', B).parse().unwrap())?;
        let segments = |run: FileSegments| run.segments.iter().map(|segment| segment.start).collect();
        Ok(runs.into_iter().map(|run| (run.first.file.clone(), segments(run))).collect())
    }

    #[test]
    fn several_servers_of_a_timeline_are_merged() {
        let run = |name: &str, starts: &[u64]| (name.to_owned(), starts.to_vec());
        assert_eq!(sent(""), Ok(vec![run("a.1", &[0, 9]), run("b.1", &[0]), run("b.2", &[0])]));
        assert_eq!(sent("A:1-6"), Ok(vec![run("a.1", &[9]), run("b.1", &[0]), run("b.2", &[0])]));
        assert_eq!(sent("A:1-10"), Ok(vec![run("b.2", &[0])]));
        assert_eq!(sent("A:1-10,B:1-3"), Ok(vec![]));
    }

    #[test]
    fn gaps_and_foreign_transactions_are_refused() {
        assert!(sent("B:4").unwrap_err().contains("lacks"));
        let mut gap = line();
        gap.remove(2);
        let refusal = plan_dump(&gap, &GtidSet::new()).unwrap_err();
        assert!(refusal.contains(&format!("{A}:9-10")), "{refusal}");
        gap.remove(0);
        assert!(plan_dump(&gap, &format!("{A}:1-5").parse().unwrap()).unwrap_err().contains("beginning"));
        assert!(from_file(&line(), "b.1").is_ok_and(|rest| rest.len() == 2));
        assert!(from_file(&line(), "c.1").is_err());
    }
}
