//! Evolution of a network of an ONNX file on the command line.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use evospike::Error;
use evospike::ann::networks::Classifier;
use evospike::data::{Cifar10, Cifar100, Classify, ImageNet, Mnist, Shape, Task, TrainTest};
use evospike::onnx::Onnx;
use evospike::prelude::*;
use evospike::report::{AccuracyRow, ConvergenceRow, Output, ThresholdRow};

use super::experiments::{print_files, stopped_by_ctrl_c};
use super::import::{PixelArguments, shape};
use super::source::{Format, ImageArguments, wrong};

#[derive(Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct EvolveArguments {
    /// ONNX file of the trained network
    #[arg(long)]
    model: PathBuf,
    #[command(flatten)]
    images: ImageArguments,
    #[command(flatten)]
    pixels: PixelArguments,
    /// The network takes blue, green, red; the means and deviations are given red, green, blue
    #[arg(long)]
    bgr: bool,
    /// Shape of an image, for a file that leaves it open or takes a row of pixels
    #[arg(long, value_name = "CHANNELSxROWSxCOLUMNS", value_parser = shape)]
    input: Option<Shape>,
    /// Spikes of the neurons
    #[arg(long, default_value = "plain")]
    spikes: Kind,
    /// Initial membrane potential as a fraction of the threshold
    #[arg(long, default_value_t = 0.5)]
    initial: f32,
    /// Timesteps of each simulation
    #[arg(long, default_value_t = 64)]
    timesteps: usize,
    /// Generations after the initial population
    #[arg(long, default_value_t = EvolveSettings::default().generations)]
    generations: usize,
    /// Margin of the target below the network's accuracy, in percentage points
    #[arg(long, default_value_t = 1.0)]
    margin: f64,
    /// Number of training images that set the thresholds, from the first
    #[arg(long, default_value_t = 1000)]
    balance_images: usize,
    /// Number of held-out images, from the first [default: all]
    #[arg(long)]
    held_out_images: Option<usize>,
    /// Number of test images, from the first [default: all]
    #[arg(long)]
    test_images: Option<usize>,
    /// Folder for the CSV files, the charts and the spiking network
    #[arg(long, default_value = "results/evolve")]
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// One spike a timestep
    Plain,
    /// Also of negative charge
    Signed,
    /// Signed, up to two a timestep
    Burst,
    /// Signed, up to four, each of a quarter of the threshold
    Graded,
}

impl EvolveArguments {
    pub(crate) fn run(&self) -> evospike::Result<()> {
        self.images.check()?;
        let mut onnx = Onnx::read(&self.model, self.input)?;
        if self.bgr {
            onnx = onnx.with_channels_reversed();
        }
        let Shape { channels, height, width } = onnx.graph.input;
        let classes = onnx.graph.shapes()?.last().map_or(0, |shape| shape.channels);
        match (channels, height, width, classes) {
            (1, 8, 8, 10) => self.on(onnx, self.images.digits()?),
            (1, 28, 28, 10) => self.on_set::<Mnist>(onnx, (Format::Idx, |path| data::idx(path))),
            (3, 32, 32, 10) => {
                self.on_set::<Cifar10>(onnx, (Format::Cifar10, |path| data::cifar10(path)))
            }
            (3, 32, 32, 100) => {
                self.on_set::<Cifar100>(onnx, (Format::Cifar100, |path| data::cifar100(path)))
            }
            (3, 64, 64, 200) => self.on_folder::<Classify<3, 64, 200>>(onnx),
            (3, 224, 224, 10) => self.on_folder::<Classify<3, 224, 10>>(onnx),
            (3, 224, 224, 1000) => self.on_folder::<ImageNet>(onnx),
            (3, 227, 227, 1000) => self.on_folder::<Classify<3, 227, 1000>>(onnx),
            _ => {
                let found = format!("images of {} in {classes} classes", onnx.graph.input);
                let expected = "1x8x8, 1x28x28, 3x32x32 or 3x224x224 in 10, 3x32x32 in 100, 3x64x64 \
                    in 200, 3x224x224 or 3x227x227 in 1000; in a program, those of any `Task`";
                Err(wrong("model", found, expected))
            }
        }
    }

    fn on_folder<K: Task>(&self, onnx: Onnx) -> evospike::Result<()> {
        self.on_set::<K>(onnx, (Format::Folder, |path| data::folder(path)))
    }

    /// Works on a data set in its published format, or in folders.
    fn on_set<K: Task>(
        &self,
        onnx: Onnx,
        (published, read): (Format, Published<K>),
    ) -> evospike::Result<()> {
        let normalisation = self.pixels.normalisation()?;
        let format = self.images.format()?;
        let data = match format {
            Format::Folder => self.images.folder()?,
            format if format == published => read(self.images.data()?)?,
            _ => return Err(self.images.refuse("that of the network's images, or folder")),
        };
        let data = match normalisation {
            None => data,
            Some(normalisation) => data.normalised(&normalisation)?,
        };
        self.on(onnx, self.images.split(&data)?)
    }

