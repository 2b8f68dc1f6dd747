//! The paper's experiments on the command line.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, Subcommand};
use evospike::Error;
use evospike::ann::TaskOf;
use evospike::ann::networks::{Vgg15HalfBn, Vgg15HalfBnCifar100, Vgg15HalfBnTinyImageNet};
use evospike::data::{Cifar10, Cifar100, Task, TinyImageNet, TrainTest};
use evospike::prelude::*;
use evospike::ranks;
use evospike::reproduce::{
    AdversarialSettings, ComparisonSettings, DigitsSettings, ExplainSettings, FashionSettings,
    NeuronKind, NeuronsSettings, Report, Row, ThresholdsInput, ThresholdsSettings, adversarial,
    comparison, digits, explain, fashion, neurons, thresholds,
};
use evospike::through_time::attack::Differentiable;

#[cfg(feature = "onnx")]
use super::import::{ImportedWork, OnnxArguments};
use super::source::{
    Cifar, DataArguments, Format, ImageArguments, Net, Work, beside, load_trained, load_weights,
    wrong,
};

#[derive(Subcommand)]
pub(crate) enum Reproduce {
    /// Both headlines on CIFAR-10: lower latency by evolved thresholds, and neurons for few timesteps
    ///
    /// Reads the published images and weights that `train` wrote, then does what `reproduce
    /// thresholds --initial 0` and `reproduce neurons` do, and writes their files. Thresholds take
    /// about 30 minutes for each seed on two cores, neurons an hour and a half.
    Cifar10(HeadlinesArguments),
    /// The same on CIFAR-100
    Cifar100(HeadlinesArguments),
    /// The same on Tiny-ImageNet-200
    TinyImagenet(HeadlinesArguments),
    /// Lower latency by evolved thresholds, compared with the best conversions of the same trained
    /// network
    ///
    /// Writes comparison.csv, accuracy.csv, convergence.csv, thresholds.csv, settings.json,
    /// timing.csv and charts.
    Thresholds(ThresholdsArguments),
    /// The ANN's accuracy within a few timesteps, by signed, burst and graded spikes, converted and
    /// evolved
    ///
    /// Writes neurons.csv, neurons-latency.csv, neurons-changes.csv, neurons-accuracy.csv, of many
    /// classes neurons-top-5.csv, neurons-convergence.csv, neurons-settings.json, neurons-timing.csv
    /// and a chart.
    Neurons(NeuronsArguments),
    /// Lower latency under attack, by thresholds evolved on clean and on attacked images
    ///
    /// Uses the networks that `reproduce thresholds` made in its folder with the same options; those
    /// that are missing are made there. Under attack, the target is 2 points below the accuracy that
    /// the percentile conversion has after the last timestep. Writes latency.csv, accuracy.csv,
    /// convergence.csv, thresholds.csv, settings.json, timing.csv and charts.
    Adversarial(AdversarialArguments),
    /// Changes that evolution makes: activity, conversion error, sensitivity
    ///
    /// Uses the networks that `reproduce thresholds` made in its folder with the same options; those
    /// that are missing are made there. Writes one CSV file per measurement.
    Explain(ExplainArguments),
    /// Comparison of the paper with related methods on the embedded digits
    ///
    /// Writes comparison.csv, accuracy.csv, settings.json and a chart.
    Comparison(ComparisonArguments),
    /// Lower latency on the embedded digits by evolved thresholds
    ///
    /// Writes latency.csv, accuracy.csv, convergence.csv, thresholds.csv, spikes.csv, settings.json,
    /// timing.csv and charts.
    Digits(DigitsArguments),
}

