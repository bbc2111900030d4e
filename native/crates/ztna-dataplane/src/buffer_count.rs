//! Counts what a peer makes quiche hold: octets and heap blocks, by tunnel.
//!
//! Flow control bounds the octets of a stream and not what they cost: frames of one octet behind a gap
//! are a heap block of some 150 octets each. A `quiche::BufFactory` does not see them: in quiche 0.30
//! only the send side of streams and the datagram queues are made by it, while received stream data
//! (`stream/recv_buf.rs`) always use the default one. So the allocator counts.
//!
//! - **What is allocated while a [`MeterGuard`] is active is its meter's until it is freed**, wherever
//!   and whenever that is. There is nothing to balance: a guard around `recv` alone counts what the
//!   peer makes us hold, and memory from outside a guard is never subtracted.
//! - **Every block carries its owner** in one word before it, so that the count is exact after any
//!   path through quiche: read, reset, stop, close. One relaxed atomic operation each time a counted
//!   block comes or goes; one thread-local look for any other.
//! - Counted are the sizes asked for. BoringSSL allocates by itself and is not counted; nor is the
//!   malloc overhead, some 16 octets a block, and as much for the owner's word and its padding.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Every set of counters there is, in use or not: their sum is the process's.
static ALL: Mutex<Vec<&'static Counters>> = Mutex::new(Vec::new());

/// Those whose meter is gone. Blocks may outlive it for a moment.
static UNUSED: Mutex<VecDeque<&'static Counters>> = Mutex::new(VecDeque::new());

/// How many unused counters are looked at before others are made.
const REUSE_ATTEMPTS: usize = 8;

thread_local! {
    /// Whose the blocks are that this thread allocates.
    static CURRENT: Cell<Option<&'static Counters>> = const { Cell::new(None) };
}

/// The count of one tunnel.
#[derive(Debug)]
pub(crate) struct Meter {
    counters: &'static Counters,
}

impl Meter {
    /// Creates a meter that counts nothing yet.
    pub(crate) fn new() -> Self {
        let _uncounted = MeterGuard::suspend();
        let mut unused = lock(&UNUSED);
        for _ in 0..REUSE_ATTEMPTS.min(unused.len()) {
            let Some(counters) = unused.pop_back() else { break };
            if counters.load() == (0, 0) {
                return Self { counters };
            }
            unused.push_front(counters);
        }
        drop(unused);

        // Never freed, because blocks point to it; used again by the next tunnel.
        let counters: &'static Counters = Box::leak(Box::default());
        lock(&ALL).push(counters);
        Self { counters }
    }

    /// Returns how many octets are held.
    pub(crate) fn bytes(&self) -> usize {
        self.counters.load().0
    }

    /// Returns how many heap blocks are held.
    pub(crate) fn buffers(&self) -> usize {
        self.counters.load().1
    }

    /// Returns how many octets are held for all meters of the process. Costs one look at each.
    pub(crate) fn process_bytes() -> usize {
        lock(&ALL).iter().map(|counters| counters.load().0).sum()
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let _uncounted = MeterGuard::suspend();
        lock(&UNUSED).push_back(self.counters);
    }
}

/// While it lives, what this thread allocates is counted for a meter.
#[derive(Debug)]
pub(crate) struct MeterGuard {
    previous: Option<&'static Counters>,
    /// It belongs to its thread.
    _not_send: PhantomData<*const ()>,
}

impl MeterGuard {
    /// Counts for `meter` until dropped. A guard inside a guard takes over until it ends.
    #[must_use = "nothing is counted once the guard is dropped"]
    pub(crate) fn enter(meter: &Meter) -> Self {
        Self::replace(Some(meter.counters))
    }

    fn suspend() -> Self {
        Self::replace(None)
    }

    fn replace(counters: Option<&'static Counters>) -> Self {
        Self { previous: CURRENT.replace(counters), _not_send: PhantomData }
    }
}

impl Drop for MeterGuard {
    fn drop(&mut self) {
        CURRENT.set(self.previous);
    }
}

/// Octets in the lower [`BYTES_BITS`], blocks above: one operation changes both.
#[derive(Debug, Default)]
struct Counters(AtomicU64);

/// 1 TiB: more than a process has; and 16 million blocks: sixteen times the count that ends a tunnel.
const BYTES_BITS: u32 = 40;
const ONE_BLOCK: u64 = 1 << BYTES_BITS;

impl Counters {
    fn add_block(&self, bytes: usize) {
        self.0.fetch_add(ONE_BLOCK.wrapping_add(bytes as u64), Ordering::Relaxed);
    }

    fn remove_block(&self, bytes: usize) {
        self.0.fetch_sub(ONE_BLOCK.wrapping_add(bytes as u64), Ordering::Relaxed);
    }

