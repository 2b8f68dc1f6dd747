//! The command line: `cargo run --release` runs the whole pipeline on the embedded digits, `train`
//! trains a network on a data set.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, Parser, Subcommand, ValueEnum};
use evospike::data::{ImageNet, Mnist, Normalisation, TrainTest};
use evospike::networks::{
    Mlp, MnistCnn, ResNet20, ResNet20Cifar100, Vgg15, Vgg15Cifar100, Vgg15HalfBn,
    Vgg15HalfBnCifar100, Vgg15QuarterBn, Vgg15QuarterBnCifar100, Vgg16,
};
use evospike::prelude::*;
use evospike::reproduce::{
    AdversarialSettings, Cifar10Input, Cifar10Settings, ComparisonSettings, DigitsSettings,
    ExplainSettings, adversarial, cifar10, comparison, digits, explain,
};
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

#[derive(Args)]
#[command(allow_negative_numbers = true)]
struct TrainArguments {
    /// Network; those for CIFAR take their classes from the data
    #[arg(long)]
    net: Net,
    /// Folder of the data set; none for the embedded digits
    #[arg(long)]
    data: Option<PathBuf>,
    /// File for the weights: safetensors, under the names that dfdx gives the layers
    #[arg(long)]
    out: PathBuf,
    /// What is in the folder
    #[arg(long, default_value = "auto")]
    format: Format,
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
        let own = recipe(self.net);
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
            seed: self.seed,
        };
        settings.check()?;
        if !(self.held_out > 0.0 && self.held_out < 1.0) {
            let found = self.held_out.to_string();
            return Err(wrong("held_out", &found, "above 0, less than 1"));
        }
        Ok(settings)
    }

    fn checkpoint(&self) -> PathBuf {
        let mut path = self.out.as_os_str().to_owned();
        path.push(".checkpoint");
        path.into()
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

fn run_train(arguments: &TrainArguments) -> evospike::Result<()> {
    let settings = arguments.settings()?;
    match arguments.net {
        Net::Digits => on_digits::<DigitsCnn>(arguments, &settings),
        Net::Mlp => on_digits::<Mlp>(arguments, &settings),
        Net::MnistCnn => {
            let data = match arguments.format()? {
                Format::Idx => data::idx::<Mnist>(arguments.data()?)?,
                Format::Folder => data::folder::<Mnist>(arguments.data()?)?,
                _ => return Err(arguments.refuse("idx or folder")),
            };
            on::<MnistCnn>(arguments, &settings, data, &Normalisation::MNIST)
        }
        Net::Vgg15 => on_cifar::<Vgg15, Vgg15Cifar100>(arguments, &settings),
        Net::Vgg15HalfBn => on_cifar::<Vgg15HalfBn, Vgg15HalfBnCifar100>(arguments, &settings),
        Net::Vgg15QuarterBn => {
            on_cifar::<Vgg15QuarterBn, Vgg15QuarterBnCifar100>(arguments, &settings)
        }
        Net::Resnet20 => on_cifar::<ResNet20, ResNet20Cifar100>(arguments, &settings),
        Net::Vgg16 => {
            let data = match arguments.format()? {
                Format::Folder => data::folder::<ImageNet>(arguments.data()?)?,
                _ => return Err(arguments.refuse("folder")),
            };
            on::<Vgg16>(arguments, &settings, data, &Normalisation::IMAGENET)
        }
    }
}

/// Networks for 10 and for 100 classes: the data says which.
fn on_cifar<A: Network<Task = Cifar10>, B: Network<Task = Cifar100>>(
    arguments: &TrainArguments,
    settings: &TrainSettings,
) -> evospike::Result<()> {
    let (ten, hundred) = (Normalisation::CIFAR10, Normalisation::CIFAR100);
    let (format, folder) = (arguments.format()?, arguments.data()?);
    let classes = std::fs::read_dir(folder.join("train")).map_or(0, Iterator::count);
    match format {
        Format::Cifar10 => on::<A>(arguments, settings, data::cifar10(folder)?, &ten),
        Format::Cifar100 => on::<B>(arguments, settings, data::cifar100(folder)?, &hundred),
        Format::Folder if classes >= Cifar100::CLASSES => {
            on::<B>(arguments, settings, data::folder(folder)?, &hundred)
        }
        Format::Folder => on::<A>(arguments, settings, data::folder(folder)?, &ten),
        Format::Idx | Format::Auto => Err(arguments.refuse("cifar10, cifar100 or folder")),
    }
}

fn on_digits<N: Network<Task = Digits>>(
    arguments: &TrainArguments,
    settings: &TrainSettings,
) -> evospike::Result<()> {
    let embedded = "none: the digits are embedded";
    if let Some(folder) = &arguments.data {
        return Err(wrong("data", &folder.display().to_string(), embedded));
    }
    if let Some(list) = &arguments.held_out_list {
        return Err(wrong(
            "held_out_list",
            &list.display().to_string(),
            embedded,
        ));
    }
    let shares = Shares {
        held_out: arguments.held_out,
        ..Shares::default()
    };
    train::<N>(
        arguments,
        settings,
        &data::digits()?.split(shares, arguments.seed)?,
    )
}

fn on<N: Network>(
    arguments: &TrainArguments,
    settings: &TrainSettings,
    data: TrainTest<N::Task>,
    normalisation: &Normalisation,
) -> evospike::Result<()> {
    let data = data.normalised(normalisation)?;
    let parts = match &arguments.held_out_list {
        Some(list) => data.hold_out_listed(list, arguments.seed)?,
        None => data.hold_out(arguments.held_out, arguments.seed)?,
    };
    train::<N>(arguments, settings, &parts)
}

fn train<N: Network>(
    arguments: &TrainArguments,
    settings: &TrainSettings,
    parts: &Split<N::Task>,
) -> evospike::Result<()> {
    let checkpoint = arguments.checkpoint();
    let mut ann = Ann::<N>::new(arguments.seed)?;
    let file = checkpoint.display().to_string();
    // A checkpoint is there whole or not at all, so it is safe to stop anywhere.
    let stop = ctrlc::set_handler(move || {
        eprintln!("\nstopped: the same command resumes from {file}");
        std::process::exit(130);
    });
    if let Err(error) = stop {
        eprintln!("warning: Ctrl-C will not say how to resume: {error}");
    }
    let history = ann.train_resumable(&parts.training, settings, &checkpoint)?;
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
