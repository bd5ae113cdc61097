// Normalisation, scale, shift and leaky ReLU, forward and backward; the formulas stand in numpy_norm.py.
//
// A group is what is normalised together: one plane (n, c) of x (N, C, L), or all planes of a channel. There may
// be few of them and they may be long, so each is cut into strips, and a block of threads takes one strip:
//
//        x         c = 0              c = 1         instance norm: the group (1, 0) has the strips 3, 4, 5
//      n = 0   [ 0 ][ 1 ][ 2]    [ 0 ][ 1 ][ 2]     batch norm:    the group c = 0 has the strips 0 ... 5
//      n = 1   [ 3 ][ 4 ][ 5]    [ 3 ][ 4 ][ 5]
//               |<->| STRIP elements, or what is left of the plane
//
// Three kernels, each of which visits x once; what a strip finds out is united by every block that needs it:
//
//      moments     mean and Σ (x - mean)² of each strip
//      products    Σ h·x̂ and Σ h of each strip, for h = ḡ·φ'(z)          (backward)
//      the rest    y, or x̄, of each strip from those of its group
//
// To take the mean first, and the squares around it, keeps what Σx² - (Σx)²/n would cancel.

#include "block.cuh"
#ifndef STRIP
#define STRIP 4096  // elements: a block reads them twice, the second time from its cache
#endif

struct Layout {  // filled in by cuda_norm.py
    int groups, planes, channels;  // planes of a group: 1, or N
    int strips;                    // of a plane
    long long length;              // of a plane: L

    __device__ long long plane(int group, int n) const { return ((long long)n * channels + group) * length; }
    __device__ sum_t size() const { return sum_t(planes) * sum_t(length); }  // of a group
    __device__ int count(int strip) const {
        const long long left = length - (long long)(strip % strips) * STRIP;
        return left < STRIP ? (int)left : STRIP;
    }
};

__device__ sum_t leaky_relu(sum_t z, sum_t slope) { return z > 0 ? z : z * slope; }

// ---- plain: a thread for each group --------------------------------------------------------------------

#define FOR_EACH(e)                                 \
    for (int n = 0; n < l.planes; n++)              \
        for (long long e = l.plane(group, n), end = e + l.length; e < end; e++)

__device__ void statistics_plain(const real *x, Layout l, int group, sum_t eps, sum_t &mean, sum_t &scale) {
    sum_t var = 0;
    mean = 0;
    FOR_EACH(e) mean += sum_t(x[e]) / l.size();
    FOR_EACH(e) var += (sum_t(x[e]) - mean) * (sum_t(x[e]) - mean) / l.size();
    scale = 1 / sqrt(var + eps);
}

extern "C" __global__ void norm_leaky_relu_plain(real *y, const real *x, const sum_t *w, const sum_t *b, Layout l,
                                                 sum_t eps, sum_t slope) {
    const int group = blockIdx.x * blockDim.x + threadIdx.x;
    if (group >= l.groups) return;
    sum_t mean, scale;
    statistics_plain(x, l, group, eps, mean, scale);
    const sum_t weight = w[group % l.channels], shift = b[group % l.channels];
    FOR_EACH(e) y[e] = real(leaky_relu((sum_t(x[e]) - mean) * scale * weight + shift, slope));
}

extern "C" __global__ void norm_leaky_relu_backward_plain(real *gx, sum_t *sum_hx, sum_t *sum_h, const real *g,
                                                          const real *x, const sum_t *w, const sum_t *b, Layout l,
                                                          sum_t eps, sum_t slope) {
    const int group = blockIdx.x * blockDim.x + threadIdx.x;
    if (group >= l.groups) return;
    sum_t mean, scale, hx = 0, h = 0;
    statistics_plain(x, l, group, eps, mean, scale);
    const sum_t weight = w[group % l.channels], shift = b[group % l.channels];
    FOR_EACH(e) {
        const sum_t normal = (sum_t(x[e]) - mean) * scale;
        const sum_t h_e = normal * weight + shift > 0 ? sum_t(g[e]) : sum_t(g[e]) * slope;
        hx += h_e * normal, h += h_e;
    }
    FOR_EACH(e) {
        const sum_t normal = (sum_t(x[e]) - mean) * scale;
        const sum_t h_e = normal * weight + shift > 0 ? sum_t(g[e]) : sum_t(g[e]) * slope;
        gx[e] = real(weight * scale * (h_e - h / l.size() - normal * (hx / l.size())));
    }
    sum_hx[group] = hx, sum_h[group] = h;
}

// ---- a block for each strip ----------------------------------------------------------------------------

