//! `grid node list`.

use super::table::Table;
use super::{ago, cpus, held, known};
use grid_types::Bytes;
use grid_types::api::NodeView;
use grid_types::facts::{Gpus, NodeFacts};

/// Every node with what it has, uses and could lend.
pub fn nodes(all: &[NodeView]) -> String {
    let mut table = Table::new(&["NODE", "STATE", "CPU USED", "MEMORY USED", "GPU", "LENDABLE", "LENT", "SEEN"]);
    for n in all {
        let facts = n.facts.as_ref();
        let cpu = facts.map(|f| format!("{} of {}", known(f.cpu_used), cpus(f.cpu_total)));
        let seen = n.seen.map_or_else(|| "never".to_owned(), ago);
        let lendable = match (&n.why, n.lendable) {
            (Some(why), _) => format!("- ({why})"),
            (None, lendable) => known(lendable) + &super::limited(n),
        };
        let name = super::about_self(n);
        table.row([
            name,
            n.state.clone(),
            known(cpu),
            known(facts.map(memory)),
            gpus(facts),
            lendable,
            held(&n.lent),
            seen + &super::link(n),
        ]);
    }
    let ready = all.iter().filter(|n| n.state == "ready").count();
    format!(
        "{}{} of {} ready.  Borrow from them: grid boost request head --cpu 2 --memory 1GiB\n",
        table.text(),
        ready,
        super::count(all.len(), "node", "nodes")
    )
}

fn memory(f: &NodeFacts) -> String {
    super::used_of(Bytes(f.memory_total.0.saturating_sub(f.memory_available.0)), f.memory_total)
}

fn gpus(facts: Option<&NodeFacts>) -> String {
    match facts.map(|f| &f.gpus) {
        None => "-".to_owned(),
        Some(Gpus::None) => "none".to_owned(),
        Some(Gpus::Unknown(why)) => format!("- ({why})"),
        Some(Gpus::Present(all)) => {
            let one = |g: &grid_types::facts::GpuFacts| {
                format!("{} {} % {}", g.name, g.utilization_percent, super::used_of(g.memory_used, g.memory_total))
            };
            all.iter().map(one).collect::<Vec<_>>().join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;

    #[test]
    fn each_node_on_a_line() {
        insta::assert_snapshot!(super::nodes(&samples::status().nodes));
    }
}
