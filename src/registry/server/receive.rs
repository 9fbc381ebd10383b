//! The body of a request on its way into an upload: taken, hashed and written in turns.
//!
//! A thread writes and hashes one batch while the next one comes; none waits for a client.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::errors::{ApiError, Code};
use crate::store::{StoreError, Upload};

/// How many bytes make a batch.
const BATCH: usize = 256 * 1024;

/// Who has the upload.
enum Turn {
    Ours(Upload),
    Writing(JoinHandle<(Upload, Result<(), StoreError>)>),
}

impl Turn {
    /// Waits until what was to be written is.
    async fn ours(self) -> Result<Upload, ApiError> {
        match self {
            Turn::Ours(upload) => Ok(upload),
            Turn::Writing(thread) => {
                let (upload, written) = thread.await.map_err(|e| {
                    let mut error = ApiError::new(Code::Unknown);
                    error.cause = Some(e.to_string());
                    error
                })?;
                if let Err(error) = written {
                    // A full disk leaves nothing of it.
                    let _ = tokio::task::spawn_blocking(move || upload.cancel()).await;
                    return Err(error.into());
                }
                Ok(upload)
            }
        }
    }

    async fn write(self, batch: Vec<Bytes>) -> Result<Turn, ApiError> {
        let mut upload = self.ours().await?;
        Ok(Turn::Writing(tokio::task::spawn_blocking(move || {
            let written = batch.iter().try_for_each(|bytes| upload.write(bytes));
            (upload, written)
        })))
    }
}

/// Adds a body to an upload; an error of the client's leaves there what came before it.
///
/// `most`: more bytes than these are refused. `stall`: how long the client may be silent.
pub async fn receive(
    upload: Upload,
    body: &mut Incoming,
    most: Option<u64>,
    stall: Duration,
) -> Result<Upload, ApiError> {
    let mut turn = Turn::Ours(upload);
    let (mut batch, mut held, mut total) = (Vec::new(), 0, 0u64);
    let fault = loop {
        let frame = match timeout(stall, body.frame()).await {
            Err(_) => break Some("the client sent nothing for too long"),
            Ok(None) => break None,
            Ok(Some(Err(_))) => break Some("the request ended before its body did"),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        total += data.len() as u64;
        if most.is_some_and(|most| total > most) {
            break Some("the body is longer than its range");
        }
        held += data.len();
        batch.push(data);
        if held >= BATCH {
            turn = turn.write(std::mem::take(&mut batch)).await?;
            held = 0;
        }
    };
    if !batch.is_empty() {
        turn = turn.write(batch).await?;
    }
    let upload = turn.ours().await?;
    match fault {
        None => Ok(upload),
        Some(why) => Err(ApiError::new(Code::BlobUploadInvalid).because(why).closing()),
    }
}
