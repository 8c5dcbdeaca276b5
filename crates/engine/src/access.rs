//! How a shard's servers are logged in to: with credentials that are read again when a server refuses them, so that who changes a password
//! need not restart what runs for months, and what runs for months does not lock an account by its logins.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backstop_model::credentials::Credentials;
use backstop_model::fault::{Fault, Kind, Result};

use crate::world::World;

/// After a refusal the credentials are read this often, at the most.
const READ: Duration = Duration::from_secs(5);
/// So many logins of an account may be refused by a server before it is left in peace for longer.
const ATTEMPTS: u32 = 3;
const SOON: Duration = Duration::from_secs(2);
const LATER: Duration = Duration::from_secs(10);
const LATEST: Duration = Duration::from_secs(60);

/// The credentials of a shard, for parts that live long.
pub struct Access {
    read: Box<dyn Fn() -> Result<Credentials> + Send + Sync>,
    world: World,
    state: Mutex<State>,
}

struct State {
    current: Credentials,
    read_at: Duration,
    /// Servers that refused the current ones.
    refused: BTreeMap<String, Refused>,
}

struct Refused {
    times: u32,
    at: Duration,
    fault: Fault,
}

/// An error that may say that a login was refused.
pub trait MayBeRefused {
    /// The refusal, if it is one.
    fn refusal(&self) -> Option<Fault>;
    /// The same refusal once more, of a login there that is not tried yet.
    fn refused(there: &str, fault: Fault) -> Self;
}

impl MayBeRefused for Fault {
    fn refusal(&self) -> Option<Fault> {
        (self.kind == Kind::Denied).then(|| self.clone())
    }

    fn refused(_: &str, fault: Fault) -> Self {
        fault
    }
}

impl Access {
    /// Reads the credentials.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn new(read: impl Fn() -> Result<Credentials> + Send + Sync + 'static, world: World) -> Result<Self> {
        let state = State { current: read()?, read_at: world.clock.monotonic(), refused: BTreeMap::new() };
        Ok(Self { read: Box::new(read), world, state: Mutex::new(state) })
    }

    /// Credentials that stay as they are.
    pub fn of(credentials: Credentials, world: World) -> Self {
        let (current, read_at) = (credentials.clone(), world.clock.monotonic());
        let state = State { current, read_at, refused: BTreeMap::new() };
        Self { read: Box::new(move || Ok(credentials.clone())), world, state: Mutex::new(state) }
    }

    /// The credentials that were read last.
    pub fn current(&self) -> Credentials {
        self.state().current.clone()
    }

    /// Reads them again; what cannot be read leaves those that are known.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub fn renew(&self) -> Result<()> {
        let read = (self.read)();
        let mut state = self.state();
        state.read_at = self.world.clock.monotonic();
        let fresh = read?;
        if !fresh.logs_in_like(&state.current) {
            self.world.reporter.notice("the credentials have changed: they were read again");
            state.refused.clear();
        }
        state.current = fresh;
        Ok(())
    }

    /// Logs in somewhere. A refusal has the credentials read again: if they have changed, the login is tried once more at once. If not, it is
    /// tried again seconds later, [`ATTEMPTS`] times, and then ever less often; meanwhile the last refusal is the answer, unless other
    /// credentials are read. `there` names server and account.
    ///
    /// # Errors
    /// Those of `attempt`.
    pub async fn log_in<T, E, F>(&self, there: &str, attempt: impl Fn(Credentials) -> F) -> Result<T, E>
    where
        E: MayBeRefused,
        F: Future<Output = Result<T, E>>,
    {
        let mut tried = self.admitted(there).map_err(|fault| E::refused(there, fault))?;
        let mut answer = attempt(tried.clone()).await;
        if let Some(fault) = answer.as_ref().err().and_then(E::refusal)
            && let Some(newer) = self.refused(there, &tried, fault)
        {
            tried = newer;
            answer = attempt(tried.clone()).await;
            if let Some(fault) = answer.as_ref().err().and_then(E::refusal) {
                self.refused(there, &tried, fault);
            }
        }
        if answer.is_ok() {
            self.state().refused.remove(there);
        }
        answer
    }

    /// The credentials to log in with now, or the last refusal.
    fn admitted(&self, there: &str) -> Result<Credentials> {
        let now = self.world.clock.monotonic();
        let due = {
            let state = self.state();
            match state.refused.get(there) {
                Some(refused) if now < refused.at + pause(refused.times) => now >= state.read_at + READ,
                _ => return Ok(state.current.clone()),
            }
        };
        if due {
            // That they cannot be read was told with the refusal.
            let _ = self.renew();
        }
        let state = self.state();
        match state.refused.get(there) {
            Some(refused) => Err(refused.fault.clone()),
            None => Ok(state.current.clone()),
        }
    }

    /// Takes note of a refusal. Gives other credentials than those that were refused, if there are.
    fn refused(&self, there: &str, tried: &Credentials, mut fault: Fault) -> Option<Credentials> {
        if let Err(unread) = self.renew() {
            fault.message = format!("{}; the credentials cannot be read again: {unread}", fault.message);
        }
        let at = self.world.clock.monotonic();
        let mut state = self.state();
        if !state.current.logs_in_like(tried) {
            return Some(state.current.clone());
        }
        let times = state.refused.get(there).map_or(0, |refused| refused.times) + 1;
        state.refused.insert(there.to_owned(), Refused { times, at, fault });
        None
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of it is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Access").field(&self.state().current).finish()
    }
}

