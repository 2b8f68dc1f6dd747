//! The paper's second claim: latency won on CIFAR-10 under attack.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use crate::ann::networks::Network;
use crate::base::chart::Chart;
use crate::base::check::at_least;
use crate::base::check::not_empty;
use crate::base::error::Result;
use crate::base::files::{Output, rounded};
use crate::base::table::show;
use crate::data::images::{HeldOut, Images, Part, Split};
use crate::data::tasks::Cifar10;
use crate::evolve::generation::ConvergenceRow;
use crate::evolve::thresholds::ThresholdRow;
use crate::metrics::AccuracyRow;
use crate::metrics::Target;
use crate::metrics::accuracy_chart;
use crate::reproduce::cifar10::Workspace;
use crate::reproduce::cifar10::{Cifar10Input, Cifar10Settings, Evolved, Experiment, Found, Rival};
use crate::reproduce::rows::AttackRow;
use crate::reproduce::rows::Report;
use crate::reproduce::steps::StepCache;
use crate::reproduce::steps::check_margin;
use crate::simulate::network::Snn;
use crate::simulate::run::simulate;
use crate::simulate::simulator::Simulation;
use crate::through_time::attack::{Attack, Spiking, attack};
use crate::through_time::surrogate::Surrogate;

/// Settings of [`adversarial`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdversarialSettings {
    /// The experiment on clean images, with one initial potential: its networks are attacked, and
    /// its evolution is what networks are evolved by under attack.
    pub clean: Cifar10Settings,
    /// What the images are changed by.
    pub attacks: Vec<AttackedBy>,
    /// The target's distance, in percentage points, below the accuracy on the same attacked images
    /// of the reference network after its last timestep: the best percentile conversion of the
    /// clean experiment. The ANN's own accuracy would be no target where the attack goes through
    /// it.
    pub margin_points: f64,
    /// A target of less than that is void: networks pass it early, by chance.
    pub void_below_percent: f64,
    /// Attacked held-out images that conversions are chosen on.
    pub baseline_images: usize,
    /// Attacked test images; no more than there are.
    pub test_images: usize,
}

show!(AdversarialSettings as fields);

/// An attack, and what is done under it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AttackedBy {
    /// How images are changed.
    pub attack: Attack,
    /// So many timesteps through the reference network, with [`Surrogate::Linear`]; none: through
    /// the ANN.
    pub through_timesteps: Option<usize>,
    /// Whether networks are evolved under it, too.
    pub evolve: bool,
    /// Fewer images than otherwise, for an attack that takes long.
    pub at_most_images: Option<usize>,
}

impl Default for AdversarialSettings {
    fn default() -> Self {
        let by = |attack, evolve| AttackedBy {
            attack,
            through_timesteps: None,
            evolve,
            at_most_images: None,
        };
        let fgsm = |epsilon_255| Attack::Fgsm { epsilon_255 };
        Self {
            clean: Cifar10Settings {
                initial: vec![0.0],
                ..Cifar10Settings::default()
            },
            attacks: vec![
                by(fgsm(2.0), true),
                by(Attack::pgd(1.0), false),
                AttackedBy {
                    through_timesteps: Some(16),
                    at_most_images: Some(1000),
                    ..by(fgsm(1.0), false)
                },
            ],
            margin_points: 2.0,
            void_below_percent: 30.0,
            baseline_images: 1000,
            test_images: 3000,
        }
    }
}

impl AdversarialSettings {
    fn check(&self) -> Result<()> {
        self.clean.check_of_one_initial()?;
        not_empty("attacks", &self.attacks)?;
        for by in &self.attacks {
            by.attack.check()?;
            at_least(
                1,
                &[
                    ("through_timesteps", by.through_timesteps.unwrap_or(1)),
                    ("at_most_images", by.at_most_images.unwrap_or(1)),
                ],
            )?;
        }
        at_least(
            1,
            &[
                ("baseline_images", self.baseline_images),
                ("test_images", self.test_images),
            ],
        )?;
        check_margin("margin_points", self.margin_points, true)
    }
}

