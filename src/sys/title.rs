//! What `ps` shows of this process: its name, and its arguments written over.
//!
//! For whoever looks at the list of processes; nothing depends on it, and where it cannot be done it is left out.
//! Sources: PR_SET_NAME(2const), proc_pid_stat(5), proc_pid_mem(5). Not here: what somebody is called.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

/// Gives this process a name, of which the kernel takes 15 bytes (`ps -o comm`); of none with a NUL in it.
pub fn set_name(name: &str) {
    if let Ok(name) = std::ffi::CString::new(name) {
        let _ = nix::sys::prctl::set_name(&name);
    }
}

/// Writes other arguments over those that this process was started with, as many bytes as those had
/// (`ps -o args`).
///
/// Whoever reads its own arguments after this reads what was written.
pub fn set_arguments(arguments: &[&str]) -> io::Result<()> {
    let stat = fs::read("/proc/self/stat")?;
    let (start, length) = place(&stat).ok_or(io::ErrorKind::InvalidData)?;
    // Through the kernel, which checks what is written where; no pointer is needed.
    File::options().write(true).open("/proc/self/mem")?.write_all_at(&filled(arguments, length), start)
}

/// Lays arguments out as the kernel has them, NUL after each, in exactly so many bytes.
fn filled(arguments: &[&str], length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = arguments.iter().flat_map(|word| word.bytes().chain([0])).collect();
    bytes.resize(length, 0);
    // Without it the kernel would go on reading in the environment.
    if let Some(last) = bytes.last_mut() {
        *last = 0;
    }
    bytes
}

/// Finds in a `/proc/PID/stat` where the arguments are, and how many bytes; a stack's, so not many.
fn place(stat: &[u8]) -> Option<(u64, usize)> {
    // The second field, the name, may hold anything; after it comes the third.
    let after = &stat[stat.iter().rposition(|&byte| byte == b')')? + 1..];
    let mut fields = std::str::from_utf8(after).ok()?.split_whitespace().skip(45);
    let start: u64 = fields.next()?.parse().ok()?;
    let end: u64 = fields.next()?.parse().ok()?;
    let length = usize::try_from(end.checked_sub(start)?).ok()?;
    (start > 0 && (1..=1 << 16).contains(&length)).then_some((start, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_fill_what_is_there() {
        assert_eq!(filled(&["a", "bc"], 8), b"a\0bc\0\0\0\0");
        assert_eq!(filled(&["abcdef"], 4), b"abc\0");
    }

    #[test]
    fn where_the_arguments_are() {
        let stat = |start: u64, end: u64| format!("7 (a) b) S {}{start} {end} 0 0 0\n", "0 ".repeat(44));
        assert_eq!(place(stat(1000, 1022).as_bytes()), Some((1000, 22)));
        for bad in
            [stat(0, 0), stat(9, 9), stat(9, 8), stat(1, 1 << 20), "7 a".to_owned(), "7 (a) S".to_owned()]
        {
            assert_eq!(place(bad.as_bytes()), None, "{bad}");
        }
        let own = place(&fs::read("/proc/self/stat").unwrap()).unwrap();
        assert_eq!(own.1, fs::read("/proc/self/cmdline").unwrap().len());
    }
}
