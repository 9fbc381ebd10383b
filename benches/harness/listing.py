"""What is in an image, read from a tar of its files, to compare with what must be in it."""

import hashlib
import subprocess
import tarfile
from pathlib import Path

from .measure import Failed


def of_tar(argv, wanted):
    """{path: SHA-256} of the regular files that `wanted` takes, of the tar that a command writes."""
    words = [str(word) for word in argv]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        found = read(process.stdout, wanted)
        process.stdout.read()
    except tarfile.TarError as error:
        found = Failed(f"`{' '.join(words)[:100]}` writes no tar: {error}")
    said = process.stderr.read().decode(errors="replace").strip()
    if process.wait() != 0:
        raise Failed(f"`{' '.join(words)[:100]}` ended with {process.returncode}: {said[-300:]}")
    if isinstance(found, Failed):
        raise found
    return found


def read(stream, wanted):
    found = {}
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            name = clean(member.name)
            if not wanted(name):
                continue
            if member.isreg():
                found[name] = digest_of(tar.extractfile(member))
            elif member.islnk():
                found[name] = found.get(clean(member.linkname), "a link to what is not wanted")
    return found


def clean(name):
    return name.removeprefix("./").strip("/")


def digest_of(stream):
    digest = hashlib.sha256()
    while piece := stream.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


def of_bytes(content):
    return hashlib.sha256(content).hexdigest()


def of_folder(folder, prefix):
    """The same of a folder that is copied to `prefix`."""
    found = {}
    for file in Path(folder).rglob("*"):
        if file.is_file() and not file.is_symlink():
            found[f"{prefix}/{file.relative_to(folder)}"] = of_file(file)
    return found


def of_file(file):
    with open(file, "rb") as stream:
        return digest_of(stream)


def compare(found, expected):
    """Failed with the first difference."""
    if found == expected:
        return
    missing = sorted(expected.keys() - found.keys())
    extra = sorted(found.keys() - expected.keys())
    other = sorted(path for path in expected.keys() & found.keys() if expected[path] != found[path])
    example = (missing or extra or other)[0]
    raise Failed(f"the image is wrong: {len(missing)} files missing, {len(extra)} too many, {len(other)} with other contents; "
                 f"as `{example}`")
