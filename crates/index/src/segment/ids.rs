//! The ids of a segment: by slot, by hash and in order.
//!
//! Sections: `ids` holds 16 bytes a row, the number or the UUID, high half
//! first; `uuids` a bit a row; `id_hash` an open-addressing table of slots with
//! at least half of its places free; `id_order` the slots in order of id.

use uuid::Uuid;

use super::container::{Container, Writer};
use crate::bits::Bits;
use crate::bytes::Bytes;
use crate::error::Result;
use crate::id::PointId;

const FREE: u32 = u32::MAX;

pub(crate) struct Ids {
    rows: usize,
    halves: Bytes,
    uuids: Bits,
    hash: Bytes,
    order: Bytes,
    /// The smallest and the largest id.
    ends: Option<[PointId; 2]>,
}

pub(crate) fn write(writer: &mut Writer, ids: &[PointId]) -> Result<()> {
    writer.begin("ids")?;
    let mut uuids = vec![0u64; ids.len().div_ceil(64)];
    for (slot, id) in ids.iter().enumerate() {
        let (high, low, uuid) = halves(*id);
        writer.write(&high.to_le_bytes())?;
        writer.write(&low.to_le_bytes())?;
        uuids[slot / 64] |= u64::from(uuid) << (slot % 64);
    }
    writer.section("uuids", bytemuck::cast_slice(&uuids))?;

    let places = (ids.len() * 2).next_power_of_two();
    let mut table = vec![FREE; places];
    for (slot, id) in (0u32..).zip(ids) {
        let mut place = hash(*id) as usize & (places - 1);
        while table[place] != FREE {
            place = (place + 1) & (places - 1);
        }
        table[place] = slot;
    }
    writer.section("id_hash", bytemuck::cast_slice(&table))?;

    let mut order: Vec<u32> = (0..ids.len() as u32).collect();
    order.sort_unstable_by_key(|slot| ids[*slot as usize]);
    writer.section("id_order", bytemuck::cast_slice(&order))
}

impl Ids {
    pub(crate) fn open(container: &Container, rows: usize) -> Result<Self, String> {
        let uuids = container.section("uuids")?;
        let words = uuids.numbers::<u64>().filter(|words| words.len() == rows.div_ceil(64));
        let uuids = Bits::from_words(words.ok_or("section uuids has another length")?, rows as u32);
        let ids = Self {
            rows,
            halves: container.section("ids")?,
            uuids,
            hash: container.section("id_hash")?,
            order: container.section("id_order")?,
            ends: None,
        };
        let slots = |bytes: &Bytes| {
            let numbers = bytes.numbers::<u32>()?;
            numbers.iter().all(|slot| *slot == FREE || (*slot as usize) < rows).then_some(numbers.len())
        };
        let fit = ids.halves.numbers::<u64>().is_some_and(|halves| halves.len() == rows * 2)
            && slots(&ids.order) == Some(rows)
            && ids.order.numbers::<u32>().is_some_and(|order| !order.contains(&FREE))
            && slots(&ids.hash).is_some_and(|places| places == (rows * 2).next_power_of_two());
        if !fit {
            return Err("its ids do not fit its rows".to_owned());
        }
        let ends = |order: &[u32]| Some([*order.first()?, *order.get(rows.checked_sub(1)?)?]);
        let ends = ids.order.numbers::<u32>().and_then(ends);
        Ok(Self { ends: ends.map(|ends| ends.map(|slot| ids.id(slot))), ..ids })
    }

    pub(crate) fn id(&self, slot: u32) -> PointId {
        let halves = self.halves.numbers::<u64>().expect("checked when opened");
        let (high, low) = (halves[slot as usize * 2], halves[slot as usize * 2 + 1]);
        if self.uuids.get(slot) { PointId::Uuid(Uuid::from_u64_pair(high, low)) } else { PointId::Num(low) }
    }

    pub(crate) fn slot_of(&self, id: &PointId) -> Option<u32> {
        // Ids mostly count up: those of new points need not be looked for.
        if self.ends.is_some_and(|[first, last]| *id < first || *id > last) {
            return None;
        }
        let table = self.hash.numbers::<u32>().expect("checked when opened");
        let mask = table.len() - 1;
        let mut place = hash(*id) as usize & mask;
        // Half of the places are free, but damaged files must not spin.
        for _ in 0..table.len() {
            match table[place] {
                FREE => return None,
                slot if self.id(slot) == *id => return Some(slot),
                _ => place = (place + 1) & mask,
            }
        }
        None
    }

    /// The slots in order of id, from the first that is not below `from`.
    pub(crate) fn ordered(&self, from: Option<PointId>) -> &[u32] {
        let order = self.order.numbers::<u32>().expect("checked when opened");
        let order = &order[..self.rows];
        let start = from.map_or(0, |from| order.partition_point(|slot| self.id(*slot) < from));
        &order[start..]
    }
}

fn halves(id: PointId) -> (u64, u64, bool) {
    match id {
        PointId::Num(number) => (0, number, false),
        PointId::Uuid(uuid) => {
            let (high, low) = uuid.as_u64_pair();
            (high, low, true)
        }
    }
}

/// Part of the file format: must not change. The finaliser of MurmurHash3.
fn hash(id: PointId) -> u64 {
    let (high, low, uuid) = halves(id);
    let mut x = low ^ high.rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(uuid);
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_names_no_slot_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.segment");
        let opens = |order: [u32; 2]| {
            let mut writer = Writer::create(&path).unwrap();
            write(&mut writer, &[5.into(), 3.into()]).unwrap();
            writer.section("id_order", bytemuck::cast_slice(&order)).unwrap();
            writer.finish("test", serde_json::json!({})).unwrap();
            Ids::open(&Container::open(&path, "test").unwrap(), 2)
        };
        assert_eq!(opens([1, 0]).unwrap().ordered(None), [1, 0]);
        for order in [[1, FREE], [FREE, 0], [2, 0]] {
            assert!(opens(order).is_err(), "{order:?}");
        }
    }
}
