//! What the endpoints in the OpenAI shape have in common: errors and pages.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use crate::error::{ApiError, ApiResult};
use crate::routes::openai;

pub(crate) fn shaped(result: ApiResult<Value>) -> Response {
    match result {
        Ok(body) => Json(body).into_response(),
        Err(error) => refusal(&error),
    }
}

pub(crate) fn refusal(error: &ApiError) -> Response {
    openai::refusal(error, None)
}

/// Which part of a list is wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(crate) struct Paging {
    /// Items at most: 20 when absent, and up to 100; of files up to 10,000.
    limit: Option<usize>,
    /// By time of creation: `asc` or `desc`, which is the default.
    order: Option<String>,
    /// Only what comes after the item of this id.
    after: Option<String>,
    /// Only what comes before the item of this id.
    before: Option<String>,
}

/// An item of a list, and when it was created.
pub(crate) struct Item {
    pub(crate) id: String,
    pub(crate) created_at: u64,
    pub(crate) body: Value,
}

impl Paging {
    pub(crate) fn page(&self, mut items: Vec<Item>, usual: usize, most: usize) -> ApiResult<Value> {
        let limit = self.limit.unwrap_or(usual);
        if !(1..=most).contains(&limit) {
            return Err(ApiError::bad_request(format!("limit must be from 1 to {most}, got {limit}")));
        }
        items.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        match self.order.as_deref() {
            None | Some("desc") => items.reverse(),
            Some("asc") => {}
            Some(order) => {
                return Err(ApiError::bad_request(format!("order must be asc or desc, got {order}")));
            }
        }
        let place = |id: &Option<String>| match id {
            None => Ok(None),
            Some(id) => match items.iter().position(|item| item.id == *id) {
                Some(place) => Ok(Some(place)),
                None => Err(ApiError::bad_request(format!("there is no `{id}` in this list to go on from"))),
            },
        };
        let (after, before) = (place(&self.after)?, place(&self.before)?);
        items.truncate(before.unwrap_or(items.len()));
        items.drain(..after.map_or(0, |place| place + 1).min(items.len()));
        let has_more = items.len() > limit;
        items.truncate(limit);
        let id = |item: Option<&Item>| item.map(|item| item.id.clone());
        let (first, last) = (id(items.first()), id(items.last()));
        let data: Vec<Value> = items.into_iter().map(|item| item.body).collect();
        Ok(json!({
            "object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(paging: &Value, limit: usize) -> (Vec<String>, bool) {
        let paging: Paging = serde_json::from_value(paging.clone()).unwrap();
        let item = |number: u64| Item {
            id: format!("i{number}"),
            created_at: number / 2,
            body: json!({ "id": format!("i{number}") }),
        };
        let page = paging.page((0..7).map(item).collect(), limit, 100).unwrap();
        let data = page["data"].as_array().unwrap();
        let ids = data.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect();
        (ids, page["has_more"].as_bool().unwrap())
    }

    #[test]
    fn pages_follow_one_another_in_either_order() {
        let of = |numbers: &[u64]| numbers.iter().map(|number| format!("i{number}")).collect::<Vec<_>>();
        assert_eq!(ids(&json!({}), 3), (of(&[6, 5, 4]), true));
        assert_eq!(ids(&json!({"after": "i4"}), 20), (of(&[3, 2, 1, 0]), false));
        assert_eq!(ids(&json!({"order": "asc", "limit": 2, "after": "i2"}), 20), (of(&[3, 4]), true));
        assert_eq!(ids(&json!({"order": "asc", "before": "i2"}), 20), (of(&[0, 1]), false));
    }

    #[test]
    fn what_is_no_page_is_refused() {
        for wrong in
            [json!({"limit": 0}), json!({"limit": 101}), json!({"order": "up"}), json!({"after": "x"})]
        {
            let paging: Paging = serde_json::from_value(wrong).unwrap();
            assert!(paging.page(Vec::new(), 20, 100).is_err());
        }
    }
}
