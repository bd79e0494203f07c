// Runs a launch: a coroutine a thread, some blocks at a time, threads and blocks in a random order.
#include "memory.h"

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <set>
#include <tuple>
#include <ucontext.h>

static const size_t STACK = 1 << 17;
static const int SLOT = 40;             // a tensor's storage begins at (its number << SLOT) + MIDDLE
static const u64 MIDDLE = 1ull << 39;

struct Visit {
    u32 lanes;
    std::set<u64> sectors;
};

enum State { READY, AT_BARRIER, AT_EXCHANGE, DONE };

struct Block;

struct Thread {
    u32 number;
    Block* block;
    State state;
    // of an exchange
    u32 value, argument, site;
    Exchange exchange;
    // of the coroutine
    std::unique_ptr<char[]> stack;
    bool started;
    ucontext_t start;
    jmp_buf here;
    // of what it knows of other blocks
    u32 releases;
    bool learned;
    std::shared_ptr<const Known> known;
    std::vector<u32> visits;  // of each memory instruction
};

struct Block {
    u32 number, at[3], phase, done;
    std::vector<Thread> threads;
    std::vector<u8> bytes, written;
    std::unique_ptr<Memory> shared;
    std::map<std::tuple<u32, u32, u32>, Visit> visits;  // by memory instruction, warp, and how many before
};

// What Python hands over; emulator.py has the same.
struct Launch {
    const u8* parameters;
    u32 grid[3], threads;
    const Storage* storages;
    u32 n_storages, seed, yields, resident, ulps, traces;
    u64 weight;
    char fault[1024];
};

static Launch* launch;
static std::vector<Memory> memories;
static std::mt19937 numbers;
static jmp_buf scheduler;
static std::map<u64, Known> released;
static std::map<u32, std::array<u64, 3>> sums;  // by memory instruction: a warp's requests, lanes, sectors

static u32 random_below(u32 n) { return numbers() % n; }

template <class T> static void shuffle(std::vector<T>& items) {
    if (launch->seed)
        for (size_t i = items.size(); i > 1; i--) std::swap(items[i - 1], items[random_below(i)]);
}

static void suspend(Thread& t) {
    if (!_setjmp(t.here)) _longjmp(scheduler, 1);
}

static void run_thread(u32 low, u32 high) {
    Thread& t = *(Thread*)((u64)high << 32 | low);
    kernel(t);
    t.state = DONE;
    t.block->done++;
    suspend(t);
}

static __attribute__((noinline)) void resume(Thread& t) {
    if (_setjmp(scheduler)) return;
    if (t.started) _longjmp(t.here, 1);
    t.started = true;
    setcontext(&t.start);
}

static std::string who(const Thread& t) {
    const Block& b = *t.block;
    char text[96];
    snprintf(text, sizeof text, "thread %u of block %u (%u, %u, %u) after %u barriers", t.number, b.number, b.at[0],
             b.at[1], b.at[2], b.phase);
    return text;
}

// The first fault ends the launch.
static void fail(Thread& t, u32 site, const std::string& text) {
    snprintf(launch->fault, sizeof launch->fault, "%s, by %s, %s", text.c_str(), sites[site], who(t).c_str());
}

u32 thread_number(const Thread& t) { return t.number; }
u32 block_number(const Thread& t, int axis) { return t.block->at[axis]; }
const u8* parameters(const Thread&) { return launch->parameters; }
void weigh(Thread&, u32 weight) { launch->weight += weight; }

static void note_visit(Thread& t, u64 address, u32 n, u32 site) {
    if (t.visits.size() <= site) t.visits.resize(site + 1);
    Visit& visit = t.block->visits[{site, t.number / 32, t.visits[site]++}];
    visit.lanes++;
    for (u64 sector = address / 32; sector <= (address + n - 1) / 32; sector++) visit.sectors.insert(sector);
}

static void add_up_visits(Block& block) {
    for (auto& [key, visit] : block.visits) {
        auto& sum = sums[std::get<0>(key)];
        sum[0]++, sum[1] += visit.lanes, sum[2] += visit.sectors.size();
    }
    block.visits.clear();
}