impl Reproduce {
    pub(crate) fn run(self) -> evospike::Result<()> {
        match self {
            Self::Cifar10(arguments) => arguments.run("cifar10", Cifar10::CLASSES),
            Self::Cifar100(arguments) => arguments.run("cifar100", Cifar100::CLASSES),
            Self::TinyImagenet(arguments) => arguments.run("tiny-imagenet", TinyImageNet::CLASSES),
            Self::Thresholds(arguments) => arguments.run(),
            Self::Neurons(arguments) => arguments.run(),
            Self::Adversarial(arguments) => arguments.run(),
            Self::Explain(arguments) => arguments.run(),
            Self::Comparison(arguments) => run_comparison(arguments),
            Self::Digits(arguments) => run_digits(arguments),
        }
    }
}

/// A trained network and its data set.
#[derive(Args)]
struct TrainedFiles {
    #[command(flatten)]
    data: DataArguments,
    /// Weights of the half-width VGG15 for CIFAR-10, CIFAR-100 or Tiny-ImageNet (safetensors), as
    /// `train` writes them or with PyTorch's names
    #[cfg_attr(
        feature = "onnx",
        doc = "(for `reproduce thresholds` also an ONNX file of a network for other images)"
    )]
    #[arg(long)]
    model: PathBuf,
    /// File that lists the training images that the network was not trained on: one index into the
    /// data set per line
    #[arg(long)]
    held_out_list: PathBuf,
}

/// Settings of the evolution of thresholds and of the simulations around it.
#[derive(Args)]
struct ThresholdsOptions {
    /// Seeds of the optimiser and the order of its images, separated by commas, one evolution each
    #[arg(long, value_delimiter = ',', default_values_t = ThresholdsSettings::default().seeds)]
    seeds: Vec<u64>,
    /// Generations after the initial population
    #[arg(long, default_value_t = ThresholdsSettings::default().evolution.generations)]
    generations: usize,
    /// Number of held-out images per generation: the next batch, starting over after the last
    #[arg(long, default_value_t = usual_batch())]
    images: usize,
    /// Number of timesteps per simulation in the evolution
    #[arg(long, default_value_t = ThresholdsSettings::default().evolution.timesteps)]
    timesteps: usize,
    /// Number of timesteps of all other simulations: of conversions to choose from, and on the test
    /// images [default: 128, or --timesteps if that is more]
    #[arg(long)]
    test_timesteps: Option<usize>,
    /// Margin of the evolution's target below the ANN's accuracy, in percentage points
    #[arg(long, default_value_t = ThresholdsSettings::default().margin_points)]
    margin: f64,
}

/// Networks that `reproduce thresholds` made.
#[derive(Args)]
struct CleanNetworks {
    #[command(flatten)]
    files: TrainedFiles,
    /// Folder of `reproduce thresholds`
    #[arg(long, default_value = "results/cifar10")]
    thresholds: PathBuf,
    /// Initial membrane potential as a fraction of the threshold
    #[arg(long, default_value_t = 0.0)]
    initial: f32,
    #[command(flatten)]
    options: ThresholdsOptions,
}

