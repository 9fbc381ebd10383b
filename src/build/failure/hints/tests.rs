use super::*;

const NOBODY: Seen = Seen {
    output: "",
    exit: Exit::Code(1),
    command: "/bin/sh -c make",
    user: "",
    network: NetworkMode::Default,
    foreign: None,
    full: false,
};

/// Checks that the hint of an output has each of these words.
#[track_caller]
fn check(seen: Seen, expect: &[&str]) {
    let hint = of_output(&seen).unwrap_or_else(|| panic!("no hint for {:?}", seen.output));
    for words in expect {
        assert!(hint.contains(words), "{:?}: `{words}` is not in: {hint}", seen.output);
    }
    assert!(hint.chars().next().is_some_and(|c| !c.is_uppercase()) && !hint.ends_with('.'), "{hint}");
}

#[track_caller]
fn of(output: &str, expect: &[&str]) {
    check(Seen { output, ..NOBODY }, expect);
}

#[track_caller]
fn none(seen: Seen) {
    assert_eq!(of_output(&seen), None, "{:?}", seen.output);
}

fn code(code: i32, output: &str) -> Seen<'_> {
    Seen { output, exit: Exit::Code(code), ..NOBODY }
}

#[test]
fn packages_of_apt() {
    let lines = "Reading package lists...\nBuilding dependency tree...\nReading state information...\n\
                 E: Unable to locate package curl";
    let command = "/bin/sh -c apt-get install -y curl";
    check(Seen { command, ..code(100, lines) }, &["`apt-get update && apt-get install -y curl`"]);
    let command = "/bin/sh -c apt-get update && apt-get install -y curl";
    check(Seen { command, ..code(100, lines) }, &["apt knows no `curl`"]);
    let lines = "However the following packages replace it:\n  python3\n\nE: Package 'python' has no installation candidate";
    check(Seen { command, ..code(100, lines) }, &["apt knows no `python`"]);
    let command = "/bin/sh -c apt-get install -y curl";
    let lines = "Err:1 http://mirror.example.org/debian bookworm/main amd64 curl amd64 7.88.1-10\n  404  Not Found [IP: 1.2.3.4 80]\n\
                 E: Failed to fetch http://mirror.example.org/debian/pool/main/c/curl/curl_7.88.1-10_amd64.deb  404  Not Found [IP: 1.2.3.4 80]\n\
                 E: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?";
    check(Seen { command, ..code(100, lines) }, &["package lists", "in one RUN"]);
    let lines = "After this operation, 1,234 kB of additional disk space will be used.\nDo you want to continue? [Y/n] Abort.";
    check(Seen { command: "/bin/sh -c apt-get install curl", ..code(1, lines) }, &["`-y`"]);
    let lines = "E: Could not open lock file /var/lib/dpkg/lock-frontend - open (13: Permission denied)\n\
                 E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), are you root?";
    check(Seen { user: "app", ..code(100, lines) }, &["`USER root`", "`app`"]);
}

#[test]
fn packages_of_apk() {
    let lines = "ERROR: unable to select packages:\n  curl (no such package):\n    required by: world[curl]";
    check(Seen { command: "/bin/sh -c apk add curl", ..code(1, lines) }, &["`apk add --no-cache curl`"]);
    check(Seen { command: "/bin/sh -c apk add --no-cache curl", ..code(1, lines) }, &["apk knows no `curl`"]);
}

#[test]
fn names_that_do_not_resolve() {
    for output in [
        "W: Failed to fetch http://mirror.example.org/debian/dists/bookworm/InRelease  Temporary failure resolving 'mirror.example.org'\n\
         E: Unable to locate package curl",
        "curl: (6) Could not resolve host: example.org",
        "wget: bad address 'example.org'",
        "wget: unable to resolve host address 'example.org'",
        "fatal: unable to access 'https://github.com/a/b/': Could not resolve host: github.com",
        "npm error errno: ENOTFOUND\nnpm error request to https://registry.example.org/x failed, reason: getaddrinfo ENOTFOUND registry.example.org",
        "npm ERR! request to https://registry.example.org/x failed, reason: getaddrinfo EAI_AGAIN registry.example.org",
        "NewConnectionError: Failed to establish a new connection: [Errno -3] Temporary failure in name resolution",
        "go: example.org/x@v1: Get \"https://proxy.example.org/\": dial tcp: lookup proxy.example.org: no such host",
        "connect: Network is unreachable",
        "WARNING: fetching https://mirror.example.org/alpine/v3.20/main: temporary error (try again later)",
    ] {
        of(output, &["/etc/resolv.conf", "HTTP_PROXY"]);
        check(Seen { network: NetworkMode::None, output, ..NOBODY }, &["`--network=none`"]);
    }
}

