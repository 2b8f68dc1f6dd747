//! Trained networks whose layers are known at run time.

use std::marker::PhantomData;

use super::synapses::Stages;
use crate::ann::{Classifier, Graph, Model};
use crate::base::{Result, Table, all_finite, show};
use crate::data::{Images, Part, Task};

/// Trained network of task `K` that is not typed but known at run time, such as one read from a
/// file. It converts, evolves and is explained as an [`Ann`](crate::ann::Ann).
///
/// ```
/// use evospike::ann::graph::Graph;
/// use evospike::ann::layers::{CHANNELS_FIRST, Layer, Window};
/// use evospike::data::Task;
/// use evospike::prelude::*;
///
/// let weights = |count: usize| (0..count).map(|i| (i * 7 % 13) as f32 / 64.0 - 0.05).collect();
/// let mut graph = Graph::new(Digits::SHAPE);
/// let (window, bias) = (Window::square(3, 1, 1), Some(vec![0.1; 8]));
/// let (weight, inputs, outputs) = (weights(8 * 9), 1, 8);
/// let conv = Layer::Conv { weight, bias, inputs, outputs, window, groups: 1 };
/// let conv = graph.add("features.0", conv, [0]); // 0 is the image
/// let pool = Layer::MaxPool { window: Window::square(2, 2, 0), ceil: false };
/// let pool = graph.add("features.1", pool, [conv]);
/// let relu = graph.add("features.2", Layer::Neurons, [pool]);
/// let (weight, bias, inputs, outputs) = (weights(10 * 128), None, 128, 10);
/// let last = Layer::Linear { weight, bias, inputs, outputs, order: CHANNELS_FIRST };
/// graph.add("classifier", last, [relu]);
/// let network = Imported::<Digits>::new(graph)?; // checked: 1 x 8 x 8 pixels, 10 classes
///
/// let digits = data::digits()?.split(Shares::default(), 0)?;
/// let snn = convert(&network, &digits.training)?.balance(Balance::Percentile(99.0))?;
/// let run = simulate(&snn, &digits.test, 16)?;
/// let target = network.target(&digits.held_out, 1.0);
/// # Ok::<(), evospike::Error>(())
/// ```
///
/// Images that are not square have a task of their own:
///
/// ```
/// use evospike::data::{Shape, Task};
///
/// /// Spectra of 128 values in 5 classes.
/// struct Spectra;
/// impl Task for Spectra {
///     const SHAPE: Shape = Shape::new(1, 1, 128);
///     const CLASSES: usize = 5;
/// }
/// ```
pub struct Imported<K: Task> {
    stages: Stages,
    task: PhantomData<fn() -> K>,
}

impl<K: Task> Imported<K> {
    /// Network of these layers. Batch normalisation is folded into the weights before it.
    ///
    /// # Errors
    /// [`Error::Layer`](crate::Error::Layer) for a layer that does not fit what it takes, has values
    /// that are not finite, or that spikes cannot run; [`Error::Network`](crate::Error::Network) for
    /// another shape of images or number of classes than the task's.
    pub fn new(mut graph: Graph) -> Result<Self> {
        graph.fold()?;
        Ok(Self { stages: Stages::of_task::<K>(graph)?, task: PhantomData })
    }

    fn table(&self) -> Table {
        self.stages.graph.table(Self::NAME)
    }
}

show!(impl [K: Task] Imported<K> as table);

impl<K: Task> Classifier for Imported<K> {
    type Task = K;
    const NAME: &'static str = "imported network";
}

impl<K: Task> Model for Imported<K> {
    type Network = Self;

    fn graph(&self) -> Result<Graph> {
        Ok(Graph::clone(&self.stages.graph))
    }

    fn logits<P: Part>(&self, images: &Images<P, K>) -> Result<Vec<Vec<f32>>> {
        let logits = self.stages.logits(images.len(), |image| images.input(image));
        logits.iter().try_for_each(|logits| all_finite("logits", logits))?;
        Ok(logits)
    }
}
