//! Pictures and pages: a graph as SVG, a build, the layers of an image, and automated builds as HTML pages.
//!
//! Values to text. What is drawn comes from outside (Dockerfiles, output of steps, names of files), so all of it
//! goes through `text`; pages have no scripts, load nothing, and say so in their content security policy. Not
//! here: collecting what is drawn (`build`, `store`), reading and writing files (`cli`).

mod bar;
mod graph;
mod layered;
mod layers;
mod page;
mod report;
mod service;
mod sizes;
mod text;

pub use graph::{Link, Look, Node, Picture, svg};
pub use layers::{FolderRow, LayerRow, LayersPage, WasteRow, layers_page};
pub use report::{ReportPage, StepOutput, report_page};
pub use service::{ServiceBuild, ServiceProject, service_build_page, service_page};
pub use text::{escape, fit};
