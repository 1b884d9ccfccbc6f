//! A pickled object, as far as torch needs one for a dictionary of tensors.
//!
//! Nothing is run: a class is its name, a call keeps what it calls and with what.
//! All objects lie in one list and name each other by their place in it, so that
//! neither depth nor sharing, in cycles too, costs anything. What the file says of
//! lengths is not believed before its bytes are there.

use std::collections::HashMap;

/// The place of an object.
pub(super) type At = usize;

pub(super) enum Object {
    Class(String, String),
    Text(String),
    Whole(i64),
    /// A number, yes or no, or nothing: no tensor is told by one.
    Other,
    Tuple(Vec<At>),
    List(Vec<At>),
    Dict(Vec<(At, At)>),
    Call {
        callable: At,
        arguments: At,
    },
    /// What is kept outside of the pickle.
    Stored(At),
}

/// All objects of a pickle.
pub(super) struct Objects {
    all: Vec<Object>,
    root: At,
}

type Read<T> = Result<T, String>;

struct Machine<'b> {
    bytes: &'b [u8],
    at: usize,
    all: Vec<Object>,
    stack: Vec<At>,
    /// How long the stack was at each mark.
    marks: Vec<usize>,
    memo: HashMap<u32, At>,
}

impl Objects {
    /// Reads a pickle; an error says what is wrong with it, and where.
    pub(super) fn read(bytes: &[u8]) -> Read<Objects> {
        let mut machine = Machine {
            bytes,
            at: 0,
            all: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        loop {
            let at = machine.at;
            match machine.step() {
                Ok(true) => {}
                Ok(false) => break,
                Err(fault) => return Err(format!("its pickle {fault}, at byte {at}")),
            }
        }
        let root = machine.pop().map_err(|fault| format!("its pickle {fault}, at its end"))?;
        Ok(Objects { all: machine.all, root })
    }

    pub(super) fn root(&self) -> At {
        self.root
    }

    pub(super) fn get(&self, at: At) -> &Object {
        &self.all[at]
    }

    pub(super) fn text(&self, at: At) -> Option<&str> {
        match self.get(at) {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn tuple(&self, at: At) -> Option<&[At]> {
        match self.get(at) {
            Object::Tuple(parts) => Some(parts),
            _ => None,
        }
    }

    pub(super) fn count(&self, at: At) -> Option<usize> {
        match self.get(at) {
            Object::Whole(number) => usize::try_from(*number).ok(),
            _ => None,
        }
    }

    /// Whether it is the class `name` of `module`.
    pub(super) fn is_class(&self, at: At, module: &str, name: &str) -> bool {
        matches!(self.get(at), Object::Class(of, class) if of == module && class == name)
    }
}

impl Machine<'_> {
    /// Does what the next byte says; false when it says stop.
    fn step(&mut self) -> Read<bool> {
        let [code] = self.take()?;
        match code {
            // The version.
            0x80 => drop(self.take::<1>()?),
            b'.' => return Ok(false),
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Object::Class(module, name));
            }
            b'X' => {
                let length = u32::from_le_bytes(self.take()?) as usize;
                let text = String::from_utf8(self.bytes(length)?.to_vec());
                let text = text.map_err(|_| "has a text that is not UTF-8")?;
                self.push(Object::Text(text));
            }
            b'K' => {
                let [number] = self.take()?;
                self.push(Object::Whole(number.into()));
            }
            b'M' => {
                let number = u16::from_le_bytes(self.take()?);
                self.push(Object::Whole(number.into()));
            }
            b'J' => {
                let number = i32::from_le_bytes(self.take()?);
                self.push(Object::Whole(number.into()));
            }
            0x8a => self.long()?,
            b'G' => {
                self.take::<8>()?;
                self.push(Object::Other);
            }
            0x88 | 0x89 | b'N' => self.push(Object::Other),
            b'(' => self.marks.push(self.stack.len()),
            b')' => self.push(Object::Tuple(Vec::new())),
            b']' => self.push(Object::List(Vec::new())),
            b'}' => self.push(Object::Dict(Vec::new())),
            b't' => {
                let parts = self.since_mark()?;
                self.push(Object::Tuple(parts));
            }
            0x85..=0x87 => self.tuple_of(usize::from(code - 0x84))?,
            b'd' => {
                let entries = pairs(&self.since_mark()?)?;
                self.push(Object::Dict(entries));
            }
            b'a' => {
                let item = self.pop()?;
                self.list()?.push(item);
            }
            b'e' => {
                let items = self.since_mark()?;
                self.list()?.extend(items);
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.dict()?.push((key, value));
            }
            b'u' => {
                let entries = pairs(&self.since_mark()?)?;
                self.dict()?.extend(entries);
            }
            b'R' | 0x81 => self.call()?,
            b'b' => self.build()?,
            b'Q' => {
                let id = self.pop()?;
                self.push(Object::Stored(id));
            }
            b'q' => {
                let [number] = self.take()?;
                self.remember(number.into())?;
            }
            b'r' => {
                let number = u32::from_le_bytes(self.take()?);
                self.remember(number)?;
            }
            b'h' => {
                let [number] = self.take()?;
                self.recall(number.into())?;
            }
            b'j' => {
                let number = u32::from_le_bytes(self.take()?);
                self.recall(number)?;
            }
            code => return Err(format!("asks for something unknown ({code:#04x})")),
        }
        Ok(true)
    }

