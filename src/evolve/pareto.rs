//! Pareto front: compromises between latency, error and energy, by NSGA-II.

use plotters::prelude::*;
use serde::{Deserialize, Serialize};

use super::fitness::{Evaluator, Objective, Stopping};
use super::genome::Genome;
use super::nsga::{Nsga2, NsgaSettings};
use super::run as evolution;
use super::search::Search;
use super::settings::EvolveSettings;
use crate::ann::Classifier;
use crate::base::chart::{
    COLOURS, Key, Scale, dots, draw, legend, plain_number, scaled_axes, table,
};
use crate::base::style::viridis;
use crate::base::{
    Chart, NamedTensor, Progress, Ranks, Result, Resume, Steps, Table, do_steps, one_line, show,
};
use crate::data::{HeldOut, Images};
use crate::metrics::Target;
use crate::simulate::Snn;

/// Network of a [`Front`].
pub struct Compromise<N: Classifier> {
    /// Spiking network.
    pub snn: Snn<N>,
    /// Genome of the network, as in [`Evolution::genes`](crate::evolve::Evolution::genes).
    pub genes: Vec<f64>,
    /// Latency on the held-out images; the number of timesteps + 1 if the target is not reached.
    pub latency: usize,
    /// Percentage of held-out images that are wrong after the last timestep.
    pub error_percent: f64,
    /// Energy up to the latency, divided by the ANN's.
    pub energy_ratio: f64,
}

/// Result of [`pareto`]: networks of which none is better than another in latency, error or energy
/// without being worse in another of these. Sorted by latency, lowest first.
pub struct Front<N: Classifier> {
    /// Networks of the front.
    pub networks: Vec<Compromise<N>>,
    /// Latency, error (%) and energy (divided by the ANN's) of every network that was tried.
    pub tried: Vec<[f64; 3]>,
}

one_line!(
    impl [N: Classifier] Compromise<N>: network,
    "latency {} timesteps, error {:.2} %, energy {:.3} of the ANN's",
    network.latency,
    network.error_percent,
    network.energy_ratio
);

impl<N: Classifier> Front<N> {
    /// Returns one row per network that was tried, for a CSV file.
    pub fn rows(&self) -> Vec<CompromiseRow> {
        let on = |tried: &[f64; 3]| self.objectives().any(|best| best == *tried);
        let row = |tried: &[f64; 3]| CompromiseRow {
            latency_timesteps: tried[0] as usize,
            error_percent: tried[1],
            energy_ratio: tried[2],
            on_front: on(tried),
        };
        self.tried.iter().map(row).collect()
    }

    /// Draws latency against energy: the front among all networks that were tried.
    ///
    /// # Errors
    /// Returns [`Error::Chart`](crate::Error::Chart) if plotters fails.
    pub fn chart(&self, title: &str) -> Result<Chart> {
        front_chart(title, &self.tried, &self.objectives().collect::<Vec<_>>())
    }

    fn objectives(&self) -> impl Iterator<Item = [f64; 3]> {
        let networks = self.networks.iter();
        networks.map(|c| [c.latency as f64, c.error_percent, c.energy_ratio])
    }

    fn table(&self) -> Table {
        let mut table = Table::new(
            "Networks that no other is better than, on held-out images",
            ["latency", "error %", "energy / ANN's"],
        );
        for network in &self.networks {
            table.row([
                network.latency.to_string(),
                format!("{:.2}", network.error_percent),
                format!("{:.3}", network.energy_ratio),
            ]);
        }
        table
    }
}

show!(impl [N: Classifier] Front<N> as table);

/// Row of `pareto.csv`: a network tried by a search for compromises, on held-out images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompromiseRow {
    /// Latency; the number of timesteps + 1 if the target is not reached.
    pub latency_timesteps: usize,
    /// Percentage of images that are wrong after the last timestep.
    pub error_percent: f64,
    /// Energy up to the latency, divided by the ANN's.
    pub energy_ratio: f64,
    /// Whether the network belongs to the front, where none is better than another.
    pub on_front: bool,
}

