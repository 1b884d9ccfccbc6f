//! The way through HTTP: many clients at a time, beside as many callers in one
//! process.
//!
//! The load is wrk's, which shares the cores; what it spends is told. In process
//! each caller asks for the texts of a request and waits for their vectors.

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cairn_benches::served::{Of, Served, spent};
use cairn_benches::wrk::write_script;
use cairn_embed::{Encoder, EncoderOptions, Precision, TextKind};
use serde_json::{Value, json};

use super::{Args, HTTP};

const CLIENTS: usize = 32;

/// A request: which texts, how many, and in which form vectors come back.
const CASES: [(&str, usize, &str); 6] = [
    ("short", 1, "float"),
    ("short", 16, "float"),
    ("medium", 1, "float"),
    ("medium", 1, "base64"),
    ("medium", 16, "float"),
    ("long", 1, "float"),
];

pub(crate) fn measure(args: &Args, task: &Value) -> Result<Value, Box<dyn Error>> {
    let model = task["model"].as_str().unwrap_or_default();
    let variables = [("CAIRN__MODELS__ENCODER__PRECISION", "bf16"), ("CAIRN__MODELS__DEFAULT", model)];
    let mut cases = Vec::new();
    let requests = |set: &str, count: usize| -> Result<Vec<Vec<String>>, Box<dyn Error>> {
        let texts: Vec<String> = serde_json::from_value(task["sets"][set].clone())?;
        Ok(texts.chunks_exact(count).map(<[String]>::to_vec).collect())
    };
    let dir = tempfile::tempdir()?;
    let (served, url) = Served::start(&args.binary, dir.path(), args.port, &variables)?;
    for (set, count, form) in CASES {
        let script = dir.path().join("texts.lua");
        let body = |texts: Vec<String>| json!({ "input": texts, "encoding_format": form }).to_string();
        write_script(&script, requests(set, count)?.into_iter().map(body))?;
        // The first asks for the model.
        run_wrk(&script, &url, 1)?;
        let before = (served.spent()?, spent(std::process::id(), Of::Children)?);
        let (done, seconds) = run_wrk(&script, &url, args.seconds)?;
        let after = (served.spent()?, spent(std::process::id(), Of::Children)?);
        let texts = done * count as f64;
        cases.push(json!({
            "case": format!("{count} {set}, {form}"),
            "http": texts / seconds,
            "server_us": 1e6 * (after.0 - before.0) / texts,
            "client_us": 1e6 * (after.1 - before.1) / texts,
        }));
    }
    drop(served);
    let options = EncoderOptions { precision: Precision::Bf16, ..EncoderOptions::default() };
    let encoder = Encoder::load(Path::new(model), &options)?;
    for (case, (set, count, _)) in cases.iter_mut().zip(CASES) {
        let rate = in_process(&encoder, &requests(set, count)?, Duration::from_secs(args.seconds))?;
        case["in_process"] = json!(rate);
    }
    Ok(json!({ "system": HTTP, "threads": options.threads, "cases": cases }))
}

/// Texts per second that as many callers get.
fn in_process(encoder: &Encoder, requests: &[Vec<String>], time: Duration) -> Result<f64, Box<dyn Error>> {
    let run = |time: Duration| {
        let (done, started) = (AtomicUsize::new(0), Instant::now());
        std::thread::scope(|scope| {
            let callers: Vec<_> = (0..CLIENTS)
                .map(|caller| {
                    let done = &done;
                    scope.spawn(move || {
                        for request in requests.iter().cycle().skip(caller * 7) {
                            if started.elapsed() > time {
                                break;
                            }
                            let texts: Vec<&str> = request.iter().map(String::as_str).collect();
                            encoder.embed(&texts, TextKind::Passage).map_err(|error| error.to_string())?;
                            done.fetch_add(texts.len(), Ordering::Relaxed);
                        }
                        Ok::<(), String>(())
                    })
                })
                .collect();
            callers
                .into_iter()
                .try_for_each(|caller| caller.join().unwrap_or(Err("a caller panicked".into())))
        })?;
        Ok::<f64, String>(done.into_inner() as f64 / started.elapsed().as_secs_f64())
    };
    run(Duration::from_millis(500))?;
    Ok(run(time)?)
}

/// Requests that were answered, and in how many seconds.
fn run_wrk(script: &Path, url: &str, seconds: u64) -> Result<(f64, f64), Box<dyn Error>> {
    let wrk = Command::new("wrk")
        .args(["-t1", &format!("-c{CLIENTS}"), &format!("-d{seconds}s"), "--timeout", "30s", "-s"])
        .arg(script)
        .arg(format!("{url}/v1/embeddings"))
        .output()
        .map_err(|error| format!("cannot start wrk, which makes the load: {error}"))?;
    let said = String::from_utf8_lossy(&wrk.stdout);
    if let Some(refused) = said.lines().find(|line| line.contains("Non-2xx")) {
        return Err(format!("requests were refused: {}", refused.trim()).into());
    }
    let told = said.lines().find(|line| line.contains(" requests in ")).ok_or("wrk counted no requests")?;
    let requests: f64 = told.split_whitespace().next().unwrap_or_default().parse()?;
    let rate = said.lines().find_map(|line| line.strip_prefix("Requests/sec:")).ok_or("wrk told no rate")?;
    Ok((requests, requests / rate.trim().parse::<f64>()?))
}
