//! The CPU time of this process.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The CPU time that all threads of this process have taken, to the nanosecond.
pub(crate) fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_that_runs_takes_time() {
        let before = super::cpu_time();
        while super::cpu_time() == before {}
    }
}
