//! Shared credentials of a shard's servers. They are read again when a server refuses them, so that
//! a changed password needs no restart of a process that runs for months, and repeated logins of
//! that process do not lock an account.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backstop_config::credentials::Credentials;
use backstop_types::error::{Error, ErrorKind, Result};

use crate::context::RunContext;

/// Shortest interval between two reads of the credentials after refusals.
const REREAD_INTERVAL: Duration = Duration::from_secs(5);
/// Number of refused logins of an account at a server before the retries slow down.
const QUICK_ATTEMPTS: u32 = 3;
const FIRST_BACKOFF: Duration = Duration::from_secs(2);
const LATER_BACKOFF: Duration = Duration::from_secs(10);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// Credentials of a shard, for long-lived components.
pub struct SharedCredentials {
    read: Box<dyn Fn() -> Result<Credentials> + Send + Sync>,
    ctx: RunContext,
    state: Mutex<CachedCredentials>,
}

struct CachedCredentials {
    current: Credentials,
    read_at: Duration,
    /// Servers that refused the current credentials.
    refused: BTreeMap<String, Refusals>,
}

struct Refusals {
    times: u32,
    at: Duration,
    error: Error,
}

/// An error that may be a refused login.
pub trait LoginError {
    /// Returns the refusal, if it is one.
    fn refusal(&self) -> Option<Error>;
    /// Returns the same refusal again, for a login that is not tried yet.
    fn refused(there: &str, error: Error) -> Self;
}

impl LoginError for Error {
    fn refusal(&self) -> Option<Error> {
        (self.kind == ErrorKind::Denied).then(|| self.clone())
    }

    fn refused(_: &str, error: Error) -> Self {
        error
    }
}

impl SharedCredentials {
    /// Reads the credentials.
    ///
    /// # Errors
    /// Returns those of `read`.
    pub fn new(
        read: impl Fn() -> Result<Credentials> + Send + Sync + 'static,
        ctx: RunContext,
    ) -> Result<Self> {
        let state = CachedCredentials {
            current: read()?,
            read_at: ctx.host.clock.monotonic(),
            refused: BTreeMap::new(),
        };
        Ok(Self { read: Box::new(read), ctx, state: Mutex::new(state) })
    }

    /// Returns credentials that never change.
    pub fn of(credentials: Credentials, ctx: RunContext) -> Self {
        let (current, read_at) = (credentials.clone(), ctx.host.clock.monotonic());
        let state = CachedCredentials { current, read_at, refused: BTreeMap::new() };
        Self { read: Box::new(move || Ok(credentials.clone())), ctx, state: Mutex::new(state) }
    }

    /// Returns the credentials that were read last.
    pub fn current(&self) -> Credentials {
        self.state().current.clone()
    }

    /// Reads the credentials again; if that fails, the known ones stay.
    ///
    /// # Errors
    /// Returns the reason why they cannot be read.
    pub fn reread(&self) -> Result<()> {
        let read = (self.read)();
        let mut state = self.state();
        state.read_at = self.ctx.host.clock.monotonic();
        let fresh = read?;
        if !fresh.logs_in_like(&state.current) {
            self.ctx.reporter.notice("the credentials have changed and were read again");
            state.refused.clear();
        }
        state.current = fresh;
        Ok(())
    }

    /// Logs in to a server. After a refusal it reads the credentials again: if they have changed,
    /// it retries the login immediately. Otherwise later calls retry it after some seconds,
    /// [`QUICK_ATTEMPTS`] times, and then at growing intervals; in between they return the last
    /// refusal, unless other credentials are read. `there` names server and account.
    ///
    /// # Errors
    /// Returns those of `attempt`.
    pub async fn log_in<T, E, F>(&self, there: &str, attempt: impl Fn(Credentials) -> F) -> Result<T, E>
    where
        E: LoginError,
        F: Future<Output = Result<T, E>>,
    {
        let mut tried = self.credentials_for(there).map_err(|error| E::refused(there, error))?;
        let mut answer = attempt(tried.clone()).await;
        if let Some(error) = answer.as_ref().err().and_then(E::refusal)
            && let Some(newer) = self.refused(there, &tried, error)
        {
            tried = newer;
            answer = attempt(tried.clone()).await;
            if let Some(error) = answer.as_ref().err().and_then(E::refusal) {
                self.refused(there, &tried, error);
            }
        }
        if answer.is_ok() {
            self.state().refused.remove(there);
        }
        answer
    }

