//! A filter of one's own, in a crate outside Privet's workspace.

use privet::prelude::*;

struct AtMost(u64);

impl Filter for AtMost {
    fn plan(&self, flow: Flow) -> Result<Flow, Reason> {
        match flow.schema.elements() <= self.0 {
            true => Ok(flow),
            false => Err(Reason::new(Code::TooLarge, format!("more than {} numbers", self.0))),
        }
    }
    fn apply(&self, message: Message, _: &mut FilterContext<'_>) -> Result<Message, Reason> {
        Ok(message)
    }
    fn describe(&self) -> String {
        format!("refuses models of more than {} numbers", self.0)
    }
}

/// For Privet's own tests of this file.
pub(crate) fn at_most(most: u64) -> impl Filter {
    AtMost(most)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let job = std::env::args().nth(1).ok_or("usage: own-filter JOB.toml")?;
    let options = RunOptions { job: job.into(), ..RunOptions::default() };
    let at_most =
        FilterSpec::new("at-most-31", "Small models only.", |_, _| Ok(Box::new(AtMost(31))));
    let program = Program::new().filter(at_most)?;
    let result = run(program, &options, &Cancel::default(), |_| ())?;
    println!("{} rounds, accuracy {:?}", result.rounds_done, result.last.accuracy);
    Ok(())
}
