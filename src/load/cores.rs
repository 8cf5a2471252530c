//! Processor time that others keep from this process: a hypervisor steals it, or the quota of a control group refuses
//! it. The kernel counts neither as time for which the process waited for a core.

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::param::clock_ticks_per_second;

/// The processor time that others kept from us since the machine and our control groups began; zero where the system
/// does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Withheld {
    /// How long the hypervisor ran other machines on our processors, on average over these processors.
    pub(super) stolen: Duration,
    /// How long our control groups had used up their quota, added up over all processors.
    pub(super) throttled: Duration,
}

impl Withheld {
    pub(super) fn so_far() -> Withheld {
        let text = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let ticks = stolen_ticks(&text("/proc/stat"), &our_processors(&text("/proc/self/status")));
        let groups = groups(&text("/proc/self/cgroup"));
        Withheld {
            stolen: Duration::from_secs_f64(ticks / clock_ticks_per_second().max(1) as f64),
            throttled: groups.iter().map(Group::throttled).sum(),
        }
    }

    /// The processor time withheld since the earlier reading.
    pub(super) fn since(self, before: Withheld) -> Withheld {
        Withheld {
            stolen: self.stolen.saturating_sub(before.stolen),
            throttled: self.throttled.saturating_sub(before.throttled),
        }
    }
}

/// The share of one core that the quotas of our control groups allow: 1 without a quota, or with a larger one.
pub(super) fn quota() -> f64 {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    groups(&text).iter().filter_map(Group::quota).fold(1.0, f64::min)
}

/// A control group that may bound our processor time.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    directory: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The groups of `/proc/self/cgroup`, and all groups above them.
fn groups(text: &str) -> Vec<Group> {
    let mut groups = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, version) = match controllers {
            "" => ("/sys/fs/cgroup", Version::Two),
            _ if controllers.split(',').any(|controller| controller == "cpu") => {
                ("/sys/fs/cgroup/cpu", Version::One)
            }
            _ => continue,
        };
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            groups.push(Group { directory: Path::new(root).join(group), version });
        }
    }
    groups
}

impl Group {
    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.directory.join(file)).unwrap_or_default()
    }

    /// How long the quota has throttled the group.
    fn throttled(&self) -> Duration {
        let stat = self.read("cpu.stat");
        let field = |name| {
            let value = stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
            value.unwrap_or(0)
        };
        match self.version {
            Version::One => Duration::from_nanos(field("throttled_time ")),
            Version::Two => Duration::from_micros(field("throttled_usec ")),
        }
    }

    /// How many cores the group may use.
    fn quota(&self) -> Option<f64> {
        let text = match self.version {
            Version::One => self.read("cpu.cfs_quota_us") + " " + &self.read("cpu.cfs_period_us"),
            Version::Two => self.read("cpu.max"),
        };
        let mut numbers = text.split_whitespace().map(str::parse::<f64>);
        // Without a quota the first number is `max`, or -1.
        let (quota, period) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        (quota > 0.0 && period > 0.0).then_some(quota / period)
    }
}

/// The processors that `/proc/self/status` allows us.
fn our_processors(status: &str) -> Vec<RangeInclusive<u32>> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
    let range = |part: &str| {
        let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    list.split(',').filter_map(range).collect()
}

/// The stolen time of these processors in `/proc/stat`, on average.
fn stolen_ticks(stat: &str, processors: &[RangeInclusive<u32>]) -> f64 {
    let stolen = stat.lines().filter_map(|line| {
        let mut fields = line.strip_prefix("cpu")?.split_whitespace();
        let processor: u32 = fields.next().filter(|_| !line.starts_with("cpu "))?.parse().ok()?;
        let is_ours = processors.iter().any(|range| range.contains(&processor));
        // user, nice, system, idle, iowait, irq, softirq, steal: proc_stat(5).
        fields.nth(7).filter(|_| is_ours)?.parse::<f64>().ok()
    });
    let (count, sum) = stolen.fold((0, 0.0), |(count, sum), ticks| (count + 1, sum + ticks));
    sum / f64::from(count.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stolen_time_is_that_of_our_processors() {
        let stat = "cpu  9 9 9 9 9 9 9 999 0 0\ncpu0 1 2 3 4 5 6 7 80 9 10\ncpu1 1 2 3 4 5 6 7 20 9 10\n\
                    cpu2 1 2 3 4 5 6 7 600 9 10\nintr 5 7\n";
        let ours = |list: &str| our_processors(&format!("Name: x\nCpus_allowed_list:\t{list}\nMems: 1\n"));
        assert_eq!(stolen_ticks(stat, &ours("0-1")), 50.0);
        assert_eq!(stolen_ticks(stat, &ours("0,2-63")), 340.0);
        assert_eq!(stolen_ticks("", &ours("0")), 0.0);
        assert_eq!(our_processors("nonsense"), []);
    }

    #[test]
    fn both_versions_of_control_groups_tell_quota_and_throttling() {
        let directory = tempfile::tempdir().expect("a directory");
        let group = |version| Group { directory: directory.path().into(), version };
        let write = |file: &str, text: &str| fs::write(directory.path().join(file), text).expect("a file");
        assert_eq!((group(Version::Two).quota(), group(Version::Two).throttled()), (None, Duration::ZERO));
        write("cpu.max", "50000 100000\n");
        write(
            "cpu.stat",
            "usage_usec 9\nnr_throttled 3\nthrottled_usec 2000000\nthrottled_time 3000000000\n",
        );
        assert_eq!(
            (group(Version::Two).quota(), group(Version::Two).throttled()),
            (Some(0.5), Duration::from_secs(2))
        );
        write("cpu.max", "max 100000\n");
        assert_eq!(group(Version::Two).quota(), None);
        write("cpu.cfs_quota_us", "25000\n");
        write("cpu.cfs_period_us", "100000\n");
        assert_eq!(
            (group(Version::One).quota(), group(Version::One).throttled()),
            (Some(0.25), Duration::from_secs(3))
        );
        write("cpu.cfs_quota_us", "-1\n");
        assert_eq!(group(Version::One).quota(), None);
    }

    #[test]
    fn the_groups_above_ours_count_as_well() {
        let of = |text: &str| {
            groups(text)
                .iter()
                .map(|group| format!("{:?} {}", group.version, group.directory.display()))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            of("4:cpu,cpuacct:/a/b\n3:cpuset:/c\n0::/d\nnonsense"),
            [
                "One /sys/fs/cgroup/cpu/a/b",
                "One /sys/fs/cgroup/cpu/a",
                "One /sys/fs/cgroup/cpu/",
                "Two /sys/fs/cgroup/d",
                "Two /sys/fs/cgroup/"
            ]
        );
        assert!((0.0..=1.0).contains(&quota()));
    }
}
