//! The text of PTX, as far as the kernels use it: read, and what each instruction computes.

use std::collections::HashMap;

/// One kernel.
pub(super) struct Program {
    pub(super) name: String,
    /// Types of its parameters.
    pub(super) parameters: Vec<String>,
    /// Threads that it may have.
    pub(super) threads: usize,
    /// Bytes of shared memory.
    pub(super) shared: usize,
    pub(super) registers: usize,
    pub(super) steps: Vec<Step>,
}

/// An instruction, done only if a register is as its guard says.
pub(super) struct Step {
    pub(super) guard: Option<(usize, bool)>,
    pub(super) action: Action,
}

pub(super) enum Action {
    Compute {
        operation: Operation,
        to: usize,
        from: Vec<Operand>,
    },
    Parameter {
        number: usize,
        to: usize,
    },
    Load {
        space: Space,
        bytes: usize,
        to: usize,
        base: Operand,
        offset: u64,
    },
    Store {
        space: Space,
        bytes: usize,
        base: Operand,
        offset: u64,
        from: Operand,
    },
    Or {
        base: Operand,
        offset: u64,
        from: Operand,
    },
    Branch(usize),
    Barrier,
    /// A barrier, and whether any thread says so.
    Any {
        to: usize,
        from: Operand,
    },
    Return,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    Global,
    Shared,
}

#[derive(Clone, Copy)]
pub(super) enum Operand {
    Register(usize),
    Number(u64),
    Thread,
    Group,
}

/// What an instruction makes of its operands. Registers hold 64 bits, the upper ones zero where a
/// type has fewer.
pub(super) type Operation = fn([u64; 3]) -> u64;

/// The kernels of a text.
pub(super) fn read(text: &str) -> Vec<Program> {
    let kernels = text.split(".visible .entry ").skip(1);
    kernels.map(|kernel| Reader::default().kernel(kernel)).collect()
}

#[derive(Default)]
struct Reader {
    registers: HashMap<String, usize>,
    /// Registers declared in an inner block, which hide those outside.
    inner: Option<HashMap<String, usize>>,
    count: usize,
    labels: HashMap<String, usize>,
}

impl Reader {
    fn kernel(mut self, text: &str) -> Program {
        let (name, text) = text.split_once('(').unwrap();
        let (parameters, text) = text.split_once(')').unwrap();
        let types = parameters.split(',').map(|parameter| {
            let parameter = parameter.split_whitespace().collect::<Vec<_>>();
            assert_eq!(parameter[0], ".param");
            parameter[1].to_owned()
        });
        let (bounds, body) = text.split_once('{').unwrap();
        let threads = bounds.trim().strip_prefix(".maxntid ").unwrap().split(',').next().unwrap();
        let body = &body[..body.rfind('}').unwrap()];
        let lines = || body.lines().map(str::trim).filter(|line| !line.starts_with("//"));

        let mut shared = 0;
        let mut statements = Vec::new();
        for line in lines() {
            if let Some(label) = line.strip_suffix(':') {
                self.labels.insert(label.to_owned(), statements.len());
            } else if line.starts_with(".shared") {
                let size = line.split(['[', ']']).nth(1).unwrap();
                assert_eq!(shared, 0, "one shared variable, which lies at 0");
                shared = size.parse().unwrap();
            } else if line.starts_with(".pragma") || line.starts_with(".reg") && line.contains('<')
            {
                // Hints. Registers are numbered as they are met.
            } else {
                statements.extend(split(line));
            }
        }
        // Labels are known by now, but must count only what became a step.
        let (mut steps, mut places) = (Vec::new(), Vec::new());
        for statement in &statements {
            places.push(steps.len());
            steps.extend(self.statement(statement));
        }
        for step in &mut steps {
            if let Action::Branch(to) = &mut step.action {
                *to = places[*to];
            }
        }
        Program {
            name: name.to_owned(),
            parameters: types.collect(),
            threads: threads.parse().unwrap(),
            shared,
            registers: self.count,
            steps,
        }
    }