#[derive(Args)]
pub(crate) struct HeadlinesArguments {
    #[command(flatten)]
    data: DataArguments,
    /// Weights of the half-width VGG15 for this data set, with the list of held-out images beside
    /// them, as `train` writes both [default: vgg15-half-bn.safetensors in results/NAME, NAME being
    /// that of this command]
    #[arg(long)]
    model: Option<PathBuf>,
    /// Seeds of the optimiser, separated by commas: one evolution of thresholds and of each kind of
    /// neurons for each
    #[arg(long, value_delimiter = ',', default_values_t = NeuronsSettings::default().seeds)]
    seeds: Vec<u64>,
    /// Kinds of neurons, separated by commas, as for `reproduce neurons` [default: all]
    #[arg(long, value_delimiter = ',', value_parser = NeuronKind::named)]
    kinds: Option<Vec<NeuronKind>>,
    /// Generations of the thresholds' evolution after the initial population
    #[arg(long, default_value_t = ThresholdsSettings::default().evolution.generations)]
    generations: usize,
    /// Number of test images
    #[arg(long, default_value_t = NeuronsSettings::default().test_images)]
    test_images: usize,
    /// Folder for the CSV files and charts [default: results/NAME]
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct AdversarialArguments {
    #[command(flatten)]
    clean: CleanNetworks,
    /// Number of timesteps per simulation in an evolution under attack [default: 48, or --timesteps
    /// if that is less]
    #[arg(long)]
    attacked_timesteps: Option<usize>,
    /// Number of attacked test images
    #[arg(long, default_value_t = AdversarialSettings::default().test_images)]
    test_images: usize,
    /// Folder for the CSV files and charts
    #[arg(long, default_value = "results/adversarial")]
    out: PathBuf,
}

#[derive(Args)]
pub(crate) struct ExplainArguments {
    #[command(flatten)]
    clean: CleanNetworks,
    /// Folder for the CSV files
    #[arg(long, default_value = "results/explain")]
    out: PathBuf,
}

#[derive(Args)]
pub(crate) struct ComparisonArguments {
    /// Seeds, separated by commas, one whole comparison each
    #[arg(long, value_delimiter = ',', default_values_t = ComparisonSettings::default().seeds)]
    seeds: Vec<u64>,
    /// Target accuracy of the latency, in percent
    #[arg(long, default_value_t = ComparisonSettings::default().target_percent)]
    target: f64,
    /// Number of timesteps of converted networks
    #[arg(long, default_value_t = ComparisonSettings::default().timesteps)]
    timesteps: usize,
    /// Number of timesteps of networks that are trained through time
    #[arg(long, default_value_t = ComparisonSettings::default().hybrid.timesteps)]
    few: usize,
    /// Folder for the CSV files and the chart
    #[arg(long, default_value = "results/comparison")]
    out: PathBuf,
}

#[derive(Args)]
pub(crate) struct ThresholdsArguments {
    #[command(flatten)]
    files: TrainedFiles,
    #[cfg(feature = "onnx")]
    #[command(flatten)]
    onnx: OnnxArguments,
    /// Initial membrane potentials as fractions of the threshold, separated by commas, one comparison
    /// each
    #[arg(long, value_delimiter = ',', default_values_t = ThresholdsSettings::default().initial)]
    initial: Vec<f32>,
    #[command(flatten)]
    options: ThresholdsOptions,
    /// Number of test images
    #[arg(long, default_value_t = ThresholdsSettings::default().test_images)]
    test_images: usize,
    /// Folder for the CSV files and charts
    #[arg(long, default_value = "results/cifar10")]
    out: PathBuf,
}

#[derive(Args)]
pub(crate) struct NeuronsArguments {
    /// Network of the file of weights; those for CIFAR take the number of classes from the data
    // Its images are normalised as for its training.
    #[arg(long)]
    #[cfg_attr(feature = "onnx", arg(conflicts_with_all = ["shape", "mean", "std", "bgr"]))]
    net: Option<Net>,
    #[command(flatten)]
    images: ImageArguments,
    #[cfg(feature = "onnx")]
    #[command(flatten)]
    onnx: OnnxArguments,
    /// File of weights (safetensors), as `train` writes it or with PyTorch's names; without --net,
    /// ONNX file
    #[arg(long)]
    model: PathBuf,
    /// Seeds of the optimiser, separated by commas: one evolution of each kind of neurons for each
    #[arg(long, value_delimiter = ',', default_values_t = NeuronsSettings::default().seeds)]
    seeds: Vec<u64>,
    /// Kinds of neurons, separated by commas: plain, signed, burst, two_levels, four_levels,
    /// eight_levels [default: all]
    #[arg(long, value_delimiter = ',', value_parser = NeuronKind::named)]
    kinds: Option<Vec<NeuronKind>>,
    /// Timestep that the networks are to be good at, from 1: conversions are chosen and calibrated
    /// for it, and it is the first that counts in the evolution [default: 1 to 12, by the kind]
    #[arg(long)]
    from: Option<usize>,
    /// Number of timesteps per simulation of the test images
    #[arg(long, default_value_t = NeuronsSettings::default().timesteps)]
    timesteps: usize,
    /// Attack through the ANN on the held-out and the test images, with its size in 1/255: fgsm:2,
    /// pgd:1, noise:8 [default: clean images]
    #[arg(long, value_parser = Attack::named)]
    attack: Option<Attack>,
    /// Number of evolutions one after the other; 0 for conversions alone
    #[arg(long, default_value_t = NeuronsSettings::default().evolutions.len())]
    evolutions: usize,
    /// Number of test images
    #[arg(long, default_value_t = NeuronsSettings::default().test_images)]
    test_images: usize,
    /// Folder for the CSV files and charts
    #[arg(long, default_value = "results/cifar10")]
    out: PathBuf,
}

#[derive(Args)]
pub(crate) struct FashionArguments {
    /// Seeds, separated by commas, one whole experiment each
    #[arg(long, value_delimiter = ',', default_values_t = FashionSettings::default().seeds)]
    seeds: Vec<u64>,
    /// Passes over the training images
    #[arg(long, default_value_t = FashionSettings::default().training.epochs)]
    epochs: usize,
    /// Number of test images
    #[arg(long, default_value_t = FashionSettings::default().neurons.test_images)]
    test_images: usize,
    /// Folder for the CSV files and the chart
    #[arg(long, default_value = "runs/fashion")]
    out: PathBuf,
}

#[derive(Args)]
pub(crate) struct DigitsArguments {
    /// Seeds, separated by commas, one whole experiment each
    #[arg(long, value_delimiter = ',', default_values_t = DigitsSettings::default().seeds)]
    seeds: Vec<u64>,
    /// Timesteps of each simulation
    #[arg(long, default_value_t = DigitsSettings::default().evolution.timesteps)]
    timesteps: usize,
    /// Population size of the evolution per layer of neurons
    #[arg(long, default_value_t = usual_population())]
    population: usize,
    /// Generations after the initial population
    #[arg(long, default_value_t = DigitsSettings::default().evolution.generations)]
    generations: usize,
    /// Margins of the targets below the ANN's accuracy, in percentage points, separated by commas, one
    /// evolution each
    #[arg(long, value_delimiter = ',', default_values_t = DigitsSettings::default().margins_percent)]
    margin: Vec<f64>,
    /// Folder for the CSV files and charts
    #[arg(long, default_value = "results/digits")]
    out: PathBuf,
}

fn usual_batch() -> usize {
    let evolution = ThresholdsSettings::default().evolution;
    evolution.batch.unwrap_or(usize::MAX)
}

fn usual_population() -> usize {
    match DigitsSettings::default().evolution.search {
        Search::De(de) => de.population,
        _ => DeSettings::default().population,
    }
}

pub(crate) fn run_fashion(arguments: FashionArguments) -> evospike::Result<()> {
    let mut settings = FashionSettings { seeds: arguments.seeds, ..FashionSettings::default() };
    settings.training.epochs = arguments.epochs;
    settings.neurons.test_images = arguments.test_images;
    fashion(&settings, arguments.out, stopped_by_ctrl_c()).map(print_report)
}

fn run_digits(arguments: DigitsArguments) -> evospike::Result<()> {
    let mut settings = DigitsSettings {
        seeds: arguments.seeds,
        margins_percent: arguments.margin,
        ..DigitsSettings::default()
    };
    settings.evolution.timesteps = arguments.timesteps;
    settings.evolution.generations = arguments.generations;
    if let Search::De(de) = &mut settings.evolution.search {
        de.population = arguments.population;
    }
    digits(&settings, arguments.out).map(print_report)
}

/// Experiment on a trained network and its data set.
trait Experiment {
    fn on<N: Network>(&self, input: &ThresholdsInput<'_, Ann<N>>) -> evospike::Result<()>;
}

impl TrainedFiles {
    /// Runs an experiment on the half-width VGG15 for the classes that the data has.
    fn open(&self, experiment: &impl Experiment) -> evospike::Result<()> {
        // Found before all images are read.
        let found = std::fs::metadata(&self.model);
        found.map_err(|source| Error::Io { path: self.model.clone(), source })?;
        if self.data.format()? == Format::TinyImagenet {
            let data = self.data.tiny_imagenet()?;
            return self.on::<Vgg15HalfBnTinyImageNet>(&data, experiment);
        }
        match self.data.cifar()? {
            Cifar::Ten(data) => self.on::<Vgg15HalfBn>(&data, experiment),
            Cifar::Hundred(data) => self.on::<Vgg15HalfBnCifar100>(&data, experiment),
        }
    }

