//! The checks on a scratch vault confirm the behaviour that two-way sync relies on, and detect a service that
//! behaves otherwise.

use obsync_client::SessionTarget;
use obsync_core::{Finding, ServiceFact, check_service};
use obsync_testkit::{Chance, Faults};

use crate::bench::Bench;

async fn checked(set: impl FnOnce(&mut Faults)) -> Vec<ServiceFact> {
    let bench = Bench::new().await;
    bench.server.faults().update(set);
    let target = SessionTarget {
        token: bench.source.token.clone(),
        vault_id: bench.source.vault.id.clone(),
        host: bench.source.vault.host.clone(),
        keys: bench.source.keys.clone(),
    };
    check_service(&bench.source.client, &target).await
}

fn of(facts: &[ServiceFact], name: &str) -> Finding {
    facts.iter().find(|fact| fact.name == name).unwrap_or_else(|| panic!("{facts:#?}")).finding
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_does_as_the_protocol_says_is_found_to() {
    let facts = checked(|_| {}).await;
    assert_eq!(facts.len(), 11, "{facts:#?}");
    for fact in &facts {
        let wanted = if fact.name == "rename" { Finding::Observed } else { Finding::AsExpected };
        assert_eq!(fact.finding, wanted, "{facts:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_service_does_otherwise_is_told() {
    let facts = checked(|faults| faults.late_echo = Chance::always()).await;
    assert_eq!(of(&facts, "echo_before_answer"), Finding::Observed, "{facts:#?}");
    let facts = checked(|faults| faults.keep_related = Chance::always()).await;
    let rename = facts.iter().find(|fact| fact.name == "rename").unwrap();
    assert!(rename.details.contains("a change of its own"), "{rename:#?}");
}
