//! A typed network behind the interface without types.

use std::marker::PhantomData;

use dfdx::losses::cross_entropy_with_logits_loss;
use dfdx::nn::{
    BuildOnDevice, RecursiveWalker, TensorCollection, TensorOptions, TensorVisitor, ViewTensorMut,
    ViewTensorName, ViewTensorRef, ZeroGrads,
};
#[cfg(feature = "cuda")]
use dfdx::prelude::Cuda;
use dfdx::prelude::{
    Backward, Const, Cpu, Device, Gradients, HasErr, HasShape, Module, ModuleMut, NoneTape,
    OwnedTape, Rank1, Rank3, RealizeTo, Shape as DfdxShape, Tensor, Trace,
};
use rand::Rng as _;

use super::describe::{Describe, Follows};
#[cfg(feature = "cuda")]
use super::device_thread::DeviceThread;
use super::graph::Graph;
use super::optimiser::{Moments, Step, Update};
use super::trainable::{Built, Trainable, Values};
use super::weights::range;
use crate::base::{Error, NamedTensor, Result, Stream, rng};
use crate::data::{Classify, Shape};
use crate::ops::Backend;

type ImageBatch<D, const C: usize, const SIDE: usize, T> =
    Tensor<(usize, Const<C>, Const<SIDE>, Const<SIDE>), f32, D, T>;
type Logits<D, const CLASSES: usize, T> = Tensor<(usize, Const<CLASSES>), f32, D, T>;

/// A built module with its device and the state of its optimiser.
#[doc(hidden)]
pub struct Typed<M, D: Backend, const C: usize, const SIDE: usize, const CLASSES: usize> {
    module: M,
    /// Where images are put; what dropout draws comes from there.
    device: D,
    moments: Moments<D>,
    /// Name of the layers' type.
    types: &'static str,
}

/// Copies tensors out of a module.
struct Read<'a, D: Device<f32>> {
    /// In place of the parameters.
    moments: Option<&'a Gradients<f32, D>>,
    tensors: Vec<NamedTensor>,
}

impl<D: Device<f32>> TensorVisitor<f32, D> for Read<'_, D> {
    type Viewer = (ViewTensorRef, ViewTensorName);
    type Err = <D as HasErr>::Err;
    type E2 = f32;
    type D2 = D;

    fn visit<S: DfdxShape>(
        &mut self,
        options: TensorOptions<S, f32, D>,
        (tensor, name): (&Tensor<S, f32, D>, String),
    ) -> Result<Option<Tensor<S, f32, D>>, Self::Err> {
        let values = match self.moments {
            None => tensor.as_vec(),
            // A step makes moments for every parameter.
            Some(moments) if options.do_gradient_update => moments.get(tensor).as_vec(),
            Some(_) => return Ok(None),
        };
        self.tensors.push(NamedTensor { name, shape: tensor.shape().concrete().into(), values });
        Ok(None)
    }
}

/// Looks for values that no trained network has, such as a learned bound below 0, after a step.
struct Check(usize);

impl<D: Device<f32>> TensorVisitor<f32, D> for Check {
    type Viewer = (ViewTensorRef, ViewTensorName);
    type Err = Error;
    type E2 = f32;
    type D2 = D;

    fn visit<S: DfdxShape>(
        &mut self,
        _: TensorOptions<S, f32, D>,
        (tensor, name): (&Tensor<S, f32, D>, String),
    ) -> Result<Option<Tensor<S, f32, D>>> {
        if let Some((field, holds, expected)) = range(&name)
            && let Some(bad) = tensor.as_vec().into_iter().find(|&x| !holds(x))
        {
            let found = format!("{bad} in `{name}` after step {}", self.0);
            let expected = format!("{expected}: try a lower learning rate");
            return Err(Error::parameter(field, found, expected));
        }
        Ok(None)
    }
}

/// Compares tensors with a module's, or copies them into it.
struct Write<'a, D: Device<f32>> {
    copy: bool,
    /// In place of the parameters.
    moments: Option<&'a mut Gradients<f32, D>>,
    tensors: std::slice::Iter<'a, NamedTensor>,
}

