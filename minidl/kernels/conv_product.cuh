// One tile of the product C = A · B: the pipeline that conv.cu and conv_tensor.cu share.
//
//                                   B: K × N
//                          ┌─────┬──────┬──────┐     A block of threads computes a tile of BM × BN elements
//                          │     │      │      │     of C. It walks along the inner index in steps of BK.
//                          │     ├──────┤      │     The shaded parts of A and B are copied to shared
//                          │     │▒▒▒▒▒▒│ BK   │     memory; there each element is used BN or BM times.
//        A: M × K          └─────┴──────┴──────┘
//    ┌──────┬────┬───┐     ┌─────┬──────┬──────┐     There are two buffers: while the threads multiply the
//    │      │▒▒▒▒│BM │     │     │ tile │ BM   │     elements of one, those of the next step are on their
//    ├──────┴────┴───┤     ├─────┴──────┴──────┤     way from global memory to registers:
//    │        BK     │     │        BN         │
//    └───────────────┘     └───────────────────┘          fetch      step + 1 to registers
//                                 C: M × N                multiply   step
//                                                         stash      step + 1 in the other buffer
//                                                         barrier
//
// The places of rows and columns (conv_index.cuh) are in shared memory too. Those of the rows change with
// every step and are described two steps ahead, so that one barrier a step is enough for all.

#include "conv_index.cuh"

template <typename E>
struct alignas(4 * sizeof(E)) Four {  // loaded and stored by one instruction
    E v[4];
};

// ---- the two kinds of product --------------------------------------------------------------------------

struct Correlation : Meeting {  // conv and conv_input: columns are pixels, the inner index is a tap
    static const bool PIXELS_LIE_IN_ROWS = false;
    int rows, kernel[3], out_channels, out_size[3];

    __device__ int columns() const { return pixels(); }
    __device__ int inner() const { return channels * taps(); }
    __device__ int a_stride() const { return channels * kernel[0] * kernel[1] * kernel[2]; }
    __device__ int out_stride() const { return out_size[0] * out_size[1] * out_size[2]; }
    __device__ bool a_is_contiguous() const { return inner() == a_stride() && inner() % 4 == 0; }

    __device__ Place column(int n, int &target) const {
        int v[3], sample;
        const Place place = pixel(n, v, sample);
        target = sample * out_channels;
        for (int a = 0; a < 3; a++)
            target = target * out_size[a] + axis[a].first_place + axis[a].place_step * v[a];
        return place;
    }

    __device__ Place row(int k, int &start) const {
        int j[3], channel;
        const Place place = tap(k, j, channel);
        start = channel;
        for (int a = 0; a < 3; a++)
            start = start * kernel[a] + axis[a].first_tap + axis[a].tap_step * j[a];
        return place;
    }
};

struct WeightGradient : Meeting {  // conv_weight: columns are taps, the inner index is a pixel
    static const bool PIXELS_LIE_IN_ROWS = true;
    int rows, out_channels;

    __device__ int columns() const { return channels * taps(); }
    __device__ int inner() const { return pixels(); }
    __device__ int a_stride() const { return axis[0].count * axis[1].count * axis[2].count; }
    __device__ int out_stride() const { return columns(); }
    __device__ bool a_is_contiguous() const { return a_stride() % 4 == 0; }

    __device__ Place column(int n, int &target) const {
        int j[3], channel;
        target = n;
        return tap(n, j, channel);
    }

    __device__ Place row(int k, int &start) const {
        int v[3], sample;
        const Place place = pixel(k, v, sample);
        start = (sample * out_channels * axis[0].count + v[0]) * axis[1].count * axis[2].count
              + v[1] * axis[2].count + v[2];
        return place;
    }
};

// ---- the pipeline --------------------------------------------------------------------------------------

