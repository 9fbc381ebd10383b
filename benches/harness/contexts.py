"""The build contexts: their files and Dockerfiles, made new for each run, the same for all engines."""

import os
import random
from dataclasses import dataclass

BASE = "bench/base:1"


@dataclass(frozen=True)
class Sizes:
    """How large the workloads are; `TINY` is for trying the harness itself."""

    runs: int = 30
    files: int = 30_000
    big: int = 1 << 30
    write: int = 20_000
    sleep: float = 2.0
    deep: int = 120
    around: int = 200_000
    builds: int = 8
    burn: int = 100 << 20
    scale: tuple = (1, 10, 100)
    scale_files: int = 300
    image: int = 560_000_000
    parsed: int = 1_110
    # The base is a busybox, without perl.
    busybox: bool = False


FULL = Sizes()
TINY = Sizes(runs=3, files=300, big=4 << 20, write=200, sleep=0.1, deep=6, around=2_000, builds=3, burn=1 << 20,
             scale=(1, 2, 4), scale_files=20, image=8_000_000, parsed=20, busybox=True)


def dockerfile(folder, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Dockerfile").write_text(text)
    return folder


def steps(count):
    return "".join(f"RUN echo {n} > /f{n}\n" for n in range(count))


def noop(folder):
    dockerfile(folder, f'FROM {BASE}\nWORKDIR /app\nCOPY hello /app/\nRUN echo a > /a\nRUN echo b > /b\nCMD ["sh"]\n')
    (folder / "hello").write_text("hello\n")


def small_files(folder, count, rng):
    """So many files of 4 KB that cannot be compressed, 300 in a directory."""
    for number in range(count):
        within = folder / f"d{number // 300:03d}"
        if number % 300 == 0:
            within.mkdir(parents=True)
        with open(within / f"f{number:05d}", "wb") as file:
            file.write(rng.randbytes(4096))


def small(folder, count):
    dockerfile(folder, f"FROM {BASE}\nCOPY . /app\n")
    (folder / ".dockerignore").write_text("Dockerfile\n.dockerignore\n")
    small_files(folder, count, random.Random(1))


def edit(folder):
    """Changes one file in the middle; returns its path in the folder."""
    last = sorted(folder.glob("d*"))[-1]
    file = sorted(last.iterdir())[len(list(last.iterdir())) // 2]
    file.write_bytes(os.urandom(4096))
    return file


def big(folder, size):
    dockerfile(folder, f"FROM {BASE}\nCOPY blob /blob\n")
    rng = random.Random(2)
    with open(folder / "blob", "wb") as file:
        for _ in range(size >> 20):
            file.write(rng.randbytes(1 << 20))


WRITE = """my $b = "x" x 15000;
mkdir "out" or die;
for my $i (0 .. COUNT - 1) {
    my $d = "out/d" . int($i / 200);
    if ($i % 200 == 0) { mkdir $d or die; }
    open(F, ">", "$d/f$i") or die;
    print F $b . $i;
    close F;
}
"""


WRITE_SHELL = """b=$(head -c 15000 /dev/zero | tr '\\0' x)
mkdir out
i=0
while [ $i -lt COUNT ]; do
    d=out/d$((i / 200))
    [ -d $d ] || mkdir $d
    printf %s "$b$i" > $d/f$i
    i=$((i + 1))
done
"""


def write(folder, count, busybox):
    """Files of 15 kB that a step writes."""
    script, program = (WRITE_SHELL, "sh -eu") if busybox else (WRITE, "perl")
    dockerfile(folder, f"FROM {BASE}\nCOPY generate /generate\nRUN {program} /generate\n")
    (folder / "generate").write_text(script.replace("COUNT", str(count)))



def par(folder, seconds):
    stages = "".join(f"FROM {BASE} AS s{n}\nRUN sleep {seconds}; echo {n} > /o{n}\n" for n in range(4))
    dockerfile(folder, stages + f"FROM {BASE}\n" + "".join(f"COPY --from=s{n} /o{n} /o{n}\n" for n in range(4)))


def stages(folder, count):
    """As many stages with a step each, joined in the last."""
    text = "".join(f"FROM {BASE} AS s{n}\nRUN echo {n} > /o{n}\n" for n in range(count))
    dockerfile(folder, text + f"FROM {BASE}\n" + "".join(f"COPY --from=s{n} /o{n} /o{n}\n" for n in range(count)))


def around(folder, count):
    """Ten files that are copied, and very many beside them that `.dockerignore` leaves out."""
    dockerfile(folder, f"FROM {BASE}\nCOPY pick /pick\n")
    (folder / ".dockerignore").write_text("*\n!pick\n")
    (folder / "pick").mkdir()
    for number in range(10):
        (folder / "pick" / f"p{number}").write_text(f"{number}\n")
    for number in range(count):
        within = folder / "rest" / f"d{number // 500:03d}"
        if number % 500 == 0:
            within.mkdir(parents=True)
        with open(within / f"f{number}", "wb"):
            pass


def many(folder, builds, burn, nonce):
    """Contexts whose builds share their first three steps of six. Each step that runs says a line of its own."""
    def step(name):
        return (f"RUN : {nonce}; echo ran-$(cat /proc/sys/kernel/random/uuid); "
                f"head -c {burn} /dev/zero | sha256sum > /{name}\n")

    made = []
    for build in range(builds):
        text = f"FROM {BASE}\n" + "".join(map(step, ("s0", "s1", "s2", f"b{build}o0", f"b{build}o1", f"b{build}o2")))
        made.append(dockerfile(folder / f"b{build}", text))
    return made


# What Dockerfiles are made of, 9 lines each.
LINES = ("RUN echo {n} \\\n    && true\nENV VARIABLE_{n}=value\nCOPY a{n} /to/{n}/\nLABEL org.example.label{n}=value\n"
         "WORKDIR /work/{n}\nRUN --mount=type=cache,target=/cache make {n}\nUSER user{n}\nEXPOSE {n}\n# a comment\n")


def parsed(folder, count):
    dockerfile(folder, f"FROM {BASE}\n" + "".join(LINES.replace("{n}", str(n)) for n in range(1, count)))