/// Draws networks by latency (timesteps) and energy (divided by the ANN's) as dots. Their colour is
/// the rank of their error among all, dark for the smallest; rings mark the networks of the front,
/// which are among all. Each network is given as latency, error (%) and energy. Axes are
/// logarithmic by the rule of [`lines`](crate::plot::lines).
///
/// # Errors
/// Returns [`Error::Chart`](crate::Error::Chart) if plotters fails.
pub fn front_chart(title: &str, all: &[[f64; 3]], front: &[[f64; 3]]) -> Result<Chart> {
    let points = || all.iter().chain(front);
    let mut errors: Vec<f64> = points().map(|p| p[1]).collect();
    errors.sort_by(f64::total_cmp);
    errors.dedup();
    let last = errors.len().saturating_sub(1);
    let share = |place: usize| place as f64 / last.max(1) as f64;
    let mut marks = vec![0, last / 2, last];
    marks.dedup();
    draw(title, 1 + marks.len(), |area| {
        let latency = "latency (timesteps)";
        let across = Scale::of(latency, points().map(|p| p[0]), 0.06);
        let energy = "energy to the latency, over the ANN's";
        let up = Scale::of(energy, points().map(|p| p[2]), 0.1);
        let mut axes = scaled_axes(area, title, [&across, &up])?;
        let at = |&[latency, _, energy]: &[f64; 3]| (across.at(latency), up.at(energy));
        for point in all {
            let place = errors.partition_point(|&error| error < point[1]);
            dots(&mut axes, [at(point)], 4, viridis(share(place)).filled())?;
        }
        dots(&mut axes, front.iter().map(at), 8, COLOURS[1].stroke_width(2))?;
        let what = "front: none is better than another in latency, energy and error";
        let mut entries = vec![(what.into(), Key::Ring)];
        for place in marks {
            let error = errors.get(place);
            let error = error.map(|error| plain_number((error * 100.0).round() / 100.0));
            let which = match place {
                0 => "smallest",
                _ if place == last => "largest",
                _ => "middle one",
            };
            let error = error.unwrap_or_else(|| "none".into());
            let label = format!("error {error} %, the {which}");
            entries.push((label, Key::Shade(share(place))));
        }
        legend(area, &entries)?;
        let row = |points: &[[f64; 3]], of: &str| {
            let row = |[latency, error, energy]: &[f64; 3]| {
                let [latency, error, energy] = [latency, error, energy].map(f64::to_string);
                [of.into(), latency, error, energy]
            };
            points.iter().map(row).collect::<Vec<_>>()
        };
        let rows = row(front, "front").into_iter().chain(row(all, "tried"));
        let [latency, error] = ["latency_timesteps", "error_percent"];
        table(["network", latency, error, "energy_over_ann"], rows)
    })
}

/// Searches for compromises between latency, error after the last timestep, and energy up to the
/// latency, by NSGA-II (Deb et al. 2002), on held-out images. The settings `search`, `objective`,
/// `stopping` and `batch` have no effect: three objectives are minimised at once, and each network
/// is measured to the end on all images. [`Resume::pareto`] adds a checkpoint.
///
/// ```no_run
/// # use evospike::prelude::*;
/// # fn example(snn: Snn<DigitsCnn>, parts: Split<Digits>, target: Target) -> evospike::Result<()> {
/// let nsga = NsgaSettings { population: 20, ..NsgaSettings::default() };
/// let settings = EvolveSettings::default();
/// let front = pareto(&snn, &parts.held_out, &target, &nsga, &settings)?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// Returns the errors of [`evolve`](crate::evolve::evolve).
pub fn pareto<N: Classifier>(
    snn: &Snn<N>,
    images: &Images<HeldOut, N::Task>,
    target: &Target,
    nsga: &NsgaSettings,
    settings: &EvolveSettings,
) -> Result<Front<N>> {
    run(snn, images, target, nsga, settings, None)
}

impl Resume<'_> {
    /// Runs [`pareto`] with a checkpoint, written before the first generation and after each.
    ///
    /// # Errors
    /// Returns the errors of [`pareto`], and those of [`Resume`].
    pub fn pareto<N: Classifier>(
        &self,
        snn: &Snn<N>,
        images: &Images<HeldOut, N::Task>,
        target: &Target,
        nsga: &NsgaSettings,
        settings: &EvolveSettings,
    ) -> Result<Front<N>> {
        run(snn, images, target, nsga, settings, Some(self))
    }
}

