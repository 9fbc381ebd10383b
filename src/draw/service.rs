//! The pages of the server that builds what is pushed: its projects and builds, and one build.
//!
//! Not here: what they know (`service`).

use std::fmt::Write as _;

use super::page::{Part, card, code, facts, page};
use super::sizes::time;
use super::text::{escape, plain};

/// A build, as it is shown.
#[derive(Debug, Clone)]
pub struct ServiceBuild {
    pub id: u64,
    pub project: String,
    pub reference: String,
    /// Empty where it is not known yet.
    pub commit: String,
    pub state: &'static str,
    pub is_good: bool,
    pub is_bad: bool,
    pub cause: String,
    pub queued: String,
    pub milliseconds: Option<u64>,
    pub images: Vec<String>,
    /// Those of them that a registry has.
    pub pushed: Vec<String>,
    pub error: Option<String>,
    pub has_log: bool,
}

/// A project, as it is shown.
#[derive(Debug, Clone)]
pub struct ServiceProject {
    pub name: String,
    pub repository: String,
    pub image: String,
    pub pushed: Vec<String>,
    pub last: Option<ServiceBuild>,
}

/// Draws the page with all projects and builds, for the address `/`.
pub fn service_page(projects: &[ServiceProject], builds: &[ServiceBuild]) -> String {
    let under_way = builds.iter().filter(|build| matches!(build.state, "building" | "pushing")).count();
    let waiting = builds.iter().filter(|build| build.state == "pending").count();
    let named = if projects.len() == 1 { "project" } else { "projects" };
    let cards: String = [(named, projects.len()), ("under way", under_way), ("waiting", waiting)]
        .iter()
        .map(|(name, number)| card(&number.to_string(), name))
        .collect();
    let head = format!("<h1>Automated builds</h1>\n<ul class=\"cards\">{cards}</ul>");
    let parts = [
        Part { id: "projects", title: "Projects", html: project_table(projects) },
        Part { id: "builds", title: "Builds", html: build_table(builds) },
    ];
    page("Automated builds", &head, &parts)
}

/// Draws the page about one build, for the address `/builds/ID`.
pub fn service_build_page(build: &ServiceBuild, dockerfile: Option<&str>, readme: Option<&str>) -> String {
    let title = format!("Build {} of {}", build.id, build.project);
    let head = format!("<p><a href=\"../\">All builds</a></p>\n<h1>{} {}</h1>", escape(&title), badge(build));
    let mut rows = vec![
        ("branch or tag", code(&build.reference)),
        ("commit", if build.commit.is_empty() { "not known yet".to_owned() } else { code(&build.commit) }),
        ("asked for", format!("{}, by {}", escape(&build.queued), escape(&build.cause))),
    ];
    if let Some(milliseconds) = build.milliseconds {
        rows.push(("time", time(milliseconds)));
    }
    if !build.images.is_empty() {
        rows.push(("images", list(&build.images)));
    }
    if !build.pushed.is_empty() {
        rows.push(("pushed", list(&build.pushed)));
    }
    if build.has_log {
        rows.push(("output", format!("<a href=\"{}/log\">log of build {}</a>", build.id, build.id)));
    }
    let error = build
        .error
        .as_ref()
        .map(|error| format!("<div class=\"box bad\"><p>{}</p></div>", escape(&plain(error))));
    let file = |text: Option<&str>| {
        text.map(|text| format!("<pre tabindex=\"0\">{}</pre>", escape(&plain(text)))).unwrap_or_default()
    };
    let parts = [
        Part { id: "error", title: "Why it failed", html: error.unwrap_or_default() },
        Part { id: "build", title: "Build", html: facts(&rows) },
        Part { id: "dockerfile", title: "Dockerfile", html: file(dockerfile) },
        Part { id: "readme", title: "README", html: file(readme) },
    ];
    page(&title, &head, &parts)
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| code(name)).collect::<Vec<_>>().join("<br>")
}

fn badge(build: &ServiceBuild) -> String {
    let class = match (build.is_good, build.is_bad) {
        (true, _) => " good",
        (_, true) => " bad",
        _ => "",
    };
    format!("<span class=\"badge{class}\">{}</span>", escape(build.state))
}

