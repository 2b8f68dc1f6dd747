//! Genome: the parameters of every layer of neurons that evolution changes, as a list of numbers.
//!
//! A [`Gene`] names a parameter. A genome is a list of genes with their ranges; it has one value
//! per layer for each gene, in that order.

use serde::{Deserialize, Serialize};

use crate::base::{Result, each_once, require};
use crate::simulate::{Charge, Neurons, times};

/// Parameter that evolution changes in every layer of neurons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gene {
    /// Factor on the threshold and on the charge of a spike: below 1, spikes are smaller and more
    /// frequent, and represent the same activation. 1 changes nothing. Of a clipped ReLU, spikes stay
    /// as small as its bound asks for.
    Scale,
    /// Factor on the threshold alone, with the synapses unchanged: below 1, there are more spikes
    /// of the same size, which represent more than the ANN's activation, earlier. 1 changes
    /// nothing.
    ///
    /// This is the gene of the paper. In a network without biases, a larger output of one layer
    /// scales all layers after it, which favours no class, so `Scale` reaches the same networks
    /// with other values.
    Threshold,
    /// Leak λ, above 0, at most 1; 1 is no leak.
    Leak,
    /// Initial membrane potential, in sizes of a spike.
    Initial,
    /// Number of levels, rounded: spikes of a fraction of the threshold, and as many of them in a
    /// timestep, up and down.
    Levels,
    /// Largest number of spikes in a timestep, up and down, rounded.
    Burst,
    /// Negative threshold of neurons with negative spikes, in sizes of a spike.
    Negative,
}

impl Gene {
    /// Returns the value that leaves a layer unchanged.
    fn neutral(self, neurons: &Neurons) -> f64 {
        match self {
            Self::Scale | Self::Threshold => 1.0,
            Self::Leak => f64::from(neurons.leak[0]),
            Self::Initial => f64::from(neurons.initial),
            Self::Levels => neurons.spikes.levels.into(),
            Self::Burst => neurons.spikes.most.into(),
            Self::Negative => neurons.spikes.negative.map_or(0.0, |n| n.threshold.into()),
        }
    }

    /// Returns whether neurons have the parameter.
    fn is_of(self, neurons: &Neurons) -> bool {
        self != Self::Negative || neurons.spikes.negative.is_some()
    }

    /// Returns the allowed values, as a range and in words.
    fn limits(self) -> ([f64; 2], &'static str) {
        match self {
            Self::Scale | Self::Threshold => ([f64::MIN_POSITIVE, f64::MAX], "factors above 0"),
            Self::Leak => ([f64::MIN_POSITIVE, 1.0], "leaks above 0, at most 1"),
            Self::Initial => ([f64::MIN, f64::MAX], "finite fractions of a spike's size"),
            Self::Levels | Self::Burst => ([1.0, 127.0], "whole numbers from 1 to 127"),
            Self::Negative => ([0.0, f64::MAX], "0 or more sizes of a spike"),
        }
    }

    /// Changes neurons of a conversion by a value of this gene.
    pub(crate) fn express(self, neurons: &mut Neurons, value: f64) {
        match self {
            // A charge that follows the threshold is scaled with it; one fixed by an earlier gene
            // is scaled here.
            Self::Scale => {
                neurons.scale_thresholds(value);
                if let Charge::Fixed(charge) = &mut neurons.charge {
                    charge.iter_mut().for_each(|x| times(x, value));
                }
            }
            Self::Threshold => {
                neurons.charge = Charge::Fixed(neurons.charges().to_vec());
                neurons.scale_thresholds(value);
            }
            Self::Leak => neurons.leak = vec![value as f32],
            Self::Initial => neurons.initial = value as f32,
            Self::Levels => {
                neurons.spikes.levels = value.round() as u8;
                neurons.spikes.set_most(value.round() as u8);
            }
            Self::Burst => neurons.spikes.set_most(value.round() as u8),
            Self::Negative => {
                if let Some(negative) = &mut neurons.spikes.negative {
                    negative.threshold = value as f32;
                }
            }
        }
    }
}

