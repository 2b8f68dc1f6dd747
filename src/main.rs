//! Command line of evospike: without a command, it runs the whole pipeline on embedded images.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use dfdx::prelude::Cpu;
use evospike::ann::History;
use evospike::ann::networks::NetworkDevice;
use evospike::ann::optimiser::{Optimiser, Schedule};
use evospike::data::{Augment, Training};
use evospike::prelude::*;
use evospike::sweep::merge;
use evospike::{Error, ranks};
use serde_json::json;

#[cfg(feature = "onnx")]
use crate::command_line::{EvolveArguments, ImportArguments};
use crate::command_line::{
    FashionArguments, ImageArguments, Net, Reproduce, Work, beside, load_trained, print_files,
    run_fashion, wrong,
};

mod command_line;

/// Train a network on pictures of clothes, convert it to spiking networks of plain and of signed
/// neurons, evolve them, and report by how much the latency at equal accuracy falls.
///
/// Writes latency.csv, neurons.csv, accuracy.csv, convergence.csv, settings.json, timing.csv and a
/// chart. Every step's result is kept in OUT/.checkpoints: after an interruption, the same command
/// resumes from there.
#[derive(Parser)]
#[command(version, allow_negative_numbers = true, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    fashion: FashionArguments,
}

#[derive(Subcommand)]
enum Command {
    /// Train a network on a data set and write its weights
    ///
    /// Beside the weights, it lists the images that were held out of a data set in
    /// OUT.held-out.txt. After every epoch, the state of the training is written to OUT.checkpoint.
    /// If that file exists, the same command resumes from it and ends with exactly the weights of a
    /// run without interruption; a command with other settings is refused. Delete the file to start
    /// again.
    ///
    /// Settings that are not given depend on the network. For networks with batch normalisation
    /// they are 100 epochs (mnist-cnn: 10) in batches of 128, SGD with Nesterov momentum 0.9,
    /// learning rate 0.1 after a warm-up of 1 epoch (at most a tenth of all) with a cosine
    /// schedule, weight decay 5e-4, label smoothing 0.1 and crop-flip (mnist-cnn: none); vgg15 and
    /// vgg16 have learning rate 0.01. For the digits they are 30 epochs in batches of 16, Adam,
    /// learning rate 5e-3 with a cosine schedule, weight decay 0.1; for the clothes, as in the main
    /// job, 6 epochs in batches of 64, learning rate 0.05 and flip.
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
    /// Read a trained network from an ONNX file, and print what it is
    ///
    /// Prints its layers with their shapes, weights and multiply-accumulates, what became of nodes
    /// that are no layers, and the source of the network as a typed one, if it is one. With --check,
    /// compares its logits with those of another program; the exit code is 1 if one differs by more
    /// than --tolerance.
    #[cfg(feature = "onnx")]
    Import(ImportArguments),
    /// Convert the network of an ONNX file to a spiking one, and evolve its thresholds
    ///
    /// Chooses the percentile of the thresholds on held-out images, evolves the thresholds on them,
    /// and measures both networks on the test images. Writes accuracy.csv, convergence.csv,
    /// thresholds.csv, their charts and, if NIR has its layers, evolved.nir. After an interruption,
    /// the same command goes on from OUT/evolve.checkpoint.
    #[cfg(feature = "onnx")]
    Evolve(EvolveArguments),
}

