//! Evolution of the neurons of a network.

use std::fmt::Debug;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::ann::layers::checksum;
use crate::ann::networks::Network;
use crate::base::chart::Chart;
use crate::base::error::{Error, Result};
use crate::base::files::{unsealed, write_sealed};
use crate::base::lock::Lock;
use crate::base::progress::Progress;
use crate::base::ranks::Ranks;
use crate::base::table::show;
use crate::data::images::{HeldOut, Images};
use crate::evolve::fitness::Fitness;
use crate::evolve::fitness::Objective;
use crate::evolve::generation::Generation;
use crate::evolve::generation::convergence_chart;
use crate::evolve::genome::Genome;
use crate::evolve::optimise::better;
use crate::evolve::settings::EvolveSettings;
use crate::metrics::Target;
use crate::simulate::network::Snn;
use crate::simulate::neurons::Neurons;

/// What [`evolve`] found.
pub struct Evolution<N: Network> {
    /// The best network; where generations are measured on batches, that of the search's mean.
    pub snn: Snn<N>,
    /// Its genome: of every gene of the settings in order, its values of every layer.
    pub genes: Vec<f64>,
    /// How good it is on all held-out images.
    pub fitness: Fitness,
    /// How it went.
    pub generations: Vec<Generation>,
    /// Wall time of its generations, those before an interruption included.
    pub seconds: f64,
    objective: Objective,
}

impl<N: Network> Evolution<N> {
    /// How it went, as a chart.
    ///
    /// # Errors
    /// [`Error::Chart`] when plotters fails.
    pub fn convergence(&self, title: &str) -> Result<Chart> {
        let label = format!("{} on held-out images", self.objective.label());
        convergence_chart(title, &label, &self.generations)
    }

    fn chart(&self) -> Result<Chart> {
        self.convergence("Evolution on held-out images")
    }
}

show!(impl [N: Network] Evolution<N> as chart);

/// Evolves the neurons of a network on held-out images.
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
/// No image, settings out of range, or a target made on other images.
pub fn evolve<N: Network>(
    snn: &Snn<N>,
    images: &Images<HeldOut, N::Task>,
    target: &Target,
    settings: &EvolveSettings,
) -> Result<Evolution<N>> {
    run(snn, images, target, settings, None)
}

/// As [`evolve`], with everything that it goes on from written to `checkpoint` after every
/// generation.
///
/// Where the file is there already, the evolution goes on from it, and ends with the very network
/// that it would have found without a break: killed at any moment, it loses the generation that it
/// was in. When `stop` is set by another thread, it stops after the running generation.
///
/// # Errors
/// As [`evolve`]; a file that is no checkpoint, or one of another evolution; [`Error::Busy`] while
/// another evolution writes it; [`Error::Stopped`] when it was told to stop.
pub fn evolve_resumable<N: Network>(
    snn: &Snn<N>,
    images: &Images<HeldOut, N::Task>,
    target: &Target,
    settings: &EvolveSettings,
    checkpoint: impl AsRef<Path>,
    stop: &AtomicBool,
) -> Result<Evolution<N>> {
    let checkpoint = (checkpoint.as_ref(), stop);
    run(snn, images, target, settings, Some(checkpoint))
}

