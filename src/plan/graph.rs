//! The instruction graph: what there is to do, as plain values.
//!
//! Vertices are what makes a layer or brings in files; everything else (ENV,
//! CMD, LABEL, ...) is folded into configs. Inputs always have smaller ids than
//! the vertices that use them, so the list is in topological order. Not here:
//! keys and execution (`solve`, `worker`), paths on disk, times.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::image::{ContainerConfig, Digest, History, ImageConfig, ImageId, Platform};
use crate::remote::GitAddress;
use crate::report::Span;

use super::change::Change;

/// The index of a vertex in [`Graph::vertices`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VertexId(pub usize);

/// Everything a build has to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    /// Equal work stands here once, however many stages ask for it.
    pub vertices: Vec<Vertex>,
    /// The stages that the target needs, in the order of the file.
    pub stages: Vec<Stage>,
    /// The indices in `stages` of those to build, in the order they were asked for; at least one.
    pub targets: Vec<usize>,
}

/// One piece of work.
#[derive(Debug, Clone, PartialEq)]
pub struct Vertex {
    pub op: Op,
    /// Where it reads; for Run, Copy and Workdir the first is always the state it is put on.
    pub inputs: Vec<Input>,
    /// The instruction as one line: `COPY --from=build /a /b`.
    pub text: String,
    /// Where in the Dockerfile; empty for what ONBUILD brought.
    pub span: Span,
    /// The line it starts on, from 1; 0 for what ONBUILD brought.
    pub line: usize,
    /// The name or number of the first stage that needs it.
    pub stage: String,
    /// Whether the cache must not answer it (`--no-cache`, `--no-cache-filter`).
    pub ignore_cache: bool,
}

/// An edge of the graph.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Input {
    pub kind: EdgeKind,
    /// `None` is the empty state, `FROM scratch`.
    pub from: Option<VertexId>,
}

/// What an edge means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EdgeKind {
    /// The state the vertex works on: its whole content is in the key.
    Base,
    /// The state its layer is put on, of which nothing is read (`COPY --link`): in no key.
    Below,
    /// Files are copied from there: only the selected ones are in the key.
    Source,
    /// Mounted into a RUN (`--mount=type=bind`): only the selected subtree is in the key.
    Mount,
    /// What a new cache mount starts with (`--mount=type=cache,from=`): in no key.
    Seed,
}

impl EdgeKind {
    /// Tells whether the vertex's own layer goes on that state.
    pub fn is_under(self) -> bool {
        matches!(self, EdgeKind::Base | EdgeKind::Below)
    }

    /// Tells whether what is selected of it is in the key.
    pub fn is_selected(self) -> bool {
        matches!(self, EdgeKind::Source | EdgeKind::Mount)
    }
}

/// What a vertex does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Op {
    /// The layers of an image.
    Image(ImageOp),
    /// Files from outside: the build context, or a named one. Has no layers.
    Context(ContextOp),
    /// A file to download. Has no layers.
    Http(HttpOp),
    /// A Git repository to fetch. Has no layers.
    Git(GitOp),
    Run(RunOp),
    Copy(CopyOp),
    /// WORKDIR: makes a directory and its missing parents.
    Workdir(WorkdirOp),
}

/// A base image, already resolved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageOp {
    /// As the user wrote it, expanded.
    pub reference: String,
    pub platform: Platform,
    pub image: ImageId,
}

/// A source of files by name; the main build context is `context`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContextOp {
    pub name: String,
}

/// One file of the web.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HttpOp {
    /// `http://` or `https://`, user and password included: never to be shown as it is.
    pub url: String,
    /// The name the file gets.
    pub file_name: String,
    /// What it must have: `sha256:...`.
    pub checksum: Option<Digest>,
}

/// The files of one commit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GitOp {
    pub address: GitAddress,
}

