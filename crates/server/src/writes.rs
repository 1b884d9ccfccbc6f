//! A write, carried out: texts are embedded, then one verb of the collection is
//! called.

use axum::http::StatusCode;
use cairn_embed::TextKind;
use cairn_index::{Applied, Collection, CollectionConfig, Point, PointId, Vector, Vectors, When, WrittenId};
use cairn_rag::Engine;

use crate::error::{ApiError, ApiResult};
use crate::infer::{Inferring, Usage, Wanted};
use crate::wire::vector::VectorsInput;
use crate::wire::writes::{
    DeletePayload, DeleteVectors, Operation, PointInput, SetPayload, UpdateVectors, UpsertPoints,
};

/// Carries out one write.
pub(crate) fn write(
    engine: &Engine,
    collection: &Collection,
    operation: Operation,
) -> ApiResult<(Applied, Option<Usage>)> {
    if !collection.takes_string_ids() {
        return carry_out(engine, collection, operation);
    }
    let ids = operation.ids();
    carry_out(engine, collection, operation).map_err(|error| as_written(error, &ids))
}

/// An error about an id, which is told as the client wrote it.
fn as_written(mut error: ApiError, ids: &[WrittenId]) -> ApiError {
    if error.status == StatusCode::NOT_FOUND
        && let Some(written) = ids.iter().find(|written| error.text.contains(&written.id.to_string()))
    {
        error.text = error.text.replace(&written.id.to_string(), &written.to_string());
    }
    error
}

fn carry_out(
    engine: &Engine,
    collection: &Collection,
    operation: Operation,
) -> ApiResult<(Applied, Option<Usage>)> {
    let plain = |applied: cairn_index::Result<Applied>| Ok((applied?, None));
    match operation {
        Operation::Upsert(upsert) => upsert_points(engine, collection, upsert),
        Operation::UpdateVectors(update) => update_vectors(engine, collection, update),
        Operation::Delete(of) => plain(collection.delete(of.selection()?)),
        Operation::SetPayload(SetPayload { payload, of, key }) => {
            plain(collection.set_payload(of.selection()?, payload, key))
        }
        // With a key, a value is put into its object as in a merge.
        Operation::OverwritePayload(SetPayload { payload, of, key: Some(key) }) => {
            plain(collection.set_payload(of.selection()?, payload, Some(key)))
        }
        Operation::OverwritePayload(SetPayload { payload, of, key: None }) => {
            plain(collection.replace_payload(of.selection()?, payload))
        }
        Operation::DeletePayload(DeletePayload { keys, of }) => {
            plain(collection.delete_payload(of.selection()?, keys))
        }
        Operation::ClearPayload(of) => {
            plain(collection.replace_payload(of.selection()?, cairn_index::Payload::new()))
        }
        Operation::DeleteVectors(DeleteVectors { vector, of }) => {
            if vector.is_empty() {
                return Err(ApiError::validation("vector: must specify vector names to delete"));
            }
            plain(collection.delete_vectors(of.selection()?, vector))
        }
    }
}

fn upsert_points(
    engine: &Engine,
    collection: &Collection,
    mut upsert: UpsertPoints,
) -> ApiResult<(Applied, Option<Usage>)> {
    let inputs = upsert.take_points()?;
    let when = When { mode: upsert.update_mode.unwrap_or_default(), filter: upsert.update_filter };
    let mut reading = Reading::new(collection);
    let mut points = Vec::with_capacity(inputs.len());
    for PointInput { id, vector, payload } in inputs {
        let vectors = reading.vectors(vector)?;
        points.push(Point { vectors, payload: payload.unwrap_or_default(), ..Point::empty(id) });
    }
    let usage = reading.embed(engine, |place, name, vector| {
        points[place].vectors.insert(name, vector);
    })?;
    Ok((collection.upsert_when(points, when)?, usage))
}

fn update_vectors(
    engine: &Engine,
    collection: &Collection,
    update: UpdateVectors,
) -> ApiResult<(Applied, Option<Usage>)> {
    let mut reading = Reading::new(collection);
    let mut points: Vec<(PointId, Vectors)> = Vec::with_capacity(update.points.len());
    for (place, point) in update.points.into_iter().enumerate() {
        if matches!(&point.vector, VectorsInput::Named(named) if named.is_empty()) {
            let text = format!("points[{place}].vector: must specify vectors to update for point");
            return Err(ApiError::validation(text));
        }
        points.push((point.id.id, reading.vectors(point.vector)?));
    }
    let usage = reading.embed(engine, |place, name, vector| {
        points[place].1.insert(name, vector);
    })?;
    Ok((collection.update_vectors(points, update.update_filter)?, usage))
}

/// Reads the vectors of one point after the other, and keeps what a model has
/// to make for the end, when all of it goes through the model together.
struct Reading {
    config: std::sync::Arc<CollectionConfig>,
    place: usize,
    missing: Vec<(usize, String, Wanted)>,
}

impl Reading {
    fn new(collection: &Collection) -> Self {
        Self { config: collection.config(), place: 0, missing: Vec::new() }
    }

    fn vectors(&mut self, input: VectorsInput) -> ApiResult<Vectors> {
        let place = self.place;
        self.place += 1;
        let mut vectors = Vectors::new();
        let named = match input {
            VectorsInput::Unnamed(vector) => vec![(String::new(), vector)],
            VectorsInput::Named(named) => named,
        };
        for (name, vector) in named {
            let refused = |text: String| {
                let name = if name.is_empty() { "" } else { "?." };
                ApiError::validation(format!("points[{place}].vector.{name}{text}"))
            };
            match vector.into_vector().map_err(refused)? {
                // No numbers at all are no vector, unless there should be one.
                Ok(Vector::Dense(values)) if values.is_empty() => {
                    if self.config.vectors.contains_key(&name) || !name.is_empty() {
                        return Err(ApiError::validation("dense vector must not be empty"));
                    }
                }
                Ok(vector) => drop(vectors.insert(name, vector)),
                Err(inference) => {
                    let wanted = Wanted::new(&self.config, &name, inference)?;
                    self.missing.push((place, name, wanted));
                }
            }
        }
        Ok(vectors)
    }

    fn embed(self, engine: &Engine, mut put: impl FnMut(usize, String, Vector)) -> ApiResult<Option<Usage>> {
        if self.missing.is_empty() {
            return Ok(None);
        }
        let mut inferring = Inferring::new(engine, TextKind::Passage);
        let (mut owners, mut wanted) = (Vec::new(), Vec::new());
        for (place, name, one) in self.missing {
            owners.push((place, name));
            wanted.push(one);
        }
        let vectors = inferring.vectors(wanted)?;
        for ((place, name), vector) in owners.into_iter().zip(vectors) {
            put(place, name, vector);
        }
        Ok(inferring.usage.some())
    }
}
