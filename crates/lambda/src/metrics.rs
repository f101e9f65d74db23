//! Log lines that are also metrics of CloudWatch (embedded metric format, specification in the CloudWatch user guide), in
//! the namespace `Obsync`: `Sync metrics` for the work on a vault, and `Oldest success` for all vaults of the function.
//!
//! Each metric costs money in every month in which it has a value, and one per vault is a separate metric. So
//! they are for the function as a whole by default.

use std::str::FromStr;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tracing::Level;

use crate::vault_report::{FollowUp, VaultReport, VaultStatus};
use crate::{gauge, logging};

/// The namespace of all metrics.
const NAMESPACE: &str = "Obsync";

/// The metrics of work on a vault, with CloudWatch's units.
const OF_VAULT: [(&str, &str); 8] = [
    ("files_synced", "Count"),
    ("bytes_synced", "Bytes"),
    ("duration_ms", "Milliseconds"),
    ("memory_used_mb", "Megabytes"),
    ("failed_files", "Count"),
    ("failures", "Count"),
    ("older_vaults", "Count"),
    ("ended_chains", "Count"),
];

/// The metric that counts chains which ended with work left.
const ENDED_CHAINS: &str = "ended_chains";

/// The metrics of all vaults together.
const OF_ALL: [(&str, &str); 1] = [("oldest_success_age_s", "Seconds")];

/// Dimensions of the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Metrics {
    /// None: the lines are logged all the same.
    Off,
    /// The function.
    #[default]
    Function,
    /// Each vault in addition.
    Vaults,
}

impl FromStr for Metrics {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word.to_ascii_lowercase().as_str() {
            "off" => Ok(Metrics::Off),
            "function" => Ok(Metrics::Function),
            "vaults" => Ok(Metrics::Vaults),
            _ => Err("there are `off`, `function` and `vaults`"),
        }
    }
}

/// The oldest last success among a function's vaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OldestSuccess {
    /// Number of vaults examined.
    pub(crate) vaults: usize,
    /// Number of them without any run.
    pub(crate) not_begun: usize,
    /// The vault whose last success is the longest ago, and the age in seconds; since its first run began if
    /// there was no success.
    pub(crate) oldest: Option<(String, u64)>,
}

/// The line about one vault, without a line break.
pub(crate) fn line(report: &VaultReport, metrics: Metrics) -> String {
    document(report, metrics, Timestamp::now(), gauge::peak().unwrap_or(0)).to_string()
}

/// The line about all of them, if there is any.
pub(crate) fn oldest_line(oldest: &OldestSuccess, metrics: Metrics) -> Option<String> {
    let (vault, age) = oldest.oldest.as_ref()?;
    let mut line = frame("Oldest success", metrics.without_vaults(), &OF_ALL, Timestamp::now());
    line.insert("metric_type".to_owned(), json!("freshness"));
    line.insert("vault_id".to_owned(), json!(vault));
    line.insert("oldest_success_age_s".to_owned(), json!(age));
    line.insert("vaults".to_owned(), json!(oldest.vaults));
    line.insert("not_begun".to_owned(), json!(oldest.not_begun));
    Some(Value::Object(line).to_string())
}

/// The line about vaults whose next invocation could not be started, so that their chains end.
pub(crate) fn stranded_line(vaults: usize, metrics: Metrics) -> String {
    let measured: Vec<_> = OF_VAULT.into_iter().filter(|(name, _)| *name == ENDED_CHAINS).collect();
    let mut line = frame("Stranded chains", metrics.without_vaults(), &measured, Timestamp::now());
    line.insert("metric_type".to_owned(), json!("stranded_chains"));
    line.insert(ENDED_CHAINS.to_owned(), json!(vaults));
    Value::Object(line).to_string()
}

impl Metrics {
    /// The same without a vault.
    pub(crate) fn without_vaults(self) -> Self {
        if self == Metrics::Off { Metrics::Off } else { Metrics::Function }
    }
}

/// The common beginning of these lines.
fn frame(message: &str, metrics: Metrics, measured: &[(&str, &str)], now: Timestamp) -> Map<String, Value> {
    let mut line = logging::invocation_fields();
    let dimensions = match metrics {
        Metrics::Off => None,
        Metrics::Function => Some(json!([["function_name"]])),
        Metrics::Vaults => Some(json!([["function_name"], ["function_name", "vault_id"]])),
    };
    if let Some(dimensions) = dimensions {
        let measured: Vec<Value> =
            measured.iter().map(|(name, unit)| json!({ "Name": name, "Unit": unit })).collect();
        let directive = json!({ "Namespace": NAMESPACE, "Dimensions": dimensions, "Metrics": measured });
        line.insert(
            "_aws".to_owned(),
            json!({ "Timestamp": now.as_millisecond(), "CloudWatchMetrics": [directive] }),
        );
    }
    line.entry("function_name").or_insert_with(|| json!(logging::service()));
    line.insert("level".to_owned(), json!(level(logging::level())));
    line.insert("timestamp".to_owned(), json!(format!("{now:.3}")));
    line.insert("service".to_owned(), json!(logging::service()));
    line.insert("message".to_owned(), json!(message));
    line
}