u8* touch(Thread& t, Space space, u64 address, u32 n, Access access, u32 site, const void* values) {
    if (launch->yields && random_below(1000) < launch->yields) suspend(t);
    Block& block = *t.block;
    u64 slot = address >> SLOT;
    if (space == GLOBAL && slot >= memories.size()) {
        fail(t, site, "out of bounds: address " + std::to_string(address) + " is no tensor's");
        suspend(t);
    }
    Memory& memory = space == SHARED ? *block.shared : memories[slot];
    s64 offset = space == SHARED ? address : (s64)((address & ((1ull << SLOT) - 1)) - MIDDLE);
    Observer by = {{block.number, block.phase, t.releases, (u16)t.number}, t.known.get()};
    std::string fault = memory.touch(access, offset, n, values, by);
    if (!fault.empty()) {
        fail(t, site, fault);
        suspend(t);
    }
    if (launch->traces && space == GLOBAL) note_visit(t, address, n, site);
    return memory.data + offset;
}

void synchronise(Thread& t, u64 address, Order order) {
    Known& place = released[address];
    if (order & ACQUIRE) {
        auto known = t.known ? std::make_shared<Known>(*t.known) : std::make_shared<Known>();
        known->join(place);
        t.known = known, t.learned = true;
    }
    if (order & RELEASE) {
        if (t.known) place.join(*t.known);
        u32 block = t.block->number;
        place.phases[block] = std::max(place.phases[block], t.block->phase);
        place.releases[Known::name(block, t.number)] = ++t.releases;
    }
}

void barrier(Thread& t, u32 site) {
    t.state = AT_BARRIER, t.site = site;
    suspend(t);
}

u32 exchange(Thread& t, u32 value, Exchange exchange, u32 argument, u32 site) {
    t.state = AT_EXCHANGE, t.value = value, t.exchange = exchange, t.argument = argument, t.site = site;
    suspend(t);
    return t.value;
}

f32 approximate(Thread&, f32 value) {
    if (!launch->ulps || !std::isfinite(value) || value == 0) return value;
    u32 bits = __builtin_bit_cast(u32, value);
    return __builtin_bit_cast(f32, bits + random_below(2 * launch->ulps + 1) - launch->ulps);
}

static u32 exchanged(const Thread& t, u32 lane, const u32* values, u32 n) {
    u32 found = values[lane], other = lane;
    switch (t.exchange) {
        case BFLY: other = lane ^ t.argument; break;
        case UP: other = lane >= t.argument ? lane - t.argument : lane; break;
        case DOWN: other = lane + t.argument; break;
        case IDX: other = t.argument; break;
        case BALLOT:
            found = 0;
            for (u32 i = 0; i < n; i++) found |= (values[i] != 0) << i;
            return found;
        default:
            for (u32 i = 0; i < n; i++) {
                if (i == lane) continue;
                if (t.exchange == ADD) found += values[i];
                if (t.exchange == MAX) found = largest<s32>(found, values[i]);
                if (t.exchange == MIN) found = least<s32>(found, values[i]);
            }
            return found;
    }
    return other < n ? values[other] : found;
}

// Let the warps go on of which all threads are at an exchange.
static bool exchange_in_warps(Block& block) {
    bool moved = false;
    for (size_t first = 0; first < block.threads.size(); first += 32) {
        u32 values[32], n = std::min<size_t>(32, block.threads.size() - first);
        Thread* warp = &block.threads[first];
        bool all = true;
        for (u32 i = 0; i < n; i++) {
            all = all && warp[i].state == AT_EXCHANGE;
            values[i] = warp[i].value;
        }
        if (!all) continue;
        moved = true;
        for (u32 i = 0; i < n; i++) {
            if (warp[i].site != warp[0].site) fail(warp[i], warp[i].site, "a warp has parted at an exchange");
            warp[i].value = exchanged(warp[i], i, values, n);
            warp[i].state = READY;
        }
    }
    return moved;
}

