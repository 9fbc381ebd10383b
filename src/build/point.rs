//! A point of a build, as a user names it, and the part of the graph that leads there.
//!
//! Pure. Not here: building that part and opening a shell (`shell`).

use crate::image::ContainerConfig;
use crate::plan::graph::{Graph, Input, NetworkMode, Op, RunOp, Security, Stage, VertexId};
use crate::report::Step;

/// Which point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// The end of the target.
    End,
    /// The step of this number, as a build prints it.
    Step(usize),
    /// The step that stands on this line, from 1.
    Line(usize),
    /// The end of a stage, by name.
    Stage(String),
}

/// Says why there is no such point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPoint {
    #[error("there is no step {number}: the target has {total}")]
    Step { number: usize, total: usize },
    #[error("no step of the target stands on line {0}")]
    Line(usize),
    #[error("the target needs no stage `{0}`")]
    Stage(String),
    #[error("there is nothing before the first step of a stage")]
    BeforeFirst,
}

/// A point that was found: a step of a stage, by their places in the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    pub stage: usize,
    pub step: usize,
    /// Before the step rather than after it.
    pub before: bool,
}

/// Finds a point; `source` is the Dockerfile's text.
pub fn find(graph: &Graph, source: &str, at: &At, before: bool) -> Result<Point, NoPoint> {
    let steps = || {
        let stages = graph.stages.iter().enumerate();
        stages.flat_map(|(stage, planned)| (0..planned.steps.len()).map(move |step| (stage, step)))
    };
    let end = |stage: usize| (stage, graph.stages[stage].steps.len().saturating_sub(1));
    let (stage, step) = match at {
        At::End => end(graph.targets.first().copied().unwrap_or_default()),
        At::Step(number) => {
            let missing = || NoPoint::Step { number: *number, total: steps().count() };
            number.checked_sub(1).and_then(|place| steps().nth(place)).ok_or_else(missing)?
        }
        At::Line(line) => {
            // What ONBUILD brought has line 0, and the file's own instruction may take several.
            let stands = |&(stage, step): &(usize, usize)| {
                let step = &graph.stages[stage].steps[step];
                let last = step.span.end.saturating_sub(1).max(step.span.start);
                let lines =
                    source.get(step.span.start..last).map_or(0, |text| text.trim_end().matches('\n').count());
                step.line > 0 && (step.line..=step.line + lines).contains(line)
            };
            steps().find(stands).ok_or(NoPoint::Line(*line))?
        }
        At::Stage(name) => {
            let is = |stage: &Stage| stage.name.as_deref() == Some(&name.to_lowercase());
            let stage = graph.stages.iter().position(is).ok_or_else(|| NoPoint::Stage(name.clone()))?;
            end(stage)
        }
    };
    match before && step == 0 {
        true => Err(NoPoint::BeforeFirst),
        false => Ok(Point { stage, step, before }),
    }
}

/// Returns the step as a build of the whole target prints it.
pub fn shown(graph: &Graph, point: Point) -> Step {
    let offset: usize = graph.stages[..point.stage].iter().map(|stage| stage.steps.len()).sum();
    let total = graph.stages.iter().map(|stage| stage.steps.len()).sum();
    let stage = &graph.stages[point.stage];
    let step = &stage.steps[point.step];
    let name = || stage.name.clone().unwrap_or_else(|| stage.index.to_string());
    Step {
        number: offset + point.step + 1,
        total,
        stage: (graph.stages.len() > 1).then(name),
        text: step.text.clone(),
        line: step.line,
    }
}

/// Returns what a shell at a point has: that of the RUN there, else what a RUN would have that came next.
/// Its inputs come with it; the first is the state it stands on.
pub fn command(graph: &Graph, point: Point, network: NetworkMode) -> (RunOp, Vec<Input>) {
    let stage = &graph.stages[point.stage];
    let step = &stage.steps[point.step];
    let state = match point.before {
        true => point.step.checked_sub(1).and_then(|before| stage.steps[before].state),
        false => step.state,
    };
    if let Some(vertex) = step.vertex.map(|id| graph.vertex(id))
        && let Op::Run(run) = &vertex.op
    {
        let mut inputs = vertex.inputs.clone();
        inputs[0].from = state;
        return (run.clone(), inputs);
    }
    let config = config(stage, point);
    let workdir = match config.working_dir.as_str() {
        "" => "/".to_owned(),
        path => path.to_owned(),
    };
    let run = RunOp {
        args: Vec::new(),
        env: config.env.iter().map(|entry| entry.as_str().into()).collect(),
        env_unkeyed: Vec::new(),
        workdir,
        user: config.user,
        network,
        security: Security::Sandbox,
        mounts: Vec::new(),
        extra_hosts: Vec::new(),
        hostname: None,
        volumes: Vec::new(),
        script: None,
        source_date_epoch: None,
    };
    (run, vec![Input { kind: crate::plan::graph::EdgeKind::Base, from: state }])
}

fn config(stage: &Stage, point: Point) -> ContainerConfig {
    let mut config = stage.start.clone();
    let end = if point.before { point.step } else { point.step + 1 };
    for step in &stage.steps[..end] {
        step.changes.iter().for_each(|change| change.apply(&mut config));
    }
    config
}

