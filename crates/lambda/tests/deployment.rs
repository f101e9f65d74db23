//! The templates of `deploy/`: they parse, they grant no more permissions than the function uses, and they
//! agree with each other.

#![expect(clippy::unwrap_used, reason = "in tests, helper functions included, a failure is told by a panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_norway::Value;

/// All permissions that the function uses, with their resources.
const RIGHTS: [(&str, &str); 24] = [
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
    ("s3:GetLifecycleConfiguration", "Bucket.Arn"),
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

/// A value without CloudFormation's tags: their meaning does not matter here.
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

/// The statements of all policies of the function's role.
fn statements() -> Vec<Value> {
    let resources = resources();
    let inline = resources["FunctionRole"]["Properties"]["Policies"].as_sequence().unwrap().clone();
    let separate = resources.values().filter(|resource| resource["Type"] == "AWS::IAM::Policy");
    let policies = inline.into_iter().chain(separate.map(|resource| resource["Properties"].clone()));
    policies.flat_map(|policy| policy["PolicyDocument"]["Statement"].as_sequence().unwrap().clone()).collect()
}

#[test]
fn the_function_may_do_what_it_does_and_nothing_else() {
    let mut granted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for statement in statements() {
        assert_eq!(statement["Effect"], "Allow");
        let places = texts(&statement["Resource"]);
        assert!(!places.is_empty() && places.iter().all(|place| place != "*"), "{statement:?}");
        for action in texts(&statement["Action"]) {
            assert!(!action.contains('*'), "{action}");
            let known = granted.entry(action.clone()).or_default();
            assert!(places.iter().all(|place| !known.contains(place)), "{action} is granted twice");
            known.extend(places.clone());
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

/// A continuation goes to the ARN by which the function was called.
#[test]
fn a_function_called_by_an_alias_or_a_version_may_go_on_as_that() {
    let continues = |statement: &&Value| texts(&statement["Action"]) == ["lambda:InvokeFunction"];
    let all = statements();
    let places = texts(&all.iter().find(continues).unwrap()["Resource"]);
    assert_eq!(places, ["ObsyncFunction.Arn", "${ObsyncFunction.Arn}:*"]);
    let terraform = read("terraform/permissions.tf");
    assert!(terraform.contains("resources = [statement.value, \"${statement.value}:*\"]"));
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
        "object_ownership = \"BucketOwnerEnforced\"",
        "days_after_initiation = 1",
        "noncurrent_days = 90",
        "server_side_encryption {",
        "tags         = local.tags",
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

/// Runs a script of `deploy/`, and returns its standard output.
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
    // Dependencies of tests, builds or another program only are not included.
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

/// What decides when an alarm rings, by the names of CloudFormation.
type Alarm = BTreeMap<&'static str, String>;

/// The alarms of the template.
fn alarms() -> BTreeSet<Alarm> {
    let is_alarm = |resource: &&Value| resource["Type"] == "AWS::CloudWatch::Alarm";
    let of = |resource: &Value| {
        let value = |name: &str| match plain(&resource["Properties"][name]) {
            Value::Number(number) => number.to_string(),
            other => texts(&other).concat(),
        };
        let mut alarm = Alarm::from(
            ["Namespace", "MetricName", "Statistic", "Period", "EvaluationPeriods", "ComparisonOperator"]
                .map(|name| (name, value(name))),
        );
        let datapoints = value("DatapointsToAlarm");
        let points = if datapoints.is_empty() { value("EvaluationPeriods") } else { datapoints };
        alarm.insert("DatapointsToAlarm", points);
        alarm.insert(
            "Threshold",
            value("Threshold").replace("OldestSuccessSeconds", "var.oldest_success_seconds"),
        );
        alarm.insert("TreatMissingData", value("TreatMissingData"));
        let condition = match texts(&resource["Condition"]).concat().as_str() {
            "HasMetrics" => "var.metrics != \"off",
            "HasUrl" => "var.enable_function_url",
            "HasQueue" => "var.enable_queue",
            other => other,
        }
        .to_owned();
        alarm.insert("Condition", condition);
        alarm
    };
    resources().values().filter(is_alarm).map(of).collect()
}

/// The alarms of the Terraform module.
fn terraform_alarms() -> BTreeSet<Alarm> {
    let text = read("terraform/alarms.tf");
    let all = text.split_once("  alarms = {\n").unwrap().1.split_once("\n  }\n").unwrap().0;
    let of = |block: &str| {
        let value = |name: &str, default: &str| {
            settings(block, name).into_iter().next().unwrap_or_else(|| default.to_owned())
        };
        let periods = value("periods", "1");
        Alarm::from([
            ("Namespace", value("namespace", "")),
            ("MetricName", value("metric", "")),
            ("Statistic", value("statistic", "Sum")),
            ("Period", value("period", "")),
            ("DatapointsToAlarm", value("datapoints", &periods)),
            ("EvaluationPeriods", periods),
            ("ComparisonOperator", value("comparison", "GreaterThanOrEqualToThreshold")),
            ("Threshold", value("threshold", "1")),
            ("TreatMissingData", value("if_missing", "notBreaching")),
            ("Condition", value("wanted", "")),
        ])
    };
    all.split("\n    }").filter(|block| block.contains("metric ")).map(of).collect()
}

/// The value behind `name = "` in each of these lines.
fn settings(text: &str, name: &str) -> Vec<String> {
    let value = |line: &str| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == name).then(|| value.trim().trim_matches('"').to_owned())
    };
    text.lines().filter_map(value).collect()
}

#[test]
fn both_have_the_same_alarms() {
    let found = alarms();
    assert_eq!(terraform_alarms(), found);
    for metric in
        ["AsyncEventsDropped", "Errors", "ApproximateNumberOfMessagesVisible", "oldest_success_age_s"]
    {
        assert!(found.iter().any(|alarm| alarm["MetricName"] == metric), "{metric}");
    }
}

/// `name_of_this`, for `NameOfThis`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

#[test]
fn both_have_the_same_parameters_with_the_same_defaults() {
    let template = template();
    let text = read("terraform/variables.tf");
    let default = |block: &str| match settings(block, "default").first().map_or("", String::as_str) {
        "null" | "[]" => String::new(),
        default => default.to_owned(),
    };
    let of_terraform: BTreeMap<String, String> = text
        .split("variable \"")
        .skip(1)
        .map(|block| (block.split_once('"').unwrap().0.to_owned(), default(block)))
        .collect();
    let of_template = template["Parameters"].as_mapping().unwrap().iter().map(|(name, parameter)| {
        let default = match &parameter["Default"] {
            Value::Number(number) => number.to_string(),
            other => texts(other).concat(),
        };
        (snake(name.as_str().unwrap()), default)
    });
    let mut of_template: BTreeMap<String, String> = of_template.collect();
    // CloudFormation names everything, tags a stack, and takes the zip from beside the template.
    for (name, default) in [
        ("name", "obsync"),
        ("bucket_name", ""),
        ("tags", "{}"),
        ("zip", "../../target/lambda/obsync-lambda.zip"),
    ] {
        of_template.insert(name.to_owned(), default.to_owned());
    }
    assert_eq!(of_terraform, of_template);
}

#[test]
fn alarms_look_at_metrics_that_the_function_has() {
    let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/metrics.rs")).unwrap();
    for (name, resource) in resources().iter().filter(|(_, found)| found["Type"] == "AWS::CloudWatch::Alarm")
    {
        let properties = &resource["Properties"];
        if properties["Namespace"] == "Obsync" {
            let metric = properties["MetricName"].as_str().unwrap();
            assert!(source.contains(&format!("(\"{metric}\", ")), "{name}: {metric}");
            assert_eq!(texts(&properties["Dimensions"]), ["function_name", "ObsyncFunction"], "{name}");
        }
        assert!(texts(&properties["AlarmActions"]).contains(&"AlarmTopicArn".to_owned()), "{name}");
    }
}

/// Words of a text, without separators.
fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '@');
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[test]
fn both_save_the_same_queries_and_these_ask_for_what_is_logged() {
    let terraform = read("terraform/dashboard.tf");
    let source = |name: &str| {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name)).unwrap()
    };
    let logged = [source("closing.rs"), source("logging.rs"), source("handler.rs")].concat();
    let all = words(&terraform);
    let mut count = 0;
    for query in resources().values().filter(|found| found["Type"] == "AWS::Logs::QueryDefinition") {
        let text = query["Properties"]["QueryString"].as_str().unwrap();
        let wanted = words(text);
        assert!(all.windows(wanted.len()).any(|found| found == wanted), "Terraform has not: {text}");
        let name = texts(&query["Properties"]["Name"])[0].clone();
        let name = name.split_once('/').unwrap().1;
        assert!(terraform.contains(&format!("\"{name}\"")), "{name}");
        let messages = text.split("message = \"").skip(1).map(|rest| rest.split_once('"').unwrap().0);
        messages.for_each(|message| assert!(logged.contains(message), "{message:?} is not logged"));
        let is_field = |word: &&String| ["_ms", "_id", "_requests"].iter().any(|end| word.ends_with(end));
        let fields = wanted.iter().filter(is_field);
        for field in fields.chain(&["files", "deleted", "status", "reason", "bytes"].map(str::to_owned)) {
            assert!(logged.contains(field.as_str()), "{field} of {name} is not logged");
        }
        count += 1;
    }
    assert_eq!(count, 5);
    assert_eq!(terraform.matches("<<-EOT").count(), count);
}

