//! The paper's second claim: lower latency under attack.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use super::rows::{AttackRow, Report};
use super::steps::{NetworkRows, StepCache, changed, check_margin};
use super::thresholds::{
    Baseline, Conversions, Evolved, Experiment, SearchResult, ThresholdsInput, ThresholdsSettings,
    Workspace,
};
use crate::ann::{Ann, Model, Network};
use crate::base::{
    Chart, Output, Result, at_least, each_once, require, rounded, show, some_timesteps,
};
use crate::data::{HeldOut, Images, Part, Split, Task};
use crate::metrics::{AccuracyRow, Target, accuracy_chart};
use crate::simulate::Snn;
use crate::through_time::{Attack, Spiking, Surrogate, attack};

/// Settings of [`adversarial`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdversarialSettings {
    /// Settings of the experiment on clean images, with one initial potential. Its networks are
    /// attacked, and its settings also hold under attack but for the evolution's timesteps.
    pub clean: ThresholdsSettings,
    /// Number of timesteps per simulation in an evolution under attack, where networks reach their
    /// targets earlier.
    pub attacked_timesteps: usize,
    /// Attacks on the images.
    pub attacks: Vec<AttackedBy>,
    /// Margin of the target, in percentage points, below the reference network's accuracy on the
    /// same attacked images after its last timestep. The reference is the best percentile
    /// conversion of the clean experiment; the ANN's own accuracy is no useful target where the
    /// attack uses the ANN's gradient.
    pub margin_points: f64,
    /// Accuracy, in multiples of that by chance, below which a target is void, because networks pass
    /// it early by chance.
    pub void_below_chances: f64,
    /// Number of attacked held-out images to choose conversions on.
    pub baseline_images: usize,
    /// Number of attacked test images; all of them if there are fewer.
    pub test_images: usize,
}

show!(AdversarialSettings as fields);

/// An attack and its use in the experiment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AttackedBy {
    /// The attack.
    pub attack: Attack,
    /// Number of timesteps through which the reference network's gradient is computed, with
    /// [`Surrogate::Linear`]; `None` for the ANN's gradient.
    pub through_timesteps: Option<usize>,
    /// Whether networks are also evolved under this attack.
    pub evolve: bool,
    /// Maximum number of images, for an attack that takes long.
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
            clean: ThresholdsSettings { initial: vec![0.0], ..ThresholdsSettings::default() },
            attacked_timesteps: 48,
            attacks: vec![
                by(fgsm(2.0), true),
                by(Attack::pgd(1.0), true),
                AttackedBy {
                    through_timesteps: Some(16),
                    at_most_images: Some(1000),
                    ..by(fgsm(1.0), false)
                },
            ],
            margin_points: 2.0,
            void_below_chances: 3.0,
            baseline_images: 1000,
            test_images: 3000,
        }
    }
}

impl AdversarialSettings {
    /// Whether every setting is in its range, which the experiment checks first.
    ///
    /// # Errors
    /// The first setting that is not.
    pub fn check(&self) -> Result<()> {
        self.clean.check_of_one_initial()?;
        let (attacked, most) = (self.attacked_timesteps, self.clean.timesteps);
        some_timesteps("attacked_timesteps", attacked)?;
        let expected = format!("{most} or fewer, those of all other simulations");
        require(attacked <= most, "attacked_timesteps", attacked, expected)?;
        each_once("attacks", &self.attacks)?;
        for by in &self.attacks {
            by.attack.check()?;
            let through = by.through_timesteps.unwrap_or(1);
            let images = by.at_most_images.unwrap_or(1);
            at_least(1, &[("through_timesteps", through), ("at_most_images", images)])?;
        }
        at_least(1, &[("baseline_images", self.baseline_images)])?;
        at_least(1, &[("test_images", self.test_images)])?;
        check_margin("margin_points", self.margin_points, true)
    }
}

