//! Checks whether a bucket's lifecycle rules expire objects.

use object_store::signer::Method;
use serde::Deserialize;

use super::client::S3;
use super::request::{Answer, Request};
use crate::error::RequestError;
use crate::refusal::Operation;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Configuration {
    #[serde(default)]
    rule: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
struct Rule {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(rename = "Status", default)]
    status: String,
    #[serde(rename = "Prefix")]
    prefix: Option<String>,
    #[serde(rename = "Filter")]
    filter: Option<Filter>,
    #[serde(rename = "Expiration")]
    expiration: Option<Expiration>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Filter {
    prefix: Option<String>,
    and: Option<And>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct And {
    prefix: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Expiration {
    days: Option<String>,
    date: Option<String>,
}

impl Rule {
    /// True if it removes current objects, at least some below this prefix.
    fn expires(&self, below: &str) -> bool {
        let removes = self.expiration.as_ref().is_some_and(|when| when.days.is_some() || when.date.is_some());
        let filter = self.filter.as_ref();
        let of_filter = filter
            .and_then(|filter| filter.prefix.as_deref().or_else(|| filter.and.as_ref()?.prefix.as_deref()));
        let prefix = of_filter.or(self.prefix.as_deref()).unwrap_or_default();
        let overlaps = prefix.starts_with(below) || below.starts_with(prefix);
        removes && overlaps && self.status.eq_ignore_ascii_case("Enabled")
    }

    fn name(&self) -> String {
        if self.id.is_empty() { "without a name".to_owned() } else { self.id.clone() }
    }
}

impl S3 {
    /// The rule that expires objects below a prefix, if there is one (GetBucketLifecycleConfiguration).
    pub(crate) async fn expiring_rule(&self, below: &str) -> Result<Option<String>, RequestError> {
        let request = Request::of_bucket(Operation::Settings, Method::GET).query("lifecycle", "");
        let answer = match self.send(request).await {
            Ok(answer) => answer,
            Err(error) if error.code() == Some("NoSuchLifecycleConfiguration") => return Ok(None),
            Err(error) => return Err(error),
        };
        rule_of(&answer, below)
    }
}

/// The rule in an answer. A server that does not know the request may answer with another document, such as
/// the bucket's list: that means no rules.
fn rule_of(answer: &Answer, below: &str) -> Result<Option<String>, RequestError> {
    let configuration: Configuration = answer.document("LifecycleConfiguration")?;
    Ok(configuration.rule.iter().find(|rule| rule.expires(below)).map(Rule::name))
}

#[cfg(test)]
mod tests {
    use object_store::HeaderMap;

    use super::*;

    fn answered(body: &str) -> Answer {
        Answer { headers: HeaderMap::new(), body: body.to_owned() }
    }

    fn found(rule: &str, below: &str) -> Option<String> {
        let document = format!(
            "<LifecycleConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Rule><ID>tidy</ID>{rule}</Rule>\
             </LifecycleConfiguration>"
        );
        rule_of(&answered(&document), below).unwrap()
    }

    #[test]
    fn a_rule_counts_that_removes_current_objects_there() {
        let enabled = "<Status>Enabled</Status>";
        let days = "<Expiration><Days>30</Days></Expiration>";
        for (rule, counts) in [
            (format!("<Filter/>{enabled}{days}"), true),
            (format!("{enabled}<Expiration><Date>2030-01-01T00:00:00Z</Date></Expiration>"), true),
            (format!("<Prefix>notes/</Prefix>{enabled}{days}"), true),
            (format!("<Filter><Prefix>notes/archive/</Prefix></Filter>{enabled}{days}"), true),
            (
                format!(
                    "<Filter><And><Prefix>no</Prefix><Tag><Key>a</Key><Value>b</Value></Tag></And></Filter>{enabled}{days}"
                ),
                true,
            ),
            (format!("<Filter><Prefix>logs/</Prefix></Filter>{enabled}{days}"), false),
            (format!("<Filter/><Status>Disabled</Status>{days}"), false),
            (
                format!(
                    "<Filter/>{enabled}<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"
                ),
                false,
            ),
            (
                format!(
                    "<Filter/>{enabled}<NoncurrentVersionExpiration><NoncurrentDays>30</NoncurrentDays></NoncurrentVersionExpiration>"
                ),
                false,
            ),
        ] {
            assert_eq!(found(&rule, "notes/").is_some(), counts, "{rule}");
        }
        assert!(
            found(&format!("<Filter><Prefix>logs/</Prefix></Filter>{enabled}{days}"), "").is_some(),
            "the whole bucket"
        );
    }

    #[test]
    fn a_document_of_another_kind_says_nothing_of_rules() {
        assert_eq!(rule_of(&answered("<LifecycleConfiguration/>"), "").unwrap(), None);
        for other in ["", "<html>", "<ListBucketResult><Name>b</Name></ListBucketResult>", "<Rule/>"] {
            assert!(rule_of(&answered(other), "").is_err(), "{other}");
        }
    }
}
