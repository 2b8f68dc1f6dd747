//! Operations of layers: a definition for any device, and faster ones for `f32` on the CPU.

use dfdx::dtypes::Dtype;
use dfdx::prelude::{
    Axes2, Axes3, Axis, Backward, BroadcastTo, ChooseFrom, Cpu, CpuError, Device, GatherTo,
    Gradients, HasShape, MaxTo, MeanTo, NoneTape, PermuteTo, PutTape, ReshapeTo, Shape, SplitTape,
    SumTo, Tape, Tensor, TensorFromVec, Trace, TryAdd, TryConcatAlong, TryDiv, TryMatMul, TryMul,
    TrySub, WithEmptyTape, ge, le,
};

use super::kernels;
use super::matrix::Buffer;
use super::shapes::{ConvShape, EPSILON, NormShape, Patches};
use crate::base::Result;

/// Values of a tensor as a vector, row by row.
pub type Flat<E, D, T> = Tensor<(usize,), E, D, T>;

/// Values of a tensor without a tape.
pub(crate) type Values<D> = Flat<f32, D, NoneTape>;

/// Output, and mean and variance (divided by n) of each channel.
type Normed<E, D, T> = (Flat<E, D, T>, Tensor<(usize,), E, D>, Tensor<(usize,), E, D>);

/// Device that runs evospike's layers. The provided methods define the operations for any device,
/// in terms of dfdx's; the CPU overrides them for `f32`.
pub trait Accelerated<E: Dtype>: Device<E> {
    /// Computes a cross-correlation without bias. `weight` is output channels x input channels x
    /// rows x columns.
    ///
    /// # Errors
    /// Returns the device's error, for example if memory runs out.
    fn convolve<T: Tape<E, Self>>(
        images: Flat<E, Self, T>,
        weight: Flat<E, Self, T>,
        shape: ConvShape,
    ) -> Result<Flat<E, Self, T>, Self::Err> {
        convolve_plainly(images, weight, shape)
    }

    /// Computes means of `size` x `size` squares of planes of `side` x `side`.
    ///
    /// # Errors
    /// Returns the device's error, for example if memory runs out.
    fn average_pool<T: Tape<E, Self>>(
        images: Flat<E, Self, T>,
        side: usize,
        size: usize,
    ) -> Result<Flat<E, Self, T>, Self::Err> {
        let half = side / size;
        let rows = images.shape().0 / (size * side);
        images
            .try_reshape_like(&(rows, size, half, size))?
            .try_mean::<(usize, usize), Axes2<1, 3>>()?
            .try_reshape_like(&(rows * half,))
    }

    /// Normalises by the batch's own mean and variance.
    ///
    /// # Errors
    /// Returns the device's error, for example if memory runs out.
    fn normalise<T: Tape<E, Self>>(
        x: Flat<E, Self, T>,
        weight: Flat<E, Self, T>,
        bias: Flat<E, Self, T>,
        shape: NormShape,
    ) -> Result<Normed<E, Self, T>, Self::Err> {
        let size = *x.shape();
        let images = size.0 / (shape.channels * shape.positions);
        let each = (images, shape.channels, shape.positions);
        let x = x.try_reshape_like(&each)?;
        let mean = x.retaped::<T>().try_mean::<(usize,), Axes2<0, 2>>()?;
        let running_mean = mean.retaped();
        let centred = x.try_sub(mean.try_broadcast_like::<_, Axes2<0, 2>>(&each)?)?;
        let variance = centred.retaped::<T>().try_square()?.try_mean::<(usize,), Axes2<0, 2>>()?;
        let running_variance = variance.retaped();
        let y = affine(centred, weight, bias, variance)?.try_reshape_like(&size)?;
        Ok((y, running_mean, running_variance))
    }

    /// Normalises by a given mean and variance, which get no gradient.
    ///
    /// # Errors
    /// Returns the device's error, for example if memory runs out.
    fn normalise_by<T: Tape<E, Self>>(
        x: Flat<E, Self, T>,
        weight: Flat<E, Self, T>,
        bias: Flat<E, Self, T>,
        [mean, variance]: [Tensor<(usize,), E, Self>; 2],
        shape: NormShape,
    ) -> Result<Flat<E, Self, T>, Self::Err> {
        let size = *x.shape();
        let images = size.0 / (shape.channels * shape.positions);
        let each = (images, shape.channels, shape.positions);
        let centred = x
            .try_reshape_like(&each)?
            .try_sub(mean.try_broadcast_like::<_, Axes2<0, 2>>(&each)?)?;
        affine(centred, weight, bias, variance.retaped())?.try_reshape_like(&size)
    }