/// Genes and their ranges, checked against the network that they change.
pub(crate) struct Genome<'a> {
    genes: &'a [(Gene, [f64; 2])],
    neurons: &'a [Neurons],
    /// Bound of every layer, as of clipped ReLUs; empty for none.
    clips: Vec<f32>,
}

/// Returns an error if a range is not allowed for any network, or a gene is there twice, with values
/// that contradict each other.
pub(crate) fn check(genes: &[(Gene, [f64; 2])]) -> Result<()> {
    each_once("genome", &genes.iter().map(|(gene, _)| gene).collect::<Vec<_>>())?;
    for &(gene, [low, high]) in genes {
        let ([least, most], expected) = gene.limits();
        let holds = least <= low && low < high && high <= most;
        let found = format!("{gene:?} in {low}..={high}");
        let expected = format!("{expected}, the first below the second");
        require(holds, "genome", found, expected)?;
    }
    Ok(())
}

impl<'a> Genome<'a> {
    /// Creates a genome for these neurons.
    ///
    /// # Errors
    /// Returns an error if a range is not allowed, or does not include the network as it is.
    pub fn new(genes: &'a [(Gene, [f64; 2])], neurons: &'a [Neurons]) -> Result<Self> {
        check(genes)?;
        for &(gene, [low, high]) in genes {
            for neurons in neurons {
                let found = format!("{gene:?}, of neurons without negative spikes");
                require(gene.is_of(neurons), "genome", found, "Spikes with negative ones")?;
                let neutral = gene.neutral(neurons);
                let holds = (low..=high).contains(&neutral);
                let found = format!("{gene:?} in {low}..={high}");
                let expected = format!("a range that holds {neutral}, the network as it is");
                require(holds, "genome", found, expected)?;
                // One value cannot hold the leaks of channels, or levels of another number of spikes.
                let mut same = neurons.clone();
                gene.express(&mut same, neutral);
                let found = format!("{gene:?}, of neurons that it changes before it varies");
                let holds = same.leak.iter().all(|leak| neurons.leak.iter().all(|own| own == leak));
                let holds = holds && same.spikes == neurons.spikes;
                let expected = "one leak for a layer, and as many spikes as levels, up and down";
                require(holds, "genome", found, expected)?;
            }
        }
        Ok(Self { genes, neurons, clips: Vec::new() })
    }

    /// The same genome for neurons whose outputs stay at or below bounds, infinity for none.
    pub fn within(self, clips: Vec<f32>) -> Self {
        Self { clips, ..self }
    }

    /// Returns the range of every value.
    pub fn bounds(&self) -> Vec<[f64; 2]> {
        let genes = self.genes.iter();
        let ranges = genes.flat_map(|&(_, range)| vec![range; self.neurons.len()]);
        ranges.collect()
    }

    /// Returns the values that leave the network unchanged.
    pub fn neutral(&self) -> Vec<f64> {
        let of = |&(gene, _): &(Gene, _)| {
            let layers = self.neurons.iter();
            layers.map(move |neurons| gene.neutral(neurons))
        };
        self.genes.iter().flat_map(of).collect()
    }