// One tile of out, or of the partial sums where the inner index is split.
template <class Tile, class Problem>
__device__ void product(const Problem &problem, const real *a, const real *image, int column_tile, int split,
                        int splits, real *out, sum_t *partial) {
    typedef typename Tile::element element;
    alignas(32) __shared__ element A[2][BK][BM + PAD];
    alignas(32) __shared__ element B[2][BK][BN + PAD];
    __shared__ Place columns[BN], rows[2][BK];
    __shared__ int targets[BN], starts[2][BK];

    const int t = threadIdx.x, m0 = blockIdx.y * BM, n0 = column_tile * BN;
    const int M = problem.rows, N = problem.columns(), K = problem.inner();
    if (n0 >= N) return;  // this phase has fewer pixels than the largest
    const int part = (K + splits * BK - 1) / (splits * BK) * BK;
    const int begin = split * part, end = min(K, begin + part);
    const int steps = end > begin ? (end - begin + BK - 1) / BK : 0;
    const Place nowhere = {0, {OUTSIDE, OUTSIDE, OUTSIDE}};

    const int A_ITEMS = BM * BK / BLOCK, B_ITEMS = BN * BK / BLOCK;
    const int a_k = t % BK, a_m = t / BK;                        // scalars: neighbouring threads along k
    const int four_k = t % (BK / 4) * 4, four_m = t / (BK / 4);  // vectors: four elements along k
    const int b_k = Problem::PIXELS_LIE_IN_ROWS ? t % BK : t / BN;
    const int b_n = Problem::PIXELS_LIE_IN_ROWS ? t / BK : t % BN;  // neighbouring threads along the pixels
    const bool vectors = problem.a_is_contiguous() && (size_t)a % sizeof(Four<real>) == 0;
    real a_items[A_ITEMS], b_items[B_ITEMS];

    auto describe = [&](int step) {  // the rows of a step
        if (t < BK) {
            const int k = begin + step * BK + t;
            int start = -1;
            rows[step % 2][t] = k < end ? problem.row(k, start) : nowhere;
            starts[step % 2][t] = start;
        }
    };
    if (t < BN) {
        int target = -1;
        columns[t] = n0 + t < N ? problem.column(n0 + t, target) : nowhere;
        targets[t] = target;
    }
    describe(0);
    __syncthreads();
    const Place own_column = columns[b_n];

    auto fetch = [&](int step) {
        const int *start = starts[step % 2];
        if (vectors) {
#pragma unroll
            for (int i = 0; i < A_ITEMS / 4; i++) {
                const int m = m0 + four_m + i * (4 * BLOCK / BK);
                Four<real> four = {};
                if (m < M && start[four_k] >= 0)
                    four = *(const Four<real> *)(a + m * problem.a_stride() + start[four_k]);
#pragma unroll
                for (int j = 0; j < 4; j++) a_items[4 * i + j] = four.v[j];
            }
        } else {
#pragma unroll
            for (int i = 0; i < A_ITEMS; i++) {
                const int m = m0 + a_m + i * (BLOCK / BK);
                a_items[i] = m < M && start[a_k] >= 0 ? a[m * problem.a_stride() + start[a_k]] : real(0.0f);
            }
        }
        const Place own_row = rows[step % 2][b_k];
#pragma unroll
        for (int i = 0; i < B_ITEMS; i++)
            b_items[i] = Problem::PIXELS_LIE_IN_ROWS
                       ? problem.at(image, own_row, columns[b_n + i * (BLOCK / BK)])
                       : problem.at(image, own_column, rows[step % 2][b_k + i * (BLOCK / BN)]);
    };
    auto stash = [&](int step) {
        if (vectors) {
#pragma unroll
            for (int i = 0; i < A_ITEMS; i++)
                A[step % 2][four_k + i % 4][four_m + i / 4 * (4 * BLOCK / BK)] = Tile::convert(a_items[i]);
        } else {
#pragma unroll
            for (int i = 0; i < A_ITEMS; i++)
                A[step % 2][a_k][a_m + i * (BLOCK / BK)] = Tile::convert(a_items[i]);
        }
#pragma unroll
        for (int i = 0; i < B_ITEMS; i++) {
            const int k = b_k + (Problem::PIXELS_LIE_IN_ROWS ? 0 : i * (BLOCK / BN));
            const int n = b_n + (Problem::PIXELS_LIE_IN_ROWS ? i * (BLOCK / BK) : 0);
            B[step % 2][k][n] = Tile::convert(b_items[i]);
        }
    };

    Tile tile;
    fetch(0);
    stash(0);
    describe(1);
    __syncthreads();
    for (int step = 0; step < steps; step++) {
        if (step + 1 < steps) fetch(step + 1);
        describe(step + 2);
        tile.multiply(A[step % 2], B[step % 2]);
        if (step + 1 < steps) stash(step + 1);
        __syncthreads();
    }
    tile.each((sum_t *)B, [&](int m, int n, sum_t sum) {
        if (m0 + m >= M || targets[n] < 0) return;
        const int place = targets[n] + (m0 + m) * problem.out_stride();
        if (splits > 1) partial[place] = sum;
        else out[place] = real(sum);
    });
}

