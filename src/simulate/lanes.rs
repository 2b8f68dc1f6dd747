//! Loops over [`LANES`] output channels, compiled for each instruction set.
//!
//! The compiler turns the loops into vector instructions. It neither reorders nor fuses sums, so that
//! every instruction set gives the same spikes.

/// Number of output channels computed at once.
pub(crate) const LANES: usize = 32;

/// Weights from one input to [`LANES`] output channels: two cache lines.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Row(pub [f32; LANES]);

/// Instruction set of this processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vectors {
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Vectors {
    /// Instruction sets of this processor, the widest last.
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

    /// Runs `work`, and everything inlined into it, compiled for the instruction set.
    #[allow(unsafe_code)]
    pub fn run(self, work: impl FnOnce()) {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2")]
        fn avx2(work: impl FnOnce()) {
            work();
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx2,bmi1,bmi2,popcnt")]
        fn avx512(work: impl FnOnce()) {
            work();
        }
        match self {
            Self::Plain => work(),
            // SAFETY: `all` lists only what the processor has.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2(work) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512(work) },
        }
    }
}

impl Vectors {
    /// One bit for each number that is not 0.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub fn nonzero(self, numbers: &[f32; LANES]) -> u32 {
        match self {
            // SAFETY: `all` lists only what the processor has.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::nonzero(numbers) },
            _ => {
                let mut bits = 0;
                for (lane, &number) in numbers.iter().enumerate() {
                    bits |= u32::from(number != 0.0) << lane;
                }
                bits
            }
        }
    }

    /// Writes `first` plus the place of each one of `bits`, from the lowest. Returns the number of ones;
    /// anything follows them, in the first [`LANES`] values.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub fn places(self, bits: u32, first: u32, to: &mut [u32]) -> usize {
        match self {
            // SAFETY: `all` lists only what the processor has.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::places(bits, first, to) },
            _ => {
                let mut used = 0;
                for (byte, ones) in bits.to_le_bytes().into_iter().enumerate() {
                    let (first, places) = (first + byte as u32 * 8, PLACES[usize::from(ones)]);
                    to[used..][..8].copy_from_slice(&places.map(|place| first + u32::from(place)));
                    used += ones.count_ones() as usize;
                }
                used
            }
        }
    }

    /// Writes the numbers at the places of the ones of `bits`, as [`places`](Self::places) does.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub fn pack(self, bits: u32, numbers: &[f32; LANES], to: &mut [f32]) {
        match self {
            // SAFETY: `all` lists only what the processor has.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::pack(bits, numbers, to) },
            _ => {
                let mut used = 0;
                for (byte, ones) in bits.to_le_bytes().into_iter().enumerate() {
                    let numbers = &numbers[byte * 8..][..8];
                    // No `map`, which the compiler does not inline.
                    for (to, place) in to[used..][..8].iter_mut().zip(PLACES[usize::from(ones)]) {
                        *to = numbers[usize::from(place)];
                    }
                    used += ones.count_ones() as usize;
                }
            }
        }
    }
}

/// Places of the ones in each byte, from the lowest bit.
const PLACES: [[u8; 8]; 256] = {
    let mut places = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bit, mut count) = (0, 0);
        while bit < 8 {
            if byte >> bit & 1 == 1 {
                places[byte][count] = bit;
                count += 1;
            }
            bit += 1;
        }
        byte += 1;
    }
    places
};

