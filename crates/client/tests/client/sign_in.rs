//! Unattended sign-in: used codes, wrong clocks, passwords with a line break.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use obsync_client::totp::Generator;
use obsync_client::{
    Client, ClientError, ClientOptions, Clock, Password, SignIn, SignedIn, Sleep, SystemClock,
};
use obsync_testkit::Server;

use crate::bed::{EMAIL, PASSWORD, limited, options};

const TOTP_SECRET: &str = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP";
const OTHER_SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

/// A clock that sleeps in no time, and advances the server's time, too.
#[derive(Debug)]
struct TestClock {
    server: Server,
    /// Seconds by which the server's clock is ahead of it.
    server_ahead: i64,
    /// Time slept so far, in seconds.
    waited: AtomicU64,
}

impl TestClock {
    fn new(server: Server, server_ahead: i64) -> Arc<Self> {
        server.set_clock_ahead(server_ahead);
        Arc::new(Self { server, server_ahead, waited: AtomicU64::new(0) })
    }

    fn waited(&self) -> u64 {
        self.waited.load(Ordering::Relaxed)
    }
}

impl Clock for TestClock {
    fn wall(&self) -> SystemTime {
        SystemClock.wall() + Duration::from_secs(self.waited())
    }

    fn steady(&self) -> Instant {
        SystemClock.steady() + Duration::from_secs(self.waited())
    }

    fn sleep_until(&self, _: Instant) -> Sleep {
        unreachable!("nothing but a pause is waited for")
    }

    fn sleep(&self, pause: Duration) -> Sleep {
        self.waited.fetch_add(pause.as_secs(), Ordering::Relaxed);
        self.server.set_clock_ahead(self.server_ahead + self.waited().cast_signed());
        Box::pin(std::future::ready(()))
    }
}

async fn server() -> Server {
    let server = Server::builder().single_use_codes(true).user_with_totp(EMAIL, PASSWORD, TOTP_SECRET);
    server.start().await.unwrap()
}

async fn sign_in(clock: &Arc<TestClock>, secret: &str, password: Password) -> Result<SignedIn, ClientError> {
    let options = ClientOptions { clock: clock.clone(), ..options(&clock.server.url()) };
    let client = Client::new(options).unwrap();
    let generator = Generator::new(&secret.into()).unwrap();
    limited(SignIn::new(&client, EMAIL, &password).with_codes(&generator)).await
}

fn password() -> Password {
    Password::exactly(PASSWORD.into())
}

fn sign_ins(server: &Server) -> u64 {
    server.stats().rest_by_path["/user/signin"]
}

#[tokio::test]
async fn a_code_that_was_used_already_is_followed_by_the_next_one() {
    let clock = TestClock::new(server().await, 0);
    let server = &clock.server;
    sign_in(&clock, TOTP_SECRET, password()).await.unwrap();
    assert_eq!((sign_ins(server), clock.waited()), (1, 0));
    for sign_in_number in 2..4 {
        let before = clock.waited();
        sign_in(&clock, TOTP_SECRET, password()).await.unwrap();
        let waited = clock.waited() - before;
        assert!((1..=31).contains(&waited), "sign-in {sign_in_number}: {waited} s");
    }
    assert_eq!((sign_ins(server), server.tokens(EMAIL)), (5, 3));
}

#[tokio::test]
async fn a_clock_that_is_off_does_not_keep_anybody_from_signing_in() {
    for server_ahead in [90, -90, 3600] {
        let clock = TestClock::new(server().await, server_ahead);
        let server = &clock.server;
        sign_in(&clock, TOTP_SECRET, password()).await.unwrap();
        assert_eq!((sign_ins(server), clock.waited()), (2, 0), "{server_ahead}");
    }
}

#[tokio::test]
async fn codes_that_are_refused_blame_the_secret_and_the_clock_if_that_is_off() {
    for (server_ahead, blames_clock) in [(0, false), (90, true)] {
        let clock = TestClock::new(server().await, server_ahead);
        let server = &clock.server;
        let error = sign_in(&clock, OTHER_SECRET, password()).await.unwrap_err();
        assert!(error.is_auth() && !error.is_retryable(), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("check the secret") && !text.contains("JBSW"), "{text}");
        assert_eq!(text.contains("s behind the service's"), blames_clock, "{text}");
        assert_eq!(sign_ins(server), 2);
    }
}

#[tokio::test]
async fn a_password_is_tried_with_and_without_its_line_end_and_the_right_one_kept_to() {
    let clock = TestClock::new(server().await, 0);
    let server = &clock.server;
    let with_line_end = Password::with_origin(format!("{PASSWORD}\n").into(), "X");
    sign_in(&clock, TOTP_SECRET, with_line_end.clone()).await.unwrap();
    assert_eq!(sign_ins(server), 2);
    // A used code, so a second attempt: with the correct password.
    sign_in(&clock, TOTP_SECRET, with_line_end).await.unwrap();
    assert_eq!(sign_ins(server), 2 + 3);
    let wrong = Password::with_origin("wrong\n".into(), "X");
    let error = sign_in(&clock, TOTP_SECRET, wrong).await.unwrap_err();
    assert!(matches!(error, ClientError::WrongCredentials), "{error:?}");
}

#[tokio::test]
async fn a_line_end_that_is_part_of_the_password_is_sent() {
    let server = Server::builder().user(EMAIL, "pw\n").start().await.unwrap();
    let client = Client::new(options(&server.url())).unwrap();
    let password = Password::with_origin("pw\n".to_owned().into(), "X");
    limited(SignIn::new(&client, EMAIL, &password).attempt(None)).await.unwrap();
    assert_eq!(sign_ins(&server), 1);
}
