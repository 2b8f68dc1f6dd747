//! History of an evolution: the state after each generation, its rows and its chart.

use std::borrow::Borrow;

use plotters::prelude::*;
use serde::{Deserialize, Serialize};

use super::fitness::Fitness;
use crate::base::chart::{BAND, Key, axes, band, draw, legend, line, lines, table};
use crate::base::{Chart, Result, distinct, owned, rounded, show};

/// State of an evolution after one generation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// Number of the generation; 0 is the initial population.
    pub generation: usize,
    /// Number of networks simulated so far.
    pub evaluations: usize,
    /// Number of these networks that were stopped early.
    pub stopped: usize,
    /// Fitness of the best network so far; of this generation if it is measured on a batch.
    pub best: Fitness,
    /// Median fitness of this generation, where a network counts with its parent's fitness if that
    /// is better.
    pub median: Fitness,
    /// Lower and upper quartile of the fitness of this generation, counted like the median.
    pub quartiles: [Fitness; 2],
    /// Fitness of the optimiser's mean after this generation on the first batch of the images, the
    /// same in all generations; none if these are measured on all images.
    pub incumbent: Option<Fitness>,
}

show!(Generation as fields);

/// Row of `convergence.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConvergenceRow {
    /// Seed of the run.
    pub seed: u64,
    /// Initial membrane potential of the neurons, in thresholds.
    pub initial_potential: f32,
    /// Margin of the target below the ANN's accuracy, in percentage points.
    pub margin_points: f64,
    /// Number of the generation; 0 is the initial population.
    pub generation: usize,
    /// Number of networks simulated so far.
    pub evaluations: usize,
    /// Latency of the best member on held-out images, see [`Fitness`]; the number of timesteps + 1
    /// if the target is not reached.
    pub best_latency_timesteps: usize,
    /// Deficit of the best member: percentage points below the target, summed over the timesteps
    /// before its latency.
    pub best_deficit_points: f64,
    /// Objective of the best member, if it is not the latency.
    pub best_cost: Option<f64>,
    /// Latency of the median member; empty if it was stopped early.
    pub median_latency_timesteps: Option<usize>,
    /// Deficit of the median member; empty if it was stopped early.
    pub median_deficit_points: Option<f64>,
    /// Objective of the median member, if it is not the latency.
    pub median_cost: Option<f64>,
    /// Lower quartile of the objective in this generation; empty if that member was stopped early.
    #[serde(default)]
    pub lower_quartile: Option<f64>,
    /// Upper quartile of the objective in this generation; empty if that member was stopped early.
    #[serde(default)]
    pub upper_quartile: Option<f64>,
    /// Objective of the optimiser's mean on the same images in all generations; empty if every
    /// generation is measured on the same images.
    #[serde(default)]
    pub incumbent: Option<f64>,
}

impl ConvergenceRow {
    /// Creates the row of one generation.
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
            incumbent: state.incumbent.map(|fitness| rounded(fitness.value())),
        }
    }

    /// Objective over the generations, one line for each seed: of the optimiser's mean, on the same
    /// images in all generations, or of the best network so far where there is none. `label` names the
    /// objective and its unit. Give rows of one initial potential and margin.
    ///
    /// # Errors
    /// Returns [`Error::Chart`](crate::Error::Chart) if plotters fails.
    pub fn chart(
        title: &str,
        label: &str,
        rows: impl IntoIterator<Item: Borrow<Self>>,
    ) -> Result<Chart> {
        let rows: Vec<Self> = owned(rows);
        let line = |seed: u64| {
            let own = rows.iter().filter(|row| row.seed == seed);
            let value = |row: &Self| {
                let best = row.best_cost.unwrap_or(row.best_latency_timesteps as f64);
                (row.generation as f64, row.incumbent.unwrap_or(best))
            };
            (format!("seed {seed}"), own.map(value).collect::<Vec<_>>())
        };
        let seeds = distinct(rows.iter().map(|row| row.seed));
        lines(title, ["generation", label], seeds.into_iter().map(line))
    }
}

