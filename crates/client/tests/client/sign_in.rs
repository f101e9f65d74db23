//! Signing in where nobody is asked: codes that were used already, clocks that are off, passwords with a line break.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use obsync_client::totp::{Clock, Generator};
use obsync_client::{Client, ClientError, Password, SignIn, SignedIn};
use obsync_testkit::Server;

use crate::bed::{EMAIL, PASSWORD, limited, options};

const TOTP_SECRET: &str = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP";
const OTHER_SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

/// A clock whose waiting moves the server's time, too, and takes none.
struct TestClock<'a> {
    server: &'a Server,
    /// By how many seconds the server's clock is ahead of it.
    server_ahead: i64,
    waited: AtomicI64,
}

impl<'a> TestClock<'a> {
    fn new(server: &'a Server, server_ahead: i64) -> Self {
        server.set_clock_ahead(server_ahead);
        Self { server, server_ahead, waited: AtomicI64::new(0) }
    }

    fn waited(&self) -> i64 {
        self.waited.load(Ordering::Relaxed)
    }
}

impl Clock for TestClock<'_> {
    fn now(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        now.saturating_add_signed(self.waited())
    }

    async fn sleep(&self, pause: Duration) {
        self.waited.fetch_add(i64::try_from(pause.as_secs()).unwrap(), Ordering::Relaxed);
        self.server.set_clock_ahead(self.server_ahead + self.waited());
    }
}

async fn server() -> Server {
    let server = Server::builder().single_use_codes(true).user_with_totp(EMAIL, PASSWORD, TOTP_SECRET);
    server.start().await.unwrap()
}

async fn sign_in(clock: &TestClock<'_>, secret: &str, password: Password) -> Result<SignedIn, ClientError> {
    let client = Client::new(options(&clock.server.url())).unwrap();
    let generator = Generator::new(&secret.into()).unwrap();
    limited(SignIn::new(&client, EMAIL, &password).with_codes(&generator, clock)).await
}

fn password() -> Password {
    Password::exactly(PASSWORD.into())
}

fn sign_ins(server: &Server) -> u64 {
    server.stats().rest_by_path["/user/signin"]
}

#[tokio::test]
async fn a_code_that_was_used_already_is_followed_by_the_next_one() {
    let server = server().await;
    let clock = TestClock::new(&server, 0);
    sign_in(&clock, TOTP_SECRET, password()).await.unwrap();
    assert_eq!((sign_ins(&server), clock.waited()), (1, 0));
    for sign_in_number in 2..4 {
        let before = clock.waited();
        sign_in(&clock, TOTP_SECRET, password()).await.unwrap();
        let waited = clock.waited() - before;
        assert!((1..=31).contains(&waited), "sign-in {sign_in_number}: {waited} s");
    }
    assert_eq!((sign_ins(&server), server.tokens(EMAIL)), (5, 3));
}

#[tokio::test]
async fn a_clock_that_is_off_does_not_keep_anybody_from_signing_in() {
    for server_ahead in [90, -90, 3600] {
        let server = server().await;
        let clock = TestClock::new(&server, server_ahead);
        sign_in(&clock, TOTP_SECRET, password()).await.unwrap();
        assert_eq!((sign_ins(&server), clock.waited()), (2, 0), "{server_ahead}");
    }
}

#[tokio::test]
async fn codes_that_are_refused_blame_the_secret_and_the_clock_if_that_is_off() {
    for (server_ahead, blames_clock) in [(0, false), (90, true)] {
        let server = server().await;
        let clock = TestClock::new(&server, server_ahead);
        let error = sign_in(&clock, OTHER_SECRET, password()).await.unwrap_err();
        assert!(error.is_auth() && !error.is_retryable(), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("check the secret") && !text.contains("JBSW"), "{text}");
        assert_eq!(text.contains("s behind the service's"), blames_clock, "{text}");
        assert_eq!(sign_ins(&server), 2);
    }
}

#[tokio::test]
async fn a_password_is_tried_with_and_without_its_line_end_and_the_right_one_kept_to() {
    let server = server().await;
    let clock = TestClock::new(&server, 0);
    let with_line_end = Password::with_origin(format!("{PASSWORD}\n").into(), "X");
    sign_in(&clock, TOTP_SECRET, with_line_end.clone()).await.unwrap();
    assert_eq!(sign_ins(&server), 2);
    // A code used already, so a second attempt: with the password that was right.
    sign_in(&clock, TOTP_SECRET, with_line_end).await.unwrap();
    assert_eq!(sign_ins(&server), 2 + 3);
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
