//! Command line of evospike: without a command, it runs the whole pipeline on the embedded digits.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use evospike::ann::networks::{
    Mlp, MnistCnn, ResNet20, ResNet20Cifar100, Vgg15, Vgg15Cifar100, Vgg15HalfBn,
    Vgg15HalfBnCifar100, Vgg15QuarterBn, Vgg15QuarterBnCifar100, Vgg16,
};
use evospike::ann::optimiser::{Optimiser, Schedule};
use evospike::data::{Augment, Cifar10, Cifar100, Normalisation, TrainTest};
use evospike::prelude::*;
use evospike::reproduce::{
    AdversarialSettings, Cifar10Input, Cifar10Settings, ComparisonSettings, DigitsSettings,
    ExplainSettings, NeuronsSettings, Report, Row, adversarial, cifar10, comparison, digits,
    explain, neurons,
};
use evospike::sweep::merge;
use evospike::{Error, data::Task, ranks};
use serde::Serialize;

/// Train a network on handwritten digits, convert it to a spiking network, evolve its thresholds
/// and report by how much the latency at equal accuracy falls.
#[derive(Parser)]
#[command(version, allow_negative_numbers = true, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    digits: DigitsArguments,
}

#[derive(Subcommand)]
enum Command {
    /// Train a network on a data set and write its weights
    ///
    /// After every epoch, the state of the training is written to OUT.checkpoint. If that file
    /// exists, the same command resumes from it and ends with exactly the weights of a run without
    /// interruption; a command with other settings is refused. Delete the file to start again.
    ///
    /// Settings that are not given depend on the network. For networks with batch normalisation
    /// they are 100 epochs (mnist-cnn: 10) in batches of 128, SGD with Nesterov momentum 0.9,
    /// learning rate 0.1 after a warm-up of 1 epoch (at most a tenth of all) with a cosine
    /// schedule, weight decay 5e-4, label smoothing 0.1 and crop-flip (mnist-cnn: none); vgg15 and
    /// vgg16 have learning rate 0.01. For the digits they are 30 epochs in batches of 16, Adam,
    /// learning rate 5e-3 with a cosine schedule, weight decay 0.1.
    Train(TrainArguments),
    /// Reproduce an experiment of the paper
    ///
    /// Every step's result is kept in OUT/.checkpoints: after an interruption, the same command
    /// resumes from there and repeats at most one generation or one simulation.
    #[command(subcommand)]
    Reproduce(Reproduce),
    /// Convert a network with every combination of some values, and measure the spiking networks
    ///
    /// Writes one CSV file with the latency to the target, the accuracy after the last timestep and
    /// the spikes on held-out images, and beside it OUT.key with what they were measured with. The
    /// same command reads the rows that are there, and measures those that are missing or failed; a
    /// command with other settings, weights or images is refused. Delete OUT to start again.
    #[command(allow_negative_numbers = true, args_conflicts_with_subcommands = true)]
    Sweep(SweepArguments),
}

#[derive(Args)]
struct SweepArguments {
    #[command(subcommand)]
    command: Option<SweepCommand>,
    #[command(flatten)]
    source: Option<Source>,
    #[command(flatten)]
    grid: Option<GridArguments>,
}

#[derive(Subcommand)]
enum SweepCommand {
    /// Merge the files of all shards of a sweep
    Merge {
        /// File for all rows, identical to that of a sweep without shards
        #[arg(long)]
        out: PathBuf,
        /// Files of the shards
        #[arg(required = true)]
        parts: Vec<PathBuf>,
    },
}

