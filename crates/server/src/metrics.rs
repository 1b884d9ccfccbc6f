//! What the service counts, in the Prometheus text format.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use cairn_rag::Engine;
use metrics::{Counter, Histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use parking_lot::RwLock;

const UPKEEP: Duration = Duration::from_secs(5);

const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Handle to the process's metrics; there is one recorder per process.
#[derive(Clone)]
pub(crate) struct Metrics {
    handle: PrometheusHandle,
    /// By route, for a look-up by its labels costs more than the counting.
    counted: Arc<RwLock<HashMap<String, Vec<Counted>>>>,
}

/// Requests of one route, method and status.
struct Counted {
    method: &'static str,
    status: StatusCode,
    requests: Counter,
    seconds: Histogram,
}

impl Counted {
    fn new(method: &'static str, route: &str, status: StatusCode) -> Self {
        let text = status.as_u16().to_string();
        let labels = [("method", method.to_owned()), ("route", route.to_owned()), ("status", text)];
        Self {
            method,
            status,
            requests: metrics::counter!("cairn_http_requests_total", &labels),
            seconds: metrics::histogram!("cairn_http_request_duration_seconds", &labels[..2]),
        }
    }

    fn count(&self, elapsed: Duration) {
        self.requests.increment(1);
        self.seconds.record(elapsed);
    }
}

impl Metrics {
    pub(crate) fn install() -> Self {
        static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
        let handle = HANDLE.get_or_init(|| {
            let builder = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
                .expect("the buckets are not empty");
            builder.install_recorder().expect("this is the only recorder of the process")
        });
        metrics::describe_counter!("cairn_http_requests_total", "Requests answered");
        metrics::describe_histogram!("cairn_http_request_duration_seconds", "Time from request to answer");
        metrics::describe_gauge!("cairn_jobs", "Uploads that wait for their turn, and those worked on");
        metrics::describe_gauge!("cairn_jobs_waiting_bytes", "Bytes of the uploads that wait");
        metrics::describe_counter!("cairn_jobs_ended_total", "Uploads that are done, failed or cancelled");
        metrics::describe_histogram!("cairn_job_duration_seconds", "Time that an upload was worked on");
        metrics::describe_gauge!("cairn_collection_points", "Points of a collection");
        metrics::describe_gauge!("cairn_damaged_segments", "Segment files that cannot be read");
        metrics::describe_gauge!("cairn_writable", "1 while writes are taken, 0 after a disk failure");
        Self { handle: handle.clone(), counted: Arc::default() }
    }

    /// The label of a method. Clients may invent others, without end.
    pub(crate) fn method(method: &Method) -> &'static str {
        let known = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
        known.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
    }

    pub(crate) fn request(&self, method: &'static str, route: &str, status: StatusCode, elapsed: Duration) {
        let counts = |known: &&Counted| known.method == method && known.status == status;
        let counted = self.counted.read();
        if let Some(known) = counted.get(route).and_then(|known| known.iter().find(counts)) {
            return known.count(elapsed);
        }
        drop(counted);
        let new = Counted::new(method, route, status);
        new.count(elapsed);
        self.counted.write().entry(route.to_owned()).or_default().push(new);
    }

    /// Sorts what was recorded into its buckets from time to time; until then
    /// each time takes some memory.
    pub(crate) async fn kept_up(self) {
        let mut turns = tokio::time::interval(UPKEEP);
        loop {
            turns.tick().await;
            self.handle.run_upkeep();
        }
    }

    pub(crate) fn render(&self, engine: &Engine) -> String {
        let db = engine.database();
        let health = db.health();
        metrics::gauge!("cairn_writable").set(if health.write_failure.is_none() { 1.0 } else { 0.0 });
        metrics::gauge!("cairn_damaged_segments").set(health.damaged.len() as f64);
        for name in db.collections() {
            if let Ok(collection) = db.collection(&name) {
                metrics::gauge!("cairn_collection_points", "collection" => name)
                    .set(collection.info().points as f64);
            }
        }
        self.handle.render()
    }
}
