//! Names of containers: which there may be, and those that are made up, `adjective_scientist`.
//!
//! Not here: that a name is somebody's alone (`store`).

/// The shape of a name, as docker's errors have it.
const SHAPE: &str = "[a-zA-Z0-9][a-zA-Z0-9_.-]";

/// The longest name, in bytes: it is the name of a file, and of a host.
const LONGEST: usize = 250;

/// Says that a name cannot be one, in docker's words.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NameError {
    #[error("Invalid container name ({0}), only {SHAPE} are allowed")]
    BadName(String),
    #[error("Invalid container name: it has {0} bytes, and {LONGEST} are the most")]
    TooLong(usize),
}

/// Checks the name that a user wants, and returns it without the `/` that docker's API puts before names.
pub fn check(name: &str) -> Result<&str, NameError> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let is_word = |c: char| c.is_ascii_alphanumeric();
    let mut letters = bare.chars();
    let begins = letters.next().is_some_and(is_word);
    let goes_on = !letters.as_str().is_empty() && letters.all(|c| is_word(c) || "_.-".contains(c));
    match begins && goes_on {
        false => Err(NameError::BadName(name.to_owned())),
        true if bare.len() > LONGEST => Err(NameError::TooLong(bare.len())),
        true => Ok(bare),
    }
}

/// Makes up a name from random bits: one of twenty thousand. `attempt` counts those that were taken; from the
/// third on a number makes them more.
pub fn made_up(random: u64, attempt: u32) -> String {
    let adjective = ADJECTIVES[(random % ADJECTIVES.len() as u64) as usize];
    let scientist = SCIENTISTS[(random / ADJECTIVES.len() as u64 % SCIENTISTS.len() as u64) as usize];
    match attempt {
        0..3 => format!("{adjective}_{scientist}"),
        _ => format!("{adjective}_{scientist}{}", (random >> 32) % 10u64.pow(attempt.min(9) - 2)),
    }
}

const ADJECTIVES: [&str; 100] = [
    "able", "agile", "airy", "alert", "amber", "apt", "ardent", "artful", "azure", "balmy", "blithe", "bold",
    "brave", "breezy", "bright", "brisk", "calm", "candid", "careful", "cheery", "civil", "clear", "clever",
    "coral", "cordial", "cosy", "crisp", "curious", "dapper", "daring", "deft", "diligent", "eager", "early",
    "earnest", "easy", "elated", "even", "fair", "fearless", "fine", "fleet", "fluent", "fond", "frank",
    "fresh", "frugal", "genial", "gentle", "glad", "golden", "graceful", "grand", "handy", "happy", "hardy",
    "hearty", "honest", "humble", "jolly", "jovial", "keen", "kind", "lively", "loyal", "lucid", "lucky",
    "mellow", "merry", "mild", "modest", "neat", "nimble", "noble", "patient", "placid", "plucky", "polite",
    "proud", "quick", "quiet", "rapid", "ready", "serene", "sharp", "silent", "silver", "smart", "snug",
    "spry", "stable", "steady", "sunny", "swift", "tidy", "upbeat", "vivid", "warm", "wise", "witty",
];

