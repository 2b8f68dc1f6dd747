//! The command line: `cargo run --release` runs the whole pipeline on the embedded digits.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use evospike::Error;
use evospike::reproduce::{DigitsSettings, digits};

/// Train a network on handwritten digits, convert it to a spiking network, evolve its thresholds
/// and report the latency won at equal accuracy.
#[derive(Parser)]
#[command(version, allow_negative_numbers = true)]
struct Arguments {
    /// Seeds, one whole experiment each
    #[arg(long, value_delimiter = ',', default_values_t = DigitsSettings::default().seeds)]
    seeds: Vec<u64>,
    /// Timesteps of each simulation
    #[arg(long, default_value_t = DigitsSettings::default().evolution.timesteps)]
    timesteps: usize,
    /// Members of the evolution's population for each layer of neurons
    #[arg(long, default_value_t = DigitsSettings::default().evolution.optimiser.population)]
    population: usize,
    /// Generations after the initial population
    #[arg(long, default_value_t = DigitsSettings::default().evolution.generations)]
    generations: usize,
    /// How far below the ANN's accuracy the target lies, in percentage points
    #[arg(long, default_value_t = DigitsSettings::default().margin_percent)]
    margin: f64,
    /// Folder for the CSV files and charts
    #[arg(long, default_value = "results/digits")]
    out: PathBuf,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.exit_code() == 0 => error.exit(), // --help and --version
        Err(error) => {
            let text = error.to_string();
            let lines: Vec<_> = text.lines().take_while(|line| !line.is_empty()).collect();
            eprintln!("{} (see --help)", lines.join(" "));
            return ExitCode::from(2);
        }
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(match error {
                Error::Parameter { .. } => 2,
                _ => 1,
            })
        }
    }
}

fn run(arguments: Arguments) -> evospike::Result<()> {
    let mut settings = DigitsSettings {
        seeds: arguments.seeds,
        margin_percent: arguments.margin,
        ..DigitsSettings::default()
    };
    settings.evolution.timesteps = arguments.timesteps;
    settings.evolution.generations = arguments.generations;
    settings.evolution.optimiser.population = arguments.population;
    let report = digits(&settings, arguments.out)?;
    print!("\n{}\nWritten:\n", report.table());
    for file in &report.files {
        println!("  {}", file.display());
    }
    Ok(())
}