    fn resize_block(&self, from: usize, to: usize) {
        self.0.fetch_add((to as u64).wrapping_sub(from as u64), Ordering::Relaxed);
    }

    fn load(&self) -> (usize, usize) {
        let packed = self.0.load(Ordering::Relaxed);
        ((packed & (ONE_BLOCK - 1)) as usize, (packed >> BYTES_BITS) as usize)
    }
}

/// Precedes every block of the process.
type Header = Option<&'static Counters>;

/// Room for the header that keeps the alignment `malloc` gives.
const HEADER_ROOM: usize = 2 * size_of::<usize>();

/// The system's allocator, with an owner to each block.
struct CountingAllocator;

impl CountingAllocator {
    /// Returns the layout with room for the header, and where the caller's part of it begins.
    fn padded(layout: Layout) -> Option<(Layout, usize)> {
        let offset = layout.align().max(HEADER_ROOM);
        let size = layout.size().checked_add(offset)?;
        Some((Layout::from_size_align(size, offset).ok()?, offset))
    }

    /// Writes the header of a fresh block and counts it.
    ///
    /// # Safety
    ///
    /// `base` is null or a block of at least `offset` octets, aligned for `offset`, which is a multiple
    /// of [`HEADER_ROOM`].
    unsafe fn tag(base: *mut u8, offset: usize, bytes: usize) -> *mut u8 {
        if base.is_null() {
            return base;
        }
        let owner: Header = CURRENT.get();
        if let Some(counters) = owner {
            counters.add_block(bytes);
        }
        // SAFETY: the block has at least `offset` octets.
        let block = unsafe { base.add(offset) };
        // SAFETY: `offset` is at least `HEADER_ROOM`, so the header lies in the block.
        let header = unsafe { block.cast::<Header>().sub(1) };
        // SAFETY: it is ours to write, and aligned because `block` is for two words.
        unsafe { header.write(owner) };
        block
    }

    /// Reads the header of a block.
    ///
    /// # Safety
    ///
    /// `block` came from [`Self::tag`].
    unsafe fn owner(block: *mut u8) -> Header {
        // SAFETY: `tag` left room for the header there.
        let header = unsafe { block.cast::<Header>().sub(1) };
        // SAFETY: `tag` wrote it, and nobody else knows of it.
        unsafe { header.read() }
    }
}

// SAFETY: every block is one of the system's allocator, longer by an offset that depends on its layout
// alone, so that `dealloc` and `realloc` find its beginning again; the alignment of the caller's part
// is that of its layout because the offset is a multiple of it. Nothing here allocates or unwinds.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((padded, offset)) = Self::padded(layout) else { return ptr::null_mut() };
        // SAFETY: the size is at least `offset`, hence not zero.
        let base = unsafe { System.alloc(padded) };
        // SAFETY: `base` has the padded layout.
        unsafe { Self::tag(base, offset, layout.size()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some((padded, offset)) = Self::padded(layout) else { return ptr::null_mut() };
        // SAFETY: the size is at least `offset`, hence not zero.
        let base = unsafe { System.alloc_zeroed(padded) };
        // SAFETY: `base` has the padded layout.
        unsafe { Self::tag(base, offset, layout.size()) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some((padded, offset)) = Self::padded(layout) else { return };
        // SAFETY: the caller got `block` from this allocator.
        if let Some(counters) = unsafe { Self::owner(block) } {
            counters.remove_block(layout.size());
        }
        // SAFETY: `alloc` added the same offset, for the layout is the same.
        let base = unsafe { block.sub(offset) };
        // SAFETY: `alloc` got `base` from the system with this layout.
        unsafe { System.dealloc(base, padded) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let Some((padded, offset)) = Self::padded(layout) else { return ptr::null_mut() };
        let new_padded =
            Layout::from_size_align(new_size, layout.align()).ok().and_then(Self::padded);
        let Some((new_padded, _)) = new_padded else { return ptr::null_mut() };
        // SAFETY: `alloc` added the same offset, for the layout is the same.
        let base = unsafe { block.sub(offset) };
        // SAFETY: `alloc` got `base` from the system with this layout; the size is not zero.
        let base = unsafe { System.realloc(base, padded, new_padded.size()) };
        if base.is_null() {
            return base;
        }
        // SAFETY: the block has at least `offset` octets, for the alignment is the same.
        let block = unsafe { base.add(offset) };
        // SAFETY: the header moved with the octets before `offset`.
        if let Some(counters) = unsafe { Self::owner(block) } {
            counters.resize_block(layout.size(), new_size);
        }
        block
    }
}

/// The lists are whole after any panic: every operation on them is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
