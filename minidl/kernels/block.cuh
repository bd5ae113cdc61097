// What the threads of a block do together.
//
//   block_sum, a tree in shared memory (BLOCK = 8); the order of the additions is always the same:
//
//       a0 a1 a2 a3 a4 a5 a6 a7      a barrier stands before each row
//        |  |  |  |
//       +a4+a5+a6+a7                 half = 4
//        |  |
//       +a2+a3                       half = 2
//        |
//       +a1                          half = 1

#include "types.cuh"
#ifndef BLOCK
#define BLOCK 256  // threads of a block, a power of two
#endif

// The sum of the values of all threads, given to all of them.
__device__ sum_t block_sum(sum_t value) {
    __shared__ sum_t part[BLOCK];
    part[threadIdx.x] = value;
    for (unsigned half = BLOCK / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
    }
    __syncthreads();
    const sum_t sum = part[0];
    __syncthreads();  // all have read it before the next call writes
    return sum;
}
