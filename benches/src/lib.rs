//! What the benchmarks share: data sets, times, and programs measured beside ours.

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
