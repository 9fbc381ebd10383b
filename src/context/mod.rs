//! Where COPY and ADD read from: directories, archives, repositories, URLs, other stages.
//!
//! `tree` opens such a place, `archive` one from a tar, `git` one from a
//! repository, `http` one from a URL, `dockerfile` reads the Dockerfile and finds the ignore rules,
//! `select` finds what sources stand for, `selection` holds the result and its
//! digest, `listing` shows all of a context to people, `digest_cache` keeps content digests from build to build. Nothing
//! here writes into an image (`worker::copy`) and nothing leaves its root:
//! every path resolves through `sys::RootDir`.

mod archive;
mod digest_cache;
mod dockerfile;
mod error;
mod filter;
mod git;
mod hash;
mod http;
mod listing;
mod near;
mod select;
mod selection;
mod source;
mod tree;

pub use archive::BLOCK;
pub use archive::Kind;
pub use archive::from_tar;
pub use archive::is_archive;
pub use archive::sniff;
pub use digest_cache::DigestCache;
pub use dockerfile::DockerfilePlace;
pub use dockerfile::locate_dockerfile;
pub use dockerfile::read_dockerfile;
pub use error::ContextError;
pub use error::show;
pub use filter::Deciding;
pub use git::Commit;
pub use git::Git;
pub use git::GitAccess;
pub use git::GitError;
pub use git::GitOptions;
pub use git::GitTree;
pub use hash::hash_file;
pub use hash::may_change_unseen;
pub use hash::same_content;
pub use http::DEFAULT_LIMIT;
pub use http::Downloads;
pub use http::HttpContext;
pub use http::HttpFile;
pub use http::HttpRequest;
pub use http::Secrets;
pub use http::http_context;
pub use listing::Count;
pub use listing::Listing;
pub use listing::Seen;
pub use listing::Why;
pub use select::SelectOptions;
pub use select::Source;
pub use select::select;
pub use selection::Entry;
pub use selection::EntryKind;
pub use selection::Listed;
pub use selection::Selected;
pub use selection::Selection;
pub use tree::Tree;
pub use tree::open_directory;