    /// Returns the neurons with these values, each within its bounds.
    pub fn express(&self, values: &[f64]) -> Vec<Neurons> {
        let mut changed = self.neurons.to_vec();
        let mut genes: Vec<_> =
            self.genes.iter().zip(values.chunks_exact(self.neurons.len())).collect();
        // What a spike is comes before what it weighs, in whatever order the genes are listed.
        genes.sort_by_key(|((gene, _), _)| match gene {
            Gene::Levels => 0,
            Gene::Burst => 1,
            _ => 2,
        });
        for (&(gene, _), values) in genes {
            for (neurons, &value) in changed.iter_mut().zip(values) {
                gene.express(neurons, value);
            }
        }
        changed.iter_mut().zip(&self.clips).for_each(|(neurons, &bound)| neurons.clip(bound));
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::Spikes;
    use crate::simulate::neurons::Negative;

    fn network() -> Vec<Neurons> {
        vec![Neurons::new([1.0, 4.0]), Neurons::new([2.0, 2.0])]
    }

    fn expressed(genes: &[(Gene, [f64; 2])], values: &[f64]) -> Vec<Neurons> {
        let network = network();
        let genome = Genome::new(genes, &network).unwrap();
        assert_eq!(genome.bounds().len(), values.len());
        assert_eq!(genome.neutral().len(), values.len());
        genome.express(values)
    }

    #[test]
    fn genes_change_what_they_say() {
        let factors = [0.1, 2.0];
        let scaled = expressed(&[(Gene::Scale, factors)], &[0.5, 1.0]);
        assert_eq!(scaled[0].threshold, [0.5, 2.0]);
        assert_eq!(*scaled[0].charges(), [0.5, 2.0]);
        assert_eq!(scaled[1], network()[1]);

        let alone = expressed(&[(Gene::Threshold, factors)], &[0.5, 0.25]);
        assert_eq!(alone[0].threshold, [0.5, 2.0]);
        assert_eq!(*alone[0].charges(), [1.0, 4.0]);
        assert_eq!(alone[1].threshold, [0.5, 0.5]);

        let genes = [(Gene::Leak, [0.9, 1.0]), (Gene::Initial, [0.0, 1.0])];
        let both = expressed(&genes, &[0.95, 1.0, 0.5, 0.25]);
        assert_eq!((both[0].leak[0], both[1].leak[0]), (0.95, 1.0));
        assert_eq!((both[0].initial, both[1].initial), (0.5, 0.25));
    }

    #[test]
    fn genes_of_graded_neurons_are_rounded() {
        let signed: Vec<Neurons> = network()
            .into_iter()
            .map(|neurons| Neurons { spikes: Spikes::SIGNED, ..neurons })
            .collect();
        let genes = [(Gene::Levels, [1.0, 4.0]), (Gene::Negative, [0.0, 1.0])];
        let genome = Genome::new(&genes, &signed).unwrap();
        assert_eq!(genome.neutral(), [1.0, 1.0, 0.0, 0.0]);
        let found = genome.express(&[1.4, 3.6, 0.25, 0.0]);
        let below = |threshold, most| Some(Negative { threshold, most });
        let spikes = |levels, most, negative| Spikes { levels, most, negative };
        assert_eq!(found[0].spikes, spikes(1, 1, below(0.25, 1)));
        assert_eq!(found[1].spikes, Spikes::levels(4));
        // Levels set the number of spikes and the charge, which other genes change afterwards.
        let (levels, burst) = ((Gene::Levels, [1.0, 4.0]), (Gene::Burst, [1.0, 3.0]));
        let threshold = (Gene::Threshold, [0.5, 2.0]);
        let orders = [[levels, burst, threshold], [threshold, burst, levels]];
        let both = orders.map(|genes| {
            let of = |gene| match gene {
                Gene::Levels => [4.0, 1.0],
                Gene::Burst => [2.0, 1.0],
                _ => [0.5, 1.0],
            };
            let values = genes.iter().flat_map(|&(gene, _)| of(gene)).collect::<Vec<_>>();
            Genome::new(&genes, &signed).unwrap().express(&values)
        });
        assert_eq!(both[0], both[1]);
        assert_eq!(both[0][0].spikes, spikes(4, 2, below(0.0, 2)));
        assert_eq!((&*both[0][0].charges(), both[0][0].threshold[0]), (&[0.25, 1.0][..], 0.5));
        let burst = [(Gene::Burst, [1.0, 3.0])];
        let found = Genome::new(&burst, &signed).unwrap().express(&[1.0, 2.2]);
        assert_eq!(found[1].spikes, Spikes::burst(2));
        let plain = network();
        let error = Genome::new(&genes[1..], &plain).err().unwrap().to_string();
        assert!(error.starts_with("genome: found Negative, of neurons without"), "{error}");
    }

    #[test]
    fn the_order_of_genes_does_not_matter() {
        let (scale, threshold) = ((Gene::Scale, [0.1, 2.0]), (Gene::Threshold, [0.1, 2.0]));
        let one = expressed(&[scale, threshold], &[0.5, 2.0, 0.25, 1.0]);
        let other = expressed(&[threshold, scale], &[0.25, 1.0, 0.5, 2.0]);
        assert_eq!(one[0].threshold, [0.125, 0.5]);
        assert_eq!(*one[0].charges(), [0.5, 2.0]);
        for (one, other) in one.iter().zip(&other) {
            assert_eq!(one.threshold, other.threshold);
            assert_eq!(one.charges(), other.charges());
        }
    }

    #[test]
    fn the_neutral_genome_is_the_network_as_it_is() {
        let network = network();
        let all = [
            (Gene::Scale, [0.5, 2.0]),
            (Gene::Threshold, [0.5, 2.0]),
            (Gene::Leak, [0.5, 1.0]),
            (Gene::Initial, [0.0, 1.0]),
        ];
        let genome = Genome::new(&all, &network).unwrap();
        for (as_is, new) in network.iter().zip(genome.express(&genome.neutral())) {
            assert_eq!(as_is.threshold, new.threshold);
            assert_eq!(as_is.charges(), new.charges());
            assert_eq!((&as_is.leak, as_is.initial), (&new.leak, new.initial));
        }
    }

    /// Or the evolution would start from another network than the one it is given.
    #[test]
    fn genes_that_cannot_hold_the_network_are_refused() {
        let error = |gene, change: fn(&mut Neurons)| {
            let mut network = network();
            network.iter_mut().for_each(change);
            let genes = [(gene, if gene == Gene::Leak { [0.1, 1.0] } else { [1.0, 8.0] })];
            Genome::new(&genes, &network).err().map(|error| error.to_string())
        };
        let changed = |error: Option<String>| {
            error.is_some_and(|error| error.contains("of neurons that it changes"))
        };
        assert!(changed(error(Gene::Leak, |n| n.leak = vec![0.9, 0.5])));
        assert_eq!(error(Gene::Leak, |n| n.leak = vec![0.9, 0.9]), None);
        assert!(changed(error(Gene::Levels, |n| n.spikes = Spikes::burst(3))));
        assert_eq!(error(Gene::Burst, |n| n.spikes = Spikes::burst(3)), None);
        let more_down = Some(Negative { threshold: 0.0, most: 2 });
        let error = |gene| {
            let spikes = Spikes { levels: 1, most: 1, negative: more_down };
            let network = [Neurons { spikes, ..Neurons::new([1.0]) }];
            Genome::new(&[(gene, [1.0, 8.0])], &network).err().unwrap().to_string()
        };
        assert!(error(Gene::Burst).contains("as many spikes as levels, up and down"));
        let network = network();
        let twice = [(Gene::Leak, [0.5, 1.0]), (Gene::Leak, [0.9, 1.0])];
        let error = Genome::new(&twice, &network).err().unwrap().to_string();
        assert_eq!(error, "genome: found Leak twice, expected each value once");
    }

    #[test]
    fn ranges_out_of_range_are_named() {
        let message = |genes: &[(Gene, [f64; 2])]| {
            let network = network();
            let genome = Genome::new(genes, &network);
            genome.err().unwrap().to_string()
        };
        assert_eq!(message(&[]), "genome: found none, expected at least one");
        for (gene, range, expected) in [
            (Gene::Scale, [0.0, 2.0], "factors above 0"),
            (Gene::Threshold, [0.5, f64::NAN], "factors above 0"),
            (Gene::Leak, [0.5, 1.5], "leaks above 0"),
            (Gene::Scale, [1.5, 2.0], "a range that holds 1,"),
            (Gene::Initial, [0.25, 1.0], "a range that holds 0,"),
        ] {
            let message = message(&[(gene, range)]);
            assert!(message.contains(expected), "{message}");
        }
    }
}