    /// Returns the credentials for a login now, or the last refusal.
    fn credentials_for(&self, there: &str) -> Result<Credentials> {
        let now = self.ctx.host.clock.monotonic();
        let due = {
            let state = self.state();
            match state.refused.get(there) {
                Some(refused) if now < refused.at + backoff(refused.times) => {
                    now >= state.read_at + REREAD_INTERVAL
                }
                _ => return Ok(state.current.clone()),
            }
        };
        if due {
            // A failure to read them was reported with the refusal.
            let _ = self.reread();
        }
        let state = self.state();
        match state.refused.get(there) {
            Some(refused) => Err(refused.error.clone()),
            None => Ok(state.current.clone()),
        }
    }

    /// Records a refusal. Returns other credentials than the refused ones, if they exist.
    fn refused(&self, there: &str, tried: &Credentials, mut error: Error) -> Option<Credentials> {
        if let Err(unread) = self.reread() {
            error.message = format!("{}; cannot read the credentials again: {unread}", error.message);
        }
        let at = self.ctx.host.clock.monotonic();
        let mut state = self.state();
        if !state.current.logs_in_like(tried) {
            return Some(state.current.clone());
        }
        let times = state.refused.get(there).map_or(0, |refused| refused.times) + 1;
        state.refused.insert(there.to_owned(), Refusals { times, at, error });
        None
    }

    fn state(&self) -> MutexGuard<'_, CachedCredentials> {
        // Each change of the state is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SharedCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Access").field(&self.state().current).finish()
    }
}

/// Returns the time without logins at a server that refused this many.
fn backoff(times: u32) -> Duration {
    if times < QUICK_ATTEMPTS {
        FIRST_BACKOFF
    } else {
        (LATER_BACKOFF * 2_u32.pow((times - QUICK_ATTEMPTS).min(5))).min(LONGEST_BACKOFF)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    use async_trait::async_trait;
    use backstop_types::progress::Progress;
    use chrono::{DateTime, Utc};

    use super::*;
    use crate::ports::{Clock, Failpoints, Host, Reporter};

    /// A clock that a test advances.
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
    }

    impl Reporter for Plain {
        fn step(&self, _: &'static str) {}
        fn progress(&self, _: Progress) {}
        fn notice(&self, _: &str) {}
    }

    impl Failpoints for Plain {
        fn reach(&self, _: &str) {}
    }

    /// A server that accepts one password, and the file that credentials are read from.
    struct Setting {
        clock: Arc<Plain>,
        file: Arc<Mutex<&'static str>>,
        server: Mutex<&'static str>,
        logins: AtomicU32,
        access: SharedCredentials,
    }

    impl Setting {
        fn new() -> Self {
            let (clock, file) = (Arc::new(Plain::default()), Arc::new(Mutex::new("old")));
            let (_, stop) = tokio::sync::watch::channel(false);
            let plain = Arc::new(Plain::default());
            let host = Host { clock: clock.clone(), ..Host::system() };
            let ctx = RunContext { host, reporter: plain.clone(), failpoints: plain, stop };
            let read = Arc::clone(&file);
            let read = move || {
                let text = format!("user = 'b'\npassword = '{}'", read.lock().unwrap());
                Ok(Credentials::parse(&text, "f").unwrap())
            };
            let access = SharedCredentials::new(read, ctx).unwrap();
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
                if right { Ok(()) } else { Err(Error::new(ErrorKind::Denied, "access denied")) }
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
    async fn changed_password_is_read_after_login_is_refused() {
        let setting = Setting::new();
        assert_eq!((setting.log_in().await.is_ok(), setting.logins()), (true, 1));
        (*setting.file.lock().unwrap(), *setting.server.lock().unwrap()) = ("new", "new");
        assert_eq!((setting.log_in().await.is_ok(), setting.logins()), (true, 2));
        assert_eq!((setting.log_in().await.is_ok(), setting.logins()), (true, 1));
    }

    #[tokio::test]
    async fn refused_logins_are_throttled_until_credentials_change() {
        let setting = Setting::new();
        *setting.server.lock().unwrap() = "new";
        for _ in 0..600 {
            assert!(setting.log_in().await.is_err());
            setting.pass(1);
        }
        let logins = setting.logins();
        assert!((10..15).contains(&logins), "{logins} logins in ten minutes");
        *setting.file.lock().unwrap() = "new";
        setting.pass(5);
        assert_eq!((setting.log_in().await.is_ok(), setting.logins()), (true, 1), "at once");
    }

    #[tokio::test]
    async fn login_succeeds_when_server_changes_after_the_file() {
        let setting = Setting::new();
        *setting.file.lock().unwrap() = "new";
        setting.access.reread().unwrap();
        assert!(setting.log_in().await.is_err());
        *setting.server.lock().unwrap() = "new";
        assert!(setting.log_in().await.is_err());
        setting.pass(2);
        assert!(setting.log_in().await.is_ok());
    }
}
