//! Cleanup after a failed rebuild.

use super::{CreatedInstance, DestroyProtection, EbsRecovery, EbsRecoveryDecision, Error, ErrorKind, Steps};

/// Destroys the resources of this recovery if no server can have started on them; otherwise leaves
/// them, and says so.
pub(super) async fn destroy_after(recovery: &EbsRecovery<'_>, steps: &mut Steps<'_>, error: Error) -> Error {
    let Ok(Some(decided)) = steps.output::<EbsRecoveryDecision>("decide") else { return error };
    if !steps.has_begun("apply") {
        return error;
    }
    if steps.has_begun("configure") {
        return leave_instance(recovery, steps, &decided, error);
    }
    if error.kind == ErrorKind::Interrupted {
        let hint =
            format!("the resources of {} remain: repeat the same command to resume", decided.recovery_id);
        return error.hint(hint);
    }
    match steps
        .again("destroy", recovery.infrastructure.destroy(&decided.instance_spec(DestroyProtection::Off)))
        .await
    {
        Ok(()) => with_cleanup_error(error, "its resources were destroyed; no server had started on them"),
        Err(undone) => with_cleanup_error(
            error,
            &format!(
                "the resources of recovery {} remain, because they could not be destroyed ({undone}): repeat the same command to resume",
                decided.recovery_id
            ),
        ),
    }
}

/// Returns the error for an instance that is left: a server may have started on it and accepted
/// writes, so only an operator decides about it.
fn leave_instance(
    recovery: &EbsRecovery<'_>,
    steps: &Steps<'_>,
    decided: &EbsRecoveryDecision,
    error: Error,
) -> Error {
    let instance = match steps.output::<CreatedInstance>("apply") {
        Ok(Some(made)) => format!("{} ({})", made.instance_id, made.server),
        _ => format!("the instance of recovery {}", decided.recovery_id),
    };
    with_cleanup_error(
        error,
        &format!(
            "{instance} is left unchanged, because a server may have started on it: repeat the same command to resume; its state and \
             logs are in {}",
            recovery.request.into.display()
        ),
    )
}

fn with_cleanup_error(error: Error, what: &str) -> Error {
    match &error.hint {
        Some(hint) => {
            let both = format!("{hint}; {what}");
            error.hint(both)
        }
        None => error.hint(what),
    }
}
