//! Collections by themselves, at an interval, while requests are served.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Line, State, blocking};
use crate::store::{CollectOptions, Collected};

/// How often it is looked whether one is due: another process may have done it.
const LOOK: Duration = Duration::from_secs(60);

/// Collects for as long as the server runs.
pub async fn run(state: Arc<State>, every: Duration, options: CollectOptions) {
    let look = LOOK.min(every);
    let started = SystemTime::now();
    loop {
        tokio::time::sleep(look).await;
        let last = state.repositories.last_collected().ok().flatten().unwrap_or(started);
        if last.elapsed().is_ok_and(|since| since < every) {
            continue;
        }
        let (of, options) = (state.clone(), options.clone());
        match blocking(move || Ok(of.repositories.collect(&options)?)).await {
            Ok(collected) if collected == Collected::default() => {}
            Ok(collected) => (state.log)(Line::Collected(&told(&collected))),
            Err(error) => {
                let cause = error.cause.unwrap_or_default();
                (state.log)(Line::Fault(&format!("nothing more was collected: {cause}")));
            }
        }
    }
}

fn told(collected: &Collected) -> String {
    format!(
        "collected: {} manifests, {} blobs, {} uploads, {} bytes",
        collected.manifests.len(),
        collected.blobs.len(),
        collected.uploads,
        collected.freed
    )
}
