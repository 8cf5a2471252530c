//! How much memory this process may use.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

/// The memory that this process may use, in bytes: the least of the machine's memory, the limits of its control groups,
/// and its address space (`ulimit -v`). `None` if the system tells none of them.
pub(crate) fn allowed_memory() -> Option<u64> {
    let address_space = getrlimit(Resource::As).current;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let in_groups =
        group_files(&groups).into_iter().filter_map(|file| number(&fs::read_to_string(file).ok()?));
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    address_space.into_iter().chain(in_groups).chain(machine).min()
}

/// The files that hold the limits of the groups in `/proc/self/cgroup` and of all groups above them, for both versions.
/// (In a container the path may be that of the host; then only the root of what is mounted is found.)
fn group_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            files.push(Path::new(root).join(group).join(file));
        }
    }
    files
}

/// A group without a limit says `max`.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn total(text: &str) -> Option<u64> {
    let kibibytes = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(number(kibibytes.trim().strip_suffix("kB")?)? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_control_groups_are_asked_up_to_the_root() {
        assert_eq!(
            group_files("4:cpu,memory:/a/b\n2:cpu:/c\n0::/d\n"),
            [
                "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/d/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
            .map(PathBuf::from)
        );
        assert_eq!(group_files("nonsense\n"), Vec::<PathBuf>::new());
    }

    #[test]
    fn limits_are_numbers_or_none() {
        assert_eq!((number("536870912\n"), number("max\n")), (Some(536_870_912), None));
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       16384 kB\n"), Some(16_384 * 1024));
        assert_eq!(total("MemTotal: many\n"), None);
    }
}