impl<D: Backend> TensorVisitor<f32, D> for Write<'_, D> {
    type Viewer = (ViewTensorMut, ViewTensorName);
    type Err = Error;
    type E2 = f32;
    type D2 = D;

    fn visit<S: DfdxShape>(
        &mut self,
        options: TensorOptions<S, f32, D>,
        (tensor, name): (&mut Tensor<S, f32, D>, String),
    ) -> Result<Option<Tensor<S, f32, D>>> {
        if self.moments.is_some() && !options.do_gradient_update {
            return Ok(None);
        }
        let shape: Vec<usize> = tensor.shape().concrete().into();
        let expected = || format!("`{name}` of shape {shape:?}");
        let Some(new) = self.tensors.next() else {
            return Err(Error::parameter("tensors", "the end", expected()));
        };
        if new.name != name || new.shape != shape {
            let found = format!("`{}` of shape {:?}", new.name, new.shape);
            return Err(Error::parameter("tensors", found, expected()));
        }
        if new.values.len() != tensor.shape().num_elements() {
            let found = format!("{} values of `{name}`", new.values.len());
            return Err(Error::parameter("tensors", found, expected()));
        }
        match &mut self.moments {
            _ if !self.copy => {}
            None => tensor.copy_from(&new.values),
            Some(moments) => D::set(moments, tensor, &new.values).map_err(Error::device)?,
        }
        Ok(None)
    }
}

impl<M, D: Backend, const C: usize, const SIDE: usize, const CLASSES: usize> Trainable
    for Typed<M, D, C, SIDE, CLASSES>
where
    M: TensorCollection<f32, D>
        + Describe
        + Module<ImageBatch<D, C, SIDE, NoneTape>, Output = Logits<D, CLASSES, NoneTape>>
        + ModuleMut<
            ImageBatch<D, C, SIDE, OwnedTape<f32, D>>,
            Output = Logits<D, CLASSES, OwnedTape<f32, D>>,
        >,
{
    fn forward(&self, pixels: Vec<f32>, count: usize) -> Result<Vec<f32>> {
        let images = self.batch(pixels, count)?;
        let logits = self.module.try_forward(images).map_err(Error::device)?;
        Ok(logits.as_vec())
    }

    fn step(
        &mut self,
        pixels: Vec<f32>,
        targets: Vec<f32>,
        count: usize,
        step: &Step,
    ) -> Result<(f32, Vec<f32>)> {
        let images = self.batch(pixels, count)?;
        let tape = self.module.try_alloc_grads().map_err(Error::device)?;
        let logits = self.module.try_forward_mut(images.trace(tape)).map_err(Error::device)?;
        let values = logits.as_vec();
        let logits = logits.try_realize().map_err(Error::device)?;
        let (loss, mut gradients) = backward(logits, targets)?;
        let moments = self.moments.of(step);
        M::iter_tensors(&mut RecursiveWalker {
            m: &mut self.module,
            f: &mut Update { step, moments, gradients: &mut gradients },
        })
        .map_err(Error::device)?;
        // Of a loss that is not finite the caller says more.
        if loss.is_finite() {
            let mut check = Check(step.number);
            M::iter_tensors(&mut RecursiveWalker {
                m: (&self.module, String::new()),
                f: &mut check,
            })?;
        }
        Ok((loss, values))
    }

    fn seed(&mut self, seed: u64) -> Result<()> {
        self.device = D::open(seed)?;
        Ok(())
    }

    fn tensors(&self, kind: Values) -> Result<Vec<NamedTensor>> {
        let moments = match kind {
            Values::Parameters => None,
            Values::Moment(number) => match self.moments.0.get(number) {
                Some(moments) => Some(moments),
                None => return Ok(Vec::new()),
            },
        };
        let mut read = Read { moments, tensors: Vec::new() };
        M::iter_tensors(&mut RecursiveWalker { m: (&self.module, String::new()), f: &mut read })
            .map_err(Error::device)?;
        Ok(read.tensors)
    }

    fn set_tensors(&mut self, kind: Values, tensors: &[NamedTensor]) -> Result<()> {
        let mut moments = match kind {
            Values::Parameters => None,
            Values::Moment(_) => Some(self.module.try_alloc_grads().map_err(Error::device)?),
        };
        for copy in [false, true] {
            let mut write = Write { copy, moments: moments.as_mut(), tensors: tensors.iter() };
            M::iter_tensors(&mut RecursiveWalker {
                m: (&mut self.module, String::new()),
                f: &mut write,
            })?;
            if let Some(rest) = write.tensors.next() {
                let found = format!("`{}` after the last", rest.name);
                return Err(Error::parameter("tensors", found, "no more tensors"));
            }
        }
        if let (Values::Moment(number), Some(new)) = (kind, moments) {
            self.moments.set(number, new);
        }
        Ok(())
    }

    fn types(&self) -> Result<&'static str> {
        Ok(self.types)
    }

    fn graph(&self) -> Result<Graph> {
        let mut graph = Graph::new(Shape::new(C, SIDE, SIDE));
        self.module.describe(&mut graph, 0);
        graph.fold()?;
        Ok(graph)
    }
}