    fn on<N: Network>(
        &self,
        data: &TrainTest<N::Task>,
        experiment: &impl Experiment,
    ) -> evospike::Result<()> {
        let ann = &load_weights::<N>(&self.model)?;
        experiment.on(&ThresholdsInput { ann, data, held_out_list: &self.held_out_list })
    }
}

/// Both headlines of the data set of so many classes.
struct Headlines {
    classes: usize,
    thresholds: ThresholdsSettings,
    neurons: NeuronsSettings,
    folder: PathBuf,
}

impl HeadlinesArguments {
    /// Runs both experiments on the data set of this name.
    fn run(self, name: &str, classes: usize) -> evospike::Result<()> {
        let folder = Path::new("results").join(name);
        let model = self.model.unwrap_or_else(|| folder.join("vgg15-half-bn.safetensors"));
        let mut experiment = Headlines {
            classes,
            thresholds: ThresholdsSettings {
                seeds: self.seeds.clone(),
                initial: vec![0.0],
                test_images: self.test_images,
                ..ThresholdsSettings::default()
            },
            neurons: NeuronsSettings {
                seeds: self.seeds,
                test_images: self.test_images,
                ..NeuronsSettings::default()
            },
            folder: self.out.unwrap_or(folder),
        };
        experiment.thresholds.evolution.generations = self.generations;
        if let Some(kinds) = self.kinds {
            experiment.neurons.kinds = kinds;
        }
        // Before the images are read.
        experiment.thresholds.check()?;
        experiment.neurons.check()?;
        let held_out_list = beside(&model, ".held-out.txt");
        TrainedFiles { data: self.data, model, held_out_list }.open(&experiment)
    }
}

impl Experiment for Headlines {
    fn on<N: Network>(&self, input: &ThresholdsInput<'_, Ann<N>>) -> evospike::Result<()> {
        // Another data set would be measured under this one's name.
        let (found, expected) = (N::Task::CLASSES, self.classes);
        if found != expected {
            return Err(wrong("data", format!("{found} classes"), format!("{expected}")));
        }
        let (mut first, mut second) = (self.thresholds.clone(), self.neurons.clone());
        // Not kept while thresholds are evolved, which divide the images by themselves.
        let parts = || input.data.hold_out_listed(input.held_out_list, 0);
        let held_out = parts()?.held_out.len();
        for evolution in second.evolutions.iter_mut().chain([&mut first.evolution]) {
            at_most(held_out, evolution);
        }
        let stop = stopped_by_ctrl_c();
        thresholds(input, &first, &self.folder, stop).map(print_report)?;
        neurons(input.ann, &parts()?, &second, &self.folder, stop).map(print_report)
    }
}

/// Of a small data set, all of its held-out images.
fn at_most(held_out: usize, evolution: &mut EvolveSettings) {
    evolution.batch = evolution.batch.map(|batch| batch.min(held_out));
}

impl ThresholdsOptions {
    fn settings(&self, initial: Vec<f32>) -> evospike::Result<ThresholdsSettings> {
        let least = self.timesteps;
        if let Some(found) = self.test_timesteps.filter(|&timesteps| timesteps < least) {
            return Err(wrong("test-timesteps", found, format!("{least} or more, as --timesteps")));
        }
        let mut settings = ThresholdsSettings {
            seeds: self.seeds.clone(),
            initial,
            margin_points: self.margin,
            ..ThresholdsSettings::default()
        };
        settings.evolution.generations = self.generations;
        settings.evolution.batch = Some(self.images);
        settings.evolution.timesteps = self.timesteps;
        let usual = settings.timesteps.max(self.timesteps);
        settings.timesteps = self.test_timesteps.unwrap_or(usual);
        Ok(settings)
    }
}

impl ThresholdsArguments {
    fn run(&self) -> evospike::Result<()> {
        // Before the images are read.
        self.settings()?.check()?;
        #[cfg(feature = "onnx")]
        {
            let model = &self.files.model;
            if model.extension().is_some_and(|kind| kind == "onnx") {
                return self.onnx.open(model, &self.files.data, self);
            }
            self.onnx.refuse()?;
        }
        self.files.open(self)
    }

