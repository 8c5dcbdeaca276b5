//! Chooses the instance to back up: the candidate primary if it is usable, else the best replica
//! (if the rules allow any), else the primary.

use std::cmp::Reverse;
use std::time::Duration;

use backstop_types::error::{Error, ErrorKind};
use backstop_types::freeze::OnPrimary;
use backstop_types::ids::Endpoint;
use backstop_types::topology::{
    InstanceState, Locking, Member, RejectedMember, Replication, Role, SourceChoice, SourceRules,
};

use super::primary::{current_primary, errant, primaries, silence_kind, states};
use super::replication_filters::lacks_by_filters;

/// Error: no member may be backed up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot choose a member to back up: {reason}")]
pub struct NoSource {
    /// [`ErrorKind::Denied`] if no member answered and at least one denied access,
    /// [`ErrorKind::Failed`] if no member answered, [`ErrorKind::Refused`] if those that answered
    /// may not be used.
    pub kind: ErrorKind,
    /// The reason in words, with that of every member.
    pub reason: String,
    /// Every member, with the reason for its rejection.
    pub rejected: Vec<RejectedMember>,
    /// The next step for the operator.
    pub advice: &'static str,
}

impl From<NoSource> for Error {
    fn from(none: NoSource) -> Self {
        Self::new(none.kind, none.to_string()).hint(none.advice)
    }
}

const DENIED_HINT: &str = "correct the shard's credentials or grants (docs/grants.md)";
const SILENT_HINT: &str =
    "correct the named problems; check that the members run and can be reached from this host";
const NO_PRIMARY_HINT: &str =
    "restart the primary or promote a member: a replica is backed up only while it follows a primary";
const RULES_HINT: &str =
    "correct the named problems, or relax a named rule of the shard (`source`, `freeze.on_primary`)";

/// Chooses the member to back up.
///
/// # Errors
/// Returns [`NoSource`] with the reason for every member. This includes the case that two members
/// behave as primaries, since the history of the shard is then ambiguous.
pub fn choose_source(
    members: &[Member],
    rules: &SourceRules,
    on_primary: OnPrimary,
    locking: Locking,
) -> Result<SourceChoice, NoSource> {
    let shard = ShardView::of(members)?;
    let (fit, rejected) = shard.judge_all(rules);
    let chosen = preferred_member(&fit, Role::Candidate)
        .or_else(|| preferred_member(&fit, Role::Replica))
        .or_else(|| preferred_member(&fit, Role::Primary));
    let forbidden = locking == Locking::Possible && on_primary == OnPrimary::Refuse;
    match chosen {
        Some(fit) if fit.role == Role::Primary && forbidden => {
            let reason =
                "it is the primary, and `freeze.on_primary = \"refuse\"` forbids locking it".to_owned();
            Err(no_source(members, with(rejected, RejectedMember { endpoint: fit.endpoint.clone(), reason })))
        }
        Some(fit) => Ok(choice(&shard, fit, rejected, locking)),
        None => Err(no_source(members, rejected)),
    }
}

/// Returns the other members that may be backed up, in the order of the members. One of them is the
/// source of the next backup if the chosen one is lost.
pub fn second_choices(
    members: &[Member],
    rules: &SourceRules,
    on_primary: OnPrimary,
    locking: Locking,
    chosen: &Endpoint,
) -> Vec<SourceChoice> {
    let Ok(shard) = ShardView::of(members) else { return Vec::new() };
    let forbidden = locking == Locking::Possible && on_primary == OnPrimary::Refuse;
    let (fit, _) = shard.judge_all(rules);
    let others = fit.iter().filter(|fit| fit.endpoint != chosen);
    let allowed = others.filter(|fit| fit.role != Role::Primary || !forbidden);
    allowed.map(|fit| choice(&shard, fit, Vec::new(), locking)).collect()
}

/// State of the whole shard.
struct ShardView<'a> {
    members: &'a [Member],
    primary: Option<(&'a Endpoint, &'a InstanceState)>,
}

/// A member that may be backed up.
struct EligibleMember<'a> {
    endpoint: &'a Endpoint,
    role: Role,
    state: &'a InstanceState,
    preference: usize,
}

