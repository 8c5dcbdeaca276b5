//! What becomes of an instance when its rebuild fails.

use super::{Decided, Fault, Kind, Made, Protection, Rebuild, Steps};

/// Destroys what this recovery has made if no server can have started on it; else leaves it, and says so.
pub(super) async fn after(r: &Rebuild<'_>, steps: &mut Steps<'_>, fault: Fault) -> Fault {
    let Ok(Some(decided)) = steps.output::<Decided>("decide") else { return fault };
    if !steps.has_begun("apply") {
        return fault;
    }
    if steps.has_begun("configure") {
        return left(r, steps, &decided, fault);
    }
    if fault.kind == Kind::Interrupted {
        let hint =
            format!("what was made for {} is left: the same command goes on with it", decided.recovery_id);
        return fault.hint(hint);
    }
    match steps.again("destroy", r.infrastructure.destroy(&decided.wanted(Protection::Off))).await {
        Ok(()) => with(fault, "what was made for it was destroyed; no server had started on it"),
        Err(undone) => with(
            fault,
            &format!(
                "what was made for recovery {} is left, since it could not be destroyed ({undone}): the same command goes on with it",
                decided.recovery_id
            ),
        ),
    }
}

/// A server may have started on it, and may have been written to: only a person decides what becomes of it.
fn left(r: &Rebuild<'_>, steps: &Steps<'_>, decided: &Decided, fault: Fault) -> Fault {
    let instance = match steps.output::<Made>("apply") {
        Ok(Some(made)) => format!("{} ({})", made.instance_id, made.server),
        _ => format!("the instance of recovery {}", decided.recovery_id),
    };
    with(
        fault,
        &format!(
            "{instance} is left as it is, since a server may have started on it: the same command goes on with it; its state and \
             logs are in {}",
            r.request.into.display()
        ),
    )
}

fn with(fault: Fault, what: &str) -> Fault {
    match &fault.hint {
        Some(hint) => {
            let both = format!("{hint}; {what}");
            fault.hint(both)
        }
        None => fault.hint(what),
    }
}
