//! Evolution of the neurons of a network.

use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::fitness::{Evaluator, Fitness, Objective};
use super::generation::{Generation, convergence_chart};
use super::genome::Genome;
use super::optimise::{Optimise, better};
use super::settings::EvolveSettings;
use crate::ann::Classifier;
use crate::base::background::Background;
use crate::base::{
    Chart, NamedTensor, Progress, Ranks, Result, Resume, Steps, do_steps, one_line, show,
};
use crate::data::{HeldOut, Images};
use crate::metrics::Target;
use crate::simulate::{Neurons, Snn};

/// Result of [`evolve`].
pub struct Evolution<N: Classifier> {
    /// Best network; if generations are measured on batches, the network of the optimiser's mean.
    pub snn: Snn<N>,
    /// Genome of the network: for each gene of the settings in order, one value per layer.
    pub genes: Vec<f64>,
    /// Fitness of the network on all held-out images.
    pub fitness: Fitness,
    /// State after each generation.
    pub generations: Vec<Generation>,
    /// Wall time of all generations in seconds, including those before an interruption.
    pub seconds: f64,
    objective: Objective,
}

impl<N: Classifier> Evolution<N> {
    /// Draws the fitness over the generations.
    ///
    /// # Errors
    /// Returns [`Error::Chart`](crate::Error::Chart) if plotters fails.
    pub fn convergence(&self, title: &str) -> Result<Chart> {
        let label = format!("{} on held-out images", self.objective.label());
        convergence_chart(title, &label, &self.generations)
    }

    fn chart(&self) -> Result<Chart> {
        self.convergence("Evolution on held-out images")
    }
}

one_line!(
    impl [N: Classifier] Evolution<N>: evolution,
    "evolution: {} generations, best latency {} timesteps",
    evolution.generations.len(),
    evolution.fitness.latency
);

show!(impl [N: Classifier] Evolution<N> as chart);

/// Evolves the neurons of a network on held-out images. [`Resume::evolve`] adds a checkpoint.
///
/// ```no_run
/// # use evospike::prelude::*;
/// # fn example(snn: Snn<DigitsCnn>, parts: Split<Digits>, target: Target) -> evospike::Result<()> {
/// let settings = EvolveSettings {
///     genome: vec![(Gene::Threshold, [0.5, 1.5]), (Gene::Initial, [0.0, 1.0])],
///     search: Search::CmaEs(CmaEsSettings::default()),
///     generations: 40,
///     ..EvolveSettings::default()
/// };
/// let evolution = evolve(&snn, &parts.held_out, &target, &settings)?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// Returns an error if there is no image, a setting is out of range, or the target was made on other
/// images.
pub fn evolve<N: Classifier>(
    snn: &Snn<N>,
    images: &Images<HeldOut, N::Task>,
    target: &Target,
    settings: &EvolveSettings,
) -> Result<Evolution<N>> {
    run(snn, images, target, settings, None)
}

impl Resume<'_> {
    /// Runs [`evolve`] with a checkpoint, written before the first generation and after each. A
    /// larger number of generations than before continues an evolution.
    ///
    /// # Errors
    /// Returns the errors of [`evolve`], and those of [`Resume`].
    pub fn evolve<N: Classifier>(
        &self,
        snn: &Snn<N>,
        images: &Images<HeldOut, N::Task>,
        target: &Target,
        settings: &EvolveSettings,
    ) -> Result<Evolution<N>> {
        run(snn, images, target, settings, Some(self))
    }
}

impl<N: Classifier> Background<Evolution<N>> {
    /// [`evolve`] beside a notebook, with a checkpoint at `path`: the same call resumes from it.
    ///
    /// ```no_run
    /// # use evospike::prelude::*;
    /// # fn example(snn: Snn<DigitsCnn>, parts: Split<Digits>, target: Target) -> evospike::Result<()> {
    /// let settings = EvolveSettings { generations: 200, ..EvolveSettings::default() };
    /// let work = Background::evolve("mine.checkpoint", &snn, &parts.held_out, &target, &settings)?;
    /// println!("{}", work.progress()); // in any later cell
    /// let evolution = work.wait()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`Background::start`]; [`Background::wait`] gives the evolution's.
    pub fn evolve(
        path: impl Into<PathBuf>,
        snn: &Snn<N>,
        images: &Images<HeldOut, N::Task>,
        target: &Target,
        settings: &EvolveSettings,
    ) -> Result<Self> {
        let (path, snn, images) = (path.into(), snn.clone(), images.clone());
        let (target, settings) = (target.clone(), settings.clone());
        Self::start(move |stop| {
            Resume::at(path).stopped_by(stop).evolve(&snn, &images, &target, &settings)
        })
    }
}

