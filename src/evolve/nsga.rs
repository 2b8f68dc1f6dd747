//! NSGA-II, the elitist non-dominated sorting genetic algorithm (Deb, Pratap, Agarwal and
//! Meyarivan, IEEE Trans. Evol. Comput. 6:182, 2002), in ask-and-tell form: for several objectives
//! at once, such as latency, accuracy lost and energy.

use rand::RngExt;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::optimise::{Bounds, check_members, check_told, uniform};
use crate::base::{Result, Rng, Stream, require, rng, show};

/// Settings of [`Nsga2`]; the defaults are the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NsgaSettings {
    /// Number of members of the population, 2 or more.
    pub population: usize,
    /// Probability that two parents are crossed, 0..=1.
    pub crossover: f64,
    /// Distribution index of the simulated binary crossover; with larger values, children are
    /// nearer to their parents.
    pub crossover_index: f64,
    /// Probability that a gene mutates, 0..=1; none: 1 / genes.
    pub mutation: Option<f64>,
    /// Distribution index of the polynomial mutation; with larger values, its steps are smaller.
    pub mutation_index: f64,
}

show!(NsgaSettings as fields);

impl Default for NsgaSettings {
    fn default() -> Self {
        Self {
            population: 100,
            crossover: 0.9,
            crossover_index: 20.0,
            mutation: None,
            mutation_index: 20.0,
        }
    }
}

impl NsgaSettings {
    fn check(&self) -> Result<()> {
        check_members("population", self.population, 2)?;
        let mutation = self.mutation.unwrap_or(0.0);
        for (name, probability) in [("crossover", self.crossover), ("mutation", mutation)] {
            let holds = (0.0..=1.0).contains(&probability);
            require(holds, name, probability, "0 to 1")?;
        }
        for (name, index) in
            [("crossover_index", self.crossover_index), ("mutation_index", self.mutation_index)]
        {
            let holds = (0.0..f64::INFINITY).contains(&index);
            require(holds, name, index, "0 or more, finite")?;
        }
        Ok(())
    }
}

struct Member {
    /// Genes in units of the bounds.
    genes: Vec<f64>,
    objectives: Vec<f64>,
    /// Front of the member; members of front 0 are not dominated.
    rank: usize,
    /// Crowding distance between its neighbours in its front; infinite at the ends.
    crowding: f64,
}

impl Member {
    /// Whether this member wins by the crowded-comparison operator.
    fn beats(&self, other: &Self) -> bool {
        self.rank < other.rank || self.rank == other.rank && self.crowding > other.crowding
    }
}

/// NSGA-II optimiser, minimising vectors of objectives. An objective that is NaN counts as
/// infinite.
///
/// ```
/// use evospike::evolve::nsga::{Nsga2, NsgaSettings};
///
/// let mut nsga = Nsga2::new(&[[-1.0, 3.0]], None, NsgaSettings::default(), 0)?;
/// for _ in 0..20 {
///     let points = nsga.ask();
///     let objectives = points.iter().map(|x| vec![x[0].powi(2), (x[0] - 2.0).powi(2)]);
///     nsga.tell(objectives.collect())?;
/// }
/// assert!(nsga.front().iter().all(|(x, _)| (-0.01..=2.01).contains(&x[0])));
/// # Ok::<(), evospike::Error>(())
/// ```
pub struct Nsga2 {
    settings: NsgaSettings,
    bounds: Bounds,
    rng: Rng,
    members: Vec<Member>,
    /// Points to measure, in units of the bounds: the initial population or children.
    points: Vec<Vec<f64>>,
}

