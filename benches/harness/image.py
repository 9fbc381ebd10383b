"""The image that is pushed, pulled and saved: four layers of real files, made with plain tools only.

The first layer is the Debian base, the others are packages of the apt workload's archive, unpacked.
"""

import gzip
import hashlib
import io
import json
import tarfile

from . import listing, place
from .contexts import dockerfile
from .measure import Failed, quietly

LAYERS = 4


class Image:
    def __init__(self, bench):
        self.bench, self.folder = bench, place.fresh(bench.place / "image")
        self.context = dockerfile(self.folder / "context", "FROM scratch\n" + "".join(f"ADD l{n}.tar /\n" for n in range(LAYERS)))
        self.tars = [self.context / f"l{n}.tar" for n in range(LAYERS)]
        self.first_layer(self.tars[0])
        self.other_layers(bench.sizes.image - self.tars[0].stat().st_size)
        self.size = sum(tar.stat().st_size for tar in self.tars)
        self.files = {}
        for tar in self.tars:
            with open(tar, "rb") as stream:
                self.files |= listing.read(stream, lambda path: True)

    def first_layer(self, tar):
        """The base with one file more, so that no engine knows the layer already. A small image has only that."""
        if self.bench.tiny:
            with tarfile.open(tar, "w"):
                pass
        else:
            quietly(["cp", self.bench.base, tar])
        with tarfile.open(tar, "a") as archive:
            entry = tarfile.TarInfo("etc-of-bench")
            entry.size = 6
            archive.addfile(entry, io.BytesIO(b"bench\n"))

    def other_layers(self, size):
        each = size // (LAYERS - 1)
        debs = [] if self.bench.tiny else sorted(self.bench.debs().glob("*.deb"))
        for number, tar in enumerate(self.tars[1:], 1):
            content = self.folder / "content"
            # Below a directory of their own: /lib of a package would replace the base's link.
            within = place.fresh(content) / "opt" / f"l{number}"
            within.mkdir(parents=True)
            if self.bench.tiny:
                for name in range(each // 50_000):
                    (within / f"f{name}").write_bytes(hashlib.sha256(bytes(name)).digest() * 700 + b"text " * 5_000)
            while debs and self.taken(content) < each:
                for deb in [debs.pop(0) for _ in range(min(4, len(debs)))]:
                    quietly(["dpkg-deb", "-x", deb, within])
            quietly(["tar", "-C", content, "--sort=name", "--numeric-owner", "--owner=0", "--group=0", "-cf", tar, "opt"])
        place.remove(self.folder / "content")

    @staticmethod
    def taken(folder):
        return int(quietly(["du", "-sB1", folder]).split()[0])

    def archive(self):
        """The same as a docker archive; remove it when it is loaded."""
        path = self.folder / "image.tar"
        digests = [listing.of_file(tar) for tar in self.tars]
        config = json.dumps({"architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z",
                             "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
                             "history": [{"created": "2026-01-01T00:00:00Z", "created_by": f"l{n}"} for n in range(LAYERS)],
                             "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]}}).encode()
        name = f"{hashlib.sha256(config).hexdigest()}.json"
        manifest = [{"Config": name, "RepoTags": ["bench/image:1"], "Layers": [f"{digest}/layer.tar" for digest in digests]}]
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
            for title, content in ((name, config), ("manifest.json", json.dumps(manifest).encode())):
                entry = tarfile.TarInfo(title)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
            for digest, layer in zip(digests, self.tars):
                tar.add(layer, f"{digest}/layer.tar")
        return path

    def check_files(self, found):
        """Failed unless all files are there; an engine may add its own, such as /etc/hosts."""
        listing.compare({path: digest for path, digest in found.items() if path in self.files}, self.files)

    def check_archive(self, path):
        """Failed unless it is a docker archive whose layers are what its config says, with all files."""
        with tarfile.open(path) as tar:
            entry = json.load(tar.extractfile("manifest.json"))[0]
            diff_ids = json.load(tar.extractfile(entry["Config"]))["rootfs"]["diff_ids"]
            files = {}
            for name, diff_id in zip(entry["Layers"], diff_ids, strict=True):
                if listing.digest_of(tar.extractfile(name)) != diff_id.removeprefix("sha256:"):
                    raise Failed(f"the layer {name} of the archive is not {diff_id}")
                files |= listing.read(tar.extractfile(name), lambda path: True)
        self.check_files(files)

    def check_registry(self, registry):
        """Failed unless the registry has the image: blobs with their digests, layers with their DiffIDs, all files."""
        manifest = json.loads(registry.manifest())
        config = json.loads(registry.blob(manifest["config"]["digest"]).read_bytes())
        files = {}
        for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
            blob = registry.blob(layer["digest"])
            if listing.of_file(blob) != layer["digest"].removeprefix("sha256:"):
                raise Failed(f"the blob {layer['digest']} has another digest")
            with gzip.open(blob) as stream:
                if listing.digest_of(stream) != diff_id.removeprefix("sha256:"):
                    raise Failed(f"the blob {layer['digest']} does not unpack to {diff_id}")
            with gzip.open(blob) as stream:
                files |= listing.read(stream, lambda path: True)
        self.check_files(files)