    fn settings(&self) -> evospike::Result<ThresholdsSettings> {
        let settings = self.options.settings(self.initial.clone())?;
        Ok(ThresholdsSettings { test_images: self.test_images, ..settings })
    }

    fn compare<M: Model>(&self, input: &ThresholdsInput<'_, M>) -> evospike::Result<()> {
        let settings = self.settings()?;
        thresholds(input, &settings, &self.out, stopped_by_ctrl_c()).map(print_report)
    }
}

impl Experiment for ThresholdsArguments {
    fn on<N: Network>(&self, input: &ThresholdsInput<'_, Ann<N>>) -> evospike::Result<()> {
        self.compare(input)
    }
}

#[cfg(feature = "onnx")]
impl ImportedWork for ThresholdsArguments {
    fn on_digits(&self, _: &Imported<Digits>) -> evospike::Result<()> {
        Err(wrong("model", "a network for the embedded digits", "one for a data set in files"))
    }

    fn on_set<K: Task>(&self, network: &Imported<K>, data: &TrainTest<K>) -> evospike::Result<()> {
        let held_out_list = &self.files.held_out_list;
        self.compare(&ThresholdsInput { ann: network, data, held_out_list })
    }
}

impl NeuronsArguments {
    fn run(&self) -> evospike::Result<()> {
        // Before the images are read.
        self.images.check()?;
        self.settings()?.check()?;
        match self.net {
            Some(net) => self.images.open(net, self),
            None if self.model.extension().is_some_and(|kind| kind == "safetensors") => {
                Err(wrong("net", "none", "the network of the file of weights"))
            }
            #[cfg(feature = "onnx")]
            None => self.onnx.open(&self.model, &self.images.files, self),
            #[cfg(not(feature = "onnx"))]
            None => Err(wrong("net", "none", "a network")),
        }
    }

