//! Spiking networks in files of the Neuromorphic Intermediate Representation.
//!
//! NIR (Pedersen et al. 2024, "Neuromorphic intermediate representation: A unified instruction set
//! for interoperable brain-inspired computing", Nature Communications 15:8122) is a graph of nodes
//! in an HDF5 file, which snnTorch, Norse, SpikingJelly, Sinabs, Lava and others read or write.
//! This module belongs to the feature `nir`, which is on by default.
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
//! let same = Snn::<DigitsCnn>::load(&file, None)?;
//! # assert_eq!(same.neurons(), snn.neurons());
//! # Ok::<(), evospike::Error>(())
//! ```
//!
//! A network that is saved and loaded has the same weights and neurons, and so the same spikes.
//! Only biases that are all 0 are left out.
//!
//! # Correspondence
//!
//! | evospike | NIR |
//! |---|---|
//! | convolution, linear layer, average pooling | `Conv2d`; `Affine`, or `Linear` without bias; `AvgPool2d` |
//! | scale of spikes | `Scale` |
//! | neurons without leak | `IF` with r = 1/dt |
//! | neurons of leak λ | `LIF` with τ = dt/(1 - λ), r = τ/dt, `v_leak` 0 |
//! | threshold θ: fires at v ≥ θ | `v_threshold`, the `f32` before θ: fires at v > `v_threshold` |
//! | charge of a spike | factor on the weights after the neurons: a spike of NIR has charge 1 |
//! | constant current | part of the bias before the neurons |
//! | sum | edges into one node, whose values add up |
//!
//! A timestep is dt = 0.1 ms, as in snnTorch and SpikingJelly. With it, Euler's method gives
//! v ← λ v + z, the equation of [`neurons`](mod@crate::simulate::neurons). Weights multiplied by a
//! charge are in double precision, in which the product of two `f32` is exact. Where spikes reach
//! neurons without weights between, a convolution or linear layer with the charges on its diagonal
//! is added.
//!
//! # Limits of NIR
//!
//! NIR is defined in continuous time, in which a potential never exceeds its threshold, so that
//! subtracting the threshold and resetting to zero are the same. It therefore has **no soft reset**
//! (`v_reset` is 0; pull request 63 of `neuromorphs/NIR` discusses it and suggests metadata). It
//! has no initial potentials and no refractory periods either. The parameters of every layer of
//! neurons are therefore also stored as JSON, as the entry `evospike` of the node's metadata, which
//! other programs ignore.
//!
//! Other programs import an `IF` in different ways: SpikingJelly and Norse reset to zero, Sinabs
//! subtracts the threshold; snnTorch 1.0 gives it a leak of 0.9 and refuses r other than 1. SpikingJelly
//! and snnTorch take one threshold per layer. For these two,
//! [`save_for`](crate::simulate::SpikingNetwork::save_for) writes the nearest network that they load,
//! and says what becomes different there. Soft reset comes back by one statement, in snnTorch if
//! neurons do not leak:
//!
//! ```python
//! net = import_from_nir(nir.read("digits.nir")) # snntorch.import_nir, from save_for(.., SnnTorch)
//! for name, m in list(net.named_children()):
//!     if isinstance(m, snntorch.Leaky):
//!         setattr(net, name, snntorch.Leaky(m.beta, m.threshold, init_hidden=True))
//! output, state = net(images) # a batch, one timestep; then net(images, state)
//! ```
//!
//! ```python
//! net = import_from_nir("digits.nir", dt=1e-4) # spikingjelly.activation_based.nir_exchange
//! for name, m in list(net.named_children()):
//!     if hasattr(m, "module"):
//!         m.module.v_reset = None
//! ```
//!
//! `tests/interchange.py` loads such files in both, and compares the outputs of a batch of images in
//! every timestep.
//!
//! It has no node for max pooling, concatenation or a shift by itself, and windows have the same
//! padding on both sides; networks with these are not written. Bounds of clipped ReLUs, and levels of
//! QCFS, come back as plain neurons: what they mean is in the thresholds.
//!
//! # Files of other programs
//!
//! The reader takes graphs of the nodes above and of `Flatten` and `SumPool2d`, with one `Input` and
//! one `Output`, and any edges that do not lead round in a circle. Padding of pools counts as zeros.
//! Neurons
//! without evospike's metadata reset to zero, start at 0, and their spikes have charge 1. Where
//! neurons are the last layer, the output is their spikes. Soft and external links of HDF5 are not
//! followed: a file with one where a parameter belongs is an error.
//!
//! NIR does not hold the length of a timestep, dt, on which leaks and thresholds depend. It is the
//! argument of [`load`](crate::simulate::SpikingNetwork::load), or the entry `dt` of the graph's
//! metadata, where evospike writes it; or else it follows from r. snnTorch (dt = 0.1 ms) and
//! SpikingJelly (0.1 ms unless told otherwise) write r = τ/dt, or 1/dt without leak, so that a
//! neuron adds its input once per timestep: dt = τ/r, if that is the same everywhere. Norse, Sinabs
//! and SpikingJelly's `decay_input` write `LIF` with r = 1, which does not tell: loading needs dt,
//! which is 1 ms by default in Norse and 1 in Sinabs, whose τ counts timesteps. An `IF` with
//! r = 1, which both write, adds its input once per timestep of any length. With a given dt, a gain
//! other than 1 divides the threshold.

mod fields;
mod graph;
mod importers;
mod nodes;
mod read;
mod write;

pub use write::Importer;

#[cfg(test)]
mod tests;