#[derive(Args)]
struct SweepArguments {
    #[command(subcommand)]
    command: Option<SweepCommand>,
    // Optional like the rest of a source; clap gives no optional group within a group.
    /// Network; those for CIFAR take the number of classes from the data
    #[arg(long)]
    net: Option<Net>,
    #[command(flatten)]
    images: ImageArguments,
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
    /// File of weights (safetensors), as `train` writes it or with PyTorch's names, trained with the
    /// same seed and the same images held out; without it,
    /// networks for the digits are trained first
    #[arg(long)]
    model: Option<PathBuf>,
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

#[derive(Args)]
#[command(allow_negative_numbers = true)]
struct TrainArguments {
    /// Network; those for CIFAR take the number of classes from the data
    #[arg(long)]
    net: Net,
    #[command(flatten)]
    images: ImageArguments,
    /// File for the weights (safetensors) with dfdx's names of the layers
    #[arg(long)]
    out: PathBuf,
    /// Write the weights in half precision, in half the space
    #[arg(long)]
    half: bool,
    /// Device that trains
    #[arg(long, default_value = "cpu")]
    device: DeviceName,
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
enum Rule {
    /// With classical momentum
    Sgd,
    /// SGD with Nesterov momentum
    Nesterov,
    /// With decoupled weight decay
    Adam,
}

#[derive(Clone, Copy, ValueEnum)]
enum DeviceName {
    Cpu,
    /// The first NVIDIA card; the program must be built with the feature `cuda`
    Cuda,
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
        None => ranks::together(|| run_fashion(arguments.fashion)),
        Some(Command::Train(arguments)) => run_train(&arguments),
        Some(Command::Sweep(arguments)) => run_sweep(arguments),
        #[cfg(feature = "onnx")]
        Some(Command::Import(arguments)) => arguments.run(),
        #[cfg(feature = "onnx")]
        Some(Command::Evolve(arguments)) => arguments.run(),
        Some(Command::Reproduce(experiment)) => ranks::together(|| experiment.run()),
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

/// Default settings of a network's training.
fn recipe(net: Net) -> TrainSettings {
    match net {
        Net::Digits | Net::Mlp => TrainSettings::default(),
        Net::Vgg15HalfBn | Net::Vgg15QuarterBn | Net::Resnet20 => TrainSettings::cifar(),
        Net::Fashion => TrainSettings::fashion(),
        Net::MnistCnn => {
            TrainSettings { epochs: 10, augment: Augment::NONE, ..TrainSettings::cifar() }
        }
        Net::Vgg15 | Net::Vgg16 => TrainSettings { learning_rate: 0.01, ..TrainSettings::cifar() },
    }
}

impl TrainArguments {
    fn settings(&self) -> evospike::Result<TrainSettings> {
        let own = recipe(self.net);
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
            seed: self.images.seed,
        };
        settings.check()?;
        Ok(settings)
    }
}

/// Ending of the list of held-out images, the longest of what `train` adds to a name.
const HELD_OUT: &str = ".held-out.txt";

/// Returns an error for what cannot be a file, before anything is computed for it.
/// Files beside it have the same name with `ending`.
fn check_out(out: &Path, ending: &str) -> evospike::Result<()> {
    let folder = out.as_os_str().as_encoded_bytes().ends_with(b"/");
    if folder || out.exists() && !out.is_file() {
        return Err(wrong("out", out.display(), "a file, there or to be made"));
    }
    let (bytes, most) = (out.file_name().unwrap_or_default().len(), 255 - ending.len());
    match bytes > most {
        true => {
            let expected = format!("at most {most}, since `{ending}` is added to it");
            Err(wrong("out", format!("a name of {bytes} bytes"), expected))
        }
        false => Ok(()),
    }
}

fn without_cuda() -> Error {
    wrong("device", "cuda", "cpu, as the program was built without the feature `cuda`")
}

fn run_train(arguments: &TrainArguments) -> evospike::Result<()> {
    // Found now, not after the training.
    arguments.settings()?;
    if cfg!(not(feature = "cuda")) && matches!(arguments.device, DeviceName::Cuda) {
        return Err(without_cuda());
    }
    check_out(&arguments.out, HELD_OUT)?;
    arguments.images.open(arguments.net, arguments)
}

impl TrainArguments {
    /// Trains on a device and writes the weights.
    fn train<N: Network, D: NetworkDevice>(
        &self,
        images: &Images<Training, N::Task>,
        settings: &TrainSettings,
        names: &Names,
        resume: &Resume<'_>,
    ) -> evospike::Result<History> {
        let mut ann = Ann::<N, D>::new(self.images.seed)?;
        let history = resume.train(&mut ann, images, settings)?;
        ann.save(&self.out, names)?;
        Ok(history)
    }
}

impl Work for TrainArguments {
    fn on<N: Network>(&self, parts: &Split<N::Task>) -> evospike::Result<()> {
        let checkpoint = beside(&self.out, ".checkpoint");
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
        let names = if self.half { Names::own().half_precision() } else { Names::own() };
        let resume = Resume::at(&checkpoint);
        let history = match self.device {
            DeviceName::Cpu => self.train::<N, Cpu>(&parts.training, &settings, &names, &resume),
            #[cfg(feature = "cuda")]
            DeviceName::Cuda => {
                self.train::<N, dfdx::prelude::Cuda>(&parts.training, &settings, &names, &resume)
            }
            #[cfg(not(feature = "cuda"))]
            DeviceName::Cuda => Err(without_cuda()),
        }?;
        let ann = Ann::<N>::load(&self.out, &names)?; // rounded, as it is used from now on
        if let Some(last) = history.last() {
            println!("{}: {last} in epoch {}", N::NAME, last.epoch);
        }
        for (part, accuracy) in
            [("held-out", ann.accuracy(&parts.held_out)?), ("test", ann.accuracy(&parts.test)?)]
        {
            let (percent, images) = (accuracy.percent(), accuracy.images);
            println!("{part} accuracy: {percent:.2} % of {images} images");
        }
        let mut files = vec![self.out.clone(), checkpoint];
        if self.images.files.data().is_ok() {
            let list = beside(&self.out, HELD_OUT);
            parts.held_out.save_list(&list)?;
            files.push(list);
        }
        print_files(&files);
        Ok(())
    }
}

fn run_sweep(arguments: SweepArguments) -> evospike::Result<()> {
    if let Some(SweepCommand::Merge { out, parts }) = arguments.command {
        merge(parts, &out)?;
        print_files(&[out]);
        return Ok(());
    }
    let (Some(net), Some(grid)) = (arguments.net, &arguments.grid) else {
        return Err(wrong("net", "none", "a network and a CSV file")); // as clap has said
    };
    // Found now: as rows that failed, they would be kept with a key that is of no use.
    check_out(&grid.out, ".key")?;
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
    if grid.model.is_none() && !matches!(net, Net::Digits | Net::Mlp) {
        return Err(wrong("model", "none", "a file of weights"));
    }
    arguments.images.open(net, &Conversions { images: &arguments.images, grid })
}

struct Conversions<'a> {
    images: &'a ImageArguments,
    grid: &'a GridArguments,
}

impl Conversions<'_> {
    fn ann<N: Network>(&self, parts: &Split<N::Task>) -> evospike::Result<Ann<N>> {
        let seed = self.images.seed;
        match &self.grid.model {
            Some(file) => load_trained(file, parts),
            None => {
                let mut ann = Ann::new(seed)?;
                let settings = TrainSettings { seed, ..TrainSettings::digits() };
                ann.train(&parts.training, &settings)?;
                Ok(ann)
            }
        }
    }

    fn code(&self, code: Code) -> InputCode {
        let (period, seed) = (self.grid.period, self.images.seed);
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
        // Everything that decides the numbers, beside the axes; CRC-32 of each source.
        let key = json!({
            "settings": {
                "network": N::NAME,
                "seed": self.images.seed,
                "timesteps": grid.timesteps,
                "margin": grid.margin,
                "images": images.len(),
                "balance_images": balance_images.len(),
            },
            "sources": {
                "weights": ann.checksum()?,
                "images": images.checksum(),
                "balance_images": balance_images.checksum(),
            },
        });
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
