//! Unusable buckets and tables: messages and exit statuses.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use obsync_testcloud::{Refusal, Service};
use obsync_testkit::Chance;
use obsync_testkit::network::{ConnectProxy, ProxyRules};

use super::place::{BUCKET, DEST, Place, TABLE};
use crate::world::{Ran, ran};

fn with_a_note() -> Place {
    let place = Place::new();
    place.write("Note.md", "a note");
    place
}

#[track_caller]
fn tells(ran: Ran, code: i32, all: &[&str]) {
    let ran = ran.expect(code);
    for told in all {
        assert!(ran.stderr.contains(told), "{told:?} is not in {:?}", ran.stderr);
    }
}

/// Pulls with one changed environment variable.
fn pull_with(place: &Place, options: &[&str], variable: &str, value: &str) -> Ran {
    ran(place.command(&[&["pull", "Notes", DEST], options].concat()).env(variable, value))
}

#[test]
fn a_bucket_that_is_not_there() {
    let place = with_a_note();
    let pull = place.run(&["pull", "Notes", "s3://not-there/notes"]);
    tells(pull, 1, &["s3://not-there/notes cannot be used", "there is no such bucket", "`obsync aws init`"]);
}

#[test]
fn a_bucket_that_may_not_be_used() {
    let place = with_a_note();
    place.fault(|faults| faults.s3.forbidden = Chance::always());
    tells(place.run(&["pull", "Notes", DEST]), 1, &["access is denied", "s3:ListBucket", "s3:PutObject"]);
}

#[test]
fn a_bucket_that_goes_away_midway_loses_nothing() {
    let place = Place::new();
    for number in 0..50 {
        place.write(&format!("{number}.md"), &format!("note {number}"));
    }
    place.fault(|faults| faults.bucket_vanishes_after = Some(10));
    tells(place.run(&["pull", "Notes", DEST]), 1, &["there is no such bucket"]);
    place.cloud.faults().clear();
    assert!(place.cloud.s3().restore_bucket(BUCKET));
    place.pull(&[]);
    place.assert_exact();
}

#[test]
fn a_table_that_is_not_there() {
    let place = with_a_note();
    let told = ["there is no table not-there", "`obsync aws init --bucket ", "AWS_REGION"];
    for args in [&["pull", "Notes", DEST][..], &["status"], &["verify", DEST], &["reset", DEST, "--yes"]] {
        tells(place.run(&[args, &["--state", "dynamodb://not-there"]].concat()), 1, &told);
    }
    assert_eq!(place.objects(), []);
}

#[test]
fn a_table_that_may_not_be_used() {
    let place = with_a_note();
    place.fault(|faults| faults.dynamodb.forbidden = Chance::always());
    tells(place.run(&["pull", "Notes", DEST, "--state", TABLE]), 1, &["AWS does not allow it"]);
}

#[test]
fn credentials_that_are_wrong() {
    let place = with_a_note();
    let pull = pull_with(&place, &[], "AWS_SECRET_ACCESS_KEY", "wr0ng-s3cret");
    assert!(!pull.stderr.contains("wr0ng"), "{}", pull.stderr);
    tells(pull, 1, &["the credentials cannot be used"]);
}

#[test]
fn credentials_that_are_not_there() {
    let place = with_a_note();
    for (options, told) in [(&[][..], "credentials"), (&["--state", TABLE], "credentials")] {
        let mut pull = place.command(&[&["pull", "Notes", DEST], options].concat());
        pull.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        tells(ran(&mut pull), 1, &[told]);
    }
}

/// The code of a pull with some changed variables (`None`: not set), and whether it is marked as retryable.
#[track_caller]
fn code_of(place: &Place, args: &[&str], variables: &[(&str, Option<&str>)]) -> (String, bool) {
    let mut pull = place.command(&[&["pull", "Notes"], args, &["--json", "--timeout", "3"]].concat());
    for (name, value) in variables {
        match value {
            Some(value) => pull.env(name, value),
            None => pull.env_remove(name),
        };
    }
    let error = ran(&mut pull).expect(1).json()["error"].clone();
    (error["code"].as_str().unwrap().to_owned(), error["retryable"].as_bool().unwrap())
}

