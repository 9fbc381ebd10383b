# What the scripts share. Read with `.`, not run.

# cargo and the tools of /usr/sbin are often not on an ordinary user's PATH.
PATH="$PATH:$HOME/.cargo/bin:/usr/local/sbin:/usr/sbin:/sbin"
export PATH

say() { printf '\n== %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# check_tools: cargo new enough, and make. What else is missing, scripts/install installs.
check_tools() {
    local need=88 version minor
    command -v make >/dev/null || die "make is missing: apt-get install make"
    if ! command -v cargo >/dev/null; then
        [ -z "${SUDO_USER:-}" ] || die "cargo is not on root's PATH; run this as $SUDO_USER, without sudo"
        die "cargo is missing: install Rust 1.$need or newer, see https://rustup.rs"
    fi
    version=$(cargo --version) || die "cargo does not run"
    version=${version#cargo }
    minor=${version#*.}
    minor=${minor%%.*}
    if [ "${version%%.*}" -eq 1 ] && [ "$minor" -lt "$need" ]; then
        die "cargo ${version%% *} is too old: install Rust 1.$need or newer, see https://rustup.rs"
    fi
    echo "cargo ${version%% *}, $(make --version | head -n 1), $(gcc --version 2>/dev/null | head -n 1 || true)"
}

# fetch_crates: the network is used only where a crate is missing, so that a later run needs none.
fetch_crates() {
    cargo fetch --locked --offline >/dev/null 2>&1 || cargo fetch --locked
}