    fn settings(&self) -> evospike::Result<NeuronsSettings> {
        let mut settings = NeuronsSettings {
            seeds: self.seeds.clone(),
            timesteps: self.timesteps,
            attack: self.attack,
            test_images: self.test_images,
            ..NeuronsSettings::default()
        };
        if let Some(kinds) = &self.kinds {
            settings.kinds.clone_from(kinds);
        }
        if let Some(from) = self.from {
            for kind in &mut settings.kinds {
                kind.timesteps = from.saturating_add(kind.timesteps - kind.from);
                kind.from = from;
            }
        }
        let most = settings.evolutions.len();
        if self.evolutions > most {
            return Err(wrong("evolutions", self.evolutions, format!("at most {most}")));
        }
        settings.evolutions.truncate(self.evolutions);
        Ok(settings)
    }

    fn compare<M: Model + Differentiable<TaskOf<M>>>(
        &self,
        network: &M,
        parts: &Split<TaskOf<M>>,
    ) -> evospike::Result<()> {
        let mut settings = self.settings()?;
        for evolution in &mut settings.evolutions {
            at_most(parts.held_out.len(), evolution);
        }
        neurons(network, parts, &settings, &self.out, stopped_by_ctrl_c()).map(print_report)
    }
}

impl Work for NeuronsArguments {
    fn on<N: Network>(&self, parts: &Split<N::Task>) -> evospike::Result<()> {
        self.compare(&load_trained::<N>(&self.model, parts)?, parts)
    }
}

#[cfg(feature = "onnx")]
impl ImportedWork for NeuronsArguments {
    fn on_digits(&self, network: &Imported<Digits>) -> evospike::Result<()> {
        self.compare(network, &self.images.digits()?)
    }