impl Nsga2 {
    /// Creates the optimiser in the box `bounds` with uniform points, `x0` among them if given.
    ///
    /// # Errors
    /// Returns an error if the settings, the bounds or `x0` are out of range.
    pub fn new(
        bounds: &[[f64; 2]],
        x0: Option<&[f64]>,
        settings: NsgaSettings,
        seed: u64,
    ) -> Result<Self> {
        settings.check()?;
        let bounds = Bounds::new(bounds)?;
        let mut rng = rng(seed, Stream::Evolution);
        let draw = |_| uniform(&mut rng, bounds.genes());
        let mut points: Vec<Vec<f64>> = (0..settings.population).map(draw).collect();
        if let Some(x0) = x0 {
            points[0] = bounds.unit_start(x0)?;
        }
        Ok(Self { settings, bounds, rng, members: Vec::new(), points })
    }

    /// Returns the points to measure next, one value per gene; calling it twice returns the same.
    pub fn ask(&self) -> Vec<Vec<f64>> {
        self.bounds.points(&self.points)
    }

    /// Takes the objectives of the points asked for, in their order.
    ///
    /// # Errors
    /// Returns an error if there is not one vector per point, or they do not all have the same
    /// length of 1 or more; then nothing is changed.
    pub fn tell(&mut self, objectives: Vec<Vec<f64>>) -> Result<()> {
        check_told(&self.points, &objectives)?;
        let expected = match self.members.first() {
            Some(member) => member.objectives.len(),
            None => objectives[0].len().max(1),
        };
        for told in &objectives {
            let found = format!("{} for a point", told.len());
            let others = format!("{expected}, as for the others");
            require(told.len() == expected, "objectives", found, others)?;
        }
        let points = std::mem::take(&mut self.points);
        let number = |x: f64| if x.is_nan() { f64::INFINITY } else { x };
        let told = points.into_iter().zip(objectives);
        self.members.extend(told.map(|(genes, objectives)| Member {
            genes,
            objectives: objectives.into_iter().map(number).collect(),
            rank: 0,
            crowding: 0.0,
        }));
        self.select();
        self.breed();
        Ok(())
    }

    /// Returns the points of the population that no other one dominates, with their objectives;
    /// empty before the first [`tell`](Self::tell).
    pub fn front(&self) -> Vec<(Vec<f64>, Vec<f64>)> {
        let first = self.members.iter().filter(|member| member.rank == 0);
        first.map(|member| (self.bounds.point(&member.genes), member.objectives.clone())).collect()
    }

    /// Ranks parents and children and keeps the best ones (section III of the paper).
    fn select(&mut self) {
        for (rank, front) in fronts(&self.members).iter().enumerate() {
            for (&i, crowding) in front.iter().zip(crowding(&self.members, front)) {
                self.members[i].rank = rank;
                self.members[i].crowding = crowding;
            }
        }
        self.members.sort_by(|a, b| {
            let rank = a.rank.cmp(&b.rank);
            rank.then(b.crowding.total_cmp(&a.crowding))
        });
        self.members.truncate(self.settings.population);
    }

    /// Creates children; every member takes part in two tournaments, as in the authors' program.
    fn breed(&mut self) {
        let size = self.settings.population;
        let mut entrants = Vec::new();
        // Two parents make two children; a tournament takes two entrants.
        while entrants.len() < 2 * size.next_multiple_of(2) {
            let mut round: Vec<usize> = (0..size).collect();
            round.shuffle(&mut self.rng);
            entrants.extend(round);
        }
        for pairs in entrants.chunks_exact(4) {
            let [first, second] = [[pairs[0], pairs[1]], [pairs[2], pairs[3]]].map(|[a, b]| {
                let (a, b) = (&self.members[a], &self.members[b]);
                if b.beats(a) { b } else { a } // their order is random
            });
            let mut children = [first.genes.clone(), second.genes.clone()];
            cross(&mut children, &self.settings, &mut self.rng);
            for mut child in children {
                mutate(&mut child, &self.settings, &mut self.rng);
                self.points.push(child);
            }
        }
        self.points.truncate(size);
    }
}

fn dominates(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a <= b) && a != b
}

