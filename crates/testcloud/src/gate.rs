//! The gate before each service: logs requests and lets the faults decide their fate.

use std::sync::Arc;

use super::faults::{CloudFaultControl, CloudFaults, Verdict};
use super::http::{self, Dropped};
use super::log::{RequestLog, RequestRecord, Service};
use super::under_way::UnderWay;

/// State shared by all services of a cloud.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    pub(super) faults: Arc<CloudFaultControl>,
    pub(super) log: Arc<RequestLog>,
    pub(super) under_way: UnderWay,
}

/// A request that went through the gate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Admitted {
    number: u64,
    pub(super) verdict: Verdict,
}

impl Gate {
    pub(super) fn new(faults: CloudFaults) -> Self {
        Self {
            faults: Arc::new(CloudFaultControl::new(faults)),
            log: Arc::default(),
            under_way: UnderWay::default(),
        }
    }

    /// Logs a request, delays it as the faults demand, and returns its fate.
    pub(super) async fn admit(
        &self,
        service: Service,
        operation: &str,
        resource: String,
        body: u64,
    ) -> Admitted {
        let (latency, verdict) = self.faults.judge(service, operation);
        let admitted = Admitted { verdict, ..self.note(service, operation, resource, body) };
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        if verdict == Verdict::Hang {
            match http::never().await {}
        }
        admitted
    }

    /// Logs a request that never reached the gate.
    pub(super) fn note(&self, service: Service, operation: &str, resource: String, body: u64) -> Admitted {
        let operation = operation.to_owned();
        let number = self.log.arrived(RequestRecord {
            service,
            operation,
            resource,
            body,
            status: None,
            is_withheld: false,
        });
        Admitted { number, verdict: Verdict::Pass }
    }

    /// Logs the status of a request, and withholds the answer from its client if the verdict says so.
    pub(super) async fn end(&self, admitted: Admitted, status: u16) -> Result<(), Dropped> {
        match admitted.verdict {
            // It was not carried out.
            Verdict::Dropped => return Err(Dropped),
            Verdict::LostAnswer | Verdict::Unanswered => self.log.withheld(admitted.number),
            _ => self.log.answered(admitted.number, status),
        }
        match admitted.verdict {
            Verdict::LostAnswer => Err(Dropped),
            Verdict::Unanswered => std::future::pending().await,
            _ => Ok(()),
        }
    }
}