/// The time for which a server that refused a login this many times is left in peace.
fn pause(times: u32) -> Duration {
    if times < ATTEMPTS { SOON } else { (LATER * 2_u32.pow((times - ATTEMPTS).min(5))).min(LATEST) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    use async_trait::async_trait;
    use backstop_model::progress::Progress;
    use chrono::{DateTime, Utc};

    use super::*;
    use crate::ports::{Clock, Faults, Reporter};

    /// Seconds that pass when a test says so.
    #[derive(Default)]
    struct Plain(AtomicU64);

    #[async_trait]
    impl Clock for Plain {
        fn now(&self) -> DateTime<Utc> {
            DateTime::UNIX_EPOCH
        }
        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::SeqCst))
        }
        async fn sleep(&self, _: Duration) {}
        fn random(&self) -> u64 {
            0
        }
    }

    impl Reporter for Plain {
        fn step(&self, _: &'static str) {}
        fn progress(&self, _: Progress) {}
        fn notice(&self, _: &str) {}
    }

    impl Faults for Plain {
        fn reach(&self, _: &str) {}
    }

    /// A server that takes one password, and the file that credentials are read from.
    struct Setting {
        clock: Arc<Plain>,
        file: Arc<Mutex<&'static str>>,
        server: Mutex<&'static str>,
        logins: AtomicU32,
        access: Access,
    }

    impl Setting {
        fn new() -> Self {
            let (clock, file) = (Arc::new(Plain::default()), Arc::new(Mutex::new("old")));
            let (_, stop) = tokio::sync::watch::channel(false);
            let plain = Arc::new(Plain::default());
            let world = World { clock: clock.clone(), reporter: plain.clone(), faults: plain, stop };
            let read = Arc::clone(&file);
            let read = move || {
                let text = format!("user = 'b'\npassword = '{}'", read.lock().unwrap());
                Ok(Credentials::parse(&text, "f").unwrap())
            };
            let access = Access::new(read, world).unwrap();
            Self { clock, file, server: Mutex::new("old"), logins: AtomicU32::new(0), access }
        }

        async fn log_in(&self) -> Result<()> {
            let attempt = |credentials: Credentials| async move {
                self.logins.fetch_add(1, Ordering::SeqCst);
                let wanted = Credentials::parse(
                    &format!("user = 'b'\npassword = '{}'", self.server.lock().unwrap()),
                    "f",
                );
                let right = credentials.logs_in_like(&wanted.unwrap());
                if right { Ok(()) } else { Err(Fault::new(Kind::Denied, "access denied")) }
            };
            self.access.log_in("b at db1", attempt).await
        }

        fn pass(&self, seconds: u64) {
            self.clock.0.fetch_add(seconds, Ordering::SeqCst);
        }

        fn logins(&self) -> u32 {
            self.logins.swap(0, Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn a_password_that_was_changed_is_read_at_the_refusal() {
        let s = Setting::new();
        assert_eq!((s.log_in().await.is_ok(), s.logins()), (true, 1));
        (*s.file.lock().unwrap(), *s.server.lock().unwrap()) = ("new", "new");
        assert_eq!((s.log_in().await.is_ok(), s.logins()), (true, 2));
        assert_eq!((s.log_in().await.is_ok(), s.logins()), (true, 1));
    }

    #[tokio::test]
    async fn logins_that_are_refused_become_seldom_until_the_file_changes() {
        let s = Setting::new();
        *s.server.lock().unwrap() = "new";
        for _ in 0..600 {
            assert!(s.log_in().await.is_err());
            s.pass(1);
        }
        let logins = s.logins();
        assert!((10..15).contains(&logins), "{logins} logins in ten minutes");
        *s.file.lock().unwrap() = "new";
        s.pass(5);
        assert_eq!((s.log_in().await.is_ok(), s.logins()), (true, 1), "at once");
    }

    #[tokio::test]
    async fn the_server_may_be_changed_after_the_file() {
        let s = Setting::new();
        *s.file.lock().unwrap() = "new";
        s.access.renew().unwrap();
        assert!(s.log_in().await.is_err());
        *s.server.lock().unwrap() = "new";
        assert!(s.log_in().await.is_err());
        s.pass(2);
        assert!(s.log_in().await.is_ok());
    }
}
