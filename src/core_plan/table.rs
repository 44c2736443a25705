//! The plan as a table, one thread a line.

use std::fmt;

use super::{CorePlan, Planned};
use crate::cpu::Pin;

impl fmt::Display for CorePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![HEADINGS.map(str::to_owned)];
        rows.extend(self.in_order().into_iter().map(row));
        let widths: [usize; COLUMNS] =
            std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default());
        rows.insert(1, widths.map(|width| "─".repeat(width)));
        let lines: Vec<_> = rows.iter().map(|row| line(row, &widths)).collect();
        f.write_str(&lines.join("\n"))
    }
}

const COLUMNS: usize = 5;
const HEADINGS: [&str; COLUMNS] = ["thread", "role", "core", "idle", "stack"];

fn row(thread: &Planned) -> [String; COLUMNS] {
    let core = match thread.options.pin() {
        Pin::Anywhere => "any".to_owned(),
        Pin::Core(core) => core.to_string(),
        Pin::Preferred(core) => format!("{core} if allowed"),
    };
    let stack = match thread.options.stack_size() {
        None => "default".to_owned(),
        Some(bytes) if bytes % (1 << 20) == 0 => format!("{} MiB", bytes >> 20),
        Some(bytes) if bytes % (1 << 10) == 0 => format!("{} KiB", bytes >> 10),
        Some(bytes) => format!("{bytes} B"),
    };
    let name = thread.name().escape_debug().to_string();
    [name, thread.role.to_string(), core, thread.options.idle_strategy().to_string(), stack]
}

fn line(row: &[String; COLUMNS], widths: &[usize; COLUMNS]) -> String {
    let cells: Vec<_> = row.iter().zip(widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
    cells.join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idle::IdleStrategy;
    use crate::thread::ThreadOptions;

    #[test]
    fn a_plan_prints_as_a_table_in_the_order_of_its_engines() {
        let lane = |name: &str, core| ThreadOptions::new().name(name).core(core).idle(IdleStrategy::BusySpin);
        let plan = CorePlan::new()
            .handler("books", ThreadOptions::new().core(11).stack_bytes(1_000))
            .engine("feed", ThreadOptions::new().core(2).idle(IdleStrategy::BusySpin).stack_bytes(256 << 10))
            .engine("orders", ThreadOptions::new().prefer_core(5).stack_bytes(8 << 20))
            .lanes("feed", [lane("parse-a", 3), lane("parse-b", 4)])
            .handler("journal", ThreadOptions::new().idle(IdleStrategy::Park));
        assert_eq!(
            format!("\n{plan}\n"),
            "
thread   role          core          idle                  stack
───────  ────────────  ────────────  ────────────────────  ───────
feed     loop          2             busy-spin             256 KiB
parse-a  lane of feed  3             busy-spin             default
parse-b  lane of feed  4             busy-spin             default
orders   loop          5 if allowed  adaptive (spin 1 ms)  8 MiB
books    handler       11            adaptive (spin 1 ms)  1000 B
journal  handler       any           park                  default
"
        );
    }

    #[test]
    fn a_name_cannot_break_the_table() {
        let plan = CorePlan::new().handler("bo\noks", ThreadOptions::new());
        assert_eq!(plan.to_string().lines().count(), 3);
    }

    #[test]
    fn an_empty_plan_is_its_headings() {
        let headings = "thread  role  core  idle  stack\n──────  ────  ────  ────  ─────";
        assert_eq!(CorePlan::new().to_string(), headings);
    }
}
