//! Health reports of runs and followers: to a monitor, Prometheus, systemd.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use obsync_testkit::network::{Authority, ConnectProxy, Flaw, ProxyRules, TlsFront};
use obsync_testkit::{Chance, Faults, Server, VaultSpec};
use rustix::process::{Pid, Signal, kill_process};

use crate::bad_input::start;
use crate::monitor::{Follower, Monitor, is_silent};
use crate::world::{World, put, ran};

const NOON: i64 = 1_767_268_800_000;

fn furnished() -> World {
    let world = World::new();
    world.vault("Notes").write("Welcome.md", "# Welcome", NOON).unwrap();
    world
}

/// The value of a metric in Prometheus's text.
#[track_caller]
fn metric(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with(&format!("{name}{{")));
    let value = line.and_then(|line| line.rsplit(' ').next()).unwrap_or_else(|| panic!("no {name}: {text}"));
    value.parse().unwrap()
}

/// Ends the server; nobody listens at its address any more.
fn end_server(world: &mut World) {
    let stand_in = world.runtime.block_on(Server::builder().start()).unwrap();
    let server = std::mem::replace(&mut world.server, stand_in);
    world.runtime.block_on(server.shutdown());
}

#[test]
fn a_run_pings_its_start_and_its_success_with_one_id_and_the_report() {
    let world = furnished();
    for (command, said) in [("pull", "Pulled 1 file"), ("sync", "Nothing new in"), ("push", "Nothing new in")]
    {
        let monitor = Monitor::answering(200);
        let url = monitor.url();
        let args = [command, "Notes", "notes", "--ping", &url, "--yes"];
        world.must(&args[..args.len() - usize::from(command == "pull")]);
        let (start, success) = (monitor.next(), monitor.next());
        let run = start.path.strip_prefix("/check-5e1f/start?rid=").unwrap();
        assert_eq!((run.len(), start.body.as_str()), (36, ""));
        assert_eq!((success.method.as_str(), &success.path), ("POST", &format!("/check-5e1f?rid={run}")));
        assert!(success.body.contains(said), "{command}: {}", success.body);
        assert!(monitor.rest().is_empty());
    }
}

#[test]
fn a_failure_is_pinged_with_its_reason_and_without_secrets() {
    let password = "a-passphrase-of-25-bytes!";
    let world = World::with(|builder| builder.vault(VaultSpec::end_to_end("Private", password)));
    let monitor = Monitor::answering(200);
    let url = monitor.url();
    world.run(&["pull", "Nowhere", "notes", "--ping", &url]).expect(4);
    monitor.next();
    let failure = monitor.next();
    assert!(failure.path.starts_with("/check-5e1f/fail?rid="), "{failure:?}");
    assert!(failure.body.starts_with("exit status 4\nthere is no vault \"Nowhere\""), "{failure:?}");

    // A note has the name of the vault's password.
    let name = format!("{password}.md");
    world.vault("Private").write(&name, "of the vault", NOON).unwrap();
    put(&world.path("notes").join(&name), "of the folder");
    let mut pull = world.command(&["pull", "Private", "notes"]);
    ran(pull.env("OBSYNC_PING_URL", &url).env("OBSYNC_VAULT_PASSWORD", password)).expect(0);
    let (_, success) = (monitor.next(), monitor.next());
    assert!(success.body.contains("In the way of a file of the vault"), "{success:?}");
    assert!(success.body.contains("[secret].md") && !success.body.contains(password), "{success:?}");
}

#[test]
fn the_address_of_a_monitor_can_be_in_a_file() {
    let world = furnished();
    let (monitor, other) = (Monitor::answering(200), Monitor::answering(200));
    let file = world.path("ping-url");
    put(&file, &format!("{}\n", monitor.url()));
    let pull = |more: &[&str]| {
        let mut pull = world.command(&[&["pull", "Notes", "notes"], more].concat());
        pull.env("OBSYNC_PING_URL_FILE", &file);
        pull
    };
    ran(&mut pull(&[])).expect(0);
    assert!(monitor.next().path.starts_with("/check-5e1f/start") && monitor.next().method == "POST");
    // The option has precedence over it.
    ran(&mut pull(&["--ping", &other.url()])).expect(0);
    assert!(other.next().path.starts_with("/check-5e1f/start"));
    assert!(monitor.rest().is_empty());
    let both = ran(pull(&[]).env("OBSYNC_PING_URL", other.url())).expect(2);
    assert!(both.stderr.contains("both OBSYNC_PING_URL and OBSYNC_PING_URL_FILE"), "{}", both.stderr);
    put(&file, "s3cret: no address");
    let wrong = ran(&mut pull(&[])).expect(2);
    let told = &wrong.stderr;
    assert!(told.contains("OBSYNC_PING_URL_FILE") && !told.contains("s3cret"), "{told}");
    let missing = ran(pull(&[]).env("OBSYNC_PING_URL_FILE", world.path("nowhere"))).expect(2);
    assert!(missing.stderr.contains("OBSYNC_PING_URL_FILE"), "{}", missing.stderr);
}

