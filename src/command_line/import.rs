//! Networks of ONNX files on the command line.

use std::path::{Path, PathBuf};

use clap::Args;
use evospike::Error;
use evospike::data::{
    Cifar10, Cifar100, Classify, ImageNet, Mnist, Normalisation, Shape, Task, TrainTest,
};
use evospike::onnx::Onnx;
use evospike::prelude::*;

use super::source::{DataArguments, Format, wrong};

#[derive(Args)]
pub(crate) struct ImportArguments {
    /// ONNX file
    model: PathBuf,
    #[command(flatten)]
    input: InputArguments,
    /// File (safetensors) to compare with: `logits`, one row an image, of `input`, the numbers that
    /// the network takes, or of `images`, bytes
    #[arg(long)]
    check: Option<PathBuf>,
    /// Largest difference of a logit that is not an error
    #[arg(long, default_value_t = 1e-3)]
    tolerance: f32,
}

/// What a network takes for an image.
#[derive(Args)]
pub(crate) struct InputArguments {
    /// Shape of an image, for an ONNX file that leaves it open or takes a row of pixels
    #[arg(long = "input", value_name = "CHANNELSxROWSxCOLUMNS", value_parser = shape)]
    shape: Option<Shape>,
    /// Mean of each channel, subtracted from pixels of 0 to 1 [default: 0]
    #[arg(long, value_delimiter = ',', requires = "std")]
    mean: Option<Vec<f32>>,
    /// Standard deviation of each channel, by which pixels are divided then [default: 1]
    #[arg(long, value_delimiter = ',', requires = "mean")]
    std: Option<Vec<f32>>,
}

impl InputArguments {
    /// The normalisation, if one is given.
    fn normalisation(&self) -> evospike::Result<Option<Normalisation>> {
        let both = self.mean.as_ref().zip(self.std.as_ref());
        both.map(|(mean, std)| Normalisation::new(mean.clone(), std.clone())).transpose()
    }
}

/// Shape of an image, such as `3x32x32`.
pub(crate) fn shape(text: &str) -> Result<Shape, String> {
    let sizes: Vec<usize> = text.split('x').map_while(|size| size.parse().ok()).collect();
    match sizes[..] {
        [channels, height, width] if text.split('x').count() == 3 => {
            Ok(Shape::new(channels, height, width))
        }
        _ => Err("expected channels, rows and columns, such as 3x32x32".into()),
    }
}

impl ImportArguments {
    pub(crate) fn run(&self) -> evospike::Result<()> {
        let normalisation = self.input.normalisation()?;
        let onnx = Onnx::read(&self.model, self.input.shape)?;
        print!("{}", onnx.table()?);
        for note in &onnx.notes {
            println!("{note}");
        }
        let folds = onnx.folds()?;
        if !folds.is_empty() {
            println!("{} layers: folded into the weights before them", folds.len());
        }
        match onnx.source()? {
            Ok(source) => println!("\nThe same network with random weights, to train:\n{source}"),
            Err(layer) => println!("\nNo typed network has these layers: {layer}"),
        }
        let Some(reference) = &self.check else {
            return Ok(());
        };
        let check = onnx.check(reference, normalisation.as_ref())?;
        println!(
            "\n{}: largest difference of a logit {:e}, {} of {} predictions the same",
            reference.display(),
            check.largest_difference,
            check.same_predictions,
            check.images,
        );
        match check.largest_difference <= self.tolerance {
            true => Ok(()),
            false => Err(Error::Data {
                file: reference.display().to_string(),
                place: "logits".into(),
                found: format!("a difference of {:e}", check.largest_difference),
                expected: format!("at most {:e}", self.tolerance),
            }),
        }
    }
}

/// Network of an ONNX file, and how its input is made of images.
#[derive(Args)]
pub(crate) struct OnnxArguments {
    #[command(flatten)]
    input: InputArguments,
    /// The network takes blue, green, red; the means and deviations are given red, green, blue
    #[arg(long)]
    bgr: bool,
}

