//! From the start of the program to its first request for an event, and to its first answer.
//!
//! `OBSYNC_TEST_BOOTSTRAP` names the measured program, as deployed; `OBSYNC_TEST_OTHER_BOOTSTRAP` another one
//! to compare it with, start by start (docs/PERFORMANCE.md).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use obsync_testcloud::{Invocation, InvokeOptions, LambdaOptions, LambdaRuntime, Outcome, Service};
use obsync_testkit::network::{Authority, Flaw, TlsFront};
use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::json;

use crate::world::{World, answered};

/// Number of measured starts.
const STARTS: usize = 20;
/// Time limit until the deployed program is ready.
const READY: Duration = Duration::from_millis(15);
/// Time limit until its first answer, about the state of a vault: 19 ms were measured (docs/PERFORMANCE.md).
const ANSWERED: Duration = Duration::from_millis(40);
/// Time until a shell requests its first event, on an idle machine. The limits of the program are stretched
/// by the same factor as this time.
const SHELL_READY: Duration = Duration::from_millis(3);
/// A program that only does that.
const SHELL: &str = "#!/bin/bash\n\
    exec 3<>\"/dev/tcp/${AWS_LAMBDA_RUNTIME_API%:*}/${AWS_LAMBDA_RUNTIME_API##*:}\"\n\
    printf 'GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nHost: lambda\\r\\n\\r\\n' >&3\n\
    while read -r _ <&3; do :; done\n";

async fn first(options: LambdaOptions, world: &World, limit: Duration) -> Invocation {
    let function = LambdaRuntime::new(&world.cloud, options);
    let options = InvokeOptions { timeout: Some(limit), ..InvokeOptions::default() };
    function.invoke(&json!({ "action": "status" }), options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_certificates_nor_clients_are_made_before_the_first_event_wants_them() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    // Opening it blocks for ever.
    let pipe = folder.path().join("pipe");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    for (name, of) in
        [("SSL_CERT_FILE", "the system's certificates"), ("AWS_CONFIG_FILE", "the clients of AWS")]
    {
        let mut options = world.options();
        options.init_timeout = Duration::from_secs(20);
        // The public service, which is not called: it makes the program load certificates.
        options.env.retain(|(name, _)| name != "OBSYNC_API_URL");
        options.env.push((name.to_owned(), pipe.display().to_string()));
        let invocation = first(options, &world, Duration::from_secs(2)).await;
        assert!(invocation.init.is_some_and(|init| init < Duration::from_secs(20)), "{of}: {invocation:?}");
        assert!(
            matches!(invocation.outcome, Outcome::TimedOut { .. }),
            "the first event wants {of}: {invocation:?}"
        );
    }
}

/// The world behind TLS, like the real one.
struct Secured {
    world: World,
    fronts: Vec<(&'static str, TlsFront)>,
    ca_file: tempfile::NamedTempFile,
}

impl Secured {
    async fn new() -> Self {
        let world = World::new().await;
        let authority = Authority::new().unwrap();
        let plain = |url: String| url.trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
        let servers: [(&str, SocketAddr); 3] = [
            ("OBSYNC_API_URL", plain(world.server.url())),
            ("AWS_ENDPOINT_URL_DYNAMODB", plain(world.cloud.endpoint(Service::DynamoDb))),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", plain(world.cloud.endpoint(Service::SecretsManager))),
        ];
        let mut fronts = Vec::new();
        for (name, server) in servers {
            let config = authority.server(&["127.0.0.1"], Flaw::None).unwrap();
            let front = TlsFront::on(IpAddr::V4(Ipv4Addr::LOCALHOST), config).await.unwrap();
            front.lead_to(server);
            fronts.push((name, front));
        }
        let ca_file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(ca_file.path(), authority.pem()).unwrap();
        Secured { world, fronts, ca_file }
    }

    fn options(&self, program: &Path) -> LambdaOptions {
        let mut options = self.world.options();
        options.program = program.to_owned();
        options.env.retain(|(name, _)| name != "OBSYNC_API_URL");
        for (name, front) in &self.fronts {
            options.env.push(((*name).to_owned(), format!("https://{}/", front.address())));
        }
        options.env.push(("OBSYNC_CA_FILE".to_owned(), self.ca_file.path().display().to_string()));
        options
    }

    /// From the start of a shell until it was ready.
    async fn start_shell(&self, script: &Path) -> Duration {
        let invocation = first(self.options(script), &self.world, Duration::from_millis(50)).await;
        invocation.init.unwrap()
    }

    /// From the start of a program until it was ready, and until its first answer.
    async fn start(&self, program: &Path) -> (Duration, Duration) {
        let invocation = first(self.options(program), &self.world, Duration::from_secs(120)).await;
        answered(&invocation);
        let init = invocation.init.unwrap();
        (init, init + invocation.duration)
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_as_deployed_is_ready_within_15_ms_and_answers_no_later_than_another() {
    let secured = Secured::new().await;
    let program = secured.world.options().program;
    let is_deployed = std::env::var_os("OBSYNC_TEST_BOOTSTRAP").is_some();
    let other = std::env::var_os("OBSYNC_TEST_OTHER_BOOTSTRAP");
    let programs: Vec<_> = std::iter::once(program).chain(other.map(Into::into)).collect();
    let script = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    std::fs::write(&script, SHELL).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut times = vec![(Vec::new(), Vec::new()); programs.len()];
    let mut shell = Vec::new();
    for _ in 0..if is_deployed { STARTS } else { 2 } {
        for (program, (ready, answer)) in programs.iter().zip(&mut times) {
            let (to_ready, to_answer) = secured.start(program).await;
            ready.push(to_ready);
            answer.push(to_answer);
        }
        shell.push(secured.start_shell(&script).await);
    }
    let stretch = (median(shell).as_secs_f64() / SHELL_READY.as_secs_f64()).max(1.0);
    let times: Vec<_> = times.into_iter().map(|(ready, answer)| (median(ready), median(answer))).collect();
    for (program, (ready, answer)) in programs.iter().zip(&times) {
        println!("{}: ready after {ready:?}, first answer after {answer:?}", program.display());
    }
    println!("a shell takes {stretch:.2} times as long as where it is alone");
    if is_deployed {
        let (ready, answer) = (READY.mul_f64(stretch), ANSWERED.mul_f64(stretch));
        assert!(times[0].0 <= ready && times[0].1 <= answer, "{times:?}, {stretch:.2}");
    }
    if let Some((_, others)) = times.get(1) {
        assert!(times[0].1 <= *others * 21 / 20, "the first answer comes later: {times:?}");
    }
}