/// Draws the fitness of the best and the median network over the generations of an evolution, with
/// a band from the lower to the upper quartile; `label` names the fitness and its unit. Values that
/// are unknown because networks were stopped early are left out.
///
/// # Errors
/// Returns [`Error::Chart`](crate::Error::Chart) if plotters fails.
pub fn convergence_chart(title: &str, label: &str, generations: &[Generation]) -> Result<Chart> {
    let shown = generations.iter().any(|g| g.incumbent.is_some());
    draw(title, 3 + usize::from(shown), |area| {
        let value = |fitness: &Fitness| fitness.measured().map(|fitness| fitness.value());
        let of = |pick: fn(&Generation) -> &Fitness| -> Vec<(f64, f64)> {
            let measured = |g: &Generation| Some((g.generation as f64, value(pick(g))?));
            generations.iter().filter_map(measured).collect()
        };
        let (best, median) = (of(|g| &g.best), of(|g| &g.median));
        let incumbent = generations.iter();
        let incumbent: Vec<(f64, f64)> =
            incumbent.filter_map(|g| Some((g.generation as f64, g.incumbent?.value()))).collect();
        let [low, high] = [of(|g| &g.quartiles[0]), of(|g| &g.quartiles[1])];
        let all = [&best, &median, &high, &incumbent].into_iter().flatten();
        let highest = all.map(|p| p.1).fold(1.0, f64::max);
        let last = generations.last().map_or(1, |g| g.generation.max(1)) as f64;
        let up = 0.0..highest * 1.1;
        let mut axes = axes(area, title, ["generation", label], 0.0..last, up)?;
        // The lower quartile is known wherever the upper one is.
        let above = high.iter().map(|p| p.0);
        let low = low.iter().filter(|p| above.clone().any(|x| x == p.0)).copied();
        let high = high.iter().copied();
        band(&mut axes, low, high, BAND.filled())?;
        line(&mut axes, 0, best)?;
        line(&mut axes, 1, median)?;
        let mut entries = vec![
            ("best network".into(), Key::Line(0)),
            ("median of the generation".into(), Key::Line(1)),
            ("from its lower to its upper quartile".into(), Key::Bar(BAND)),
        ];
        if shown {
            line(&mut axes, 2, incumbent)?;
            entries.push(("mean of the search, on the same images".into(), Key::Line(2)));
        }
        legend(area, &entries)?;
        let text = |fitness: &Fitness| value(fitness).map_or(String::new(), |x| x.to_string());
        let row = |g: &Generation| {
            let [low, high] = &g.quartiles;
            let [best, low, median, high] = [&g.best, low, &g.median, high].map(text);
            let incumbent = g.incumbent.as_ref().map_or(String::new(), text);
            [g.generation.to_string(), best, low, median, high, incumbent]
        };
        let header =
            ["generation", "best", "lower_quartile", "median", "upper_quartile", "incumbent"];
        table(header, generations.iter().map(row))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::chart::tests::saved;

    #[test]
    fn every_seed_has_a_line_of_its_mean_or_best() {
        let fitness = |cost| Fitness { latency: 1, deficit: 0.0, cost: Some(cost) };
        let row = |seed: u64, generation: usize, incumbent: Option<f64>| {
            let state = Generation {
                generation,
                evaluations: 8,
                stopped: 0,
                best: fitness(1.5),
                median: fitness(3.0),
                quartiles: [fitness(2.0); 2],
                incumbent: incumbent.map(fitness),
            };
            ConvergenceRow::new(seed, 0.0, 1.0, &state)
        };
        let rows = [row(0, 0, Some(2.5)), row(0, 1, Some(2.25)), row(1, 0, None)];
        let chart = ConvergenceRow::chart("", "cost", &rows).unwrap();
        assert_eq!(
            saved(&chart),
            "line,generation,cost\nseed 0,0,2.5\nseed 0,1,2.25\nseed 1,0,1.5\n"
        );
    }

    #[test]
    fn a_band_holds_half_of_a_generation() {
        let fitness = |cost| Fitness { latency: 1, deficit: 0.0, cost: Some(cost) };
        let generation = |generation: usize, upper| Generation {
            generation,
            evaluations: 8,
            stopped: 0,
            best: fitness(1.0),
            median: fitness(3.0),
            quartiles: [fitness(2.0), upper],
            incumbent: Some(fitness(2.5)),
        };
        let all = [0, 1, 2].map(|i| match i {
            2 => generation(i, Fitness::WORST), // stopped early
            _ => generation(i, fitness(4.0)),
        });
        let chart = convergence_chart("", "cost", &all).unwrap();
        assert_eq!(saved(&chart).lines().last().unwrap(), "2,1,2,3,,2.5");
        let polygon = chart.svg().lines().find(|line| line.contains("<polygon"));
        let (_, points) = polygon.unwrap().split_once("points=\"").unwrap();
        assert_eq!(points.split('"').next().unwrap().split_whitespace().count(), 4);

        let folder = tempfile::tempdir().unwrap();
        assert!(chart.save_data(folder.path()).is_err());
    }
}
