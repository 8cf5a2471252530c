//! Medians with their spread, and ratios taken pair by pair.

use std::fmt;

/// The middle of several measurements, with the least and the greatest.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() {
            0 => return None,
            odd if odd % 2 == 1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        };
        Some(Spread { median, least: values[0], greatest: values[values.len() - 1] })
    }

    /// Of the ratios of measurements that were taken one after the other, so that a machine whose speed drifts
    /// changes both.
    pub(crate) fn of_ratios(of: &[f64], to: &[f64]) -> Option<Spread> {
        Spread::of(of.iter().zip(to).map(|(of, to)| of / to))
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let Spread { median, least, greatest } = self;
        write!(f, "{median:.digits$} [{least:.digits$}–{greatest:.digits$}]")
    }
}