#[test]
fn a_monitor_that_is_away_or_refuses_fails_no_run_and_its_address_stays_secret() {
    let world = furnished();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refusing = Monitor::answering(404);
    for (url, reason) in [(format!("http://{free}/check-5e1f"), ""), (refusing.url(), "it answered 404")] {
        let told = world.must(&["pull", "Notes", "notes", "--ping", &url, "--quiet"]).stderr;
        let warning = format!("the ping of 127.0.0.1 did not arrive: {reason}");
        assert_eq!(told.matches(&warning).count(), 1, "{told}");
        assert!(!told.contains("5e1f"), "{told}");
    }
}

#[test]
fn pings_go_through_the_proxy_and_trust_the_certificates_of_the_user() {
    let world = furnished();
    let monitor = Monitor::answering(200);
    let authority = Authority::new().unwrap();
    let config = authority.server(&["monitor.example"], Flaw::None).unwrap();
    let front = world.runtime.block_on(TlsFront::on(IpAddr::V4(Ipv4Addr::LOCALHOST), config)).unwrap();
    front.lead_to(monitor.address);
    let rules = ProxyRules { server: front.address(), password: None, status: None };
    let proxy = world.runtime.block_on(ConnectProxy::start(rules)).unwrap();
    fs::write(world.path("ca.pem"), authority.pem()).unwrap();
    let pull = ["pull", "Notes", "notes", "--ping", "https://monitor.example/check-5e1f"];
    let command = || {
        let mut command = world.command(&pull);
        command.env("HTTPS_PROXY", format!("http://{}", proxy.address()));
        command
    };
    let told = ran(&mut command()).expect(0).stderr;
    assert!(told.contains("the ping of monitor.example did not arrive"), "{told}");
    assert!(monitor.rest().is_empty());
    let told = ran(command().arg("--ca-file").arg(world.path("ca.pem"))).expect(0).stderr;
    assert!(!told.contains("warning"), "{told}");
    assert_eq!(monitor.rest().len(), 2);
    assert!(proxy.asked().iter().all(|asked| asked.contains("monitor.example:443")), "{:?}", proxy.asked());
}

#[test]
fn a_file_for_node_exporter_says_how_the_last_run_ended_and_when_one_last_succeeded() {
    let mut world = furnished();
    let pull = ["pull", "Notes", "notes", "--metrics-file", "obsync.prom"];
    world.must(&pull);
    let file = world.path("obsync.prom");
    let text = fs::read_to_string(&file).unwrap();
    let labels = r#"{vault="Notes",destination="notes",command="pull"}"#;
    assert!(text.contains(&format!("\nobsync_last_run_success{labels} 1")), "{text}");
    assert_eq!(metric(&text, "obsync_vault_version"), 1.0);
    assert!(metric(&text, "obsync_last_run_received_bytes") > 9.0);
    for name in ["obsync_pending_files", "obsync_failed_changes", "obsync_held_back_deletions"] {
        assert_eq!(metric(&text, name), 0.0, "{name}");
    }
    assert!(metric(&text, "obsync_last_run_duration_seconds") > 0.0);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    let checked = metric(&text, "obsync_last_check_timestamp_seconds");

    end_server(&mut world);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut failing = world.command(&pull);
    ran(failing.env("OBSYNC_API_URL", format!("http://{free}")).args(["--timeout", "1"])).expect(8);
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(metric(&text, "obsync_last_run_success"), 0.0);
    assert_eq!(metric(&text, "obsync_last_run_exit_status"), 8.0);
    let kept = metric(&text, "obsync_last_check_timestamp_seconds");
    assert!((kept - checked).abs() < 60.0 && kept <= metric(&text, "obsync_last_run_timestamp_seconds"));
    let names: Vec<_> =
        fs::read_dir(world.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains("metrics-")), "{names:?}");
}