/// A command to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOp {
    /// The whole command line, the shell's words included.
    pub args: Vec<String>,
    /// `KEY=value`: the image's ENV and the ARGs in scope, sorted by name, each once;
    /// PATH is always there.
    pub env: Arc<[Arc<str>]>,
    /// Environment of the run that is in no key and no history: proxy build args that
    /// no ARG declares, `KEY=value`.
    pub env_unkeyed: Vec<String>,
    /// Absolute.
    pub workdir: String,
    /// `user[:group]` as the config says it; empty is root.
    pub user: String,
    pub network: NetworkMode,
    pub security: Security,
    /// `--mount`, in order.
    pub mounts: Vec<RunMount>,
    /// The names of `--add-host`, sorted; their addresses are not the plan's.
    pub extra_hosts: Vec<String>,
    /// BUILDKIT_SANDBOX_HOSTNAME, where it is set.
    pub hostname: Option<String>,
    /// Volumes of the command line: (destination, read-only). Host paths are not the plan's.
    pub volumes: Vec<(String, bool)>,
    /// A script to be placed in the sandbox and run: heredoc that starts with `#!`.
    pub script: Option<Script>,
    /// Seconds since 1970 of SOURCE_DATE_EPOCH, when set.
    pub source_date_epoch: Option<i64>,
}

impl Hash for RunOp {
    /// Leaves the environment out: many steps of a long file share a long one, and differ in
    /// what they run.
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.args, &self.workdir, &self.user, self.network, self.security).hash(state);
        (&self.mounts, &self.script).hash(state);
    }
}

/// A heredoc that is a program of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Script {
    /// The heredoc's name: the file is `/dev/pipes/<name>`.
    pub name: String,
    pub body: String,
}

/// What network a step sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum NetworkMode {
    /// A private one with a way out.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's.
    Host,
}

/// What a step may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Security {
    #[default]
    Sandbox,
    /// All capabilities, no filter of system calls, the devices of the machine.
    Insecure,
}

/// One `--mount` of a RUN.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RunMount {
    /// Absolute, cleaned, never `/`. For a secret that is only a variable, where the file would be.
    pub target: String,
    pub kind: MountKind,
}

/// What is mounted. Paths in a source are cleaned, without a leading `/`; empty is its root.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MountKind {
    /// Files of a context, a stage or an image.
    Bind {
        /// The place of its edge in the vertex's inputs.
        input: usize,
        source: String,
        /// Whether it can be written to; what is written is thrown away.
        writable: bool,
    },
    /// A directory that outlives the build.
    Cache {
        /// Its name: caches of one name are one, where `owner`, `mode` and `input` are the same.
        id: String,
        sharing: Sharing,
        /// The edge of what a new cache starts with; its files, or an empty directory.
        input: Option<usize>,
        source: String,
        read_only: bool,
        /// Of the directory of a new cache: 0755 where nothing is said.
        mode: u32,
        uid: u32,
        gid: u32,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// In bytes; `None` is the kernel's default.
        size: Option<u64>,
    },
    /// A secret of the command line, as a file, a variable or both. Its value is in no key.
    Secret {
        id: String,
        /// Whether the file is made at the target.
        file: bool,
        /// The variable that gets its value.
        env: Option<String>,
        required: bool,
        mode: u32,
        uid: u32,
        gid: u32,
    },
    /// The socket of an agent that holds SSH keys.
    Ssh { id: String, required: bool, mode: u32, uid: u32, gid: u32 },
}

/// Who may use a cache mount at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Sharing {
    /// Everybody.
    #[default]
    Shared,
    /// One at a time; others get another directory.
    Private,
    /// One at a time; others wait.
    Locked,
}

/// Files to copy. The first input is the state, each of the others a source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CopyOp {
    /// ADD (archives are unpacked) rather than COPY.
    pub add: bool,
    pub sources: Vec<CopySource>,
    /// Absolute, cleaned; a trailing `/` is kept where it was written and means a directory.
    pub destination: String,
    /// `user[:group]` of `--chown`.
    pub chown: Option<String>,
    /// `--chmod` as written: octal or symbolic.
    pub chmod: Option<String>,
    pub link: bool,
    pub parents: bool,
    pub exclude: Vec<String>,
    /// Whether archives are unpacked; `None` is the instruction's default: ADD unpacks
    /// those of the context, not those that were downloaded.
    pub unpack: Option<bool>,
    /// SOURCE_DATE_EPOCH, when set: no file of the layer is newer.
    pub source_date_epoch: Option<i64>,
}

