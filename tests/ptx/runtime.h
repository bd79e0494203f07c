// The machine that a translated kernel runs on: what it calls, and what it defines.
#pragma once
#include "arithmetic.h"

enum Space { GLOBAL, SHARED };
enum Access { READ, WRITE, ATOMIC };
enum Order { RELAXED = 0, ACQUIRE = 1, RELEASE = 2, ACQ_REL = 3 };
enum Exchange { BFLY, UP, DOWN, IDX, ADD, MAX, MIN, BALLOT };

struct Thread;

// Special registers.
u32 thread_number(const Thread&);
u32 block_number(const Thread&, int axis);

// A kernel's parameters, as they lie in memory.
const u8* parameters(const Thread&);

// Check an access and note it, perhaps after others had their turn; returns where the bytes lie. `values`: of a store.
u8* touch(Thread&, Space, u64 address, u32 bytes, Access, u32 site, const void* values = nullptr);

// Make visible to a thread what those before it released at an address, or the other way round.
void synchronise(Thread&, u64 address, Order);

// Wait for the block's threads.
void barrier(Thread&, u32 site);

// Wait for the warp's threads and take one's value, or what is made of all.
u32 exchange(Thread&, u32 value, Exchange, u32 argument, u32 site);

// The result of an approximate instruction, moved by some units in the last place.
f32 approximate(Thread&, f32);

// Count instructions.
void weigh(Thread&, u32);

// Defined by the kernel: its code, where its memory instructions stand, and the bytes of shared memory of a block.
void kernel(Thread&);
extern const char* const sites[];
extern const u32 shared_bytes;

template <class T> static inline T parameter(const Thread& t, u32 offset) {
    T value;
    memcpy(&value, parameters(t) + offset, sizeof value);
    return value;
}

template <class T, int N> static inline std::array<T, N> load(Thread& t, Space space, u64 address, u32 site) {
    std::array<T, N> values;
    memcpy(values.data(), touch(t, space, address, sizeof values, READ, site), sizeof values);
    return values;
}

template <class T, int N>
static inline void store(Thread& t, Space space, u64 address, std::array<T, N> values, u32 site) {
    memcpy(touch(t, space, address, sizeof values, WRITE, site, values.data()), values.data(), sizeof values);
}

// Replace a number by what `change` makes of it; returns the old one.
template <class T, class F>
static inline T atomic(Thread& t, Space space, u64 address, F change, Order order, u32 site) {
    u8* place = touch(t, space, address, sizeof(T), ATOMIC, site);
    T old, changed;
    memcpy(&old, place, sizeof old);
    changed = change(old);
    memcpy(place, &changed, sizeof changed);
    if (order != RELAXED) synchronise(t, address, order);
    return old;
}

// ldmatrix: N matrices of 8 rows of 16 bytes, whose addresses the warp's threads give; a thread gets 4 bytes of each.
template <int N> static inline std::array<u32, N> load_matrices(Thread& t, u64 address, u32 site) {
    u32 lane = thread_number(t) % 32;
    std::array<u32, N> values;
    for (int i = 0; i < N; i++) {
        u64 row = exchange(t, (u32)address, IDX, 8 * i + lane / 4, site);
        values[i] = load<u32, 1>(t, SHARED, row + lane % 4 * 4, site)[0];
    }
    return values;
}

// stmatrix, as ldmatrix the other way.
template <int N> static inline void store_matrices(Thread& t, u64 address, std::array<u32, N> values, u32 site) {
    u32 lane = thread_number(t) % 32;
    for (int i = 0; i < N; i++) {
        u64 row = exchange(t, (u32)address, IDX, 8 * i + lane / 4, site);
        store<u32, 1>(t, SHARED, row + lane % 4 * 4, {values[i]}, site);
    }
}