    /// Computes max(x, 0).
    ///
    /// # Errors
    /// Returns the device's error, for example if memory runs out.
    fn relu<T: Tape<E, Self>>(x: Flat<E, Self, T>) -> Result<Flat<E, Self, T>, Self::Err> {
        x.try_relu()
    }

    /// Computes the quantisation clip-floor-shift activation (Bu et al. 2022, ICLR) with one bound
    /// λ for all values and L levels above 0: λ clip(floor(x L / λ + 1/2) / L, 0, 1).
    ///
    /// The gradient is that of the authors' code, with a straight-through estimator for floor:
    /// where q, the value before clipping, is in 0..=1, it is 1 with respect to x and q - x / λ
    /// with respect to λ; for larger q it is 0 and 1, for smaller q 0 and 0.
    ///
    /// # Errors
    /// Returns the device's error, for example if memory runs out.
    fn qcfs<T: Tape<E, Self>>(
        x: Flat<E, Self, T>,
        bound: Flat<E, Self, T>,
        levels: usize,
    ) -> Result<Flat<E, Self, T>, Self::Err> {
        let (device, size) = (x.device().clone(), *x.shape());
        let number = |value: usize| E::from_usize(value).unwrap_or_default();
        let half = E::from_f64(0.5).unwrap_or_default();
        let bound = bound.try_reshape_like(&())?.try_broadcast_like::<_, Axis<0>>(&size)?;
        let (x_now, bound_now) = (copy(&x)?, copy(&bound)?);
        let share = x_now.clone().try_div(bound_now.clone())?;
        let shifted = share.clone().try_mul(number(levels))?.try_add(half)?;
        let (zero, one) = (device.try_zeros_like(&size)?, device.try_ones_like(&size)?);
        let reaches = |level: usize| {
            let above = shifted.clone().try_sub(number(level))?;
            ge(&above, &zero).try_choose(one.clone(), zero.clone())
        };
        let mut level = zero.clone();
        for next in 1..=levels {
            level = level.try_add(reaches(next)?)?;
        }
        let inside = reaches(0)?.try_sub(reaches(levels + 1)?)?;
        // A tensor minus a copy of itself is 0, but has a gradient.
        let by_x = x.try_sub(x_now)?.try_mul(inside.clone())?;
        let by_bound =
            bound.with_empty_tape().try_sub(bound_now)?.try_mul(share.try_mul(inside)?)?;
        bound.try_mul(level)?.try_div(number(levels))?.try_add(by_x)?.try_sub(by_bound)
    }

    /// Computes binary weights (Rastegari et al. 2016, "XNOR-Net", equation 6): the sign of each
    /// weight, 1 for 0, times α, the mean magnitude of the n weights of its output channel.
    /// `weight` is outputs x weights of an output, row by row.
    ///
    /// The gradient g with respect to the binary weights passes straight through the sign where |w|
    /// is at most 1, and through α. With respect to weight i it is α g_i [|w_i| <= 1] + sign(w_i) /
    /// n Σ_j sign(w_j) g_j, summed over the output channel. The paper has g_i / n as the second
    /// term, without the sum; this is the chain rule, as in the code of Lu and Sengupta (2020).
    ///
    /// # Errors
    /// Returns the device's error, for example if memory runs out.
    fn binarise<T: Tape<E, Self>>(
        weight: Flat<E, Self, T>,
        outputs: usize,
    ) -> Result<Flat<E, Self, T>, Self::Err> {
        let (device, size) = (weight.device().clone(), *weight.shape());
        let each = (outputs, size.0 / outputs);
        let weight = weight.try_reshape_like(&each)?;
        let now = copy(&weight)?;
        let (zero, one) = (device.try_zeros_like(&each)?, device.try_ones_like(&each)?);
        let sign = ge(&now, &zero).try_choose(one.clone(), one.clone().try_negate()?)?;
        let inside = le(&now.clone().try_abs()?, &one).try_choose(one, zero)?;
        let scale = weight.with_empty_tape().try_mul(sign.clone())?;
        let scale = scale.try_mean::<(usize,), Axis<1>>()?;
        let scale = scale.try_broadcast_like::<_, Axis<1>>(&each)?;
        // A tensor minus a copy of itself is 0, but has a gradient.
        let straight = inside.try_mul(copy(&scale)?)?;
        let straight = weight.try_sub(now)?.try_mul(straight)?;
        let binary = scale.try_mul(sign)?.try_add(straight)?;
        binary.try_reshape_like(&size)
    }