/// The level of these lines. Lambda drops lines below the function's level, and their metrics with them.
fn level(functions: Level) -> &'static str {
    functions.min(Level::INFO).as_str()
}

fn document(report: &VaultReport, metrics: Metrics, now: Timestamp, peak: u64) -> Value {
    let failed = report.status == VaultStatus::Failed;
    let mut line = frame("Sync metrics", metrics, &OF_VAULT, now);
    let fields = json!({
        "metric_type": "sync_performance",
        "vault_id": report.vault_id,
        "files_synced": report.files() + report.deleted.files,
        "bytes_synced": report.bytes(),
        "duration_ms": report.duration_ms,
        "memory_used_mb": peak.div_ceil(1 << 20),
        "failed_files": report.failed_files,
        "failures": u8::from(failed),
        "older_vaults": u8::from(report.older_vault.is_some()),
        "ended_chains": u8::from(matches!(report.follow_up, FollowUp::Ended(_))),
        "success": !failed && report.failed_files == 0 && report.older_vault.is_none(),
        "status": report.status,
    });
    if let Value::Object(fields) = fields {
        line.extend(fields);
    }
    Value::Object(line)
}

#[cfg(test)]
mod tests {
    use obsync_core::Tally;

    use super::*;

    fn moment() -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000).unwrap()
    }

    fn report() -> VaultReport {
        VaultReport {
            pulled: Tally { files: 2, bytes: 30 },
            duration_ms: 40,
            ..VaultReport::nothing("v", "Notes", VaultStatus::Complete, String::new())
        }
    }

    /// Asserts that CloudWatch accepts a line as a metric.
    fn assert_valid(line: &Value) {
        assert!(line["_aws"]["Timestamp"].is_u64());
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Namespace"], "Obsync");
        for metric in directive["Metrics"].as_array().unwrap() {
            let name = metric["Name"].as_str().unwrap();
            assert!(line[name].is_number(), "{name} must be a number at the root");
        }
        let dimensions = directive["Dimensions"].as_array().unwrap().iter();
        for dimension in dimensions.flat_map(|set| set.as_array().unwrap()) {
            assert!(line[dimension.as_str().unwrap()].is_string(), "{dimension} must be a text at the root");
        }
    }

    #[test]
    fn the_line_is_a_valid_embedded_metric() {
        let line = document(&report(), Metrics::Function, moment(), 61 << 20);
        assert_eq!(line["metric_type"], "sync_performance");
        assert_eq!(line["message"], "Sync metrics");
        assert_eq!((&line["files_synced"], &line["bytes_synced"]), (&json!(2), &json!(30)));
        assert_eq!((&line["memory_used_mb"], &line["success"]), (&json!(61), &json!(true)));
        assert_valid(&line);
    }

    #[test]
    fn there_are_metrics_of_each_vault_only_if_they_are_asked_for() {
        let dimensions = |metrics| {
            let line = document(&report(), metrics, moment(), 0);
            line["_aws"]["CloudWatchMetrics"][0]["Dimensions"].clone()
        };
        assert_eq!("".parse::<Metrics>().ok(), None);
        assert_eq!(dimensions(Metrics::default()), json!([["function_name"]]));
        assert_eq!(
            dimensions("Vaults".parse().unwrap()),
            json!([["function_name"], ["function_name", "vault_id"]])
        );
        assert_eq!(dimensions("off".parse().unwrap()), Value::Null);
        assert_valid(&document(&report(), Metrics::Vaults, moment(), 0));
    }

    #[test]
    fn the_oldest_success_is_one_metric_of_the_function() {
        let mut oldest = OldestSuccess { vaults: 3, not_begun: 1, oldest: Some(("v".to_owned(), 90_000)) };
        let line: Value = serde_json::from_str(&oldest_line(&oldest, Metrics::Vaults).unwrap()).unwrap();
        assert_valid(&line);
        assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["function_name"]]));
        assert_eq!((&line["oldest_success_age_s"], &line["vault_id"]), (&json!(90_000), &json!("v")));
        oldest.oldest = None;
        assert_eq!(oldest_line(&oldest, Metrics::Function), None);
    }

    #[test]
    fn chains_whose_next_invocation_could_not_be_started_count_as_ended() {
        let line: Value = serde_json::from_str(&stranded_line(3, Metrics::Vaults)).unwrap();
        assert_valid(&line);
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Metrics"], json!([{ "Name": "ended_chains", "Unit": "Count" }]));
        assert_eq!((&line["ended_chains"], &line["level"]), (&json!(3), &json!("INFO")));
    }

    #[test]
    fn no_level_leaves_metrics_out() {
        assert_eq!(level(Level::DEBUG), "INFO");
        assert_eq!(level(Level::INFO), "INFO");
        assert_eq!(level(Level::ERROR), "ERROR");
    }

    #[test]
    fn no_title_is_in_it() {
        let report = VaultReport::nothing("v", "Secret Diary", VaultStatus::Failed, "a/b.md".to_owned());
        let line = line(&report, Metrics::Vaults);
        assert!(!line.contains("Diary") && !line.contains(".md") && !line.contains('\n'));
        assert!(line.contains("\"success\":false"));
    }
}