/// Loops that the compiler does not turn into the instructions made for them.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx512 {
    use std::arch::x86_64::*;

    use super::LANES;

    const HALF: usize = LANES / 2;

    #[target_feature(enable = "avx512f")]
    #[inline]
    pub fn nonzero(numbers: &[f32; LANES]) -> u32 {
        let half = |half: usize| {
            // SAFETY: reads one half of the numbers.
            let numbers = unsafe { _mm512_loadu_ps(numbers[half * HALF..][..HALF].as_ptr()) };
            u32::from(_mm512_cmpneq_ps_mask(numbers, _mm512_setzero_ps()))
        };
        half(0) | half(1) << HALF
    }

    #[target_feature(enable = "avx512f,popcnt")]
    #[inline]
    pub fn places(bits: u32, first: u32, to: &mut [u32]) -> usize {
        let each = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let (low, high) = halves(bits);
        let lower = low.count_ones() as usize;
        for (used, bits, first) in [(0, low, first), (lower, high, first + HALF as u32)] {
            let all = _mm512_add_epi32(each, _mm512_set1_epi32(first as i32));
            let to = &mut to[used..][..HALF];
            // SAFETY: as many values as there is room for.
            unsafe {
                let to = to.as_mut_ptr().cast();
                _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(bits, all));
            }
        }
        bits.count_ones() as usize
    }

    #[target_feature(enable = "avx512f,popcnt")]
    #[inline]
    pub fn pack(bits: u32, numbers: &[f32; LANES], to: &mut [f32]) {
        let (low, high) = halves(bits);
        let lower = low.count_ones() as usize;
        for (used, bits, from) in [(0, low, 0), (lower, high, HALF)] {
            let (from, to) = (&numbers[from..][..HALF], &mut to[used..][..HALF]);
            // SAFETY: as many values as there is room for.
            unsafe {
                let all = _mm512_loadu_ps(from.as_ptr());
                _mm512_storeu_ps(to.as_mut_ptr(), _mm512_maskz_compress_ps(bits, all));
            }
        }
    }

    fn halves(bits: u32) -> (u16, u16) {
        (bits as u16, (bits >> HALF) as u16)
    }
}

/// Sum of the listed rows, an even number of them: two sums at once, since an addition takes longer
/// than the processor needs to begin the next.
#[inline(always)]
pub(crate) fn sum(rows: &[Row], list: &[u32]) -> [f32; LANES] {
    let (mut even, mut odd) = ([0.0; LANES], [0.0; LANES]);
    for pair in list.chunks_exact(2) {
        add(&mut even, &rows[pair[0] as usize].0);
        add(&mut odd, &rows[pair[1] as usize].0);
    }
    add(&mut even, &odd);
    even
}

/// Sum of the listed rows, an even number of them, each times its count.
#[inline(always)]
pub(crate) fn sum_counted(rows: &[Row], list: &[u32], counts: &[f32]) -> [f32; LANES] {
    let (mut even, mut odd) = ([0.0; LANES], [0.0; LANES]);
    for (pair, counts) in list.chunks_exact(2).zip(counts.chunks_exact(2)) {
        add_times(&mut even, &rows[pair[0] as usize].0, counts[0]);
        add_times(&mut odd, &rows[pair[1] as usize].0, counts[1]);
    }
    add(&mut even, &odd);
    even
}

/// Adds each row of weights times its value in each of the inputs. A row, once loaded, serves four of
/// them.
#[inline(always)]
pub(crate) fn add_rows<const N: usize>(
    rows: &[Row],
    inputs: [&[f32]; N],
    sums: &mut [[f32; LANES]; N],
) {
    let inputs = inputs.map(|input| &input[..rows.len()]);
    match (&inputs[..], &mut sums[..]) {
        // The sums have names of their own, since the compiler keeps no arrays of them in registers.
        ([i, j, k, l], [a, b, c, d]) => {
            let [mut e, mut f, mut g, mut h] = [*a, *b, *c, *d];
            for (at, row) in rows.iter().enumerate() {
                add_times(&mut e, &row.0, i[at]);
                add_times(&mut f, &row.0, j[at]);
                add_times(&mut g, &row.0, k[at]);
                add_times(&mut h, &row.0, l[at]);
            }
            [*a, *b, *c, *d] = [e, f, g, h];
        }
        (inputs, sums) => {
            for (input, sum) in inputs.iter().zip(sums) {
                let mut all = *sum;
                for (row, &value) in rows.iter().zip(*input) {
                    // Most inputs of a layer may be 0; of four at once, hardly ever all are.
                    if value != 0.0 {
                        add_times(&mut all, &row.0, value);
                    }
                }
                *sum = all;
            }
        }
    }
}

/// Sum of whole numbers without their signs. Halves are added, many numbers at a time: as long as all
/// are whole, the order does not matter.
#[inline(always)]
pub(crate) fn total(numbers: &[f32; LANES]) -> u32 {
    let mut sums = numbers.map(f32::abs);
    for half in [16, 8, 4, 2, 1] {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
    }
    sums[0] as u32
}

#[inline(always)]
fn add_times(sum: &mut [f32; LANES], row: &[f32; LANES], count: f32) {
    for lane in 0..LANES {
        sum[lane] += row[lane] * count;
    }
}

#[inline(always)]
fn add(sum: &mut [f32; LANES], row: &[f32; LANES]) {
    for lane in 0..LANES {
        sum[lane] += row[lane];
    }
}
