//! The queue alone: places, order, restarts. What a job does is tested over HTTP.

use std::sync::Arc;

use cairn_index::Database;
use cairn_rag::{Engine, Format, ModelOptions, RagOptions};
use tempfile::TempDir;

use super::*;
use crate::jobs::job::Counts;
use crate::options::ServerOptions;

fn app(dir: &TempDir, jobs: JobOptions) -> App {
    let db = Database::open(dir.path()).unwrap();
    let engine = Engine::new(db, ModelOptions::default(), RagOptions::default());
    App::new(Arc::new(engine), ServerOptions { jobs, ..ServerOptions::default() }).unwrap()
}

fn about() -> About {
    About {
        asked: "docs".to_owned(),
        collection: "docs".to_owned(),
        was_there: false,
        kind: Kind::Files,
        format: Format::default(),
        chunk: None,
    }
}

fn queued(app: &App, content: &str) -> ApiResult<Job> {
    let mut receiving = Receiving::new(app)?;
    receiving.begin("a.md")?;
    receiving.take(content.as_bytes())?;
    receiving.queue(about())
}

#[test]
fn an_upload_beyond_the_places_is_turned_away_until_one_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(&dir, JobOptions { max_waiting: 2, ..JobOptions::default() });
    let first = queued(&app, "one").unwrap();
    let receiving = Receiving::new(&app).unwrap();
    let refused = queued(&app, "three").unwrap_err();
    assert_eq!(refused.status.as_u16(), 429);
    assert!(refused.text.contains("server.jobs.max_waiting"), "{}", refused.text);
    drop(receiving);
    let second = queued(&app, "two").unwrap();
    assert!(queued(&app, "three").is_err());
    assert_eq!(app.jobs.cancel(&first.id).unwrap().state, State::Cancelled);
    assert!(!app.jobs.bytes(&first.id).exists() && app.jobs.bytes(&second.id).exists());
    assert_eq!(app.jobs.cancel(&first.id).unwrap_err().status.as_u16(), 409);
    queued(&app, "three").unwrap();
}

#[test]
fn the_bytes_of_what_waits_and_of_one_upload_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let limits = JobOptions { max_waiting_bytes: 100, max_upload_bytes: 60, ..JobOptions::default() };
    let app = app(&dir, limits);
    queued(&app, &"x".repeat(50)).unwrap();
    assert_eq!(queued(&app, &"x".repeat(60)).unwrap_err().status.as_u16(), 413);
    let refused = queued(&app, &"x".repeat(51)).unwrap_err();
    assert_eq!(refused.status.as_u16(), 429);
    assert!(refused.text.contains("max_waiting_bytes"), "{}", refused.text);
    assert_eq!(app.jobs.queue.lock().receiving_bytes, 0);
    queued(&app, &"x".repeat(20)).unwrap();
    let left = std::fs::read_dir(dir.path().join("jobs")).unwrap().count();
    assert_eq!(left, 4, "a record and an upload of each of the two");
}

#[test]
fn jobs_come_in_their_order_and_an_interrupted_one_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let ids: Vec<String> = {
        let app = app(&dir, JobOptions::default());
        let ids = ["one", "two", "three"].map(|content| queued(&app, content).unwrap().id);
        let (mut job, _) = app.jobs.next().unwrap();
        assert_eq!(job.id, ids[0]);
        assert_eq!(app.jobs.get(&ids[2]).unwrap().1, Some(2));
        job.at = 7;
        job.counts.files_done = 1;
        app.jobs.note(&mut job);
        // Asked while it runs; the process ends before the job does.
        app.jobs.next().unwrap();
        assert_eq!(app.jobs.cancel(&ids[1]).unwrap().state, State::Running);
        ids.into()
    };
    let jobs = Jobs::open(dir.path(), JobOptions::default()).unwrap();
    let (job, before) = jobs.get(&ids[0]).unwrap();
    assert_eq!((job.state, job.at, job.counts.files_done, before), (State::Queued, 7, 1, Some(0)));
    assert_eq!(jobs.get(&ids[1]).unwrap().0.state, State::Cancelled);
    assert!(!jobs.bytes(&ids[1]).exists());
    assert_eq!(jobs.next().unwrap().0.id, ids[0]);
    assert_eq!(jobs.next().unwrap().0.id, ids[2]);
    jobs.stop();
    assert!(jobs.next().is_none());
}

#[test]
fn what_nobody_will_ask_for_is_cleared_away_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("jobs");
    let kept = {
        let app = app(&dir, JobOptions::default());
        queued(&app, "kept").unwrap().id
    };
    for name in ["job-a.partial", "job-b.bytes", "job-c.bytes", "job-c.json"] {
        std::fs::write(folder.join(name), "not a record").unwrap();
    }
    let jobs = Jobs::open(dir.path(), JobOptions::default()).unwrap();
    assert!(jobs.bytes(&kept).exists());
    let there = |name: &str| folder.join(name).exists();
    assert!(!there("job-a.partial") && !there("job-b.bytes"));
    assert!(there("job-c.bytes"), "a damaged record is no reason to lose an upload");
}

#[test]
fn jobs_that_have_ended_are_kept_for_some_time_and_no_more_than_so_many() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(&dir, JobOptions { keep: 2, keep_days: 1, ..JobOptions::default() });
    let ids = ["one", "two", "three"].map(|content| queued(&app, content).unwrap().id);
    for _ in &ids {
        let (mut job, _) = app.jobs.next().unwrap();
        job.state = State::Done;
        job.counts = Counts { documents: 1, ..job.counts };
        app.jobs.end(job, 2.0);
    }
    assert!(app.jobs.get(&ids[0]).is_none());
    let shown = app.jobs.list(10, |_| true);
    let states: Vec<_> = shown.iter().map(|job| (job.id.as_str(), job.state, job.documents)).collect();
    assert_eq!(states, [(ids[2].as_str(), State::Done, 1), (ids[1].as_str(), State::Done, 1)]);
    assert!(shown[0].failures.is_none() && shown[0].started_at.is_some() && shown[0].ended_at.is_some());
    {
        let mut queue = app.jobs.queue.lock();
        let old = queue.jobs.values_mut().find(|job| job.id == ids[1]).unwrap();
        old.ended_at = Some(now_ms() - 86_400_001);
        app.jobs.forget_old(&mut queue);
    }
    assert!(app.jobs.get(&ids[1]).is_none());
    let left: Vec<_> =
        std::fs::read_dir(dir.path().join("jobs")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [std::ffi::OsString::from(format!("{}.json", ids[2]))]);
}
