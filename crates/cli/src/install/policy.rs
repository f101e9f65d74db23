//! Policies of AWS as JSON: one for a bucket that refuses connections without TLS, and one for the role that
//! pulls.

use serde_json::{Value, json};

/// The name of the statement added to a bucket's policy, as in deploy/template.yaml.
const ONLY_TLS: &str = "OnlyEncryptedConnections";
const VERSION: &str = "2012-10-17";

/// The AWS partition of a region, for resource names.
pub(crate) fn partition(region: &str) -> &'static str {
    match region {
        _ if region.starts_with("cn-") => "aws-cn",
        _ if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

/// True if a bucket's policy refuses every connection without TLS.
pub(super) fn refuses_plain(policy: &Value) -> bool {
    statements(policy).iter().any(|statement| {
        let condition = &statement["Condition"]["Bool"]["aws:SecureTransport"];
        let is_all = statement["Principal"] == "*" || statement["Principal"]["AWS"] == "*";
        let is_plain = condition == "false" || condition == &Value::Bool(false);
        statement["Effect"] == "Deny" && is_all && statement["Action"] == "s3:*" && is_plain
    })
}

/// A bucket's policy with the added statement that refuses connections without TLS.
pub(super) fn refusing_plain(policy: Option<Value>, bucket: &str, region: &str) -> Value {
    let mut policy = policy.unwrap_or_else(|| json!({ "Version": VERSION }));
    let mut all = statements(&policy);
    all.retain(|statement| statement["Sid"] != ONLY_TLS);
    let bucket = format!("arn:{}:s3:::{bucket}", partition(region));
    all.push(json!({
        "Sid": ONLY_TLS,
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [&bucket, format!("{bucket}/*")],
        "Condition": { "Bool": { "aws:SecureTransport": "false" } },
    }));
    policy["Statement"] = Value::Array(all);
    policy
}

/// A policy's only statement may be there without a list.
fn statements(policy: &Value) -> Vec<Value> {
    match &policy["Statement"] {
        Value::Array(statements) => statements.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    }
}

/// Permissions of a user or role for pulling to any prefix of the bucket, with its state in the table.
pub(crate) fn for_pulls(bucket: &str, table: &str, region: &str, kms_key: Option<&str>) -> Value {
    let partition = partition(region);
    let bucket = format!("arn:{partition}:s3:::{bucket}");
    let mut statements = vec![
        json!({
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
            "Resource": format!("{bucket}/*"),
        }),
        json!({
            "Effect": "Allow",
            "Action": ["s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:GetLifecycleConfiguration"],
            "Resource": bucket,
        }),
        json!({
            "Effect": "Allow",
            "Action": [
                "dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:UpdateItem",
                "dynamodb:DeleteItem", "dynamodb:ConditionCheckItem", "dynamodb:Scan",
            ],
            "Resource": format!("arn:{partition}:dynamodb:{region}:*:table/{table}"),
        }),
    ];
    // The ARN of a key by id or alias contains an account, which is unknown here.
    if let Some(key) = kms_key.filter(|key| key.starts_with("arn:")) {
        let actions = ["kms:GenerateDataKey", "kms:Decrypt"];
        statements.push(json!({ "Effect": "Allow", "Action": actions, "Resource": key }));
    }
    json!({ "Version": VERSION, "Statement": statements })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statements_of_others_stay() {
        let other = json!({ "Sid": "Mine", "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject" });
        let policy = json!({ "Version": VERSION, "Statement": other });
        assert!(!refuses_plain(&policy));
        let made = refusing_plain(Some(policy), "notes", "eu-central-1");
        assert!(refuses_plain(&made));
        assert_eq!(made["Statement"][0], other);
        let again = refusing_plain(Some(made.clone()), "notes", "eu-central-1");
        assert_eq!(again, made);
    }

    #[test]
    fn a_bucket_without_a_policy_gets_one() {
        let made = refusing_plain(None, "notes", "cn-north-1");
        assert!(refuses_plain(&made));
        assert_eq!(made["Statement"][0]["Resource"][1], "arn:aws-cn:s3:::notes/*");
    }

    /// The permissions are those of the function's role in the template.
    #[test]
    fn the_command_line_needs_what_the_function_needs() {
        let template = include_str!("../../../../deploy/template.yaml");
        let policy = for_pulls("notes", "states", "us-east-1", Some("arn:aws:kms:us-east-1:1:key/k"));
        for action in statements(&policy).iter().flat_map(|statement| statement["Action"].as_array().unwrap())
        {
            let action = action.as_str().unwrap();
            assert!(template.contains(&format!("- {action}\n")), "{action} is not in the template");
        }
    }
}
