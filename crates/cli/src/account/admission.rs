//! Decides whether a listed vault may be opened: the pins of all places are compared before anything is derived or sent.

use obsync_core::ProblemCode;
use obsync_core::pin::{
    FoundPin, Opening, PasswordAtHand, Pin, PinDecision, PinNotice, PinRefusal, VaultKind, Wish, check,
};
use obsync_protocol::{MasterKey, VaultInfo};

use crate::account::pins::{HomePins, KeptPin, key_fingerprint};
use crate::context::Context;
use crate::environment;
use crate::exit::{Exit, Failed};
use crate::target::known::{Known, KnownPins};
use crate::ui::ask;

/// Attempts at judging pins when another run files one meanwhile.
const ATTEMPTS: usize = 5;

/// A vault that may be opened.
pub(crate) struct Admitted {
    listed: Pin,
    wish: Wish,
    home: Vec<FoundPin>,
    beside: KnownPins,
    opening: Box<Opening>,
    /// Fingerprint of the key that opened the vault before.
    key_fingerprint: Option<String>,
}

/// The user's wishes for a vault: by options, and by a password that is piped in or in the environment.
///
/// # Errors
/// When the environment is unreadable.
pub(crate) fn wish(
    encryption: Option<VaultKind>,
    password_stdin: bool,
    accepts_change: bool,
) -> Result<Wish, Failed> {
    let password = match password_stdin {
        true => PasswordAtHand::OfThisVault,
        false if environment::vault_password()?.is_some() => PasswordAtHand::Unnamed,
        false => PasswordAtHand::None,
    };
    Ok(Wish { encryption, password, accepts_change })
}

/// Compares a listed vault with all known pins, and asks the user if they do not decide.
///
/// # Errors
/// When it must not be opened, or a pin is unreadable.
pub(crate) async fn admit(
    vault: &VaultInfo,
    known: Option<&Known>,
    wish: Wish,
    context: &Context,
) -> Result<Admitted, Failed> {
    let unsupported = |error| Failed::of(Exit::Error, &error);
    let listed = Pin::of(context.api_url().as_str(), vault).map_err(unsupported)?;
    let home = context.pin_file().load(&context.key_file(), &context.console)?;
    let beside = match known {
        Some(known) => known.pins(&listed).await?,
        None => KnownPins::None,
    };
    let key_fingerprint = home.key_fingerprint(&listed).map(str::to_owned);
    let home = HomePins::found(&home);
    let opening = match check(listed.clone(), &all(&home, &beside), &wish) {
        PinDecision::Open(opening)
            if opening.is_first_contact && beside.are_hidden() && is_doubtful(&listed, &wish) =>
        {
            return Err(hidden(&listed.name));
        }
        PinDecision::Open(opening) => opening,
        PinDecision::Ask(opening, refusal) => confirm(opening, refusal).await?,
        PinDecision::Refuse(refusal) => return Err(refused(&refusal)),
    };
    Ok(Admitted { listed, wish, home, beside, opening, key_fingerprint })
}

fn all(home: &[FoundPin], beside: &KnownPins) -> Vec<FoundPin> {
    home.iter().cloned().chain(beside.found()).collect()
}

/// True for an unknown vault that the service can read, if the user did not say that it is one.
fn is_doubtful(listed: &Pin, wish: &Wish) -> bool {
    listed.encryption.kind() == VaultKind::Standard && wish.encryption.is_none()
}

fn hidden(vault: &str) -> Failed {
    let message = format!(
        "the vault {vault:?} is listed as standard encrypted, which means that the service can read it. Its \
         encryption at the last pull is not known: the folder .obsync in the destination belongs to another user. If \
         you know that it is a standard vault, give --encryption (`obsync pull --help`)"
    );
    Failed::new(Exit::SignIn, message).coded(ProblemCode::EncryptionChanged)
}

fn refused(refusal: &PinRefusal) -> Failed {
    Failed::of(Exit::SignIn, refusal).coded(ProblemCode::EncryptionChanged)
}

async fn confirm(opening: Box<Opening>, refusal: PinRefusal) -> Result<Box<Opening>, Failed> {
    if !ask::can_ask() {
        return Err(refused(&refusal));
    }
    ask::tell(&format!(
        "The service provides the password of the vault {:?}, so it can read the vault. You also set a vault \
         password, which this vault does not need.",
        opening.pin.name
    ));
    match ask::yes("Open it as a standard vault, with the password of the service?").await? {
        true => Ok(opening),
        false => Err(refused(&refusal)),
    }
}

impl Admitted {
    /// The kind of encryption.
    pub(crate) fn kind(&self) -> VaultKind {
        self.listed.encryption.kind()
    }

