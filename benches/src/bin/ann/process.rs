//! A system in a process of its own that answers lines of JSON with lines of JSON.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// How long a build or a pass may take.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

pub(crate) struct Process {
    child: Child,
    questions: Option<ChildStdin>,
    answers: Receiver<String>,
    /// What it says on standard error.
    log: PathBuf,
}

impl Process {
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Self, String> {
        let told = |error: std::io::Error| error.to_string();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(log).map_err(told)?);
        let mut child = command.spawn().map_err(told)?;
        let output = child.stdout.take().expect("it was asked for");
        let (sender, answers) = channel();
        thread::spawn(move || {
            // Ends when the process does, or nobody listens any more.
            BufReader::new(output).lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
        });
        Ok(Self { questions: child.stdin.take(), child, answers, log: log.to_owned() })
    }

    /// Sends a line and waits for the answer.
    pub(crate) fn ask(&mut self, question: &Value) -> Result<Value, String> {
        let sent = self.questions.as_mut().map(|input| writeln!(input, "{question}"));
        if !matches!(sent, Some(Ok(()))) {
            return Err(self.last_words());
        }
        let answer = self.answers.recv_timeout(PATIENCE).map_err(|_| self.last_words())?;
        serde_json::from_str(&answer).map_err(|_| format!("it answered {answer}"))
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let last = log.lines().rfind(|line| !line.trim().is_empty());
        last.unwrap_or("it ended, or took too long, without a word").trim().to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that waits for a line ends when there will be none.
        self.questions = None;
        for _ in 0..50 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.child.kill().and_then(|()| self.child.wait()).ok();
    }
}
