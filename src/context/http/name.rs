//! Which names a download can have in a directory.
//!
//! Not here: the name that an address gives it (`remote`).

/// Tells whether a name can be that of one file.
pub fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0']) && name.len() <= 255
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::{Address, parse};

    #[test]
    fn a_name_is_one_component() {
        let check = |name: &str, expect: bool| assert_eq!(is_file_name(name), expect, "{name:?}");
        check("a", true);
        check("..a", true);
        check(&"a".repeat(255), true);
        check(&"a".repeat(256), false);
        for bad in ["", ".", "..", "a/b", "/", "a\0b"] {
            check(bad, false);
        }
    }

    proptest::proptest! {
        #[test]
        fn that_of_an_address_can_be_one(path in ".{0,80}") {
            if let Some(Ok(Address::Http(address))) = parse(&format!("http://h/{path}")) {
                for name in [address.added_name(), address.file_name()] {
                    assert!(is_file_name(name) || name.len() > 255, "{name:?}");
                }
            }
        }
    }
}
