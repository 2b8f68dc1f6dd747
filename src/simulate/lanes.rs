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
