//! The decision as a table, and pins as texts.

use obsync_protocol::{EncryptionVersion, limits};

use super::kept::FORMER_NAMES;
use super::*;

const SERVICE: &str = "https://api.example/";
const SALT: &str = "0123456789abcdef0123456789abcdef";

fn end_to_end(salt: &str) -> VaultEncryption {
    VaultEncryption::EndToEnd { version: EncryptionVersion::V3, salt: salt.to_owned() }
}

fn pin(vault: &str, name: &str, encryption: VaultEncryption) -> Pin {
    Pin::new(SERVICE, vault.parse().unwrap(), name, encryption)
}

fn found(place: PinPlace, pin: Pin) -> FoundPin {
    FoundPin { place, is_of_destination: place == PinPlace::Destination, pin }
}

fn silent() -> Wish {
    Wish { encryption: None, password: PasswordAtHand::None, accepts_change: false }
}

/// The decision in one word.
fn word(listed: Pin, pins: &[FoundPin], wish: &Wish) -> &'static str {
    match check(listed, pins, wish) {
        PinDecision::Open(opening) if opening.accepted.is_some() => "accepted",
        PinDecision::Open(opening) if opening.is_first_contact => "first",
        PinDecision::Open(opening) if !opening.notices.is_empty() => "noticed",
        PinDecision::Open(_) => "open",
        PinDecision::Ask(..) => "ask",
        PinDecision::Refuse(PinRefusal::NotAsWished { .. }) => "not as wished",
        PinDecision::Refuse(PinRefusal::Weaker { .. }) => "weaker",
        PinDecision::Refuse(PinRefusal::Changed { .. }) => "changed",
        PinDecision::Refuse(PinRefusal::PasswordGiven { .. }) => "password given",
        PinDecision::Refuse(PinRefusal::PasswordUnused { .. }) => "password unused",
        PinDecision::Refuse(PinRefusal::ShortSalt { .. }) => "short salt",
    }
}

#[test]
fn what_is_pinned_decides_what_is_opened_wherever_the_pin_was_found() {
    let (standard, strong) = (VaultEncryption::Standard, end_to_end(SALT));
    let other = end_to_end("fedcba9876543210fedcba9876543210");
    let older = VaultEncryption::EndToEnd { version: EncryptionVersion::V2, salt: SALT.to_owned() };
    let cases = [
        (None, &standard, "first", "first"),
        (None, &strong, "first", "first"),
        (Some(&standard), &standard, "open", "open"),
        (Some(&standard), &strong, "noticed", "noticed"),
        (Some(&strong), &standard, "weaker", "accepted"),
        (Some(&strong), &strong, "open", "open"),
        (Some(&strong), &other, "changed", "accepted"),
        (Some(&strong), &older, "changed", "accepted"),
    ];
    for place in [PinPlace::Home, PinPlace::Destination, PinPlace::Table, PinPlace::Secret] {
        for (pinned, listed, expected, with_flag) in cases {
            let pins: Vec<_> =
                pinned.into_iter().map(|pinned| found(place, pin("a", "Notes", pinned.clone()))).collect();
            let listed = pin("a", "Notes", listed.clone());
            assert_eq!(word(listed.clone(), &pins, &silent()), expected, "{place:?} {pinned:?} {listed:?}");
            let accepting = Wish { accepts_change: true, ..silent() };
            assert_eq!(word(listed.clone(), &pins, &accepting), with_flag, "{place:?} {pinned:?} {listed:?}");
        }
    }
}

#[test]
fn one_strong_pin_outweighs_all_weak_ones() {
    let weak = || pin("a", "Notes", VaultEncryption::Standard);
    let pins = [
        found(PinPlace::Home, weak()),
        found(PinPlace::Destination, weak()),
        found(PinPlace::Table, pin("a", "Notes", end_to_end(SALT))),
    ];
    assert_eq!(word(weak(), &pins, &silent()), "weaker");
    assert_eq!(word(pin("a", "Notes", end_to_end(SALT)), &pins, &silent()), "open");
}