struct Strip {  // that of this block
    int group, first;  // first: the number of the group's first strip
    int count;
    long long start;

    __device__ Strip(Layout l) {
        const int of_group = l.planes * l.strips, strip = blockIdx.x % of_group;
        group = blockIdx.x / of_group, first = blockIdx.x - strip, count = l.count(strip);
        start = l.plane(group, strip / l.strips) + (long long)(strip % l.strips) * STRIP;
    }
};

#define FOR_EACH_OF_STRIP(e, s) for (long long e = s.start + threadIdx.x; e < s.start + s.count; e += BLOCK)
#define FOR_EACH_STRIP(k) for (int k = threadIdx.x; k < l.planes * l.strips; k += BLOCK)

extern "C" __global__ void moments(sum_t *means, sum_t *squares, const real *x, Layout l) {
    const Strip s(l);
    sum_t sum = 0, square = 0;
    FOR_EACH_OF_STRIP(e, s) sum += sum_t(x[e]);
    const sum_t mean = block_sum(sum) / s.count;
    FOR_EACH_OF_STRIP(e, s) square += (sum_t(x[e]) - mean) * (sum_t(x[e]) - mean);
    square = block_sum(square);
    if (threadIdx.x == 0) means[blockIdx.x] = mean, squares[blockIdx.x] = square;
}

struct Normal {  // x̂ = (x - mean)·scale and z = w·x̂ + b in this block's group
    sum_t mean, scale, weight, shift;

    // The variance of a group is the mean variance within its strips, plus the variance of their means.
    __device__ Normal(const sum_t *means, const sum_t *squares, const sum_t *w, const sum_t *b, Strip s, Layout l,
                      sum_t eps) {
        sum_t sum = 0, square = 0;
        FOR_EACH_STRIP(k) sum += l.count(k) * means[s.first + k];
        mean = block_sum(sum) / l.size();
        FOR_EACH_STRIP(k) {
            const sum_t apart = means[s.first + k] - mean;
            square += squares[s.first + k] + l.count(k) * apart * apart;
        }
        scale = 1 / sqrt(block_sum(square) / l.size() + eps);
        weight = w[s.group % l.channels], shift = b[s.group % l.channels];
    }
    __device__ sum_t operator()(sum_t x) const { return (x - mean) * scale; }
    __device__ sum_t h(sum_t g, sum_t normal, sum_t slope) const {
        return normal * weight + shift > 0 ? g : g * slope;
    }
};

extern "C" __global__ void norm_leaky_relu(real *y, const real *x, const sum_t *means, const sum_t *squares,
                                           const sum_t *w, const sum_t *b, Layout l, sum_t eps, sum_t slope) {
    const Strip s(l);
    const Normal normal(means, squares, w, b, s, l, eps);
    FOR_EACH_OF_STRIP(e, s)
        y[e] = real(leaky_relu(normal(sum_t(x[e])) * normal.weight + normal.shift, slope));
}

extern "C" __global__ void products(sum_t *sum_hx, sum_t *sum_h, const real *g, const real *x, const sum_t *means,
                                    const sum_t *squares, const sum_t *w, const sum_t *b, Layout l, sum_t eps,
                                    sum_t slope) {
    const Strip s(l);
    const Normal normal(means, squares, w, b, s, l, eps);
    sum_t hx = 0, h = 0;
    FOR_EACH_OF_STRIP(e, s) {
        const sum_t normal_e = normal(sum_t(x[e])), h_e = normal.h(sum_t(g[e]), normal_e, slope);
        hx += h_e * normal_e, h += h_e;
    }
    hx = block_sum(hx), h = block_sum(h);
    if (threadIdx.x == 0) sum_hx[blockIdx.x] = hx, sum_h[blockIdx.x] = h;
}

extern "C" __global__ void norm_leaky_relu_backward(real *gx, const real *g, const real *x, const sum_t *means,
                                                    const sum_t *squares, const sum_t *sum_hx, const sum_t *sum_h,
                                                    const sum_t *w, const sum_t *b, Layout l, sum_t eps,
                                                    sum_t slope) {
    const Strip s(l);
    const Normal normal(means, squares, w, b, s, l, eps);
    sum_t hx = 0, h = 0;
    FOR_EACH_STRIP(k) hx += sum_hx[s.first + k], h += sum_h[s.first + k];
    hx = block_sum(hx) / l.size(), h = block_sum(h) / l.size();
    FOR_EACH_OF_STRIP(e, s) {
        const sum_t normal_e = normal(sum_t(x[e])), h_e = normal.h(sum_t(g[e]), normal_e, slope);
        gx[e] = real(normal.weight * normal.scale * (h_e - h - normal_e * hx));
    }
}