    /// Adds two tensors.
    ///
    /// # Errors
    /// Returns the device's error, for example if memory runs out.
    fn sum<T: Tape<E, Self>>(
        a: Flat<E, Self, T>,
        b: Flat<E, Self, T>,
    ) -> Result<Flat<E, Self, T>, Self::Err> {
        a.try_add(b)
    }
}

/// Copies a tensor, without gradient.
pub(crate) fn copy<S: Shape, E: Dtype, D: Device<E>, T: Tape<E, D>>(
    x: &Tensor<S, E, D, T>,
) -> Result<Tensor<S, E, D>, D::Err> {
    x.retaped::<NoneTape>().try_mul(E::ONE)
}

/// Computes [`Accelerated::convolve`] by its definition, with dfdx's operations: gathers patches
/// into columns and multiplies them by the kernels, so that each output is one sum of products.
///
/// # Errors
/// Returns the device's error, for example if memory runs out.
pub fn convolve_plainly<E: Dtype, D: Device<E>, T: Tape<E, D>>(
    images: Flat<E, D, T>,
    weight: Flat<E, D, T>,
    shape: ConvShape,
) -> Result<Flat<E, D, T>, D::Err> {
    convolve_patches(images, weight, &shape.patches(), 1)
}

/// Computes a convolution, in `groups`, of any windows: those of a channel in `patches`, one channel
/// after the other.
pub(crate) fn convolve_patches<E: Dtype, D: Device<E>, T: Tape<E, D>>(
    images: Flat<E, D, T>,
    weight: Flat<E, D, T>,
    patches: &Patches,
    groups: usize,
) -> Result<Flat<E, D, T>, D::Err> {
    let (positions, places) = (patches.positions, patches.places() / groups);
    let outputs = weight.shape().0 / places;
    let columns = gather(images, patches, E::from_f64(0.0).unwrap_or_default())?;
    let count = columns.shape().2;
    let columns = columns.try_reshape_like(&(groups, places, positions * count))?;
    weight
        .try_reshape_like(&(groups, outputs / groups, places))?
        .try_matmul(columns)?
        .try_reshape_like(&(outputs, positions, count))?
        .try_permute::<(usize, usize, usize), Axes3<2, 0, 1>>()?
        .try_reshape_like(&(count * outputs * positions,))
}

/// Computes means of any windows, times a share for each output, such as 1 / 9.
pub(crate) fn average_patches<E: Dtype, D: Device<E>, T: Tape<E, D>>(
    images: Flat<E, D, T>,
    patches: &Patches,
    shares: Flat<E, D, T>,
) -> Result<Flat<E, D, T>, D::Err> {
    let values = gather(images, patches, E::from_f64(0.0).unwrap_or_default())?;
    let sums = values.try_sum::<(usize, usize), Axis<0>>()?;
    let shares = shares.try_broadcast_like::<_, Axis<1>>(sums.shape())?;
    let means = sums.try_mul(shares)?.try_permute::<(usize, usize), Axes2<1, 0>>()?;
    let size = means.shape().0 * means.shape().1;
    means.try_reshape_like(&(size,))
}

/// Computes the largest value of any windows.
pub(crate) fn max_patches<E: Dtype, D: Device<E>, T: Tape<E, D>>(
    images: Flat<E, D, T>,
    patches: &Patches,
) -> Result<Flat<E, D, T>, D::Err> {
    let values = gather(images, patches, E::from_f64(f64::NEG_INFINITY).unwrap_or_default())?;
    let most = values.try_max::<(usize, usize), Axis<0>>()?;
    let most = most.try_permute::<(usize, usize), Axes2<1, 0>>()?;
    let size = most.shape().0 * most.shape().1;
    most.try_reshape_like(&(size,))
}