    /// True if the user accepts a changed encryption. Stored keys do not count then.
    pub(crate) fn accepts_change(&self) -> bool {
        self.wish.accepts_change
    }

    /// True if a key differs from the one that opened the vault before. False if a change is accepted.
    pub(crate) fn is_other_key(&self, key: &MasterKey) -> bool {
        let known = self.key_fingerprint.as_deref().filter(|_| !self.accepts_change());
        known.is_some_and(|known| known != key_fingerprint(key))
    }

    /// True if the user accepts a changed or unknown vault: the destination's state then belongs to another
    /// vault, in effect.
    pub(crate) fn is_changed(&self, key: &MasterKey) -> bool {
        let is_other_key =
            || self.key_fingerprint.as_deref().is_some_and(|known| known != key_fingerprint(key));
        let is_stronger =
            self.opening.notices.iter().any(|notice| matches!(notice, PinNotice::NowEndToEnd(_)));
        let is_news = is_stronger || self.opening.is_first_contact;
        self.accepts_change() && (self.opening.accepted.is_some() || is_news || is_other_key())
    }

    /// Stores the pin in the home, once the service has confirmed the key. If nothing can be stored (a
    /// read-only container), the work continues.
    pub(crate) fn keep_in_home(&self, key: &MasterKey, context: &Context) {
        let key_fingerprint = (self.kind() == VaultKind::EndToEnd).then(|| key_fingerprint(key));
        let kept = KeptPin { pin: self.pin(), key_fingerprint };
        if let Err(failed) = context.pin_file().keep(&kept, &context.key_file(), &context.console) {
            context.console.warn(&format!("the encryption of the vault could not be recorded: {failed}"));
        }
    }

    /// Stores the pin with the destination, before anything is published there.
    ///
    /// # Errors
    /// When it cannot be stored, or another run filed one meanwhile that refuses the vault.
    pub(crate) async fn keep_beside(&mut self, known: &Known) -> Result<(), Failed> {
        for _ in 0..ATTEMPTS {
            if known.keep_pin(&self.pin(), &self.beside).await? {
                return Ok(());
            }
            self.beside = known.pins(&self.listed).await?;
            match check(self.listed.clone(), &all(&self.home, &self.beside), &self.wish) {
                PinDecision::Open(opening) | PinDecision::Ask(opening, _) => self.opening = opening,
                PinDecision::Refuse(refusal) => return Err(refused(&refusal)),
            }
        }
        Err(Failed::new(
            Exit::AlreadyRunning,
            "other runs keep recording the encryption of the vault; run again",
        ))
    }

    fn pin(&self) -> Pin {
        let pin = self.opening.pin.clone();
        match self.opening.accepted {
            Some(_) => pin.accepted_by(&who()),
            None => pin,
        }
    }

    /// Prints the encryption of a vault that was opened for the first time, or changed; also with `-q`.
    pub(crate) fn tell(&self, context: &Context) {
        let (name, kind, console) = (&self.listed.name, self.kind(), &context.console);
        if self.opening.is_first_contact {
            let reader = match kind {
                VaultKind::Standard => "the service has the password and can read it",
                VaultKind::EndToEnd => "only its password opens it",
            };
            console.error(&format!(
                "obsync: the vault {name:?} is opened for the first time: {kind} encryption, {reader}"
            ));
        }
        for notice in &self.opening.notices {
            match notice {
                PinNotice::NowEndToEnd(_) => console.error(&format!("obsync: {notice}")),
                PinNotice::ShortSalt { .. } => console.warn(&notice.to_string()),
            }
        }
    }

    /// Prints the change that the user accepts, before a password is asked for.
    pub(crate) fn tell_change(&self, context: &Context) {
        let (name, kind) = (&self.listed.name, self.kind());
        let before = match &self.opening.accepted {
            Some(PinRefusal::Weaker { place, .. }) => format!("end-to-end encrypted, as {place} knows it"),
            Some(PinRefusal::Changed { place, what, .. }) => {
                format!("end-to-end encrypted with another {what}, as {place} knows it")
            }
            _ => return,
        };
        context.console.error(&format!(
            "obsync: the encryption of the vault {name:?} changed. Before: {before}. Now: {kind} encrypted. You \
             accept that. This run removes nothing, and keeps files that differ as conflicted copies"
        ));
    }
}

/// Who accepts a change, for later readers of the pin.
fn who() -> String {
    let system = rustix::system::uname();
    let user = std::env::var("USER").unwrap_or_else(|_| "somebody".to_owned());
    format!("{user}@{}", system.nodename().to_string_lossy())
}
