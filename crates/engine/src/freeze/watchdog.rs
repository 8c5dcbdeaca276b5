//! Watchdog: on a separate connection, ends the session that freezes when a time limit passes, or
//! when the freezing task is gone without a thaw.

use std::time::Duration;

use tokio::sync::mpsc;

use super::FreezeSession;
use crate::ports::Host;

/// Kills a session unless it receives the order to stand down in time. Dropping it means that no
/// thaw can follow: then it kills the session immediately, even while that still waits for its
/// lock.
pub(super) struct Watchdog {
    orders: mpsc::UnboundedSender<WatchdogOrder>,
}

enum WatchdogOrder {
    Hold(Duration),
    StandDown,
}

impl Watchdog {
    /// Starts to watch session `id`. Without an order it waits.
    pub(super) fn start(session: Box<dyn FreezeSession>, id: u64, host: &Host) -> Self {
        let (orders, received) = mpsc::unbounded_channel();
        // Detached: it kills the session when its orders end with the task that freezes.
        drop(host.spawn(watch(session, id, host.clone(), received)));
        Self { orders }
    }

    /// Allows the session to live for `bound` from now.
    pub(super) fn hold(&self, bound: Duration) {
        let _ = self.orders.send(WatchdogOrder::Hold(bound));
    }

    /// Ends the watch, since the session has been thawed.
    pub(super) fn stand_down(self) {
        let _ = self.orders.send(WatchdogOrder::StandDown);
    }
}

async fn watch(
    mut session: Box<dyn FreezeSession>,
    id: u64,
    host: Host,
    mut orders: mpsc::UnboundedReceiver<WatchdogOrder>,
) {
    let mut bound = None;
    loop {
        let order = match bound {
            None => orders.recv().await,
            Some(bound) => tokio::select! {
                // The order first: one that came in time counts.
                biased;
                order = orders.recv() => order,
                () = host.clock.sleep(bound) => None,
            },
        };
        match order {
            Some(WatchdogOrder::Hold(next)) => bound = Some(next),
            Some(WatchdogOrder::StandDown) => return,
            None => break,
        }
    }
    if let Err(error) = session.kill_session(id).await {
        // The server itself drops the session when it has been idle for the limit.
        tracing::warn!(fault = %error, "the watchdog cannot end the freeze session");
    }
}
