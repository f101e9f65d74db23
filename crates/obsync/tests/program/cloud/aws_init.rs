//! `obsync aws init`.

use std::fs::File;
use std::process::Stdio;

use obsync_testcloud::{BucketSettings, Service};
use obsync_testkit::Chance;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::place::{Place, TABLE};
use crate::json::{ended, start};
use crate::world::{World, ran};

const INIT: [&str; 4] = ["aws", "init", "--bucket", "my-notes"];

fn settings(place: &Place) -> BucketSettings {
    place.cloud.s3().settings("my-notes").unwrap()
}

/// The policy: the JSON in the output between sentences.
fn policy(told: &str) -> &str {
    let (begin, end) = (told.find("\n{\n").unwrap() + 1, told.rfind("\n}\n").unwrap() + 2);
    &told[begin..end]
}

fn without_policy(told: &str) -> String {
    told.replace(policy(told), "[POLICY]")
}

#[test]
fn the_policy_for_whoever_pulls_there_is_printed() {
    let place = Place::empty(World::new());
    let told = place.run(&INIT).expect(0).stdout;
    let printed: Value = serde_json::from_str(policy(&told)).unwrap();
    let made = place.run(&[&INIT[..], &["--json"]].concat()).json();
    assert_eq!(printed, made["policy"]);
    assert!(policy(&told).contains("arn:aws:dynamodb:us-east-1:*:table/obsync-state"), "{told}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_standard_output_is_one_sentence_and_a_reader_that_goes_away_is_no_error() {
    let place = Place::empty(World::new());
    for json in [&[][..], &["--json"]] {
        let args = [&INIT[..], json].concat();
        let command = || {
            let mut command = start(&place.world, &args);
            command.envs(place.cloud.env());
            command
        };
        let full = File::options().write(true).open("/dev/full").unwrap();
        let failed = ended(command().stdout(full).spawn().unwrap()).expect(1);
        let sentence = "obsync: cannot write to standard output: No space left on device (os error 28)\n";
        assert_eq!(failed.stderr, sentence, "{args:?}");
        let mut child = command().stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        assert_eq!(ended(child).expect(0).stderr, "", "{args:?}");
    }
}

#[test]
fn a_bucket_refuses_connections_without_tls() {
    let place = Place::empty(World::new());
    place.must(&INIT);
    let policy = settings(&place).policy.unwrap();
    assert!(policy.contains("aws:SecureTransport") && policy.contains("arn:aws:s3:::my-notes/*"), "{policy}");
}

#[test]
fn a_bucket_and_a_table_are_made_once_and_can_be_pulled_to() {
    let place = Place::empty(World::new());
    insta::assert_snapshot!(without_policy(&place.run(&INIT).told(&place.world)), @r#"
    exit status 0
    --- stdout
    s3://my-notes in us-east-1, done:
      make the bucket
      tag it with application=obsync
      have it own all of its objects, without access lists
      close it to the public
      keep earlier versions of objects
      encrypt objects
      abort uploads that were not finished within a day
      forget versions that were replaced 90 days ago
      refuse connections without TLS
    dynamodb://obsync-state in us-east-1, done:
      make the table, with the key `vault_id`, billed by request, encrypted with a key of KMS
      have items removed when their `ttl` is over
      turn point-in-time recovery on
    Users and roles that pull there need this policy (IAM, "Create policy", JSON):
    [POLICY]
    Next: `obsync pull VAULT s3://my-notes/PREFIX --state dynamodb://obsync-state`.
    "#);
    let made = settings(&place);
    assert!(made.versioned && made.public_access_blocked, "{made:?}");
    assert_eq!((made.encryption.as_deref(), made.lifecycle_rules), (Some("AES256"), 2));
    insta::assert_snapshot!(without_policy(&place.run(&INIT).told(&place.world)), @r#"
    exit status 0
    --- stdout
    s3://my-notes in us-east-1 is ready.
    dynamodb://obsync-state in us-east-1 is ready.
    Users and roles that pull there need this policy (IAM, "Create policy", JSON):
    [POLICY]
    Next: `obsync pull VAULT s3://my-notes/PREFIX --state dynamodb://obsync-state`.
    "#);
    assert_eq!(settings(&place), made);
    place.write("Note.md", "a note");
    place.must(&["pull", "Notes", "s3://my-notes/prefix", "--state", TABLE]);
}

#[test]
fn a_dry_run_tells_what_is_to_be_done_and_does_nothing() {
    let place = Place::empty(World::new());
    let dry = [&INIT[..], &["--dry-run"]].concat();
    insta::assert_snapshot!(without_policy(&place.run(&dry).told(&place.world)), @r#"
    exit status 0
    --- stdout
    s3://my-notes in us-east-1, to be done:
      make the bucket
      tag it with application=obsync
      have it own all of its objects, without access lists
      close it to the public
      keep earlier versions of objects
      encrypt objects
      abort uploads that were not finished within a day
      forget versions that were replaced 90 days ago
      refuse connections without TLS
    dynamodb://obsync-state in us-east-1, to be done:
      make the table, with the key `vault_id`, billed by request, encrypted with a key of KMS
      have items removed when their `ttl` is over
      turn point-in-time recovery on
    Users and roles that pull there need this policy (IAM, "Create policy", JSON):
    [POLICY]
    "#);
    assert_eq!(place.cloud.s3().buckets(), [""; 0]);
    assert_eq!(place.cloud.counts().of(Service::DynamoDb, "CreateTable"), 0);
}

#[test]
fn scripts_are_told_in_json_and_a_key_and_a_region_are_taken() {
    let place = Place::empty(World::new());
    let more = ["--table", "states", "--region", "eu-central-1", "--kms-key", "alias/notes", "--json"];
    let done = place.must(&[&INIT[..], &more].concat()).json();
    assert_eq!((&done["dry_run"], &done["region"]), (&false.into(), &"eu-central-1".into()));
    assert_eq!(
        (&done["bucket"]["name"], &done["bucket"]["steps"][0]),
        (&"s3://my-notes".into(), &"create".into())
    );
    assert_eq!(done["table"]["name"], "dynamodb://states");
    let made = settings(&place);
    assert_eq!((made.encryption.as_deref(), made.kms_key.as_deref()), (Some("aws:kms"), Some("alias/notes")));
    assert_eq!(made.region.as_deref(), Some("eu-central-1"));
    let again = place.must(&[&INIT[..], &more].concat()).json();
    assert_eq!(
        (&again["bucket"]["steps"], &again["table"]["steps"]),
        (&[0; 0][..].into(), &[0; 0][..].into())
    );
}

#[test]
fn what_is_there_gets_what_it_lacks_and_keeps_what_it_has() {
    let place = Place::empty(World::new());
    place.cloud.s3().put("my-notes", "mine.txt", "mine", &[]);
    place.cloud.dynamodb().create_table("obsync-state").unwrap();
    let done = place.must(&[&INIT[..], &["--json"]].concat()).json();
    assert_eq!(
        done["bucket"]["steps"],
        json!([
            "own_objects",
            "block_public_access",
            "keep_versions",
            "abort_uploads",
            "forget_versions",
            "require_tls"
        ])
    );
    assert_eq!(done["table"]["steps"], json!(["expire_items", "make_restorable"]));
    assert!(settings(&place).versioned);
    assert!(place.cloud.s3().object("my-notes", "mine.txt").is_some());
    let again = place.must(&[&INIT[..], &["--json"]].concat()).json();
    assert_eq!(again["bucket"]["steps"], json!([]));
}

#[test]
fn versions_that_the_owner_of_a_bucket_kept_before_are_not_forgotten() {
    let place = Place::empty(World::new());
    place.must(&INIT);
    // A versioned bucket that obsync did not create.
    place.cloud.s3().forget_tags("my-notes");
    place.cloud.s3().expire_nothing("my-notes");
    let done = place.must(&[&INIT[..], &["--json"]].concat()).json();
    assert_eq!(done["bucket"]["steps"], json!(["abort_uploads"]));
}

/// The properties of a resource in deploy/template.yaml, for a stack with this KMS key for the bucket.
fn in_template(resource: &str, kms_key: Option<&str>) -> Value {
    let template: serde_norway::Value =
        serde_norway::from_str(include_str!("../../../../../deploy/template.yaml")).unwrap();
    resolved(&template["Resources"][resource]["Properties"], kms_key).unwrap()
}

/// A value of a template with its functions evaluated; `None` if it is empty.
fn resolved(value: &serde_norway::Value, kms_key: Option<&str>) -> Option<Value> {
    use serde_norway::Value as Yaml;
    const ARN: &str = "arn:aws:s3:::my-notes";
    Some(match value {
        Yaml::Tagged(tagged) => match (tagged.tag.to_string().as_str(), &tagged.value) {
            ("!If", Yaml::Sequence(parts)) => {
                assert_eq!(parts[0], "HasKmsKey");
                return resolved(&parts[if kms_key.is_some() { 1 } else { 2 }], kms_key);
            }
            ("!Ref", Yaml::String(name)) => match name.as_str() {
                "AWS::NoValue" => return None,
                "KmsKeyArn" => json!(kms_key.unwrap()),
                "Bucket" => json!("my-notes"),
                other => panic!("{other}"),
            },
            ("!GetAtt", Yaml::String(name)) if name == "Bucket.Arn" => json!(ARN),
            ("!Sub", Yaml::String(text)) => json!(text.replace("${Bucket.Arn}", ARN)),
            (tag, value) => panic!("{tag} {value:?}"),
        },
        Yaml::Sequence(items) => items.iter().filter_map(|item| resolved(item, kms_key)).collect(),
        Yaml::Mapping(fields) => {
            let field =
                |(name, value): (&Yaml, &Yaml)| Some((name.as_str()?.to_owned(), resolved(value, kms_key)?));
            Value::Object(fields.iter().filter_map(field).collect())
        }
        other => serde_json::to_value(other).unwrap(),
    })
}

/// The same without the names of lifecycle rules, which do not matter.
fn without_names(mut properties: Value) -> Value {
    for rule in properties["LifecycleConfiguration"]["Rules"].as_array_mut().unwrap() {
        rule.as_object_mut().unwrap().remove("Id");
    }
    properties
}

#[test]
fn bucket_and_table_are_as_the_template_makes_them() {
    for kms_key in [None, Some("arn:aws:kms:us-east-1:123456789012:key/notes")] {
        let place = Place::empty(World::new());
        let key = kms_key.map(|key| ["--kms-key", key]);
        place.must(&[&INIT[..], key.as_ref().map_or(&[], |key| &key[..])].concat());
        let bucket = place.cloud.s3().properties("my-notes").unwrap();
        assert_eq!(without_names(bucket), without_names(in_template("Bucket", kms_key)));
        let policy: Value = serde_json::from_str(&settings(&place).policy.unwrap()).unwrap();
        assert_eq!(policy, in_template("BucketPolicy", kms_key)["PolicyDocument"]);
        let table = place.cloud.dynamodb().properties("obsync-state").unwrap();
        assert_eq!(table, in_template("StateTable", kms_key));
    }
}

#[test]
fn ten_runs_of_every_kind_follow_the_schema() {
    let place = Place::empty(World::new());
    for round in 0..10 {
        let (bucket, table) = (format!("notes-{round}"), format!("states-{round}"));
        let init = ["aws", "init", "--bucket", &bucket, "--table", &table, "--json"];
        let run = |more: &[&str], status: i32| {
            crate::json::check("aws-init", &place.run(&[&init[..], more].concat()), status)
        };
        assert_eq!(run(&["--dry-run"], 0)["bucket"]["steps"][0], "create");
        place.fault(|faults| {
            faults.s3.operations = vec!["PutBucketPolicy".to_owned()];
            faults.s3.forbidden = Chance::always();
        });
        assert_eq!(run(&[], 1)["error"]["code"], "access_denied");
        place.cloud.faults().clear();
        assert_eq!(run(&[], 0)["bucket"]["steps"], json!(["require_tls"]));
        assert_eq!(run(&["--region", "eu-central-1"], 0)["table"]["steps"], json!([]));
        run(&["--surplus"], 2);
        if round == 0 {
            crate::json::assert_closed("aws-init", &run(&["--dry-run"], 0));
        }
    }
}

#[test]
fn a_bucket_of_somebody_else_is_left_alone_and_no_table_is_made() {
    let place = Place::empty(World::new());
    place.fault(|faults| faults.s3.forbidden = Chance::always());
    let refused = place.run(&INIT).expect(1).stderr;
    assert!(refused.contains("it is somebody else's"), "{refused}");
    assert_eq!(place.cloud.counts().of(Service::DynamoDb, "CreateTable"), 0);
}

#[test]
fn a_right_that_is_missing_is_named() {
    let place = Place::empty(World::new());
    place.fault(|faults| {
        faults.s3.operations = vec!["PutBucketVersioning".to_owned()];
        faults.s3.forbidden = Chance::always();
    });
    let refused = place.run(&INIT).expect(1).stderr;
    assert!(refused.contains("s3:PutBucketVersioning"), "{refused}");
    place.fault(|faults| faults.dynamodb.forbidden = Chance::always());
    let refused = place.run(&INIT).expect(1).stderr;
    assert!(refused.contains("AWS does not allow it"), "{refused}");
}

#[test]
fn what_cannot_be_is_refused() {
    let place = Place::empty(World::new());
    for args in [&["--bucket", "No_Bucket"][..], &["--bucket", "fine", "--table", "no table"], &[]] {
        place.run(&[&["aws", "init"], args].concat()).expect(2);
    }
    let mut init = place.command(&INIT);
    let refused = ran(init.env_remove("AWS_REGION").env_remove("AWS_DEFAULT_REGION")).expect(2).stderr;
    assert!(refused.contains("--region"), "{refused}");
    let mut wrong = place.command(&INIT);
    let refused = ran(wrong.env("AWS_SECRET_ACCESS_KEY", "wr0ng")).expect(1).stderr;
    assert!(refused.contains("the credentials cannot be used") && !refused.contains("wr0ng"), "{refused}");
}

#[test]
fn every_end_is_one_value_of_the_schema_with_its_exit_status() {
    const JSON: &[&str] = &["--json"];
    type Environment = &'static [(&'static str, &'static str)];
    let place = Place::empty(World::new());
    let check = |options: &[&str], environment: Environment, status: i32, code: &str| {
        let mut init = place.command(&[&INIT[..], options, JSON].concat());
        let ran = ran(init.envs(environment.iter().copied()));
        let document = crate::json::check("aws-init", &ran, status);
        assert_eq!(document["error"]["code"].as_str().unwrap_or_default(), code, "{document:#}");
        document
    };
    assert_eq!(check(&["--dry-run"], &[], 0, "")["outcome"], "dry_run");
    check(&[], &[("AWS_SECRET_ACCESS_KEY", "wr0ng")], 1, "credentials");
    check(&[], &[("AWS_REGION", ""), ("AWS_DEFAULT_REGION", "")], 2, "usage");
    check(&["--table", "no table"], &[], 2, "usage");
    check(&["surplus"], &[], 2, "usage");
    let gone: Environment = &[
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1"),
        ("OBSYNC_TIMEOUT", "1"),
    ];
    check(&[], gone, 1, "unreachable");
    place.fault(|faults| faults.s3.forbidden = Chance::always());
    check(&[], &[], 1, "access_denied");
    place.fault(|faults| faults.dynamodb.forbidden = Chance::always());
    check(&[], &[], 1, "access_denied");
    place.cloud.faults().clear();
    assert_eq!(check(&[], &[], 0, "")["table"]["steps"][0], "create");
    assert_eq!(check(&[], &[], 0, "")["bucket"]["steps"], json!([]));
    assert_eq!(check(&["--dry-run"], &[], 0, "")["table"]["steps"], json!([]));
}

#[test]
fn a_signal_while_aws_does_not_answer_is_one_value() {
    let place = Place::empty(World::new());
    place.fault(|faults| faults.s3.hang = Chance::always());
    let args = [&INIT[..], &["--json"]].concat();
    let mut init = crate::json::start(&place.world, &args);
    let child = init.envs(place.cloud.env()).stdout(Stdio::piped()).spawn().unwrap();
    place.wait_for(|counts| counts.total(Service::S3) > 0);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let document = crate::json::check("aws-init", &crate::json::ended(child), 6);
    assert_eq!(document["error"]["code"], "interrupted");
}