impl<M, D: Backend, const C: usize, const SIDE: usize, const CLASSES: usize>
    Typed<M, D, C, SIDE, CLASSES>
{
    fn build<L: BuildOnDevice<D, f32, Built = M>>(seed: u64) -> Result<Self> {
        let device = D::open(rng(seed, Stream::Weights).next_u64())?;
        Ok(Self {
            module: L::try_build_on_device(&device).map_err(Error::device)?,
            device,
            moments: Moments::NONE,
            types: std::any::type_name::<L>(),
        })
    }

    fn batch(&self, pixels: Vec<f32>, count: usize) -> Result<ImageBatch<D, C, SIDE, NoneTape>> {
        let found = pixels.len();
        if found != count * C * SIDE * SIDE {
            return Err(Error::parameter(
                "pixels",
                format!("{found} values for {count} images"),
                format!("{C} x {SIDE} x {SIDE} an image"),
            ));
        }
        self.device.try_tensor_from_vec(pixels, (count, Const, Const, Const)).map_err(Error::device)
    }
}

/// The mean cross-entropy with class probabilities, and its gradients. The sizes are not in the
/// types, so that this is compiled once, not in every notebook cell with a network.
pub(crate) fn backward<D: Device<f32>>(
    logits: Tensor<(usize, usize), f32, D, OwnedTape<f32, D>>,
    targets: Vec<f32>,
) -> Result<(f32, Gradients<f32, D>)> {
    let targets = logits.device().try_tensor_from_vec(targets, *logits.shape());
    let targets = targets.map_err(Error::device)?;
    let loss = cross_entropy_with_logits_loss(logits, targets);
    let value = loss.as_vec()[0];
    Ok((value, loss.try_backward().map_err(Error::device)?))
}

/// Builder that [`network!`](crate::network) calls: layers `L` on the CPU with weights drawn by `seed`.
///
/// # Errors
/// [`Error::Device`] if memory runs out.
pub fn build<L, const C: usize, const SIDE: usize, const CLASSES: usize>(
    _: PhantomData<Classify<C, SIDE, CLASSES>>,
    seed: u64,
) -> Result<Built>
where
    L: Follows<Rank3<C, SIDE, SIDE>, Out = Rank1<CLASSES>> + BuildOnDevice<Cpu, f32>,
    Typed<L::Built, Cpu, C, SIDE, CLASSES>: Trainable + Send + Sync + 'static,
{
    let network = Typed::<L::Built, Cpu, C, SIDE, CLASSES>::build::<L>(seed)?;
    Ok(Box::new(network))
}

/// [`build`] on the first NVIDIA card.
///
/// # Errors
/// [`Error::Device`] when there is none, or memory runs out.
#[cfg(feature = "cuda")]
pub fn build_on_card<L, const C: usize, const SIDE: usize, const CLASSES: usize>(
    _: PhantomData<Classify<C, SIDE, CLASSES>>,
    seed: u64,
) -> Result<Built>
where
    L: Follows<Rank3<C, SIDE, SIDE>, Out = Rank1<CLASSES>> + BuildOnDevice<Cuda, f32>,
    Typed<L::Built, Cuda, C, SIDE, CLASSES>: Trainable + 'static,
{
    Ok(Box::new(DeviceThread::new(move || {
        let network = Typed::<L::Built, Cuda, C, SIDE, CLASSES>::build::<L>(seed)?;
        Ok(Box::new(network))
    })?))
}
