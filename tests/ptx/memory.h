// Memory that knows who touched it: bounds, alignment, bytes that nothing wrote, and races.
//
// Two accesses of which one writes must be ordered, or one of them may see what it should not: that is a race, whatever
// the order in which they happen to run here. Accesses are ordered within a thread; in a block by a barrier between
// them; between blocks by an atomic that releases after the one and an atomic on the same place that acquires before
// the other. A stamp says when an access was, and what a thread knows says which stamps lie before it.
#pragma once
#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "runtime.h"

static const u16 MANY = 0xffff;  // in place of a thread: several

// When an access was: by which thread of which block, after how many barriers of the block and releases of its own.
struct Stamp {
    u32 block, phase, releases;
    u16 thread;
};

// What happened before: the blocks' accesses before their phases, and single threads' up to so many releases.
struct Known {
    std::map<u32, u32> phases;
    std::map<u64, u32> releases;

    static u64 name(u32 block, u32 thread) { return (u64)block << 16 | thread; }

    void join(const Known& other) {
        for (auto& [block, phase] : other.phases) phases[block] = std::max(phases[block], phase);
        for (auto& [thread, count] : other.releases) releases[thread] = std::max(releases[thread], count);
    }

    bool covers(const Stamp& stamp) const {
        auto phase = phases.find(stamp.block);
        if (phase != phases.end() && stamp.phase < phase->second) return true;
        auto count = releases.find(name(stamp.block, stamp.thread));
        return count != releases.end() && stamp.releases < count->second;
    }
};

// Who looks: where its thread stands, and what it knows of others.
struct Observer {
    Stamp now;
    const Known* known;

    bool is_behind(const Stamp& stamp) const {
        if (stamp.block == now.block && (stamp.thread == now.thread || stamp.phase < now.phase)) return true;
        return known && known->covers(stamp);
    }
};

// Accesses to one element, of those that no later write has replaced; of each block the last.
struct Cell {
    bool stored = false;
    Stamp store;
    std::vector<Stamp> reads, atomics;

    static void add(std::vector<Stamp>& stamps, const Observer& by) {
        for (Stamp& stamp : stamps) {
            if (stamp.block != by.now.block) continue;
            bool together = stamp.phase == by.now.phase && stamp.thread != by.now.thread;
            stamp = by.now;
            if (together) stamp.thread = MANY;
            return;
        }
        stamps.push_back(by.now);
    }

    static const Stamp* unordered(const std::vector<Stamp>& stamps, const Observer& by) {
        for (const Stamp& stamp : stamps)
            if (!by.is_behind(stamp)) return &stamp;
        return nullptr;
    }

    // Note an access; returns the stamp of one that it races with, if any. To store what is there already (`again`) is
    // no more than to read it, and a block's threads may: redundant stores are sound however they are ordered.
    const Stamp* touch(Access access, const Observer& by, bool again) {
        const Stamp* other = stored && !by.is_behind(store) ? &store : nullptr;
        if (other && again && other->block == by.now.block) other = nullptr;
        if (!other && access != ATOMIC) other = unordered(atomics, by);
        if (!other && access != READ && !again) other = unordered(reads, by);
        if (other) return other;
        if (access == READ || again) {
            add(reads, by);
        } else if (access == ATOMIC) {
            add(atomics, by);
        } else {
            stored = true, store = by.now;
            reads.clear(), atomics.clear();
        }
        return nullptr;
    }
};

// A tensor's storage, as Python hands it over. Without `written` all of it counts as written.
struct Storage {
    u8* data;
    u64 bytes;
    u8* written;
    const char* name;
    u64 element;
};

// A storage, or the shared memory of a block.
struct Memory : Storage {
    std::vector<Cell> cells;

    Memory(const Storage& storage, bool finds_races) : Storage(storage) {
        if (finds_races) cells.resize(bytes / element + 1);
    }

    // Check and note an access; returns what is wrong with it, nothing if it is sound. `values`: what a write stores.
    std::string touch(Access access, s64 offset, u32 n, const void* values, const Observer& by) {
        if (offset < 0 || (u64)offset + n > bytes) return "out of bounds" + place(offset, n);
        if (offset % n) return "misaligned" + place(offset, n);
        bool again = access == WRITE && !memcmp(data + offset, values, n);
        for (u32 i = 0; written && i < n; i++) {
            again = again && written[offset + i];
            if (access != WRITE && !written[offset + i]) return "read, but never written" + place(offset, n);
            written[offset + i] = 1;
        }
        for (u64 i = offset / element; i <= (offset + n - 1) / element && i < cells.size(); i++) {
            const Stamp* other = cells[i].touch(access, by, again);
            if (other) return "race with " + who(*other) + place(offset, n);
        }
        return "";
    }

    std::string place(s64 offset, u32 n) const {
        std::string whole = std::to_string(bytes) + " of " + name;
        return ": " + std::to_string(n) + " bytes at " + std::to_string(offset) + " of " + whole;
    }

    static std::string who(const Stamp& stamp) {
        std::string thread = stamp.thread == MANY ? "several threads" : "thread " + std::to_string(stamp.thread);
        std::string barriers = std::to_string(stamp.phase) + " barriers";
        return thread + " of block " + std::to_string(stamp.block) + " after " + barriers;
    }
};
