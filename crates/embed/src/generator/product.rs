//! A product by the weights of a file, cut into parts that threads take in turns.
//!
//! candle cuts a product itself, but whoever asked then waits for all of its threads
//! without giving up the processor, also for one that the system has not let begin:
//! beside other work a token takes as long as the slices of time of the others. Here
//! a part that nobody has begun is done by whoever waits, and a thread that waits for
//! a part sleeps. candle cuts nothing when it has one thread; with more it is left to it.

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::utils::{barrier_pool, get_num_threads};
use candle_core::{Device, Module, Result as Computed, Tensor};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::{Error, Result};

/// Inputs from which on a product is worth unpacking its weights for.
const MANY: usize = 32;

/// Parts for each thread: more let one that was interrupted fall less behind.
const PARTS: usize = 4;

/// Outputs of a part are a multiple of this, as tiles need it, and so many at least.
const FEWEST: usize = 64;

/// The threads of a model.
pub(super) struct Threads {
    /// None where all is computed by the thread that asks, or by candle's.
    pool: Option<ThreadPool>,
}

#[derive(Clone)]
pub(super) struct Product {
    /// Some of the outputs each, in their order, all but the last as many.
    parts: Vec<Part>,
    outputs_a_part: usize,
}

#[derive(Clone)]
struct Part {
    weights: QMatMul,
    /// Whether many inputs are multiplied by the weights as 32-bit floats.
    unpacks: bool,
}

impl Threads {
    /// So many threads; 0 is one for each core that this process may use.
    pub(super) fn new(wanted: usize) -> Result<Threads> {
        let count = match wanted {
            0 => std::thread::available_parallelism().map_or(1, |here| here.get().min(get_num_threads())),
            wanted => wanted,
        };
        if count == 1 || barrier_pool().n_workers() > 0 {
            return Ok(Threads { pool: None });
        }
        let pool = ThreadPoolBuilder::new().num_threads(count).thread_name(|at| format!("generator {at}"));
        let pool = pool.build().map_err(|error| Error::Compute { reason: error.to_string() })?;
        Ok(Threads { pool: Some(pool) })
    }

    fn count(&self) -> usize {
        self.pool.as_ref().map_or(1, ThreadPool::current_num_threads)
    }

    /// Runs `work`, whose products are then shared among the threads.
    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }
}

impl Product {
    /// A product by `weights`, a row for each output, for these threads.
    pub(super) fn new(weights: QTensor, threads: &Threads) -> Computed<Product> {
        let (outputs, inputs) = weights.shape().dims2()?;
        let all = QMatMul::from_qtensor(weights)?;
        let QMatMul::QTensor(packed) = &all else {
            // Floats are multiplied by another library, which cuts them itself.
            return Ok(Product::whole(all, outputs));
        };
        let outputs_a_part = match threads.count() {
            1 => outputs,
            count => outputs.div_ceil(count * PARTS).next_multiple_of(FEWEST),
        };
        if outputs_a_part >= outputs {
            return Ok(Product::whole(all, outputs));
        }
        let kind = packed.dtype();
        let (row, data) = (inputs / kind.block_size() * kind.type_size(), packed.data()?);
        let part = |bytes: &[u8]| {
            // A copy of its own is aligned like any allocation.
            let storage = QStorage::from_data(bytes.to_vec().into(), &Device::Cpu, kind)?;
            let weights = QMatMul::from_qtensor(QTensor::new(storage, (bytes.len() / row, inputs))?)?;
            Ok(Part::new(weights))
        };
        let parts = data.chunks(outputs_a_part * row).map(part).collect::<Computed<_>>()?;
        Ok(Product { parts, outputs_a_part })
    }

    fn whole(weights: QMatMul, outputs: usize) -> Product {
        Product { parts: vec![Part::new(weights)], outputs_a_part: outputs }
    }

    /// `[tokens, inputs]` to `[tokens, outputs]`.
    pub(super) fn forward(&self, inputs: &Tensor) -> Computed<Tensor> {
        match &self.parts[..] {
            [part] => part.forward(inputs),
            parts => {
                let outputs = parts.par_iter().map(|part| part.forward(inputs));
                Tensor::cat(&outputs.collect::<Computed<Vec<_>>>()?, 1)
            }
        }
    }

