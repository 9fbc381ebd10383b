"""Debian's docker-registry on loopback, its storage in the bench's place."""

import shutil
import socket
import subprocess
import time
import urllib.request

from . import place
from .measure import Failed


class Registry:
    def __init__(self, bench):
        if not shutil.which("docker-registry"):
            raise Failed("docker-registry is not installed")
        self.storage = bench.place / "registry"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{probe.getsockname()[1]}"
        self.name = f"{self.host}/bench/image:1"
        self.config = bench.place / "registry.yml"
        self.config.write_text(f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {self.storage}}}}}\n"
                               f"http: {{addr: '{self.host}'}}\n")
        self.process = None

    def empty(self):
        """Starts it anew without anything in it."""
        self.close()
        place.fresh(self.storage)
        self.process = subprocess.Popen(["docker-registry", "serve", str(self.config)], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for _ in range(500):
            try:
                opener.open(f"http://{self.host}/v2/", timeout=2)
                return
            except OSError:
                time.sleep(0.02)
        raise Failed("docker-registry does not start")

    def blob(self, digest):
        digest = digest.removeprefix("sha256:")
        return self.storage / "docker/registry/v2/blobs/sha256" / digest[:2] / digest / "data"

    def manifest(self):
        link = self.storage / "docker/registry/v2/repositories/bench/image/_manifests/tags/1/current/link"
        return self.blob(link.read_text()).read_bytes()

    def megabytes(self):
        return sum(blob.stat().st_size for blob in self.storage.glob("docker/registry/v2/blobs/sha256/*/*/data")) / 1e6

    def close(self):
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None