impl<'a> ShardView<'a> {
    fn of(members: &'a [Member]) -> Result<Self, NoSource> {
        if primaries(members).count() < 2 {
            return Ok(Self { members, primary: primaries(members).next() });
        }
        let reason = current_primary(members).err().map_or_else(String::new, |error| error.message);
        let rejected = primaries(members)
            .map(|(endpoint, _)| RejectedMember {
                endpoint: endpoint.clone(),
                reason: "is one of several members that behave as the primary".to_owned(),
            })
            .collect();
        Err(NoSource { kind: ErrorKind::Refused, reason, rejected, advice: RULES_HINT })
    }

    fn judge_all(&self, rules: &SourceRules) -> (Vec<EligibleMember<'a>>, Vec<RejectedMember>) {
        let (mut fit, mut rejected) = (Vec::new(), Vec::new());
        for member in self.members {
            match self.judge(member, rules) {
                Ok(one) => fit.push(one),
                Err(reason) => rejected.push(RejectedMember { endpoint: member.endpoint.clone(), reason }),
            }
        }
        (fit, rejected)
    }

    fn judge(&self, member: &'a Member, rules: &SourceRules) -> Result<EligibleMember<'a>, String> {
        let role = self.role(member);
        let state = member.state.as_ref().map_err(ToString::to_string)?;
        let verdict = &member.verdict;
        let own = unfit(state).or_else(|| self.unusable(role, state, rules));
        match own.or_else(|| verdict.objection.clone()) {
            Some(reason) => Err(reason),
            None => {
                Ok(EligibleMember { endpoint: &member.endpoint, role, state, preference: verdict.preference })
            }
        }
    }

    /// Explains why the candidate was not chosen.
    fn why_no_candidate(&self, rejected: &[RejectedMember]) -> String {
        let candidates = self.members.iter().filter(|member| member.candidate);
        let reasons: Vec<String> = candidates
            .map(|candidate| match rejected.iter().find(|r| r.endpoint == candidate.endpoint) {
                Some(rejection) => format!("candidate {}", described(rejection)),
                None => format!("candidate {} is the primary now", candidate.endpoint),
            })
            .collect();
        if reasons.is_empty() { "no candidate is configured".to_owned() } else { reasons.join("; ") }
    }

    fn is_candidate(&self, endpoint: &Endpoint) -> bool {
        self.members.iter().any(|member| member.candidate && member.endpoint == *endpoint)
    }

    fn role(&self, member: &Member) -> Role {
        match self.primary {
            Some((endpoint, _)) if *endpoint == member.endpoint => Role::Primary,
            _ if member.candidate => Role::Candidate,
            _ => Role::Replica,
        }
    }

    /// Explains why a fit instance may not be used in its role.
    fn unusable(&self, role: Role, state: &InstanceState, rules: &SourceRules) -> Option<String> {
        let lacks = lacks_by_filters(self.members, state);
        if role == Role::Primary {
            return lacks;
        }
        if role == Role::Replica && !rules.any_replica {
            return Some("it is not the candidate and `source.any_replica` is false".to_owned());
        }
        let Some(channel) = &state.replication else {
            return Some("it neither replicates nor accepts writes".to_owned());
        };
        not_replicating(channel)
            .or_else(|| self.outside(channel))
            .or(lacks)
            .or_else(|| lags(channel, rules.max_lag))
            .or_else(|| self.errant(state))
    }

    /// Reports a source that is not among the members. Returns `None` while a member is silent,
    /// since that member may be the source under another name.
    fn outside(&self, channel: &Replication) -> Option<String> {
        let listed = self.members.iter().any(|member| member.endpoint == channel.source);
        let known = states(self.members).any(|(_, state)| Some(state.server_uuid) == channel.source_uuid);
        let all_answered = self.members.iter().all(|member| member.state.is_ok());
        (!listed && !known && all_answered)
            .then(|| format!("it replicates from {}, which is not a member of the shard", channel.source))
    }

    fn errant(&self, state: &InstanceState) -> Option<String> {
        let (endpoint, primary) = self.primary?;
        let errant = errant(&state.gtid_executed, primary);
        (!errant.is_empty()).then(|| {
            let count = errant.count();
            format!("it has {count} errant transactions that the primary {endpoint} lacks: {errant}")
        })
    }
}

/// Explains why an instance cannot be backed up in any role.
fn unfit(state: &InstanceState) -> Option<String> {
    if state.version.is_mariadb() {
        return Some(format!("it is MariaDB ({}), which is not supported", state.version));
    }
    if !state.version.is_supported() {
        return Some(format!("its version {} is below 8.0.17", state.version));
    }
    (!state.gtid_mode_on).then(|| "its `gtid_mode` is not ON".to_owned())
}

fn not_replicating(channel: &Replication) -> Option<String> {
    let stopped = match (channel.io_running, channel.sql_running) {
        (true, true) => {
            let by_position = "it replicates by file and position instead of auto-position";
            return (!channel.auto_position).then(|| by_position.to_owned());
        }
        (false, true) => "its receiver thread is not running",
        (true, false) => "its applier thread is not running",
        (false, false) => "its replication threads are not running",
    };
    Some(channel.last_error.as_ref().map_or(stopped.to_owned(), |error| format!("{stopped}: {error}")))
}

fn lags(channel: &Replication, max_lag: Duration) -> Option<String> {
    if !channel.delay.is_zero() {
        return Some(format!("its replication delay is set to {} s", channel.delay.as_secs()));
    }
    match channel.lag {
        None => Some("its lag is unknown (Seconds_Behind_Source is NULL)".to_owned()),
        Some(lag) => {
            (lag > max_lag).then(|| format!("it lags {} s (limit {} s)", lag.as_secs(), max_lag.as_secs()))
        }
    }
}

/// Chooses among the members of this role: the preferred one, then by least lag, most transactions,
/// and first name.
fn preferred_member<'a, 'b>(fit: &'b [EligibleMember<'a>], role: Role) -> Option<&'b EligibleMember<'a>> {
    fit.iter().filter(|one| one.role == role).min_by_key(|one| {
        let lag = one.state.replication.as_ref().and_then(|channel| channel.lag);
        (one.preference, lag, Reverse(one.state.gtid_executed.count()), one.endpoint)
    })
}