    fn on<K: Task>(&self, onnx: Onnx, parts: Split<K>) -> evospike::Result<()> {
        let stop = stopped_by_ctrl_c();
        let network = Imported::<K>::new(onnx.graph)?;
        let output = Output::new(&self.out)?;
        let all = usize::MAX;
        let held_out = parts.held_out.take(self.held_out_images.unwrap_or(all));
        let test = parts.test.take(self.test_images.unwrap_or(all));
        let target = network.target(&held_out, self.margin)?;
        let conversion = convert(&network, &parts.training.take(self.balance_images))?;
        let (balance, baseline) = self.baseline(&conversion, &held_out, &target)?;
        let settings = EvolveSettings {
            generations: self.generations,
            timesteps: self.timesteps,
            seed: self.images.seed,
            ..EvolveSettings::default()
        };
        let checkpoint = self.out.join("evolve.checkpoint");
        let resume = Resume::at(&checkpoint).stopped_by(stop);
        let evolution = resume.evolve(&baseline, &held_out, &target, &settings)?;

        let target = network.target(&test, self.margin)?;
        let before = simulate(&baseline, &test, self.timesteps)?;
        let after = simulate(&evolution.snn, &test, self.timesteps)?;
        let (seed, name) = (self.images.seed, balance.to_string());
        let curves = [(&*name, &before.curve), ("evolved", &after.curve)];
        let rows = curves.iter().flat_map(|(name, curve)| AccuracyRow::of(seed, name, curve));
        output.csv("accuracy.csv", rows)?;
        let rows = evolution.generations.iter();
        let row = |state| ConvergenceRow::new(seed, self.initial, self.margin, state);
        output.csv("convergence.csv", rows.map(row))?;
        let rows = ThresholdRow::of(seed, self.margin, &baseline, &evolution.snn);
        plot::thresholds("Thresholds", &rows)?.save(output.path("thresholds.svg"))?;
        output.csv("thresholds.csv", rows)?;
        let title = format!("Accuracy on {} test images", test.len());
        plot::accuracy(&title, curves, Some(&target))?.save(output.path("accuracy.svg"))?;
        evolution.convergence("Evolution")?.save(output.path("convergence.svg"))?;
        // NIR has no node for some layers, such as max pooling: all else is kept.
        #[cfg(feature = "nir")]
        match evolution.snn.save(output.path("evolved.nir")) {
            Err(error @ Error::Layer { .. }) => println!("no evolved.nir: {error}"),
            saved => saved?,
        }

        println!("network: {} of the test images", target.ann());
        for (name, curve) in curves {
            let latency = curve.latency(&target);
            let latency = latency.map_or("more".into(), |latency| latency.to_string());
            let last = curve.after(self.timesteps).map_or(0.0, |accuracy| accuracy.percent());
            println!(
                "{name}: {latency} timesteps to {:.2} %, {last:.2} % after {}",
                target.percent(),
                self.timesteps,
            );
        }
        print_files(&output.complete()?);
        Ok(())
    }

    /// The conversion by the percentile that is best on held-out images.
    fn baseline<N: Classifier>(
        &self,
        conversion: &Conversion<N>,
        held_out: &Images<HeldOut, N::Task>,
        target: &Target,
    ) -> evospike::Result<(Balance, Snn<N>)> {
        let spikes = match self.spikes {
            Kind::Plain => Spikes::PLAIN,
            Kind::Signed => Spikes::SIGNED,
            Kind::Burst => Spikes::burst(2),
            Kind::Graded => Spikes::levels(4),
        };
        let mut best: Option<(usize, usize, Balance, Snn<N>)> = None;
        for balance in Balance::SWEEP {
            let snn = match conversion.balance(balance) {
                // A percentile so low that the threshold of a sparse layer is 0 is no candidate.
                Err(Error::Layer { .. }) => continue,
                snn => snn?.with_initial(self.initial)?.with_spikes(spikes)?,
            };
            let curve = simulate(&snn, held_out, self.timesteps)?.curve;
            let latency = curve.latency(target).unwrap_or(usize::MAX);
            let wrong = curve.after(self.timesteps).map_or(0, |last| last.images - last.correct);
            if best.as_ref().is_none_or(|best| (latency, wrong) < (best.0, best.1)) {
                best = Some((latency, wrong, balance, snn));
            }
        }
        let best = best.ok_or_else(|| wrong("model", "thresholds of 0", "activations above 0"))?;
        Ok((best.2, best.3))
    }
}

/// Reader of a data set in its published format.
type Published<K> = fn(&Path) -> evospike::Result<TrainTest<K>>;
