//! Attacks of a server on memory and time, in a separate process, since its peak memory is measured.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::{Duration, Instant};

use obsync_client::{
    Client, ClientError, ClientOptions, RetryPolicy, Session, SessionTarget, Timeouts, Token,
};
use obsync_testkit::{Faults, Server, VaultHandle, VaultSpec};

/// Memory limit of an attack beyond an honest run, in KiB.
const MOST_MEMORY: u64 = 150 << 10;

/// Time limit of an attack: none of them is slow.
const MOST_TIME: Duration = Duration::from_secs(60);

struct Scene {
    server: Server,
    vault: VaultHandle,
    client: Client,
    token: Token,
}

impl Scene {
    async fn start() -> Self {
        let server = Server::builder()
            .user("someone@example.com", "password")
            .vault(VaultSpec::end_to_end("Notes", "the vault's password"))
            .start()
            .await
            .unwrap();
        let vault = server.vault("Notes").unwrap();
        vault.write("a.md", "a", 1).unwrap();
        let seconds = Duration::from_secs(10);
        let options = ClientOptions {
            api_url: server.url(),
            timeouts: Timeouts { silence: seconds, stall: seconds, ..Timeouts::default() },
            retry: RetryPolicy { attempts: 1, ..RetryPolicy::default() },
            ..ClientOptions::default()
        };
        let client = Client::new(options).unwrap();
        let token = client.sign_in("someone@example.com", &"password".into(), None).await.unwrap().token;
        Self { server, vault, client, token }
    }

    /// Signs in, lists the vaults and one vault's entries.
    async fn visit(&self) -> Result<(), ClientError> {
        self.client.sign_in("someone@example.com", &"password".into(), None).await?;
        self.client.vaults(&self.token).await?;
        let target = SessionTarget {
            token: self.token.clone(),
            vault_id: self.vault.id().clone(),
            host: self.server.host(),
            keys: self.vault.keys().unwrap().clone(),
        };
        let mut session = Session::open(&self.client, &target, 0, true).await?;
        session.listing(&mut |_| {}).await.map(|_| ())
    }
}

/// The largest resident memory of this process so far, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn no_attack_takes_much_memory_or_time() {
    let scene = Scene::start().await;
    scene.visit().await.unwrap();
    let honest = peak();
    for attack in [
        "flood-pings",
        "flood-pongs",
        "flood-fragments",
        "huge-token,rest-path=/user/signin",
        "rest-many-objects,rest-path=/user/signin",
        "rest-many-objects,rest-path=/vault/list",
    ] {
        scene.server.faults().set(attack.parse::<Faults>().unwrap());
        let begun = Instant::now();
        let error = tokio::time::timeout(MOST_TIME, scene.visit()).await.unwrap().unwrap_err();
        assert!(matches!(error, ClientError::Protocol { .. }), "{attack}: {error:?}");
        assert!(begun.elapsed() < MOST_TIME, "{attack}");
        let more = peak() - honest;
        assert!(more < MOST_MEMORY, "{attack}: {more} KiB more than an honest run");
    }
    scene.server.faults().clear();
    scene.visit().await.unwrap();
}
