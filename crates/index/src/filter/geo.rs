//! Places on the earth and the areas a filter can ask for.
//!
//! Every area excludes its boundary. The areas also tell a box around them,
//! from which an index starts.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;

/// Mean radius of the earth in metres.
const EARTH_RADIUS: f64 = 6_371_008.8;

/// A place: degrees of longitude -180 to 180 and of latitude -90 to 90.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "WrittenPoint", deny_unknown_fields)]
pub struct GeoPoint {
    /// Degrees east.
    pub lon: f64,
    /// Degrees north.
    pub lat: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPoint {
    lon: f64,
    lat: f64,
}

impl TryFrom<WrittenPoint> for GeoPoint {
    type Error = Error;

    fn try_from(WrittenPoint { lon, lat }: WrittenPoint) -> Result<Self, Error> {
        Self::new(lon, lat)
    }
}

impl GeoPoint {
    /// A place by its coordinates.
    ///
    /// # Errors
    /// [`Error::Filter`] if one is out of range.
    pub fn new(lon: f64, lat: f64) -> Result<Self, Error> {
        Self::within_range(lon, lat).ok_or_else(|| {
            Error::Filter(format!(
                "longitude {lon} and latitude {lat} are no place, they must be in -180 to 180 and -90 to 90"
            ))
        })
    }

    fn within_range(lon: f64, lat: f64) -> Option<Self> {
        ((-180.0..=180.0).contains(&lon) && (-90.0..=90.0).contains(&lat)).then_some(Self { lon, lat })
    }

    /// The place a payload value says: an object with the numbers `lon` and
    /// `lat`.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        let number = |key| value.as_object()?.get(key)?.as_f64();
        Self::within_range(number("lon")?, number("lat")?)
    }

    /// Metres along the surface, by the haversine formula.
    pub(crate) fn metres_to(self, other: Self) -> f64 {
        let (lat, other_lat) = (self.lat.to_radians(), other.lat.to_radians());
        let (sin_lat, sin_lon) =
            (((other_lat - lat) / 2.0).sin(), ((other.lon - self.lon).to_radians() / 2.0).sin());
        let h = sin_lat * sin_lat + lat.cos() * other_lat.cos() * sin_lon * sin_lon;
        2.0 * EARTH_RADIUS * h.sqrt().min(1.0).asin()
    }
}

/// The places between two corners. It crosses the date line when the left
/// corner is east of the right one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeoBox {
    /// The north-west corner.
    pub top_left: GeoPoint,
    /// The south-east corner.
    pub bottom_right: GeoPoint,
}

impl GeoBox {
    pub(crate) fn contains(&self, place: GeoPoint) -> bool {
        let (left, right) = (self.top_left.lon, self.bottom_right.lon);
        let lon = if left > right {
            place.lon > left || place.lon < right
        } else {
            place.lon > left && place.lon < right
        };
        lon && place.lat < self.top_left.lat && place.lat > self.bottom_right.lat
    }
}

/// The places nearer to a centre than a distance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeoRadius {
    /// The centre.
    pub center: GeoPoint,
    /// Metres.
    pub radius: f64,
}

impl GeoRadius {
    pub(crate) fn contains(&self, place: GeoPoint) -> bool {
        self.center.metres_to(place) < self.radius
    }
}

/// The places inside one ring and outside others. An edge is straight on a map
/// of degrees and does not cross the date line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeoPolygon {
    /// The outline.
    pub exterior: GeoRing,
    /// Holes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interiors: Option<Vec<GeoRing>>,
}

/// A closed line: at least four points, the last equal to the first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "WrittenRing")]
pub struct GeoRing {
    points: Vec<GeoPoint>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRing {
    points: Vec<GeoPoint>,
}

impl TryFrom<WrittenRing> for GeoRing {
    type Error = Error;

    fn try_from(ring: WrittenRing) -> Result<Self, Error> {
        Self::new(ring.points)
    }
}

impl GeoRing {
    /// A ring through these points.
    ///
    /// # Errors
    /// [`Error::Filter`] if there are fewer than four or they do not close.
    pub fn new(points: Vec<GeoPoint>) -> Result<Self, Error> {
        if points.len() < 4 {
            let got = points.len();
            return Err(Error::Filter(format!("polygon ring must have at least 4 points, got {got}")));
        }
        if points.first() != points.last() {
            let reason = "polygon ring must be closed: the first and last points should be the same";
            return Err(Error::Filter(reason.to_owned()));
        }
        Ok(Self { points })
    }

