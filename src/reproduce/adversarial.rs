//! The paper's second claim: latency won on CIFAR-10 under attack.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use super::cifar10::{Cifar10Input, Cifar10Settings, Evolved, Experiment, Memory, Opened, Rival};
use super::{Provenance, check_margin};
use crate::attack::{Attack, Spiking, attack};
use crate::convert::Snn;
use crate::data::{Cifar10, HeldOut, Images, Part};
use crate::error::{Error, Result};
use crate::metrics::{Target, improvement_interval, improvement_percent};
use crate::networks::Network;
use crate::plot;
use crate::report::{AccuracyRow, AttackRow, ConvergenceRow, Output, Table, ThresholdRow, rounded};
use crate::simulate::{Simulation, simulate};
use crate::surrogate::Surrogate;

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
    /// clean experiment. The ANN's own accuracy would be no target where the attack goes through it.
    pub margin_points: f64,
    /// A target of less than that is void: networks pass it early, by chance.
    pub void_below_percent: f64,
    /// Attacked held-out images that conversions are chosen on.
    pub baseline_images: usize,
    /// Attacked test images; no more than there are.
    pub test_images: usize,
}

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
                    at_most_images: Some(2000),
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
        self.clean.check()?;
        if self.clean.initial.len() != 1 {
            let found = format!("{:?}", self.clean.initial);
            return Err(Error::parameter("initial", found, "one initial potential"));
        }
        if self.attacks.is_empty() {
            return Err(Error::parameter("attacks", "none", "at least one"));
        }
        for by in &self.attacks {
            by.attack.check()?;
            for (name, number) in [
                ("through_timesteps", by.through_timesteps),
                ("at_most_images", by.at_most_images),
            ] {
                if number == Some(0) {
                    return Err(Error::parameter(name, 0, "1 or more"));
                }
            }
        }
        for (name, images) in [
            ("baseline_images", self.baseline_images),
            ("test_images", self.test_images),
        ] {
            if images == 0 {
                return Err(Error::parameter(name, 0, "1 or more"));
            }
        }
        check_margin("margin_points", self.margin_points, true)
    }
}

/// What an experiment gave.
#[derive(Debug, Clone)]
pub struct AdversarialReport {
    /// One row an attack, evolved network and rival.
    pub latency: Vec<AttackRow>,
    /// The files written.
    pub files: Vec<PathBuf>,
}

impl AdversarialReport {
    /// The result as people read it.
    pub fn table(&self) -> Table {
        AttackRow::table(
            "Latency to the target accuracy on attacked test images",
            &self.latency,
        )
    }
}