/// Values of windows: places x positions x images.
fn gather<E: Dtype, D: Device<E>, T: Tape<E, D>>(
    images: Flat<E, D, T>,
    patches: &Patches,
    padding: E,
) -> Result<Planes<E, D, T>, D::Err> {
    let device = images.device().clone();
    let count = images.shape().0 / patches.input_size;
    let pixels = images
        .try_reshape_like(&(count, patches.input_size))?
        .try_permute::<(usize, usize), Axes2<1, 0>>()?;
    let padding = device.try_tensor_from_vec(vec![padding; count], (1, count))?;
    let indices = patches.indices.clone();
    let size = (indices.len(),);
    let indices: Tensor<(usize,), usize, D> = device.try_tensor_from_vec(indices, size)?;
    let values: Tensor<(usize, usize), E, D, T> =
        (pixels, padding).try_concat_along(Axis::<0>)?.try_gather(indices)?;
    values.try_reshape_like(&(patches.places(), patches.positions, count))
}

/// Tensor of three axes, such as images x channels x positions.
type Planes<E, D, T> = Tensor<(usize, usize, usize), E, D, T>;

/// Computes centred * weight / sqrt(variance + ε) + bias, the last three per channel.
fn affine<E: Dtype, D: Device<E>, T: Tape<E, D>>(
    centred: Planes<E, D, T>,
    weight: Flat<E, D, T>,
    bias: Flat<E, D, T>,
    variance: Flat<E, D, T>,
) -> Result<Planes<E, D, T>, D::Err> {
    let each = *centred.shape();
    let epsilon = E::from_f64(EPSILON).unwrap_or_default();
    let scale = weight
        .try_div(variance.try_add(epsilon)?.try_sqrt()?)?
        .try_broadcast_like::<_, Axes2<0, 2>>(&each)?;
    let shift = bias.try_broadcast_like::<_, Axes2<0, 2>>(&each)?;
    centred.try_mul(scale)?.try_add(shift)
}

impl Accelerated<f64> for Cpu {}

#[cfg(feature = "cuda")]
impl Accelerated<f32> for dfdx::prelude::Cuda {}

#[cfg(feature = "cuda")]
impl Accelerated<f64> for dfdx::prelude::Cuda {}

/// Device for building, training and attacking networks: dfdx's `Cpu`, or with the feature `cuda`
/// its `Cuda`, the first GPU.
pub trait Backend: Accelerated<f32> {
    /// Number of images per tape. On the CPU, each thread has a tape.
    #[doc(hidden)]
    const TAPE: usize;

    /// Opens the device with a seed for its random numbers.
    ///
    /// # Errors
    /// Returns [`Error::Device`](crate::Error::Device) if there is no such device.
    fn open(seed: u64) -> Result<Self>;

    /// The device as this thread opened it before, where opening takes long.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    #[doc(hidden)]
    fn again() -> Result<Self> {
        Self::open(0)
    }

    /// Sets a gradient, which must be zeros.
    #[doc(hidden)]
    fn set<S: Shape>(
        gradients: &mut Gradients<f32, Self>,
        tensor: &Tensor<S, f32, Self>,
        values: &[f32],
    ) -> Result<(), Self::Err> {
        set_plainly(gradients, tensor, values)
    }
}

/// [`Backend::set`] for devices whose gradients dfdx does not expose: the gradient of a sum of
/// products.
fn set_plainly<S: Shape, D: Device<f32>>(
    gradients: &mut Gradients<f32, D>,
    tensor: &Tensor<S, f32, D>,
    values: &[f32],
) -> Result<(), D::Err> {
    let values = tensor.device().try_tensor_from_vec(values.to_vec(), *tensor.shape())?;
    let known = std::mem::replace(gradients, Gradients::leaky());
    let product = tensor.clone().traced(known).try_mul(values)?;
    *gradients = product.try_sum::<(), S::AllAxes>()?.try_backward()?;
    Ok(())
}

impl Backend for Cpu {
    const TAPE: usize = 8;

    fn open(seed: u64) -> Result<Self> {
        Ok(Self::seed_from_u64(seed))
    }