/// Runs the paper's experiment under attack: how much earlier networks with evolved
/// thresholds reach a target accuracy on attacked images than the best conversions of the same
/// trained network, whether they were evolved on clean or on attacked images.
///
/// Under each attack, conversions are chosen and networks evolved as on clean images, but on
/// attacked held-out images; each final network sees the attacked test images once. The clean
/// networks come from the steps of [`thresholds`](super::thresholds()) in `clean_folder`; steps
/// that are missing are computed there. Attacks use the gradient of the ANN or of the reference
/// network, and all networks get the same images: no attack is made for an evolved network. Files,
/// resuming and stopping are those of `thresholds`, with `latency.csv` for the result.
///
/// # Errors
/// Returns an error if a setting is out of range, the list does not fit the data or a folder cannot
/// be written to; [`Error::Stopped`](crate::Error::Stopped) after `stop`.
pub fn adversarial<N: Network>(
    input: &ThresholdsInput<'_, Ann<N>>,
    settings: &AdversarialSettings,
    clean_folder: impl AsRef<Path>,
    folder: impl Into<PathBuf>,
    stop: &AtomicBool,
) -> Result<Report<AttackRow>> {
    settings.check()?;
    let folder = folder.into();
    let output = Output::new(&folder)?;
    let workspace = Workspace::new(input, &settings.clean)?;
    let mut clean = StepCache::new("reproduce thresholds", clean_folder.as_ref(), stop);
    let initial = settings.clean.initial[0];
    let found = workspace.experiment(initial).search(&mut clean)?;
    let nearest = settings.clean.nearest_margin(settings.margin_points);
    let reference = &found.baselines[nearest][0].snn;
    let mut steps = StepCache::new("reproduce adversarial", &folder, stop);
    let attacked = changed(&settings.clean, |attacked| {
        attacked.evolution.timesteps = settings.attacked_timesteps;
    });
    let experiment = workspace.experiment(initial).with(&attacked);
    let parts = &workspace.parts;
    let study = AttackStudy { settings, experiment: &experiment, parts, found: &found, reference };
    let (mut latency, mut rows) = (Vec::new(), NetworkRows::default());
    for (number, by) in settings.attacks.iter().enumerate() {
        let Chosen { conversions, baselines, evolved } = study.choose(by, &mut steps)?;
        for evolved in &evolved {
            let (seed, margins) = (evolved.seed, (initial, settings.margin_points));
            rows.add_evolution(seed, margins, &conversions.start, &evolved.evolution);
        }
        let networks = (&baselines[..], &evolved[..]);
        let results = (&mut latency, &mut rows.accuracy);
        let chart = study.test(by, networks, &mut steps, results)?;
        chart.save(output.path(&format!("accuracy-{}.svg", number + 1)))?;
    }
    output.csv("latency.csv", &latency)?;
    output.csv("timing.csv", &steps.timing)?;
    rows.write(&output)?;
    workspace.complete(output, latency, "adversarial", settings)
}

/// Data and networks that all attacks share.
struct AttackStudy<'a, N: Network> {
    settings: &'a AdversarialSettings,
    experiment: &'a Experiment<'a, Ann<N>>,
    parts: &'a Split<N::Task>,
    found: &'a SearchResult<N>,
    reference: &'a Snn<N>,
}

/// Networks chosen on one set of attacked images.
struct Chosen<N: Network> {
    conversions: Conversions<N>,
    /// The reference network and the best conversion of each kind.
    baselines: Vec<Baseline<N>>,
    evolved: Vec<Evolved<N>>,
}

