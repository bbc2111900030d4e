//! Links the addon against the runtime that loads it.

fn main() {
    napi_build::setup();
}
