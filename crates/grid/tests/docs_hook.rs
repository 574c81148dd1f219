//! The example of `docs/hooks.md`: it compiles, and it is the one that the page shows.
#![allow(clippy::unwrap_used, unreachable_pub)] // a test, and code as a reader would write it

// The page's example begins here.
use grid_head::{ActivationHook, HookFuture};
use grid_types::boost::Boost;

struct Tell;

impl ActivationHook for Tell {
    fn name(&self) -> String {
        "tell".to_owned()
    }
    fn on_boost_activated(&self, boost: Boost) -> HookFuture {
        Box::pin(async move {
            // Err(text) is journalled as `failed`; Ok("skipped: why") as `skipped`.
            Ok(format!("{} lends {} to {}", boost.lender, boost.amount, boost.borrower))
        })
    }
}
// It ends here.

#[test]
fn the_page_shows_what_compiles() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/hooks.md")).unwrap();
    let shown = page.split_once("```rust\n").and_then(|(_, rest)| rest.split_once("```")).unwrap().0;
    let (_, rest) = include_str!("docs_hook.rs").split_once("begins here.\n").unwrap();
    let (here, _) = rest.split_once("// It ends here.\n").unwrap();
    assert_eq!(shown, here);
    assert_eq!(Tell.name(), "tell");
}