/// One source of a copy, expanded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CopySource {
    /// A path or pattern in the source input, as written (leading `/` and `..` not yet stripped).
    Path { input: usize, path: String },
    /// The file of this name, which is all that the input holds.
    Download { input: usize, name: String },
    /// A heredoc: a file of this name with these bytes.
    Inline { name: String, data: String },
}

/// A directory to make.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkdirOp {
    /// Absolute, cleaned, never `/`.
    pub path: String,
    /// Who owns what is made: `user[:group]` as USER says.
    pub user: String,
    /// SOURCE_DATE_EPOCH, when set: no file of the layer is newer.
    pub source_date_epoch: Option<i64>,
}

/// One stage of the target's.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Its number in the file, from 0.
    pub index: usize,
    /// In lower case.
    pub name: Option<String>,
    pub platform: Platform,
    /// Its instructions in order, FROM first, what ONBUILD brought after it.
    pub steps: Vec<Step>,
    /// The last state; `None` for nothing on scratch.
    pub output: Option<VertexId>,
    /// The base's whole config (history and DiffIDs included) of the *image* under the
    /// chain of FROM; that of scratch when there is none.
    pub base_config: Arc<ImageConfig>,
    /// The container config after the first step, FROM.
    pub start: ContainerConfig,
    /// The config of the result. Its `history`, `rootfs` and `created` are empty.
    pub config: ImageConfig,
    /// The history lines of the whole chain of FROM down to the image, base's not included.
    pub history: Vec<PlannedHistory>,
}

/// One instruction of a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// As one line, `ONBUILD` in front where that brought it.
    pub text: String,
    pub span: Span,
    /// From 1; 0 for what ONBUILD brought.
    pub line: usize,
    /// The vertex this instruction made; for FROM the base's; `None` when it only changes the config.
    pub vertex: Option<VertexId>,
    /// The state after the step (its own vertex or the nearest before).
    pub state: Option<VertexId>,
    /// What the step does to the container config, in order.
    pub changes: Vec<Change>,
    /// The number of entries of [`Stage::history`] after the step.
    pub history_len: usize,
}

/// A history line that lacks only its time.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedHistory {
    pub entry: History,
    /// The vertex whose time it takes: its own or the nearest before; `None`: the base's.
    pub vertex: Option<VertexId>,
}

/// Build arguments: name to value.
pub type BuildArgs = BTreeMap<String, String>;

impl Op {
    /// Returns the name by which the files of a source without layers are known while a build
    /// runs: equal for equal sources, never shown.
    pub fn source_name(&self) -> Option<String> {
        match self {
            Op::Context(context) => Some(context.name.clone()),
            Op::Http(http) => Some(format!("http {}", http.url)),
            Op::Git(git) => Some(format!("git {}", git.address.identity())),
            Op::Image(_) | Op::Run(_) | Op::Copy(_) | Op::Workdir(_) => None,
        }
    }

    /// Returns the time that no file of its layer may be newer than, in seconds since 1970.
    pub fn source_date_epoch(&self) -> Option<i64> {
        match self {
            Op::Run(run) => run.source_date_epoch,
            Op::Copy(copy) => copy.source_date_epoch,
            Op::Workdir(workdir) => workdir.source_date_epoch,
            Op::Image(_) | Op::Context(_) | Op::Http(_) | Op::Git(_) => None,
        }
    }
}

impl Graph {
    /// Returns the stages to build, in the order they were asked for.
    pub fn target_stages(&self) -> impl Iterator<Item = &Stage> {
        self.targets.iter().map(|&index| &self.stages[index])
    }

    /// Returns a vertex by id.
    pub fn vertex(&self, id: VertexId) -> &Vertex {
        &self.vertices[id.0]
    }
}
