//! Counts concurrent requests, and their maximum.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::log::Service;

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    now: usize,
    most: usize,
}

/// Counts concurrent requests, for each service.
#[derive(Debug, Clone, Default)]
pub(super) struct UnderWay(Arc<Mutex<BTreeMap<Service, Count>>>);

impl UnderWay {
    /// Counts a request until the returned guard is dropped.
    pub(super) fn enter(&self, service: Service) -> Entered {
        let mut counts = self.lock();
        let count = counts.entry(service).or_default();
        count.now += 1;
        count.most = count.most.max(count.now);
        drop(counts);
        Entered { under_way: self.clone(), service }
    }

    /// The most at a time since the last call of [`begin_anew`](Self::begin_anew).
    pub(super) fn most(&self, service: Service) -> usize {
        self.lock().get(&service).map_or(0, |count| count.most)
    }

    /// Resets the maximum.
    pub(super) fn begin_anew(&self) {
        self.lock().values_mut().for_each(|count| count.most = count.now);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Service, Count>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct Entered {
    under_way: UnderWay,
    service: Service,
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(count) = self.under_way.lock().get_mut(&self.service) {
            count.now -= 1;
        }
    }
}
