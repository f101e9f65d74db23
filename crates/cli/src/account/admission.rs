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

/// How often pins are judged anew because another run filed one meanwhile.
const ATTEMPTS: usize = 5;

/// A vault that may be opened.
pub(crate) struct Admitted {
    listed: Pin,
    wish: Wish,
    home: Vec<FoundPin>,
    beside: KnownPins,
    opening: Box<Opening>,
    /// Of the key that opened the vault before.
    key_fingerprint: Option<String>,
}

/// What the user says of a vault: by options, and by a password that is piped in or in the environment.
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

/// Compares a listed vault with every pin there is, and asks the user where that leaves it open.
///
/// # Errors
/// That it is not to be opened, or that a pin cannot be read.
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

/// Whether a vault that nothing is known of is one that the service can read, and the user did not say that it is.
fn is_doubtful(listed: &Pin, wish: &Wish) -> bool {
    listed.encryption.kind() == VaultKind::Standard && wish.encryption.is_none()
}

fn hidden(vault: &str) -> Failed {
    let message = format!(
        "the vault {vault:?} is listed as standard encrypted, which means that the service can read it. How it was encrypted \
         when it was brought here last is not known: the folder .obsync in the destination belongs to another user. If you know \
         that it is a standard vault, say so: --encryption (`obsync pull --help`)"
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
        "The service hands out the password of the vault {:?} itself, so it can read the vault. A vault password is set, too, \
         which this vault does not need.",
        opening.pin.name
    ));
    match ask::yes("Is it a standard vault, to be opened with the password of the service?").await? {
        true => Ok(opening),
        false => Err(refused(&refusal)),
    }
}

impl Admitted {
    /// How the vault is encrypted.
    pub(crate) fn kind(&self) -> VaultKind {
        self.listed.encryption.kind()
    }

    /// Whether the user accepts that it is encrypted otherwise than before. Kept keys do not count then.
    pub(crate) fn accepts_change(&self) -> bool {
        self.wish.accepts_change
    }

    /// Whether a key is not the one that opened the vault before. Not where a change is accepted.
    pub(crate) fn is_other_key(&self, key: &MasterKey) -> bool {
        let known = self.key_fingerprint.as_deref().filter(|_| !self.accepts_change());
        known.is_some_and(|known| known != key_fingerprint(key))
    }

    /// Whether the vault is not what it was, or nobody knows what it was, which the user accepts: what is known of the
    /// destination is of another vault then, so to speak.
    pub(crate) fn is_changed(&self, key: &MasterKey) -> bool {
        let is_other_key =
            || self.key_fingerprint.as_deref().is_some_and(|known| known != key_fingerprint(key));
        let is_stronger =
            self.opening.notices.iter().any(|notice| matches!(notice, PinNotice::NowEndToEnd(_)));
        let is_news = is_stronger || self.opening.is_first_contact;
        self.accepts_change() && (self.opening.accepted.is_some() || is_news || is_other_key())
    }

    /// Keeps the pin in the home, now that the service has confirmed the key. Where nothing can be kept (a read-only
    /// container), the work goes on.
    pub(crate) fn keep_in_home(&self, key: &MasterKey, context: &Context) {
        let key_fingerprint = (self.kind() == VaultKind::EndToEnd).then(|| key_fingerprint(key));
        let kept = KeptPin { pin: self.pin(), key_fingerprint };
        if let Err(failed) = context.pin_file().keep(&kept, &context.key_file(), &context.console) {
            context
                .console
                .warn(&format!("how the vault is encrypted is not kept for the next time: {failed}"));
        }
    }

    /// Keeps the pin with the destination, before anything is published there.
    ///
    /// # Errors
    /// When it cannot be kept, or another run filed one meanwhile that refuses the vault.
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
            "other runs keep writing down how the vault is encrypted; run again",
        ))
    }

    fn pin(&self) -> Pin {
        let pin = self.opening.pin.clone();
        match self.opening.accepted {
            Some(_) => pin.accepted_by(&who()),
            None => pin,
        }
    }

    /// Tells how the vault is encrypted that was opened for the first time, or was encrypted otherwise; also with `-q`.
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

    /// Tells which change the user accepts, before a password is asked for.
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
            "obsync: the encryption of the vault {name:?} changed. Before: {before}. Now: {kind} encrypted. You accept that; \
             this run removes nothing, and keeps what differs as conflicted copies"
        ));
    }
}

/// Who accepts a change, for whoever reads the pin later.
fn who() -> String {
    let system = rustix::system::uname();
    let user = std::env::var("USER").unwrap_or_else(|_| "somebody".to_owned());
    format!("{user}@{}", system.nodename().to_string_lossy())
}