fn run<N: Classifier>(
    snn: &Snn<N>,
    images: &Images<HeldOut, N::Task>,
    target: &Target,
    settings: &EvolveSettings,
    resume: Option<&Resume<'_>>,
) -> Result<Evolution<N>> {
    settings.check()?;
    let genome = Genome::new(&settings.genome, snn.neurons())?.within(snn.bounds());
    let batch = settings.batch_of(images.len())?;
    target.check_on(images.len(), images.view().which())?;
    let start = genome.neutral();
    let first = 0..batch;
    let (fixed, fixed_target) = (images.range(first.clone()), target.part(first)?);
    let incumbent =
        (settings.batch).map(|_| settings.evaluator(snn, &fixed, &fixed_target)).transpose()?;
    let mut run = EvolutionRun {
        search: (settings.search).start(&genome.bounds(), Some(&start), settings.seed)?,
        snn,
        images,
        target,
        settings,
        genome,
        batch,
        incumbent,
        generations: Vec::new(),
        state: State::default(),
    };
    let name = format!("evolve {}", N::NAME);
    let steps = settings.generations.saturating_add(1);
    do_steps(&mut run, &name, steps, resume, &Ranks::enter()?)?;
    let (genes, fitness) = match (run.mean(), run.state.mean, run.search.best()) {
        (Some(mean), Some((_, fitness)), _) => (mean, fitness),
        (_, _, Some(best)) => best,
        _ => unreachable!("at least one generation was told"),
    };
    Ok(Evolution {
        snn: snn.with_neurons(run.genome.express(&genes))?,
        genes,
        fitness,
        generations: run.generations,
        seconds: run.state.seconds,
        objective: settings.objective,
    })
}

/// Evolution, with its progress.
struct EvolutionRun<'a, N: Classifier> {
    snn: &'a Snn<N>,
    images: &'a Images<HeldOut, N::Task>,
    target: &'a Target,
    settings: &'a EvolveSettings,
    genome: Genome<'a>,
    search: Box<dyn Optimise<Fitness> + Send>,
    /// Number of images that a generation is measured on.
    batch: usize,
    /// Evaluator on the first batch of images; none without batches.
    incumbent: Option<Evaluator<'a>>,
    generations: Vec<Generation>,
    state: State,
}

/// State that an evolution resumes from. An optimiser that is created again and told the same
/// fitness asks for the same points, so only the fitness of every generation is kept.
#[derive(Clone, Default, Serialize, Deserialize)]
struct State {
    /// Fitness of each network of each generation; none if it was stopped early.
    told: Vec<Vec<Option<Fitness>>>,
    /// Fitness of the optimiser's mean after each generation, on the first batch of images.
    incumbents: Vec<Fitness>,
    /// Number of generations, and the fitness of the optimiser's mean on all images after them.
    mean: Option<(usize, Fitness)>,
    /// Wall time of the generations in seconds.
    seconds: f64,
}

/// Everything that determines the result of an evolution, except the number of generations: more
/// generations continue it.
#[derive(Clone, Serialize)]
pub(super) struct Identity {
    /// CRC-32 of the layers, weights included.
    weights_checksum: u32,
    settings: EvolveSettings,
    neurons: Vec<Neurons>,
    images: usize,
    /// CRC-32 of the network's inputs for these images and of their labels.
    images_checksum: u32,
    target: String,
    /// CRC-32 of which images the ANN classified correctly.
    target_checksum: u32,
    /// Device of the simulations.
    // Left out if it is the CPU's engine, as it was before there were others.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'static str>,
}

impl Identity {
    pub(super) fn new<N: Classifier>(
        snn: &Snn<N>,
        images: &Images<HeldOut, N::Task>,
        target: &Target,
        settings: &EvolveSettings,
    ) -> Self {
        Self {
            weights_checksum: snn.network().stages.graph.checksum(),
            settings: EvolveSettings { generations: 0, ..settings.clone() },
            neurons: snn.neurons().to_vec(),
            images: images.len(),
            images_checksum: images.view().checksum(),
            target: target.to_string(),
            target_checksum: target.checksum(),
            device: snn.network().device.map(|device| device.name),
        }
    }
}

