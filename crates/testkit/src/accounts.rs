//! Accounts of the development server, their second factor, and tokens.
//!
//! With a file, accounts and tokens outlive the server. Passwords and tokens are stored as salted hashes even
//! so: people type real passwords into anything that looks like a login.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use obsync_protocol::ContentHash;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use totp_rs::Totp;

use crate::disk::write_atomically;

/// Why a sign-in was refused; the texts are those of the service (docs/PROTOCOL.md section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignInError {
    #[error("Login failed, please double check your email and password.")]
    Credentials,
    #[error("2FA code is required.")]
    CodeWanted,
    #[error("2FA code is incorrect.")]
    CodeWrong,
}

/// An account that cannot be added.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The secret of the second factor is invalid.
    #[error("the 2FA secret is not 16 bytes or more in base32: {reason}")]
    Secret {
        /// The fault.
        reason: String,
    },
    /// The accounts could not be read or written.
    #[error("accounts file {}: {source}", path.display())]
    File {
        /// The file of the accounts.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The system has no randomness.
    #[error("the system gives no randomness: {0}")]
    Randomness(String),
}

/// The public part of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) uid: u64,
    pub(crate) name: String,
    pub(crate) email: String,
    pub(crate) mfa: bool,
    pub(crate) subscribed: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Accounts {
    file: Option<PathBuf>,
    book: Mutex<Book>,
    /// Each two-factor code is accepted only once (RFC 6238 section 5.2).
    single_use_codes: bool,
    /// The period of the last code that each account signed in with.
    last_codes: Mutex<BTreeMap<String, u64>>,
    /// Seconds by which the server's clock is ahead of this machine's.
    clock_ahead: AtomicI64,
}

