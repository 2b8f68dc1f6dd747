//! Networks of ONNX files on the command line.

use std::path::PathBuf;

use clap::Args;
use evospike::Error;
use evospike::data::{Normalisation, Shape};
use evospike::onnx::Onnx;

#[derive(Args)]
pub(crate) struct ImportArguments {
    /// ONNX file
    model: PathBuf,
    /// Shape of an image, for a file that leaves it open or takes a row of pixels
    #[arg(long, value_name = "CHANNELSxROWSxCOLUMNS", value_parser = shape)]
    input: Option<Shape>,
    /// File (safetensors) to compare with: `logits`, one row an image, of `input`, the numbers that
    /// the network takes, or of `images`, bytes
    #[arg(long)]
    check: Option<PathBuf>,
    /// Largest difference of a logit that is not an error
    #[arg(long, default_value_t = 1e-3)]
    tolerance: f32,
    #[command(flatten)]
    pixels: PixelArguments,
}

/// What a network takes for a pixel.
#[derive(Args)]
pub(crate) struct PixelArguments {
    /// Mean of each channel, subtracted from pixels of 0 to 1 [default: 0]
    #[arg(long, value_delimiter = ',', requires = "std")]
    mean: Option<Vec<f32>>,
    /// Standard deviation of each channel, by which pixels are divided then [default: 1]
    #[arg(long, value_delimiter = ',', requires = "mean")]
    std: Option<Vec<f32>>,
}

impl PixelArguments {
    /// The normalisation, if one is given.
    pub(crate) fn normalisation(&self) -> evospike::Result<Option<Normalisation>> {
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
        let normalisation = self.pixels.normalisation()?;
        let onnx = Onnx::read(&self.model, self.input)?;
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
