//! `cargo xtask bench [NAME [WORDS]]`: measures, prints tables and puts them into docs/performance.md. Words go to criterion,
//! which measures only what has them in its name; the rest of the tables is what was measured last.

mod builds;
mod caching;
mod criterion;
mod differ;
mod machine;
mod page;
mod registry;
mod table;

use anyhow::{Result, bail};

use table::Table;

/// One area: its name, what is measured in a line, and what does it and makes tables of it.
struct Bench {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result<Vec<Table>>,
}

const BENCHES: &[Bench] = &[
    Bench { name: "differ", about: "looking at a tree, packing layers, applying them", run: differ::run },
    Bench { name: "registry", about: "an image of 1 GB to a registry and back, beside skopeo", run: registry::run },
    Bench { name: "builds", about: "whole builds, beside buildah; words: the letters of some", run: builds::run },
    Bench {
        name: "caching",
        about: "builds with and without the cache of layers; words: names of examples",
        run: caching::run,
    },
];

pub(crate) fn run(words: &[String]) -> Result<()> {
    let (wanted, words): (Vec<&Bench>, &[String]) = match words.split_first() {
        None => (BENCHES.iter().collect(), &[]),
        Some((name, rest)) => match BENCHES.iter().find(|bench| bench.name == name) {
            Some(bench) => (vec![bench], rest),
            None => bail!("there is no bench `{name}`\n{}", help()),
        },
    };
    let _kept = machine::keep_memory();
    for bench in wanted {
        let machine = machine::describe()?;
        let tables = (bench.run)(words)?;
        let text: String = tables.iter().map(Table::to_string).collect::<Vec<_>>().join("\n");
        println!("\n{machine}\n\n{text}");
        page::put(bench.name, &format!("{machine}\n\n{text}"))?;
    }
    Ok(())
}

fn help() -> String {
    let rows: Vec<_> =
        BENCHES.iter().map(|bench| format!("  cargo xtask bench {:8} {}\n", bench.name, bench.about)).collect();
    rows.concat()
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_unknown_bench_is_told_what_there_is() {
        let error = super::run(&["difer".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("`difer`") && error.contains("cargo xtask bench differ"), "{error}");
    }
}
