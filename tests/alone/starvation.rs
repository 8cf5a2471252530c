//! A generator that has to share its core says so, and blames nobody else.

use std::process::{Child, Command};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::alone;
use crate::support::Server;
use crate::toys::{Run, spawn};

/// A child that ends with the test.
struct Spinner(Child);

impl Drop for Spinner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_generator_that_shares_its_core_says_that_it_had_none() {
    let _alone = alone();
    let server = Server::plain();
    let all = sched_getaffinity(None).expect("the kernel says it");
    let core = (0..CpuSet::MAX_CPU).find(|&core| all.is_set(core)).expect("there is one");
    let mut one = CpuSet::new();
    one.set(core);
    // Children of this thread stay on that core.
    sched_setaffinity(None, &one).expect("a core that we may use");
    let spinner = || Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("a shell");
    let spinners = [(); 3].map(|()| Spinner(spinner()));
    let load =
        spawn(&["load", "--json", "--quiet", server.endpoint(), "--rate", "50000", "-c", "50", "-d", "2s"]);
    sched_setaffinity(None, &all).expect("all that there were");
    let run = Run::of(load.finish());
    drop(spinners);
    assert_eq!(run.report["generator"]["bottleneck"], true, "{:#}", run.report["generator"]);
    assert!(run.number("/generator/waited_for_core_s") > 0.5, "{:#}", run.report["generator"]);
    let warnings = run.report["warnings"].to_string();
    assert!(warnings.contains("had no core for") || warnings.contains("held up"), "{warnings}");
    assert!(!warnings.contains("the server can't take that rate"), "{warnings}");
}
