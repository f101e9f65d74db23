//! Checks the marker, facts and looks of a destination.

use obsync_core::{
    Describe, Destination, Found, Inspect, KnownContent, LocalFacts, MARKER_FORMAT, Marker, MarkerFound,
    Wanted,
};
use obsync_protocol::ContentHash;

use super::destination::{DestinationUnderTest, listed};
use super::tools::{at, place};

fn marker(digit: char) -> Marker {
    let id = |digit: char| digit.to_string().repeat(32).parse().expect("an id");
    let vault = "vault-1".parse().expect("a vault's id");
    Marker { format: MARKER_FORMAT, id: id('0'), vault, generation: id(digit) }
}

fn is(found: &MarkerFound, wanted: &Marker) -> bool {
    matches!(found, MarkerFound::Marker { marker, .. } if marker == wanted)
}

pub(super) async fn a_marker_is_found_as_it_was_written_last(scene: &impl DestinationUnderTest) {
    let destination = scene.open().await;
    assert!(destination.is_empty().await.expect("is_empty"));
    assert_eq!(destination.identify(None).await.expect("identify"), MarkerFound::Absent);
    for digit in ['1', '2'] {
        let written = marker(digit);
        let marked = destination.mark(&written).await.expect("mark").expect("a place for it");
        destination.end_run().await;
        let next = scene.open().await;
        assert!(next.is_empty().await.expect("is_empty"), "a marker is no file of the vault");
        assert_eq!(listed(&next).await, [""; 0]);
        assert!(is(&next.identify(None).await.expect("identify"), &written));
        let known = next.identify(marked.tag.as_deref()).await.expect("identify");
        assert!(known == MarkerFound::Unchanged || is(&known, &written), "{known:?}");
        let other = next.identify(Some("\"another tag\"")).await.expect("identify");
        assert!(is(&other, &written), "{other:?}");
    }
}

pub(super) async fn a_look_tells_which_content_is_there(scene: &impl DestinationUnderTest) {
    let destination = scene.open().await;
    place(&destination, "a.md", b"text", 1_700_000_000_000, None).await;
    let wanted = |path: &str, content: &[u8]| Wanted {
        path: at(path),
        hash: ContentHash::of(content),
        size: content.len() as u64,
    };
    let questions = vec![
        wanted("a.md", b"text"),
        wanted("a.md", b"other, and longer"),
        wanted("a.md", b"same"),
        wanted("missing.md", b"text"),
        wanted("no/folder.md", b"text"),
    ];
    let found = destination.look(questions).await.expect("look");
    let text = Found::Other(KnownContent::of(b"text"));
    assert_eq!(found, [Found::Wanted, text, text, Found::Nothing, Found::Nothing]);
}

pub(super) async fn facts_are_those_of_the_file_as_long_as_nobody_changes_it(
    scene: &impl DestinationUnderTest,
) {
    let destination = scene.open().await;
    let published = place(&destination, "a.md", b"text", 1_700_000_000_000, None).await;
    let facts = published.facts.expect("facts of a file that was just put there");
    assert_eq!(facts.size(), 4);
    let Some(answers) = destination.facts(vec![at("a.md"), at("missing.md")]).await.expect("facts") else {
        return;
    };
    assert_eq!(answers, [Some(facts.clone()), None]);
    assert!(matches!(facts, LocalFacts::File { .. }));
    scene.plant("a.md", b"edit").await;
    let after = destination.facts(vec![at("a.md")]).await.expect("facts").expect("told before");
    assert_ne!(after, [Some(facts)]);
}
