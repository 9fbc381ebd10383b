//! Which repositories there are.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::super::StoreError;
use super::Repositories;
use super::name::RepositoryName;

impl Repositories {
    /// Lists the repositories that have a manifest, sorted by the bytes of their names.
    pub fn repositories(&self) -> Result<Vec<RepositoryName>, StoreError> {
        let mut found = self.all_repositories()?;
        let mut failed = Ok(());
        found.retain(|name| match self.manifests(name) {
            Ok(manifests) => !manifests.is_empty(),
            Err(e) => {
                failed = Err(e);
                false
            }
        });
        failed.map(|()| found)
    }

    /// Lists all folders of repositories, sorted.
    pub(super) fn all_repositories(&self) -> Result<Vec<RepositoryName>, StoreError> {
        let mut found = Vec::new();
        let mut folders: Vec<PathBuf> = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            for name in self.names(&Path::new("repositories").join(&folder), FileType::Directory)? {
                let path = folder.join(&name);
                // What is no name of a repository is a part of one.
                if let Some(Ok(name)) = path.to_str().map(str::parse::<RepositoryName>) {
                    found.push(name);
                    folders.push(path);
                }
            }
        }
        found.sort();
        Ok(found)
    }
}
