use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use privet_core::clock::SystemClock;
use privet_core::event::Mechanism;
use privet_core::ledger::{Budget, Currency, Window};
use privet_core::sensitivity::{Adjacency, Unit};

use privet_store::faults::Disk;

use super::*;

fn account(epsilon: f64) -> Account {
    Account {
        dataset: "ct".into(),
        unit: Unit::Record,
        adjacency: Adjacency::AddRemove,
        currency: Currency::Gaussian,
        budget: Budget::lifetime(epsilon, 1e-5),
        content: None,
    }
}

fn purpose(round: u32) -> Purpose {
    Purpose { job: "job".into(), run: "run".into(), round, submitter: "ann".into() }
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
        sampled: None,
        sharers: None,
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
    let quote = ledger.quote("ct", "ann", &[event(4.0)], 20).unwrap();
    assert_eq!(quote.refused_from_round, Some(28));
    assert!((quote.planned - 4.9833).abs() < 1e-3);
    assert_eq!((quote.spent, quote.after), (0.0, quote.planned));
    let id = ledger.reserve("ct", &purpose(1), &[event(4.0)]).unwrap();
    ledger.commit(id).unwrap();
    let quote = ledger.quote("ct", "ann", &[event(4.0)], 20).unwrap();
    assert_eq!(quote.refused_from_round, Some(27));
    assert!(quote.after > quote.planned);
    assert_eq!(ledger.quote("ct", "ann", &[], 20).unwrap().refused_from_round, None);
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

/// One asks, another confirms with the code, within a day and while nothing is under way. Charges made
/// after the question still count.
#[test]
fn a_reset_takes_two() {
    let clock = Arc::new(Days(AtomicU32::new(100)));
    let ledger = SiteLedger::open(Store::in_memory().unwrap(), clock.clone()).unwrap();
    ledger.open_account(&account(SEVEN)).unwrap();
    let charge = || ledger.commit(ledger.reserve("ct", &purpose(1), &[event(4.0)]).unwrap());
    (0..6).for_each(|_| charge().unwrap());
    let refused =
        |by: &str, code: &str| ledger.confirm_reset("ct", by, code).err().map(|reason| reason.code);
    assert_eq!(refused("bob", "0"), Some(Code::ResetRefused), "nobody asked");
    let code = ledger.ask_reset("ct", "ann").unwrap();
    assert_eq!(refused("ann", &code), Some(Code::ResetRefused), "one person");
    assert_eq!(refused("bob", &code), Some(Code::ResetRefused), "a code is good for one try");
    let code = ledger.ask_reset("ct", "ann").unwrap();
    assert_eq!(refused("bob", "0000"), Some(Code::ResetRefused), "another code");
    let code_of_yesterday = ledger.ask_reset("ct", "ann").unwrap();
    assert_ne!(code, code_of_yesterday);
    clock.0.store(102, Ordering::Relaxed);
    assert_eq!(refused("bob", &code_of_yesterday), Some(Code::ResetRefused), "too late");
    let code = ledger.ask_reset("ct", "ann").unwrap();
    charge().unwrap();
    let open = ledger.reserve("ct", &purpose(1), &[event(4.0)]).unwrap_err();
    assert_eq!(open.code, Code::BudgetExhausted);
    assert_eq!(refused("bob", &code), None);
    let entries = ledger.statement("ct").unwrap().entries;
    let reset = entries.iter().filter(|entry| entry.state == EntryState::Reset).count();
    assert_eq!((entries.len(), reset), (7, 6), "what was charged since counts");
    let open = ledger.reserve("ct", &purpose(2), &[event(4.0)]).unwrap();
    let code = ledger.ask_reset("ct", "ann").unwrap();
    assert_eq!(refused("bob", &code), Some(Code::ResetRefused), "a job is under way");
    ledger.commit(open).unwrap();
    assert_eq!(ledger.ask_reset("mr", "ann").unwrap_err().code, Code::UnknownDataset);
}

/// A clock that tests set, in days.
struct Days(AtomicU32);

impl Clock for Days {
    fn now(&self) -> std::time::SystemTime {
        let days = u64::from(self.0.load(Ordering::Relaxed));
        std::time::UNIX_EPOCH + std::time::Duration::from_hours(24 * days)
    }
}

#[test]
fn a_charge_counts_within_its_window_and_no_longer() {
    let clock = Arc::new(Days(AtomicU32::new(100)));
    let ledger = SiteLedger::open(Store::in_memory().unwrap(), clock.clone()).unwrap();
    let budget = Budget { window: Window::Days(30), ..Budget::lifetime(SEVEN, 1e-5) };
    ledger.open_account(&Account { budget, ..account(SEVEN) }).unwrap();
    let reserve = |round| ledger.reserve("ct", &purpose(round), &[event(4.0)]);
    (1..=7).for_each(|round| ledger.commit(reserve(round).unwrap()).unwrap());
    clock.0.store(129, Ordering::Relaxed);
    assert_eq!(reserve(8).unwrap_err().code, Code::BudgetExhausted);
    // A clock that is set back makes no charge younger or gone.
    clock.0.store(10, Ordering::Relaxed);
    assert_eq!(reserve(8).unwrap_err().code, Code::BudgetExhausted);
    clock.0.store(131, Ordering::Relaxed);
    assert_eq!(ledger.statement("ct").unwrap().spent, 0.0);
    (8..=14).for_each(|round| ledger.commit(reserve(round).unwrap()).unwrap());
    assert_eq!(reserve(15).unwrap_err().code, Code::BudgetExhausted);
    assert_eq!(ledger.statement("ct").unwrap().entries.len(), 14);
}

/// A clock that was ahead once does not hide what is charged after it was set right.
#[test]
fn a_clock_that_was_ahead_hides_no_charge() {
    let clock = Arc::new(Days(AtomicU32::new(100)));
    let ledger = SiteLedger::open(Store::in_memory().unwrap(), clock.clone()).unwrap();
    let budget = Budget { window: Window::Days(30), ..Budget::lifetime(SEVEN, 1e-5) };
    ledger.open_account(&Account { budget, ..account(SEVEN) }).unwrap();
    let reserve = |round| ledger.reserve("ct", &purpose(round), &[event(4.0)]);
    ledger.commit(reserve(1).unwrap()).unwrap();
    clock.0.store(10, Ordering::Relaxed);
    (2..=7).for_each(|round| ledger.commit(reserve(round).unwrap()).unwrap());
    assert_eq!(reserve(8).unwrap_err().code, Code::BudgetExhausted);
}

#[test]
fn a_submitter_has_a_share_of_the_budget() {
    let ledger = SiteLedger::open(Store::in_memory().unwrap(), Arc::new(SystemClock)).unwrap();
    let budget = Budget { per_submitter: Some(SEVEN), ..Budget::lifetime(4.0, 1e-5) };
    ledger.open_account(&Account { budget, ..account(4.0) }).unwrap();
    let reserve = |submitter: &str| {
        let purpose = Purpose { submitter: submitter.to_owned(), ..purpose(1) };
        ledger.reserve("ct", &purpose, &[event(4.0)])
    };
    (0..7).for_each(|_| ledger.commit(reserve("ann").unwrap()).unwrap());
    let refused = reserve("ann").unwrap_err();
    assert_eq!(refused.code, Code::BudgetExhausted);
    assert!(refused.detail.contains("submitter `ann`"), "{}", refused.detail);
    let quote = |submitter| ledger.quote("ct", submitter, &[event(4.0)], 1).unwrap();
    assert_eq!(quote("ann").refused_from_round, Some(1));
    // ε 4 pays 13 rounds for all.
    (0..6).for_each(|_| ledger.commit(reserve("bob").unwrap()).unwrap());
    assert_eq!(quote("bob").refused_from_round, Some(1));
    assert!(!reserve("bob").unwrap_err().detail.contains("submitter"));
}

#[test]
fn one_table_has_one_account() {
    let store = Store::in_memory().unwrap();
    let ledger = SiteLedger::open(store, Arc::new(SystemClock)).unwrap();
    let of = |dataset: &str, content: &str| Account {
        dataset: dataset.to_owned(),
        content: Some(content.to_owned()),
        ..account(6.0)
    };
    ledger.open_account(&of("ct", "digest-1")).unwrap();
    let refused = ledger.open_account(&of("ct-again", "digest-1")).unwrap_err();
    assert_eq!(refused.code, Code::InvalidPolicy);
    assert!(refused.detail.contains("`ct-again`") && refused.detail.contains("`ct`"));
    ledger.open_account(&of("mr", "digest-2")).unwrap();
    // The table grows: it is the same account still.
    ledger.open_account(&of("ct", "digest-3")).unwrap();
    // What it held before, or what cannot be read for once, opens no second one.
    ledger.open_account(&Account { content: None, ..of("ct", "") }).unwrap();
    for held in ["digest-1", "digest-3"] {
        assert!(ledger.open_account(&of("ct-again", held)).is_err(), "{held}");
    }
}

/// Every currency counts what it can, stops, and stays what it was first.
#[test]
fn currencies_count_and_stop() {
    let laplace = Event {
        mechanism: Mechanism::Laplace { noise_multiplier: 2.0, scale_units: 2e6 },
        ..event(4.0)
    };
    for (currency, rounds) in [(Currency::Gaussian, 27), (Currency::Zcdp, 24), (Currency::Rdp, 23)]
    {
        let store = Store::in_memory().unwrap();
        let ledger = SiteLedger::open(store.clone(), Arc::new(SystemClock)).unwrap();
        let account = Account { currency, ..account(6.0) };
        ledger.open_account(&account).unwrap();
        let reserve = |event| ledger.reserve("ct", &purpose(1), &[event]);
        (0..rounds).for_each(|_| assert!(reserve(event(4.0)).is_ok()));
        assert_eq!(reserve(event(4.0)).unwrap_err().code, Code::BudgetExhausted, "{currency:?}");
        let refused = reserve(laplace).unwrap_err().code;
        let expected = match currency {
            Currency::Gaussian => Code::WrongCurrency,
            _ => Code::BudgetExhausted,
        };
        assert_eq!(refused, expected);
        // A larger budget reopens; another currency, or another Rényi order, does not come of it.
        let budget = Budget::lifetime(60.0, 1e-5);
        ledger.open_account(&Account { budget, ..account.clone() }).unwrap();
        let before = ledger.quote("ct", "ann", &[], 0).unwrap();
        reserve(event(4.0)).unwrap();
        assert_eq!(ledger.quote("ct", "ann", &[], 0).unwrap().accountant, before.accountant);
        let other = match currency {
            Currency::Zcdp => Currency::Rdp,
            _ => Currency::Zcdp,
        };
        let changed = ledger.open_account(&Account { currency: other, ..account }).unwrap_err();
        assert_eq!(changed.code, Code::InvalidPolicy);
    }
}

/// The disk dies at every single operation of a run of releases, and loses an arbitrary part of what
/// was not synced. What had been committed is committed when the machine comes up, what had been
/// reserved counts, and the budget still stops.
#[test]
fn a_disk_that_dies_forgets_no_charge() {
    let healthy = Disk::healthy();
    drop(Store::on(healthy.clone()).unwrap());
    for operations in 1.. {
        let disk = healthy.dying_after(operations);
        let (mut reserved, mut committed) = (0, 0);
        let mut run = || -> Result<(), Reason> {
            let store = Store::on(disk.clone()).map_err(storage)?;
            let ledger = SiteLedger::open(store, Arc::new(SystemClock))?;
            ledger.open_account(&account(SEVEN))?;
            for round in 1..=3 {
                let id = ledger.reserve("ct", &purpose(round), &[event(4.0)])?;
                reserved += 1;
                ledger.commit(id)?;
                committed += 1;
            }
            Ok(())
        };
        let ran = run();
        assert!(ran.is_ok() || disk.is_dead(), "{operations}");
        for chance in 0..6 {
            let store = Store::on(disk.survivor(chance)).unwrap();
            let ledger = SiteLedger::open(store, Arc::new(SystemClock)).unwrap();
            ledger.open_account(&account(SEVEN)).unwrap();
            let entries = ledger.statement("ct").unwrap().entries;
            let counted = entries.iter().filter(|e| e.state == EntryState::Committed).count();
            assert!(counted >= committed.max(reserved), "{operations}: {counted} of {committed}");
            // A reservation whose call failed may have reached the disk: it counts, and nothing
            // was drawn for it.
            assert!(counted <= reserved + 1);
            let more = (1..20)
                .take_while(|&round| ledger.reserve("ct", &purpose(round), &[event(4.0)]).is_ok());
            assert_eq!(counted + more.count(), 7, "{operations}");
        }
        if ran.is_ok() {
            assert!(operations > 20, "the disk was hardly used");
            return;
        }
    }
}

/// Where discreteness would cost too much of δ the exact curve gives way to zCDP, which costs more.
#[test]
fn noise_of_a_few_lattice_steps_is_counted_in_zcdp() {
    let store = Store::in_memory().unwrap();
    let ledger = ledger(&store, 6.0);
    let coarse = Event {
        mechanism: Mechanism::Gaussian { noise_multiplier: 4.0, sigma_units: 4.0, coordinates: 31 },
        ..event(4.0)
    };
    let planned = |event| ledger.quote("ct", "ann", &[event], 20).unwrap().planned;
    assert!((planned(event(4.0)) - 4.983).abs() < 1e-3);
    assert!((planned(coarse) - 5.38).abs() < 0.005);
}
