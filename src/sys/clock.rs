//! The clock that files are stamped with.
//!
//! Not here: time of day for people (`jiff`).

use rustix::time::ClockId;

/// Returns a time that no file changed from now on is older than: seconds since 1970 and nanoseconds.
///
/// The kernel stamps files with the time of its last tick, up to 10 ms behind the clock that
/// programs read (`current_time` in Linux, CLOCK_REALTIME_COARSE in clock_gettime(2)).
pub fn file_clock() -> (i64, u32) {
    let now = rustix::time::clock_gettime(ClockId::RealtimeCoarse);
    (now.tv_sec, u32::try_from(now.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn no_file_is_older() {
        let directory = tempfile::tempdir().unwrap();
        for i in 0..2000 {
            let before = file_clock();
            let path = directory.path().join(i.to_string());
            std::fs::create_dir(&path).unwrap();
            let made = std::fs::metadata(&path).unwrap();
            assert!((made.mtime(), made.mtime_nsec() as u32) >= before);
        }
    }
}
