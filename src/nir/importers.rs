//! Files for the importers of other simulators, which take less than NIR can say.

use std::path::Path;

use super::write::{Importer, write};
use crate::ann::{Classifier, Graph};
use crate::base::{Error, Result, Table};
use crate::simulate::{Charge, Neurons, Reset, Snn, Spikes, SpikingNetwork};

impl Importer {
    fn name(self) -> &'static str {
        match self {
            Self::SnnTorch => "snnTorch",
            Self::SpikingJelly => "SpikingJelly",
        }
    }

    /// What gives imported neurons their soft reset, for the modules of the loop that [`LOOP`] begins.
    fn soft_reset(self) -> &'static str {
        match self {
            Self::SnnTorch => {
                "if isinstance(m, snntorch.Leaky): \
                 setattr(net, name, snntorch.Leaky(m.beta, m.threshold, init_hidden=True))"
            }
            Self::SpikingJelly => "if hasattr(m, \"module\"): m.module.v_reset = None",
        }
    }
}

/// Python loop over the layers of an imported network.
const LOOP: &str = "for name, m in list(net.named_children()):";

impl SpikingNetwork {
    /// Writes the nearest network that the importer of another simulator takes, as a NIR file. The
    /// table names what becomes different there, in which layers, and how to get it back in Python, if
    /// that is possible.
    ///
    /// Thresholds of single channels are divided out of the weights before the neurons, so that a
    /// layer has one; neurons without leak become ones whose leak is lost in rounding, where the
    /// importer would give others a leak of its own.
    ///
    /// # Errors
    /// Returns an error if thresholds of single channels follow a layer without weights, such as a
    /// sum, a leak differs from channel to channel, and in the cases of [`save`](Self::save).
    pub fn save_for(&self, path: impl AsRef<Path>, importer: Importer) -> Result<Table> {
        let mut graph = Graph::clone(&self.stages.graph);
        let (mut layers, mut changes) = (self.neurons.clone(), Vec::<([String; 3], String)>::new());
        let firing = (0..graph.nodes.len()).filter(|&i| graph.nodes[i].layer.fires());
        let firing: Vec<usize> = firing.collect();
        for (layer, (&number, neurons)) in firing.iter().zip(&mut layers).enumerate() {
            let mut change = |found: String, there: &str, remedy: &str| {
                let row = [found, there.into(), remedy.into()];
                match changes.iter_mut().find(|(other, _)| *other == row) {
                    Some((_, layers)) => layers.push_str(&format!(", {layer}")),
                    None => changes.push((row, layer.to_string())),
                }
            };
            if !neurons.spikes.is_plain() {
                let there = "one spike upwards of the size of the threshold";
                change(format!("{:?}", neurons.spikes), there, "none");
                neurons.spikes = Spikes::PLAIN;
            }
            if neurons.reset == Reset::Subtract {
                // Where neurons leak, snnTorch's would subtract the threshold after the leak.
                let exact =
                    importer != Importer::SnnTorch || neurons.leak.iter().all(|&x| x == 1.0);
                let remedy = if exact { importer.soft_reset() } else { "none" };
                change("soft reset".into(), "reset to zero", remedy);
            }
            if neurons.initial != 0.0 || neurons.potential.iter().any(|&x| x != 0.0) {
                change("initial potential".into(), "0", "none");
            }
            if neurons.refractory > 0 {
                change("refractory period".into(), "none", "none");
            }
            if neurons.leak.iter().any(|&leak| leak != neurons.leak[0]) {
                let found = "a leak for each channel";
                return Err(Error::layer(number, "neurons", found, "one leak"));
            }
            one_threshold(&mut graph, number, neurons)?;
        }
        write(path.as_ref(), &graph, &layers, Some(importer))?;
        let title = format!("What becomes different in {}", importer.name());
        let mut table = Table::new(title, ["here", "there", LOOP, "layers"]);
        for ([found, there, remedy], layers) in changes {
            table.row([found, there, remedy, layers]);
        }
        Ok(table)
    }
}

impl<N: Classifier> Snn<N> {
    /// Writes the nearest network that the importer of another simulator takes. See
    /// [`SpikingNetwork::save_for`].
    ///
    /// ```
    /// # use evospike::prelude::*;
    /// use evospike::nir::Importer;
    /// # let digits = data::digits()?.split(Shares::default(), 0)?;
    /// # let ann = Ann::<DigitsCnn>::new(0)?;
    /// # let snn = convert(&ann, &digits.training.take(20))?.balance(Balance::Max)?;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let file = folder.path().join("digits.nir"); // your file
    /// snn.save_for(&file, Importer::SnnTorch)?; // a table: soft reset becomes reset to zero
    /// # Ok::<(), evospike::Error>(())
    /// ```
    ///
    /// # Errors
    /// The same as those of [`SpikingNetwork::save_for`].
    pub fn save_for(&self, path: impl AsRef<Path>, importer: Importer) -> Result<Table> {
        self.network.save_for(path, importer)
    }
}

/// Gives neurons one threshold instead of one per channel, by the weights before them.
fn one_threshold(graph: &mut Graph, number: usize, neurons: &mut Neurons) -> Result<()> {
    let thresholds = neurons.threshold.clone();
    if thresholds.iter().all(|&threshold| threshold == thresholds[0]) {
        neurons.threshold.truncate(1);
        return Ok(());
    }
    let (value, uses) = (graph.nodes[number].inputs[0], graph.uses());
    let Some(layer) = graph.weights_before(value, &uses) else {
        let found = "a threshold for each channel, behind a layer without weights";
        return Err(Error::layer(number, "neurons", found, "one threshold"));
    };
    let by = |threshold: &f32| 1.0 / threshold;
    layer.scale_outputs(
        &thresholds.iter().map(by).collect::<Vec<_>>(),
        &vec![0.0; thresholds.len()],
    );
    // Spikes have the charges that they had.
    neurons.charge = Charge::Fixed(neurons.charges().into_owned());
    for values in [&mut neurons.current, &mut neurons.potential] {
        *values = values.iter().cycle().zip(&thresholds).map(|(x, by)| x / by).collect();
    }
    neurons.threshold = vec![1.0];
    Ok(())
}
