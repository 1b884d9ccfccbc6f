//! The service as a process beside this one, and the time that processes spend.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server that ends with this value.
pub struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Served {
    /// Starts `binary` on a data directory, with more variables of the environment,
    /// and waits until it is ready; then there is its address.
    ///
    /// # Errors
    /// If it cannot be started, or is not ready within a minute.
    pub fn start(
        binary: &Path,
        dir: &Path,
        port: u16,
        variables: &[(&str, &str)],
    ) -> Result<(Served, String), Box<dyn Error>> {
        let mut command = Command::new(binary);
        command
            .args(["serve", "--port", &port.to_string(), "--data-dir"])
            .arg(dir)
            .envs(variables.iter().copied())
            .stderr(Stdio::null())
            .stdout(Stdio::null());
        let started =
            command.spawn().map_err(|error| format!("cannot start {}: {error}", binary.display()))?;
        let served = Served(started);
        let url = format!("http://127.0.0.1:{port}");
        let end = Instant::now() + Duration::from_secs(60);
        while ureq::get(format!("{url}/readyz")).call().is_err() {
            if Instant::now() > end {
                return Err(format!("{} does not serve", binary.display()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok((served, url))
    }

    /// Seconds of processor time that it has spent.
    ///
    /// # Errors
    /// Those of [`spent`].
    pub fn spent(&self) -> Result<f64, Box<dyn Error>> {
        spent(self.0.id(), Of::Process)
    }
}

/// Whose time is counted.
#[derive(Debug, Clone, Copy)]
pub enum Of {
    /// The process itself.
    Process,
    /// Those that it began, that ended, and that it waited for.
    Children,
}

/// Seconds of processor time that a process has spent, as Linux counts it.
///
/// # Errors
/// If the system does not tell.
pub fn spent(process: u32, of: Of) -> Result<f64, Box<dyn Error>> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name, in brackets, may have spaces; what follows begins with field 3.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let at = match of {
        Of::Process => 14,
        Of::Children => 16,
    };
    let mut ticks = 0.0;
    for field in [at, at + 1] {
        ticks += fields.get(field - 3).ok_or("a field of stat is missing")?.parse::<f64>()?;
    }
    // A tick is a hundredth of a second for whoever reads this file.
    Ok(ticks / 100.0)
}
