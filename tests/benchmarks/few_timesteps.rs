//! Images per second of trained networks that are simulated for few timesteps.
//!
//! `cargo bench --bench few_timesteps -- --data=FOLDER` simulates the committed VGG15 on 2,000 test images
//! of CIFAR-10, three times for each kind of neuron. With `--onnx=FILE --images=FOLDER` it simulates the
//! SqueezeNet 1.0 of that file on 40 images, after calibrating it on 40 others. Two versions of the crate
//! are compared by running their binaries in turns, since the rates of a machine change within minutes.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use evospike::ann::networks::{Classifier, Vgg15HalfBn};
use evospike::data::{Classify, FolderSettings, Images, Normalisation, Part, TrainTest};
use evospike::onnx::Onnx;
use evospike::prelude::*;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| arguments.iter().find_map(|argument| argument.strip_prefix(name));
    if let Some(data) = option("--data=") {
        vgg15(Path::new(data))?;
    }
    if let (Some(file), Some(images)) = (option("--onnx="), option("--images=")) {
        squeezenet(Path::new(file), Path::new(images))?;
    } else if option("--data=").is_none() {
        println!("needs CIFAR-10, or a SqueezeNet and images: --data=, or --onnx= and --images=");
    }
    Ok(())
}

fn vgg15(data: &Path) -> Result<(), Box<dyn Error>> {
    let weights = concat!(env!("CARGO_MANIFEST_DIR"), "/results/cifar10/vgg15-half-bn.safetensors");
    let cifar = data::cifar10(data)?.normalised(&Normalisation::CIFAR10)?;
    let parts = cifar.hold_out_listed(format!("{weights}.held-out.txt"), 0)?;
    let ann = Ann::<Vgg15HalfBn>::load(weights, &Names::own())?;
    let conversion = convert(&ann, &parts.training.take(1000))?;
    for (spikes, most, timesteps) in [
        (Spikes::levels(4), 8, 1),
        (Spikes::levels(4), 8, 2),
        (Spikes::levels(2), 6, 3),
        (Spikes::SIGNED, 6, 6),
        (Spikes::PLAIN, 100, 100),
    ] {
        let snn = conversion.balance(Balance::LeastSquaresPerChannel { spikes: most })?;
        let snn = snn.with_initial(0.5)?.with_spikes(spikes)?;
        let images = if timesteps < 100 { 2000 } else { 200 };
        time(&snn, &parts.test.take(images), timesteps)?;
    }
    Ok(())
}

fn squeezenet(file: &Path, images: &Path) -> Result<(), Box<dyn Error>> {
    type ImageNet = Classify<3, 227, 1000>;
    let network =
        Imported::<ImageNet>::new(Onnx::read(file, None)?.with_channels_reversed().graph)?;
    let settings = FolderSettings { empty_classes: 1000, ..FolderSettings::default() };
    let images = data::class_folders_with::<ImageNet>(images, &settings)?.0.take(120);
    let mean = vec![0.482_352_94, 0.458_823_53, 0.407_843_14];
    let normalisation = Normalisation::new(mean, vec![1.0 / 255.0; 3])?;
    let whole = TrainTest::new(images.clone(), images.take(40))?.normalised(&normalisation)?;
    let parts = whole.hold_out(0.5, 0)?;
    let conversion = convert(&network, &parts.training.take(40))?;
    for (spikes, most, timesteps) in [(Spikes::levels(2), 6, 3), (Spikes::PLAIN, 16, 8)] {
        let snn = conversion.balance(Balance::LeastSquaresPerChannel { spikes: most })?;
        let snn = snn.with_initial(0.5)?.with_spikes(spikes)?;
        let start = Instant::now();
        conversion.calibrated_potentials(&snn, timesteps)?;
        println!("calibration: {:.2} s", start.elapsed().as_secs_f64());
        time(&snn, &parts.test, timesteps)?;
    }
    Ok(())
}

fn time<N: Classifier, P: Part>(
    snn: &Snn<N>,
    images: &Images<P, N::Task>,
    timesteps: usize,
) -> Result<(), Box<dyn Error>> {
    let spikes = snn.neurons()[0].spikes;
    for _ in 0..3 {
        let start = Instant::now();
        let run = simulate(snn, images, timesteps)?;
        let seconds = start.elapsed().as_secs_f64();
        let operations: u64 = run.layers.iter().flat_map(|layer| &layer.operations).sum();
        println!(
            "{} levels, {timesteps} timesteps: {:.1} images/s, {:.1} G additions/s, {:?}",
            spikes.levels,
            images.len() as f64 / seconds,
            operations as f64 / seconds / 1e9,
            run.curve.iter().last(),
        );
    }
    Ok(())
}