impl<N: Classifier> EvolutionRun<'_, N> {
    /// Returns the mean of the optimiser, if that is the result.
    fn mean(&self) -> Option<Vec<f64>> {
        self.settings.batch.and_then(|_| self.search.mean())
    }

    /// Whether all generations are done.
    fn complete(&self) -> bool {
        self.generations.len() > self.settings.generations || self.search.done()
    }

    /// Measures the networks that the optimiser asks for.
    fn measure(&self, ranks: &Ranks<'_>) -> Result<Vec<Option<Fitness>>> {
        let (points, parents) = (self.search.ask(), self.search.rivals());
        let batches = self.images.len() / self.batch;
        let first = self.generations.len() % batches * self.batch;
        let range = first..first + self.batch;
        let (images, target) = (self.images.range(range.clone()), self.target.part(range)?);
        let evaluator = (self.settings).evaluator(self.snn, &images, &target)?;
        ranks.share(points.len(), |i| {
            let neurons = self.genome.express(&points[i]);
            let fitness = evaluator.against(&neurons, parents[i], self.settings.stopping)?;
            Ok(fitness.measured())
        })
    }

    /// Tells the optimiser the fitness of a generation.
    fn tell(&mut self, measured: &[Option<Fitness>]) -> Result<()> {
        let parents = self.search.rivals();
        let fitness = measured.iter().map(|known| known.unwrap_or(Fitness::WORST));
        let fitness: Vec<Fitness> = fitness.collect();
        let mut sorted: Vec<Fitness> = (fitness.iter().zip(&parents))
            .map(|(&own, &parent)| parent.filter(|parent| better(parent, &own)).unwrap_or(own))
            .collect();
        sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        self.search.tell(fitness)?;
        let best = match (self.settings.batch, self.search.best()) {
            (None, Some((_, best))) => best,
            _ => sorted[0],
        };
        let at = |part, of| sorted[(sorted.len() - 1) * part / of];
        let before = self.generations.last();
        let stopped = measured.iter().filter(|fitness| fitness.is_none()).count();
        self.generations.push(Generation {
            generation: self.generations.len(),
            evaluations: before.map_or(0, |g| g.evaluations) + measured.len(),
            stopped: before.map_or(0, |g| g.stopped) + stopped,
            best,
            median: at(1, 2),
            quartiles: [at(1, 4), at(3, 4)],
            incumbent: None,
        });
        Ok(())
    }
}

impl<N: Classifier> Steps for EvolutionRun<'_, N> {
    type Identity = Identity;
    type State = State;

    fn identity(&self) -> Result<Identity> {
        Ok(Identity::new(self.snn, self.images, self.target, self.settings))
    }

    fn state(&self) -> Result<(State, Vec<NamedTensor>)> {
        Ok((self.state.clone(), Vec::new()))
    }

    fn restore(&mut self, state: State, _: Vec<NamedTensor>) -> Result<usize> {
        for measured in state.told.iter().take(self.settings.generations + 1) {
            self.tell(measured)?;
        }
        for (generation, &incumbent) in self.generations.iter_mut().zip(&state.incumbents) {
            generation.incumbent = Some(incumbent);
        }
        self.state = state;
        Ok(self.generations.len())
    }

    fn step(&mut self, ranks: &Ranks<'_>, progress: &mut Progress) -> Result<Option<String>> {
        if self.done() {
            return Ok(None);
        }
        if let (true, Some(mean)) = (self.complete(), self.mean()) {
            let fitness = ranks.lead(|| {
                let evaluator = (self.settings).evaluator(self.snn, self.images, self.target)?;
                evaluator.fitness(&self.genome.express(&mean))
            })?;
            self.state.mean = Some((self.generations.len(), fitness));
            return Ok(Some("the last generation".into()));
        }
        let clock = Instant::now();
        let measured = self.measure(ranks)?;
        self.tell(&measured)?;
        self.state.told.push(measured);
        if let (Some(evaluator), Some(mean), Some(last)) =
            (&self.incumbent, self.mean(), self.generations.last_mut())
        {
            let fitness = ranks.lead(|| evaluator.fitness(&self.genome.express(&mean)))?;
            last.incumbent = Some(fitness);
            self.state.incumbents.push(fitness);
        }
        self.state.seconds += clock.elapsed().as_secs_f64();
        progress.step(|| self.summary());
        let generation = self.generations.len() - 1;
        Ok(Some(format!("generation {generation}, {}", self.summary())))
    }

    fn done(&self) -> bool {
        let measured = self.state.mean.map(|(generations, _)| generations);
        let mean = self.mean().is_none() || measured == Some(self.generations.len());
        self.complete() && mean
    }

    fn summary(&self) -> String {
        let Some(Fitness { latency, cost, .. }) = self.generations.last().map(|g| g.best) else {
            return String::new();
        };
        let cost = cost.map_or_else(String::new, |cost| format!(", cost {cost:.2}"));
        format!("best latency {latency} timesteps{cost}")
    }
}
