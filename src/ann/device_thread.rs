//! Networks on a card: dfdx's tensors there belong to one thread, while a network of this crate may be
//! used from any.

use std::sync::mpsc::{Sender, channel};
use std::thread;

use super::graph::Graph;
use super::optimiser::Step;
use super::trainable::{Trainable, Values};
use crate::base::{Error, NamedTensor, Result};

/// Work on a network on its own thread.
type Job = Box<dyn FnOnce(&mut dyn Trainable) + Send>;

/// A network on a thread of its own.
pub(crate) struct DeviceThread(Sender<Job>);

impl DeviceThread {
    pub fn new(
        build: impl FnOnce() -> Result<Box<dyn Trainable>> + Send + 'static,
    ) -> Result<Self> {
        let (jobs, to_do) = channel::<Job>();
        let (built, is_built) = channel();
        let thread = thread::Builder::new().name("evospike device".into());
        let thread = thread.spawn(move || match build() {
            Ok(mut network) => {
                if built.send(Ok(())).is_ok() {
                    to_do.into_iter().for_each(|job| job(&mut *network));
                }
            }
            Err(error) => drop(built.send(Err(error))),
        });
        thread.map_err(Error::device)?;
        is_built.recv().map_err(Self::ended)??;
        Ok(Self(jobs))
    }

    /// Waits for what the job gives.
    fn ask<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut dyn Trainable) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let (answer, answered) = channel();
        let job: Job = Box::new(move |network| drop(answer.send(job(network))));
        self.0.send(job).map_err(Self::ended)?;
        answered.recv().map_err(Self::ended)?
    }

    fn ended<E>(_: E) -> Error {
        Error::Device("the device's thread panicked".into())
    }
}

impl Trainable for DeviceThread {
    fn forward(&self, pixels: Vec<f32>, count: usize) -> Result<Vec<f32>> {
        self.ask(move |network| network.forward(pixels, count))
    }

    fn step(
        &mut self,
        pixels: Vec<f32>,
        targets: Vec<f32>,
        count: usize,
        step: &Step,
    ) -> Result<(f32, Vec<f32>)> {
        let step = *step;
        self.ask(move |network| network.step(pixels, targets, count, &step))
    }

    fn seed(&mut self, seed: u64) -> Result<()> {
        self.ask(move |network| network.seed(seed))
    }

    fn tensors(&self, kind: Values) -> Result<Vec<NamedTensor>> {
        self.ask(move |network| network.tensors(kind))
    }

    fn set_tensors(&mut self, kind: Values, tensors: &[NamedTensor]) -> Result<()> {
        let tensors = tensors.to_vec();
        self.ask(move |network| network.set_tensors(kind, &tensors))
    }

    fn types(&self) -> Result<&'static str> {
        self.ask(|network| network.types())
    }

    fn graph(&self) -> Result<Graph> {
        self.ask(|network| network.graph())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ann::networks::{DigitsCnn, Network};
    use crate::ann::train::History;
    use crate::ann::train::{TrainSettings, train};
    use crate::data::Shares;
    use crate::data::embedded::digits;

    fn on_a_thread() -> DeviceThread {
        DeviceThread::new(|| Ok(DigitsCnn::build(3)?)).unwrap()
    }

    #[test]
    fn a_network_on_a_thread_trains_to_the_same_weights() {
        let images = digits().unwrap().split(Shares::default(), 0).unwrap();
        let images = images.training.take(100);
        let settings = TrainSettings { epochs: 2, ..TrainSettings::digits() };
        let trained = |network: &mut dyn Trainable| -> (History, Graph) {
            let history = train(network, images.view(), 10, &settings, "thread", None);
            let moments = network.tensors(Values::Moment(0)).unwrap();
            network.set_tensors(Values::Moment(0), &moments).unwrap();
            (history.unwrap(), network.graph().unwrap())
        };
        let mut direct = DigitsCnn::build(3).unwrap();
        assert_eq!(trained(&mut on_a_thread()), trained(&mut *direct));
    }

    #[test]
    fn what_goes_wrong_on_the_thread_is_an_error() {
        let none = DeviceThread::new(|| Err(Error::Device("no card".into())));
        assert_eq!(none.err().unwrap().to_string(), "dfdx: no card");
        let network = on_a_thread();
        let panics = network.ask::<()>(|_| panic!("as a device may"));
        assert!(panics.unwrap_err().to_string().contains("panicked"));
        assert!(network.graph().is_err());
    }
}
