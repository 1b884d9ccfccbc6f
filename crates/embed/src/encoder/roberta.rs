//! RoBERTa and its translations: BERT with positions that start after the
//! padding id.

use std::path::Path;

use super::bert::BertConfig;
use super::config::Config;
use crate::Result;

pub(super) fn config(folder: &Path) -> Result<Config> {
    let config = BertConfig::read(folder)?;
    let first_position = config.pad_token_id.unwrap_or(1) + 1;
    config.sizes(first_position)
}