#[test]
fn a_new_id_under_a_pinned_name_or_for_a_pinned_destination_is_held_to_the_kind_alone() {
    let strong = pin("a", "Notes", end_to_end(SALT));
    let listed = |name: &str, encryption| pin("b", name, encryption);
    let by_name = [found(PinPlace::Home, strong.clone())];
    let by_place = [found(PinPlace::Destination, strong)];
    assert_eq!(word(listed("Notes", VaultEncryption::Standard), &by_name, &silent()), "weaker");
    assert_eq!(word(listed("Other", VaultEncryption::Standard), &by_name, &silent()), "first");
    assert_eq!(word(listed("Other", VaultEncryption::Standard), &by_place, &silent()), "weaker");
    let anew = || end_to_end("fedcba9876543210fedcba9876543210");
    assert_eq!(word(listed("Notes", anew()), &by_name, &silent()), "first");
    assert_eq!(word(listed("Notes", anew()), &by_place, &silent()), "first");
}

#[test]
fn an_id_that_was_a_name_and_a_name_that_was_an_id_are_pinned_as_well() {
    let strong = [found(PinPlace::Home, pin("a1b2", "Notes", end_to_end(SALT)))];
    let standard = |id, name| pin(id, name, VaultEncryption::Standard);
    assert_eq!(word(standard("Notes", "Zzz"), &strong, &silent()), "weaker");
    assert_eq!(word(standard("ffff", "a1b2"), &strong, &silent()), "weaker");
    assert_eq!(word(standard("ffff", "Zzz"), &strong, &silent()), "first");
}

#[test]
fn a_vault_that_is_known_by_its_name_is_no_newcomer_under_it_but_one_that_took_the_name_is() {
    let strong = found(PinPlace::Home, pin("a", "Notes", end_to_end(SALT)));
    let own = |name: &str| found(PinPlace::Home, pin("b", name, VaultEncryption::Standard));
    let listed = || pin("b", "Notes", VaultEncryption::Standard);
    assert_eq!(word(listed(), &[strong.clone(), own("Notes")], &silent()), "open");
    assert_eq!(word(listed(), &[strong, own("Recipes")], &silent()), "weaker");
}

#[test]
fn what_one_machine_knows_by_a_name_does_not_undo_what_the_table_knows_by_it() {
    let strong = found(PinPlace::Table, pin("a", "Notes", end_to_end(SALT)));
    let weak = pin("b", "Notes", VaultEncryption::Standard);
    let at_home = found(PinPlace::Home, weak.clone());
    assert_eq!(word(weak.clone(), &[strong.clone(), at_home.clone()], &silent()), "weaker");
    let in_table = found(PinPlace::Table, weak.clone());
    assert_eq!(word(weak.clone(), &[strong.clone(), at_home, in_table], &silent()), "open");
    let accepted = found(PinPlace::Home, weak.clone().accepted_by("me@host"));
    assert_eq!(word(weak, &[strong, accepted], &silent()), "open");
}

#[test]
fn who_accepted_a_change_is_kept_although_another_place_does_not_know_it() {
    let known = pin("a", "Notes", VaultEncryption::Standard);
    let accepted = known.clone().accepted_by("me@host");
    let found = [found(PinPlace::Home, known.clone()), found(PinPlace::Table, accepted.clone())];
    let PinDecision::Open(opening) = check(known, &found, &silent()) else { panic!("it is refused") };
    assert_eq!(opening.pin.accepted, accepted.accepted);
}

#[test]
fn a_former_name_stays_pinned_and_the_first_one_for_ever() {
    let mut known = pin("a", "Notes", end_to_end(SALT));
    for name in ["one", "two", "three", "four", "five", "six"] {
        let listed = pin("a", name, end_to_end(SALT));
        let PinDecision::Open(opening) = check(listed, &[found(PinPlace::Home, known)], &silent()) else {
            panic!("{name} is refused")
        };
        known = opening.pin;
    }
    assert_eq!(known.name, "six");
    assert_eq!(known.former_names.len(), FORMER_NAMES);
    let listed = pin("b", "Notes", VaultEncryption::Standard);
    assert_eq!(word(listed, &[found(PinPlace::Home, known)], &silent()), "weaker");
}