/// The paper's experiment under attack, on CIFAR-10: how much earlier networks with evolved
/// thresholds reach a target accuracy on attacked images than the best conversions of the same
/// trained network, whether they were evolved on clean or on attacked images.
///
/// Conversions and evolution see attacked held-out images only; each final network sees the
/// attacked test images once. The clean networks are those of [`cifar10`](super::cifar10()), which
/// left them in `clean_folder`; where it did not, they are made there. Attacks go through the ANN or
/// through the reference network, and all networks get the same images: no attack is made for an
/// evolved one.
/// Files, resuming and stopping as there, with `latency.csv` for the result.
///
/// # Errors
/// Settings out of range; a list that does not fit the data; a folder that cannot be written to;
/// [`Error::Stopped`].
pub fn adversarial<N: Network<Task = Cifar10>>(
    input: &Cifar10Input<'_, N>,
    settings: &AdversarialSettings,
    clean_folder: impl AsRef<Path>,
    folder: impl Into<PathBuf>,
    stop: &AtomicBool,
) -> Result<Report<AttackRow>> {
    settings.check()?;
    let folder = folder.into();
    let output = Output::new(&folder)?;
    let clean_folder = clean_folder.as_ref();
    let (workspace, mut clean) = Workspace::new(input, &settings.clean, clean_folder, stop)?;
    let experiment = workspace.experiment(settings.clean.initial[0]);
    let found = experiment.search(&mut clean)?;
    let nearest = settings.clean.nearest_margin(settings.margin_points);
    let reference = &found.rivals[nearest][0];
    // Attacks are steps of their own, so that more of them do not make the others run again.
    let common = AdversarialSettings {
        attacks: Vec::new(),
        ..settings.clone()
    };
    let key = workspace.key((common, reference.snn.neurons()));
    let mut steps = StepCache::new("reproduce adversarial", &folder, &key, stop)?;

    let study = Study {
        settings,
        experiment: &experiment,
        first: &workspace.parts,
        found: &found,
        reference,
        constant: found.rivals[nearest].last(),
    };
    let mut rows = Rows::default();
    for (number, by) in settings.attacks.iter().enumerate() {
        let chosen = study.choose(by, &mut steps)?;
        let chart = study.test(by, &chosen, &mut steps, &mut rows)?;
        chart.save(output.path(&format!("accuracy-{}.svg", number + 1)))?;
    }
    output.csv("latency.csv", &rows.latency)?;
    output.csv("accuracy.csv", rows.accuracy)?;
    output.csv("convergence.csv", rows.convergence)?;
    output.csv("thresholds.csv", rows.thresholds)?;
    output.csv("timing.csv", &steps.timing)?;
    workspace.write_settings(&output, "adversarial", settings)?;
    Ok(Report {
        rows: rows.latency,
        files: output.complete()?,
    })
}

#[derive(Default)]
struct Rows {
    latency: Vec<AttackRow>,
    accuracy: Vec<AccuracyRow>,
    convergence: Vec<ConvergenceRow>,
    thresholds: Vec<ThresholdRow>,
}

/// What all attacks have in common.
struct Study<'a, N: Network<Task = Cifar10>> {
    settings: &'a AdversarialSettings,
    experiment: &'a Experiment<'a, N>,
    first: &'a Split<Cifar10>,
    found: &'a Found<N>,
    reference: &'a Rival<N>,
    /// The conversion with the best constant factor on clean images.
    constant: Option<&'a Rival<N>>,
}

/// What attacked held-out images decided.
struct Chosen<N: Network> {
    rivals: Vec<Rival<N>>,
    evolved: Vec<Evolved<N>>,
}