    /// The weights of these outputs.
    pub(super) fn rows(&self, ids: &[u32]) -> Computed<Tensor> {
        if let [part] = &self.parts[..] {
            return part.weights.embedding(&Tensor::new(ids, &Device::Cpu)?);
        }
        let row = |&id: &u32| {
            let (part, id) = (id as usize / self.outputs_a_part, id as usize % self.outputs_a_part);
            self.parts[part].weights.embedding(&Tensor::new(&[id as u32], &Device::Cpu)?)
        };
        Tensor::cat(&ids.iter().map(row).collect::<Computed<Vec<_>>>()?, 0)
    }
}

impl Part {
    fn new(weights: QMatMul) -> Part {
        let unpacks = matches!(&weights, QMatMul::QTensor(packed) if !is_tiled(packed));
        Part { weights, unpacks }
    }

    fn forward(&self, inputs: &Tensor) -> Computed<Tensor> {
        match &self.weights {
            QMatMul::QTensor(weights) if self.unpacks && inputs.dim(0)? >= MANY => {
                inputs.matmul(&weights.dequantize(&Device::Cpu)?.t()?)
            }
            weights => weights.forward(inputs),
        }
    }
}

/// Whether candle has a product of tiles for such weights; otherwise it goes through
/// all of them again for each input.
fn is_tiled(weights: &QTensor) -> bool {
    let inputs = weights.shape().dims().last().copied().unwrap_or(0);
    matches!(weights.dtype(), GgmlDType::Q4K | GgmlDType::Q6K | GgmlDType::Q8_0) && inputs.is_multiple_of(256)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [GgmlDType; 10] = [
        GgmlDType::Q4_0,
        GgmlDType::Q4_1,
        GgmlDType::Q5_0,
        GgmlDType::Q5_1,
        GgmlDType::Q8_0,
        GgmlDType::Q2K,
        GgmlDType::Q3K,
        GgmlDType::Q4K,
        GgmlDType::Q5K,
        GgmlDType::Q6K,
    ];

    fn numbers(rows: usize, columns: usize) -> Tensor {
        let number = |at: usize| ((at * 7919 % 1009) as f32 / 1009.0 - 0.5) * ((at % 13) as f32 + 1.0);
        let all: Vec<f32> = (0..rows * columns).map(number).collect();
        Tensor::from_vec(all, (rows, columns), &Device::Cpu).unwrap()
    }

    /// Threads of which there are several, whatever candle has.
    fn several(count: usize) -> Threads {
        Threads { pool: Some(ThreadPoolBuilder::new().num_threads(count).build().unwrap()) }
    }

    fn furthest(some: &Tensor, others: &Tensor) -> f32 {
        assert_eq!(some.dims(), others.dims());
        let off = (some - others).unwrap().abs().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        off.into_iter().fold(0.0, f32::max)
    }

    fn deviation(some: &Tensor) -> f32 {
        some.sqr().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap().sqrt()
    }

    #[test]
    fn a_product_in_parts_is_the_product_in_one_for_every_kind_of_weights() {
        // The last part is smaller than the others, and no multiple of anything.
        let weights = numbers(451, 512);
        for kind in KINDS {
            let weights = || QTensor::quantize(&weights, kind).unwrap();
            let threads = several(3);
            let whole = Product::new(weights(), &Threads { pool: None }).unwrap();
            let parts = Product::new(weights(), &threads).unwrap();
            assert_eq!((whole.parts.len(), parts.parts.len()), (1, 8));
            for tokens in [1, 5, 40] {
                let inputs = numbers(tokens, 512);
                let want = whole.forward(&inputs).unwrap();
                let got = threads.run(|| parts.forward(&inputs)).unwrap();
                // Tiles, which only some rows fill, round the inputs by other blocks: each to
                // a part in 150 or so of what comes out, and the furthest of thousands counts.
                let off = furthest(&got, &want) / deviation(&want);
                assert!(off < 0.06, "{kind:?}, {tokens} tokens: {off}");
            }
            let ids = [0, 63, 64, 450, 200, 64];
            let (got, want) = (parts.rows(&ids).unwrap(), whole.rows(&ids).unwrap());
            assert!(furthest(&got, &want) == 0.0, "{kind:?}");
        }
    }

    #[test]
    fn floats_stay_in_one_part() {
        for kind in [GgmlDType::F32, GgmlDType::F16, GgmlDType::BF16] {
            let weights = QTensor::quantize(&numbers(300, 64), kind).unwrap();
            let product = Product::new(weights, &several(2)).unwrap();
            assert_eq!(product.parts.len(), 1);
            assert_eq!(product.forward(&numbers(2, 64)).unwrap().dims(), [2, 300]);
        }
    }
}