    fn statement(&mut self, statement: &str) -> Option<Step> {
        match statement {
            "{" => {
                self.inner = Some(HashMap::new());
                return None;
            }
            "}" => {
                self.inner = None;
                return None;
            }
            _ => {}
        }
        if let Some(declared) = statement.strip_prefix(".reg ") {
            let name = declared.split_whitespace().nth(1).unwrap();
            self.inner.as_mut().unwrap().insert(name.to_owned(), self.count);
            self.count += 1;
            return None;
        }
        let (guard, rest) = match statement.strip_prefix('@') {
            None => (None, statement),
            Some(guarded) => {
                let (name, rest) = guarded.split_once(char::is_whitespace).unwrap();
                let plain = name.trim_start_matches('!');
                (Some((self.register(plain), plain == name)), rest.trim())
            }
        };
        let (opcode, operands) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let operands: Vec<&str> =
            operands.split(',').map(str::trim).filter(|operand| !operand.is_empty()).collect();
        Some(Step { guard, action: self.action(opcode, &operands) })
    }

    fn action(&mut self, opcode: &str, operands: &[&str]) -> Action {
        use Space::{Global, Shared};
        let mut load = |space, bytes| {
            let (base, offset) = self.address(operands[1]);
            Action::Load { space, bytes, to: self.register(operands[0]), base, offset }
        };
        match opcode {
            "ld.global.nc.u8" => return load(Global, 1),
            "ld.global.nc.u32" => return load(Global, 4),
            "ld.global.nc.u64" => return load(Global, 8),
            "ld.shared.u32" => return load(Shared, 4),
            _ => {}
        }
        let mut store = |space, bytes| {
            let (base, offset) = self.address(operands[0]);
            Action::Store { space, bytes, base, offset, from: self.operand(operands[1]) }
        };
        match opcode {
            "st.global.u32" => store(Global, 4),
            "st.global.u64" => store(Global, 8),
            "st.shared.u32" | "st.volatile.shared.u32" => store(Shared, 4),
            "atom.global.or.b32" => {
                let (base, offset) = self.address(operands[1]);
                Action::Or { base, offset, from: self.operand(operands[2]) }
            }
            "ld.param.u64" => {
                let number = operands[1].trim_end_matches(']').rsplit('_').next().unwrap();
                Action::Parameter {
                    number: number.parse().unwrap(),
                    to: self.register(operands[0]),
                }
            }
            "bra" | "bra.uni" => Action::Branch(self.labels[operands[0]]),
            "bar.sync" => Action::Barrier,
            "bar.red.or.pred" => {
                Action::Any { to: self.register(operands[0]), from: self.operand(operands[2]) }
            }
            "ret" => Action::Return,
            _ => Action::Compute {
                operation: operation(opcode).unwrap_or_else(|| panic!("{opcode}")),
                to: self.register(operands[0]),
                from: operands[1..].iter().map(|operand| self.operand(operand)).collect(),
            },
        }
    }

    fn register(&mut self, name: &str) -> usize {
        assert!(name.starts_with('%'), "{name} is no register");
        if let Some(&inner) = self.inner.as_ref().and_then(|inner| inner.get(name)) {
            return inner;
        }
        *self.registers.entry(name.to_owned()).or_insert_with(|| {
            self.count += 1;
            self.count - 1
        })
    }

    fn operand(&mut self, operand: &str) -> Operand {
        match operand {
            "%tid.x" => Operand::Thread,
            "%ctaid.x" => Operand::Group,
            _ if operand.starts_with('%') => Operand::Register(self.register(operand)),
            // The one shared variable.
            _ if operand.starts_with("_ZZ") => Operand::Number(0),
            _ => Operand::Number(operand.parse::<i128>().unwrap() as u64),
        }
    }

    /// `[base]` or `[base+offset]`.
    fn address(&mut self, address: &str) -> (Operand, u64) {
        let inside = address.trim_start_matches('[').trim_end_matches(']');
        let (base, offset) = inside.split_once('+').unwrap_or((inside, "0"));
        (self.operand(base), offset.parse::<i64>().unwrap().cast_unsigned())
    }
}

