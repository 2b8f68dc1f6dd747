//! Evolution of a network of an ONNX file on the command line.

use std::path::PathBuf;

use clap::Args;
#[cfg(feature = "nir")]
use evospike::Error;
use evospike::data::{Task, TrainTest};
use evospike::prelude::*;
use evospike::report::{AccuracyRow, ConvergenceRow, Output, ThresholdRow};
use evospike::reproduce::NeuronKind;

use super::experiments::{print_files, stopped_by_ctrl_c};
use super::import::{ImportedWork, OnnxArguments};
use super::source::ImageArguments;

#[derive(Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct EvolveArguments {
    /// ONNX file of the trained network
    #[arg(long)]
    model: PathBuf,
    #[command(flatten)]
    images: ImageArguments,
    #[command(flatten)]
    input: OnnxArguments,
    /// Spikes of the neurons: plain, signed, burst, two_levels, four_levels or eight_levels
    #[arg(long, default_value = "plain", value_parser = NeuronKind::named)]
    spikes: NeuronKind,
    /// Initial membrane potential in sizes of a spike: a threshold, unless spikes have levels
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

impl EvolveArguments {
    pub(crate) fn run(&self) -> evospike::Result<()> {
        self.images.check()?;
        self.input.open(&self.model, &self.images.files, self)
    }
}

impl ImportedWork for EvolveArguments {
    fn on_digits(&self, network: &Imported<Digits>) -> evospike::Result<()> {
        self.evolve(network, &self.images.digits()?)
    }

    fn on_set<K: Task>(&self, network: &Imported<K>, data: &TrainTest<K>) -> evospike::Result<()> {
        self.evolve(network, &self.images.split(data)?)
    }
}

impl EvolveArguments {
    fn evolve<K: Task>(&self, network: &Imported<K>, parts: &Split<K>) -> evospike::Result<()> {
        let stop = stopped_by_ctrl_c();
        let output = Output::new(&self.out)?;
        let all = usize::MAX;
        let held_out = parts.held_out.take(self.held_out_images.unwrap_or(all));
        let test = parts.test.take(self.test_images.unwrap_or(all));
        let target = network.target(&held_out, self.margin)?;
        let conversion = convert(network, &parts.training.take(self.balance_images))?;
        let change = |snn: Snn<_>| snn.with_initial(self.initial)?.with_spikes(self.spikes.spikes);
        let (balance, baseline) = conversion.best_of(&held_out, &target, self.timesteps, change)?;
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
}