#[test]
fn certificates_and_proxies() {
    for output in [
        "x509: certificate signed by unknown authority",
        "curl: (60) SSL certificate problem: unable to get local issuer certificate\nMore details here: https://curl.se/docs/sslcerts.html",
        "npm error code SELF_SIGNED_CERT_IN_CHAIN\nnpm error self-signed certificate in certificate chain",
        "ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer certificate (_ssl.c:1000)",
        "fatal: unable to access 'https://host/': server certificate verification failed. CAfile: none CRLfile: none",
        "PKIX path building failed: sun.security.provider.certpath.SunCertPathBuilderException",
    ] {
        of(output, &["`--ca-cert FILE`", "ca-certificates"]);
    }
    of("npm error tunneling socket could not be established, statusCode=407", &["HTTPS_PROXY"]);
    of(
        "WARNING: Retrying after connection broken by 'ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 403 Forbidden'))'",
        &["the proxy refused"],
    );
    of("npm error network request failed, reason: connect ETIMEDOUT 104.16.3.35:443", &["did not answer"]);
}

#[test]
fn scripts_that_cannot_run() {
    let cr = "line ends of Windows";
    check(
        code(126, "/bin/bash: line 1: /run.sh: /bin/sh^M: bad interpreter: No such file or directory"),
        &[cr],
    );
    check(code(127, "/run.sh: line 2: $'\\r': command not found"), &[cr]);
    check(code(127, "/usr/bin/env: 'python3\\r': No such file or directory"), &[cr]);
    check(code(127, "env: can't execute 'python3\r': No such file or directory"), &[cr]);
    check(code(127, "/bin/sh: /run.sh: not found"), &["`/run.sh` is not there", cr, "C library"]);
    check(
        code(127, "/bin/bash: line 1: /app: cannot execute: required file not found"),
        &["`/app`", "C library"],
    );
    check(code(126, "/bin/sh: /s.sh: Permission denied"), &["`COPY --chmod=755`", "`/s.sh`"]);
    check(code(126, "/bin/sh: 1: ./s.sh: Permission denied"), &["`./s.sh`"]);
    let output = "exec /usr/bin/sh: exec format error";
    check(code(255, output), &["another processor"]);
    check(code(127, "/arm: line 1: \x7fELF\u{2}\u{1}: not found"), &["another processor"]);
    let foreign = Some("linux/arm64".to_owned());
    check(
        Seen { foreign, ..code(126, "/bin/bash: /arm: cannot execute binary file: Exec format error") },
        &["linux/arm64", "qemu"],
    );
}

#[test]
fn programs_that_are_not_there() {
    check(code(127, "/bin/sh: gcc: not found"), &["`gcc` is not in the image"]);
    check(code(127, "/bin/sh: 1: gcc: not found"), &["`gcc` is not in the image"]);
    check(code(127, "/bin/bash: line 3: gcc: command not found"), &["`gcc` is not in the image"]);
    check(code(127, "/bin/sh: sudo: not found"), &["root already"]);
    check(Seen { user: "app", ..code(127, "/bin/sh: 1: sudo: not found") }, &["`USER root`"]);
    // A 127 of something else.
    none(code(127, "error: the page was not found"));
    none(code(1, "/bin/sh: gcc: not found"));
}

#[test]
fn another_shell() {
    for output in [
        "/bin/sh: 1: source: not found",
        "/bin/sh: 1: [[: not found",
        "/bin/sh: 1: set: Illegal option -o pipefail",
        "/bin/sh: 1: Bad substitution",
        "/bin/sh: 1: Syntax error: \"(\" unexpected",
    ] {
        check(code(2, output), &["`SHELL [\"/bin/bash\", \"-c\"]`"]);
        none(Seen { command: "/bin/bash -c x", ..code(2, output) });
    }
}