fn choice(
    shard: &ShardView<'_>,
    fit: &EligibleMember<'_>,
    rejected: Vec<RejectedMember>,
    locking: Locking,
) -> SourceChoice {
    let (endpoint, role) = (fit.endpoint.clone(), fit.role);
    let mut reason = match role {
        Role::Candidate => {
            let others = rejected.iter().filter(|r| shard.is_candidate(&r.endpoint)).map(described);
            with(others.collect(), format!("candidate {endpoint} is usable"))
                .into_iter()
                .rev()
                .collect::<Vec<_>>()
                .join("; ")
        }
        Role::Replica => format!("best replica {endpoint}: {}", shard.why_no_candidate(&rejected)),
        Role::Primary => {
            let others = rejected.iter().filter(|r| !shard.is_candidate(&r.endpoint)).map(described);
            let all = with(others.collect(), shard.why_no_candidate(&rejected));
            format!("primary {endpoint}: {}", all.into_iter().rev().collect::<Vec<_>>().join("; "))
        }
    };
    match (role, locking) {
        (Role::Primary, Locking::Never) => reason.push_str("; no lock is taken on it"),
        (Role::Primary, Locking::Possible) => reason.push_str("; its writes may be held for the freeze"),
        _ if shard.primary.is_none() => {
            reason.push_str("; no primary answered, so errant transactions could not be detected");
        }
        _ => {}
    }
    let primary = shard.primary.map(|(endpoint, _)| endpoint.clone());
    let servers = states(shard.members).map(|(_, state)| state.server_uuid).collect();
    let members = shard.members.iter().map(|member| member.endpoint.clone()).collect();
    SourceChoice { endpoint, state: fit.state.clone(), role, reason, rejected, servers, primary, members }
}

fn described(rejection: &RejectedMember) -> String {
    format!("{} was rejected: {}", rejection.endpoint, rejection.reason)
}

fn no_source(members: &[Member], rejected: Vec<RejectedMember>) -> NoSource {
    let answered = states(members).next().is_some();
    let kind = if answered { ErrorKind::Refused } else { silence_kind(members) };
    let reasons: Vec<String> = rejected.iter().map(|r| format!("{}: {}", r.endpoint, r.reason)).collect();
    let reason = if reasons.is_empty() { "the shard has no members".to_owned() } else { reasons.join("; ") };
    let advice = match kind {
        ErrorKind::Denied => DENIED_HINT,
        ErrorKind::Failed => SILENT_HINT,
        _ if primaries(members).next().is_none() => NO_PRIMARY_HINT,
        _ => RULES_HINT,
    };
    NoSource { kind, reason, rejected, advice }
}

fn with<T>(mut list: Vec<T>, one: T) -> Vec<T> {
    list.push(one);
    list
}