fn run<N: Network>(
    snn: &Snn<N>,
    images: &Images<HeldOut, N::Task>,
    target: &Target,
    settings: &EvolveSettings,
    checkpoint: Option<(&Path, &AtomicBool)>,
) -> Result<Evolution<N>> {
    settings.check()?;
    let genome = Genome::new(&settings.genome, snn.neurons())?;
    let size = settings.batch_of(images.len())?;
    let batches = images.len().checked_div(size).unwrap_or(1);
    target.check_on(images.len())?;
    let start = genome.neutral();
    let mut search = (settings.search).start(&genome.bounds(), Some(&start), settings.seed)?;
    let run = Run::new(snn, images, target, settings);
    let ranks = Ranks::enter()?;
    run.check_alike(&ranks, target, &checkpoint.is_some())?;
    let mut _lock = None;
    ranks.lead(|| {
        _lock = checkpoint
            .map(|(path, _)| Lock::of_file(path))
            .transpose()?;
        Ok(())
    })?;
    let mut state = State::new(run);
    if let Some((path, _)) = checkpoint
        && let Some(found) = ranks.lead(|| state.load(path))?
    {
        (state.told, state.mean, state.seconds) = (found.told, found.mean, found.seconds);
    }
    let mut generations = Vec::new();
    let mut progress = Progress::new(
        format!("evolve {}", N::NAME),
        settings.generations.saturating_add(1),
    );
    progress.skip(state.told.len());
    let (mut evaluations, mut stopped) = (0, 0);
    for generation in 0..=settings.generations {
        if search.done() {
            break;
        }
        let rivals = search.rivals();
        let known = state.told.get(generation).cloned();
        let replayed = known.is_some();
        let clock = Instant::now();
        let measured = match known {
            Some(known) => known,
            None => {
                let points = search.ask();
                let from = generation % batches * size;
                let (part, goal) = (
                    images.range(from..from + size),
                    target.part(from..from + size)?,
                );
                let judge = settings.judge(snn, &part, &goal)?;
                ranks.share(points.len(), |i| {
                    let neurons = genome.express(&points[i]);
                    let fitness = judge.against(&neurons, rivals[i], settings.stopping)?;
                    Ok(fitness.measured())
                })?
            }
        };
        let path = checkpoint.map(|(path, _)| path);
        evaluations += measured.len();
        stopped += measured.iter().filter(|fitness| fitness.is_none()).count();
        let fitness = measured.iter().map(|known| known.unwrap_or(Fitness::WORST));
        let fitness: Vec<Fitness> = fitness.collect();
        let mut sorted: Vec<Fitness> = (fitness.iter().zip(&rivals))
            .map(|(&own, &rival)| rival.filter(|rival| better(rival, &own)).unwrap_or(own))
            .collect();
        sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        if !replayed {
            state.told.push(measured);
            state.seconds += clock.elapsed().as_secs_f64();
        }
        search
            .tell(fitness)
            .map_err(|error| match (replayed, path) {
                (true, Some(path)) => damaged(path, error),
                _ => error,
            })?;
        let best = match (settings.batch, search.best()) {
            (None, Some((_, best))) => best,
            _ => sorted[0],
        };
        let at = |part, of| sorted[(sorted.len() - 1) * part / of];
        let now = Generation {
            generation,
            evaluations,
            stopped,
            best,
            median: at(1, 2),
            quartiles: [at(1, 4), at(3, 4)],
        };
        generations.push(now);
        if replayed {
            continue;
        }
        progress.step(|| summary(&now));
        if let Some((path, stop)) = checkpoint {
            ranks.lead(|| {
                state.save(path)?;
                if stop.load(Ordering::Relaxed) && generation < settings.generations {
                    return Err(Error::Stopped {
                        work: format!("evolve {}", N::NAME),
                        stands: format!("generation {generation}, {}", summary(&now)),
                        path: path.into(),
                    });
                }
                Ok(())
            })?;
        }
    }
    progress.finish(|| generations.last().map_or_else(String::new, summary));
    let (genes, fitness) = match (settings.batch.and_then(|_| search.mean()), search.best()) {
        (Some(mean), _) => {
            let told = state.told.len();
            let fitness = match state.mean {
                Some((after, fitness)) if after == told => fitness,
                _ => ranks.lead(|| {
                    let judge = settings.judge(snn, images, target)?;
                    let fitness = judge.fitness(&genome.express(&mean))?;
                    state.mean = Some((told, fitness));
                    if let Some((path, _)) = checkpoint {
                        state.save(path)?;
                    }
                    Ok(fitness)
                })?,
            };
            (mean, fitness)
        }
        (None, Some(best)) => best,
        (None, None) => unreachable!("at least one generation was told"),
    };
    Ok(Evolution {
        snn: snn.with_neurons(genome.express(&genes))?,
        genes,
        fitness,
        generations,
        seconds: state.seconds,
        objective: settings.objective,
    })
}

fn summary(state: &Generation) -> String {
    let Fitness { latency, cost, .. } = state.best;
    let cost = cost.map_or_else(String::new, |cost| format!(", cost {cost:.2}"));
    format!("best latency {latency} timesteps{cost}")
}

/// An evolution: two that are the same find the same.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    network: String,
    /// CRC-32, weights included.
    layers_checksum: u32,
    settings: EvolveSettings,
    neurons: Vec<Neurons>,
    images: usize,
    /// CRC-32 of what the network sees of them and of their labels.
    images_checksum: u32,
    target_percent: f64,
}

