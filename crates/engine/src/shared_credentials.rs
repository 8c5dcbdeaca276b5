//! Shared credentials of a shard's servers. They are read again when a server refuses them, so that
//! a changed password needs no restart and no second run, and the logins of one process do not lock
//! an account.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backstop_binlog::login_error::is_wrong_password;
use backstop_config::credentials::Credentials;
use backstop_types::error::{Error, ErrorKind, Result};

use crate::context::RunContext;

/// Interval between two reads of the credentials after a refusal.
const REREAD_INTERVAL: Duration = Duration::from_secs(5);
/// Number of reads after the refusal of a login that waits.
const REREADS: u32 = 3;
/// Number of wrong passwords in a row that unchanged credentials may cause at one server: a server
/// that locks accounts (`FAILED_LOGIN_ATTEMPTS`) counts them until a login succeeds. One is left
/// for credentials that change.
const SAFE_FAILURES: u32 = 2;
/// Time before unchanged credentials are tried a second time: the server may change after them.
const SECOND_TRY_AFTER: Duration = Duration::from_secs(10);
/// Time between two later tries of a wrong password.
const LATE_TRY_AFTER: Duration = Duration::from_secs(30 * 60);
/// Limit for the tries of one login, whatever the secret's answers are.
const TRIES: u32 = 4;
/// Number of other refusals (a locked account, a host without account) before the retries slow
/// down. Servers do not count them.
const QUICK_ATTEMPTS: u32 = 3;
const FIRST_BACKOFF: Duration = Duration::from_secs(2);
const LATER_BACKOFF: Duration = Duration::from_secs(10);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// Credentials of a shard, shared by everything in a process that logs in to its servers.
pub struct SharedCredentials {
    cache: Arc<CredentialCache>,
    ctx: RunContext,
    refusals: OnRefusal,
}

/// Answer to a refused login while the secret still gives the refused credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnRefusal {
    /// Wait for other credentials for some seconds.
    Wait,
    /// Fail at once: the caller tries again later.
    Fail,
}

struct CredentialCache {
    read: Box<dyn Fn() -> Result<Credentials> + Send + Sync>,
    state: Mutex<CachedCredentials>,
}

struct CachedCredentials {
    current: Credentials,
    read_at: Duration,
    reads: u64,
    /// The refusals of each server since its last accepted login with the current credentials.
    refused: BTreeMap<String, Refusals>,
    /// Credentials that each server accepted last.
    accepted: BTreeMap<String, Credentials>,
}

/// Refusals at one server.
struct Refusals {
    /// Wrong passwords since the last accepted login.
    failures: u32,
    /// Refusals of the current credentials.
    times: u32,
    at: Duration,
    wrong_password: bool,
    error: Error,
}

/// Next step of a login.
enum Turn {
    Try(Box<Credentials>),
    Refused(Error),
}

