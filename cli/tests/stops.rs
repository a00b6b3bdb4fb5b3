//! Processes that die or are stopped, and what goes on.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod common;

use common::running::{Running, kill, long, rounds, wait_for};
use common::{Demo, SITES};

#[test]
fn an_interrupted_run_keeps_what_it_has_and_goes_on() {
    for more in [&[][..], &["--processes"]] {
        let demo = Demo::default();
        long(&demo);
        let running = Running::start(&demo, more);
        wait_for("the third round", || rounds(&demo) > 3);
        running.interrupt();
        let (code, result) = running.end();
        assert_eq!((code, &result["status"]), (Some(130), &"interrupted".into()), "{more:?}");
        let done = result["rounds_done"].as_u64().unwrap();
        assert!(done >= 3);
        let next = (done + 2).to_string();
        let mut args = vec!["--resume", "--rounds", &next];
        args.extend(more);
        let (code, result) = demo.run(&args);
        assert_eq!((code, &result["rounds_done"]), (0, &(done + 2).into()), "{more:?}");
        let listed = result["rounds"]
            .as_array()
            .unwrap()
            .iter()
            .map(|round| round["round"].as_u64().unwrap());
        assert!(listed.eq(1..=done + 2));
    }
}

/// A site killed in the middle drops out; its round and the job go on, and what it had reserved
/// counts as spent.
#[test]
fn a_killed_site_drops_out() {
    let demo = Demo::default();
    long(&demo);
    let running = Running::start(&demo, &["--processes"]);
    wait_for("the third round", || rounds(&demo) > 3);
    let kit = demo.workspace().join("sites/west");
    kill(&kit);
    let seen = rounds(&demo);
    wait_for("rounds without it", || rounds(&demo) > seen + 20);
    running.interrupt();
    let (code, result) = running.end();
    assert_eq!(code, Some(130));
    let west = &result["sites"][4];
    let dropped = west["rounds_dropped"].as_u64().unwrap();
    assert!(dropped >= 1, "{west}");
    let last = result["rounds"].as_array().unwrap().last().unwrap();
    assert_eq!(last["answered"].as_array().unwrap().len(), 4);
    let budget =
        demo.privet(&["budget", "show", "--site-dir", kit.to_str().unwrap(), "--json"]).json();
    let entries = budget["datasets"][0]["entries"].as_array().unwrap();
    assert!(entries.iter().all(|entry| entry["state"] == "committed"));
    assert!(entries.len() as u64 >= west["rounds_answered"].as_u64().unwrap());
}

/// A server killed in the middle resumes at its checkpoint; no round is paid twice.
#[test]
fn a_killed_server_resumes() {
    let demo = Demo::default();
    long(&demo);
    let running = Running::start(&demo, &["--processes"]);
    wait_for("the third round", || rounds(&demo) > 3);
    kill(&demo.workspace().join("server"));
    assert_eq!(running.wait(), Some(1));
    let seen = demo.run(&["--resume", "--rounds", "1"]).1["rounds_done"].as_u64().unwrap();
    let (code, result) = demo.run(&["--resume", "--rounds", &(seen + 3).to_string()]);
    assert_eq!((code, &result["rounds_done"]), (0, &(seen + 3).into()));
    for (at, site) in SITES.iter().enumerate() {
        let kit = demo.workspace().join("sites").join(site);
        let budget =
            demo.privet(&["budget", "show", "--site-dir", kit.to_str().unwrap(), "--json"]).json();
        let entries = budget["datasets"][0]["entries"].as_array().unwrap();
        let mut paid: Vec<u64> =
            entries.iter().map(|entry| entry["round"].as_u64().unwrap()).collect();
        let all = paid.len();
        paid.dedup();
        // The round that was open when the server died is asked again with the same task, and
        // answered with the kept bytes; or, if it died while the site trained, paid again at most
        // once.
        assert!(all - paid.len() <= 1, "{site}: {entries:?}");
        assert_eq!(result["sites"][at]["rounds_answered"], seen + 3);
    }
}

/// A second process on a site's folder is refused.
#[test]
fn a_site_folder_has_one_user() {
    let demo = Demo::default();
    long(&demo);
    let running = Running::start(&demo, &["--processes"]);
    wait_for("the third round", || rounds(&demo) > 3);
    let kit = demo.workspace().join("sites/north");
    for args in [&["site", "--kit"][..], &["budget", "show", "--site-dir"]] {
        let mut args = args.to_vec();
        args.push(kit.to_str().unwrap());
        let said = demo.privet(&args);
        assert_eq!(said.code, 1);
        assert!(said.stderr.contains("another privet process uses this folder"), "{}", said.stderr);
    }
    running.interrupt();
    assert_eq!(running.end().0, Some(130));
}