/// The accounts file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Book {
    accounts: BTreeMap<String, Account>,
    /// Hashes of tokens, with their accounts.
    tokens: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Account {
    uid: u64,
    name: String,
    salt: String,
    password_hash: String,
    /// The secret of the second factor, base32.
    totp: Option<String>,
    #[serde(default)]
    subscription_expired: bool,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("uid", &self.uid).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Accounts {
    /// Accounts stored in `file`, or in memory only.
    pub(crate) fn open(file: Option<PathBuf>) -> Result<Self, AccountError> {
        let book = match &file {
            Some(path) => {
                read_book(path).map_err(|source| AccountError::File { path: path.clone(), source })?
            }
            None => Book::default(),
        };
        Ok(Self { file, book: Mutex::new(book), ..Self::default() })
    }

    /// Accepts each two-factor code once only, or for as long as it is valid.
    pub(crate) fn with_single_use_codes(self, single_use_codes: bool) -> Self {
        Self { single_use_codes, ..self }
    }

    /// Sets the clock of the server this many seconds ahead of this machine's.
    pub(crate) fn set_clock_ahead(&self, seconds: i64) {
        self.clock_ahead.store(seconds, Ordering::Relaxed);
    }

    /// The server's time, in seconds since the epoch.
    pub(crate) fn now(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
        now.saturating_add_signed(self.clock_ahead.load(Ordering::Relaxed))
    }

    /// Adds an account, or replaces the password and second factor of an existing one.
    pub(crate) fn add(
        &self,
        email: &str,
        password: &SecretString,
        totp_secret: Option<&str>,
    ) -> Result<(), AccountError> {
        if let Some(secret) = totp_secret {
            totp(secret)?;
        }
        let salt = random_hex::<16>()?;
        let mut book = self.lock();
        let email = normalize(email);
        let uid = book.accounts.get(&email).map(|account| account.uid).unwrap_or_else(|| next_uid(&book));
        let account = Account {
            uid,
            name: email.split('@').next().unwrap_or_default().to_owned(),
            password_hash: password_hash(&salt, password.expose_secret()),
            salt,
            totp: totp_secret.map(str::to_owned),
            subscription_expired: false,
        };
        book.accounts.insert(email, account);
        self.save(&book)
    }

    /// True if an account with this address exists.
    pub(crate) fn exists(&self, email: &str) -> bool {
        self.lock().accounts.contains_key(&normalize(email))
    }

    /// Checks the credentials and creates a token.
    pub(crate) fn sign_in(
        &self,
        email: &str,
        password: &SecretString,
        code: &str,
    ) -> Result<Result<(SecretString, Person), SignInError>, AccountError> {
        let email = normalize(email);
        let mut book = self.lock();
        let account = match book.accounts.get(&email) {
            Some(account)
                if account.password_hash == password_hash(&account.salt, password.expose_secret()) =>
            {
                account
            }
            _ => return Ok(Err(SignInError::Credentials)),
        };
        if let Some(secret) = &account.totp {
            if code.is_empty() {
                return Ok(Err(SignInError::CodeWanted));
            }
            match totp(secret)?.check(code, self.now()) {
                Some(period) if self.is_unused(&email, period) => {}
                _ => return Ok(Err(SignInError::CodeWrong)),
            }
        }
        let person = account.person(&email);
        let token = random_hex::<32>()?;
        book.tokens.insert(token_hash(&token), email);
        self.save(&book)?;
        Ok(Ok((SecretString::from(token), person)))
    }

    /// True if a code is newer than the last one that the account signed in with; records its period then.
    fn is_unused(&self, email: &str, period: u64) -> bool {
        if !self.single_use_codes {
            return true;
        }
        let mut last = self.last_codes.lock().unwrap_or_else(PoisonError::into_inner);
        let is_unused = last.get(email).is_none_or(|last| *last < period);
        if is_unused {
            last.insert(email.to_owned(), period);
        }
        is_unused
    }

    /// Number of valid tokens of an account.
    pub(crate) fn tokens(&self, email: &str) -> usize {
        let email = normalize(email);
        self.lock().tokens.values().filter(|holder| **holder == email).count()
    }

    /// The account of this token, if it is valid.
    pub(crate) fn holder(&self, token: &str) -> Option<Person> {
        let book = self.lock();
        let email = book.tokens.get(&token_hash(token))?;
        book.accounts.get(email).map(|account| account.person(email))
    }

    /// Makes a token invalid.
    pub(crate) fn sign_out(&self, token: &str) -> Result<(), AccountError> {
        let mut book = self.lock();
        book.tokens.remove(&token_hash(token));
        self.save(&book)
    }

    /// Makes every token invalid.
    pub(crate) fn expire_tokens(&self) -> Result<(), AccountError> {
        let mut book = self.lock();
        book.tokens.clear();
        self.save(&book)
    }

    /// Marks the subscription of every account as expired, or not.
    pub(crate) fn set_subscription_expired(&self, expired: bool) -> Result<(), AccountError> {
        let mut book = self.lock();
        for account in book.accounts.values_mut() {
            account.subscription_expired = expired;
        }
        self.save(&book)
    }

    /// The names of all users by number, for the request `usernames`.
    pub(crate) fn names(&self) -> BTreeMap<String, String> {
        let book = self.lock();
        book.accounts.values().map(|account| (account.uid.to_string(), account.name.clone())).collect()
    }

    /// The present two-factor code of an account.
    pub(crate) fn code(&self, email: &str) -> Option<String> {
        let book = self.lock();
        let secret = book.accounts.get(&normalize(email))?.totp.as_deref()?;
        totp(secret).ok().map(|totp| totp.generate(self.now()).to_string())
    }

    fn save(&self, book: &Book) -> Result<(), AccountError> {
        let Some(path) = &self.file else { return Ok(()) };
        let text = serde_json::to_vec_pretty(book).map_err(io::Error::other);
        text.and_then(|text| write_atomically(path, &text))
            .map_err(|source| AccountError::File { path: path.clone(), source })
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    fn person(&self, email: &str) -> Person {
        Person {
            uid: self.uid,
            name: self.name.clone(),
            email: email.to_owned(),
            mfa: self.totp.is_some(),
            subscribed: !self.subscription_expired,
        }
    }
}

fn read_book(path: &Path) -> io::Result<Book> {
    match std::fs::read(path) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Book::default()),
        Err(error) => Err(error),
    }
}

fn next_uid(book: &Book) -> u64 {
    book.accounts.values().map(|account| account.uid).max().unwrap_or_default() + 1
}

/// Addresses are compared without regard to case.
pub(crate) fn normalize(email: &str) -> String {
    email.trim().to_lowercase()
}

/// `BYTES` random bytes in hex.
pub(crate) fn random_hex<const BYTES: usize>() -> Result<String, AccountError> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(|error| AccountError::Randomness(error.to_string()))?;
    Ok(HEXLOWER.encode(&bytes))
}

