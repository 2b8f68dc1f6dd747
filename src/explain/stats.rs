//! Statistics of small samples.

/// Mean, NaN of no value.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Standard deviation of a sample, with n - 1; none for fewer than two values.
pub(super) fn standard_deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
    let others = values.len().checked_sub(1).filter(|&others| others > 0)?;
    Some((squares / others as f64).sqrt())
}

/// Pearson's correlation; none if all values of `a` or of `b` are equal.
pub(super) fn pearson(a: &[f64], b: &[f64]) -> Option<f64> {
    let same = |values: &[f64]| values.iter().all(|value| *value == values[0]);
    if same(a) || same(b) {
        return None;
    }
    let (mean_a, mean_b) = (mean(a), mean(b));
    let product = |(a, b): (&f64, &f64)| (a - mean_a) * (b - mean_b);
    let squares = |values: &[f64], mean: f64| -> f64 {
        values.iter().map(|value| (value - mean).powi(2)).sum()
    };
    let sum: f64 = a.iter().zip(b).map(product).sum();
    Some(sum / (squares(a, mean_a) * squares(b, mean_b)).sqrt())
}

/// Spearman's rank correlation; none if all values of `a` or of `b` are equal.
pub(super) fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    pearson(&ranks(a), &ranks(b))
}

/// Ranks from 0; equal values share their mean rank.
pub(super) fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count();
        let equal = values.iter().filter(|other| *other == value).count();
        below as f64 + (equal as f64 - 1.0) / 2.0
    };
    values.iter().map(rank).collect()
}
