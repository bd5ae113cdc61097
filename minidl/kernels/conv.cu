// The convolution trio in one, two and three dimensions, on the ordinary arithmetic units.
//
// First the plain version of each: the lesson, the oracle of the fast ones, and the kernel of depthwise
// convolutions, where there is no product of matrices to speak of. Then the tiled products, whose indices are
// explained in conv_index.cuh and whose pipeline is drawn in conv_product.cuh.

#ifndef BM  // the tile of a block, the tile of a thread, the depth of a step, the threads of a block
#define BM 128
#define BN 128
#define TM 8
#define TN 8
#define BK 16
#define BLOCK 256
#endif
const int PAD = 4;  // elements at the end of a row: the same m of neighbouring k lies in different banks

#include "conv_product.cuh"

// ---- plain ---------------------------------------------------------------------------------------------

struct Element {  // of an array (samples, channels, *size)
    int sample, channel, i[3];
};

__device__ Element unravel(int e, int channels, const int size[3]) {
    const int row = e / size[2], plane = row / size[1], channel = plane / size[0];
    return {channel / channels, channel % channels, {plane % size[0], row % size[1], e % size[2]}};
}

__device__ int ravel(int channel, const int size[3], int i0, int i1, int i2) {
    return ((channel * size[0] + i0) * size[1] + i1) * size[2] + i2;
}

__device__ bool inside(const int size[3], int i0, int i1, int i2) {
    return i0 >= 0 && i0 < size[0] && i1 >= 0 && i1 < size[1] && i2 >= 0 && i2 < size[2];
}

#define FOR_EACH_TAP(K)                    \
    for (int k0 = 0; k0 < K[0]; k0++)      \
        for (int k1 = 0; k1 < K[1]; k1++)  \
            for (int k2 = 0; k2 < K[2]; k2++)

// y[n,o,q] = Σ_{c,k} x[n, c, s·q + d·k − p] w[o,c,k]
extern "C" __global__ void conv_plain(real *y, const real *w, const real *x, Geometry g) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x, O = g.groups * g.outs, C = g.groups * g.ins;
    if (index >= g.samples * O * volume(g.outputs)) return;
    const Element e = unravel(index, O, g.outputs);
    const int first = e.sample * C + e.channel / g.outs * g.ins;  // channel of the group
    sum_t sum = 0;
    for (int c = 0; c < g.ins; c++)
        FOR_EACH_TAP(g.kernel) {
            const int i0 = g.stride[0] * e.i[0] + g.dilation[0] * k0 - g.padding[0];
            const int i1 = g.stride[1] * e.i[1] + g.dilation[1] * k1 - g.padding[1];
            const int i2 = g.stride[2] * e.i[2] + g.dilation[2] * k2 - g.padding[2];
            if (inside(g.size, i0, i1, i2))
                sum += sum_t(x[ravel(first + c, g.size, i0, i1, i2)])
                     * sum_t(w[ravel(e.channel * g.ins + c, g.kernel, k0, k1, k2)]);
        }
    y[index] = real(sum);
}

// x[n,c,i] = Σ_{o,(q,k): s·q + d·k − p = i} y[n,o,q] w[o,c,k]. Each element gathers: none is written twice.
extern "C" __global__ void conv_input_plain(real *x, const real *w, const real *y, Geometry g) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x, O = g.groups * g.outs, C = g.groups * g.ins;
    if (index >= g.samples * C * volume(g.size)) return;
    const Element e = unravel(index, C, g.size);
    const int first = e.channel / g.ins * g.outs;
    sum_t sum = 0;
    for (int o = first; o < first + g.outs; o++)
        FOR_EACH_TAP(g.kernel) {
            const int t0 = e.i[0] + g.padding[0] - g.dilation[0] * k0, q0 = t0 / g.stride[0];
            const int t1 = e.i[1] + g.padding[1] - g.dilation[1] * k1, q1 = t1 / g.stride[1];
            const int t2 = e.i[2] + g.padding[2] - g.dilation[2] * k2, q2 = t2 / g.stride[2];
            const bool meets = t0 % g.stride[0] == 0 && t1 % g.stride[1] == 0 && t2 % g.stride[2] == 0;
            if (meets && inside(g.outputs, q0, q1, q2))
                sum += sum_t(y[ravel(e.sample * O + o, g.outputs, q0, q1, q2)])
                     * sum_t(w[ravel(o * g.ins + e.channel % g.ins, g.kernel, k0, k1, k2)]);
        }
    x[index] = real(sum);
}