impl Run {
    pub(super) fn new<N: Network>(
        snn: &Snn<N>,
        images: &Images<HeldOut, N::Task>,
        target: &Target,
        settings: &EvolveSettings,
    ) -> Self {
        Self {
            network: N::NAME.into(),
            layers_checksum: checksum(&snn.network().stages.layers),
            settings: settings.clone(),
            neurons: snn.neurons().to_vec(),
            images: images.len(),
            images_checksum: images.view().checksum(),
            target_percent: target.percent(),
        }
    }

    /// Refuses ranks that are at different evolutions; `more` is what else they depend on.
    pub(super) fn check_alike(
        &self,
        ranks: &Ranks<'_>,
        target: &Target,
        more: &impl Debug,
    ) -> Result<()> {
        use crate::base::check::debug_checksum as checksum;
        ranks.check_alike(|| {
            [
                ("versions", checksum(&env!("CARGO_PKG_VERSION"))),
                ("networks", checksum(&self.network)),
                ("weights", self.layers_checksum),
                ("settings", checksum(&(&self.settings, more))),
                ("thresholds", checksum(&self.neurons)),
                ("images", checksum(&(self.images, self.images_checksum))),
                ("targets", checksum(target)),
            ]
        })
    }
}

/// What an evolution goes on from. An optimiser that is started again and told the same asks the
/// same, so the fitness of every generation is all there is to keep.
#[derive(Serialize, Deserialize)]
struct State {
    version: u32,
    evospike: String,
    run: Run,
    /// Of each generation, the fitness of each network; none where it was stopped early.
    told: Vec<Vec<Option<Fitness>>>,
    /// Of the search's mean, on all images, after so many generations.
    #[serde(default)]
    mean: Option<(usize, Fitness)>,
    /// That the generations took.
    seconds: f64,
}

fn damaged(path: &Path, found: impl std::fmt::Display) -> Error {
    let expected = "the checkpoint of an evolution; delete it to start anew";
    Error::data(path.display(), "checkpoint", found.to_string(), expected)
}

impl State {
    const VERSION: u32 = 4;

    fn new(run: Run) -> Self {
        Self {
            version: Self::VERSION,
            evospike: env!("CARGO_PKG_VERSION").into(),
            run,
            told: Vec::new(),
            mean: None,
            seconds: 0.0,
        }
    }

    fn save(&self, path: &Path) -> Result<()> {
        write_sealed(path, self)
    }

    /// What the file says; none where there is no file.
    fn load(&self, path: &Path) -> Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                return Err(damaged(path, "bytes that are no text"));
            }
            Err(error) => return Err(Error::io(path)(error)),
        };
        let version = |text: &str| {
            let value: serde_json::Value = serde_json::from_str(text).ok()?;
            value.get("version")?.as_u64()
        };
        let text = match unsealed(&text) {
            Ok(content) => content,
            Err(_) if version(&text).is_some() => &text, // before version 4 there was no checksum
            Err(error) => return Err(damaged(path, error)),
        };
        let version = version(text);
        if version != Some(Self::VERSION.into()) {
            let found = match version {
                Some(version) => format!("format version {version}"),
                None => "no format version".into(),
            };
            let expected = format!("version {}; delete it to start anew", Self::VERSION);
            return Err(Error::data(path.display(), "checkpoint", found, expected));
        }
        let found: Self = serde_json::from_str(text).map_err(|error| damaged(path, error))?;
        // The count of generations may grow: what was found up to now stays what it was.
        let longest = found
            .run
            .settings
            .generations
            .max(self.run.settings.generations);
        let as_long = |run: &Run| EvolveSettings {
            generations: longest,
            ..run.settings.clone()
        };
        let differs = [
            ("network", found.run.network != self.run.network),
            (
                "weights",
                found.run.layers_checksum != self.run.layers_checksum,
            ),
            ("settings", as_long(&found.run) != as_long(&self.run)),
            ("thresholds", found.run.neurons != self.run.neurons),
            (
                "images",
                (found.run.images, found.run.images_checksum)
                    != (self.run.images, self.run.images_checksum),
            ),
            (
                "target",
                found.run.target_percent != self.run.target_percent,
            ),
        ];
        let differs: Vec<&str> = differs.iter().filter(|d| d.1).map(|d| d.0).collect();
        if !differs.is_empty() {
            let found = format!("that of an evolution with other {}", differs.join(", "));
            let expected = "that of this one; delete it to start anew";
            return Err(Error::data(path.display(), "checkpoint", found, expected));
        }
        Ok(Some(found))
    }
}