impl<N: Network> AttackStudy<'_, N> {
    /// Chooses baselines and evolves networks on attacked held-out images.
    fn choose(&self, by: &AttackedBy, steps: &mut StepCache<'_>) -> Result<Chosen<N>> {
        let settings = self.settings;
        let images = match by.evolve {
            true => self.parts.held_out.clone(),
            false => by.some(&self.parts.held_out, settings.baseline_images),
        };
        let images = self.attacked(by, &images)?;
        let step = format!("held-out, {REFERENCE}, {by}");
        let reference = steps.run(&step, self.reference, &images, settings.clean.timesteps)?;
        let target = reference.target(settings.margin_points)?;
        let first = images.take(settings.baseline_images);
        let first_target = target.part(0..first.len())?;
        let on = format!("held-out, {by}");
        let conversions =
            self.experiment.conversions((&on, &first), (&first_target, &[]), steps)?;
        let reference =
            Baseline { kind: REFERENCE, name: REFERENCE.into(), snn: self.reference.clone() };
        let mut baselines = conversions.baselines(&first_target)?;
        baselines.insert(0, reference);
        let mut evolved = Vec::new();
        let seeds = settings.clean.seeds.iter().filter(|_| by.evolve);
        for &seed in seeds {
            let images = images.in_order_of(&self.experiment.input.parts(seed)?.held_out);
            let target = reordered(&target, &self.parts.held_out, &images)?;
            let name = format!("evolution, seed {seed}, {by}");
            let (start, on) = (&conversions.constant, (&images, &target));
            evolved.push((self.experiment).evolve(seed, start, on, &name, steps)?);
        }
        Ok(Chosen { conversions, baselines, evolved })
    }

    /// Simulates every network once on attacked test images, adds the rows and gives the chart of
    /// the networks' accuracy.
    fn test(
        &self,
        by: &AttackedBy,
        (baselines, evolved): (&[Baseline<N>], &[Evolved<N>]),
        steps: &mut StepCache<'_>,
        (latency, accuracy): (&mut Vec<AttackRow>, &mut Vec<AccuracyRow>),
    ) -> Result<Chart> {
        let (settings, experiment) = (self.settings, self.experiment);
        let images = by.some(&self.parts.test, settings.test_images);
        let images = self.attacked(by, &images)?;
        let clean = self.found.evolved.iter().map(|one| ("clean", one));
        let evolved = clean.chain(evolved.iter().map(|one| ("attacked", one)));
        let evolved = evolved.map(|(on, one)| (on, format!("{} on {on} images", one.name()), one));
        let evolved: Vec<_> = evolved.collect();
        let all = baselines.iter().map(|one| (one.name.clone(), &one.snn));
        let all =
            all.chain((evolved.iter()).map(|(_, name, one)| (name.clone(), &one.evolution.snn)));
        let names = |name: &str| {
            let step = format!("{name}, {}", experiment.name(&by.to_string()));
            [step, format!("{name}, {by}")]
        };
        let tested = experiment.test(all.collect(), &images, names, steps, accuracy)?;
        let target = tested[REFERENCE].target(settings.margin_points)?;
        let ann = experiment.input.ann.accuracy(&images)?.percent();
        let chance = 100.0 / N::Task::CLASSES as f64;
        for (on, name, one) in &evolved {
            for baseline in baselines {
                let [before, after] = [&tested[&baseline.name], &tested[name]];
                let won = target.improvement_of(&before.hits, &after.hits, one.seed)?.rounded();
                latency.push(AttackRow {
                    attack: by.attack.kind().into(),
                    through: by.through().into(),
                    epsilon_255: by.attack.epsilon_255(),
                    ann_accuracy_percent: rounded(ann),
                    reference_accuracy_percent: rounded(target.ann().percent()),
                    margin_points: target.margin(),
                    void: target.percent() < settings.void_below_chances * chance,
                    evolved_on: (*on).into(),
                    seed: one.seed,
                    rival: baseline.kind.into(),
                    rival_network: baseline.name.clone(),
                    rival_latency_timesteps: won.before,
                    evolved_latency_timesteps: won.after,
                    improvement_percent: won.percent,
                    improvement_low_percent: won.interval[0],
                    improvement_high_percent: won.interval[1],
                });
            }
        }
        let seed = settings.clean.seeds[0];
        let first = evolved.iter().filter(|(_, _, one)| one.seed == seed);
        let names = baselines.iter().map(|baseline| &baseline.name);
        let names = names.chain(first.map(|(_, name, _)| name));
        let curves = names.map(|name| (name, &tested[name].curve));
        let title = format!("{}, test images, {by}", N::NAME);
        accuracy_chart(&title, curves, Some(&target))
    }

    /// Attacks images through the ANN or through the reference network.
    fn attacked<P: Part>(
        &self,
        by: &AttackedBy,
        images: &Images<P, N::Task>,
    ) -> Result<Images<P, N::Task>> {
        match by.through_timesteps {
            None => attack(self.experiment.input.ann, images, by.attack),
            Some(timesteps) => {
                let spiking =
                    Spiking { snn: self.reference, timesteps, surrogate: Surrogate::Linear };
                attack(&spiking, images, by.attack)
            }
        }
    }
}

/// Kind and name of the reference network.
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
    /// Kind of network whose gradient the attack uses.
    fn through(&self) -> &'static str {
        match (self.attack, self.through_timesteps) {
            (Attack::Noise { .. }, _) => "none",
            (_, Some(_)) => "SNN",
            (_, None) => "ANN",
        }
    }

    /// First `count` images, or fewer where the attack has a maximum.
    fn some<P: Part, K: Task>(&self, images: &Images<P, K>, count: usize) -> Images<P, K> {
        images.take(count.min(self.at_most_images.unwrap_or(count)))
    }
}

/// Target for the same images in another order.
fn reordered<K: Task>(
    target: &Target,
    from: &Images<HeldOut, K>,
    to: &Images<HeldOut, K>,
) -> Result<Target> {
    let hits = target.ann_hits().iter().enumerate();
    let hits: HashMap<usize, bool> = hits.map(|(i, &hit)| (from.index(i), hit)).collect();
    let hits = (0..to.len()).map(|i| hits.get(&to.index(i)).copied().unwrap_or(false));
    Target::new(hits.collect::<Vec<_>>(), target.margin())
}
