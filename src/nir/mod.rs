//! Spiking networks in files of the Neuromorphic Intermediate Representation.
//!
//! NIR (Pedersen et al. 2024, "Neuromorphic intermediate representation: A unified instruction set
//! for interoperable brain-inspired computing", Nature Communications 15:8122) is a graph of nodes
//! in an HDF5 file that snnTorch, Norse, SpikingJelly, Sinabs, Lava and others read or write.
//! In the feature `nir`, which is on unless switched off.
//!
//! ```
//! use evospike::prelude::*;
//!
//! # let digits = data::digits()?.split(Shares::default(), 0)?;
//! # let ann = Ann::<DigitsCnn>::new(0)?;
//! # let snn = convert(&ann, &digits.training.take(20))?.balance(Balance::Max)?;
//! # let folder = tempfile::tempdir().unwrap();
//! # let file = folder.path().join("digits.nir"); // your file
//! snn.save(&file)?; // nir.read("digits.nir") in Python
//! let same = Snn::<DigitsCnn>::load(&file)?;
//! # assert_eq!(same.neurons(), snn.neurons());
//! # Ok::<(), evospike::Error>(())
//! ```
//!
//! A network that is loaded again has the same weights and neurons, and so the same spikes; only
//! biases that are all 0 are left out.
//!
//! # What stands for what
//!
//! | here | in the graph |
//! |---|---|
//! | convolution, linear layer, average pooling | `Conv2d`; `Affine`, or `Linear` without bias; `AvgPool2d` |
//! | neurons without leak | `IF` with r = 1/dt |
//! | neurons of leak λ | `LIF` with τ = dt/(1 - λ), r = τ/dt, `v_leak` 0 |
//! | threshold θ: fire at v ≥ θ | `v_threshold`, the `f32` before θ: fire at v > it |
//! | charge of a spike | part of the weights after the neurons: a spike of NIR carries 1 |
//! | constant current | part of the bias before the neurons |
//! | residual addition | two edges into one node, which add up |
//!
//! A timestep is dt = 0.1 ms, as in snnTorch and SpikingJelly, and Euler's method with it gives
//! v ← λ v + z, the equation of [`neurons`](mod@crate::simulate::neurons). Weights that hold a charge are in
//! double precision, in which the product of two `f32` is exact. Where spikes reach neurons without
//! weights, a convolution or linear layer that only multiplies stands for their charge.
//!
//! # What NIR cannot say
//!
//! NIR is defined in continuous time, in which a potential never exceeds its threshold and
//! subtracting it is a reset to zero; so it has **no soft reset** (`v_reset` is 0; pull request 63
//! of `neuromorphs/NIR` discusses it and suggests metadata). Neither has it initial potentials or
//! refractory periods. The parameters of every layer of neurons are therefore also, as JSON, the
//! entry `evospike` of its node's metadata, which other programs ignore. What their importers make
//! of an `IF`: SpikingJelly and Norse reset to zero, Sinabs subtracts the threshold; snnTorch 1.0
//! refuses r other than 1 and turns what it accepts into a leaky neuron. SpikingJelly and snnTorch
//! take one threshold a layer. To see evospike's spikes there, map `IF` to a neuron with soft reset,
//! as `tests/interchange.py` does.
//!
//! # What is read
//!
//! Graphs of the nodes above, and of `Flatten`, `SumPool2d` and `Scale`, with one `Input` and one
//! `Output`: chains, and sums of two ways between the same nodes. Without evospike's metadata,
//! neurons reset to zero, start at 0, and their spikes carry 1. A timestep is what the entry `dt` of
//! the graph's metadata says, else 0.1 ms; an `IF` with r = 1, which Norse and Sinabs write, adds
//! its input once a timestep. A gain other than 1 divides the threshold. Where neurons are the last
//! layer, the output is their spikes.

pub(crate) mod graph;