#[test]
fn projects() {
    of(
        "error: externally-managed-environment\n\n× This environment is externally managed\n╰─> To install Python packages system-wide, try apt install",
        &["python3 -m venv"],
    );
    of(
        "fatal: detected dubious ownership in repository at '/src'\nTo add an exception for this directory, call:",
        &["safe.directory"],
    );
    of(
        "npm error code ENOENT\nnpm error syscall open\nnpm error path /app/package.json\nnpm error enoent Could not read package.json: Error: ENOENT: no such file or directory, open '/app/package.json'",
        &["package.json", "WORKDIR"],
    );
    of(
        "ERROR: Could not open requirements file: [Errno 2] No such file or directory: 'requirements.txt'",
        &["WORKDIR"],
    );
    of(
        "go: go.mod file not found in current directory or any parent directory; see 'go help modules'",
        &["go.mod"],
    );
    of("error: could not find `Cargo.toml` in `/` or any parent directory", &["Cargo.toml"]);
    of("make: *** No targets specified and no makefile found.  Stop.", &["makefile"]);
}

#[test]
fn space_and_rights() {
    of("dd: error writing '/dev/shm/x': No space left on device", &["`--shm-size`"]);
    of("npm error code ENOSPC\nnpm error syscall write", &["--shm-size", "prune"]);
    let output = "cp: error writing '/x': No space left on device";
    check(Seen { full: true, output, ..NOBODY }, &["`rbuild system prune`", "`--root`"]);
    let output = "mkdir: can't create directory '/opt2': Permission denied";
    check(Seen { user: "app", output, ..NOBODY }, &["`COPY --chown=app`", "`USER app`"]);
    none(Seen { output, ..NOBODY });
    of("touch: /proc/x: Read-only file system", &["`rw`"]);
}

#[test]
fn signals_that_a_shell_tells_of() {
    check(code(137, "Killed"), &["137", "SIGKILL", "memory"]);
    check(code(139, "Segmentation fault (core dumped)"), &["SIGSEGV"]);
    none(code(1, "Segmentation fault"));
    none(code(255, ""));
    none(code(2, "make: *** [Makefile:2: all] Error 2"));
}

#[test]
fn what_was_said_long_ago_is_no_reason() {
    none(Seen { output: "/bin/sh: ok", ..code(3, "") });
    // The last line that matches counts.
    check(code(127, "/bin/sh: 1: a: not found\n/bin/sh: 2: b: not found"), &["`b`"]);
}

#[test]
fn programs_that_do_not_start() {
    let check = |program: &str, shell: &str, failure: ExecFailure, expect: &str| {
        let error = ExecError { program: program.into(), failure };
        let hint = of_exec(&error, shell).unwrap();
        assert!(hint.contains(expect), "{hint}");
    };
    let sh = "/bin/sh";
    check(sh, sh, ExecFailure::NotFound(sh.into()), "the image has no `/bin/sh`");
    check("gcc", "gcc", ExecFailure::NotInPath, "`gcc` is not in the image");
    check("/s.sh", "/s.sh", ExecFailure::PermissionDenied, "--chmod=755");
    check("/s.sh", "/s.sh", ExecFailure::MissingInterpreter("/bin/sh\\r".into()), "line ends of Windows");
    check("/app", "/app", ExecFailure::MissingInterpreter("/lib64/ld-linux-x86-64.so.2".into()), "C library");
    check("/app", "/app", ExecFailure::NotExecutable, "another processor");
    check("/etc", "/etc", ExecFailure::IsDirectory, "is a directory");
}

#[test]
fn shells_name_the_command() {
    let check = |line: &str, expect: Option<&str>| assert_eq!(command_of(line), expect, "{line}");
    check("/bin/sh: gcc: not found", Some("gcc"));
    check("/bin/sh: 12: gcc: not found", Some("gcc"));
    check("/bin/bash: line 12: gcc: command not found\n", Some("gcc"));
    check("sh: gcc: not found\nmore", Some("gcc"));
    check("/bin/sh: 1: /s.sh: Permission denied", Some("/s.sh"));
    check("cat: x: not found", None);
    check("a sh: x: not found", None);
    check("sh: two words: not found", None);
    check(": : : not found", None);
    check("", None);
}

proptest::proptest! {
    #[test]
    fn any_output_is_read(output in "[a-z:' \r\n./é\\[\\]]{0,80}", code in -1i32..300) {
        let _ = of_output(&Seen { output: &output, exit: Exit::Code(code), ..NOBODY });
        let _ = command_of(&output);
    }
}
