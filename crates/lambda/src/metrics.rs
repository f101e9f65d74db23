//! The line `Sync metrics`: a log line that is also a metric of CloudWatch (embedded metric format,
//! specification in the CloudWatch user guide), in the namespace `Obsync`, with and without the vault as a
//! dimension.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::answer::{FollowUp, VaultReport, VaultStatus};
use crate::gauge;

/// The namespace of all metrics.
const NAMESPACE: &str = "Obsync";

/// What is measured, with the unit that CloudWatch is told.
const METRICS: [(&str, &str); 8] = [
    ("files_synced", "Count"),
    ("bytes_synced", "Bytes"),
    ("duration_ms", "Milliseconds"),
    ("memory_used_mb", "Megabytes"),
    ("failed_files", "Count"),
    ("failures", "Count"),
    ("older_vaults", "Count"),
    ("ended_chains", "Count"),
];

/// The line about one vault, without a line break.
pub(crate) fn line(report: &VaultReport) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    document(report, now, gauge::peak().unwrap_or(0)).to_string()
}

fn document(report: &VaultReport, now_ms: u64, peak: u64) -> Value {
    let failed = report.status == VaultStatus::Failed;
    let metrics: Vec<Value> =
        METRICS.iter().map(|(name, unit)| json!({ "Name": name, "Unit": unit })).collect();
    json!({
        "_aws": {
            "Timestamp": now_ms,
            "CloudWatchMetrics": [
                { "Namespace": NAMESPACE, "Dimensions": [[], ["vault_id"]], "Metrics": metrics },
            ],
        },
        "level": "INFO",
        "message": "Sync metrics",
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
    })
}

#[cfg(test)]
mod tests {
    use obsync_core::Tally;

    use super::*;

    #[test]
    fn the_line_is_a_valid_embedded_metric() {
        let report = VaultReport {
            pulled: Tally { files: 2, bytes: 30 },
            duration_ms: 40,
            ..VaultReport::nothing("v", "Notes", VaultStatus::Complete, String::new())
        };
        let line = document(&report, 1_700_000_000_000, 61 << 20);
        assert_eq!(line["metric_type"], "sync_performance");
        assert_eq!(line["message"], "Sync metrics");
        assert_eq!((&line["files_synced"], &line["bytes_synced"]), (&json!(2), &json!(30)));
        assert_eq!((&line["memory_used_mb"], &line["success"]), (&json!(61), &json!(true)));
        assert!(line["_aws"]["Timestamp"].is_u64());
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Namespace"], "Obsync");
        for metric in directive["Metrics"].as_array().unwrap() {
            let name = metric["Name"].as_str().unwrap();
            assert!(line[name].is_number(), "{name} must be a number at the root");
        }
        for dimension in
            directive["Dimensions"].as_array().unwrap().iter().flat_map(|set| set.as_array().unwrap())
        {
            assert!(line[dimension.as_str().unwrap()].is_string(), "{dimension} must be a text at the root");
        }
    }

    #[test]
    fn no_title_is_in_it() {
        let report = VaultReport::nothing("v", "Secret Diary", VaultStatus::Failed, "a/b.md".to_owned());
        let line = line(&report);
        assert!(!line.contains("Diary") && !line.contains(".md") && !line.contains('\n'));
        assert!(line.contains("\"success\":false"));
    }
}
