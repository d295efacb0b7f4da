//! How many connections the process's file descriptors allow.

use std::fs;

/// Viewers may take three quarters of the descriptors; the rest is for publishers, the store, and who looks after the
/// origin. A process that has run out can neither accept an encoder nor write a segment.
pub(super) fn connections_max(asked: usize) -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    soft_limit(&limits).map_or(asked, |descriptors| asked.min(descriptors / 4 * 3))
}

/// The soft limit of open files, from the text of `/proc/self/limits` (proc(5)). `None` where it is unlimited, or
/// where the system has no such file.
fn soft_limit(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
            Max processes             62790                62790                processes \n\
            Max open files            1024                 524288               files     \n";
        assert_eq!(soft_limit(limits), Some(1024));
        assert_eq!(
            soft_limit("Max open files            unlimited            unlimited            files"),
            None
        );
        assert_eq!(soft_limit(""), None);
        assert_eq!(connections_max(1), 1);
    }
}
