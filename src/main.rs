//! The command line: `cargo run --release` runs the whole pipeline on the embedded digits, `train`
//! trains a network on a data set, `sweep` converts one with every combination of some values.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, Parser, Subcommand, ValueEnum};
use evospike::ann::networks::{
    Mlp, MnistCnn, ResNet20, ResNet20Cifar100, Vgg15, Vgg15Cifar100, Vgg15HalfBn,
    Vgg15HalfBnCifar100, Vgg15QuarterBn, Vgg15QuarterBnCifar100, Vgg16,
};
use evospike::ann::optimiser::Optimiser;
use evospike::ann::optimiser::Schedule;
use evospike::data::Augment;
use evospike::data::Cifar10;
use evospike::data::Cifar100;
use evospike::data::{ImageNet, Mnist, Normalisation, TrainTest};
use evospike::prelude::*;
use evospike::reproduce::{
    AdversarialSettings, Cifar10Input, Cifar10Settings, ComparisonSettings, DigitsSettings,
    ExplainSettings, adversarial, cifar10, comparison, digits, explain,
};
use evospike::sweep::merge;
use evospike::{Error, data::Task, ranks};

/// Train a network on handwritten digits, convert it to a spiking network, evolve its thresholds
/// and report the latency won at equal accuracy.
#[derive(Parser)]
#[command(
    version,
    allow_negative_numbers = true,
    args_conflicts_with_subcommands = true
)]
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
    /// After every epoch, everything that training goes on from is written to OUT.checkpoint.
    /// Where that file is there already, the same command resumes from it and ends with the very
    /// weights that it would have had without a break; a command that differs is refused. Delete
    /// the file to start anew.
    ///
    /// Settings that are not given are the network's own. For networks with batch normalisation
    /// they are 100 epochs (mnist-cnn: 10) in batches of 128, SGD with Nesterov momentum 0.9,
    /// learning rate 0.1 after a warm-up of 1 epoch (at most a tenth of all) and along a cosine,
    /// weight decay 5e-4, label smoothing 0.1 and crop-flip (mnist-cnn: none); vgg15 and vgg16 have
    /// learning rate 0.01.
    /// For the digits they are 30 epochs in batches of 16, Adam, learning rate 5e-3 along a
    /// cosine, weight decay 0.1.
    Train(TrainArguments),
    /// Reproduce an experiment of the paper
    ///
    /// Every step's result is kept in OUT/.checkpoints: the same command goes on after an
    /// interruption, and loses at most a generation or a simulation when it is killed.
    #[command(subcommand)]
    Reproduce(Reproduce),
    /// Convert a network with every combination of some values, and measure what comes of it
    ///
    /// Writes one CSV file with the latency to the target, the accuracy after the last timestep and
    /// the spikes on held-out images. The same command goes on from the file.
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
    /// Put the files of all shards of a sweep together
    Merge {
        /// File for all rows: the one that a sweep without shards would have written
        #[arg(long)]
        out: PathBuf,
        /// Files of the shards
        #[arg(required = true)]
        parts: Vec<PathBuf>,
    },
}

#[derive(Args)]
struct GridArguments {
    /// Weights: safetensors; the digits' networks are trained first without
    #[arg(long)]
    model: Option<PathBuf>,
    /// The weights have PyTorch's names: of VGG15 with batch normalisation
    #[arg(long)]
    pytorch: bool,
    /// Percentiles of the activations that thresholds are
    #[arg(long, value_delimiter = ',', default_value = "99.9")]
    percentile: Vec<f64>,
    /// Shares of their potential that neurons keep in a timestep
    #[arg(long, value_delimiter = ',', default_value = "1")]
    leak: Vec<f32>,
    /// Initial potentials in thresholds
    #[arg(long, value_delimiter = ',', default_value = "0")]
    initial: Vec<f32>,
    /// How images are given to the network
    #[arg(long, value_delimiter = ',', default_value = "direct")]
    code: Vec<Code>,
    /// Timesteps of a period, of the codes that have one
    #[arg(long, default_value_t = 8)]
    period: usize,
    /// Timesteps of each simulation
    #[arg(long, default_value_t = 64)]
    timesteps: usize,
    /// How far below the ANN's accuracy the target lies, in percentage points
    #[arg(long, default_value_t = 1.0)]
    margin: f64,
    /// Held-out images to measure on, the first ones [default: all]
    #[arg(long)]
    images: Option<usize>,
    /// Training images that thresholds are set by, the first ones [default: all]
    #[arg(long)]
    balance_images: Option<usize>,
    /// Measure only every N-th combination, from the K-th one
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
    /// Spikes at random
    Poisson,
    /// Weighted spikes
    Phase,
    /// One spike a period
    Latency,
}

