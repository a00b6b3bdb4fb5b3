//! What docs, README and `--help` show is executed here, and the reference is held to the code.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod common;

use std::path::Path;

use common::{Demo, privet_in, repository};
use privet::core::Code;
use privet::{Program, TEMPLATES};

fn read(name: &str) -> String {
    std::fs::read_to_string(repository().join(name)).unwrap()
}

/// Fenced blocks of a language in a page.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in page.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(tag)) => open = Some((tag == language, String::new())),
            (Some((wanted, text)), Some(_)) => {
                if *wanted {
                    blocks.push(std::mem::take(text));
                }
                open = None;
            }
            (Some((_, text)), None) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

/// A folder as the pages assume it: the examples, a finished run, and the policy page's own
/// site.toml with data and a job.
fn prepared() -> Demo {
    let demo = Demo::default();
    let folder = demo.folder();
    for example in ["hospitals", "psi"] {
        let copied = privet_in(folder, &["init", example, &format!("examples/{example}")]);
        assert_eq!(copied.code, 0, "{}", copied.stderr);
    }
    let attested = repository().join("examples/attested");
    std::fs::create_dir_all(folder.join("examples/attested/sites")).unwrap();
    for file in ["job.toml", "sites/central.toml", "sites/north.toml", "sites/south.toml"] {
        let to = folder.join("examples/attested").join(file);
        std::fs::copy(attested.join(file), to).unwrap();
    }
    assert_eq!(demo.run(&["--rounds", "2"]).0, 0);
    let policy = blocks(&read("docs/policy.md"), "toml").remove(0);
    std::fs::write(folder.join("site.toml"), policy).unwrap();
    std::fs::create_dir(folder.join("data")).unwrap();
    std::fs::copy(demo.path("sites/data/north.csv"), folder.join("data/ct.csv")).unwrap();
    let job = std::fs::read_to_string(demo.path("job.toml")).unwrap();
    let job = job.replace("dataset = \"breast\"", "dataset = \"ct-2026\"");
    std::fs::write(folder.join("job.toml"), job).unwrap();
    for file in ["features.toml", "public_test.csv"] {
        std::fs::copy(demo.path(file), folder.join(file)).unwrap();
    }
    for (site, row) in
        [("a", "ada@example.org"), ("b", "ADA@example.org "), ("c", "ben@example.org")]
    {
        std::fs::write(folder.join(format!("{site}.csv")), format!("email\n{row}\n")).unwrap();
    }
    let evidence = folder.join("evidence");
    std::fs::create_dir(&evidence).unwrap();
    for (from, to) in [
        ("nvidia/gh100-545.00-PASS/report.bin", "report.bin"),
        ("nvidia/gh100-545.00-PASS/chain.pem", "chain.pem"),
        ("nvidia/gh100-545.00-PASS/driver_rim_545.00.xml", "driver.xml"),
        ("nvidia/gh100-545.00-PASS/vbios_rim_1010_0200_882_96005E0001.xml", "vbios.xml"),
        ("intel/tdx-v4-PASS/quote.bin", "quote.bin"),
    ] {
        let from = repository().join("cc-attest/tests/evidence").join(from);
        std::fs::copy(from, evidence.join(to)).unwrap();
    }
    // Where a quote of version 4 has its report data.
    let quote = std::fs::read(evidence.join("quote.bin")).unwrap();
    let nonce: String = quote[568..632].iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(evidence.join("nonce"), nonce).unwrap();
    let log = demo.workspace().join("sites/north/audit.jsonl");
    std::fs::copy(log, folder.join("audit.jsonl")).unwrap();
    demo
}

/// Runs a line of a page. A kit needs a whole federation (`processes_are_the_same_code` runs
/// one); of such a line it is only seen that it means something.
fn execute(folder: &Path, line: &str) {
    let line = line.split('#').next().unwrap().trim();
    let mut words: Vec<&str> = line.split_whitespace().skip(1).collect();
    let mut expected = 0;
    if let Some(at) = words.iter().position(|word| *word == "--kit") {
        words[at + 1] = "no-such-kit";
        expected = 1;
    }
    let said = privet_in(folder, &words);
    assert_eq!(said.code, expected, "{line}\n{}\n{}", said.stdout, said.stderr);
}

