//! The samples that the pages are written with, and their meaning.

use super::blocks::blocks;
use super::fill::{RunbookValues, stands};

/// Every sample that must be replaced before a command can be given.
const SAMPLES: &[(&str, &str)] = &[
    ("orders", "the shard"),
    ("db1", "the primary"),
    ("db2", "the candidate primary"),
    ("db3", "another replica: repeat its commands for each further one"),
    ("db4", "the host of the new server"),
    ("shop", "the database of the table"),
    ("customers", "the table"),
    ("id <= 100", "the condition of the bad statement"),
    ("before:3e11fa47-71ca-11e1-9e33-c80aa9429562:4711", "the moment, as `find` shows it"),
    ("NEW-PASSWORD", "the new password"),
    ("/srv/copy", "the directory of a copy: new or empty, with room for all data"),
    ("/var/lib/mysql-new", "the directory of the new server"),
    ("/var/lib/mysql-replica", "the directory of the new replica"),
    ("file:///srv/backstop", "the repository"),
    ("file:///srv/backstop-new", "the new repository"),
];

/// Returns the samples that a page's commands still contain with these values filled in, each with
/// its meaning.
pub fn left_over(page: &str, values: &RunbookValues) -> Vec<(&'static str, &'static str)> {
    let commands: String = blocks(page).into_iter().map(|block| block.commands).collect();
    let left = SAMPLES.iter().filter(|(sample, _)| stands(&commands, sample) && !values.knows(sample));
    left.copied().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::runbooks::find;

    #[test]
    fn samples_without_a_value_are_named_with_their_meaning() {
        let page = find("everything-is-gone").unwrap().text;
        let mut values = RunbookValues::default();
        let names = |values: &RunbookValues| {
            left_over(page, values).iter().map(|(sample, _)| *sample).collect::<Vec<_>>()
        };
        assert_eq!(names(&values), ["orders", "db4", "/var/lib/mysql-new", "/var/lib/mysql-replica"]);
        // A server of the shard that is called as a sample is no value for that sample.
        values.put("orders", "billing");
        values.members(["db4:3306", "db2:3306"].iter().map(|member| member.parse().unwrap()).collect());
        assert_eq!(names(&values), ["db4", "/var/lib/mysql-new", "/var/lib/mysql-replica"]);
    }

    #[test]
    fn two_members_leave_no_sample_of_a_third() {
        let page = find("rotate-passwords").unwrap().text;
        let mut values = RunbookValues::default();
        values.members(["a:1", "b:1"].iter().map(|member| member.parse().unwrap()).collect());
        let left = left_over(page, &values);
        assert!(!left.iter().any(|(sample, _)| sample.starts_with("db")), "{left:?}");
    }
}
