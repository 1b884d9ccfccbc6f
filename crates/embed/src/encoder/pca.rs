//! Principal components: the directions in which rows differ most.
//!
//! The covariance is summed in f64 and taken apart by one-sided Jacobi
//! rotations: the rows of the symmetric matrix are rotated in pairs until all
//! are orthogonal; then each is an eigenvector times its eigenvalue. That is
//! slower than reducing to three diagonals, some seconds for a thousand
//! dimensions, but every step is a few lines and as exact as f64.

use candle_core::{Device, Result, Tensor};

use super::weights::compute;

/// Rows of which the covariance is summed at a time.
const PIECE: usize = 8192;

/// Cosine of two rows that count as orthogonal.
const ORTHOGONAL: f64 = 1e-12;

/// Part of the greatest eigenvalue below which one is rounding.
const NOTHING: f64 = 1e-14;

/// Ten are usual; convergence is quadratic at the end.
const MAX_SWEEPS: usize = 60;

pub(super) struct Pca {
    mean: Vec<f32>,
    /// The components, one after the other, of length 1, widest first.
    components: Vec<f32>,
    /// The part of the variance in these components, 0 to 1.
    pub(super) explained: f64,
}

impl Pca {
    /// The first `dim` components of rows with `width` values each.
    pub(super) fn fit(rows: &[f32], width: usize, dim: usize) -> crate::Result<Pca> {
        let mean = mean(rows, width);
        let covariance = covariance(rows, &mean).map_err(compute)?;
        let found = eigen(covariance);
        let total: f64 = found.iter().map(|(value, _)| value).sum();
        let kept: f64 = found.iter().take(dim).map(|(value, _)| value).sum();
        let components = found.iter().take(dim).flat_map(|(_, vector)| vector.iter().map(|&x| x as f32));
        Ok(Pca {
            mean,
            components: components.collect(),
            explained: if total > 0.0 { kept / total } else { 1.0 },
        })
    }

    /// The coordinates of rows along the components.
    pub(super) fn project(&self, rows: &[f32]) -> crate::Result<Vec<f32>> {
        let width = self.mean.len();
        let project = || {
            let shape = (self.components.len() / width, width);
            let components = Tensor::from_slice(&self.components, shape, &Device::Cpu)?.t()?;
            let mut found = Vec::with_capacity(rows.len() / width * shape.0);
            for piece in rows.chunks(PIECE * width) {
                let centred = centred(piece, &self.mean)?;
                found.extend(centred.matmul(&components)?.flatten_all()?.to_vec1::<f32>()?);
            }
            Ok(found)
        };
        project().map_err(compute)
    }
}

fn mean(rows: &[f32], width: usize) -> Vec<f32> {
    let mut sum = vec![0.0f64; width];
    for row in rows.chunks_exact(width) {
        for (into, &value) in sum.iter_mut().zip(row) {
            *into += f64::from(value);
        }
    }
    let count = (rows.len() / width).max(1) as f64;
    sum.iter().map(|x| (x / count) as f32).collect()
}

