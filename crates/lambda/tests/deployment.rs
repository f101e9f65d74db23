//! The templates of `deploy/`: they parse, they give no more rights than the function uses, and they say the
//! same.

#![expect(clippy::unwrap_used, reason = "in tests, helper functions included, a failure is told by a panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_norway::Value;

/// Everything that the function asks of AWS, and what it may ask it of.
const RIGHTS: [(&str, &str); 23] = [
    ("dynamodb:BatchGetItem", "StateTable"),
    ("dynamodb:ConditionCheckItem", "StateTable"),
    ("dynamodb:DeleteItem", "StateTable"),
    ("dynamodb:GetItem", "StateTable"),
    ("dynamodb:PutItem", "StateTable"),
    ("dynamodb:Scan", "StateTable"),
    ("dynamodb:UpdateItem", "StateTable"),
    ("kms:Decrypt", "KmsKeyArn"),
    ("kms:GenerateDataKey", "KmsKeyArn"),
    ("lambda:InvokeFunction", "ObsyncFunction"),
    ("logs:CreateLogStream", "LogGroup"),
    ("logs:PutLogEvents", "LogGroup"),
    ("s3:AbortMultipartUpload", "Bucket.Arn}/"),
    ("s3:DeleteObject", "Bucket.Arn}/"),
    ("s3:GetObject", "Bucket.Arn}/"),
    ("s3:ListBucket", "Bucket.Arn"),
    ("s3:ListBucketMultipartUploads", "Bucket.Arn"),
    ("s3:PutObject", "Bucket.Arn}/"),
    ("secretsmanager:GetSecretValue", ":secret:${SecretName}-??????"),
    ("sqs:DeleteMessage", "Queue"),
    ("sqs:GetQueueAttributes", "Queue"),
    ("sqs:ReceiveMessage", "Queue"),
    ("sqs:SendMessage", "Queue"),
];

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

