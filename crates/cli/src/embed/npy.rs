//! The head of a file of NumPy, for rows of f32.
//!
//! It is as long for many rows as for none, so that it can be written again
//! once they are counted.

/// Bytes of the head.
pub(super) const HEAD: usize = 128;

/// The head of a file with so many rows of so many numbers, in C order.
pub(super) fn head(rows: usize, columns: usize) -> [u8; HEAD] {
    const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";
    let mut head = [b' '; HEAD];
    let rest = (HEAD - MAGIC.len() - 2) as u16;
    head[..MAGIC.len()].copy_from_slice(MAGIC);
    head[MAGIC.len()..MAGIC.len() + 2].copy_from_slice(&rest.to_le_bytes());
    let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    head[MAGIC.len() + 2..][..text.len()].copy_from_slice(text.as_bytes());
    head[HEAD - 1] = b'\n';
    head
}

#[cfg(test)]
mod tests {
    use super::{HEAD, head};

    #[test]
    fn a_head_says_the_shape_and_ends_where_it_says() {
        for (rows, columns) in [(0, 1), (12, 256), (usize::MAX, 1 << 20)] {
            let head = head(rows, columns);
            assert_eq!(&head[..8], b"\x93NUMPY\x01\x00");
            assert_eq!(usize::from(u16::from_le_bytes([head[8], head[9]])) + 10, HEAD);
            let text = std::str::from_utf8(&head[10..]).unwrap();
            assert!(text.contains(&format!("'shape': ({rows}, {columns}), }}")));
            assert!(text.ends_with('\n'));
        }
    }
}