/// Work on a network of an ONNX file and its data set.
pub(crate) trait ImportedWork {
    fn on_digits(&self, network: &Imported<Digits>) -> evospike::Result<()>;

    fn on_set<K: Task>(&self, network: &Imported<K>, data: &TrainTest<K>) -> evospike::Result<()>;
}

/// Reader of a data set in its published format.
type Published<K> = fn(&Path) -> evospike::Result<TrainTest<K>>;

impl OnnxArguments {
    /// Returns an error if one is given for a network that is in no ONNX file.
    pub(crate) fn refuse(&self) -> evospike::Result<()> {
        let Self { input: InputArguments { shape, mean, .. }, bgr } = self;
        let given = [("input", shape.is_some()), ("mean", mean.is_some()), ("bgr", *bgr)];
        match given.into_iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(wrong(name, "one", "none, except for an ONNX file")),
            None => Ok(()),
        }
    }

    pub(crate) fn open(
        &self,
        model: &Path,
        data: &DataArguments,
        work: &impl ImportedWork,
    ) -> evospike::Result<()> {
        let mut onnx = Onnx::read(model, self.input.shape)?;
        if self.bgr {
            onnx = onnx.with_channels_reversed();
        }
        let Shape { channels, height, width } = onnx.graph.input;
        let classes = onnx.graph.shapes()?.last().map_or(0, |shape| shape.channels);
        let files = Files { arguments: self, onnx, data };
        match (channels, height, width, classes) {
            (1, 8, 8, 10) => match self.input.mean {
                Some(_) => Err(wrong("mean", "one", "none: the embedded digits are 0 to 1")),
                None => work.on_digits(&Imported::new(files.onnx.graph)?),
            },
            (1, 28, 28, 10) => files.on_set::<Mnist>(work, (Format::Idx, |path| data::idx(path))),
            (3, 32, 32, 10) => {
                files.on_set::<Cifar10>(work, (Format::Cifar10, |path| data::cifar10(path)))
            }
            (3, 32, 32, 100) => {
                files.on_set::<Cifar100>(work, (Format::Cifar100, |path| data::cifar100(path)))
            }
            (3, 64, 64, 200) => files.on_folder::<Classify<3, 64, 200>>(work),
            (3, 224, 224, 10) => files.on_folder::<Classify<3, 224, 10>>(work),
            (3, 224, 224, 1000) => files.on_folder::<ImageNet>(work),
            (3, 227, 227, 1000) => files.on_folder::<Classify<3, 227, 1000>>(work),
            _ => {
                let found = format!("images of {} in {classes} classes", files.onnx.graph.input);
                let expected = "1x8x8, 1x28x28, 3x32x32 or 3x224x224 in 10, 3x32x32 in 100, 3x64x64 \
                    in 200, 3x224x224 or 3x227x227 in 1000; in a program, those of any `Task`";
                Err(wrong("model", found, expected))
            }
        }
    }
}

/// A network that was read, and the files of its images.
struct Files<'a> {
    arguments: &'a OnnxArguments,
    onnx: Onnx,
    data: &'a DataArguments,
}

impl Files<'_> {
    fn on_folder<K: Task>(self, work: &impl ImportedWork) -> evospike::Result<()> {
        self.on_set::<K>(work, (Format::Folder, |path| data::folder(path)))
    }

    /// Works on a data set in its published format, or in folders.
    fn on_set<K: Task>(
        self,
        work: &impl ImportedWork,
        (published, read): (Format, Published<K>),
    ) -> evospike::Result<()> {
        let normalisation = self.arguments.input.normalisation()?;
        let files = self.data;
        let data = match files.format()? {
            Format::Folder => files.folder()?,
            format if format == published => read(files.data()?)?,
            _ => return Err(files.refuse("that of the network's images, or folder")),
        };
        let data = match normalisation {
            None => data,
            Some(normalisation) => data.normalised(&normalisation)?,
        };
        work.on_set(&Imported::<K>::new(self.onnx.graph)?, &data)
    }
}
