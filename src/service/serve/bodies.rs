//! Bodies of requests as they come: what all of them together hold in memory is bounded, before anybody has shown
//! who it is.
//!
//! Room is taken as bytes come, not as they are announced, so that nobody takes any by a promise. Small bodies
//! have a part of it that large ones cannot fill. Not here: what is answered (`http`).

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use http::header::{CONTENT_LENGTH, HeaderMap};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// What all bodies together may hold, in bytes.
const ROOM: usize = 64 << 20;
/// In these steps.
const STEP: usize = 4 << 10;
/// The largest body that needs no place among the large ones; so few of those are read at once.
const SMALL: usize = 256 << 10;
const LARGE_AT_ONCE: usize = 2;
/// How long a large one waits for a place: those who send wait some 10 s for an answer.
const LARGE_WAIT: Duration = Duration::from_secs(3);
/// How long a body may take.
const TIME: Duration = Duration::from_secs(15);

/// The room for bodies.
#[derive(Debug, Clone)]
pub(super) struct Bodies {
    room: Arc<Semaphore>,
    large: Arc<Semaphore>,
    /// As the constants of these names.
    large_wait: Duration,
    time: Duration,
}

/// A body, with the room it takes.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub bytes: Vec<u8>,
    room: Option<OwnedSemaphorePermit>,
    large: Option<OwnedSemaphorePermit>,
}

/// Why a body was not read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unread {
    TooLarge,
    /// Others take the room.
    NoRoom,
    Broken,
    Slow,
}

impl Bodies {
    pub fn new() -> Bodies {
        let (room, large) = (Semaphore::new(ROOM / STEP), Semaphore::new(LARGE_AT_ONCE));
        Bodies { room: Arc::new(room), large: Arc::new(large), large_wait: LARGE_WAIT, time: TIME }
    }

    /// Reads a body of at most `limit` bytes.
    pub async fn read(&self, headers: &HeaderMap, body: Body, limit: usize) -> Result<Held, Unread> {
        if is_announced_above(headers, limit) {
            return Err(Unread::TooLarge);
        }
        timeout(self.time, self.collect(body, limit)).await.unwrap_or(Err(Unread::Slow))
    }

    async fn collect(&self, mut body: Body, limit: usize) -> Result<Held, Unread> {
        let mut held = Held::default();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Unread::Broken)?.into_data() else { continue };
            self.add(&mut held, &data, limit).await?;
        }
        Ok(held)
    }

    async fn add(&self, held: &mut Held, data: &Bytes, limit: usize) -> Result<(), Unread> {
        let (before, after) = (held.bytes.len(), held.bytes.len() + data.len());
        if after > limit {
            return Err(Unread::TooLarge);
        }
        if after > SMALL && held.large.is_none() {
            let place = timeout(self.large_wait, self.large.clone().acquire_owned()).await;
            held.large = Some(place.map_err(|_| Unread::NoRoom)?.map_err(|_| Unread::NoRoom)?);
        }
        let steps = u32::try_from(after.div_ceil(STEP) - before.div_ceil(STEP)).unwrap_or(u32::MAX);
        let more = self.room.clone().try_acquire_many_owned(steps).map_err(|_| Unread::NoRoom)?;
        match &mut held.room {
            Some(room) => room.merge(more),
            None => held.room = Some(more),
        }
        held.bytes.extend_from_slice(data);
        Ok(())
    }
}

/// Tells whether a body is said to be longer than that.
pub(super) fn is_announced_above(headers: &HeaderMap, limit: usize) -> bool {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    length.is_some_and(|length| length > limit as u64)
}

/// Takes a body that nobody wants and holds nothing of it, so that who sends it reads the answer; up to a point.
pub(super) async fn discard(mut body: Body) {
    let taking = async {
        let mut taken = 0;
        while let Some(Ok(frame)) = body.frame().await {
            taken += frame.data_ref().map_or(0, Bytes::len);
            if taken > SMALL {
                return;
            }
        }
    };
    let _ = timeout(Duration::from_secs(2), taking).await;
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    /// A body of pieces; with `ends` false it never ends.
    fn body(pieces: usize, size: usize, ends: bool) -> Body {
        use futures_util::StreamExt;
        let piece = Bytes::from(vec![b'x'; size]);
        let all = stream::iter((0..pieces).map(move |_| Ok::<_, std::io::Error>(piece.clone())));
        match ends {
            true => Body::from_stream(all),
            false => Body::from_stream(all.chain(stream::pending())),
        }
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.unwrap().block_on(test)
    }

    #[test]
    fn what_is_held_is_bounded() {
        run(async {
            let (bodies, none) = (Bodies::new(), HeaderMap::new());
            let whole = bodies.room.available_permits();
            // Small ones fill what large ones leave.
            let mut all = Vec::new();
            let refused = loop {
                match bodies.read(&none, body(64, STEP, true), 25 << 20).await {
                    Ok(held) => all.push(held),
                    Err(why) => break why,
                }
                assert!(all.len() <= ROOM / SMALL, "{} are held", all.len());
            };
            assert_eq!((refused, all.len()), (Unread::NoRoom, ROOM / SMALL));
            all.clear();
            assert_eq!(bodies.room.available_permits(), whole);
        });
    }

    #[test]
    fn large_ones_leave_room_and_end() {
        run(async {
            let (large_wait, time) = (Duration::from_millis(50), Duration::from_millis(500));
            let (bodies, none) = (Bodies { large_wait, time, ..Bodies::new() }, HeaderMap::new());
            let limit = 25 << 20;
            let endless = || {
                let bodies = bodies.clone();
                tokio::spawn(
                    async move { bodies.read(&HeaderMap::new(), body(25, 1 << 20, false), limit).await },
                )
            };
            let (first, second, third) = (endless(), endless(), endless());
            // No third large one, but small ones.
            assert_eq!(third.await.unwrap().unwrap_err(), Unread::NoRoom);
            assert_eq!(bodies.read(&none, body(2, 1000, true), limit).await.unwrap().bytes.len(), 2000);
            assert_eq!(first.await.unwrap().unwrap_err(), Unread::Slow);
            assert_eq!(second.await.unwrap().unwrap_err(), Unread::Slow);
            assert_eq!(bodies.room.available_permits(), ROOM / STEP);
            let held = Bodies::new().read(&none, body(25, 1 << 20, true), limit).await.unwrap();
            assert_eq!(held.bytes.len(), limit);
        });
    }

    #[test]
    fn too_large_is_told() {
        run(async {
            let (bodies, mut headers) = (Bodies::new(), HeaderMap::new());
            assert_eq!(bodies.read(&headers, body(3, 10, true), 29).await.unwrap_err(), Unread::TooLarge);
            headers.insert(CONTENT_LENGTH, http::HeaderValue::from_static("99999999999"));
            assert_eq!(bodies.read(&headers, body(0, 0, true), 29).await.unwrap_err(), Unread::TooLarge);
        });
    }
}