#[derive(Args)]
struct GridArguments {
    /// File of weights (safetensors); without it, networks for the digits are trained first
    #[arg(long)]
    model: Option<PathBuf>,
    /// The weights have PyTorch's names for VGG15 with batch normalisation
    #[arg(long)]
    pytorch: bool,
    /// Percentiles of the activations that set the thresholds
    #[arg(long, value_delimiter = ',', default_value = "99.9")]
    percentile: Vec<f64>,
    /// Fractions of the membrane potential that neurons keep per timestep
    #[arg(long, value_delimiter = ',', default_value = "1")]
    leak: Vec<f32>,
    /// Initial membrane potentials as fractions of the threshold
    #[arg(long, value_delimiter = ',', default_value = "0")]
    initial: Vec<f32>,
    /// Codes of the input images
    #[arg(long, value_delimiter = ',', default_value = "direct")]
    code: Vec<Code>,
    /// Number of timesteps per period, for codes that have one
    #[arg(long, default_value_t = 8)]
    period: usize,
    /// Timesteps of each simulation
    #[arg(long, default_value_t = 64)]
    timesteps: usize,
    /// Margin of the target below the ANN's accuracy, in percentage points
    #[arg(long, default_value_t = 1.0)]
    margin: f64,
    /// Number of held-out images to measure on, from the first [default: all]
    #[arg(long)]
    images: Option<usize>,
    /// Number of training images that set the thresholds, from the first [default: all]
    #[arg(long)]
    balance_images: Option<usize>,
    /// Measure only every N-th combination, starting at the K-th
    #[arg(long, value_name = "K/N", value_parser = shard)]
    shard: Option<(usize, usize)>,
    /// CSV file
    #[arg(long)]
    out: PathBuf,
}

fn shard(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once('/');
    let numbers = parts.and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
    numbers.ok_or_else(|| "expected K/N, such as 1/8".into())
}

#[derive(Clone, Copy, ValueEnum)]
enum Code {
    /// A constant current
    Direct,
    /// Random spikes
    Poisson,
    /// Weighted spikes
    Phase,
    /// One spike per period
    Latency,
}

#[derive(Subcommand)]
enum Reproduce {
    /// Lower latency on CIFAR-10 by evolved thresholds, compared with the best conversions of the
    /// same trained network
    ///
    /// Writes comparison.csv, accuracy.csv, convergence.csv, thresholds.csv, settings.json,
    /// timing.csv and charts.
    Cifar10(Cifar10Arguments),
    /// The ANN's accuracy on CIFAR-10 within a few timesteps, by signed, burst and graded spikes,
    /// converted and evolved
    ///
    /// Writes neurons.csv, neurons-accuracy.csv, neurons-convergence.csv, neurons-settings.json,
    /// neurons-timing.csv and a chart.
    Neurons(NeuronsArguments),
    /// Lower latency on CIFAR-10 under attack, by thresholds evolved on clean and on attacked
    /// images
    ///
    /// Uses the networks that `reproduce cifar10` made in its folder with the same settings; those
    /// that are missing are made there. Writes latency.csv, accuracy.csv, convergence.csv,
    /// thresholds.csv, settings.json, timing.csv and charts.
    Adversarial(AdversarialArguments),
    /// Changes that evolution makes on CIFAR-10: activity, conversion error, sensitivity
    ///
    /// Uses the networks that `reproduce cifar10` made in its folder with the same settings; those
    /// that are missing are made there. Writes one CSV file per measurement.
    Explain(ExplainArguments),
    /// Comparison of the paper with related methods on the embedded digits
    ///
    /// Writes comparison.csv, accuracy.csv, settings.json and a chart.
    Comparison(ComparisonArguments),
}

/// Files of the data set and the network.
#[derive(Args)]
struct Cifar10Files {
    /// Folder of the data set
    #[arg(long)]
    data: PathBuf,
    /// File of weights (safetensors) with PyTorch's names
    #[arg(long)]
    model: PathBuf,
    /// File that lists the training images that the network was not trained on: one index into the
    /// data set per line
    #[arg(long)]
    held_out_list: PathBuf,
}

/// Networks that `reproduce cifar10` made.
#[derive(Args)]
struct CleanNetworks {
    #[command(flatten)]
    files: Cifar10Files,
    /// Folder of `reproduce cifar10`
    #[arg(long, default_value = "results/cifar10")]
    cifar10: PathBuf,
    /// Seeds of the networks that `reproduce cifar10` made
    #[arg(long, value_delimiter = ',', default_values_t = Cifar10Settings::default().seeds)]
    seeds: Vec<u64>,
}

#[derive(Args)]
struct AdversarialArguments {
    #[command(flatten)]
    clean: CleanNetworks,
    /// Number of attacked test images
    #[arg(long, default_value_t = AdversarialSettings::default().test_images)]
    test_images: usize,
    /// Folder for the CSV files and charts
    #[arg(long, default_value = "results/adversarial")]
    out: PathBuf,
}

#[derive(Args)]
struct ExplainArguments {
    #[command(flatten)]
    clean: CleanNetworks,
    /// Folder for the CSV files
    #[arg(long, default_value = "results/explain")]
    out: PathBuf,
}

