use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use privet_core::clock::SystemClock;
use privet_core::event::Mechanism;
use privet_core::ledger::Budget;
use privet_core::sensitivity::{Adjacency, Unit};

use super::*;

fn account(epsilon: f64) -> Account {
    Account {
        dataset: "ct".into(),
        unit: Unit::Record,
        adjacency: Adjacency::AddRemove,
        budget: Budget { epsilon, delta: 1e-5 },
    }
}

fn purpose(round: u32) -> Purpose {
    Purpose { job: "job".into(), run: "run".into(), round }
}

fn event(z: f64) -> Event {
    Event {
        unit: Unit::Record,
        adjacency: Adjacency::AddRemove,
        mechanism: Mechanism::Gaussian {
            noise_multiplier: z,
            sigma_units: z * f64::from(1 << 20),
            coordinates: 31,
        },
    }
}

/// ε 2.73 pays seven rounds of z = 4 and not eight.
const SEVEN: f64 = 2.73;

fn ledger(store: &Store, epsilon: f64) -> SiteLedger {
    let ledger = SiteLedger::open(store.clone(), Arc::new(SystemClock)).unwrap();
    ledger.open_account(&account(epsilon)).unwrap();
    ledger
}

#[test]
fn the_budget_stops_and_only_a_release_gives_back() {
    let store = Store::in_memory().unwrap();
    let ledger = ledger(&store, SEVEN);
    let mut reserved = Vec::new();
    for round in 1..=7 {
        reserved.push(ledger.reserve("ct", &purpose(round), &[event(4.0)]).unwrap());
    }
    let refused = ledger.reserve("ct", &purpose(8), &[event(4.0)]).unwrap_err();
    assert_eq!(refused.code, Code::BudgetExhausted);
    ledger.commit(reserved[0]).unwrap();
    assert!(ledger.release(reserved[0]).is_err(), "a commitment is final");
    ledger.release(reserved[1]).unwrap();
    ledger.reserve("ct", &purpose(8), &[event(4.0)]).unwrap();
    assert!(ledger.reserve("ct", &purpose(9), &[event(4.0)]).is_err());
    let statement = ledger.statement("ct").unwrap();
    assert_eq!(statement.entries.len(), 8);
    assert!(statement.spent > 0.0 && statement.reserved > 0.0);
    assert!(statement.spent + statement.reserved <= SEVEN);
}

#[test]
fn what_a_dead_process_left_open_counts_as_spent() {
    let store = Store::in_memory().unwrap();
    let first = ledger(&store, SEVEN);
    first.reserve("ct", &purpose(1), &[event(4.0)]).unwrap();
    drop(first);
    let second = ledger(&store, SEVEN);
    let statement = second.statement("ct").unwrap();
    assert_eq!(statement.entries[0].state, EntryState::Committed);
    assert_eq!(statement.reserved, 0.0);
    for round in 2..=7 {
        second.reserve("ct", &purpose(round), &[event(4.0)]).unwrap();
    }
    assert!(second.reserve("ct", &purpose(8), &[event(4.0)]).is_err());
}

#[test]
fn two_jobs_race_for_seven_rounds_and_get_exactly_seven() {
    let store = Store::in_memory().unwrap();
    let ledger = ledger(&store, SEVEN);
    let committed = AtomicU32::new(0);
    let refused = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for round in 1..=20 {
                    match ledger.reserve("ct", &purpose(round), &[event(4.0)]) {
                        Ok(id) => {
                            ledger.commit(id).unwrap();
                            committed.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(reason) => refused.lock().unwrap().push(reason.code),
                    }
                }
            });
        }
    });
    assert_eq!(committed.into_inner(), 7);
    assert!(refused.into_inner().unwrap().iter().all(|&code| code == Code::BudgetExhausted));
    assert!(ledger.statement("ct").unwrap().spent <= SEVEN);
}

#[test]
fn a_quote_tells_the_first_refused_round() {
    let store = Store::in_memory().unwrap();
    let ledger = ledger(&store, 6.0);
    let quote = ledger.quote("ct", &[event(4.0)], 20).unwrap();
    assert_eq!(quote.refused_from_round, Some(28));
    assert!((quote.planned - 4.9833).abs() < 1e-3);
    assert_eq!((quote.spent, quote.after), (0.0, quote.planned));
    let id = ledger.reserve("ct", &purpose(1), &[event(4.0)]).unwrap();
    ledger.commit(id).unwrap();
    let quote = ledger.quote("ct", &[event(4.0)], 20).unwrap();
    assert_eq!(quote.refused_from_round, Some(27));
    assert!(quote.after > quote.planned);
    assert_eq!(ledger.quote("ct", &[], 20).unwrap().refused_from_round, None);
}

#[test]
fn unit_and_adjacency_are_fixed_and_must_be_the_noises() {
    let store = Store::in_memory().unwrap();
    let ledger = ledger(&store, 6.0);
    let other = Account { adjacency: Adjacency::Replace, ..account(6.0) };
    assert_eq!(ledger.open_account(&other).unwrap_err().code, Code::InvalidPolicy);
    let by_site = Event { unit: Unit::Site, ..event(4.0) };
    let refused = ledger.reserve("ct", &purpose(1), &[by_site]).unwrap_err();
    assert_eq!(refused.code, Code::UnitMismatch);
    let refused = ledger.reserve("mr", &purpose(1), &[event(4.0)]).unwrap_err();
    assert_eq!(refused.code, Code::UnknownDataset);
    assert_eq!(ledger.datasets().unwrap(), ["ct"]);
}

#[test]
fn noise_of_a_few_lattice_steps_is_refused() {
    let store = Store::in_memory().unwrap();
    let ledger = ledger(&store, 6.0);
    let coarse = Event {
        mechanism: Mechanism::Gaussian { noise_multiplier: 4.0, sigma_units: 4.0, coordinates: 31 },
        ..event(4.0)
    };
    let refused = ledger.reserve("ct", &purpose(1), &[coarse]).unwrap_err();
    assert_eq!(refused.code, Code::LatticeTooCoarse);
}
