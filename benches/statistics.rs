//! Medians with their spread, and ratios taken pair by pair.

use std::fmt;

/// The middle of several measurements, and the bounds of their middle half.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spread {
    /// The middle.
    pub median: f64,
    /// A quarter of them is below this.
    pub lower_quartile: f64,
    /// A quarter of them is above this.
    pub upper_quartile: f64,
}

impl Spread {
    /// The spread of values; `None` if none of them is a number.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
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

    /// The spread of the ratios of measurements, taken pair by pair, one measurement right after the other: a machine
    /// that changes its speed changes both.
    pub fn of_ratios(of: &[f64], to: &[f64]) -> Option<Spread> {
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
