//! The percentile distribution in the text format of HdrHistogram, which its public plotters read.

use std::fmt::Write as _;

use super::super::times::Histogram;
use super::json::Report;

/// Rows each time that the distance to 100 % halves.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// The distribution of latency in milliseconds, as `outputPercentileDistribution` of HdrHistogram writes it.
pub fn hgrm(report: &Report) -> String {
    distribution(&report.histograms.latency)
}

fn distribution(times: &Histogram) -> String {
    let milliseconds = |value: f64| value / 1e6;
    let mut text =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut total = 0;
    // Writing to a string can't fail.
    for value in times.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        total += value.count_since_last_iteration();
        let quantile = value.quantile_iterated_to();
        let row = (milliseconds(value.value_iterated_to() as f64), quantile, total);
        let _ = write!(text, "{:>12.3} {:>14.12} {:>10}", row.0, row.1, row.2);
        let _ =
            if quantile < 1.0 { writeln!(text, " {:>14.2}", 1.0 / (1.0 - quantile)) } else { writeln!(text) };
    }
    let (mean, deviation) = (milliseconds(times.mean()), milliseconds(times.stdev()));
    let _ = writeln!(text, "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]");
    let (max, count) = (milliseconds(times.max() as f64), times.len());
    let _ = writeln!(text, "#[Max     = {max:>12.3}, Total count    = {count:>12}]");
    let buckets = (64 - (times.high() / 2048).leading_zeros()) + 1;
    let _ = writeln!(text, "#[Buckets = {buckets:>12}, SubBuckets     = {:>12}]", 2048);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_has_the_rows_that_plotters_read() {
        let mut histogram = Histogram::new();
        for microseconds in 1..=1000_u64 {
            histogram.record(microseconds * 1000).expect("in range");
        }
        let text = distribution(&histogram);
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .take_while(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|number| number.parse().expect("a number")).collect())
            .collect();
        assert!(rows.len() > 20);
        assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][1] <= pair[1][1]));
        let half = rows.iter().find(|row| row[1] == 0.5).expect("the median");
        assert!((half[0] - 0.5).abs() < 0.001 && half[3] == 2.0, "{half:?}");
        assert_eq!(rows.last().expect("a last row")[2], 1000.0);
        assert!(text.contains("#[Mean    =        0.50"), "{text}");
    }
}