#[test]
fn a_file_for_node_exporter_says_what_a_sync_sent_and_what_it_could_not() {
    let world = furnished();
    let sync = ["sync", "Notes", "notes", "--yes", "--metrics-file", "obsync.prom"];
    world.must(&sync);
    put(&world.path("notes/small.md"), "goes");
    put(&world.path("notes/large.bin"), &"x".repeat(100_000));
    world.server.faults().update(|faults| faults.per_file_max = Some(1000));
    world.run(&sync).expect(5);
    let text = fs::read_to_string(world.path("obsync.prom")).unwrap();
    assert_eq!(metric(&text, "obsync_last_run_sent_bytes"), 4.0, "{text}");
    assert_eq!(metric(&text, "obsync_failed_changes"), 1.0);
    assert_eq!(metric(&text, "obsync_last_run_exit_status"), 5.0);

    // A run that is cut off reports its unsent files.
    stopped_while_it_sends(&world, &sync, Signal::TERM);
    let text = fs::read_to_string(world.path("obsync.prom")).unwrap();
    assert_eq!(metric(&text, "obsync_pending_files"), 1.0, "{text}");
    world.server.faults().clear();
    world.must(&sync);
    let text = fs::read_to_string(world.path("obsync.prom")).unwrap();
    assert_eq!(metric(&text, "obsync_pending_files"), 0.0);
    assert_eq!(metric(&text, "obsync_last_run_sent_bytes"), 100_000.0);
}

#[test]
fn a_dry_run_tells_nobody() {
    let world = furnished();
    let monitor = Monitor::answering(200);
    let (url, file) = (monitor.url(), "obsync.prom");
    world.must(&["pull", "Notes", "notes", "--dry-run", "--ping", &url, "--metrics-file", file]);
    assert!(is_silent(&monitor) && !world.path(file).exists());
}

#[test]
fn what_cannot_be_told_to_anybody_is_refused_before_anything_is_done() {
    let world = furnished();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (options, code) in [
        (["--listen", "127.0.0.1:0", "-q"].as_slice(), 2),
        (&["--follow", "--listen", &address], 1),
        (&["--metrics-file", "nowhere/obsync.prom"], 2),
        (&["--ping", "ftp://monitor.example/x"], 2),
    ] {
        let args: Vec<&str> = ["pull", "Notes", "notes"].iter().chain(options).copied().collect();
        world.run(&args).expect(code);
    }
    assert_eq!(world.server.stats().rest_requests, 0);
    assert!(!world.path("notes").exists());
}

#[test]
fn a_follower_is_ready_when_it_is_in_step_and_alive_but_not_ready_while_the_service_is_away() {
    let mut world = furnished();
    let monitor = Monitor::answering(200);
    let url = monitor.url();
    let args = ["pull", "Notes", "notes", "--ping", &url, "--metrics-file", "obsync.prom"];
    let follower = Follower::start(&world, &args, &[]);
    assert_eq!(follower.until("/readyz", 200), "ready\n");
    assert_eq!(world.files("notes").len(), 1);
    let text = follower.until("/metrics", 200);
    assert_eq!(metric(&text, "obsync_ready"), 1.0);
    assert!(metric(&text, "obsync_last_check_age_seconds") < 60.0);
    assert!(metric(&text, "obsync_runs_total") >= 1.0);
    assert_eq!(follower.get("/other").0, 404);
    let (start, success) = (monitor.next(), monitor.next());
    assert!(start.path.contains("/start?") && success.path.starts_with("/check-5e1f?"), "{success:?}");
    assert!(success.body.contains("Pulled 1 file"), "{success:?}");

    end_server(&mut world);
    let missing = follower.until("/readyz", 503);
    assert!(missing.starts_with("not ready since 20"), "{missing}");
    assert_eq!(follower.get("/healthz"), (200, "alive\n".to_owned()));
    assert_eq!(metric(&follower.until("/metrics", 200), "obsync_ready"), 0.0);
    follower.stop();
    let text = fs::read_to_string(world.path("obsync.prom")).unwrap();
    assert!(metric(&text, "obsync_runs_total") >= 1.0);
    // A file stays when the follower is gone.
    assert!(!text.contains("obsync_ready") && !text.contains("_age_seconds"), "{text}");
    assert!(monitor.rest().is_empty(), "a short outage is no failure");
}