#[test]
fn both_have_the_same_dashboard() {
    let dashboard = resources()["Dashboard"]["Properties"]["DashboardBody"].clone();
    let body: serde_json::Value = serde_json::from_str(&texts(&dashboard)[0]).unwrap();
    let terraform = read("terraform/dashboard.tf");
    let widgets = body["widgets"].as_array().unwrap();
    assert_eq!(widgets.len(), 6);
    let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/metrics.rs")).unwrap();
    let stats = widgets.iter().filter_map(|widget| widget["properties"]["stat"].as_str());
    let literal = |stat: &String| !stat.contains('.');
    assert!(settings(&terraform, "stat").iter().filter(|stat| literal(stat)).eq(stats), "in this order");
    for widget in widgets {
        let properties = &widget["properties"];
        assert!(terraform.contains(&format!("\"{}\"", properties["title"].as_str().unwrap())), "{widget}");
        for metric in properties["metrics"].as_array().into_iter().flatten() {
            let name = metric[1].as_str().unwrap();
            assert!(terraform.contains(&format!("\"{name}\"")), "{name}");
            let is_ours = properties["metrics"][0][0] == "Obsync";
            assert!(!is_ours || source.contains(&format!("(\"{name}\", ")), "{name} is no metric");
        }
    }
}

#[test]
fn what_operators_set_is_in_both_and_nothing_is_limited_unasked() {
    let function = resources()["ObsyncFunction"]["Properties"].clone();
    assert_eq!(function["LoggingConfig"]["LogFormat"], "JSON");
    assert_eq!(texts(&function["LoggingConfig"]["ApplicationLogLevel"]), ["LogLevel"]);
    let failure = &function["EventInvokeConfig"]["DestinationConfig"]["OnFailure"];
    assert_eq!(texts(failure), ["SQS", "FailedEventsQueue.Arn"]);
    let parameters = template()["Parameters"].clone();
    for name in ["ReservedConcurrency", "QueueConcurrency"] {
        assert_eq!(parameters[name]["Default"], "", "{name} limits nothing unless it is set");
    }
    assert_eq!(parameters["Metrics"]["Default"], "function");
    assert_eq!(texts(&resources()["QueueMapping"]["Properties"]["ScalingConfig"])[1], "QueueConcurrency");
    let alarms = resources().into_iter().filter(|(_, resource)| resource["Type"] == "AWS::CloudWatch::Alarm");
    let alarms: Vec<String> = alarms.map(|(name, _)| name).collect();
    let others =
        ["Bucket", "StateTable", "LogGroup", "FunctionRole", "Queue", "FailedEventsQueue", "QueueMapping"];
    for name in alarms.iter().map(String::as_str).chain(others) {
        assert_eq!(texts(&resources()[name]["Properties"]["Tags"]), ["application", "obsync"], "{name}");
    }
    let (main, variables) = (read("terraform/main.tf"), read("terraform/variables.tf"));
    for part in [
        "log_format            = \"JSON\"",
        "application_log_level = var.log_level",
        "destination = aws_sqs_queue.failed_events.arn",
        "maximum_concurrency = scaling_config.value",
        "retention_in_days = var.log_retention_days",
    ] {
        assert!(main.contains(part), "{part}");
    }
    for name in ["reserved_concurrency", "queue_concurrency"] {
        let part = variables.split(&format!("variable \"{name}\"")).nth(1).unwrap();
        let part = part.split("\nvariable ").next().unwrap();
        assert_eq!(settings(part, "default"), ["null"], "{name}");
    }
}
