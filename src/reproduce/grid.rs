//! Grids of conversions that go on beyond an end that is the best.

use crate::base::{Error, Result};

/// Most points to try beyond each end of a grid.
const MOST_BEYOND: usize = 6;

/// Values to try conversions with. A grid that ends at its best value may miss a better one, so that
/// it goes on there.
pub(super) struct Grid {
    /// In increasing order.
    points: Vec<f64>,
    /// Distance of the next point beyond an end, as a ratio.
    ratio: f64,
    most: f64,
    /// Value at a point.
    value: fn(f64) -> f64,
}

/// A conversion to try; none for a percentile so low that a sparse layer's threshold is 0.
pub(super) fn tried<T>(converted: Result<T>) -> Result<Option<T>> {
    match converted {
        Err(Error::Layer { .. }) => Ok(None),
        converted => converted.map(Some),
    }
}

impl Grid {
    /// Percentiles, by what they cut off, of which the next is twice or half as much.
    pub fn of_percentiles(percentiles: &[f64]) -> Self {
        let mut points: Vec<f64> = percentiles.iter().map(|percent| 100.0 - percent).collect();
        points.sort_by(f64::total_cmp);
        // Without the error of the subtractions, which would show in names.
        let value = |cut: f64| ((100.0 - cut) * 1e6).round() / 1e6;
        Self { points, ratio: 2.0, most: 50.0, value }
    }

    /// Factors from one to another, each as many times as large as the one before.
    pub fn of_factors([low, high]: [f64; 2], points: usize) -> Self {
        let last = points - 1;
        let power = |i: usize| (high / low).powf(i as f64 / last as f64);
        // The last one not rounded.
        let factor = |i| if i == last { high } else { low * power(i) };
        let points = (0..points).map(factor).collect();
        Self { points, ratio: power(1), most: f64::INFINITY, value: |factor| factor }
    }

    /// What `at` finds at each value and, as long as one of the places that `best` names is an end,
    /// at further values beyond it. A value at which there is nothing is left out, and beyond an end
    /// nothing more is tried then.
    pub fn search<T>(
        self,
        mut at: impl FnMut(f64) -> Result<Option<T>>,
        best: impl Fn(&[T]) -> Vec<usize>,
    ) -> Result<Vec<T>> {
        let (mut points, mut found) = (Vec::new(), Vec::new());
        for point in self.points {
            if let Some(result) = at((self.value)(point))? {
                points.push(point);
                found.push(result);
            }
        }
        if found.is_empty() {
            return Ok(found);
        }
        for (low, ratio) in [(true, 1.0 / self.ratio), (false, self.ratio)] {
            for _ in 0..MOST_BEYOND {
                let end = if low { 0 } else { found.len() - 1 };
                let next = points[end] * ratio;
                if next == points[end] || next > self.most || !best(&found).contains(&end) {
                    break;
                }
                let Some(result) = at((self.value)(next))? else { break };
                let place = if low { 0 } else { found.len() };
                points.insert(place, next);
                found.insert(place, result);
            }
        }
        Ok(found)
    }
}