// w[o,c,k] = Σ_{n,q} x[n, c, s·q + d·k − p] y[n,o,q]. There are few weights and many pixels, so a block has one
// weight: thread t adds up every blockDim.x-th pixel, then the sums are added in pairs, always the same ones:
//
//     s0 s1 s2 s3 s4 s5 s6 s7   ->   s0+s4 s1+s5 s2+s6 s3+s7   ->   (s0+s4)+(s2+s6) (s1+s5)+(s3+s7)   ->   all
extern "C" __global__ void conv_weight_plain(real *w, const real *y, const real *x, Geometry g) {
    extern __shared__ sum_t sums[];
    const int t = threadIdx.x, O = g.groups * g.outs, C = g.groups * g.ins;
    const Element e = unravel(blockIdx.x, g.ins, g.kernel);  // (o, c, k)
    const int o = e.sample, c = o / g.outs * g.ins + e.channel;
    sum_t sum = 0;
    for (int pixel = t; pixel < g.samples * volume(g.outputs); pixel += blockDim.x) {
        const Element q = unravel(pixel, 1, g.outputs);  // (n, 0, q)
        const int i0 = g.stride[0] * q.i[0] + g.dilation[0] * e.i[0] - g.padding[0];
        const int i1 = g.stride[1] * q.i[1] + g.dilation[1] * e.i[1] - g.padding[1];
        const int i2 = g.stride[2] * q.i[2] + g.dilation[2] * e.i[2] - g.padding[2];
        if (inside(g.size, i0, i1, i2))
            sum += sum_t(x[ravel(q.sample * C + c, g.size, i0, i1, i2)])
                 * sum_t(y[ravel(q.sample * O + o, g.outputs, q.i[0], q.i[1], q.i[2])]);
    }
    sums[t] = sum;
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (t < half) sums[t] += sums[t + half];
    }
    if (t == 0) w[blockIdx.x] = real(sums[0]);
}

// ---- tiled ---------------------------------------------------------------------------------------------

// A thread computes TM × TN elements of the tile, in squares of 4 × 4: four neighbours are one vector of shared
// memory, and the squares of neighbouring threads are neighbours, so that a warp reads all banks evenly.
//
//                    BN
//        ┌────┬────┬ ┄ ┬────┬────┬ ┄ ┐
//        │ t0 │ t1 │   │ t0 │ t1 │   │   TM = TN = 8: thread 0 has the four squares marked t0.
//        ├────┼────┼ ┄ ┼────┼────┼ ┄ ┤   A step of the inner index reads 8 + 8 elements from
//    BM  ┆    ┆    ┆   ┆    ┆    ┆   ┆   shared memory for 64 multiply-adds.
//        │ t0 │ t1 │   │ t0 │ t1 │   │
//        └────┴────┴ ┄ ┴────┴────┴ ┄ ┘
struct ThreadTile {
    typedef sum_t element;
    sum_t c[TM][TN] = {};

    static __device__ sum_t convert(real value) { return sum_t(value); }
    static __device__ int row(int i) { return i / 4 * (BM * 4 / TM) + threadIdx.x / (BN / TN) * 4 + i % 4; }
    static __device__ int column(int j) { return j / 4 * (BN * 4 / TN) + threadIdx.x % (BN / TN) * 4 + j % 4; }

    __device__ void multiply(const sum_t (*A)[BM + PAD], const sum_t (*B)[BN + PAD]) {
#pragma unroll
        for (int k = 0; k < BK; k++) {
            Four<sum_t> a[TM / 4], b[TN / 4];
#pragma unroll
            for (int i = 0; i < TM / 4; i++) a[i] = *(const Four<sum_t> *)&A[k][row(4 * i)];
#pragma unroll
            for (int j = 0; j < TN / 4; j++) b[j] = *(const Four<sum_t> *)&B[k][column(4 * j)];
#pragma unroll
            for (int i = 0; i < TM; i++)
#pragma unroll
                for (int j = 0; j < TN; j++) c[i][j] += a[i / 4].v[i % 4] * b[j / 4].v[j % 4];
        }
    }

    template <class Put>
    __device__ void each(sum_t *, Put put) const {
#pragma unroll
        for (int i = 0; i < TM; i++)
#pragma unroll
            for (int j = 0; j < TN; j++) put(row(i), column(j), c[i][j]);
    }
};

extern "C" __global__ void __launch_bounds__(BLOCK, 512 / BLOCK)
conv(real *y, sum_t *partial, const real *w, const real *x, Geometry g) {
    conv_tile<ThreadTile>(y, partial, w, x, g);
}

extern "C" __global__ void __launch_bounds__(BLOCK, 512 / BLOCK)
conv_input(real *x, sum_t *partial, const real *w, const real *y, Geometry g) {
    conv_input_tile<ThreadTile>(x, partial, w, y, g);
}

extern "C" __global__ void __launch_bounds__(BLOCK, 512 / BLOCK)
conv_weight(real *w, sum_t *partial, const real *y, const real *x, Geometry g) {
    conv_weight_tile<ThreadTile>(w, partial, y, x, g);
}

// out[e] = partial[0][e] + partial[1][e] + ..., in this order: the same bits in every run.
extern "C" __global__ void sum_splits(real *out, const sum_t *partial, int size, int splits) {
    const int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= size) return;
    sum_t sum = 0;
    for (int split = 0; split < splits; split++) sum += partial[(size_t)split * size + e];
    out[e] = real(sum);
}