    fn on_set<K: Task>(&self, network: &Imported<K>, data: &TrainTest<K>) -> evospike::Result<()> {
        self.compare(network, &self.images.split(data)?)
    }
}

impl CleanNetworks {
    fn settings(&self) -> evospike::Result<ThresholdsSettings> {
        self.options.settings(vec![self.initial])
    }
}

impl AdversarialArguments {
    fn run(&self) -> evospike::Result<()> {
        // Before the images are read.
        self.settings()?.check()?;
        self.clean.files.open(self)
    }

    fn settings(&self) -> evospike::Result<AdversarialSettings> {
        let (clean, usual) = (self.clean.settings()?, AdversarialSettings::default());
        let attacked_timesteps = self.attacked_timesteps;
        let attacked_timesteps =
            attacked_timesteps.unwrap_or(usual.attacked_timesteps.min(clean.evolution.timesteps));
        let test_images = self.test_images;
        Ok(AdversarialSettings { clean, attacked_timesteps, test_images, ..usual })
    }
}

impl Experiment for AdversarialArguments {
    fn on<N: Network>(&self, input: &ThresholdsInput<'_, Ann<N>>) -> evospike::Result<()> {
        let (settings, from) = (self.settings()?, &self.clean.thresholds);
        adversarial(input, &settings, from, &self.out, stopped_by_ctrl_c()).map(print_report)
    }
}

impl ExplainArguments {
    fn run(&self) -> evospike::Result<()> {
        // Before the images are read.
        self.settings()?.check()?;
        self.clean.files.open(self)
    }

    fn settings(&self) -> evospike::Result<ExplainSettings> {
        Ok(ExplainSettings { clean: self.clean.settings()?, ..ExplainSettings::default() })
    }
}

impl Experiment for ExplainArguments {
    fn on<N: Network>(&self, input: &ThresholdsInput<'_, Ann<N>>) -> evospike::Result<()> {
        let (settings, from) = (self.settings()?, &self.clean.thresholds);
        let files = explain(input, &settings, from, &self.out, stopped_by_ctrl_c())?;
        print_files(&files);
        Ok(())
    }
}

fn run_comparison(arguments: ComparisonArguments) -> evospike::Result<()> {
    let mut settings = ComparisonSettings {
        seeds: arguments.seeds,
        target_percent: arguments.target,
        timesteps: arguments.timesteps,
        ..ComparisonSettings::default()
    };
    settings.hybrid.timesteps = arguments.few;
    comparison(&settings, arguments.out).map(print_report)
}

/// Prints the result of an experiment.
fn print_report<R: Row>(report: Report<R>) {
    if ranks::leads() {
        println!("\n{}", report.table());
    }
    print_files(&report.files);
}

/// Prints the paths of files; with several ranks, only the first one prints.
pub(crate) fn print_files(files: &[PathBuf]) {
    if ranks::leads() {
        println!("Written:");
        for file in files {
            println!("  {}", file.display());
        }
    }
}

/// Tells an experiment to stop, once Ctrl-C was pressed.
pub(crate) fn stopped_by_ctrl_c() -> &'static AtomicBool {
    static STOP: AtomicBool = AtomicBool::new(false);
    let stop = ctrlc::set_handler(|| {
        // The second time, stop at once: every file is complete or not there at all.
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("\nstopping after this step or generation; once more to stop at once");
    });
    if let Err(error) = stop {
        eprintln!("warning: Ctrl-C will stop at once: {error}");
    }
    &STOP
}
