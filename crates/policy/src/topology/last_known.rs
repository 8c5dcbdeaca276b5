//! Decides if the last known members of a shard may be used while orchestrator has no quorum. A
//! failover that orchestrator did not see may have happened, or may be about to.

use backstop_types::error::{Error, Result};
use backstop_types::ids::Endpoint;
use backstop_types::topology::Member;

use super::primary::current_primary;

const HINT: &str = "restore orchestrator's quorum, then back up";

/// Returns the members with an objection against the primary, so that only a replica of it is
/// backed up. Every replica counts as a candidate: orchestrator's registrations are not known.
/// `primary` is the last known one, `preferred` the source of the newest backup.
///
/// # Errors
/// Returns [`ErrorKind::Refused`](backstop_types::error::ErrorKind::Refused) if two members are
/// writable, if no primary answers, or if the last known one does not: it may still accept writes.
pub fn last_known(
    mut members: Vec<Member>,
    primary: Option<&Endpoint>,
    preferred: &Endpoint,
) -> Result<Vec<Member>> {
    refuse_two_writable(&members)?;
    refuse_silent_primary(&members, primary)?;
    let current = current_primary(&members)
        .map(|(endpoint, _)| endpoint.clone())
        .map_err(|error| refused(&format!("the primary cannot be asked: {}", error.message)))?;
    for (place, member) in members.iter_mut().enumerate() {
        member.candidate = member.endpoint != current;
        member.verdict.preference = if member.endpoint == *preferred { 0 } else { place + 1 };
        if member.endpoint == current {
            member.verdict.objection =
                Some("the primary is not backed up while orchestrator has no quorum".to_owned());
        }
    }
    Ok(members)
}

fn refuse_two_writable(members: &[Member]) -> Result<()> {
    let writable: Vec<String> = members
        .iter()
        .filter(|member| member.state.as_ref().is_ok_and(|state| !state.read_only))
        .map(|member| member.endpoint.to_string())
        .collect();
    if writable.len() < 2 {
        return Ok(());
    }
    Err(refused(&format!("{} are writable, so the primary is not known", writable.join(" and "))))
}

fn refuse_silent_primary(members: &[Member], primary: Option<&Endpoint>) -> Result<()> {
    let last = members.iter().find(|member| Some(&member.endpoint) == primary);
    match last.and_then(|member| member.state.as_ref().err()) {
        None => Ok(()),
        Some(why) => Err(refused(&format!(
            "the primary cannot be asked: {}, the last known one, {why}",
            last.map_or_else(String::new, |member| member.endpoint.to_string())
        ))),
    }
}

fn refused(why: &str) -> Error {
    Error::refused(format!("cannot use the last known members: {why}")).hint(HINT)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use backstop_types::error::ErrorKind;
    use backstop_types::freeze::OnPrimary;
    use backstop_types::topology::{Locking, NoAnswer, SourceRules};

    use super::super::choose_source;
    use super::super::tests::{endpoint as at, primary, replica, silent, with_state};
    use super::*;

    fn shard() -> Vec<Member> {
        vec![primary(1, "A:1-9"), replica(2, 1, "A:1-9"), replica(3, 1, "A:1-9")]
    }

    fn hung(n: u16) -> Member {
        silent(n, NoAnswer::Silent("no answer within 5s".to_owned()))
    }

    fn source(members: &[Member]) -> Result<Endpoint> {
        let rules = SourceRules { any_replica: false, ..SourceRules::default() };
        let choice = choose_source(members, &rules, OnPrimary::Lock, Locking::Possible);
        Ok(choice.map_err(Error::from)?.endpoint)
    }

    fn refusal(members: Vec<Member>) -> String {
        let error = last_known(members, Some(&at(1)), &at(2)).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused);
        error.message
    }

    #[test]
    fn source_of_the_newest_backup_is_preferred_to_other_replicas() {
        for preferred in [2, 3] {
            let known = last_known(shard(), Some(&at(1)), &at(preferred)).unwrap();
            assert_eq!(source(&known).unwrap(), at(preferred));
        }
        let mut members = shard();
        members[1] = hung(2);
        let known = last_known(members, Some(&at(1)), &at(2)).unwrap();
        assert_eq!(source(&known).unwrap(), at(3));
    }

    #[test]
    fn primary_is_never_the_source() {
        let known = last_known(shard(), Some(&at(1)), &at(1)).unwrap();
        assert_ne!(source(&known).unwrap(), at(1));
        let alone = vec![primary(1, "A:1-9"), hung(2), hung(3)];
        let known = last_known(alone, Some(&at(1)), &at(2)).unwrap();
        let error = source(&known).unwrap_err();
        assert!(error.message.contains("while orchestrator has no quorum"), "{error}");
    }

    #[test]
    fn new_primary_is_accepted_if_the_last_known_one_answers_as_a_replica() {
        let members = vec![primary(2, "A:1-9,B:1"), replica(1, 2, "A:1-9"), replica(3, 2, "A:1-9,B:1")];
        let known = last_known(members, Some(&at(1)), &at(3)).unwrap();
        assert_eq!(source(&known).unwrap(), at(3));
    }

    #[test]
    fn two_writable_members_are_refused() {
        let mut members = shard();
        members[2] = with_state(members[2].clone(), |state| state.read_only = false);
        assert!(refusal(members.clone()).contains("db1:3306 and db3:3306 are writable"));
        members[2] = primary(3, "A:1-9,C:1");
        assert!(refusal(members).contains("db1:3306 and db3:3306 are writable"));
    }

    #[test]
    fn primary_that_cannot_be_asked_is_refused() {
        let mut members = shard();
        members[0] = hung(1);
        let told = refusal(members.clone());
        assert!(told.contains("db1:3306, the last known one, did not report its state"), "{told}");
        members[1] = primary(2, "A:1-9");
        members[2] = replica(3, 2, "A:1-9");
        assert!(refusal(members).contains("the last known one"), "it may accept writes beside the new one");
        let mut members = shard();
        members[0] = with_state(members[0].clone(), |state| state.read_only = true);
        assert!(refusal(members).contains("the primary cannot be asked"));
    }
}
