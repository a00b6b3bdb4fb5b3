//! A machine that runs groups of threads, and is stricter than a GPU: each access to memory lies in
//! a buffer that may be accessed so, no two threads meet at a shared word between barriers, all
//! threads come to the same barriers, and neither a branch nor an address depends on a secret.

use super::program::{Action, Operand, Program, Space, Step};

/// Memory of the device. Buffers lie far from each other.
#[derive(Default)]
pub(super) struct Memory(Vec<Buffer>);

struct Buffer {
    bytes: Vec<u8>,
    access: Access,
}

/// What a kernel may do with a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    /// Read, and keep secret.
    ReadSecret,
    Write,
}

const APART: u64 = 1 << 40;

impl Memory {
    /// Adds a buffer: its address.
    pub(super) fn add<T: bytemuck::NoUninit>(&mut self, access: Access, values: &[T]) -> u64 {
        self.0.push(Buffer { bytes: bytemuck::cast_slice(values).to_vec(), access });
        APART * self.0.len() as u64
    }

    /// What is at the address of a buffer.
    pub(super) fn values<T: bytemuck::AnyBitPattern>(&self, address: u64) -> Vec<T> {
        let bytes = &self.0[(address / APART) as usize - 1].bytes;
        bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()
    }

    fn at(&mut self, address: u64, bytes: usize) -> (&mut [u8], Access) {
        assert!(address.is_multiple_of(bytes as u64), "{address:x} is not aligned");
        let buffer = &mut self.0[(address / APART) as usize - 1];
        (&mut buffer.bytes[(address % APART) as usize..][..bytes], buffer.access)
    }

    fn load(&mut self, address: u64, bytes: usize) -> Value {
        let (from, access) = self.at(address, bytes);
        assert_ne!(access, Access::Write, "read through the cache that does not see writes");
        let mut word = [0; 8];
        word[..bytes].copy_from_slice(from);
        Value { number: u64::from_le_bytes(word), secret: access == Access::ReadSecret }
    }

    fn store(&mut self, address: u64, bytes: usize, number: u64) {
        let (to, access) = self.at(address, bytes);
        assert_eq!(access, Access::Write);
        to.copy_from_slice(&number.to_le_bytes()[..bytes]);
    }
}

#[derive(Clone, Copy, Default)]
struct Value {
    number: u64,
    secret: bool,
}

/// A shared word, and who was here since the last barrier.
#[derive(Clone, Copy, Default)]
struct Word {
    value: Option<Value>,
    writer: Option<usize>,
    reader: Option<usize>,
    readers: bool,
}

struct Thread {
    next: usize,
    registers: Vec<Value>,
}

/// Where a thread waits for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Barrier(usize),
    End,
}

struct Group<'a> {
    program: &'a Program,
    memory: &'a mut Memory,
    parameters: &'a [u64],
    number: u64,
    shared: Vec<Word>,
}

/// Runs groups of threads, one after the other. Whether any leaves secrets in shared memory.
pub(super) fn launch(
    program: &Program,
    memory: &mut Memory,
    parameters: &[u64],
    groups: u64,
) -> bool {
    assert_eq!(program.parameters.len(), parameters.len());
    let mut left = false;
    for number in 0..groups {
        let shared = vec![Word::default(); program.shared / 4];
        let mut group = Group { program, memory: &mut *memory, parameters, number, shared };
        group.run();
        left |= group.shared.iter().filter_map(|word| word.value).any(|value| value.secret);
    }
    left
}