fn project_table(projects: &[ServiceProject]) -> String {
    let mut html = String::from(
        "<div class=\"wide\"><table>\n<thead><tr><th scope=\"col\">Project</th><th scope=\"col\">Repository</th>\
         <th scope=\"col\">Image</th><th scope=\"col\">Last build</th></tr></thead>\n<tbody>\n",
    );
    for project in projects {
        let last = match &project.last {
            None => "<span class=\"soft\">none yet</span>".to_owned(),
            Some(build) => format!("{} <a href=\"builds/{}\">{}</a>", badge(build), build.id, build.id),
        };
        let mut images = vec![project.image.clone()];
        images.extend(project.pushed.iter().filter(|name| **name != project.image).cloned());
        let _ = writeln!(
            html,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{last}</td></tr>",
            escape(&project.name),
            code(&project.repository),
            list(&images),
        );
    }
    html + "</tbody></table></div>"
}

fn build_table(builds: &[ServiceBuild]) -> String {
    if builds.is_empty() {
        return "<p class=\"soft\">Nothing was asked for yet.</p>".to_owned();
    }
    let mut html = String::from(
        "<div class=\"wide\"><table>\n<caption>Newest first</caption>\n<thead><tr><th scope=\"col\">Build</th>\
         <th scope=\"col\">State</th><th scope=\"col\">Project</th><th scope=\"col\">Branch or tag</th>\
         <th scope=\"col\">Commit</th><th scope=\"col\">Asked for</th><th scope=\"col\" class=\"n\">Time</th>\
         <th scope=\"col\">Output</th></tr></thead>\n<tbody>\n",
    );
    for build in builds {
        let commit: String = build.commit.chars().take(7).collect();
        let log = match build.has_log {
            true => format!("<a href=\"builds/{}/log\">log<span class=\"soft\"> of {0}</span></a>", build.id),
            false => String::new(),
        };
        let _ = writeln!(
            html,
            "<tr><th scope=\"row\"><a href=\"builds/{0}\">{0}</a></th><td>{1}</td><td>{2}</td><td>{3}</td><td>{4}</td>\
             <td>{5}</td><td class=\"n\">{6}</td><td>{log}</td></tr>",
            build.id,
            badge(build),
            escape(&build.project),
            code(&build.reference),
            code(&commit),
            escape(&build.queued),
            build.milliseconds.map(time).unwrap_or_default(),
        );
    }
    html + "</tbody></table></div>"
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = "<script>alert(1)</script>\"'><img src=x>";

    fn build() -> ServiceBuild {
        ServiceBuild {
            id: 7,
            project: EVIL.to_owned(),
            reference: EVIL.to_owned(),
            commit: EVIL.to_owned(),
            state: "failed",
            is_good: false,
            is_bad: true,
            cause: EVIL.to_owned(),
            queued: "now".to_owned(),
            milliseconds: Some(1200),
            images: vec![EVIL.to_owned()],
            pushed: vec![EVIL.to_owned()],
            error: Some(EVIL.to_owned()),
            has_log: true,
        }
    }

    #[test]
    fn nothing_of_others_is_markup() {
        let project = ServiceProject {
            name: EVIL.to_owned(),
            repository: EVIL.to_owned(),
            image: EVIL.to_owned(),
            pushed: vec!["other".to_owned()],
            last: Some(build()),
        };
        let pages =
            [service_page(&[project], &[build()]), service_build_page(&build(), Some(EVIL), Some(EVIL))];
        for page in pages {
            assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
            assert!(page.contains("&lt;script&gt;") && page.contains("default-src 'none'"));
        }
    }

    #[test]
    fn a_build_that_waits_has_no_log() {
        let waiting = ServiceBuild { has_log: false, error: None, commit: String::new(), ..build() };
        let page = service_build_page(&waiting, None, None);
        assert!(
            !page.contains("/log") && !page.contains("id=\"dockerfile\"") && page.contains("not known yet")
        );
        assert!(service_build_page(&build(), None, None).contains("href=\"7/log\""));
    }
}
