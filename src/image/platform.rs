//! Platforms as images name them: `linux/amd64`, `linux/arm/v7`.
//!
//! Names are Go's (GOOS, GOARCH), normalised as containerd does.

use std::fmt;
use std::str::FromStr;

/// An operating system, a processor, and the processor's variant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    pub variant: Option<String>,
}

/// The operating systems that a platform of one word may name.
const KNOWN_SYSTEMS: [&str; 4] = ["linux", "windows", "darwin", "freebsd"];

/// The architectures that a platform of one word may name: those that images of Linux are made for.
const KNOWN_ARCHITECTURES: [&str; 15] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mipsle", "mips64", "mips64le", "ppc64", "ppc64le",
    "riscv64", "s390x", "sparc64", "wasm",
];

/// Says why a text is not a platform.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a platform: expected os/architecture[/variant], as in linux/amd64")]
pub struct PlatformError(pub String);

impl Platform {
    /// Returns the platform this program runs on.
    pub fn host() -> Platform {
        Platform::normalised("linux", std::env::consts::ARCH, None)
    }

    fn normalised(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
        let (architecture, implied) = match architecture.to_ascii_lowercase().as_str() {
            "x86_64" | "x86-64" => ("amd64".to_owned(), None),
            "aarch64" => ("arm64".to_owned(), None),
            "i386" | "i486" | "i586" | "i686" | "x86" => ("386".to_owned(), None),
            "armhf" => ("arm".to_owned(), Some("v7")),
            "armel" => ("arm".to_owned(), Some("v6")),
            "arm" => ("arm".to_owned(), Some("v7")),
            "powerpc64le" => ("ppc64le".to_owned(), None),
            "loongarch64" => ("loong64".to_owned(), None),
            other => (other.to_owned(), None),
        };
        let variant = variant.map(str::to_ascii_lowercase).or(implied.map(str::to_owned));
        let variant = match (architecture.as_str(), variant.as_deref()) {
            ("arm64", Some("v8" | "8")) | ("amd64", Some("v1")) => None,
            ("arm", Some(v @ ("5" | "6" | "7" | "8"))) => Some(format!("v{v}")),
            _ => variant,
        };
        Platform { os: os.to_ascii_lowercase(), architecture, variant }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Platform, PlatformError> {
        let fail = || PlatformError(text.to_owned());
        let word_ok =
            |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|part| word_ok(part)) {
            return Err(fail());
        }
        match parts[..] {
            [one] if KNOWN_SYSTEMS.contains(&one.to_ascii_lowercase().as_str()) => {
                Ok(Platform { os: one.to_ascii_lowercase(), ..Platform::host() })
            }
            // One word says too little to be believed: most often it is a slip.
            [one] => Some(Platform::normalised("linux", one, None))
                .filter(|platform| KNOWN_ARCHITECTURES.contains(&platform.architecture.as_str()))
                .ok_or_else(fail),
            [os, architecture] => Ok(Platform::normalised(os, architecture, None)),
            [os, architecture, variant] => Ok(Platform::normalised(os, architecture, Some(variant))),
            _ => Err(fail()),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_as_containerd() {
        for (text, expect) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("Linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("riscv64", "linux/riscv64"),
            ("x86_64", "linux/amd64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expect);
        }
        for bad in ["", "/", "linux/", "a/b/c/d", "linux/a b", "foo", "adm64"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
