//! How an evolution went: the state after each generation, its rows and its chart.

use plotters::prelude::*;
use serde::{Deserialize, Serialize};

use crate::base::chart::{BAND, Chart, Key, axes, draw, legend, line, table};
use crate::base::error::Result;
use crate::base::files::rounded;
use crate::base::table::show;
use crate::evolve::fitness::Fitness;

/// The state of an evolution after one generation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// 0 is the initial population.
    pub generation: usize,
    /// Networks simulated so far.
    pub evaluations: usize,
    /// Of these, the ones that were stopped early.
    pub stopped: usize,
    /// The best network so far; of this generation where its images are a batch.
    pub best: Fitness,
    /// The median network of this generation, or its parent's where the parent is better.
    pub median: Fitness,
    /// The networks of this generation that a quarter of it is better, or worse, than; as the median.
    pub quartiles: [Fitness; 2],
}

show!(Generation as fields);

/// One line of `convergence.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConvergenceRow {
    /// What the run was seeded with.
    pub seed: u64,
    /// Of the neurons, in thresholds.
    pub initial_potential: f32,
    /// How far below the ANN's accuracy the target lies, in percentage points.
    pub margin_points: f64,
    /// 0 is the initial population.
    pub generation: usize,
    /// Networks simulated so far.
    pub evaluations: usize,
    /// Of the best member on held-out images, see [`Fitness`]; one more
    /// than there are timesteps where the target is not reached.
    pub best_latency_timesteps: usize,
    /// Of the best member: percentage points below the target, summed over the timesteps before.
    pub best_deficit_points: f64,
    /// Of the best member, what the objective makes small, where that is not the latency.
    pub best_cost: Option<f64>,
    /// Of the median member; empty where it was stopped early.
    pub median_latency_timesteps: Option<usize>,
    /// As the latency.
    pub median_deficit_points: Option<f64>,
    /// As for the best member.
    pub median_cost: Option<f64>,
    /// Of the member that a quarter of the generation is better than, what the objective makes small;
    /// empty where it was stopped early.
    #[serde(default)]
    pub lower_quartile: Option<f64>,
    /// Of the member that a quarter of the generation is worse than.
    #[serde(default)]
    pub upper_quartile: Option<f64>,
}

impl ConvergenceRow {
    /// The row of one generation.
    pub fn new(seed: u64, initial_potential: f32, margin_points: f64, state: &Generation) -> Self {
        let median = state.median.measured();
        let value = |fitness: Fitness| Some(rounded(fitness.measured()?.value()));
        let [lower_quartile, upper_quartile] = state.quartiles.map(value);
        Self {
            seed,
            initial_potential,
            margin_points,
            generation: state.generation,
            evaluations: state.evaluations,
            best_latency_timesteps: state.best.latency,
            best_deficit_points: rounded(state.best.deficit),
            best_cost: state.best.cost.map(rounded),
            median_latency_timesteps: median.map(|fitness| fitness.latency),
            median_deficit_points: median.map(|fitness| rounded(fitness.deficit)),
            median_cost: median.and_then(|fitness| fitness.cost).map(rounded),
            lower_quartile,
            upper_quartile,
        }
    }
}

/// Fitness of the best and the median network over the generations of an evolution, and between which
/// values half of a generation lies; `label` names the fitness and its unit. Where most of a
/// generation was stopped early, what is unknown of it is left out.
///
/// # Errors
/// [`Error::Chart`] when plotters fails.
pub fn convergence_chart(title: &str, label: &str, generations: &[Generation]) -> Result<Chart> {
    draw(title, 3, |area| {
        let value = |fitness: &Fitness| fitness.measured().map(|fitness| fitness.value());
        let of = |pick: fn(&Generation) -> &Fitness| -> Vec<(f64, f64)> {
            let measured = |g: &Generation| Some((g.generation as f64, value(pick(g))?));
            generations.iter().filter_map(measured).collect()
        };
        let (best, median) = (of(|g| &g.best), of(|g| &g.median));
        let [low, high] = [of(|g| &g.quartiles[0]), of(|g| &g.quartiles[1])];
        let all = [&best, &median, &high].into_iter().flatten();
        let highest = all.map(|p| p.1).fold(1.0, f64::max);
        let last = generations.last().map_or(1, |g| g.generation.max(1)) as f64;
        let up = 0.0..highest * 1.1;
        let mut axes = axes(area, title, ["generation", label], 0.0..last, up)?;
        // Its lower end is known wherever its upper end is.
        let above = high.iter().map(|p| p.0);
        let below = low.iter().filter(|p| above.clone().any(|x| x == p.0)).rev();
        let band: Vec<(f64, f64)> = high.iter().chain(below).copied().collect();
        axes.draw_series([Polygon::new(band, BAND.filled())])?;
        line(&mut axes, 0, best)?;
        line(&mut axes, 1, median)?;
        let entries = [
            ("best network".into(), Key::Line(0)),
            ("median of the generation".into(), Key::Line(1)),
            (
                "from its lower to its upper quartile".into(),
                Key::Bar(BAND),
            ),
        ];
        legend(area, &entries)?;
        let text = |fitness: &Fitness| value(fitness).map_or(String::new(), |x| x.to_string());
        let row = |g: &Generation| {
            let [low, high] = &g.quartiles;
            let [best, low, median, high] = [&g.best, low, &g.median, high].map(text);
            [g.generation.to_string(), best, low, median, high]
        };
        let header = [
            "generation",
            "best",
            "lower_quartile",
            "median",
            "upper_quartile",
        ];
        table(header, generations.iter().map(row))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The CSV file of a chart, which stays what it is.
    fn saved(chart: &Chart) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.csv");
        assert_eq!(chart.clone().save_data(&path).unwrap(), *chart);
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_band_holds_half_of_a_generation() {
        let fitness = |cost| Fitness {
            latency: 1,
            deficit: 0.0,
            cost: Some(cost),
        };
        let generation = |generation: usize, upper| Generation {
            generation,
            evaluations: 8,
            stopped: 0,
            best: fitness(1.0),
            median: fitness(3.0),
            quartiles: [fitness(2.0), upper],
        };
        let all = [0, 1, 2].map(|i| match i {
            2 => generation(i, Fitness::WORST), // stopped early
            _ => generation(i, fitness(4.0)),
        });
        let chart = convergence_chart("", "cost", &all).unwrap();
        assert_eq!(saved(&chart).lines().last().unwrap(), "2,1,2,3,");
        let polygon = chart.svg().lines().find(|line| line.contains("<polygon"));
        let (_, points) = polygon.unwrap().split_once("points=\"").unwrap();
        assert_eq!(
            points.split('"').next().unwrap().split_whitespace().count(),
            4
        );

        let folder = tempfile::tempdir().unwrap();
        assert!(chart.save_data(folder.path()).is_err());
    }
}