fn run<N: Classifier>(
    snn: &Snn<N>,
    images: &Images<HeldOut, N::Task>,
    target: &Target,
    nsga: &NsgaSettings,
    settings: &EvolveSettings,
    resume: Option<&Resume<'_>>,
) -> Result<Front<N>> {
    let settings = EvolveSettings {
        search: Search::default(),
        objective: Objective::Latency,
        stopping: Stopping::Never,
        batch: None,
        ..settings.clone()
    };
    settings.check()?;
    let genome = Genome::new(&settings.genome, snn.neurons())?.within(snn.bounds());
    let (bounds, start) = (genome.bounds(), genome.neutral());
    let mut run = ParetoRun {
        search: Nsga2::new(&bounds, Some(&start), nsga.clone(), settings.seed)?,
        evaluator: settings.evaluator(snn, images, target)?,
        identity: Identity {
            nsga: nsga.clone(),
            evolution: evolution::Identity::new(snn, images, target, &settings),
        },
        genome: &genome,
        generations: settings.generations,
        told: Vec::new(),
    };
    let name = format!("pareto {}", N::NAME);
    let steps = settings.generations.saturating_add(1);
    do_steps(&mut run, &name, steps, resume, &Ranks::enter()?)?;
    let networks = run.search.front().into_iter().map(|(genes, objectives)| {
        Ok(Compromise {
            snn: snn.with_neurons(genome.express(&genes))?,
            genes,
            latency: objectives[0] as usize,
            error_percent: objectives[1],
            energy_ratio: objectives[2],
        })
    });
    let mut networks = networks.collect::<Result<Vec<_>>>()?;
    let order = |c: &Compromise<N>| (c.latency, c.error_percent, c.energy_ratio);
    networks.sort_by(|a, b| order(a).partial_cmp(&order(b)).unwrap_or(std::cmp::Ordering::Equal));
    networks.dedup_by(|a, b| order(a) == order(b));
    Ok(Front { networks, tried: run.told.concat() })
}

/// Search for compromises, with its progress.
struct ParetoRun<'a> {
    search: Nsga2,
    evaluator: Evaluator<'a>,
    identity: Identity,
    genome: &'a Genome<'a>,
    generations: usize,
    /// Objectives of each network of each generation.
    told: Vec<Vec<[f64; 3]>>,
}

/// Everything that determines the result of a search, except the number of generations.
#[derive(Clone, Serialize)]
struct Identity {
    nsga: NsgaSettings,
    #[serde(flatten)]
    evolution: evolution::Identity,
}

impl ParetoRun<'_> {
    fn tell(&mut self, found: Vec<[f64; 3]>) -> Result<()> {
        let objectives = found.iter().map(|objectives| objectives.to_vec());
        self.search.tell(objectives.collect())?;
        self.told.push(found);
        Ok(())
    }
}

impl Steps for ParetoRun<'_> {
    type Identity = Identity;
    type State = Vec<Vec<[f64; 3]>>;

    fn identity(&self) -> Result<Identity> {
        Ok(self.identity.clone())
    }

    fn state(&self) -> Result<(Self::State, Vec<NamedTensor>)> {
        Ok((self.told.clone(), Vec::new()))
    }

    fn restore(&mut self, state: Self::State, _: Vec<NamedTensor>) -> Result<usize> {
        for found in state.into_iter().take(self.generations + 1) {
            self.tell(found)?;
        }
        Ok(self.told.len())
    }

    fn step(&mut self, ranks: &Ranks<'_>, progress: &mut Progress) -> Result<Option<String>> {
        if self.done() {
            return Ok(None);
        }
        let points = self.search.ask();
        let found = ranks.share(points.len(), |i| {
            let (latency, error, energy) =
                self.evaluator.compromise(&self.genome.express(&points[i]))?;
            Ok([latency as f64, error, energy])
        })?;
        self.tell(found)?;
        progress.step(|| self.summary());
        let generation = self.told.len() - 1;
        Ok(Some(format!("generation {generation}, {}", self.summary())))
    }

    fn done(&self) -> bool {
        self.told.len() > self.generations
    }

    fn summary(&self) -> String {
        format!("{} compromises", self.search.front().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_is_ringed_and_errors_are_told() {
        let all = [[20.0, 4.0, 0.5], [10.0, 2.0, 0.2], [12.0, 1.0, 0.2]];
        let chart = front_chart("", &all, &all[1..]).unwrap();
        let circles = |with: &str| {
            let lines = chart.svg().lines();
            let circles = lines.filter(|line| line.contains("<circle") && line.contains(with));
            circles.count()
        };
        // One ring and three dots belong to the legend.
        assert_eq!(circles("r=\"8\""), 2 + 1);
        assert_eq!(circles("r=\"4\""), 3 + 3);
        for error in
            ["error 1 %, the smallest", "error 2 %, the middle one", "error 4 %, the largest"]
        {
            assert!(chart.svg().contains(error), "{error}");
        }
        front_chart("", &[], &[]).unwrap();
    }
}
