//! Memory for many values, and products of matrices.

use std::collections::VecDeque;
use std::ops::Deref;
use std::ops::DerefMut;
use std::sync::{Mutex, PoisonError};

/// Room for numbers that is used again: new pages from the system, and zeros in them, cost as much
/// as the layers that are not convolutions.
pub(crate) struct Buffer {
    /// At least `length` of them.
    values: Vec<f32>,
    length: usize,
}

static SPARE: Mutex<VecDeque<Vec<f32>>> = Mutex::new(VecDeque::new());

impl Buffer {
    /// `length` numbers of any value.
    pub fn new(length: usize) -> Self {
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        // The shortest that is long enough, but no long one for a few numbers.
        let fitting = (0..spare.len()).filter(|&i| (length..=2 * length).contains(&spare[i].len()));
        let best = fitting.min_by_key(|&i| spare[i].len());
        let values = best.and_then(|i| spare.remove(i));
        drop(spare);
        let mut values = values.unwrap_or_else(|| vec![0.0; length]);
        if cfg!(debug_assertions) {
            values.fill(f32::NAN); // Shows who reads what was not written.
        }
        Self { values, length }
    }

    /// The numbers alone, for good.
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
        const SPARES: usize = 128; // as many as a training step of a deep network keeps
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

/// A matrix in a slice: value (row, column) is at `row * rows + column * columns`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
}

pub(crate) fn matrix(data: &[f32], rows: usize, columns: usize) -> Matrix<'_> {
    Matrix {
        data,
        rows,
        columns,
    }
}

impl Matrix<'_> {
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            ..self
        }
    }
}

/// `out` (m x n, `stride` from row to row) becomes a (m x k) times b (k x n), on this thread;
/// added to what it holds if `add`.
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
    // SAFETY: the three matrices lie in their slices, checked above; `out` does not alias itself,
    // since a row is no longer than the step to the next, nor a and b, since it is borrowed alone.
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