// ---- the three of them ---------------------------------------------------------------------------------
// Grid: (column tiles × phases, row tiles, groups × splits). The indices of a block are the same for all its
// threads: thread 0 works them out, and they stay in shared memory, where they cost no registers.

// x (N, G, C, *S), w (G, O, C, *K) -> y (N, G, O, *Q)
template <class Tile>
__device__ void conv_tile(real *y, sum_t *partial, const real *w, const real *x, const Geometry &g) {
    const int group = blockIdx.z / g.splits, split = blockIdx.z % g.splits;
    const int S = volume(g.size), Q = volume(g.outputs), K = volume(g.kernel);
    __shared__ Correlation c;
    if (threadIdx.x == 0) {
        c.samples = g.samples, c.sample_stride = g.groups * g.ins * S, c.channels = g.ins;
        c.rows = g.outs, c.out_channels = g.groups * g.outs;
        for (int a = 0; a < 3; a++) {
            c.axis[a] = conv_axis(g, a);
            c.kernel[a] = g.kernel[a], c.out_size[a] = g.outputs[a];
        }
    }
    __syncthreads();
    const int to = group * g.outs * Q;
    product<Tile>(c, w + group * g.outs * g.ins * K, x + group * g.ins * S, blockIdx.x, split, g.splits,
                  y + to, partial + (size_t)split * g.samples * g.groups * g.outs * Q + to);
}

// y (N, G, O, *Q), w (G, C, O, *K) -> x (N, G, C, *S). The phases of a tile are neighbours in the grid: they
// read the same part of y and write to the same sectors of x.
template <class Tile>
__device__ void conv_input_tile(real *x, sum_t *partial, const real *w, const real *y, const Geometry &g) {
    const int group = blockIdx.z / g.splits, split = blockIdx.z % g.splits;
    const int S = volume(g.size), Q = volume(g.outputs), K = volume(g.kernel), phases = volume(g.phases);
    __shared__ Correlation c;
    if (threadIdx.x == 0) {
        c.samples = g.samples, c.sample_stride = g.groups * g.outs * Q, c.channels = g.outs;
        c.rows = g.ins, c.out_channels = g.groups * g.ins;
        for (int a = 2, phase = blockIdx.x % phases; a >= 0; phase /= g.phases[a--]) {
            c.axis[a] = phase_axis(g, a, phase % g.phases[a]);
            c.kernel[a] = g.kernel[a], c.out_size[a] = g.size[a];
        }
    }
    __syncthreads();
    const int to = group * g.ins * S;
    product<Tile>(c, w + group * g.outs * g.ins * K, y + group * g.outs * Q, blockIdx.x / phases, split,
                  g.splits, x + to, partial + (size_t)split * g.samples * g.groups * g.ins * S + to);
}

// x (N, G, C, *S), y (N, G, O, *Q) -> w (G, O, C, *K)
template <class Tile>
__device__ void conv_weight_tile(real *w, sum_t *partial, const real *y, const real *x, const Geometry &g) {
    const int group = blockIdx.z / g.splits, split = blockIdx.z % g.splits;
    const int S = volume(g.size), Q = volume(g.outputs), K = volume(g.kernel);
    __shared__ WeightGradient c;
    if (threadIdx.x == 0) {
        c.samples = g.samples, c.sample_stride = g.groups * g.ins * S, c.channels = g.ins;
        c.rows = g.outs, c.out_channels = g.groups * g.outs;
        for (int a = 0; a < 3; a++) c.axis[a] = conv_axis(g, a);
    }
    __syncthreads();
    const int to = group * g.outs * g.ins * K;
    product<Tile>(c, y + group * g.outs * Q, x + group * g.ins * S, blockIdx.x, split, g.splits,
                  w + to, partial + (size_t)split * g.groups * g.outs * g.ins * K + to);
}