#[derive(Args)]
struct ComparisonArguments {
    /// Seeds, one whole comparison each
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
struct Cifar10Arguments {
    #[command(flatten)]
    files: Cifar10Files,
    /// Seeds of the optimiser and the order of its images, one evolution each
    #[arg(long, value_delimiter = ',', default_values_t = Cifar10Settings::default().seeds)]
    seeds: Vec<u64>,
    /// Initial membrane potentials as fractions of the threshold, one comparison each
    #[arg(long, value_delimiter = ',', default_values_t = Cifar10Settings::default().initial)]
    initial: Vec<f32>,
    /// Generations after the initial population
    #[arg(long, default_value_t = Cifar10Settings::default().evolution.generations)]
    generations: usize,
    /// Number of held-out images per generation: the next batch, starting over after the last
    #[arg(long, default_value_t = usual_batch())]
    images: usize,
    /// Number of timesteps per simulation in the evolution
    #[arg(long, default_value_t = Cifar10Settings::default().evolution.timesteps)]
    timesteps: usize,
    /// Number of test images
    #[arg(long, default_value_t = Cifar10Settings::default().test_images)]
    test_images: usize,
    /// Folder for the CSV files and charts
    #[arg(long, default_value = "results/cifar10")]
    out: PathBuf,
}

#[derive(Args)]
struct NeuronsArguments {
    #[command(flatten)]
    files: Cifar10Files,
    /// Seeds of the optimiser, one evolution of each kind of neurons for each
    #[arg(long, value_delimiter = ',', default_values_t = NeuronsSettings::default().seeds)]
    seeds: Vec<u64>,
    /// Kinds of neurons: plain, signed, burst, two_levels, four_levels
    #[arg(long, value_delimiter = ',')]
    kinds: Option<Vec<String>>,
    /// Number of test images
    #[arg(long, default_value_t = NeuronsSettings::default().test_images)]
    test_images: usize,
    /// Folder for the CSV files and charts
    #[arg(long, default_value = "results/cifar10")]
    out: PathBuf,
}

#[derive(Args)]
struct DigitsArguments {
    /// Seeds, one whole experiment each
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
    /// Margins of the targets below the ANN's accuracy, in percentage points, one evolution each
    #[arg(long, value_delimiter = ',', default_values_t = DigitsSettings::default().margins_percent)]
    margin: Vec<f64>,
    /// Folder for the CSV files and charts
    #[arg(long, default_value = "results/digits")]
    out: PathBuf,
}

/// A network and its images.
#[derive(Args)]
struct Source {
    /// Network; those for CIFAR take the number of classes from the data
    #[arg(long)]
    net: Net,
    /// Folder of the data set; not given for the embedded digits
    #[arg(long)]
    data: Option<PathBuf>,
    /// Format of the data set
    #[arg(long, default_value = "auto")]
    format: Format,
    /// Seed of the initial weights and of the division and order of the images
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Share of the training images to hold out
    #[arg(long, default_value_t = 0.1)]
    held_out: f64,
    /// File that lists the training images to hold out: one index into the data set per line
    #[arg(long, conflicts_with = "held_out")]
    held_out_list: Option<PathBuf>,
}

#[derive(Args)]
#[command(allow_negative_numbers = true)]
struct TrainArguments {
    #[command(flatten)]
    source: Source,
    /// File for the weights (safetensors) with dfdx's names of the layers
    #[arg(long)]
    out: PathBuf,
    /// Number of passes over the training images
    #[arg(long)]
    epochs: Option<usize>,
    /// Number of images per batch
    #[arg(long)]
    batch: Option<usize>,
    /// Optimiser
    #[arg(long)]
    optimiser: Option<Rule>,
    /// Learning rate after the warm-up
    #[arg(long)]
    learning_rate: Option<f64>,
    /// Momentum of SGD [default: 0.9]
    #[arg(long)]
    momentum: Option<f64>,
    /// Weight decay; SGD adds it to the gradient, Adam decouples it
    #[arg(long)]
    weight_decay: Option<f64>,
    /// Number of epochs in which the learning rate rises
    #[arg(long)]
    warmup: Option<f64>,
    /// Schedule of the learning rate after the warm-up
    #[arg(long)]
    schedule: Option<ScheduleName>,
    /// Share of each label that is divided among all classes
    #[arg(long)]
    label_smoothing: Option<f64>,
    /// Data augmentation
    #[arg(long)]
    augment: Option<Variation>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Net {
    /// Six layers of neurons, for the embedded digits
    Digits,
    /// Two layers of neurons, fully connected, for the embedded digits
    Mlp,
    /// For the MNIST family
    MnistCnn,
    /// For CIFAR-10 or CIFAR-100, without batch normalisation
    Vgg15,
    /// For CIFAR-10 or CIFAR-100
    Vgg15HalfBn,
    /// For CIFAR-10 or CIFAR-100
    Vgg15QuarterBn,
    /// For CIFAR-10 or CIFAR-100
    Resnet20,
    /// For ImageNet
    Vgg16,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    /// Detected from the files in the folder
    Auto,
    /// CIFAR-10's binary version
    Cifar10,
    /// CIFAR-100's binary version
    Cifar100,
    /// The files of the MNIST family
    Idx,
    /// train/CLASS/* and test/CLASS/*, JPEG or PNG
    Folder,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Rule {
    /// With classical momentum
    Sgd,
    /// SGD with Nesterov momentum
    Nesterov,
    /// With decoupled weight decay
    Adam,
}

#[derive(Clone, Copy, ValueEnum)]
enum ScheduleName {
    Constant,
    Linear,
    Cosine,
}

#[derive(Clone, Copy, ValueEnum)]
enum Variation {
    None,
    Flip,
    /// Random crop of the image padded by 4 pixels, and flip
    CropFlip,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
            _ => {
                let text = error.to_string();
                let mut lines = text.lines().map(str::trim);
                let mut said: Vec<_> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
                said.extend(lines.filter(|line| line.starts_with("tip: ")));
                eprintln!("{} (see --help)", said.join(" "));
                return ExitCode::from(2);
            }
        },
    };
    let done = match arguments.command {
        None => ranks::together(|| run_digits(arguments.digits)),
        Some(Command::Train(arguments)) => run_train(&arguments),
        Some(Command::Sweep(arguments)) => run_sweep(arguments),
        Some(Command::Reproduce(experiment)) => ranks::together(|| match experiment {
            Reproduce::Cifar10(arguments) => run_cifar10(&arguments),
            Reproduce::Neurons(arguments) => run_neurons(&arguments),
            Reproduce::Adversarial(arguments) => run_adversarial(&arguments),
            Reproduce::Explain(arguments) => run_explain(&arguments),
            Reproduce::Comparison(arguments) => run_comparison(arguments),
        }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if ranks::leads() {
                eprintln!("error: {error}");
            }
            ExitCode::from(match error {
                Error::Parameter { .. } => 2,
                _ => 1,
            })
        }
    }
}

fn usual_batch() -> usize {
    let evolution = Cifar10Settings::default().evolution;
    evolution.batch.unwrap_or(usize::MAX)
}

fn usual_population() -> usize {
    match DigitsSettings::default().evolution.search {
        Search::De(de) => de.population,
        _ => DeSettings::default().population,
    }
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

/// Format of the data set in a folder.
fn find_format(folder: &Path) -> evospike::Result<Format> {
    // A folder that is missing or is a file gives its own error.
    std::fs::read_dir(folder).map_err(|source| Error::Io { path: folder.into(), source })?;
    let marks = [
        ("cifar-10-batches-bin", Format::Cifar10),
        ("cifar-10-batches-py", Format::Cifar10),
        ("cifar-10-binary.tar.gz", Format::Cifar10),
        ("cifar-10-python.tar.gz", Format::Cifar10),
        ("data_batch_1.bin", Format::Cifar10),
        ("data_batch_1", Format::Cifar10),
        ("cifar-100-binary", Format::Cifar100),
        ("cifar-100-python", Format::Cifar100),
        ("cifar-100-binary.tar.gz", Format::Cifar100),
        ("cifar-100-python.tar.gz", Format::Cifar100),
        ("train.bin", Format::Cifar100),
        ("train-images-idx3-ubyte", Format::Idx),
        ("train-images-idx3-ubyte.gz", Format::Idx),
        ("train-images.idx3-ubyte", Format::Idx),
        ("train-images.idx3-ubyte.gz", Format::Idx),
        ("train", Format::Folder),
    ];
    let found = marks.iter().find(|(name, _)| folder.join(name).exists());
    found.map(|(_, format)| *format).ok_or_else(|| Error::Data {
        file: folder.display().to_string(),
        place: "files".into(),
        found: "no data set known here".into(),
        expected: marks.map(|(name, _)| format!("`{name}`")).join(" or ")
            + " (with a folder of images for each class)",
    })
}

fn run_cifar10(arguments: &Cifar10Arguments) -> evospike::Result<()> {
    let mut settings = Cifar10Settings {
        seeds: arguments.seeds.clone(),
        initial: arguments.initial.clone(),
        test_images: arguments.test_images,
        ..Cifar10Settings::default()
    };
    settings.evolution.generations = arguments.generations;
    settings.evolution.batch = Some(arguments.images);
    settings.evolution.timesteps = arguments.timesteps;
    let out = &arguments.out;
    let report = (arguments.files).open(|input, stop| cifar10(input, &settings, out, stop));
    report.map(print_report)
}

fn run_neurons(arguments: &NeuronsArguments) -> evospike::Result<()> {
    let mut settings = NeuronsSettings {
        seeds: arguments.seeds.clone(),
        test_images: arguments.test_images,
        ..NeuronsSettings::default()
    };
    for name in arguments.kinds.iter().flatten() {
        let known = settings.kinds.iter().map(|kind| &*kind.name).collect::<Vec<_>>();
        if !known.contains(&&**name) {
            return Err(wrong("kinds", name, known.join(", ")));
        }
    }
    if let Some(kinds) = &arguments.kinds {
        settings.kinds.retain(|kind| kinds.contains(&kind.name));
    }
    let out = &arguments.out;
    let run = |input: &Cifar10Input<'_, Vgg15HalfBn>, stop: &AtomicBool| {
        let parts = input.data.hold_out_listed(input.held_out_list, 0)?;
        neurons(input.ann, &parts, &settings, out, stop)
    };
    arguments.files.open(run).map(print_report)
}

fn run_adversarial(arguments: &AdversarialArguments) -> evospike::Result<()> {
    let mut settings = AdversarialSettings {
        test_images: arguments.test_images,
        ..AdversarialSettings::default()
    };
    let clean = &arguments.clean;
    settings.clean.seeds = clean.seeds.clone();
    let (from, out) = (&clean.cifar10, &arguments.out);
    let report = (clean.files).open(|input, stop| adversarial(input, &settings, from, out, stop));
    report.map(print_report)
}

fn run_explain(arguments: &ExplainArguments) -> evospike::Result<()> {
    let mut settings = ExplainSettings::default();
    let clean = &arguments.clean;
    settings.clean.seeds = clean.seeds.clone();
    let (from, out) = (&clean.cifar10, &arguments.out);
    let files = (clean.files).open(|input, stop| explain(input, &settings, from, out, stop));
    files.map(|files| print_files(&files))
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
fn print_files(files: &[PathBuf]) {
    if ranks::leads() {
        println!("Written:");
        for file in files {
            println!("  {}", file.display());
        }
    }
}

impl Cifar10Files {
    /// Runs an experiment that Ctrl-C stops.
    fn open<R>(
        &self,
        run: impl FnOnce(&Cifar10Input<'_, Vgg15HalfBn>, &AtomicBool) -> evospike::Result<R>,
    ) -> evospike::Result<R> {
        let format = find_format(&self.data)?;
        let ann = Ann::<Vgg15HalfBn>::load(&self.model, &Names::vgg15_bn())?;
        let data = match format {
            Format::Folder => data::folder(&self.data)?,
            _ => data::cifar10(&self.data)?,
        };
        let input = Cifar10Input {
            ann: &ann,
            data: &data.normalised(&Normalisation::CIFAR10)?,
            held_out_list: &self.held_out_list,
        };
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
        run(&input, &STOP)
    }
}

/// Default settings of a network's training.
fn recipe(net: Net) -> TrainSettings {
    match net {
        Net::Digits | Net::Mlp => TrainSettings::default(),
        Net::Vgg15HalfBn | Net::Vgg15QuarterBn | Net::Resnet20 => TrainSettings::cifar(),
        Net::MnistCnn => {
            TrainSettings { epochs: 10, augment: Augment::NONE, ..TrainSettings::cifar() }
        }
        Net::Vgg15 | Net::Vgg16 => TrainSettings { learning_rate: 0.01, ..TrainSettings::cifar() },
    }
}

fn wrong(name: &'static str, found: impl ToString, expected: impl ToString) -> Error {
    Error::Parameter { name, found: found.to_string(), expected: expected.to_string() }
}

impl TrainArguments {
    fn settings(&self) -> evospike::Result<TrainSettings> {
        let own = recipe(self.source.net);
        let mut optimiser = match self.optimiser {
            None => own.optimiser,
            Some(Rule::Adam) => Optimiser::Adam,
            Some(rule) => Optimiser::Sgd { momentum: 0.9, nesterov: rule == Rule::Nesterov },
        };
        match (&mut optimiser, self.momentum) {
            (_, None) => (),
            (Optimiser::Sgd { momentum, .. }, Some(given)) => *momentum = given,
            (Optimiser::Adam, Some(given)) => {
                return Err(wrong("momentum", given, "none with the optimiser adam"));
            }
        }
        let epochs = self.epochs.unwrap_or(own.epochs);
        // The network's own warm-up is shortened for few epochs.
        let warmup = own.warmup_epochs.min(0.1 * epochs as f64);
        let settings = TrainSettings {
            epochs,
            batch: self.batch.unwrap_or(own.batch),
            optimiser,
            learning_rate: self.learning_rate.unwrap_or(own.learning_rate),
            schedule: self.schedule.map_or(own.schedule, |course| match course {
                ScheduleName::Constant => Schedule::Constant,
                ScheduleName::Linear => Schedule::Linear,
                ScheduleName::Cosine => Schedule::Cosine,
            }),
            warmup_epochs: self.warmup.unwrap_or(warmup),
            weight_decay: self.weight_decay.unwrap_or(own.weight_decay),
            label_smoothing: self.label_smoothing.unwrap_or(own.label_smoothing),
            augment: self.augment.map_or(own.augment, |variation| match variation {
                Variation::None => Augment::NONE,
                Variation::Flip => Augment { flip: true, ..Augment::NONE },
                Variation::CropFlip => Augment::CIFAR,
            }),
            seed: self.source.seed,
        };
        settings.check()?;
        Ok(settings)
    }
}

/// Work on a network of any type and its images.
trait Work {
    fn on<N: Network>(&self, parts: &Split<N::Task>) -> evospike::Result<()>;
}

impl Source {
    fn open(&self, work: &impl Work) -> evospike::Result<()> {
        if !(self.held_out > 0.0 && self.held_out < 1.0) {
            return Err(wrong("held_out", self.held_out, "above 0, less than 1"));
        }
        match self.net {
            Net::Digits => self.on_digits::<DigitsCnn>(work),
            Net::Mlp => self.on_digits::<Mlp>(work),
            Net::MnistCnn => {
                let data = match self.format()? {
                    Format::Idx => data::idx(self.data()?),
                    Format::Folder => data::folder(self.data()?),
                    _ => Err(self.refuse("idx or folder")),
                };
                self.on::<MnistCnn>(work, data?, &Normalisation::MNIST)
            }
            Net::Vgg15 => self.on_cifar::<Vgg15, Vgg15Cifar100>(work),
            Net::Vgg15HalfBn => self.on_cifar::<Vgg15HalfBn, Vgg15HalfBnCifar100>(work),
            Net::Vgg15QuarterBn => self.on_cifar::<Vgg15QuarterBn, Vgg15QuarterBnCifar100>(work),
            Net::Resnet20 => self.on_cifar::<ResNet20, ResNet20Cifar100>(work),
            Net::Vgg16 if self.format()? == Format::Folder => {
                self.on::<Vgg16>(work, data::folder(self.data()?)?, &Normalisation::IMAGENET)
            }
            Net::Vgg16 => Err(self.refuse("folder")),
        }
    }

    /// Works on the network for 10 or for 100 classes, whichever the data has.
    fn on_cifar<A: Network<Task = Cifar10>, B: Network<Task = Cifar100>>(
        &self,
        work: &impl Work,
    ) -> evospike::Result<()> {
        let (ten, hundred) = (Normalisation::CIFAR10, Normalisation::CIFAR100);
        let (format, folder) = (self.format()?, self.data()?);
        let classes = std::fs::read_dir(folder.join("train")).map_or(0, Iterator::count);
        match format {
            Format::Cifar10 => self.on::<A>(work, data::cifar10(folder)?, &ten),
            Format::Cifar100 => self.on::<B>(work, data::cifar100(folder)?, &hundred),
            Format::Folder if classes >= Cifar100::CLASSES => {
                self.on::<B>(work, data::folder(folder)?, &hundred)
            }
            Format::Folder => self.on::<A>(work, data::folder(folder)?, &ten),
            Format::Idx | Format::Auto => Err(self.refuse("cifar10, cifar100 or folder")),
        }
    }

    fn on_digits<N: Network<Task = Digits>>(&self, work: &impl Work) -> evospike::Result<()> {
        let embedded = "none: the digits are embedded";
        if let Some(folder) = &self.data {
            return Err(wrong("data", folder.display(), embedded));
        }
        if let Some(list) = &self.held_out_list {
            return Err(wrong("held_out_list", list.display(), embedded));
        }
        let shares = Shares { held_out: self.held_out, ..Shares::default() };
        work.on::<N>(&data::digits()?.split(shares, self.seed)?)
    }

    fn on<N: Network>(
        &self,
        work: &impl Work,
        data: TrainTest<N::Task>,
        normalisation: &Normalisation,
    ) -> evospike::Result<()> {
        let data = data.normalised(normalisation)?;
        let parts = match &self.held_out_list {
            Some(list) => data.hold_out_listed(list, self.seed)?,
            None => data.hold_out(self.held_out, self.seed)?,
        };
        work.on::<N>(&parts)
    }

    fn data(&self) -> evospike::Result<&Path> {
        let data = self.data.as_deref();
        data.ok_or_else(|| wrong("data", "none", "the folder of a data set"))
    }

    /// Format given by the user or found in the folder.
    fn format(&self) -> evospike::Result<Format> {
        match self.format {
            Format::Auto => find_format(self.data()?),
            format => Ok(format),
        }
    }

    fn refuse(&self, formats: &str) -> Error {
        let format = self.format().ok();
        let format = format.and_then(|format| format.to_possible_value());
        let found = format.map_or_else(String::new, |format| format.get_name().into());
        wrong("format", found, format!("{formats} for this network"))
    }
}

/// Returns an error for what cannot be a file, before anything is computed for it.
fn check_out(out: &Path) -> evospike::Result<()> {
    let folder = out.as_os_str().as_encoded_bytes().ends_with(b"/");
    match folder || out.exists() && !out.is_file() {
        true => Err(wrong("out", out.display(), "a file, there or to be made")),
        false => Ok(()),
    }
}

fn run_train(arguments: &TrainArguments) -> evospike::Result<()> {
    // Found now, not after the training.
    arguments.settings()?;
    check_out(&arguments.out)?;
    arguments.source.open(arguments)
}

impl Work for TrainArguments {
    fn on<N: Network>(&self, parts: &Split<N::Task>) -> evospike::Result<()> {
        let mut checkpoint = self.out.as_os_str().to_owned();
        checkpoint.push(".checkpoint");
        let checkpoint = PathBuf::from(checkpoint);
        let mut ann = Ann::<N>::new(self.source.seed)?;
        let file = checkpoint.display().to_string();
        // A checkpoint is complete or not there at all, so it is safe to stop anywhere.
        let stop = ctrlc::set_handler(move || {
            eprintln!("\nstopped: the same command resumes from {file}");
            std::process::exit(130);
        });
        if let Err(error) = stop {
            eprintln!("warning: Ctrl-C will not say how to resume: {error}");
        }
        let settings = self.settings()?;
        let history = Resume::at(&checkpoint).train(&mut ann, &parts.training, &settings)?;
        ann.save(&self.out, &Names::own())?;
        if let Some(last) = history.last() {
            println!("{}: {last} in epoch {}", N::NAME, last.epoch);
        }
        for (part, accuracy) in
            [("held-out", ann.accuracy(&parts.held_out)?), ("test", ann.accuracy(&parts.test)?)]
        {
            let (percent, images) = (accuracy.percent(), accuracy.images);
            println!("{part} accuracy: {percent:.2} % of {images} images");
        }
        print_files(&[self.out.clone(), checkpoint]);
        Ok(())
    }
}

fn run_sweep(arguments: SweepArguments) -> evospike::Result<()> {
    if let Some(SweepCommand::Merge { out, parts }) = arguments.command {
        merge(parts, &out)?;
        print_files(&[out]);
        return Ok(());
    }
    let (Some(source), Some(grid)) = (&arguments.source, &arguments.grid) else {
        return Err(wrong("net", "none", "a network and a CSV file")); // as clap has said
    };
    // Found now: as rows that failed, they would be kept with a key that is of no use.
    check_out(&grid.out)?;
    for (name, count) in [
        ("timesteps", Some(grid.timesteps)),
        ("period", Some(grid.period)),
        ("images", grid.images),
        ("balance_images", grid.balance_images),
    ] {
        if count == Some(0) {
            return Err(wrong(name, 0, "1 or more"));
        }
    }
    if grid.model.is_none() && !matches!(source.net, Net::Digits | Net::Mlp) {
        return Err(wrong("model", "none", "a file of weights"));
    }
    source.open(&Conversions { source, grid })
}

/// Everything that decides the numbers of a sweep, beside its axes.
#[derive(Serialize)]
struct SweepKey {
    settings: SweepSettings,
    sources: SweepSources,
}

#[derive(Serialize)]
struct SweepSettings {
    network: &'static str,
    seed: u64,
    timesteps: usize,
    margin: f64,
    images: usize,
    balance_images: usize,
}

/// CRC-32 of each.
#[derive(Serialize)]
struct SweepSources {
    weights: u32,
    images: u32,
    balance_images: u32,
}

struct Conversions<'a> {
    source: &'a Source,
    grid: &'a GridArguments,
}

impl Conversions<'_> {
    fn ann<N: Network>(&self, parts: &Split<N::Task>) -> evospike::Result<Ann<N>> {
        let seed = self.source.seed;
        match &self.grid.model {
            Some(file) if self.grid.pytorch => Ann::load(file, &Names::vgg15_bn()),
            Some(file) => Ann::load(file, &Names::own()),
            None => {
                let mut ann = Ann::new(seed)?;
                let settings = TrainSettings { seed, ..TrainSettings::digits() };
                ann.train(&parts.training, &settings)?;
                Ok(ann)
            }
        }
    }

    fn code(&self, code: Code) -> InputCode {
        let (period, seed) = (self.grid.period, self.source.seed);
        match code {
            Code::Direct => InputCode::Direct,
            Code::Poisson => InputCode::Poisson { seed },
            Code::Phase => InputCode::Phase { period },
            Code::Latency => InputCode::Latency { period },
        }
    }
}

impl Work for Conversions<'_> {
    fn on<N: Network>(&self, parts: &Split<N::Task>) -> evospike::Result<()> {
        let grid = self.grid;
        let mut sweep = Sweep::new()
            .axis("percentile", grid.percentile.iter().copied())
            .axis("leak", grid.leak.iter().copied())
            .axis("initial", grid.initial.iter().copied())
            .axis("code", grid.code.iter().map(|&code| self.code(code)));
        if let Some((k, n)) = grid.shard {
            sweep = sweep.shard(k, n)?;
        }
        let ann = self.ann::<N>(parts)?;
        let balance_images = grid.balance_images.unwrap_or(usize::MAX);
        let balance_images = parts.training.take(balance_images);
        let conversion = convert(&ann, &balance_images)?;
        let images = parts.held_out.take(grid.images.unwrap_or(usize::MAX));
        let target = ann.target(&images, grid.margin)?;
        let settings = SweepSettings {
            network: N::NAME,
            seed: self.source.seed,
            timesteps: grid.timesteps,
            margin: grid.margin,
            images: images.len(),
            balance_images: balance_images.len(),
        };
        let sources = SweepSources {
            weights: ann.checksum()?,
            images: images.checksum(),
            balance_images: balance_images.checksum(),
        };
        let key = SweepKey { settings, sources };
        let columns = ["latency (timesteps)", "accuracy (%)", "spikes an image"];
        sweep.run(&grid.out, key, columns, |&(percentile, leak, initial, code)| {
            let snn = conversion.balance(Balance::Percentile(percentile))?;
            let snn = snn.with_leak(leak)?.with_initial(initial)?;
            let settings = SimulateSettings { code, ..grid.timesteps.into() };
            let run = simulate(&snn, &images, settings)?;
            let layers = 0..snn.neurons().len();
            Ok([
                run.curve.latency(&target).map(|latency| latency as f64),
                run.curve.after(grid.timesteps).map(Accuracy::percent),
                Some(layers.map(|layer| run.spikes_per_image(layer)).sum()),
            ])
        })?;
        println!("{} combinations in {}", sweep.len(), grid.out.display());
        Ok(())
    }
}
