//! Builds as what the pages draw. Not here: markup (`draw`).

use std::io::Read;

use super::config::Repository;
use super::record::{Build, now};
use super::service::Service;
use crate::draw::{ServiceBuild, ServiceProject, service_build_page, service_page};

/// How many builds a page lists.
const LISTED: usize = 100;

/// Draws the page with all.
pub(super) fn all(service: &Service) -> String {
    let builds = service.builds(usize::MAX);
    let projects: Vec<ServiceProject> = service
        .config
        .projects
        .iter()
        .map(|project| ServiceProject {
            name: project.name.clone(),
            repository: match &project.repository {
                Repository::Remote { shown, .. } => shown.clone(),
                Repository::Local(path) => path.display().to_string(),
            },
            image: project.image.clone(),
            pushed: project.push.clone(),
            last: builds.iter().find(|build| build.project == project.name).map(row),
        })
        .collect();
    let rows: Vec<ServiceBuild> = builds.iter().take(LISTED).map(row).collect();
    service_page(&projects, &rows)
}

/// Draws the page about one build.
pub(super) fn one(service: &Service, build: &Build) -> String {
    let text = |name: &str| {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(service.books.file(build.id, name)).ok()?;
        file.take(1 << 20).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    service_build_page(&row(build), text("dockerfile").as_deref(), text("readme").as_deref())
}

fn row(build: &Build) -> ServiceBuild {
    let when = jiff::Timestamp::from_millisecond(build.queued).unwrap_or_default();
    ServiceBuild {
        id: build.id,
        project: build.project.clone(),
        reference: build.reference.to_string(),
        commit: build.commit.clone().unwrap_or_default(),
        state: build.state.as_str(),
        is_good: build.state == super::record::State::Finished,
        is_bad: build.state == super::record::State::Failed,
        cause: build.cause.clone(),
        queued: when.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        milliseconds: build.milliseconds(now()),
        images: build.images.clone(),
        pushed: build.pushed.clone(),
        error: build.error.clone(),
        has_log: service_has_log(build),
    }
}

/// A build that never began has said nothing.
fn service_has_log(build: &Build) -> bool {
    build.started.is_some()
}