const SCIENTISTS: [&str; 200] = [
    "abel",
    "agnesi",
    "alhazen",
    "ampere",
    "anning",
    "archimedes",
    "aryabhata",
    "avicenna",
    "avogadro",
    "babbage",
    "banneker",
    "banting",
    "bardeen",
    "barton",
    "bascom",
    "bassi",
    "bateson",
    "becquerel",
    "bernoulli",
    "berzelius",
    "bessel",
    "bhabha",
    "blackwell",
    "bohr",
    "boltzmann",
    "bolyai",
    "boole",
    "born",
    "bose",
    "boyle",
    "brahe",
    "brahmagupta",
    "bragg",
    "buffon",
    "bunsen",
    "burnell",
    "cajal",
    "cantor",
    "carnot",
    "carson",
    "cassini",
    "cauchy",
    "cavendish",
    "celsius",
    "chandra",
    "charpak",
    "chatelet",
    "clausius",
    "cori",
    "coulomb",
    "crick",
    "curie",
    "cuvier",
    "dalton",
    "darwin",
    "davy",
    "debye",
    "dedekind",
    "delbruck",
    "descartes",
    "dirac",
    "doppler",
    "dyson",
    "eddington",
    "edison",
    "ehrlich",
    "einstein",
    "eratosthenes",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "feynman",
    "fibonacci",
    "fischer",
    "fleming",
    "foucault",
    "fourier",
    "franklin",
    "fresnel",
    "galen",
    "galileo",
    "galois",
    "galvani",
    "gauss",
    "germain",
    "gibbs",
    "godel",
    "goeppert",
    "golgi",
    "gould",
    "haber",
    "hadamard",
    "haeckel",
    "halley",
    "hamilton",
    "harvey",
    "heaviside",
    "heisenberg",
    "helmholtz",
    "henry",
    "herschel",
    "hertz",
    "hevelius",
    "hilbert",
    "hodgkin",
    "hooke",
    "hopper",
    "hubble",
    "humboldt",
    "huygens",
    "hypatia",
    "jenner",
    "joliot",
    "joule",
    "kelvin",
    "kepler",
    "khayyam",
    "khorana",
    "kirchhoff",
    "koch",
    "kovalevsky",
    "krebs",
    "lagrange",
    "lamarck",
    "lamarr",
    "landau",
    "laplace",
    "lavoisier",
    "leavitt",
    "leeuwenhoek",
    "legendre",
    "leibniz",
    "linnaeus",
    "lister",
    "lobachevsky",
    "lorentz",
    "lovelace",
    "lyell",
    "mach",
    "maathai",
    "marconi",
    "maxwell",
    "mayer",
    "mcclintock",
    "meitner",
    "mendel",
    "mendeleev",
    "michelson",
    "millikan",
    "minkowski",
    "mirzakhani",
    "mobius",
    "moseley",
    "napier",
    "nernst",
    "newton",
    "nobel",
    "noether",
    "oersted",
    "ohm",
    "oppenheimer",
    "ostwald",
    "pascal",
    "pasteur",
    "pauli",
    "pauling",
    "pavlov",
    "perkin",
    "planck",
    "poincare",
    "poisson",
    "priestley",
    "ptolemy",
    "pythagoras",
    "raman",
    "ramanujan",
    "rayleigh",
    "riemann",
    "roentgen",
    "rubin",
    "rutherford",
    "sabin",
    "sagan",
    "salk",
    "sanger",
    "schrodinger",
    "seaborg",
    "somerville",
    "steno",
    "stokes",
    "tesla",
    "thales",
    "thomson",
    "torricelli",
    "turing",
    "vesalius",
    "virchow",
    "volta",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_as_docker_checks_them() {
        for name in ["ab", "a.b_c-1", "0x", "A9", &"x".repeat(LONGEST)] {
            assert_eq!(check(name), Ok(name));
        }
        assert_eq!(check("/ab"), Ok("ab"));
        for name in
            ["", "a", "/", "/a", "-ab", "_ab", ".ab", "a b", "a/b", "ä1", "aä", "ab\n", "..", "a:b", "//ab"]
        {
            assert_eq!(check(name), Err(NameError::BadName(name.to_owned())), "{name}");
        }
        assert_eq!(
            check("a b").unwrap_err().to_string(),
            "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        );
        assert_eq!(check(&"x".repeat(LONGEST + 1)), Err(NameError::TooLong(LONGEST + 1)));
    }

    #[test]
    fn made_up_names_are_names() {
        let names: std::collections::HashSet<String> = (0..20_000).map(|random| made_up(random, 0)).collect();
        assert_eq!(names.len(), 20_000);
        assert!(names.iter().all(|name| check(name).is_ok() && name.split('_').count() == 2));
        assert_eq!(made_up(u64::MAX, 0), made_up(u64::MAX, 2));
        for attempt in [3, 20, u32::MAX] {
            let name = made_up(u64::MAX, attempt);
            assert!(check(&name).is_ok() && name.ends_with(|c: char| c.is_ascii_digit()), "{name}");
        }
    }
}