fn password_hash(salt: &str, password: &str) -> String {
    ContentHash::of(format!("{salt}:{password}").as_bytes()).to_string()
}

fn token_hash(token: &str) -> String {
    ContentHash::of(token.as_bytes()).to_string()
}

/// The generator of six-digit codes for a base32 secret, ignoring spaces and case (RFC 6238).
fn totp(secret: &str) -> Result<Totp, AccountError> {
    let plain: String = secret.chars().filter(|c| !c.is_whitespace() && *c != '=').collect();
    let bytes = BASE32_NOPAD
        .decode(plain.to_ascii_uppercase().as_bytes())
        .map_err(|error| AccountError::Secret { reason: error.to_string() })?;
    totp_rs::Builder::new()
        .with_secret(bytes)
        .build()
        .map_err(|error| AccountError::Secret { reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP";

    fn password(text: &str) -> SecretString {
        SecretString::from(text)
    }

    #[test]
    fn a_token_lasts_until_it_is_signed_out_or_expired() {
        let accounts = Accounts::open(None).unwrap();
        accounts.add("A@example.com", &password("pw"), None).unwrap();
        let (first, person) = accounts.sign_in("a@Example.com", &password("pw"), "").unwrap().unwrap();
        let (second, _) = accounts.sign_in("a@example.com", &password("pw"), "").unwrap().unwrap();
        assert_eq!(person.email, "a@example.com");
        accounts.sign_out(first.expose_secret()).unwrap();
        assert!(accounts.holder(first.expose_secret()).is_none());
        assert!(accounts.holder(second.expose_secret()).is_some());
        accounts.expire_tokens().unwrap();
        assert!(accounts.holder(second.expose_secret()).is_none());
    }

    #[test]
    fn the_second_factor_is_asked_for_and_checked_after_the_password() {
        let accounts = Accounts::open(None).unwrap();
        accounts.add("a@b.c", &password("pw"), Some(SECRET)).unwrap();
        let refusal = |pw, code: &str| accounts.sign_in("a@b.c", &password(pw), code).unwrap().err();
        assert_eq!(refusal("wrong", ""), Some(SignInError::Credentials));
        assert_eq!(refusal("pw", ""), Some(SignInError::CodeWanted));
        assert_eq!(refusal("pw", "12345x"), Some(SignInError::CodeWrong));
        let code = accounts.code("a@b.c").unwrap();
        assert_eq!(refusal("pw", &code), None);
        assert_eq!(refusal("pw", &code), None, "valid for as long as it is, unless codes are for one use");
    }

    #[test]
    fn a_code_for_one_use_is_refused_the_second_time() {
        let accounts = Accounts::open(None).unwrap().with_single_use_codes(true);
        accounts.add("a@b.c", &password("pw"), Some(SECRET)).unwrap();
        accounts.add("b@b.c", &password("pw"), Some(SECRET)).unwrap();
        let refusal = |email, code: &str| accounts.sign_in(email, &password("pw"), code).unwrap().err();
        let code = accounts.code("a@b.c").unwrap();
        assert_eq!(refusal("a@b.c", &code), None);
        assert_eq!(refusal("A@b.c", &code), Some(SignInError::CodeWrong));
        assert_eq!(refusal("b@b.c", &code), None, "another account");
        accounts.set_clock_ahead(30);
        let next = accounts.code("a@b.c").unwrap();
        assert_eq!(refusal("a@b.c", &next), None);
        assert_eq!((accounts.tokens("A@b.c"), accounts.tokens("b@b.c")), (2, 1));
    }

    #[test]
    fn accounts_and_tokens_outlive_the_server_and_no_secret_is_written_in_clear() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("accounts.json");
        let accounts = Accounts::open(Some(file.clone())).unwrap();
        accounts.add("a@b.c", &password("hunter2"), None).unwrap();
        let (token, _) = accounts.sign_in("a@b.c", &password("hunter2"), "").unwrap().unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains("hunter2") && !text.contains(token.expose_secret()));
        let again = Accounts::open(Some(file)).unwrap();
        assert!(again.holder(token.expose_secret()).is_some());
        assert!(again.sign_in("a@b.c", &password("hunter2"), "").unwrap().is_ok());
    }
}
