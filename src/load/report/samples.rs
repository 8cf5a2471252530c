//! Repeated measurements of one figure: their median, their spread, and whether two sides differ by more than chance.

use fastrand::Rng;

/// How often the bootstrap draws both sides anew.
const RESAMPLES: usize = 10_000;
/// The share of the ratios that lies beyond the interval, on each side.
const BEYOND: f64 = 0.025;

/// One figure of several runs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Samples(Vec<f64>);

impl Samples {
    /// `None` without a value.
    pub(super) fn new(mut values: Vec<f64>) -> Option<Samples> {
        values.sort_by(f64::total_cmp);
        (!values.is_empty()).then_some(Samples(values))
    }

    pub(super) fn are_repeated(&self) -> bool {
        self.0.len() > 1
    }

    pub(super) fn median(&self) -> f64 {
        median(&self.0)
    }

    /// Half the distance between the smallest and the largest value, as a share of the median.
    pub(super) fn spread(&self) -> f64 {
        let (least, most) = (self.0[0], self.0[self.0.len() - 1]);
        if self.median() == 0.0 { 0.0 } else { (most - least) / 2.0 / self.median() }
    }

    /// The interval in which the ratio of the medians, ours to those of `base`, lies in 95 of 100 cases. The bootstrap
    /// draws both sides anew from themselves many times. The same samples always give the same interval.
    pub(super) fn ratio(&self, base: &Samples) -> (f64, f64) {
        let mut random = Rng::with_seed(1);
        let mut ratios: Vec<f64> =
            (0..RESAMPLES).map(|_| self.draw(&mut random) / base.draw(&mut random)).collect();
        ratios.sort_by(f64::total_cmp);
        let last = RESAMPLES - 1;
        let at = |share: f64| ratios[(share * last as f64).round() as usize];
        (at(BEYOND), at(1.0 - BEYOND))
    }

    fn draw(&self, random: &mut Rng) -> f64 {
        let mut drawn: Vec<f64> = (0..self.0.len()).map(|_| self.0[random.usize(..self.0.len())]).collect();
        drawn.sort_by(f64::total_cmp);
        median(&drawn)
    }
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        Samples::new(values.to_vec()).expect("there are some")
    }

    #[test]
    fn the_median_and_the_spread() {
        assert_eq!(Samples::new(Vec::new()), None);
        let odd = samples(&[3.0, 1.0, 2.0]);
        assert_eq!((odd.median(), odd.spread()), (2.0, 0.5));
        assert_eq!(samples(&[4.0, 1.0, 2.0, 3.0]).median(), 2.5);
        assert!(!samples(&[7.0]).are_repeated() && odd.are_repeated());
    }

    #[test]
    fn a_difference_is_more_than_noise_only_if_it_is_larger_than_the_noise() {
        let base = samples(&[100.0, 101.0, 99.0, 100.5, 99.5]);
        let (low, high) = samples(&[110.0, 111.0, 109.0, 110.5, 109.5]).ratio(&base);
        assert!(low > 1.08 && high < 1.12, "{low} to {high}");
        let (low, high) = samples(&[101.5, 98.0, 100.0, 102.0, 97.0]).ratio(&base);
        assert!(low < 1.0 && high > 1.0, "{low} to {high}");
        assert_eq!(base.ratio(&base), base.ratio(&base), "chance is seeded");
        let (low, high) = base.ratio(&base);
        assert!(low < 1.0 && high > 1.0, "{low} to {high}");
    }

    /// Sides that are alike look different about as often as the interval promises; with so few runs it is coarse.
    #[test]
    fn equal_sides_rarely_look_different() {
        let mut random = Rng::with_seed(7);
        let mut side = || samples(&(0..7).map(|_| 100.0 + random.f64()).collect::<Vec<_>>());
        let different = (0..200).filter(|_| {
            let (low, high) = side().ratio(&side());
            low > 1.0 || high < 1.0
        });
        let different = different.count();
        assert!(different <= 24, "{different} of 200");
    }
}
