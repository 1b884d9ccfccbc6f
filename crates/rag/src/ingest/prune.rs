//! Documents whose file is gone.

use cairn_index::{Condition, Filter, Scalar, Scroll, Test};

use super::walk::Root;
use super::{Event, Run};
use crate::error::Result;
use crate::stored::Known;

/// Documents that are looked at, and removed, together.
const PAGE: usize = 512;

impl Run<'_> {
    /// Removes the documents of these folders that were not seen.
    pub(super) fn prune(&self, roots: &[Root]) -> Result<()> {
        if !self.options.prune || self.is_over() {
            return Ok(());
        }
        if let Some(reason) = self.lost.lock().clone() {
            self.tell(Event::NotPruned { reason });
            return Ok(());
        }
        let folders = roots.iter().filter_map(Root::folder).map(|root| Scalar::Keyword(root.to_owned()));
        let of_folders =
            Condition::Field { key: "source.root".parse()?, tests: vec![Test::Any(folders.collect())] };
        let filter = Some(Filter::must(of_folders));
        let Some(collection) = self.target.collection() else { return Ok(()) };
        let mut from = None;
        loop {
            let scroll = Scroll { filter: filter.clone(), limit: PAGE, parts: Known::parts(), from };
            let page = collection.scroll(&scroll)?;
            let documents = page.records.into_iter().filter_map(Known::of);
            let gone: Vec<Known> = documents.filter(|known| !self.has_seen(&known.id)).collect();
            if !self.options.dry_run && !gone.is_empty() {
                self.target.remove(&gone)?;
            }
            for document in gone {
                self.tell(Event::Removed { id: document.id });
            }
            match page.next {
                Some(next) if !self.is_over() => from = Some(next),
                _ => return Ok(()),
            }
        }
    }
}