#[derive(Subcommand)]
enum Reproduce {
    /// Latency won on CIFAR-10 by evolved thresholds, against the best conversions of the same
    /// trained network
    ///
    /// Writes comparison.csv, accuracy.csv, convergence.csv, thresholds.csv, settings.json,
    /// timing.csv and charts.
    Cifar10(Cifar10Arguments),
    /// Latency won on CIFAR-10 under attack, by thresholds evolved on clean and on attacked images
    ///
    /// Goes on from the networks that `reproduce cifar10` left in its folder with the same settings,
    /// and makes them where it did not. Writes latency.csv, accuracy.csv, convergence.csv,
    /// thresholds.csv, settings.json, timing.csv and charts.
    Adversarial(AdversarialArguments),
    /// What evolution changed on CIFAR-10, and why: activity, conversion error, sensitivity
    ///
    /// Explains the networks that `reproduce cifar10` left in its folder with the same settings, and
    /// makes them where it did not. Writes a CSV for each measurement.
    Explain(ExplainArguments),
    /// The methods around the paper, side by side on the embedded digits
    ///
    /// Writes comparison.csv, accuracy.csv, settings.json and a chart.
    Comparison(ComparisonArguments),
}

/// Where data and network are.
#[derive(Args)]
struct Cifar10Files {
    /// Folder of the data set
    #[arg(long)]
    data: PathBuf,
    /// Weights: safetensors, under PyTorch's names
    #[arg(long)]
    model: PathBuf,
    /// File that lists the training images that the network was not trained on, by their place in
    /// the data set, one a line
    #[arg(long)]
    held_out_list: PathBuf,
}

#[derive(Args)]
struct AdversarialArguments {
    #[command(flatten)]
    files: Cifar10Files,
    /// Folder of `reproduce cifar10`
    #[arg(long, default_value = "results/cifar10")]
    cifar10: PathBuf,
    /// Seeds, of which `reproduce cifar10` made networks
    #[arg(long, value_delimiter = ',', default_values_t = Cifar10Settings::default().seeds)]
    seeds: Vec<u64>,
    /// Attacked test images
    #[arg(long, default_value_t = AdversarialSettings::default().test_images)]
    test_images: usize,
    /// Folder for the CSV files and charts
    #[arg(long, default_value = "results/adversarial")]
    out: PathBuf,
}

#[derive(Args)]
struct ExplainArguments {
    #[command(flatten)]
    files: Cifar10Files,
    /// Folder of `reproduce cifar10`
    #[arg(long, default_value = "results/cifar10")]
    cifar10: PathBuf,
    /// Seeds, of which `reproduce cifar10` made networks
    #[arg(long, value_delimiter = ',', default_values_t = Cifar10Settings::default().seeds)]
    seeds: Vec<u64>,
    /// Folder for the CSV files
    #[arg(long, default_value = "results/explain")]
    out: PathBuf,
}

