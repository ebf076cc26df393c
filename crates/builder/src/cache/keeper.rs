//! Keeps new layers while the build goes on: one thread that puts entries into the cache, one after the other. A cache
//! that refuses is told of once, and then left alone; no build fails for it. One that refuses to move a tag takes others.

use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use zuwai_registry::{Client, Image, Layer, Reference, RegistryError};

use super::store::Cache;

/// See the module.
pub(crate) struct Keeper {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<Option<String>>>,
}

/// One entry.
pub(super) struct Order {
    pub(super) tag: String,
    pub(super) image: Image,
    /// The layer to push to these afterwards: a registry that has it by then mounts it, and it is sent once.
    pub(super) then: Option<(Layer, Vec<Reference>)>,
}

impl Keeper {
    pub(super) fn start(cache: Arc<dyn Cache>, client: Client) -> Keeper {
        let (orders, coming) = mpsc::channel::<Order>();
        let work = move || {
            let (mut refused, mut over) = (None, false);
            for order in coming {
                if !over && let Err(error) = cache.put(&order.tag, &order.image) {
                    over = !error.is_immutable_tag();
                    if over {
                        refused = Some(warning(&*cache, &error));
                    } else {
                        refused = refused.or_else(|| Some(unmoved(&*cache, &error)));
                    }
                }
                if let Some((layer, destinations)) = &order.then {
                    client.push_ahead(layer, destinations);
                }
            }
            refused
        };
        let thread = std::thread::Builder::new().name("cache".to_owned()).spawn(work);
        Keeper { orders: Some(orders), thread: thread.ok() }
    }

    pub(super) fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // The thread ends with the orders alone; should it be gone, nothing is kept.
            let _ = orders.send(order);
        }
    }

    /// Waits until all is kept. What went wrong is a warning.
    pub(super) fn finish(mut self) -> Option<String> {
        self.orders = None;
        self.thread.take().and_then(|thread| thread.join().ok().flatten())
    }
}

fn unmoved(cache: &dyn Cache, error: &RegistryError) -> String {
    format!(
        "the cache {} moves no tags: entries that are used do not live longer than --cache-ttl, and the next build may not \
         know why it misses ({error})",
        cache.name()
    )
}

fn warning(cache: &dyn Cache, error: &RegistryError) -> String {
    let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!(
        "the cache {} does not take new layers, and the build goes on without keeping them: {error}{hint}",
        cache.name()
    )
}
