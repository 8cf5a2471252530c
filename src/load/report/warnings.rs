//! Warnings: facts without which the figures mislead, and remedies.

use super::super::plan::{Arrivals, Pace, Usage};
use super::super::replies::Replies;
use super::super::starvation::{HELD_UP, STARVED};
use super::super::times::text;
use super::json::{GeneratorPart, Report};

/// An open loop has reached its rate if at most this share of its messages is missing.
const RATE_TOLERANCE: f64 = 0.01;

/// A generator that can have more of a core than this is limited by its own work.
const ALMOST_A_CORE: f64 = 0.95;

/// Generators that began further apart than this share of the common time did not quite run together.
const MOST_APART: f64 = 0.1;

/// All warnings about a report.
pub(super) fn find(report: &Report) -> Vec<String> {
    let warnings = [
        fewer_clients(report),
        waiting_for_the_lost(report),
        wrong_echo(report),
        lower_rate(report),
        bottleneck(report),
        not_sent(report),
        unevenly_spread(report),
        few_messages(report),
        short_run(report),
        nothing_received(report),
        apart(report),
        same_seed(report),
        several_versions(report),
    ];
    warnings.into_iter().flatten().collect()
}

fn fewer_clients(report: &Report) -> Option<String> {
    let connections = &report.connections;
    let fewer = connections.opened < connections.requested;
    (fewer && report.settings.usage != Usage::Churn).then(|| {
        format!(
            "only {} of {} connections were established: the figures are those of fewer clients",
            connections.opened, connections.requested
        )
    })
}

fn waiting_for_the_lost(report: &Report) -> Option<String> {
    let missing = report.udp.is_some_and(|udp| udp.lost + udp.late > 0);
    (missing && report.settings.rate().is_none()).then(|| {
        format!(
            "in a closed loop a client waits for a lost message for {} s before it goes on: the rate says more \
             about that than about the server (try --rate, or a shorter --timeout)",
            report.settings.timeout.as_secs_f64()
        )
    })
}

fn wrong_echo(report: &Report) -> Option<String> {
    let wrong = match report.settings.replies {
        Replies::Echo => "the server did not echo what was sent",
        Replies::Line | Replies::Any => "the service sent more lines than it got messages",
    };
    (report.errors.mismatch > 0)
        .then(|| format!("{wrong}: mend that first; no other figure means anything until then"))
}

fn lower_rate(report: &Report) -> Option<String> {
    let Pace::Open { rate, arrivals } = report.settings.pace else { return None };
    let due = match arrivals {
        Arrivals::Fixed => rate,
        // Chance decides how many are due. The schedule is kept if all of them were sent and answered in time.
        Arrivals::Poisson => {
            (report.messages.sent + report.messages.not_sent) as f64 / report.seconds.max(1e-9)
        }
    };
    let reached = report.rate >= due * (1.0 - RATE_TOLERANCE);
    // Where nothing was received, another warning says so.
    if reached || report.settings.messages.is_some() || report.messages.received == 0 {
        return None;
    }
    let why = match less_than_a_core(report) {
        _ if report.outages.longest_s > report.seconds * RATE_TOLERANCE => {
            format!("clients lost their connections, for {} at most", text(report.outages.longest_s * 1e6))
        }
        Some(why) if report.generator.bottleneck => format!("the generator was late itself: {why}"),
        None if report.generator.bottleneck => {
            "the generator was late itself: use several processes with a part of the rate each".into()
        }
        _ => "connections were busy: the server can't take that rate over so many (try more --clients or --depth, or \
              a lower --rate)"
            .into(),
    };
    Some(format!("{:.0} messages a second instead of {due:.0}: {why}", report.rate))
}

