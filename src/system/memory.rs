//! The memory that this process may use.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

/// A control group without a memory limit says "max", or, in version 1, the largest number of pages in bytes.
const NO_LIMIT: u64 = 1 << 60;

/// The memory that this process may use, in bytes: the least of the machine's memory, the limits of its control groups,
/// and its address space (`ulimit -v`). `None` if the system tells none of them.
pub(crate) fn allowed_memory() -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let address_space = getrlimit(Resource::As).current;
    let groups = MemoryGroup::all(&read(Path::new("/proc/self/cgroup")).unwrap_or_default());
    let in_groups = groups.iter().filter_map(|group| memory_limit(&read(&group.limit_file())?)?);
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| memory_entry(&text, "MemTotal"));
    address_space.into_iter().chain(in_groups).chain(machine).min()
}

/// `/proc/meminfo`: the bytes of an entry.
pub(crate) fn memory_entry(text: &str, entry: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(entry)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The limit of a control group in bytes; `Some(None)` is "no limit".
pub(crate) fn memory_limit(text: &str) -> Option<Option<u64>> {
    match text.trim() {
        "max" => Some(None),
        digits => digits.parse().ok().map(|limit| (limit < NO_LIMIT).then_some(limit)),
    }
}

/// A directory of a control group that may limit memory, with the names of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemoryGroup {
    directory: PathBuf,
    limit: &'static str,
    usage: &'static str,
}

impl MemoryGroup {
    /// The groups of `/proc/self/cgroup`, of both versions, and all groups above them: the limit of each of them counts.
    /// (In a container the path may be that of the host; then only the root of what is mounted is found.)
    pub(crate) fn all(text: &str) -> Vec<MemoryGroup> {
        let mut groups = Vec::new();
        for line in text.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            let (mount, limit, usage) = match controllers {
                "" => ("/sys/fs/cgroup", "memory.max", "memory.current"),
                _ if controllers.split(',').any(|controller| controller == "memory") => {
                    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
                }
                _ => continue,
            };
            for ancestor in Path::new(path.trim_start_matches('/')).ancestors() {
                groups.push(MemoryGroup { directory: Path::new(mount).join(ancestor), limit, usage });
            }
        }
        groups
    }

    /// The file that holds its limit.
    pub(crate) fn limit_file(&self) -> PathBuf {
        self.directory.join(self.limit)
    }

    /// The file that holds its usage, in bytes.
    pub(crate) fn usage_file(&self) -> PathBuf {
        self.directory.join(self.usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_control_groups_are_asked_up_to_the_root() {
        let files = |text: &str| -> Vec<PathBuf> {
            MemoryGroup::all(text).iter().map(MemoryGroup::limit_file).collect()
        };
        assert_eq!(
            files("4:cpu,memory:/a:b/c\n2:cpu:/c\nnonsense\n0::/d.slice\n"),
            [
                "/sys/fs/cgroup/memory/a:b/c/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/a:b/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/d.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
            .map(PathBuf::from)
        );
        assert!(files("nonsense\n8:pids:/\n").is_empty());
    }

    #[test]
    fn a_control_group_may_have_no_limit() {
        assert_eq!(memory_limit("max\n"), Some(None));
        assert_eq!(memory_limit("9223372036854771712\n"), Some(None));
        assert_eq!(memory_limit("536870912\n"), Some(Some(536_870_912)));
        assert_eq!(memory_limit("much"), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        let text = "MemTotal:       24684092 kB\nMemFree:  1 kB\nMemAvailable:   23326728 kB\n";
        assert_eq!(memory_entry(text, "MemAvailable"), Some(23_326_728 * 1024));
        assert_eq!(memory_entry(text, "Mem"), None);
        assert_eq!(memory_entry("MemAvailable: 99999999999999999999 kB", "MemAvailable"), None);
        assert_eq!(memory_entry("MemAvailable: 18446744073709551615 kB", "MemAvailable"), None);
        assert_eq!(memory_entry("MemTotal: many\n", "MemTotal"), None);
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(allowed_memory().is_none_or(|bytes| bytes > 1 << 20));
    }
}
