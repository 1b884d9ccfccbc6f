//! Places on the earth, sorted so that those in an area are near each other.
//!
//! The places are cut into bands of equal count by latitude, and each band is
//! sorted by longitude (sort-tile-recursive packing). A search looks into the
//! bands that the area's bounds touch and tests each place it finds there.

use super::sections::{Numbers, Reader, Writer};
use crate::filter::geo::{Area, Bounds, GeoPoint};

pub(super) struct Places {
    band: usize,
    /// Lowest and highest latitude of each band.
    lats_of: Numbers<[f64; 2]>,
    lats: Numbers<f64>,
    lons: Numbers<f64>,
    slots: Numbers<u32>,
}

/// As many bands as places in one, about.
fn band_of(count: usize) -> usize {
    count.isqrt().max(1)
}

impl Places {
    pub(super) fn write(mut entries: Vec<(GeoPoint, u32)>, file: &mut Writer) {
        entries.sort_unstable_by(|(a, x), (b, y)| a.lat.total_cmp(&b.lat).then(x.cmp(y)));
        let mut lats_of = Vec::new();
        let size = band_of(entries.len());
        for band in entries.chunks_mut(size) {
            lats_of.push([band[0].0.lat, band[band.len() - 1].0.lat]);
            band.sort_unstable_by(|(a, x), (b, y)| a.lon.total_cmp(&b.lon).then(x.cmp(y)));
        }
        file.add(&lats_of);
        file.add(&entries.iter().map(|(place, _)| place.lat).collect::<Vec<_>>());
        file.add(&entries.iter().map(|(place, _)| place.lon).collect::<Vec<_>>());
        file.add(&entries.iter().map(|(_, slot)| *slot).collect::<Vec<_>>());
    }

    pub(super) fn read(file: &mut Reader) -> Result<Self, String> {
        let (lats_of, lats, lons) = (file.numbers()?, file.numbers()?, file.numbers()?);
        let slots: Numbers<u32> = file.numbers()?;
        let count = slots.len();
        let places = Self { band: band_of(count), lats_of, lats, lons, slots };
        let bands = count.div_ceil(places.band);
        if places.lats.len() != count || places.lons.len() != count || places.lats_of.len() != bands {
            return Err("the field index has places without coordinates".to_owned());
        }
        Ok(places)
    }

    /// Calls `found` for each place in the area.
    pub(super) fn each_in(&self, area: Area<'_>, mut found: impl FnMut(u32)) {
        self.each_run(&area.bounds(), |run| {
            for place in run {
                if area.contains(GeoPoint { lon: self.lons[place], lat: self.lats[place] }) {
                    found(self.slots[place]);
                }
            }
        });
    }

    /// How many places are in the area's bounds, or in a band that is partly.
    pub(super) fn at_most(&self, area: Area<'_>) -> usize {
        let mut count = 0;
        self.each_run(&area.bounds(), |run| count += run.len());
        count
    }

    fn each_run(&self, bounds: &Bounds, mut run: impl FnMut(std::ops::Range<usize>)) {
        for (number, lats) in self.lats_of.iter().enumerate() {
            if lats[1] < bounds.lat.0 || lats[0] > bounds.lat.1 {
                continue;
            }
            let start = number * self.band;
            let lons = &self.lons[start..(start + self.band).min(self.slots.len())];
            for (west, east) in bounds.lon {
                let from = lons.partition_point(|lon| *lon < west);
                let to = lons.partition_point(|lon| *lon <= east);
                if from < to {
                    run(start + from..start + to);
                }
            }
        }
    }
}