fn read(name: &str) -> String {
    fs::read_to_string(deploy().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn template() -> Value {
    serde_norway::from_str(&read("template.yaml")).unwrap()
}

/// A value without CloudFormation's tags: what they stand for is beside the point here.
fn plain(value: &Value) -> Value {
    match value {
        Value::Tagged(tagged) => plain(&tagged.value),
        Value::Sequence(items) => items.iter().map(plain).collect(),
        Value::Mapping(fields) => {
            Value::Mapping(fields.iter().map(|(name, value)| (name.clone(), plain(value))).collect())
        }
        other => other.clone(),
    }
}

/// All texts in a value.
fn texts(value: &Value) -> Vec<String> {
    match plain(value) {
        Value::String(text) => vec![text],
        Value::Sequence(items) => items.iter().flat_map(texts).collect(),
        Value::Mapping(fields) => fields.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

fn resources() -> BTreeMap<String, Value> {
    let template = template();
    let resources = template["Resources"].as_mapping().unwrap().iter();
    resources.map(|(name, value)| (name.as_str().unwrap().to_owned(), value.clone())).collect()
}

/// The statements of all policies that the function's role has.
fn statements() -> Vec<Value> {
    let resources = resources();
    let inline = resources["FunctionRole"]["Properties"]["Policies"].as_sequence().unwrap().clone();
    let separate = resources.values().filter(|resource| resource["Type"] == "AWS::IAM::Policy");
    let policies = inline.into_iter().chain(separate.map(|resource| resource["Properties"].clone()));
    policies.flat_map(|policy| policy["PolicyDocument"]["Statement"].as_sequence().unwrap().clone()).collect()
}

#[test]
fn the_function_may_do_what_it_does_and_nothing_else() {
    let mut granted = BTreeMap::new();
    for statement in statements() {
        assert_eq!(statement["Effect"], "Allow");
        let places = texts(&statement["Resource"]);
        assert!(!places.is_empty() && places.iter().all(|place| place != "*"), "{statement:?}");
        for action in texts(&statement["Action"]) {
            assert!(!action.contains('*'), "{action}");
            assert!(granted.insert(action.clone(), places.clone()).is_none(), "{action} is granted twice");
        }
    }
    let wanted: BTreeSet<&str> = RIGHTS.iter().map(|(action, _)| *action).collect();
    assert_eq!(granted.keys().map(String::as_str).collect::<BTreeSet<_>>(), wanted);
    for (action, place) in RIGHTS {
        let places = &granted[action];
        let is_meant = |found: &String| found.contains(place) || *found == "HasPrefix";
        assert!(places.iter().all(is_meant), "{action}: {places:?}");
    }
}

#[test]
fn terraform_grants_the_same() {
    let text = read("terraform/permissions.tf");
    let quoted: BTreeSet<&str> = text.split('"').skip(1).step_by(2).collect();
    let is_action = |text: &&&str| {
        let (service, name) = text.split_once(':').unwrap_or_default();
        service.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
            && name.chars().next().is_some_and(char::is_uppercase)
            && name.chars().all(char::is_alphanumeric)
    };
    let mut granted: BTreeSet<&str> = quoted.iter().filter(is_action).copied().collect();
    assert!(granted.remove("sts:AssumeRole"));
    assert_eq!(granted, RIGHTS.iter().map(|(action, _)| *action).collect());
    assert!(!text.contains("\"*\""), "no right is on everything");
}

#[test]
fn both_set_the_same_variables_and_the_guide_knows_them() {
    let resources = resources();
    let variables = &resources["ObsyncFunction"]["Properties"]["Environment"]["Variables"];
    let names: BTreeSet<&str> =
        variables.as_mapping().unwrap().keys().map(|name| name.as_str().unwrap()).collect();
    let (terraform, guide) = (read("terraform/main.tf"), read("README.md"));
    let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config.rs")).unwrap();
    for name in &names {
        for (place, text) in [("main.tf", &terraform), ("README.md", &guide), ("config.rs", &source)] {
            assert!(text.contains(name), "{name} is not in {place}");
        }
    }
    assert!(
        names.contains("S3_BUCKET")
            && names.contains("STATE_TABLE_NAME")
            && names.contains("OBSYNC_SECRET_NAME")
    );
}

#[test]
fn bucket_and_table_are_private_encrypted_and_outlive_the_stack() {
    let resources = resources();
    for name in ["Bucket", "StateTable"] {
        assert_eq!(resources[name]["DeletionPolicy"], "Retain");
        assert_eq!(resources[name]["UpdateReplacePolicy"], "Retain");
    }
    let bucket = &resources["Bucket"]["Properties"];
    let block = bucket["PublicAccessBlockConfiguration"].as_mapping().unwrap();
    assert!(block.len() == 4 && block.values().all(|value| *value == Value::Bool(true)));
    assert_eq!(bucket["VersioningConfiguration"]["Status"], "Enabled");
    assert!(!bucket["BucketEncryption"].is_null());
    let table = &resources["StateTable"]["Properties"];
    assert_eq!(texts(&table["KeySchema"]), ["vault_id", "HASH"]);
    assert_eq!(texts(&table["TimeToLiveSpecification"]), ["ttl"]);
    let storage = read("terraform/storage.tf");
    for part in [
        "hash_key     = \"vault_id\"",
        "attribute_name = \"ttl\"",
        "restrict_public_buckets = true",
        "prevent_destroy = true",
    ] {
        assert!(storage.contains(part), "{part}");
    }
}

#[test]
fn the_function_is_what_the_program_is_built_for() {
    let function = resources()["ObsyncFunction"]["Properties"].clone();
    assert_eq!(function["Handler"], "bootstrap");
    assert_eq!(function["Runtime"], "provided.al2023");
    assert_eq!(texts(&template()["Parameters"]["Architecture"]["AllowedValues"]), ["arm64", "x86_64"]);
    let url = &resources()["FunctionUrl"]["Properties"]["AuthType"];
    assert_eq!(*url, "AWS_IAM");
    let mapping = resources()["QueueMapping"]["Properties"]["FunctionResponseTypes"].clone();
    assert_eq!(texts(&mapping), ["ReportBatchItemFailures"]);
}

#[test]
fn every_reference_leads_to_something() {
    let text = read("template.yaml");
    let template = template();
    let names = |section: &str| -> Vec<String> {
        let section = template[section].as_mapping().unwrap();
        section.keys().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    let known: BTreeSet<String> = [names("Parameters"), names("Resources")].concat().into_iter().collect();
    let references = text.split("!Ref ").skip(1).chain(text.split("!GetAtt ").skip(1));
    for reference in references {
        let name: String = reference.chars().take_while(|c| c.is_alphanumeric() || *c == ':').collect();
        assert!(name.starts_with("AWS::") || known.contains(&name), "{name}");
    }
}

/// Runs a script of `deploy/`, and gives what it wrote to standard output.
fn run(script: &str, arguments: &[&str]) -> Vec<u8> {
    let output = std::process::Command::new(deploy().join(script)).args(arguments).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn the_zip_has_the_program_its_notices_and_the_licences() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let notices = run("notices.py", &["obsync-lambda", "x86_64-unknown-linux-gnu"]);
    let text = String::from_utf8(notices.clone()).unwrap();
    for linked in
        ["\nrustls 0.", "\nring 0.", "\naws-sdk-dynamodb 1.", "Copyright", "Permission is hereby granted"]
    {
        assert!(text.contains(linked), "{linked}");
    }
    // What only tests, builds or another program use is no part of it.
    for absent in ["\nproptest ", "\nrusqlite ", "\nserde_derive "] {
        assert!(!text.contains(absent), "{absent}");
    }
    fs::write(path("notices"), &notices).unwrap();
    fs::write(path("program"), "program").unwrap();
    for zip in ["one.zip", "two.zip"] {
        run("pack-lambda.py", &[&path("program"), &path("notices"), &path(zip)]);
    }
    let zip = fs::read(path("one.zip")).unwrap();
    assert!(zip == fs::read(path("two.zip")).unwrap(), "the same program makes the same zip");
    let list = std::process::Command::new("python3").args(["-m", "zipfile", "-l", &path("one.zip")]).output();
    let list = String::from_utf8(list.unwrap().stdout).unwrap();
    let names: Vec<&str> = list.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["bootstrap", "THIRD-PARTY-NOTICES.txt", "LICENSE-APACHE", "LICENSE-MIT"]);
    assert!(read("build-lambda.sh").contains("deploy/pack-lambda.py"));
}

#[test]
fn a_release_builds_nothing_before_the_dependencies_were_checked() {
    let script = read("release.sh");
    let place = |command: &str| script.find(command).unwrap();
    assert!(place("\ndeploy/check-dependencies.sh --release\n") < place("deploy/build-lambda.sh"));
    assert!(script.contains("\nset -euo pipefail\n"));
}

#[test]
fn images_are_named_by_digest() {
    let text = read("Dockerfile");
    let images: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("FROM ")).collect();
    assert_eq!(images, ["${RUST_IMAGE} AS build", "${DEBIAN_IMAGE}"]);
    for name in ["RUST_IMAGE", "DEBIAN_IMAGE"] {
        assert!(text.contains(&format!("\nARG {name}\n")), "{name} has no default");
        assert!(text.contains(&format!("case \"${name}\" in *@sha256:*) ;; *)")), "{name} needs a digest");
    }
}