#[test]
fn scripts_tell_credentials_rights_region_place_and_network_apart() {
    let place = with_a_note();
    let lasting = |code: &str| (code.to_owned(), false);
    let passing = |code: &str| (code.to_owned(), true);
    let (bucket, table) = (&[DEST][..], &[DEST, "--state", TABLE][..]);
    let no_credentials = [("AWS_ACCESS_KEY_ID", None), ("AWS_SECRET_ACCESS_KEY", None)];
    let wrong_secret = [("AWS_SECRET_ACCESS_KEY", Some("wr0ng-s3cret"))];
    let no_region = [("AWS_REGION", None), ("AWS_DEFAULT_REGION", None)];
    for args in [bucket, table] {
        assert_eq!(code_of(&place, args, &no_credentials), lasting("credentials"), "{args:?}");
        assert_eq!(code_of(&place, args, &wrong_secret), lasting("credentials"), "{args:?}");
    }
    assert_eq!(code_of(&place, table, &no_region), lasting("region"));
    assert_eq!(code_of(&place, &["s3://not-there/notes"], &[]), lasting("no_such_place"));
    assert_eq!(code_of(&place, &[DEST, "--state", "dynamodb://not-there"], &[]), lasting("no_such_place"));
    for (status, code, words) in [
        (301, "PermanentRedirect", "must be addressed using the specified endpoint"),
        (400, "AuthorizationHeaderMalformed", "the region is wrong; expecting eu-west-1"),
    ] {
        let refusal = |operation: &str| Refusal::new(operation, status, code, words);
        place.fault(|faults| {
            faults.s3_manners.refusals =
                ["ListObjectsV2", "PutObject", "HeadObject", "GetObject"].map(refusal).to_vec();
        });
        assert_eq!(code_of(&place, bucket, &[]), lasting("region"), "{code}");
    }
    place.cloud.faults().clear();
    assert_eq!(place.world.server.stats().pulls, 0, "nothing was fetched for a place that cannot be used");
    let nobody = Some("http://127.0.0.1:9");
    assert_eq!(code_of(&place, bucket, &[("AWS_ENDPOINT_URL_S3", nobody)]), passing("unreachable"));
    assert_eq!(code_of(&place, table, &[("AWS_ENDPOINT_URL_DYNAMODB", nobody)]), passing("unreachable"));

    place.fault(|faults| faults.s3.forbidden = Chance::always());
    assert_eq!(code_of(&place, bucket, &[]), lasting("access_denied"));
    place.fault(|faults| {
        faults.s3.forbidden = Chance::never();
        faults.dynamodb.forbidden = Chance::always();
    });
    assert_eq!(code_of(&place, table, &[]), lasting("access_denied"));
    place.fault(|faults| {
        faults.dynamodb.forbidden = Chance::never();
        faults.s3.throttled = Chance::always();
    });
    assert_eq!(code_of(&place, bucket, &[]), passing("overloaded"));
    place.fault(|faults| {
        faults.s3.throttled = Chance::never();
        faults.dynamodb.throttled = Chance::always();
    });
    assert_eq!(code_of(&place, table, &[]), passing("overloaded"));
}

#[test]
fn a_service_that_throttles_is_borne() {
    let place = with_a_note();
    place.fault(|faults| {
        faults.s3.throttled = Chance::next(3);
        faults.dynamodb.throttled = Chance::next(3);
    });
    place.pull(&["--state", TABLE]);
    place.assert_exact();
}

#[test]
fn a_service_that_does_not_answer() {
    let place = with_a_note();
    place.fault(|faults| faults.s3.dropped = Chance::always());
    tells(place.run(&["pull", "Notes", DEST, "--timeout", "3"]), 1, &["it cannot be reached"]);
    assert_eq!(place.cloud.counts().of(Service::S3, "PutObject"), 0);
}

#[test]
fn a_table_that_does_not_answer_is_given_up_in_the_time_that_was_given() {
    let place = with_a_note();
    place.fault(|faults| faults.dynamodb.hang = Chance::always());
    let pull = place.run(&["pull", "Notes", DEST, "--state", TABLE, "--timeout", "1"]);
    tells(pull, 1, &["it does not answer", "run again later"]);
    // By default ten attempts of ten seconds each.
    assert_eq!(place.cloud.counts().total(Service::DynamoDb), 1);
}

/// A server that gives this answer to every request.
fn answering(answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 16 << 10];
            // The part that arrives first suffices.
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    format!("http://{address}")
}