// Let a block go on of which all threads are at a barrier or done.
static bool pass_barrier(Block& block) {
    bool learned = false;
    for (Thread& t : block.threads) {
        if (t.state != AT_BARRIER && t.state != DONE) return false;
        learned = learned || t.learned;
    }
    if (block.done == block.threads.size()) return false;
    auto known = std::make_shared<Known>();
    for (Thread& t : block.threads)
        if (learned && t.known) known->join(*t.known);
    block.phase++;
    for (Thread& t : block.threads) {
        if (t.state == AT_BARRIER) t.state = READY;
        if (learned) t.known = known, t.learned = false;
    }
    return true;
}

// Run each thread that can go on until it waits; returns whether anything moved.
static bool step(Block& block) {
    std::vector<Thread*> ready;
    for (Thread& t : block.threads)
        if (t.state == READY) ready.push_back(&t);
    shuffle(ready);
    for (Thread* t : ready) {
        resume(*t);
        if (launch->fault[0]) return true;
    }
    bool exchanged = exchange_in_warps(block);
    return pass_barrier(block) || exchanged || !ready.empty();
}

static void begin(Block& block, u32 number) {
    u32* grid = launch->grid;
    block.number = number, block.phase = block.done = 0;
    block.at[0] = number % grid[0], block.at[1] = number / grid[0] % grid[1], block.at[2] = number / grid[0] / grid[1];
    block.bytes.assign(shared_bytes, 0xA5);
    block.written.assign(shared_bytes, 0);
    Storage storage = {block.bytes.data(), shared_bytes, block.written.data(), "shared memory", 1};
    block.shared.reset(new Memory(storage, !launch->traces));
    if (block.threads.empty()) block.threads = std::vector<Thread>(launch->threads);
    for (u32 i = 0; i < launch->threads; i++) {
        Thread& t = block.threads[i];
        if (!t.stack) t.stack.reset(new char[STACK]);
        t.number = i, t.block = &block, t.state = READY, t.started = false, t.releases = 0, t.learned = false;
        t.known.reset(), t.visits.clear();
        getcontext(&t.start);
        t.start.uc_stack.ss_sp = t.stack.get();
        t.start.uc_stack.ss_size = STACK;
        t.start.uc_link = nullptr;
        makecontext(&t.start, (void (*)())run_thread, 2, (u32)(u64)&t, (u32)((u64)&t >> 32));
    }
}

static void run_blocks() {
    u32 n = launch->grid[0] * launch->grid[1] * launch->grid[2], begun = 0, ended = 0;
    std::vector<u32> order(n);
    for (u32 i = 0; i < n; i++) order[i] = i;
    shuffle(order);
    std::vector<Block> pool(std::min(launch->resident, n));
    std::vector<Block*> live;
    std::vector<Block*> idle;
    for (Block& block : pool) idle.push_back(&block);
    while (ended < n) {
        for (; begun < n && !idle.empty(); idle.pop_back(), begun++) {
            begin(*idle.back(), order[begun]);
            live.push_back(idle.back());
        }
        bool moved = false;
        std::vector<Block*> rest;
        shuffle(live);
        for (Block* block : live) {
            moved = step(*block) || moved;
            if (launch->fault[0]) return;
            bool over = block->done == launch->threads;
            (over ? idle : rest).push_back(block);
            ended += over;
            if (over) add_up_visits(*block);
        }
        live = rest;
        if (!moved) {
            snprintf(launch->fault, sizeof launch->fault, "deadlock: %zu blocks wait for ever", live.size());
            return;
        }
    }
}

// Run a launch; its fault is empty if it is sound.
extern "C" void run(Launch* asked) {
    launch = asked;
    launch->weight = 0, launch->fault[0] = 0;
    numbers.seed(launch->seed);
    released.clear(), sums.clear();
    for (u32 i = 0; i < launch->n_storages; i++) memories.emplace_back(launch->storages[i], !launch->traces);
    run_blocks();
    memories.clear();
}

// What the last traced launch's memory instructions did: for each its number, a warp's requests, lanes and sectors.
// Returns how many there are; `into` may be null.
extern "C" u32 traffic(u64* into) {
    for (auto& [site, sum] : sums) {
        if (!into) break;
        u64* row = into;
        row[0] = site, row[1] = sum[0], row[2] = sum[1], row[3] = sum[2];
        into += 4;
    }
    return sums.size();
}
