//! Reused memory, and products of matrices.

use std::collections::VecDeque;
use std::ops::Deref;
use std::ops::DerefMut;
use std::sync::{Mutex, PoisonError};

/// Array of numbers in reused memory: new memory from the system, which is filled with zeros, costs
/// as much time as the layers that are not convolutions.
pub(crate) struct Buffer {
    /// At least `length` numbers.
    values: Vec<f32>,
    length: usize,
}

static SPARE: Mutex<VecDeque<Vec<f32>>> = Mutex::new(VecDeque::new());

impl Buffer {
    /// Creates an array of `length` numbers with arbitrary values.
    pub fn new(length: usize) -> Self {
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        // The shortest that is long enough and at most twice as long as needed.
        let fitting = (0..spare.len()).filter(|&i| (length..=2 * length).contains(&spare[i].len()));
        let best = fitting.min_by_key(|&i| spare[i].len());
        let values = best.and_then(|i| spare.remove(i));
        drop(spare);
        let mut values = values.unwrap_or_else(|| vec![0.0; length]);
        if cfg!(debug_assertions) {
            values.fill(f32::NAN); // reveals reads of values that were not written
        }
        Self { values, length }
    }

    /// Turns the array into a vector, whose memory is not reused.
    pub fn into_vec(mut self) -> Vec<f32> {
        let mut values = std::mem::take(&mut self.values);
        values.truncate(self.length);
        values
    }
}

impl From<Vec<f32>> for Buffer {
    fn from(values: Vec<f32>) -> Self {
        let length = values.len();
        Self { values, length }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        const SPARES: usize = 128; // as many as a training step of a deep network needs
        if self.values.is_empty() {
            return;
        }
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        spare.push_back(std::mem::take(&mut self.values));
        let oldest = (spare.len() > SPARES).then(|| spare.pop_front());
        drop(spare);
        drop(oldest);
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.values[..self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.length]
    }
}

/// Matrix in a slice: value (row, column) is at `row * rows + column * columns`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
}

pub(crate) fn matrix(data: &[f32], rows: usize, columns: usize) -> Matrix<'_> {
    Matrix { data, rows, columns }
}

impl Matrix<'_> {
    pub(crate) fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, ..self }
    }
}

/// Multiplies a (m x k) by b (k x n) into `out` (m x n, `stride` from row to row) on this thread.
/// With `add`, the product is added to `out`.
pub(crate) fn multiply(
    [m, n, k]: [usize; 3],
    out: &mut [f32],
    stride: usize,
    add: bool,
    a: Matrix<'_>,
    b: Matrix<'_>,
) {
    if m * n * k == 0 {
        if !add {
            out.fill(0.0);
        }
        return;
    }
    let end = |rows, columns, by: [usize; 2]| (rows - 1) * by[0] + (columns - 1) * by[1];
    assert!(n <= stride && end(m, n, [stride, 1]) < out.len());
    assert!(end(m, k, [a.rows, a.columns]) < a.data.len());
    assert!(end(k, n, [b.rows, b.columns]) < b.data.len());
    // SAFETY: the three matrices lie in their slices, as checked above. The rows of `out` do not
    // overlap, since a row is not longer than `stride`; `out` does not overlap a and b, since it is
    // borrowed mutably.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride as isize,
            add,
            a.data.as_ptr(),
            a.columns as isize,
            a.rows as isize,
            b.data.as_ptr(),
            b.columns as isize,
            b.rows as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
