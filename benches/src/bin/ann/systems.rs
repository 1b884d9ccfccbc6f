//! Who is measured.

use std::env;
use std::path::Path;
use std::process::Command;

use cairn_benches::peers;

use crate::process::Process;
use crate::{Args, Outcome, Peers, ours};

/// One system, not yet started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct System {
    pub(crate) name: &'static str,
    /// What a Python library needs; none for those compiled in here.
    packages: &'static [&'static str],
    asked: Asked,
    pub(crate) ours: bool,
}

/// When a system is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Always,
    WithAll,
    /// Only by its name: it builds for many minutes.
    ByName,
}
use Asked::{Always, ByName, WithAll};

/// Every peer, with the versions it was driven with.
const PEERS: [System; 19] = [
    peer("svs-int8", &["scalable-vs==0.5.0"], Always),
    peer("svs-f16", &["scalable-vs==0.5.0"], Always),
    peer("svs-f32", &["scalable-vs==0.5.0"], WithAll),
    // Left out, with the reason, where the processor is not Intel's.
    peer("svs-lvq8", &["scalable-vs==0.5.0"], Always),
    peer("svs-lvq4x8", &["scalable-vs==0.5.0"], Always),
    peer("svs-leanvec", &["scalable-vs==0.5.0"], WithAll),
    peer("scann", &["scann==1.4.2"], Always),
    peer("faiss-hnsw", &["faiss-cpu==1.15.1"], WithAll),
    peer("faiss-hnsw-sq8", &["faiss-cpu==1.15.1"], Always),
    peer("faiss-ivf-pq4fs", &["faiss-cpu==1.15.1"], WithAll),
    // From source, for this processor.
    peer("hnswlib", &["--no-binary=hnswlib", "hnswlib==0.8.0"], Always),
    peer("usearch-f32", &["usearch==2.26.6"], WithAll),
    peer("usearch-f16", &["usearch==2.26.6"], WithAll),
    peer("usearch-int8", &["usearch==2.26.6"], WithAll),
    peer("vsag-sq8", &["pyvsag==0.18.5"], WithAll),
    peer("ngt-onng", &["ngt==2.8.0.post1"], ByName),
    peer("qdrant-edge", &["qdrant-edge-py==0.9.0"], WithAll),
    peer("qdrant-edge-int8", &["qdrant-edge-py==0.9.0"], Always),
    peer("hnsw_rs", &[], WithAll),
];

const fn peer(name: &'static str, packages: &'static [&'static str], asked: Asked) -> System {
    System { name, packages, asked, ours: false }
}

/// Ours and then the peers.
fn everyone() -> impl Iterator<Item = System> {
    let ours = ours::VARIANTS.iter().map(|one| System { ours: true, ..peer(one.name, &[], Always) });
    ours.chain(PEERS)
}

/// Those that the arguments choose.
///
/// # Errors
/// If a name is nobody's.
pub(crate) fn chosen(args: &Args) -> Outcome<Vec<System>> {
    if let Some(name) = args.systems.iter().find(|name| everyone().all(|system| system.name != **name)) {
        let names: Vec<&str> = everyone().map(|system| system.name).collect();
        return Err(format!("no system is called {name}; there are {}", names.join(", ")).into());
    }
    let asked = |system: &System| match (args.systems.as_slice(), args.peers) {
        ([], Peers::None) => system.ours,
        ([], Peers::Fast) => system.asked == Always,
        ([], Peers::All) => system.asked != ByName,
        (names, _) => names.iter().any(|name| name == system.name),
    };
    Ok(everyone().filter(asked).collect())
}

impl System {
    /// Starts its process, with a folder that holds the task.
    pub(crate) fn start(&self, work: &Path) -> Result<Process, String> {
        let command = self.command(work).map_err(|error| error.to_string())?;
        Process::start(command, &work.join(format!("{}.log", self.name)))
    }

    fn command(&self, work: &Path) -> Outcome<Command> {
        if self.packages.is_empty() {
            let mut command = Command::new(env::current_exe()?);
            command.args(["--serve", self.name, "--work"]).arg(work);
            return Ok(command);
        }
        let mut command = Command::new(peers::python(&[self.packages, &["numpy==2.4.6"]].concat())?);
        command.arg(peers::script("ann.py")).arg(work).arg(self.name);
        Ok(command)
    }
}