impl Group<'_> {
    fn run(&mut self) {
        let thread =
            || Thread { next: 0, registers: vec![Value::default(); self.program.registers] };
        let mut threads: Vec<Thread> = (0..self.program.threads).map(|_| thread()).collect();
        loop {
            let stops: Vec<Stop> =
                threads.iter_mut().enumerate().map(|(i, thread)| self.advance(i, thread)).collect();
            assert!(stops.iter().all(|stop| *stop == stops[0]), "threads wait at different places");
            let Stop::Barrier(at) = stops[0] else { return };
            if let Action::Any { to, from } = self.program.steps[at].action {
                let votes = threads.iter().enumerate().map(|(i, t)| self.value(i, t, from));
                let any = votes.fold(Value::default(), |any, vote| {
                    assert!(!vote.secret, "a vote on a secret");
                    Value { number: any.number | vote.number, secret: false }
                });
                threads.iter_mut().for_each(|thread| thread.registers[to] = any);
            }
            for word in &mut self.shared {
                *word = Word { value: word.value, ..Word::default() };
            }
        }
    }

    /// Runs a thread up to the next barrier.
    fn advance(&mut self, i: usize, thread: &mut Thread) -> Stop {
        loop {
            let at = thread.next;
            let Step { guard, action } = &self.program.steps[at];
            thread.next += 1;
            if let Some((register, expected)) = *guard {
                let Value { number, secret } = thread.registers[register];
                assert!(!secret, "step {at} of {} branches on a secret", self.program.name);
                if (number == 1) != expected {
                    continue;
                }
            }
            match *action {
                Action::Compute { operation, to, ref from } => {
                    let (mut numbers, mut secret) = ([0; 3], false);
                    for (number, &operand) in numbers.iter_mut().zip(from) {
                        let value = self.value(i, thread, operand);
                        *number = value.number;
                        secret |= value.secret;
                    }
                    thread.registers[to] = Value { number: operation(numbers), secret };
                }
                Action::Parameter { number, to } => {
                    thread.registers[to] = Value { number: self.parameters[number], secret: false };
                }
                Action::Load { space, bytes, to, base, offset } => {
                    let address = self.address(i, thread, base, offset);
                    thread.registers[to] = match space {
                        Space::Global => self.memory.load(address, bytes),
                        Space::Shared => self.load_shared(i, address),
                    };
                }
                Action::Store { space, bytes, base, offset, from } => {
                    let address = self.address(i, thread, base, offset);
                    let value = self.value(i, thread, from);
                    match space {
                        Space::Global => self.memory.store(address, bytes, value.number),
                        Space::Shared => self.store_shared(i, address, value),
                    }
                }
                Action::Or { base, offset, from } => {
                    let address = self.address(i, thread, base, offset);
                    let by = self.value(i, thread, from).number as u32;
                    let (to, access) = self.memory.at(address, 4);
                    assert_eq!(access, Access::Write);
                    let old = u32::from_le_bytes(to.try_into().unwrap());
                    to.copy_from_slice(&(old | by).to_le_bytes());
                }
                Action::Branch(to) => thread.next = to,
                Action::Barrier | Action::Any { .. } => {
                    assert!(guard.is_none());
                    return Stop::Barrier(at);
                }
                Action::Return => return Stop::End,
            }
        }
    }

    fn value(&self, i: usize, thread: &Thread, operand: Operand) -> Value {
        let number = match operand {
            Operand::Register(register) => return thread.registers[register],
            Operand::Number(number) => number,
            Operand::Thread => i as u64,
            Operand::Group => self.number,
        };
        Value { number, secret: false }
    }

    fn address(&self, i: usize, thread: &Thread, base: Operand, offset: u64) -> u64 {
        let base = self.value(i, thread, base);
        assert!(!base.secret, "{} has an address that is secret", self.program.name);
        base.number.wrapping_add(offset)
    }

    fn shared(&mut self, address: u64) -> &mut Word {
        // As on a GPU, 32 bits of a shared address count.
        let address = address as u32 as usize;
        assert!(address.is_multiple_of(4));
        &mut self.shared[address / 4]
    }

    fn load_shared(&mut self, i: usize, address: u64) -> Value {
        let word = self.shared(address);
        assert!(word.writer.is_none_or(|writer| writer == i), "a race at {address}");
        word.readers |= word.reader.is_some_and(|reader| reader != i);
        word.reader = Some(i);
        word.value.unwrap_or_else(|| panic!("{address} was never written"))
    }

    fn store_shared(&mut self, i: usize, address: u64, value: Value) {
        let word = self.shared(address);
        let alone = word.writer.is_none_or(|writer| writer == i)
            && word.reader.is_none_or(|reader| reader == i)
            && !word.readers;
        assert!(alone, "a race at {address}");
        word.writer = Some(i);
        word.value = Some(value);
    }
}