    fn bytes(&mut self, count: usize) -> Read<&[u8]> {
        let found = self.bytes.get(self.at..).and_then(|rest| rest.get(..count));
        let found = found.ok_or("ends too early")?;
        self.at += count;
        Ok(found)
    }

    fn take<const COUNT: usize>(&mut self) -> Read<[u8; COUNT]> {
        Ok(self.bytes(COUNT)?.try_into().expect("as many bytes were taken"))
    }

    fn line(&mut self) -> Read<String> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or("ends too early")?;
        self.at += end + 1;
        Ok(String::from_utf8_lossy(&rest[..end]).into_owned())
    }

    /// A number of up to 8 bytes with a sign.
    fn long(&mut self) -> Read<()> {
        let [length] = self.take()?;
        let bytes = self.bytes(length.into())?;
        let negative = bytes.last().is_some_and(|&last| last >= 0x80);
        let mut whole = [if negative { 0xff } else { 0 }; 8];
        whole.get_mut(..bytes.len()).ok_or("has a number of more than 64 bits")?.copy_from_slice(bytes);
        self.push(Object::Whole(i64::from_le_bytes(whole)));
        Ok(())
    }

    fn push(&mut self, object: Object) {
        self.all.push(object);
        self.stack.push(self.all.len() - 1);
    }

    /// The last object; those before a mark are not reached.
    fn last(&self) -> Read<At> {
        let bottom = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(&last) if self.stack.len() > bottom => Ok(last),
            _ => Err("takes an object where there is none".into()),
        }
    }

    fn pop(&mut self) -> Read<At> {
        let last = self.last()?;
        self.stack.pop();
        Ok(last)
    }

    fn since_mark(&mut self) -> Read<Vec<At>> {
        let mark = self.marks.pop().ok_or("goes back to a mark where there is none")?;
        Ok(self.stack.split_off(mark))
    }

    fn tuple_of(&mut self, count: usize) -> Read<()> {
        let mut parts = (0..count).map(|_| self.pop()).collect::<Read<Vec<_>>>()?;
        parts.reverse();
        self.push(Object::Tuple(parts));
        Ok(())
    }

    fn list(&mut self) -> Read<&mut Vec<At>> {
        let last = self.last()?;
        match &mut self.all[last] {
            Object::List(items) => Ok(items),
            _ => Err("puts something into what is no list".into()),
        }
    }

    fn dict(&mut self) -> Read<&mut Vec<(At, At)>> {
        let last = self.last()?;
        match &mut self.all[last] {
            Object::Dict(entries) => Ok(entries),
            _ => Err("puts something into what is no dictionary".into()),
        }
    }

    fn call(&mut self) -> Read<()> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        let is_dict = matches!(&self.all[callable], Object::Class(module, name)
            if module == "collections" && (name == "OrderedDict" || name == "defaultdict"));
        self.push(if is_dict { Object::Dict(Vec::new()) } else { Object::Call { callable, arguments } });
        Ok(())
    }

    /// Attributes of an object; a dictionary's are no entries of it.
    fn build(&mut self) -> Read<()> {
        self.pop()?;
        self.last().map(drop)
    }

    fn remember(&mut self, number: u32) -> Read<()> {
        let last = self.last()?;
        self.memo.insert(number, last);
        Ok(())
    }

    fn recall(&mut self, number: u32) -> Read<()> {
        let found = self.memo.get(&number).ok_or("recalls what it never kept")?;
        self.stack.push(*found);
        Ok(())
    }
}

fn pairs(items: &[At]) -> Read<Vec<(At, At)>> {
    let pairs = items.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err("has a key without a value".into());
    }
    Ok(pairs.map(|pair| (pair[0], pair[1])).collect())
}