/// Statements of a line, braces among them.
fn split(line: &str) -> Vec<&str> {
    line.split_inclusive(['{', '}', ';'])
        .map(|part| part.trim().trim_end_matches(';').trim())
        .filter(|part| !part.is_empty())
        .collect()
}

/// What an instruction computes, by the manual of PTX ISA 8.0, §9.7.
fn operation(opcode: &str) -> Option<Operation> {
    Some(match opcode {
        "add.s32" => |[a, b, _]| low(a.wrapping_add(b)),
        "sub.s32" => |[a, b, _]| low(a.wrapping_sub(b)),
        "mul.lo.s32" => |[a, b, _]| low(a.wrapping_mul(b)),
        "mad.lo.s32" => |[a, b, c]| low(a.wrapping_mul(b).wrapping_add(c)),
        "mul.hi.u32" => |[a, b, _]| (low(a) * low(b)) >> 32,
        "mul.wide.u32" => |[a, b, _]| low(a) * low(b),
        "mul.wide.s32" => |[a, b, _]| signed(a).wrapping_mul(signed(b)).cast_unsigned(),
        "min.u32" => |[a, b, _]| low(a).min(low(b)),
        "add.s64" | "add.u64" => |[a, b, _]| a.wrapping_add(b),
        "sub.s64" => |[a, b, _]| a.wrapping_sub(b),
        "and.b32" => |[a, b, _]| low(a & b),
        "or.b32" => |[a, b, _]| low(a | b),
        "xor.b32" => |[a, b, _]| low(a ^ b),
        "and.pred" => |[a, b, _]| a & b,
        "or.pred" => |[a, b, _]| a | b,
        "not.pred" => |[a, _, _]| 1 - a,
        // The upper half of b‖a, turned left.
        "shf.l.wrap.b32" => |[a, b, turn]| low((low(b) << 32 | low(a)) << (turn & 31) >> 32),
        "shl.b32" => |[a, by, _]| low(low(a) << low(by).min(32)),
        "shr.u32" => |[a, by, _]| low(a) >> low(by).min(32),
        "shr.s32" => |[a, by, _]| low((signed(a) >> low(by).min(31)).cast_unsigned()),
        "shl.b64" => |[a, by, _]| a.checked_shl(by as u32).unwrap_or(0),
        "shr.u64" => |[a, by, _]| a.checked_shr(by as u32).unwrap_or(0),
        "mov.u32" | "cvt.u32.u64" | "cvt.u64.u32" => |[a, _, _]| low(a),
        "mov.u64" | "cvta.to.global.u64" => |[a, _, _]| a,
        "cvt.u64.u16" => |[a, _, _]| a & 0xffff,
        "cvt.s64.s32" => |[a, _, _]| signed(a).cast_unsigned(),
        "cvt.s64.s8" => |[a, _, _]| i64::from(a as i8).cast_unsigned(),
        "setp.lt.u32" => |[a, b, _]| u64::from(low(a) < low(b)),
        "setp.gt.u32" => |[a, b, _]| u64::from(low(a) > low(b)),
        "setp.lt.s32" => |[a, b, _]| u64::from(signed(a) < signed(b)),
        "setp.gt.s32" => |[a, b, _]| u64::from(signed(a) > signed(b)),
        "setp.eq.s32" => |[a, b, _]| u64::from(low(a) == low(b)),
        "setp.ne.s32" | "setp.ne.u32" => |[a, b, _]| u64::from(low(a) != low(b)),
        "setp.gt.u64" => |[a, b, _]| u64::from(a > b),
        "selp.u32" | "selp.b32" => |[a, b, which]| low(if which == 1 { a } else { b }),
        "selp.b64" => |[a, b, which]| if which == 1 { a } else { b },
        _ => return None,
    })
}

fn low(x: u64) -> u64 {
    u64::from(x as u32)
}

fn signed(x: u64) -> i64 {
    i64::from(x as u32 as i32)
}