/// Returns the indices of members, front by front (fast non-dominated sort).
fn fronts(members: &[Member]) -> Vec<Vec<usize>> {
    let dominates = |i: usize, j: usize| dominates(&members[i].objectives, &members[j].objectives);
    let all = 0..members.len();
    let dominated: Vec<Vec<usize>> =
        all.clone().map(|i| all.clone().filter(|&j| dominates(i, j)).collect()).collect();
    let mut dominators = vec![0; members.len()];
    dominated.iter().flatten().for_each(|&j| dominators[j] += 1);
    let mut fronts = Vec::new();
    let mut front: Vec<usize> = all.filter(|&i| dominators[i] == 0).collect();
    while !front.is_empty() {
        let mut next = Vec::new();
        for &j in front.iter().flat_map(|&i| &dominated[i]) {
            dominators[j] -= 1;
            if dominators[j] == 0 {
                next.push(j);
            }
        }
        fronts.push(std::mem::replace(&mut front, next));
    }
    fronts
}

/// Returns the crowding distances of a front, in its order.
fn crowding(members: &[Member], front: &[usize]) -> Vec<f64> {
    let mut distances = vec![0.0; front.len()];
    let mut order: Vec<usize> = (0..front.len()).collect();
    for objective in 0..members[front[0]].objectives.len() {
        let value = |place: usize| members[front[place]].objectives[objective];
        order.sort_by(|&a, &b| value(a).total_cmp(&value(b)));
        let (first, last) = (order[0], order[front.len() - 1]);
        let range = value(last) - value(first);
        distances[first] = f64::INFINITY;
        distances[last] = f64::INFINITY;
        if range > 0.0 && range.is_finite() {
            for around in order.windows(3) {
                distances[around[1]] += (value(around[2]) - value(around[0])) / range;
            }
        }
    }
    distances
}

/// Crosses two children by simulated binary crossover within the unit box, as in the authors'
/// program: each gene with probability 0.5.
fn cross(children: &mut [Vec<f64>; 2], settings: &NsgaSettings, rng: &mut Rng) {
    if rng.random::<f64>() >= settings.crossover {
        return;
    }
    let power = settings.crossover_index + 1.0;
    let [first, second] = children;
    for (a, b) in first.iter_mut().zip(second) {
        if rng.random::<f64>() >= 0.5 || (*a - *b).abs() < 1e-14 {
            continue;
        }
        let (low, high) = (a.min(*b), a.max(*b));
        let u: f64 = rng.random();
        // Half the distance between the children; `room` is the distance from a parent to its
        // bound.
        let spread = |room: f64| {
            let alpha = 2.0 - (1.0 + 2.0 * room / (high - low)).powf(-power);
            let beta = match u <= 1.0 / alpha {
                true => (u * alpha).powf(1.0 / power),
                false => (1.0 / (2.0 - u * alpha)).powf(1.0 / power),
            };
            0.5 * beta * (high - low)
        };
        let middle = 0.5 * (low + high);
        *a = (middle - spread(low)).clamp(0.0, 1.0);
        *b = (middle + spread(1.0 - high)).clamp(0.0, 1.0);
        if rng.random() {
            std::mem::swap(a, b);
        }
    }
}

/// Mutates a child by polynomial mutation within the unit box, as in the authors' program.
fn mutate(child: &mut [f64], settings: &NsgaSettings, rng: &mut Rng) {
    let power = settings.mutation_index + 1.0;
    let probability = settings.mutation.unwrap_or(1.0 / child.len() as f64);
    for gene in child {
        if rng.random::<f64>() >= probability {
            continue;
        }
        let u: f64 = rng.random();
        let step = match u < 0.5 {
            true => (2.0 * u + (1.0 - 2.0 * u) * (1.0 - *gene).powf(power)).powf(1.0 / power) - 1.0,
            false => 1.0 - (2.0 * (1.0 - u) + (2.0 * u - 1.0) * gene.powf(power)).powf(1.0 / power),
        };
        *gene = (*gene + step).clamp(0.0, 1.0);
    }
}

#[cfg(test)]
mod tests;