/// The reason why the generator can't have a whole core, with the remedy. More processes are no remedy: they would share
/// the same part.
fn less_than_a_core(report: &Report) -> Option<String> {
    let share = report.generator.core_share;
    let generators = report.merged.as_ref().map_or(1, |merged| merged.generators.len());
    let stolen = report.generator.stolen_s / generators as f64 / report.seconds.max(1e-9);
    if share > ALMOST_A_CORE {
        None
    } else if share < 1.0 - stolen - 0.001 {
        Some(format!(
            "its quota (cpu.max) allows it {:.0} % of a core, and more processes would share that. Give it a larger \
             quota",
            share * 100.0
        ))
    } else {
        Some(format!(
            "the hypervisor leaves it {:.0} % of a core. Run it where cores are its own",
            share * 100.0
        ))
    }
}

fn bottleneck(report: &Report) -> Option<String> {
    let generator = &report.generator;
    if !generator.bottleneck {
        return None;
    }
    if let Some(merged) = &report.merged {
        return Some(slow_generators(&merged.generators));
    }
    let (held_up, waited, behind) = (generator.held_up_s, generator.waited_for_core_s, generator.behind_s);
    let share = |seconds: f64| seconds / report.seconds.max(1e-9);
    let (throttled, stolen) = (generator.throttled_s, generator.stolen_s);
    Some(if share(throttled) > HELD_UP {
        format!(
            "a quota (cpu.max) throttled the generator's control group for {}: whatever was due then waited for the \
             generator. Give it a larger quota, or a lower --rate",
            text(throttled * 1e6)
        )
    } else if share(stolen) > STARVED {
        format!(
            "the hypervisor gave {:.0} % of the generator's processors to other machines: replies waited for the \
             generator. Run it where cores are its own",
            share(stolen) * 100.0
        )
    } else if share(held_up) > HELD_UP {
        format!(
            "the generator itself was held up for {}, {} at once: it was stopped, or a call blocked it. Latencies of \
             that time are its own and not the server's",
            text(held_up * 1e6),
            text(generator.longest_hold_up_s * 1e6)
        )
    } else if share(waited) > STARVED {
        format!(
            "the generator was ready to run and had no core for {:.0} % of the time: other processes took it, and \
             replies waited for the generator. Give it a core of its own (taskset)",
            share(waited) * 100.0
        )
    } else if share(behind) > STARVED {
        let remedy = less_than_a_core(report)
            .map_or_else(|| "Use several processes (--processes)".into(), |why| format!("But {why}"));
        format!(
            "the generator had no moment without work for {}: replies waited for it. {remedy}, or lower the \
             --rate",
            text(behind * 1e6)
        )
    } else if report.settings.rate().is_some() {
        format!(
            "the generator was the bottleneck: one message of a hundred left {} late although its connection was \
             free; give it a core of its own (taskset), a lower --rate, or several processes",
            generator.lag_us.map_or_else(String::new, |lag| text(lag.p99))
        )
    } else {
        let remedy = less_than_a_core(report).map_or_else(
            || "Run it in two processes (--processes 2), and see whether the rate grows".into(),
            |why| format!("But {why}"),
        );
        format!(
            "the generator took {:.0} % of a core: its own work may be what limits the rate. {remedy}",
            share(generator.cpu_seconds) * 100.0
        )
    })
}

fn not_sent(report: &Report) -> Option<String> {
    let count = report.messages.not_sent;
    (count > 0).then(|| {
        format!(
            "{count} messages were due and not sent before the end, because their connections were busy or \
             lost: the percentiles would be worse with them"
        )
    })
}

fn unevenly_spread(report: &Report) -> Option<String> {
    let fairness = &report.fairness;
    (fairness.most > 100 && fairness.jain < 0.8).then(|| {
        format!(
            "messages were spread unevenly: {} for one client, {} for another",
            fairness.fewest, fairness.most
        )
    })
}

fn few_messages(report: &Report) -> Option<String> {
    let received = report.messages.received;
    let few = (1..1000).contains(&received) && report.settings.usage != Usage::Hold;
    few.then(|| {
        format!("{received} messages are few: p99.9 and beyond say nothing (try a longer --duration)")
    })
}

