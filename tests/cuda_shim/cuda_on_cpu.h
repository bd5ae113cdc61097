// CUDA C on the CPU, to test kernels where there is no GPU: blocks run one after another, the threads of a block
// as fibres that change places at a barrier. In three orders, so that a missing barrier shows.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
// One block at a time: one copy of shared memory is enough. It lies in a section of its own, which is filled with
// NaN (and -1) before each block, so that what is read before it is written shows.
#define __shared__ static __attribute__((section("shared_memory")))
#define EDGE __attribute__((weak, visibility("hidden")))
extern char __start_shared_memory[] EDGE, __stop_shared_memory[] EDGE;  // set by the linker

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
static dim3 gridDim, blockDim, blockIdx, threadIdx;
using std::max;
using std::min;

namespace on_cpu {
enum State { RUNNING, WAITING, ENDED };
struct Fibre {
    ucontext_t context;
    dim3 index;
    State state;
};
const size_t STACK = 1 << 16;
static ucontext_t scheduler;
static std::vector<Fibre> fibres;
static Fibre *current;
static std::function<void()> kernel;
static int order;  // 0: forward, 1: backward, 2: scrambled

static size_t turn(size_t k, size_t n) { return order == 0 ? k : order == 1 ? n - 1 - k : (k * 7919 + 13) % n; }

static void begin() {
    kernel();
    current->state = ENDED;
    swapcontext(&current->context, &scheduler);
}

// Byte by byte: between its arrays are the red zones of AddressSanitizer, which watches memset.
__attribute__((no_sanitize_address)) static void spoil_shared_memory() {
    for (volatile char *byte = __start_shared_memory; byte < __stop_shared_memory; byte++) *byte = (char)0xff;
}

static void run_block() {
    static std::vector<char *> stacks;
    spoil_shared_memory();
    const size_t n = (size_t)blockDim.x * blockDim.y * blockDim.z;
    while (stacks.size() < n) stacks.push_back((char *)malloc(STACK));
    fibres.assign(n, Fibre());
    for (size_t i = 0; i < n; i++) {
        Fibre &f = fibres[i];
        f.index = dim3(i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y);
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = stacks[i];
        f.context.uc_stack.ss_size = STACK;
        makecontext(&f.context, begin, 0);
    }
    for (;;) {
        for (size_t k = 0; k < n; k++) {
            current = &fibres[turn(k, n)];
            if (current->state != RUNNING) continue;
            threadIdx = current->index;
            swapcontext(&scheduler, &current->context);
        }
        size_t ended = 0;
        for (Fibre &f : fibres) ended += f.state == ENDED;
        if (ended == n) return;
        if (ended) {
            fprintf(stderr, "__syncthreads() is not reached by %zu of %zu threads of block (%u, %u, %u)\n", ended, n,
                    blockIdx.x, blockIdx.y, blockIdx.z);
            _Exit(3);
        }
        for (Fibre &f : fibres) f.state = RUNNING;
    }
}

static void launch(const unsigned *grid, const unsigned *block, int in_order, std::function<void()> body) {
    gridDim = dim3(grid[0], grid[1], grid[2]), blockDim = dim3(block[0], block[1], block[2]);
    kernel = body, order = in_order;
    for (unsigned z = 0; z < grid[2]; z++)
        for (unsigned y = 0; y < grid[1]; y++)
            for (unsigned x = 0; x < grid[0]; x++) blockIdx = dim3(x, y, z), run_block();
}
}  // namespace on_cpu

static inline void __syncthreads() {
    on_cpu::Fibre *me = on_cpu::current;
    me->state = on_cpu::WAITING;
    swapcontext(&me->context, &on_cpu::scheduler);
    threadIdx = me->index;
}
static inline void __syncwarp() { __syncthreads(); }
template <class T>
static inline T __ldg(const T *p) { return *p; }
