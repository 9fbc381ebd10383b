//! Bars: a part of a whole, or a span of time. They only repeat what stands beside them as text.

/// Draws the part from `start` to `end` of `whole`; `class` is its colour. What is there shows at least.
pub fn bar(start: u64, end: u64, whole: u64, class: &str) -> String {
    bars(whole, &[(start, end, class)])
}

/// Draws several parts of `whole`, later ones over earlier ones.
pub fn bars(whole: u64, parts: &[(u64, u64, &str)]) -> String {
    let drawn: String = parts.iter().map(|part| one(whole, *part)).collect();
    format!(
        "<svg class=\"bar\" aria-hidden=\"true\" viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\">\
         <rect class=\"ground\" width=\"1000\" height=\"10\"/>{drawn}</svg>"
    )
}

fn one(whole: u64, (start, end, class): (u64, u64, &str)) -> String {
    let thousandths = |value: u64| {
        let part = (u128::from(value.min(whole)) * 1000).checked_div(u128::from(whole)).unwrap_or(0);
        u32::try_from(part).unwrap_or(1000)
    };
    let (x, to) = (thousandths(start).min(996), thousandths(end));
    let width = to.saturating_sub(x).max(if end > start { 4 } else { 0 });
    format!("<rect class=\"{class}\" x=\"{x}\" width=\"{width}\" height=\"10\"/>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stay_inside() {
        let check = |start, end, whole, expect: &str| {
            let drawn = bar(start, end, whole, "full");
            assert!(drawn.contains(expect), "{drawn}");
        };
        check(0, 50, 100, "x=\"0\" width=\"500\"");
        check(50, 100, 100, "x=\"500\" width=\"500\"");
        check(0, 1, 1_000_000, "x=\"0\" width=\"4\"");
        check(100, 100, 100, "x=\"996\" width=\"4\"");
        check(0, 0, 100, "width=\"0\"");
        check(0, u64::MAX, 1, "x=\"0\" width=\"1000\"");
        check(5, 9, 0, "x=\"0\" width=\"4\"");
    }
}