/// An error that may be a refused login.
pub trait LoginError {
    /// Returns the refusal, if it is one.
    fn refusal(&self) -> Option<Error>;
    /// Returns a refusal as this kind of error.
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
        let current = read()?;
        Ok(Self::starting_with(current, read, ctx))
    }

    /// Starts with credentials that `read` has just returned.
    pub fn starting_with(
        current: Credentials,
        read: impl Fn() -> Result<Credentials> + Send + Sync + 'static,
        ctx: RunContext,
    ) -> Self {
        let (refused, accepted) = (BTreeMap::new(), BTreeMap::new());
        let read_at = ctx.host.clock.monotonic();
        let state = CachedCredentials { current, read_at, reads: 0, refused, accepted };
        let cache = CredentialCache { read: Box::new(read), state: Mutex::new(state) };
        Self { cache: Arc::new(cache), ctx, refusals: OnRefusal::Wait }
    }

    /// Returns credentials that never change.
    pub fn of(credentials: Credentials, ctx: RunContext) -> Self {
        let mut of = Self::starting_with(credentials.clone(), move || Ok(credentials.clone()), ctx);
        of.refusals = OnRefusal::Fail;
        of
    }

    /// Returns the same credentials for a process that tries again by itself: a refused login does
    /// not wait for other credentials.
    #[must_use]
    pub fn without_waits(&self) -> Self {
        Self { cache: Arc::clone(&self.cache), ctx: self.ctx.clone(), refusals: OnRefusal::Fail }
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
        let read = (self.cache.read)();
        let mut state = self.state();
        state.read_at = self.now();
        state.reads += 1;
        let fresh = read?;
        if !fresh.logs_in_like(&state.current) {
            self.ctx.reporter.notice("the credentials have changed and were read again");
            state.refused.values_mut().for_each(|refused| refused.times = 0);
        }
        state.current = fresh;
        Ok(())
    }

    /// Logs in to a server. `there` names the server, and the account if it is not the main one.
    ///
    /// After a refusal the credentials are read again; changed ones are tried at once. Where they
    /// have not changed, a login with those that the server accepted last is tried: a replica gets
    /// a new password later than its primary. A run that waits then reads them twice more, seconds
    /// apart, and tries unchanged ones once more at the end.
    ///
    /// Unchanged credentials with a wrong password are tried twice at a server, then each
    /// [`LATE_TRY_AFTER`]. In between, a login reads the credentials, at most each
    /// [`REREAD_INTERVAL`], and returns the last refusal.
    ///
    /// # Errors
    /// Returns those of `attempt`.
    pub async fn log_in<T, E, F>(&self, there: &str, attempt: impl Fn(Credentials) -> F) -> Result<T, E>
    where
        E: LoginError,
        F: Future<Output = Result<T, E>>,
    {
        let (mut tries, mut waits) = (0, 0);
        loop {
            let reads = self.state().reads;
            let error = match self.turn(there) {
                Turn::Try(credentials) if tries < TRIES => {
                    tries += 1;
                    let answer = attempt((*credentials).clone()).await;
                    let Some(error) = answer.as_ref().err().and_then(E::refusal) else {
                        if answer.is_ok() {
                            self.accepted(there, *credentials);
                        }
                        return answer;
                    };
                    if self.refused(there, &credentials, &error, reads) {
                        continue;
                    }
                    error
                }
                Turn::Try(_) => Error::new(ErrorKind::Denied, format!("cannot log in as {there}")),
                Turn::Refused(error) => error,
            };
            waits += 1;
            if waits == REREADS || !self.waits_for(there, &error, tries) {
                return Err(E::refused(there, self.last_refusal(there, error)));
            }
            self.ctx.host.clock.sleep(REREAD_INTERVAL).await;
        }
    }

    /// Decides the next step of a login at this server.
    fn turn(&self, there: &str) -> Turn {
        let now = self.now();
        let due = {
            let state = self.state();
            state.refused.contains_key(there) && now >= state.read_at + REREAD_INTERVAL
        };
        if due {
            // The refusal says it if they cannot be read.
            let _ = self.reread();
        }
        let mut state = self.state();
        let (current, accepted) = (state.current.clone(), state.accepted.get(there).cloned());
        let Some(refused) = state.refused.get_mut(there) else { return Turn::Try(Box::new(current)) };
        if refused.times == 0 || now >= refused.at + refused.pause() {
            // A login at the same time must not try them too.
            refused.at = now;
            return Turn::Try(Box::new(current));
        }
        match accepted {
            Some(accepted) if !accepted.logs_in_like(&current) => Turn::Try(Box::new(accepted)),
            _ => Turn::Refused(refused.error.clone()),
        }
    }

    /// Records a refusal. Returns true if another login may succeed now. The credentials are read
    /// again unless that happened after `reads`.
    fn refused(&self, there: &str, tried: &Credentials, error: &Error, reads: u64) -> bool {
        let mut error = error.clone();
        let wrong_password = is_wrong_password(&error);
        if self.state().reads == reads
            && let Err(unread) = self.reread()
        {
            error.message = format!("{}; cannot read the credentials again: {unread}", error.message);
        }
        let at = self.now();
        let mut state = self.state();
        let unchanged = state.current.logs_in_like(tried);
        let no_longer = state.accepted.get(there).is_some_and(|accepted| accepted.logs_in_like(tried));
        if no_longer {
            state.accepted.remove(there);
        }
        let older = state.accepted.contains_key(there);
        let new = Refusals { failures: 0, times: 0, at, wrong_password, error: error.clone() };
        let refused = state.refused.entry(there.to_owned()).or_insert(new);
        refused.failures += u32::from(wrong_password);
        if unchanged {
            refused.times += 1;
            (refused.at, refused.wrong_password, refused.error) = (at, wrong_password, error);
        } else if no_longer {
            // The server has probably changed to the current ones.
            refused.times = 0;
        }
        refused.times == 0 || (unchanged && wrong_password && older)
    }

    /// Records an accepted login, after which the server counts wrong passwords from zero.
    fn accepted(&self, there: &str, tried: Credentials) {
        let mut state = self.state();
        if state.current.logs_in_like(&tried) {
            state.refused.remove(there);
        } else if let Some(refused) = state.refused.get_mut(there) {
            refused.failures = 0;
        }
        state.accepted.insert(there.to_owned(), tried);
    }

    /// True if a login at this server waits for other credentials. One that was not tried does not
    /// wait where an earlier one has waited in vain.
    fn waits_for(&self, there: &str, error: &Error, tries: u32) -> bool {
        let state = self.state();
        let (wrong_password, failures) = state
            .refused
            .get(there)
            .map_or((is_wrong_password(error), 0), |refused| (refused.wrong_password, refused.failures));
        self.refusals == OnRefusal::Wait && wrong_password && (tries > 0 || failures < SAFE_FAILURES)
    }

    /// Returns a refusal with what was tried against it.
    fn last_refusal(&self, there: &str, mut error: Error) -> Error {
        let state = self.state();
        let Some(refused) = state.refused.get(there).filter(|refused| refused.wrong_password) else {
            return error;
        };
        let again = match state.reads {
            0 => return error,
            1 => "once".to_owned(),
            more => format!("{more} times"),
        };
        let later = match self.refusals {
            OnRefusal::Fail if refused.failures >= SAFE_FAILURES => {
                ", and this login is not tried again before it changes, or half an hour has passed"
            }
            _ => "",
        };
        let message = &refused.error.message;
        error.message =
            format!("{message}; the secret was read again {again} and still gives this login{later}");
        error
    }

    fn now(&self) -> Duration {
        self.ctx.host.clock.monotonic()
    }

    fn state(&self) -> MutexGuard<'_, CachedCredentials> {
        // Each change of the state is complete before anything can panic.
        self.cache.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refusals {
    /// Returns the time before the refused credentials are tried again.
    fn pause(&self) -> Duration {
        match self.wrong_password {
            true if self.failures < SAFE_FAILURES => SECOND_TRY_AFTER,
            true => LATE_TRY_AFTER,
            false => backoff(self.times),
        }
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

    /// The limit of the strictest accounts (`FAILED_LOGIN_ATTEMPTS 4`).
    const LOCKS_AFTER: u32 = 4;

    /// A clock that tests and sleepers advance, and a secret and a server that change at a second.
    #[derive(Default)]
    struct Plain {
        seconds: AtomicU64,
        secret: Timeline,
        server: Timeline,
    }

    /// Passwords with the seconds at which they begin to hold.
    #[derive(Default)]
    struct Timeline(Mutex<Vec<(u64, &'static str)>>);

    impl Timeline {
        fn at(&self, second: u64) -> &'static str {
            let past = self.0.lock().unwrap();
            past.iter().rev().find(|(from, _)| *from <= second).map_or("old", |(_, password)| password)
        }

        fn becomes(&self, password: &'static str, second: u64) {
            self.0.lock().unwrap().push((second, password));
        }
    }

    #[async_trait]
    impl Clock for Plain {
        fn now(&self) -> DateTime<Utc> {
            DateTime::UNIX_EPOCH
        }
        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.seconds.load(Ordering::SeqCst))
        }
        async fn sleep(&self, time: Duration) {
            self.seconds.fetch_add(time.as_secs(), Ordering::SeqCst);
        }
    }

    impl Reporter for Plain {
        fn step(&self, _: &'static str) {}
        fn progress(&self, _: Progress) {}
        fn notice(&self, _: &str) {}
    }

    impl Failpoints for Plain {
        fn reach(&self, _: &str) {}
    }

    /// A server that accepts one password, and locks the account as MySQL does.
    struct Setting {
        world: Arc<Plain>,
        reads: Arc<AtomicU32>,
        logins: AtomicU32,
        failures: AtomicU32,
        access: SharedCredentials,
    }

    fn credentials(password: &str) -> Credentials {
        Credentials::parse(&format!("user = 'b'\npassword = '{password}'"), "f").unwrap()
    }

    impl Setting {
        /// Returns the setting of a short run, which waits.
        fn new() -> Self {
            let (_, stop) = tokio::sync::watch::channel(false);
            let (world, reads) = (Arc::new(Plain::default()), Arc::new(AtomicU32::new(0)));
            let host = Host { clock: world.clone(), ..Host::system() };
            let ctx = RunContext { host, reporter: world.clone(), failpoints: world.clone(), stop };
            let (secret, counted) = (Arc::clone(&world), Arc::clone(&reads));
            let read = move || {
                counted.fetch_add(1, Ordering::SeqCst);
                Ok(credentials(secret.secret.at(secret.seconds.load(Ordering::SeqCst))))
            };
            let access = SharedCredentials::starting_with(credentials("old"), read, ctx);
            let (logins, failures) = (AtomicU32::new(0), AtomicU32::new(0));
            Self { world, reads, logins, failures, access }
        }

        /// Returns the setting of an archiver.
        fn long() -> Self {
            let short = Self::new();
            Self { access: short.access.without_waits(), ..short }
        }

        async fn log_in(&self) -> Result<()> {
            let attempt = |tried: Credentials| async move {
                self.logins.fetch_add(1, Ordering::SeqCst);
                let wanted = self.world.server.at(self.world.seconds.load(Ordering::SeqCst));
                let failed = self.failures.load(Ordering::SeqCst);
                assert!(failed < LOCKS_AFTER, "the account is locked");
                if tried.logs_in_like(&credentials(wanted)) {
                    self.failures.store(0, Ordering::SeqCst);
                    return Ok(());
                }
                self.failures.fetch_add(1, Ordering::SeqCst);
                Err(Error::new(ErrorKind::Denied, "access denied (error 1045)"))
            };
            self.access.log_in("db1", attempt).await
        }

        fn pass(&self, seconds: u64) {
            self.world.seconds.fetch_add(seconds, Ordering::SeqCst);
        }

        fn logins(&self) -> u32 {
            self.logins.swap(0, Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn changed_password_is_read_after_login_is_refused() {
        for setting in [Setting::new(), Setting::long()] {
            assert_eq!((setting.log_in().await.is_ok(), setting.logins()), (true, 1));
            setting.world.secret.becomes("new", 0);
            setting.world.server.becomes("new", 0);
            assert_eq!((setting.log_in().await.is_ok(), setting.logins()), (true, 2));
            assert_eq!((setting.log_in().await.is_ok(), setting.logins()), (true, 1));
            assert_eq!(setting.world.monotonic(), Duration::ZERO, "nothing waited");
        }
    }

    /// AWS's rotation changes the server in its step setSecret, the secret in finishSecret
    /// (docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_lambda-functions.html).
    #[tokio::test]
    async fn short_run_waits_for_the_secret_after_the_server_changed() {
        for (changes, reads) in [(0, 1), (4, 2), (9, 3)] {
            let setting = Setting::new();
            setting.world.server.becomes("new", 0);
            setting.world.secret.becomes("new", changes);
            assert!(setting.log_in().await.is_ok(), "after {changes} s");
            assert_eq!((setting.reads.load(Ordering::SeqCst), setting.logins()), (reads, 2));
        }
    }

    #[tokio::test]
    async fn short_run_waits_for_a_server_that_changes_after_the_secret() {
        let setting = Setting::new();
        setting.world.secret.becomes("new", 0);
        setting.access.reread().unwrap();
        setting.world.server.becomes("new", 7);
        assert!(setting.log_in().await.is_ok());
        assert_eq!(setting.logins(), 2);
    }

    #[tokio::test]
    async fn short_run_gives_up_after_three_reads_and_says_so() {
        let setting = Setting::new();
        setting.world.server.becomes("new", 0);
        let error = setting.log_in().await.unwrap_err();
        let told = "access denied (error 1045); the secret was read again 3 times and still gives this login";
        assert_eq!(error.message, told);
        assert_eq!((setting.reads.load(Ordering::SeqCst), setting.logins()), (3, 2));
        assert_eq!(setting.world.monotonic(), Duration::from_secs(10));
        assert!(setting.log_in().await.is_err());
        assert_eq!((setting.logins(), setting.world.monotonic().as_secs()), (0, 10), "no second wait");
    }

    #[tokio::test]
    async fn account_stays_unlocked_until_the_secret_changes() {
        let setting = Setting::long();
        setting.world.server.becomes("new", 0);
        for _ in 0..600 {
            assert!(setting.log_in().await.is_err());
            setting.pass(1);
        }
        assert_eq!(setting.logins(), 2, "in ten minutes");
        let error = setting.log_in().await.unwrap_err().message;
        assert!(error.contains("is not tried again before it changes, or half an hour"), "{error}");
        setting.world.secret.becomes("new", 0);
        setting.pass(5);
        assert_eq!((setting.log_in().await.is_ok(), setting.logins()), (true, 1), "at once");
    }

    #[tokio::test]
    async fn corrected_server_is_tried_after_half_an_hour() {
        let setting = Setting::long();
        setting.world.server.becomes("typo", 0);
        setting.world.server.becomes("old", 60);
        for _ in 0..1900 {
            let _ = setting.log_in().await;
            setting.pass(1);
        }
        assert!(setting.log_in().await.is_ok());
    }

    #[tokio::test]
    async fn older_password_is_used_while_a_replica_lags() {
        let setting = Setting::long();
        assert!(setting.log_in().await.is_ok());
        setting.world.secret.becomes("new", 0);
        setting.access.reread().unwrap();
        setting.world.server.becomes("new", 95);
        for _ in 0..95 {
            assert!(setting.log_in().await.is_ok(), "{:?}", setting.world.monotonic());
            setting.pass(1);
        }
        setting.logins();
        assert_eq!((setting.log_in().await.is_ok(), setting.logins()), (true, 2), "old, then new");
        assert_eq!((setting.log_in().await.is_ok(), setting.logins()), (true, 1), "new");
    }

    #[tokio::test]
    async fn locked_account_is_tried_again_at_growing_intervals_without_waiting() {
        for setting in [Setting::new(), Setting::long()] {
            let tries = AtomicU32::new(0);
            let locked = |_| async {
                tries.fetch_add(1, Ordering::SeqCst);
                Err::<(), _>(Error::new(ErrorKind::Denied, "the account is locked (error 3955)"))
            };
            for _ in 0..600 {
                let error = setting.access.log_in("db1", locked).await.unwrap_err();
                assert_eq!(error.message, "the account is locked (error 3955)");
                setting.pass(1);
            }
            assert_eq!(setting.world.monotonic(), Duration::from_secs(600), "no login waited");
            let tries = tries.into_inner();
            assert!((10..15).contains(&tries), "{tries} logins in ten minutes");
        }
    }

    #[tokio::test]
    async fn other_user_of_the_secret_is_used_after_a_refusal() {
        let (_, stop) = tokio::sync::watch::channel(false);
        let plain = Arc::new(Plain::default());
        let host = Host { clock: plain.clone(), ..Host::system() };
        let ctx = RunContext { host, reporter: plain.clone(), failpoints: plain, stop };
        let of = |user: &str| Credentials::parse(&format!("user = '{user}'\npassword = 'p'"), "f").unwrap();
        let access = SharedCredentials::starting_with(of("b"), move || Ok(of("b_clone")), ctx);
        let attempt = |tried: Credentials| async move {
            let refused = Error::new(ErrorKind::Denied, "access denied (error 1045)");
            if tried.user == "b_clone" { Ok(tried.user) } else { Err(refused) }
        };
        assert_eq!(access.log_in("db1", attempt).await.unwrap(), "b_clone");
    }
}
