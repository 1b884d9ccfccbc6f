//! What the benchmarks share: data sets, times, and programs measured beside ours.

/// As in `cairn` itself: what is measured is what is shipped.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod clustered;
pub mod disk;
pub mod judged;
pub mod machine;
pub mod npy;
pub mod peers;
pub mod points;
pub mod served;
pub mod timing;
pub mod wrk;