/// The paper's experiment under attack, on CIFAR-10: how much earlier networks with evolved
/// thresholds reach a target accuracy on attacked images than the best conversions of the same
/// trained network, whether they were evolved on clean or on attacked images.
///
/// Conversions and evolution see attacked held-out images only; each final network sees the attacked
/// test images once. The clean networks are those of [`cifar10`](super::cifar10()), which left them in
/// `clean_folder`; where it did not, they are made there. Attacks go through the ANN or through the
/// reference network, and all networks get the same images: no attack is made for an evolved one.
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
) -> Result<AdversarialReport> {
    settings.check()?;
    let folder = folder.into();
    let output = Output::new(&folder)?;
    let Opened {
        first,
        conversion,
        memory: mut clean,
    } = Opened::new(input, &settings.clean, clean_folder.as_ref(), stop)?;
    let experiment = Experiment {
        input,
        conversion: &conversion,
        settings: &settings.clean,
        initial: settings.clean.initial[0],
    };
    let found = experiment.search(&first.held_out, &mut clean)?;
    let nearest = settings.clean.nearest_margin(settings.margin_points);
    let reference = &found.rivals[nearest][0];
    // Attacks are steps of their own, so that more of them do not make the others run again.
    let common = AdversarialSettings {
        attacks: Vec::new(),
        ..settings.clone()
    };
    let version = env!("CARGO_PKG_VERSION");
    let checksums = [
        first.held_out.view().checksum(),
        first.test.view().checksum(),
    ];
    let reference_neurons = reference.snn.neurons();
    let key = (version, N::NAME, common, checksums, reference_neurons);
    let mut memory = Memory::new("reproduce adversarial", &folder, &key, stop)?;

    let mut report = Rows::default();
    for (number, by) in settings.attacks.iter().enumerate() {
        let on = by.to_string();
        let most = by.at_most_images.unwrap_or(usize::MAX);
        let held_out = match by.evolve {
            true => first.held_out.clone(),
            false => first.held_out.take(settings.baseline_images.min(most)),
        };
        let held_out = by.attacked(input, &reference.snn, &held_out)?;
        let test = first.test.take(settings.test_images.min(most));
        let test = by.attacked(input, &reference.snn, &test)?;

        let run = |snn: &Snn<N>, name: &str, memory: &mut Memory<'_>| {
            let step = format!("{name}, {}", experiment.name(&on));
            memory.step(&step, || simulate(snn, &test, settings.clean.timesteps))
        };
        let choose = held_out.take(settings.baseline_images);
        let step = format!("held-out, reference, {on}");
        let of_reference = |memory: &mut Memory<'_>| -> Result<Simulation> {
            memory.step(&step, || {
                simulate(&reference.snn, &held_out, settings.clean.timesteps)
            })
        };
        let of_reference = of_reference(&mut memory)?;
        let goal = of_reference.target(settings.margin_points)?;
        let chosen = goal.part(0..choose.len())?;
        let mut networks: Vec<(String, &Snn<N>)> = Vec::new();
        let mut rivals = Vec::new();
        for kind in &found.kinds {
            let measured =
                experiment.measure(kind, &choose, &format!("held-out, {on}"), &mut memory)?;
            rivals.push(measured.rival(&chosen)?);
        }
        rivals.extend(found.rivals[nearest].last().map(|constant| Rival {
            kind: constant.kind,
            name: constant.name.clone(),
            snn: constant.snn.clone(),
        }));
        let mut evolved: Vec<(&str, &Evolved<N>)> = Vec::new();
        evolved.extend(found.evolved.iter().map(|evolved| ("clean", evolved)));
        let mut under_attack = Vec::new();
        if by.evolve {
            for &seed in &settings.clean.seeds {
                let images = held_out.in_order_of(&input.parts(seed)?.held_out);
                let goal = reordered(&goal, &held_out, &images)?;
                let name = format!("evolution, seed {seed}, {on}");
                let start = &found.constant;
                under_attack.push(experiment.evolve(
                    seed,
                    start,
                    (&images, &goal),
                    &name,
                    &mut memory,
                )?);
            }
        }
        evolved.extend(under_attack.iter().map(|evolved| (on.as_str(), evolved)));

        let mut tested = BTreeMap::new();
        networks.extend(rivals.iter().map(|rival| (rival.name.clone(), &rival.snn)));
        networks.push((REFERENCE.into(), &reference.snn));
        let name = |(images, evolved): &(&str, &Evolved<N>)| match *images {
            "clean" => format!("{} on clean images", evolved.name()),
            _ => format!("{} on attacked images", evolved.name()),
        };
        networks.extend(evolved.iter().map(|of| (name(of), &of.1.evolution.snn)));
        for (name, snn) in networks {
            if !tested.contains_key(&name) {
                let simulation = run(snn, &name, &mut memory)?;
                let label = format!("{name}, {on}");
                report
                    .accuracy
                    .extend(AccuracyRow::of(0, &label, &simulation.curve));
                tested.insert(name, simulation);
            }
        }
        let target = tested[REFERENCE].target(settings.margin_points)?;
        let ann = input.ann.accuracy(&test)?.percent();
        for of in &evolved {
            for rival in &rivals {
                let [before, after] = [&tested[&rival.name], &tested[&name(of)]];
                let seed = of.1.seed;
                let [low, high] = improvement_interval(&before.hits, &after.hits, &target, seed)?;
                let [was, is] = [before, after].map(|run| run.curve.latency(&target));
                report.latency.push(AttackRow {
                    attack: by.attack.kind().into(),
                    through: by.through().into(),
                    epsilon_255: by.attack.epsilon_255(),
                    ann_accuracy_percent: rounded(ann),
                    reference_accuracy_percent: rounded(target.ann().percent()),
                    margin_points: target.margin(),
                    void: target.percent() < settings.void_below_percent,
                    evolved_on: of.0.into(),
                    seed,
                    rival: rival.kind.into(),
                    rival_network: rival.name.clone(),
                    rival_latency_timesteps: was,
                    evolved_latency_timesteps: is,
                    improvement_percent: improvement_percent(was, is).map(rounded),
                    improvement_low_percent: rounded(low),
                    improvement_high_percent: rounded(high),
                });
            }
        }
        for Evolved { seed, evolution } in &under_attack {
            let (margin, initial) = (settings.margin_points, experiment.initial);
            let generations = evolution.generations.iter();
            let of = |state| ConvergenceRow::new(*seed, initial, margin, state);
            report.convergence.extend(generations.map(of));
            let layers = ThresholdRow::of(*seed, margin, &found.start, &evolution.snn);
            report.layers.extend(layers);
        }
        let shown = rivals.iter().map(|rival| rival.name.clone());
        let shown = shown.chain(
            evolved
                .iter()
                .filter(|of| of.1.seed == settings.clean.seeds[0])
                .map(name),
        );
        let shown: Vec<String> = shown.collect();
        let curves = shown
            .iter()
            .map(|name| (name.as_str(), &tested[name].curve));
        let title = format!("CIFAR-10, test images, {on}");
        let chart = plot::accuracy(&title, &curves.collect::<Vec<_>>(), Some(&target))?;
        output.chart(&format!("accuracy-{}.svg", number + 1), &chart)?;
    }
    output.csv("latency.csv", &report.latency)?;
    output.csv("accuracy.csv", report.accuracy)?;
    output.csv("convergence.csv", report.convergence)?;
    output.csv("thresholds.csv", report.layers)?;
    output.csv("timing.csv", &memory.timing)?;
    output.json(
        "settings.json",
        &Provenance::new("adversarial", N::NAME, settings),
    )?;
    Ok(AdversarialReport {
        latency: report.latency,
        files: output.complete()?,
    })
}

/// What the reference network is called among those that are tested.
const REFERENCE: &str = "reference";

#[derive(Default)]
struct Rows {
    latency: Vec<AttackRow>,
    accuracy: Vec<AccuracyRow>,
    convergence: Vec<ConvergenceRow>,
    layers: Vec<ThresholdRow>,
}

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

    fn attacked<N: Network<Task = Cifar10>, P: Part>(
        &self,
        input: &Cifar10Input<'_, N>,
        snn: &Snn<N>,
        images: &Images<P, Cifar10>,
    ) -> Result<Images<P, Cifar10>> {
        match self.through_timesteps {
            None => attack(input.ann, images, self.attack),
            Some(timesteps) => {
                let surrogate = Surrogate::Linear;
                let spiking = Spiking {
                    snn,
                    timesteps,
                    surrogate,
                };
                attack(&spiking, images, self.attack)
            }
        }
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
