//! Bars for long work, on a terminal only.

use std::borrow::Cow;
use std::time::Duration;

use cairn_embed::Progress;
use indicatif::{ProgressBar, ProgressStyle};

use crate::out;

const FILE: &str = "  {msg:28} {bar:28} {bytes:>10}/{total_bytes:10} {bytes_per_sec:>12} {eta:>4}";
const GROWING: &str = "  {msg:28} {spinner} {bytes:>10} {bytes_per_sec:>12}";
const RUNNING: &str = "  {spinner} {msg}";
const COUNT: &str = "  {msg:28} {bar:28} {pos:>6}/{len:<6} {per_sec:>10} {eta:>4}";

/// A bar that counts things.
pub(crate) fn counting(message: impl Into<Cow<'static, str>>, total: usize) -> ProgressBar {
    ProgressBar::new(total as u64).with_style(style(COUNT)).with_message(message)
}

/// A bar that counts bytes, of a total where that is known.
pub(crate) fn bytes(message: impl Into<Cow<'static, str>>, total: Option<u64>) -> ProgressBar {
    let bar = match total {
        Some(total) => ProgressBar::new(total).with_style(style(FILE)),
        None => ProgressBar::no_length().with_style(style(GROWING)),
    };
    bar.with_message(message)
}

/// A line that tells what has been done so far.
pub(crate) fn running(message: impl Into<Cow<'static, str>>) -> ProgressBar {
    let bar = ProgressBar::no_length().with_style(style(RUNNING)).with_message(message);
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is valid").progress_chars("█▉▊▋▌▍▎▏ ")
}

/// Shows a model on its way.
pub(crate) struct Download {
    bar: ProgressBar,
}

impl Download {
    pub(crate) fn new() -> Self {
        Self { bar: ProgressBar::no_length() }
    }
}

impl Progress for Download {
    fn source(&self, name: &str) {
        self.bar.suspend(|| out::note(format!("  from {name}")));
    }

    fn begin(&self, file: &str, total_bytes: Option<u64>, done_bytes: u64) {
        self.bar.reset();
        match total_bytes {
            Some(total) => {
                self.bar.set_style(style(FILE));
                self.bar.set_length(total);
            }
            None => {
                self.bar.set_style(style(GROWING));
                self.bar.enable_steady_tick(Duration::from_millis(120));
            }
        }
        self.bar.set_message(file.to_owned());
        self.bar.set_position(done_bytes);
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn finish(&self, file: &str) {
        self.bar.suspend(|| out::note(format!("  got {file}")));
    }

    fn note(&self, message: &str) {
        self.bar.suspend(|| out::note(format!("  {message}")));
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