#[test]
fn commands_of_the_pages_run() {
    let demo = prepared();
    let mut executed = 0;
    for page in [
        "README.md",
        "docs/policy.md",
        "docs/attach-a-filter.md",
        "docs/psi.md",
        "docs/attestation.md",
        "examples/hospitals/README.md",
    ] {
        let text = read(page);
        let in_example = page.starts_with("examples");
        let folder = match in_example {
            true => demo.folder().join("examples/hospitals"),
            false => demo.folder().to_path_buf(),
        };
        for block in blocks(&text, "console").into_iter().chain(blocks(&text, "")) {
            for line in block.lines().filter(|line| line.starts_with("privet ")) {
                execute(&folder, line);
                executed += 1;
            }
        }
    }
    assert!(executed >= 8, "{executed}");
    // The README's main job, with this binary in the place of a release build.
    assert!(read("README.md").contains("cargo run --release -- run examples/hospitals/job.toml"));
    execute(demo.folder(), "privet run examples/hospitals/job.toml --workspace readme");
}

#[test]
fn the_policies_of_the_pages_are_what_they_say() {
    let demo = prepared();
    let said = demo.privet(&["policy", "explain", "site.toml", "--job", "job.toml", "--json"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let privacy = &said.json()["privacy"][0];
    assert!((privacy["epsilon"].as_f64().unwrap() - 4.98).abs() < 0.01);
    assert_eq!(privacy["refused_from_round"], 28);
    // The rule of the README is one of the example's.
    let rule = blocks(&read("README.md"), "toml").remove(0);
    let rule: Vec<&str> = rule.lines().filter(|line| !line.is_empty()).collect();
    let example = read("examples/hospitals/sites/north.toml");
    assert!(rule.iter().all(|line| example.contains(line)), "{rule:?}");
    // The section of the page is one of the example's, and one that it may have.
    let section = blocks(&read("docs/psi.md"), "toml").remove(0);
    let policy = read("examples/psi/sites/registry-a.toml");
    let (head, _) = policy.split_once("[[psi]]").unwrap();
    std::fs::write(demo.folder().join("registry.toml"), format!("{head}{section}")).unwrap();
    let args = ["policy", "check", "registry.toml", "--job", "examples/psi/job.toml"];
    let said = demo.privet(&args);
    assert_eq!(said.code, 0, "{}", said.stderr);
}

/// The policy of evidence on its page is one, and has every key that there is.
#[test]
fn the_policy_of_evidence_has_all_keys() {
    let page = blocks(&read("docs/attestation.md"), "toml").remove(0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    std::fs::write(&path, &page).unwrap();
    let policy = privet::evidence_policy(&path).unwrap();
    fn keys(value: &serde_json::Value, found: &mut Vec<String>) {
        for (key, value) in value.as_object().into_iter().flatten() {
            found.push(key.clone());
            keys(value, found);
        }
    }
    let mut all = Vec::new();
    keys(&serde_json::to_value(&policy).unwrap(), &mut all);
    assert!(all.len() > 25, "{all:?}");
    for key in all {
        assert!(page.contains(&key), "{key}");
    }
    // What is not an example is the value that holds where nothing is written.
    let default = privet::cc_attest::policy::Policy::named(policy.profile);
    assert_eq!((policy.revocation, policy.tdx), (default.revocation, default.tdx));
    assert_eq!((policy.nras, policy.gpu.require_fwid), (default.nras, default.gpu.require_fwid));
}

/// The job's filter and the site's filter of the page, each in at most 20 lines.
#[test]
fn the_filters_of_the_page_attach() {
    let page = read("docs/attach-a-filter.md");
    let [job, site] = &blocks(&page, "toml")[..] else { panic!("two blocks were expected") };
    assert!(job.lines().count() <= 20 && site.lines().count() <= 20);
    let demo = Demo::default();
    demo.edit("job.toml", "[evaluation]", &format!("{job}\n[evaluation]"));
    let (code, result) = demo.run(&["--rounds", "2"]);
    assert_eq!(code, 3, "the site's `schema` wants every tensor: {}", result["error"]);
    demo.edit_sites(&common::SITES, "  { filter = \"schema\" },\n", "");
    let (code, result) = demo.run(&["--rounds", "2"]);
    assert_eq!(code, 0, "{}", result["error"]);
    let left = |result: &serde_json::Value| {
        let log = result["artifacts"]["audit"]["north"].as_str().unwrap();
        let text = std::fs::read_to_string(log).unwrap();
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        let names =
            last["left"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap().to_owned());
        (names.collect::<Vec<_>>(), last["filters"].clone())
    };
    let expected = serde_json::json!(["exclude-tensors@job", "gaussian@site"]);
    assert_eq!(left(&result), (vec!["weight".to_owned()], expected));

    let demo = Demo::default();
    let out = "out = [\n  { filter = \"schema\" },\n  { filter = \"gaussian\", noise-multiplier = 4.0 },\n]\n";
    demo.edit_sites(&common::SITES, out, site);
    let (code, result) = demo.run(&["--rounds", "2"]);
    assert_eq!(code, 0, "{}", result["error"]);
    let expected = serde_json::json!(["allow-tensors@site", "gaussian@site"]);
    assert_eq!(left(&result), (vec!["weight".to_owned()], expected));
}

#[path = "../../docs/examples/own-filter/src/main.rs"]
#[allow(dead_code, clippy::print_stdout)] // its `main` is run in the crate it belongs to
mod own_filter;

/// The page shows the file, and the file's filter works: 31 numbers pass, 32 would not.
#[test]
fn the_filter_of_ones_own_is_the_file_and_works() {
    let page = read("docs/attach-a-filter.md");
    let shown = blocks(&page, "rust");
    let file = read("docs/examples/own-filter/src/main.rs");
    assert!(shown[0].lines().skip(2).count() <= 20, "at most 20 lines of filter");
    let bare = |text: &str| text.split_whitespace().collect::<String>().replace(",)", ")");
    for block in &shown {
        assert!(bare(&file).contains(&bare(block)), "the page and the file differ: {block}");
    }
    let demo = Demo::default();
    let filter =
        "[[filter]]\ntask = [\"train\"]\nat = \"out\"\nfilter = \"at-most-N\"\n[evaluation]";
    demo.edit("job.toml", "[evaluation]", filter);
    for (most, exit) in [(31, 0), (30, 3)] {
        let spec = match most {
            31 => privet::core::FilterSpec::new("at-most-N", "", |_, _| {
                Ok(Box::new(own_filter::at_most(31)))
            }),
            _ => privet::core::FilterSpec::new("at-most-N", "", |_, _| {
                Ok(Box::new(own_filter::at_most(30)))
            }),
        };
        let options = privet::RunOptions {
            job: demo.path("job.toml"),
            workspace: Some(demo.folder().join(format!("own-{most}"))),
            rounds: Some(2),
            ..privet::RunOptions::default()
        };
        let program = Program::new().filter(spec).unwrap();
        let cancel = privet::core::filter::Cancel::default();
        let result = privet::run(program, &options, &cancel, |_| ()).unwrap();
        assert_eq!(result.exit_code, exit);
    }
}

#[test]
#[ignore = "builds every dependency again, as a reader of the page would"]
fn a_filter_from_a_crate_outside_the_workspace() {
    let demo = Demo::default();
    let filter =
        "[[filter]]\ntask = [\"train\"]\nat = \"out\"\nfilter = \"at-most-31\"\n[evaluation]";
    demo.edit("job.toml", "[evaluation]", filter);
    let manifest = repository().join("docs/examples/own-filter/Cargo.toml");
    let output = std::process::Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(repository().join("target/own-filter"))
        .arg("--")
        .arg(demo.path("job.toml"))
        .current_dir(demo.folder())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("20 rounds, accuracy Some(0.9"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Verbs and their words.
const COMMANDS: &[&[&str]] = &[
    &["run"],
    &["init"],
    &["server"],
    &["site"],
    &["filters", "list"],
    &["filters", "show"],
    &["policy", "check"],
    &["policy", "explain"],
    &["policy", "dry-run"],
    &["policy", "schema"],
    &["budget", "show"],
    &["audit", "verify"],
    &["audit", "tail"],
    &["psi", "local"],
    &["attest", "verify"],
    &["attest", "show"],
    &["bench", "fed"],
    &["bench", "psi"],
    &["bench", "attest"],
];

#[test]
fn every_help_has_two_examples_that_run() {
    let demo = prepared();
    // `init` examples write these.
    std::fs::rename(demo.path(""), demo.folder().join("kept")).unwrap();
    for words in COMMANDS {
        let mut args = words.to_vec();
        args.push("--help");
        let said = demo.privet(&args);
        assert_eq!(said.code, 0);
        let examples = said
            .stdout
            .split("Examples:")
            .nth(1)
            .unwrap_or_else(|| panic!("{words:?} has no examples"));
        let lines: Vec<&str> =
            examples.lines().map(str::trim).filter(|line| line.starts_with("privet ")).collect();
        assert_eq!(lines.len(), 2, "{words:?}");
        for line in lines {
            execute(demo.folder(), line);
        }
    }
}

#[test]
fn privet_alone_speaks_to_four_people() {
    let demo = Demo::default();
    let said = demo.privet(&[]);
    assert_eq!(said.code, 0);
    assert_eq!(
        said.stdout.lines().filter(|line| line.contains("privet ")).count(),
        4,
        "{}",
        said.stdout
    );
    let (code, document) = {
        let said = demo.privet(&["run", "--no-such-flag", "--json"]);
        (said.code, said.json())
    };
    assert_eq!((code, &document["error"]["code"]), (2, &"usage".into()));
}

/// `docs/reference.md` as the code has it.
fn reference() -> String {
    let demo = Demo::default();
    let mut page = String::from(
        "# Reference\n\nMade from the code by `UPDATE_DOCS=1 cargo test --workspace -p privet-cli reference`; a test \
         holds it.\n\n## Exit codes\n\n| code | meaning |\n|---|---|\n\
         | 0 | done; for checks: allowed |\n\
         | 1 | failed for none of the reasons below |\n\
         | 2 | usage, or a file that does not say something valid |\n\
         | 3 | refused by a policy |\n\
         | 4 | a privacy budget is, or would be, exhausted |\n\
         | 5 | attestation refused |\n\
         | 130 | interrupted, after a clean stop |\n\n## Commands\n",
    );
    for words in COMMANDS {
        let mut args = words.to_vec();
        args.push("--help");
        let help = demo.privet(&args).stdout;
        page.push_str(&format!(
            "\n### privet {}\n\n```text\n{}\n```\n",
            words.join(" "),
            help.trim()
        ));
    }
    page.push_str("\n## Filters\n");
    for spec in Program::new().registry().specs() {
        let shown = demo.privet(&["filters", "show", spec.name]).stdout;
        page.push_str(&format!("\n### {}\n\n```text\n{}\n```\n", spec.name, shown.trim()));
    }
    page.push_str(
        "\n## Refusal codes\n\nA refusal is `{round, site, stage, rule, filter, code, detail, help}`. Peers see the code \
         alone, and `withheld` where it was decided after an executor had seen the data (stage `task-result`).\n\n\
         | code | exit | what to do |\n|---|---|---|\n",
    );
    for code in Code::ALL {
        page.push_str(&format!("| `{code}` | {} | {} |\n", code.exit_code(), code.help()));
    }
    page.push_str(
        "\n## Refusal codes of evidence\n\nOf `attest verify`; what each means is in `docs/attestation.md`.\n\n\
         | code | what to do |\n|---|---|\n",
    );
    for code in privet::cc_attest::refusal::Code::ALL {
        page.push_str(&format!("| `{}` | {} |\n", code.as_str(), code.help()));
    }
    page.push_str("\n## Templates\n\n");
    for template in TEMPLATES {
        page.push_str(&format!("- `{}`: {}\n", template.name, template.summary));
    }
    page.push_str(
        "\n## JSON beyond the contract\n\n\
         - `run`: `refusals` (of the whole job), `startup_s`, `rounds[].epsilon_spent`, `rounds[].verified` (sites that checked the sealed sum), `sites[].receipt`, \
         `sites[].last_norm`, `error.refusals`.\n\
         - `policy explain`: `privacy[].guess_rate`, `refusal`.\n\
         - `audit verify`: `warnings`. `audit tail`: a list of audit lines.\n\
         - `budget show`: `entries[].run`.\n\
         - `attest verify`: `devices[].simulated`; options `--revocation FILE` (a list or an OCSP response), `--keys FILE` (a JWK set), `--simulated-root FILE`. `attest show`: `pieces[].kind`, `pieces[].fields[]` = `{offset, length, name, value}`.\n\
         - `bench attest`: `ms_per_new_report` (no certificate ever seen), `ms_per_new_device` (its authorities were).\n\
         - `psi local`: `sites[].blank` (rows without a key), `sites[].bytes_sent`, `sites[].peak_rss_bytes`; `run` of an intersection has the same under `psi`.\n\
         - `kit.toml`: a site's `policy` and `submitter` (what it calls whoever submits its server's jobs; the name in the server's certificate when absent); a server's `job`, `sites`, `rounds`. `job.toml`: `[model] hidden`. \
         `site.toml`: `weight = \"equal\"`, `metrics = { allow = [] }`; of `protect`: `exact`, `verify`, `survivors`; of `[[psi]]`: `all-peers` = false, `columns`.\n\
         - `job.toml`: `[psi]` also has `dataset`, `duplicates`, `assurance` = \"standard\" | \"conservative\", `pad` = false, `rest` = false, `round-timeout` (how long another site may be silent).\n",
    );
    page
}

#[test]
fn the_reference_is_what_the_code_says() {
    let page = reference();
    let path = repository().join("docs/reference.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == page, "docs/reference.md is out of date: see its second line");
}