#[test]
fn a_table_at_the_address_of_another_region() {
    let place = with_a_note();
    let body = "{\"__type\":\"com.amazon.coral.service#InvalidSignatureException\",\"message\":\"Credential should be scoped to \
                a valid region, not 'us-east-1'. \"}";
    let elsewhere = "Location: https://dynamodb.eu-west-1.amazonaws.com/";
    for (head, body) in [
        (format!("301 Moved Permanently\r\n{elsewhere}"), ""),
        ("400 Bad Request\r\nContent-Type: application/x-amz-json-1.0".to_owned(), body),
    ] {
        let length = body.len();
        let endpoint = answering(format!(
            "HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        ));
        let variables = [("AWS_ENDPOINT_URL_DYNAMODB", Some(endpoint.as_str()))];
        let failed = code_of(&place, &[DEST, "--state", TABLE], &variables);
        assert_eq!(failed, ("region".to_owned(), false), "{head}");
    }
    assert_eq!(place.world.server.stats().pulls, 0);
}

#[test]
fn a_proxy_that_refuses_or_fails_has_one_code_before_the_service_a_bucket_and_a_table() {
    let place = with_a_note();
    let nowhere = "127.0.0.1:9".parse().unwrap();
    for (password, status, code) in [
        (Some("me:pr0xy".to_owned()), None, ("proxy", false)),
        (None, Some(403), ("proxy", false)),
        (None, Some(502), ("unreachable", true)),
    ] {
        let rules = ProxyRules { server: nowhere, password, status };
        let proxy = place.world.runtime.block_on(ConnectProxy::start(rules)).unwrap();
        let url = format!("http://me:wr0ng@{}", proxy.address());
        for (args, endpoint) in [
            (&[DEST][..], ("AWS_ENDPOINT_URL_S3", Some("https://s3.test"))),
            (&[DEST, "--state", TABLE], ("AWS_ENDPOINT_URL_DYNAMODB", Some("https://dynamodb.test"))),
        ] {
            let variables = [endpoint, ("HTTPS_PROXY", Some(url.as_str()))];
            assert_eq!(code_of(&place, args, &variables), (code.0.to_owned(), code.1), "{args:?} {status:?}");
            let asked = proxy.asked();
            assert!(asked.iter().all(|host| host.contains(".test:443")) && !asked.is_empty(), "{asked:?}");
        }
        let mut vaults = place.command(&["vaults", "--json"]);
        vaults.env("OBSYNC_API_URL", "https://service.test/").env("HTTPS_PROXY", &url);
        // The exit status shows which connection failed.
        let error = ran(&mut vaults).expect(8).json()["error"].clone();
        assert_eq!((&error["code"], &error["retryable"]), (&code.0.into(), &code.1.into()), "{status:?}");
        assert!(!error["message"].as_str().unwrap().contains("wr0ng"), "{error}");
    }
    assert_eq!(place.world.server.stats().pulls, 0);
}

#[test]
fn a_bucket_that_turns_read_only_midway() {
    let place = Place::new();
    for number in 0..60 {
        place.write(&format!("{number}.md"), &format!("note {number}"));
    }
    let refusal = |operation: &str, after: u64| Refusal {
        chance: Chance::always().after(after),
        ..Refusal::new(operation, 403, "AccessDenied", "Access Denied")
    };
    place.fault(|faults| faults.s3_manners.refusals = vec![refusal("PutObject", 20)]);
    let failed = place.run(&["pull", "Notes", DEST, "--json"]).expect(1).json();
    assert_eq!((&failed["outcome"], &failed["error"]["code"]), (&"failed".into(), &"destination".into()));
    assert!(failed["error"]["message"].as_str().unwrap().contains("AccessDenied"), "{failed:#}");
    // A few refused ones fail alone.
    place.cloud.faults().clear();
    place.pull(&[]);
    place.write("new.md", "new");
    place.fault(|faults| faults.s3_manners.refusals = vec![refusal("PutObject", 0).about("new.md")]);
    let failed = place.run(&["pull", "Notes", DEST, "--json"]).expect(5).json();
    assert_eq!((&failed["outcome"], &failed["error"]["code"]), (&"failures".into(), &"failures".into()));
    assert!(failed["failures"][0]["reason"].as_str().unwrap().contains("AccessDenied"), "{failed:#}");
    place.cloud.faults().clear();
    place.pull(&[]);
    place.assert_exact();
}