    // Exact also for -0, which a sum would turn into 0.
    fn set<S: Shape>(
        gradients: &mut Gradients<f32, Self>,
        tensor: &Tensor<S, f32, Self>,
        values: &[f32],
    ) -> Result<(), CpuError> {
        gradients.get_or_alloc_mut(tensor)?.copy_from_slice(values);
        Ok(())
    }
}

#[cfg(feature = "cuda")]
impl Backend for dfdx::prelude::Cuda {
    const TAPE: usize = 256;

    fn again() -> Result<Self> {
        thread_local! {
            static OPENED: std::cell::RefCell<Option<dfdx::prelude::Cuda>> = const { std::cell::RefCell::new(None) };
        }
        OPENED.with_borrow_mut(|opened| match opened {
            Some(device) => Ok(device.clone()),
            None => Ok(opened.insert(Self::open(0)?).clone()),
        })
    }

    // dfdx's driver bindings unwrap what the driver answers, so it is asked first.
    fn open(seed: u64) -> Result<Self> {
        use cudarc::driver::result::{DriverError, device, init};
        use cudarc::driver::sys::CUresult;

        let cards = || match init().and_then(|()| device::get_count())? {
            0 => Err(DriverError(CUresult::CUDA_ERROR_NO_DEVICE)),
            _ => Ok(()),
        };
        let refused = |found: &dyn std::fmt::Debug| {
            crate::base::Error::Device(format!(
                "CUDA: found {found:?}; expected an NVIDIA card with a driver as new as the CUDA \
                 toolkit (`nvidia-smi` lists them) and free memory; dfdx's `Cpu` needs none"
            ))
        };
        cards().map_err(|DriverError(code)| refused(&code))?;
        // A card without memory for a context, or that another process keeps, is a panic there.
        match std::panic::catch_unwind(|| Self::try_build(0, seed)) {
            Ok(built) => built.map_err(|error| refused(&error)),
            Err(_) => Err(refused(&"a panic of the driver's bindings, printed above")),
        }
    }
}

pub(crate) type Plain = Values<Cpu>;

type Grads = Gradients<f32, Cpu>;

/// Copies the values of a tensor without a tape, which dfdx does not expose.
pub(crate) fn values(tensor: &Plain) -> Buffer {
    let mut out = Buffer::new(tensor.shape().0);
    tensor.copy_into(&mut out);
    out
}

/// Makes a tensor of `out`. On a tape, `backward` gets the gradient with respect to the output,
/// which is not read afterwards, and adds to the gradients with respect to the inputs.
pub(crate) fn output<T: Tape<f32, Cpu>>(
    device: &Cpu,
    out: Buffer,
    mut tape: T,
    backward: impl FnOnce(&[f32], &mut Grads) -> Result<(), CpuError> + 'static,
) -> Result<Flat<f32, Cpu, T>, CpuError> {
    let size = (out.len(),);
    let out = device.try_tensor_from_vec(out.into_vec(), size)?;
    let ghost = out.ghost();
    tape.add_backward_op(move |gradients| {
        let by_output = std::mem::take(&mut **gradients.get_or_alloc_mut(&ghost)?);
        backward(&Buffer::from(by_output), gradients)
    });
    Ok(out.put_tape(tape))
}

/// Splits off the tape of a tensor. Permuted or broadcast tensors are copied to row order.
pub(crate) fn split<T: Tape<f32, Cpu>>(x: Flat<f32, Cpu, T>) -> Result<(Plain, T), CpuError> {
    Ok(x.try_contiguous()?.split_tape())
}

impl Accelerated<f32> for Cpu {
    fn convolve<T: Tape<f32, Self>>(
        images: Flat<f32, Self, T>,
        weight: Flat<f32, Self, T>,
        shape: ConvShape,
    ) -> Result<Flat<f32, Self, T>, CpuError> {
        let (x, tape) = split(images)?;
        let (w, other) = split(weight)?;
        let count = x.shape().0 / shape.input_size();
        let mut y = Buffer::new(count * shape.output_size());
        let (data, weights) = (values(&x), values(&w));
        kernels::convolve(&shape, &data, &weights, &mut y);
        let (ghost_x, ghost_w) = (x.ghost(), w.ghost());
        output(x.device(), y, tape.merge(other), move |dy, gradients| {
            let dw = gradients.get_or_alloc_mut(&ghost_w)?;
            kernels::convolve_by_weights(&shape, &data, dy, dw);
            let dx = gradients.get_or_alloc_mut(&ghost_x)?;
            kernels::convolve_by_images(&shape, &weights, dy, dx);
            Ok(())
        })
    }

