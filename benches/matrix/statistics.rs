//! Medians with their spread, and ratios taken pair by pair.

use std::fmt;

/// The middle of several measurements, and between what the middle half of them lies.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) lower_quartile: f64,
    pub(crate) upper_quartile: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        // Between two measurements a quantile lies on the line from one to the other.
        let quantile = |share: f64| {
            let place = share * last as f64;
            let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
            below + (above - below) * place.fract()
        };
        Some(Spread { median: quantile(0.5), lower_quartile: quantile(0.25), upper_quartile: quantile(0.75) })
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
        let Spread { median, lower_quartile, upper_quartile } = self;
        write!(f, "{median:.digits$} [{lower_quartile:.digits$}–{upper_quartile:.digits$}]")
    }
}