fn short_run(report: &Report) -> Option<String> {
    let short = report.messages.received > 0 && report.seconds < 1.0 && report.settings.messages.is_none();
    short.then(|| {
        "less than a second is short: the first moments weigh much (try --duration 10s --warmup 1s)".into()
    })
}

fn nothing_received(report: &Report) -> Option<String> {
    (report.messages.received == 0).then(|| {
        let when = if report.interrupted { " before the signal" } else { "" };
        format!("no reply came{when}: nothing was measured")
    })
}

fn slow_generators(generators: &[GeneratorPart]) -> String {
    let slow: Vec<String> = generators
        .iter()
        .enumerate()
        .filter(|(_, part)| part.generator.bottleneck)
        .map(|(place, part)| format!("{} (on {})", place + 1, part.host.escape_debug()))
        .collect();
    format!("these generators, not the server, were the bottleneck for their share: {}", slow.join(", "))
}

fn apart(report: &Report) -> Option<String> {
    let spread = report.merged.as_ref()?.start_spread_s;
    (spread > report.seconds * MOST_APART).then(|| {
        format!(
            "the generators began {spread:.3} s apart: the rate is that of the {:.3} s that all measured, the \
             percentiles are those of all messages (--start-at begins them together)",
            report.seconds
        )
    })
}

fn same_seed(report: &Report) -> Option<String> {
    let generators = &report.merged.as_ref()?.generators;
    let mut seeds: Vec<u64> = generators.iter().map(|part| part.seed).collect();
    seeds.sort_unstable();
    seeds.windows(2).any(|pair| pair[0] == pair[1]).then(|| {
        "generators had the same seed, so they sent the same bytes: they could not notice a reply meant for another \
         one (give each a --seed of its own)"
            .into()
    })
}

fn several_versions(report: &Report) -> Option<String> {
    let generators = &report.merged.as_ref()?.generators;
    let differ = generators.iter().any(|part| part.program != generators[0].program);
    differ.then(|| "the generators are of different versions of the program".into())
}

#[cfg(test)]
mod tests {
    use super::super::json::tests::report;
    use super::*;

    #[test]
    fn a_rate_that_connections_were_lost_for_is_not_blamed_on_the_generator() {
        let mut report = report(1000.0, &[1]);
        report.settings.pace = Pace::Open { rate: 1e6, arrivals: Arrivals::Fixed };
        report.generator.bottleneck = true;
        report.outages.longest_s = 2.0;
        let words = lower_rate(&report).expect("it is far from that");
        assert!(words.ends_with("clients lost their connections, for 2.00 s at most"), "{words}");
        report.messages.received = 0;
        assert_eq!(lower_rate(&report), None, "nothing was measured, which another warning says");
    }

    #[test]
    fn more_processes_are_no_remedy_for_less_than_a_core() {
        let mut report = report(1000.0, &[1]);
        report.generator.bottleneck = true;
        let words = |report: &Report| bottleneck(report).expect("it is the bottleneck");
        assert!(words(&report).contains("--processes 2"), "{}", words(&report));
        report.generator.core_share = 0.5;
        assert!(words(&report).contains("its quota (cpu.max) allows it 50 %"), "{}", words(&report));
        report.generator.stolen_s = 0.09 * report.seconds;
        report.generator.core_share = 0.91;
        assert!(words(&report).contains("the hypervisor leaves it 91 %"), "{}", words(&report));
        report.generator.core_share = 0.5;
        report.settings.pace = Pace::Open { rate: 1e6, arrivals: Arrivals::Fixed };
        let lower = lower_rate(&report).expect("it is far from that");
        assert!(lower.contains("its quota (cpu.max)") && !lower.contains("use several"), "{lower}");
        report.generator.behind_s = report.seconds;
        assert!(words(&report).contains("its quota (cpu.max)"), "{}", words(&report));
    }
}
