//! [`LANES`] numbers in the vectors that the processor has.
//!
//! Written out, since the compiler does not keep this many numbers in registers by itself. Every
//! kind gives the same results: sums and products are rounded one by one, never fused.

use crate::simulate::synapses::{LANES, PIECE, Row, Row8, Row16};

/// A kind of vectors that this processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vectors {
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Vectors {
    /// All that there are, the widest last.
    pub fn all() -> Vec<Self> {
        #[allow(unused_mut)]
        let mut all = vec![Self::Plain];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            all.push(Self::Avx2);
            if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("bmi2") {
                all.push(Self::Avx512);
            }
        }
        all
    }

    pub fn widest() -> Self {
        Self::all().pop().unwrap_or(Self::Plain)
    }
}

/// [`LANES`] numbers. `x86` kinds may only be used in functions compiled for what they need.
pub(crate) trait Lanes: Copy {
    fn load(from: &[f32; LANES]) -> Self;
    fn store(self, to: &mut [f32; LANES]);
    fn add(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;

    /// Which numbers reach the threshold, a bit each, and the numbers after a soft reset.
    fn fire_and_subtract(self, threshold: Self) -> (u32, Self);
    /// Which numbers reach the threshold, a bit each, and the numbers after a hard reset.
    fn fire_and_clear(self, threshold: Self) -> (u32, Self);

    fn all(value: f32) -> Self {
        Self::load(&[value; LANES])
    }

    /// Sum of the listed rows, an even number of them: two sums at a time, since an addition takes
    /// longer than the processor needs to begin the next.
    #[inline(always)]
    fn sum(rows: &[Row], list: &[u32]) -> Self {
        let (mut even, mut odd) = (Self::all(0.0), Self::all(0.0));
        for pair in list.chunks_exact(2) {
            even = even.add(Self::load(&rows[pair[0] as usize].0));
            odd = odd.add(Self::load(&rows[pair[1] as usize].0));
        }
        even.add(odd)
    }

    /// [`sum`](Self::sum) of whole numbers, of which any [`PIECE`] have a sum of 16 bits; sums on
    /// the way to it may wrap.
    fn sum16(rows: &[Row16], list: &[u32]) -> Self;

    /// The same of 8 bits, which hold the sum of any `piece` rows, an even number.
    fn sum8(rows: &[Row8], list: &[u32], piece: usize) -> Self;
}

/// Any processor.
#[derive(Clone, Copy)]
pub(crate) struct Plain([f32; LANES]);

impl Plain {
    #[inline(always)]
    fn fire(self, threshold: Self, reset: impl Fn(f32, f32) -> f32) -> (u32, Self) {
        let (mut mark, mut v) = (0, self.0);
        for (i, v) in v.iter_mut().enumerate() {
            if *v >= threshold.0[i] {
                *v = reset(*v, threshold.0[i]);
                mark |= 1 << i;
            }
        }
        (mark, Self(v))
    }
}

impl Lanes for Plain {
    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        Self(*from)
    }
    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        *to = self.0;
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }
    #[inline(always)]
    fn times(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] * other.0[i]))
    }
    #[inline(always)]
    fn sum16(rows: &[Row16], list: &[u32]) -> Self {
        let mut total = [0i32; LANES];
        for piece in list.chunks(PIECE) {
            let mut sum = [0i16; LANES];
            for &row in piece {
                let row = &rows[row as usize].0;
                sum.iter_mut()
                    .zip(row)
                    .for_each(|(sum, w)| *sum = sum.wrapping_add(*w));
            }
            let totals = total.iter_mut().zip(sum);
            totals.for_each(|(total, sum)| *total += i32::from(sum));
        }
        Self(total.map(|total| total as f32))
    }
    #[inline(always)]
    fn sum8(rows: &[Row8], list: &[u32], piece: usize) -> Self {
        let mut total = [0i32; LANES];
        for piece in list.chunks(piece) {
            let mut sum = [0i8; LANES];
            for &row in piece {
                let row = &rows[row as usize].0;
                sum.iter_mut()
                    .zip(row)
                    .for_each(|(sum, w)| *sum = sum.wrapping_add(*w));
            }
            let totals = total.iter_mut().zip(sum);
            totals.for_each(|(total, sum)| *total += i32::from(sum));
        }
        Self(total.map(|total| total as f32))
    }
    #[inline(always)]
    fn fire_and_subtract(self, threshold: Self) -> (u32, Self) {
        self.fire(threshold, |v, threshold| v - threshold)
    }
    #[inline(always)]
    fn fire_and_clear(self, threshold: Self) -> (u32, Self) {
        self.fire(threshold, |_, _| 0.0)
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

// SAFETY, for all of it: pointers come from arrays of [`LANES`] numbers and stay within them, and
// the functions that use these types are compiled for, and called on, processors that have the
// instructions.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{LANES, Lanes, PIECE, Row8, Row16};
    use std::arch::x86_64::*;
    use std::array::from_fn;

    /// Four vectors of 256 bits.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2([__m256; LANES / 8]);

    impl Avx2 {
        #[inline(always)]
        fn fire(
            self,
            threshold: Self,
            reset: impl Fn(__m256, __m256, __m256) -> __m256,
        ) -> (u32, Self) {
            let mut mark = 0;
            let v = from_fn(|i| unsafe {
                let reached = _mm256_cmp_ps::<_CMP_GE_OQ>(self.0[i], threshold.0[i]);
                mark |= (_mm256_movemask_ps(reached) as u32) << (8 * i);
                reset(self.0[i], threshold.0[i], reached)
            });
            (mark, Self(v))
        }
    }

    impl Lanes for Avx2 {
        #[inline(always)]
        fn load(from: &[f32; LANES]) -> Self {
            Self(from_fn(|i| unsafe {
                _mm256_loadu_ps(from.as_ptr().add(8 * i))
            }))
        }
        #[inline(always)]
        fn store(self, to: &mut [f32; LANES]) {
            for (i, v) in self.0.into_iter().enumerate() {
                unsafe { _mm256_storeu_ps(to.as_mut_ptr().add(8 * i), v) }
            }
        }
        #[inline(always)]
        fn add(self, other: Self) -> Self {
            Self(from_fn(|i| unsafe { _mm256_add_ps(self.0[i], other.0[i]) }))
        }
        #[inline(always)]
        fn times(self, other: Self) -> Self {
            Self(from_fn(|i| unsafe { _mm256_mul_ps(self.0[i], other.0[i]) }))
        }
        #[inline(always)]
        fn sum16(rows: &[Row16], list: &[u32]) -> Self {
            let zero = unsafe { _mm256_setzero_si256() };
            let mut total = [zero; LANES / 8];
            let add = |sum: &mut [__m256i; 2], row: &Row16| {
                for (i, sum) in sum.iter_mut().enumerate() {
                    *sum = unsafe {
                        _mm256_add_epi16(
                            *sum,
                            _mm256_loadu_si256(row.0.as_ptr().add(16 * i).cast()),
                        )
                    };
                }
            };
            for piece in list.chunks(PIECE) {
                let (mut even, mut odd) = ([zero; 2], [zero; 2]);
                for pair in piece.chunks_exact(2) {
                    add(&mut even, &rows[pair[0] as usize]);
                    add(&mut odd, &rows[pair[1] as usize]);
                }
                total = from_fn(|i| unsafe {
                    let sum = _mm256_add_epi16(even[i / 2], odd[i / 2]);
                    let half = match i % 2 {
                        0 => _mm256_castsi256_si128(sum),
                        _ => _mm256_extracti128_si256::<1>(sum),
                    };
                    _mm256_add_epi32(total[i], _mm256_cvtepi16_epi32(half))
                });
            }
            Self(total.map(|total| unsafe { _mm256_cvtepi32_ps(total) }))
        }
        #[inline(always)]
        fn sum8(rows: &[Row8], list: &[u32], piece: usize) -> Self {
            let zero = unsafe { _mm256_setzero_si256() };
            let mut total = [zero; LANES / 8];
            for piece in list.chunks(piece) {
                let sum = sum8(rows, piece);
                let quarters = unsafe {
                    let halves = [
                        _mm256_castsi256_si128(sum),
                        _mm256_extracti128_si256::<1>(sum),
                    ];
                    let [low, high] = halves;
                    [
                        low,
                        _mm_srli_si128::<8>(low),
                        high,
                        _mm_srli_si128::<8>(high),
                    ]
                };
                total = from_fn(|i| unsafe {
                    _mm256_add_epi32(total[i], _mm256_cvtepi8_epi32(quarters[i]))
                });
            }
            Self(total.map(|total| unsafe { _mm256_cvtepi32_ps(total) }))
        }
        #[inline(always)]
        fn fire_and_subtract(self, threshold: Self) -> (u32, Self) {
            self.fire(threshold, |v, threshold, reached| unsafe {
                _mm256_sub_ps(v, _mm256_and_ps(threshold, reached))
            })
        }
        #[inline(always)]
        fn fire_and_clear(self, threshold: Self) -> (u32, Self) {
            self.fire(threshold, |v, _, reached| unsafe {
                _mm256_andnot_ps(reached, v)
            })
        }
    }

    /// Sum of the listed rows, an even number of them, which 8 bits hold.
    #[inline(always)]
    fn sum8(rows: &[Row8], list: &[u32]) -> __m256i {
        let load = |row: u32| unsafe { _mm256_loadu_si256(rows[row as usize].0.as_ptr().cast()) };
        let (mut even, mut odd) = unsafe { (_mm256_setzero_si256(), _mm256_setzero_si256()) };
        for pair in list.chunks_exact(2) {
            unsafe {
                even = _mm256_add_epi8(even, load(pair[0]));
                odd = _mm256_add_epi8(odd, load(pair[1]));
            }
        }
        unsafe { _mm256_add_epi8(even, odd) }
    }

    /// Two vectors of 512 bits.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512([__m512; LANES / 16]);

    impl Avx512 {
        #[inline(always)]
        fn fire(
            self,
            threshold: Self,
            reset: impl Fn(__m512, __m512, __mmask16) -> __m512,
        ) -> (u32, Self) {
            let mut mark = 0;
            let v = from_fn(|i| unsafe {
                let reached = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(self.0[i], threshold.0[i]);
                mark |= u32::from(reached) << (16 * i);
                reset(self.0[i], threshold.0[i], reached)
            });
            (mark, Self(v))
        }
    }

    impl Lanes for Avx512 {
        #[inline(always)]
        fn load(from: &[f32; LANES]) -> Self {
            Self(from_fn(|i| unsafe {
                _mm512_loadu_ps(from.as_ptr().add(16 * i))
            }))
        }
        #[inline(always)]
        fn store(self, to: &mut [f32; LANES]) {
            for (i, v) in self.0.into_iter().enumerate() {
                unsafe { _mm512_storeu_ps(to.as_mut_ptr().add(16 * i), v) }
            }
        }
        #[inline(always)]
        fn add(self, other: Self) -> Self {
            Self(from_fn(|i| unsafe { _mm512_add_ps(self.0[i], other.0[i]) }))
        }
        #[inline(always)]
        fn times(self, other: Self) -> Self {
            Self(from_fn(|i| unsafe { _mm512_mul_ps(self.0[i], other.0[i]) }))
        }
        #[inline(always)]
        fn sum16(rows: &[Row16], list: &[u32]) -> Self {
            let load =
                |row: u32| unsafe { _mm512_loadu_si512(rows[row as usize].0.as_ptr().cast()) };
            let zero = unsafe { _mm512_setzero_si512() };
            let mut total = [zero; LANES / 16];
            for piece in list.chunks(PIECE) {
                let (mut even, mut odd) = (zero, zero);
                for pair in piece.chunks_exact(2) {
                    unsafe {
                        even = _mm512_add_epi16(even, load(pair[0]));
                        odd = _mm512_add_epi16(odd, load(pair[1]));
                    }
                }
                unsafe {
                    let sum = _mm512_add_epi16(even, odd);
                    let halves = [
                        _mm512_castsi512_si256(sum),
                        _mm512_extracti64x4_epi64::<1>(sum),
                    ];
                    total =
                        from_fn(|i| _mm512_add_epi32(total[i], _mm512_cvtepi16_epi32(halves[i])));
                }
            }
            Self(total.map(|total| unsafe { _mm512_cvtepi32_ps(total) }))
        }
        #[inline(always)]
        fn sum8(rows: &[Row8], list: &[u32], piece: usize) -> Self {
            let mut total = [unsafe { _mm512_setzero_si512() }; LANES / 16];
            for piece in list.chunks(piece) {
                let sum = sum8(rows, piece);
                unsafe {
                    let halves = [
                        _mm256_castsi256_si128(sum),
                        _mm256_extracti128_si256::<1>(sum),
                    ];
                    total =
                        from_fn(|i| _mm512_add_epi32(total[i], _mm512_cvtepi8_epi32(halves[i])));
                }
            }
            Self(total.map(|total| unsafe { _mm512_cvtepi32_ps(total) }))
        }
        #[inline(always)]
        fn fire_and_subtract(self, threshold: Self) -> (u32, Self) {
            self.fire(threshold, |v, threshold, reached| unsafe {
                _mm512_mask_sub_ps(v, reached, v, threshold)
            })
        }
        #[inline(always)]
        fn fire_and_clear(self, threshold: Self) -> (u32, Self) {
            self.fire(threshold, |v, _, reached| unsafe {
                _mm512_maskz_mov_ps(!reached, v)
            })
        }
    }
}