#[test]
fn a_follower_is_ready_again_when_the_service_is_back_and_has_no_lag() {
    let world = furnished();
    let follower = Follower::start(&world, &["sync", "Notes", "notes", "--yes"], &[]);
    follower.until("/readyz", 200);
    world.server.faults().update(|faults| faults.refuse_upgrade = Chance::always());
    world.server.disconnect_all();
    let missing = follower.until("/readyz", 503);
    assert!(missing.starts_with("not ready since 20"), "{missing}");
    world.vault("Notes").write("Meanwhile.md", "of the vault", NOON).unwrap();
    world.server.faults().clear();
    assert_eq!(follower.until("/readyz", 200), "ready\n");
    // Ready means in step.
    assert_eq!(world.files("notes").len(), 2);
    let text = follower.until("/metrics", 200);
    assert_eq!((metric(&text, "obsync_ready"), metric(&text, "obsync_version_lag")), (1.0, 0.0));
    assert_eq!(follower.stop().0, 0);
}

#[test]
#[cfg(target_os = "linux")]
fn a_follower_whose_run_left_something_undone_is_not_called_in_step() {
    use crate::monitor::until_said;
    let world = furnished();
    put(&world.path("notes/large.bin"), &"x".repeat(100_000));
    world.server.faults().update(|faults| faults.per_file_max = Some(1000));
    let socket = world.path("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    let environment = [("NOTIFY_SOCKET", socket.to_str().unwrap())];
    let follower = Follower::start(&world, &["sync", "Notes", "notes", "--yes"], &environment);
    let said = until_said(&manager, "STATUS=waiting for changes; 1 change failed");
    assert!(said.iter().any(|text| text.starts_with("READY=1")), "{said:?}");
    assert!(!said.iter().any(|text| text.contains("in step")), "{said:?}");
    assert_eq!(follower.until("/readyz", 200), "ready; 1 change failed\n");
    world.server.faults().clear();
    fs::remove_file(world.path("notes/large.bin")).unwrap();
    follower.signal(Signal::HUP);
    until_said(&manager, "STATUS=in step, waiting for changes");
    assert_eq!(follower.until("/readyz", 200), "ready\n");
    assert_eq!(follower.stop().0, 0);
}

#[test]
#[cfg(target_os = "linux")]
fn a_follower_of_a_vault_that_is_older_is_not_ready() {
    older_is_not_ready(&["pull", "Notes", "notes"]);
    older_is_not_ready(&["sync", "Notes", "notes", "--yes"]);
}

#[cfg(target_os = "linux")]
fn older_is_not_ready(command: &[&str]) {
    use crate::monitor::until_said;
    let world = furnished();
    let vault = world.vault("Notes");
    let before = vault.version();
    vault.write("Welcome.md", "changed", NOON).unwrap();
    world.must(command);
    vault.roll_back(before).unwrap();
    let socket = world.path("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    let environment = [("NOTIFY_SOCKET", socket.to_str().unwrap())];
    let reason = "the vault is older than the destination";
    let follower = Follower::start(&world, command, &environment);
    let begun = Instant::now();
    while !follower.until("/readyz", 503).ends_with(&format!(": {reason}\n")) {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not say so");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(metric(&follower.until("/metrics", 200), "obsync_ready"), 0.0);
    assert_eq!(follower.get("/healthz").0, 200);
    assert_eq!(follower.stop().0, 0);
    let said = until_said(&manager, "STOPPING=1");
    assert!(
        said.iter().any(|text| text.starts_with("STATUS=not ready") && text.contains(reason)),
        "{said:?}"
    );
    assert!(!said.iter().any(|text| text.starts_with("READY=1") || text.contains("in step")), "{said:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_follower_tells_systemd_that_it_began_what_it_does_and_that_it_is_alive() {
    use crate::monitor::until_said;
    let world = furnished();
    let socket = world.path("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    let environment = [("NOTIFY_SOCKET", socket.to_str().unwrap()), ("WATCHDOG_USEC", "300000")];
    let follower = Follower::start(&world, &["pull", "Notes", "notes"], &environment);
    until_said(&manager, "READY=1");
    until_said(&manager, "STATUS=in step, waiting for changes");
    until_said(&manager, "WATCHDOG=1");
    until_said(&manager, "WATCHDOG=1");
    assert_eq!(follower.stop().0, 0);
    until_said(&manager, "STOPPING=1");
}

#[test]
#[cfg(target_os = "linux")]
fn systemd_hears_that_a_follower_is_ready_when_its_first_run_has_ended_well() {
    use crate::monitor::until_said;
    let world = furnished();
    world.server.faults().update(|faults| faults.refuse_upgrade = Chance::always());
    let socket = world.path("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    let environment = [("NOTIFY_SOCKET", socket.to_str().unwrap())];
    let follower = Follower::start(&world, &["pull", "Notes", "notes", "--timeout", "1"], &environment);
    until_said(&manager, "EXTEND_TIMEOUT_USEC=");
    follower.until("/healthz", 200);
    let mut said = until_said(&manager, "STATUS=not ready since");
    world.server.faults().clear();
    assert!(!said.iter().any(|text| text.starts_with("READY=1")), "{said:?}");
    said = until_said(&manager, "READY=1");
    assert!(!said.iter().any(|text| text.contains("in step")), "{said:?}");
    assert_eq!(world.files("notes").len(), 1);
    assert_eq!(follower.stop().0, 0);
}

#[test]
fn a_follower_that_begins_while_the_service_is_away_waits_if_it_knows_the_vault() {
    let world = furnished();
    let away = || {
        world.server.faults().update(|faults| faults.rest_status_error = Chance::always());
    };
    let args = ["pull", "Notes", "notes", "--timeout", "1"];
    away();
    world.run(&["pull", "Notes", "notes", "--timeout", "1", "--follow"]).expect(8);
    world.server.faults().clear();
    world.must(&args);
    away();
    let follower = Follower::start(&world, &args, &[]);
    let begun = Instant::now();
    while follower.until("/readyz", 503).contains("the first run is at work") {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(follower.get("/healthz").0, 200);
    world.server.faults().clear();
    follower.until("/readyz", 200);
    let (exit, said) = follower.stop();
    assert_eq!((exit, said.matches("trying again").count()), (0, 1), "{said}");
}

#[test]
fn a_hangup_has_a_follower_look_at_everything_again() {
    let world = furnished();
    let follower = Follower::start(&world, &["sync", "Notes", "notes", "--yes"], &[]);
    follower.until("/readyz", 200);
    let before = world.server.stats().websocket_connections;
    follower.signal(Signal::HUP);
    let begun = Instant::now();
    while world.server.stats().websocket_connections == before {
        assert!(begun.elapsed() < Duration::from_secs(60), "it opens no new session");
        std::thread::sleep(Duration::from_millis(10));
    }
    follower.until("/readyz", 200);
    let (exit, said) = follower.stop();
    assert_eq!(exit, 0);
    assert!(said.contains("SIGHUP: everything is looked at again"), "{said}");
}

#[test]
fn a_follower_that_is_to_end_does_so_within_a_second() {
    let world = furnished();
    let args = ["sync", "Notes", "notes", "--yes"];
    let ends = |follower: Follower, what: &str| {
        let begun = Instant::now();
        assert_eq!(follower.stop().0, 0, "{what}");
        // The target is one second. The other tests use the processors as well.
        assert!(begun.elapsed() < Duration::from_secs(2), "{what}: {:?}", begun.elapsed());
    };
    let ready = || {
        let follower = Follower::start(&world, &args, &[]);
        follower.until("/readyz", 200);
        follower
    };
    ends(ready(), "while it waits for changes");

    let follower = ready();
    world.server.faults().update(|faults| faults.refuse_upgrade = Chance::always());
    world.server.disconnect_all();
    follower.until("/readyz", 503);
    ends(follower, "while the service refuses");
    world.server.faults().clear();

    let follower = ready();
    world.server.faults().update(|faults| faults.stall_init = Chance::always());
    world.server.disconnect_all();
    let connected = world.server.stats().websocket_connections;
    while world.server.stats().websocket_connections == connected {
        std::thread::sleep(Duration::from_millis(10));
    }
    ends(follower, "while the service does not answer");
    world.server.faults().clear();

    let follower = ready();
    stall_uploads(&world);
    put(&world.path("notes/large.bin"), &"x".repeat(5 << 20));
    until_stalled(&world);
    ends(follower, "while it sends");
}

/// Waits until the server has stopped answering uploads.
fn until_stalled(world: &World) {
    let begun = Instant::now();
    while world.server.faults().strikes("stall-in-upload") == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "it sends nothing");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Stalls all uploads from now on.
fn stall_uploads(world: &World) {
    world.server.faults().set(Faults { stall_in_upload: Chance::always(), ..Faults::default() });
}

/// Cancels a command while it sends; it ends before any limit of the service.
fn stopped_while_it_sends(world: &World, args: &[&str], signal: Signal) {
    stall_uploads(world);
    let command = start(world, &world.home(), args);
    until_stalled(world);
    kill_process(Pid::from_child(&command), signal).unwrap();
    let begun = Instant::now();
    assert_eq!(command.wait_with_output().unwrap().status.code(), Some(6), "{args:?}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{args:?}: {:?}", begun.elapsed());
}

#[test]
fn a_run_that_sends_ends_when_it_is_stopped_or_its_time_is_over_and_the_next_sends_the_rest() {
    let world = furnished();
    world.must(&["sync", "Notes", "notes", "--yes"]);
    put(&world.path("notes/large.bin"), &"x".repeat(5 << 20));
    stopped_while_it_sends(&world, &["sync", "Notes", "notes", "--yes"], Signal::INT);
    stopped_while_it_sends(&world, &["push", "Notes", "notes", "--yes"], Signal::TERM);
    stall_uploads(&world);
    let begun = Instant::now();
    world.run(&["sync", "Notes", "notes", "--yes", "--max-time", "4s"]).expect(6);
    // The service may take a minute for an answer.
    assert!(begun.elapsed() < Duration::from_secs(45), "{:?}", begun.elapsed());
    world.server.faults().clear();
    world.must(&["sync", "Notes", "notes", "--yes"]);
    assert!(world.vault("Notes").contents().unwrap().contains_key("large.bin"));
}

#[test]
fn a_run_whose_monitor_does_not_answer_ends_when_it_is_told_to() {
    let world = furnished();
    // Nobody accepts: the system takes the connections, and nothing more.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/check", silent.local_addr().unwrap());
    let file = world.path("obsync.prom");
    let program = start(
        &world,
        &world.home(),
        &["pull", "Notes", "notes", "--ping", &url, "--metrics-file", "obsync.prom"],
    );
    let begun = Instant::now();
    // Written when the run has ended, before the last ping.
    while !file.exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the run does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
    let begun = Instant::now();
    kill_process(Pid::from_child(&program), Signal::TERM).unwrap();
    let output = program.wait_with_output().unwrap();
    assert!(output.status.success(), "the run itself is complete: {output:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn a_follower_that_does_not_see_every_change_any_more_says_why_where_it_is_asked() {
    let world = furnished();
    // Watched before its first scan.
    fs::create_dir(world.path("notes")).unwrap();
    let follower = Follower::start(&world, &["sync", "Notes", "notes", "--yes"], &[]);
    let unwatched = || metric(&follower.get("/metrics").1, "obsync_folder_unwatched");
    assert_eq!(follower.until("/readyz", 200), "ready\n");
    assert!(unwatched() < 0.5);
    // The folder is watched by then.
    fs::write(world.path("notes/probe.md"), "probe").unwrap();
    let is_sent = || world.vault("Notes").contents().unwrap().contains_key("probe.md");
    let begun = Instant::now();
    while !is_sent() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it sends nothing");
        std::thread::sleep(Duration::from_millis(50));
    }
    fs::rename(world.path("notes"), world.path("elsewhere")).unwrap();
    let begun = Instant::now();
    while unwatched() < 0.5 {
        assert!(begun.elapsed() < Duration::from_secs(60), "it says nothing");
        std::thread::sleep(Duration::from_millis(50));
    }
    fs::rename(world.path("elsewhere"), world.path("notes")).unwrap();
    let ready = follower.until("/readyz", 200);
    assert_eq!(ready, "ready; the folder is scanned each minute, because it was removed or moved\n");
    assert_eq!(follower.stop().0, 0);
}
