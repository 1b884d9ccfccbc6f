//! A vector for each token and the mean of a text's: all a static model computes.
//!
//! Rows stay as they were stored, bytes as bytes, since what a mean costs is
//! fetching them. A table that exists is sound: each token below
//! [`Table::tokens`] has a row and, where there are weights, a weight. The
//! files it comes from are not here; see `model2vec`.

/// The values of all rows, one after the other.
pub(super) enum Rows {
    Float(Vec<f32>),
    Byte(Vec<i8>),
}

impl Rows {
    fn len(&self) -> usize {
        match self {
            Rows::Float(values) => values.len(),
            Rows::Byte(values) => values.len(),
        }
    }
}

pub(super) struct Table {
    rows: Rows,
    dim: usize,
    tokens: usize,
    /// The row of each token; without it a token's id is its row.
    mapping: Option<Vec<u32>>,
    /// What the row of each token is multiplied by.
    weights: Option<Vec<f32>>,
}

impl Table {
    /// A table of rows with `dim` values each.
    ///
    /// # Errors
    /// In words, what does not fit: the tensors are called as in the file.
    pub(super) fn new(
        rows: Rows,
        dim: usize,
        mapping: Option<Vec<u32>>,
        weights: Option<Vec<f32>>,
    ) -> Result<Table, String> {
        let count = rows.len().checked_div(dim).unwrap_or(0);
        if count == 0 || rows.len() != count * dim {
            return Err("tensor `embeddings` has no rows or no columns".into());
        }
        let tokens = mapping.as_ref().map_or(count, Vec::len);
        let outside = |&(_, &row): &(usize, &u32)| row as usize >= count;
        if let Some((token, row)) = mapping.iter().flatten().enumerate().find(outside) {
            return Err(format!(
                "tensor `mapping` gives token {token} the row {row}, tensor `embeddings` has {count} rows"
            ));
        }
        if let Some(weights) = &weights
            && weights.len() != tokens
        {
            let got = weights.len();
            return Err(format!("tensor `weights` has {got} values, there are {tokens} tokens"));
        }
        Ok(Table { rows, dim, tokens, mapping, weights })
    }

    /// The dimensions of a row.
    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    /// Ids below this have a row.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// The mean of the weighted rows of some tokens, at least one. It is
    /// divided by the number of tokens, not by the sum of their weights.
    pub(super) fn mean(&self, ids: &[u32]) -> Vec<f32> {
        let mut mean = vec![0.0; self.dim];
        for &id in ids {
            self.add(id, &mut mean);
        }
        let count = ids.len() as f32;
        mean.iter_mut().for_each(|x| *x /= count);
        mean
    }

    /// The weighted rows of some tokens, one after the other.
    pub(super) fn rows(&self, ids: &[u32]) -> Vec<f32> {
        let mut rows = vec![0.0; ids.len() * self.dim];
        for (&id, row) in ids.iter().zip(rows.chunks_exact_mut(self.dim)) {
            self.add(id, row);
        }
        rows
    }

    fn add(&self, id: u32, sum: &mut [f32]) {
        let id = id as usize;
        let row = self.mapping.as_ref().map_or(id, |mapping| mapping[id] as usize);
        let weight = self.weights.as_ref().map_or(1.0, |weights| weights[id]);
        let values = row * self.dim..(row + 1) * self.dim;
        match &self.rows {
            Rows::Float(rows) => add(sum, &rows[values], weight),
            Rows::Byte(rows) => add(sum, &rows[values], weight),
        }
    }
}

fn add<T: Copy + Into<f32>>(sum: &mut [f32], row: &[T], weight: f32) {
    for (into, &value) in sum.iter_mut().zip(row) {
        *into += weight * value.into();
    }
}

#[cfg(test)]
mod tests {
    use super::{Rows, Table};

    #[test]
    fn rows_of_bytes_and_of_floats_have_the_same_mean() {
        let bytes: Vec<i8> = (-30..30).collect();
        let floats = bytes.iter().map(|&x| f32::from(x)).collect();
        let weights: Vec<f32> = (0..10).map(|i| i as f32 / 4.0).collect();
        let table = |rows| Table::new(rows, 6, None, Some(weights.clone())).expect("it fits");
        let (bytes, floats) = (table(Rows::Byte(bytes)), table(Rows::Float(floats)));
        for ids in [&[3][..], &[0, 9, 9, 4], &[1, 2, 3, 4, 5, 6, 7]] {
            assert_eq!(bytes.mean(ids), floats.mean(ids));
            assert_eq!(bytes.rows(ids), floats.rows(ids));
        }
        // Rows -6 to -1 once and 24 to 29 with the weight 2.25.
        assert_eq!(bytes.mean(&[4, 9]), [24.0, 25.625, 27.25, 28.875, 30.5, 32.125]);
    }

    #[test]
    fn a_table_that_does_not_fit_is_refused() {
        let table = |dim, mapping, weights| Table::new(Rows::Byte(vec![0; 6]), dim, mapping, weights).err();
        assert_eq!(table(3, Some(vec![1, 0, 0]), Some(vec![1.0; 3])), None);
        for refused in [
            table(0, None, None),
            table(4, None, None),
            table(3, Some(vec![0, 2]), None),
            table(3, None, Some(vec![1.0; 3])),
            table(3, Some(Vec::new()), Some(vec![1.0])),
        ] {
            assert!(refused.expect("refused").contains("tensor `"));
        }
    }
}