impl<N: Network<Task = Cifar10>> Study<'_, N> {
    fn choose(&self, by: &AttackedBy, steps: &mut StepCache<'_>) -> Result<Chosen<N>> {
        let (settings, found) = (self.settings, self.found);
        let images = match by.evolve {
            true => self.first.held_out.clone(),
            false => by.some(&self.first.held_out, settings.baseline_images),
        };
        let images = self.attacked(by, &images)?;
        let step = format!("held-out, {REFERENCE}, {by}");
        let reference = steps.step(&step, || {
            simulate(&self.reference.snn, &images, settings.clean.timesteps)
        })?;
        let goal = reference.target(settings.margin_points)?;
        let first = images.take(settings.baseline_images);
        let goal_of_first = goal.part(0..first.len())?;
        let mut rivals = vec![Rival {
            kind: REFERENCE,
            name: REFERENCE.into(),
            snn: self.reference.snn.clone(),
        }];
        for kind in &found.kinds {
            let on = format!("held-out, {by}");
            let measured = self.experiment.measure(kind, &first, &on, steps)?;
            rivals.push(measured.rival(&goal_of_first)?);
        }
        rivals.extend(self.constant.cloned());
        let mut evolved = Vec::new();
        let seeds = settings.clean.seeds.iter().filter(|_| by.evolve);
        for &seed in seeds {
            let images = images.in_order_of(&self.experiment.input.parts(seed)?.held_out);
            let goal = reordered(&goal, &self.first.held_out, &images)?;
            let name = format!("evolution, seed {seed}, {by}");
            let on = (&images, &goal);
            let from = &found.constant;
            evolved.push((self.experiment).evolve(seed, from, on, &name, steps)?);
        }
        Ok(Chosen { rivals, evolved })
    }

    /// Every network once on attacked test images; gives the chart of their accuracy.
    fn test(
        &self,
        by: &AttackedBy,
        chosen: &Chosen<N>,
        steps: &mut StepCache<'_>,
        rows: &mut Rows,
    ) -> Result<Chart> {
        let (settings, experiment) = (self.settings, self.experiment);
        let images = by.some(&self.first.test, settings.test_images);
        let images = self.attacked(by, &images)?;
        let mut evolved: Vec<(&str, String, &Evolved<N>)> = Vec::new();
        for (on, all) in [
            ("clean", &self.found.evolved),
            ("attacked", &chosen.evolved),
        ] {
            let name = |one: &Evolved<N>| format!("{} on {on} images", one.name());
            evolved.extend(all.iter().map(|one| (on, name(one), one)));
        }
        let rivals = chosen.rivals.iter();
        let mut networks: BTreeMap<&str, &Snn<N>> =
            rivals.map(|rival| (&*rival.name, &rival.snn)).collect();
        networks.extend(
            evolved
                .iter()
                .map(|(_, name, one)| (&**name, &one.evolution.snn)),
        );

        let mut tested: BTreeMap<&str, Simulation> = BTreeMap::new();
        for (name, snn) in networks {
            let step = format!("{name}, {}", experiment.name(&by.to_string()));
            let run = steps.step(&step, || simulate(snn, &images, settings.clean.timesteps))?;
            let label = format!("{name}, {by}");
            rows.accuracy.extend(AccuracyRow::of(0, &label, &run.curve));
            tested.insert(name, run);
        }
        let target = tested[REFERENCE].target(settings.margin_points)?;
        let ann = experiment.input.ann.accuracy(&images)?.percent();
        for (on, name, one) in &evolved {
            for rival in &chosen.rivals {
                let [before, after] = [&tested[&*rival.name], &tested[&**name]];
                let won = target.improvement_of(&before.hits, &after.hits, one.seed)?;
                rows.latency.push(AttackRow {
                    attack: by.attack.kind().into(),
                    through: by.through().into(),
                    epsilon_255: by.attack.epsilon_255(),
                    ann_accuracy_percent: rounded(ann),
                    reference_accuracy_percent: rounded(target.ann().percent()),
                    margin_points: target.margin(),
                    void: target.percent() < settings.void_below_percent,
                    evolved_on: (*on).into(),
                    seed: one.seed,
                    rival: rival.kind.into(),
                    rival_network: rival.name.clone(),
                    rival_latency_timesteps: won.before,
                    evolved_latency_timesteps: won.after,
                    improvement_percent: won.percent.map(rounded),
                    improvement_low_percent: rounded(won.interval[0]),
                    improvement_high_percent: rounded(won.interval[1]),
                });
            }
        }
        for evolved in &chosen.evolved {
            let (margin, initial) = (settings.margin_points, experiment.initial);
            rows.convergence
                .extend(evolved.convergence(initial, margin));
            rows.thresholds
                .extend(evolved.thresholds(&self.found.start, margin));
        }
        let first = evolved
            .iter()
            .filter(|(_, _, one)| one.seed == settings.clean.seeds[0]);
        let names = chosen.rivals.iter().map(|rival| &*rival.name);
        let names = names.chain(first.map(|(_, name, _)| &**name));
        let curves = names.map(|name| (name, &tested[name].curve));
        accuracy_chart(
            &format!("CIFAR-10, test images, {by}"),
            curves,
            Some(&target),
        )
    }

    fn attacked<P: Part>(
        &self,
        by: &AttackedBy,
        images: &Images<P, Cifar10>,
    ) -> Result<Images<P, Cifar10>> {
        match by.through_timesteps {
            None => attack(self.experiment.input.ann, images, by.attack),
            Some(timesteps) => {
                let spiking = Spiking {
                    snn: &self.reference.snn,
                    timesteps,
                    surrogate: Surrogate::Linear,
                };
                attack(&spiking, images, by.attack)
            }
        }
    }
}

/// What the reference network is called among the others.
const REFERENCE: &str = "reference";

impl std::fmt::Display for AttackedBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.attack)?;
        match self.through_timesteps {
            Some(timesteps) => write!(f, " through {timesteps} timesteps"),
            None => Ok(()),
        }
    }
}

impl AttackedBy {
    /// Whose gradient it climbs.
    fn through(&self) -> &'static str {
        match (self.attack, self.through_timesteps) {
            (Attack::Noise { .. }, _) => "none",
            (_, Some(_)) => "SNN",
            (_, None) => "ANN",
        }
    }

    fn some<P: Part>(&self, images: &Images<P, Cifar10>, count: usize) -> Images<P, Cifar10> {
        images.take(count.min(self.at_most_images.unwrap_or(count)))
    }
}

/// A target on the same images in another order.
fn reordered(
    target: &Target,
    from: &Images<HeldOut, Cifar10>,
    to: &Images<HeldOut, Cifar10>,
) -> Result<Target> {
    let hits = target.ann_hits().iter().enumerate();
    let hits: HashMap<usize, bool> = hits.map(|(i, &hit)| (from.index(i), hit)).collect();
    let hits = (0..to.len()).map(|i| hits.get(&to.index(i)).copied().unwrap_or(false));
    Target::new(hits.collect::<Vec<_>>(), target.margin())
}
