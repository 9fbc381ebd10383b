//! How many manifests are held in memory, and read, at once: each can be 4 MiB, and as JSON many times that.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::errors::{ApiError, Code};

/// From how many bytes on a manifest is a large one; few are.
pub const LARGE: usize = 64 << 10;
/// How many large ones are held at once.
const LARGE_AT_ONCE: usize = 8;
/// How many documents are read as JSON at once; more would only take turns.
const READ_AT_ONCE: usize = 16;
/// As how many of those a large one counts, and a list of them.
const LARGE_COUNTS: u32 = 8;
const LIST_COUNTS: u32 = 4;
/// How long it is waited for others.
const PATIENCE: Duration = Duration::from_secs(30);

/// The places.
#[derive(Debug)]
pub struct Documents {
    large: Arc<Semaphore>,
    read: Arc<Semaphore>,
    patience: Duration,
}

impl Default for Documents {
    fn default() -> Documents {
        let (large, read) = (Semaphore::new(LARGE_AT_ONCE), Semaphore::new(READ_AT_ONCE));
        Documents { large: Arc::new(large), read: Arc::new(read), patience: PATIENCE }
    }
}

impl Documents {
    /// Takes a place to hold a large one.
    pub async fn hold(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.place(&self.large, 1).await
    }

    /// Takes a place to read one as JSON.
    pub async fn read(&self, is_large: bool) -> Result<OwnedSemaphorePermit, ApiError> {
        self.place(&self.read, if is_large { LARGE_COUNTS } else { 1 }).await
    }

    /// Takes a place to read many, one after another.
    pub async fn list(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.place(&self.read, LIST_COUNTS).await
    }

    async fn place(&self, of: &Arc<Semaphore>, count: u32) -> Result<OwnedSemaphorePermit, ApiError> {
        let busy = || {
            ApiError::new(Code::TooManyRequests)
                .saying("too many large manifests are on their way; try again")
                .header(http::header::RETRY_AFTER, http::HeaderValue::from_static("10"))
                .closing()
        };
        match timeout(self.patience, of.clone().acquire_many_owned(count)).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_no_place_is_told() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let documents = Documents { patience: Duration::from_millis(20), ..Documents::default() };
            let mut held = Vec::new();
            for _ in 0..LARGE_AT_ONCE {
                held.push(documents.hold().await.unwrap());
            }
            let reply = documents.hold().await.unwrap_err().reply();
            assert_eq!(reply.status, http::StatusCode::TOO_MANY_REQUESTS);
            let reading = (documents.read(true).await.unwrap(), documents.list().await.unwrap());
            assert!(documents.read(true).await.is_err() && documents.read(false).await.is_ok());
            drop(reading);
            held.pop();
            assert!(documents.hold().await.is_ok());
        });
    }
}