#[test]
fn pins_of_another_service_concern_nothing_but_their_destination() {
    let mut elsewhere = pin("a", "Notes", end_to_end(SALT));
    elsewhere.service = "https://other.example/".to_owned();
    let listed = || pin("a", "Notes", VaultEncryption::Standard);
    assert_eq!(word(listed(), &[found(PinPlace::Home, elsewhere.clone())], &silent()), "first");
    assert_eq!(word(listed(), &[found(PinPlace::Destination, elsewhere)], &silent()), "weaker");
}

#[test]
fn what_the_user_says_is_held_to() {
    let known = [found(PinPlace::Home, pin("a", "Notes", VaultEncryption::Standard))];
    let says = |encryption, password| Wish { encryption, password, ..silent() };
    let (standard, strong) = (Some(VaultKind::Standard), Some(VaultKind::EndToEnd));
    use PasswordAtHand::{None as NoPassword, OfThisVault, Unnamed};
    for (wish, new, of_known, encrypted) in [
        (says(None, Unnamed), "ask", "open", "first"),
        (says(None, OfThisVault), "password given", "password given", "first"),
        (says(standard, Unnamed), "first", "open", "not as wished"),
        (says(standard, OfThisVault), "first", "open", "not as wished"),
        (says(strong, NoPassword), "not as wished", "not as wished", "first"),
        (says(strong, Unnamed), "not as wished", "not as wished", "first"),
    ] {
        let listed = || pin("a", "Notes", VaultEncryption::Standard);
        assert_eq!(word(listed(), &[], &wish), new, "{wish:?}");
        assert_eq!(word(listed(), &known, &wish), of_known, "{wish:?}");
        assert_eq!(word(pin("a", "Notes", end_to_end(SALT)), &[], &wish), encrypted, "{wish:?}");
        // Accepting a change accepts nothing else.
        let accepting = Wish { accepts_change: true, ..wish };
        assert_eq!(word(listed(), &[], &accepting), new, "{wish:?}");
        assert_eq!(word(listed(), &known, &accepting), of_known, "{wish:?}");
    }
}

#[test]
fn accepting_a_change_does_not_overrule_the_kind_that_was_asked_for() {
    let known = [found(PinPlace::Home, pin("a", "Notes", end_to_end(SALT)))];
    let wish = Wish { encryption: Some(VaultKind::EndToEnd), accepts_change: true, ..silent() };
    assert_eq!(word(pin("a", "Notes", VaultEncryption::Standard), &known, &wish), "not as wished");
}

#[test]
fn a_short_salt_is_refused_in_a_new_vault_and_mentioned_in_a_known_one() {
    let short = || pin("a", "Notes", end_to_end("0123456789abcde"));
    assert_eq!(word(short(), &[], &silent()), "short salt");
    assert_eq!(word(short(), &[found(PinPlace::Home, short())], &silent()), "noticed");
    let was_standard = found(PinPlace::Home, pin("a", "Notes", VaultEncryption::Standard));
    assert_eq!(word(short(), &[was_standard], &silent()), "short salt");
    let old = VaultEncryption::EndToEnd { version: EncryptionVersion::V0, salt: "s".to_owned() };
    assert_eq!(word(pin("a", "Notes", old), &[], &silent()), "first");
}

#[test]
fn a_pin_is_read_as_it_was_written_and_anything_else_is_no_pin() {
    let pin = pin("a", "Notes", end_to_end(SALT)).accepted_by("me@host");
    let text = pin.to_text().unwrap();
    assert_eq!(Pin::from_text(&text), Ok(pin.clone()));
    for damaged in
        ["", "{}", "null", "{\"format\":0}", &text[..text.len() - 1], &text.replace("end-to-end", "none")]
    {
        assert!(matches!(Pin::from_text(damaged), Err(PinError::Damaged(_))), "{damaged}");
    }
    assert_eq!(Pin::from_text(&text.replace("\"format\":1", "\"format\":2")), Err(PinError::Newer));
    let long = Pin { name: "x".repeat(limits::PIN), ..pin };
    assert!(long.to_text().is_err() && Pin::from_text(&" ".repeat(limits::PIN + 1)).is_err());
}