fn centred(rows: &[f32], mean: &[f32]) -> Result<Tensor> {
    let values: Vec<f32> = rows
        .chunks_exact(mean.len())
        .flat_map(|row| row.iter().zip(mean).map(|(x, mean)| x - mean))
        .collect();
    let shape = (values.len() / mean.len(), mean.len());
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// The covariance of rows, times their number: scale does not change what the
/// components are.
fn covariance(rows: &[f32], mean: &[f32]) -> Result<Vec<Vec<f64>>> {
    let width = mean.len();
    let mut sum = vec![vec![0.0; width]; width];
    for piece in rows.chunks(PIECE * width) {
        let centred = centred(piece, mean)?.to_dtype(candle_core::DType::F64)?;
        let part = centred.t()?.matmul(&centred)?.to_vec2::<f64>()?;
        for (into, value) in sum.iter_mut().flatten().zip(part.iter().flatten()) {
            *into += value;
        }
    }
    Ok(sum)
}

/// The eigenvalues and eigenvectors of a symmetric matrix that has no negative
/// eigenvalue, greatest first. Where an eigenvalue is nothing so is its vector.
fn eigen(mut rows: Vec<Vec<f64>>) -> Vec<(f64, Vec<f64>)> {
    let greatest = rows.iter().map(|row| dot(row, row)).fold(0.0, f64::max);
    // Of squares, as the sums of a pair are.
    let nothing = greatest * NOTHING * NOTHING;
    for _ in 0..MAX_SWEEPS {
        if !sweep(&mut rows, nothing) {
            break;
        }
    }
    let mut found: Vec<_> = rows.into_iter().map(|row| unit(row, nothing)).collect();
    found.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    found
}

/// Rotates each pair of rows that is not orthogonal; tells whether there was one.
fn sweep(rows: &mut [Vec<f64>], nothing: f64) -> bool {
    let mut rotated = false;
    for other in 1..rows.len() {
        let (before, after) = rows.split_at_mut(other);
        for row in before {
            rotated |= rotate(row, &mut after[0], nothing);
        }
    }
    rotated
}

fn rotate(p: &mut [f64], q: &mut [f64], nothing: f64) -> bool {
    let (pp, qq, pq) = (dot(p, p), dot(q, q), dot(p, q));
    if pp.min(qq) <= nothing || pq.abs() <= ORTHOGONAL * (pp * qq).sqrt() {
        return false;
    }
    let zeta = (qq - pp) / (2.0 * pq);
    let tangent = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
    let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
    let sine = cosine * tangent;
    for (p, q) in p.iter_mut().zip(q) {
        (*p, *q) = (cosine * *p - sine * *q, sine * *p + cosine * *q);
    }
    true
}

/// An eigenvalue and its vector from their product. The sign is free: the
/// value farthest from 0 becomes positive, so that it is always the same.
fn unit(mut row: Vec<f64>, nothing: f64) -> (f64, Vec<f64>) {
    let square = dot(&row, &row);
    if square <= nothing {
        row.fill(0.0);
        return (0.0, row);
    }
    let length = square.sqrt();
    let farthest = row.iter().copied().fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
    let by = length.copysign(farthest);
    row.iter_mut().for_each(|x| *x /= by);
    (length, row)
}

/// In eight sums, which the compiler keeps in vectors.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for at in 0..8 {
            sums[at] += a[at] * b[at];
        }
    }
    rest + sums.iter().sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::{Pca, dot, eigen};

    /// Numbers between -0.5 and 0.5 that differ from seed to seed.
    fn numbers(count: usize, seed: u64) -> Vec<f64> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn eigenvectors_are_orthonormal_and_the_matrix_only_stretches_them() {
        for (size, rank) in [(1, 1), (5, 5), (24, 24), (40, 7)] {
            let parts: Vec<Vec<f64>> = (0..rank).map(|at| numbers(size, 7 + at)).collect();
            let entry = |i: usize, j: usize| parts.iter().map(|part| part[i] * part[j]).sum::<f64>();
            let matrix: Vec<Vec<f64>> = (0..size).map(|i| (0..size).map(|j| entry(i, j)).collect()).collect();
            let found = eigen(matrix.clone());
            assert!(found.windows(2).all(|pair| pair[0].0 >= pair[1].0));
            for (at, (value, vector)) in found.iter().enumerate() {
                for (i, row) in matrix.iter().enumerate() {
                    assert!((dot(row, vector) - value * vector[i]).abs() < 1e-9, "{size}, {at}");
                }
                for (other, (_, second)) in found.iter().enumerate().take(rank as usize) {
                    let want = if other == at { 1.0 } else { 0.0 };
                    assert!((dot(vector, second) - want).abs() < 1e-9, "{size}, {at}, {other}");
                }
            }
        }
    }

    #[test]
    fn components_follow_the_widest_direction_and_keep_distances() {
        // Along (3, 4) / 5 with a little across.
        let along: Vec<f32> = numbers(100, 3).iter().map(|&x| 10.0 * x as f32).collect();
        let across: Vec<f32> = numbers(100, 4).iter().map(|&x| 0.1 * x as f32).collect();
        let rows: Vec<f32> = along
            .iter()
            .zip(&across)
            .flat_map(|(a, b)| [7.0 + 0.6 * a - 0.8 * b, 0.8 * a + 0.6 * b])
            .collect();
        let pca = Pca::fit(&rows, 2, 1).expect("computed");
        assert!((pca.components[0] - 0.6).abs() < 0.01 && (pca.components[1] - 0.8).abs() < 0.01);
        assert!(pca.explained > 0.999 && pca.explained < 1.0);
        let found = pca.project(&rows).expect("computed");
        for at in 1..100 {
            assert!(((found[at] - found[0]) - (along[at] - along[0])).abs() < 0.05);
        }
        assert!(found.iter().sum::<f32>().abs() < 1e-3);
    }

    #[test]
    fn rows_without_any_difference_have_coordinates_of_zero() {
        let pca = Pca::fit(&[1.0, 2.0, 3.0, 1.0, 2.0, 3.0], 3, 2).expect("computed");
        assert_eq!(pca.project(&[1.0, 2.0, 3.0]).expect("computed"), [0.0, 0.0]);
    }
}