    fn average_pool<T: Tape<f32, Self>>(
        images: Flat<f32, Self, T>,
        side: usize,
        size: usize,
    ) -> Result<Flat<f32, Self, T>, CpuError> {
        let (x, tape) = split(images)?;
        let mut y = Buffer::new(x.shape().0 / (size * size));
        kernels::average_pool(side, size, &values(&x), &mut y);
        let ghost = x.ghost();
        output(x.device(), y, tape, move |dy, gradients| {
            let dx = gradients.get_or_alloc_mut(&ghost)?;
            kernels::average_pool_backward(side, size, dy, dx);
            Ok(())
        })
    }

    fn normalise<T: Tape<f32, Self>>(
        x: Flat<f32, Self, T>,
        weight: Flat<f32, Self, T>,
        bias: Flat<f32, Self, T>,
        shape: NormShape,
    ) -> Result<Normed<f32, Self, T>, CpuError> {
        let device = x.device().clone();
        let (x, tape) = split(x)?;
        let data = values(&x);
        let [mean, variance] = kernels::statistics(shape.channels, shape.positions, &data);
        let size = (shape.channels,);
        let statistics = [&*mean, &*variance];
        let y = norm(x, data, tape, [weight, bias], statistics, shape, true)?;
        Ok((
            y,
            device.try_tensor_from_vec(mean, size)?,
            device.try_tensor_from_vec(variance, size)?,
        ))
    }

    fn normalise_by<T: Tape<f32, Self>>(
        x: Flat<f32, Self, T>,
        weight: Flat<f32, Self, T>,
        bias: Flat<f32, Self, T>,
        [mean, variance]: [Plain; 2],
        shape: NormShape,
    ) -> Result<Flat<f32, Self, T>, CpuError> {
        let (x, tape) = split(x)?;
        let data = values(&x);
        let statistics = [&*values(&mean), &*values(&variance)];
        norm(x, data, tape, [weight, bias], statistics, shape, false)
    }

    fn relu<T: Tape<f32, Self>>(x: Flat<f32, Self, T>) -> Result<Flat<f32, Self, T>, CpuError> {
        let (x, tape) = split(x)?;
        let data = values(&x);
        let mut y = Buffer::new(data.len());
        kernels::relu(&data, &mut y);
        let ghost = x.ghost();
        output(x.device(), y, tape, move |dy, gradients| {
            let dx = gradients.get_or_alloc_mut(&ghost)?;
            kernels::relu_backward(&data, dy, dx);
            Ok(())
        })
    }

    fn qcfs<T: Tape<f32, Self>>(
        x: Flat<f32, Self, T>,
        bound: Flat<f32, Self, T>,
        levels: usize,
    ) -> Result<Flat<f32, Self, T>, CpuError> {
        let ((x, tape), (bound, other)) = (split(x)?, split(bound)?);
        let (data, bound_now, levels) = (values(&x), values(&bound)[0], levels as f32);
        let mut y = Buffer::new(data.len());
        kernels::qcfs(bound_now, levels, &data, &mut y);
        let (ghost_x, ghost_bound) = (x.ghost(), bound.ghost());
        output(x.device(), y, tape.merge(other), move |dy, gradients| {
            let dx = gradients.get_or_alloc_mut(&ghost_x)?;
            let by_bound = kernels::qcfs_backward(bound_now, levels, &data, dy, dx);
            gradients.get_or_alloc_mut(&ghost_bound)?[0] += by_bound as f32;
            Ok(())
        })
    }

    fn binarise<T: Tape<f32, Self>>(
        weight: Flat<f32, Self, T>,
        outputs: usize,
    ) -> Result<Flat<f32, Self, T>, CpuError> {
        let (w, tape) = split(weight)?;
        let data = values(&w);
        let mut binary = Buffer::new(data.len());
        kernels::binarise(outputs, &data, &mut binary);
        let ghost = w.ghost();
        output(w.device(), binary, tape, move |dy, gradients| {
            let dw = gradients.get_or_alloc_mut(&ghost)?;
            kernels::binarise_backward(outputs, &data, dy, dw);
            Ok(())
        })
    }

