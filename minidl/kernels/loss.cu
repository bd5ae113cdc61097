// Softmax and its sums over voxels, forward and backward; the formulas stand in numpy_loss.py.
//
//   x (N, C, V)     voxel 0 ..... STRIP ..... 2 STRIP ... V
//      n = 0  c = 0     [ block 0 ][ block 1 ][ block 2 ]     normalizers: a thread for each voxel, which walks
//             c = 1     [ block 3 ][ block 4 ][ block 5 ]          down its column of classes
//             c = 2     [ block 6 ][ block 7 ][ block 8 ]     sums: a block for each class of a sample, and strip
//      n = 1  c = 0     [ block 9 ][ ...                      the rest: the strips are added up in their order
//
// Neighbouring threads read neighbouring voxels. Of the probabilities nothing is kept but the normalizers: to
// compute one again costs less than to read it.

#include "block.cuh"
#ifndef LABEL
#define LABEL long long
#endif
#ifndef STRIP
#define STRIP 4096  // voxels of a block
#endif

typedef LABEL label_t;

struct Sizes {  // filled in by cuda_loss.py
    int samples, classes, strips;
    int ignores;  // whether there is a label that does not count,
    long long ignored, voxels;  // and which

    __device__ bool counts(label_t label) const { return !ignores || (long long)label != ignored; }
    __device__ long long columns() const { return samples * voxels; }
    __device__ long long column(long long i) const { return i / voxels * classes * voxels + i % voxels; }
};

// max x and Σ exp(x - max x) over the classes of the voxel whose column begins at x
struct Normalizer {
    sum_t highest, total;

    __device__ Normalizer(sum_t highest, sum_t total) : highest(highest), total(total) {}
    __device__ Normalizer(const real *x, Sizes s) : highest(x[0]), total(0) {
        for (int c = 1; c < s.classes; c++) {
            const sum_t value = sum_t(x[c * s.voxels]);
            if (value > highest || value != value) highest = value;  // NaN stays: nothing is greater
        }
        for (int c = 0; c < s.classes; c++) total += exp(sum_t(x[c * s.voxels]) - highest);
    }
    __device__ sum_t probability(real x) const { return exp(sum_t(x) - highest) / total; }
    __device__ sum_t surprise(real x) const { return log(total) - (sum_t(x) - highest); }
};

struct Sums {
    sum_t overlap = 0, predicted = 0, truth = 0, surprise = 0;

    __device__ void add(real x, bool labelled, Normalizer normalizer) {
        const sum_t p = normalizer.probability(x);
        predicted += p;
        if (labelled) overlap += p, truth += 1, surprise += normalizer.surprise(x);
    }
    __device__ void store(sum_t *sums, long long i, long long count) const {
        sums[i] = overlap, sums[i + count] = predicted, sums[i + 2 * count] = truth, sums[i + 3 * count] = surprise;
    }
};

// ---- plain: a thread for each sample and class ---------------------------------------------------------

// sums (4, N, C)
extern "C" __global__ void softmax_sums_plain(sum_t *sums, const real *x, const label_t *label, Sizes s) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x, n = row / s.classes, c = row % s.classes;
    if (n >= s.samples) return;
    Sums found;
    for (long long i = n * s.voxels; i < (n + 1) * s.voxels; i++)
        if (s.counts(label[i]))
            found.add(x[s.column(i) + c * s.voxels], label[i] == c, Normalizer(x + s.column(i), s));
    found.store(sums, row, s.samples * s.classes);
}

// ---- strip by strip ------------------------------------------------------------------------------------

extern "C" __global__ void normalizers(sum_t *highest, sum_t *total, const real *x, Sizes s) {
    const long long i = (long long)blockIdx.x * BLOCK + threadIdx.x;
    if (i >= s.columns()) return;
    const Normalizer normalizer(x + s.column(i), s);
    highest[i] = normalizer.highest, total[i] = normalizer.total;
}

// sums (4, N, C, strips)
extern "C" __global__ void softmax_sums(sum_t *sums, const real *x, const label_t *label, const sum_t *highest,
                                        const sum_t *total, Sizes s) {
    const int row = blockIdx.x / s.strips, n = row / s.classes, c = row % s.classes;
    const long long start = (long long)(blockIdx.x % s.strips) * STRIP;
    const long long end = start + STRIP < s.voxels ? start + STRIP : s.voxels;
    Sums found;
    for (long long v = start + threadIdx.x; v < end; v += BLOCK) {
        const long long i = n * s.voxels + v;
        if (s.counts(label[i]))
            found.add(x[row * s.voxels + v], label[i] == c, Normalizer(highest[i], total[i]));
    }
    found.overlap = block_sum(found.overlap), found.predicted = block_sum(found.predicted);
    found.truth = block_sum(found.truth), found.surprise = block_sum(found.surprise);
    if (threadIdx.x == 0) found.store(sums, blockIdx.x, (long long)s.samples * s.classes * s.strips);
}

// gx = p·(a - Σ p·a - Σ b) + b for the cotangents a of p and b of log p: a thread for each voxel. g (4, N, C)
extern "C" __global__ void softmax_sums_backward(real *gx, const sum_t *g, const real *x, const label_t *label,
                                                 Sizes s) {
    const long long i = (long long)blockIdx.x * BLOCK + threadIdx.x;
    if (i >= s.columns()) return;
    const long long column = s.column(i), rows = (long long)s.samples * s.classes;
    g += i / s.voxels * s.classes;
    x += column, gx += column;
    const auto a = [&](int c) { return g[c + rows] + (label[i] == c ? g[c] : 0); };
    const auto b = [&](int c) { return label[i] == c ? -g[c + 3 * rows] : 0; };
    const Normalizer normalizer(x, s);
    const bool counts = s.counts(label[i]);
    sum_t sum = 0;
    for (int c = 0; c < s.classes; c++) sum += normalizer.probability(x[c * s.voxels]) * a(c) + b(c);
    for (int c = 0; c < s.classes; c++) {
        const sum_t p = normalizer.probability(x[c * s.voxels]);
        gx[c * s.voxels] = counts ? real(p * (a(c) - sum) + b(c)) : real(0);
    }
}