#[derive(Args)]
struct ComparisonArguments {
    /// Seeds, one whole comparison each
    #[arg(long, value_delimiter = ',', default_values_t = ComparisonSettings::default().seeds)]
    seeds: Vec<u64>,
    /// Accuracy that the latency is to, in percent
    #[arg(long, default_value_t = ComparisonSettings::default().target_percent)]
    target: f64,
    /// Timesteps of converted networks
    #[arg(long, default_value_t = ComparisonSettings::default().timesteps)]
    timesteps: usize,
    /// Timesteps of networks that are trained through time
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
    /// Seeds, an evolution each, of the optimiser and its images
    #[arg(long, value_delimiter = ',', default_values_t = Cifar10Settings::default().seeds)]
    seeds: Vec<u64>,
    /// Initial potentials in thresholds, a comparison each
    #[arg(long, value_delimiter = ',', default_values_t = Cifar10Settings::default().initial)]
    initial: Vec<f32>,
    /// Generations after the initial population
    #[arg(long, default_value_t = Cifar10Settings::default().evolution.generations)]
    generations: usize,
    /// Held-out images that a generation is measured on: the next so many of them, round and round
    #[arg(long, default_value_t = usual_batch())]
    images: usize,
    /// Timesteps that evolution sees; what accuracy does later it does not know
    #[arg(long, default_value_t = Cifar10Settings::default().evolution.timesteps)]
    timesteps: usize,
    /// Test images
    #[arg(long, default_value_t = Cifar10Settings::default().test_images)]
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
    /// Members of the evolution's population for each layer of neurons
    #[arg(long, default_value_t = usual_population())]
    population: usize,
    /// Generations after the initial population
    #[arg(long, default_value_t = DigitsSettings::default().evolution.generations)]
    generations: usize,
    /// How far below the ANN's accuracy the targets lie, in percentage points; an
    /// evolution each
    #[arg(long, value_delimiter = ',', default_values_t = DigitsSettings::default().margins_percent)]
    margin: Vec<f64>,
    /// Folder for the CSV files and charts
    #[arg(long, default_value = "results/digits")]
    out: PathBuf,
}

/// A network and its images.
#[derive(Args)]
struct Source {
    /// Network; those for CIFAR take their classes from the data
    #[arg(long)]
    net: Net,
    /// Folder of the data set; none for the embedded digits
    #[arg(long)]
    data: Option<PathBuf>,
    /// What is in the folder
    #[arg(long, default_value = "auto")]
    format: Format,
    /// Draws the first weights, divides and orders the images
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Share of the training images to hold out
    #[arg(long, default_value_t = 0.1)]
    held_out: f64,
    /// File that lists the training images to hold out, by their place in the data set, one a line
    #[arg(long, conflicts_with = "held_out")]
    held_out_list: Option<PathBuf>,
}