    fn sum<T: Tape<f32, Self>>(
        a: Flat<f32, Self, T>,
        b: Flat<f32, Self, T>,
    ) -> Result<Flat<f32, Self, T>, CpuError> {
        let ((a, tape), (b, other)) = (split(a)?, split(b)?);
        let mut y = values(&a);
        kernels::accumulate(&values(&b), &mut y);
        let (ghost_a, ghost_b) = (a.ghost(), b.ghost());
        output(a.device(), y, tape.merge(other), move |dy, gradients| {
            kernels::accumulate(dy, gradients.get_or_alloc_mut(&ghost_a)?);
            kernels::accumulate(dy, gradients.get_or_alloc_mut(&ghost_b)?);
            Ok(())
        })
    }
}

/// Normalises `x`, whose values are `data`. `own` statistics are the batch's and pass gradients to
/// `x`.
fn norm<T: Tape<f32, Cpu>>(
    x: Plain,
    data: Buffer,
    tape: T,
    [weight, bias]: [Flat<f32, Cpu, T>; 2],
    [mean, variance]: [&[f32]; 2],
    shape: NormShape,
    own: bool,
) -> Result<Flat<f32, Cpu, T>, CpuError> {
    let ((w, tape_w), (b, tape_b)) = (split(weight)?, split(bias)?);
    let deviation = |variance: &f32| 1.0 / (variance + EPSILON as f32).sqrt();
    let inverse: Vec<f32> = variance.iter().map(deviation).collect();
    let weights = values(&w);
    let scale: Vec<f32> = weights.iter().zip(&inverse).map(|(w, i)| w * i).collect();
    let shift = values(&b).to_vec().into_iter().zip(mean.iter().zip(&scale));
    let shift: Vec<f32> = shift.map(|(b, (mean, scale))| b - mean * scale).collect();
    let mut y = Buffer::new(data.len());
    kernels::scale_shift(shape.positions, &scale, &shift, &data, &mut y);
    let (ghost_x, ghost_w, ghost_b, mean) = (x.ghost(), w.ghost(), b.ghost(), mean.to_vec());
    output(x.device(), y, tape.merge(tape_w).merge(tape_b), move |dy, gradients| {
        let NormShape { channels, positions } = shape;
        let n = (data.len() / channels) as f32;
        let sums = kernels::norm_sums(channels, positions, &mean, &data, dy);
        for (d, sums) in gradients.get_or_alloc_mut(&ghost_b)?.iter_mut().zip(&sums) {
            *d += sums[0] as f32;
        }
        let dw = gradients.get_or_alloc_mut(&ghost_w)?.iter_mut();
        for ((d, sums), inverse) in dw.zip(&sums).zip(&inverse) {
            *d += sums[1] as f32 * inverse;
        }
        // With u = (x - mean) / deviation: dx = scale (dy - mean of dy - u mean of (dy u)).
        let (mut by_x, mut constant) = (vec![0.0; channels], vec![0.0; channels]);
        if own {
            for c in 0..channels {
                let [sum, product] = sums[c].map(|sum| sum as f32 / n);
                by_x[c] = -scale[c] * product * inverse[c] * inverse[c];
                constant[c] = -scale[c] * sum - by_x[c] * mean[c];
            }
        }
        let dx = gradients.get_or_alloc_mut(&ghost_x)?;
        kernels::norm_backward(positions, [&scale, &by_x, &constant], &data, dy, dx);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_are_set_on_any_device() {
        let device = Cpu::default();
        let tensor = |values: [f32; 3]| device.tensor_from_vec(values.to_vec(), (3,));
        let [x, y] = [tensor([0.0, 5.0, -2.0]), tensor([1.0; 3])];
        let mut gradients = Gradients::leaky();
        set_plainly(&mut gradients, &x, &[0.25, -3.0, 7.0]).unwrap();
        set_plainly(&mut gradients, &y, &[1.5; 3]).unwrap();
        assert_eq!(gradients.get(&x).as_vec(), [0.25, -3.0, 7.0]);
        assert_eq!(gradients.get(&y).as_vec(), [1.5; 3]);
    }
}
