//! What the service counts, in the Prometheus text format.

use std::sync::OnceLock;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use cairn_rag::Engine;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Handle to the process's metrics; there is one recorder per process.
#[derive(Clone)]
pub(crate) struct Metrics {
    handle: PrometheusHandle,
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
        metrics::describe_gauge!("cairn_collection_points", "Points of a collection");
        metrics::describe_gauge!("cairn_damaged_segments", "Segment files that cannot be read");
        metrics::describe_gauge!("cairn_writable", "1 while writes are taken, 0 after a disk failure");
        Self { handle: handle.clone() }
    }

    pub(crate) fn request(method: &Method, route: String, status: StatusCode, elapsed: Duration) {
        let method = method.as_str().to_owned();
        let labels = [("method", method), ("route", route), ("status", status.as_u16().to_string())];
        metrics::counter!("cairn_http_requests_total", &labels).increment(1);
        metrics::histogram!("cairn_http_request_duration_seconds", &labels[..2]).record(elapsed);
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