/// Returns the part of a graph that leads to some vertices, up to a point of a stage, and what became of
/// each id. What steps there are beyond is left out.
pub fn part(graph: &Graph, point: Point, roots: &[VertexId]) -> (Graph, Vec<Option<VertexId>>) {
    let mut reached = vec![false; graph.vertices.len()];
    let mut next: Vec<VertexId> = roots.to_vec();
    while let Some(id) = next.pop() {
        if !std::mem::replace(&mut reached[id.0], true) {
            next.extend(graph.vertex(id).inputs.iter().filter_map(|input| input.from));
        }
    }
    let mut ids = vec![None; graph.vertices.len()];
    let mut vertices = Vec::new();
    for (v, vertex) in graph.vertices.iter().enumerate().filter(|(v, _)| reached[*v]) {
        ids[v] = Some(VertexId(vertices.len()));
        let mut vertex = vertex.clone();
        // Inputs have smaller ids, and are reached by who reads them.
        vertex.inputs.iter_mut().for_each(|input| input.from = input.from.and_then(|from| ids[from.0]));
        vertices.push(vertex);
    }
    let mut stages = Vec::new();
    let mut targets = Vec::new();
    for (place, stage) in graph.stages.iter().enumerate() {
        let is_known = |id: Option<VertexId>| id.is_none_or(|id| reached[id.0]);
        let is_used = stage.steps.iter().any(|step| step.vertex.is_some_and(|id| reached[id.0]));
        if place != point.stage && !is_used {
            continue;
        }
        let mut stage = stage.clone();
        let whole =
            stage.steps.iter().take_while(|step| is_known(step.vertex) && is_known(step.state)).count();
        let end = match (place == point.stage, point.before) {
            (false, _) => whole,
            (true, true) => point.step,
            (true, false) => point.step + 1,
        };
        stage.steps.truncate(end.min(whole));
        for step in &mut stage.steps {
            step.vertex = step.vertex.and_then(|id| ids[id.0]);
            step.state = step.state.and_then(|id| ids[id.0]);
        }
        stage.output = stage.steps.last().and_then(|step| step.state);
        if place == point.stage {
            targets.push(stages.len());
        }
        stages.push(stage);
    }
    (Graph { vertices, stages, targets }, ids)
}

#[cfg(test)]
mod tests {
    use super::super::testing::graph;
    use super::*;

    const TEXT: &str = "FROM base AS One\nENV A=1\nRUN x \\\n  && y\nFROM base\nUSER app\nWORKDIR /w\nCOPY --from=one /f /f\nRUN z\nCMD c\n";

    fn found(at: &At, before: bool) -> Result<Point, NoPoint> {
        find(&graph(TEXT), TEXT, at, before)
    }

    #[track_caller]
    fn check(at: At, expect: Option<(usize, usize)>) {
        assert_eq!(found(&at, false).ok().map(|point| (point.stage, point.step)), expect, "{at:?}");
    }

    #[test]
    fn points_by_number_line_and_stage() {
        check(At::End, Some((1, 5)));
        check(At::Step(1), Some((0, 0)));
        check(At::Step(3), Some((0, 2)));
        check(At::Step(4), Some((1, 0)));
        check(At::Step(9), Some((1, 5)));
        check(At::Step(10), None);
        check(At::Step(0), None);
        check(At::Line(1), Some((0, 0)));
        check(At::Line(3), Some((0, 2)));
        check(At::Line(4), Some((0, 2)));
        check(At::Line(5), Some((1, 0)));
        check(At::Line(9), Some((1, 4)));
        check(At::Line(0), None);
        check(At::Line(99), None);
        check(At::Stage("ONE".into()), Some((0, 2)));
        check(At::Stage("two".into()), None);
        assert_eq!(found(&At::Step(4), true), Err(NoPoint::BeforeFirst));
    }

    #[test]
    fn what_a_shell_has_there() {
        let graph = graph(TEXT);
        let at = |number, before| {
            let point = find(&graph, TEXT, &At::Step(number), before).unwrap();
            let (op, inputs) = command(&graph, point, NetworkMode::None);
            let state = inputs[0].from.map(|id| graph.vertex(id).text.clone());
            let a = op.env.iter().any(|entry| &**entry == "A=1");
            format!("{} {} {a} {}", op.user, op.workdir, state.unwrap_or_default())
        };
        assert_eq!(at(2, true), " / false FROM base AS One");
        assert_eq!(at(2, false), " / true FROM base AS One");
        assert_eq!(at(3, true), " / true FROM base AS One");
        assert!(at(3, false).starts_with(" / true RUN x"), "{}", at(3, false));
        assert_eq!(at(6, true), "app / false FROM base AS One");
        assert_eq!(at(6, false), "app /w false WORKDIR /w");
        assert_eq!(at(9, false), "app /w false RUN z");
    }

    #[test]
    fn the_part_that_leads_there() {
        let graph = graph(TEXT);
        let part_to = |number, before| {
            let point = find(&graph, TEXT, &At::Step(number), before).unwrap();
            let (_, inputs) = command(&graph, point, NetworkMode::None);
            let roots: Vec<VertexId> = inputs.iter().filter_map(|input| input.from).collect();
            let (part, _) = part(&graph, point, &roots);
            for (v, vertex) in part.vertices.iter().enumerate() {
                assert!(vertex.inputs.iter().all(|input| input.from.is_none_or(|from| from.0 < v)));
            }
            let steps = part.stages.iter().map(|stage| stage.steps.len().to_string()).collect::<Vec<_>>();
            let target = &part.stages[part.targets[0]];
            assert_eq!(target.output, target.steps.last().unwrap().state);
            format!("{} vertices, stages of {}", part.vertices.len(), steps.join(" and "))
        };
        assert_eq!(part_to(1, false), "1 vertices, stages of 1 and 2");
        assert_eq!(part_to(3, true), "1 vertices, stages of 2 and 2");
        assert_eq!(part_to(3, false), "2 vertices, stages of 3 and 2");
        assert_eq!(part_to(6, false), "2 vertices, stages of 2 and 3");
        assert_eq!(part_to(7, false), "4 vertices, stages of 3 and 4");
        assert_eq!(part_to(9, false), "5 vertices, stages of 3 and 6");
    }
}