#[derive(Args)]
#[command(allow_negative_numbers = true)]
struct TrainArguments {
    #[command(flatten)]
    source: Source,
    /// File for the weights: safetensors, under the names that dfdx gives the layers
    #[arg(long)]
    out: PathBuf,
    /// Passes over the training images
    #[arg(long)]
    epochs: Option<usize>,
    /// Images a step
    #[arg(long)]
    batch: Option<usize>,
    /// What a step makes of a gradient
    #[arg(long)]
    optimiser: Option<Rule>,
    /// After the warm-up
    #[arg(long)]
    learning_rate: Option<f64>,
    /// Share of its velocity that a weight keeps, of SGD [default: 0.9]
    #[arg(long)]
    momentum: Option<f64>,
    /// Added to the gradient by SGD, decoupled from it by Adam
    #[arg(long)]
    weight_decay: Option<f64>,
    /// Epochs in which the learning rate rises
    #[arg(long)]
    warmup: Option<f64>,
    /// How the learning rate changes after the warm-up
    #[arg(long)]
    schedule: Option<Course>,
    /// Share of each target that is divided among all classes
    #[arg(long)]
    label_smoothing: Option<f64>,
    /// How the images vary from epoch to epoch
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
    /// What the folder looks like
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
enum Course {
    Constant,
    Linear,
    Cosine,
}

#[derive(Clone, Copy, ValueEnum)]
enum Variation {
    None,
    Flip,
    /// Cropped out of the image with 4 pixels around it, and flipped
    CropFlip,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.exit_code() == 0 => error.exit(), // --help and --version
        Err(error) => {
            let text = error.to_string();
            let lines = text.lines().take_while(|line| !line.is_empty());
            let lines: Vec<_> = lines.map(str::trim).collect();
            eprintln!("{} (see --help)", lines.join(" "));
            return ExitCode::from(2);
        }
    };
    let done = match arguments.command {
        None => ranks::together(|| run_digits(arguments.digits)),
        Some(Command::Train(arguments)) => run_train(&arguments),
        Some(Command::Sweep(arguments)) => run_sweep(arguments),
        Some(Command::Reproduce(experiment)) => ranks::together(|| match experiment {
            Reproduce::Cifar10(arguments) => run_cifar10(&arguments),
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
    let report = digits(&settings, arguments.out)?;
    reported(&report.table(), &report.files);
    Ok(())
}

/// What data set a folder holds.
fn find_format(folder: &Path) -> evospike::Result<Format> {
    // A folder that is not there, or is a file, is told as such.
    std::fs::read_dir(folder).map_err(|source| Error::Io {
        path: folder.into(),
        source,
    })?;
    let marks = [
        ("cifar-10-batches-bin", Format::Cifar10),
        ("data_batch_1.bin", Format::Cifar10),
        ("cifar-100-binary", Format::Cifar100),
        ("train.bin", Format::Cifar100),
        ("train-images-idx3-ubyte", Format::Idx),
        ("train-images-idx3-ubyte.gz", Format::Idx),
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
    arguments.files.open(|input, stop| {
        let report = cifar10(input, &settings, &arguments.out, stop)?;
        reported(&report.table(), &report.files);
        Ok(())
    })
}

fn run_adversarial(arguments: &AdversarialArguments) -> evospike::Result<()> {
    let mut settings = AdversarialSettings {
        test_images: arguments.test_images,
        ..AdversarialSettings::default()
    };
    settings.clean.seeds = arguments.seeds.clone();
    arguments.files.open(|input, stop| {
        let clean = &arguments.cifar10;
        let report = adversarial(input, &settings, clean, &arguments.out, stop)?;
        reported(&report.table(), &report.files);
        Ok(())
    })
}

fn run_explain(arguments: &ExplainArguments) -> evospike::Result<()> {
    let mut settings = ExplainSettings::default();
    settings.clean.seeds = arguments.seeds.clone();
    arguments.files.open(|input, stop| {
        let clean = &arguments.cifar10;
        written(&explain(input, &settings, clean, &arguments.out, stop)?);
        Ok(())
    })
}

fn run_comparison(arguments: ComparisonArguments) -> evospike::Result<()> {
    let mut settings = ComparisonSettings {
        seeds: arguments.seeds,
        target_percent: arguments.target,
        timesteps: arguments.timesteps,
        ..ComparisonSettings::default()
    };
    settings.hybrid.timesteps = arguments.few;
    let report = comparison(&settings, arguments.out)?;
    reported(&report.table(), &report.files);
    Ok(())
}

/// Of several ranks, the first one prints.
fn reported(table: &Table, files: &[PathBuf]) {
    if ranks::leads() {
        println!("\n{table}");
    }
    written(files);
}

fn written(files: &[PathBuf]) {
    if ranks::leads() {
        println!("Written:");
        for file in files {
            println!("  {}", file.display());
        }
    }
}

impl Cifar10Files {
    /// Runs an experiment that Ctrl-C stops.
    fn open(
        &self,
        run: impl FnOnce(&Cifar10Input<'_, Vgg15HalfBn>, &AtomicBool) -> evospike::Result<()>,
    ) -> evospike::Result<()> {
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
            // The second time the user does not want to wait; every file is there whole or not at
            // all.
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

/// What a network is trained with unless the command line says otherwise.
fn recipe(net: Net) -> TrainSettings {
    match net {
        Net::Digits | Net::Mlp => TrainSettings::default(),
        Net::Vgg15HalfBn | Net::Vgg15QuarterBn | Net::Resnet20 => TrainSettings::cifar(),
        Net::MnistCnn => TrainSettings {
            epochs: 10,
            augment: Augment::NONE,
            ..TrainSettings::cifar()
        },
        Net::Vgg15 | Net::Vgg16 => TrainSettings {
            learning_rate: 0.01,
            ..TrainSettings::cifar()
        },
    }
}

fn wrong(name: &'static str, found: &str, expected: &str) -> Error {
    Error::Parameter {
        name,
        found: found.into(),
        expected: expected.into(),
    }
}

impl TrainArguments {
    fn settings(&self) -> evospike::Result<TrainSettings> {
        let own = recipe(self.source.net);
        let optimiser = match self.optimiser {
            None => own.optimiser,
            Some(Rule::Adam) => Optimiser::Adam,
            Some(rule) => Optimiser::Sgd {
                momentum: 0.9,
                nesterov: rule == Rule::Nesterov,
            },
        };
        let optimiser = match (optimiser, self.momentum) {
            (optimiser, None) => optimiser,
            (Optimiser::Sgd { nesterov, .. }, Some(momentum)) => {
                Optimiser::Sgd { momentum, nesterov }
            }
            (Optimiser::Adam, Some(momentum)) => {
                let expected = "none with the optimiser adam";
                return Err(wrong("momentum", &momentum.to_string(), expected));
            }
        };
        let epochs = self.epochs.unwrap_or(own.epochs);
        // A network's own warm-up gives way where the user wants but few epochs.
        let warmup = own.warmup_epochs.min(0.1 * epochs as f64);
        let settings = TrainSettings {
            epochs,
            batch: self.batch.unwrap_or(own.batch),
            optimiser,
            learning_rate: self.learning_rate.unwrap_or(own.learning_rate),
            schedule: match self.schedule {
                None => own.schedule,
                Some(Course::Constant) => Schedule::Constant,
                Some(Course::Linear) => Schedule::Linear,
                Some(Course::Cosine) => Schedule::Cosine,
            },
            warmup_epochs: self.warmup.unwrap_or(warmup),
            weight_decay: self.weight_decay.unwrap_or(own.weight_decay),
            label_smoothing: self.label_smoothing.unwrap_or(own.label_smoothing),
            augment: match self.augment {
                None => own.augment,
                Some(Variation::None) => Augment::NONE,
                Some(Variation::Flip) => Augment {
                    flip: true,
                    ..Augment::NONE
                },
                Some(Variation::CropFlip) => Augment::CIFAR,
            },
            seed: self.source.seed,
        };
        settings.check()?;
        Ok(settings)
    }

    fn checkpoint(&self) -> PathBuf {
        let mut path = self.out.as_os_str().to_owned();
        path.push(".checkpoint");
        path.into()
    }
}

/// What is done with a network and its images, whichever they are.
trait Work {
    fn on<N: Network>(&self, parts: &Split<N::Task>) -> evospike::Result<()>;
}

impl Source {
    fn open(&self, work: &impl Work) -> evospike::Result<()> {
        if !(self.held_out > 0.0 && self.held_out < 1.0) {
            let found = self.held_out.to_string();
            return Err(wrong("held_out", &found, "above 0, less than 1"));
        }
        match self.net {
            Net::Digits => self.on_digits::<DigitsCnn>(work),
            Net::Mlp => self.on_digits::<Mlp>(work),
            Net::MnistCnn => {
                let data = match self.format()? {
                    Format::Idx => data::idx::<Mnist>(self.data()?)?,
                    Format::Folder => data::folder::<Mnist>(self.data()?)?,
                    _ => return Err(self.refuse("idx or folder")),
                };
                self.on::<MnistCnn>(work, data, &Normalisation::MNIST)
            }
            Net::Vgg15 => self.on_cifar::<Vgg15, Vgg15Cifar100>(work),
            Net::Vgg15HalfBn => self.on_cifar::<Vgg15HalfBn, Vgg15HalfBnCifar100>(work),
            Net::Vgg15QuarterBn => self.on_cifar::<Vgg15QuarterBn, Vgg15QuarterBnCifar100>(work),
            Net::Resnet20 => self.on_cifar::<ResNet20, ResNet20Cifar100>(work),
            Net::Vgg16 => {
                let data = match self.format()? {
                    Format::Folder => data::folder::<ImageNet>(self.data()?)?,
                    _ => return Err(self.refuse("folder")),
                };
                self.on::<Vgg16>(work, data, &Normalisation::IMAGENET)
            }
        }
    }

    /// Networks for 10 and for 100 classes: the data says which.
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
            return Err(wrong("data", &folder.display().to_string(), embedded));
        }
        if let Some(list) = &self.held_out_list {
            let found = list.display().to_string();
            return Err(wrong("held_out_list", &found, embedded));
        }
        let shares = Shares {
            held_out: self.held_out,
            ..Shares::default()
        };
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

    /// What is in the folder.
    fn format(&self) -> evospike::Result<Format> {
        if self.format != Format::Auto {
            return Ok(self.format);
        }
        find_format(self.data()?)
    }

    fn refuse(&self, formats: &str) -> Error {
        let format = self
            .format()
            .ok()
            .and_then(|format| format.to_possible_value());
        let found = format.map_or_else(String::new, |format| format.get_name().to_owned());
        wrong("format", &found, &format!("{formats} for this network"))
    }
}

struct Training<'a> {
    arguments: &'a TrainArguments,
    settings: TrainSettings,
}

fn run_train(arguments: &TrainArguments) -> evospike::Result<()> {
    let settings = arguments.settings()?;
    // Now, not after the training.
    if arguments.out.exists() && !arguments.out.is_file() {
        let found = arguments.out.display().to_string();
        return Err(wrong("out", &found, "a file, there or to be made"));
    }
    arguments.source.open(&Training {
        arguments,
        settings,
    })
}

impl Work for Training<'_> {
    fn on<N: Network>(&self, parts: &Split<N::Task>) -> evospike::Result<()> {
        let arguments = self.arguments;
        let checkpoint = arguments.checkpoint();
        let mut ann = Ann::<N>::new(arguments.source.seed)?;
        let file = checkpoint.display().to_string();
        // A checkpoint is there whole or not at all, so it is safe to stop anywhere.
        let stop = ctrlc::set_handler(move || {
            eprintln!("\nstopped: the same command resumes from {file}");
            std::process::exit(130);
        });
        if let Err(error) = stop {
            eprintln!("warning: Ctrl-C will not say how to resume: {error}");
        }
        let history = Resume::at(&checkpoint).train(&mut ann, &parts.training, &self.settings)?;
        ann.save(&arguments.out, &Names::own())?;
        if let Some(last) = history.last() {
            println!("{}: {last} in epoch {}", N::NAME, last.epoch);
        }
        for (part, accuracy) in [
            ("held-out", ann.accuracy(&parts.held_out)?),
            ("test", ann.accuracy(&parts.test)?),
        ] {
            let (percent, images) = (accuracy.percent(), accuracy.images);
            println!("{part} accuracy: {percent:.2} % of {images} images");
        }
        println!(
            "Written:\n  {}\n  {}",
            arguments.out.display(),
            checkpoint.display()
        );
        Ok(())
    }
}

fn run_sweep(arguments: SweepArguments) -> evospike::Result<()> {
    if let Some(SweepCommand::Merge { out, parts }) = arguments.command {
        merge(parts, &out)?;
        written(&[out]);
        return Ok(());
    }
    let (Some(source), Some(grid)) = (&arguments.source, &arguments.grid) else {
        return Err(wrong("net", "none", "a network and a CSV file")); // as clap has said
    };
    if grid.model.is_none() && !matches!(source.net, Net::Digits | Net::Mlp) {
        return Err(wrong("model", "none", "a file of weights"));
    }
    source.open(&Conversions { source, grid })
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
                let settings = TrainSettings {
                    seed,
                    ..TrainSettings::digits()
                };
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
        let balance = parts
            .training
            .take(grid.balance_images.unwrap_or(usize::MAX));
        let conversion = convert(&ann, &balance)?;
        let images = parts.held_out.take(grid.images.unwrap_or(usize::MAX));
        let target = ann.target(&images, grid.margin)?;
        let columns = ["latency (timesteps)", "accuracy (%)", "spikes an image"];
        sweep.run(&grid.out, columns, |&(percentile, leak, initial, code)| {
            let snn = conversion.balance(Balance::Percentile(percentile))?;
            let snn = snn.with(|neurons| {
                neurons.leak = vec![leak];
                neurons.initial = initial;
            })?;
            let settings = SimulateSettings {
                code,
                ..grid.timesteps.into()
            };
            let run = simulate(&snn, &images, settings)?;
            let layers = 0..snn.neurons().len();
            Ok([
                run.curve.latency(&target).map(|latency| latency as f64),
                run.curve.after(grid.timesteps).map(Accuracy::percent),
                Some(layers.map(|layer| run.spikes_per_image(layer)).sum()),
            ])
        })?;
        written(std::slice::from_ref(&grid.out));
        Ok(())
    }
}