    /// Where a place lies: on the line `None`, otherwise whether inside.
    fn surrounds(&self, place: GeoPoint) -> Option<bool> {
        let mut inside = false;
        for edge in self.points.windows(2) {
            let (a, b) = (edge[0], edge[1]);
            // Twice the area of the triangle: which side of the edge it is on.
            let side = (b.lon - a.lon) * (place.lat - a.lat) - (place.lon - a.lon) * (b.lat - a.lat);
            let between = |x: f64, y: f64, z: f64| x.min(y) <= z && z <= x.max(y);
            if side == 0.0 && between(a.lon, b.lon, place.lon) && between(a.lat, b.lat, place.lat) {
                return None;
            }
            // A ray to the east crosses the edges that pass its latitude.
            if (a.lat > place.lat) != (b.lat > place.lat) && (side > 0.0) == (b.lat > a.lat) {
                inside = !inside;
            }
        }
        Some(inside)
    }
}

impl GeoPolygon {
    pub(crate) fn contains(&self, place: GeoPoint) -> bool {
        self.exterior.surrounds(place) == Some(true)
            && self.interiors.iter().flatten().all(|hole| hole.surrounds(place) == Some(false))
    }
}

/// An area of any shape, as an index asks it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Area<'a> {
    Box(&'a GeoBox),
    Radius(&'a GeoRadius),
    Polygon(&'a GeoPolygon),
}

/// Closed ranges of degrees that hold an area; two of longitude when it
/// crosses the date line.
pub(crate) struct Bounds {
    pub(crate) lat: (f64, f64),
    pub(crate) lon: [(f64, f64); 2],
}

/// No longitude at all.
const NONE: (f64, f64) = (1.0, 0.0);
const AROUND: (f64, f64) = (-180.0, 180.0);

impl Area<'_> {
    pub(crate) fn contains(self, place: GeoPoint) -> bool {
        match self {
            Self::Box(area) => area.contains(place),
            Self::Radius(area) => area.contains(place),
            Self::Polygon(area) => area.contains(place),
        }
    }

    pub(crate) fn bounds(self) -> Bounds {
        match self {
            Self::Box(GeoBox { top_left, bottom_right }) => {
                let (left, right) = (top_left.lon, bottom_right.lon);
                let lon = if left > right { [(left, 180.0), (-180.0, right)] } else { [(left, right), NONE] };
                Bounds { lat: (bottom_right.lat, top_left.lat), lon }
            }
            Self::Radius(circle) => around(circle),
            Self::Polygon(polygon) => {
                let points = &polygon.exterior.points;
                let extent = |degrees: fn(&GeoPoint) -> f64| {
                    points
                        .iter()
                        .map(degrees)
                        .fold((f64::MAX, f64::MIN), |(low, high), at| (low.min(at), high.max(at)))
                };
                Bounds { lat: extent(|point| point.lat), lon: [extent(|point| point.lon), NONE] }
            }
        }
    }
}

fn around(circle: &GeoRadius) -> Bounds {
    // Rounding must not lose a place near the edge.
    const SLACK: f64 = 1e-6;
    let angle = circle.radius / EARTH_RADIUS;
    let (lon, lat) = (circle.center.lon, circle.center.lat);
    let reach = angle.to_degrees() + SLACK;
    let lats = (lat - reach, lat + reach);
    // A circle around a pole passes every longitude.
    if !(lats.0 > -90.0 && lats.1 < 90.0) {
        return Bounds { lat: lats, lon: [AROUND, NONE] };
    }
    let ratio = angle.sin() / lat.to_radians().cos();
    let reach = if ratio < 1.0 { ratio.asin().to_degrees() + SLACK } else { 180.0 };
    let (left, right) = (lon - reach, lon + reach);
    let lon = if reach >= 180.0 {
        [AROUND, NONE]
    } else if left < -180.0 {
        [(left + 360.0, 180.0), (-180.0, right)]
    } else if right > 180.0 {
        [(left, 180.0), (-180.0, right - 360.0)]
    } else {
        [(left, right), NONE]
    };
    Bounds { lat: lats, lon }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(lon: f64, lat: f64) -> GeoPoint {
        GeoPoint::new(lon, lat).unwrap()
    }

    fn ring(points: &[(f64, f64)]) -> GeoRing {
        GeoRing::new(points.iter().map(|&(lon, lat)| at(lon, lat)).collect()).unwrap()
    }

    #[test]
    fn distances_are_those_of_the_mean_sphere() {
        // One degree along a great circle.
        assert!((at(0.0, 0.0).metres_to(at(1.0, 0.0)) - 111_195.080_2).abs() < 0.01);
        assert!((at(179.5, 0.0).metres_to(at(-179.5, 0.0)) - 111_195.080_2).abs() < 0.01);
        let (berlin, moscow) = (at(13.40, 52.52), at(37.62, 55.75));
        assert!((berlin.metres_to(moscow) - 1_610_000.0).abs() < 3_000.0);
    }

    #[test]
    fn the_boundary_of_an_area_is_not_inside() {
        let area = GeoBox { top_left: at(1.0, 5.0), bottom_right: at(3.0, 2.0) };
        assert!(area.contains(at(2.0, 3.0)) && !area.contains(at(1.0, 3.0)) && !area.contains(at(2.0, 5.0)));
        let around = GeoBox { top_left: at(170.0, 5.0), bottom_right: at(-170.0, 2.0) };
        assert!(around.contains(at(180.0, 3.0)) && around.contains(at(-175.0, 3.0)));
        assert!(!around.contains(at(0.0, 3.0)) && !around.contains(at(170.0, 3.0)));
        let center = at(0.0, 0.0);
        let radius = center.metres_to(at(1.0, 0.0));
        assert!(!GeoRadius { center, radius }.contains(at(1.0, 0.0)));
        assert!(GeoRadius { center, radius: radius + 0.1 }.contains(at(1.0, 0.0)));
    }

    #[test]
    fn polygons_have_holes_and_exclude_their_lines() {
        let polygon = GeoPolygon {
            exterior: ring(&[(0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (0.0, 10.0), (0.0, 0.0)]),
            interiors: Some(vec![ring(&[(4.0, 4.0), (6.0, 4.0), (6.0, 6.0), (4.0, 6.0), (4.0, 4.0)])]),
        };
        assert!(polygon.contains(at(1.0, 1.0)) && polygon.contains(at(5.0, 7.0)));
        for outside in
            [(5.0, 5.0), (4.0, 5.0), (4.0, 4.0), (0.0, 3.0), (10.0, 10.0), (11.0, 5.0), (-1.0, 4.0)]
        {
            assert!(!polygon.contains(at(outside.0, outside.1)), "{outside:?}");
        }
        assert!(GeoRing::new(vec![at(0.0, 0.0); 3]).is_err());
        assert!(GeoRing::new(vec![at(0.0, 0.0), at(1.0, 0.0), at(1.0, 1.0), at(0.0, 1.0)]).is_err());
    }

    #[test]
    fn the_bounds_of_an_area_hold_all_of_it() {
        let seed = 11;
        let mut random = fastrand::Rng::with_seed(seed);
        let mut inside = 0;
        for _ in 0..200_000 {
            let mut place = || at(random.f64() * 360.0 - 180.0, (random.f64() * 180.0 - 90.0).round());
            let (center, place) = (place(), place());
            let circle = GeoRadius { center, radius: random.f64() * 5_000_000.0 };
            if circle.contains(place) {
                inside += 1;
                let bounds = Area::Radius(&circle).bounds();
                let within = |(low, high): (f64, f64), at: f64| low <= at && at <= high;
                assert!(within(bounds.lat, place.lat), "seed {seed}: {circle:?} {place:?}");
                assert!(
                    bounds.lon.iter().any(|lon| within(*lon, place.lon)),
                    "seed {seed}: {circle:?} {place:?}"
                );
            }
        }
        assert!(inside > 1000, "seed {seed}");
    }
}
