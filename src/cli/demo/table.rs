//! What happened, as a table for a terminal.

use super::play::Act;

/// Renders one line per act, and the tally.
pub(super) fn render(acts: &[Act]) -> String {
    let rows: Vec<[&str; 4]> = acts
        .iter()
        .map(|act| [act.what, &act.expected, &act.seen, if act.held() { "yes" } else { "NO" }])
        .collect();
    let header = ["what", "expected", "seen", "held"];
    let widths: [usize; 4] = std::array::from_fn(|column| {
        rows.iter().chain([&header]).map(|row| row[column].chars().count()).max().unwrap_or(0)
    });
    let line = |row: &[&str; 4]| {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    let rule = widths.map(|width| "-".repeat(width)).join("  ");
    let held = acts.iter().filter(|act| act.held()).count();
    let mut lines = vec![line(&header), rule];
    lines.extend(rows.iter().map(line));
    lines.push(format!("\n{held} of {} held", acts.len()));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_hold_stands_out() {
        let acts = [Act::new("a", "1", "1"), Act::new("b", "1", "2")];
        assert_eq!(
            render(&acts),
            "what  expected  seen  held\n----  --------  ----  ----\na     1         1     yes\nb     1         2     NO\n\n1 of 2 held"
        );
    }
}
